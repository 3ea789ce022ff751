"""Pieces: the measurements of consecutive updates, and how a file holds them."""

from __future__ import annotations

import bisect
import dataclasses
import operator
from collections.abc import Iterable

import numpy as np

from jaxsched.search._files import Damaged, Expected, check_arrays, typed
from jaxsched.search.store._fields import Fields

FORMAT = 4
_Roots = list[tuple[Fields, int, int, Fields]]  # fields, start, stop, notes
# root, start, point, stop, evaluated, diverged, ends
_Pieces = list[tuple[int, int, str, int, list[int], int, int]]


class Earlier(Damaged):
    """A file of an earlier version of jaxsched."""


@dataclasses.dataclass(frozen=True)
class Piece:
    """The measurements of updates ``start`` to ``stop - 1`` of a run."""

    root: int  # the number of its fold and seed, in the file or in the store
    start: int  # its first update
    point: str  # the digest of all that the run has read before
    values: np.ndarray  # float32 [hyperparameters, updates], as applied
    train: dict[str, np.ndarray]  # metric -> [updates]
    validation: dict[str, np.ndarray]  # metric -> [evaluations]
    evaluated: list[int]  # the steps of the evaluations
    diverged: int  # the last update if its loss was not finite, or -1
    ends: int  # how many trials end with it
    narrowed: bool  # as of an ``OpenRun``
    until: int = 0  # before this update its batches are known to be the plan's
    file: str = ""  # the name of its file

    @property
    def stop(self) -> int:
        return self.start + self.values.shape[1]

    def evaluations(self, start: int, stop: int) -> list[int]:
        """The steps after ``start``, up to ``stop``, with an evaluation."""
        at = [bisect.bisect_right(self.evaluated, step) for step in (start, stop)]
        return self.evaluated[slice(*at)]

    def agreed(self, start: int, values: np.ndarray) -> int:
        """The step up to which a run with these values from ``start`` on agrees with this one."""
        first = max(self.start, start)
        ours = values[:, first - start : max(first, self.stop) - start]
        theirs = self.values[:, first - self.start :][:, : ours.shape[1]]
        # Bits, not numbers: 0.0 and -0.0 are two values, and a NaN equals itself.
        differs = (ours.view(np.uint32) != theirs.view(np.uint32)).any(axis=0)
        length = int(differs.argmax()) if differs.any() else ours.shape[1]
        return min(first + length, self.until)


@dataclasses.dataclass(frozen=True)
class Root:
    """The identity of the runs of one fold and seed before their first update."""

    fields: Fields  # name -> text
    start: int  # the updates with known batches
    stop: int
    # Notes do not identify the runs: "machine", the kind that has trained them; "narrowed", their
    # only sweep; the arrays of the task, to say which one differs.
    notes: Fields
    sums: bytes  # their checksums


def encoded(roots: list[Root], pieces: list[Piece]) -> tuple[object, dict[str, np.ndarray]]:
    """A JSON value and arrays, for a file. Pieces are joined: a file of many has few arrays."""
    # 64 runs with 3 metrics would have 256 arrays, each a member of the archive with a header and a
    # digest of its own. Joined they are 4, and each piece takes the next part of them.
    meta = [
        FORMAT,
        [[root.fields, root.start, root.stop, root.notes] for root in roots],
        [[p.root, p.start, p.point, p.stop, p.evaluated, p.diverged, p.ends] for p in pieces],
    ]
    arrays = {f"sums/{i}": np.frombuffer(root.sums, np.uint8) for i, root in enumerate(roots)}
    arrays["values"] = np.concatenate([p.values for p in pieces], axis=1)
    for group in ("train", "validation"):
        for name in getattr(pieces[0], group):
            joined = np.concatenate([getattr(p, group)[name] for p in pieces])
            arrays[f"{group}/{name}"] = joined
    return meta, arrays


