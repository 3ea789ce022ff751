"""``Double``: a number in two float32 words, and its arithmetic by error-free transformations.

A float32 has 24 bits, so it rounds 2^24 + 1 = 16777217 to 16777216. Two of them have 48: the pair
``(16777216, 1)`` is exactly 16777217, and ``(0.1f, -1.49e-9)`` is 0.1 to 15 digits. All of the
arithmetic rests on one fact: the rounding error of a sum or a product of two float32 numbers is
itself a float32 number, and float32 operations alone can compute it:

    2^24 + 1.25 = 16777218 (rounded: up here a float32 is even) and an error of -0.75

So each operation computes the rounded result and its error, adds the contribution of the lower
words to the error, and makes a tidy pair of the two. A sum is 11 float32 operations, a product 30.
None is a branch. None is in float64, which TPUs, and programs outside x64 mode, do not have.

The formulas look as if they could be simplified, and for real numbers they could: the error in
``two_sum`` is zero there. Three things keep compilers from doing so, and a change here must too:

- XLA leaves sums and differences of variables as they are written, but folds constants:
  ``(1 - x) - 1`` becomes ``-x``, and the error of the first difference is gone. So a constant is
  always the second operand of a sum: a program loses the error of ``two_sum(1, x)``, and keeps the
  error of ``two_sum(x, 1)``.
- LLVM contracts ``a * b - c`` to one operation that does not round ``a * b``. So a sum never
  follows a product if the rounding of the product matters (``_two_product``).
- JAX would differentiate the errors, which have no derivative. So ``fix`` takes them out, and
  ``graft`` gives the result the derivative of the plain float32 formula.

After Dekker (1971) and Knuth; others call it "double-double". ``_number.py`` explains its use.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, TypeAlias, TypeVar, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

F = TypeVar("F", bound=Callable[..., Any])
Word: TypeAlias = np.ndarray | jax.Array  # float32; NumPy's scalars, too
_Pair: TypeAlias = tuple[Word, Word]
Mask: TypeAlias = np.bool_ | np.ndarray | jax.Array  # the result of a comparison


def once(f: F) -> F:
    """``f`` of Doubles, traced once for each of their shapes and called from then on.

    A schedule is hundreds of float32 operations and a few dozen of Doubles: tracing it takes less
    than half the time. XLA inlines the calls, so the program is the same. Known numbers (NumPy's)
    go to ``f`` directly: the jitted function would turn them into JAX arrays.
    """
    program = jax.jit(f)

    @functools.wraps(f)
    def call(*xs: Any) -> Any:
        traced = any(isinstance(x, jax.core.Tracer) for x in jax.tree.leaves(xs))
        return program(*xs) if traced else f(*xs)

    return cast(F, call)


@jax.tree_util.register_pytree_node_class
class Double:
    """``hi + lo``: two float32 arrays of one shape, with ``|lo|`` at most half a unit of ``hi``.

    The bound makes the pair unique, and ``hi`` the number rounded to float32: rounding costs
    nothing, and the upper words decide comparisons unless they are equal. The words may be NumPy's
    inside of a program: a constant is known, and costs the program nothing.
    """

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
        # Times a power of two nothing is rounded (`frexp` gives 0.5 for these alone): two
        # operations in place of the 30 of `_product`.
        if type(other) is float and abs(math.frexp(other)[0]) == 0.5:
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

    # A Double has the sign of its upper word, so zero takes one comparison.

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

    An integer or a float64 beyond 2^48 keeps its upper 48 bits.
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
    """An integer array of any width, from parts of at most 24 bits, which fit into a float32."""
    if x.dtype.itemsize < 4:
        x = x.astype(jnp.int32)
    kind = x.dtype.type
    if x.dtype.itemsize == 4:
        # The lower 12 bits, never negative, and the rest, a multiple of 2^12 with 20 bits. `upper`
        # may be 0 where `lower` is not: `fast_two_sum` allows that.
        lower = x & kind((1 << 12) - 1)
        return Double(*fast_two_sum((x - lower).astype(jnp.float32), lower.astype(jnp.float32)))
    # 64 bits are three parts; the sum keeps the upper 48 bits.
    mask = kind((1 << 24) - 1)
    third = lambda bits, scale: bits.astype(jnp.float32) * np.float32(scale)
    upper, middle = third(x >> kind(48), 2.0**48), third((x >> kind(24)) & mask, 2.0**24)
    return Double(*fast_two_sum(upper, middle)) + third(x & mask, 1.0)


@jax.custom_jvp
def graft(value: Word, smooth: Word) -> Word:
    """``value``, with the derivative of ``smooth`` (at no cost unless a program takes it).

    The two are the same number: ``value`` in the exact form, ``smooth`` in the usual formula. JAX
    differentiates only ``smooth``. A program without derivatives does not use ``smooth``, and XLA
    removes it.
    """
    del smooth
    return value


@graft.defjvp
def _graft_jvp(primals: _Pair, tangents: _Pair) -> _Pair:
    return graft(*primals), tangents[1]


def fix(x: Any) -> Any:
    """``x`` for an exact form: without its derivative, which ``graft`` takes from elsewhere.

    The derivative of the exact form would include the rounding errors, which add up to nothing.
    """
    return lax.stop_gradient(x) if isinstance(x, jax.Array) else x


def fixed(*xs: Any) -> tuple[Any, ...]:
    return tuple(map(fix, xs))


@once
def _sum(x: Double, y: Double) -> Double:
    value, error = two_sum(*fixed(x.hi, y.hi))
    # The lower words are below half a unit of the upper ones, so their sum may be rounded: the
    # error is below the 48th bit.
    return _renormalized(value, error + (fix(x.lo) + fix(y.lo)), x.hi + y.hi)


@once
def _product(x: Double, y: Double) -> Double:
    a, b, a_lo, b_lo = fixed(x.hi, y.hi, x.lo, y.lo)
    value, error = _two_product(a, b)
    # (a + a_lo)(b + b_lo) without a_lo * b_lo, which is below the 48th bit.
    return _renormalized(value, error + (a * b_lo + a_lo * b), x.hi * y.hi)


@once
def _quotient(x: Double, y: Double) -> Double:
    """``x / y``, exact to about 2^-46, as a product is."""
    a, b, a_lo, b_lo = fixed(x.hi, y.hi, x.lo, y.lo)
    value = a / b
    # One step of long division: the second word is (x - quotient * y) / y. 1 / 3 rounds to
    # 0.33333334, which leaves -2^-25; a third of -2^-25 is the second word. `a - product` is exact,
    # since the two agree in nearly all of their bits.
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
    """``a + b`` and its rounding error, exactly (Knuth).

    ``shadow`` is the share of ``b`` in the total, and ``total - shadow`` the share of ``a``. For
    2^24 + 1.25 the total is 16777218, the shadow 2: all of a, and 0.75 too much of b. Each of these
    differences is exact, also if ``a`` is smaller than ``b``.
    """
    total = a + b
    shadow = total - a
    return total, (a - (total - shadow)) + (b - shadow)


def fast_two_sum(a: Word, b: Word) -> tuple[Word, Word]:
    """The same where ``|a| >= |b|`` or ``a`` is zero (Dekker): then nothing of ``a`` is lost."""
    total = a + b
    return total, b - (total - a)


def _two_product(a: Word, b: Word) -> _Pair:
    """``a * b`` as a large and a small number: a Double before it is tidied up.

    24 bits times 24 bits are 48; a float32 product keeps the upper half. So the function splits
    each factor into 12 bits and 12 bits, as in multiplication on paper, digit by digit: the four
    products of halves have at most 24 bits each, so they are exact, and ``two_sum`` adds them.

    The textbook's error, ``a1 * b1 - total + ...`` with ``total = a * b``, is shorter. It needs the
    same rounded ``a * b`` twice. XLA may contract either one with the next sum, and then it is not
    rounded: the error would belong to another product. An exact product is the same number,
    contracted or not.
    """
    a1, b1 = _upper_half(a), _upper_half(b)
    a2, b2 = a - a1, b - b1
    middle, error = two_sum(a1 * b2, a2 * b1)
    total, rest = fast_two_sum(a1 * b1, middle)
    return total, rest + (error + a2 * b2)


_UPPER_BITS = np.int32(-(1 << 12))  # all but the lower 12 of the 24 bits of a significand


def _upper_half(a: Word) -> Word:
    """``a`` with 12 bits of its significand, cut off as an integer: no rounding, no overflow.

    Dekker's way, ``c - (c - a)`` with ``c = 4097 * a``, is a product before a sum, and infinite
    above 2^116.
    """
    if not isinstance(a, jax.Array):
        return (np.asarray(a, np.float32).view(np.int32) & _UPPER_BITS).view(np.float32)[()]
    bits = lax.bitcast_convert_type(a, jnp.int32) & _UPPER_BITS
    return lax.bitcast_convert_type(bits, jnp.float32)


def _renormalized(value: Word, rest: Word, smooth: Word) -> Double:
    """A tidy pair of a value and a rest, which may be more than half a unit of the value."""
    hi, lo = fast_two_sum(value, rest)
    return Double(graft(hi, smooth), lo)
