"""The winners of all kinds on the test data, once."""

from __future__ import annotations

import dataclasses
from typing import Any

from jax.sharding import Mesh

from jaxsched._checks import checked_number
from jaxsched._words import known_arguments
from jaxsched.search.final._score import (
    FinalScore,
    check_final,
    check_result,
    final_score,
    shown_score,
)
from jaxsched.search.results import _reports as reports
from jaxsched.search.results._compare import ByName, compare, named
from jaxsched.search.results._ranking import Difference, paired
from jaxsched.search.results._result import SweepResult
from jaxsched.search.results._text_table import TextTable
from jaxsched.search.tasks._protocol import Task


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class FinalScores(ByName[FinalScore]):
    """Each kind's winner on the test data: kind -> ``FinalScore``, in the order of validation.

    Indexed by the kind's name, or the setting's value; prints as a table.

    Args:
        by: what the kinds are: "kind", or the name of a setting.
        finals: kind -> ``FinalScore``.
        level: of confidence.
    """

    by: str
    finals: dict[str, FinalScore]
    level: float

    @property
    def _by_name(self) -> dict[str, FinalScore]:
        return self.finals

    def difference(self, name: Any, metric: str) -> Difference:
        """Of a kind's test metric to that of the kind with the best *validation* score.

        The runs are paired by seed, and no test score had a part in the choice of either.

        Raises:
            KeyError: for an unknown kind or metric, with those that there are.
        """
        first = next(iter(self.finals.values()))
        ours, theirs = (named(final.metrics, metric) for final in (self[name], first))
        return paired(ours, theirs, self.level)

    def table(self) -> TextTable:
        """A row for each kind."""
        first = next(iter(self.finals.values()))
        finals, apart = self.finals.items(), list[Difference | None]()
        columns = [
            (self.by, [name for name, _ in finals]),
            ("its best", [reports.own_name(final.best, name) for name, final in finals]),
        ]
        for metric in first.metrics:
            scores = [shown_score(final.metrics[metric]) for _, final in finals]
            found = [None if f is first else self.difference(n, metric) for n, f in finals]
            columns += [(f"test {metric}", scores), *reports.differences(found)]
            apart += found
        notes = [
            reports.paired_note(len(first.result.seeds), self.level, apart),
            f"Differences are to {next(iter(self))}, which had the best validation score.",
        ]
        return TextTable.of(f"{self.by} on the test data", columns, notes)


@known_arguments
def final_scores(
    task: Task,
    result: SweepResult,
    by: str = "kind",
    *,
    level: float = 0.95,
    devices: Mesh | None = None,
) -> FinalScores:
    """``final_score`` of each kind's winner: a comparison that the choice of them did not flatter.

    Do it once. After a look at the test data and more tuning there are no test data any more.

    Args:
        task: the task of the sweep; it must have ``test``.
        result: of the sweep.
        by: "kind", or the name of a setting, as for ``SweepResult.compare``.
        level: of confidence, in (0, 1).
        devices: as for ``final_score``.

    Raises:
        TypeError, ValueError: as ``final_score`` and ``SweepResult.compare``.

    >>> import jax.numpy as jnp, numpy as np, optax, jaxsched as js
    >>> from jaxsched.search import Supervised, final_scores, grid, sweep
    >>> x = np.linspace(-1, 1, 64, dtype=np.float32)[:, None]
    >>> task = Supervised(
    ...     (lambda key: jnp.zeros((1, 1)), lambda w, x: x @ w), optax.sgd, optax.squared_error,
    ...     train=(x, 3 * x), validation=(x, 3 * x), test=(x[:8], 3 * x[:8]), batch_size=16)
    >>> kinds = {"cosine": js.cosine_decay, "constant": js.constant}
    >>> result = sweep(task, grid(kinds, peak=[0.03, 0.1], steps=40), seeds=3)
    >>> scores = final_scores(task, result)
    >>> list(scores), scores.difference("cosine", "loss").differs
    (['constant', 'cosine'], True)
    """
    check_result(result, "final_scores")
    level = checked_number("final_scores(level=...)", level, above=0, below=1)
    result.best()  # raises where there is none
    kinds = compare(result, by, None, result.metric, result.maximize, level, "final_scores")
    chosen = {kind.name: kind.best for kind in kinds.contenders.values() if kind.best}
    for best in chosen.values():
        check_final(task, result, best)  # all of them before any is trained
    finals = {
        name: final_score(task, result, best, devices=devices) for name, best in chosen.items()
    }
    return FinalScores(by, finals, level)
