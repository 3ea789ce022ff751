"""``AbstractScaler``: a controller whose rate is ``base(step) * scale``."""

from __future__ import annotations

from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from jaxsched.controllers._base import AbstractController, number32


class AbstractScaler(AbstractController):
    """A rate that is ``base(step) * scale``, where what is measured changes the scale.

    A subclass is a ``@struct`` with the fields ``base``, ``factor`` and ``min_scale``, a ``State``
    that has a ``scale`` too (float32, 1 at first), ``init`` and ``react``; and with ``bounds`` and
    ``monotone``, if its scale may rise.
    """

    monotone: ClassVar[bool] = True  # the scale never rises

    factor: Any
    min_scale: Any

    @property
    def bounds(self) -> tuple[Any, Any]:
        """The least and the greatest value that ``scale`` can take."""
        return self.min_scale, 1.0

    def cut(self, scale: jax.Array) -> jax.Array:
        """``scale * factor``, not below ``min_scale``; for ``react``."""
        return jnp.maximum(scale * self.factor, self.min_scale)

    def value_at(self, state: Any) -> jax.Array:
        base = self.base_value(state)
        return base * state.scale.astype(base.dtype)

    def host_values(self, state: Any, steps: np.ndarray, values: np.ndarray) -> np.ndarray:
        base = self.base_host_values(state, steps, values)
        return np.asarray(base * np.float64(jax.device_get(state.scale)))

    def lowest(self) -> float:
        return float(np.asarray(self.bounds[0]))

    def carried(self, old: Any, state: Any, start: Any) -> Any:
        scale = jnp.clip(state.scale, *map(number32, self.bounds))
        return super().carried(old, state, start)._replace(scale=scale)
