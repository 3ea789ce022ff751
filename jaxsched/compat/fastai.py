"""The annealers of fastai (``fastai.callback.schedule``) and its fits, as of 2.8.

An annealer is a function of the fraction of a run that is over, from 0 to 1, and so are these;
with ``steps``, the length of the run, they are schedules of its optimizer updates. After the end
the last value holds (there the curve would go on, but no run does). A fit there is a method of a
``Learner``; here it is the schedule of its rate, over ``n_epoch * steps_per_epoch`` updates. The
update number t has the fraction t / T, so that the last one is a step short of the end.
"""

from __future__ import annotations

from typing import Any

from jaxsched._arrays import is_concrete
from jaxsched._checks import violates
from jaxsched._text import describe
from jaxsched.compat._knots import known, stack
from jaxsched.compat._pieces import plain, powered, surely
from jaxsched.compat._signature import (
    Count,
    Fractions,
    NotNegative,
    Number,
    Numbers,
    Positive,
    Ratio,
    Whole,
    drop_in,
)
from jaxsched.recipes._arguments import divide, multiply, power, value_at
from jaxsched.schedules import _shapes as shapes
from jaxsched.schedules._base import AbstractSchedule, Constant, Sequence
from jaxsched.schedules._lengths import subtract_steps
from jaxsched.schedules._piecewise import PiecewiseCosine
from jaxsched.schedules._repeat import Repeat
from jaxsched.schedules._wrappers import Stretch, Window


@drop_in
def SchedNo(start: Number, end: Number, *, steps: Positive = 1) -> AbstractSchedule:
    """``start`` throughout; ``end`` has no effect, as there.

    >>> from jaxsched.compat import fastai
    >>> float(fastai.SchedNo(1.0, 0.0)(0.5))
    1.0
    """
    return Constant(start, steps)


@drop_in
def SchedLin(start: Number, end: Number, *, steps: Positive = 1) -> AbstractSchedule:
    """A straight line.

    >>> from jaxsched.compat import fastai
    >>> float(fastai.SchedLin(1.0, 0.0)(0.25)), float(fastai.SchedLin(1.0, 0.0, steps=100)(25))
    (0.75, 0.75)
    """
    return shapes.Linear(start, end, steps)


@drop_in
def SchedCos(start: Number, end: Number, *, steps: Positive = 1) -> AbstractSchedule:
    """Half a cosine.

    >>> from jaxsched.compat import fastai
    >>> float(fastai.SchedCos(1.0, 0.0)(0.5))
    0.5
    """
    return shapes.Cosine(start, end, steps)


@drop_in
def SchedExp(start: Positive, end: Positive, *, steps: Positive = 1) -> AbstractSchedule:
    """A constant ratio per step, between two values above 0.

    >>> from jaxsched.compat import fastai
    >>> round(float(fastai.SchedExp(1.0, 0.01)(0.5)), 6)
    0.1
    """
    return shapes.Geometric(start, end, steps)


@drop_in
def SchedPoly(
    start: Number, end: Number, power: NotNegative, *, steps: Positive = 1
) -> AbstractSchedule:
    """``start + (end - start) * fraction ** power``: a power of the past share, not of the rest.

    >>> from jaxsched.compat import fastai
    >>> float(fastai.SchedPoly(1.0, 0.0, 2)(0.5))
    0.75
    """
    # The other libraries take the power of the rest, so that a power above 1 falls early; here it
    # falls late. And 0 ** 0 is 1: with a power of 0 it is at the end from the start on.
    start, power = powered(power, end, start)
    return shapes.Warp(shapes.Linear(start, end, steps), power)


