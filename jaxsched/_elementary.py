"""Logarithm and exponential of Doubles, by short polynomials; a product that never overflows.

XLA's own have 24 bits, and ``t ** 0.5`` as ``exp(0.5 * log(t))`` needs more: an error of 2^-24 in a
logarithm of 20 is one of 20 * 2^-24 in the power. So both are computed here, to about 2^-32, in the
way of every mathematical library: the bits of the exponent do the coarse part, without an error,
and a polynomial of the small rest does the fine one. The bits of a float32 are its sign (1), its
exponent plus 127 (8), and its significand without the leading one (23).
"""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxsched._double import Double, Word, fix, fixed, graft, once, two_sum

# log2(m) = 2/ln2 * atanh(s), s = (m - 1)/(m + 1), |s| <= 0.172 for m in [0.707, 1.414]: after six
# terms s^12/13 < 2^-34 is left.
_LOG2 = [2 / math.log(2) / (2 * k + 1) for k in range(6)]
# Below and above these, exp2 holds its value: 2^-151 rounds to 0 (the least float32 number is
# 2^-149), and 2^127.5 = 2.4e38 is half an octave below 2^128, which is infinite.
_EXP2_MIN, EXP2_MAX = -151.0, 127.5
# 2^r = exp(r ln2) for |r| <= 1/2: after nine terms (ln2/2)^9/9! < 2^-32 is left.
_EXP2 = [math.log(2) ** k / math.factorial(k) for k in range(9)]


@once
def log2(x: Double) -> Double:
    """Of a positive number: its exponent, and the logarithm of its significand ``m``.

    3 = 2^2 * 0.75, so log2(3) = 2 + log2(0.75), and for 0.75 ``s`` is -1/7.
    """
    hi, lo = fixed(x.hi, x.lo)
    bits = lax.bitcast_convert_type(hi, jnp.int32)
    # The bits of a float32, read as an integer, grow by 2^23 when it doubles. 0x3F3504F3 are the
    # bits of sqrt(1/2): counted from there, the upper bits are the exponent, and m = x / 2^exponent
    # is in [0.707, 1.414], around 1, where s is small. (Counted from 1, m would be in [1, 2).)
    exponent = (bits - np.int32(0x3F3504F3)) >> 23
    scale = lax.bitcast_convert_type((np.int32(127) - exponent) << 23, jnp.float32)
    m = Double(hi * scale, lo * scale)
    s = (m - 1.0) / (m + 1.0)
    whole = exponent.astype(jnp.float32)
    result = s * series(s * s, _LOG2) + Double(whole, jnp.zeros_like(whole))
    return Double(graft(result.hi, jnp.log(x.hi) * np.float32(math.log2(math.e))), result.lo)


@once
def exp2(x: Double) -> Double:
    """``2 ** x``: an exact power of two for the whole part, a polynomial for the rest.

    2^1.585 = 2^2 * 2^-0.415. The power of two is made of its exponent's bits.
    """
    hi, lo = fixed(x.hi, x.lo)
    inside = jnp.clip(hi, _EXP2_MIN, EXP2_MAX)
    whole = jnp.round(inside)
    # A held `hi` is another number; its lower word is 0.
    rest = Double(*two_sum(inside - whole, jnp.where(inside == hi, lo, 0)))
    value = series(rest, _EXP2)
    n = whole.astype(jnp.int32)
    # In two factors, since one float32 cannot hold every 2^n: 2^127.5 = 2^128 * 0.707 needs the
    # exponent 128, but its bits mean infinity; 2^-140 is below the range of exponents.
    half = n >> 1
    scale_1, scale_2 = _two_to(half), _two_to(n - half)
    result = Double((value.hi * scale_1) * scale_2, (value.lo * scale_1) * scale_2)
    smooth = jnp.exp2(jnp.clip(x.hi, _EXP2_MIN, EXP2_MAX))
    return Double(graft(result.hi, smooth), result.lo)


def series(x: Double, coefficients: Sequence[float]) -> Double:
    """A polynomial with two large first terms, so that only these two are summed as Doubles.

    From the third term on a float32 is enough: its error of 2^-24 is multiplied by ``x ** 2``,
    which is small where this is used.
    """
    tail = polynomial(x.hi, coefficients[2:])
    return (Double(tail, jnp.zeros_like(tail)) * x + coefficients[1]) * x + coefficients[0]


def polynomial(x: Word, coefficients: Sequence[float]) -> Word:
    """By Horner's rule, in float32; the coefficients begin with the constant one."""
    total = jnp.full_like(x, coefficients[-1])
    for c in coefficients[-2::-1]:
        total = total * x + np.float32(c)
    return total


def product(xs: list[Any]) -> Any:
    """The product of values; only the whole of it may leave float32, no part.

    1e30 * 1e30 * 1e-30 is 1e30, but in float32 its first product is infinite, and so is the result.
    So the function multiplies the significands, and adds the exponents.
    """
    with np.errstate(all="ignore"):
        plain = functools.reduce(operator.mul, xs)
    if len(xs) < 3 or plain.dtype != jnp.float32:
        return plain
    if not isinstance(plain, jax.Array):
        return np.float32(np.prod(np.asarray(xs, np.float64)))
    # A factor below 2^-126, zero too, counts as 2^-126, infinity as 2^126: both stay as they are.
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
