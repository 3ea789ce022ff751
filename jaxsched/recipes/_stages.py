"""Recipes of stages: warmup, stable, decay, cooldowns. The text of _decays.py holds here too."""

from __future__ import annotations

from jaxsched._arrays import is_concrete
from jaxsched._checks import violates
from jaxsched._text import describe, shorten
from jaxsched.recipes._arguments import exponential, multiply, transition, until, value_at
from jaxsched.recipes._share import share
from jaxsched.recipes._signature import (
    Apart,
    Base,
    Count,
    Cycle,
    End,
    Factor,
    Length,
    Number,
    Peak,
    Period,
    Positive,
    PositiveRatio,
    Ratio,
    Shape,
    Steps,
    recipe,
)
from jaxsched.schedules import _shapes as shapes
from jaxsched.schedules._base import AbstractSchedule, Constant
from jaxsched.schedules._lengths import subtract_steps
from jaxsched.schedules._repeat import Repeat
from jaxsched.schedules._wrappers import Window


@recipe
def warmup_constant(peak: Peak, warmup: Length, steps: Steps | None = None) -> AbstractSchedule:
    """Linear from 0 to ``peak`` over ``warmup`` updates, then constant.

    Args:
        peak: value from step ``warmup`` on.
        warmup: length of the warmup, or a ``js.share`` of ``steps``.
        steps: whole length; ``None`` (default) for ever.

    References: Goyal et al., Accurate, large minibatch SGD, arXiv:1706.02677.

    >>> import jaxsched as js
    >>> float(js.warmup_constant(1.0, 10)(5))
    0.5
    """
    stable = None if steps is None else subtract_steps(steps, warmup)
    return shapes.Linear(0.0, peak, warmup) >> Constant(peak, stable)


@recipe
def warmup_linear(peak: Peak, steps: Steps, warmup: Length, end: End = 0.0) -> AbstractSchedule:
    """Linear from 0 to ``peak``, then linear to ``end``.

    References: Devlin et al., BERT, arXiv:1810.04805.

    >>> import jaxsched as js
    >>> [float(js.warmup_linear(1.0, 30, 10)(t)) for t in (5, 10, 20)]
    [0.5, 1.0, 0.5]
    """
    decay = subtract_steps(steps, warmup)
    return shapes.Linear(0.0, peak, warmup) >> shapes.Linear(peak, end, decay)


@recipe
def warmup_cosine(peak: Peak, steps: Steps, warmup: Length, end: End = 0.0) -> AbstractSchedule:
    """Linear from 0 to ``peak``, then half a cosine to ``end``.

    Args:
        peak: value at step ``warmup``.
        steps: whole length in optimizer updates, warmup included.
        warmup: length of the warmup, from 0 to ``steps``, or a ``js.share`` of them.
        end: value from ``steps`` on, at most ``peak``.

    References: Goyal et al., arXiv:1706.02677 (warmup); Loshchilov & Hutter, arXiv:1608.03983.

    >>> import jaxsched as js
    >>> [float(js.warmup_cosine(1.0, 30, 10)(t)) for t in (5, 10, 20)]
    [0.5, 1.0, 0.5]
    """
    decay = subtract_steps(steps, warmup)
    return shapes.Linear(0.0, peak, warmup) >> shapes.Cosine(peak, end, decay)


@recipe
def warmup_polynomial(
    peak: Peak, steps: Steps, warmup: Length, power: Positive = 2.0, end: End = 0.0
) -> AbstractSchedule:
    """Linear from 0 to ``peak``, then a power of the remaining fraction, down to ``end``.

    Args:
        peak, steps, warmup, end: as in ``js.warmup_cosine``.
        power: positive; 1 is ``js.warmup_linear``.

    >>> import jaxsched as js
    >>> [float(js.warmup_polynomial(1.0, 30, 10)(t)) for t in (5, 10, 20)]
    [0.5, 1.0, 0.25]
    """
    decay = subtract_steps(steps, warmup)
    return shapes.Linear(0.0, peak, warmup) >> shapes.Polynomial(peak, end, decay, power)


