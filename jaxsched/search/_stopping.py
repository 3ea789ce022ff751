"""Early stopping: at rungs the trials are compared, and the worse ones are given up."""

from __future__ import annotations

import dataclasses
import math
from typing import Protocol, runtime_checkable

import numpy as np

from jaxsched._struct import checked_number
from jaxsched.search._arguments import whole


@runtime_checkable
class StoppingRule(Protocol):
    """When trials are compared, and which of them go on. Both functions are deterministic."""

    def rungs(self, steps: int) -> tuple[int, ...]:
        """The steps, below ``steps`` and increasing, after which trials are compared."""
        ...

    def keep(self, costs: np.ndarray) -> np.ndarray:
        """Which of the trials that are still running go on.

        Args:
            costs: float64 [running]: the mean validation metric, negated if it is maximized;
                infinite for a trial of which a run diverged.

        Returns:
            bool [running].
        """
        ...


@dataclasses.dataclass(frozen=True)
class SuccessiveHalving:
    """Keeps the best ``1 / eta`` of the trials at ``first``, ``first * eta``, ... steps.

    Jamieson and Talwalkar (arXiv:1502.07943). Beware of comparing schedules early: a large rate
    that is to decay looks worse than a small one until it does.

    Args:
        first: step of the first comparison, at least 1.
        eta: greater than 1.

    >>> from jaxsched.search import SuccessiveHalving
    >>> SuccessiveHalving(first=50, eta=2).rungs(800)
    (50, 100, 200, 400)
    """

    first: int
    eta: float = 2.0

    def __post_init__(self) -> None:
        whole("first", self.first, 1, where="SuccessiveHalving")
        checked_number("SuccessiveHalving(eta=...)", self.eta, above=1)

    def rungs(self, steps: int) -> tuple[int, ...]:
        found: list[int] = []
        rung: float = self.first
        while round(rung) < steps:
            found.append(round(rung))
            rung *= self.eta
        return tuple(sorted(set(found)))

    def keep(self, costs: np.ndarray) -> np.ndarray:
        best = np.argsort(costs, kind="stable")[: max(1, math.ceil(len(costs) / self.eta))]
        kept = np.zeros(len(costs), bool)
        kept[best] = True
        return kept & np.isfinite(costs)


@dataclasses.dataclass(frozen=True)
class MedianRule:
    """Stops a trial that is worse than the median of the running ones, every so many steps.

    Args:
        every: steps between comparisons, at least 1.
        grace: steps before the first one, at least 0.

    >>> from jaxsched.search import MedianRule
    >>> MedianRule(every=100, grace=250).rungs(600)
    (300, 400, 500)
    """

    every: int
    grace: int = 0

    def __post_init__(self) -> None:
        whole("every", self.every, 1, where="MedianRule")
        whole("grace", self.grace, 0, where="MedianRule")

    def rungs(self, steps: int) -> tuple[int, ...]:
        return tuple(r for r in range(self.every, steps, self.every) if r >= self.grace)

    def keep(self, costs: np.ndarray) -> np.ndarray:
        return np.isfinite(costs) & (costs <= np.median(costs))
