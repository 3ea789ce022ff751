"""What a sweep is given, as trials."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

from jaxsched._text import shorten
from jaxsched._words import uncalled
from jaxsched.controllers._base import AbstractController
from jaxsched.schedules._base import AbstractSchedule
from jaxsched.search.trials._kinds import by_name, maker_of, structure
from jaxsched.search.trials._names import bare, told_apart
from jaxsched.search.trials._trials import Trial, Trials, as_schedules, is_scalar


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


# ---------------------------------------------------------------------------------------- details


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
            name = shorten(repr(one.item() if is_scalar(one) else one))
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
