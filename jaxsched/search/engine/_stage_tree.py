"""The stage tree: which trials are one and the same run, and up to where.

Trials whose values agree bit for bit up to step t are trained once up to t and fork there. Nobody
annotates anything: the tree is read off the values, which are all that a program is given. Where
settings are compared instead, the warmup that two recipes share is missed; where a person starts a
cooldown from a checkpoint by hand, nothing checks that the beginnings agree.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

import numpy as np

from jaxsched.search.engine._values import BLOCK, ScheduleValues


@dataclasses.dataclass(frozen=True)
class Stage:
    """Updates ``start`` to ``stop - 1``, which ``trials`` have in common."""

    index: int
    parent: int | None
    start: int
    stop: int
    trials: tuple[int, ...]


def stage_tree(
    table: ScheduleValues, cuts: Iterable[int] = (), share_prefixes: bool = True
) -> list[Stage]:
    """All stages, parents before children, in a fixed order.

    Args:
        table: the trials' values.
        cuts: steps at which every stage ends, such as the rungs of successive halving.
        share_prefixes: ``False`` trains every trial by itself from step 0.
    """
    tree = _Tree(table, sorted(cuts))
    everyone = tuple(range(len(table.horizons)))
    for group in [everyone] if share_prefixes else [(trial,) for trial in everyone]:
        tree.open(None, 0, group)
    while tree.todo:
        tree.grow(*tree.todo.pop())
    return tree.in_order()


def path(stages: list[Stage], leaf: Stage) -> list[Stage]:
    """From the root down to ``leaf``."""
    found = [leaf]
    while found[-1].parent is not None:
        found.append(stages[found[-1].parent])
    return found[::-1]


def leaves(stages: list[Stage], horizons: np.ndarray) -> dict[int, Stage]:
    """The last stage of every trial."""
    return {
        trial: stage for stage in stages for trial in stage.trials if stage.stop == horizons[trial]
    }


class _Tree:
    def __init__(self, table: ScheduleValues, cuts: list[int]):
        self.table = table
        self.cuts = cuts
        self.made: list[Stage] = []
        self.todo: list[tuple[int | None, int, tuple[int, ...]]] = []

    def open(self, parent: int | None, start: int, group: tuple[int, ...]) -> None:
        """One new stage for each set of trials in ``group`` that agree at ``start``."""
        alive = [trial for trial in group if self.table.horizons[trial] > start]
        parts: dict[bytes, list[int]] = {}
        for trial in alive:
            parts.setdefault(self.table.values(trial, start, start + 1).tobytes(), []).append(trial)
        for part in parts.values():
            self.todo.append((parent, start, tuple(part)))

    def grow(self, parent: int | None, start: int, group: tuple[int, ...]) -> None:
        """Finds how long the trials of ``group`` agree, and opens what follows."""
        limit = int(min(self.table.horizons[list(group)]))
        limit = min([limit, *(cut for cut in self.cuts if cut > start)])
        stop = self._agreement(start, limit, group)
        index = len(self.made)
        self.made.append(Stage(index, parent, start, stop, group))
        self.open(index, stop, group)

    def _agreement(self, start: int, limit: int, group: tuple[int, ...]) -> int:
        """The first step at which two of the group differ, or ``limit``.

        Block by block, each trial against the first one: linear in trials and steps. Hashes of
        prefixes would need all values of all trials before the first stage is known.
        """
        at = start
        while len(group) > 1 and at < limit:
            end = min((at // BLOCK + 1) * BLOCK, limit)
            # Bits, not numbers: 0.0 and -0.0 are two values, and a NaN equals itself.
            first = self.table.values(group[0], at, end).view(np.uint32)
            differs = np.zeros(end - at, bool)
            for trial in group[1:]:
                differs |= (self.table.values(trial, at, end).view(np.uint32) != first).any(axis=0)
            if differs.any():
                return at + int(differs.argmax())
            at = end
        return limit

    def in_order(self) -> list[Stage]:
        """Renumbered depth first, children by their first trial: the order is nobody's accident."""
        children: dict[int | None, list[Stage]] = {}
        for stage in self.made:
            children.setdefault(stage.parent, []).append(stage)
        ordered: list[Stage] = []
        todo: list[tuple[int | None, Stage]] = []

        def push(parent: int | None, old: int | None) -> None:
            todo.extend((parent, s) for s in sorted(children.get(old, []), key=_last_first))

        push(None, None)
        while todo:
            parent, stage = todo.pop()
            index = len(ordered)
            ordered.append(dataclasses.replace(stage, index=index, parent=parent))
            push(index, stage.index)
        return ordered


def _last_first(stage: Stage) -> int:
    return -stage.trials[0]


def shard_trials(stages: list[Stage], horizons: np.ndarray, index: int, count: int) -> list[int]:
    """The trials of one process: neighbours in the stage tree, which share the most."""
    order = [t for s in stages for t in s.trials if s.stop == horizons[t]]
    return sorted(int(t) for t in np.array_split(order, count)[index])
