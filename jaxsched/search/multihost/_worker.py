"""The code in a worker of an executor: a unit of a sweep is trained into the sweep's store."""

from __future__ import annotations

import dataclasses
import functools
import multiprocessing.connection
import os
import signal
import socket
import threading
import time
import traceback
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax

from jaxsched._text import notes_of
from jaxsched.search._signals import graceful, of_jobs
from jaxsched.search.engine._ledger import Ledger
from jaxsched.search.engine._plan import Plan
from jaxsched.search.engine._settings import entered
from jaxsched.search.engine._width import seconds_per_update
from jaxsched.search.multihost._backend import LocalBackend, MeshBackend, backend_for
from jaxsched.search.multihost._pool import unpacked
from jaxsched.search.store._directory import StoreDirectory
from jaxsched.search.store._fields import Fields, difference
from jaxsched.search.store._identity import run_fields
from jaxsched.search.store._store import StageStore
from jaxsched.search.tasks._process import check_place
from jaxsched.search.tasks._traced import Fold, found_task, trace_folds
from jaxsched.search.trials._trials import Trial, Trials


@dataclasses.dataclass(frozen=True, kw_only=True)
class Work:
    """The common part of a sweep's units. It travels with each of them."""

    task: object  # or its name; packed
    key: str  # of the task, ``name_of`` it, and of all else that its runs depend on
    folds: int | None  # as given to ``sweep``
    longest: int  # updates of the longest run
    outline: Plan  # the plan, without its trials, task and stages
    settings: dict[str, Any]  # of JAX, in the driver
    directory: str  # of the store
    flag: str  # a file in it, there while the driver is
    driver: str  # its host and process
    writer: str  # its name in the store
    every: float  # seconds between saves

    def plan(self, packed: object, fold: int, seed: int, count: int | None = None) -> Plan:
        """The plan of some trials, or the first ``count`` of them, with one fold and one seed."""
        trials: Trials = unpacked(packed)[:count]
        folds = (self._traced_task(trials[0])[fold],)
        return self.outline.of(trials, folds=folds, seeds=(seed,))

    def _traced_task(self, trial: Trial) -> tuple[Fold, ...]:
        """The task, which this process makes and traces once."""
        with _LOCK:
            if self.key not in _TASKS:
                # A worker that serves several sweeps in turn would keep the data of all of them.
                while len(_TASKS) >= _TASKS_KEPT:
                    del _TASKS[next(iter(_TASKS))]
                task = found_task(unpacked(self.task))
                names = tuple(sorted(trial.schedules))
                _TASKS[self.key] = trace_folds(task, self.folds, names, self.longest)
            return _TASKS[self.key]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Part:
    """A unit as it travels."""

    name: str  # in the store, after the driver's
    trials: object  # the trials to train, packed
    fold: int  # its position
    seed: int
    until: int | None  # as in ``Engine.run``
    fields: Fields  # that identify its runs
    batches: str  # a digest of the batches that its longest run reads
    files: frozenset[str]  # that hold something of them


@dataclasses.dataclass
class Report:
    """The answer of a worker."""

    place: str  # its host and process
    problem: str = ""  # the error that ended it, or ""
    details: str = ""  # where it was raised
    fields: Fields = dataclasses.field(default_factory=dict)  # that identify its runs
    width: int = 1  # at which it trains
    machine: str = ""  # its kind
    seconds: float = 0.0  # for one update
    signal: int = 0  # that asked it to end
    updates: int = 0  # that it has trained
    # Function -> how often it was traced.
    traces: dict[str, int] = dataclasses.field(default_factory=dict)
    files: tuple[str, ...] = ()  # that it has written


def _errors_as_reports(function: Callable[..., Report]) -> Callable[..., Report]:
    """The same, with errors as reports."""

    @functools.wraps(function)
    def call(work: Work, *arguments: object) -> Report:
        try:
            _check_worker(work)
            with entered(work.settings):
                report = function(work, *arguments)
        except Exception as error:
            if type(error).__module__.startswith("submitit."):
                raise  # asked to end while nothing was trained: as below
            notes = "".join(f" ({note})" for note in notes_of(error))
            text = f"{type(error).__name__}: {error}{notes}"
            return Report(place(), problem=text, details=traceback.format_exc())
        if report.signal:
            # A pool would catch an exit, and wait for a worker that it has terminated. An
            # error of the handler is not one of the unit: its call is lost, and goes on in another.
            signal.raise_signal(report.signal)
            raise SystemExit(128 + report.signal)
        return report

    return call


@_errors_as_reports
def describe(work: Work, trials: object, token: str) -> Report:
    """The width at which this worker trains, its fields of the first fold, and its speed."""
    device = _worker_devices()[0]
    width = work.outline.width
    measures = width == "auto" or (width is None and device.platform != "cpu")
    # Only a measured width depends on how many trials there are.
    plan = work.plan(trials, 0, work.outline.seeds[0], None if measures else 1)
    backend = backend_for(plan, _worker_devices(), width)
    (fields,) = backend.identified(run_fields(plan))
    return Report(
        place(),
        fields=fields,
        width=backend.width,
        machine=backend.machine,
        seconds=seconds_per_update(plan, backend.programs[0], device) or 0.0,
        traces=backend.traces(),
    )


