"""Recipes of cycles: restarts, one-cycle, triangles. The text of _decays.py holds here too."""

from __future__ import annotations

from jaxsched._checks import violates
from jaxsched._types import Leaf
from jaxsched.recipes._arguments import divide, exponential, transition, until
from jaxsched.recipes._share import share
from jaxsched.recipes._signature import (
    Count,
    Cycle,
    Divisor,
    End,
    Factor,
    Flag,
    Growth,
    Length,
    Peak,
    Positive,
    Ratio,
    Shape,
    Steps,
    recipe,
)
from jaxsched.schedules import _shapes as shapes
from jaxsched.schedules._base import AbstractSchedule, Constant
from jaxsched.schedules._lengths import least, subtract_steps
from jaxsched.schedules._repeat import Repeat


@recipe
def warm_restarts(
    peak: Peak,
    steps: Cycle,
    growth: Growth | None = None,
    decay: Ratio | None = None,
    end: End = 0.0,
    cycles: Count | None = None,
    warmup: Length | None = None,
) -> AbstractSchedule:
    """Cosine decays with restarts (SGDR).

    Args:
        peak: value at step 0, or at the end of the first warmup.
        steps: length of the first cycle in optimizer updates.
        growth: length of each cycle, without its warmup, over the one before, at least 1
            (default); with ``cycles`` also below 1: more and more frequent restarts.
        decay: each peak over the one before, at most 1 (default); ``end`` stays.
        end: last value of each cycle, at most ``peak``.
        cycles: their number; ``None`` (default) for ever.
        warmup: length of the line from ``end`` to the peak at the start of each cycle, which is
            part of it and does not grow, or a ``js.share`` of ``steps``; ``None`` (default): none.

    References: Loshchilov & Hutter, SGDR, arXiv:1608.03983.

    >>> import jaxsched as js
    >>> sgdr = js.warm_restarts(1.0, 10, growth=2.0, decay=0.5)
    >>> [float(sgdr(t)) for t in (0, 5, 10, 20, 30)]
    [1.0, 0.5, 0.5, 0.25, 0.25]
    """

    def cycle(low: Leaf, high: Leaf) -> AbstractSchedule:
        if warmup is None:
            return shapes.Cosine(high, low, steps)
        fall = shapes.Cosine(high, low, subtract_steps(steps, warmup))
        return shapes.Linear(low, high, warmup) >> fall

    # A sum of two, since `decay` lowers the fall from the peak, and `end` stays. A cosine from peak
    # to end is a cosine from peak to 0 and one from 0 to end: both are linear in their ends.
    falling = Repeat(cycle(0.0, peak), growth, decay, cycles, warmup)
    if isinstance(end, (int, float)) and end == 0:
        return falling
    return falling + Repeat(cycle(end, 0.0), growth, None, cycles, warmup)


@recipe
def one_cycle(
    peak: Peak,
    steps: Steps,
    warmup: Length = share(0.3),
    div: Divisor = 25.0,
    final_div: Positive = 1e4,
    shape: Shape = "cosine",
    three_phase: Flag = False,
) -> AbstractSchedule:
    """Up to ``peak`` and far down (1cycle).

    The inverse cycle of the momentum is ``js.one_cycle_momentum``.

    Args:
        peak: largest value.
        steps: whole length in optimizer updates.
        warmup: length of the rise, or a ``js.share`` of ``steps``.
        div: start is ``peak / div``; at least 1.
        final_div: end is ``peak / div / final_div``, at most ``peak``.
        shape: "cosine" or "linear" (any name of ``js.SHAPES``).
        three_phase: up, as fast down to the start, to the end; ``warmup`` at most half, rounded up.

    References: Smith & Topin, Super-convergence, arXiv:1708.07120.

    >>> import jaxsched as js
    >>> lr = js.one_cycle(1.0, 100)
    >>> round(float(lr(0)), 6), float(lr(30)), round(float(lr(100)), 9)
    (0.04, 1.0, 4e-06)
    """
    low = divide(peak, div)
    last = divide(low, final_div)
    if violates(lambda last, peak: last > peak, last, peak):
        raise ValueError(
            f"one_cycle(final_div=...) must be at least 1 / div, got {final_div!r}: the end would "
            "be above the peak."
        )
    if not three_phase:
        fall = subtract_steps(steps, warmup)
        return transition(shape, low, peak, warmup) >> transition(shape, peak, last, fall)
    if violates(lambda steps, warmup: 2 * warmup >= steps + 2, steps, warmup):
        raise ValueError(
            f"one_cycle(warmup=...) must be at most half of steps={steps!r} with three_phase, got "
            f"{warmup!r}."
        )
    rest = subtract_steps(steps, warmup)
    fall = least(warmup, rest)  # half of 11 steps is 6, and 5 remain
    return (
        transition(shape, low, peak, warmup)
        >> transition(shape, peak, low, fall)
        >> transition(shape, low, last, subtract_steps(rest, fall))
    )


