"""The schedules of Optax that are one curve, without a warmup."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from jaxsched._arrays import is_concrete
from jaxsched._bounds import FLOAT32_MAX, checked_kind
from jaxsched._checks import checked_number, checked_steps, violates
from jaxsched.compat import _pieces as pieces
from jaxsched.compat._knots import drops, scaled_knots
from jaxsched.compat._pieces import floor, larger, moved, surely, where
from jaxsched.compat._signature import (
    AnySpan,
    Flag,
    NotNegative,
    Number,
    Positive,
    PositiveSpan,
    drop_in,
)
from jaxsched.recipes._arguments import divide, exponential, multiply
from jaxsched.schedules import _shapes as shapes
from jaxsched.schedules._base import AbstractSchedule, Constant
from jaxsched.schedules._piecewise import PiecewiseCosine, PiecewiseLinear
from jaxsched.schedules._wrappers import Clip


def _scales(where: str, pairs: Any) -> Any:
    """A dict step -> scale; the scales may be traced."""
    checked_kind(where, pairs, Mapping, "a dict step -> scale")
    steps = [checked_steps(f"{where}, a step,", step) for step in pairs]
    scales = [checked_number(f"{where}, a scale,", x, at_least=0) for x in pairs.values()]
    return dict(sorted(zip(steps, scales, strict=True), key=lambda pair: pair[0]))


_Scales = Annotated[Any, _scales]
_Kind = Literal["linear", "cosine"]

# Optax makes a constant of a length of 0 or less, with a note in the log, and of a rate of 0: the
# value is `init_value`, where one would expect the end. `nothing` is that rule, and it decides with
# a traced length too. The cosine alone raises.


@drop_in
def constant_schedule(value: Number) -> AbstractSchedule:
    """The same value at every step.

    >>> from jaxsched.compat import optax
    >>> float(optax.constant_schedule(0.5)(10))
    0.5
    """
    return Constant(value)


@drop_in
def polynomial_schedule(
    init_value: Number,
    end_value: Number,
    power: NotNegative,
    transition_steps: AnySpan,
    transition_begin: AnySpan = 0,
) -> AbstractSchedule:
    """A power of the remaining fraction, from ``init_value`` to ``end_value``, which holds.

    It begins at ``transition_begin``; a negative one is 0. With ``transition_steps`` of 0 or less,
    or a ``power`` of 0, it is ``init_value`` at every step, not ``end_value``.

    >>> from jaxsched.compat import optax
    >>> poly = optax.polynomial_schedule(1.0, 0.0, power=2, transition_steps=4, transition_begin=2)
    >>> [float(poly(t)) for t in (0, 2, 4, 6)]
    [1.0, 1.0, 0.25, 0.0]
    >>> float(optax.polynomial_schedule(1.0, 0.0, power=2, transition_steps=0)(9))
    1.0
    """
    last = where(nothing, (transition_steps,), init_value, end_value)
    steps = larger(transition_steps, 0)
    curve = pieces.polynomial(init_value, last, steps, power)
    rises = surely(lambda start, end, power: (start < end) & (power != 0), init_value, last, power)
    return moved(pieces.held(rises, curve, last), larger(transition_begin, 0))


@drop_in
def linear_schedule(
    init_value: Number, end_value: Number, transition_steps: AnySpan, transition_begin: AnySpan = 0
) -> AbstractSchedule:
    """A line from ``init_value`` to ``end_value``, which holds.

    It begins at ``transition_begin``; a negative one is 0. With ``transition_steps`` of 0 or less
    it is ``init_value`` at every step, not ``end_value``.

    >>> from jaxsched.compat import optax
    >>> [float(optax.linear_schedule(1.0, 0.0, 4)(t)) for t in (0, 1, 4)]
    [1.0, 0.75, 0.0]
    >>> float(optax.linear_schedule(1.0, 0.0, 0)(9))
    1.0
    """
    return moved(line(init_value, end_value, transition_steps), larger(transition_begin, 0))


@drop_in
def exponential_decay(
    init_value: Number,
    transition_steps: AnySpan,
    decay_rate: NotNegative,
    transition_begin: AnySpan = 0,
    staircase: Flag = False,
    end_value: Number | None = None,
) -> AbstractSchedule:
    """Multiplied by ``decay_rate`` every ``transition_steps``, smoothly or, ``staircase``, at once.

    It begins after ``transition_begin``; a negative one is 0. ``end_value`` is a lower bound where
    ``decay_rate`` is less than 1 and an upper bound else, before ``transition_begin`` too. With
    ``transition_steps`` of 0 or less, or a ``decay_rate`` of 0, it is ``init_value`` at every step.

    >>> from jaxsched.compat import optax
    >>> decay = optax.exponential_decay(1.0, 10, 0.5, staircase=True, end_value=0.3)
    >>> [round(float(decay(t)), 6) for t in (0, 9, 10, 20)]
    [1.0, 1.0, 0.5, 0.3]
    """
    # A rate of 0 is the same constant there as a length of 0, and not a drop to 0; and a constant
    # is not clipped, so that an `end_value` above it has no effect.
    still = lambda steps, rate: (steps <= 0) | (rate == 0)
    given = (transition_steps, decay_rate)
    rate = where(still, given, 1.0, decay_rate)
    every = where(nothing, (transition_steps,), 1, transition_steps)
    law = pieces.stairs if staircase else exponential
    decay = moved(law(init_value, rate, every), larger(transition_begin, 0))
    if end_value is None or (all(map(is_concrete, given)) and violates(still, *given)):
        return decay
    falls = lambda rate: rate < 1
    if is_concrete(decay_rate) and is_concrete(transition_steps):
        side = "low" if violates(falls, decay_rate) else "high"
        return Clip(decay, **{side: end_value})
    # Which of the two bounds `end_value` is depends on traced numbers: the other is out of reach,
    # and so are both where the schedule stands still (its rate is 1 then, and does not fall).
    low = where(falls, (rate,), end_value, -FLOAT32_MAX)
    high = where(falls, (rate,), FLOAT32_MAX, end_value)
    return Clip(decay, low, where(still, given, FLOAT32_MAX, high))


@drop_in
def cosine_decay_schedule(
    init_value: Number, decay_steps: PositiveSpan, alpha: Number = 0.0, exponent: NotNegative = 1.0
) -> AbstractSchedule:
    """Half a cosine, raised to ``exponent``, to ``alpha * init_value``, which holds.

    >>> from jaxsched.compat import optax
    >>> curve = optax.cosine_decay_schedule(1.0, 10, alpha=0.5)
    >>> [float(curve(t)) for t in (0, 5, 10)]
    [1.0, 0.75, 0.5]
    """
    return bent(init_value, multiply(alpha, init_value), decay_steps, exponent)


@drop_in
def piecewise_constant_schedule(
    init_value: Number, boundaries_and_scales: _Scales | None = None
) -> AbstractSchedule:
    """Multiplied by a scale, which may be 0, from each boundary on; ``{boundary: scale}``.

    A boundary before 0 acts from the start. The boundaries may not be traced, the scales may.

    >>> from jaxsched.compat import optax
    >>> drops = optax.piecewise_constant_schedule(1.0, {20: 0.1, 10: 0.5})
    >>> [round(float(drops(t)), 6) for t in (9, 10, 20)]
    [1.0, 0.5, 0.05]
    """
    pairs = boundaries_and_scales or {}
    return drops(init_value, [*pairs.values()], [*pairs])


@drop_in
def piecewise_interpolate_schedule(
    interpolate_type: _Kind, init_value: Number, boundaries_and_scales: _Scales | None = None
) -> AbstractSchedule:
    """Lines or half cosines between values; each value is the one before times a scale.

    A boundary of 0 takes the place of ``init_value``. The boundaries may not be traced.

    >>> from jaxsched.compat import optax
    >>> knots = optax.piecewise_interpolate_schedule("linear", 1.0, {10: 0.5, 20: 0.0})
    >>> [float(knots(t)) for t in (5, 10, 15, 20)]
    [0.75, 0.5, 0.25, 0.0]
    """
    pairs = boundaries_and_scales or {}
    kind: Any = PiecewiseLinear if interpolate_type == "linear" else PiecewiseCosine
    return scaled_knots(kind, init_value, [*pairs], [*pairs.values()])


@drop_in
def linear_onecycle_schedule(
    transition_steps: PositiveSpan,
    peak_value: Number,
    pct_start: NotNegative = 0.3,
    pct_final: NotNegative = 0.85,
    div_factor: Positive = 25.0,
    final_div_factor: Positive = 1e4,
) -> AbstractSchedule:
    """Up to the peak, as far down, and further to the end, in straight lines.

    The knots are at ``int(pct_start * transition_steps)`` and ``int(pct_final *
    transition_steps)``; the end is ``peak_value / (div_factor * final_div_factor)``. Where two
    knots fall on one step, only the later one acts: with a ``pct_start`` of 1 it never rises.

    >>> from jaxsched.compat import optax
    >>> cycle = optax.linear_onecycle_schedule(100, 1.0)
    >>> [round(float(cycle(t)), 7) for t in (0, 30, 85, 100)]
    [0.04, 1.0, 0.04, 4e-06]
    """
    # Each scale is of the knot before: the end is peak / div / final, as its list of arguments
    # says, and not peak / final, as its text does. PyTorch has the same, but a step earlier.
    knots = [
        floor(multiply(pct_start, transition_steps)),
        floor(multiply(pct_final, transition_steps)),
        transition_steps,
    ]
    scales = [div_factor, divide(1.0, div_factor), divide(1.0, final_div_factor)]
    return scaled_knots(PiecewiseLinear, divide(peak_value, div_factor), knots, scales)


@drop_in
def cosine_onecycle_schedule(
    transition_steps: PositiveSpan,
    peak_value: Number,
    pct_start: NotNegative = 0.3,
    div_factor: Positive = 25.0,
    final_div_factor: Positive = 1e4,
) -> AbstractSchedule:
    """Up to the peak and far down, in half cosines.

    The peak is at ``int(pct_start * transition_steps)``, the end ``peak_value / (div_factor *
    final_div_factor)``. With a ``pct_start`` of 1 the peak is lost, and it falls from the start.

    >>> from jaxsched.compat import optax
    >>> cycle = optax.cosine_onecycle_schedule(100, 1.0)
    >>> [round(float(cycle(t)), 7) for t in (0, 30, 100)]
    [0.04, 1.0, 4e-06]
    """
    knots = [floor(multiply(pct_start, transition_steps)), floor(transition_steps)]
    scales = [div_factor, divide(1.0, multiply(div_factor, final_div_factor))]
    return scaled_knots(PiecewiseCosine, divide(peak_value, div_factor), knots, scales)


def nothing(steps: Any) -> Any:
    return steps <= 0


def line(start: Any, end: Any, steps: Any) -> AbstractSchedule:
    """A line; a length of 0 or less leaves it at its start."""
    last = where(nothing, (steps,), start, end)
    rises = surely(operator.lt, start, last)
    return pieces.held(rises, shapes.Linear(start, last, larger(steps, 0)), last)


def bent(start: Any, end: Any, steps: Any, exponent: Any) -> AbstractSchedule:
    """Half a cosine to a power; with an exponent of 0 it stays at its start."""
    if surely(lambda x: x == 1, exponent):
        return shapes.Cosine(start, end, steps)
    # Optax raises the half cosine itself, from 1 to 0, so that 0 ** 0 is 1 at the end too.
    end, exponent = pieces.powered(exponent, start, end)
    return shapes.Cosine(start, end, steps, exponent)
