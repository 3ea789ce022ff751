"""The fair comparison: each kind of schedule at its own best setting."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np

from jaxsched._text import describe
from jaxsched.search._fingerprint import label, labels, plain
from jaxsched.search.results import _reports as reports
from jaxsched.search.results._ranking import Difference, paired
from jaxsched.search.results._scored import Best, ScoredTrials
from jaxsched.search.results._text_table import TextTable
from jaxsched.search.trials._trials import as_setting

T = TypeVar("T")
OPTIMISTIC = (
    "Each is its own best of so many, chosen and compared on the same validation data, so the "
    "score is too good, more so the more settings were tried. search.final_scores compares on the "
    "test data."
)


@dataclasses.dataclass(frozen=True)
class Contender:
    """One kind at its own best setting.

    Args:
        name: the kind, or the value of the setting.
        best: its best trial; ``None`` if none has a score.
        difference: of its score to the score of the best kind; ``None`` for the best kind.
        tried: number of its trials.
        rates: its tried rates, ascending; empty if it has no such setting.
        curve: float64 [rates], its best score at each; NaN where all diverged or were stopped.
        near: the lowest and highest rate around its best one within a standard error of its score;
            ``None`` if unknown.
        sensitivity: mean of ``min(score, score at the start) - its best score`` over the rates that
            all kinds tried (Wortsman et al., arXiv:2309.14322); NaN if unknown.
    """

    name: str
    best: Best | None
    difference: Difference | None
    tried: int
    rates: np.ndarray
    curve: np.ndarray
    near: tuple[float, float] | None
    sensitivity: float


class ByName(Generic[T]):
    """Things with the names of kinds: indexed by name, shown as a table."""

    @property
    def _by_name(self) -> dict[str, T]:
        raise NotImplementedError

    def table(self) -> TextTable:
        """A row for each kind."""
        raise NotImplementedError

    def __getitem__(self, name: object) -> T:
        return named(self._by_name, name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._by_name)

    def __len__(self) -> int:
        return len(self._by_name)

    def __repr__(self) -> str:
        return repr(self.table())

    def _repr_html_(self) -> str:
        return self.table()._repr_html_()

    def markdown(self) -> str:
        """The table in GitHub's Markdown."""
        return self.table().markdown()


@dataclasses.dataclass(frozen=True, repr=False)
class Comparison(ByName[Contender]):
    """The result of ``SweepResult.compare``: kind -> ``Contender``, the best one first.

    Indexed by the kind's name, or the setting's value; prints as a table.

    Args:
        by: "kind", or the name of a setting; then its values are the kinds.
        metric: the metric of the comparison.
        contenders: name -> ``Contender``.
        rates: the rates that all kinds tried; the sensitivity is a mean over them.
        start: the score at the start, which a diverged run counts as; NaN if not needed.
        level: confidence level.
        partial: the note on a partial result in its title, or an empty text.
    """

    by: str
    metric: str
    contenders: dict[str, Contender]
    rates: np.ndarray
    start: float
    level: float
    partial: str = ""

    @property
    def _by_name(self) -> dict[str, Contender]:
        return self.contenders

    def table(self) -> TextTable:
        """A row for each kind, with an explanation of the numbers below."""
        kinds = self.contenders.values()
        columns = [
            (self.by, [kind.name for kind in kinds]),
            ("its best", [reports.own_name(kind.best, kind.name) for kind in kinds]),
            ("of", [str(kind.tried) for kind in kinds]),
            (self.metric, [reports.score(kind.best) for kind in kinds]),
            *reports.differences([kind.difference for kind in kinds]),
        ]
        if any(len(kind.rates) for kind in kinds):
            sensitivities = [kind.sensitivity for kind in kinds]
            columns.append(("within 1 s.e.", [_shown_near(kind) for kind in kinds]))
            columns.append(("sensitivity", [f"{x:.2g}" if x >= 0 else "" for x in sensitivities]))
        title = f"{self.by} by {self.metric}, each at its own best setting{self.partial}"
        return TextTable.of(title, columns, self._notes())

    def _notes(self) -> Iterator[str]:
        """Notes below the table: on its differences, the choice of the best, the sensitivity."""
        known = [c.difference for c in self.contenders.values() if c.difference]
        # All pairs have as many runs, so the first tells how many.
        if known:
            yield reports.paired_note(known[0].runs, self.level, known)
        yield OPTIMISTIC
        if len(self.rates) > 1:
            low, high = self.rates[[0, -1]]
            worst = f"; no score counts as worse than {self.start:.4g}" * math.isfinite(self.start)
            yield (
                f"Sensitivity: mean distance to its best at {len(self.rates)} rates from {low:.4g} "
                f"to {high:.4g} (arXiv:2309.14322){worst}."
            )


