"""Does every step of a task update its parameters, and does every hyperparameter act on them?

A schedule counts updates. Where a step is a micro-batch (``optax.MultiSteps``, ``apply_every``, a
counter by hand), its value is applied in one step of several, and the others are lost.

Two ways to see it, both before training: the state of Optax's own accumulators; and the traced step
itself, followed from its first counters on, for a step that hands on whatever the loss reads, or in
which no hyperparameter acts (the ascent of ``optax.contrib.sam``).
"""

from __future__ import annotations

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Jaxpr, Var

from jaxsched._text import shorten
from jaxsched.search._fingerprint import aval_of, opened
from jaxsched.search.tasks._averaged import Averaged
from jaxsched.search.tasks._dependence import Value, called_by, flow, follow, sources, union
from jaxsched.search.tasks._protocol import State, Task
from jaxsched.search.tasks._returned import TaskShape
from jaxsched.search.tasks._supervised import Supervised

# By their fields, since a Flax state of an optimizer keeps the names only.
_ACCUMULATORS = {
    "optax.MultiSteps": {"mini_step", "gradient_step", "acc_grads"},
    "optax.apply_every": {"count", "grad_acc"},
}
_STEPS = 256  # how far counters are followed where parameters rest


def check_every_step(caller: str, shape: TaskShape, hyperparams: int) -> None:
    """Raises a ``ValueError`` if updates come in some of the steps only."""
    accumulator = _accumulator_name(shape.state)
    steps, acts = _update_periods(shape, hyperparams)
    begin = (
        f"{caller}(task=...): a step must be an update of the optimizer, whose schedules count "
        "them, but "
    )
    if accumulator is not None or steps is not None:
        k, alone = ("k", " (with k=1 that is all)") if steps is None else (steps, "")
        raise ValueError(
            f"{begin}this one changes the parameters in one of {k} steps only"
            + ("" if accumulator is None else f", by {accumulator}")
            + f". Take the accumulation out of the optimizer{alone}, and give "
            f"`Supervised(accumulation={k})`; a task of yours takes the mean of its "
            "micro-batches' gradients within one step."
        )
    if acts is not None:
        raise ValueError(
            f"{begin}the hyperparameters act in one of {acts} steps only, and their values in the "
            "others are lost. Let one step do the whole update, in a task of your own (for "
            "optax.contrib.sam, with opaque_mode=True)."
        )


def check_used(caller: str, task: Task, hyperparams: tuple[str, ...], shape: TaskShape) -> None:
    """Raises a ``ValueError`` that names the hyperparameters without effect on the run.

    A hyperparameter must act on the loss, or on a metric through the state. It is without effect if
    it is only reported, as a metric or in an unread part of the state.
    """
    # A hyperparameter acts if the loss of the step reads it, if a callback hands it to the host, or
    # if it changes a part of the state that a loss or metric reads, now or after any number of
    # updates (`sources`). Adam's learning rate acts by the parameters alone: a step returns the
    # loss before its update.
    reads, _, escapes = flow(shape.step)
    size = len(shape.dtypes)
    after, own = reads[:size], reads[shape.loss]  # bits of inputs beyond the state do no harm
    read = own | union(flow(shape.evaluate).reads if shape.evaluate else [])
    read = sources(read, after)
    dead = []
    for k, name in enumerate(sorted(hyperparams), size):
        changed = sum(1 << i for i in range(size) if after[i] >> k & 1)
        if not changed & read and not (own | escapes) >> k & 1:
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


def check_all_read(caller: str, shape: TaskShape, hyperparams: int) -> None:
    """Raises a ``ValueError`` for updates within a step that read no hyperparameter."""
    first = len(shape.dtypes)
    given = shape.step.jaxpr.invars[first : first + hyperparams]
    read = set().union(*(_rows_read(shape.step.jaxpr, var) for var in given))
    if lost := sorted(set(range(shape.updates)) - read):
        raise ValueError(
            f"{caller}(task=...): step must use the values of all of its updates_per_step="
            f"{shape.updates} updates, but reads none at {shorten(str(lost))}: they are lost. Let "
            "each update take its own, as by `jax.lax.scan(update, state, "
            'hyperparams["learning_rate"])`.'
        )


