"""Exact time, so that formulas can be written as on paper and still keep every digit.

A schedule's formula is written once and evaluated on numbers of two sorts:

- *numbers* are exact: the step, lengths, the rest of a piece, exponents. On the host (when every
  input is known) they are ``numpy.float64``. Inside a JAX program they are ``Double``, an
  unevaluated sum ``hi + lo`` of two float32 values (about 48 bits), since JAX has float64 only in
  x64 mode, and a TPU not at all. In x64 mode, if a schedule's own numbers are float64, plain
  float64 arrays take its place. Constants stay ``numpy.float64`` until they meet a Double, so
  numbers known at the trace cost the program nothing.
- *values* are the results: float32 in a program, float64 on the host, where they are rounded to
  float32 once, at the end.

The subtraction of two nearly equal float32 numbers loses digits. That happens to times, not to
values: once the remaining fraction is known to its last digit, ordinary float32 arithmetic adds two
or three units in the last place. 17 of 20 schedules of the usual formulation lose between 10 and
10^7 units there.

The plain float32 formula gives the derivatives: every operation *grafts* the derivative of the
usual formula for ``hi`` onto the exact value, and ``lo`` has none.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, TypeAlias, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding

from jaxsched import _elementary as elementary
from jaxsched._double import Double as Double
from jaxsched._double import Mask as Mask
from jaxsched._double import Word as Word
from jaxsched._double import as_double as as_double
from jaxsched._double import fast_two_sum, fix, fixed, once, select
from jaxsched._double import graft as graft
from jaxsched._elementary import product as product
from jaxsched._types import Leaf

# The results: NumPy's float64 on the host; float32 in a program, or float64 in x64 mode; int32 if
# a schedule chooses among integers.
Value: TypeAlias = np.float64 | np.int32 | np.ndarray | jax.Array
Number: TypeAlias = Double | Value  # exact: no float32


# ---------------------------------------------------------------------- from and to plain arrays


def as_number(t: Number, x: Leaf) -> Number:
    """The number ``x`` (a leaf of a schedule) in the kind of ``t``, exactly."""
    if type(x) is float or type(x) is int:
        return np.float64(x)  # as the last line does, quicker
    if isinstance(x, Double) or (isinstance(t, Double) and isinstance(x, jax.Array)):
        return as_double(x)
    if isinstance(t, jax.Array) and isinstance(x, jax.Array):
        return x.astype(jnp.float64)
    return np.asarray(x, np.float64)[()]  # a scalar without axes: fast paths ask for that type


def full_like(t: Number, x: Leaf) -> Number:
    """The single number ``x`` in the kind and the shape of ``t``."""
    if type(t) is np.float64:
        return np.float64(x)
    if isinstance(t, Double):
        x = as_double(x)  # not by `jax.tree.map`: at every trace this runs dozens of times
        return Double(jnp.full_like(t.hi, x.hi), jnp.full_like(t.hi, x.lo))
    return _xp(t).full_like(t, x)[()]


def as_value(t: Number, x: Leaf) -> Value:
    """``x`` (a leaf of a schedule) as a value, of the kind that follows from ``t``."""
    if type(t) is not np.float64:
        if isinstance(x, Double):
            return x.hi
        if isinstance(t, Double):
            known = not isinstance(x, jax.Array)
            return np.asarray(x, np.float32)[()] if known else x.astype(jnp.float32)
    value: Any = as_number(t, x)
    return value


def is_integer(x: Value) -> bool:
    return isinstance(x, (jax.Array, np.ndarray, np.generic)) and x.dtype.kind in "iu"


def floating(t: Number, x: Value) -> Value:
    """The value ``x``, also an integer, for arithmetic with other values."""
    return x if type(x) is np.float64 or not is_integer(x) else as_value(t, x)


def alike(x: Value, y: Value) -> tuple[Value, Value]:
    """Two values for a selection: integers if both are."""
    if type(x) is type(y) is np.float64 or is_integer(x) == is_integer(y):
        return x, y
    return (x.astype(y.dtype), y) if is_integer(x) else (x, y.astype(x.dtype))


def to_value(x: Number) -> Value:
    """A number that depends on the step, rounded to a value."""
    return x.hi if isinstance(x, Double) else x


def quotient(x: Number, y: Number) -> Value:
    """``x / y`` as a value: three roundings, at most 1.5 units in the last place.

    Nothing is subtracted from it any more, so two words would be 30 operations for half a unit.
    """
    if isinstance(x, Double) or isinstance(y, Double):
        return as_double(x).hi / as_double(y).hi
    return x / y


def safe_quotient(x: Number, whole: Number) -> Value:
    """``quotient``, with a finite derivative also where ``whole ** 2`` leaves float32."""
    if not isinstance(whole, Double):
        return quotient(x, whole)
    # The derivative of x / whole divides by whole ** 2, which is 0 in float32 for a whole of 1e-25.
    # So both are divided by `scale`, which cancels and needs no derivative: the denominator is 1.
    scale = fix(whole.hi)
    return (as_double(x).hi / scale) / graft(jnp.ones_like(scale), whole.hi / scale)


def stop_gradient(x: Number) -> Number:
    """``x`` without a derivative."""
    return cast(Number, jax.tree.map(fix, x))


def to_int32(x: Number) -> Value:
    """The whole part, rounded down; exact, and at most the largest int32."""
    limit = 2.0**31 - 1
    if isinstance(x, Double):
        held = minimum(floor(x), limit)
        # hi may round up to 2^31, beyond int32: take it in two halves.
        half = fix(held.hi * np.float32(0.5))
        whole = half.astype(jnp.int32)
        rest = (half - whole.astype(jnp.float32)) * 2 + fix(held.lo)
        return whole + (whole + rest.astype(jnp.int32))
    xp = _xp(x)
    return xp.clip(xp.floor(x), -limit, limit).astype(np.int32)


def stacked(t: Number, xs: Iterable[Leaf]) -> Number:
    """Numbers (leaves too) as an array of the kind of ``t``; a float64 one if all are known."""
    xs = list(xs)
    if all(isinstance(x, jax.Array) and x.dtype == xs[0].dtype for x in xs):
        return as_number(t, jnp.stack(xs))  # converted at once: a shorter program
    xs = [as_number(t, x) for x in xs]
    if all(isinstance(x, np.float64) for x in xs):
        return np.asarray(xs)
    stack = lambda *words: jnp.stack(words)
    return cast(Number, jax.tree.map(stack, *(in_program(t, x) for x in xs)))


def in_program(t: Number, xs: Number) -> Number:
    """An array of known or traced numbers, in the kind of the traced ``t``."""
    return as_double(xs) if isinstance(t, Double) else jnp.asarray(xs)


def concatenated(t: Number, xs: list[Number]) -> Number:
    """Arrays of numbers as one; a float64 one if all are known."""
    known = [x for x in xs if isinstance(x, np.ndarray)]
    if len(known) == len(xs):
        return np.concatenate(known, -1)
    join = lambda *words: jnp.concatenate(words, -1)
    return cast(Number, jax.tree.map(join, *(in_program(t, x) for x in xs)))


def running_sum(terms: Number) -> Number:
    """The sums of the first, of the first two, and so on; in a program of logarithmic size."""
    if isinstance(terms, np.ndarray):
        return np.cumsum(terms, -1)
    # n sums one after the other would be n launches on a GPU. So each round adds, to every sum, the
    # sum that ends where it begins. [a, b, c, d] becomes [a, a+b, b+c, c+d], sums of the last two,
    # and then [a, a+b, a+b+c, a+b+c+d], sums of the last four.
    sums: Any = terms
    reach, count = 1, to_value(terms).shape[-1]
    while reach < count:  # each is the sum of the last ``reach`` terms, if there are so many
        moved = jax.tree.map(
            lambda x, by=reach: jnp.zeros_like(x).at[..., by:].set(x[..., :-by]), sums
        )
        sums, reach = sums + moved, 2 * reach
    return cast(Number, sums)


def take_number(t: Number, xs: Leaf, index: Value) -> Number:
    """``xs[index]`` as a number of the kind of ``t``, exactly."""
    if isinstance(t, Double) and isinstance(xs, np.ndarray):
        xs = as_double(xs)
    if isinstance(xs, Double):
        # Known numbers mostly are float32 numbers: one look-up is enough.
        if isinstance(xs.lo, np.ndarray) and not xs.lo.any():
            return as_double(take(xs.hi, index))
        return Double(take(xs.hi, index), take(xs.lo, index))
    return as_number(t, take(xs, index))


def take(xs: Leaf, index: Any) -> Any:
    """``xs[index]``; the gradient reaches ``xs``."""
    if not isinstance(index, jax.Array):
        return np.asarray(xs)[index]
    if isinstance(xs, np.ndarray) and xs.dtype == np.float64:
        xs = xs.copy()  # JAX caches the float32 copy of an array, and would take it in x64 mode too
    spread = explicit_sharding(index)
    xs = jnp.asarray(xs)
    return xs[index] if spread is None else xs.at[index].get(out_sharding=spread)


def explicit_sharding(x: jax.Array) -> NamedSharding | None:
    """How ``x`` is spread over a mesh with explicit axes, where a look-up must say it; or None."""
    sharding = jax.typeof(x).sharding
    return sharding if any(axis is not None for axis in sharding.spec) else None


# ------------------------------------------------------------------------------------- functions


def where(condition: Mask | bool, x: Number | float, y: Number | float) -> Any:
    """``x`` where the condition holds, else ``y``; of numbers or of values."""
    if type(condition) is np.bool_ or type(condition) is bool:
        return x if condition else y
    if isinstance(x, Double) or isinstance(y, Double):
        return select(condition, as_double(x), as_double(y))
    return _xp(condition).where(condition, x, y)


def minimum(x: Number, y: Number | float) -> Any:
    """The smaller one of two numbers or values."""
    return where(x <= y, x, y)


def maximum(x: Number, y: Number | float) -> Any:
    """The larger one of two numbers or values."""
    return where(x >= y, x, y)


def at_least_zero(x: Number) -> Number:
    """``max(x, 0)``."""
    return where(x > 0.0, x, full_like(x, 0.0))


def nudge(t: Number) -> Number:
    """``t`` and a little more, so that a step just before a boundary counts as on it.

    390.6 is three numbers in float64, in two words and in float32, and 5 * 390.6 falls on either
    side of step 1953. A whole step is never nudged over a whole boundary.
    """
    # Rounding to float32 moves a length, and its multiples, by up to 2^-24 of itself. The nudge is
    # four times as much, 2^-22, for the roundings of sums and quotients. From step 2^20 on it would
    # exceed 1/4, so it stays there: less than the distance of two whole numbers. Every comparison
    # of a step with a boundary, and every rounding down of a step, uses a nudged step.
    return _nudged_double(t) if isinstance(t, Double) else _nudged(t)


def _nudged(t: Number) -> Number:
    return t + where(t > 0.0, minimum(t * _NUDGE, full_like(t, 0.25)), full_like(t, 0.0))


_nudged_double = once(_nudged)


def floor(x: Number) -> Number:
    """Rounds down to a whole number; its derivative is zero."""
    if not isinstance(x, Double):
        return _xp(x).floor(x)
    hi, lo = fixed(x.hi, x.lo)
    whole = jnp.floor(hi)
    return Double(*fast_two_sum(whole, jnp.where(whole == hi, jnp.floor(lo), 0)))


def divmod_exact(t: Number, length: Number) -> tuple[Number, Number]:
    """``t // length`` and ``t % length`` for ``t >= 0``, right at every multiple of ``length``."""
    # The rounded quotient may be one too small or too large: 1953 / 390.6 is 4.99999992 where 390.6
    # is a float32. The rest of `t` tells, since the product and the difference are exact.
    reached = nudge(t)
    count = floor(reached / length)
    rest = reached - count * length
    count = where(rest < 0.0, count - 1.0, where(rest >= length, count + 1.0, count))
    return count, at_least_zero(t - count * length)