def named(entries: dict[str, T], name: object) -> T:
    """The entry of a name, or of a setting's value.

    Raises:
        KeyError: with the known names.
    """
    value = _comparable(as_setting(name))
    # Values that read alike (None and "None") go by ``plain``, as in ``labels``.
    text = plain(value) if plain(value) in entries else label(value)
    if text not in entries:
        raise KeyError(f"must be one of {', '.join(entries)}, got {describe(name)}")
    return entries[text]


def compare(
    result: ScoredTrials,
    by: str,
    rate: str | None,
    metric: str,
    maximize: bool,
    level: float,
    where: str = "compare",
) -> Comparison:
    """See ``SweepResult.compare``."""
    groups = _trials_by_kind(result, by, where)
    if rate is not None:
        result.having(rate, "compare(rate=...)")
    rate = "peak" if rate is None else rate
    sign = -1.0 if maximize else 1.0
    mean, error = result.scores(metric)
    # A cost is less where a trial is better, so one set of rules serves both senses.
    cost, values = sign * mean, result.final(metric).reshape(len(mean), -1)
    # Compared by the rate itself, each kind has one rate and no curve over it.
    curves = {
        name: _best_costs(result, [] if rate == by else group, rate, cost)
        for name, group in groups.items()
    }
    # The sensitivity is a mean over rates that all kinds tried. Over a grid of its own a kind with
    # few and good rates would look insensitive.
    rated = [set(curve.rates.tolist()) for curve in curves.values() if len(curve.rates)]
    shared = np.array(sorted(set.intersection(*rated)) if rated else [])
    start = _cost_at_start(result, metric, sign, cost)
    winners = _winners(groups, result.ranking(metric, maximize), cost)
    leader = next(iter(winners.values()))
    contenders = {}
    for name, winner in winners.items():
        curve = curves[name]
        best = difference = near = None
        if winner is not None:
            best = Best(winner, result.trials[winner], float(mean[winner]), float(error[winner]))
            if winner != leader:
                difference = paired(values[winner], values[leader], level)
            # The rates as good as the best one, within its error: they show how exactly the rate
            # must be known.
            at = _rate_of_trial(result, winner, rate)
            if at in curve.rates and math.isfinite(error[winner]):
                near = curve.near(at, cost[winner] + error[winner])
        sensitivity = curve.sensitivity(shared, start)
        tried = len(groups[name])
        contenders[name] = Contender(
            name, best, difference, tried, curve.rates, sign * curve.costs, near, sensitivity
        )
    return Comparison(by, metric, contenders, shared, sign * start, level, reports.partial(result))


# Below, a cost is a score with its sign changed, if needed, so that less is better.


def _winners(
    groups: dict[str, list[int]], ranking: list[int], cost: np.ndarray
) -> dict[str, int | None]:
    """The best trial of each kind, the best kind first; ``None`` for kinds without a score."""
    kind_of = {i: name for name, group in groups.items() for i in group}
    winners: dict[str, int | None] = {}
    for i in ranking:  # the first of a kind is its best
        if i in kind_of and math.isfinite(cost[i]):
            winners.setdefault(kind_of[i], i)
    return winners | {name: None for name in groups if name not in winners}


def _trials_by_kind(result: ScoredTrials, by: str, where: str) -> dict[str, list[int]]:
    """The trials of each kind, or of each value of a setting."""
    kinds = reports.kinds(result)
    # A recipe may have an argument `kind`, and a sweep over it one recipe. Then to group by recipes
    # would compare nothing, so the argument is meant.
    own = len(kinds) == 1 and any("kind" in trial.settings for trial in result.trials)
    groups: dict[str, list[int]] = {}
    if by == "kind" and not own:
        for i, trial in enumerate(result.trials):
            groups.setdefault(trial.kind or trial.name, []).append(i)
        return groups
    having = result.having(by, f"{where}(by=...)", 'be "kind" or ')
    values = {i: _comparable(result.trials[i].settings[by]) for i in having}
    names = labels(values.values())
    for i, value in values.items():
        groups.setdefault(names[plain(value)], []).append(i)
    return groups


