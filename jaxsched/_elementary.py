"""Logarithm and exponential to the base 2 of exact numbers in two words, by short polynomials."""

from __future__ import annotations

import math
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxsched._double import Double, fixed, graft, two_sum

# log2(m) = 2/ln2 * atanh(s), s = (m - 1)/(m + 1), |s| <= 0.172 for m in [0.707, 1.414]: after six
# terms s^12/13 < 2^-34 is left.
_LOG2 = [2 / math.log(2) / (2 * k + 1) for k in range(6)]
# Below and above these, exp2 holds its value: 2^-151 rounds to 0 in float32, whose least number is
# 2^-149, and 2^127.5 = 2.4e38 is half an octave below 2^128, which is infinite.
_EXP2_MIN, EXP2_MAX = -151.0, 127.5
# 2^r = exp(r ln2) for |r| <= 1/2: after nine terms (ln2/2)^9/9! < 2^-32 is left.
_EXP2 = [math.log(2) ** k / math.factorial(k) for k in range(9)]


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


def polynomial(x: Any, coefficients: list[float]) -> Any:
    """By Horner's rule, in float32; the coefficients begin with the constant one."""
    total = jnp.full_like(x, coefficients[-1])
    for c in coefficients[-2::-1]:
        total = total * x + np.float32(c)
    return total
