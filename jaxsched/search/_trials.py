"""Trials: which schedules a sweep compares, with the names and settings they came from."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from jaxsched._struct import checked_number, cut
from jaxsched.controllers._base import AbstractController
from jaxsched.schedules._base import AbstractSchedule, Constant

Followed = AbstractSchedule | AbstractController  # what a hyperparameter may follow

Recipe = Callable[..., Any]  # -> a schedule, or a dict of schedules


@dataclasses.dataclass(frozen=True)
class Trial:
    """One row of a sweep.

    Args:
        name: a label for tables and plots.
        settings: what varies, name -> number or text; the columns of the result's table.
        schedules: hyperparameter -> schedule or controller.
    """

    name: str
    settings: dict[str, Any]
    schedules: dict[str, Followed]

    @property
    def schedule(self) -> Followed:
        """The learning rate's schedule (or controller), or the only one there is."""
        if "learning_rate" in self.schedules or len(self.schedules) > 1:
            return self.schedules["learning_rate"]
        return next(iter(self.schedules.values()))


Trials = tuple[Trial, ...]


def grid(recipe: Recipe, /, **arguments: Any) -> Trials:
    """Every combination of the arguments' values, the last argument changing fastest.

    Args:
        recipe: a function that returns a schedule or controller (of the learning rate), or a dict
            hyperparameter -> schedule, controller or number; such as ``js.warmup_cosine`` or one of
            your own.
        **arguments: for each argument of the recipe a value, or a list or array of values. An
            argument that is itself a list needs a list of lists.

    Returns:
        A tuple of trials; add tuples to join them.

    Raises:
        ValueError: if a list is empty.

    >>> import jaxsched as js
    >>> from jaxsched.search import grid
    >>> trials = grid(js.warmup_cosine, peak=[0.1, 0.3], warmup=[0, 10], steps=100)
    >>> [trial.name for trial in trials]
    ['peak=0.1 warmup=0', 'peak=0.1 warmup=10', 'peak=0.3 warmup=0', 'peak=0.3 warmup=10']
    """
    columns = {name: _values("grid", name, value) for name, value in arguments.items()}
    rows = [dict(zip(columns, row, strict=True)) for row in itertools.product(*columns.values())]
    return _trials("grid", recipe, rows)


def zipped(recipe: Recipe, /, **arguments: Any) -> Trials:
    """The first values of all arguments, then the second ones, and so on; single values repeat.

    Args and Returns as for ``grid``.

    Raises:
        ValueError: if two lists differ in length, or one is empty.

    >>> import jaxsched as js
    >>> from jaxsched.search import zipped
    >>> [t.name for t in zipped(js.cosine_decay, peak=[0.1, 0.3], steps=[100, 50])]
    ['peak=0.1 steps=100', 'peak=0.3 steps=50']
    """
    columns = {name: _values("zipped", name, value) for name, value in arguments.items()}
    lengths = {name: len(column) for name, column in columns.items() if len(column) > 1}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"`zipped(...)` must be given lists of one length, got {lengths}.")
    count = max(lengths.values(), default=1)
    rows = [
        {name: column[i if len(column) > 1 else 0] for name, column in columns.items()}
        for i in range(count)
    ]
    return _trials("zipped", recipe, rows)


@dataclasses.dataclass(frozen=True)
class Distribution:
    """Numbers between two bounds, for ``sampled``; made by ``uniform`` and ``loguniform``."""

    low: float
    high: float
    log: bool
    whole: bool

    def at(self, u: float) -> float | int:
        """The quantile ``u`` in [0, 1)."""
        if self.whole:
            # Every whole number owns an interval of one, so that the bounds are not rarer.
            x = self._between(self.low, self.high + 1, u)
            return min(math.floor(x), int(self.high))
        return self._between(self.low, self.high, u)

    def _between(self, low: float, high: float, u: float) -> float:
        if self.log:
            return math.exp((1 - u) * math.log(low) + u * math.log(high))
        return (1 - u) * low + u * high


def uniform(low: float, high: float, *, whole: bool = False) -> Distribution:
    """Evenly between ``low`` and ``high``; with ``whole``, whole numbers and both bounds included.

    >>> from jaxsched.search import uniform
    >>> uniform(0.0, 1.0).at(0.5), uniform(0, 9, whole=True).at(0.99)
    (0.5, 9)
    """
    return _distribution("uniform", low, high, False, whole)


def loguniform(low: float, high: float, *, whole: bool = False) -> Distribution:
    """Evenly in the logarithm, for numbers that matter by their ratio, such as learning rates.

    >>> from jaxsched.search import loguniform
    >>> round(loguniform(1e-4, 1e-2).at(0.5), 6)
    0.001
    """
    checked_number("loguniform(low=...)", low, above=0)
    return _distribution("loguniform", low, high, True, whole)


