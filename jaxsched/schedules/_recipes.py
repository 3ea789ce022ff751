"""Named recipes: functions that return a composition. Every numeric argument may be traced.

``steps`` is always the whole length in optimizer updates, warmup included, and ``peak`` the
largest value. To sweep a setting, map the recipe:

    jax.vmap(functools.partial(js.warmup_cosine, steps=1000))(peak=peaks, warmup=warmups)
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxsched._struct import breaks, checked_array, checked_number, fetch, is_known
from jaxsched.schedules import _laws as laws
from jaxsched.schedules import _shapes as shapes
from jaxsched.schedules._arguments import (
    check_base,
    check_lengths,
    check_reals,
    divide,
    exponential,
    multiply,
    plain,
    power,
)
from jaxsched.schedules._base import AbstractSchedule, Constant, minimum, subtract_steps
from jaxsched.schedules._piecewise import PiecewiseConstant
from jaxsched.schedules._wrappers import Quantize, Reverse, Shift


def constant(peak: Any, steps: Any = None) -> AbstractSchedule:
    """The same value for ever, or for ``steps`` updates.

    >>> import jaxsched as js
    >>> float(js.constant(0.5)(7))
    0.5
    """
    return Constant(peak, steps)


def step_decay(peak: Any, factor: Any, every: Any) -> AbstractSchedule:
    r"""Multiplied by ``factor`` every so many steps.

    .. math:: s(t) = \text{peak}\cdot f^{\lfloor t/e\rfloor}

    He et al., "Deep Residual Learning" (arXiv:1512.03385).

    Args:
        peak: value of the first updates.
        factor: positive factor of each drop.
        every: updates between drops, greater than 0; the update number ``every`` is the first
            with the lower value.

    >>> import jaxsched as js
    >>> [round(float(js.step_decay(1.0, 0.5, 10)(t)), 6) for t in (0, 9, 10, 20)]
    [1.0, 1.0, 0.5, 0.25]
    """
    every = checked_number("step_decay(every=...)", every, above=0)
    return Quantize(exponential("step_decay", peak, factor, every), every)


def multi_step(peak: Any, factor: Any, milestones: Any) -> AbstractSchedule:
    """Multiplied by ``factor`` at each milestone (a step, the first with the lower value).

    Args:
        peak: value of the first updates.
        factor: one positive factor for all milestones or an array with one for each.
        milestones: strictly increasing steps, [K]; thousands cost no more than two.

    >>> import jaxsched as js
    >>> [round(float(js.multi_step(1.0, 0.5, [10, 15])(t)), 6) for t in (9, 10, 15)]
    [1.0, 0.5, 0.25]
    """
    check_reals("multi_step", peak=peak)
    if not isinstance(factor, (list, tuple)):
        factor = checked_number("multi_step(factor=...)", factor, above=0)
    if not hasattr(milestones, "__len__"):
        raise TypeError(f"multi_step(milestones=...) must be a list of steps, got {milestones!r}.")
    many = len(milestones)
    if isinstance(factor, (list, tuple)):
        factor = checked_array("multi_step(factor=...)", factor, False, None)
    if np.shape(factor) not in ((), (1,), (many,)):
        raise ValueError(
            f"multi_step(factor=...) must be one factor or one for each of {many} milestones, got "
            f"the shape {np.shape(factor)}."
        )
    if is_known(peak) and is_known(factor):
        peak = checked_number("multi_step(peak=...)", peak)
        for one in np.ravel(fetch(factor)):
            checked_number("multi_step(factor=...)", float(one), above=0)
        exact = np.broadcast_to(np.asarray(fetch(factor), np.float64), (many,))
        scales = np.asarray(fetch(peak), np.float64) * np.cumprod(np.append(1.0, exact))
        return PiecewiseConstant(milestones, scales.astype(np.float32))
    factors = jnp.broadcast_to(jnp.asarray(factor, jnp.float32), (many,))
    one = jnp.ones((1,), jnp.float32)
    values = jnp.asarray(peak, jnp.float32) * jnp.cumprod(jnp.concatenate([one, factors]))
    return PiecewiseConstant(milestones, values)


def piecewise_constant(boundaries: Any, values: Any) -> AbstractSchedule:
    """Absolute values between boundaries; see ``js.PiecewiseConstant``.

    >>> import jaxsched as js
    >>> float(js.piecewise_constant([10], [1.0, 0.5])(10))
    0.5
    """
    return PiecewiseConstant(boundaries, values)


def exponential_decay(peak: Any, factor: Any, every: Any = 1) -> AbstractSchedule:
    r"""Smooth exponential decay without end: :math:`\text{peak}\cdot f^{\,t/e}`.

    Args:
        peak: value at step 0.
        factor: positive; the change over ``every`` updates.
        every: updates, greater than 0.

    >>> import jaxsched as js
    >>> round(float(js.exponential_decay(1.0, 0.25, 10)(5)), 6)
    0.5
    """
    return exponential("exponential_decay", peak, factor, every)


def polynomial_decay(peak: Any, steps: Any, power: Any = 2.0, end: Any = 0.0) -> AbstractSchedule:
    """A power of what is left: from ``peak`` at step 0 to ``end`` at ``steps``.

    >>> import jaxsched as js
    >>> float(js.polynomial_decay(1.0, 100)(50))
    0.25
    """
    return shapes.Polynomial(peak, end, steps, power)


def linear_decay(peak: Any, steps: Any, end: Any = 0.0) -> AbstractSchedule:
    """A straight line from ``peak`` at step 0 to ``end`` at ``steps``.

    Defazio et al., "Optimal Linear Decay Learning Rate Schedules and Further Refinements"
    (arXiv:2310.07831); with ``end=0`` "linear to zero", Bergsma et al. (arXiv:2502.15938).

    >>> import jaxsched as js
    >>> float(js.linear_decay(1.0, 100)(50))
    0.5
    """
    return shapes.Linear(peak, end, steps)


def cosine_decay(peak: Any, steps: Any, end: Any = 0.0) -> AbstractSchedule:
    """Half a cosine from ``peak`` at step 0 to ``end`` at ``steps``.

    Loshchilov & Hutter, "SGDR" (arXiv:1608.03983).

    >>> import jaxsched as js
    >>> float(js.cosine_decay(1.0, 100)(50))
    0.5
    """
    return shapes.Cosine(peak, end, steps)


def warmup_constant(peak: Any, warmup: Any) -> AbstractSchedule:
    """Linear from 0 to ``peak`` over ``warmup`` updates, then constant.

    Goyal et al., "Accurate, Large Minibatch SGD" (arXiv:1706.02677).

    >>> import jaxsched as js
    >>> float(js.warmup_constant(1.0, 10)(5))
    0.5
    """
    return shapes.Linear(0.0, peak, warmup) >> Constant(peak)


def warmup_linear(peak: Any, steps: Any, warmup: Any, end: Any = 0.0) -> AbstractSchedule:
    """Linear from 0 to ``peak``, then linear to ``end``.

    Devlin et al., "BERT" (arXiv:1810.04805).

    >>> import jaxsched as js
    >>> [float(js.warmup_linear(1.0, 30, 10)(t)) for t in (5, 10, 20)]
    [0.5, 1.0, 0.5]
    """
    return _warmed("warmup_linear", peak, steps, warmup, lambda n: shapes.Linear(peak, end, n))


def warmup_cosine(peak: Any, steps: Any, warmup: Any, end: Any = 0.0) -> AbstractSchedule:
    """Linear from 0 to ``peak``, then half a cosine to ``end``.

    Goyal et al. (arXiv:1706.02677) with Loshchilov & Hutter (arXiv:1608.03983).

    Args:
        peak: value at step ``warmup``.
        steps: whole length in optimizer updates, warmup included.
        warmup: length of the warmup, from 0 to ``steps``.
        end: value from ``steps`` on.

    >>> import jaxsched as js
    >>> [float(js.warmup_cosine(1.0, 30, 10)(t)) for t in (5, 10, 20)]
    [0.5, 1.0, 0.5]
    """
    return _warmed("warmup_cosine", peak, steps, warmup, lambda n: shapes.Cosine(peak, end, n))


def warmup_polynomial(
    peak: Any, steps: Any, warmup: Any, power: Any = 2.0, end: Any = 0.0
) -> AbstractSchedule:
    """Linear from 0 to ``peak``, then a power of what is left, down to ``end``.

    Args:
        peak, steps, warmup, end: as in ``js.warmup_cosine``.
        power: positive; 1 is ``js.warmup_linear``.

    >>> import jaxsched as js
    >>> [float(js.warmup_polynomial(1.0, 30, 10)(t)) for t in (5, 10, 20)]
    [0.5, 1.0, 0.25]
    """
    return _warmed(
        "warmup_polynomial", peak, steps, warmup, lambda n: shapes.Polynomial(peak, end, n, power)
    )


def with_warmup(schedule: AbstractSchedule, warmup: Any, start: Any = 0.0) -> AbstractSchedule:
    """Linear from ``start`` to the first value of any schedule, then that schedule from its start.

    Args:
        schedule: such as ``js.step_decay(...)``, whose drops are then counted from the end of
            the warmup.
        warmup: its length in optimizer updates, at least 0; the whole becomes so much longer.
        start: value of the first update.

    >>> import jaxsched as js
    >>> lr = js.with_warmup(js.step_decay(1.0, 0.5, every=100), warmup=10)
    >>> [float(lr(t)) for t in (5, 10, 109, 110)]
    [0.5, 1.0, 1.0, 0.5]
    """
    check_base("with_warmup", schedule)
    warmup = checked_number("with_warmup(warmup=...)", warmup, at_least=0)
    return shapes.Linear(start, plain(schedule(0)), warmup) >> schedule


def warmup_exponential(peak: Any, warmup: Any, factor: Any, every: Any = 1) -> AbstractSchedule:
    """Linear from 0 to ``peak``, then ``exponential_decay`` without end.

    >>> import jaxsched as js
    >>> round(float(js.warmup_exponential(1.0, 10, 0.5, 10)(20)), 6)
    0.5
    """
    return shapes.Linear(0.0, peak, warmup) >> exponential(
        "warmup_exponential", peak, factor, every
    )


def inverse_sqrt(peak: Any, warmup: Any, timescale: Any = None) -> AbstractSchedule:
    r"""Linear warmup from 0, then :math:`\text{peak}/\sqrt{1+(t-w)/\tau}` without end.

    Vaswani et al. (arXiv:1706.03762), Zhai et al., "Scaling Vision Transformers"
    (arXiv:2106.04560). To end it, ``js.cooldown_from``.

    Args:
        peak: value at step ``warmup``.
        warmup: w, its length in optimizer updates.
        timescale: tau; ``warmup`` by default (then positive), which gives peak * sqrt(w/t).

    >>> import jaxsched as js
    >>> [float(js.inverse_sqrt(1.0, 100)(t)) for t in (50, 100, 400)]
    [0.5, 1.0, 0.5]
    """
    if timescale is None:
        timescale = checked_number("inverse_sqrt(warmup=...)", warmup, above=0)
    return shapes.Linear(0.0, peak, warmup) >> laws.InverseSqrt(peak, timescale)


def noam(dimension: Any, warmup: Any, factor: Any = 1.0) -> AbstractSchedule:
    r"""The Transformer's: :math:`f\,d^{-1/2}\min(s^{-1/2}, s\,w^{-3/2})` with :math:`s = t + 1`.

    Vaswani et al., "Attention Is All You Need" (arXiv:1706.03762).

    Args:
        dimension: width d of the model.
        warmup: w, in optimizer updates, at least 1.
        factor: f.

    >>> import jaxsched as js
    >>> round(float(js.noam(512, 4000)(3999)), 9)
    0.000698771
    """
    check_reals("noam", factor=factor)
    dimension = checked_number("noam(dimension=...)", dimension, above=0)
    warmup = checked_number("noam(warmup=...)", warmup, at_least=1)
    sqrt: Any = math.sqrt if isinstance(dimension, (int, float)) else jnp.sqrt
    root_d = sqrt(dimension if sqrt is math.sqrt else jnp.asarray(dimension, jnp.float32))
    sqrt = math.sqrt if isinstance(warmup, (int, float)) else jnp.sqrt
    root_w = sqrt(warmup if sqrt is math.sqrt else jnp.asarray(warmup, jnp.float32))
    peak = divide(factor, multiply(root_d, root_w))
    rise = shapes.Linear(divide(peak, warmup), peak, subtract_steps(warmup, 1))
    return rise >> laws.InverseSqrt(peak, warmup)


def power_scheduler(
    peak: Any,
    batch: Any,
    tokens_per_step: Any,
    warmup: Any = 0,
    a: Any = 4.6,
    b: Any = -0.51,
) -> AbstractSchedule:
    r"""The power of the tokens seen: :math:`\min(\text{peak},\, \text{batch}\cdot a\, n^b)`.

    Shen et al., "Power Scheduler" (arXiv:2408.13359). The tokens n are counted at the *end* of
    each update, so the first one sees one batch; they are never held in an integer, which would
    overflow.

    Args:
        peak: upper bound of the value.
        batch: sequences in a batch.
        tokens_per_step: tokens in a batch, greater than 0.
        warmup: optimizer updates of a linear rise to the value there, from 0.
        a: amplitude, positive.
        b: exponent, negative.

    >>> import jaxsched as js
    >>> lr = js.power_scheduler(0.02, 128, 128 * 4096)
    >>> round(float(lr(100_000)), 8)
    0.00200902
    """
    check_reals("power_scheduler", batch=batch, b=b)
    check_lengths("power_scheduler", warmup=warmup)
    a = checked_number("power_scheduler(a=...)", a, above=0)
    tokens_per_step = checked_number(
        "power_scheduler(tokens_per_step=...)", tokens_per_step, above=0
    )
    first = multiply(multiply(batch, a), power(tokens_per_step, b))
    law = minimum(peak, laws.PowerLaw(first, b, 1.0))
    top = plain(law(warmup))
    return shapes.Linear(0.0, top, warmup) >> Shift(law, multiply(warmup, -1))


def silver(smoothness: Any) -> AbstractSchedule:
    """Silver step sizes for gradient descent on an L-smooth convex function; see ``js.Silver``.

    Args:
        smoothness: L, positive.

    >>> import jaxsched as js
    >>> float(js.silver(2.0)(1))
    1.0
    """
    return laws.Silver(divide(1.0, checked_number("silver(smoothness=...)", smoothness, above=0)))


def reverse(schedule: AbstractSchedule) -> AbstractSchedule:
    """A schedule run backwards; see ``js.Reverse``.

    >>> import jaxsched as js
    >>> float(js.reverse(js.Linear(0.0, 1.0, 4))(1))
    0.75
    """
    return Reverse(schedule)


def _warmed(name: str, peak: Any, steps: Any, warmup: Any, rest: Callable[[Any], Any]) -> Any:
    warmup = checked_number(f"{name}(warmup=...)", warmup, at_least=0)
    steps = checked_number(f"{name}(steps=...)", steps, at_least=0)
    if breaks(operator.gt, warmup, steps):
        raise ValueError(f"{name}(warmup=...) must be at most steps={steps}, got {warmup}.")
    return shapes.Linear(0.0, peak, warmup) >> rest(subtract_steps(steps, warmup))
