"""Does a task update its parameters in every step? One that gathers gradients by itself does not.

A schedule counts updates. Where a step is a micro-batch (``optax.MultiSteps``, ``apply_every``, a
counter by hand), its value is applied in one step of several, and the others are lost.

Two ways to see it, both before training: the state of Optax's own accumulators; and the traced step
itself, followed from its first counters on, for a step that hands on whatever the loss reads.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Literal

from jaxsched.search._dependence import flow

# By their fields, since a Flax state of an optimizer keeps the names only.
_ACCUMULATORS = {
    "optax.MultiSteps": {"mini_step", "gradient_step", "acc_grads"},
    "optax.apply_every": {"count", "grad_acc"},
}
_STEPS = 256  # how far counters are followed where parameters rest


def check_every_step(where: str, state: Any, init: Any, step: Any, loss: int) -> None:
    """Raises a ``ValueError`` if updates come in some of the steps only.

    Args:
        where: the caller's name.
        state: the abstract state.
        init, step, loss: as for ``period``.
    """
    held = _accumulator(state)
    steps = period(init, step, loss)
    if held is None and steps is None:
        return
    often = "some steps" if steps is None else f"one of {steps} steps"
    raise ValueError(
        f"`{where}(task=...)`: a step must be an update of the optimizer, whose schedules count "
        f"them, but this one changes the parameters in {often} only"
        + ("" if held is None else f", by {held}")
        + f". Take the accumulation out of the optimizer, and give "
        f"`Supervised(accumulation={'k' if steps is None else steps})`; a task of yours means the "
        "gradients of its micro-batches within one step."
    )


def period(init: Any, step: Any, loss: int) -> int | None:
    """In one of how many steps parameters are updated, or ``None`` if that isn't seen to be few.

    Args:
        init: closed jaxpr, whose outputs are the initial state.
        step: closed jaxpr, whose first inputs and outputs are the state.
        loss: the output of ``step`` that is the loss.
    """
    count = len(init.jaxpr.outvars)
    state = step.jaxpr.invars[:count]
    if not any(map(_counts, state)):
        return None
    found = _followed(init, [None] * len(init.jaxpr.invars))
    counters = [x if _counts(var) else None for x, var in zip(found, state, strict=True)]
    moved: list[int] = []
    for t in range(_STEPS):
        inputs = [i if x is None else x for i, x in enumerate(counters)]
        after = _followed(step, [*inputs, *[None] * (len(step.jaxpr.invars) - count)])[:count]
        if not _rests(step, after, loss):
            moved.append(t)
        if len(moved) > 1:
            return moved[1] - moved[0] if moved[1] - moved[0] > 1 else None
        counters = [
            x
            if isinstance(x, np.ndarray)
            else counters[i]
            if isinstance(x, int) and x == i
            else None
            for i, x in enumerate(after)
        ]
    return None


# ---------------------------------------------------------------------------------------- details


def _rests(step: Any, after: list[Any], loss: int) -> bool:
    """Whether all floating parts of the state that the loss depends on are handed on."""
    floating = [jnp.issubdtype(v.aval.dtype, np.inexact) for v in step.jaxpr.invars[: len(after)]]
    moved = [i for i, x in enumerate(after) if floating[i] and not _is(x, i)]
    if len(moved) == sum(floating):
        return False
    reads = flow(step).reads[loss]
    return any(reads >> i & 1 for i, floats in enumerate(floating) if floats) and not any(
        reads >> i & 1 for i in moved
    )


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


# What is known of a value: an array of no axes, which fills it; the number of the input that it
# is; or nothing.
_Known = np.ndarray | int | None

_NUMPY = {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "max": np.maximum,
    "min": np.minimum,
    "rem": np.fmod,
    "eq": np.equal,
    "ne": np.not_equal,
    "lt": np.less,
    "le": np.less_equal,
    "gt": np.greater,
    "ge": np.greater_equal,
    "and": np.bitwise_and,
    "or": np.bitwise_or,
    "xor": np.bitwise_xor,
    "not": np.invert,
    "neg": np.negative,
    "sign": np.sign,
}
_SHAPES = {"broadcast_in_dim", "reshape", "squeeze", "expand_dims", "transpose", "copy", "copy_p"}
_CALLS = ("jaxpr", "call_jaxpr", "fun_jaxpr")


def _followed(closed: Any, inputs: Sequence[Any]) -> list[Any]:
    """What is known of the outputs."""
    jaxpr = getattr(closed, "jaxpr", closed)
    known: dict[Any, Any] = {}
    for var, const in zip(jaxpr.constvars, getattr(closed, "consts", ()), strict=False):
        known[var] = _filled(const)
    known.update(zip(jaxpr.invars, inputs, strict=True))

    def read(atom: Any) -> Any:
        return _filled(atom.val) if isinstance(atom, Literal) else known.get(atom)

    for eqn in jaxpr.eqns:
        found = _of_equation(eqn, [read(atom) for atom in eqn.invars])
        known.update(zip(eqn.outvars, found, strict=True))
    return [read(atom) for atom in jaxpr.outvars]


def _of_equation(eqn: Any, inputs: list[Any]) -> list[Any]:
    name, params, out = eqn.primitive.name, eqn.params, eqn.outvars[0].aval
    if name == "cond":
        index, *rest = inputs
        branches = params["branches"]
        if isinstance(index, np.ndarray):
            branches = [branches[int(np.clip(index, 0, len(branches) - 1))]]
        return [_agreed(same) for same in zip(*(_followed(b, rest) for b in branches), strict=True)]
    for key in _CALLS:
        called = params.get(key)
        inner = getattr(called, "jaxpr", called)
        if name != "scan" and len(getattr(inner, "invars", ())) == len(inputs) and called:
            return _followed(called, inputs)
    if name == "select_n":
        which, *cases = inputs
        return [cases[int(which)] if isinstance(which, np.ndarray) else _agreed(cases)]
    if name in _SHAPES or name == "convert_element_type":
        (x,) = inputs[:1]
        if isinstance(x, np.ndarray):
            return [x.astype(out.dtype)]
        before = eqn.invars[0].aval
        return [x if (before.shape, before.dtype) == (out.shape, out.dtype) else None]
    if name in ("add", "add_any", "sub", "mul", "div"):
        return [_arithmetic(name, inputs, out)]
    if name in _NUMPY and all(isinstance(x, np.ndarray) for x in inputs):
        return [np.asarray(_NUMPY[name](*inputs)).astype(out.dtype)]
    return [None] * len(eqn.outvars)


def _arithmetic(name: str, inputs: list[Any], out: Any) -> Any:
    """Nothing is added, and nought times anything is nought: what is finite is meant here."""
    x, y = inputs

    def of(value: Any, number: int) -> bool:
        return isinstance(value, np.ndarray) and bool(value == number)

    if name in ("add", "add_any") and of(x, 0):
        return y
    if name in ("add", "add_any", "sub") and of(y, 0):
        return x
    if (name in ("mul", "div") and of(x, 0)) or (name == "mul" and of(y, 0)):
        return np.zeros((), out.dtype)
    if name in ("mul", "div") and of(y, 1):
        return x
    if name == "mul" and of(x, 1):
        return y
    if name in _NUMPY and isinstance(x, np.ndarray) and isinstance(y, np.ndarray):
        return np.asarray(_NUMPY[name](x, y)).astype(out.dtype)
    return None


def _filled(value: Any) -> Any:
    """A constant of one number."""
    dtype = getattr(value, "dtype", None)
    numeric = dtype is None or not jnp.issubdtype(dtype, jax.dtypes.extended)
    if numeric and np.size(value) == 1:
        return np.asarray(jax.device_get(value)).reshape(())
    return None


def _agreed(values: Sequence[Any]) -> Any:
    """What is known whichever of them it is."""
    first = values[0]
    same = all(type(x) is type(first) and bool(x == first) for x in values)
    return first if same else None


def _is(x: Any, number: int) -> bool:
    """Whether it is the input of that number."""
    return isinstance(x, int) and x == number


def _counts(var: Any) -> bool:
    return not var.aval.shape and jnp.issubdtype(var.aval.dtype, np.integer)
