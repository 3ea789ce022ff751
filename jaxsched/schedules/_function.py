"""A schedule from any function, checked once when it is made."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from jaxsched import _number as num
from jaxsched._arrays import NEEDS_A_NUMBER, is_number, to_source
from jaxsched._checks import checked_number
from jaxsched._number import Number, Value
from jaxsched._struct import length, static, struct
from jaxsched._text import describe
from jaxsched._types import Leaf, Step
from jaxsched.schedules._base import AbstractSchedule, AbstractTimed, Operand

_BRANCH = """\
{where} must not branch in Python on the step or on a parameter: {name} was called with a \
traced value, whose truth is not known when JAX compiles it.
Write both sides and select one:
    if step < 10: return a            ->  return jnp.where(step < 10, a, b)
    else: return b
or use js.PiecewiseConstant([10], [a, b]){instead}."""

_NUMBER = """\
{where} must compute in jnp: {name} needs the step or a parameter as a number of Python.
Write jnp.cos(step) for math.cos(step) and np.cos(step), jnp.array(values)[step] for values[step],
and no float(step) or int(step);
or compute the values before, js.Table([fn(step) for step in range(steps)]){instead}."""


class _WithParameters(AbstractTimed):
    """Holds a dict, with its keys as paths of the tree, and shows it as a read-only mapping.

    A base class, since a field would take the place of a property of its own class.
    """

    @property
    def parameters(self) -> Mapping[str, Leaf]:
        return MappingProxyType(self.__dict__["parameters"])


@struct
class Function(_WithParameters):
    """A user's function of the step with parameters by name; made by ``js.from_fn``."""

    fn: Callable[..., ArrayLike] = static()
    parameters: Mapping[str, Leaf] = dataclasses.field()
    steps: Leaf = length(default=None, at_least=0, optional=True)

    def __check_init__(self) -> None:
        _check_fn("Function(fn=...)", self.fn)
        given = self.__dict__["parameters"]
        if not isinstance(given, Mapping) or not all(isinstance(name, str) for name in given):
            raise TypeError(
                "Function(parameters=...) must be a dict name -> number or schedule, got "
                f"{describe(given)}."
            )
        self.__dict__["parameters"] = {
            name: _one_parameter(f"Function(parameters={{{name!r}: ...}})", given[name])
            for name in given
        }

    def value_at(self, t: Number) -> Value:
        t = num.at_least_zero(t)
        if self.steps is not None:
            t = num.minimum(t, num.as_number(t, self.steps))
        step = num.to_int32(num.nudge(t))
        if isinstance(t, (num.Double, jax.Array)):
            return num.as_value(t, self._call(step))
        # On the host the function of the user is in `jnp` all the same. Within somebody's `jit` it
        # would be traced, and the value of known numbers would not be known.
        with jax.ensure_compile_time_eval():
            return np.asarray(jax.device_get(self._call(step)), np.float64)

    def _call(self, step: Value) -> jax.Array:
        """The user's function at each of the int32 steps, one step in each call."""
        steps, given = step.ravel(), self.parameters
        # Schedules among the parameters are evaluated at all steps before, not within `vmap`: there
        # the step is traced, and a known schedule would be computed as a program, with other
        # digits.
        moving = {n: p(steps) for n, p in given.items() if isinstance(p, AbstractSchedule)}
        call = lambda step, moving: jnp.asarray(self.fn(step, **{**given, **moving}))
        return jax.vmap(call)(steps, moving).reshape(np.shape(step))

    def __repr__(self) -> str:
        name = _name(self.fn)
        shown = "".join(f", {k}={to_source(v)}" for k, v in self.parameters.items())
        length = "" if self.steps is None else f", steps={self.steps!r}"
        return f"from_fn({name}{shown}{length})"


