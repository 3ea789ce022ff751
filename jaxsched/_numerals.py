"""Numbers that are written in texts."""

from __future__ import annotations

import re
from typing import Any

WHOLE = re.compile(r"[+-]?\d{1,300}", re.ASCII)
REAL = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?", re.ASCII)


def numeral(text: str) -> int | float | None:
    """The number that a text is, as YAML's ``1e-3`` is one; ``None`` if it is none."""
    plain = text.strip()
    if WHOLE.fullmatch(plain):
        return int(plain)
    return float(plain) if REAL.fullmatch(plain) else None


THOUSANDS = {letter: 1e3 ** (1 + i // 2) for i, letter in enumerate("kKmMbBtT")}


def size(x: Any) -> Any:
    """A size of a run, of which a text such as ``"50k"`` is one, too; or a list of them."""
    if isinstance(x, (list, tuple)):
        return [size(each) for each in x]
    return thousands(x) if isinstance(x, str) else x


def thousands(text: str) -> int | float | str:
    """The number that ``"50k"`` or ``"1.2M"`` is; what is none stays the text, also ``"1m"``."""
    factor = None if text[-1:] in ("m", "b", "t") else THOUSANDS.get(text[-1:])
    number = numeral(text[:-1] if factor else text)
    if number is None:
        return text
    number = number * factor if factor else number
    return int(number) if isinstance(number, float) and number.is_integer() else number
