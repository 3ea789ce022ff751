"""What a store holds of a run: pieces that begin where others end."""

from __future__ import annotations

import heapq
from typing import Any, NamedTuple

import numpy as np

from jaxsched.search.engine._plan import Plan
from jaxsched.search.engine._records import OpenRun, RunCurves
from jaxsched.search.engine._stage_tree import Stage
from jaxsched.search.store._index import Index
from jaxsched.search.store._names import Names
from jaxsched.search.store._pieces import Piece, in_order, joined

Matched = list[tuple[Piece, int]]  # each with the step up to which it is of the run


class RunPath(NamedTuple):
    """What a run has applied before a stage, and the pieces that go on in the stage.

    Pieces are known by their next values: a root may have as many as there are trials.
    """

    values: Any  # hashlib's; never updated, but copied
    pieces: dict[bytes, list[Piece]] = {}  # noqa: RUF012  # never changed


def matched(
    run: OpenRun, values: np.ndarray, stage: Stage, names: Names, index: Index
) -> tuple[Matched, RunPath]:
    """The pieces of a run that begins, with a ``RunPath``; and the path of the runs that follow.

    ``values`` are those of the stage, float32 [hyperparameters, updates].
    """
    number, start = names.number(run.key), stage.start
    digest, at = run.path.values.copy(), start
    pieces: Matched = []
    todo, seen = [start], {start}
    more = run.path.pieces.get(in_order(values[:, :1]), [])  # they have begun before
    while todo:  # a piece that goes on begins where another one ends
        step = heapq.heappop(todo)
        digest.update(in_order(values[:, at - start : step - start]))
        at = step
        first = in_order(values[:, at - start : at - start + 1])
        for piece in [*more, *index.at(names.point(number, digest, step), first)]:
            if (end := piece.agreed(start, values)) > start:
                pieces.append((piece, end))
            if end == piece.stop < stage.stop and end not in seen:
                seen.add(end)
                heapq.heappush(todo, end)
        more = []
    digest.update(in_order(values[:, at - start :]))
    pieces.sort(key=lambda match: names.order(match[0].file))
    beyond: dict[bytes, list[Piece]] = {}
    for piece, end in pieces:
        if end == stage.stop < piece.stop:
            following = in_order(piece.values[:, end - piece.start : end - piece.start + 1])
            beyond.setdefault(following, []).append(piece)
    return pieces, RunPath(digest, beyond)


def curves_of(pieces: Matched, plan: Plan, stage: Stage, values: np.ndarray) -> RunCurves:
    """The curves up to the first update, or evaluation, that no piece holds."""
    last = max((end for _, end in pieces), default=stage.start)
    gone = [p.diverged for p, end in pieces if p.diverged >= 0 and end == p.stop]
    diverged = gone[-1] if gone else -1
    last = diverged + 1 if gone else last  # pieces of another width may go on
    there = {e for piece, end in pieces for e in piece.evaluations(stage.start, end)}
    evaluated = []
    for step in plan.evaluations(stage):
        if step > (diverged if gone else last):
            break
        if step not in there:
            last, diverged = step - 1, -1
            break
        evaluated.append(step)
    if last <= stage.start:
        return plan.empty_curves()
    train, validation = joined(pieces, stage.start, last, evaluated)
    if plan.table.controlled:
        train |= dict(zip(plan.table.names, values[:, : last - stage.start], strict=True))
    return RunCurves({name: train[name] for name in plan.train}, validation, diverged)
