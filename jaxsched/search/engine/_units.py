"""Units: the parts of a plan that workers train at the same time, each with one fold and one seed.

A unit is a range of trials in the order of the stage tree. Neighbours share a prefix, which both
train if they are cut apart: so the cuts are where this costs least.
"""

from __future__ import annotations

import dataclasses
import heapq
import math
from collections.abc import Callable, Iterable
from typing import NamedTuple, TypeAlias

import numpy as np

from jaxsched.search.engine._ledger import Ledger
from jaxsched.search.engine._plan import Plan

_SLACK = 1.02  # of the time: so much is given for more units, which even out slow workers


# A run that was begun: stage, trials, missing updates, whether they end there.
_Begun: TypeAlias = tuple[int, tuple[int, ...], int, bool]


@dataclasses.dataclass(frozen=True)
class Unit:
    """The work of one worker at once: ``trials`` with a fold and a seed, positions in the plan."""

    fold: int
    seed: int
    trials: tuple[int, ...]
    updates: int  # the missing ones


class Cut(NamedTuple):
    """Units, the longest first, and the updates trained again since several need them."""

    units: list[Unit]
    repeated: int


def cut(
    ledger: Ledger,
    until: int | None,
    most: Callable[[int], int],
    least: int = 1,
    workers: int | None = None,
) -> Cut:
    """Cuts the missing runs of a ledger into units.

    Args:
        ledger: reopened.
        until: stages that begin there or later are left out; ``None`` for none.
        most: missing updates -> how many units there may be. There are more if there are more
            folds and seeds.
        least: trials of a unit, if there are so many: the lanes that train side by side.
        workers: their number. With it there are fewer units where more would repeat too much.
    """
    rows = _missing_rows(ledger, until)
    once = sum(row.cost(0, len(row.trials)) for row in rows)
    parts, history = _cut_repeatedly(rows, most(once), least)
    if workers is not None:
        # Repeated updates count twice: they also cost the workers, which may have other work.
        times = [
            max(longest, total / workers) + (total - once) / workers for longest, total in history
        ]
        best = min(times, default=0.0)
        cuts = max((i for i, time in enumerate(times) if time <= _SLACK * best), default=0)
        parts, _ = _cut_repeatedly(rows, len(rows) + cuts, least)
    units = [
        Unit(rows[r].fold, rows[r].seed, tuple(rows[r].trials[lo:hi]), rows[r].cost(lo, hi))
        for r, lo, hi in parts
    ]
    units.sort(key=lambda unit: (-unit.updates, unit.fold, unit.seed, unit.trials))
    return Cut(units, sum(unit.updates for unit in units) - once)


class _Row(NamedTuple):
    """The trials of a fold and seed that lack something, in the order of the stage tree.

    Three trials of 1000 updates that have 600 in common have ``alone`` 1000, 1000, 1000, and the
    second and the third add 400 each: ``joint`` is 1000, 1400, 1800. All three in one unit cost
    1800. Cut after the first they cost 1000 and 1400, since both units train the 600.
    """

    fold: int
    seed: int
    trials: list[int]
    alone: np.ndarray  # int64 [trials], the updates that a trial lacks
    joint: np.ndarray  # int64 [trials], sums of updates that a trial lacks and the one before has

    def cost(self, lo: int, hi: int) -> int:
        """The updates of the trials ``lo`` to ``hi - 1`` in one unit."""
        return int(self.alone[lo] + self.joint[hi - 1] - self.joint[lo])

    def halves(self, lo: int, hi: int, least: int) -> int:
        """Where to cut, so that the longer part is shortest."""
        at = np.arange(lo + least, hi - least + 1)
        first = self.alone[lo] + self.joint[at - 1] - self.joint[lo]
        second = self.alone[at] + self.joint[hi - 1] - self.joint[at]
        return int(at[np.argmin(np.maximum(first, second))])


