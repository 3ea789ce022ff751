"""The runs of a plan in the files of a store: pieces that begin where others end."""

from __future__ import annotations

import contextlib
import dataclasses
import heapq
from hashlib import blake2b
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxsched._text import warn
from jaxsched.search._files import Damaged, TooLarge
from jaxsched.search.engine._controlled import no_curves
from jaxsched.search.engine._plan import Plan
from jaxsched.search.engine._records import OpenRun, RunCurves
from jaxsched.search.engine._stage_tree import Stage
from jaxsched.search.store._directory import StoreDirectory
from jaxsched.search.store._fields import difference, explaining
from jaxsched.search.store._identity import Identity
from jaxsched.search.store._names import Names
from jaxsched.search.store._pieces import Earlier, Piece, Root, decoded, in_order, joined

Matched = list[tuple[Piece, int]]  # each with the step up to which it belongs to the run


class RunPath(NamedTuple):
    """The values that a run has applied before a stage, and the pieces that go on in the stage.

    Pieces are known by their next values: a root may have as many as there are trials.
    """

    values: blake2b  # never updated, but copied
    pieces: dict[bytes, list[Piece]] = {}  # noqa: RUF012  # never changed


class _Other(NamedTuple):
    """Runs read from a file."""

    root: Root
    batches: str  # the point from which the batches differ, if nothing else does
    ends: int  # how many


