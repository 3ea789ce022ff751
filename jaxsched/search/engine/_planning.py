"""Makes the plan of a sweep, with every check that needs its trials or its task."""

from __future__ import annotations

from typing import Any

import jax

from jaxsched._bounds import check_choice
from jaxsched._checks import check_room
from jaxsched.search.engine import _controlled
from jaxsched.search.engine._devices import nbytes
from jaxsched.search.engine._plan import Plan
from jaxsched.search.engine._request import Request
from jaxsched.search.engine._stage_tree import stage_tree
from jaxsched.search.engine._values import BLOCK, ROWS, ScheduleValues
from jaxsched.search.tasks._protocol import Task, updates_per_step
from jaxsched.search.tasks._returned import of_weights
from jaxsched.search.tasks._traced import trace_folds
from jaxsched.search.trials._trials import Trials

LENGTH = BLOCK  # rows of the tables of a compiled call: the most updates of one
_BATCHES = 16 << 20  # bytes of batches in a call: fewer rows where a batch is large
_COPIES = 2  # of a curve: that of the runs, and that of the result
_EVALUATION, _STAGE = 100, 1500  # bytes of Python objects for each, at least


def make_plan(task: Task, trials: Trials, request: Request, owner: Any = None) -> Plan:
    """The plan of all trials of a request; ``owner`` is as in ``trace_folds``.

    Raises:
        TypeError, ValueError: as ``sweep``.
    """
    objective, every = request.objective, request.evaluate_every
    table = ScheduleValues(trials, request.steps, updates=updates_per_step("sweep", task))
    longest = int(table.horizons.max())
    folds = trace_folds(task, request.folds, table.hyperparams, longest, owner)
    shape = folds[0].shape
    check_choice("sweep(metric=...)", objective.metric, sorted(shape.validation))
    _check_sense(objective.metric, request.maximize)
    _controlled.check(table, request.monitor, every, objective, shape)
    train = tuple(sorted({*shape.metrics, *(table.names if table.watched else ())}))
    rungs = objective.stopping.rungs(longest) if objective.stopping is not None else ()
    reported = range(every, longest, every) if table.watched and every is not None else ()
    each = len(folds) * len(request.seeds)
    evaluations = max(longest // (every or longest), len(rungs))
    curves = longest * len(train) + evaluations * len(shape.validation)
    check_room(
        "sweep(steps=...)",
        _COPIES * 4 * curves * len(trials) * each
        + _EVALUATION * evaluations
        + _STAGE * each * max(len(rungs), len(reported)),
        f"the curves, got {longest} steps and {evaluations} evaluations of "
        f"{len(trials) * each} runs",
        "Train fewer steps or runs, evaluate or compare less often, or return fewer metrics.",
    )
    cuts = frozenset({*rungs, *reported})
    return Plan(
        trials=trials,
        folds=folds,
        table=table,
        stages=stage_tree(table, cuts, request.share_prefixes),
        objective=objective,
        seeds=request.seeds,
        every=every,
        monitor=request.monitor,
        limit=request.limit,
        rungs=rungs,
        cuts=cuts,
        share_prefixes=request.share_prefixes,
        length=chunk_length(shape.batch, request.width),
        train=train,
        validation=tuple(sorted(shape.validation)),
    )


def _check_sense(metric: str, maximize: bool | None) -> None:
    """Raises unless it is known whether more of the metric is better: a name says nothing of it."""
    known = of_weights(metric) == "loss"
    if maximize is None and not known:
        raise ValueError(
            f"sweep(maximize=...) must be given for {metric!r}: True if more of it is better, "
            "False if less is, got None."
        )
    if maximize and known:
        raise ValueError(
            f"sweep(maximize=...) must be False for {metric!r}, which is minimized, got True. "
            "Write metric=... for the metric of which more is better."
        )


def chunk_length(batch: Any, width: int | str | None) -> int:
    """Updates of a chunk, by the batch of one and the width that is asked for.

    A launch costs as much as ten updates of a tiny model, so one run on a CPU has long tables; of
    many lanes they would fill the memory.
    """
    alone = width in (None, 1) and jax.default_backend() == "cpu"
    length, size = LENGTH if alone else min(LENGTH, ROWS), nbytes(batch)
    while length > 1 and length * size > _BATCHES:
        length //= 2
    return length
