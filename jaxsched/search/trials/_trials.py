"""Trials: which schedules a sweep compares, with the names and settings they came from."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from jaxsched._bounds import check_text, checked_kind
from jaxsched._words import known_arguments, wrap
from jaxsched.controllers._base import AbstractController
from jaxsched.schedules._base import AbstractSchedule, Constant
from jaxsched.search.trials._kinds import Maker

Followed = AbstractSchedule | AbstractController  # a hyperparameter follows one of them


@known_arguments
@dataclasses.dataclass(frozen=True)
class Trial:
    """One row of a sweep.

    Args:
        name: a label for tables and plots.
        settings: the varied values, name -> number or text; the columns of the result's table.
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
            check_text(f"Trial({name}=...)", getattr(self, name))
        checked_kind("Trial(settings=...)", self.settings, Mapping, "a dict name -> value")
        settings = {str(name): as_setting(value) for name, value in self.settings.items()}
        object.__setattr__(self, "settings", settings)
        schedules = as_schedules(self.schedules, "Trial(schedules=...)")
        object.__setattr__(self, "schedules", schedules)

    def __getstate__(self) -> dict[str, object]:
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


def as_schedules(made: object, where: str) -> dict[str, Followed]:
    """A schedule, controller, number or a dict of them, as hyperparameter -> schedule."""
    named = made if isinstance(made, Mapping) else {"learning_rate": made}
    schedules: dict[str, Followed] = {}
    for name, one in named.items():
        if isinstance(one, jax.Array) and is_scalar(one):
            one = one.item()
        if isinstance(one, (int, float, np.number)) and not isinstance(one, bool):
            one = Constant(one)
        expected = f"made of schedules and controllers, for {name!r} too"
        schedules[str(name)] = checked_kind(where, one, Followed, expected, wrap)
    if not schedules:
        raise ValueError(f"{where} must schedule at least one hyperparameter, got none.")
    return schedules


def controllers(trial: Trial) -> dict[str, AbstractController]:
    """The controllers of a trial: hyperparameter -> controller."""
    return {n: s for n, s in trial.schedules.items() if isinstance(s, AbstractController)}


def as_setting(value: Any) -> Any:
    """A value as in a saved and loaded result: arrays and tuples as lists or a number."""
    if isinstance(value, (np.ndarray, np.generic, jax.Array)) and hasattr(value, "tolist"):
        return value.tolist()
    return [as_setting(v) for v in value] if type(value) in (list, tuple) else value


def is_scalar(value: Any) -> bool:
    return hasattr(value, "tolist") and np.ndim(value) == 0  # a random key has none
