"""What a caller may give for a step, as exact time."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxsched import _number as num
from jaxsched._arrays import is_list, to_host
from jaxsched._number import Number

_PLAIN = (int, float, np.ndarray, np.generic, jax.Array)
_LAST = 2.0**100  # a real step is held here, so that an infinite one is the end and no inf - inf


def as_step(step: Any) -> Any:
    """A number or an array; of whatever turns into one, such as a list or a variable of Keras."""
    if isinstance(step, _PLAIN):
        return step
    if is_list(step):
        steps = [as_step(one) for one in step]
        if not any(isinstance(one, jax.core.Tracer) for one in steps):
            return _array(to_host(steps), step)
        if any(isinstance(one, bool) for one in steps):
            raise _step_error(step)
        return jnp.stack([jnp.asarray(one) for one in steps])
    if hasattr(step, "__jax_array__"):
        return jnp.asarray(step.__jax_array__())
    return _array(step, step) if hasattr(step, "__array__") else step


def _array(steps: Any, given: Any) -> np.ndarray:
    try:
        return np.asarray(steps)
    except ValueError:  # a ragged list
        raise _step_error(given) from None


def host_step(step: Any) -> Any:
    """A known step for the host: its exact value, or float64's."""
    step = to_host(step)
    if isinstance(step, int) and not isinstance(step, bool):
        return float(max(min(step, 10**300), -(10**300)))  # np.int64 ends, and so does float64
    step = _checked(np.asarray(step))
    if jnp.issubdtype(step.dtype, jnp.integer):
        return step
    step = step.astype(np.float64)
    if np.any(np.isnan(step)):
        raise ValueError(
            "schedule(step) must be given a step that is a number, got nan. A step is counted, not "
            "computed from a loss."
        )
    return np.clip(step, -_LAST, _LAST)


def traced_step(step: Any, dtype: Any) -> Number:
    """The step in a program whose values are of ``dtype``: every integer is itself to 2^48."""
    if isinstance(step, int) and not isinstance(step, bool):
        step = np.asarray(max(min(float(step), _LAST), -_LAST) if abs(step) >= 2**63 else step)
    step = _checked(np.asarray(step) if isinstance(step, float) else step)
    if not isinstance(step, jax.Array):
        step = np.clip(np.asarray(step, np.float64), -_LAST, _LAST)
        if dtype is np.float64:
            return jnp.asarray(step)
        exact = num.as_double(step)
        return num.Double(jnp.asarray(exact.hi), jnp.asarray(exact.lo))
    if jnp.issubdtype(step.dtype, jnp.floating):
        step = step if step.dtype == np.float64 else step.astype(np.float32)
        step = jnp.clip(step, np.asarray(-_LAST, step.dtype), np.asarray(_LAST, step.dtype))
    return step.astype(dtype) if dtype is np.float64 else num.as_double(step)


def _checked(step: Any) -> Any:
    dtype = getattr(step, "dtype", None)
    if dtype is None or not (
        jnp.issubdtype(dtype, jnp.integer) or jnp.issubdtype(dtype, jnp.floating)
    ):
        raise _step_error(step)
    return step


def _step_error(step: Any) -> TypeError:
    return TypeError(
        f"schedule(step) must be given an integer or real step, got {step!r} "
        f"({getattr(step, 'dtype', type(step).__name__)})."
    )
