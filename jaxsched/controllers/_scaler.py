"""The usual controller: it scales a schedule."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from jaxsched._arrays import to_host
from jaxsched._checks import check_beside
from jaxsched._types import Leaf, PyTree
from jaxsched.controllers._base import AbstractController
from jaxsched.controllers._numbers import number32
from jaxsched.schedules._base import AbstractSchedule, Constant
from jaxsched.schedules._extremes import maximum


class AbstractScaler(AbstractController):
    """A rate ``base(step) * scale``; the scale depends on measurements.

    A subclass is a ``@struct`` with the fields ``base``, ``factor`` and ``min_scale``, a ``State``
    that has a ``scale`` too (float32, 1 at first), ``init`` and ``react``; and with ``bounds`` and
    ``monotone``, if its scale may rise. It may have a field ``min_lr``: the least rate.
    """

    monotone: ClassVar[bool] = True  # the scale never rises
    _in_state = ("step", "base", "scale")

    factor: Leaf
    min_scale: Leaf
    min_lr: Leaf = None

    def __check_init__(self) -> None:
        top = self.base.value if isinstance(self.base, Constant) else None
        where, told = f"{type(self).__name__}(min_lr=...)", ": the rate could not fall"
        check_beside(where, self.min_lr, "at most", "base", top, told)

    @property
    def bounds(self) -> tuple[Leaf, Leaf]:
        """The least and the greatest value that ``scale`` can take."""
        return self.min_scale, 1.0

    def first_state(self, **others: PyTree) -> PyTree:
        return super().first_state(scale=number32(1.0), **others)

    def cut(self, scale: jax.Array, state: PyTree = None) -> jax.Array:
        """``scale * factor``, not below the ``floor``; for ``react``."""
        return jnp.maximum(scale * self.factor, self.floor(scale, state))

    def floor(self, scale: jax.Array, state: PyTree = None) -> Leaf:
        """Where a cut of ``scale`` ends: ``min_scale``.

        With the ``state`` it ends on ``min_lr`` too: a scale that rises again starts there.
        """
        least = self.min_scale
        if self.min_lr is not None and state is not None:
            base = number32(self.base_value(state))
            # With base 0.1 and `min_lr` 0.01 the floor is 0.1. Without it, cuts would go on without
            # an effect on the rate, and a scale that may rise would have to undo all of them first.
            # Where the base is not above `min_lr`, no cut lowers the rate: the scale stays. It may
            # be below the floor already, where the base has fallen since; a cut never raises it.
            above = base > self.min_lr
            floor = jnp.where(above, self.min_lr / jnp.where(above, base, 1.0), 1.0)
            least = jnp.maximum(least, jnp.minimum(floor, scale))
        return least

    def value_at(self, state: PyTree) -> jax.Array:
        base = self.base_value(state)
        rate = base * state.scale.astype(base.dtype)
        if self.min_lr is None:
            return rate
        return jnp.maximum(rate, jax.lax.convert_element_type(self.min_lr, rate.dtype))

    def host_values(self, state: PyTree, steps: np.ndarray, values: np.ndarray) -> np.ndarray:
        base = self.base_host_values(state, steps, values)
        rates = np.asarray(base * np.float64(jax.device_get(state.scale)))
        return rates if self.min_lr is None else np.maximum(rates, float(to_host(self.min_lr)))

    def times(self, factor: float) -> Any:
        made = super().times(factor)
        if self.min_lr is None:
            return made
        return dataclasses.replace(made, min_lr=factor * self.min_lr)

    def untold(self, base: AbstractSchedule) -> AbstractSchedule:
        return base if self.min_lr is None else maximum(base, self.min_lr)

    def lowest(self) -> float:
        return float(np.asarray(self.bounds[0]))

    def carried(self, old: AbstractController, state: PyTree, first: PyTree) -> PyTree:
        scale = jnp.clip(state.scale, *map(number32, self.bounds))
        return super().carried(old, state, first)._replace(scale=scale)
