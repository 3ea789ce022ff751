"""Lengths, which may be traced: the duration for people, sums and differences in one dtype."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from jaxsched import _number as num
from jaxsched._arrays import is_concrete, is_number, is_whole, is_x64
from jaxsched._text import describe
from jaxsched._types import Leaf


def exact_duration(schedule: Any) -> Leaf:
    """The ``duration`` of an ``exact_length``: a Python number if known, else a rounded float32."""
    known = all(map(is_concrete, jax.tree.leaves(schedule)))
    # Of `t` only the kind matters to a length, so a 0.0 stands for it: the host's if all is known,
    # else a program's, in words of NumPy, as there may be no trace around this.
    with np.errstate(all="ignore"):
        length = schedule.exact_length(np.float64(0.0) if known else num.Double(*_ZERO))
    if length is not None and not isinstance(length, num.Double) and not is_number(length):
        raise TypeError(
            f"{type(schedule).__name__}.exact_length(t) must return a number of steps or None, got "
            f"{describe(length)}."
        )
    if length is None or isinstance(length, num.Double):
        return None if length is None else length.hi
    if np.ndim(length):  # of a population
        return length
    return int(length) if float(length).is_integer() else float(length)


_ZERO = np.zeros((2,), np.float32)


def subtract_steps(x: Leaf, y: Leaf) -> Leaf:
    """``x - y`` in one dtype: an integer meets a float as a float32 (strict promotion).

    Integers stay integers, since a float32 has no odd numbers beyond 2^24, and a recipe's lengths
    add up to the whole only if each is exact.
    """
    if is_whole(x) != is_whole(y):
        x, y = as_real(x), as_real(y)
    dtypes = [z.dtype for z in (x, y) if is_whole(z) and not isinstance(z, int)]
    if all(np.can_cast(dtype, np.int32) for dtype in dtypes):
        return _whole_as(x, np.int32) - _whole_as(y, np.int32)
    if is_x64():
        return _whole_as(x, np.int64) - _whole_as(y, np.int64)
    # A uint32 holds larger lengths than an int32, but 3 - 5 would be 4294967294, a length without
    # an end. So a negative difference counts as 0, like any negative length in a program.
    x, y = jnp.maximum(jnp.asarray(x), 0), jnp.maximum(jnp.asarray(y), 0)
    x, y = _whole_as(x, np.uint32), _whole_as(y, np.uint32)
    return jnp.where(x > y, x - y, 0)


def least(x: Leaf, y: Leaf) -> Leaf:
    """The smaller one of two lengths, in one dtype."""
    if is_concrete(x) and is_concrete(y):
        return min(x, y) if np.ndim(x) == np.ndim(y) == 0 else np.minimum(x, y)
    if is_whole(x) != is_whole(y):
        x, y = as_real(x), as_real(y)
    return jnp.minimum(x, y)


def _whole_as(x: Leaf, dtype: DTypeLike) -> Leaf:
    """An integer array in a dtype that does not wrap below 0; anything else unchanged."""
    return x.astype(dtype) if is_whole(x) and not isinstance(x, int) else x


def as_real(x: Leaf) -> Leaf:
    """A number as a float; integer arrays as float32."""
    if isinstance(x, (int, float)):
        return float(x)
    return jnp.asarray(x).astype(jnp.float32) if is_whole(x) else x