# A unit is trained by the same ledger, engine and store as a sweep in one process: it is a sweep of
# a few trials, one fold and one seed, in a directory that others share. So a worker behaves as a
# killed sweep, and the driver needs no messages from it: the next attempt finds the saves
# of the last one, wherever it runs.
@_errors_as_reports
def train(work: Work, part: Part, token: str) -> Report:
    """Trains a unit up to the step ``until``, as far as the store lacks it.

    Raises:
        ValueError: if this worker would give other bits than the driver expects.
    """
    directory = _UnitDirectory(Path(work.directory), part.files, work.writer + part.name)
    # A name of its own: an abandoned attempt may be alive, or an executor call this twice.
    writer = work.writer + part.name + uuid.uuid4().hex[:12]
    try:
        plan, backend, store = _prepared_unit(work, part, directory, writer)
    except _OtherBatches:  # of a task made before its files changed
        with _LOCK:
            _TASKS.pop(work.key, None)
        plan, backend, store = _prepared_unit(work, part, directory, writer)
    ledger = Ledger(plan, store)
    engine = backend.engine(ledger)
    engine.listeners.append(_end_with_driver(Path(work.directory, work.flag), engine.stop))
    with graceful(engine.stop, (signal.SIGINT, signal.SIGTERM, *of_jobs())) as received:
        ledger.reopen(ledger.recall())
        engine.run(part.until)
        store.save(ledger)
    files = tuple(path.name for path in directory.glob(f"*-{writer}-*"))
    return Report(
        place(),
        signal=received[0] if received else 0,
        updates=ledger.steps_trained,
        traces=backend.traces(),
        files=files,
    )


_TASKS: dict[str, tuple[Fold, ...]] = {}  # by their keys, in the order of their first use
_TASKS_KEPT = 2
_LOCK = threading.Lock()


class _OtherBatches(ValueError):
    """The task of this worker reads other batches than the driver's."""


def _prepared_unit(
    work: Work, part: Part, directory: StoreDirectory, writer: str
) -> tuple[Plan, LocalBackend | MeshBackend, StageStore]:
    """All parts to train a unit; raises if its bits would not be the expected ones."""
    plan = work.plan(part.trials, part.fold, part.seed)
    backend = backend_for(plan, _worker_devices(), int(part.fields["width"]))
    (own,) = backend.identified(run_fields(plan))
    if differ := difference(part.fields, own, ("in the driver", f"on {place()}")):
        raise ValueError(f"a worker must train what the driver does, but they differ in {differ}")
    # No warnings: most runs in the directory are of other units.
    store = StageStore(directory, plan, (own,), backend.machine, writer, work.every, warns=False)
    longest = work.longest if part.until is None else min(part.until, work.longest)
    if store.batches(0, 0, longest) != part.batches:
        raise _OtherBatches(
            "a worker must train what the driver does, but the batches of its task differ: those "
            f"in the driver are others than those on {place()}, which may read another file"
        )
    return plan, backend, store


def _end_with_driver(flag: Path, stop: Callable[[], None]) -> Callable[[], None]:
    """A function for each segment, which ends a unit when its driver has ended."""
    looked = time.monotonic()

    def look() -> None:
        nonlocal looked
        if time.monotonic() - looked > 0.5:  # a network file system answers slowly
            looked = time.monotonic()
            if not flag.exists():
                stop()

    return look


class _UnitDirectory(StoreDirectory):
    """The files that a unit needs: otherwise each unit would read the files of all units."""

    def __init__(self, path: Path, names: frozenset[str], own: str):
        super().__init__(path)
        self._own_names, self._own = names, own

    def glob(self, pattern: str) -> list[Path]:
        paths = super().glob(pattern)
        return [p for p in paths if p.name in self._own_names or f"-{self._own}" in p.name]


def _check_worker(work: Work) -> None:
    """Raises where no unit can be trained."""
    check_place("sweep")
    # Where calls run in other threads (Dask) a supervisor ends the worker; one in the driver's own
    # process ends with it.
    if work.driver != place() and threading.current_thread() is threading.main_thread():
        _end_with_parent()
    if not Path(work.directory, work.flag).exists() or not os.access(work.directory, os.W_OK):
        raise ValueError(
            "sweep(checkpoint=...) must be a directory that all workers see and can write, got "
            f"{work.directory}, in which {place()} cannot write or see the driver's file. "
            "Give one on a file system that the driver shares with the workers."
        )


@functools.cache
def _end_with_parent() -> None:
    """Once its parent has died a worker of the standard library would wait for ever."""
    sentinel = getattr(multiprocessing.parent_process(), "sentinel", None)
    if sentinel is not None:  # loky's workers have none, and end by themselves

        def follow() -> None:
            multiprocessing.connection.wait([sentinel])
            os.kill(os.getpid(), signal.SIGTERM)

        threading.Thread(target=follow, daemon=True).start()


def _worker_devices() -> tuple[jax.Device, ...]:
    """The devices of this worker; one thread of a CPU, since there is a worker for each core."""
    local = tuple(jax.local_devices())
    return local[:1] if local[0].platform == "cpu" else local


def place() -> str:
    """The host and process."""
    return f"{socket.gethostname()}, process {os.getpid()}"
