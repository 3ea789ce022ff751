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

import jax
import jax.numpy as jnp
import numpy as np

from jaxsched import _number as num
from jaxsched._struct import breaks, checked_array, checked_number, fetch, is_known
from jaxsched.schedules import _laws as laws
from jaxsched.schedules import _shapes as shapes
from jaxsched.schedules._base import (
    AbstractSchedule,
    Constant,
    as_real,
    minimum,
    subtract_steps,
)
from jaxsched.schedules._piecewise import PiecewiseConstant
from jaxsched.schedules._wrappers import Quantize, Repeat, Reverse, Shift, Window

Shape = str | Callable[[Any, Any, Any], AbstractSchedule]

SHAPES: dict[str, Callable[[Any, Any, Any], AbstractSchedule]] = {
    "linear": shapes.Linear,
    "cosine": shapes.Cosine,
    "1-sqrt": shapes.Sqrt,
    "sqrt": lambda start, end, steps: shapes.Polynomial(start, end, steps, power=0.5),
    "square": lambda start, end, steps: shapes.Warp(shapes.Linear(start, end, steps), power=2.0),
    "polynomial": shapes.Polynomial,
    "exponential": shapes.ShiftedExponential,
    "geometric": shapes.Geometric,
    "harmonic": shapes.Harmonic,
    "mirror_cosine": shapes.MirrorCosine,
    "half_cosine": shapes.HalfCosine,
    "quarter_cosine": shapes.QuarterCosine,
    "rex": shapes.Rex,
}


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
    return Quantize(_exponential("step_decay", peak, factor, every), every)


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
    _reals("multi_step", peak=peak)
    if not isinstance(factor, (list, tuple)):
        factor = checked_number("multi_step(factor=...)", factor, above=0)
    if not hasattr(milestones, "__len__"):
        raise TypeError(f"multi_step(milestones=...) must be a list of steps, got {milestones!r}.")
    many = len(milestones)
    if isinstance(factor, (list, tuple)):
        factor = checked_array("multi_step(factor=...)", factor, False, None)
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
    return _exponential("exponential_decay", peak, factor, every)


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
    _base("with_warmup", schedule)
    warmup = checked_number("with_warmup(warmup=...)", warmup, at_least=0)
    return shapes.Linear(start, _plain(schedule(0)), warmup) >> schedule


def warmup_exponential(peak: Any, warmup: Any, factor: Any, every: Any = 1) -> AbstractSchedule:
    """Linear from 0 to ``peak``, then ``exponential_decay`` without end.

    >>> import jaxsched as js
    >>> round(float(js.warmup_exponential(1.0, 10, 0.5, 10)(20)), 6)
    0.5
    """
    return shapes.Linear(0.0, peak, warmup) >> _exponential(
        "warmup_exponential", peak, factor, every
    )


def warm_restarts(
    peak: Any, steps: Any, growth: Any = None, decay: Any = None, end: Any = 0.0, cycles: Any = None
) -> AbstractSchedule:
    """Cosine decays that start again (SGDR).

    Loshchilov & Hutter, "SGDR" (arXiv:1608.03983).

    Args:
        peak: value at step 0.
        steps: length of the first cycle in optimizer updates.
        growth: length of each cycle over the one before, 1 (default) or at least 1.005.
        decay: each peak over the one before, 1 by default; ``end`` stays.
        end: value that each cycle falls to.
        cycles: how many; ``None`` (default) for ever.

    >>> import jaxsched as js
    >>> sgdr = js.warm_restarts(1.0, 10, growth=2.0, decay=0.5)
    >>> [float(sgdr(t)) for t in (0, 5, 10, 20, 30)]
    [1.0, 0.5, 0.5, 0.25, 0.25]
    """
    falling = Repeat(shapes.Cosine(peak, 0.0, steps), growth, decay, cycles)
    if isinstance(end, (int, float)) and end == 0:
        return falling
    return falling + Repeat(shapes.Cosine(0.0, end, steps), growth, None, cycles)


