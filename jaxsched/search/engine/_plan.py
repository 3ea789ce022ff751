"""The plan of a sweep: all decisions before the first update."""

from __future__ import annotations

import bisect
import dataclasses
import functools
import math
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from jaxsched._checks import check_room
from jaxsched.search.engine._monitored import check_measured
from jaxsched.search.engine._request import Request
from jaxsched.search.engine._stage_tree import Stage, stage_tree
from jaxsched.search.engine._stopping import Objective
from jaxsched.search.engine._values import BLOCK, ROWS, ScheduleValues
from jaxsched.search.tasks._protocol import Task
from jaxsched.search.tasks._returned import TaskShape
from jaxsched.search.tasks._traced import Fold, trace_folds, updates_per_step
from jaxsched.search.trials._trials import Trials

LENGTH = BLOCK  # rows of the tables of a compiled call: the most updates of one
_BATCHES = 16 << 20  # bytes of batches in a call: fewer rows where a batch is large
_COPIES = 2  # of a curve: one of the runs, one of the result
_EVALUATION, _STAGE = 100, 1500  # bytes of Python objects for each, at least


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
    """The runs of a sweep, their stages and their evaluations.

    All that follows from the fields is a property. So ``dataclasses.replace`` gives the plan of
    other trials, folds or seeds: for a shard, or for a worker.
    """

    trials: Trials  # all of them
    folds: tuple[Fold, ...]  # the task, or one for each fold
    table: ScheduleValues  # the values of the trials
    objective: Objective  # how trials are compared
    seeds: tuple[int, ...]  # of the initial states and of the data order
    every: int | None = None  # updates between evaluations, or ``None``: at the end of a run only
    monitor: str = "loss"  # the validation metric that controllers observe
    limit: float = math.inf  # a training loss above it counts as diverged
    rungs: Sequence[int] = ()  # steps at which trials are compared and some are stopped
    share_prefixes: bool = True  # whether trials with equal values are trained once
    width: int | str | None = None  # the requested lanes, as in ``sweep``
    train: tuple[str, ...]  # names of the metrics
    validation: tuple[str, ...] = ()  # likewise; without any, nothing is evaluated
    doubt: str = ""  # a warning before the training, or ""
    caller: str = "sweep"  # the called function, for messages
    of_all: Plan | None = None  # the plan of all trials, if this is a shard's

    def shard(self, index: int, count: int) -> Plan:
        """The plan of one of ``count`` processes."""
        if not 0 <= index < count <= len(self.trials):
            raise ValueError(
                f"sweep(shard=...) must be (i, n) with 0 <= i < n <= {len(self.trials)} trials, "
                f"got {(index, count)}."
            )
        trials = tuple(self.trials[trial] for trial in self.in_shard(index, count))
        return self.of(trials, of_all=self)

    def of(self, trials: Trials, **changes: Any) -> Plan:
        """The plan of some of the trials, with other ``changes``."""
        return dataclasses.replace(self, trials=trials, table=self.table.of(trials), **changes)

    def in_shard(self, index: int, count: int) -> list[int]:
        """The trials of a shard: neighbours in the stage tree, which share the most."""
        return sorted(map(int, np.array_split(list(self.leaf), count)[index]))

    @property
    def whole(self) -> Plan:
        """The plan of all trials."""
        return self.of_all or self

    @property
    def shape(self) -> TaskShape:
        """The description of the task; folds share all of it but the computations."""
        return self.folds[0].shape

    @property
    def longest(self) -> int:
        """The number of updates of the longest run."""
        return int(self.table.horizons.max())

    @property
    def reported(self) -> Sequence[int]:
        """The steps within the longest run at which evaluations are reported to controllers."""
        every = self.every if self.table.controlled else None
        return () if every is None else range(every, self.longest, every)

    @functools.cached_property
    def stages(self) -> list[Stage]:
        """The stage tree of the trials, cut at rungs and where a report may change values."""
        return stage_tree(self.table, {*self.rungs, *self.reported}, self.share_prefixes)

    @functools.cached_property
    def children(self) -> dict[int, list[int]]:
        children: dict[int, list[int]] = {stage.index: [] for stage in self.stages}
        for stage in self.stages:
            if stage.parent is not None:
                children[stage.parent].append(stage.index)
        return children

    @functools.cached_property
    def leaf(self) -> dict[int, Stage]:
        """The last stage of every trial."""
        return {trial: stage for stage in self.stages for trial in stage.ended}

    @functools.cached_property
    def runs(self) -> list[tuple[int, int]]:
        """(fold, seed) positions; each stage is trained once for each of them."""
        return [(f, s) for f in range(len(self.folds)) for s in range(len(self.seeds))]

    @property
    def widest(self) -> int:
        """The most runs that can go on at once."""
        ends = sum(not children for children in self.children.values())
        return len(self.runs) * (len(self.trials) if self.table.controlled else ends)

    @functools.cached_property
    def length(self) -> int:
        """Updates of a chunk: the rows of a program's tables of values and batches.

        A launch costs as much as ten updates of a tiny model, so one run on a CPU has long tables;
        of many lanes they would fill the memory.
        """
        alone = self.width in (None, 1) and jax.default_backend() == "cpu"
        length = LENGTH if alone else min(LENGTH, ROWS)
        while length > 1 and length * self.shape.batch_bytes > _BATCHES:
            length //= 2
        return length

    def evaluations(self, stage: Stage) -> list[int]:
        """The steps after which the state is evaluated, within (start, stop]."""
        return self._evaluations[stage.index]

    def evaluates(self, stage: Stage, step: int) -> bool:
        """Whether the state is evaluated after ``step`` updates."""
        steps = self.evaluations(stage)
        at = bisect.bisect_left(steps, step)
        return at < len(steps) and steps[at] == step

    @functools.cached_property
    def _evaluations(self) -> list[list[int]]:
        shared = functools.cache(self._evaluated_in)  # there may be as many stages as trials
        return [shared(stage.start, stage.stop, bool(stage.ended)) for stage in self.stages]

    def _evaluated_in(self, start: int, stop: int, ends: bool) -> list[int]:
        """The steps within (start, stop] to evaluate at; ``ends``: a trial has its last step there.

        The start belongs to the parent: its state is evaluated once, before the fork.
        """
        if not self.validation:
            return []
        first, last = (bisect.bisect_right(self.rungs, step) for step in (start, stop))
        steps = {*self.rungs[first:last], *([stop] if ends else ())}
        if self.every is not None:
            steps |= set(range((start // self.every + 1) * self.every, stop + 1, self.every))
        return sorted(steps)


def make_plan(task: Task, trials: Trials, request: Request, owner: Any = None) -> Plan:
    """The plan of a request, for its shard; ``owner`` is as in ``trace_folds``.

    Raises:
        TypeError, ValueError: as ``sweep``.
    """
    updates = updates_per_step("sweep", task)
    table = ScheduleValues(trials, request.steps, updates=updates)
    longest = int(table.horizons.max())
    folds = trace_folds(task, request.folds, table.hyperparams, longest, owner)
    shape = folds[0].shape
    measured, validation = tuple(sorted(shape.metrics)), tuple(sorted(shape.validation))
    doubt = check_measured(request, table, measured, validation)
    train = tuple(sorted({*measured, *(table.names if table.controlled else ())}))
    plan = Plan(
        trials=trials,
        folds=folds,
        table=table,
        objective=request.objective,
        seeds=request.seeds,
        every=request.evaluate_every,
        monitor=request.monitor,
        limit=request.limit,
        rungs=request.objective.rungs(longest),
        share_prefixes=request.share_prefixes,
        width=request.width,
        doubt=doubt,
        train=train,
        validation=validation,
    )
    _check_room_for_curves(plan)
    return plan if request.shard is None else plan.shard(*request.shard)


def _check_room_for_curves(plan: Plan) -> None:
    """Raises if they do not fit into the memory; before anything of their size is built."""
    longest, runs = plan.longest, len(plan.trials) * len(plan.runs)
    evaluations = max(longest // (plan.every or longest), len(plan.rungs))
    numbers = longest * len(plan.train) + evaluations * len(plan.validation)  # of a run
    stages = len(plan.runs) * max(len(plan.rungs), len(plan.reported))
    check_room(
        "sweep(steps=...)",
        _COPIES * 4 * runs * numbers + _EVALUATION * evaluations + _STAGE * stages,
        f"the curves, got {longest} steps and {evaluations} evaluations of {runs} runs",
        "Train fewer steps or runs, evaluate or compare less often, or return fewer metrics.",
    )
