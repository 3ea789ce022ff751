"""Checks of a user's classes, at construction and of values, with their names in the errors."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from jaxsched import _number as num
from jaxsched._arrays import is_number
from jaxsched._checks import checked_number
from jaxsched._number import Number, Value
from jaxsched._struct import Record
from jaxsched._text import describe, shorten

_ERRORS = (TypeError, ValueError, AttributeError)  # of JAX, of NumPy, of a missing attribute of `t`
_REPAIR = (
    "write `where(t < 10, a, b)` for an `if`, `power(t, 2)` for `t ** 2`, and other functions of "
    "jaxsched.schedules for those of math and NumPy, or `jnp` of `to_value(t)`."
)


def value_of(schedule: Any, t: Number) -> Value:
    """``schedule.value_at(t)``, checked; an error names the user's class at fault."""
    try:
        value = schedule.value_at(t)
        if _fits(value, t):
            return value
        raise _wrong_value(schedule, value)
    except _ERRORS as error:
        problem = _told(schedule, t)
        if problem is None:
            raise
        raise problem from error


def _told(schedule: Any, t: Number) -> TypeError | None:
    """The error of the innermost user's class with a wrong ``value_at``, or ``None``."""
    # Each class is called again, by itself, after the failure: a check around every call would slow
    # down correct ones. The inner classes come first, as their failures make outer ones fail. An
    # error with the name of its class, such as the error of `weights`, is left as it is.
    for node in _own(schedule):
        try:
            value = node.value_at(t)
        except _ERRORS as error:
            said = str(error).partition("\n")[0]
            if said.startswith(f"{type(node).__name__}."):
                return None
            return TypeError(
                f"{type(node).__name__}.value_at(t) must take a `t` of any shape, in a program a "
                "traced number of two float32 words, got "
                f"{type(error).__name__} ({shorten(said, 100)}): {_REPAIR}"
            )
        if not _fits(value, t):
            return _wrong_value(node, value)
    return None


def _wrong_value(schedule: Record, value: object) -> TypeError:
    return TypeError(
        f"{type(schedule).__name__}.value_at(t) must return one number for each element of `t`, "
        f"got {describe(value)}."
    )


def _fits(value: object, t: Number) -> bool:
    """Whether it is one number for each element of ``t``, or a single one for all."""
    if isinstance(value, num.Double):
        return True
    kind = type(value)
    if kind is float or kind is np.float64:  # the usual case, quickly
        return True
    return is_number(value) and np.shape(value) in ((), np.shape(num.to_value(t)))


def check_duration(schedule: Any) -> None:
    """Checks the duration of a user's class, before other schedules use it."""
    if _is_ours(schedule):
        return
    where, length = f"{type(schedule).__name__}.duration", schedule.duration
    if length is None:
        return
    if is_number(length) and not isinstance(length, bool):
        checked_number(where, length, at_least=0)
        return
    repair = ": decorate it with @property" if callable(length) else ""
    raise TypeError(f"{where} must be a number of steps or None, got {describe(length)}{repair}.")


def _is_ours(schedule: Record) -> bool:
    return type(schedule).__module__.startswith("jaxsched.")


def _own(schedule: Record) -> Iterator[Any]:
    """The schedules of a user's classes in it, inner ones first."""
    for field in vars(schedule).values():
        for part in field if isinstance(field, tuple) else (field,):
            if isinstance(part, Record):
                yield from _own(part)
    if not _is_ours(schedule):
        yield schedule