@recipe
def one_cycle_momentum(
    steps: Steps,
    low: End = 0.85,
    high: Peak = 0.95,
    warmup: Length = share(0.3),
    shape: Shape = "cosine",
) -> AbstractSchedule:
    """The momentum that goes with ``one_cycle``: down while the rate goes up, and back.

    Args:
        steps, warmup, shape: as there.
        low: the momentum at the peak of the rate.
        high: the first and the last value.

    >>> import jaxsched as js
    >>> [round(float(js.one_cycle_momentum(100)(t)), 6) for t in (0, 30, 100)]
    [0.95, 0.85, 0.95]
    """
    rise = subtract_steps(steps, warmup)
    return transition(shape, high, low, warmup) >> transition(shape, low, high, rise)


@recipe
def triangular(
    low: End,
    peak: Peak,
    up: Length,
    down: Length | None = None,
    decay: Ratio | None = None,
    steps: Steps | None = None,
) -> AbstractSchedule:
    """Straight up and down between two values, again and again (cyclical learning rates).

    Args:
        low: value at step 0 and at the end of each cycle.
        peak: value after ``up`` updates.
        up: length of the rise, or a ``js.share`` of ``steps``.
        down: length of the fall, likewise; as long as the rise by default.
        decay: height of each cycle (above ``low``) over the one before; at most 1 (default).
        steps: whole length; ``None`` (default) for ever.

    References: Smith, Cyclical learning rates (``decay=0.5``: *triangular2*), arXiv:1506.01186.

    >>> import jaxsched as js
    >>> [float(js.triangular(0.0, 1.0, 10)(t)) for t in (5, 10, 15, 30)]
    [0.5, 1.0, 0.5, 1.0]
    """
    waves = Repeat(_triangle("triangular", low, peak, up, down), None, decay)
    return until(Constant(low) + waves, steps)


@recipe
def triangular_exp(
    low: End,
    peak: Peak,
    up: Length,
    factor: Factor,
    down: Length | None = None,
    steps: Steps | None = None,
) -> AbstractSchedule:
    r"""``triangular`` with a height that shrinks by ``factor`` at every *update* (*exp_range*).

    Args:
        low, peak, up, down, steps: as in ``js.triangular``.
        factor: greater than 0 and at most 1.

    References: Smith, Cyclical learning rates, arXiv:1506.01186.

    >>> import jaxsched as js
    >>> round(float(js.triangular_exp(0.0, 1.0, 10, factor=0.9)(10)), 6)
    0.348678
    """
    waves = Repeat(_triangle("triangular_exp", low, peak, up, down))
    return until(Constant(low) + waves * exponential(1.0, factor, 1), steps)


@recipe
def slanted_triangular(
    peak: Peak, steps: Steps, cut: Length = share(0.1), ratio: Divisor = 32.0
) -> AbstractSchedule:
    """A short rise and a long fall, both from and to ``peak / ratio``.

    Args:
        peak: largest value.
        steps: whole length in optimizer updates.
        cut: length of the rise, or a ``js.share`` of ``steps``.
        ratio: ``peak`` over the lowest value, at least 1.

    References: Howard & Ruder, Universal language model fine-tuning, arXiv:1801.06146.

    >>> import jaxsched as js
    >>> float(js.slanted_triangular(1.0, 100)(10))
    1.0
    """
    low, down = divide(peak, ratio), subtract_steps(steps, cut)
    return shapes.Linear(low, peak, cut) >> shapes.Linear(peak, low, down)


def _triangle(function: str, low: Leaf, peak: Leaf, up: Leaf, down: Leaf) -> AbstractSchedule:
    """One rise from 0 and one fall, above ``low``."""
    # Above `low` (the caller adds `low`): the height decays, as in the paper.
    height = subtract_steps(peak, low)
    fall = up if down is None else down
    if violates(lambda up, fall: up + fall <= 0, up, fall):
        raise ValueError(
            f"{function}(up=..., down=...) must not both be 0, got {up!r} and {fall!r}."
        )
    return shapes.Linear(0.0, height, up) >> shapes.Linear(height, 0.0, fall)