def from_fn(
    fn: Callable[..., ArrayLike], *, steps: Step | None = None, **parameters: Operand
) -> Function:
    """Makes a schedule of ``fn(step, **parameters)``.

    The function is traced once, here, with an int32 scalar, so a mistake shows now and not in the
    middle of a training run.

    Args:
        fn: takes an int32 scalar (a whole step from 0; at most 2^31 - 1, also at later steps) and
            the parameters by keyword; returns a scalar. Written with ``jnp``; a module-level
            function can be pickled. Count in integers: XLA divides floats by a constant as a
            product with its inverse, so ``jnp.ceil(t / n)`` can be one too many in a program;
            ``-(-t // n)`` never is.
        steps: length in optimizer updates, after which the value holds; ``None`` for ever.
        **parameters: numbers, which become the leaves of the schedule; or schedules: ``fn`` gets
            their values at the step. So any function of schedules is a schedule.

    Raises:
        TypeError: if ``fn`` is not callable, branches in Python on a traced value, or returns
            something other than one real number.

    >>> import jaxsched as js
    >>> decay = js.from_fn(lambda step, peak: peak / (1 + step), peak=1.0)
    >>> float(decay(3))
    0.25
    >>> both = js.from_fn(lambda step, a, b: jnp.hypot(a, b), a=decay, b=js.Constant(1.0))
    >>> round(float(both(0)), 6)
    1.414214
    """
    steps = checked_number("from_fn(steps=...)", steps, at_least=0, optional=True)
    values = {n: _one_parameter(f"from_fn({n}=...)", x) for n, x in parameters.items()}
    return traced("from_fn(fn=...)", fn, values, steps)


def traced(
    where: str,
    fn: Callable[..., Any],
    values: Mapping[str, Leaf],
    steps: Leaf = None,
    instead: str = "",
) -> Function:
    """As ``from_fn``, with checked parameters; ``instead`` is another repair for the message."""
    _check_fn(where, fn)
    facts: Any = {"where": where, "name": _name(fn), "instead": instead and f", or {instead}"}
    abstract = {
        n: jax.eval_shape(v, jax.ShapeDtypeStruct((), jnp.int32))
        if isinstance(v, AbstractSchedule)
        else jax.ShapeDtypeStruct((), jnp.result_type(v))
        for n, v in values.items()
    }
    # JAX's errors say that a value is traced, but give no repair. A user's own TypeError, without
    # "Tracer" in its text, is left as it is.
    try:
        out = jax.eval_shape(fn, jax.ShapeDtypeStruct((), jnp.int32), **abstract)
    except jax.errors.TracerBoolConversionError as error:
        raise TypeError(_BRANCH.format(**facts)) from error
    except (TypeError, *NEEDS_A_NUMBER) as error:
        if not isinstance(error, NEEDS_A_NUMBER) and "Tracer" not in str(error):
            raise
        raise TypeError(_NUMBER.format(**facts)) from error
    if getattr(out, "shape", None) != () or not is_number(out):
        raise TypeError(f"{where} must return one real number for a step, got {out}.")
    return Function(fn, values, steps)


def _check_fn(where: str, fn: object) -> None:
    if not callable(fn) or isinstance(fn, AbstractSchedule):
        raise TypeError(f"{where} must be a function of the step, got {describe(fn)}.")


def _one_parameter(where: str, x: Leaf) -> Leaf:
    """A schedule, or one number: an array would count as a number of each member."""
    if isinstance(x, AbstractSchedule):
        return x
    value = checked_number(where, x)
    if np.ndim(value):
        raise TypeError(
            f"{where} must be one number, got shape {np.shape(value)}: let the function hold the "
            "array, or use js.Table."
        )
    return value


def _name(fn: Any) -> str:
    """The name of a function; never its address, which differs in every process."""
    while not hasattr(fn, "__qualname__") and hasattr(fn, "func"):  # functools.partial
        fn = fn.func
    return str(getattr(fn, "__qualname__", type(fn).__qualname__))
