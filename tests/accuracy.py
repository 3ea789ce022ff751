"""How far values are from exact ones, and programs of schedules, compiled as a user's are."""

from __future__ import annotations

import functools
import random

import jax
import mpmath as mp
import numpy as np
from helpers import OPTIMIZED

import jaxsched as js
from jaxsched.testing import landmarks

TINY = float(np.finfo(np.float32).tiny)


def ulps(got, want):
    """Distance in float32 units of the exact value; below the normal range, 0 if both are there."""
    if abs(want) < TINY:
        return 0.0 if abs(float(got)) < 2 * TINY else np.inf
    unit = float(np.spacing(np.float32(abs(float(want)))))
    return float(abs(mp.mpf(float(got)) - want) / unit)


def worst(values, want):
    """Of an array, which is read as a whole: to take it apart JAX compiles a program."""
    return max(ulps(value, exact) for value, exact in zip(np.asarray(values), want, strict=True))


def steps_of(schedule, most=2**31 - 1, count=40):
    """Around every boundary and the end, further before them, and at random; int32."""
    marks = {*landmarks(schedule).tolist(), 3, 5, 100, 10**6}
    ends = [end for end in (*js.boundaries(schedule), schedule.duration) if end is not None]
    marks |= {int(end) - d for end in ends for d in (3, 7, 77, 1000)}
    marks |= {int(end) * 2 // 3 for end in ends}
    marks |= {*random_steps(schedule, count)}
    return np.asarray(sorted(step for step in marks if 0 <= step <= most), np.int32)


def random_steps(schedule, count, seed=0):
    rng = random.Random(seed)
    top = 10**6 if schedule.duration is None else max(int(schedule.duration), 10)
    near = [rng.randrange(min(2 * top, 2**31)) for _ in range(count)]
    return near + [rng.randrange(2**31) for _ in range(count // 4)]


@functools.partial(jax.jit, compiler_options=OPTIMIZED)
def as_argument(schedule, steps):
    return schedule(steps)


@functools.partial(jax.jit, compiler_options=OPTIMIZED)
def mapped(schedule, steps):
    return jax.vmap(schedule)(steps)


def scanned(schedule, steps):
    return jax.lax.scan(lambda carry, step: (carry, schedule(step)), None, steps)[1]


def padded(steps, size):
    """Steps of one shape for many tests, so that they share programs."""
    assert len(steps) <= size
    return np.resize(np.asarray(steps, np.int32), size)
