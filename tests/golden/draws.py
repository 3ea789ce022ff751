"""Random arguments."""

from __future__ import annotations

import numpy as np

Random = np.random.Generator


def number(random: Random, low: float, high: float) -> float:
    """Uniform on a log axis; a float32, so that a program has the same number."""
    return float(np.float32(f"{np.exp(random.uniform(np.log(low), np.log(high))):.4g}"))


def whole(random: Random, low: float, high: float) -> int:
    return int(random.integers(int(low), max(int(high), int(low)) + 1))
