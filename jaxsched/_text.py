"""How messages quote values."""

from __future__ import annotations

import re
import sys
import warnings
from collections.abc import Iterable


def describe(x: object) -> str:
    """The repr of a value and, unless it is a plain number, its type."""
    try:
        text = shorten(repr(x), 80)
    except Exception:  # a user's own; Python's of an int with more than 4300 digits
        return f"a {type(x).__name__} that cannot be printed"
    return text if isinstance(x, (int, float)) else f"{text} ({type(x).__name__})"


def printable(text: str) -> str:
    """A text for a terminal: line breaks and control characters as a ``repr`` shows them."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def shorten(text: str, most: int = 60) -> str:
    """A text as a message quotes it: printable, in one line, and not too long."""
    text = printable(re.sub(r"\n+ +", " ", text[: 10 * most + 1]))
    return text if len(text) <= most else text[: most - 3] + "..."


def notes_of(error: BaseException) -> list[str]:
    """The notes of an error, without JAX's own note about hidden frames."""
    notes = getattr(error, "__notes__", ())
    return [note for note in notes if "JAX_TRACEBACK_FILTERING" not in note]


def listed(texts: Iterable[str]) -> str:
    """The first five, and how many more there are."""
    items = list(texts)
    more = [f"and {len(items) - 5} more"] if len(items) > 5 else []
    return "; ".join([*items[:5], *more])


def warn(text: str, category: type[Warning] = UserWarning, late: bool = False) -> None:
    """A warning at the user's line that called us, from any depth.

    ``late``: a warning after hours of training. If a filter turns warnings into errors, a late one
    is still shown and not raised, since an error would lose the result.
    """
    ours = ("jaxsched.", "contextlib", "threading")  # the last two call us back
    # With a wrong depth Python would show a line of ours, and only once for all users' lines.
    frame, depth = sys._getframe(), 1
    while frame.f_back and frame.f_globals.get("__name__", "").startswith(ours):
        frame, depth = frame.f_back, depth + 1
    try:
        warnings.warn(printable(text), category, stacklevel=depth)
    except Warning as raised:
        if not late:
            raise
        warnings.showwarning(raised, category, frame.f_code.co_filename, frame.f_lineno)