@drop_in
def combine_scheds(pcts: Numbers, scheds: Fractions, *, steps: Positive = 1) -> AbstractSchedule:
    """Annealers one after another, each within its share of the run.

    Args:
        pcts: the shares, which add up to 1 (there exactly, so that ten of 0.1 fail); one of 0 is
            skipped.
        scheds: annealers of the fraction, so without ``steps`` of their own.

    >>> from jaxsched.compat import fastai
    >>> parts = [fastai.SchedLin(0.0, 1.0), fastai.SchedCos(1.0, 0.0)]
    >>> [float(fastai.combine_scheds([0.5, 0.5], parts)(where)) for where in (0.25, 0.75)]
    [0.5, 0.5]
    """
    shares = list(pcts)
    name = "fastai.combine_scheds(pcts=...)"
    if len(shares) != len(scheds):
        raise ValueError(f"{name} must be as many as scheds, got {len(shares)} and {len(scheds)}.")
    if any(violates(lambda x: x < 0, x) for x in shares) or violates(
        lambda *xs: abs(sum(xs) - 1) > 1e-6, *shares
    ):
        raise ValueError(f"{name} must be at least 0 and add up to 1, got {describe(shares)}.")
    # An annealer that is within its share is cut there, since a longer one of another length would
    # go on. All parts together have the length 1, which `steps` stretches at the end: stretched
    # one by one, their rounded lengths would not add up.
    parts: list[AbstractSchedule] = [
        Window(Stretch(schedule, share), 0, share)
        for schedule, share in zip(scheds, shares, strict=True)
        if not (is_concrete(share) and share == 0)
    ]
    # A last share of 0 is a division by zero there. It is taken as a limit: after the others, of
    # the last annealer only its end is seen.
    if not surely(lambda share: share > 0, shares[-1]):
        parts.append(Constant(value_at(scheds[-1], 1.0)))
    return Stretch(Sequence(tuple(parts)), steps)


@drop_in
def combined_cos(
    pct: Ratio, start: Number, middle: Number, end: Number, *, steps: Positive = 1
) -> AbstractSchedule:
    """Half a cosine to ``middle`` in the share ``pct`` of the run, and another to ``end``.

    A fit's momentum is ``combined_cos(pct_start, 0.95, 0.85, 0.95, steps=...)``.

    >>> from jaxsched.compat import fastai
    >>> [float(fastai.combined_cos(0.5, 0.0, 1.0, 0.5)(where)) for where in (0.25, 0.5, 1)]
    [0.5, 1.0, 0.5]
    """
    return _cosines(pct, steps, [start, middle, end])


@drop_in
def fit_one_cycle(
    n_epoch: Count,
    lr_max: Number,
    div: Positive = 25.0,
    div_final: Positive = 1e5,
    pct_start: Ratio = 0.25,
    *,
    moms: Numbers | None = None,
    steps_per_epoch: Count = 1,
) -> AbstractSchedule:
    """The rate of ``Learner.fit_one_cycle``: up from ``lr_max / div``, to ``lr_max / div_final``.

    The peak is at the real step ``pct_start * T``, which is not rounded.

    Args:
        moms: no effect on the rate; the momentum is ``combined_cos(pct_start, *moms, steps=T)``.

    >>> from jaxsched.compat import fastai
    >>> lr = fastai.fit_one_cycle(4, 1.0, steps_per_epoch=25)
    >>> [round(float(lr(t)), 6) for t in (0, 25, 100)]
    [0.04, 1.0, 1e-05]
    """
    # `div_final` divides the top, PyTorch's `final_div_factor` the start: the 1e5 here corresponds
    # to 4e3 there; PyTorch's default is 1e4.
    values = [divide(lr_max, div), lr_max, divide(lr_max, div_final)]
    return _cosines(pct_start, multiply(n_epoch, steps_per_epoch), values)


@drop_in
def fit_flat_cos(
    n_epoch: Count,
    lr: Number,
    div_final: Positive = 1e5,
    pct_start: Ratio = 0.75,
    *,
    steps_per_epoch: Count = 1,
) -> AbstractSchedule:
    """The rate of ``Learner.fit_flat_cos``: ``lr``, then half a cosine to ``lr / div_final``.

    >>> from jaxsched.compat import fastai
    >>> lr = fastai.fit_flat_cos(4, 1.0, steps_per_epoch=25)
    >>> [round(float(lr(t)), 6) for t in (0, 75, 100)]
    [1.0, 1.0, 1e-05]
    """
    values = [lr, lr, divide(lr, div_final)]
    return _cosines(pct_start, multiply(n_epoch, steps_per_epoch), values)