def one_cycle(
    peak: Any,
    steps: Any,
    warmup: Any = 0.3,
    div: Any = 25.0,
    final_div: Any = 1e4,
    shape: Shape = "cosine",
    three_phase: bool = False,
) -> AbstractSchedule:
    """Up to ``peak`` and far down again (1cycle).

    Smith & Topin, "Super-Convergence" (arXiv:1708.07120). The inverse cycle of the momentum is
    ``js.one_cycle_momentum``.

    Args:
        peak: largest value.
        steps: whole length in optimizer updates.
        warmup: *share* of ``steps`` that goes up, greater than 0 and less than 1.
        div: start is ``peak / div``.
        final_div: end is ``peak / div / final_div``.
        shape: "cosine" or "linear" (any name of ``js.SHAPES``).
        three_phase: down to the start as fast as up, then to the end; ``warmup`` below 1/2.

    >>> import jaxsched as js
    >>> lr = js.one_cycle(1.0, 100)
    >>> round(float(lr(0)), 6), float(lr(30)), round(float(lr(100)), 9)
    (0.04, 1.0, 4e-06)
    """
    _lengths("one_cycle", steps=steps)
    _reals("one_cycle", peak=peak)
    warmup = checked_number(
        "one_cycle(warmup=...)", warmup, above=0, below=0.5 if three_phase else 1
    )
    div = checked_number("one_cycle(div=...)", div, above=0)
    final_div = checked_number("one_cycle(final_div=...)", final_div, above=0)
    up = share(warmup, steps)
    low = _divide(peak, div)
    last = _divide(low, final_div)
    make = _shape("one_cycle", shape)
    if not three_phase:
        return make(low, peak, up) >> make(peak, last, subtract_steps(steps, up))
    rest = subtract_steps(subtract_steps(steps, up), up)
    return make(low, peak, up) >> make(peak, low, up) >> make(low, last, rest)


def one_cycle_momentum(
    steps: Any, low: Any = 0.85, high: Any = 0.95, warmup: Any = 0.3, shape: Shape = "cosine"
) -> AbstractSchedule:
    """The momentum that goes with ``one_cycle``: down while the rate goes up, and back.

    >>> import jaxsched as js
    >>> [round(float(js.one_cycle_momentum(100)(t)), 6) for t in (0, 30, 100)]
    [0.95, 0.85, 0.95]
    """
    _lengths("one_cycle_momentum", steps=steps)
    warmup = checked_number("one_cycle_momentum(warmup=...)", warmup, above=0, below=1)
    up = share(warmup, steps)
    make = _shape("one_cycle_momentum", shape)
    return make(high, low, up) >> make(low, high, subtract_steps(steps, up))


def triangular(
    low: Any, peak: Any, up: Any, down: Any = None, decay: Any = None
) -> AbstractSchedule:
    """Straight up and down between two values, again and again (cyclical learning rates).

    Smith, "Cyclical Learning Rates" (arXiv:1506.01186); ``decay=0.5`` is its *triangular2*.

    Args:
        low: value at step 0 and at the end of each cycle.
        peak: value after ``up`` updates.
        up: length of the rise.
        down: length of the fall; as long as the rise by default.
        decay: height of each cycle over ``low``, over that of the one before; 1 by default.

    >>> import jaxsched as js
    >>> [float(js.triangular(0.0, 1.0, 10)(t)) for t in (5, 10, 15, 30)]
    [0.5, 1.0, 0.5, 1.0]
    """
    _check_triangle("triangular", low, peak, up, down)
    return low + Repeat(_triangle(low, peak, up, down), None, decay)


def triangular_exp(low: Any, peak: Any, up: Any, factor: Any, down: Any = None) -> AbstractSchedule:
    r"""``triangular`` whose height shrinks by ``factor`` at every *update* (*exp_range*).

    Smith, "Cyclical Learning Rates" (arXiv:1506.01186).

    >>> import jaxsched as js
    >>> round(float(js.triangular_exp(0.0, 1.0, 10, factor=0.9)(10)), 6)
    0.348678
    """
    _check_triangle("triangular_exp", low, peak, up, down)
    waves = Repeat(_triangle(low, peak, up, down))
    return low + waves * _exponential("triangular_exp", 1.0, factor, 1)


def slanted_triangular(
    peak: Any, steps: Any, cut: Any = 0.1, ratio: Any = 32.0
) -> AbstractSchedule:
    """A short rise and a long fall, both from and to ``peak / ratio``.

    Howard & Ruder, "Universal Language Model Fine-tuning" (arXiv:1801.06146).

    Args:
        peak: largest value.
        steps: whole length in optimizer updates.
        cut: share of ``steps`` that goes up, greater than 0 and less than 1.
        ratio: how much smaller the lowest value is.

    >>> import jaxsched as js
    >>> float(js.slanted_triangular(1.0, 100)(10))
    1.0
    """
    _lengths("slanted_triangular", steps=steps)
    _reals("slanted_triangular", peak=peak)
    cut = checked_number("slanted_triangular(cut=...)", cut, above=0, below=1)
    ratio = checked_number("slanted_triangular(ratio=...)", ratio, above=0)
    up = share(cut, steps)
    low = _divide(peak, ratio)
    return shapes.Linear(low, peak, up) >> shapes.Linear(peak, low, subtract_steps(steps, up))