@recipe
def with_warmup(schedule: Base, warmup: Apart, start: Number = 0.0) -> AbstractSchedule:
    """Linear from ``start`` to the first value of any schedule, then the schedule from its start.

    Args:
        schedule: e.g. ``js.step_decay(...)``; its drops count from the end of the warmup.
        warmup: its length in optimizer updates, at least 0, or a ``js.share`` of the schedule's
            duration; the whole is longer by it.
        start: value of the first update.

    Raises:
        ValueError: if the schedule itself rises from 0, so that all earlier updates would be 0.

    >>> import jaxsched as js
    >>> lr = js.with_warmup(js.step_decay(1.0, 0.5, every=100), warmup=10)
    >>> [float(lr(t)) for t in (5, 10, 109, 110)]
    [0.5, 1.0, 1.0, 0.5]
    """
    # Two rises from 0 one after the other are a slip: `with_warmup(warmup_cosine(...), 100)`. A
    # traced schedule passes, since its values are not known.
    first = value_at(schedule, 0)
    if is_concrete(first) and violates(
        lambda start, warmup, second: (start == 0) & (first == 0) & (warmup > 0) & (second > 0),
        *(start, warmup, value_at(schedule, 1)),
    ):
        raise ValueError(
            "with_warmup(schedule=...) must be one without a warmup from 0, got "
            f"{shorten(repr(schedule))}: the updates of another warmup before it would all be 0."
        )
    return shapes.Linear(start, first, warmup) >> schedule


@recipe
def warmup_exponential(
    peak: Peak, warmup: Length, factor: Factor, every: Period = 1, steps: Steps | None = None
) -> AbstractSchedule:
    """Linear from 0 to ``peak``, then ``exponential_decay`` without end.

    Args:
        peak: value at step ``warmup``.
        warmup, every: numbers of steps, or ``js.share`` s of ``steps``.
        factor: as in ``js.exponential_decay``.
        steps: whole length; ``None`` (default) for ever.

    >>> import jaxsched as js
    >>> round(float(js.warmup_exponential(1.0, 10, 0.5, 10)(20)), 6)
    0.5
    """
    return until(shapes.Linear(0.0, peak, warmup) >> exponential(peak, factor, every), steps)


@recipe
def wsd(
    peak: Peak,
    steps: Steps | None,
    warmup: Length,
    decay: Length | None = None,
    shape: Shape = "linear",
    end: End = 0.0,
) -> AbstractSchedule:
    """Warmup, stable, decay: a trapezoid.

    Args:
        peak: value of the stable phase.
        steps: whole length in optimizer updates; ``None``: an open stable phase without
            ``decay``, ``shape`` and ``end``; ``js.cooldown_from`` can add a decay later.
        warmup: length of the linear warmup from 0, or a ``js.share`` of ``steps``.
        decay: length of the decay, likewise; ``warmup + decay`` at most ``steps``.
        shape: a name of ``js.SHAPES`` ("linear", "cosine", "1-sqrt", "square", "geometric", ...)
            or a function ``(start, end, steps) -> schedule``.
        end: value from ``steps`` on ("geometric" and "harmonic" need it positive).

    References: Hu et al., MiniCPM, arXiv:2404.06395; Hägele et al., arXiv:2405.18392.

    >>> import jaxsched as js
    >>> [float(js.wsd(1.0, 100, 10, 20)(t)) for t in (5, 50, 90, 100)]
    [0.5, 1.0, 0.5, 0.0]
    """
    rise = shapes.Linear(0.0, peak, warmup)
    # The result identifies a user's shape: a function that returns a line counts as the default.
    if steps is None:
        is_line = type(transition(shape, 1.0, 0.5, 1)) is shapes.Linear
        is_zero = isinstance(end, (int, float)) and end == 0
        unused = {"decay": decay is None, "shape": is_line, "end": is_zero}
        for name in (name for name, is_default in unused.items() if not is_default):
            raise TypeError(
                f"wsd({name}=...) must be omitted with steps=None, which has no decay: give "
                "steps=..., or decay later with `js.cooldown_from`."
            )
        return rise >> Constant(peak)
    if decay is None:
        raise TypeError(f"wsd(decay=...) must be given with steps={steps!r}, got None.")
    stable = subtract_steps(subtract_steps(steps, warmup), decay)
    return rise >> Constant(peak, stable) >> transition(shape, peak, end, decay)


@recipe
def wsd_s(
    peak: Peak,
    steps: Cycle,
    warmup: Apart,
    decay: Length,
    shape: Shape = "linear",
    end: End = 0.0,
    cycles: Count | None = None,
) -> AbstractSchedule:
    """WSD-S: cycles of a stable phase and a decay, each back at the peak without a warmup.

    Args:
        peak: value of the stable phases.
        steps: length of one cycle (stable and decay) in optimizer updates.
        warmup: length of the only warmup, before the first cycle, or a ``js.share`` of a cycle.
        decay: length of each decay, at most ``steps``, or a ``js.share`` of a cycle.
        shape: as in ``js.wsd``.
        end: last value of each decay.
        cycles: their number; ``None`` (default) for ever.

    References: Wen et al., Understanding warmup-stable-decay learning rates, arXiv:2410.05192.

    >>> import jaxsched as js
    >>> [float(js.wsd_s(1.0, 100, 10, 20)(t)) for t in (5, 100, 110, 200)]
    [0.5, 0.5, 1.0, 0.5]
    """
    # The warmup stands before the repetition, not within: later cycles jump back to the peak.
    cycle = Constant(peak, subtract_steps(steps, decay)) >> transition(shape, peak, end, decay)
    return shapes.Linear(0.0, peak, warmup) >> Repeat(cycle, cycles=cycles)


