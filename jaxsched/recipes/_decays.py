"""Named recipes: functions that return a composition. Every numeric argument may be traced.

``steps`` is always the whole length in optimizer updates, warmup included, and ``peak`` the
largest value. Every other length is a number of steps or, unless ``steps`` is ``None``
(open-ended), a ``js.share`` of the whole. The annotations check the arguments (``_signature.py``).
To sweep a setting, map the recipe:

    jax.vmap(functools.partial(js.warmup_cosine, steps=1000))(peak=peaks, warmup=warmups)
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxsched._arrays import has_float64, is_concrete, to_host
from jaxsched._checks import check_beside, checked_number, violates
from jaxsched._types import Leaf
from jaxsched.recipes._arguments import divide, exponential, multiply, power, root, until, value_at
from jaxsched.recipes._signature import (
    End,
    Factor,
    Factors,
    Length,
    Milestones,
    Number,
    Numbers,
    Peak,
    Period,
    Positive,
    Steps,
    recipe,
)
from jaxsched.schedules import _open_ended as laws
from jaxsched.schedules import _shapes as shapes
from jaxsched.schedules._base import AbstractSchedule, Constant
from jaxsched.schedules._extremes import minimum
from jaxsched.schedules._lengths import subtract_steps
from jaxsched.schedules._piecewise import PiecewiseConstant
from jaxsched.schedules._wrappers import Quantize, Shift


@recipe
def constant(peak: Peak, steps: Steps | None = None) -> AbstractSchedule:
    """The same value for ever, or for ``steps`` updates.

    >>> import jaxsched as js
    >>> float(js.constant(0.5)(7))
    0.5
    """
    return Constant(peak, steps)


@recipe
def step_decay(
    peak: Peak, factor: Factor, every: Period, steps: Steps | None = None
) -> AbstractSchedule:
    r"""Multiplied by ``factor`` every so many steps.

    .. math:: s(t) = \text{peak}\cdot f^{\lfloor t/e\rfloor}

    Args:
        peak: value of the first updates.
        factor: of each drop, greater than 0 and at most 1.
        every: updates between drops, greater than 0, or a ``js.share`` of ``steps``; the update
            number ``every`` is the first with the lower value.
        steps: whole length; ``None`` (default) for ever.

    References: He et al., Deep residual learning, arXiv:1512.03385.

    >>> import jaxsched as js
    >>> [round(float(js.step_decay(1.0, 0.5, 10)(t)), 6) for t in (0, 9, 10, 20)]
    [1.0, 1.0, 0.5, 0.25]
    """
    return until(Quantize(exponential(peak, factor, every), every), steps)


@recipe
def multi_step(
    peak: Peak, factor: Factors, milestones: Milestones, steps: Steps | None = None
) -> AbstractSchedule:
    """Multiplied by ``factor`` at each milestone (a step, the first with the lower value).

    Args:
        peak: value of the first updates.
        factor: one factor for all milestones or an array with one for each, greater than 0 and at
            most 1.
        milestones: strictly increasing steps or ``js.share`` s of ``steps``, [K].
        steps: whole length; ``None`` (default): none, as the last value begins with the last
            milestone and holds.

    >>> import jaxsched as js
    >>> [round(float(js.multi_step(1.0, 0.5, [10, 15])(t)), 6) for t in (9, 10, 15)]
    [1.0, 0.5, 0.25]
    >>> js.boundaries(js.multi_step(1.0, 0.1, [js.share(0.5), js.share(0.75)], steps=90))
    (45, 68)
    """
    many = np.shape(milestones)[-1]
    if np.shape(factor) not in ((), (1,), (many,)):
        raise ValueError(
            f"multi_step(factor=...) must be one factor or one for each of {many} milestones, got "
            f"the shape {np.shape(factor)}."
        )
    # The factors are multiplied here, once, and not in the program. Known ones in float64: 0.99 as
    # a float32 to the power of 1000 is off by 118 units in the last place.
    dtype = np.float64 if has_float64([peak, factor]) else np.float32
    if is_concrete(peak) and is_concrete(factor):
        exact = np.broadcast_to(np.asarray(to_host(factor), np.float64), (many,))
        peak = np.asarray(to_host(peak), np.float64)[..., None]
        scales = peak * np.cumprod(np.append(1.0, exact))
        return until(PiecewiseConstant(milestones, scales.astype(dtype)), steps)
    factors = jnp.broadcast_to(jnp.asarray(factor, dtype), (many,))
    one = jnp.ones((1,), dtype)
    values = jnp.asarray(peak, dtype)[..., None] * jnp.cumprod(jnp.concatenate([one, factors]))
    return until(PiecewiseConstant(milestones, values), steps)


@recipe
def piecewise_constant(
    boundaries: Milestones, values: Numbers, steps: Steps | None = None
) -> AbstractSchedule:
    """Absolute values between boundaries; see ``js.PiecewiseConstant``.

    Args:
        boundaries: strictly increasing steps or ``js.share`` s of ``steps``, [K].
        values: of the K + 1 intervals.
        steps: whole length; ``None`` (default): none, as the last value begins with the last
            boundary and holds.

    >>> import jaxsched as js
    >>> float(js.piecewise_constant([10], [1.0, 0.5])(10))
    0.5
    """
    many = np.shape(boundaries)[-1]
    if np.shape(values)[-1] != many + 1:
        raise ValueError(
            f"piecewise_constant(values=...) must be {many} + 1 values, one before each "
            f"boundary and one after the last, got the shape {np.shape(values)}."
        )
    return until(PiecewiseConstant(boundaries, values), steps)


@recipe
def exponential_decay(
    peak: Peak, factor: Factor, every: Period = 1, steps: Steps | None = None
) -> AbstractSchedule:
    r"""Smooth exponential decay without end: :math:`\text{peak}\cdot f^{\,t/e}`.

    Args:
        peak: value at step 0.
        factor: the change over ``every`` updates, greater than 0 and at most 1.
        every: updates, greater than 0, or a ``js.share`` of ``steps``.
        steps: whole length; ``None`` (default) for ever.

    >>> import jaxsched as js
    >>> round(float(js.exponential_decay(1.0, 0.25, 10)(5)), 6)
    0.5
    """
    return until(exponential(peak, factor, every), steps)


@recipe
def exponential_growth(
    start: Peak, factor: Positive, every: Period = 1, steps: Steps | None = None
) -> AbstractSchedule:
    r"""Smooth exponential growth without end: :math:`\text{start}\cdot f^{\,t/e}`.

    Args:
        start: value at step 0.
        factor: the change over ``every`` updates, at least 1.
        every, steps: as in ``js.exponential_decay``.

    >>> import jaxsched as js
    >>> round(float(js.exponential_growth(1e-3, 10.0, every=100)(200)), 6)
    0.1
    """
    factor = checked_number("exponential_growth(factor=...)", factor, at_least=1)
    return until(exponential(start, factor, every), steps)


@recipe
def polynomial_decay(
    peak: Peak, steps: Steps, power: Positive = 2.0, end: End = 0.0
) -> AbstractSchedule:
    """A power of the remaining fraction: from ``peak`` at step 0 to ``end`` at ``steps``.

    >>> import jaxsched as js
    >>> float(js.polynomial_decay(1.0, 100)(50))
    0.25
    """
    return shapes.Polynomial(peak, end, steps, power)


@recipe
def linear_decay(peak: Peak, steps: Steps, end: End = 0.0) -> AbstractSchedule:
    """A straight line from ``peak`` at step 0 to ``end`` at ``steps``.

    References: Defazio et al., arXiv:2310.07831; Bergsma et al. (linear to zero), arXiv:2502.15938.

    >>> import jaxsched as js
    >>> float(js.linear_decay(1.0, 100)(50))
    0.5
    """
    return shapes.Linear(peak, end, steps)


@recipe
def cosine_decay(peak: Peak, steps: Steps, end: End = 0.0) -> AbstractSchedule:
    """Half a cosine from ``peak`` at step 0 to ``end`` at ``steps``.

    References: Loshchilov & Hutter, SGDR, arXiv:1608.03983.

    >>> import jaxsched as js
    >>> float(js.cosine_decay(1.0, 100)(50))
    0.5
    """
    return shapes.Cosine(peak, end, steps)


@recipe
def inverse_sqrt(
    peak: Peak, warmup: Length, timescale: Period | None = None, steps: Steps | None = None
) -> AbstractSchedule:
    r"""Linear warmup from 0, then :math:`\text{peak}/\sqrt{1+(t-w)/\tau}` without end.

    End it with ``js.cooldown_from``.

    Args:
        peak: value at step ``warmup``.
        warmup: w, its length in optimizer updates, or a ``js.share`` of ``steps``.
        timescale: tau, likewise; ``warmup`` by default (then positive): peak * sqrt(w/t).
        steps: whole length; ``None`` (default) for ever.

    References: Vaswani et al., arXiv:1706.03762; Zhai et al., arXiv:2106.04560.

    >>> import jaxsched as js
    >>> [float(js.inverse_sqrt(1.0, 100)(t)) for t in (50, 100, 400)]
    [0.5, 1.0, 0.5]
    """
    if timescale is None:
        timescale = _some_steps("inverse_sqrt(warmup=...)", warmup, steps, above=0)
    return until(shapes.Linear(0.0, peak, warmup) >> laws.InverseSqrt(peak, timescale), steps)


@recipe
def noam(
    dimension: Positive, warmup: Length, factor: Positive = 1.0, steps: Steps | None = None
) -> AbstractSchedule:
    r"""The Transformer's: :math:`f\,d^{-1/2}\min(s^{-1/2}, s\,w^{-3/2})` with :math:`s = t + 1`.

    Args:
        dimension: width d of the model.
        warmup: w, in optimizer updates, at least 1, or a ``js.share`` of ``steps``.
        factor: f, positive.
        steps: whole length; ``None`` (default) for ever.

    References: Vaswani et al., Attention is all you need, arXiv:1706.03762.

    >>> import jaxsched as js
    >>> round(float(js.noam(512, 4000)(3999)), 9)
    0.000698771
    """
    # The paper counts updates from 1, s = t + 1: so the rise begins with peak / warmup and is one
    # step shorter than the warmup, and the law, s^-1/2, is an inverse square root of t from there.
    warmup = _some_steps("noam(warmup=...)", warmup, steps, at_least=1)
    peak = divide(factor, multiply(root(dimension), root(warmup)))
    rise = shapes.Linear(divide(peak, warmup), peak, subtract_steps(warmup, 1))
    return until(rise >> laws.InverseSqrt(peak, warmup), steps)


def _some_steps(where: str, warmup: Leaf, steps: Leaf, **bounds: Any) -> Leaf:
    """A warmup as a divisor; a small share of ``steps`` may have become 0."""
    single = steps is not None and is_concrete(steps) and np.ndim(steps) == 0
    if single and violates(lambda warmup: warmup == 0, warmup):
        raise ValueError(
            f"{where} must be at least 1, got 0 of {steps} steps: a share of them below "
            f"{0.5 / max(float(to_host(steps)), 1.0):.3g} rounds to 0."
        )
    return checked_number(where, warmup, **bounds)


@recipe
def power_scheduler(
    peak: Peak,
    batch: Positive,
    tokens_per_step: Positive,
    warmup: Length = 0,
    a: Positive = 4.6,
    b: Number = -0.51,
    steps: Steps | None = None,
) -> AbstractSchedule:
    r"""The power of the tokens seen: :math:`\min(\text{peak},\, \text{batch}\cdot a\, n^b)`.

    The tokens n are counted at the *end* of each update, so the first one sees one batch. They are
    never held in an integer, which would overflow.

    Args:
        peak: upper bound of the value.
        batch: sequences in a batch.
        tokens_per_step: tokens in a batch, greater than 0.
        warmup: optimizer updates of a linear rise to the value there, from 0, or a ``js.share`` of
            ``steps``.
        a: amplitude, positive.
        b: exponent, at most 0.
        steps: whole length; ``None`` (default) for ever.

    References: Shen et al., Power scheduler, arXiv:2408.13359.

    >>> import jaxsched as js
    >>> lr = js.power_scheduler(0.02, 128, 128 * 4096)
    >>> round(float(lr(100_000)), 8)
    0.00200902
    """
    # (tokens_per_step * (t + 1)) ** b is tokens_per_step ** b times (t + 1) ** b. The first factor
    # is a number, the second a law. So the count of tokens is never computed: 10^13 would be too
    # large for an int32.
    b = checked_number("power_scheduler(b=...)", b, at_most=0)
    first = multiply(multiply(batch, a), power(tokens_per_step, b))
    law = minimum(Constant(peak), laws.PowerLaw(first, b, 1.0))
    # The law also counts the steps of the warmup: after the warmup comes its value at that step,
    # not its first one. A part of a sequence starts at its own step 0, so the law is shifted back
    # by the warmup.
    top = value_at(law, warmup)
    return until(shapes.Linear(0.0, top, warmup) >> Shift(law, multiply(warmup, -1)), steps)


@recipe
def silver(
    smoothness: Positive, convexity: Positive | None = None, steps: Steps | None = None
) -> AbstractSchedule:
    """Silver step sizes for gradient descent on an L-smooth convex function; see ``js.Silver``.

    Args:
        smoothness: L, positive.
        convexity: mu, for a strongly convex function: positive and at most L.
        steps: whole length; ``None`` (default) for ever.

    >>> import jaxsched as js
    >>> float(js.silver(2.0)(1))
    1.0
    """
    check_beside("silver(convexity=...)", convexity, "at most", "smoothness", smoothness)
    condition = None if convexity is None else divide(smoothness, convexity)
    return laws.Silver(divide(1.0, smoothness), condition, steps)
