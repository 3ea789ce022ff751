"""Does a task update its parameters in every step? One that gathers gradients by itself does not.

A schedule counts updates. Where a step is a micro-batch (``optax.MultiSteps``, ``apply_every``, a
counter by hand), its value is applied in one step of several, and the others are lost.

Two ways to see it, both before training: the state of Optax's own accumulators; and the traced step
itself, followed from its first counters on, for a step that hands on whatever the loss reads, or in
which no hyperparameter acts (the ascent of ``optax.contrib.sam``).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxsched.search.tasks._averaged import Averaged
from jaxsched.search.tasks._dependence import Value, flow, follow, sources, union
from jaxsched.search.tasks._supervised import Supervised

# By their fields, since a Flax state of an optimizer keeps the names only.
_ACCUMULATORS = {
    "optax.MultiSteps": {"mini_step", "gradient_step", "acc_grads"},
    "optax.apply_every": {"count", "grad_acc"},
}
_STEPS = 256  # how far counters are followed where parameters rest


def check_every_step(
    caller: str, state: Any, init: Any, step: Any, loss: int, hyperparams: int
) -> None:
    """Raises a ``ValueError`` if updates come in some of the steps only.

    Args:
        caller: the caller's name.
        state: the abstract state.
        init, step, loss, hyperparams: as for ``periods``.
    """
    held = _accumulator(state)
    steps, acts = periods(init, step, loss, hyperparams)
    begin = (
        f"{caller}(task=...): a step must be an update of the optimizer, whose schedules count "
        "them, but "
    )
    if held is not None or steps is not None:
        k, alone = ("k", " (with k=1 that is all)") if steps is None else (steps, "")
        raise ValueError(
            f"{begin}this one changes the parameters in one of {k} steps only"
            + ("" if held is None else f", by {held}")
            + f". Take the accumulation out of the optimizer{alone}, and give "
            f"`Supervised(accumulation={k})`; a task of yours means the gradients of its "
            "micro-batches within one step."
        )
    if acts is not None:
        raise ValueError(
            f"{begin}the hyperparameters act in one of {acts} steps only, and their values in the "
            "others are lost. Let one step do the whole update, in a task of your own (for "
            "optax.contrib.sam, with opaque_mode=True)."
        )


def periods(init: Any, step: Any, loss: int, hyperparams: int) -> tuple[int | None, int | None]:
    """In one of how many steps parameters are updated, and in one of how many a value acts.

    ``None`` where that isn't seen to be few.

    Args:
        init: closed jaxpr, whose outputs are the initial state.
        step: closed jaxpr, whose first inputs are the state and the hyperparameters, and whose
            first outputs are the state.
        loss: the output of ``step`` that is the loss.
        hyperparams: how many there are.
    """
    count, inputs = len(init.jaxpr.outvars), step.jaxpr.invars
    counts = [_counts(var) for var in inputs[:count]]
    if not any(counts):
        return None, None
    begun = follow(init, [Value()] * len(init.jaxpr.invars))
    counters = [x.constant if own else None for x, own in zip(begun, counts, strict=True)]
    reads = flow(step).reads
    lasting = sources(reads[loss], reads[:count])
    given = range(count, count + hyperparams)
    ever = any(lasting >> i & 1 and reads[i] >> k & 1 for i in range(count) for k in given)
    moved: list[int] = []
    acted: list[int] = [] if ever else [0, 1]
    for t in range(_STEPS):
        state = [Value(known=i if x is None else x) for i, x in enumerate(counters)]
        others = [Value(reads=1 if k in given else 0) for k in range(count, len(inputs))]
        after = follow(step, [*state, *others])[:count]
        if not _rests(inputs, after, reads[loss]):
            moved.append(t)
        if any(x.reads for i, x in enumerate(after) if lasting >> i & 1):
            acted.append(t)
        if len(moved) > 1 and len(acted) > 1:
            break
        counters = [x.constant for x in after]
    return _distance(moved), _distance(acted)


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


# ---------------------------------------------------------------------------------------- details


def _distance(times: list[int]) -> int | None:
    return times[1] - times[0] if len(times) > 1 and times[1] - times[0] > 1 else None


def _rests(inputs: list[Any], after: list[Value], loss: int) -> bool:
    """Whether all floating parts of the state that the loss depends on are handed on."""
    read = [
        x.is_input(i)
        for i, x in enumerate(after)
        if loss >> i & 1 and jnp.issubdtype(inputs[i].aval.dtype, np.inexact)
    ]
    return bool(read) and all(read)


def _accumulator(state: Any) -> str | None:
    """The name of an accumulator of Optax and where it is, if there is one."""

    def named(node: Any) -> str | None:
        own = node if isinstance(node, Mapping) else getattr(node, "_fields", ())
        fields = {str(name) for name in own}
        return next((name for name, has in _ACCUMULATORS.items() if has <= fields), None)

    nodes = jax.tree_util.tree_leaves_with_path(state, is_leaf=lambda x: named(x) is not None)
    for path, node in nodes:
        if name := named(node):
            return f"{name} at state{jax.tree_util.keystr(path)}"
    return None


def _counts(var: Any) -> bool:
    return not var.aval.shape and jnp.issubdtype(var.aval.dtype, np.integer)
