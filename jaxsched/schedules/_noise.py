"""``Noisy``: a schedule with noise on it; the noise is a function of the seed and the step."""

from __future__ import annotations

import math
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxsched import _number as num
from jaxsched._arrays import is_concrete, to_host
from jaxsched._checks import check_beside, checked_steps
from jaxsched._elementary import polynomial
from jaxsched._number import Number, Value
from jaxsched._struct import choice, count, length, number, struct
from jaxsched._types import Leaf
from jaxsched.schedules._wrappers import AbstractPointwise

_Bits = np.uint32 | np.ndarray | jax.Array  # uint32


@struct
class Noisy(AbstractPointwise):
    r"""A schedule times :math:`1 + n_t`, with independent noise :math:`n_t` at each step.

    Normal noise has the standard deviation ``std``; noise beyond :math:`\pm\text{limit}` is drawn
    again, as in timm. Uniform noise is within the same limits. Noise depends only on ``seed`` and
    the step: the same in a program, under ``vmap`` and on the host, on every machine. (The bits
    come from Threefry; timm takes PyTorch's generator.) Between two whole steps and after the
    duration it holds.

    Args:
        schedule: any schedule, or a controller.
        limit: largest noise, as a fraction of the value, at most 1: no value changes its sign.
            Larger noise is a multiple of the noise around 0:
            ``4.0 * (js.Noisy(js.Constant(1.0), 1.0, std=0.25) - 1.0)``.
        std: of normal noise; without effect on uniform noise.
        start: first step with noise.
        stop: first step without noise again, above ``start``; ``None`` (default): never.
        seed: a whole number from 0 to 2^31 - 1, which may be traced.
        distribution: ``"normal"`` or ``"uniform"``.

    References: Salmon et al., Parallel random numbers: as easy as 1, 2, 3 (Threefry-2x32).

    >>> import jaxsched as js
    >>> noisy = js.Noisy(js.Constant(0.5), limit=0.25, start=10, distribution="uniform")
    >>> float(noisy(9)), 0.375 < float(noisy(10)) < 0.625, float(noisy(10) - noisy(11)) != 0
    (0.5, True, True)
    """

    schedule: Any
    limit: Leaf = number(default=0.67, at_least=0, at_most=1)
    std: Leaf = number(default=1.0, at_least=0)
    start: Leaf = length(default=0, at_least=0)
    stop: Leaf = length(default=None, at_least=0, optional=True)
    seed: Leaf = count(default=0, at_least=0, at_most=0x7FFFFFFF)  # the range of int32
    distribution: Literal["normal", "uniform"] = choice("normal", "uniform", default="normal")

    def __check_init__(self) -> None:
        check_range("Noisy(start=...)", self.start, "Noisy(stop=...)", self.stop)

    def value_at(self, t: Number) -> Value:
        value = num.floating(t, self.schedule.value_at(t))
        t, last = num.at_least_zero(t), self.schedule.exact_length(t)
        at = num.floor(num.nudge(t if last is None else num.minimum(t, last)))
        within = at >= num.as_number(t, self.start)
        if self.stop is not None:
            within &= at < num.as_number(t, self.stop)
        return num.where(within, value * (1.0 + self._noise(t, at)), value)

    def _noise(self, t: Number, at: Number) -> Value:
        limit = num.as_value(t, self.limit)
        x = _symmetric(t, random_bits(self.seed, at))
        if self.distribution == "uniform":
            return x * limit
        whole, tail = _within(t, self.limit, self.std)
        return _erf_inv(x, whole, tail) * (num.as_value(t, self.std) * math.sqrt(2.0))


def check_range(start_name: str, start: Leaf, stop_name: str, stop: Leaf) -> None:
    """Raises for shares in the place of steps, and for a range of no step."""
    for name, step in ((start_name, start), (stop_name, stop)):
        if step is not None:
            checked_steps(name, step)
    check_beside(stop_name, stop, "greater than", "start", start, ": no step would have noise")


def random_bits(seed: Leaf, at: Number) -> _Bits:
    """32 random bits of a seed and a whole number from 0 to 2^48.

    The step is Threefry's counter, in two words of 24 bits, since an int32 ends at 2^31.
    """
    upper = num.floor(at * 2.0**-24)
    high, low = num.to_int32(upper), num.to_int32(at - upper * 2.0**24)
    with np.errstate(over="ignore"):
        return threefry((_word(seed), np.uint32(0)), (_word(high), _word(low)))[0]