class Index:
    """The pieces of the runs of a plan; ``warns`` if all runs are of another task.

    Attributes:
        machines: file -> the kind of machine that has trained its runs.
    """

    # A run with the rates a a a b b, saved after its second update and at its end, is two pieces:
    # "a a" at the point of a task and a seed before any update, and "a b b" at the point after "a
    # a". A new run a a a c c asks at its first point for the pieces that begin with a. "a a" agrees
    # with it to its end, so the run asks again at the point there, and "a b b" agrees for one
    # update: of three updates the measurements are found, and "c c" is trained. No file says which
    # pieces are of one run. They may be of several sweeps, and any of them may be lost.

    def __init__(self, directory: StoreDirectory, plan: Plan, names: Names, warns: bool):
        self._directory, self._plan, self._names, self._warns = directory, plan, names, warns
        # By point and first values: all pieces of a fork begin at one point.
        self._pieces: dict[tuple[str, bytes], list[Piece]] = {}
        self._files = set[Path]()
        self.machines: dict[str, str] = {}

    @property
    def empty(self) -> bool:
        return not self._pieces

    def written(self, path: Path) -> None:
        """A file of this process need not be read."""
        self._files.add(path)

    def refresh(self) -> None:
        """Reads the new files.

        Warns:
            UserWarning: if there are runs, but none of this task on these data, or files of an
                earlier version.
        """
        others, ours, earlier = list[_Other](), not self.empty, 0
        for path in self._directory.glob("records-*.npz"):
            if path in self._files:
                continue
            self._files.add(path)
            try:
                roots, pieces = decoded(*self._directory.read(path))
                numbers = [self._names.number_of(root) for root in roots]
                if any(number is not None for number in numbers):
                    self._check_names(pieces)
            except Earlier:
                earlier += 1
                continue
            except Damaged as damage:
                self.warn_of(path, damage)
                continue
            for i, (root, number) in enumerate(zip(roots, numbers, strict=True)):
                own, differ = [piece for piece in pieces if piece.root == i], ""
                if number is not None:
                    differ = self._take(path.name, root, number, own)
                    ours |= not differ
                others.append(_Other(root, differ, sum(piece.ends for piece in own)))
        if others and not ours and self._warns:
            self._warn_of_others(others)
        if earlier:
            warn(
                f"sweep(checkpoint=...): {earlier} files in {self._directory.path} are of an "
                "earlier version; what they held is trained again. Delete them to end this warning."
            )

    def _take(self, file: str, root: Root, number: int, pieces: list[Piece]) -> str:
        """Takes the pieces of one of our roots; returns how its batches differ from ours, if so."""
        # A root with other batches from some update on serves up to there.
        until, leaves = self._names.rows[number].agreed(root.start, root.stop, root.sums)
        self.machines[file] = root.notes.get("machine", "")
        for piece in pieces:
            piece = dataclasses.replace(piece, root=number, until=until, file=file)
            first = piece.point, in_order(piece.values[:, :1])
            self._pieces.setdefault(first, []).append(piece)
        return f"task's batches from update {until} on{leaves}" if until < root.stop else ""

    def warn_of(self, path: Path, damage: Exception) -> None:
        """Warns of the damage of a file, unless it is gone."""
        if self._directory.has(path):
            text = str(damage) if path.name in str(damage) else f"{path}: {damage}"
            repair = "What it held is trained again; delete the file to end this warning."
            if isinstance(damage, TooLarge):
                repair = "What it holds is trained again here; the file stays as it is."
            warn(f"sweep(checkpoint=...): {text.rstrip('.')}. {repair}", RuntimeWarning)

    def matched(self, run: OpenRun, values: np.ndarray, stage: Stage) -> tuple[Matched, RunPath]:
        """The pieces of a run that begins, and the path of the runs that follow it.

        ``values`` are the stage's values, float32 [hyperparameters, updates].
        """
        names, start = self._names, stage.start
        number = names.number(run.key)

        def applied(begin: int, end: int) -> bytes:
            """The values that the run applies from one update to before another."""
            return in_order(values[:, begin - start : end - start])

        digest, at = run.path.values.copy(), start
        pieces: Matched = []
        # In order of steps, since the digest can only be extended: no piece is looked up twice.
        todo, seen = [start], {start}
        more = run.path.pieces.get(applied(start, start + 1), [])  # they have begun before
        while todo:  # a piece that goes on begins where another one ends
            step = heapq.heappop(todo)
            digest.update(applied(at, step))
            at = step
            begun = names.point(number, digest, step), applied(step, step + 1)
            for piece in [*more, *self._pieces.get(begun, [])]:
                if (end := piece.agreed(start, values)) > start:
                    pieces.append((piece, end))
                if end == piece.stop < stage.stop and end not in seen:
                    seen.add(end)
                    heapq.heappush(todo, end)
            more = []
        digest.update(applied(at, stage.stop))
        # A later piece counts where two overlap (``joined``): this call's piece, if it has one.
        pieces.sort(key=lambda match: names.order(match[0].file))
        beyond: dict[bytes, list[Piece]] = {}
        for piece, end in pieces:
            if end == stage.stop < piece.stop:
                following = in_order(piece.values[:, end - piece.start : end - piece.start + 1])
                beyond.setdefault(following, []).append(piece)
        return pieces, RunPath(digest, beyond)

    def curves(self, pieces: Matched, stage: Stage, values: np.ndarray) -> RunCurves:
        """The curves up to the first update, or evaluation, that no piece holds."""
        plan, last = self._plan, max((end for _, end in pieces), default=stage.start)
        until, diverged = last, -1  # where evaluations end
        for piece, end in pieces:
            if piece.diverged >= 0 and end == piece.stop:  # of several the last counts
                until = diverged = piece.diverged
                last = diverged + 1  # though pieces of another width may go on
        evaluated_at = {e for piece, end in pieces for e in piece.evaluations(stage.start, end)}
        evaluated = []
        for step in plan.evaluations(stage):
            if step > until:
                break
            if step not in evaluated_at:
                last, diverged = step - 1, -1  # the update before it is trained again, too
                break
            evaluated.append(step)
        if last <= stage.start:
            return no_curves(plan)
        train, validation = joined(pieces, stage.start, last, evaluated)
        if plan.table.controlled:
            train |= dict(zip(plan.table.names, values[:, : last - stage.start], strict=True))
        return RunCurves({name: train[name] for name in plan.train}, validation, diverged)

    def _check_names(self, pieces: list[Piece]) -> None:
        shape, table = self._plan.shape, self._plan.table
        metrics = sorted(shape.metrics), sorted(self._plan.validation), len(table.names)
        for piece in pieces[:1]:  # of one file, which have the same
            own = sorted(piece.train), sorted(piece.validation), len(piece.values)
            if own != metrics:
                raise Damaged(f"the metrics must be {metrics}, got {own}")

    def _warn_of_others(self, others: list[_Other]) -> None:
        """Warns how the stored runs differ; nothing if only other seeds were trained."""
        # The most similar pair is compared, among all stored roots and all our folds and seeds.
        differences, names = list[tuple[int, str]](), self._names
        for root, batches, _ in others:
            if batches:
                differences.append((1, batches))
                continue
            theirs = dict(root.fields)
            if "narrowed" in root.notes:  # of another call
                theirs["width"] = f"{theirs.get('width')}, then halved for a lack of memory"
            for ours, arrays in zip(names.fields, names.arrays, strict=True):
                theirs["seed"] = ours["seed"]
                differ = [n for n in {**theirs, **ours} if theirs.get(n) != ours.get(n)]
                if not differ:
                    return
                text = difference(explaining(root.notes) | theirs, arrays | ours, ("there", "here"))
                differences.append((len(differ), text))
        wanted = len(self._plan.trials) * len(names.fields)
        count = sum(other.ends for other in others)
        warn(
            f"sweep(checkpoint=...): 0 of {wanted} runs found in {self._directory.path}; the "
            f"{count} that are there differ in {min(differences)[1]}."
        )


def width_in_store(path: Path | None, identity: Identity, platform: str) -> int | None:
    """The width of runs of this task in a directory; runs of the same sweep come first."""
    if path is None:
        return None
    directory = StoreDirectory(path)
    paths = directory.glob("records-*.npz")
    for path in sorted(paths, key=lambda path: identity.writer not in path.name):
        with contextlib.suppress(ValueError):  # damaged, or no number
            for root in decoded(*directory.read(path))[0]:
                own = {name: root.fields.get(name, "") for name in ("width", "seed")}
                if root.fields in [run | own | {"platform": platform} for run in identity.runs]:
                    return int(own["width"])
    return None
