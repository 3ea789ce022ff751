"""Numbers that are written in texts."""

from __future__ import annotations

import re

WHOLE = re.compile(r"[+-]?\d{1,300}", re.ASCII)
REAL = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?", re.ASCII)


def numeral(text: str) -> int | float | None:
    """The number that a text is, as YAML's ``1e-3`` is one; ``None`` if it is none."""
    plain = text.strip()
    if WHOLE.fullmatch(plain):
        return int(plain)
    return float(plain) if REAL.fullmatch(plain) else None
