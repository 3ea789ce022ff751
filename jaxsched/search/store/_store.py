"""The store of stages: measurements and states, named by all that a run has read.

The point of a run at a step is a digest of what identifies the task, of the values that were
applied and of the batches that were read before it. It says nothing of the sweep, nor of where its
stages end: so one sweep goes on from what another has trained, longer or with more trials.

``records-*.npz`` hold pieces of curves, ``ends-*.npz`` the states at the ends of stages, both for
ever; ``states-*.npz`` hold the states of all open runs of a writer at one moment, and its last two
are kept. No file is written twice or needs another one.
"""

from __future__ import annotations

import bisect
import contextlib
import dataclasses
import hashlib
import heapq
import json
import time
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxsched._text import warn
from jaxsched.search._files import Damaged, typed
from jaxsched.search._fingerprint import difference, digest
from jaxsched.search.engine._devices import nbytes
from jaxsched.search.engine._ledger import Ledger
from jaxsched.search.engine._plan import Plan
from jaxsched.search.engine._records import Key, OpenRun, RunCurves, plain_state
from jaxsched.search.store._directory import StoreDirectory
from jaxsched.search.store._pieces import (
    FORMAT,
    Fields,
    Piece,
    Root,
    decoded,
    encoded,
    in_order,
    joined,
)
from jaxsched.search.store._rows import Rows

_ENDS = 1 << 30  # bytes of states at the ends of stages, in one directory
_HELD = 64 << 20  # bytes of them in memory, before it is time to save


class RunPath(NamedTuple):
    """What a run has applied before a stage, and the pieces that go on in the stage.

    Pieces are known by their next values: a root may have as many as there are trials.
    """

    values: Any  # hashlib's; never updated, but copied
    pieces: dict[bytes, list[Piece]] = {}  # noqa: RUF012  # never changed


