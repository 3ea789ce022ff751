"""Makes the plan of a sweep: every check that needs no training."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import jax

from jaxsched._arrays import INT32_MAX
from jaxsched._checks import MANY, checked_text, checked_whole
from jaxsched.search import _arguments as arguments
from jaxsched.search.engine import _controlled
from jaxsched.search.engine._folds import Fold, trace_folds
from jaxsched.search.engine._plan import Plan
from jaxsched.search.engine._program import Feed
from jaxsched.search.engine._records import OpenRun
from jaxsched.search.engine._stage_tree import stage_tree
from jaxsched.search.engine._stopping import StoppingRule
from jaxsched.search.engine._values import ROWS, ScheduleValues
from jaxsched.search.tasks._protocol import Task
from jaxsched.search.trials._trials import Trials

LENGTH = ROWS  # of the tables of a compiled call, so the most updates that one makes
_BATCHES = 16 << 20  # bytes: fewer rows where a task's batches are the data themselves


def make_plan(
    task: Task,
    trials: Trials,
    *,
    steps: int | None = None,
    seeds: int | Iterable[int] = 1,
    folds: int | None = None,
    evaluate_every: int | None = None,
    watch: str = "loss",
    metric: str = "loss",
    maximize: bool = False,
    stopping: StoppingRule | None = None,
    limit: float = math.inf,
    share: bool = True,
    watched: bool = False,
    traced: tuple[Fold, ...] | None = None,
) -> Plan:
    """The plan, after every check that needs no training."""
    if steps is not None:
        steps = checked_whole("sweep(steps=...)", steps, 1, INT32_MAX)
    if evaluate_every is not None:
        evaluate_every = checked_whole("sweep(evaluate_every=...)", evaluate_every, 1, INT32_MAX)
    known_seeds = arguments.seeds(seeds)
    arguments.number("limit", limit)
    if stopping is not None and not (
        isinstance(stopping, StoppingRule) and not isinstance(stopping, type)
    ):
        raise TypeError(f"sweep(stopping=...) must be None or a StoppingRule, got {stopping!r}.")
    for name, text in {"metric": metric, "watch": watch}.items():
        arguments.text(name, text)
    table = ScheduleValues(trials, steps, watched)
    longest = int(table.horizons.max())
    if folds is not None:
        folds = checked_whole("sweep(folds=...)", folds, 2, MANY)
    traced = trace_folds(task, folds, table.names, longest) if traced is None else traced
    shape = traced[0].shape
    if metric not in shape.validation:
        raise ValueError(
            f"sweep(metric=...) must be one of {sorted(shape.validation)}, got {metric!r}."
        )
    _controlled.check(table, watch, evaluate_every, metric, maximize, shape)
    train = tuple(sorted({*shape.metrics, *(table.names if table.watched else ())}))
    arguments.curves(
        longest,
        len(trials) * len(traced) * len(known_seeds),
        longest // (evaluate_every or longest),
        len(train),
        len(shape.validation),
    )
    rungs = stopping.rungs(longest) if stopping is not None else ()
    cuts = {*rungs}
    if table.watched and evaluate_every is not None:
        cuts |= set(range(evaluate_every, longest, evaluate_every))
    return Plan(
        folds=traced,
        table=table,
        stages=stage_tree(table, cuts, share),
        seeds=known_seeds,
        every=evaluate_every,
        watch=watch,
        rungs=rungs,
        limit=limit,
        train=train,
        validation=tuple(sorted(shape.validation)),
        feed=Feed(_length(shape.batch), longest),
    )


def root_runs(plan: Plan) -> list[OpenRun]:
    """The work of a sweep at its beginning; the last one comes first."""
    opened = _controlled.root_runs(plan)
    return [OpenRun(key, 0, None, plan.empty_curves(), states) for key, states in opened][::-1]


def _length(batch: Any) -> int:
    size = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(batch))
    length = LENGTH
    while length > 1 and length * size > _BATCHES:
        length //= 2
    return length
