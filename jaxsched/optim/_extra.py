"""Extra arguments of an update, ``value=`` above all, on their way to their readers.

Optax's wrappers use ``optax.with_extra_args_support``. It looks at the class and drops the extra
arguments of any other object (``optax.MultiSteps`` among them). So our optimizers look at the
signature, and their extra arguments reach every optimizer of ours below, through any wrapper.
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

# Extra arguments reach a reader below through `_FORWARDED`, unseen by JAX: they are not arguments
# of the functions compiled there. `jax.jit` would reuse its program of the last update, with that
# update's loss in it as a constant. A user context is a part of the key of every cache of JAX, so
# a new number in each call keeps JAX from reusing an old program.
_CALL = jax.make_user_context(None)
_CALLS = itertools.count()


class Forwarder:
    """Forwards the extra arguments of an optimizer's updates to the optimizers below it.

    A function below may be compiled by itself, behind a wrapper that drops the extra arguments. It
    would keep the numbers of the update in which it was traced. So it is traced anew in every trace
    of the update and, once one is found, in every update that is not traced.
    """

    def __init__(self) -> None:
        self.anew = False

    def update(
        self, tx: Any, updates: PyTree, state: PyTree, params: PyTree = None, **extra: Any
    ) -> tuple[PyTree, PyTree]:
        """``tx.update`` with the extra arguments that it takes."""
        # A traced update is compiled as a whole, so a new part of its trace costs nothing later.
        # An eager update would compile the functions below again each time, so it does this only
        # once a reader was found behind a wrapper (`self.anew`).
        forwarded, traced = {**_FORWARDED.get()[0], **extra}, _is_traced(updates)
        token = _FORWARDED.set((forwarded, None if traced else self))
        anew = bool(forwarded) and (traced or self.anew)
        try:
            with _CALL(next(_CALLS)) if anew else contextlib.nullcontext():
                return tx.update(updates, state, params, **_extras_taken(tx, extra))
        finally:
            _FORWARDED.reset(token)


# The forwarded arguments, and their forwarder if its update is not traced.
_FORWARDED: contextvars.ContextVar[tuple[dict[str, Any], Forwarder | None]] = (
    contextvars.ContextVar("extra", default=({}, None))
)


def update(
    tx: Any, updates: PyTree, state: PyTree, params: PyTree = None, **extra: Any
) -> tuple[PyTree, PyTree]:
    """``tx.update`` with the extra arguments that it takes."""
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
    """The states of wrappers that gather or skip gradients of all parameters, at any depth.

    States within groups (``partition``, ``masked``) do not count: other groups may be updated
    meanwhile.
    """
    kinds = (optax.MultiStepsState, optax.ApplyEvery, optax.ApplyIfFiniteState)
    ends = (*kinds, optax.transforms.PartitionState, optax.MaskedState)
    # The search stops at each of them, so that the outer ones come first; a second search looks
    # for more in the states that they wrap.
    parts = jax.tree.leaves(state, is_leaf=lambda x: isinstance(x, ends))
    states = [x for x in parts if isinstance(x, kinds)]
    inner = [getattr(x, "inner_opt_state", getattr(x, "inner_state", ())) for x in states]
    return states + (gates(inner) if states else [])


def passed(before: PyTree, after: PyTree, updates: PyTree) -> Any:
    """Whether a gate has let an update through; ``updates`` are the gate's output."""
    if isinstance(after, optax.ApplyIfFiniteState):
        # When it gives up, its state doesn't show it, but its updates are not finite. They are not
        # zero either where a weight decay or a momentum beside the guard moves the parameters.
        moved = [jnp.any(x != 0) for x in jax.tree.leaves(updates)]
        return functools.reduce(jnp.logical_or, moved, after.last_finite)
    if isinstance(after, optax.ApplyEvery):  # it counts to k, and from 0 again with each update
        return after.count == 0
    return after.gradient_step != before.gradient_step


def _is_traced(tree: PyTree) -> bool:
    return any(isinstance(x, jax.core.Tracer) for x in jax.tree.leaves(tree))


def _extras_taken(tx: Any, extra: dict[str, Any]) -> dict[str, Any]:
    """The extra arguments that an optimizer's ``update`` takes."""
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
