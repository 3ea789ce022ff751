"""Extra arguments of an update, ``value=`` above all, on their way to whoever reads them.

``optax.with_extra_args_support``, which Optax's wrappers use, looks at the class and drops what any
other object takes (``optax.MultiSteps`` among them). So ours look at the signature, and what was
handed to one of ours is known to those of ours below, whatever lies between.
"""

from __future__ import annotations

import contextvars
import inspect
from typing import Any

import optax

_HANDED: contextvars.ContextVar[dict[str, Any]] = contextvars.ContextVar("extra")


def update(tx: Any, updates: Any, state: Any, params: Any, **extra: Any) -> tuple[Any, Any]:
    """``tx.update`` with those of the extra arguments that it takes."""
    token = _HANDED.set({**_HANDED.get({}), **extra})
    try:
        found: tuple[Any, Any] = tx.update(updates, state, params, **_taken(tx, extra))
        return found
    finally:
        _HANDED.reset(token)


def handed(extra: dict[str, Any]) -> dict[str, Any]:
    """``extra``, and what an update of ours further out was told; ``None`` tells nothing."""
    told = _HANDED.get({})
    return {**extra, **{name: x for name, x in told.items() if extra.get(name) is None}}


def _taken(tx: Any, extra: dict[str, Any]) -> dict[str, Any]:
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
