"""Numbers written as texts."""

from __future__ import annotations

import re
from typing import Any

# Python's own `float` and `int` read more than a config should mean: "nan", "infinity", "1_0", and
# digits of other scripts. Whole numbers are bounded: `int` refuses more than 4300 digits in words
# of its own.
WHOLE = re.compile(r"[+-]?\d{1,300}", re.ASCII)
REAL = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?", re.ASCII)


def numeral(text: str) -> int | float | None:
    """The number in a text, such as YAML's ``1e-3``; else ``None``."""
    plain = text.strip()
    if WHOLE.fullmatch(plain):
        return int(plain)
    return float(plain) if REAL.fullmatch(plain) else None


# k, M, B, T and their small letters. Small letters other than k are a slip more often than a size,
# so the readers of sizes refuse them (`size`, and `_texts.meant` of a config).
THOUSANDS = {letter: 1e3 ** (1 + i // 2) for i, letter in enumerate("kKmMbBtT")}


def size(where: str, x: Any) -> Any:
    """A size of a run, which may be a text such as ``"50k"``; or a list of them."""
    if isinstance(x, (list, tuple)):
        return [size(where, each) for each in x]
    factor = THOUSANDS.get(x[-1:]) if isinstance(x, str) else None
    number = numeral(x[:-1] if factor else x) if isinstance(x, str) else None
    if number is None:  # given as another type, or not a number: its reader says so
        return x
    number = number * (factor or 1)
    if factor and x[-1:] in ("m", "b", "t"):
        meant = f"{x[:-1]}{x[-1:].upper()} is {number:,.0f}"
        raise ValueError(f"{where} must be a number such as 50000 or '50k', got {x!r}: {meant}.")
    return int(number) if isinstance(number, float) and number.is_integer() else number
