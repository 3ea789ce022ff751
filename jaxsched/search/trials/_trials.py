"""Trials: which schedules a sweep compares, with the names and settings they came from."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from jaxsched._arrays import is_list
from jaxsched._checks import checked_text, checked_whole
from jaxsched._text import printable, shorten
from jaxsched._words import WRAP, uncalled
from jaxsched.controllers._base import AbstractController
from jaxsched.schedules._base import AbstractSchedule, Constant
from jaxsched.search._fingerprint import label, plain
from jaxsched.search.trials._draws import Distribution, draw, points
from jaxsched.search.trials._kinds import (
    Kind,
    Maker,
    Recipe,
    bare,
    by_name,
    kinds_of,
    maker_of,
    structure,
    told_apart,
)

Followed = AbstractSchedule | AbstractController  # what a hyperparameter may follow
Recipes = Recipe | Sequence[Recipe] | Mapping[str, Recipe]
Rows = list[dict[str, Any]]


@dataclasses.dataclass(frozen=True)
class Trial:
    """One row of a sweep.

    Args:
        name: a label for tables and plots.
        settings: what varies, name -> number or text; the columns of the result's table.
        schedules: hyperparameter -> schedule or controller; or one, of the learning rate.
        kind: the recipe that made it, by which ``SweepResult.compare`` groups trials.

    Raises:
        TypeError: if the schedules are none, or the settings no dict.

    >>> import jaxsched as js
    >>> from jaxsched.search import Trial
    >>> Trial("mine", {"peak": 0.1}, js.cosine_decay(0.1, 100), kind="cosine").schedule.duration
    100
    """

    name: str
    settings: dict[str, Any]
    schedules: dict[str, Followed]
    kind: str = ""
    _maker: Maker = dataclasses.field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        for name in ("name", "kind"):
            checked_text(f"Trial({name}=...)", getattr(self, name))
        if not isinstance(self.settings, Mapping):
            raise TypeError(
                f"Trial(settings=...) must be a dict name -> value, got {self.settings!r} "
                f"({type(self.settings).__name__})."
            )
        settings = {name: as_setting(value) for name, value in self.settings.items()}
        object.__setattr__(self, "settings", settings)
        schedules = as_schedules(self.schedules, "Trial(schedules=...)")
        object.__setattr__(self, "schedules", schedules)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_maker": None}  # a lambda cannot be pickled

    @property
    def schedule(self) -> Followed:
        """The learning rate's schedule (or controller), or the only one there is.

        Raises:
            ValueError: if there are several, and none is the learning rate's.
        """
        if len(self.schedules) == 1:
            return next(iter(self.schedules.values()))
        if "learning_rate" not in self.schedules:
            raise ValueError(
                f"Trial.schedule must be of a learning_rate or of the only hyperparameter, got "
                f"{', '.join(self.schedules)}; take `schedules[name]`."
            )
        return self.schedules["learning_rate"]


Trials = tuple[Trial, ...]


def grid(recipe: Recipes, /, **arguments: Any) -> Trials:
    """Every combination of the arguments' values, the last argument changing fastest.

    Args:
        recipe: a function that returns a schedule or controller (of the learning rate), or a dict
            hyperparameter -> schedule, controller or number; such as ``js.warmup_cosine`` or one of
            your own. Or several kinds: a dict name -> recipe, or a list of recipes, which are
            called by their functions' names.
        **arguments: for each argument of the recipe a value, or a list or array of values. An
            argument that is itself a list needs a list of lists. Each of several recipes is given
            those that it has.

    Returns:
        A tuple of trials; add tuples to join them. Where they are of several kinds, their names
        begin with it.

    Raises:
        ValueError: if a list is empty.
        TypeError: if no recipe has an argument, or one that a recipe needs is missing.

    >>> import jaxsched as js
    >>> from jaxsched.search import grid
    >>> trials = grid(js.warmup_cosine, peak=[0.1, 0.3], warmup=[0, 10], steps=100)
    >>> [trial.name for trial in trials]
    ['peak=0.1 warmup=0', 'peak=0.1 warmup=10', 'peak=0.3 warmup=0', 'peak=0.3 warmup=10']
    >>> kinds = {"cosine": js.warmup_cosine, "wsd": js.wsd}
    >>> [t.name for t in grid(kinds, peak=0.1, warmup=5, steps=100, decay=[10, 20])]
    ['cosine', 'wsd decay=10', 'wsd decay=20']
    """
    columns = {name: _values("grid", name, value) for name, value in arguments.items()}

    def rows(taken: list[str]) -> Rows:
        product = itertools.product(*(columns[name] for name in taken))
        return [dict(zip(taken, row, strict=True)) for row in product]

    return _trials("grid", recipe, columns, rows)


def zipped(recipe: Recipes, /, **arguments: Any) -> Trials:
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
        raise ValueError(f"zipped(...) must be given lists of one length, got {lengths}.")
    count = max(lengths.values(), default=1)

    def rows(taken: list[str]) -> Rows:
        wide = {name: columns[name] * (count if len(columns[name]) == 1 else 1) for name in taken}
        return [{name: column[i] for name, column in wide.items()} for i in range(count)]

    return _trials("zipped", recipe, columns, rows)


def sampled(
    recipe: Recipes, count: int, /, *, seed: int = 0, method: str = "halton", **arguments: Any
) -> Trials:
    """``count`` random or quasi-random draws; the same seed gives the same trials.

    Args:
        recipe: as for ``grid``; several recipes are drawn the same values of what they share.
        count: number of trials of each recipe, at least 1.
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
    count = checked_whole("sampled(count=...)", count, 1)
    seed = checked_whole("sampled(seed=...)", seed, 0)
    columns = {
        name: value if isinstance(value, Distribution) else _values("sampled", name, value)
        for name, value in arguments.items()
    }
    free = [n for n, c in columns.items() if isinstance(c, Distribution) or len(c) > 1]
    if not free:
        raise ValueError("sampled(...) must be given something to draw, got single values only.")
    drawn = []
    for point in points(method, len(free), count, seed):
        quantile = dict(zip(free, map(float, point), strict=True))
        drawn.append({name: draw(c, quantile.get(name, 0.0)) for name, c in columns.items()})

    def rows(taken: list[str]) -> Rows:
        return [{name: row[name] for name in taken} for row in drawn]

    return _trials("sampled", recipe, columns, rows)