def exp(x: Number) -> Number:
    """Exponential; from about 88 on it holds its largest value, 2.4e38, and never overflows."""
    if isinstance(x, Double):
        return elementary.exp2(x * math.log2(math.e))
    xp = _xp(x)
    return xp.exp(xp.minimum(x, elementary.EXP2_MAX * math.log(2)))


def log(x: Number) -> Number:
    """Natural logarithm of a positive number."""
    return elementary.log2(x) * math.log(2) if isinstance(x, Double) else _xp(x).log(x)


def power(x: Number, exponent: Number) -> Number:
    """``x ** exponent`` for ``x >= 0`` and a positive exponent; flat (no derivative) at zero."""
    some = x > 0.0
    # At 0 the logarithm and its slope are infinite, and a NaN not taken is still in the gradient.
    base = where(some, x, 1.0)
    # In float32 the logarithm of 1e-7 is off by up to 2^-20, and so is its power, in proportion.
    if isinstance(base, Double) or isinstance(exponent, Double):
        result: Number = elementary.exp2(exponent * elementary.log2(as_double(base)))
    else:
        powers = base**exponent  # held at the largest value, as exp is
        result = _xp(powers).minimum(powers, 2.0**elementary.EXP2_MAX)
    return where(some, result, 0.0)


def sqrt(x: Value) -> Value:
    """Square root of a value; its derivative at zero is zero here, and not infinite."""
    xp = _xp(x)
    some = x > 0
    return where(some, xp.sqrt(where(some, x, xp.ones_like(x))), xp.zeros_like(x))


