"""The numbers of a state and of a report: counts, and a user's report as one number or flag."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from jaxsched._arrays import INT32_MAX, as_array, is_concrete, is_list, is_number, to_host
from jaxsched._bounds import FLOAT32_MAX
from jaxsched._text import describe
from jaxsched._types import Leaf


def next_count(count: jax.Array) -> jax.Array:
    """``count + 1``, which stays at the last int32."""
    last = jnp.asarray(INT32_MAX, count.dtype)
    return jnp.minimum(count, last - 1) + 1  # bounded first: a sum would wrap


def number32(x: Leaf) -> jax.Array:
    """A strong float32 scalar of a number of any kind."""
    return jax.lax.convert_element_type(x, jnp.float32)


def scalar(where: str, x: Leaf, repair: str = "") -> jax.Array:
    """``number32`` of a report, which must be one number."""
    x = _one(where, "number", x, repair)
    if isinstance(x, int) and abs(x) > FLOAT32_MAX:  # the conversion would raise
        x = math.inf if x > 0 else -math.inf
    return number32(x)


def flag(where: str, x: Leaf) -> jax.Array:
    """A boolean of shape () from a bool, an integer, 0.0 or 1.0, an array or a tracer."""
    x = _one(where, "boolean", x)
    is_real = isinstance(x, float) or jnp.issubdtype(getattr(x, "dtype", bool), jnp.floating)
    # A sweep tells every metric as float32, flags too. Any other real number is a mistake: a loss
    # that was given as `trigger` would start a stage at once.
    if is_real and is_concrete(x) and to_host(x) not in (0, 1):
        raise TypeError(f"{where} must be one boolean, got {describe(x)}.")
    return jnp.asarray(x if hasattr(x, "dtype") else bool(x)).astype(jnp.bool_)


def _one(where: str, kind: str, x: Leaf, repair: str = "") -> Leaf:
    """``x``, which must be a number or a boolean of shape ()."""
    x = np.asarray(x, object) if is_list(x) else as_array(x)
    if np.shape(x) != ():
        raise ValueError(f"{where} must be one {kind}, got shape {np.shape(x)}{repair}.")
    if not is_number(x) and getattr(x, "dtype", None) != np.bool_:
        raise TypeError(f"{where} must be one {kind}, got {describe(x)}.")
    return x


def zero(dtype: DTypeLike = jnp.float32) -> jax.Array:
    return jnp.zeros((), dtype)
