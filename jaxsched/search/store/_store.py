"""The store of stages: measurements and states, named by all the input that a run has read.

The point of a run at a step is a digest of the task's identity, of the values applied and the
batches read before it. It does not depend on the sweep, nor on the ends of its stages: so one sweep
goes on from the runs of another, longer or with more trials.

``records-*.npz`` hold pieces of curves. ``ends-*.npz`` hold the states at the ends of stages, and
``marks-*.npz`` states between them, where another sweep is likely to fork. All of them stay for
ever. ``states-*.npz`` hold the states of all open runs of a writer at one moment, and its last two
are kept. No file is written twice or needs another one.
"""

from __future__ import annotations

import bisect
import contextlib
import dataclasses
import time
from hashlib import blake2b

import jax
import numpy as np

from jaxsched._text import warn
from jaxsched.search.engine._ledger import Ledger, Store
from jaxsched.search.engine._plan import Plan
from jaxsched.search.engine._records import Key, OpenRun
from jaxsched.search.store._directory import StoreDirectory
from jaxsched.search.store._fields import Fields
from jaxsched.search.store._index import Index, RunPath
from jaxsched.search.store._marks import Marks
from jaxsched.search.store._names import Names
from jaxsched.search.store._pieces import Piece, Root, encoded, in_order
from jaxsched.search.store._states import SavedStates, States, saved_states

_KEPT = 1 << 30  # bytes of states that are never deleted, in one directory
_MARKS = 1 << 28  # bytes of the states at marks, of them
_HELD = 64 << 20  # bytes of them in memory, before it is time to save


