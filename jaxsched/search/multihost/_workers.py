"""The workers of an executor: the driver cuts the missing runs into units, and waits for them.

Nothing travels but the task and the trials, and a few numbers back. The measurements lie in the
store, and the driver reads them there after each rung. So a driver that dies loses nothing, and a
worker at most its work since its last save.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import shutil
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from jaxsched._text import describe as shown
from jaxsched._text import listed
from jaxsched._types import PyTree
from jaxsched.search._fingerprint import digest
from jaxsched.search.engine._ledger import Ledger
from jaxsched.search.engine._plan import Plan
from jaxsched.search.engine._request import Request
from jaxsched.search.engine._settings import thread_settings
from jaxsched.search.engine._stopping import Objective
from jaxsched.search.engine._units import Unit, cut
from jaxsched.search.multihost._backend import (
    AbstractBackend,
    LocalBackend,
    MeshBackend,
    backend_for,
)
from jaxsched.search.multihost._pool import LOSSES, Lost, Pool, name_of
from jaxsched.search.multihost._worker import Part, Report, Work, describe, place, train
from jaxsched.search.store._fields import difference
from jaxsched.search.store._identity import Identity
from jaxsched.search.store._index import width_in_store
from jaxsched.search.store._states import States
from jaxsched.search.store._store import StageStore
from jaxsched.search.tasks._protocol import Task

_SECONDS = 30.0  # the most that a unit should take: this evens slow workers out
_LEAST = 1.0  # the least: each unit costs about a tenth of a second beside its training
_EACH = 4  # units for each worker, if they are within these bounds
_WORKERS = 16  # where their number is not known
_VISIBLE = 60.0  # seconds in which a file on a network file system appears on another host


@contextlib.contextmanager
def sweep_backend(
    plan: Plan, task: Task | str, request: Request, identity: Identity
) -> Iterator[Backend]:
    """Where a sweep is trained; workers have a directory while they last, if it has no other.

    Raises:
        TypeError, ValueError: if the executor cannot serve, before any training.
    """
    with contextlib.ExitStack() as stack:
        if request.executor is not None:
            pool = Pool(request.executor)
            stack.callback(pool.close)
            path = request.checkpoint or stack.enter_context(_temporary())
            flag = path / f"{identity.writer}-{uuid.uuid4().hex[:12]}.tmp"
            flag.touch()
            stack.callback(flag.unlink, missing_ok=True)
            yield WorkersBackend(plan, task, request, identity, pool, flag)
        else:
            stored = partial(width_in_store, request.checkpoint, identity)
            yield backend_for(plan, request.devices, request.width, stored)


class _Elsewhere(States):
    """States in the memory of workers only."""

    def load(self, path: Path, number: int) -> PyTree:
        return ()


class DriverStore(StageStore):
    """The store as the driver reads it: each worker saves its own measurements."""

    states = _Elsewhere

    def save(self, ledger: Ledger) -> None:
        """Nothing."""


class WorkersBackend(AbstractBackend):
    """The devices of other processes, as a backend."""

    path: Path
    store = DriverStore

    def __init__(
        self, plan: Plan, task: object, request: Request, identity: Identity, pool: Pool, flag: Path
    ):
        self.path = flag.parent
        self._plan, self._pool, self._flag, self._most = plan, pool, flag, request.units
        self._traces, self._places = Counter[str](), set[str]()
        self._count = self._repeated = 0
        # Programs and arrays alone do not name a task: `batches` may read anything.
        task = pool.packed(task)
        key = digest(json.dumps(identity.runs), name_of(task))
        outline = dataclasses.replace(plan, trials=(), folds=(), objective=Objective())
        self._work = Work(
            task=task,
            key=key,
            folds=request.folds,
            longest=plan.longest,
            outline=outline,
            settings=thread_settings(),
            directory=str(self.path.resolve()),
            flag=flag.name,
            driver=place(),
            writer=identity.writer,
            every=request.checkpoint_every,
        )
        report = self._first_report()
        self.width, self.platform = report.width, report.fields["platform"]
        self.machine, self._seconds = report.machine, report.seconds
        self._traces.update(report.traces)
        self._fields = self.identified(identity.runs)
        if differ := difference(self._fields[0], report.fields, ("here", "there")):
            raise ValueError(
                "sweep(executor=...) must have workers that train what this process would, got one "
                f"({report.place}) that differs in {differ}. Give all the same code, data and "
                "versions; a worker keeps the code with which it was started."
            )

    def _first_report(self) -> Report:
        """That of one call before any unit.

        It shows that workers answer, would train the same bits as this process, and how fast. This
        process cannot say so itself: it may be on a machine without the workers' accelerators.
        """
        trials = self._pool.packed(self._plan.trials)
        ((_, answer),) = self._pool.run(describe, [(self._work, trials)], lambda: False)
        report = _checked(answer)
        if isinstance(report, Lost):
            raise RuntimeError(f"sweep(executor=...): no worker answers: {report}.") from report
        if report.problem:
            raise _error_of(report)
        return report

    def engine(self, ledger: Ledger) -> WorkersBackend:
        self._ledger, self.stop = ledger, ledger.stop
        self._store: Any = ledger.store  # of the class above
        self.listeners: list[Callable[[], object]] = []
        return self

    def run(self, until: int | None) -> None:
        """Trains the missing runs before the step ``until``, and reads them from the store.

        Raises:
            RuntimeError: after all others have ended, if a unit could not be trained.
        """
        ledger = self._ledger
        ledger.begin(until)
        self._flag.touch()  # again: it is deleted with the flags of killed drivers
        # A worker's word is not believed: only runs in the store are known. All units may end and
        # some records be lacking, from a file damaged or deleted in between. These few are
        # cut into units again.
        for _ in range(1 + LOSSES):
            units = self._cut(until)
            if not units:
                break
            failed = self._train(units, until)
            self._store.refresh()
            ledger.reread(until)
            if ledger.stop_requested:
                return
            if failed:
                raise self._failure(failed, len(units))
        else:
            raise RuntimeError(
                f"sweep(executor=...): the workers have trained all units {1 + LOSSES} times, but "
                f"{self.path} still lacks some of them. Does something delete its files, or do the "
                "task's batches differ between processes?"
            )
        if until is None:  # files of ended units and of lost attempts
            for pattern in (f"states-{self._work.writer}*", f"*-{self._work.writer}*.tmp"):
                for path in self.path.glob(pattern):
                    path.unlink(missing_ok=True)

    def traces(self) -> dict[str, int]:
        """Function -> how often the workers have traced it, all together."""
        return dict(self._traces)

    def described(self, ledger: Ledger) -> dict[str, Any]:
        own = {"devices": len(self._places), "units": self._count, "repeated": self._repeated}
        return super().described(ledger) | own

    def _cut(self, until: int | None) -> list[Unit]:
        """The units of the missing runs, the longest first."""
        # More units even out workers of different speed, and are lost in smaller parts. But each
        # one costs a call and trains its trunk again, so a user's number is taken as it is, and
        # ours is lowered where that costs more (``cut`` is given the number of workers then).
        workers, given = self._pool.workers or _WORKERS, self._most

        def most(updates: int) -> int:
            seconds = self._seconds * updates
            return given or int(max(min(_EACH * workers, seconds / _LEAST), seconds / _SECONDS))

        units, repeated = cut(self._ledger, until, most, self.width, None if given else workers)
        self._count += len(units)
        self._repeated += repeated
        return units

    def _train(self, units: list[Unit], until: int | None) -> list[tuple[Unit, Report | Lost]]:
        """Waits for all units; returns the ones that could not be trained."""
        failed: dict[int, Report | Lost] = {}
        calls = [self._call(unit, until) for unit in units]
        read, took = time.monotonic(), 0.0
        answers = self._pool.run(train, calls, self._stopped)
        for ended, (number, answer) in enumerate(answers, 1):
            report = _checked(answer)
            if isinstance(report, Lost) or report.problem:
                failed[number] = report
            else:
                self._take(report)
            updates = 0 if isinstance(report, Lost) else report.updates
            self._ledger.ended(ended, len(units), updates)
            began = time.monotonic()
            if self.listeners and began - read > max(_LEAST, 20 * took):  # for the progress line
                self._store.refresh()
                self._ledger.reread(until)
                read, took = time.monotonic(), time.monotonic() - began
            for listener in self.listeners:
                listener()
        return [(units[number], failed[number]) for number in sorted(failed)]

    def _call(self, unit: Unit, until: int | None) -> tuple[object, ...]:
        """The arguments for a worker that trains a unit."""
        plan, own, end = self._plan, set(unit.trials), self._plan.longest
        files = [
            names
            for key, names in self._store.used.items()
            if key[1:3] == (unit.fold, unit.seed) and own.intersection(key.trials)
        ]
        # Equal for all attempts at a unit, so that one goes on from the saves of another.
        name = digest(json.dumps([unit.fold, unit.seed, unit.trials, until]))[:8]
        part = Part(
            name=name,
            trials=self._pool.packed(tuple(plan.trials[trial] for trial in unit.trials)),
            fold=unit.fold,
            seed=plan.seeds[unit.seed],
            until=until,
            fields=self._fields[unit.fold],
            batches=self._store.batches(unit.fold, unit.seed, min(until or end, end)),
            files=frozenset[str]().union(*files),
        )
        return self._work, part

    def _take(self, report: Report) -> None:
        """Adds the work of a unit to the totals, and waits until its files are visible here."""
        self._traces.update(report.traces)
        self._places.add(report.place)
        end = time.monotonic() + _VISIBLE
        for name in report.files:
            while not (self.path / name).exists():
                if time.monotonic() > end:
                    raise ValueError(
                        "sweep(checkpoint=...) must be a directory that all workers see, got "
                        f"{self.path}, in which {name} does not appear, written by {report.place}."
                    )
                time.sleep(0.1)

    def _stopped(self) -> bool:
        """Whether the sweep was asked to end; then the units under way are asked too."""
        stop = self._ledger.stop_requested
        if stop:
            self._flag.unlink(missing_ok=True)  # ends the units under way
        return stop

    def _failure(self, failed: list[tuple[Unit, Report | Lost]], count: int) -> Exception:
        """Names the trials of the units that could not be trained."""
        plan, shown = self._plan, []
        for unit, report in failed:
            names = listed(repr(plan.trials[trial].name) for trial in unit.trials)
            fold = f", fold {unit.fold}" * (len(plan.folds) > 1)
            why = (
                f"lost {1 + LOSSES} times, {report}" if isinstance(report, Lost) else report.problem
            )
            shown.append(f"{names} (seed {plan.seeds[unit.seed]}{fold}): {why}")
        error = RuntimeError(
            f"sweep(executor=...): {len(failed)} of {count} units failed, of the trials "
            f"{listed(shown)}. All others have ended and are saved in {self.path}."
        )
        _, first = failed[0]
        if isinstance(first, Lost):
            error.__cause__ = first
        else:
            error.add_note(f"{first.place}: {first.details}")
        return error


Backend = LocalBackend | MeshBackend | WorkersBackend


@contextlib.contextmanager
def _temporary() -> Iterator[Path]:
    """A directory of this sweep alone; after an error it is kept, if there is anything in it."""
    path = Path(tempfile.mkdtemp(prefix="jaxsched-"))
    try:
        yield path
    except BaseException as error:
        if any(path.glob("records-*")):
            error.add_note(f"The same call with checkpoint={str(path)!r} goes on from there.")
        else:
            shutil.rmtree(path, ignore_errors=True)
        raise
    shutil.rmtree(path, ignore_errors=True)


def _checked(answer: object) -> Report | Lost:
    """An answer, if it is the result of a call: an executor may give anything."""
    if not isinstance(answer, (Report, Lost)):
        raise TypeError(
            "sweep(executor=...) must have answers with what the call returned, got "
            f"{shown(answer)}."
        )
    return answer


def _error_of(report: Report) -> Exception:
    """The error that ended a unit, as one of this process."""
    kind, _, text = report.problem.partition(": ")
    error: Exception = RuntimeError(f"sweep(executor=...), on {report.place}: {report.problem}")
    if text.startswith("sweep("):  # one of ours, which says all
        error = TypeError(text) if kind == "TypeError" else ValueError(text)
    error.add_note(report.details)
    return error
