"""Recipes of stages: warmup, stable, decay, and cooldowns. What holds in _recipes.py holds here."""

from __future__ import annotations

from typing import Any

from jaxsched._struct import breaks, checked_number
from jaxsched.schedules import _shapes as shapes
from jaxsched.schedules._arguments import (
    Shape,
    check_base,
    check_lengths,
    check_reals,
    multiply,
    named_shape,
    plain,
    share,
)
from jaxsched.schedules._base import AbstractSchedule, Constant, subtract_steps
from jaxsched.schedules._wrappers import Repeat, Window


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
    check_lengths("wsd", warmup=warmup, decay=decay)
    rise = shapes.Linear(0.0, peak, warmup)
    make = named_shape("wsd", shape)
    if steps is None:
        return rise >> Constant(peak)
    check_lengths("wsd", steps=steps)
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
    check_lengths("wsd_s", steps=steps, warmup=warmup, decay=decay)
    stable = subtract_steps(steps, decay)
    if breaks(lambda stable: stable < 0, stable):
        raise ValueError(f"wsd_s(decay=...) must be at most steps={steps}, got {decay}.")
    cycle = Constant(peak, stable) >> named_shape("wsd_s", shape)(peak, end, decay)
    return shapes.Linear(0.0, peak, warmup) >> Repeat(cycle, cycles=cycles)


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
    check_reals("tri_stage", peak=peak, start=start)
    end = checked_number("tri_stage(end=...)", end, above=0)
    return (
        shapes.Linear(multiply(peak, start), peak, warmup)
        >> Constant(peak, hold)
        >> shapes.Geometric(peak, multiply(peak, end), decay)
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
    check_lengths("flat_cosine", steps=steps)
    flat = checked_number("flat_cosine(flat=...)", flat, at_least=0, at_most=1)
    hold = share(flat, steps)
    return Constant(peak, hold) >> shapes.Cosine(peak, end, subtract_steps(steps, hold))


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
    fall = named_shape("infinite", shape)(peak, constant, cooldown)
    return shapes.Linear(0.0, peak, warmup) >> fall >> Constant(constant)


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
    check_base("cooldown_from", schedule)
    start = checked_number("cooldown_from(start=...)", start, at_least=0)
    top = plain(schedule(start))
    return Window(schedule, 0, start) >> named_shape("cooldown_from", shape)(top, end, length)