def decoded(meta: object, arrays: dict[str, np.ndarray]) -> tuple[list[Root], list[Piece]]:
    """The roots and pieces of a file.

    Raises:
        Damaged: if it is of another format, or does not belong together.
    """
    version, *_ = meta if isinstance(meta, list) and meta else [None]
    if version != FORMAT:
        is_before = type(version) is int and 0 < version < FORMAT
        raise (Earlier if is_before else Damaged)(f"it has format {version!r}")
    _, of_roots, entries = typed(tuple[int, _Roots, _Pieces], meta, "its JSON")
    groups: dict[str, dict[str, np.ndarray]] = {"train": {}, "validation": {}}
    for path, array in arrays.items():
        group, _, name = path.partition("/")
        if group in groups:
            groups[group][name] = array
    _check_pieces(of_roots, entries, arrays, groups)
    roots = [
        Root(fields, start, stop, notes, arrays[f"sums/{i}"].tobytes())
        for i, (fields, start, stop, notes) in enumerate(of_roots)
    ]
    # The pieces have joint arrays, in which each takes the next updates and evaluations.
    pieces, update, evaluation = list[Piece](), 0, 0
    for root, start, point, stop, evaluated, diverged, ends in entries:
        updates = slice(update, update := update + stop - start)
        evaluations = slice(evaluation, evaluation := evaluation + len(evaluated))
        train = {name: curve[updates] for name, curve in groups["train"].items()}
        validation = {name: x[evaluations] for name, x in groups["validation"].items()}
        values = arrays["values"][:, updates]
        measured = (values, train, validation, evaluated, diverged, ends)
        pieces.append(Piece(root, start, point, *measured, "narrowed" in roots[root].notes))
    return roots, pieces


def _check_pieces(
    roots: _Roots,
    entries: _Pieces,
    arrays: dict[str, np.ndarray],
    groups: dict[str, dict[str, np.ndarray]],
) -> None:
    """Raises Damaged unless the JSON fits the arrays."""
    for i, (root, start, _, stop, evaluated, diverged, ends) in enumerate(entries):
        steps = [start, *evaluated]
        increasing = all(map(operator.lt, steps, steps[1:])) and steps[-1] <= stop
        known = 0 <= root < len(roots) and 0 <= start < stop and ends >= 0
        if not (increasing and known and diverged in (-1, stop - 1)):
            raise Damaged(f"piece {i}: its numbers contradict each other")
    updates = sum(stop - start for _, start, _, stop, *_ in entries)
    evaluations = sum(len(entry[4]) for entry in entries)
    rows = np.shape(arrays.get("values", 0))[:1]
    sums = {name: array.shape for name, array in arrays.items() if name.startswith("sums/")}
    wanted: dict[str, Expected] = {"values": (np.float32, (*rows, updates))}
    wanted |= {f"train/{name}": (np.float32, (updates,)) for name in ("loss", *groups["train"])}
    for name, curve in groups["validation"].items():
        # A metric that is an integer, or of 64 bits, is reported to controllers in float64.
        dtype = np.float64 if curve.dtype == np.float64 else np.float32
        wanted[f"validation/{name}"] = (dtype, (evaluations,))
    wanted |= {f"sums/{i}": (np.uint8, sums.get(f"sums/{i}", ())) for i in range(len(roots))}
    check_arrays(arrays, wanted)


def joined(
    parts: Iterable[tuple[Piece, int]], start: int, stop: int, evaluated: Iterable[int]
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """The curves of updates ``start`` to ``stop - 1`` with the evaluations at some steps.

    Args:
        parts: pieces, each with the step up to which it belongs to this run; together they cover
            all. A later one counts: the earlier one has another width, or the same bits.
        start, stop: at least one update.
        evaluated: the steps.
    """
    train: dict[str, np.ndarray] = {}
    validation: dict[str, list[np.ndarray]] = {}
    where: dict[int, tuple[Piece, int]] = {}
    for piece, end in parts:
        first, last = max(start, piece.start), min(end, stop)
        for name, curve in piece.train.items() if first < last else ():
            joint = train.setdefault(name, np.full(stop - start, np.nan, np.float32))
            joint[first - start : last - start] = curve[first - piece.start : last - piece.start]
        for i in range(*(bisect.bisect_right(piece.evaluated, step) for step in (start, end))):
            where[piece.evaluated[i]] = (piece, i)
        for name in piece.validation:
            validation.setdefault(name, [np.zeros(0, np.float32)])
    for piece, i in map(where.__getitem__, evaluated):
        for name, values in validation.items():
            values.append(piece.validation[name][i : i + 1])
    return train, {name: np.concatenate(values) for name, values in validation.items()}


def in_order(values: np.ndarray) -> bytes:
    """Update by update, so that a digest does not depend on where it was interrupted."""
    return np.ascontiguousarray(values.T).tobytes()