def threefry(key: tuple[_Bits, _Bits], counter: tuple[_Bits, _Bits]) -> tuple[Any, Any]:
    """Threefry-2x32 with 20 rounds: two words of 32 bits.

    A block cipher without secrecy: it turns any counter into random-looking bits. It has no state,
    so the noise of step 10^6 needs no earlier steps. `jax.random` uses it too, but does not run on
    the host without JAX; here NumPy and JAX run the same lines. Sums wrap at 2^32 on purpose. The
    constants (rotations, and the word of the key schedule) are the paper's.
    """
    keys = (*key, key[0] ^ key[1] ^ np.uint32(0x1BD11BDA))
    x, y = counter[0] + key[0], counter[1] + key[1]
    for i in range(5):
        for bits in ((13, 15, 26, 6), (17, 29, 16, 24))[i % 2]:
            x = x + y
            y = ((y << np.uint32(bits)) | (y >> np.uint32(32 - bits))) ^ x
        x, y = x + keys[(i + 1) % 3], y + keys[(i + 2) % 3] + np.uint32(i + 1)
    return x, y


def _word(x: Leaf) -> _Bits:
    if is_concrete(x):
        return np.asarray(to_host(x)).astype(np.uint32)[()]
    return x.astype(np.uint32)


def _symmetric(t: Number, bits: Any) -> Value:
    """An odd multiple of 2^-23 between -1 and 1: exact in float32, and so everywhere."""
    # 23 of the bits are a number k from 0 to 2^23 - 1, and 2k + 1 - 2^23 is odd, from -2^23 + 1 to
    # 2^23 - 1. So the result is never -1 or 1, where the inverse distribution is infinite, and
    # never 0, and the numbers are equally dense on both sides.
    odd = ((bits >> np.uint32(9)).astype(np.int32) << np.int32(1)) + np.int32(1 - 2**23)
    dtype = np.float32 if isinstance(t, num.Double) else np.float64
    return odd.astype(dtype) * dtype(2.0**-23)


def _within(t: Number, limit: Leaf, std: Leaf) -> tuple[Value, Value]:
    """The probability of normal noise within the limit, and outside.

    timm draws noise outside of the limit again. Here a uniform number is scaled to the probability
    within before the inversion: the same distribution, in one draw, and with a derivative.
    """
    if is_concrete(limit) and is_concrete(std):
        limit, std = float(to_host(limit)), float(to_host(std))
        far = limit / (std * math.sqrt(2.0)) if std > 0 else math.inf
        return num.as_value(t, math.erf(far)), num.as_value(t, math.erfc(far))
    limit, std = num.as_value(t, limit), num.as_value(t, std)
    some = std > 0
    far = limit / (jnp.where(some, std, 1.0) * np.asarray(math.sqrt(2.0), limit.dtype))
    one, none = jnp.ones_like(far), jnp.zeros_like(far)
    return jnp.where(some, lax.erf(far), one), jnp.where(some, lax.erfc(far), none)


def _erf_inv(x: Value, whole: Value, tail: Value) -> Value:
    """The inverse error function of ``x * whole``, where ``whole + tail == 1``."""
    if x.dtype == np.float64:
        if isinstance(x, jax.Array):
            return lax.erf_inv(x * whole)
        from scipy.special import erfinv  # on the host only

        return erfinv(x * whole)
    # Large noise depends on the distance of x * whole from 1. In float32 the product would lose it:
    # at 1 - 1e-7 one unit is 6e-8. So it is computed from the complements, 1 - |x| and `tail`.
    left = (1.0 - jnp.abs(x)) + jnp.abs(x) * tail
    w = -jnp.log(left * (2.0 - left))
    near = w < 5.0
    low, high = jnp.where(near, w, 0.0) - 2.5, jnp.sqrt(jnp.where(near, 5.0, w)) - 3.0
    factor = jnp.where(near, polynomial(low, _NEAR), polynomial(high, _FAR))
    return x * whole * factor


# Giles, Approximating the erfinv function (2011): single precision, in w = -log(1 - x^2).
_NEAR = (
    *(1.50140941, 0.246640727, -0.00417768164, -0.00125372503, 0.00021858087),
    *(-4.39150654e-06, -3.5233877e-06, 3.43273939e-07, 2.81022636e-08),
)
_FAR = (
    *(2.83297682, 1.00167406, 0.00943887047, -0.0076224613, 0.00573950773),
    *(-0.00367342844, 0.00134934322, 0.000100950558, -0.000200214257),
)
