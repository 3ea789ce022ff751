"""The plan of a sweep: all decisions before the first update."""

from __future__ import annotations

import bisect
import dataclasses
import math
from collections.abc import Iterable, Sequence
from functools import cached_property

import numpy as np

from jaxsched.search.engine._records import RunCurves
from jaxsched.search.engine._stage_tree import Stage, stage_tree
from jaxsched.search.engine._stopping import Objective
from jaxsched.search.engine._values import ScheduleValues
from jaxsched.search.tasks._traced import Fold
from jaxsched.search.trials._trials import Trials


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
    """The runs of a sweep, their stages and their evaluations."""

    trials: Trials  # all of them
    folds: tuple[Fold, ...]  # the task, or one for each fold
    table: ScheduleValues  # the values of the trials
    stages: list[Stage]  # the stage tree of the trials
    objective: Objective  # how trials are compared
    seeds: tuple[int, ...]  # of the initial states and of the data order
    every: int | None = None  # updates between evaluations, or ``None``: at the end of a run only
    monitor: str = "loss"  # the validation metric that controllers observe
    limit: float = math.inf  # a training loss above it counts as diverged
    rungs: Sequence[int] = ()  # steps at which trials are compared and some are stopped
    cuts: frozenset[int] = frozenset()  # steps at which every stage ends, the rungs among them
    share_prefixes: bool = True  # whether trials with equal values are trained once
    length: int  # updates of a chunk: the rows of a program's tables of values and batches
    train: tuple[str, ...]  # names of the metrics
    validation: tuple[str, ...] = ()  # likewise; without any, nothing is evaluated
    caller: str = "sweep"  # the function that was called, for messages

    def shard(self, index: int, count: int) -> list[int]:
        """The trials of one process: neighbours in the stage tree, which share the most."""
        return sorted(map(int, np.array_split(list(self.leaf), count)[index]))

    def select(self, trials: Iterable[int]) -> Plan:
        """The plan of some of the trials, by their positions, for a shard."""
        chosen = tuple(self.trials[trial] for trial in trials)
        table = self.table.select(chosen)
        stages = stage_tree(table, self.cuts, self.share_prefixes)
        return dataclasses.replace(self, trials=chosen, table=table, stages=stages)

    @property
    def longest(self) -> int:
        """Updates of the longest run."""
        return int(self.table.horizons.max())

    @cached_property
    def children(self) -> dict[int, list[int]]:
        found: dict[int, list[int]] = {stage.index: [] for stage in self.stages}
        for stage in self.stages:
            if stage.parent is not None:
                found[stage.parent].append(stage.index)
        return found

    @cached_property
    def leaf(self) -> dict[int, Stage]:
        """The last stage of every trial."""
        return {trial: stage for stage in self.stages for trial in stage.ended}

    def runs(self) -> list[tuple[int, int]]:
        """(fold, seed) positions; each stage is trained once for each of them."""
        return [(f, s) for f in range(len(self.folds)) for s in range(len(self.seeds))]

    def empty_curves(self) -> RunCurves:
        return RunCurves.empty(self.train, self.validation)

    def evaluations(self, stage: Stage) -> list[int]:
        """The steps after which the state is evaluated, within (start, stop]."""
        return self._evaluations[stage.index]

    def evaluates(self, stage: Stage, step: int) -> bool:
        """Whether the state is evaluated after ``step`` updates."""
        steps = self.evaluations(stage)
        at = bisect.bisect_left(steps, step)
        return at < len(steps) and steps[at] == step

    @cached_property
    def _evaluations(self) -> list[list[int]]:
        # Stages of the same updates share a list: there may be as many as trials.
        found: dict[tuple[int, int, bool], list[int]] = {}
        kinds = [(stage.start, stage.stop, bool(stage.ended)) for stage in self.stages]
        return [found.get(k) or found.setdefault(k, self._evaluated_in(*k)) for k in kinds]

    def _evaluated_in(self, start: int, stop: int, ends: bool) -> list[int]:
        if not self.validation:
            return []
        first, last = (bisect.bisect_right(self.rungs, step) for step in (start, stop))
        steps = {*self.rungs[first:last], *([stop] if ends else ())}
        if self.every is not None:
            steps |= set(range((start // self.every + 1) * self.every, stop + 1, self.every))
        return sorted(steps)
