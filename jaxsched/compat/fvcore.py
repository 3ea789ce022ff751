"""The schedules of fvcore (``fvcore.common.param_scheduler``), as of 0.1.5.

They are functions of ``where``, the fraction of a run that is over, from 0 to 1, and so are these;
with ``steps``, the length of the run, they are schedules of its optimizer updates. After the end
the last value holds: there it is an error, or the curve goes on. detectron2 multiplies a warmup
over them: ``js.Linear(factor, 1.0, warmup) * body``.
"""

from __future__ import annotations

import itertools
import operator
from typing import Any

from jaxsched._checks import checked_number, checked_whole, violates
from jaxsched._text import describe
from jaxsched.compat import _pieces as pieces
from jaxsched.compat._knots import levels, products
from jaxsched.compat._signature import (
    Count,
    Fractions,
    NotNegative,
    Number,
    Numbers,
    Positive,
    Wholes,
    Words,
    chosen,
    drop_in,
)
from jaxsched.recipes._arguments import divide, multiply
from jaxsched.schedules import _shapes as shapes
from jaxsched.schedules._base import AbstractSchedule, Constant, Sequence
from jaxsched.schedules._lengths import subtract_steps
from jaxsched.schedules._wrappers import Stretch, Window

_NEAR = 1e-6  # a fraction so near to a boundary has reached it: their WHERE_EPSILON

# Only two of them look at `where` (`ConstantParamScheduler`, from 1 on, and the milestones, above
# 1); the stairs run out of their list at 1, and the others are formulas that go on. The last value
# holds here, and the exponential goes on.


@drop_in
def ConstantParamScheduler(value: Number) -> AbstractSchedule:
    """The same value.

    >>> from jaxsched.compat import fvcore
    >>> float(fvcore.ConstantParamScheduler(0.5)(0.3))
    0.5
    """
    return Constant(value)


@drop_in
def CosineParamScheduler(
    start_value: Number, end_value: Number, *, steps: Positive = 1
) -> AbstractSchedule:
    """Half a cosine.

    >>> from jaxsched.compat import fvcore
    >>> float(fvcore.CosineParamScheduler(1.0, 0.0)(0.5))
    0.5
    >>> float(fvcore.CosineParamScheduler(1.0, 0.0, steps=100)(50))
    0.5
    """
    return shapes.Cosine(start_value, end_value, steps)


@drop_in
def ExponentialParamScheduler(
    start_value: Number, decay: NotNegative, *, steps: Positive = 1
) -> AbstractSchedule:
    """``start_value * decay ** where``, which goes on after the end.

    >>> from jaxsched.compat import fvcore
    >>> float(fvcore.ExponentialParamScheduler(1.0, 0.25)(0.5))
    0.5
    """
    return pieces.decay(start_value, decay, steps)


@drop_in
def LinearParamScheduler(
    start_value: Number, end_value: Number, *, steps: Positive = 1
) -> AbstractSchedule:
    """A straight line.

    >>> from jaxsched.compat import fvcore
    >>> float(fvcore.LinearParamScheduler(1.0, 0.0)(0.25))
    0.75
    """
    return shapes.Linear(start_value, end_value, steps)


@drop_in
def PolynomialDecayParamScheduler(
    base_value: Number, power: NotNegative, *, steps: Positive = 1
) -> AbstractSchedule:
    """A power of the remaining fraction.

    >>> from jaxsched.compat import fvcore
    >>> float(fvcore.PolynomialDecayParamScheduler(1.0, 2.0)(0.5))
    0.25
    """
    return pieces.polynomial(base_value, 0.0, steps, power)


@drop_in
def MultiStepParamScheduler(
    values: Numbers,
    num_updates: Count | None = None,
    milestones: Wholes | None = None,
    *,
    steps: Positive = 1,
) -> AbstractSchedule:
    """A value until each milestone; a step on one, or 1e-6 of the run before it, has the new value.

    Args:
        values: at least one.
        num_updates: length of the run that milestones are of. Without it the last milestone is.
        milestones: one less than values; without them the run is split evenly, rounded up.

    >>> from jaxsched.compat import fvcore
    >>> drops = fvcore.MultiStepParamScheduler([1.0, 0.5, 0.25], 90, [30, 60])
    >>> [float(drops(where)) for where in (0.3, 0.5, 0.9)]
    [1.0, 0.5, 0.25]
    """
    name = "fvcore.MultiStepParamScheduler"
    heights = _heights(name, values)
    if milestones is None:
        if num_updates is None:
            raise ValueError(f"{name}(num_updates=...) must be given without milestones, got None.")
        # `ceil(total / stairs)`: the last stair is the shortest. Of 11 updates 10 stairs of 2 do
        # not fit, which is an error here and there.
        total: Any = checked_number(f"{name}(num_updates=...)", num_updates, at_least=len(heights))
        width = pieces.floor(divide(pieces.add(total, len(heights) - 1), len(heights)))
        at: list[Any] = [multiply(width, i) for i in range(1, len(heights))]
    else:
        # The class has two forms; its docstring shows only one of them. Either there are as many
        # milestones as values, and the last one is the end of the run. Or there is one milestone
        # less, beside `num_updates`.
        at = list(milestones)
        if len(at) != len(heights) - (num_updates is not None):
            raise ValueError(
                f"{name}(milestones=...) must be one less than values, or as many without "
                f"num_updates, got {len(at)} for {len(heights)} values."
            )
        total = num_updates
        if total is None:
            *at, total = at
    ends = [*at, total]
    if any(violates(operator.ge, x, y) for x, y in itertools.pairwise([0, *ends])):
        raise ValueError(
            f"{name}(milestones=...) must increase, from above 0 to below num_updates="
            f"{describe(total)}, got {describe(at)}."
        )
    return _stairs([divide(step, total) for step in at], heights, steps)


