"""Bounds of known numbers, and the messages for numbers out of bounds. It loads no JAX."""

from __future__ import annotations

import numbers
import operator
from collections.abc import Callable, Iterable
from typing import Any

from jaxsched._text import describe, shorten
from jaxsched._words import did_you_mean

FLOAT32_MAX = (2 - 2.0**-23) * 2.0**127
FLOAT32_TINY = 2.0**-126


def check_bounds(
    where: str,
    x: object,
    value: Any,
    *,
    at_least: float | None = None,
    above: float | None = None,
    at_most: float | None = None,
    below: float | None = None,
    whole: bool = False,
    told: str = "",
    every: Callable[[Any], Any] = bool,
    some: Callable[[Any], Any] = bool,
) -> None:
    """Raises a ``ValueError`` for a ``value`` out of bounds; it quotes ``x``, then says ``told``.

    ``whole`` allows no fraction. For an array in place of a Python number, ``every`` and ``some``
    are NumPy's ``all`` and ``any``.
    """
    # The test is "not all within" so that it refuses NaN too: no comparison holds for NaN.
    if not every(abs(value) <= FLOAT32_MAX):
        raise ValueError(f"{where} must be finite in float32, got {describe(x)}.")
    # A CPU takes the smallest float32 numbers, below 2^-126, for zero in a program: a length of
    # 1e-40 would be one of 0 there and not on the host.
    if 0 in (at_least, above) and some((value > 0) & (value < FLOAT32_TINY)):
        raise ValueError(
            f"{where} must be at least {FLOAT32_TINY:.3g}, below which a program has zero, got "
            f"{describe(x)}."
        )
    wanted = [
        (above, operator.gt, "greater than"),
        (at_least, operator.ge, "at least"),
        (at_most, operator.le, "at most"),
        (below, operator.lt, "less than"),
    ]
    for bound, holds, words in wanted:
        if bound is not None and not every(holds(value, bound)):
            raise ValueError(f"{where} must be {words} {bound:g}, got {describe(x)}{told}.")
    if whole and some(value // 1 != value):
        raise ValueError(f"{where} must be a whole number, got {describe(x)}.")


def check_number(where: str, x: object, **bounds: Any) -> None:
    """Raises unless it is a Python or NumPy number within its bounds."""
    if isinstance(x, bool) or not isinstance(x, numbers.Real):
        raise TypeError(f"{where} must be a number, got {describe(x)}.")
    check_bounds(where, x, x, **bounds)


def checked_kind(
    where: str, x: object, kind: Any, expected: str, told: str | Callable[[Any], str] = ""
) -> Any:
    """``x`` of a class, or of one of several; else a ``TypeError`` that ends with ``told``."""
    if not isinstance(x, kind):
        more = told(x) if callable(told) else told
        raise TypeError(f"{where} must be {expected}, got {describe(x)}{more}.")
    return x


def check_text(where: str, x: object, expected: str = "a text") -> str:
    """Raises unless it is a text, such as a name, and returns it."""
    text: str = checked_kind(where, x, str, expected)
    return text


def check_choice(where: str, x: object, options: Iterable[str], instead: str = "") -> str:
    """Raises unless it is one of a few words, and returns it; ``instead`` names other choices."""
    options = tuple(options)
    if not isinstance(x, str) or x not in options:
        near = did_you_mean(x, options, shown=repr)
        known = ", ".join(map(repr, options))
        got = shorten(repr(x)) if isinstance(x, str) else describe(x)
        raise ValueError(f"{where} must be {instead}one of {known}, got {got}{near}.")
    return str(x)
