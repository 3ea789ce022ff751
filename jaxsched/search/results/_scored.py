"""Trials with their measurements: curves, scores, and the best.

``ScoredTrials`` is ``SweepResult`` without the methods that show it. Tables, comparisons and
pictures read the first and are methods of the second, so no two modules import each other.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

from jaxsched._bounds import check_choice, checked_kind
from jaxsched._checks import checked_flag, checked_number, checked_whole
from jaxsched._text import describe, printable
from jaxsched.recipes._share import share
from jaxsched.search.results import _ranking as ranks
from jaxsched.search.results._info import RunInfo
from jaxsched.search.trials._trials import Followed, Trial, Trials

F = TypeVar("F", bound=Callable[..., Any])


@dataclasses.dataclass(frozen=True)
class Best:
    """A trial with its score.

    Args:
        index: its position among the trials.
        trial: its name, settings and schedules.
        score: mean over folds and seeds of the validation metric at the end of the run.
        error: standard error of the mean; NaN for a single run. See ``SweepResult.scores``.
    """

    index: int
    trial: Trial
    score: float
    error: float

    @property
    def name(self) -> str:
        return self.trial.name

    @property
    def settings(self) -> dict[str, Any]:
        return self.trial.settings

    @property
    def schedules(self) -> dict[str, Followed]:
        return self.trial.schedules

    @property
    def schedule(self) -> Followed:
        """The learning rate's schedule (or controller), ready for Optax."""
        return self.trial.schedule


