"""How messages quote what they were given."""

from __future__ import annotations

import re
import sys
import warnings
from collections.abc import Iterable
from typing import Any

import jax
import numpy as np

from jaxsched._arrays import is_concrete, to_host


def describe(x: Any) -> str:
    """A value that was given, and of which type it is, unless one sees it."""
    text = shorten(repr(x), 80)
    return text if isinstance(x, (int, float)) else f"{text} ({type(x).__name__})"


def printable(text: str) -> str:
    """A text for a terminal: line breaks and control characters as a ``repr`` shows them."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def shorten(text: str, most: int = 60) -> str:
    """A text as a message quotes it: printable, in one line, and not too long."""
    text = printable(re.sub(r"\n+ +", " ", text))
    return text if len(text) <= most else text[: most - 3] + "..."


def listed(texts: Iterable[str]) -> str:
    """The first five, and how many more there are."""
    found = list(texts)
    more = [f"and {len(found) - 5} more"] if len(found) > 5 else []
    return "; ".join([*found[:5], *more])


def warn(text: str, category: type[Warning] = UserWarning) -> None:
    """A warning at the line of the user's that called us, however deep in here it is given."""
    ours = ("jaxsched.", "contextlib", "threading")  # the last two call us back
    frame, depth = sys._getframe(), 1
    while frame.f_back and frame.f_globals.get("__name__", "").startswith(ours):
        frame, depth = frame.f_back, depth + 1
    warnings.warn(printable(text), category, stacklevel=depth)


def to_source(x: Any, rank: int = 0) -> str:
    """A field as its constructor takes it; a list stands for an array of the field's ``rank``."""
    if isinstance(x, tuple):
        inner = ", ".join(map(to_source, x))
        return f"({inner},)" if len(x) == 1 else f"({inner})"
    if isinstance(x, jax.core.Tracer):
        return f"<traced {x.dtype}{list(x.shape)}>"
    if isinstance(x, jax.Array) and x.is_deleted():
        return "<deleted>"
    if isinstance(x, (np.ndarray, np.generic, jax.Array)) and is_concrete(x):
        value = np.asarray(to_host(x))
        return repr(value.item()) if value.ndim == 0 else _show_array(value, rank)
    return repr(x)


def _show_array(value: np.ndarray, rank: int) -> str:
    # str(np.float32) is the shortest text that reads back as the same float32.
    def nested(x: Any) -> str:
        return str(x) if np.ndim(x) == 0 else "[" + ", ".join(map(nested, x)) + "]"

    kind = "float32" if value.dtype.itemsize == 2 else value.dtype.name  # of half precision
    text = nested(value.astype(kind))
    return text if value.ndim == rank and kind != "float64" else f"np.{kind}({text})"
