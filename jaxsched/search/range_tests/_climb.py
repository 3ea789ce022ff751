"""The compiled program of a range test: seeds that train at a rising rate until they diverge."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from jaxsched.search.tasks._protocol import Task
from jaxsched.search.tasks._shape import initial_state, strong


def climb_seeds(
    rebuild: Callable[[list[Any]], Task],
    arrays: list[Any],
    constants: dict[str, jax.Array],
    state: Any,
    rates: jax.Array,
    lanes: tuple[jax.Array, Any],
    climb: Climb | None,
    *,
    dtypes: tuple[Any, ...],
    early: int,
    name: str,
    smoothing: float,
    width: int,
) -> tuple[tuple[jax.Array, jax.Array, jax.Array], Climb]:
    """Losses, debiased moving averages and masks of all seeds, [S, n] each; none of them NaN.

    Of the updates after those of ``climb``, or from the beginning; and the climbs after them.
    """
    task = rebuild(arrays)

    def one(lane: tuple[jax.Array, Any, Climb | None]) -> Any:
        seed, batches, climb = lane
        if climb is None:
            begin = state
            if state is None:
                begin = initial_state(task, jax.random.key(seed), dtypes)
            climb = Climb.start(begin)

        def step(state: Any, rate: jax.Array, batch: Any) -> tuple[Any, jax.Array]:
            after, metrics = task.step(state, {**constants, name: rate}, batch)
            return jax.tree.map(strong, after), metrics["loss"].astype(jnp.float32)

        end, outputs = lax.scan(_climbing(step, early, smoothing), climb, (rates, batches))
        return outputs, end

    count, rows = lanes[0].shape[0], (*lanes, climb)
    if width == count and count > 1:
        return jax.vmap(one)(rows)
    return lax.map(one, rows, batch_size=None if width == 1 else width)


class Climb(NamedTuple):
    state: Any
    step: jax.Array  # updates done
    total: jax.Array  # of the moving average, before its bias is taken off
    weight: jax.Array
    level: jax.Array  # mean loss of the first tenth, so far
    change: jax.Array  # mean distance of neighboring losses there
    low: jax.Array  # lowest moving average after it
    last: jax.Array  # last finite loss
    alive: jax.Array

    @classmethod
    def start(cls, state: Any) -> Climb:
        zero, infinity = jnp.float32(0.0), jnp.float32(jnp.inf)
        step, alive = jnp.int32(0), jnp.bool_(True)
        return cls(state, step, zero, zero, zero, zero, infinity, zero, alive)


# ---------------------------------------------------------------------------------------- details


def _climbing(
    step: Callable[[Any, jax.Array, Any], tuple[Any, jax.Array]], early: int, smoothing: float
) -> Callable[[Climb, Any], tuple[Climb, Any]]:
    """The update of a climb on (rate, batch): loss, moving average, and whether it counts."""
    # Batch noise from neighbors' distance (for normal noise 2/sqrt(pi) deviations), in an average.
    noise_factor = 4 * math.sqrt(math.pi) / 2 * math.sqrt((1 - smoothing) / (1 + smoothing))

    def update(c: Climb, row: Any) -> tuple[Climb, Any]:
        i, (rate, batch) = c.step, row
        after, loss = step(c.state, rate, batch)
        finite = c.alive & jnp.isfinite(loss)
        loss = jnp.where(finite, loss, c.last)
        total = smoothing * c.total + (1.0 - smoothing) * loss
        weight = smoothing * c.weight + (1.0 - smoothing)
        smooth = total / weight
        warming = i < early
        level = jnp.where(warming, c.level + loss / early, c.level)
        moved = jnp.abs(loss - c.last) / (early - 1)
        change = jnp.where(warming & (i > 0), c.change + moved, c.change)
        low = jnp.where(finite & ~warming, jnp.minimum(c.low, smooth), c.low)
        # For a positive loss 4 times the best, as usual; near zero or below, a loss has no "times".
        rise = jnp.maximum(3.0 * jnp.abs(low), level - low) + noise_factor * change
        # Above it in two updates running: a single odd batch is not a divergence.
        above = jnp.minimum(smooth, jnp.minimum(loss, c.last)) > low + rise
        alive = finite & (warming | ~above)
        state = jax.tree.map(lambda new, old: jnp.where(alive, new, old), after, c.state)
        shown = jnp.where(alive, smooth, jnp.where(jnp.isfinite(low), low, loss))
        c = Climb(state, i + 1, total, weight, level, change, low, loss, alive)
        return c, (loss, shown, alive)

    return update
