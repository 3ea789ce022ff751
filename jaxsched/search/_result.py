"""What a sweep found: an immutable object with the curves, a table, the best trial, a summary."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from jaxsched._struct import printable
from jaxsched.search._trials import Followed, Trial, Trials


@dataclasses.dataclass(frozen=True)
class Best:
    """A trial with its score.

    Args:
        index: its position among the trials.
        trial: its name, settings and schedules.
        score: mean over folds and seeds of the validation metric at the end of the run.
        error: standard error of that mean; NaN for a single run.
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


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class SweepResult:
    """The outcome of a sweep. Arrays are read-only; steps are optimizer updates.

    Args:
        trials: what was compared.
        metric: the validation metric by which trials are ranked; ``maximize``: the more the better.
        seeds: the seeds.
        horizons: int64 [trials], length of each run.
        train: metric -> float32 [trials, folds, seeds, steps], of each update's batch; NaN after
            the end of a run, a divergence or a stop. With controllers also hyperparameter -> the
            values that were applied.
        validation: metric -> float32 [trials, folds, seeds, evaluations], likewise.
        evaluated: int64 [evaluations], the steps after which the validation metrics were taken.
        diverged: int64 [trials, folds, seeds], the update whose loss was not finite, or -1.
        stopped: int64 [trials], the step after which early stopping gave a trial up, or -1.
        steps_asked: sum of the lengths of all runs.
        steps_trained: updates that were computed.
        info: how it was run: width, devices, seconds, traces of each compiled function, and the
            steps that shared prefixes, divergence and early stopping saved.
    """

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
    info: dict[str, Any]

    def __repr__(self) -> str:
        return f"SweepResult({self.summary()})"

    @property
    def folds(self) -> int:
        return int(self.diverged.shape[1])

    def final(self, metric: str | None = None) -> np.ndarray:
        """float32 [trials, folds, seeds]: a validation metric at the end of each run."""
        metric = self._known(metric)
        at = np.searchsorted(self.evaluated, self.horizons)
        return self.validation[metric][np.arange(len(self.trials)), ..., at]

    def scores(self, metric: str | None = None) -> tuple[np.ndarray, np.ndarray]:
        """float64 [trials] each: mean over folds and seeds, and its standard error.

        A trial of which any run diverged or was stopped has no mean (NaN); of a single run the
        error isn't known (NaN).
        """
        values = self.final(metric).reshape(len(self.trials), -1).astype(np.float64)
        count = values.shape[1]
        with np.errstate(invalid="ignore"):
            spread = values.std(axis=1, ddof=1) if count > 1 else np.full(len(values), np.nan)
            return np.where(np.isfinite(values).all(axis=1), values.mean(axis=1), np.nan), (
                spread / math.sqrt(count)
            )

    def ranking(self) -> list[int]:
        """Indices of the trials, the best first; those without a score last."""
        mean, _ = self.scores()
        cost = np.where(np.isfinite(mean), -mean if self.maximize else mean, np.inf)
        return [int(i) for i in np.argsort(cost, kind="stable")]

    def best(self, *, prefer: str | Callable[[Trial], Any] | None = None) -> Best:
        """The trial with the best validation score.

        Args:
            prefer: asks for the one-standard-error rule: among the trials whose mean is within one
                standard error (of the best one) of the best mean, the one with the smallest
                setting of this name, or the smallest value of this function of the trial.

        Raises:
            ValueError: if no trial has a score (all diverged), or the rule is asked for with one
                run for each trial.
        """
        mean, error = self.scores()
        order = self.ranking()
        first = order[0]
        if not math.isfinite(mean[first]):
            gone = self.diverged[self.diverged >= 0]
            raise ValueError(
                f"`best()` must have at least one trial whose {self.metric} is finite in all runs, "
                f"got none of {len(self.trials)}"
                + (
                    f"; the first run diverged at step {gone.min()}. Lower the learning rates."
                    if len(gone)
                    else "; no run diverged in training."
                )
            )
        if prefer is None:
            return self._best(first)
        if not math.isfinite(error[first]):
            raise ValueError(
                "`best(prefer=...)` must have several seeds or folds, from which it knows the "
                "standard error, got one run for each trial."
            )
        near = [i for i in order if abs(mean[i] - mean[first]) <= error[first]]
        if isinstance(prefer, str):
            self.column(prefer, "best(prefer=...)")
            return self._best(min(near, key=lambda i: self.trials[i].settings[prefer]))
        choose = prefer
        return self._best(min(near, key=lambda i: choose(self.trials[i])))

    def edges(self) -> dict[str, str]:
        """Settings in which the best trial has the "lowest" or "highest" number that was tried.

        Where there is one, the range is to be widened: the best value may lie outside.
        """
        best = self.best()
        found = {}
        for name, value in best.settings.items():
            tried: set[Any] = {t.settings.get(name) for t in self.trials}
            if len(tried) < 2 or not all(_is_number(v) for v in tried):
                continue
            if value in (min(tried), max(tried)):
                found[name] = "lowest" if value == min(tried) else "highest"
        return found

    def summary(self) -> str:
        """One line: the best trial, whether it sits on the edge of the range, and what it cost."""
        count = f"{len(self.trials)} trials"
        runs = self.folds * len(self.seeds)
        count += f" x {runs} runs" if runs > 1 else ""
        lost = int((self.diverged >= 0).any(axis=(1, 2)).sum())
        cost = f"{self.steps_trained} of {self.steps_asked} steps trained"
        try:
            best = self.best()
        except ValueError:
            return f"{count}: no trial has a score, {lost} diverged; {cost}"
        shown = printable(f"{best.name}, {self.metric}")
        error = f" ± {best.error:.2g}" if math.isfinite(best.error) else ""
        edges = "; ".join(f"{printable(n)} is the {e} tried" for n, e in self.edges().items())
        parts = [f"best of {count}: {shown} {best.score:.4g}{error}"]
        parts.append(f"on the edge of the range ({edges})" if edges else "inside the range")
        parts += [f"{lost} diverged"] if lost else []
        return ", ".join(parts) + f"; {cost}"

    # -------------------------------------------------------------------------------------- table

    def rows(self) -> list[dict[str, Any]]:
        """A row for each trial: its settings, score, error, divergence and steps."""
        mean, error = self.scores()
        names = list(dict.fromkeys(n for trial in self.trials for n in trial.settings))
        rows = []
        for i, trial in enumerate(self.trials):
            gone = self.diverged[i][self.diverged[i] >= 0]
            rows.append(
                {
                    "trial": i,
                    "name": trial.name,
                    **{name: trial.settings.get(name) for name in names},
                    self.metric: float(mean[i]),
                    f"{self.metric} error": float(error[i]),
                    "steps": int(self.horizons[i]),
                    "diverged runs": len(gone),
                    "diverged at": int(gone.min()) if len(gone) else None,
                    "stopped at": int(self.stopped[i]) if self.stopped[i] >= 0 else None,
                }
            )
        return rows

    def to_csv(self, file: Any = None) -> str:
        """The rows as CSV; also written to ``file`` if one is given."""
        from jaxsched.search._export import to_csv

        return to_csv(self.rows(), file)

    def to_json(self, file: Any = None) -> str:
        """The rows as strict JSON (a NaN is null); also written to ``file`` if one is given."""
        from jaxsched.search._export import to_json

        return to_json(self.rows(), file)

    def to_pandas(self) -> Any:
        """The rows as a ``pandas.DataFrame``.

        Raises:
            ImportError: if pandas is not installed.
        """
        from jaxsched.search._export import to_pandas

        return to_pandas(self.rows())

    def save(self, file: Any) -> None:
        """Writes everything to one ``.npz`` file, which ``js.search.load`` reads."""
        from jaxsched.search._export import save

        save(self, file)

    def plot(self, *names: str, ax: Any = None) -> Any:
        """Draws learning curves (no name), or the score against a setting, or a heat map of two.

        Args:
            *names: of settings, at most two.
            ax: matplotlib's ``Axes`` to draw on; by default new ones.

        Returns:
            The ``Axes``; nothing is shown.

        Raises:
            ImportError: if matplotlib is not installed.
            ValueError: if a name is no setting of all trials.
        """
        from jaxsched.search._plots import plot

        return plot(self, names, ax)

    # ------------------------------------------------------------------------------------ details

    def _best(self, index: int) -> Best:
        mean, error = self.scores()
        return Best(index, self.trials[index], float(mean[index]), float(error[index]))

    def _known(self, metric: str | None) -> str:
        metric = self.metric if metric is None else metric
        if metric not in self.validation:
            raise ValueError(
                f"`SweepResult(metric=...)` must be one of {sorted(self.validation)}, "
                f"got {metric!r}."
            )
        return metric

    def column(self, name: str, where: str = "column(name=...)") -> list[Any]:
        """The values of one setting in all trials."""
        if not all(name in trial.settings for trial in self.trials):
            known = sorted({n for trial in self.trials for n in trial.settings})
            raise ValueError(
                f"`{where}` must name a setting of all trials ({known}), got {name!r}."
            )
        return [trial.settings[name] for trial in self.trials]


def _is_number(x: Any) -> bool:
    return isinstance(x, (int, float)) and not isinstance(x, bool)
