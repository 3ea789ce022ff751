"""Trials: which schedules a sweep compares, with the names and settings they came from."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

import jax
import numpy as np

from jaxsched._checks import checked_text
from jaxsched._text import shorten
from jaxsched._words import WRAP, known_arguments, uncalled
from jaxsched.controllers._base import AbstractController
from jaxsched.schedules._base import AbstractSchedule, Constant
from jaxsched.search.trials._kinds import Maker, by_name, maker_of, structure
from jaxsched.search.trials._names import bare, told_apart

Followed = AbstractSchedule | AbstractController  # what a hyperparameter may follow


@known_arguments
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
        if isinstance(one, jax.Array) and is_scalar(one):
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


def is_scalar(value: Any) -> bool:
    return hasattr(value, "item") and np.ndim(value) == 0


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
