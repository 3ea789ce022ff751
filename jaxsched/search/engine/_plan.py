"""The plan of a sweep: everything that is known before the first update."""

from __future__ import annotations

import bisect
import dataclasses
from functools import cached_property

from jaxsched.search.engine._folds import Fold
from jaxsched.search.engine._program import Feed
from jaxsched.search.engine._records import RunCurves
from jaxsched.search.engine._stage_tree import Stage, leaves, path
from jaxsched.search.engine._values import ScheduleValues


@dataclasses.dataclass(frozen=True)
class Plan:
    """What is trained, in which pieces, and where it is evaluated.

    Args:
        folds: the task, or one for each fold.
        table: the values of all trials.
        stages: the stage tree of the trials.
        seeds: of the initial states and of the data order.
        every: updates between evaluations, or ``None``: at the end of a run only.
        watch: the validation metric that controllers are told.
        rungs: steps at which trials are compared and some are stopped.
        limit: a training loss above it counts as diverged.
        train, validation: names of the metrics.
        feed: the batches.
    """

    folds: tuple[Fold, ...]
    table: ScheduleValues
    stages: list[Stage]
    seeds: tuple[int, ...]
    every: int | None
    watch: str
    rungs: tuple[int, ...]
    limit: float
    train: tuple[str, ...]
    validation: tuple[str, ...]
    feed: Feed

    @cached_property
    def children(self) -> dict[int, list[int]]:
        found: dict[int, list[int]] = {stage.index: [] for stage in self.stages}
        for stage in self.stages:
            if stage.parent is not None:
                found[stage.parent].append(stage.index)
        return found

    @cached_property
    def leaf(self) -> dict[int, Stage]:
        return leaves(self.stages, self.table.horizons)

    def path(self, trial: int) -> list[Stage]:
        """The stages of a trial, the first one first."""
        return path(self.stages, self.leaf[trial])

    def runs(self) -> list[tuple[int, int]]:
        """(fold, seed) positions; everything below is done once for each."""
        return [(f, s) for f in range(len(self.folds)) for s in range(len(self.seeds))]

    def empty_curves(self) -> RunCurves:
        return RunCurves.empty(self.train, self.validation)

    def evaluations(self, stage: Stage) -> list[int]:
        """After how many updates the state is evaluated, within (start, stop]."""
        return self._evaluations[stage.index]

    def evaluates(self, stage: Stage, step: int) -> bool:
        """Whether ``step`` is one of them."""
        steps = self._evaluations[stage.index]
        at = bisect.bisect_left(steps, step)
        return at < len(steps) and steps[at] == step

    @cached_property
    def _evaluations(self) -> list[list[int]]:
        return [self._evaluated_in(stage) for stage in self.stages]

    def _evaluated_in(self, stage: Stage) -> list[int]:
        steps = {rung for rung in self.rungs if stage.start < rung <= stage.stop}
        if self.every is not None:
            first = (stage.start // self.every + 1) * self.every
            steps |= set(range(first, stage.stop + 1, self.every))
        if any(self.table.horizons[trial] == stage.stop for trial in stage.trials):
            steps.add(stage.stop)
        return sorted(steps)
