"""The result of a sweep, an immutable object: curves, a table, the best trial, a summary."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from jaxsched._checks import checked_number, checked_whole
from jaxsched._types import FilePath
from jaxsched.search.results import _export as export
from jaxsched.search.results import _reports as reports
from jaxsched.search.results import _saved as saved
from jaxsched.search.results._compare import Comparison, compare
from jaxsched.search.results._plots import plot
from jaxsched.search.results._scored import ScoredTrials
from jaxsched.search.results._text_table import TextTable

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class SweepResult(ScoredTrials):
    """The outcome of a sweep. Arrays are read-only; steps are optimizer updates.

    Args:
        trials: the compared trials.
        metric: the validation metric by which trials are ranked; ``maximize``: the more the better.
        seeds: the seeds.
        horizons: int64 [trials], length of each run.
        train: metric -> float32 [trials, folds, seeds, steps], of each update's batch; NaN after
            the end of a run, a divergence or a stop. With controllers also hyperparameter -> the
            applied values.
        validation: metric -> float32 [trials, folds, seeds, evaluations], likewise.
        evaluated: int64 [evaluations], the steps after which the validation metrics were taken.
        diverged: int64 [trials, folds, seeds], the update with a loss that is not finite, or -1.
        stopped: int64 [trials], the step after which early stopping gave a trial up, or -1.
        steps_asked: sum of the lengths of all runs.
        steps_trained: computed updates of the runs that have ended.
        info: how it was run.
    """

    def __repr__(self) -> str:
        return f"SweepResult({self.summary()})"

    @property
    def partial(self) -> bool:
        """Whether Ctrl-C has ended the sweep: unfinished trials have no score and come last."""
        return self.info.partial

    def edges(self) -> dict[str, str]:
        """Settings for which the best trial has the "lowest" or "highest" number that was tried.

        Widen their ranges: the best value may lie outside. A range is taken over the best trial's
        kind. 0 is not an edge, since nothing lies below it.
        """
        return reports.edges(self)[0]

    def summary(self) -> str:
        """One line: the best trial, whether the second differs, edges of ranges, the cost."""
        return reports.summary(self)

    # -------------------------------------------------------------------------------------- table

    def table(
        self,
        metric: str | None = None,
        maximize: bool | None = None,
        *,
        limit: int | None = 20,
    ) -> TextTable:
        """The trials, the best first, with all metrics; for a terminal, a notebook or a page.

        ``print`` it, show it in a notebook, or take its ``markdown()``. Diverged and stopped trials
        come last and are marked; a stopped one has its score at the stop, in parentheses.

        Args:
            metric, maximize: the ranking, as for ``best``.
            limit: rows to show, at least 1; ``None``: all.
        """
        metric, maximize = self._by(metric, maximize, "table")
        if limit is not None:
            limit = checked_whole("table(limit=...)", limit, 1)
        return reports.table(self, metric, maximize, limit)

    def compare(
        self,
        by: str = "kind",
        *,
        rate: str | None = None,
        metric: str | None = None,
        maximize: bool | None = None,
        level: float = 0.95,
    ) -> Comparison:
        """Each kind of schedule at its own best setting: the differences, and the sensitivity.

        At one common rate, a comparison would only show which kind suits this rate. So each kind
        has its own best rate (as in Naganuma et al., arXiv:2603.10301), and other settings.

        Args:
            by: "kind", or the name of a setting; then each of its values counts as a kind.
            rate: the setting for the sensitivity; by default "peak", if there is one.
            metric, maximize: as for ``best``.
            level: confidence level, in (0, 1).

        Returns:
            A ``Comparison``, which prints as a table.

        Raises:
            ValueError: if no trial has the setting, or the metric is unknown.

        >>> import jax.numpy as jnp, numpy as np, optax, jaxsched as js
        >>> from jaxsched.search import Supervised, grid, sweep
        >>> x = np.linspace(-1, 1, 64, dtype=np.float32)[:, None]
        >>> task = Supervised(
        ...     (lambda key: jnp.zeros((1, 1)), lambda w, x: x @ w), optax.sgd,
        ...     optax.squared_error, train=(x, 3 * x), validation=(x, 3 * x), batch_size=16)
        >>> trials = grid({"cosine": js.cosine_decay, "constant": js.constant},
        ...     peak=[0.01, 0.03, 0.1], steps=40)
        >>> comparison = sweep(task, trials, seeds=3).compare()
        >>> list(comparison), comparison["cosine"].difference.differs
        (['constant', 'cosine'], True)
        """
        metric, maximize = self._by(metric, maximize, "compare")
        level = checked_number("compare(level=...)", level, above=0, below=1)
        return compare(self, by, rate, metric, maximize, level)

    def rows(self) -> list[dict[str, Any]]:
        """A row for each trial: kind (if there are several), settings, score, divergence, steps.

        A setting with the name of another column is shown as "setting NAME"; so is "steps" if it
        is not the length of each run. A partial result also has "unfinished runs" of each trial.
        A trial without a score (NaN) was given up at the step "stopped at", or has "diverged runs"
        or "unfinished runs" above 0; else the metric itself is NaN.
        """
        return reports.rows(self)

    def to_csv(self, file: FilePath | None = None) -> str:
        """The rows as CSV; also written to ``file`` if one is given."""
        return export.to_csv(self.rows(), file)

    def to_json(self, file: FilePath | None = None) -> str:
        """The rows as strict JSON, to ``file`` too if one is given. NaN and infinity are null."""
        return export.to_json(self.rows(), file)

    def to_pandas(self) -> Any:
        """The rows as a ``pandas.DataFrame``.

        Raises:
            ImportError: if pandas is not installed.
        """
        return export.to_pandas(self.rows())

    def save(self, file: FilePath) -> None:
        """Writes everything to one ``.npz`` file, which ``js.search.load`` reads."""
        saved.save(self, file)

    @classmethod
    def load(cls, file: FilePath) -> SweepResult:
        """The result that ``save`` wrote.

        Raises:
            FileNotFoundError: if the file does not exist.
            ValueError: if the file holds something else or is damaged.
        """
        return cls(**saved.load(file))

    def plot(
        self,
        *names: str,
        metric: str | None = None,
        maximize: bool | None = None,
        ax: Axes | None = None,
    ) -> Axes:
        """Draws learning curves (no name), or the score against a setting, or a heat map of two.

        Args:
            *names: of settings, the keys of ``Trial.settings``, such as "peak" or, of
                ``grid(js.warmup_cosine, peak=..., warmup=...)``, "peak" and "warmup"; at most two.
            metric, maximize: the metric and its sense, as for ``best``.
            ax: matplotlib's ``Axes`` to draw on; by default new ones.

        Returns:
            The ``Axes``; nothing is shown.

        Raises:
            ImportError: if matplotlib is not installed.
            ValueError: if no trial has a setting of this name, or the metric is unknown.
        """
        # The pictures show the metric of a result. So they get a result ranked by this metric; the
        # arrays are shared.
        metric, maximize = self._by(metric, maximize, "plot")
        return plot(dataclasses.replace(self, metric=metric, maximize=maximize), names, ax)


def load(file: FilePath) -> SweepResult:
    """The result that ``save`` wrote; see ``SweepResult.load``."""
    return SweepResult.load(file)
