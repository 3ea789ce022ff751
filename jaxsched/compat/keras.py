"""The schedules of Keras (``keras.optimizers.schedules``) and its callbacks, as of 3.15.

Keras computes them in float32; these have the values of its formulas in float64, rounded once.
``name`` and ``verbose`` have no effect. A schedule for a Keras optimizer goes into a class of
Keras.
"""

from __future__ import annotations

import inspect
import itertools
import operator
from typing import Any, Literal

import jax
import jax.numpy as jnp

from jaxsched._arrays import to_host
from jaxsched._checks import checked_whole, violates
from jaxsched.compat import _pieces as pieces
from jaxsched.compat._knots import levels
from jaxsched.compat._pieces import surely, where
from jaxsched.compat._signature import (
    Count,
    Flag,
    Fraction,
    Function,
    NotNegative,
    Number,
    Numbers,
    Positive,
    PositiveSpan,
    Span,
    Spans,
    Text,
    Whole,
    drop_in,
)
from jaxsched.controllers import Plateau
from jaxsched.recipes._arguments import divide, multiply
from jaxsched.schedules import _shapes as shapes
from jaxsched.schedules._base import AbstractSchedule, Constant
from jaxsched.schedules._function import from_fn, traced
from jaxsched.schedules._lengths import subtract_steps
from jaxsched.schedules._open_ended import InverseTime
from jaxsched.schedules._piecewise import Table
from jaxsched.schedules._repeat import Repeat
from jaxsched.schedules._wrappers import Quantize

Mode = Literal["auto", "min", "max"]

# Keras casts everything to the type of `initial_learning_rate`, float32 for a float, and so do
# restarts and stairs: its logarithm and its quotients are rounded where a floor is taken of them,
# and a restart may come a step late. These drop-ins find the boundaries exactly.


@drop_in
def ExponentialDecay(
    initial_learning_rate: Number,
    decay_steps: PositiveSpan,
    decay_rate: NotNegative,
    staircase: Flag = False,
    name: Text | None = "ExponentialDecay",
) -> AbstractSchedule:
    """Multiplied by ``decay_rate`` every ``decay_steps``, smoothly or, ``staircase``, at once.

    >>> from jaxsched.compat import keras
    >>> [float(keras.ExponentialDecay(1.0, 10, 0.25)(t)) for t in (0, 5, 10)]
    [1.0, 0.5, 0.25]
    """
    law = pieces.stairs if staircase else pieces.decay
    return law(initial_learning_rate, decay_rate, decay_steps)


@drop_in
def PiecewiseConstantDecay(
    boundaries: Spans, values: Numbers, name: Text | None = "PiecewiseConstant"
) -> AbstractSchedule:
    """A value per interval; the step on a boundary still has the *old* value.

    For whole steps: a boundary of 10 acts at step 11, and so does one of 10.5.

    Args:
        boundaries: steps that do not decrease, at least one.
        values: one more than boundaries.

    >>> from jaxsched.compat import keras
    >>> drops = keras.PiecewiseConstantDecay([10], [1.0, 0.5])
    >>> float(drops(10)), float(drops(11))
    (1.0, 0.5)
    """
    # `step <= boundary` has the old value there, in the text as in the code; PyTorch, Optax and
    # fvcore change on the boundary. Boundaries are cast to the step's type, which is whole.
    at, heights = list(boundaries), list(values)
    if not at or len(heights) != len(at) + 1:
        raise ValueError(
            "keras.PiecewiseConstantDecay(values=...) must have a value more than boundaries, of "
            f"which there is at least one, got {len(heights)} and {len(at)}."
        )
    if any(violates(operator.gt, x, y) for x, y in itertools.pairwise(at)):
        raise ValueError(
            f"keras.PiecewiseConstantDecay(boundaries=...) must not decrease, got {at!r}."
        )
    return levels([pieces.add(pieces.floor(step), 1) for step in at], heights)


