"""The schedulers of timm (``timm.scheduler``), in updates (``t_in_epochs=False``). As of 1.0.31.

``base_lr``, the rate of the optimizer, takes its place. By default a warmup replaces the first
steps of the curve, so that it drops at the end of the warmup; with ``warmup_prefix`` the curve
begins after it, and ``t_initial`` does not count it. ``CosineLRScheduler`` explains the arguments
that several have. The noise has timm's distribution and arguments, and the random numbers of
``js.Noisy``: PyTorch's generator has others.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any, Literal

from jaxsched._checks import check_beside, checked_number, violates
from jaxsched.compat._knots import drops
from jaxsched.compat._pieces import OfStep, larger, polynomial, stairs, surely, where
from jaxsched.compat._signature import (
    Flag,
    NotNegative,
    Number,
    Positive,
    PositiveSpan,
    Range,
    Ratio,
    Seed,
    Share,
    Span,
    Spans,
    TextOrFunction,
    Whole,
    chosen,
    drop_in,
)
from jaxsched.compat._timm_plateau import PlateauLRScheduler as PlateauLRScheduler
from jaxsched.compat._timm_plateau import noisy as _noisy
from jaxsched.recipes._arguments import multiply, value_at
from jaxsched.schedules import _open_ended as laws
from jaxsched.schedules import _shapes as shapes
from jaxsched.schedules._base import AbstractSchedule, Constant
from jaxsched.schedules._function import traced
from jaxsched.schedules._lengths import subtract_steps
from jaxsched.schedules._repeat import Repeat
from jaxsched.schedules._wrappers import Clip, Shift

StableFn = Literal["constant", "rsqrt", "power"]
Fall = Callable[[Any, Any], AbstractSchedule]  # from a start to an end

# timm steps by `step(epoch)` or `step_update(num_updates)`, so its schedules are formulas of this
# number. All have the same `_get_lr`: before `warmup_t` a line, after it the curve at t, or with
# `warmup_prefix` at t - warmup_t. So by default the line rises to the base and the curve takes over
# in the middle of its fall, a drop; only Tanh aims at the curve.


@drop_in
def CosineLRScheduler(
    base_lr: Number,
    t_initial: PositiveSpan,
    lr_min: NotNegative = 0.0,
    cycle_mul: Positive = 1.0,
    cycle_decay: NotNegative = 1.0,
    cycle_limit: Whole = 1,
    warmup_t: Span = 0,
    warmup_lr_init: NotNegative = 0.0,
    warmup_prefix: Flag = False,
    *,
    noise_range_t: Range | None = None,
    noise_pct: Ratio = 0.67,
    noise_std: NotNegative = 1.0,
    noise_seed: Seed = 42,
    k_decay: Positive = 1.0,
    fix: Flag = False,
) -> AbstractSchedule:
    """Half cosines to ``lr_min``, which holds after ``cycle_limit`` of them.

    Args:
        base_lr, t_initial, lr_min: rate of step 0, length of the first cycle, least rate.
        cycle_mul: length of each cycle over the one before.
        cycle_decay: peak of each cycle over the one before; ``lr_min`` stays.
        cycle_limit: number of cycles.
        warmup_t: length of a line from ``warmup_lr_init`` to ``base_lr``.
        warmup_lr_init: first rate of that line.
        noise_range_t: first step with noise, or [first, first without]; ``None`` (default): none.
        noise_pct: as there, at most 1: beyond it rates would be negative.
        k_decay: power of the time within a cycle.
        fix: no drop where the warmup ends: it rises to the value of the curve there.

    A restart comes on its step: the rounded logarithm of timm may miss one (``cycle_mul=3``,
    ``t_initial=1``: at step 121).

    >>> from jaxsched.compat import timm
    >>> lr = timm.CosineLRScheduler(1.0, 100, warmup_t=10, warmup_prefix=True)
    >>> [float(lr(t)) for t in (5, 10, 60, 110)]
    [0.5, 1.0, 0.5, 0.0]
    """
    fall = lambda start, end: _warped(shapes.Cosine(start, end, t_initial), k_decay)
    body = _cycles(fall, base_lr, lr_min, (cycle_mul, cycle_decay, cycle_limit), True)
    lr = _warmed(body, base_lr, warmup_t, warmup_lr_init, warmup_prefix, fix)
    return _noisy(lr, noise_range_t, noise_pct, noise_std, noise_seed)


@drop_in
def PolyLRScheduler(
    base_lr: Number,
    t_initial: PositiveSpan,
    power: NotNegative = 0.5,
    lr_min: NotNegative = 0.0,
    cycle_mul: Positive = 1.0,
    cycle_decay: NotNegative = 1.0,
    cycle_limit: Whole = 1,
    warmup_t: Span = 0,
    warmup_lr_init: NotNegative = 0.0,
    warmup_prefix: Flag = False,
    *,
    noise_range_t: Range | None = None,
    noise_pct: Ratio = 0.67,
    noise_std: NotNegative = 1.0,
    noise_seed: Seed = 42,
    k_decay: Positive = 1.0,
    fix: Flag = False,
) -> AbstractSchedule:
    """A power of the remaining fraction, 0.5 by default, in cycles.

    Args:
        power: with 0 each cycle is constant.

    >>> from jaxsched.compat import timm
    >>> [float(timm.PolyLRScheduler(1.0, 100, power=2.0)(t)) for t in (0, 50, 100)]
    [1.0, 0.25, 0.0]
    """
    fall = lambda start, end: _warped(polynomial(start, end, t_initial, power), k_decay)
    met = surely(lambda power: power != 0, power)
    body = _cycles(fall, base_lr, lr_min, (cycle_mul, cycle_decay, cycle_limit), met)
    lr = _warmed(body, base_lr, warmup_t, warmup_lr_init, warmup_prefix, fix)
    return _noisy(lr, noise_range_t, noise_pct, noise_std, noise_seed)


@drop_in
def TanhLRScheduler(
    base_lr: Number,
    t_initial: PositiveSpan,
    lb: Number = -7.0,
    ub: Number = 3.0,
    lr_min: NotNegative = 0.0,
    cycle_mul: Positive = 1.0,
    cycle_decay: NotNegative = 1.0,
    cycle_limit: Whole = 1,
    warmup_t: Span = 0,
    warmup_lr_init: NotNegative = 0.0,
    warmup_prefix: Flag = False,
    *,
    noise_range_t: Range | None = None,
    noise_pct: Ratio = 0.67,
    noise_std: NotNegative = 1.0,
    noise_seed: Seed = 42,
    fix: Flag = False,
) -> AbstractSchedule:
    """Hyperbolic tangents from near ``base_lr`` to near ``lr_min``, to which it jumps at the end.

    Args:
        lb, ub: argument of tanh at the start and at the end of a cycle, ``lb < ub``.
        warmup_t, warmup_lr_init: of a line; without ``warmup_prefix`` it rises to the curve's value
            at its end.
        fix: the last value of the curve holds, rather than jump to ``lr_min``.

    >>> from jaxsched.compat import timm
    >>> [round(float(timm.TanhLRScheduler(1.0, 100)(t)), 6) for t in (0, 70, 99, 100)]
    [0.999999, 0.5, 0.003018, 0.0]
    """
    check_beside("timm.TanhLRScheduler(lb=...)", lb, "less than", "ub", ub)
    fall = lambda start, end: shapes.Tanh(start, end, t_initial, lb, ub)
    body = _cycles(fall, base_lr, lr_min, (cycle_mul, cycle_decay, cycle_limit), fix)
    lr = _warmed(body, base_lr, warmup_t, warmup_lr_init, warmup_prefix, True)
    return _noisy(lr, noise_range_t, noise_pct, noise_std, noise_seed)


@drop_in
def StepLRScheduler(
    base_lr: Number,
    decay_t: PositiveSpan,
    decay_rate: NotNegative = 1.0,
    warmup_t: Span = 0,
    warmup_lr_init: NotNegative = 0.0,
    warmup_prefix: Flag = True,
    *,
    noise_range_t: Range | None = None,
    noise_pct: Ratio = 0.67,
    noise_std: NotNegative = 1.0,
    noise_seed: Seed = 42,
    fix: Flag = False,
) -> AbstractSchedule:
    """Multiplied by ``decay_rate`` every ``decay_t`` steps, after the warmup by default.

    Args:
        decay_t: steps between drops, which need not be whole.

    >>> from jaxsched.compat import timm
    >>> [float(timm.StepLRScheduler(1.0, 10, 0.5, warmup_t=2)(t)) for t in (1, 2, 11, 12)]
    [0.5, 1.0, 1.0, 0.5]
    """
    body = stairs(base_lr, decay_rate, decay_t)
    lr = _warmed(body, base_lr, warmup_t, warmup_lr_init, warmup_prefix, fix)
    return _noisy(lr, noise_range_t, noise_pct, noise_std, noise_seed)


@drop_in
def MultiStepLRScheduler(
    base_lr: Number,
    decay_t: Spans,
    decay_rate: NotNegative = 1.0,
    warmup_t: Span = 0,
    warmup_lr_init: NotNegative = 0.0,
    warmup_prefix: Flag = True,
    *,
    noise_range_t: Range | None = None,
    noise_pct: Ratio = 0.67,
    noise_std: NotNegative = 1.0,
    noise_seed: Seed = 42,
    fix: Flag = False,
) -> AbstractSchedule:
    """Multiplied by ``decay_rate`` one step BEFORE each milestone, as timm intends.

    Args:
        decay_t: milestones, in order; one that is listed twice counts twice.

    >>> from jaxsched.compat import timm
    >>> [float(timm.MultiStepLRScheduler(1.0, [10, 20], 0.5)(t)) for t in (8, 9, 10, 19)]
    [1.0, 0.5, 0.5, 0.25]
    """
    # `bisect_right(decay_t, t + 1)` is a step earlier than PyTorch's milestones. By timm's source
    # this stays for the sake of old runs (its issues 2745, 2753 and 2806), and the list is taken as
    # sorted.
    for first, second in itertools.pairwise(decay_t):
        if violates(lambda first, second: first > second, first, second):
            raise ValueError(
                f"timm.MultiStepLRScheduler(decay_t=...) must be in order, got {decay_t!r}."
            )
    body = drops(base_lr, decay_rate, [subtract_steps(step, 1) for step in decay_t])
    lr = _warmed(body, base_lr, warmup_t, warmup_lr_init, warmup_prefix, fix)
    return _noisy(lr, noise_range_t, noise_pct, noise_std, noise_seed)


@drop_in
def WSDLRScheduler(
    base_lr: Number,
    t_initial: PositiveSpan,
    decay_t: PositiveSpan,
    lr_min: NotNegative = 0.0,
    stable_fn: StableFn = "constant",
    stable_timescale: PositiveSpan | None = None,
    stable_power: Positive = 0.5,
    decay_fn: TextOrFunction = "1-sqrt",
    decay_power: Positive = 0.5,
    decay_ratio: Share = 0.1,
    warmup_t: Span = 0,
    warmup_lr_init: NotNegative = 0.0,
    *,
    noise_range_t: Range | None = None,
    noise_pct: Ratio = 0.67,
    noise_std: NotNegative = 1.0,
    noise_seed: Seed = 42,
) -> AbstractSchedule:
    """Warmup, stable, decay, where the stable part may itself decay, and goes on under the fall.

    Args:
        base_lr: rate at the end of the warmup.
        t_initial: length of stable part and fall, WITHOUT the warmup.
        decay_t: length of the fall, at most ``t_initial``.
        lr_min: the least rate.
        stable_fn: "constant", "rsqrt" or "power": ``(1 + t / stable_timescale) ** -power``.
        stable_timescale: ``warmup_t`` by default.
        stable_power: of "power"; 0.5 is "rsqrt".
        decay_fn: "linear", "1-sqrt", "cosine", "power", "exp", or a function in ``jnp`` of the
            fraction of the fall that has passed, from 1 to 0.
        decay_power, decay_ratio: of "power" and "exp".
        warmup_t, warmup_lr_init: length of the warmup, its first rate.

    >>> from jaxsched.compat import timm
    >>> lr = timm.WSDLRScheduler(1.0, 90, 20, decay_fn="linear", warmup_t=10)
    >>> [float(lr(t)) for t in (5, 50, 90, 100)]
    [0.5, 1.0, 0.5, 0.0]
    """
    name = "timm.WSDLRScheduler"
    check_beside(f"{name}(decay_t=...)", decay_t, "at most", "t_initial", t_initial)
    powers = {"constant": None, "rsqrt": 0.5, "power": stable_power}
    decline = powers[stable_fn]
    falls: dict[str, Fall] = {
        "linear": lambda start, end: shapes.Linear(start, end, decay_t),
        "1-sqrt": lambda start, end: shapes.Sqrt(start, end, decay_t),
        "cosine": lambda start, end: shapes.Cosine(start, end, decay_t),
        "power": lambda start, end: shapes.Warp(shapes.Linear(start, end, decay_t), decay_power),
        "exp": lambda start, end: shapes.ShiftedExponential(start, end, decay_t, decay_ratio),
    }
    given, shape = f"{name}(decay_fn=...)", None
    if isinstance(decay_fn, str):
        shape = chosen(given, decay_fn, falls)
        fall = shape(1.0, 0.0)
    else:  # which is called at whole steps of the fall
        for word, x in (("t_initial", t_initial), ("decay_t", decay_t), ("warmup_t", warmup_t)):
            checked_number(f"{name}({word}=...)", x, whole=True)
        fall = traced(given, OfFraction(decay_fn), {"length": decay_t}, decay_t)
    # There a step is `lr_min + (stable(t) - lr_min) * decay(t)`, and both go on together. With a
    # constant stable part this is one stage after another, with phases that can be shown. Else it
    # is the product of a stable part that declines, cut at `lr_min`, and a fall from 1 to 0.
    stable, top = subtract_steps(t_initial, decay_t), larger(base_lr, lr_min)
    if decline is None and shape is not None:
        body = Constant(top, stable) >> shape(top, lr_min)
    else:
        high: AbstractSchedule = Constant(subtract_steps(top, lr_min))
        if decline is not None:
            scale = warmup_t if stable_timescale is None else stable_timescale
            checked_number(f"{name}(stable_timescale=...)", scale, above=0)
            law = laws.PowerLaw(base_lr, multiply(decline, -1.0), scale)
            high = Clip(law, low=lr_min) - lr_min
        body = high * (Constant(1.0, stable) >> fall) + lr_min
    lr = _warmed(body, base_lr, warmup_t, warmup_lr_init, True, False)
    return _noisy(lr, noise_range_t, noise_pct, noise_std, noise_seed)


class OfFraction(OfStep):
    """A user's function of the fraction that has passed."""

    def __call__(self, step: Any, length: Any) -> Any:
        return self.function(step / length)


