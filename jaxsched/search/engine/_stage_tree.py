"""The stage tree: which trials share a run, and up to which step.

Trials whose values agree bit for bit up to step t are trained once up to t and fork there. The tree
is read off the values, since a program sees nothing else. A comparison of settings would miss the
warmup that two different recipes share; a cooldown started by hand from a checkpoint would not
check that the beginnings agree.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

import numpy as np

from jaxsched.search.engine._values import BLOCK, ScheduleValues


@dataclasses.dataclass(frozen=True)
class Stage:
    """Updates ``start`` to ``stop - 1``, shared by ``trials``."""

    index: int
    parent: int | None
    start: int
    stop: int
    trials: tuple[int, ...]


def stage_tree(
    table: ScheduleValues, cuts: Iterable[int] = (), share_prefixes: bool = True
) -> list[Stage]:
    """All stages in a fixed order: depth first, children by their first trial.

    Args:
        table: the trials' values.
        cuts: steps at which every stage ends, such as the rungs of successive halving.
        share_prefixes: ``False`` trains every trial by itself from step 0.
    """
    cuts, stages = list(cuts), list[Stage]()
    everyone = tuple(range(len(table.horizons)))
    groups = [everyone] if share_prefixes else [(trial,) for trial in everyone]
    # (parent, start, trials); a stack, since recursion would be as deep as there are forks.
    todo: list[tuple[int | None, int, tuple[int, ...]]] = []
    for group in reversed(groups):
        todo += [(None, 0, part) for part in reversed(_parts(table, 0, group))]
    while todo:
        parent, start, group = todo.pop()
        limit = int(min(table.horizons[list(group)]))
        limit = min([limit, *(cut for cut in cuts if cut > start)])
        stop, index = _agreement(table, start, limit, group), len(stages)
        stages.append(Stage(index, parent, start, stop, group))
        todo += [(index, stop, part) for part in reversed(_parts(table, stop, group))]
    return stages


def _parts(table: ScheduleValues, step: int, group: tuple[int, ...]) -> list[tuple[int, ...]]:
    """The trials of a group that go on at ``step``, grouped by their values there."""
    parts: dict[bytes, list[int]] = {}
    for trial in group:
        if table.horizons[trial] > step:
            parts.setdefault(table.values(trial, step, step + 1).tobytes(), []).append(trial)
    return [tuple(part) for part in parts.values()]


def _agreement(table: ScheduleValues, start: int, limit: int, group: tuple[int, ...]) -> int:
    """The first step at which two of the group differ, or ``limit``.

    Each trial is compared with the first one, block by block: linear in trials and steps. Hashes
    of prefixes would need all values of all trials before the first stage is known.
    """
    at = start
    while len(group) > 1 and at < limit:
        end = min((at // BLOCK + 1) * BLOCK, limit)
        # Bits, not numbers: 0.0 and -0.0 are two values, and a NaN equals itself.
        first = table.values(group[0], at, end).view(np.uint32)
        differs = np.zeros(end - at, bool)
        for trial in group[1:]:
            differs |= (table.values(trial, at, end).view(np.uint32) != first).any(axis=0)
        if differs.any():
            return at + int(differs.argmax())
        at = end
    return limit