@drop_in
def PolynomialDecay(
    initial_learning_rate: Number,
    decay_steps: PositiveSpan,
    end_learning_rate: Number = 0.0001,
    power: NotNegative = 1.0,
    cycle: Flag = False,
    name: Text | None = "PolynomialDecay",
    *,
    fix: Flag = False,
) -> AbstractSchedule:
    """A power of the remaining fraction, to ``end_learning_rate``, which holds.

    Args:
        end_learning_rate: the default, 1e-4, *raises* a rate below it.
        cycle: the length becomes the next multiple of ``decay_steps``, so that it jumps up after
            each, to less and less; a multiple itself has the end. Whole steps, in float32.
        fix: end at ``initial_learning_rate`` where that is less than ``end_learning_rate``.

    >>> from jaxsched.compat import keras
    >>> [float(keras.PolynomialDecay(1.0, 10, 0.0)(t)) for t in (0, 5, 10, 15)]
    [1.0, 0.5, 0.0, 0.0]
    >>> [float(keras.PolynomialDecay(1.0, 10, 0.0, cycle=True)(t)) for t in (0, 5, 10, 15)]
    [1.0, 0.5, 0.0, 0.25]
    >>> round(float(keras.PolynomialDecay(1e-5, 10, fix=True)(10)), 9)
    1e-05
    """
    end = pieces.smaller(end_learning_rate, initial_learning_rate) if fix else end_learning_rate
    if not cycle:
        return pieces.polynomial(initial_learning_rate, end, decay_steps, power)
    return from_fn(_cycle, start=initial_learning_rate, end=end, every=decay_steps, power=power)


def _cycle(step: Any, start: Any, end: Any, every: Any, power: Any) -> jax.Array:
    """The rate at a step of the cycles: a power of the rest of the cycle over the cycle's end."""
    # Keras divides the step by `every * ceil(step / every)`, the end of the current cycle, so each
    # fall begins lower. The rounded-up quotient is one too many where XLA's quotient is slightly
    # too large (84 / 28 is 3.0000002 by a reciprocal): so the remainder of whole numbers is taken.
    # Step 0 has a whole cycle left. Any other multiple has nothing left: it ends the last cycle.
    start, end, power = (jnp.asarray(x, jnp.float32) for x in (start, end, power))
    every = jnp.asarray(every)
    step = step.astype(every.dtype)
    left = jnp.where(step == 0, every, jnp.remainder(-step, every)).astype(jnp.float32)
    fraction = left / (step.astype(jnp.float32) + left)
    some = fraction > 0
    falling = jnp.where(some, jnp.where(some, fraction, 1.0) ** power, jnp.where(power == 0, 1, 0))
    return end + (start - end) * falling


@drop_in
def InverseTimeDecay(
    initial_learning_rate: Number,
    decay_steps: PositiveSpan,
    decay_rate: NotNegative,
    staircase: Flag = False,
    name: Text | None = "InverseTimeDecay",
) -> AbstractSchedule:
    """``initial_learning_rate / (1 + decay_rate * step / decay_steps)``; ``staircase``: in stairs.

    >>> from jaxsched.compat import keras
    >>> [float(keras.InverseTimeDecay(1.0, 10, 1.0)(t)) for t in (0, 10, 30)]
    [1.0, 0.5, 0.25]
    """
    # A rate of 0 is legal there and constant. Here it is a timescale in which nothing happens,
    # 1e30: a traced rate cannot choose another piece.
    flat = lambda rate: rate == 0
    scale = divide(decay_steps, where(flat, (decay_rate,), 1.0, decay_rate))
    law = InverseTime(initial_learning_rate, where(flat, (decay_rate,), 1e30, scale))
    return Quantize(law, decay_steps) if staircase else law


