"""The necessary declarations of a class of controllers, and errors in it that name it."""

from __future__ import annotations

import contextlib
import functools
import inspect
from collections.abc import Iterator
from typing import Any

from jaxsched._arrays import NEEDS_A_NUMBER
from jaxsched._text import describe


@functools.cache
def check_class(kind: Any) -> None:
    """Raises for a wrong declaration, before it is used."""
    name, state = kind.__name__, getattr(kind, "State", None)
    if not set(kind._in_state) <= set(getattr(state, "_fields", ())):
        wanted = "; ".join(f"{field}: Any" for field in kind._in_state)
        has = getattr(state, "_fields", None)
        got = describe(state) if has is None else f"the fields {', '.join(has)}"
        raise TypeError(
            f"{name}.State must be a NamedTuple that has the fields of `class State(NamedTuple): "
            f"{wanted}`, got {got}."
        )
    if "base" not in kind._names:
        raise TypeError(
            f"{name} must have the field `base` (`base: Any`), the schedule that it follows, got "
            f"the fields {', '.join(kind._names) or 'none'}."
        )
    for words in ("reads", "or_reads"):
        value = getattr(kind, words)
        if not isinstance(value, tuple) or not all(isinstance(word, str) for word in value):
            raise TypeError(
                f"{name}.{words} must be a tuple of the names of measurements, such as "
                f'("value",), got {describe(value)}.'
            )
    parameters = inspect.signature(kind.react).parameters
    if all(p.kind is not inspect.Parameter.VAR_KEYWORD for p in parameters.values()):
        raise TypeError(
            f"{name}.react must take whatever else is reported, such as `def react(self, state, "
            f"value=None, **others)`, got ({', '.join(parameters)})."
        )


@contextlib.contextmanager
def traceable(controller: object, method: str) -> Iterator[None]:
    try:
        yield
    except NEEDS_A_NUMBER as error:
        raise TypeError(
            f"{type(controller).__name__}.{method} must be traceable, got a decision of Python on "
            "a traced number: write `jnp.where(value < best, a, b)` for an `if`, and the functions "
            "of jnp for those of math and NumPy."
        ) from error