def wsd(
    peak: Any,
    steps: Any,
    warmup: Any,
    decay: Any,
    shape: Shape = "linear",
    end: Any = 0.0,
) -> AbstractSchedule:
    """Warmup, stable, decay: a trapezoid.

    Hu et al., "MiniCPM" (arXiv:2404.06395); Hägele et al. (arXiv:2405.18392).

    Args:
        peak: value of the stable phase.
        steps: whole length in optimizer updates; ``None`` leaves the stable phase open, and
            ``decay`` unused: decay later with ``js.cooldown_from``.
        warmup: length of the linear warmup from 0.
        decay: length of the decay; ``warmup + decay`` at most ``steps``.
        shape: a name of ``js.SHAPES`` ("linear", "cosine", "1-sqrt", "square", "geometric", ...)
            or a function ``(start, end, steps) -> schedule``.
        end: value from ``steps`` on ("geometric" and "harmonic" need it positive).

    >>> import jaxsched as js
    >>> [float(js.wsd(1.0, 100, 10, 20)(t)) for t in (5, 50, 90, 100)]
    [0.5, 1.0, 0.5, 0.0]
    """
    _lengths("wsd", warmup=warmup, decay=decay)
    rise = shapes.Linear(0.0, peak, warmup)
    make = _shape("wsd", shape)
    if steps is None:
        return rise >> Constant(peak)
    _lengths("wsd", steps=steps)
    stable = subtract_steps(subtract_steps(steps, warmup), decay)
    if breaks(lambda stable: stable < 0, stable):
        raise ValueError(
            f"wsd(warmup=..., decay=...) must fit into steps={steps}, got {warmup} + {decay}."
        )
    return rise >> Constant(peak, stable) >> make(peak, end, decay)


def trapezoid(
    peak: Any, steps: Any, warmup: Any, decay: Any, shape: Shape = "linear", end: Any = 0.0
) -> AbstractSchedule:
    """Another name of ``wsd``.

    >>> import jaxsched as js
    >>> js.trapezoid(1.0, 100, 10, 20) == js.wsd(1.0, 100, 10, 20)
    True
    """
    return wsd(peak, steps, warmup, decay, shape, end)


def cooldown_from(
    schedule: AbstractSchedule, start: Any, length: Any, end: Any = 0.0, shape: Shape = "linear"
) -> AbstractSchedule:
    """Follows ``schedule`` until ``start``, then falls from there to ``end`` in ``length`` steps.

    Continuous at ``start``; the schedule needs no horizon. Map it over ``start`` and ``length`` to
    branch several cooldowns off one run.

    Args:
        schedule: any schedule.
        start: first step of the cooldown, at least 0.
        length: its length in optimizer updates.
        end: value afterwards.
        shape: as in ``js.wsd``.

    >>> import jaxsched as js
    >>> lr = js.cooldown_from(js.inverse_sqrt(1.0, 100), start=400, length=100)
    >>> [float(lr(t)) for t in (400, 450, 500)]
    [0.5, 0.25, 0.0]
    """
    _base("cooldown_from", schedule)
    start = checked_number("cooldown_from(start=...)", start, at_least=0)
    top = _plain(schedule(start))
    return Window(schedule, 0, start) >> _shape("cooldown_from", shape)(top, end, length)


def wsd_s(
    peak: Any,
    steps: Any,
    warmup: Any,
    decay: Any,
    shape: Shape = "linear",
    end: Any = 0.0,
    cycles: Any = None,
) -> AbstractSchedule:
    """WSD-S: stable and decay again and again, back to the peak each time without a warmup.

    Wen et al., "Understanding Warmup-Stable-Decay Learning Rates" (arXiv:2410.05192).

    Args:
        peak: value of the stable phases.
        steps: length of one cycle (stable and decay) in optimizer updates.
        warmup: length of the one warmup, before the first cycle.
        decay: length of each decay, at most ``steps``.
        shape: as in ``js.wsd``.
        end: value that each decay falls to.
        cycles: how many; ``None`` (default) for ever.

    >>> import jaxsched as js
    >>> [float(js.wsd_s(1.0, 100, 10, 20)(t)) for t in (5, 100, 110, 200)]
    [0.5, 0.5, 1.0, 0.5]
    """
    _lengths("wsd_s", steps=steps, warmup=warmup, decay=decay)
    stable = subtract_steps(steps, decay)
    if breaks(lambda stable: stable < 0, stable):
        raise ValueError(f"wsd_s(decay=...) must be at most steps={steps}, got {decay}.")
    cycle = Constant(peak, stable) >> _shape("wsd_s", shape)(peak, end, decay)
    return shapes.Linear(0.0, peak, warmup) >> Repeat(cycle, cycles=cycles)


