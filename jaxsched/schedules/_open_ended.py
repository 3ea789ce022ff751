"""Open-ended laws: they need no horizon and are defined at every step."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxsched import _number as num
from jaxsched._arrays import to_host
from jaxsched._number import Number, Value
from jaxsched._struct import length, number, struct
from jaxsched._types import Leaf
from jaxsched.schedules._base import AbstractSchedule, AbstractTimed


class AbstractOpenEnded(AbstractSchedule):
    @property
    def duration(self) -> None:
        return None


class AbstractTimescale(AbstractOpenEnded):
    timescale: Leaf

    def natural_length(self) -> float:
        return 8 * float(to_host(self.timescale))


@struct
class Exponential(AbstractOpenEnded):
    r"""Exponential decay or growth without end.

    .. math:: s(t) = \text{start}\; e^{\,\text{rate}\cdot t}

    It stores the rate, since a factor near 1 would keep few digits in float32;
    ``js.exponential_decay(peak, factor, every)`` converts.

    Args:
        start: value at step 0.
        rate: change of the logarithm per optimizer update; negative for a decay.

    >>> import jaxsched as js
    >>> round(float(js.Exponential(1.0, -0.01)(100)), 6)
    0.367879
    """

    start: Leaf = number()
    rate: Leaf = number()

    def value_at(self, t: Number) -> Value:
        # In two words: in float32 an exponent of -80 has an error of up to 3.8e-6, and so the value
        # has that relative error.
        exponent = num.at_least_zero(t) * num.as_number(t, self.rate)
        return num.as_value(t, self.start) * num.to_value(num.exp(exponent))

    def natural_length(self) -> float:
        rate = abs(float(to_host(self.rate)))
        return 4 / rate if rate else 0.0


@struct
class InverseSqrt(AbstractTimescale):
    r"""Inverse square root of time.

    .. math:: s(t) = \frac{\text{start}}{\sqrt{1 + t/\text{timescale}}}

    Args:
        start: value at step 0.
        timescale: positive, in optimizer updates; after three timescales the value is halved.

    >>> import jaxsched as js
    >>> float(js.InverseSqrt(1.0, 100)(300))
    0.5
    """

    start: Leaf = number()
    timescale: Leaf = number(above=0)

    def value_at(self, t: Number) -> Value:
        scale = num.as_number(t, self.timescale)
        grown = num.sqrt(num.to_value(num.at_least_zero(t) + scale))
        return num.as_value(t, self.start) * (num.sqrt(num.as_value(t, self.timescale)) / grown)


@struct
class InverseTime(AbstractTimescale):
    r"""Inverse of time.

    .. math:: s(t) = \frac{\text{start}}{1 + t/\text{timescale}}

    Args:
        start: value at step 0.
        timescale: positive, in optimizer updates; after one timescale the value is halved.

    References: Robbins & Monro, A stochastic approximation method, 1951.

    >>> import jaxsched as js
    >>> float(js.InverseTime(1.0, 100)(100))
    0.5
    """

    start: Leaf = number()
    timescale: Leaf = number(above=0)

    def value_at(self, t: Number) -> Value:
        scale = num.as_number(t, self.timescale)
        return num.as_value(t, self.start) * num.quotient(scale, num.at_least_zero(t) + scale)


@struct
class PowerLaw(AbstractTimescale):
    r"""A power of time.

    .. math:: s(t) = \text{start}\,(1 + t/\text{timescale})^{\text{exponent}}

    Args:
        start: value at step 0.
        exponent: negative for a decay.
        timescale: positive, in optimizer updates.

    >>> import jaxsched as js
    >>> float(js.PowerLaw(1.0, -1.0, 100)(100))
    0.5
    """

    start: Leaf = number()
    exponent: Leaf = number()
    timescale: Leaf = number(above=0)

    def value_at(self, t: Number) -> Value:
        scale = num.as_number(t, self.timescale)
        # ln(1001) - ln(1000) is 0.0009995. In float32 each logarithm has an error of up to 2.4e-7,
        # a four-thousandth of the difference; in two words nothing is lost.
        growth = num.log(num.at_least_zero(t) + scale) - num.log(scale)
        return num.as_value(t, self.start) * num.to_value(
            num.exp(growth * num.as_number(t, self.exponent))
        )


@struct
class RAdamWarmup(AbstractOpenEnded):
    r"""A warmup from the variance of Adam's second moment: it rises from about 0.01 to 1.

    .. math::
        r(t) = \sqrt{\frac{(\rho-4)(\rho-2)\,\rho_\infty}{(\rho_\infty-4)(\rho_\infty-2)\,\rho}},
        \quad \rho = \rho_\infty - \frac{2 n \beta_2^n}{1 - \beta_2^n}, \quad
        \rho_\infty = \frac{2}{1-\beta_2} - 1, \quad n = t + n_0

    with :math:`n_0` the first count at which :math:`\rho > 4` (5 for usual ``b2``). Multiply a
    rate by it: ``peak * js.RAdamWarmup(0.999)``. A function of the step alone: a plain schedule.

    Args:
        b2: the optimizer's decay rate of the second moment, 0.7 to less than 1.

    References: Liu et al., RAdam, arXiv:1908.03265; pytorch-warmup (the offset).

    >>> import jaxsched as js
    >>> [round(float(js.RAdamWarmup(0.99)(t)), 3) for t in (0, 10, 100, 1000)]
    [0.054, 0.218, 0.648, 1.0]
    """

    b2: Leaf = number(default=0.999, at_least=0.7, below=1)

    def value_at(self, t: Number) -> Value:
        b2 = num.as_number(t, self.b2)
        last = 2.0 / (1.0 - b2) - 1.0
        decay = num.log(b2)
        # rho > 4 from count 5 on or, for b2 from 0.7 to this root of rho(5) = 4, from count 6. A
        # selection, since b2 may be traced.
        n = num.at_least_zero(t) + num.where(b2 > 0.7733030257, 5.0, 6.0)
        power, less = num.exp_and_expm1(decay * n)
        now = last + 2.0 * n * power / less  # `less` is b2^n - 1: the sign of the formula's term
        share = (num.at_least_zero(now - 4.0) / (last - 4.0)) * ((now - 2.0) / (last - 2.0))
        return num.sqrt(num.to_value(share * (last / now)))


@struct
class Silver(AbstractTimed):
    r"""The silver step sizes for smooth convex problems: a fractal of short and long steps.

    .. math:: s(t) = \text{scale}\,\left(1 + \rho^{\nu(t+1) - 1}\right), \quad \rho = 1 + \sqrt 2

    with :math:`\nu(i)` the exponent of the largest power of two that divides i. The natural
    lengths are :math:`2^k - 1` steps.

    For strongly convex problems the long steps are bounded, by a recursion that begins with
    :math:`z_0 = 1/\kappa`:

    .. math:: s(t) = \text{scale}\;\psi(y_{\nu(t+1)+1}), \quad
        \psi(x) = \frac{1 + \kappa x}{1 + x}, \quad
        y_{k+1} = z_k / f_k, \; z_{k+1} = z_k f_k, \;
        f_k = 1 - z_k + \sqrt{1 + (1 - z_k)^2}

    The last of :math:`2^k` steps is :math:`\psi(z_k)`. Other lengths are sums of such blocks, the
    shortest first.

    Args:
        scale: 1/L, the inverse of the smoothness constant.
        condition: :math:`\kappa = L/\mu`, at least 1, of an L-smooth and :math:`\mu`-strongly
            convex function; ``None`` (default) for a convex one. Above 1e6 some values are exact
            to about 1e-6 only.
        steps: length, after which the last value holds; ``None`` (default) for ever.

    References: Altschuler & Parrilo, Acceleration by stepsize hedging I, arXiv:2309.07879 (strongly
    convex), and II, arXiv:2309.16530.

    >>> import jaxsched as js
    >>> [round(float(js.Silver(1.0)(t)), 4) for t in range(4)]
    [1.4142, 2.0, 1.4142, 3.4142]
    >>> [round(float(js.Silver(1.0, condition=100.0, steps=4)(t)), 4) for t in range(4)]
    [1.4113, 1.9899, 1.4113, 6.3293]
    """

    scale: Leaf = number()
    condition: Leaf = number(default=None, at_least=1, optional=True)
    steps: Leaf = length(default=None, at_least=0, optional=True)

    def value_at(self, t: Number) -> Value:
        # The pattern is one of updates counted from 1. After the end the last value holds, so the
        # index is held too, and a length of 0 counts as 1.
        last: Any = np.int32(2**31 - 1)
        if self.steps is not None:
            last = num.to_int32(num.nudge(num.as_number(t, self.steps)))
            last = num.maximum(last, np.int32(1))
        index = num.minimum(num.to_int32(num.nudge(num.at_least_zero(t))), last - 1) + 1
        return num.as_value(t, self.scale) * num.as_value(t, self._of_unit_scale(t, index, last))

    def _of_unit_scale(self, t: Number, index: Any, last: Any) -> Value:
        """The step size of update ``index``, counted from 1, for a scale of 1."""
        if self.condition is None:
            return num.take(_SILVER, _trailing_zeros(index))
        inner, ends = _bounded(num.to_value(num.as_number(t, self.condition)))
        if self.steps is None:
            return num.take(inner, _trailing_zeros(index))
        # 13 steps are blocks of 1, 4 and 8, the bits of 13 from the lowest: each is a whole pattern
        # of its own with a long last step. The lowest k bits of `last` are the ends of these blocks
        # (1, 1, 5, 13), so `block` counts the finished blocks.
        lengths = (last & _LOW_BITS).reshape((1,) * np.ndim(index) + (-1,))
        block = (index[..., None] > lengths).sum(-1, dtype=np.int32)
        size = np.int32(1) << block
        within = index - (last & (size - np.int32(1)))
        inside = num.take(inner, _trailing_zeros(within))
        return num.where(within == size, num.take(ends, block), inside)


_SILVER = 1 + (1 + np.sqrt(2)) ** (np.arange(31.0) - 1)
_LOW_BITS = np.array([2**k - 1 for k in range(1, 32)], np.int32)


def _bounded(condition: Value) -> tuple[Any, Any]:
    """Of a strongly convex function: the steps within blocks, and the last ones; [31] each.

    One row for each size of a block, 2^0 to 2^30. ``z`` rises from 1 / condition to 1.
    """

    def level(z: Any, _: None = None) -> tuple[Any, tuple[Any, Any]]:
        root: Any = (jnp if isinstance(z, jax.Array) else np).sqrt(1 + (1 - z) ** 2)
        x = z / (1 - z + root)
        steps = (1 + condition * x) / (1 + x), (1 + condition * z) / (1 + z)
        return z * (1 - z + root), steps

    z = 1 / condition
    if isinstance(condition, jax.Array):
        scanned: tuple[Any, Any] = jax.lax.scan(level, z, length=len(_LOW_BITS))[1]
        return scanned
    steps = []
    for _ in _LOW_BITS:
        z, both = level(z)
        steps.append(both)
    inner, ends = np.array(steps).T
    return inner, ends


def _trailing_zeros(x: Any) -> Any:
    """The exponent of the largest power of two that divides the positive int32 ``x``.

    For 12, 1100 in bits, ``x & -x`` is the lowest bit, 100. Minus 1 it is 11: two bits.
    """
    below = (x & -x) - 1
    return jax.lax.population_count(below) if isinstance(x, jax.Array) else np.bitwise_count(below)
