"""A call of a schedule: the conversion of a caller's step to exact time, and of the value."""

from __future__ import annotations

from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np

from jaxsched import _number as num
from jaxsched._arrays import has_float64, is_concrete, is_list, is_number, is_whole, to_host
from jaxsched._axes import numbers_of
from jaxsched._number import Number
from jaxsched._struct import Record
from jaxsched._types import Leaf, Step
from jaxsched.schedules._own import value_of

_PLAIN = (int, float, np.ndarray, np.generic, jax.Array)
# The largest step: an infinite step becomes this one, so no formula computes inf - inf. Products of
# it with lengths and rates stay within float32, which ends at 2^128.
_LAST = 2.0**100


def evaluate(schedule: Any, step: Step) -> jax.Array:
    """The schedule's value: on the host, if all is known, else as part of a program."""
    # Three ways to one value. A logger asks for one step of a schedule of Python numbers: there the
    # checks below would cost more than the formula. Known values are computed by NumPy in float64
    # and rounded once, so it does not depend on the device. Traced ones become a part of the
    # program, in two float32 words or, in x64 mode for float64 arrays, in float64.
    if type(step) is int and _is_plain(schedule):
        try:
            with np.errstate(all="ignore"):
                value = schedule.value_at(np.float64(step))
                if type(value) is np.float64:
                    return jnp.asarray(np.float32(value))
        except Exception:  # an int beyond float64, or an error that is reported below
            pass  # the slow way has the message
    step, leaves = as_step(step), jax.tree.leaves(schedule)
    if any(map(np.ndim, leaves)):
        require_single(schedule)
    dtype = np.float64 if has_float64(leaves) else np.float32
    if is_concrete(step) and all(map(is_concrete, leaves)):
        values = _host_values(schedule, host_step(step))
        with np.errstate(over="ignore"):  # infinite beyond float32, as in a program
            return jnp.asarray(values.astype(np.int32 if num.is_integer(values) else dtype))
    t = traced_step(step, dtype)
    value = num.to_value(value_of(schedule, t))
    value = jnp.asarray(value).astype(np.int32 if num.is_integer(value) else dtype)
    return jnp.broadcast_to(value, np.shape(num.to_value(t)))


def host(self: Any, step: Step) -> Any:
    """The float64 value, computed on the host: for loggers, other libraries, plots and tests.

    A plain Python function of the step, such as PyTorch's ``LambdaLR`` wants. It does not use JAX,
    so it works inside a trace too and never waits for a device. Nothing is rounded to float32, as a
    call does. (A ``js.from_fn`` has the digits of its function.)

    Args:
        step: as for a call, but known: an integer or real number, or an array of any shape.

    Returns:
        A ``float`` for one step, a NumPy float64 array in the shape of several.

    Raises:
        TypeError: if ``step`` is not a number, or ``step`` or a number of the schedule is traced.
        ValueError: if the schedule is a stacked population.

    >>> import jaxsched as js
    >>> js.Linear(0.0, 1.0, 4).host(1)
    0.25
    >>> js.Linear(0.0, 1.0, 4).host([0, 4])
    array([0., 1.])
    """
    step, leaves = _checked(as_step(step)), jax.tree.leaves(self)
    if traced := [x for x in (step, *leaves) if is_number(x) and not is_concrete(x)]:
        raise TypeError(
            f"schedule.host(step) must be given known numbers, got {traced[0]!r}: inside a program "
            "call the schedule, `schedule(step)`."
        )
    if any(map(np.ndim, leaves)):
        require_single(self)
    values = _host_values(self, host_step(step)).astype(np.float64)
    return values if values.ndim else values.item()


def _host_values(schedule: Any, step: Leaf) -> np.ndarray:
    """The values at known steps, in float64, of the shape of ``step``."""
    t = np.asarray(step, np.float64)[()]
    with np.errstate(all="ignore"):
        value = value_of(schedule, t)
    # Within `jit` all of `jnp` is traced, known numbers too: a user's formula in it is run again.
    if isinstance(value, jax.core.Tracer):
        with jax.ensure_compile_time_eval():
            value = schedule.value_at(t)
    values = np.asarray(to_host(value))
    return np.broadcast_to(values, np.shape(step))


def require_single(schedule: Any) -> None:
    for path, x, rank in numbers_of(schedule):
        if np.ndim(x) > rank:
            raise ValueError(
                f"{type(schedule).__name__} is a population: {path} has shape {np.shape(x)}. Call "
                "its members by `jax.vmap(lambda s: s(step))(schedule)`, or take it apart by "
                "`js.unstack(schedule)`."
            )


def _is_plain(schedule: Record) -> bool:
    """Whether every number is a Python number, decided quickly.

    `jax.tree.leaves` would say it too, in five times as long. A user's class with other
    fields, such as a list, goes the slow way, with the same result.
    """
    for value in schedule.__dict__.values():
        kind = type(value)
        if kind is float or kind is int or value is None:
            continue
        parts = value if kind is tuple else (value,)
        if not all(isinstance(part, Record) and _is_plain(part) for part in parts):
            return False
    return True


def as_step(step: Step) -> Leaf:
    """A number or an array, from anything convertible (a list, a Keras variable)."""
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


def _array(steps: object, given: object) -> np.ndarray:
    try:
        return np.asarray(steps)
    except ValueError:  # a ragged list
        raise _step_error(given) from None


def host_step(step: Leaf) -> Leaf:
    """A known step for the host: its exact value, or float64's."""
    step = to_host(step)
    if isinstance(step, int) and not isinstance(step, bool):
        return float(max(min(step, 10**300), -(10**300)))  # np.int64 and float64 are bounded
    step = _checked(np.asarray(step))
    if is_whole(step):
        return step
    step = step.astype(np.float64)
    if np.any(np.isnan(step)):
        raise ValueError(
            "schedule(step) must be given a step that is a number, got nan. A step is counted, not "
            "computed from a loss."
        )
    return np.clip(step, -_LAST, _LAST)


def traced_step(step: Leaf, dtype: type[np.floating]) -> Number:
    """The step in a program with values of ``dtype``: exact for every integer up to 2^48.

    A known step, as in ``schedule(3)`` with traced numbers, is split on the host into two arrays,
    like the step of any other call in a program.
    """
    if isinstance(step, int) and not isinstance(step, bool):  # NumPy holds no larger one than int64
        step = np.asarray(max(min(float(step), _LAST), -_LAST) if abs(step) >= 2**63 else step)
    step = _checked(np.asarray(step) if isinstance(step, float) else step)
    if not isinstance(step, jax.Array):
        step = np.clip(np.asarray(step, np.float64), -_LAST, _LAST)
        if dtype is np.float64:
            return jnp.asarray(step)
        return cast(Number, jax.tree.map(jnp.asarray, num.as_double(step)))
    if jnp.issubdtype(step.dtype, jnp.floating):
        step = step if step.dtype == np.float64 else step.astype(np.float32)
        step = jnp.clip(step, np.asarray(-_LAST, step.dtype), np.asarray(_LAST, step.dtype))
    return step.astype(dtype) if dtype is np.float64 else num.as_double(step)


def _checked(step: Leaf) -> Leaf:
    if isinstance(step, bool) or not is_number(step):
        raise _step_error(step)
    return step


def _step_error(step: object) -> TypeError:
    return TypeError(
        f"schedule(step) must be given an integer or real step, got {step!r} "
        f"({getattr(step, 'dtype', type(step).__name__)})."
    )