def infinite(
    peak: Any, warmup: Any, cooldown: Any, constant: Any, shape: Shape = "cosine"
) -> AbstractSchedule:
    """Warmup, cooldown to a constant, and there for ever; anneal with ``js.cooldown_from``.

    Ibrahim et al., "Simple and Scalable Strategies to Continually Pre-train Large Language Models"
    (arXiv:2403.08763).

    Args:
        peak: value after the warmup.
        warmup: its length in optimizer updates.
        cooldown: length of the fall to ``constant``.
        constant: the value held.
        shape: as in ``js.wsd``.

    >>> import jaxsched as js
    >>> [float(js.infinite(1.0, 10, 20, 0.5)(t)) for t in (10, 20, 30, 10_000)]
    [1.0, 0.75, 0.5, 0.5]
    """
    fall = _shape("infinite", shape)(peak, constant, cooldown)
    return shapes.Linear(0.0, peak, warmup) >> fall >> Constant(constant)


def tri_stage(
    peak: Any, warmup: Any, hold: Any, decay: Any, start: Any = 0.01, end: Any = 0.01
) -> AbstractSchedule:
    """Linear rise, hold, geometric fall.

    Park et al., "SpecAugment" (arXiv:1904.08779).

    Args:
        peak: value of the hold.
        warmup, hold, decay: lengths in optimizer updates.
        start: first value over ``peak``.
        end: last value over ``peak``, positive.

    >>> import jaxsched as js
    >>> [round(float(js.tri_stage(1.0, 10, 10, 10)(t)), 6) for t in (0, 10, 25, 30)]
    [0.01, 1.0, 0.1, 0.01]
    """
    _reals("tri_stage", peak=peak, start=start)
    end = checked_number("tri_stage(end=...)", end, above=0)
    return (
        shapes.Linear(_multiply(peak, start), peak, warmup)
        >> Constant(peak, hold)
        >> shapes.Geometric(peak, _multiply(peak, end), decay)
    )


def flat_cosine(peak: Any, steps: Any, flat: Any = 0.75, end: Any = 0.0) -> AbstractSchedule:
    """Constant, then half a cosine (fastai's ``fit_flat_cos``).

    Args:
        peak: value of the flat part.
        steps: whole length in optimizer updates.
        flat: share of ``steps`` that is flat, from 0 to 1.
        end: value from ``steps`` on.

    >>> import jaxsched as js
    >>> [float(js.flat_cosine(1.0, 100, flat=0.5)(t)) for t in (50, 75)]
    [1.0, 0.5]
    """
    _lengths("flat_cosine", steps=steps)
    flat = checked_number("flat_cosine(flat=...)", flat, at_least=0, at_most=1)
    hold = share(flat, steps)
    return Constant(peak, hold) >> shapes.Cosine(peak, end, subtract_steps(steps, hold))


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
    _reals("noam", factor=factor)
    dimension = checked_number("noam(dimension=...)", dimension, above=0)
    warmup = checked_number("noam(warmup=...)", warmup, at_least=1)
    sqrt: Any = math.sqrt if isinstance(dimension, (int, float)) else jnp.sqrt
    root_d = sqrt(dimension if sqrt is math.sqrt else jnp.asarray(dimension, jnp.float32))
    sqrt = math.sqrt if isinstance(warmup, (int, float)) else jnp.sqrt
    root_w = sqrt(warmup if sqrt is math.sqrt else jnp.asarray(warmup, jnp.float32))
    peak = _divide(factor, _multiply(root_d, root_w))
    rise = shapes.Linear(_divide(peak, warmup), peak, subtract_steps(warmup, 1))
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
    _reals("power_scheduler", batch=batch, b=b)
    _lengths("power_scheduler", warmup=warmup)
    a = checked_number("power_scheduler(a=...)", a, above=0)
    tokens_per_step = checked_number(
        "power_scheduler(tokens_per_step=...)", tokens_per_step, above=0
    )
    first = _multiply(_multiply(batch, a), _power(tokens_per_step, b))
    law = minimum(peak, laws.PowerLaw(first, b, 1.0))
    top = _plain(law(warmup))
    return shapes.Linear(0.0, top, warmup) >> Shift(law, _multiply(warmup, -1))


