"""Extra arguments of an update, ``value=`` above all, on their way to their readers.

``optax.with_extra_args_support``, which Optax's wrappers use, looks at the class and drops what any
other object takes (``optax.MultiSteps`` among them). So ours look at the signature, and the
arguments of one of ours reach those of ours below, whatever lies between.
"""

from __future__ import annotations

import contextlib
import contextvars
import functools
import inspect
import itertools
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxsched._types import PyTree

# Extra arguments reach a reader below through `_FORWARDED`, past JAX's back: they are not among the
# arguments of what is compiled there. `jax.jit` would find its program of the last update again and
# with it that update's loss, as a constant. A user context is a part of the key of every cache of
# JAX, so within a number that is new in each call nothing is found again.
_CALL = jax.make_user_context(None)
_CALLS = itertools.count()


class Forwarder:
    """Forwards the extra arguments of an optimizer's updates to those below it.

    A function below may be compiled by itself, behind a wrapper that drops the extra arguments. It
    would keep the numbers of the update in which it was traced. So it is traced anew in every trace
    of the update and, once one is found, in every update that is not traced.
    """

    def __init__(self) -> None:
        self.anew = False

    def update(
        self, tx: Any, updates: PyTree, state: PyTree, params: PyTree = None, **extra: Any
    ) -> tuple[PyTree, PyTree]:
        """``tx.update`` with those of the extra arguments that it takes."""
        # A traced update is compiled as a whole, so a new part of its trace costs nothing later.
        # An eager one would compile what is below anew each time, so it does only once a reader was
        # found behind a wrapper (`self.anew`).
        forwarded, traced = {**_FORWARDED.get()[0], **extra}, _is_traced(updates)
        token = _FORWARDED.set((forwarded, None if traced else self))
        anew = bool(forwarded) and (traced or self.anew)
        try:
            with _CALL(next(_CALLS)) if anew else contextlib.nullcontext():
                return tx.update(updates, state, params, **_extras_taken(tx, extra))
        finally:
            _FORWARDED.reset(token)


# What was forwarded, and by whom if its update is not traced.
_FORWARDED: contextvars.ContextVar[tuple[dict[str, Any], Forwarder | None]] = (
    contextvars.ContextVar("extra", default=({}, None))
)


def update(
    tx: Any, updates: PyTree, state: PyTree, params: PyTree = None, **extra: Any
) -> tuple[PyTree, PyTree]:
    """``tx.update`` with those of the extra arguments that it takes."""
    return (_FORWARDED.get()[1] or Forwarder()).update(tx, updates, state, params, **extra)


def with_forwarded(extra: dict[str, Any], updates: PyTree) -> dict[str, Any]:
    """``extra``, and the arguments of an update of ours further out where these are ``None``."""
    forwarded, forwarder = _FORWARDED.get()
    # An argument that was handed all the way wins; one that is None is as good as dropped.
    dropped = {name: x for name, x in forwarded.items() if extra.get(name) is None}
    if forwarder is not None and dropped and _is_traced(updates):
        forwarder.anew = True
    return {**extra, **dropped}


def gates(state: PyTree) -> list[PyTree]:
    """The states of what gathers or skips gradients of all parameters, at any depth.

    Not those within groups (``partition``, ``masked``), of which others may be updated meanwhile.
    """
    kinds = (optax.MultiStepsState, optax.ApplyEvery, optax.ApplyIfFiniteState)
    ends = (*kinds, optax.transforms.PartitionState, optax.MaskedState)
    # The search stops at each of them, so that the outer ones come first, and those within are
    # looked for in what they wrap.
    parts = jax.tree.leaves(state, is_leaf=lambda x: isinstance(x, ends))
    states = [x for x in parts if isinstance(x, kinds)]
    inner = [getattr(x, "inner_opt_state", getattr(x, "inner_state", ())) for x in states]
    return states + (gates(inner) if states else [])


def passed(before: PyTree, after: PyTree, updates: PyTree) -> Any:
    """Whether a gate has let an update through, of which ``updates`` came out."""
    if isinstance(after, optax.ApplyIfFiniteState):
        # When it gives up, its state doesn't tell, but what comes out is not finite. Nor is it zero
        # where something beside the guard moves the parameters, a weight decay or a momentum.
        moved = [jnp.any(x != 0) for x in jax.tree.leaves(updates)]
        return functools.reduce(jnp.logical_or, moved, after.last_finite)
    if isinstance(after, optax.ApplyEvery):  # it counts to k, and from 0 again with each update
        return after.count == 0
    return after.gradient_step != before.gradient_step


def _is_traced(tree: PyTree) -> bool:
    return any(isinstance(x, jax.core.Tracer) for x in jax.tree.leaves(tree))


def _extras_taken(tx: Any, extra: dict[str, Any]) -> dict[str, Any]:
    """Those extra arguments that an optimizer's ``update`` takes."""
    if hasattr(tx.update, "lower"):  # one of jax.jit takes no functions
        extra = {name: x for name, x in extra.items() if not callable(x)}
    try:
        parameters = inspect.signature(tx.update).parameters
    except (TypeError, ValueError):  # not written in Python
        return extra if isinstance(tx, optax.GradientTransformationExtraArgs) else {}
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return extra
    first = list(parameters)[:3]  # updates, state, params
    return {name: x for name, x in extra.items() if name in parameters and name not in first}
