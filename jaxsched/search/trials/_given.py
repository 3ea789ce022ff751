"""The trials of a sweep, in whatever form they came; and their distinct names."""

from __future__ import annotations

import dataclasses
import itertools
import re
from collections.abc import Mapping
from typing import Any

import jax

from jaxsched._arrays import is_concrete
from jaxsched._checks import checked_items
from jaxsched._populations import members
from jaxsched._text import printable, shorten
from jaxsched.controllers._base import AbstractController
from jaxsched.schedules._base import AbstractSchedule
from jaxsched.search._fingerprint import labels, plain
from jaxsched.search.trials._kinds import by_name, maker_of, structure
from jaxsched.search.trials._trials import Trial, Trials, as_schedules, is_scalar


def as_trials(trials: object) -> Trials:
    """The argument of a sweep as trials with names and kinds of their own.

    Schedules (of the learning rate), trials and dicts hyperparameter -> schedule: one, a list of
    them, or a dict from names to them or to lists of them.
    """
    if isinstance(trials, Mapping):
        if "learning_rate" in trials:
            raise TypeError(
                "sweep(trials=...) must be a list of dicts hyperparameter -> schedule, or one "
                "dict that names trials, got a dict with learning_rate; write [{...}] around it."
            )
        named = by_name(trials, "sweep(trials=...)").items()
        made = tuple(trial for kind, given in named for trial in _trials_of_name(kind, given))
    else:
        made = _trials_of_list(trials)
    if not made:
        raise ValueError("sweep(trials=...) must hold at least one trial, got none.")
    names = {tuple(sorted(trial.schedules)) for trial in made}
    if len(names) > 1:
        raise ValueError(
            "sweep(trials=...) must schedule the same hyperparameters in all trials, "
            f"got {sorted(names)}."
        )
    made = with_distinct_names(made)
    for trial in made:
        check_single("sweep(trials=...)", trial)
    return tuple(dataclasses.replace(trial, _maker=None) for trial in made)


def with_distinct_names(trials: tuple[Trial, ...]) -> tuple[Trial, ...]:
    """The trials with distinct names, and with distinct kinds for their recipes.

    Recipes that share a name are numbered. Where there are several kinds, the names of trials with
    settings begin with them. Names that are still equal get the settings in which they differ, or
    the differences of their schedules (long texts are cut), and else a number.
    """
    # A name must be one trial's only: rows of tables, curves and `result["..."]` are found by it.
    # In grids of two functions called `decay`, "peak=1" is there twice; the kinds become "decay 1"
    # and "decay 2", and the names "decay 1 peak=1" and "decay 2 peak=1".
    trials = _with_numbered_recipes(trials)
    if len({trial.kind for trial in trials} - {""}) > 1:
        trials = tuple(
            _renamed(t, f"{t.kind} {_without_kind(t)}") if t.settings and t.kind else t
            for t in trials
        )
    # Each method is applied to the names that are equal after the one before; the last method, a
    # number, always makes names distinct.
    for tell in (_differing_settings, _differing_schedules, _numbered_equals):
        same: dict[str, list[Trial]] = {}
        for trial in trials:
            same.setdefault(trial.name, []).append(trial)
        texts = {name: iter(tell(group)) for name, group in same.items() if len(group) > 1}
        trials = tuple(
            _renamed(t, f"{t.name} {next(texts[t.name])}") if t.name in texts else t for t in trials
        )
    return trials


def _trials_of_list(given: Any) -> Trials:
    """One thing or a list of things that train, lists of lists included."""
    if isinstance(given, (AbstractSchedule, AbstractController, Trial, Mapping)):
        given = [given]
    expected = "a schedule, or a list or dict of schedules or trials"
    made: list[Trial] = []
    for one in checked_items("sweep(trials=...)", given, expected):
        if isinstance(one, Trial):
            made.append(one)
        elif type(one) in (list, tuple):  # no named tuple, as Optax's are
            made += _trials_of_list(one)
        else:
            schedules = as_schedules(one, "sweep(trials=...)")
            rate = schedules.get("learning_rate", next(iter(schedules.values())))
            maker = maker_of(rate)
            kind = structure(rate) if maker is None else maker[0]
            name = shorten(repr(one.item() if is_scalar(one) else one))
            made.append(Trial(name, {}, schedules, kind, maker))
    return tuple(made)


