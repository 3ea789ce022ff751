"""The compiled program of a range test: seeds that train at a rising rate until they diverge."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from jaxsched.search.tasks._protocol import Task
from jaxsched.search.tasks._returned import initial_state, strong


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

        def update(climb: Climb, row: Any) -> Any:
            rate, batch = row
            after, metrics = task.step(climb.state, {**constants, name: rate}, batch)
            loss = metrics["loss"].astype(jnp.float32)
            return climb.next(jax.tree.map(strong, after), loss, early, smoothing)

        end, outputs = lax.scan(update, climb, (rates, batches))
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

    def next(self, after: Any, loss: jax.Array, early: int, smoothing: float) -> tuple[Climb, Any]:
        """The climb after an update, with its loss, moving average, and whether it counts."""
        # Batch noise from neighbors' distance (for normal noise 2/sqrt(pi) deviations), on average.
        noise_factor = 4 * math.sqrt(math.pi) / 2 * math.sqrt((1 - smoothing) / (1 + smoothing))
        finite = self.alive & jnp.isfinite(loss)
        loss = jnp.where(finite, loss, self.last)
        total = smoothing * self.total + (1.0 - smoothing) * loss
        weight = smoothing * self.weight + (1.0 - smoothing)
        smooth = total / weight
        warming = self.step < early
        level = jnp.where(warming, self.level + loss / early, self.level)
        moved = jnp.abs(loss - self.last) / (early - 1)
        change = jnp.where(warming & (self.step > 0), self.change + moved, self.change)
        low = jnp.where(finite & ~warming, jnp.minimum(self.low, smooth), self.low)
        # For a positive loss 4 times the best, as usual; near zero or below, a loss has no "times".
        rise = jnp.maximum(3.0 * jnp.abs(low), level - low) + noise_factor * change
        # Above it in two updates running: a single odd batch is not a divergence.
        above = jnp.minimum(smooth, jnp.minimum(loss, self.last)) > low + rise
        alive = finite & (warming | ~above)
        state = jax.tree.map(lambda new, old: jnp.where(alive, new, old), after, self.state)
        shown = jnp.where(alive, smooth, jnp.where(jnp.isfinite(low), low, loss))
        end = Climb(state, self.step + 1, total, weight, level, change, low, loss, alive)
        return end, (loss, shown, alive)