def _rows_read(jaxpr: Jaxpr, var: Var) -> set[int]:
    """The rows of an input in use: all, unless only constant slices of it are read."""
    everything = {*range(aval_of(var).shape[0])}
    read = everything.copy() if var in jaxpr.outvars else set()
    for eqn in jaxpr.eqns:
        for place in (i for i, atom in enumerate(eqn.invars) if atom is var):
            if eqn.primitive.name == "slice":
                begin, end = eqn.params["start_indices"][0], eqn.params["limit_indices"][0]
                read |= {*range(begin, end, (eqn.params["strides"] or (1,))[0])}
            elif eqn.primitive.name != "scan" and (called := called_by(eqn)) is not None:
                inner = opened(called)
                read |= _rows_read(inner, inner.invars[place])
            else:
                read |= everything
    return read


def _update_periods(shape: TaskShape, hyperparams: int) -> tuple[int | None, int | None]:
    """The number of steps for one update of the parameters, and for one effect of a value.

    ``None`` where this number is not known to be small.
    """
    count = len(shape.dtypes)
    inputs = [*map(aval_of, shape.step.jaxpr.invars)]
    counts = [not x.shape and jnp.issubdtype(x.dtype, np.integer) for x in inputs[:count]]
    if not any(counts):
        return None, None
    begun = follow(shape.init, [Value()] * len(shape.init.jaxpr.invars))
    # Integers from `init` are followed by their values, since some of them count; all other leaves
    # are followed by their dependences. So a step of `MultiSteps(k=4)` is traced once and walked
    # for t = 0, 1, 2, ...: parameters move at 3 and 7, hence in one of 4 steps. Two such times must
    # be seen: an optimizer with its own warmup from 0 moves nothing only at 0.
    counters = [x.constant if own else None for x, own in zip(begun, counts, strict=True)]
    reads = flow(shape.step).reads
    loss = reads[shape.loss]
    lasting = sources(loss, reads[:count])
    given = range(count, count + hyperparams)
    ever = any(lasting >> i & 1 and reads[i] >> k & 1 for i in range(count) for k in given)
    weights = [
        i for i in range(count) if loss >> i & 1 and jnp.issubdtype(inputs[i].dtype, np.inexact)
    ]
    moved: list[int] = []
    acted: list[int] = [] if ever else [0, 1]  # another check refuses a task if none ever acts
    # A step on known counters: which weights it hands on, and whether a hyperparameter acts.
    for t in range(_STEPS):
        state = [Value(input=i) if x is None else Value(constant=x) for i, x in enumerate(counters)]
        others = [Value(reads=1 if k in given else 0) for k in range(count, len(inputs))]
        after = follow(shape.step, [*state, *others])[:count]
        if not weights or not all(after[i].same == i for i in weights):
            moved.append(t)
        if any(x.reads for i, x in enumerate(after) if lasting >> i & 1):
            acted.append(t)
        if len(moved) > 1 and len(acted) > 1:
            break
        counters = [x.constant for x in after]
    return _period_of(moved), _period_of(acted)


def _period_of(times: list[int]) -> int | None:
    return times[1] - times[0] if len(times) > 1 and times[1] - times[0] > 1 else None


def _accumulator_name(state: State) -> str | None:
    """The name of an accumulator of Optax and where it is, if there is one."""

    def named(node: object) -> str | None:
        own = node if isinstance(node, Mapping) else getattr(node, "_fields", ())
        fields = {str(name) for name in own}
        return next((name for name, has in _ACCUMULATORS.items() if has <= fields), None)

    nodes = jax.tree_util.tree_leaves_with_path(state, is_leaf=lambda x: named(x) is not None)
    for path, node in nodes:
        if name := named(node):
            return f"{name} at state{jax.tree_util.keystr(path)}"
    return None
