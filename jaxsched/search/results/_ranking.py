"""Scores of trials: means, their errors, and whether two of them differ.

Two questions are kept apart. How sure is a mean? Here the variance of few runs is pooled over
trials, which costs little: an error that is somewhat off does no harm. Do two trials differ? Users
make claims from the answer, so it uses the paired differences of these two trials alone, which do
not depend on the other trials.
"""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from operator import itemgetter

import numpy as np

from jaxsched.search._fingerprint import fingerprint_of, plain
from jaxsched.search.trials._trials import Trial, Trials

# With so few runs, one trial's own variance is hardly known: 2 runs give it within a factor of
# 1000, 6 runs within a factor of 6 (95 %).
FEW = 5
_LEAST = 4  # trials that share a variance, if there are so many
_ODD = 1000  # times the variance of the others: not of their kind (a run of it has exploded)


@dataclasses.dataclass(frozen=True)
class Scores:
    """The means and errors of all trials, float64 [trials]."""

    mean: np.ndarray  # over the runs; NaN where one of them diverged or was stopped
    error: np.ndarray  # standard error of the mean; NaN where it isn't known
    pooled: tuple[int, ...]  # the trials that share one variance; empty where each has its own


def means(values: np.ndarray) -> np.ndarray:
    """float64 [trials] of [trials, runs]; NaN where a run has no finite value.

    The mean of the remaining runs would rank a trial by its luckiest seeds.
    """
    finite = np.isfinite(values).all(axis=1)
    mean = np.full(len(values), np.nan)
    mean[finite] = values[finite].astype(np.float64).mean(axis=1)
    return mean


def order(mean: np.ndarray, maximize: bool, trials: Trials) -> list[int]:
    """Indices of the trials, the best first; trials without a mean last.

    Equal means are ordered by how the trials print: not by their places, so that the best of some
    trials does not depend on how they are listed.
    """
    costs = np.where(np.isfinite(mean), -mean if maximize else mean, np.inf).tolist()
    # Only ties are printed: the texts of 100 000 trials take 5 s.
    tied = {cost for cost, n in Counter(costs).items() if n > 1 and math.isfinite(cost)}

    def key(i: int) -> tuple[float, str]:
        return costs[i], printed(trials[i]) if costs[i] in tied else ""

    return sorted(range(len(costs)), key=key)


def printed(trial: Trial) -> str:
    """The order of trials with equal scores: their text, and a digest where texts are equal."""
    schedules = sorted(trial.schedules.items(), key=itemgetter(0))
    return f"{schedules} {plain(trial.settings)} {fingerprint_of(schedules)}"


def scored(values: np.ndarray, ranking: list[int]) -> Scores:
    """Means and errors of [trials, runs].

    With up to 5 runs the variance is pooled over the better half of the trials (of the
    ``ranking``, at least 4): bad settings are noisier, and settings near divergence by orders of
    magnitude. A trial with 1000 times the variance of the others is not pooled either: at least 4
    may be all. A trial outside the pool has its own variance if it is larger.
    """
    # The circle grows smaller: first all trials with a mean, then their better half, then the
    # trials in it with a variance of the usual size.
    runs = values.shape[1]
    mean = means(values)
    finite = np.isfinite(mean)
    variance = np.full(len(values), np.nan)
    if runs > 1:
        variance[finite] = values[finite].astype(np.float64).var(axis=1, ddof=1)
    better = [i for i in ranking if finite[i]]
    better = better[: max(_LEAST, math.ceil(len(better) / 2))]
    # The lower median, since half of so few may have exploded: with four variances 1, 1, 5000 and
    # 9000 the upper one would let all pass. Runs that agree up to rounding do not show a variance.
    rounding = np.square(np.finfo(np.float32).eps * mean)
    spread = sorted(variance[i] for i in better if variance[i] > rounding[i])
    most = _ODD * spread[(len(spread) - 1) // 2] if spread else math.inf
    better = [i for i in better if not variance[i] > most]
    pooled = tuple(sorted(better)) if 1 < runs <= FEW and len(better) > 1 else ()
    if pooled:
        shared = variance[list(pooled)].mean()
        variance = np.fmax(variance, np.where(finite, shared, np.nan))
        variance[list(pooled)] = shared
    return Scores(mean, np.sqrt(variance / runs), pooled)


@dataclasses.dataclass(frozen=True)
class Difference:
    """The mean difference of two trials over their common runs.

    Args:
        mean: mean of the paired differences.
        error: its standard error; NaN for a single run.
        runs: number of pairs: seeds times folds.
        level: confidence level, in (0, 1).
    """

    mean: float
    error: float
    runs: int
    level: float

    @property
    def margin(self) -> float:
        """Half the width of the confidence interval: Student's t times the error."""
        if self.runs < 2:
            return math.nan
        from scipy.special import stdtrit

        return float(stdtrit(self.runs - 1, 0.5 + self.level / 2)) * self.error

    @property
    def differs(self) -> bool | None:
        """Whether it differs from zero at the level; ``None`` if unknown.

        It is unknown for a single run, for NaN, and for exactly equal differences other than 0: an
        error of 0 does not show that further runs would differ as much.
        """
        known = math.isfinite(self.error) and (self.error > 0 or self.mean == 0)
        return abs(self.mean) > self.margin if known else None


def paired(ours: np.ndarray, theirs: np.ndarray, level: float) -> Difference:
    """The difference of two trials' scores, [runs], in the same order of seeds and folds."""
    difference = ours.astype(np.float64) - theirs
    runs, finite = len(difference), np.isfinite(difference).all()
    error = float(difference.std(ddof=1)) / math.sqrt(runs) if runs > 1 and finite else math.nan
    # Scores are float32. A smaller error is only their rounding error, without information on other
    # seeds.
    if error < np.finfo(np.float32).eps * np.abs([ours, theirs]).max():
        error = 0.0
    return Difference(float(difference.mean()), error, runs, level)
