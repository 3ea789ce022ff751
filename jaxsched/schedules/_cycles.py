"""Recipes that come back: restarts, one-cycle, triangles. What holds in _recipes.py holds here."""

from __future__ import annotations

from typing import Any

from jaxsched._struct import checked_number
from jaxsched.schedules import _shapes as shapes
from jaxsched.schedules._arguments import (
    Shape,
    check_lengths,
    check_reals,
    divide,
    exponential,
    named_shape,
    share,
)
from jaxsched.schedules._base import AbstractSchedule, subtract_steps
from jaxsched.schedules._wrappers import Repeat


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
    check_lengths("one_cycle", steps=steps)
    check_reals("one_cycle", peak=peak)
    warmup = checked_number(
        "one_cycle(warmup=...)", warmup, above=0, below=0.5 if three_phase else 1
    )
    div = checked_number("one_cycle(div=...)", div, above=0)
    final_div = checked_number("one_cycle(final_div=...)", final_div, above=0)
    up = share(warmup, steps)
    low = divide(peak, div)
    last = divide(low, final_div)
    make = named_shape("one_cycle", shape)
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
    check_lengths("one_cycle_momentum", steps=steps)
    warmup = checked_number("one_cycle_momentum(warmup=...)", warmup, above=0, below=1)
    up = share(warmup, steps)
    make = named_shape("one_cycle_momentum", shape)
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
    return low + waves * exponential("triangular_exp", 1.0, factor, 1)


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
    check_lengths("slanted_triangular", steps=steps)
    check_reals("slanted_triangular", peak=peak)
    cut = checked_number("slanted_triangular(cut=...)", cut, above=0, below=1)
    ratio = checked_number("slanted_triangular(ratio=...)", ratio, above=0)
    up = share(cut, steps)
    low = divide(peak, ratio)
    return shapes.Linear(low, peak, up) >> shapes.Linear(peak, low, subtract_steps(steps, up))


def _check_triangle(name: str, low: Any, peak: Any, up: Any, down: Any) -> None:
    check_reals(name, low=low, peak=peak)
    check_lengths(name, up=up, **({} if down is None else {"down": down}))


def _triangle(low: Any, peak: Any, up: Any, down: Any) -> AbstractSchedule:
    height = subtract_steps(peak, low)
    fall = up if down is None else down
    return shapes.Linear(0.0, height, up) >> shapes.Linear(height, 0.0, fall)
