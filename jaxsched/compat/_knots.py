"""Points that may be traced, out of order, and twice on one step: the last one there counts."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import jax.numpy as jnp
import numpy as np

from jaxsched._arrays import is_concrete, is_list, is_whole, to_host
from jaxsched._types import Leaf
from jaxsched.compat._pieces import larger, moved, plain, where
from jaxsched.recipes._arguments import multiply
from jaxsched.schedules._base import AbstractSchedule, Constant
from jaxsched.schedules._lengths import as_real
from jaxsched.schedules._piecewise import PiecewiseConstant


def stack(numbers: Sequence[Leaf]) -> Leaf:
    """One array of numbers, int32 if all are whole; populations are stacked on the last axis."""
    if known(numbers):
        return np.asarray([to_host(x) for x in numbers])
    whole = all(map(is_whole, numbers))
    arrays = [jnp.asarray(x, jnp.int32) if whole else as_array(x) for x in numbers]
    return jnp.stack(jnp.broadcast_arrays(*arrays), -1)


def known(numbers: Sequence[Leaf]) -> bool:
    return all(is_concrete(x) and np.ndim(x) == 0 for x in numbers)


def as_array(x: Leaf) -> Leaf:
    return jnp.asarray(as_real(x), jnp.float32)


def levels(steps: Sequence[Leaf], values: Sequence[Leaf]) -> AbstractSchedule:
    """``PiecewiseConstant`` of steps in order, which may be negative or equal."""
    # Known steps go through a dict, in which the last of equal ones stays, and all before step 0
    # take the place of the first value: [-2, 3, 3] with [1, .5, .2, .1] is .5, from step 3 on .1.
    # In a program the steps are kept as they are, and `PiecewiseConstant` takes the last there.
    if known(steps):
        of_step = {0: values[0]}
        for step, value in zip(map(plain, steps), values[1:], strict=True):
            of_step[max(step, 0)] = value
        return PiecewiseConstant([*of_step][1:], stack([*of_step.values()]))
    return PiecewiseConstant(jnp.maximum(stack(steps), 0), stack(values))


def drops(start: Leaf, factor: Leaf, steps: Sequence[Leaf]) -> AbstractSchedule:
    """Multiplied by a factor at each of some steps, in any order, where one may stand twice.

    ``factor`` is one for all of them, or a list with one for each; a step before 0 acts at once.
    """
    factors = list(factor) if is_list(factor) else [factor] * len(steps)
    if not steps:
        return Constant(start)
    if not known(steps):
        return PiecewiseConstant(*_in_order(start, [larger(step, 0) for step in steps], factors))
    order = sorted(range(len(steps)), key=lambda i: plain(steps[i]))
    return levels([steps[i] for i in order], products(start, [factors[i] for i in order]))


def products(start: Leaf, factors: Sequence[Leaf]) -> list[Leaf]:
    return list(itertools.accumulate(factors, multiply, initial=start))


def _in_order(start: Leaf, steps: Sequence[Leaf], factors: Sequence[Leaf]) -> tuple[Leaf, Leaf]:
    """Steps, sorted, and the products of their factors."""
    # The steps may belong to a population and the factors be one for all, or the other way round.
    at, scales = stack(steps), jnp.asarray(stack([start, *factors]), jnp.float32)
    shape = np.broadcast_shapes(at.shape[:-1], scales.shape[:-1])
    at, scales = (jnp.broadcast_to(x, (*shape, x.shape[-1])) for x in (at, scales))
    order = jnp.argsort(at, axis=-1)
    factors = [scales[..., :1], jnp.take_along_axis(scales[..., 1:], order, -1)]
    return jnp.take_along_axis(at, order, -1), jnp.cumprod(jnp.concatenate(factors, -1), -1)


def scaled_knots(
    kind: Callable[..., AbstractSchedule],
    start: Leaf,
    steps: Sequence[Leaf],
    scales: Sequence[Leaf],
) -> AbstractSchedule:
    """A piece of ``kind`` through the products of scales; each scale acts at its own step.

    The first value stands at step 0, or at the first of the steps if that is earlier.
    """
    if known(steps):
        of_step = dict(zip(map(plain, steps), scales, strict=True))  # as in a dict of Python
        steps = sorted(of_step)
        values = products(start, [of_step[step] for step in steps])
        if not steps or steps[0] > 0:
            return kind(stack([0, *steps]), stack(values))
        return moved(kind(np.asarray(steps) - steps[0], stack(values[1:])), steps[0])
    # Of equal steps the last scale counts, as in a dict. A trace does not know which are equal: so
    # the first one takes the scale of the last, and the others multiply by 1. It matters for
    # Optax's one-cycles: their knots are `int(share * steps)`, and a share near 0 or 1 puts two
    # knots on one step.
    equal = lambda x, y: as_real(x) == as_real(y)
    kept = []
    for i, step in enumerate(steps):
        scale = as_array(scales[i])
        for other, later in zip(steps[i + 1 :], scales[i + 1 :], strict=True):
            scale = where(equal, (step, other), later, scale)
        for other in steps[:i]:
            scale = where(equal, (step, other), 1.0, scale)
        kept.append(scale)
    at, values = _in_order(start, steps, kept)
    return kind(jnp.concatenate([jnp.zeros_like(at[..., :1]), at], -1), values)