def as_trials(trials: Any, where: str = "sweep") -> Trials:
    """What a sweep may be given, as trials with names and kinds of their own.

    Schedules (of the learning rate), trials and dicts hyperparameter -> schedule: one, a list of
    them, or a dict that names them or lists of them.
    """
    if isinstance(trials, Mapping):
        if "learning_rate" in trials:
            raise TypeError(
                f"{where}(trials=...) must be a list of dicts hyperparameter -> schedule, or one "
                f"dict that names trials, got a dict with learning_rate; write [{{...}}] around it."
            )
        named = by_name(trials, f"{where}(trials=...)").items()
        made = tuple(trial for kind, given in named for trial in _of_name(kind, given, where))
    else:
        made = _listed(trials, where)
    if not made:
        raise ValueError(f"{where}(trials=...) must hold at least one trial, got none.")
    names = {tuple(sorted(trial.schedules)) for trial in made}
    if len(names) > 1:
        raise ValueError(
            f"{where}(trials=...) must schedule the same hyperparameters in all trials, "
            f"got {sorted(names)}."
        )
    return tuple(dataclasses.replace(trial, _maker=None) for trial in told_apart(made))


def as_schedules(made: Any, where: str) -> dict[str, Followed]:
    """A schedule, controller, number or a dict of them, as hyperparameter -> schedule."""
    named = made if isinstance(made, Mapping) else {"learning_rate": made}
    schedules: dict[str, Followed] = {}
    for name, one in named.items():
        if isinstance(one, jax.Array) and _is_scalar(one):
            one = one.item()
        if isinstance(one, (int, float, np.number)) and not isinstance(one, bool):
            one = Constant(one)
        if not isinstance(one, Followed):
            raise TypeError(
                f"{where} must be made of schedules and controllers, got {one!r} "
                f"({type(one).__name__}) for {name!r}{uncalled(one) or WRAP}."
            )
        schedules[str(name)] = one
    if not schedules:
        raise ValueError(f"{where} must schedule at least one hyperparameter, got none.")
    return schedules