def silver(smoothness: Any) -> AbstractSchedule:
    """Silver step sizes for gradient descent on an L-smooth convex function; see ``js.Silver``.

    Args:
        smoothness: L, positive.

    >>> import jaxsched as js
    >>> float(js.silver(2.0)(1))
    1.0
    """
    return laws.Silver(_divide(1.0, checked_number("silver(smoothness=...)", smoothness, above=0)))


def reverse(schedule: AbstractSchedule) -> AbstractSchedule:
    """A schedule run backwards; see ``js.Reverse``.

    >>> import jaxsched as js
    >>> float(js.reverse(js.Linear(0.0, 1.0, 4))(1))
    0.75
    """
    return Reverse(schedule)


# --------------------------------------------------------------------------------------- details


def share(fraction: Any, steps: Any) -> Any:
    """``fraction * steps``, rounded to the nearest whole step, halves up; traced or not."""
    known = is_known(fraction) and is_known(steps)
    x: Any = np.float64(0.0) if known else num.as_double(0.0)
    x = num.like(x, fetch(fraction)) * num.like(x, fetch(steps))
    whole = num.to_int32(num.nudged(x + 0.5))
    return int(whole) if known and np.ndim(whole) == 0 else whole


def _lengths(name: str, **lengths: Any) -> None:
    """Raises in a recipe's own name what a piece would raise in its own."""
    for argument, value in lengths.items():
        checked_number(f"{name}({argument}=...)", value, at_least=0)


def _reals(name: str, **numbers: Any) -> None:
    for argument, value in numbers.items():
        checked_number(f"{name}({argument}=...)", value)


def _base(name: str, schedule: Any) -> None:
    if not isinstance(schedule, AbstractSchedule):
        raise TypeError(
            f"{name}(schedule=...) must be a schedule, got {schedule!r} "
            f"({type(schedule).__name__}); wrap a function with `js.from_fn`."
        )


def _warmed(name: str, peak: Any, steps: Any, warmup: Any, rest: Callable[[Any], Any]) -> Any:
    warmup = checked_number(f"{name}(warmup=...)", warmup, at_least=0)
    steps = checked_number(f"{name}(steps=...)", steps, at_least=0)
    if breaks(operator.gt, warmup, steps):
        raise ValueError(f"{name}(warmup=...) must be at most steps={steps}, got {warmup}.")
    return shapes.Linear(0.0, peak, warmup) >> rest(subtract_steps(steps, warmup))


def _shape(name: str, shape: Shape) -> Callable[[Any, Any, Any], AbstractSchedule]:
    if callable(shape):
        return shape
    if shape not in SHAPES:
        raise ValueError(
            f"{name}(shape=...) must be a function (start, end, steps) -> schedule or one of "
            f"{', '.join(map(repr, SHAPES))}, got {shape!r}."
        )
    return SHAPES[shape]


def _exponential(name: str, peak: Any, factor: Any, every: Any) -> AbstractSchedule:
    factor = checked_number(f"{name}(factor=...)", factor, above=0)
    every = checked_number(f"{name}(every=...)", every, above=0)
    if isinstance(factor, (int, float)):
        return laws.Exponential(peak, _divide(math.log(factor), every))
    factor = jnp.asarray(factor)
    # Near 1 the logarithm of the factor hangs on its distance from 1, which is exact.
    return laws.Exponential(peak, _divide(jnp.log1p(factor - 1), every))


def _check_triangle(name: str, low: Any, peak: Any, up: Any, down: Any) -> None:
    _reals(name, low=low, peak=peak)
    _lengths(name, up=up, **({} if down is None else {"down": down}))


def _triangle(low: Any, peak: Any, up: Any, down: Any) -> AbstractSchedule:
    height = subtract_steps(peak, low)
    fall = up if down is None else down
    return shapes.Linear(0.0, height, up) >> shapes.Linear(height, 0.0, fall)


def _plain(value: jax.Array) -> Any:
    """A known float32 scalar as a NumPy one, which prints and compares as a number does."""
    plain = is_known(value) and value.ndim == 0 and value.dtype == jnp.float32
    return np.float32(fetch(value)) if plain else value


def _multiply(x: Any, y: Any) -> Any:
    return _floating(x) * _floating(y)


def _divide(x: Any, y: Any) -> Any:
    return _floating(x) / _floating(y)


def _power(x: Any, y: Any) -> Any:
    return _floating(x) ** _floating(y)


def _floating(x: Any) -> Any:
    return x if isinstance(x, (int, float)) else as_real(x)
