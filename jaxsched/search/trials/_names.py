"""Names by which the trials of a sweep are told apart."""

from __future__ import annotations

import dataclasses
import itertools
import re
from typing import Any

from jaxsched._text import shorten
from jaxsched.search._fingerprint import labels, plain
from jaxsched.search.trials._trials import Trial


def bare(trial: Trial) -> str:
    """The name without the kind."""
    return "" if trial.name == trial.kind else trial.name.removeprefix(f"{trial.kind} ")


def told_apart(trials: tuple[Trial, ...]) -> tuple[Trial, ...]:
    """With kinds and names that are one trial's or one recipe's only.

    Recipes that share a name are numbered. Where there are several kinds, the names of trials that
    are made of settings begin with them. Names that are equal all the same get the settings in
    which they differ, or what is unlike in their schedules (long texts are cut), and else a number.
    """
    trials = _numbered(trials)
    if len({trial.kind for trial in trials} - {""}) > 1:
        trials = tuple(_renamed(t, f"{t.kind} {bare(t)}".strip()) for t in trials)
    for tell in (_differing, _unlike, _place):
        same: dict[str, list[int]] = {}
        for i, trial in enumerate(trials):
            same.setdefault(trial.name, []).append(i)
        if len(same) == len(trials):
            break
        named = list(trials)
        for name, group in same.items():
            if len(group) > 1:
                for i, text in zip(group, tell([trials[i] for i in group]), strict=True):
                    named[i] = dataclasses.replace(trials[i], name=f"{name} {text}".strip())
        trials = tuple(named)
    return trials


# ---------------------------------------------------------------------------------------- details


def _numbered(trials: tuple[Trial, ...]) -> tuple[Trial, ...]:
    makers: dict[str, list[Any]] = {}
    for trial in trials:
        if trial._maker is not None:
            name, key = trial._maker
            if key not in makers.setdefault(name, []):
                makers[name].append(key)
    taken = {t.kind for t in trials if t._maker is None} | set(makers)
    names: dict[str, list[str]] = {}
    for name, keys in makers.items():
        free = (f"{name} {i}" for i in range(1, len(trials) + len(taken) + 2))
        fresh = (text for text in free if text not in taken)
        names[name] = [name] if len(keys) == 1 else [next(fresh) for _ in keys]
    return tuple(
        t
        if t._maker is None
        else _as_kind(t, names[t._maker[0]][makers[t._maker[0]].index(t._maker[1])])
        for t in trials
    )


def _as_kind(trial: Trial, kind: str) -> Trial:
    if kind == trial.kind:
        return trial
    rest = bare(trial)
    name = f"{kind} {rest}".strip() if rest != trial.name else rest
    return dataclasses.replace(trial, kind=kind, name=name)


def _renamed(trial: Trial, name: str) -> Trial:
    return dataclasses.replace(trial, name=name) if trial.settings and trial.kind else trial


def _differing(trials: list[Trial]) -> list[str]:
    names = dict.fromkeys(n for trial in trials for n in trial.settings)
    shown = {n: labels(t.settings[n] for t in trials if n in t.settings) for n in names}
    differ = [n for n in names if len({plain(trial.settings.get(n)) for trial in trials}) > 1]
    return [
        " ".join(f"{n}={shown[n][plain(t.settings[n])]}" for n in differ if n in t.settings)
        for t in trials
    ]


def _unlike(trials: list[Trial]) -> list[str]:
    """Of trials without settings."""
    texts = ["" if t.settings else " ".join(map(plain, t.schedules.values())) for t in trials]
    words = itertools.zip_longest(*(re.split(r"[(), ]+", text) for text in texts), fillvalue="")
    differ = [row for row in words if len(set(row)) > 1]
    return [shorten(" ".join(row[i] for row in differ)) for i in range(len(trials))]


def _place(trials: list[Trial]) -> list[str]:
    return ["", *(f"({i})" for i in range(2, len(trials) + 1))]
