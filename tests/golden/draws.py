"""Random arguments."""

from __future__ import annotations

import contextlib
import itertools
import math
from collections.abc import Iterator

import numpy as np

Random = np.random.Generator


def until_it_ends(curve: Iterator[float]) -> list[float]:
    """Its values, up to where the real one raises or gives no number: some have an end."""
    values = [next(curve)]
    with contextlib.suppress(ValueError, RuntimeError, IndexError, ArithmeticError):
        values.extend(itertools.takewhile(math.isfinite, curve))
    return values


def number(random: Random, low: float, high: float) -> float:
    """Uniform on a log axis; a float32, so that a program has the same number."""
    return float(np.float32(f"{np.exp(random.uniform(np.log(low), np.log(high))):.4g}"))


def whole(random: Random, low: float, high: float) -> int:
    return int(random.integers(int(low), max(int(high), int(low)) + 1))


def losses(random: Random, count: int) -> list[float]:
    """A noisy loss that falls at first, in 3 digits."""
    fall = 2.0 / (1.0 + np.arange(count) / 5)
    return [float(f"{x:.3g}") for x in fall + random.normal(0, 0.15, count) + 1.0]
