"""``Double``: a number in two float32 words; error-free transformations, logarithm, exponential.

Every operation grafts the derivative of the plain float32 formula onto the exact value; see
``_number.py``, which says what it is for.
"""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Callable
from typing import Any, TypeAlias, TypeVar, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

F = TypeVar("F", bound=Callable[..., Any])
Word: TypeAlias = np.ndarray | jax.Array  # float32; NumPy's scalars, too
_Pair: TypeAlias = tuple[Word, Word]
Mask: TypeAlias = np.bool_ | np.ndarray | jax.Array  # what a comparison gives
_SPLIT = np.int32(-(1 << 12))  # keeps the upper 12 bits of a float32's 24-bit significand


def once(f: F) -> F:
    """``f`` of Doubles, traced once for each of their shapes and called from then on.

    A schedule is hundreds of float32 operations and a few dozen of Doubles: tracing it takes less
    than half the time. XLA inlines what is called, so the program is the same.
    """
    program = jax.jit(f)

    @functools.wraps(f)
    def call(*xs: Any) -> Any:
        traced = any(isinstance(x, jax.core.Tracer) for x in jax.tree.leaves(xs))
        return program(*xs) if traced else f(*xs)

    return cast(F, call)


@jax.tree_util.register_pytree_node_class
class Double:
    """``hi + lo``: two float32 arrays of one shape, with ``|lo|`` at most half a unit of ``hi``."""

    __slots__ = ("hi", "lo")
    __array_ufunc__ = None  # so that `numpy_number * double` reaches our operators

    def __init__(self, hi: Word, lo: Word):
        self.hi = hi
        self.lo = lo

    def tree_flatten(self) -> tuple[_Pair, None]:
        return (self.hi, self.lo), None

    @classmethod
    def tree_unflatten(cls, _: None, words: _Pair) -> Double:
        return cls(*words)

    def __getitem__(self, index: Any) -> Double:
        return Double(self.hi[index], self.lo[index])

    def __neg__(self) -> Double:
        return Double(-self.hi, -self.lo)

    def __add__(self, other: Operand) -> Double:
        return _sum(self, as_double(other))

    def __sub__(self, other: Operand) -> Double:
        return self + (-as_double(other))

    def __mul__(self, other: Operand) -> Double:
        if type(other) is float and abs(math.frexp(other)[0]) == 0.5:  # a power of two is exact
            return Double(self.hi * np.float32(other), fix(self.lo) * np.float32(other))
        return _product(self, as_double(other))

    def __truediv__(self, other: Operand) -> Double:
        return _quotient(self, as_double(other))

    __radd__ = __add__

    def __rsub__(self, other: Operand) -> Double:
        # Not `as_double(other) - self`: XLA folds (1 - x) - 1 to -x, and with it the error away.
        return (-self) + other

    __rmul__ = __mul__

    def __rtruediv__(self, other: Operand) -> Double:
        return as_double(other) / self

    # The sign of a Double is that of its upper half, so zero takes one comparison.

    def __lt__(self, other: Operand) -> Mask:
        if _is_zero(other):
            return self.hi < 0
        return _less(self, as_double(other))

    def __le__(self, other: Operand) -> Mask:
        if _is_zero(other):
            return self.hi <= 0
        return _less_or_equal(self, as_double(other))

    def __gt__(self, other: Operand) -> Mask:
        return self.hi > 0 if _is_zero(other) else as_double(other) < self

    def __ge__(self, other: Operand) -> Mask:
        return self.hi >= 0 if _is_zero(other) else as_double(other) <= self


Operand: TypeAlias = Double | float | np.generic | np.ndarray | jax.Array


def as_double(x: Operand) -> Double:
    """The exact value of a Python or NumPy number or an array as a ``Double``.

    Of an integer or a float64 beyond 2^48 it keeps the upper 48 bits.
    """
    if isinstance(x, Double):
        return x
    if isinstance(x, (int, float, np.generic, np.ndarray)):
        exact = np.asarray(x, np.float64)
        upper = exact.astype(np.float32)
        return Double(upper[()], (exact - upper).astype(np.float32)[()])
    if jnp.issubdtype(x.dtype, jnp.integer):
        return _of_integers(x)
    if x.dtype == jnp.float64:
        hi = x.astype(jnp.float32)
        return Double(hi, (x - hi.astype(jnp.float64)).astype(jnp.float32))
    hi = x.astype(jnp.float32)
    return Double(hi, jnp.zeros_like(hi))