def sampled(
    recipe: Recipe, count: int, /, *, seed: int = 0, method: str = "halton", **arguments: Any
) -> Trials:
    """``count`` random or quasi-random draws; the same seed gives the same trials.

    Args:
        recipe: as for ``grid``.
        count: number of trials, at least 1.
        seed: of the draw.
        method: "halton" (default), "sobol" or "latin", which cover the box more evenly than chance
            and are SciPy's; or "random".
        **arguments: for each argument of the recipe a ``uniform`` or ``loguniform``, a list to
            choose from, or a value.

    Raises:
        ValueError: if nothing is left to draw, a list is empty or the method is unknown.

    >>> import jaxsched as js
    >>> from jaxsched.search import loguniform, sampled
    >>> len(sampled(js.cosine_decay, 8, peak=loguniform(1e-4, 1e-1), steps=100))
    8
    """
    count = checked_number("sampled(count=...)", count, at_least=1)
    columns = {
        name: value if isinstance(value, Distribution) else _values("sampled", name, value)
        for name, value in arguments.items()
    }
    free = [n for n, c in columns.items() if isinstance(c, Distribution) or len(c) > 1]
    if not free:
        raise ValueError("`sampled(...)` must be given something to draw, got single values only.")
    points = _points(method, len(free), count, seed)
    rows = []
    for point in points:
        quantile = dict(zip(free, map(float, point), strict=True))
        rows.append({name: _draw(c, quantile.get(name, 0.0)) for name, c in columns.items()})
    return _trials("sampled", recipe, rows)


def as_trials(trials: Any, where: str = "sweep") -> Trials:
    """Trials, schedules (of the learning rate) and dicts of schedules, mixed, as trials."""
    single = (AbstractSchedule, AbstractController, Trial, Mapping)
    if isinstance(trials, single) or not isinstance(trials, Iterable):
        raise TypeError(
            f"`{where}(trials=...)` must be a list of schedules or trials, "
            f"got {type(trials).__name__}."
        )
    made = tuple(
        t
        if isinstance(t, Trial)
        else Trial(cut(repr(t)), {}, as_schedules(t, f"{where}(trials=...)"))
        for t in trials
    )
    if not made:
        raise ValueError(f"`{where}(trials=...)` must hold at least one trial, got none.")
    names = {tuple(sorted(trial.schedules)) for trial in made}
    if len(names) > 1:
        raise ValueError(
            f"`{where}(trials=...)` must schedule the same hyperparameters in all trials, "
            f"got {sorted(names)}."
        )
    return made


def as_schedules(made: Any, where: str) -> dict[str, Followed]:
    """A schedule, controller, number or a dict of them, as hyperparameter -> schedule."""
    named = made if isinstance(made, Mapping) else {"learning_rate": made}
    schedules: dict[str, Followed] = {}
    for name, one in named.items():
        if isinstance(one, (int, float, np.number)) and not isinstance(one, bool):
            one = Constant(one)
        if not isinstance(one, Followed):
            raise TypeError(
                f"`{where}` must be made of schedules and controllers, got {one!r} "
                f"({type(one).__name__}) for {name!r}; wrap a function with `js.from_fn`."
            )
        schedules[str(name)] = one
    if not schedules:
        raise ValueError(f"`{where}` must schedule at least one hyperparameter, got none.")
    return schedules


# ---------------------------------------------------------------------------------------- details


def _trials(where: str, recipe: Recipe, rows: list[dict[str, Any]]) -> Trials:
    varying = [n for n in rows[0] if len({repr(row[n]) for row in rows}) > 1] or list(rows[0])
    trials = []
    for row in rows:
        name = " ".join(f"{n}={_show(row[n])}" for n in varying)
        try:
            schedules = as_schedules(recipe(**row), f"{where}(recipe=...)")
        except Exception as error:
            error.add_note(f"in {where}(...), for the trial {name}")
            raise
        trials.append(Trial(name or "trial", row, schedules))
    return tuple(trials)


def _values(where: str, name: str, value: Any) -> list[Any]:
    if isinstance(value, Distribution):
        raise TypeError(f"`{where}({name}=...)` must be values, got {value!r}; use `sampled`.")
    if isinstance(value, (list, tuple, range, np.ndarray)) or (
        hasattr(value, "tolist") and np.ndim(value) > 0
    ):
        values = value.tolist() if hasattr(value, "tolist") else list(value)
        if not values:
            raise ValueError(f"`{where}({name}=...)` must hold at least one value, got none.")
        return [v.item() if hasattr(v, "item") else v for v in values]
    return [value.item() if hasattr(value, "item") else value]


def _draw(column: Any, u: float) -> Any:
    return column.at(u) if isinstance(column, Distribution) else column[int(u * len(column))]


def _points(method: str, dimensions: int, count: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    if method == "random":
        return rng.random((count, dimensions))
    from scipy.stats import qmc

    if method == "sobol":  # is balanced in powers of two; the first points of one are still even
        sobol = qmc.Sobol(dimensions, rng=rng)
        return np.asarray(sobol.random_base2(max(count - 1, 0).bit_length())[:count])
    engines = {"halton": qmc.Halton, "latin": qmc.LatinHypercube}
    if method not in engines:
        raise ValueError(
            f'`sampled(method=...)` must be "halton", "sobol", "latin" or "random", got {method!r}.'
        )
    return np.asarray(engines[method](dimensions, rng=rng).random(count))


def _distribution(where: str, low: Any, high: Any, log: bool, whole: bool) -> Distribution:
    low = checked_number(f"{where}(low=...)", low)
    high = checked_number(f"{where}(high=...)", high)
    if not low < high:
        raise ValueError(f"`{where}(high=...)` must be greater than low={low}, got {high}.")
    return Distribution(low, high, log, whole)


def _show(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
