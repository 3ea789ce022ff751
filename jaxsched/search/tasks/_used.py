"""Which hyperparameters act on what a task trains."""

from __future__ import annotations

from typing import Any

import jax

from jaxsched.search.tasks._averaged import Averaged
from jaxsched.search.tasks._dependence import flow, sources
from jaxsched.search.tasks._supervised import Supervised
from jaxsched.search.tasks._traced import TaskShape


def check_used(
    hyperparams: tuple[str, ...], task: Any, shape: TaskShape, where: str = "sweep"
) -> None:
    """Raises unless every hyperparameter acts on the loss, or on a metric through the state.

    One that is only reported, as a metric or in a part of the state that nothing reads, does not.

    Args:
        hyperparams: the names that ``step`` is given.
        task: whose ``step`` it is.
        shape: of the task; where it has an evaluation, the metrics of that count too.
        where: the caller's name, for the error.

    Raises:
        ValueError: with the names of those that do not: all their values would train one run.
    """
    step, names = flow(shape.step), sorted(hyperparams)
    size = len(jax.tree.leaves(shape.state))
    # The state comes first, then the hyperparameters; bits of other inputs do no harm.
    after = step.reads[:size]
    loss = step.reads[size + sorted(shape.metrics).index("loss")]
    read = loss
    if shape.evaluate is not None:
        for mask in flow(shape.evaluate).reads:
            read |= mask
    read = sources(read, after)
    dead = []
    for k, name in enumerate(names):
        bit = 1 << (size + k)
        changed = sum(1 << i for i in range(size) if after[i] & bit)
        if not changed & read and not (loss | step.escapes) & bit:
            dead.append(name)
    if not dead:
        return
    while isinstance(task, Averaged):
        task = task.task
    named, same = " and ".join(dead), "its values are all the same run. "
    if isinstance(task, Supervised) and read:
        why = (
            f"Supervised(optimizer=...) ignores {named}, so {same}Make the optimizer of the "
            f"function's arguments, as `lambda {dead[0]}: optax.adam({dead[0]})` does."
        )
    else:
        why = (
            f"{same}Build the optimizer in `step`, of `hyperparams`; or, if it is fixed in `init` "
            "(a TrainState, an nnx.Optimizer), let it be "
            "`optax.inject_hyperparams(optax.adam)(learning_rate=0.0)` and set the value in its "
            "state before each update. docs/tasks.md shows both."
        )
    raise ValueError(
        f"{where}(task=...): step must use all hyperparameters that are scheduled, but "
        f"{' and '.join(map(repr, dead))} has no effect on the state that it trains: {why}"
    )