def as_setting(value: Any) -> Any:
    """A value as a result that was saved has it again: of arrays and tuples lists, or a number."""
    if isinstance(value, (np.ndarray, np.generic, jax.Array)):
        return value.tolist()
    return [as_setting(v) for v in value] if type(value) in (list, tuple) else value


# ---------------------------------------------------------------------------------------- details


def _trials(
    where: str,
    recipe: Any,
    columns: Mapping[str, Any],
    rows: Callable[[list[str]], Rows],
) -> Trials:
    """Of each kind the rows of the arguments that it has."""
    kinds = kinds_of(recipe, columns, where)
    trials: list[Trial] = []
    for kind in kinds:
        taken = kind.takes(list(columns), where, len(kinds) == 1)
        found = rows(taken)
        if len(taken) < len(columns):  # rows that differ in what the recipe hasn't are one
            found = list({plain(row): row for row in found}.values())
        trials += _of_kind(where, kind, found, len(kinds) > 1)
    return told_apart(tuple(trials))


def _of_kind(where: str, kind: Kind, rows: Rows, many: bool) -> list[Trial]:
    varying = [n for n in rows[0] if len({plain(row[n]) for row in rows}) > 1]
    if not (varying or many):
        varying = list(rows[0])
    trials = []
    for row in rows:
        name = " ".join(f"{n}={_show(row[n])}" for n in varying)
        try:
            schedules = as_schedules(kind.recipe(**row), f"{where}(recipe=...)")
        except Exception as error:
            name = f"{f'{kind.name} ' * many}{name}".strip()
            error.add_note(f"in {where}(...), for the trial {printable(name)}")
            raise
        trials.append(Trial(name or kind.name, row, schedules, kind.name, kind.maker))
    return trials


def _listed(given: Any, where: str) -> Trials:
    """One thing or a list of things that train, lists of lists included."""
    single = (AbstractSchedule, AbstractController, Trial, Mapping)
    if isinstance(given, single):
        given = [given]
    if isinstance(given, str) or not isinstance(given, Iterable):
        raise TypeError(
            f"{where}(trials=...) must be a schedule, or a list or dict of schedules or trials, "
            f"got {type(given).__name__}{uncalled(given)}."
        )
    made: list[Trial] = []
    for one in given:
        if isinstance(one, Trial):
            made.append(one)
        elif type(one) in (list, tuple):  # no named tuple, as Optax's are
            made += _listed(one, where)
        else:
            schedules = as_schedules(one, f"{where}(trials=...)")
            rate = schedules.get("learning_rate", next(iter(schedules.values())))
            maker = maker_of(rate)
            kind = structure(rate) if maker is None else maker[0]
            name = shorten(repr(one.item() if _is_scalar(one) else one))
            made.append(Trial(name, {}, schedules, kind, maker))
    return tuple(made)


def _of_name(kind: str, given: Any, where: str) -> list[Trial]:
    """What a dict has under a name."""
    listed = type(given) in (list, tuple)
    trials = _listed(given if listed else [given], where)
    if not trials:
        raise ValueError(
            f"{where}(trials=...) must hold at least one trial for {kind!r}, got none."
        )
    alone = not listed and not trials[0].settings and len(trials) == 1
    several = len({trial.kind for trial in trials}) > 1
    texts = [trial.name if several else bare(trial) for trial in trials]
    names = [kind if alone else f"{kind} {text}".strip() for text in texts]
    return [
        dataclasses.replace(trial, name=name, kind=kind, _maker=None)
        for trial, name in zip(trials, names, strict=True)
    ]


def _values(where: str, name: str, value: Any) -> list[Any]:
    if isinstance(value, Distribution):
        raise TypeError(f"{where}({name}=...) must be values, got {value!r}; use `sampled`.")
    if is_list(value) or (hasattr(value, "tolist") and np.ndim(value) > 0):
        values = value.tolist() if hasattr(value, "tolist") else list(value)
        if not values:
            raise ValueError(f"{where}({name}=...) must hold at least one value, got none.")
        return [v.item() if _is_scalar(v) else v for v in values]
    return [value.item() if _is_scalar(value) else value]


def _is_scalar(value: Any) -> bool:
    return hasattr(value, "item") and np.ndim(value) == 0


def _show(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else label(as_setting(value))
