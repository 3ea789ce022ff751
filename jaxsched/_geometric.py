"""Cycles each of which is longer than the one before: their lengths are a geometric series."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxsched import _number as num
from jaxsched._double import Double, as_double, fixed
from jaxsched._number import Number

_LEFT = 2.0**-40  # of the limit: so far the terms of a shrinking series are told apart
_HUGE = 2.0**60  # far beyond any step, and its square, 2^120, is still a float32


def growths(total: Number, excess: Number) -> Number:
    """About how many terms of ``1 + g + g^2 + ...`` add up to ``total``, with ``g = 1 + excess``.

    The whole number below, or one of its neighbors, in ordinary arithmetic. Terms that shrink have
    a limit, to which what is left is subtracted exactly.
    """
    left = num.maximum(total * excess + 1.0, num.full_like(total, _LEFT))
    if isinstance(total, Double) or isinstance(excess, Double):
        left, total, excess = fixed(as_double(left).hi, as_double(total).hi, as_double(excess).hi)
        terms = jnp.where(excess < 0, jnp.log(left), jnp.log1p(total * excess)) / jnp.log1p(excess)
        return as_double(jnp.floor(terms))
    xp = jnp if isinstance(total + excess, jax.Array) else np
    logs = xp.where(excess < 0, xp.log(left), xp.log1p(xp.maximum(total * excess, _LEFT - 1)))
    return xp.floor(logs / xp.log1p(excess))


def geometric(base: Number, count: Number, bits: int) -> tuple[Number, Number]:
    """``base ** count`` and ``1 + base + ... + base ** (count - 1)``, for ``base > 0`` and whole
    ``0 <= count < 2**bits``.

    By doubling, without a division: exact as long as the sum has 48 bits (53 on the host). Both
    saturate far beyond any number of steps.
    """
    remaining = num.to_int32(count)

    def double(bit: Any, so_far: list[Number]) -> list[Number]:
        # block is base ** 2**bit, and block_sum the sum of so many terms.
        power, total, block, block_sum = so_far
        taken = (remaining >> bit) & 1 == 1
        total = num.where(taken, _saturated(total + power * block_sum), total)
        power = num.where(taken, _saturated(power * block), power)
        block_sum = _saturated(block_sum + block * block_sum)
        return [power, total, _saturated(block * block), block_sum]

    so_far = [num.full_like(count, 1.0), num.full_like(count, 0.0), base, num.full_like(count, 1.0)]
    if not isinstance(count, Double):
        for bit in range(bits):
            so_far = double(bit, so_far)
    else:  # as a loop it compiles in a tenth of the time
        so_far[2] = as_double(base) + num.full_like(count, 0.0)
        apart = lambda numbers: list(map(num.to_arrays, numbers))
        doubled = lambda bit, carry: apart(double(bit, [Double(*x) for x in carry]))
        so_far = [Double(*x) for x in lax.fori_loop(0, bits, doubled, apart(so_far))]
    return so_far[0], so_far[1]


def _saturated(x: Number) -> Number:
    return num.where((x.hi if isinstance(x, Double) else x) < _HUGE, x, num.full_like(x, _HUGE))