@drop_in
def fit_sgdr(
    n_cycles: Count,
    cycle_len: Count,
    lr_max: Number,
    cycle_mult: Count = 2,
    *,
    steps_per_epoch: Count = 1,
) -> AbstractSchedule:
    """The rate of ``Learner.fit_sgdr``: half cosines to 0, each ``cycle_mult`` times as long.

    A ``cycle_mult`` of 1 is a division by zero there.

    >>> from jaxsched.compat import fastai
    >>> lr = fastai.fit_sgdr(2, 1, 1.0, steps_per_epoch=10)
    >>> [float(lr(t)) for t in (0, 5, 10, 20, 30)]
    [1.0, 0.5, 1.0, 0.5, 0.0]
    """
    # The number of epochs there is a geometric sum, `(mult ** n - 1) // (mult - 1)`.
    steps = multiply(cycle_len, steps_per_epoch)
    return Repeat(shapes.Cosine(lr_max, 0.0, steps), cycle_mult, None, n_cycles)


@drop_in
def fine_tune(
    epochs: Count,
    base_lr: Number = 2e-3,
    freeze_epochs: Whole = 1,
    lr_mult: Positive = 100,
    pct_start: Ratio = 0.3,
    div: Positive = 5.0,
    *,
    steps_per_epoch: Count = 1,
    depth: Ratio = 1.0,
) -> AbstractSchedule:
    """The rate of ``Learner.fine_tune`` of one group of parameters.

    One cycle in which only the head learns, then one of all, at half the rate.

    Args:
        depth: the group's place, from 0, the first layers, which have ``1 / lr_mult`` of the rate
            in the second cycle, to 1, the head. Groups in between are on a log axis. Freezing all
            but the head in the first cycle is the caller's.

    >>> from jaxsched.compat import fastai
    >>> head = fastai.fine_tune(1, base_lr=1.0, steps_per_epoch=100)
    >>> [round(float(head(t)), 6) for t in (0, 99, 100, 130, 200)]
    [0.04, 1.0, 0.1, 0.5, 5e-06]
    """
    # A `slice(lr / lr_mult, lr)` there spreads the rates evenly in the logarithm. The frozen cycle
    # has the `div` and `div_final` of `fit_one_cycle` (25 and 1e5), whatever `div` says, and a
    # share of 0.99: it is at its top with the last update.
    scale = power(lr_mult, subtract_steps(depth, 1.0))
    top = multiply(divide(base_lr, 2.0), scale)
    then = fit_one_cycle(epochs, top, div, pct_start=pct_start, steps_per_epoch=steps_per_epoch)
    if surely(lambda epochs: epochs == 0, freeze_epochs):
        return then
    frozen = fit_one_cycle(freeze_epochs, base_lr, pct_start=0.99, steps_per_epoch=steps_per_epoch)
    return frozen >> then


def _cosines(share: Any, steps: Any, values: list[Any]) -> AbstractSchedule:
    """Two half cosines by their knots: two real lengths in float32 do not add up to the whole."""
    # With a share of 0 the peak takes the place of the start, with a share of 1 the place of the
    # end: two knots are at one step, and the peak, the last one in the dict, stays. There pct=1 is
    # NaN at the end. A trace keeps all three; of two knots at one step the later one counts.
    peak = multiply(share, steps)
    at = [0.0, peak, steps]
    if known(at):
        of_step = {plain(steps): values[2]} | {0: values[0]} | {plain(peak): values[1]}
        at, values = map(list, zip(*sorted(of_step.items()), strict=True))
    return PiecewiseCosine(stack(at), stack(values))
