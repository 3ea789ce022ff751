"""The arguments of recipes: shapes by name, arithmetic with tracers."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from jaxsched._arrays import has_float64, is_concrete, to_host
from jaxsched._axes import axes
from jaxsched._types import Leaf
from jaxsched.schedules import _open_ended as laws
from jaxsched.schedules import _shapes as shapes
from jaxsched.schedules._base import AbstractSchedule
from jaxsched.schedules._lengths import as_real
from jaxsched.schedules._wrappers import Window

ShapeName = Literal[
    "linear",
    "cosine",
    "1-sqrt",
    "sqrt",
    "square",
    "polynomial",
    "exponential",
    "geometric",
    "harmonic",
    "mirror_cosine",
    "half_cosine",
    "quarter_cosine",
    "rex",
]
SHAPES: dict[ShapeName, Callable[[Any, Any, Any], AbstractSchedule]] = {
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


def exponential(start: Leaf, factor: Leaf, every: Leaf) -> AbstractSchedule:
    """``start * factor ** (t / every)``, as an exponential of the factor's logarithm."""
    if isinstance(factor, (int, float)):
        rate = np.float64(math.log(factor)) if has_float64([factor]) else math.log(factor)
        return laws.Exponential(start, divide(rate, every))
    factor = jnp.asarray(factor)
    # Near 1 the logarithm of the factor depends on its distance from 1, which is exact.
    return laws.Exponential(start, divide(jnp.log1p(factor - 1), every))


def transition(shape: Any, start: Leaf, end: Leaf, steps: Leaf) -> AbstractSchedule:
    """From ``start`` to ``end``; ``@recipe`` has replaced the name of a shape by its function."""
    return shape(start, end, steps)


def until(schedule: AbstractSchedule, steps: Leaf) -> AbstractSchedule:
    """The schedule's first ``steps``, which are the whole length; ``None``: all of it.

    A window, since an open-ended law has no length of its own to set, and the curve must not
    change.
    """
    return schedule if steps is None else Window(schedule, 0, steps)


def value_at(schedule: AbstractSchedule, step: Leaf) -> Leaf:
    """The value at ``step``, for a field; of a population, one value per member.

    A known value comes from the host, and is not rounded to float32.
    """
    shape = max(axes(schedule), default=())
    known = all(map(is_concrete, [step, *jax.tree.leaves(schedule)]))
    if known and not shape and np.ndim(step) == 0:
        return schedule.host(to_host(step))
    at: Any = lambda schedule, step: schedule(step)
    for size in shape:
        at = jax.vmap(at, in_axes=(0, 0 if np.ndim(step) else None), axis_size=size)
    return at(schedule, step)


def multiply(x: Leaf, y: Leaf) -> Leaf:
    return _floating(x) * _floating(y)


def divide(x: Leaf, y: Leaf) -> Leaf:
    return _floating(x) / _floating(y)


def power(x: Leaf, y: Leaf) -> Leaf:
    return _floating(x) ** _floating(y)


def root(x: Leaf) -> Leaf:
    return math.sqrt(x) if type(x) in (int, float) else jnp.sqrt(_floating(x))


def _floating(x: Leaf) -> Leaf:
    return x if isinstance(x, (int, float)) else as_real(x)