def _missing_rows(ledger: Ledger, until: int | None) -> list[_Row]:
    """For each fold and seed, the trials that lack updates."""
    plan = ledger.plan
    begun: dict[tuple[int, int], list[_Begun]] = {}
    for key, curves in ledger.finished.items():
        ends = curves.diverged >= 0
        begun.setdefault(key[1:3], []).append((key.stage, key.trials, 0, ends))
    for run in ledger.unfinished():
        left = plan.stages[run.key.stage].stop - run.at
        begun.setdefault(run.key[1:3], []).append((run.key.stage, run.key.trials, left, False))
    order = np.array([trial for trial in plan.leaf if ledger.stopped[trial] < 0], np.int64)
    known: dict[object, tuple[np.ndarray, np.ndarray]] = {}  # folds and seeds are mostly alike
    rows = []
    for fold, seed in plan.runs:
        of_run = tuple(sorted(begun.get((fold, seed), ())))
        if of_run not in known:
            known[of_run] = _missing_updates(
                plan, order, of_run, math.inf if until is None else until
            )
        alone, more = known[of_run]
        if (lacks := alone > 0).any():
            trials, joint = order[lacks].tolist(), np.cumsum(more[lacks])
            rows.append(_Row(fold, seed, trials, alone[lacks], joint))
    return rows


def _missing_updates(
    plan: Plan, order: np.ndarray, begun: Iterable[_Begun], end: float
) -> tuple[np.ndarray, np.ndarray]:
    """Per trial, int64: its missing updates, and how many of them the trial before has.

    In the order of the tree the trials of a stage are neighbours.
    """
    # Where each trial is in the order; -1 if it was given up.
    place = np.full(len(plan.trials), -1, np.int64)
    place[order] = np.arange(len(order))
    alone, more, goes_on = (np.zeros(len(order), kind) for kind in (np.int64, np.int64, bool))
    goes_on[:] = True
    of_stage: dict[int, list[_Begun]] = {}
    for one in begun:
        of_stage.setdefault(one[0], []).append(one)
    for stage in plan.stages:
        # The places of the stage's trials that have not diverged before it.
        at = place[list(stage.trials)]
        at = np.sort(at[at >= 0])
        at = at[goes_on[at]]
        if stage.start >= end or not at.size:
            continue
        lacks = np.full(len(at), stage.stop - stage.start, np.int64)  # all, if not begun
        for _, trials, left, ends in of_stage.get(stage.index, ()):
            those = place[list(trials)]
            lacks[np.isin(at, those)] = left
            goes_on[those[those >= 0]] &= not ends
        alone[at] += lacks
        # If two neighbours lack the same updates, the second one adds nothing to a unit.
        more[at] += np.maximum(np.diff(lacks, prepend=0), 0)
    return alone, more


def _cut_repeatedly(
    rows: list[_Row], most: int, least: int
) -> tuple[list[tuple[int, int, int]], list[tuple[int, int]]]:
    """The parts (row, lo, hi) after the longest one was cut in two, again and again.

    Second: (updates of the longest part, of all parts) before the first cut and after each.
    """
    # Costs are negative here: `heapq` hands out the least.
    heap = [(-row.cost(0, len(row.trials)), r, 0, len(row.trials)) for r, row in enumerate(rows)]
    heapq.heapify(heap)
    uncut: list[tuple[int, int, int]] = []
    total, longest = -sum(cost for cost, *_ in heap), 0
    history = [(-heap[0][0], total)] if heap else []
    while heap and len(heap) + len(uncut) < most:
        cost, r, lo, hi = heapq.heappop(heap)
        if hi - lo < 2 * least:
            uncut.append((r, lo, hi))
            longest = max(longest, -cost)
            continue
        at = rows[r].halves(lo, hi, least)
        for i, j in ((lo, at), (at, hi)):
            heapq.heappush(heap, (-rows[r].cost(i, j), r, i, j))
            total += rows[r].cost(i, j)
        total += cost
        history.append((max(longest, -heap[0][0]), total))
    return [*uncut, *((r, lo, hi) for _, r, lo, hi in heap)], history