def _comparable(setting: object) -> Any:
    """A number to nine digits: 1.0 is 1, 0.08 equals ``np.geomspace``'s; others unchanged.

    Rates are compared between kinds, and people write their grids in different ways. ``0.1 * 2**i``
    and ``np.geomspace`` give numbers that differ in the last digit but are meant to be equal.
    """
    if not reports.is_number(setting):
        return setting
    number = float(f"{setting:.9g}")
    return int(number) if number.is_integer() else number


class _Curve(NamedTuple):
    """Rates, the best cost at each, and the rates at which all trials were given up."""

    rates: np.ndarray
    costs: np.ndarray
    given_up: set[float]

    def near(self, at: float, most: float) -> tuple[float, float]:
        """The lowest and highest rate around ``at``, without a gap, with costs up to ``most``."""
        # Without a gap: beyond a bad rate a good one is luck, or another valley.
        low = high = int(np.searchsorted(self.rates, at))
        while low > 0 and self.costs[low - 1] <= most:
            low -= 1
        while high + 1 < len(self.rates) and self.costs[high + 1] <= most:
            high += 1
        return float(self.rates[low]), float(self.rates[high])

    def sensitivity(self, shared: np.ndarray, start: float) -> float:
        """See ``Contender``; over the rates that all kinds tried."""
        # A rate at which all runs diverged has no score, and counts as the start: it leaves the
        # user with an untrained model. A rate at which all runs were given up has no score either,
        # but may well be better than the start. Without it each kind's mean would be over different
        # rates, so the sensitivity is unknown.
        if len(self.rates) == 0 or len(shared) < 2 or self.given_up & set(shared.tolist()):
            return math.nan
        costs = self.costs[np.isin(self.rates, shared)]
        if not np.isfinite(costs).any():
            return math.nan
        costs = np.fmin(np.where(np.isfinite(costs), costs, np.inf), start)
        return float((costs - costs.min()).mean())


def _best_costs(result: ScoredTrials, group: list[int], rate: str, cost: np.ndarray) -> _Curve:
    """The best cost at each tried rate of a kind."""
    best: dict[float, float] = {}
    stopped = set[float]()
    for i in group:
        at = _rate_of_trial(result, i, rate)
        if not math.isfinite(at):
            continue
        best[at] = float(np.fmin(best.get(at, math.nan), cost[i]))
        # A trial that diverged before its stop is not given up: it would have had no score at the
        # end either.
        if result.stopped[i] >= 0 and (result.diverged[i] < 0).all():
            stopped.add(at)
    rates = sorted(best)
    given_up = {at for at in stopped if not math.isfinite(best[at])}
    return _Curve(np.array(rates), np.array([best[at] for at in rates]), given_up)


def _rate_of_trial(result: ScoredTrials, trial: int, name: str) -> float:
    """A setting; NaN if it is not a number, or there is none."""
    at = result.trials[trial].settings.get(name)
    return float(_comparable(at)) if reports.is_number(at) else math.nan


def _cost_at_start(result: ScoredTrials, metric: str, sign: float, cost: np.ndarray) -> float:
    """The cost before training: the loss of the first batch; for other metrics the worst cost.

    A sweep evaluates after updates only, so the score before the first is not known. The loss of
    the first batch is measured before its update and is close to it: a mean over all trials, since
    they begin at the same states. For an accuracy there is no such number.
    """
    finite = cost[np.isfinite(cost)]
    if not len(finite):
        return math.nan
    first = result.train["loss"][..., 0] if metric == "loss" and sign > 0 else np.zeros(0)
    first = first[np.isfinite(first)]
    start = float(first.mean(dtype=np.float64)) if len(first) else math.nan
    return start if start > finite.min() else float(finite.max())


def _shown_near(contender: Contender) -> str:
    """The rates about as good as the best one, for the table."""
    if contender.near is None:
        return ""
    low, high = contender.near
    # Untried rates beyond these may be as good.
    below = "≤" if low == contender.rates[0] else ""
    above = "≥" if high == contender.rates[-1] else ""
    ends = f"{below}{low:.3g}" if low == high else f"{below}{low:.3g} to {above}{high:.3g}"
    return ends + (f" (x{high / low:.2g})" if 0 < low < high else "")