def _of_result(method: F) -> F:
    """Errors of wrong calls name the public class.

    Python takes it from the function: "SweepResult.best() got an unexpected keyword argument".
    """
    method.__qualname__ = f"SweepResult.{method.__name__}"
    return method


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class ScoredTrials:
    """The data of tables, comparisons and pictures; ``SweepResult`` explains each field."""

    trials: Trials
    metric: str
    maximize: bool
    seeds: tuple[int, ...]
    horizons: np.ndarray
    train: dict[str, np.ndarray]
    validation: dict[str, np.ndarray]
    evaluated: np.ndarray
    diverged: np.ndarray
    stopped: np.ndarray
    steps_asked: int
    steps_trained: int
    info: RunInfo

    @property
    def folds(self) -> int:
        return int(self.diverged.shape[1])

    @property
    def runs(self) -> int:
        """How often each trial was trained: folds times seeds."""
        return self.folds * len(self.seeds)

    @_of_result
    def final(self, metric: str | None = None) -> np.ndarray:
        """float32 [trials, folds, seeds]: a validation metric at the end of each run."""
        metric = self._known(metric)
        # Each trial at its own horizon: trials may differ in length, and have NaN after their ends.
        at = np.searchsorted(self.evaluated, self.horizons)
        return self.validation[metric][np.arange(len(self.trials)), ..., at]

    @_of_result
    def scores(self, metric: str | None = None) -> tuple[np.ndarray, np.ndarray]:
        """float64 [trials] each: mean over folds and seeds, and its standard error.

        The mean is NaN if any run of a trial diverged or was stopped, and the error is NaN for a
        single run. Two to five runs say little about their variance: it is pooled over the trials
        ``pooled()``, and the others get at least this variance.
        """
        scored = self._scored(metric)
        return scored.mean, scored.error

    @_of_result
    def pooled(self, metric: str | None = None) -> tuple[int, ...]:
        """The trials that share one variance: with up to five runs, the better half (at least 4).

        Bad settings are noisier, and settings near divergence by orders of magnitude: trials with
        1000 times the variance of the others are omitted.
        """
        return self._scored(metric).pooled

    @_of_result
    def ranking(self, metric: str | None = None, maximize: bool | None = None) -> list[int]:
        """Indices of the trials, the best first; trials without a score last.

        Equal scores are ordered by their printed schedules, whatever the order of the trials.
        ``metric`` and ``maximize`` as for ``best``.
        """
        metric, maximize = self._by(metric, maximize, "ranking")
        return ranks.order(ranks.means(self._runs(metric)), maximize, self.trials)

    @_of_result
    def best(
        self,
        *,
        prefer: str | Callable[[Trial], Any] | None = None,
        metric: str | None = None,
        maximize: bool | None = None,
    ) -> Best:
        """The trial with the best validation score.

        Args:
            prefer: for the one-standard-error rule: among the trials with a mean within one
                standard error of the best mean (the best trial's error), the one with the smallest
                setting of this name, or the smallest value of this function of the trial.
            metric: a validation metric; by default the sweep's.
            maximize: whether more of it is better; must be given for other metrics.

        Raises:
            ValueError: if no trial has a score (all diverged), ``prefer`` is given with one run
                for each trial, or the metric is unknown.
        """
        # Trials are ranked by the mean of their runs and not by the best run, which is the
        # luckiest.
        metric, maximize = self._by(metric, maximize, "best")
        mean, error = self.scores(metric)
        order = ranks.order(mean, maximize, self.trials)
        first = order[0]
        if not math.isfinite(mean[first]):
            raise ValueError(
                f"best() must have at least one trial whose {metric} is finite in all runs, "
                f"got none of {len(self.trials)}; {self._why_no_score()}"
            )
        if prefer is None:
            return self.chosen(first, metric)
        if not math.isfinite(error[first]):
            raise ValueError(
                "best(prefer=...) must have several seeds or folds, from which it knows the "
                "standard error, got one run for each trial."
            )
        # ``min`` keeps the order: among equally preferred trials it takes the best.
        near = [i for i in order if abs(mean[i] - mean[first]) <= error[first]]
        if isinstance(prefer, str):
            sizes = self._sizes(prefer, near)
            return self.chosen(min(sizes, key=sizes.__getitem__, default=first), metric)
        expected = "the name of a setting or a function of a trial"
        choose = checked_kind("best(prefer=...)", prefer, Callable, expected)
        return self.chosen(min(near, key=lambda i: choose(self.trials[i])), metric)

    @_of_result
    def chosen(self, index: int, metric: str | None = None) -> Best:
        """A trial with its score, by its place among the trials; for ``final_score``."""
        mean, error = self.scores(metric)
        return Best(index, self.trials[index], float(mean[index]), float(error[index]))

    @_of_result
    def difference(self, trial: int, other: int, level: float = 0.95) -> ranks.Difference:
        """The score of a trial minus another's, over their common runs.

        The runs are paired: both trials had the same initial states and data. The folds of a
        cross-validation share training data, so their error is somewhat too small.

        Args:
            trial, other: indices.
            level: of confidence, for ``differs``; in (0, 1).
        """
        level = checked_number("difference(level=...)", level, above=0, below=1)
        trial, other = (
            checked_whole(f"difference({name}=...)", index, 0, len(self.trials) - 1)
            for name, index in {"trial": trial, "other": other}.items()
        )
        # Run by run, since both have the same order of folds and seeds. A seed's common effect on
        # all trials (a lucky initial state, hard batches) cancels in the difference.
        values = self._runs(None)
        return ranks.paired(values[trial], values[other], level)

    def having(self, name: str, where: str, other: str = "") -> list[int]:
        """The trials with a setting of this name.

        Raises:
            ValueError: if none has.
        """
        # Trials of several kinds have settings of their own, so not all need have this one.
        text = isinstance(name, str)  # another type may not be hashable
        trials = [i for i, trial in enumerate(self.trials) if text and name in trial.settings]
        if not trials:
            known = sorted({n for trial in self.trials for n in trial.settings})
            listed = printable(", ".join(known)) or "none has any"
            raise ValueError(
                f"{where} must {other}name a setting of a trial ({listed}), got {describe(name)}."
            )
        return trials

    def _by(self, metric: str | None, maximize: bool | None, where: str) -> tuple[str, bool]:
        """The metric by which trials are ranked, and whether more of it is better."""
        # The sweep knows the sense of its own metric. A guess for another one, from its name, would
        # be wrong in silence one day: "perplexity" is minimized, "accuracy" is not.
        metric = self._known(metric, where)
        if maximize is None and metric != self.metric:
            raise ValueError(
                f"{where}(maximize=...) must be given for {metric!r}: of {self.metric!r} only "
                "the sweep says whether more is better, got None."
            )
        if maximize is not None:
            checked_flag(f"{where}(maximize=...)", maximize)
        return metric, self.maximize if maximize is None else bool(maximize)

    def _known(self, metric: str | None, where: str = "SweepResult") -> str:
        metric = self.metric if metric is None else metric
        return check_choice(f"{where}(metric=...)", metric, sorted(self.validation))

    def _why_no_score(self) -> str:
        gone = self.diverged[self.diverged >= 0]
        if len(gone):
            return f"the first run diverged at step {gone.min()}. Lower the learning rates."
        if self.info.partial:
            return "the sweep was interrupted. The same call with checkpoint=... can go on."
        return "no run diverged."

    def _sizes(self, name: str, trials: list[int]) -> dict[int, int | float]:
        """A setting of the trials that have it, as numbers to compare.

        A share counts as its updates of the trial's own length: 10 % of a long run may be more than
        50 steps.
        """
        sizes, having = {}, {*self.having(name, "best(prefer=...)")}
        for i in (i for i in trials if i in having):
            size = self.trials[i].settings[name]
            if isinstance(size, share):
                size = size.of(int(self.horizons[i]) * self.info.updates_per_step)
            if not isinstance(size, (int, float)):
                raise ValueError(
                    "best(prefer=...) must name a setting of numbers, or be a function of a "
                    f"trial, got {name!r}, which is {describe(size)} in one of the best trials."
                )
            sizes[i] = size
        return sizes

    def _runs(self, metric: str | None) -> np.ndarray:
        """float64 [trials, runs]."""
        return self.final(metric).reshape(len(self.trials), -1).astype(np.float64)

    def _scored(self, metric: str | None) -> ranks.Scores:
        # By the sweep's own metric, so each metric is pooled over the same half of the trials.
        return ranks.scored(self._runs(metric), self._own_ranking)

    # Kept: the scores of each metric ask for it, and a result does not change.
    @functools.cached_property
    def _own_ranking(self) -> list[int]:
        return self.ranking()