def sin(x: Value) -> Value:
    """``sin(pi/2 * x)`` of a value in [0, 1]."""
    if isinstance(x, jax.Array) and x.dtype == jnp.float32:
        return x * elementary.polynomial(x * x, _SIN)
    return _xp(x).sin(math.pi / 2 * x)


def sin_squared(x: Number) -> Value:
    """``sin(pi/2 * x) ** 2`` for ``x`` in [0, 1/2]: a square keeps twice the error of its root."""
    if not isinstance(x, Double):
        return _xp(x).sin(math.pi / 2 * x) ** 2
    square = (x * x).hi
    return square * elementary.polynomial(square, _SIN_SQUARED)


def exact_sin_squared(x: Number) -> Number:
    """The same as a number."""
    if not isinstance(x, Double):
        return sin_squared(x)
    square = x * x
    return square * elementary.series(square, _SIN_SQUARED)


def log1p(x: Number) -> Number:
    """``log(1 + x)`` for ``x`` in (-1, 0], precise near zero."""
    return log1p_or_log(np.True_, x, x) if isinstance(x, Double) else _xp(x).log1p(x)


def log1p_or_log(condition: Mask, x: Number, y: Number) -> Number:
    """``log1p(x)`` where the condition holds, else ``log(y)``: one logarithm in a program."""
    if not isinstance(x, Double):
        return where(condition, _xp(x).log1p(x), log(y))
    # 1 + x loses the bits of a small x below 2^-48, so near 0 the series of log(1 + x) is taken.
    near = x > -_NEAR_ZERO
    small = where(near, x, 0.0)
    rest = log(where(condition, where(near, 0.0, x) + 1.0, y))
    return where(condition & near, small * elementary.series(small, _LOG1P), rest)


