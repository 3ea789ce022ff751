"""What recipes do with their arguments: checks in their own name, arithmetic with tracers."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxsched import _number as num
from jaxsched._struct import checked_number, fetch, is_known
from jaxsched.schedules import _laws as laws
from jaxsched.schedules import _shapes as shapes
from jaxsched.schedules._base import AbstractSchedule, as_real

Shape = str | Callable[[Any, Any, Any], AbstractSchedule]

SHAPES: dict[str, Callable[[Any, Any, Any], AbstractSchedule]] = {
    "linear": shapes.Linear,
    "cosine": shapes.Cosine,
    "1-sqrt": shapes.Sqrt,
    "sqrt": lambda start, end, steps: shapes.Polynomial(start, end, steps, power=0.5),
    "square": lambda start, end, steps: shapes.Warp(shapes.Linear(start, end, steps), power=2.0),
    "polynomial": shapes.Polynomial,
    "exponential": shapes.ShiftedExponential,
    "geometric": shapes.Geometric,
    "harmonic": shapes.Harmonic,
    "mirror_cosine": shapes.MirrorCosine,
    "half_cosine": shapes.HalfCosine,
    "quarter_cosine": shapes.QuarterCosine,
    "rex": shapes.Rex,
}


def share(fraction: Any, steps: Any) -> Any:
    """``fraction * steps``, rounded to the nearest whole step, halves up; traced or not."""
    known = is_known(fraction) and is_known(steps)
    x: Any = np.float64(0.0) if known else num.as_double(0.0)
    x = num.like(x, fetch(fraction)) * num.like(x, fetch(steps))
    whole = num.to_int32(num.nudged(x + 0.5))
    return int(whole) if known and np.ndim(whole) == 0 else whole


def check_lengths(name: str, **lengths: Any) -> None:
    """Raises in a recipe's own name what a piece would raise in its own."""
    for argument, value in lengths.items():
        checked_number(f"{name}({argument}=...)", value, at_least=0)


def check_reals(name: str, **numbers: Any) -> None:
    for argument, value in numbers.items():
        checked_number(f"{name}({argument}=...)", value)


def check_base(name: str, schedule: Any) -> None:
    if not isinstance(schedule, AbstractSchedule):
        raise TypeError(
            f"{name}(schedule=...) must be a schedule, got {schedule!r} "
            f"({type(schedule).__name__}); wrap a function with `js.from_fn`."
        )


def named_shape(name: str, shape: Shape) -> Callable[[Any, Any, Any], AbstractSchedule]:
    if callable(shape):
        return shape
    if shape not in SHAPES:
        raise ValueError(
            f"{name}(shape=...) must be a function (start, end, steps) -> schedule or one of "
            f"{', '.join(map(repr, SHAPES))}, got {shape!r}."
        )
    return SHAPES[shape]


def exponential(name: str, peak: Any, factor: Any, every: Any) -> AbstractSchedule:
    factor = checked_number(f"{name}(factor=...)", factor, above=0)
    every = checked_number(f"{name}(every=...)", every, above=0)
    if isinstance(factor, (int, float)):
        return laws.Exponential(peak, divide(math.log(factor), every))
    factor = jnp.asarray(factor)
    # Near 1 the logarithm of the factor hangs on its distance from 1, which is exact.
    return laws.Exponential(peak, divide(jnp.log1p(factor - 1), every))


def plain(value: jax.Array) -> Any:
    """A known float32 scalar as a NumPy one, which prints and compares as a number does."""
    plain = is_known(value) and value.ndim == 0 and value.dtype == jnp.float32
    return np.float32(fetch(value)) if plain else value


def multiply(x: Any, y: Any) -> Any:
    return _floating(x) * _floating(y)


def divide(x: Any, y: Any) -> Any:
    return _floating(x) / _floating(y)


def power(x: Any, y: Any) -> Any:
    return _floating(x) ** _floating(y)


def _floating(x: Any) -> Any:
    return x if isinstance(x, (int, float)) else as_real(x)