def _of_integers(x: jax.Array) -> Double:
    if x.dtype.itemsize < 4:
        x = x.astype(jnp.int32)
    kind = x.dtype.type
    if x.dtype.itemsize == 4:
        # 32 bits do not fit a float32 but two halves do, each exactly.
        lower = x & kind((1 << 12) - 1)
        return Double(*fast_two_sum((x - lower).astype(jnp.float32), lower.astype(jnp.float32)))
    mask = kind((1 << 24) - 1)
    third = lambda bits, scale: bits.astype(jnp.float32) * np.float32(scale)
    upper, middle = third(x >> kind(48), 2.0**48), third((x >> kind(24)) & mask, 2.0**24)
    return Double(*fast_two_sum(upper, middle)) + third(x & mask, 1.0)


@jax.custom_jvp
def graft(value: Word, smooth: Word) -> Word:
    """``value``, with the derivative of ``smooth`` (which costs nothing unless it is asked for)."""
    del smooth
    return value


@graft.defjvp
def _graft_jvp(primals: _Pair, tangents: _Pair) -> _Pair:
    return graft(*primals), tangents[1]


def fix(x: Any) -> Any:
    # Errors of rounding have no derivative: that of `smooth` is grafted onto what they make exact.
    return lax.stop_gradient(x) if isinstance(x, jax.Array) else x


def fixed(*xs: Any) -> tuple[Any, ...]:
    return tuple(map(fix, xs))


@once
def _sum(x: Double, y: Double) -> Double:
    value, error = two_sum(*fixed(x.hi, y.hi))
    return _renormalized(value, error + (fix(x.lo) + fix(y.lo)), x.hi + y.hi)


@once
def _product(x: Double, y: Double) -> Double:
    a, b, a_lo, b_lo = fixed(x.hi, y.hi, x.lo, y.lo)
    value, error = _two_product(a, b)
    return _renormalized(value, error + (a * b_lo + a_lo * b), x.hi * y.hi)


@once
def _quotient(x: Double, y: Double) -> Double:
    a, b, a_lo, b_lo = fixed(x.hi, y.hi, x.lo, y.lo)
    value = a / b
    # What the rounded quotient leaves of x, exactly: over y it is the second word.
    product, error = _two_product(value, b)
    rest = ((a - product) - error + a_lo - value * b_lo) / b
    return _renormalized(value, rest, x.hi / y.hi)


@once
def _less(x: Double, y: Double) -> Mask:
    return (x.hi < y.hi) | ((x.hi == y.hi) & (x.lo < y.lo))


@once
def _less_or_equal(x: Double, y: Double) -> Mask:
    return (x.hi < y.hi) | ((x.hi == y.hi) & (x.lo <= y.lo))


@once
def select(condition: Mask, x: Double, y: Double) -> Double:
    """``x`` where the condition holds, else ``y``."""
    return Double(jnp.where(condition, x.hi, y.hi), jnp.where(condition, x.lo, y.lo))


def _is_zero(x: object) -> bool:
    return isinstance(x, float) and x == 0  # numpy.float64 is a float


def two_sum(a: Word, b: Word) -> _Pair:
    """``a + b`` and its rounding error, exactly (Knuth)."""
    total = a + b
    shadow = total - a
    return total, (a - (total - shadow)) + (b - shadow)


def fast_two_sum(a: Word, b: Word) -> tuple[Word, Word]:
    """The same where ``|a| >= |b|`` or ``a`` is zero (Dekker)."""
    total = a + b
    return total, b - (total - a)


def _two_product(a: Word, b: Word) -> _Pair:
    """``a * b`` as a sum of two, of which the second is small: a Double that is not yet tidied up.

    The factors are halved by masking bits, so that each of the four products of halves is exact.
    Where XLA contracts a product and a sum into one operation, nothing changes then; of the rounded
    product ``a * b`` it would keep the exact value here and the rounded one there.
    """
    a1, b1 = _upper_half(a), _upper_half(b)
    a2, b2 = a - a1, b - b1
    middle, error = two_sum(a1 * b2, a2 * b1)
    total, rest = fast_two_sum(a1 * b1, middle)
    return total, rest + (error + a2 * b2)


def _upper_half(a: Word) -> Word:
    if not isinstance(a, jax.Array):
        return (np.asarray(a, np.float32).view(np.int32) & _SPLIT).view(np.float32)[()]
    bits = lax.bitcast_convert_type(a, jnp.int32) & _SPLIT
    return lax.bitcast_convert_type(bits, jnp.float32)


def _renormalized(value: Word, rest: Word, smooth: Word) -> Double:
    hi, lo = fast_two_sum(value, rest)
    return Double(graft(hi, smooth), lo)


# ------------------------------------------------- logarithm and exponential, by short polynomials

