"""The objective, and early stopping: at rungs the worse trials are given up."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np

from jaxsched._checks import checked_items, checked_number, checked_whole
from jaxsched._text import describe
from jaxsched._words import known_arguments


@runtime_checkable
class StoppingRule(Protocol):
    """When runs are compared, and which of them go on. Both methods must be deterministic.

    Trials with equal values up to a rung are one run: it counts once, and they go on or stop
    together.
    """

    def rungs(self, steps: int) -> Sequence[int]:
        """The steps after which trials are compared, increasing, below ``steps``."""

    def keep(self, costs: np.ndarray) -> np.ndarray:
        """Which of the remaining runs go on. Runs with equal costs should have the same answer.

        Args:
            costs: float64 [running]: the mean validation metric over folds and seeds, negated if
                it is maximized; infinite where a fold or seed diverged.

        Returns:
            bool [running].
        """


@dataclasses.dataclass(frozen=True)
class Objective:
    """How trials are compared."""

    metric: str = "loss"  # the validation metric
    maximize: bool = False  # whether more of it is better
    stopping: StoppingRule | None = None  # the rule that gives trials up, or ``None``

    def rungs(self, steps: int) -> Sequence[int]:
        """The rungs of the rule, as Python's numbers."""
        given = () if self.stopping is None else self.stopping.rungs(steps)
        if isinstance(given, range):  # there may be millions
            return given
        where = f"sweep(stopping=...): {describe(self.stopping)}.rungs({steps})"
        rungs = {checked_whole(where, rung, 1) for rung in checked_items(where, given, "steps")}
        return tuple(sorted(rung for rung in rungs if rung < steps))

    def keeps(self, rule: StoppingRule, costs: list[float]) -> list[bool]:
        """Which runs the rule keeps."""
        mask = np.asarray(rule.keep(np.array(costs)))
        if mask.dtype != bool or mask.shape != (len(costs),):
            raise TypeError(
                f"sweep(stopping=...): {describe(rule)}.keep(costs) must return an array of bool "
                f"[{len(costs)}], one for each of the costs, got {describe(mask)}."
            )
        return mask.tolist()

    def cost(self, values: list[float]) -> float:
        """The cost of a trial from the metric of each of its runs: less is better, never NaN."""
        mean = float(np.mean(np.array(values, np.float64)))
        return (-mean if self.maximize else mean) if math.isfinite(mean) else math.inf


@known_arguments
@dataclasses.dataclass(frozen=True)
class SuccessiveHalving:
    """Keeps the best ``1 / eta`` of the runs at ``first``, ``first * eta``, ... steps.

    Early comparisons of schedules mislead: a large rate looks worse than a small one until it
    decays. Trials with equal values up to a rung are one run, which counts once. Runs that tie with
    the last one kept are kept as well, so the order of the trials does not matter.

    Args:
        first: step of the first comparison, at least 1.
        eta: at least 1.01.

    References: Jamieson and Talwalkar, Non-stochastic best arm identification, arXiv:1502.07943.

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
        rungs: list[int] = []
        rung: float = self.first
        while round(rung) < steps:
            rungs.append(round(rung))
            rung *= self.eta
        return tuple(sorted(set(rungs)))

    def keep(self, costs: np.ndarray) -> np.ndarray:
        last = max(1, math.ceil(len(costs) / self.eta)) - 1
        return np.isfinite(costs) & (costs <= np.partition(costs, last)[last])


@known_arguments
@dataclasses.dataclass(frozen=True)
class MedianRule:
    """Every ``every`` steps, stops the runs that are worse than the median of the remaining ones.

    Trials with equal values so far are one run, which counts once.

    Args:
        every: steps between comparisons, at least 1.
        grace: steps before the first one, at least 0.

    >>> from jaxsched.search import MedianRule
    >>> MedianRule(every=100, grace=250).rungs(600)
    range(300, 600, 100)
    """

    every: int
    grace: int = 0

    def __post_init__(self) -> None:
        for name, least in {"every": 1, "grace": 0}.items():
            steps = checked_whole(f"MedianRule({name}=...)", getattr(self, name), least)
            object.__setattr__(self, name, steps)

    def rungs(self, steps: int) -> range:
        first = max(1, -(-self.grace // self.every)) * self.every
        return range(first, max(first, steps), self.every)

    def keep(self, costs: np.ndarray) -> np.ndarray:
        return np.isfinite(costs) & (costs <= np.median(costs))