class StageStore:
    """Saves what a ledger has measured, and finds what it needs. For all processes of a directory.

    Args:
        directory: of the files.
        plan: of the sweep.
        fields: what identifies the task of each fold, of ``run_fields``.
        writer: the name of this sweep, of which there is one at a time.
        every: the least seconds between saves; more if a save takes over a twentieth of that.
            0 saves after every segment.
    """

    def __init__(
        self,
        directory: StoreDirectory,
        plan: Plan,
        fields: tuple[Fields, ...],
        writer: str,
        every: float,
    ):
        self._directory, self._plan, self._writer, self._every = directory, plan, writer, every
        self._metrics = sorted(plan.folds[0].shape.metrics)
        size = nbytes(plan.folds[0].shape.batch)
        self._runs = plan.runs()
        self._fields = [{**fields[f], "seed": str(plan.seeds[s])} for f, s in self._runs]
        self._rows = [
            Rows(plan.folds[f].task, plan.seeds[s], size, plan.longest) for f, s in self._runs
        ]
        self._root = {digest(json.dumps(x)): i for i, x in enumerate(self._fields)}
        self._names = list(self._root)
        self._number = {run: i for i, run in enumerate(self._runs)}
        self._pieces: dict[tuple[str, bytes], list[Piece]] = {}  # by point and first values
        self._states: dict[str, list[tuple[Path, int]]] | None = None
        self._steps: list[int] = []  # at which there are states
        self._arrays: dict[Path, Any] = {}  # of the files of states that are in use
        self._files = set[Path]()
        self._fresh: list[Piece] = []
        self._ends: dict[str, tuple[int, Any]] = {}
        self._kept = set[str]()  # points whose states are at the ends of stages
        self._saved: dict[Key, tuple[int, Any]] = {}
        self._state_bytes = nbytes(plan.folds[0].shape.state)
        self._last = time.monotonic()
        self._took = 0.0
        self._next = directory.next_number(writer)
        self._room = _ENDS - directory.size("ends-*")
        self.refresh()

    # ------------------------------------------------------------------------------------ reading

    @property
    def empty(self) -> bool:
        return not self._pieces

    def refresh(self) -> None:
        """Reads the files that were not there before.

        Warns:
            UserWarning: if there are runs, but none of this task on these data.
        """
        self._states, others, ours = None, list[tuple[Root, int, int]](), bool(self._pieces)
        for path in self._directory.glob("records-*.npz"):
            if path in self._files:
                continue
            self._files.add(path)
            try:
                roots, pieces = decoded(*self._directory.read(path))
                if any(digest(json.dumps(root.fields)) in self._root for root in roots):
                    self._check_names(pieces)
            except Damaged as damage:
                self._warn_of(path, damage)
                continue
            for i, root in enumerate(roots):
                number = self._root.get(digest(json.dumps(root.fields)))
                until = root.start
                if number is not None:
                    until = self._rows[number].agreed(root.start, root.stop, root.sums)
                    for piece in (p for p in pieces if p.root == i):
                        piece = dataclasses.replace(piece, root=number, until=until, file=path.name)
                        first = piece.point, in_order(piece.values[:, :1])
                        self._pieces.setdefault(first, []).append(piece)
                ours |= until == root.stop
                others.append((root, until, sum(p.ends for p in pieces if p.root == i)))
        if others and not ours:
            self._warn_of_others(others)

    def begin(self, key: Key) -> RunPath:
        return RunPath(hashlib.blake2b(digest_size=16))

    def look(self, run: OpenRun) -> tuple[RunCurves, RunPath]:
        plan = self._plan
        stage = plan.stages[run.key.stage]
        start, values = stage.start, self._values(run, stage.start, stage.stop)
        digest, at = run.path.values.copy(), start
        matched: list[tuple[Piece, int]] = []
        todo, seen = [start], {start}

        def admit(piece: Piece) -> None:
            end = piece.agreed(start, values)
            if end > start:
                matched.append((piece, end))
            if end == piece.stop < stage.stop and end not in seen:
                seen.add(end)
                heapq.heappush(todo, end)

        for piece in run.path.pieces.get(in_order(values[:, :1]), ()):
            admit(piece)
        while todo:  # a piece that goes on begins where another one ends
            step = heapq.heappop(todo)
            digest.update(in_order(values[:, at - start : step - start]))
            at = step
            first = in_order(values[:, at - start : at - start + 1])
            for piece in self._pieces.get((self._point(run.key, digest, step), first), ()):
                admit(piece)
        digest.update(in_order(values[:, at - start :]))
        beyond: dict[bytes, list[Piece]] = {}
        for piece, end in matched:
            if end == stage.stop < piece.stop:
                following = in_order(piece.values[:, end - piece.start : end - piece.start + 1])
                beyond.setdefault(following, []).append(piece)
        return self._known(stage, matched, values), RunPath(digest, beyond)

    def _known(self, stage: Any, matched: list[tuple[Piece, int]], values: np.ndarray) -> RunCurves:
        """The curves up to the first update, or evaluation, that no piece holds."""
        last = max((end for _, end in matched), default=stage.start)
        gone = [p.diverged for p, end in matched if p.diverged >= 0 and end == p.stop]
        diverged = gone[0] if gone else -1
        there = {e for piece, end in matched for e in piece.evaluations(stage.start, end)}
        evaluated = []
        for step in self._plan.evaluations(stage):
            if step > (diverged if gone else last):
                break
            if step not in there:
                last, diverged = step - 1, -1
                break
            evaluated.append(step)
        if last <= stage.start:
            return self._plan.empty_curves()
        train, validation = joined(matched, stage.start, last, evaluated)
        if self._plan.table.watched:
            names = self._plan.table.names
            train |= dict(zip(names, values[:, : last - stage.start], strict=True))
        train = {name: train[name] for name in self._plan.train}
        return RunCurves(train, validation, diverged)

    def state(self, run: OpenRun, last: int) -> tuple[int, Any] | None:
        index, start = self._index(), self._plan.stages[run.key.stage].start
        ends = bisect.bisect_left(self._steps, start), bisect.bisect_right(self._steps, last)
        digest, at, found = run.path.values.copy(), start, []
        for step in self._steps[slice(*ends)]:
            digest.update(in_order(self._values(run, at, step)))
            at, point = step, self._point(run.key, digest, step)
            if point in index:
                found.append((step, digest.copy(), point))
        for step, digest, point in reversed(found):
            for path, number in index[point]:
                if (state := self._load(path, number)) is not None:
                    self._saved[run.key] = (step, digest)
                    return step, state
        return None

    def _index(self) -> dict[str, list[tuple[Path, int]]]:
        """Point -> the files that hold its state, with its number there."""
        if self._states is None:
            self._states, steps = {}, set[int]()
            glob = self._directory.glob
            for path in [*glob("ends-*.npz"), *glob("states-*.npz")]:
                try:
                    for number, (step, point) in enumerate(self._entries(path)):
                        steps.add(step)
                        self._states.setdefault(point, []).append((path, number))
                        if path.name.startswith("ends"):
                            self._kept.add(point)
                except Damaged as damage:
                    self._warn_of(path, damage)
            self._steps = sorted(steps)
        return self._states

    def _entries(self, path: Path) -> list[tuple[int, str]]:
        told = self._directory.read(path)[0]
        return typed(tuple[int, list[tuple[int, str]]], told, "its JSON")[1]

    def _check_names(self, pieces: list[Piece]) -> None:
        metrics = self._metrics, sorted(self._plan.validation), len(self._plan.table.names)
        for piece in pieces[:1]:  # of one file, which have the same
            found = sorted(piece.train), sorted(piece.validation), len(piece.values)
            if found != metrics:
                raise Damaged(f"the metrics must be {metrics}, got {found}")

    def _load(self, path: Path, number: int) -> Any:
        treedef: Any
        wanted, treedef = jax.tree.flatten(self._plan.folds[0].shape.state)
        try:
            if path not in self._arrays:
                self._arrays[path] = self._directory.read(path)[1]
            leaves = [self._arrays[path][f"s{number}/{j}"] for j in range(len(wanted))]
            for leaf, like in zip(leaves, wanted, strict=True):
                if (leaf.shape, leaf.dtype) != (like.shape, like.dtype):
                    raise Damaged(f"{path}: {leaf.dtype}{list(leaf.shape)} for {like}")
        except (Damaged, KeyError) as damage:
            self._warn_of(path, damage)
            return None
        return treedef.unflatten(leaves)

    def _warn_of(self, path: Path, damage: Exception) -> None:
        if self._directory.has(path):
            text = str(damage) if path.name in str(damage) else f"{path}: {damage}"
            repair = "What it held is trained again; delete the file to end this warning."
            warn(f"sweep(checkpoint=...): {text}. {repair}", RuntimeWarning)

    def _warn_of_others(self, others: list[tuple[Root, int, int]]) -> None:
        """Says in what the runs that are there differ; nothing if other seeds were trained."""
        found: list[tuple[int, str]] = []
        for root, until, _ in others:
            if root.fields in self._fields:
                found.append((1, f"task's batches from update {until} on"))
            for here in self._fields:
                there = {**root.fields, "seed": here["seed"]}
                names = [n for n in {**there, **here} if there.get(n) != here.get(n)]
                if not names and root.fields not in self._fields:
                    return
                found.append((len(names) or 2, difference(there, here, ("there", "here"))))
        wanted, count = len(self._plan.trials) * len(self._runs), sum(ends for *_, ends in others)
        warn(
            f"sweep(checkpoint=...): 0 of {wanted} runs found in {self._directory.path}; the "
            f"{count} that are there differ in {min(found)[1]}."
        )

    # ------------------------------------------------------------------------------------ writing

    def due(self) -> bool:
        pause = max(self._every, 20 * self._took) if self._every else 0.0
        held = len(self._ends) * self._state_bytes > _HELD
        return held or time.monotonic() - self._last >= pause

    def ended(self, run: OpenRun) -> RunPath:
        digest = self._add(run)
        if run.curves.diverged < 0 and self._state_bytes <= self._room:
            point = self._point(run.key, digest, run.at)
            # It can be trained again: without memory to unstack it, it is not kept.
            with contextlib.suppress(jax.errors.JaxRuntimeError):
                if point not in self._kept:
                    self._ends[point] = (run.at, plain_state(run.state))
                    self._kept.add(point)
                    self._room -= self._state_bytes
        self._saved.pop(run.key, None)
        return RunPath(digest)

    def save(self, ledger: Ledger) -> None:
        """Writes the new measurements, then the states, then deletes older states.

        So a kill never loses a save.
        """
        began = time.monotonic()
        directory, name = self._directory, f"{self._writer}-{self._next:08d}"
        states: dict[str, tuple[int, Any]] = {}
        for run in ledger.unfinished():
            digest = self._add(run)
            if run.state is not None and run.curves.diverged < 0:
                point = self._point(run.key, digest, run.at)
                if point not in self._kept:
                    states[point] = (run.at, run.state)
        if self._fresh:
            numbers = sorted({piece.root for piece in self._fresh})
            pieces = [dataclasses.replace(p, root=numbers.index(p.root)) for p in self._fresh]
            roots = [self._as_root(number) for number in numbers]
            path = directory.path / f"records-{name}.npz"
            directory.write(path, *encoded(roots, pieces))
            self._files.add(path)
        for kind, found in (("ends", self._ends), ("states", states)):
            if found:
                entries = [FORMAT, [[step, point] for point, (step, _) in found.items()]]
                leaves = {
                    f"s{i}/{j}": leaf
                    for i, (_, state) in enumerate(found.values())
                    for j, leaf in enumerate(jax.tree.leaves(plain_state(state)))
                }
                directory.write(directory.path / f"{kind}-{name}.npz", entries, {}, leaves)
        self._fresh, self._ends, self._arrays = [], {}, {}
        self._next += 1
        directory.prune(self._writer, kept=2)
        self._last = time.monotonic()
        self._took = self._last - began

    def _add(self, run: OpenRun) -> Any:
        """Takes what was measured of a run since it was saved; returns the digest at its end."""
        plan, curves = self._plan, run.curves
        stage = plan.stages[run.key.stage]
        start, digest = self._saved.get(run.key, (stage.start, run.path.values))
        stop = run.at if curves.diverged < 0 else curves.diverged + 1
        if start < stop:
            values = self._values(run, start, stop)
            updates = slice(start - stage.start, stop - stage.start)
            steps = plan.evaluations(stage)
            last = stop if curves.diverged < 0 else curves.diverged
            evaluations = slice(*(bisect.bisect_right(steps, step) for step in (start, last)))
            over = curves.diverged >= 0 or (stop == stage.stop and not plan.children[stage.index])
            self._fresh.append(
                Piece(
                    root=self._number[run.key.fold, run.key.seed],
                    start=start,
                    point=self._point(run.key, digest, start),
                    values=values,
                    train={name: curves.train[name][updates] for name in self._metrics},
                    validation={n: c[evaluations] for n, c in curves.validation.items()},
                    evaluated=steps[evaluations],
                    diverged=curves.diverged,
                    ends=len(run.key.trials) if over else 0,
                )
            )
            digest = digest.copy()
            digest.update(in_order(values))
            self._saved[run.key] = (stop, digest)
        return digest

    def _as_root(self, number: int) -> Root:
        pieces = [piece for piece in self._fresh if piece.root == number]
        first, last = min(p.start for p in pieces), max(p.stop for p in pieces)
        return Root(self._fields[number], first, last, self._rows[number].sums(first, last))

    # ------------------------------------------------------------------------------------ details

    def _values(self, run: OpenRun, start: int, stop: int) -> np.ndarray:
        trial, states = run.key.trials[0], run.controller_states[0]
        if start == stop:
            return np.zeros((len(self._plan.table.names), 0), np.float32)
        return self._plan.table.values(trial, start, stop, states)

    def _point(self, key: Key, values: Any, step: int) -> str:
        number = self._number[key.fold, key.seed]
        batches = self._rows[number].digest(step)
        return digest(self._names[number], str(step), values.digest(), batches)
