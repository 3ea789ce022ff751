"""What makes a run better, and early stopping: at rungs the worse trials are given up."""

from __future__ import annotations

import dataclasses
import math
from typing import Protocol, runtime_checkable

import numpy as np

from jaxsched._checks import checked_number, checked_whole
from jaxsched._words import known_arguments


@runtime_checkable
class StoppingRule(Protocol):
    """When runs are compared, and which of them go on. Both functions are deterministic.

    Trials that agree up to a rung are one run there: they go on or stop together, and count once.
    """

    def rungs(self, steps: int) -> tuple[int, ...]:
        """The steps, below ``steps`` and increasing, after which trials are compared."""
        ...

    def keep(self, costs: np.ndarray) -> np.ndarray:
        """Which of the runs that are still going go on; equal costs should have one fate.

        Args:
            costs: float64 [running]: the mean validation metric over folds and seeds, negated if
                it is maximized; infinite where one of them diverged.

        Returns:
            bool [running].
        """
        ...


@known_arguments
@dataclasses.dataclass(frozen=True)
class Objective:
    """By what trials are compared.

    Args:
        metric: the validation metric.
        maximize: whether more of it is better.
        stopping: the rule by which trials are given up, or ``None``.
    """

    metric: str = "loss"
    maximize: bool = False
    stopping: StoppingRule | None = None

    def cost(self, values: list[float]) -> float:
        """Of a trial, by the metric of each of its runs: the less the better, never NaN."""
        mean = float(np.mean(np.array(values, np.float64)))
        return (-mean if self.maximize else mean) if math.isfinite(mean) else math.inf


@dataclasses.dataclass(frozen=True)
class SuccessiveHalving:
    """Keeps the best ``1 / eta`` of the runs at ``first``, ``first * eta``, ... steps.

    Jamieson and Talwalkar (arXiv:1502.07943). Beware of comparing schedules early: a large rate
    that is to decay looks worse than a small one until it does. Trials that agree up to a rung are
    one run, which counts once. Runs as good as the last one that is kept are kept as well, so the
    order of the trials decides nothing.

    Args:
        first: step of the first comparison, at least 1.
        eta: at least 1.01.

    >>> from jaxsched.search import SuccessiveHalving
    >>> SuccessiveHalving(first=50, eta=2).rungs(800)
    (50, 100, 200, 400)
    """

    first: int
    eta: float = 2.0

    def __post_init__(self) -> None:
        first = checked_whole("SuccessiveHalving(first=...)", self.first, 1)
        object.__setattr__(self, "first", first)
        checked_number("SuccessiveHalving(eta=...)", self.eta, at_least=1.01)

    def rungs(self, steps: int) -> tuple[int, ...]:
        found: list[int] = []
        rung: float = self.first
        while round(rung) < steps:
            found.append(round(rung))
            rung *= self.eta
        return tuple(sorted(set(found)))

    def keep(self, costs: np.ndarray) -> np.ndarray:
        last = max(1, math.ceil(len(costs) / self.eta)) - 1
        return np.isfinite(costs) & (costs <= np.partition(costs, last)[last])


@known_arguments
@dataclasses.dataclass(frozen=True)
class MedianRule:
    """Stops a run that is worse than the median of those still going, every so many steps.

    Trials that agree so far are one run, which counts once.

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
        for name, least in {"every": 1, "grace": 0}.items():
            steps = checked_whole(f"MedianRule({name}=...)", getattr(self, name), least)
            object.__setattr__(self, name, steps)

    def rungs(self, steps: int) -> tuple[int, ...]:
        return tuple(r for r in range(self.every, steps, self.every) if r >= self.grace)

    def keep(self, costs: np.ndarray) -> np.ndarray:
        return np.isfinite(costs) & (costs <= np.median(costs))