class StageStore(Store):
    """Saves the measurements of a ledger, and finds them. For all processes of a directory.

    Args:
        directory: of the files.
        plan: of the sweep.
        fields: the identity of each fold's task, of ``run_fields`` and a backend.
        machine: the kind of machine that trains.
        writer: the name of this sweep; one process has it at a time.
        every: the least seconds between saves; more if a save takes over a twentieth of that.
            0 saves after every segment.
        warns: whether to warn if all runs in the directory are of another task, or if another kind
            of machine has trained some.

    Attributes:
        machines: the kinds that have trained the runs found here.
        used: the names of the files that hold something of a run.
    """

    states = States  # how it finds and reads them

    def __init__(
        self,
        directory: StoreDirectory,
        plan: Plan,
        fields: tuple[Fields, ...],
        machine: str,
        writer: str,
        every: float,
        warns: bool = True,
    ):
        self._directory, self._plan, self._writer, self._every = directory, plan, writer, every
        self._metrics = sorted(plan.shape.metrics)
        self._names = Names(plan, fields, machine, writer)
        self._index = Index(directory, plan, self._names, warns)
        self._warns = warns
        self._states = self.states(directory, plan.shape.state, self._index.warn_of)
        self.machines = set[str]()
        self.used: dict[Key, frozenset[str]] = {}
        self._bounds: dict[Key, set[int]] = {}  # the steps at which a run may have a state
        # Since the last save: measurements, and states that are never deleted.
        self._fresh: list[Piece] = []
        self._at_ends, self._at_marks = SavedStates(), SavedStates()
        # Up to where the pieces of an open run go, with the digest of the values before.
        self._saved: dict[Key, tuple[int, blake2b]] = {}
        self._state_bytes = plan.shape.state_bytes
        self._last = time.monotonic()
        self._took = 0.0
        self._next = directory.next_number(writer)
        marks = directory.size("marks-*")
        self._room = _KEPT - marks - directory.size("ends-*")
        # For marks: the states that a sweep needs, such as its open runs', come after them.
        self._spare = min(_MARKS - marks, directory.free() // 4)
        self._marks = Marks(plan, self._spare)
        self.refresh()

    # ------------------------------------------------------------------------------------ reading

    @property
    def empty(self) -> bool:
        return self._index.empty

    def refresh(self) -> None:
        """Reads the new files."""
        self._states.forget()
        self._index.refresh()

    def batches(self, fold: int, seed: int, step: int) -> str:
        """A digest of the batches before a step; fold and seed are positions in the plan."""
        number = self._names.number(Key(0, fold, seed, ()))
        return self._names.rows[number].digest(step).hex()

    def begin(self) -> RunPath:
        return RunPath(blake2b(digest_size=16))

    def look(self, run: OpenRun) -> tuple[OpenRun, RunPath]:
        stage = self._plan.stages[run.key.stage]
        values = self._values(run, stage.start, stage.stop)
        pieces, path = self._index.matched(run, values, stage)
        self._note_machines({self._index.machines[piece.file] for piece, _ in pieces})
        self.used[run.key] = frozenset(piece.file for piece, _ in pieces)
        self._bounds[run.key] = {stage.start, *(p.stop for p, end in pieces if p.stop == end)}
        curves = self._index.curves(pieces, stage, values)
        at = stage.start + curves.updates
        narrowed = at > stage.start and any(piece.narrowed for piece, _ in pieces)
        run = dataclasses.replace(run, at=at, curves=curves, narrowed=run.narrowed or narrowed)
        return run, path

    def reopened(self, run: OpenRun) -> OpenRun | None:
        number, stage = self._names.number(run.key), self._plan.stages[run.key.stage]
        digest, start, at, states = run.path.values.copy(), stage.start, stage.start, []
        # A state is found by its point alone. Each point takes two digests: a million updates would
        # take two million. But where a state is saved a piece ends (``save`` calls ``_add`` first),
        # so it is enough to ask at the ends of the pieces found. Forwards, since a digest
        # can only be extended. The last state found is loaded, and an earlier one only if its file
        # is damaged.
        bounds = self._bounds.get(run.key, ())  # of an empty store: it was not looked for
        for step in sorted(step for step in bounds if step <= run.at):
            digest.update(in_order(self._values(run, at, step)))
            at = step
            for narrowed in (True, False):
                files = self._states.at(self._names.point(number, digest, step, narrowed))
                states += [(step, digest.copy(), narrowed, *file) for file in reversed(files)]
        for step, digest, narrowed, path, place in reversed(states):
            if (state := self._states.load(path, place)) is not None:
                self._saved[run.key] = (step, digest)
                self.used[run.key] |= {path.name}
                evaluations = bisect.bisect_right(self._plan.evaluations(stage), step)
                curves = run.curves.until(step - start, evaluations)
                narrowed |= run.narrowed and step > start
                run = dataclasses.replace(run, at=step, state=state, curves=curves)
                return dataclasses.replace(run, narrowed=narrowed)
        return None

    def _note_machines(self, machines: set[str]) -> None:
        """Adds kinds of machines to the known ones, with a warning for each other kind."""
        own = self._names.machine
        for machine in sorted(machines - self.machines):
            self.machines |= {machine}
            if machine != own and self._warns:
                warn(
                    f"sweep(checkpoint=...): some of {self._directory.path} was trained on another "
                    f"kind of machine, {machine or 'unknown'}, and not on {own}: sums may be "
                    "rounded otherwise, so the results are not bit for bit those of one machine.",
                    RuntimeWarning,
                )

    # ------------------------------------------------------------------------------------ writing

    def due(self) -> bool:
        pause = max(self._every, 20 * self._took) if self._every else 0.0
        full = (len(self._at_ends) + len(self._at_marks)) * self._state_bytes > _HELD
        return full or time.monotonic() - self._last >= pause

    def mark(self, run: OpenRun, lanes: int, kept: int, at: int, speed: int) -> int | None:
        return self._marks.next(run, lanes, kept, at, speed) if self._has_spare else None

    def keep(self, run: OpenRun) -> None:
        if self._has_spare and self._hold(run, self._add(run), self._at_marks):
            self._spare -= self._state_bytes

    @property
    def _has_spare(self) -> bool:
        return self._state_bytes <= min(self._spare, self._room)

    def ended(self, run: OpenRun) -> RunPath:
        digest = self._add(run)
        self._hold(run, digest, self._at_ends)
        self._saved.pop(run.key, None)
        return RunPath(digest)

    def _point(self, run: OpenRun, digest: blake2b) -> str:
        """The name of the state that an open run has now."""
        return self._names.point(self._names.number(run.key), digest, run.at, run.narrowed)

    def _hold(self, run: OpenRun, digest: blake2b, where: SavedStates) -> bool:
        """Takes the state of a run, to be saved, if there is room; returns whether it has."""
        if run.curves.diverged >= 0 or self._state_bytes > self._room:
            return False
        point = self._point(run, digest)
        # It can be trained again: without memory to unstack it, it is not kept.
        with contextlib.suppress(jax.errors.JaxRuntimeError):
            if point not in self._states.kept:
                where[point] = (run.at, run.plain_state)
                self._states.kept.add(point)
                self._room -= self._state_bytes
                return True
        return False

    def save(self, ledger: Ledger) -> None:
        """Writes the new measurements, then the states, then deletes older states."""
        # A kill between any two of these lines loses no earlier save. Records come first: a state
        # is looked for where a piece ends, so one without its piece would never be found, while
        # pieces without a state are of use to other runs, and cost this one the way from an older
        # state. A disk that is full at a mark ends no sweep; one that is full at anything else
        # does.
        began, directory = time.monotonic(), self._directory
        name = f"{self._writer}-{self._next:08d}"
        open_runs = [(run, self._add(run)) for run in ledger.unfinished()]
        if self._fresh:
            path = directory.path / f"records-{name}.npz"
            directory.write(path, *self._encoded())
            self._index.written(path)
        try:
            self._write("marks", name, self._at_marks)
        except directory.suppressed:  # a full disk has room for less, perhaps
            self._states.kept -= self._at_marks.keys()
            self._spare = 0
        states: SavedStates = {}
        for run, digest in open_runs:
            if run.state is None or run.curves.diverged >= 0:
                continue
            point = self._point(run, digest)
            if point not in self._states.kept:
                states[point] = (run.at, run.plain_state)
        self._write("ends", name, self._at_ends)
        self._write("states", name, states)
        self._fresh, self._at_ends, self._at_marks = [], {}, {}
        self._states.close()
        self._next += 1
        directory.prune(self._writer, keep=2)
        self._last = time.monotonic()
        self._took = self._last - began

    def _write(self, kind: str, name: str, states: SavedStates) -> None:
        if states:
            path = self._directory.path / f"{kind}-{name}.npz"
            self._directory.write_states(path, *saved_states(states))

    def _add(self, run: OpenRun) -> blake2b:
        """Takes a run's measurements since its last save; returns the digest at its end."""
        plan, curves, number = self._plan, run.curves, self._names.number(run.key)
        stage = plan.stages[run.key.stage]
        # Only new ones: pieces of a run follow one another, however often it is saved. With its
        # whole curve in each file a long run would be saved more slowly each time.
        at, digest = self._saved.get(run.key, (stage.start, run.path.values))
        stop = run.at if curves.diverged < 0 else curves.diverged + 1
        if at < stop:
            is_last = stop == stage.stop and not plan.children[stage.index]
            steps = plan.evaluations(stage)
            values = self._values(run, at, stop)
            updates = slice(at - stage.start, stop - stage.start)
            # An evaluation behind a divergence is a NaN that the loop makes again.
            last = stop if curves.diverged < 0 else curves.diverged
            evaluations = slice(*(bisect.bisect_right(steps, step) for step in (at, last)))
            self._fresh.append(
                Piece(
                    root=number,
                    start=at,
                    point=self._names.point(number, digest, at),
                    values=values,
                    train={name: curves.train[name][updates] for name in self._metrics},
                    validation={n: c[evaluations] for n, c in curves.validation.items()},
                    evaluated=steps[evaluations],
                    diverged=curves.diverged,
                    ends=len(run.key.trials) if is_last or curves.diverged >= 0 else 0,
                    narrowed=run.narrowed,
                )
            )
            digest = digest.copy()
            digest.update(in_order(values))
            self._saved[run.key] = (stop, digest)
        return digest

    def _encoded(self) -> tuple[object, dict[str, np.ndarray]]:
        """The new pieces as a JSON value and arrays."""
        groups: dict[tuple[int, bool], list[Piece]] = {}
        for piece in self._fresh:
            groups.setdefault((piece.root, piece.narrowed), []).append(piece)
        roots, pieces = list[Root](), list[Piece]()
        for (number, narrowed), own in groups.items():
            start, stop = min(piece.start for piece in own), max(piece.stop for piece in own)
            pieces += [dataclasses.replace(piece, root=len(roots)) for piece in own]
            roots.append(self._names.root(number, narrowed, start, stop))
        return encoded(roots, pieces)

    def _values(self, run: OpenRun, start: int, stop: int) -> np.ndarray:
        trial, states = run.key.trials[0], run.controller_states[0]
        if start == stop:  # no block of the table to join
            return np.zeros((len(self._plan.table.names), 0), np.float32)
        return self._plan.table.values(trial, start, stop, states)