def check_single(where: str, trial: Trial) -> None:
    """Raises if a schedule of it is traced, or several."""
    for name, one in trial.schedules.items():
        if not all(map(is_concrete, jax.tree.leaves(one))):
            raise TypeError(f"{where}: {printable(f'{name} of {trial.name}')} is traced.")
        if (count := members(one)) is not None:
            raise ValueError(
                f"{where}: {printable(f'{name} of {trial.name}')} is a population of {count}: give "
                "its members, `js.unstack(population)`."
            )


def _trials_of_name(kind: str, given: object) -> list[Trial]:
    """The entry of a dict under a name."""
    listed = type(given) in (list, tuple)
    trials = _trials_of_list(given if listed else [given])
    if not trials:
        raise ValueError(f"sweep(trials=...) must hold at least one trial for {kind!r}, got none.")
    # {"a": js.Constant(0.1)} is named "a", the members of {"b": [0.1, 0.2]} are "b 0.1" and "b 0.2"
    # and of {"c": grid(...)} "c peak=0.1", ..., without the name of the grid's recipe, unless there
    # are trials of several recipes under the one name.
    alone = not listed and not trials[0].settings and len(trials) == 1
    several = len({trial.kind for trial in trials}) > 1
    texts = [trial.name if several else _without_kind(trial) for trial in trials]
    names = [kind if alone else f"{kind} {text}".strip() for text in texts]
    return [
        dataclasses.replace(trial, name=name, kind=kind, _maker=None)
        for trial, name in zip(trials, names, strict=True)
    ]


def _without_kind(trial: Trial) -> str:
    """The name without the kind."""
    return "" if trial.name == trial.kind else trial.name.removeprefix(f"{trial.kind} ")


def _with_numbered_recipes(trials: tuple[Trial, ...]) -> tuple[Trial, ...]:
    """Recipes of one name get numbers: "decay 1", "decay 2", as kinds and in the trials' names."""
    makers: dict[str, list[object]] = {}
    for trial in trials:
        if trial._maker is not None:
            name, key = trial._maker
            if key not in makers.setdefault(name, []):
                makers[name].append(key)
    taken = {t.kind for t in trials if t._maker is None} | set(makers)
    names: dict[str, list[str]] = {}
    for name, keys in makers.items():
        # Skips the numbers in kinds chosen by a person: "decay 2" may be one.
        free = (text for i in itertools.count(1) if (text := f"{name} {i}") not in taken)
        names[name] = [name] if len(keys) == 1 else list(itertools.islice(free, len(keys)))

    def numbered(trial: Trial) -> Trial:
        if trial._maker is None:
            return trial
        name, key = trial._maker
        kind, rest = names[name][makers[name].index(key)], _without_kind(trial)
        named = trial if rest == trial.name else _renamed(trial, f"{kind} {rest}")
        return dataclasses.replace(named, kind=kind)

    return tuple(map(numbered, trials))


def _renamed(trial: Trial, name: str) -> Trial:
    return dataclasses.replace(trial, name=name.strip())


def _differing_settings(trials: list[Trial]) -> list[str]:
    """The differing settings of trials with one name, in their order."""
    names = dict.fromkeys(n for trial in trials for n in trial.settings)
    shown = {n: labels(t.settings[n] for t in trials if n in t.settings) for n in names}
    differ = [n for n in names if len({plain(trial.settings.get(n)) for trial in trials}) > 1]
    return [
        " ".join(f"{n}={shown[n][plain(t.settings[n])]}" for n in differ if n in t.settings)
        for t in trials
    ]


def _differing_schedules(trials: list[Trial]) -> list[str]:
    """The differing words of schedules, after the name of one of several."""
    names = dict.fromkeys(n for trial in trials for n in trial.schedules)
    unlike: list[list[str]] = [[] for _ in trials]
    for name in names:
        rows = [{} if trial.settings else trial.schedules for trial in trials]
        texts = [plain(schedules[name]) if name in schedules else "" for schedules in rows]
        differ = differing_words(texts)
        if differ and len(names) > 1:
            differ.insert(0, (name,) * len(trials))
        for i, text in enumerate(unlike):
            text += [row[i] for row in differ]
    return [shorten(" ".join(text)) for text in unlike]


def differing_words(texts: list[str]) -> list[tuple[str, ...]]:
    """The words in which texts of schedules differ, for each place one of every text."""
    words = itertools.zip_longest(*(re.split(r"[(), ]+", text) for text in texts), fillvalue="")
    return [row for row in words if len(set(row)) > 1]


def _numbered_equals(trials: list[Trial]) -> list[str]:
    return ["", *(f"({i})" for i in range(2, len(trials) + 1))]