@drop_in
def CosineDecay(
    initial_learning_rate: Number,
    decay_steps: PositiveSpan,
    alpha: Number = 0.0,
    name: Text | None = "CosineDecay",
    warmup_target: Number | None = None,
    warmup_steps: Span = 0,
) -> AbstractSchedule:
    """Half a cosine to a share of its top, which holds; with ``warmup_target`` after a line to it.

    Args:
        initial_learning_rate: the top, or where the warmup begins.
        decay_steps: length of the cosine, *without* the warmup.
        alpha: the end as a share of the top.
        warmup_target: the top, if there is a warmup; without it ``warmup_steps`` has no effect.
        warmup_steps: length of the line.

    >>> from jaxsched.compat import keras
    >>> lr = keras.CosineDecay(0.0, 100, warmup_target=1.0, warmup_steps=10)
    >>> [float(lr(t)) for t in (0, 5, 10, 60, 110)]
    [0.0, 0.5, 1.0, 0.5, 0.0]
    """
    # `initial_learning_rate` changes its meaning: without a target it is the top, with one it is
    # where the warmup begins, and `alpha` is of the target. Optax counts its warmup within
    # `decay_steps`, Keras before them.
    top = initial_learning_rate if warmup_target is None else warmup_target
    fall = shapes.Cosine(top, multiply(alpha, top), decay_steps)
    if warmup_target is None:
        return fall
    return shapes.Linear(initial_learning_rate, warmup_target, warmup_steps) >> fall


@drop_in
def CosineDecayRestarts(
    initial_learning_rate: Number,
    first_decay_steps: PositiveSpan,
    t_mul: Positive = 2.0,
    m_mul: NotNegative = 1.0,
    alpha: Number = 0.0,
    name: Text | None = "SGDRDecay",
) -> AbstractSchedule:
    """Half cosines with restarts, each cycle ``t_mul`` times as long and ``m_mul`` times as high.

    The peaks fall towards ``alpha * initial_learning_rate``, where each cycle ends. The restarts
    are exact; Keras' own, by a logarithm in float32, may come late. With a ``t_mul`` below 1 the
    cycles are over after ``first_decay_steps / (1 - t_mul)``: there NaN, here the end of the last.

    >>> from jaxsched.compat import keras
    >>> lr = keras.CosineDecayRestarts(1.0, 10, m_mul=0.5)
    >>> [float(lr(t)) for t in (0, 5, 10, 20, 30)]
    [1.0, 0.5, 0.5, 0.25, 0.25]
    """
    # There `m_mul ** cycle` scales the cosine alone, above `alpha`: so the low is a constant beside
    # cycles to 0. Cycles that become shorter add up to a finite length, which needs a number of
    # them, as many as an int32 can count; cycles that grow have none.
    low = multiply(alpha, initial_learning_rate)
    height = subtract_steps(initial_learning_rate, low)
    cycle = shapes.Cosine(height, 0.0, first_decay_steps)
    many = None if surely(lambda growth: growth >= 1, t_mul) else 2**31 - 1
    return Repeat(cycle, t_mul, m_mul, many) + Constant(low)


