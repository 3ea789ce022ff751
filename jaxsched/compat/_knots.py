"""Points that may be traced, out of order, and twice on one step: the last one there counts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxsched._arrays import is_concrete, to_host
from jaxsched.compat._pieces import plain, where
from jaxsched.recipes._arguments import multiply
from jaxsched.schedules._base import AbstractSchedule
from jaxsched.schedules._lengths import as_real, is_whole
from jaxsched.schedules._piecewise import PiecewiseConstant
from jaxsched.schedules._wrappers import Shift


def stack(numbers: Sequence[Any]) -> Any:
    """One array of numbers, int32 if all are whole."""
    if _known(numbers):
        return np.asarray([to_host(x) for x in numbers])
    whole = all(map(is_whole, numbers))
    return jnp.stack([jnp.asarray(x, jnp.int32) if whole else as_array(x) for x in numbers])


def _known(numbers: Sequence[Any]) -> bool:
    return all(is_concrete(x) and np.ndim(x) == 0 for x in numbers)


def as_array(x: Any) -> Any:
    return jnp.asarray(as_real(x), jnp.float32)


def levels(steps: Sequence[Any], values: Sequence[Any]) -> AbstractSchedule:
    """``PiecewiseConstant`` of steps in order, which may be negative or equal."""
    if _known(steps):
        found = {0: values[0]}
        for step, value in zip(map(plain, steps), values[1:], strict=True):
            found[max(step, 0)] = value
        return PiecewiseConstant([*found][1:], stack([*found.values()]))
    return PiecewiseConstant(jnp.maximum(stack(steps), 0), stack(values))


def scaled_knots(
    kind: Callable[..., AbstractSchedule], start: Any, steps: Sequence[Any], scales: Sequence[Any]
) -> AbstractSchedule:
    """A piece of ``kind`` through the products of scales, each of which acts at its own step.

    The first value stands at step 0, or at the first of the steps if that is earlier.
    """
    if _known(steps):
        of_step = dict(zip(map(plain, steps), scales, strict=True))  # as in a dict of Python
        steps = sorted(of_step)
        values = [start]
        for step in steps:
            values.append(multiply(values[-1], of_step[step]))
        if not steps or steps[0] > 0:
            return kind(stack([0, *steps]), stack(values))
        begun = kind(np.asarray(steps) - steps[0], stack(values[1:]))
        return begun if steps[0] == 0 else Shift(begun, steps[0])
    kept = []
    for i, step in enumerate(steps):
        scale = as_array(scales[i])
        for other, later in zip(steps[i + 1 :], scales[i + 1 :], strict=True):
            scale = where(lambda x, y: as_real(x) == as_real(y), (step, other), later, scale)
        for other in steps[:i]:
            scale = where(lambda x, y: as_real(x) == as_real(y), (step, other), 1.0, scale)
        kept.append(scale)
    at = stack(steps)
    order = jnp.argsort(at)
    factors = jnp.concatenate([as_array(start)[None], stack(kept)[order]])
    return kind(jnp.concatenate([jnp.zeros((1,), at.dtype), at[order]]), jnp.cumprod(factors))
