"""The stage tree: which trials share a run, and up to which step.

Trials with bit-for-bit equal values up to step t are trained once up to t and fork there. The tree
is read off the values, since a program sees nothing else. A comparison of settings would miss a
warmup shared by two different recipes. A cooldown started by hand from a checkpoint would not check
whether the beginnings agree.
"""

from __future__ import annotations

import bisect
import dataclasses
import itertools
from collections.abc import Iterable

import numpy as np

from jaxsched.search.engine._values import BLOCK, ScheduleValues

_BYTES = 128 << 20  # of values sorted at once


@dataclasses.dataclass(frozen=True)
class Stage:
    """Updates ``start`` to ``stop - 1``, shared by ``trials``; the last ones for ``ended``."""

    index: int
    parent: int | None
    start: int
    stop: int
    trials: tuple[int, ...]
    ended: tuple[int, ...]


def stage_tree(
    table: ScheduleValues, cuts: Iterable[int] = (), share_prefixes: bool = True
) -> list[Stage]:
    """All stages in a fixed order: depth first, children by their first trial.

    Args:
        table: the trials' values.
        cuts: steps at which every stage ends, such as the rungs of successive halving.
        share_prefixes: ``False`` trains every trial by itself from step 0.
    """
    trials, cuts, stages = _SortedTrials(table, share_prefixes), sorted(cuts), list[Stage]()
    # (parent, start, positions); a stack, since recursion would be as deep as there are forks.
    todo: list[tuple[int | None, int, int, int]] = []
    todo += [(None, 0, *part) for part in trials.parts(0, 0, len(table.horizons))]
    while todo:
        parent, start, low, high = todo.pop()
        at, index = bisect.bisect_right(cuts, start), len(stages)
        stop = min([trials.shared(low, high), *cuts[at : at + 1]])
        # A trial shares nothing beyond its horizon, so that its end is a fork as well.
        ended = trials.at(low + np.flatnonzero(trials.horizons[low:high] == stop))
        stages.append(Stage(index, parent, start, stop, trials.at(slice(low, high)), ended))
        if len(ended) < high - low:
            todo += [(index, stop, *part) for part in trials.parts(stop, low, high)]
    return stages


class _SortedTrials:
    """The trials in the order of their values: a stage's trials are a range of positions in it.

    ``common[i]`` is how many updates the trial at i shares with the trial at i - 1. So a range
    shares the least of its numbers, its first excepted.
    """

    # With five updates and the values
    #
    #     A: 1 1 1 .8 .6        B: 1 1 1 .9 .8        C: 1 1 .5 0 0
    #
    # the order is C B A: B shares 2 updates with C, and A shares 3 with B, so common = [0, 2, 3].
    # The least, the first excepted, is 2: updates 0 and 1 are one stage of all three. They part
    # where common is at most 2, into C and B A. For these two the least is 3: update 2 is a stage
    # of both, and then each has one of its own. No trial is compared with another again.

    def __init__(self, table: ScheduleValues, share_prefixes: bool):
        everyone = range(len(table.horizons))
        order, common = (
            _sorted_by_values(table) if share_prefixes else (everyone, [0] * len(everyone))
        )
        self._order, self._common = np.array(order), np.array(common)
        self._numbers = np.array(everyone, object)
        self.horizons = table.horizons[self._order]

    def at(self, positions: slice | np.ndarray) -> tuple[int, ...]:
        """The numbers of the trials at some positions, in their own order."""
        # All stages of a trial share one Python integer for it.
        return tuple(self._numbers[np.sort(self._order[positions])])

    def shared(self, low: int, high: int) -> int:
        """How many updates a range of trials has in common."""
        return int(self._common[low + 1 : high].min() if high > low + 1 else self.horizons[low])

    def parts(self, step: int, low: int, high: int) -> list[tuple[int, int]]:
        """The ranges of the trials that go on at ``step``, the part of the first trial last.

        The caller pushes them on a stack, and so pops the first trial's part first.
        """
        begins = np.array([low, *(low + 1 + np.flatnonzero(self._common[low + 1 : high] <= step))])
        # ``order[:high]``, since the last part of a ``reduceat`` goes to the end of the array.
        firsts = np.minimum.reduceat(self._order[:high], begins)
        spans = np.stack([begins, np.append(begins[1:], high)], axis=1)
        goes_on = self.horizons[begins] > step  # one that ends here is a part by itself
        backwards = np.argsort(-firsts[goes_on])
        return spans[goes_on][backwards].tolist()


def _sorted_by_values(table: ScheduleValues) -> tuple[list[int], list[int]]:
    """The trials in the order of their values, and the updates shared with the one before.

    So equal beginnings are neighbors, and the tree is known without comparing every trial again at
    every fork: linear in trials and steps, but for the logarithm of the sort. Values are read in
    windows, further on only for the trials that agree so far.
    """
    order, common = list[int](), list[int]()
    # (trials that agree up to a step, this step, common updates with the trial before them)
    todo = [(list(range(len(table.horizons))), 0, 0)]
    while todo:
        group, start, before = todo.pop()
        if len(group) == 1:
            order += group
            common.append(before)
            continue
        # Within one block: values are computed by the block.
        window = max(1, _BYTES // (4 * len(table.names) * len(group)))
        stop = min(start + window, (start // BLOCK + 1) * BLOCK)
        # Any order with equal beginnings side by side will do; the order of bytes is the fastest.
        rows = {t: _value_bytes(table, t, start, stop) for t in group}
        group = sorted(group, key=lambda t: (rows[t], table.horizons[t]))
        groups = [([group[0]], stop, before)]
        for last, trial in itertools.pairwise(group):
            shared = start + _agreeing_values(rows[last], rows[trial]) // len(table.names)
            if shared == stop and table.horizons[last] > stop:  # the shorter of the two goes on
                groups[-1][0].append(trial)
            else:
                groups.append(([trial], stop, shared))
        todo += reversed(groups)
    return order, common


def _value_bytes(table: ScheduleValues, trial: int, start: int, stop: int) -> bytes:
    """The values of some updates, one after another; bits, so 0.0 and -0.0 are two values."""
    return table.values(trial, start, min(stop, int(table.horizons[trial]))).T.tobytes()


def _agreeing_values(a: bytes, b: bytes) -> int:
    """How many values agree at the beginning."""
    if a == b:
        return len(a) // 4
    length = min(len(a), len(b))
    x, y = (np.frombuffer(row[:length], np.uint32) for row in (a, b))
    differs = x != y
    return int(differs.argmax()) if differs.any() else length // 4