@drop_in
def StepParamScheduler(
    num_updates: Positive, values: Numbers, *, steps: Positive = 1
) -> AbstractSchedule:
    """Equal stairs, as many as values; ``num_updates`` has no effect, as there.

    >>> from jaxsched.compat import fvcore
    >>> stairs = fvcore.StepParamScheduler(100, [1.0, 0.5])
    >>> float(stairs(0.4)), float(stairs(0.5))
    (1.0, 0.5)
    """
    # The class only looks whether `num_updates` is above 0, and keeps nothing of it.
    heights = _heights("fvcore.StepParamScheduler", values)
    return _stairs([i / len(heights) for i in range(1, len(heights))], heights, steps)


@drop_in
def StepWithFixedGammaParamScheduler(
    base_value: Positive,
    num_decays: Count,
    gamma: Positive,
    num_updates: Count,
    *,
    steps: Positive = 1,
) -> AbstractSchedule:
    """``num_decays + 1`` equal stairs, each ``gamma`` times the one before.

    >>> from jaxsched.compat import fvcore
    >>> stairs = fvcore.StepWithFixedGammaParamScheduler(1.0, 1, 0.5, 100)
    >>> float(stairs(0.4)), float(stairs(0.5))
    (1.0, 0.5)
    """
    count = checked_whole("fvcore.StepWithFixedGammaParamScheduler(num_decays=...)", num_decays, 1)
    # As there, one product after another: a power of gamma may differ in the last bit.
    values = products(base_value, [gamma] * count)
    return _stairs([i / (count + 1) for i in range(1, count + 1)], values, steps)


@drop_in
def CompositeParamScheduler(
    schedulers: Fractions, lengths: Numbers, interval_scaling: Words, *, steps: Positive = 1
) -> AbstractSchedule:
    """Schedules of ``where`` one after another.

    Args:
        schedulers: of ``where``, so without ``steps`` of their own.
        lengths: the shares of the run; they add up to 1 within 1e-3, and the last is the rest.
        interval_scaling: for each ``"rescaled"``, which runs it whole within its share, or
            ``"fixed"``, which takes the part of it that its share is.

    >>> from jaxsched.compat import fvcore
    >>> parts = [fvcore.LinearParamScheduler(0.0, 1.0), fvcore.CosineParamScheduler(1.0, 0.0)]
    >>> warm = fvcore.CompositeParamScheduler(parts, [0.25, 0.75], ["rescaled", "fixed"])
    >>> [float(warm(where)) for where in (0.125, 0.5)]
    [0.5, 0.5]
    """
    name = "fvcore.CompositeParamScheduler"
    shares = list(lengths)
    if not len(schedulers) == len(shares) == len(interval_scaling):
        raise ValueError(
            f"{name}(lengths=...) and interval_scaling must be as many as schedulers, got "
            f"{len(shares)}, {len(interval_scaling)} and {len(schedulers)}."
        )
    if violates(lambda *xs: abs(sum(xs) - 1) >= 1e-3, *shares):
        raise ValueError(f"{name}(lengths=...) must add up to 1, got {describe(shares)}.")
    # The shares need to add up only within 1e-3, and their class changes the last one in the list
    # that it was given. A piece of theirs is over up to 1e-6 before its end (`where + 1e-6` is
    # beyond it); here it is over at its end, where a step of a run would be.
    for share in shares[:-1]:
        checked_number(f"{name}(lengths=...)", share, above=0)
    ends = [*itertools.accumulate(shares[:-1], pieces.add, initial=0.0), 1.0]
    parts = []
    ways = {"rescaled": True, "fixed": False}
    for schedule, word, (begin, end) in zip(
        schedulers, interval_scaling, itertools.pairwise(ends), strict=True
    ):
        rescaled = chosen(f"{name}(interval_scaling=...)", word, ways)
        share = subtract_steps(end, begin)
        whole = Window(Stretch(schedule, share), 0, share)
        parts.append(whole if rescaled else Window(schedule, begin, end))
    return Stretch(Sequence(tuple(parts)), steps)


def _stairs(fractions: list[Any], values: list[Any], steps: Any) -> AbstractSchedule:
    """Values in turn; each stair begins ``_NEAR`` before its fraction of the run, as there."""
    at = [multiply(subtract_steps(fraction, _NEAR), steps) for fraction in fractions]
    return Window(levels(at, values), 0, steps)


def _heights(name: str, values: Any) -> list[Any]:
    heights = list(values)
    if not heights:
        raise ValueError(f"{name}(values=...) must hold at least one, got {describe(values)}.")
    return heights