def _warped(shape: Any, power: Any) -> AbstractSchedule:
    """A shape in k-decay's time."""
    return shape if surely(lambda power: power == 1, power) else shapes.Warp(shape, power)


def _cycles(
    fall: Fall, high: Any, low: Any, cycles: tuple[Any, Any, Any], met: bool
) -> AbstractSchedule:
    """Cycles of a fall with decaying peaks and a fixed low; ``met``: the fall ends on the low."""
    # timm finds the cycle of a step by a logarithm, rounded down, which misses a restart where the
    # logarithm comes out below a whole number; `Repeat` finds it exactly. With a limit of 0 there
    # is no cycle, but `lr_min` from the start. The peak falls from cycle to cycle and `lr_min`
    # stays, so no cycle is a multiple of the one before. But each is a sum of two parts: one falls
    # from `high` to 0 and decays from cycle to cycle, the other goes from 0 to `low` and does not.
    growth, decay, limit = cycles
    if surely(lambda limit: limit == 0, limit):
        return Constant(low)
    high = where(lambda limit: limit > 0, (limit,), high, low)
    if surely(lambda limit: limit == 1, limit):
        body = fall(high, low)
    elif surely(lambda decay: decay == 1, decay):
        body = Repeat(fall(high, low), growth, None, limit)
    else:
        least = Repeat(fall(0.0, low), growth, None, limit)
        body = Repeat(fall(high, 0.0), growth, decay, limit) + least
    return body if met else body >> Constant(low)


def _warmed(
    body: AbstractSchedule, top: Any, steps: Any, start: Any, prefix: bool, continuous: bool
) -> AbstractSchedule:
    """After a warmup, or with its first steps replaced by one."""
    if surely(lambda steps: steps == 0, steps):
        return body
    if prefix:
        return shapes.Linear(start, top, steps) >> body
    # Without the prefix the curve has run since step 0: its part before the end of the warmup,
    # which was never seen, is shifted out.
    end = value_at(body, steps) if continuous else top
    return shapes.Linear(start, end, steps) >> Shift(body, multiply(steps, -1))