def expm1(x: Number) -> Number:
    """``exp(x) - 1`` for ``x <= 0``, precise near zero."""
    return exp_and_expm1(x)[1]


def exp_and_expm1(x: Number) -> tuple[Number, Number]:
    """Both for ``x <= 0``: one exponential in a program."""
    if not isinstance(x, Double):
        return exp(x), _xp(x).expm1(x)
    near, power = x > -_NEAR_ZERO, exp(x)
    small = where(near, x, 0.0)
    return power, where(near, small * elementary.series(small, _EXPM1), power - 1.0)


# Taylor coefficients, in powers of x^2: exact to 2^-27 on the ranges given above. (They are not the
# best polynomials of their degree, but their ends are exact: the sine of 0 is 0, and of x about x.)
_SIN = [(-1) ** k * (math.pi / 2) ** (2 * k + 1) / math.factorial(2 * k + 1) for k in range(8)]
_SIN_SQUARED = [
    (-1) ** k * math.pi ** (2 * k + 2) / (2 * math.factorial(2 * k + 2)) for k in range(6)
]
_LOG1P = [1.0, -1 / 2, 1 / 3, -1 / 4]
_EXPM1 = [1 / math.factorial(k + 1) for k in range(4)]
# Nearer to 0 x^4 / 5 < 2^-42 is left after four terms. Farther away the logarithm of 1 + x, exact
# to 2^-34, still has the 24 bits of a value.
_NEAR_ZERO = 2.0**-10
_NUDGE = 2.0**-22


def _xp(x: object) -> Any:
    return jnp if isinstance(x, jax.Array) else np
