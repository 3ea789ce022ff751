"""Random and quasi-random numbers between bounds, for ``sampled``."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxsched._bounds import check_choice
from jaxsched._checks import checked_flag, checked_number
from jaxsched._words import known_arguments
from jaxsched.recipes._share import share


@dataclasses.dataclass(frozen=True)
class Distribution:
    """Numbers between two bounds, for ``sampled``; made by ``uniform`` and ``loguniform``."""

    low: float
    high: float
    log: bool
    whole: bool

    def at(self, u: float) -> float | int:
        """The quantile ``u`` in [0, 1)."""
        # Every whole number owns an interval of one, so the bounds are not rarer: from 0 to 9
        # the range is [0, 10), and a draw is rounded down. By rounding error it may be 10 itself.
        low, high = self.low, self.high + self.whole
        if self.log:
            x = math.exp((1 - u) * math.log(low) + u * math.log(high))
        else:
            x = (1 - u) * low + u * high
        return min(math.floor(x), int(self.high)) if self.whole else x


@known_arguments
def uniform(low: float, high: float, *, whole: bool = False) -> Distribution:
    """Evenly between ``low`` and ``high``; with ``whole``, whole numbers and both bounds included.

    >>> from jaxsched.search import uniform
    >>> uniform(0.0, 1.0).at(0.5), uniform(0, 9, whole=True).at(0.99)
    (0.5, 9)
    """
    return _checked_distribution("uniform", low, high, False, whole)


@known_arguments
def loguniform(low: float, high: float, *, whole: bool = False) -> Distribution:
    """Evenly in the logarithm, for numbers that matter by their ratio, such as learning rates.

    >>> from jaxsched.search import loguniform
    >>> round(loguniform(1e-4, 1e-2).at(0.5), 6)
    0.001
    """
    return _checked_distribution("loguniform", low, high, True, whole)


def draw(column: Sequence[Any] | Distribution, u: float) -> Any:
    """The value of a column, a list or a distribution, at the quantile ``u``."""
    return column.at(u) if isinstance(column, Distribution) else column[int(u * len(column))]


def points(method: str, dimensions: int, count: int, seed: int) -> np.ndarray:
    """Points in the unit cube, [count, dimensions]."""
    rng = np.random.default_rng(seed)
    if method == "random":
        return rng.random((count, dimensions))
    from scipy.stats import qmc

    if method == "sobol":  # is balanced in powers of two; the first points of one are still even
        sobol = qmc.Sobol(dimensions, rng=rng)
        return np.asarray(sobol.random_base2(max(count - 1, 0).bit_length())[:count])
    engines = {"halton": qmc.Halton, "latin": qmc.LatinHypercube}
    check_choice("sampled(method=...)", method, (*engines, "sobol", "random"))
    return np.asarray(engines[method](dimensions, rng=rng).random(count))


def _checked_bound(where: str, x: float, **bounds: Any) -> Any:
    if isinstance(x, share):
        raise ValueError(
            f"{where} must be a number, got {x!r}. To draw shares, let the recipe make them: "
            "`lambda part: js.warmup_cosine(0.1, 150, warmup=js.share(part))`."
        )
    return checked_number(where, x, **bounds)


def _checked_distribution(
    where: str, low: float, high: float, log: bool, whole: bool
) -> Distribution:
    whole = checked_flag(f"{where}(whole=...)", whole)
    low = _checked_bound(f"{where}(low=...)", low, above=0 if log else None, whole=whole)
    high = _checked_bound(f"{where}(high=...)", high, whole=whole)
    if not low < high:
        raise ValueError(f"{where}(high=...) must be greater than low={low}, got {high}.")
    return Distribution(low, high, log, whole)
