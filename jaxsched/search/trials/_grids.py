"""``grid``, ``zipped`` and ``sampled``: trials from recipes and the values of their arguments."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from jaxsched._arrays import is_list
from jaxsched._checks import MANY, checked_whole
from jaxsched._text import printable, shorten, warn
from jaxsched._words import known_arguments
from jaxsched.search._fingerprint import label, plain
from jaxsched.search.trials._draws import Distribution, draw, points
from jaxsched.search.trials._given import differing_words, with_distinct_names
from jaxsched.search.trials._kinds import Kind, Recipe, kinds_of, structure
from jaxsched.search.trials._trials import (
    Followed,
    Trial,
    Trials,
    as_schedules,
    as_setting,
    is_scalar,
)

Recipes = Recipe | Sequence[Recipe] | Mapping[str, Recipe]
Rows = list[dict[str, Any]]


@known_arguments
def grid(recipe: Recipes, /, **arguments: Any) -> Trials:
    """Every combination of the arguments' values, the last argument changing fastest.

    Args:
        recipe: a function that returns a schedule or controller (of the learning rate), or a dict
            hyperparameter -> schedule, controller or number; such as ``js.warmup_cosine`` or one of
            your own. Or several kinds: a dict name -> recipe, or a list of recipes, which are
            called by their functions' names.
        **arguments: for each argument of the recipe a value, or a list or array of values. An
            argument that is itself a list needs a list of lists. Each of several recipes gets the
            arguments that it has.

    Returns:
        A tuple of trials; add tuples to join them. Where they are of several kinds, their names
        begin with it.

    Raises:
        ValueError: if a list is empty, or there are more than 2**20 combinations.
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
        count = math.prod(len(columns[name]) for name in taken)
        if count > MANY:
            raise ValueError(
                f"grid(...) must be given at most {MANY} combinations of values, got {count}. "
                "Draw some of them with `sampled`."
            )
        product = itertools.product(*(columns[name] for name in taken))
        return [dict(zip(taken, row, strict=True)) for row in product]

    return _trials("grid", recipe, columns, rows)


@known_arguments
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


@known_arguments
def sampled(
    recipe: Recipes, count: int, /, *, seed: int = 0, method: str = "halton", **arguments: Any
) -> Trials:
    """``count`` random or quasi-random draws; the same seed gives the same trials.

    Args:
        recipe: as for ``grid``; several recipes get the same values for shared arguments.
        count: number of trials of each recipe, from 1 to 2**20.
        seed: seed of the draw.
        method: "halton" (default), "sobol" or "latin", which cover the box more evenly than chance
            and are SciPy's; or "random".
        **arguments: for each argument of the recipe a ``uniform`` or ``loguniform``, a list or
            tuple to choose from, or a value. So ``(1e-3, 1.0)`` are two choices, not a range.

    Raises:
        ValueError: if nothing is left to draw, a list is empty or the method is unknown.

    >>> import jaxsched as js
    >>> from jaxsched.search import loguniform, sampled
    >>> len(sampled(js.cosine_decay, 8, peak=loguniform(1e-4, 1e-1), steps=100))
    8
    """
    count = checked_whole("sampled(count=...)", count, 1, MANY)
    seed = checked_whole("sampled(seed=...)", seed, 0)
    columns = {
        name: value if isinstance(value, Distribution) else _values("sampled", name, value)
        for name, value in arguments.items()
    }
    free = [n for n, c in columns.items() if isinstance(c, Distribution) or len(c) > 1]
    if not free:
        raise ValueError("sampled(...) must be given something to draw, got single values only.")
    drawn = []  # before any recipe is asked: all get the same values of shared arguments
    for point in points(method, len(free), count, seed):
        quantile = dict(zip(free, map(float, point), strict=True))
        drawn.append({name: draw(c, quantile.get(name, 0.0)) for name, c in columns.items()})
    if repeated := count - len(set(map(plain, drawn))):
        warn(
            f"sampled(count={count}): {repeated} of the trials repeat others, and have the same "
            "runs: there is nothing to compare. A grid has each combination of values once."
        )

    def rows(taken: list[str]) -> Rows:
        return [{name: row[name] for name in taken} for row in drawn]

    return _trials("sampled", recipe, columns, rows)


def _trials(
    where: str,
    recipe: Recipes,
    columns: Mapping[str, object],
    rows: Callable[[list[str]], Rows],
) -> Trials:
    """The trials of each kind, one for each row of its arguments."""
    kinds = kinds_of(recipe, columns, where)
    trials: list[Trial] = []
    for kind in kinds:
        taken = kind.takes(list(columns), where, len(kinds) == 1)
        chosen = rows(taken)
        if len(taken) < len(columns):  # rows may differ in arguments of other recipes only
            chosen = list({plain(row): row for row in chosen}.values())
        trials += _of_kind(where, kind, chosen, len(kinds) > 1)
    return with_distinct_names(tuple(trials))


def _of_kind(where: str, kind: Kind, rows: Rows, many: bool) -> list[Trial]:
    """A trial for each row, named by the arguments that vary; ``many``: there are other kinds."""
    varying = [n for n in rows[0] if len({plain(row[n]) for row in rows}) > 1]
    if not (varying or many):  # a single trial: its name says all of its arguments
        varying = list(rows[0])
    trials = []
    short = {n: _short([row[n] for row in rows]) for n in varying}
    for row in rows:
        shown = {n: short[n].get(plain(row[n])) or _show(row[n]) for n in varying}
        name = " ".join(f"{n}={text}" for n, text in shown.items())
        try:
            schedules = as_schedules(kind.recipe(**row), f"{where}(recipe=...)")
        except Exception as error:
            name = f"{f'{kind.name} ' * many}{name}".strip()
            error.add_note(f"in {where}(...), for the trial {printable(name)}")
            raise
        trials.append(Trial(name or kind.name, row, schedules, kind.name, kind.maker))
    return trials


def _values(where: str, name: str, value: Any) -> list[Any]:
    """The values of an argument, as a list."""
    if isinstance(value, Distribution):
        raise TypeError(f"{where}({name}=...) must be values, got {value!r}; use `sampled`.")
    values = [value]
    is_array = hasattr(value, "tolist")
    if is_list(value) or (is_array and np.ndim(value) > 0):
        values = value.tolist() if is_array else list(value)
        if not values:
            raise ValueError(f"{where}({name}=...) must hold at least one value, got none.")
    return [v.item() if is_scalar(v) else v for v in values]


def _short(values: list[object]) -> dict[str, str]:
    """``plain`` -> the structure of a schedule, and its differences from others of its kind."""
    # A schedule among the values may be a hundred characters long. Linear(1, 0, 10) beside
    # Linear(1, 0, 20) is "Linear(steps=10)": only the words in which the two differ.
    given = {plain(x): structure(x) for x in values if isinstance(x, Followed)}
    for kind in set(given.values()):
        same = [text for text in given if given[text] == kind]
        if len(same) > 1:
            words = zip(*differing_words(same), strict=True)
            given |= {
                t: f"{kind}({shorten(', '.join(w))})" for t, w in zip(same, words, strict=True)
            }
    return given


def _show(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else label(as_setting(value))
