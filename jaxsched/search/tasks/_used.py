"""Which hyperparameters act on what a task trains."""

from __future__ import annotations

from typing import Any

from jaxsched.search.tasks._averaged import Averaged
from jaxsched.search.tasks._dependence import flow, sources, union
from jaxsched.search.tasks._supervised import Supervised


def check_used(
    caller: str,
    task: Any,
    hyperparams: tuple[str, ...],
    step: Any,
    evaluate: Any,
    size: int,
    loss: int,
) -> None:
    """Raises unless every hyperparameter acts on the loss, or on a metric through the state.

    One that is only reported, as a metric or in a part of the state that nothing reads, does not.

    Args:
        caller: the caller's name.
        task: whose ``step`` it is.
        hyperparams: the names that it is given.
        step: closed jaxpr, whose first inputs are the state and the hyperparameters, and whose
            first outputs are the state.
        evaluate: closed jaxpr, whose first inputs are the state and whose outputs, metrics, count
            too; or ``None``.
        size: how many leaves the state has.
        loss: the output of ``step`` that is the loss.

    Raises:
        ValueError: with the names of those that do not: all their values would train one run.
    """
    reads, _, escapes = flow(step)
    after, own = reads[:size], reads[loss]  # bits of other inputs than these do no harm
    read = own | union(flow(evaluate).reads if evaluate else [])
    read = sources(read, after)
    dead = []
    for k, name in enumerate(sorted(hyperparams)):
        bit = 1 << (size + k)
        changed = sum(1 << i for i in range(size) if after[i] & bit)
        if not changed & read and not (own | escapes) & bit:
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
        f"{caller}(task=...): step must use all hyperparameters that are scheduled, but "
        f"{' and '.join(map(repr, dead))} has no effect on the state that it trains: {why}"
    )
