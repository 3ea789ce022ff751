"""Several micro-batches in one update, in the memory of one; and their sizes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jaxsched._checks import checked_whole
from jaxsched.search.tasks._states import strong


def mean_of(f: Callable[[Any, Any], Any], rest: Any, micro: Any, count: int) -> Any:
    """``rest`` after ``count`` micro-batches, and the mean of what ``f`` returns with it.

    One after another, in the memory of one; the sum is float32 at least.
    """
    if count == 1:
        return f(rest, micro)
    shapes = jax.eval_shape(f, rest, jax.tree.map(lambda x: x[0], micro))[1]

    def add(carry: Any, micro: Any) -> Any:
        rest, total = carry
        rest, value = f(rest, micro)
        total = jax.tree.map(lambda t, x: t + x.astype(t.dtype), total, value)
        return (jax.tree.map(strong, rest), total), None

    zero = jax.tree.map(lambda x: jnp.zeros(x.shape, jnp.promote_types(x.dtype, "float32")), shapes)
    (rest, total), _ = lax.scan(add, (rest, zero), micro)
    return rest, jax.tree.map(lambda t, x: (t / count).astype(x.dtype), total, shapes)


def checked_sizes(batch_size: Any, accumulation: Any) -> tuple[int, int]:
    batch_size = checked_whole("Supervised(batch_size=...)", batch_size, 1)
    return batch_size, checked_whole("Supervised(accumulation=...)", accumulation, 1)


def check_fits(batch_size: int, accumulation: int, samples: int, what: str) -> None:
    if batch_size * accumulation <= samples:
        return
    if accumulation == 1:
        raise ValueError(
            f"Supervised(batch_size=...) must be at most the {samples} {what}, got {batch_size}."
        )
    raise ValueError(
        f"Supervised(batch_size=..., accumulation=...) must read at most the {samples} {what} in "
        f"an update, got {batch_size} * {accumulation} = {batch_size * accumulation}."
    )