@recipe
def tri_stage(
    peak: Positive,
    warmup: Length,
    hold: Length,
    decay: Length,
    start: Ratio = 0.01,
    end: PositiveRatio = 0.01,
    steps: Steps | None = None,
) -> AbstractSchedule:
    """Linear rise, hold, geometric fall.

    Args:
        peak: value of the hold, positive.
        warmup, hold, decay: lengths in optimizer updates, or ``js.share`` s of ``steps``.
        start: first value over ``peak``, at most 1.
        end: last value over ``peak``, positive and at most 1.
        steps: whole length, the rest at ``end``; ``None`` (default): the sum of the three stages.

    References: Park et al., SpecAugment, arXiv:1904.08779.

    >>> import jaxsched as js
    >>> [round(float(js.tri_stage(1.0, 10, 10, 10)(t)), 6) for t in (0, 10, 25, 30)]
    [0.01, 1.0, 0.1, 0.01]
    """
    stages = (
        shapes.Linear(multiply(peak, start), peak, warmup)
        >> Constant(peak, hold)
        >> shapes.Geometric(peak, multiply(peak, end), decay)
    )
    return until(stages, steps)


@recipe
def flat_cosine(
    peak: Peak, steps: Steps, flat: Length = share(0.75), end: End = 0.0
) -> AbstractSchedule:
    """Constant, then half a cosine (fastai's ``fit_flat_cos``).

    Args:
        peak: value of the flat part.
        steps: whole length in optimizer updates.
        flat: length of the flat part, or a ``js.share`` of ``steps``.
        end: value from ``steps`` on.

    >>> import jaxsched as js
    >>> [float(js.flat_cosine(1.0, 100, flat=50)(t)) for t in (50, 75)]
    [1.0, 0.5]
    """
    return Constant(peak, flat) >> shapes.Cosine(peak, end, subtract_steps(steps, flat))


@recipe
def infinite(
    peak: Peak,
    warmup: Length,
    cooldown: Length,
    constant: End,
    shape: Shape = "cosine",
    steps: Steps | None = None,
) -> AbstractSchedule:
    """Warmup, then cooldown to a constant value for ever; anneal with ``js.cooldown_from``.

    Args:
        peak: value after the warmup.
        warmup: its length in optimizer updates, or a ``js.share`` of ``steps``.
        cooldown: length of the fall to ``constant``, likewise.
        constant: the value held, at most ``peak``.
        shape: as in ``js.wsd``.
        steps: whole length; ``None`` (default) for ever.

    References: Ibrahim et al., Strategies to continually pre-train, arXiv:2403.08763.

    >>> import jaxsched as js
    >>> [float(js.infinite(1.0, 10, 20, 0.5)(t)) for t in (10, 20, 30, 10_000)]
    [1.0, 0.75, 0.5, 0.5]
    """
    fall = transition(shape, peak, constant, cooldown)
    return until(shapes.Linear(0.0, peak, warmup) >> fall >> Constant(constant), steps)


@recipe
def cooldown_from(
    schedule: Base, at: Apart, steps: Apart, end: Number = 0.0, shape: Shape = "linear"
) -> AbstractSchedule:
    """Follows ``schedule`` up to step ``at``, then falls from there to ``end`` in ``steps`` steps.

    It is continuous at ``at``; the schedule may be open-ended. Map it over ``at`` and ``steps`` for
    several cooldowns of one run.

    Args:
        schedule: any schedule.
        at: first step of the cooldown, or a ``js.share`` of the schedule's duration.
        steps: length of the cooldown in optimizer updates, likewise.
        end: value afterwards, at most the schedule's value at ``at``.
        shape: as in ``js.wsd``.

    >>> import jaxsched as js
    >>> lr = js.cooldown_from(js.inverse_sqrt(1.0, 100), at=400, steps=100)
    >>> [float(lr(t)) for t in (400, 450, 500)]
    [0.5, 0.25, 0.0]
    """
    # The value at `at` becomes a number of the schedule, so `at` and the peak of a traced schedule
    # both reach the cooldown's start, with their gradients.
    top = value_at(schedule, at)
    if violates(lambda end, top: end > top, end, top):
        raise ValueError(
            f"cooldown_from(end=...) must be at most {describe(top)}, the value at step {at!r}, "
            f"got {describe(end)}: it is a value, not a ratio. What rises is a piece, such as "
            "js.Linear."
        )
    return Window(schedule, 0, at) >> transition(shape, top, end, steps)