@drop_in
def LearningRateScheduler(
    schedule: Function,
    verbose: NotNegative = 0,
    *,
    base_lr: Number | None = None,
    epochs: Count | None = None,
) -> AbstractSchedule:
    """The callback: ``schedule(epoch)``, or ``schedule(epoch, lr)`` with the rate so far.

    Its steps are epochs; ``js.Stretch(_, steps_per_epoch)`` makes them optimizer updates.

    Args:
        schedule: in ``jnp`` of the epoch, an int32; its value is float32.
        base_lr: the optimizer's rate, where ``schedule`` takes two arguments.
        epochs: with it ``schedule`` may be any function of Python numbers, is called for so many
            epochs here, in float64, and the last value holds. Two arguments need it.

    >>> from jaxsched.compat import keras
    >>> slower = lambda epoch, lr: lr if epoch < 2 else lr * 0.5
    >>> halves = keras.LearningRateScheduler(slower, base_lr=1.0, epochs=4)
    >>> [float(halves(epoch)) for epoch in (0, 1, 2, 3, 9)]
    [1.0, 1.0, 0.5, 0.25, 0.25]
    """
    name, where = (f"keras.LearningRateScheduler({n}=...)" for n in ("schedule", "epochs"))
    if base_lr is None and _takes_one(schedule):
        if epochs is None:
            other = "give epochs=..., with which it may be any function in Python"
            return traced(name, schedule, {}, instead=other)
        count = checked_whole(where, epochs, 1)
        return Table([pieces.called(name, schedule, epoch) for epoch in range(count)])
    if base_lr is None or epochs is None:
        raise ValueError(
            "keras.LearningRateScheduler(base_lr=..., epochs=...) must both be given for a "
            f"schedule of (epoch, lr), got {base_lr!r} and {epochs!r}: each rate follows from the "
            "one before."
        )
    # The callback tries `schedule(epoch, lr)` first, with the optimizer's rate, and
    # `schedule(epoch)` if that is a TypeError.
    rates = [float(to_host(base_lr))]
    for epoch in range(checked_whole(where, epochs, 1)):
        rates.append(pieces.called(name, schedule, epoch, rates[-1]))
    return Table(rates[1:])


def _takes_one(schedule: Any) -> bool:
    """Whether the epoch is all that a function needs, as far as it tells."""
    try:
        inspect.signature(schedule).bind(0)
    except TypeError:
        return False
    except ValueError:  # of a builtin
        pass
    return True


@drop_in
def ReduceLROnPlateau(
    monitor: Text = "val_loss",
    factor: Fraction = 0.1,
    patience: Whole = 10,
    verbose: NotNegative = 0,
    mode: Mode = "auto",
    min_delta: NotNegative = 1e-4,
    cooldown: Whole = 0,
    min_lr: NotNegative = 0.0,
    *,
    base_lr: Positive,
) -> Plateau:
    """The callback, as a controller: cuts the rate when a metric has stopped improving.

    Args:
        monitor: the metric's name, which decides the mode ``"auto"``.
        factor: of the rate at each cut, at least 0 and below 1.
        patience: evaluations without improvement that lead to a cut.
        mode: ``"min"``, ``"max"``, or ``"auto"``: ``"min"`` for a loss; other names need one.
        min_delta: absolute margin of an improvement.
        cooldown: evaluations after a cut; the last of them counts again, as there.
        min_lr: least rate; above ``base_lr`` the rate is never cut.
        base_lr: the optimizer's rate; only ``js.controllers.Plateau`` takes a schedule here.

    >>> from jaxsched.compat import keras
    >>> plateau = keras.ReduceLROnPlateau(factor=0.5, patience=2, base_lr=1.0)
    >>> state = plateau.init()
    >>> for loss in (3.0, 3.0, 3.0):
    ...     state = plateau.update(state, value=loss)
    >>> float(plateau(state))
    0.5
    """
    # Keras asks the compiled metrics for a direction, which are not here. Its rule differs from
    # PyTorch's: `patience` reports without improvement cut, not one more; the margin is absolute
    # alone; the last report of a cooldown counts again, since the counter goes down before it is
    # asked; and above `min_lr` every cut is made, however small.
    if mode == "auto" and monitor.removeprefix("val_") != "loss":
        raise ValueError(
            "keras.ReduceLROnPlateau(mode=...) must be 'min' or 'max' for a metric whose direction "
            f"its name does not tell, got 'auto' for monitor={monitor!r}."
        )
    least = pieces.smaller(divide(min_lr, base_lr), 1.0)
    return Plateau(
        Constant(base_lr),
        factor,
        patience,
        0.0,
        min_delta,
        cooldown,
        least,
        mode="max" if mode == "max" else "min",
        rule="keras",
        nan="bad",
    )
