"""Recipes: a warmup and what follows it."""

from __future__ import annotations

from jaxsched._arrays import is_concrete
from jaxsched._checks import violates
from jaxsched._text import shorten
from jaxsched.recipes._arguments import exponential, until, value_at
from jaxsched.recipes._signature import (
    Apart,
    Base,
    End,
    Factor,
    Length,
    Number,
    Peak,
    Period,
    Positive,
    Steps,
    recipe,
)
from jaxsched.schedules import _shapes as shapes
from jaxsched.schedules._base import AbstractSchedule, Constant
from jaxsched.schedules._lengths import subtract_steps


@recipe
def warmup_constant(peak: Peak, warmup: Length, steps: Steps | None = None) -> AbstractSchedule:
    """Linear from 0 to ``peak`` over ``warmup`` updates, then constant.

    Goyal et al., "Accurate, Large Minibatch SGD" (arXiv:1706.02677).

    Args:
        peak: value from step ``warmup`` on.
        warmup: length of the warmup, or a ``js.share`` of ``steps``.
        steps: whole length; ``None`` (default) for ever.

    >>> import jaxsched as js
    >>> float(js.warmup_constant(1.0, 10)(5))
    0.5
    """
    stable = None if steps is None else subtract_steps(steps, warmup)
    return shapes.Linear(0.0, peak, warmup) >> Constant(peak, stable)


@recipe
def warmup_linear(peak: Peak, steps: Steps, warmup: Length, end: End = 0.0) -> AbstractSchedule:
    """Linear from 0 to ``peak``, then linear to ``end``.

    Devlin et al., "BERT" (arXiv:1810.04805).

    >>> import jaxsched as js
    >>> [float(js.warmup_linear(1.0, 30, 10)(t)) for t in (5, 10, 20)]
    [0.5, 1.0, 0.5]
    """
    decay = subtract_steps(steps, warmup)
    return shapes.Linear(0.0, peak, warmup) >> shapes.Linear(peak, end, decay)


@recipe
def warmup_cosine(peak: Peak, steps: Steps, warmup: Length, end: End = 0.0) -> AbstractSchedule:
    """Linear from 0 to ``peak``, then half a cosine to ``end``.

    Goyal et al. (arXiv:1706.02677) with Loshchilov & Hutter (arXiv:1608.03983).

    Args:
        peak: value at step ``warmup``.
        steps: whole length in optimizer updates, warmup included.
        warmup: length of the warmup, from 0 to ``steps``, or a ``js.share`` of them.
        end: value from ``steps`` on, at most ``peak``.

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
    """Linear from 0 to ``peak``, then a power of what is left, down to ``end``.

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
    """Linear from ``start`` to the first value of any schedule, then that schedule from its start.

    Args:
        schedule: such as ``js.step_decay(...)``, whose drops are then counted from the end of
            the warmup.
        warmup: its length in optimizer updates, at least 0, or a ``js.share`` of the schedule's
            duration; the whole becomes so much longer.
        start: value of the first update.

    Raises:
        ValueError: if the schedule rises from 0 itself, so that the updates before would be 0.

    >>> import jaxsched as js
    >>> lr = js.with_warmup(js.step_decay(1.0, 0.5, every=100), warmup=10)
    >>> [float(lr(t)) for t in (5, 10, 109, 110)]
    [0.5, 1.0, 1.0, 0.5]
    """
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
