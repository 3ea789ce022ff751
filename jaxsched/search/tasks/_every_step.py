"""Does a task update its parameters in every step? One that gathers gradients by itself does not.

A schedule counts updates. Where a step is a micro-batch (``optax.MultiSteps``, ``apply_every``, a
counter by hand), its value is applied in one step of several, and the others are lost.

Two ways to see it, both before training: the state of Optax's own accumulators; and the traced step
itself, followed from its first counters on, for a step that hands on whatever the loss reads, or in
which no hyperparameter acts (the ascent of ``optax.contrib.sam``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Literal

from jaxsched.search.tasks._dependence import flow

# By their fields, since a Flax state of an optimizer keeps the names only.
_ACCUMULATORS = {
    "optax.MultiSteps": {"mini_step", "gradient_step", "acc_grads"},
    "optax.apply_every": {"count", "grad_acc"},
}
_STEPS = 256  # how far counters are followed where parameters rest


def check_every_step(
    where: str, state: Any, init: Any, step: Any, loss: int, hyperparams: int
) -> None:
    """Raises a ``ValueError`` if updates come in some of the steps only.

    Args:
        where: the caller's name.
        state: the abstract state.
        init, step, loss, hyperparams: as for ``periods``.
    """
    held = _accumulator(state)
    steps, acts = periods(init, step, loss, hyperparams)
    begin = (
        f"{where}(task=...): a step must be an update of the optimizer, whose schedules count "
        "them, but "
    )
    if held is not None or steps is not None:
        often = "some steps" if steps is None else f"one of {steps} steps"
        raise ValueError(
            f"{begin}this one changes the parameters in {often} only"
            + ("" if held is None else f", by {held}")
            + f". Take the accumulation out of the optimizer, and give "
            f"`Supervised(accumulation={'k' if steps is None else steps})`; a task of yours means "
            "the gradients of its micro-batches within one step."
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
    state = inputs[:count]
    if not any(map(_counts, state)):
        return None, None
    begun = _followed(init, [_Seen()] * len(init.jaxpr.invars))
    counters = [x.known if _counts(var) else None for x, var in zip(begun, state, strict=True)]
    reads = flow(step).reads
    lasting = _lasting(reads, loss, count)
    given = range(count, count + hyperparams)
    ever = any(reads[i] >> k & 1 for i in lasting for k in given)
    moved: list[int] = []
    acted: list[int] = [] if ever else [0, 1]
    for t in range(_STEPS):
        known = [_Seen(i if x is None else x) for i, x in enumerate(counters)]
        rest = [_Seen(acts=k in given) for k in range(count, len(inputs))]
        after = _followed(step, [*known, *rest])[:count]
        if not _rests(step, after, reads[loss]):
            moved.append(t)
        if any(after[i].acts for i in lasting):
            acted.append(t)
        if len(moved) > 1 and len(acted) > 1:
            break
        counters = [
            x.known if isinstance(x.known, np.ndarray) else counters[i] if _is(x.known, i) else None
            for i, x in enumerate(after)
        ]
    return _distance(moved), _distance(acted)


# ---------------------------------------------------------------------------------------- details


def _distance(times: list[int]) -> int | None:
    return times[1] - times[0] if len(times) > 1 and times[1] - times[0] > 1 else None


def _rests(step: Any, after: list[_Seen], loss: int) -> bool:
    """Whether all floating parts of the state that the loss depends on are handed on."""
    floating = [jnp.issubdtype(v.aval.dtype, np.inexact) for v in step.jaxpr.invars[: len(after)]]
    moved = [i for i, x in enumerate(after) if floating[i] and not _is(x.known, i)]
    return any(loss >> i & 1 for i, floats in enumerate(floating) if floats) and not any(
        loss >> i & 1 for i in moved
    )


def _lasting(reads: Sequence[int], loss: int, count: int) -> list[int]:
    """The parts of the state that the loss depends on, now or after more steps."""
    found, before = reads[loss], -1
    while found != before:
        before = found
        for i in range(count):
            if found >> i & 1:
                found |= reads[i]
    return [i for i in range(count) if found >> i & 1]


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


class _Seen(NamedTuple):
    """What is known of a value: an array of no axes, which fills it; the number of the input that
    it is; or nothing. And whether a hyperparameter acts on it."""

    known: np.ndarray | int | None = None
    acts: bool = False


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


def _followed(closed: Any, inputs: Sequence[_Seen]) -> list[_Seen]:
    """What is seen of the outputs."""
    jaxpr = getattr(closed, "jaxpr", closed)
    seen: dict[Any, _Seen] = {}
    for var, const in zip(jaxpr.constvars, getattr(closed, "consts", ()), strict=False):
        seen[var] = _Seen(_filled(const))
    seen.update(zip(jaxpr.invars, inputs, strict=True))

    def read(atom: Any) -> _Seen:
        return _Seen(_filled(atom.val)) if isinstance(atom, Literal) else seen.get(atom, _Seen())

    for eqn in jaxpr.eqns:
        found = _of_equation(eqn, [read(atom) for atom in eqn.invars])
        seen.update(zip(eqn.outvars, found, strict=True))
    return [read(atom) for atom in jaxpr.outvars]


def _of_equation(eqn: Any, inputs: list[_Seen]) -> list[_Seen]:
    name, params = eqn.primitive.name, eqn.params
    if name == "cond":
        index, *rest = inputs
        branches = params["branches"]
        if isinstance(index.known, np.ndarray):
            branches = [branches[int(np.clip(index.known, 0, len(branches) - 1))]]
        ways = zip(*(_followed(branch, rest) for branch in branches), strict=True)
        return [_either(way, index.acts) for way in ways]
    for key in _CALLS:
        called = params.get(key)
        inner = getattr(called, "jaxpr", called)
        if name != "scan" and len(getattr(inner, "invars", ())) == len(inputs) and called:
            return _followed(called, inputs)
    if name == "select_n":
        which, *cases = inputs
        if isinstance(which.known, np.ndarray):
            return [cases[int(which.known)]]
        return [_either(cases, which.acts)]
    if name in ("add", "add_any", "sub", "mul", "div"):
        return [_arithmetic(name, inputs, eqn.outvars[0].aval)]
    acts = any(x.acts for x in inputs)
    found = [_value(eqn, [x.known for x in inputs])] if len(eqn.outvars) == 1 else []
    if found and isinstance(found[0], np.ndarray):
        acts = False
    return [_Seen(x, acts) for x in found or [None] * len(eqn.outvars)]


def _value(eqn: Any, inputs: list[Any]) -> Any:
    """What is known of the one output of other operations."""
    name, out = eqn.primitive.name, eqn.outvars[0].aval
    if name in _SHAPES or name == "convert_element_type":
        x, before = inputs[0], eqn.invars[0].aval
        if isinstance(x, np.ndarray):
            return x.astype(out.dtype)
        return x if (before.shape, before.dtype) == (out.shape, out.dtype) else None
    if name in _NUMPY and all(isinstance(x, np.ndarray) for x in inputs):
        return np.asarray(_NUMPY[name](*inputs)).astype(out.dtype)
    return None


def _arithmetic(name: str, inputs: list[_Seen], out: Any) -> _Seen:
    """Nothing is added, and nought times anything is nought: what is finite is meant here."""
    x, y = inputs

    def of(value: _Seen, number: int) -> bool:
        return isinstance(value.known, np.ndarray) and bool(value.known == number)

    if name in ("add", "add_any") and of(x, 0):
        return y
    if name in ("add", "add_any", "sub") and of(y, 0):
        return x
    if (name in ("mul", "div") and of(x, 0)) or (name == "mul" and of(y, 0)):
        return _Seen(np.zeros((), out.dtype))
    if name in ("mul", "div") and of(y, 1):
        return x
    if name == "mul" and of(x, 1):
        return y
    if name in _NUMPY and isinstance(x.known, np.ndarray) and isinstance(y.known, np.ndarray):
        return _Seen(np.asarray(_NUMPY[name](x.known, y.known)).astype(out.dtype))
    return _Seen(acts=x.acts or y.acts)


def _filled(value: Any) -> Any:
    """A constant of one number."""
    dtype = getattr(value, "dtype", None)
    numeric = dtype is None or not jnp.issubdtype(dtype, jax.dtypes.extended)
    if numeric and np.size(value) == 1:
        return np.asarray(jax.device_get(value)).reshape(())
    return None


def _either(cases: Sequence[_Seen], chosen: bool) -> _Seen:
    """What is seen whichever of them it is; ``chosen``: by a hyperparameter."""
    first = cases[0].known
    same = all(type(x.known) is type(first) and bool(x.known == first) for x in cases)
    acts = (len(cases) > 1 and chosen) or any(x.acts for x in cases)
    return _Seen(first if same else None, acts)


def _is(x: Any, number: int) -> bool:
    """Whether it is the input of that number."""
    return isinstance(x, int) and x == number


def _counts(var: Any) -> bool:
    return not var.aval.shape and jnp.issubdtype(var.aval.dtype, np.integer)