# log2(m) = 2/ln2 * atanh(s), s = (m - 1)/(m + 1), |s| <= 0.172 for m in [0.707, 1.414]: after six
# terms s^12/13 < 2^-34 is left.
_LOG2 = [2 / math.log(2) / (2 * k + 1) for k in range(6)]
# Below and above these, exp2 holds its value: 2^-151 rounds to 0 in float32, whose least number is
# 2^-149, and 2^127.5 = 2.4e38 is half an octave below 2^128, which is infinite.
_EXP2_MIN, EXP2_MAX = -151.0, 127.5
# 2^r = exp(r ln2) for |r| <= 1/2: after nine terms (ln2/2)^9/9! < 2^-32 is left.
_EXP2 = [math.log(2) ** k / math.factorial(k) for k in range(9)]


@once
def log2(x: Double) -> Double:
    """Of a positive number: its exponent, and the logarithm of its significand ``m``."""
    hi, lo = fixed(x.hi, x.lo)
    bits = lax.bitcast_convert_type(hi, jnp.int32)
    # 0x3F3504F3 are the bits of sqrt(1/2). Counted from there, a step of 2^23 in the bits is the
    # next exponent, and m = x / 2^exponent is in [0.707, 1.414], around 1, where s is small.
    exponent = (bits - np.int32(0x3F3504F3)) >> 23
    scale = lax.bitcast_convert_type((np.int32(127) - exponent) << 23, jnp.float32)
    m = Double(hi * scale, lo * scale)
    s = (m - 1.0) / (m + 1.0)
    whole = exponent.astype(jnp.float32)
    result = s * series(s * s, _LOG2) + Double(whole, jnp.zeros_like(whole))
    return Double(graft(result.hi, jnp.log(x.hi) * np.float32(math.log2(math.e))), result.lo)


@once
def exp2(x: Double) -> Double:
    """``2 ** x``: an exact power of two for the whole part, a polynomial for the rest."""
    hi, lo = fixed(x.hi, x.lo)
    inside = jnp.clip(hi, _EXP2_MIN, EXP2_MAX)
    whole = jnp.round(inside)
    rest = Double(*two_sum(inside - whole, jnp.where(inside == hi, lo, 0)))
    value = series(rest, _EXP2)
    n = whole.astype(jnp.int32)
    half = n >> 1  # in two factors: one alone would overflow where the result does not
    scale_1 = lax.bitcast_convert_type((half + 127) << 23, jnp.float32)
    scale_2 = lax.bitcast_convert_type((n - half + 127) << 23, jnp.float32)
    result = Double((value.hi * scale_1) * scale_2, (value.lo * scale_1) * scale_2)
    smooth = jnp.exp2(jnp.clip(x.hi, _EXP2_MIN, EXP2_MAX))
    return Double(graft(result.hi, smooth), result.lo)


def series(x: Double, coefficients: list[float]) -> Double:
    """A polynomial whose first two terms carry the weight, so only they are summed as Doubles."""
    tail = polynomial(x.hi, coefficients[2:])
    return (Double(tail, jnp.zeros_like(tail)) * x + coefficients[1]) * x + coefficients[0]


def polynomial(x: Word, coefficients: list[float]) -> Word:
    """By Horner's rule, in float32; the coefficients begin with the constant one."""
    total = jnp.full_like(x, coefficients[-1])
    for c in coefficients[-2::-1]:
        total = total * x + np.float32(c)
    return total


def product(xs: list[Any]) -> Any:
    """The product of values, which alone is large or small: no part of it leaves float32."""
    with np.errstate(all="ignore"):
        plain = functools.reduce(operator.mul, xs)
    if len(xs) < 3 or plain.dtype != jnp.float32:
        return plain
    if not isinstance(plain, jax.Array):
        return np.float32(np.prod(np.asarray(xs, np.float64)))
    # Of 1e30 * 1e30 * 1e-30 the first product is infinite. So significands and exponents are apart
    # (zero and what is below 2^-126 counts as that, infinity as 2^126: both stay what they are).
    total: Any = np.float32(1.0)
    exponents: Any = np.int32(0)
    for x in map(fix, xs):
        bits = lax.bitcast_convert_type(jnp.asarray(x, jnp.float32), jnp.int32)
        exponent = jnp.clip(((bits >> 23) & 255) - 127, -126, 126)
        total = total * (x * _two_to(-exponent))
        exponents = exponents + exponent
    exponents = jnp.clip(exponents, -252, 252)
    half = exponents >> 1
    return graft((total * _two_to(half)) * _two_to(exponents - half), plain)


def _two_to(exponent: jax.Array) -> jax.Array:
    """The float32 power of two, for an exponent from -126 to 127."""
    return lax.bitcast_convert_type((exponent + 127) << 23, jnp.float32)
