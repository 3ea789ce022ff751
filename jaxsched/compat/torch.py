"""The schedulers of PyTorch (``torch.optim.lr_scheduler``), as of 2.13 and 2.14.

``base_lr``, the rate of the optimizer, takes the place of ``optimizer``; for several groups map a
drop-in over their rates with ``jax.vmap``. ``last_epoch`` has no meaning here: a schedule has no
state. ``fix=True`` avoids the surprises after the end.
"""

from __future__ import annotations

import operator
from typing import Any, Literal

import jax.numpy as jnp
import numpy as np

from jaxsched._arrays import INT32_MAX, is_concrete
from jaxsched._checks import violates
from jaxsched.compat import _pieces as pieces
from jaxsched.compat._knots import drops, stack
from jaxsched.compat._pieces import add, surely, where
from jaxsched.compat._signature import (
    Count,
    Flag,
    Function,
    NotNegative,
    Number,
    Positive,
    PositiveRatio,
    PositiveSpan,
    Ratio,
    Span,
    Spans,
    Text,
    Whole,
    chosen,
    drop_in,
)
from jaxsched.compat._torch_composed import ChainedScheduler as ChainedScheduler
from jaxsched.compat._torch_composed import LambdaLR as LambdaLR
from jaxsched.compat._torch_composed import MultiplicativeLR as MultiplicativeLR
from jaxsched.compat._torch_composed import SequentialLR as SequentialLR
from jaxsched.compat._torch_plateau import ReduceLROnPlateau as ReduceLROnPlateau
from jaxsched.recipes._arguments import divide, multiply, value_at
from jaxsched.schedules import _shapes as shapes
from jaxsched.schedules._base import AbstractSchedule, Constant
from jaxsched.schedules._function import traced
from jaxsched.schedules._lengths import subtract_steps
from jaxsched.schedules._piecewise import PiecewiseCosine, PiecewiseLinear
from jaxsched.schedules._repeat import Repeat
from jaxsched.schedules._wrappers import Window

Anneal = Literal["cos", "linear"]

# PyTorch computes most of these by a recursion: each `step()` changes the rate that it finds in
# the optimizer. The schedules here are the closed forms of this recursion. They are not PyTorch's
# closed forms for the deprecated `scheduler.step(epoch)`, which differ: `MultiStepLR` counts a
# milestone of 2.5 there, `LinearLR` divides by a `total_iters` of 0. Where the recursion has no
# closed form, because another hand changes the rate in between, a drop-in refuses
# (`ChainedScheduler`).


@drop_in
def StepLR(base_lr: Number, step_size: Count, gamma: NotNegative = 0.1) -> AbstractSchedule:
    """Multiplied by ``gamma``, which may be 0, at every multiple of ``step_size``.

    >>> from jaxsched.compat import torch
    >>> [float(torch.StepLR(1.0, 10, 0.5)(t)) for t in (9, 10, 20)]
    [1.0, 0.5, 0.25]
    """
    return pieces.stairs(base_lr, gamma, step_size)


@drop_in
def MultiStepLR(base_lr: Number, milestones: Spans, gamma: Number = 0.1) -> AbstractSchedule:
    """Multiplied by ``gamma`` at each milestone, twice where one is listed twice.

    Their order does not matter; one that is negative or not whole never acts.

    >>> from jaxsched.compat import torch
    >>> [float(torch.MultiStepLR(1.0, [20, 10, 20], 0.5)(t)) for t in (9, 10, 20)]
    [1.0, 0.5, 0.125]
    """
    # There `last_epoch in Counter(milestones)` decides, so a milestone acts only on the step equal
    # to it. A milestone that never acts is left out. A traced one cannot be left out: it moves to
    # a step that no run reaches.
    never = lambda step: (step < 0) | (step % 1 != 0)
    some = [step for step in milestones if not violates(never, step)]
    return drops(base_lr, gamma, [where(never, (step,), INT32_MAX, step) for step in some])


@drop_in
def ConstantLR(
    base_lr: Number, factor: Ratio = 1.0 / 3, total_iters: Whole = 5
) -> AbstractSchedule:
    """``base_lr * factor`` for ``total_iters`` steps, then ``base_lr``; for ever, if they are 0.

    >>> from jaxsched.compat import torch
    >>> [float(torch.ConstantLR(1.0, 0.5, 4)(t)) for t in (3, 4)]
    [0.5, 1.0]
    """
    low = multiply(factor, base_lr)
    return Constant(low, total_iters) >> Constant(_if_any(total_iters, base_lr, low))


@drop_in
def LinearLR(
    base_lr: Number,
    start_factor: PositiveRatio = 1.0 / 3,
    end_factor: Ratio = 1.0,
    total_iters: Whole = 5,
) -> AbstractSchedule:
    """A line from ``base_lr * start_factor`` to ``base_lr * end_factor``, which holds.

    With ``total_iters`` of 0 it stays at the start.

    >>> from jaxsched.compat import torch
    >>> [float(torch.LinearLR(1.0, 0.5, 1.0, 4)(t)) for t in (0, 2, 4)]
    [0.5, 0.75, 1.0]
    """
    start, end = multiply(start_factor, base_lr), multiply(end_factor, base_lr)
    end = _if_any(total_iters, end, start)
    rises = surely(operator.lt, start_factor, end_factor)
    return pieces.held(rises, shapes.Linear(start, end, total_iters), end)


@drop_in
def ExponentialLR(base_lr: Number, gamma: NotNegative) -> AbstractSchedule:
    """Multiplied by ``gamma`` at every step.

    >>> from jaxsched.compat import torch
    >>> [float(torch.ExponentialLR(1.0, 0.5)(t)) for t in (0, 1, 2)]
    [1.0, 0.5, 0.25]
    """
    return pieces.decay(base_lr, gamma, 1)


@drop_in
def PolynomialLR(
    base_lr: Number, total_iters: Whole = 5, power: NotNegative = 1.0
) -> AbstractSchedule:
    """A power of the remaining fraction, to exactly 0; with ``total_iters`` of 0, constant.

    >>> from jaxsched.compat import torch
    >>> [float(torch.PolynomialLR(1.0, 4, 2.0)(t)) for t in (0, 2, 4)]
    [1.0, 0.25, 0.0]
    """
    return pieces.polynomial(base_lr, _if_any(total_iters, 0.0, base_lr), total_iters, power)


def _if_any(steps: Any, end: Any, start: Any) -> Any:
    """The end of so many steps; without any, a scheduler stays where it starts."""
    # No error there, and no jump to the end, as one would expect of a line of no length: step 0
    # has a branch of its own, and the first step after it is already behind `total_iters`.
    return where(lambda steps: steps > 0, (steps,), end, start)


@drop_in
def CosineAnnealingLR(
    base_lr: Number, T_max: PositiveSpan, eta_min: Number = 0.0, *, fix: Flag = False
) -> AbstractSchedule:
    """Half a cosine to ``eta_min`` over ``T_max`` steps, and up again, and so on.

    Args:
        fix: stay at ``eta_min`` from ``T_max`` on, rather than rise again.

    PyTorch computes it by a recursion, which drifts (5.7e-6 relative after 10^6 steps).

    >>> from jaxsched.compat import torch
    >>> [float(torch.CosineAnnealingLR(1.0, 10)(t)) for t in (5, 10, 20)]
    [0.5, 0.0, 1.0]
    >>> float(torch.CosineAnnealingLR(1.0, 10, fix=True)(20))
    0.0
    """
    # The name says annealing, the code a whole wave: `(last_epoch - 1 - T_max) % (2 * T_max)` is
    # the branch that leaves the lowest point, where the recursion would divide by 0.
    return pieces.wave(base_lr, eta_min, T_max, fix)


@drop_in
def CosineAnnealingWarmRestarts(
    base_lr: Number, T_0: Count, T_mult: Count = 1, eta_min: Number = 0.0
) -> AbstractSchedule:
    """Half a cosine to ``eta_min``, again and again, each ``T_mult`` times as long.

    The step of a restart is at ``base_lr``.

    >>> from jaxsched.compat import torch
    >>> [float(torch.CosineAnnealingWarmRestarts(1.0, 10, 2)(t)) for t in (5, 10, 20, 30)]
    [0.5, 1.0, 0.5, 1.0]
    """
    # Of PyTorch's two ways to step only `step()` is meant. `step(epoch)` finds the cycle by a
    # rounded logarithm and misses restarts.
    return Repeat(shapes.Cosine(base_lr, eta_min, T_0), T_mult)


@drop_in
def CyclicLR(
    base_lr: Number,
    max_lr: Number,
    step_size_up: PositiveSpan = 2000,
    step_size_down: Span | None = None,
    mode: Text = "triangular",
    gamma: NotNegative = 1.0,
    scale_fn: Function | None = None,
    scale_mode: Text = "cycle",
    cycle_momentum: Flag = True,
    base_momentum: Number = 0.8,
    max_momentum: Number = 0.9,
) -> AbstractSchedule:
    """Straight up from ``base_lr`` to ``max_lr`` and down again.

    Args:
        base_lr: the least rate (there the optimizer's is overwritten by it).
        gamma: of ``mode="exp_range"``, at every step.
        scale_fn: in place of ``mode``, a function in ``jnp`` of the number of the cycle, from 1, or
            with ``scale_mode="iterations"`` of the step; the height is multiplied by its value.
        scale_mode: of ``scale_fn`` only.
        cycle_momentum, base_momentum, max_momentum: no effect on the rate. The momentum falls where
            it rises: ``CyclicLR(max_momentum, base_momentum, ...)``, its lengths the same.

    >>> from jaxsched.compat import torch
    >>> waves = torch.CyclicLR(0.0, 1.0, 10, mode="triangular2")
    >>> [float(waves(t)) for t in (5, 10, 20, 30)]
    [0.5, 1.0, 0.0, 0.5]
    """
    # `exp_range` decays with every step, as PyTorch's code does; `triangular2` with every cycle.
    fall = step_size_up if step_size_down is None else step_size_down
    height = subtract_steps(max_lr, base_lr)  # above `base_lr`: the modes scale that alone
    triangle = shapes.Linear(0.0, height, step_size_up) >> shapes.Linear(height, 0.0, fall)
    per_cycle: Any = None
    if scale_fn is None:
        modes = {"triangular": None, "triangular2": 0.5, "exp_range": None}
        per_cycle = chosen("torch.CyclicLR(mode=...)", mode, modes)
    waves: AbstractSchedule = Repeat(triangle, None, per_cycle)
    if scale_fn is not None:
        scales = {"cycle": pieces.OfCycle(scale_fn), "iterations": pieces.OfStep(scale_fn)}
        scale = chosen("torch.CyclicLR(scale_mode=...)", scale_mode, scales)
        waves = waves * traced(
            "torch.CyclicLR(scale_fn=...)", scale, {"length": add(step_size_up, fall)}
        )
    elif mode == "exp_range":
        waves = waves * pieces.decay(1.0, gamma, 1)
    return Constant(base_lr) + waves


@drop_in
def OneCycleLR(
    max_lr: Number,
    total_steps: Count | None = None,
    epochs: Count | None = None,
    steps_per_epoch: Count | None = None,
    pct_start: Ratio = 0.3,
    anneal_strategy: Anneal = "cos",
    cycle_momentum: Flag = True,
    base_momentum: Number = 0.85,
    max_momentum: Number = 0.95,
    div_factor: Positive = 25.0,
    final_div_factor: Positive = 1e4,
    three_phase: Flag = False,
    *,
    fix: Flag = False,
) -> AbstractSchedule:
    """From ``max_lr / div_factor`` up to ``max_lr`` and far down.

    The maximum is at the step ``pct_start * total_steps - 1``, which need not be whole (with
    ``pct_start=0`` no step has it), and the last value at ``total_steps - 1``.

    Args:
        cycle_momentum, base_momentum, max_momentum: no effect; see ``OneCycleLR_momentum``.
        fix: the last value holds, and ``total_steps`` is its duration. Without it the step
            ``total_steps`` extrapolates, a line to below 0; the last value holds from the next one
            on, which raises there.

    >>> from jaxsched.compat import torch
    >>> lr = torch.OneCycleLR(1.0, 100)
    >>> round(float(lr(0)), 6), float(lr(29)), round(float(lr(99)), 9)
    (0.04, 1.0, 4e-06)
    """
    steps = _total("OneCycleLR", total_steps, epochs, steps_per_epoch)
    start = divide(max_lr, div_factor)
    values = (start, max_lr, divide(start, final_div_factor))
    return _one_cycle("OneCycleLR", steps, pct_start, anneal_strategy, three_phase, values, fix)


@drop_in
def OneCycleLR_momentum(
    total_steps: Count | None = None,
    epochs: Count | None = None,
    steps_per_epoch: Count | None = None,
    pct_start: Ratio = 0.3,
    anneal_strategy: Anneal = "cos",
    base_momentum: Number = 0.85,
    max_momentum: Number = 0.95,
    three_phase: Flag = False,
    *,
    fix: Flag = False,
) -> AbstractSchedule:
    """The momentum (or the first beta) that ``OneCycleLR`` sets, ``base_momentum`` at the maximum.

    >>> from jaxsched.compat import torch
    >>> [round(float(torch.OneCycleLR_momentum(100)(t)), 6) for t in (0, 29, 99)]
    [0.95, 0.85, 0.95]
    """
    name = "OneCycleLR_momentum"
    steps = _total(name, total_steps, epochs, steps_per_epoch)
    values = (max_momentum, base_momentum, max_momentum)
    return _one_cycle(name, steps, pct_start, anneal_strategy, three_phase, values, fix)


def _total(name: str, total_steps: Any, epochs: Any, steps_per_epoch: Any) -> Any:
    """``total_steps``, or the product of the two others; raises if neither is given."""
    if total_steps is not None:
        return total_steps
    if epochs is None or steps_per_epoch is None:
        raise ValueError(
            f"torch.{name}(total_steps=...) must be given, or epochs=... and steps_per_epoch=..., "
            f"got {total_steps}, {epochs} and {steps_per_epoch}."
        )
    return multiply(epochs, steps_per_epoch)


def _one_cycle(
    name: str, steps: Any, pct: Any, strategy: str, three: bool, values: Any, fix: bool
) -> AbstractSchedule:
    """The knots of the cycle, and PyTorch's value at the step after the last."""
    # A phase ends at `pct_start * total_steps - 1`, a step earlier than its share, and the second
    # of three at twice that: of 100 steps with a share of 0.3 the knots are 0, 29, 58 and 99. They
    # need not be whole, and so they are knots of one piece: stages one after another have their
    # lengths in float32, which do not add up to the last step: the end of a line was 1.3e-2 off.
    start, top, end = values
    make = PiecewiseCosine if strategy == "cos" else PiecewiseLinear
    share = multiply(pct, steps)
    if violates(lambda share: share == 1, share):
        raise ValueError(
            f"torch.{name}(pct_start=...) * total_steps must not be 1, a rise of no length, got "
            f"{pct!r} * {steps!r}."
        )
    up, last = subtract_steps(share, 1), subtract_steps(steps, 1)
    knots = [(0, start), (up, top)] + [(multiply(up, 2.0), start)] * three
    before, height = knots[-1]
    # With a share of 1 the rise takes all steps and its top is the last value: the fall, which
    # would be of no length or a negative one, is a plateau behind it.
    falls = lambda x, y: where(operator.gt, (last, before), x, y)
    knots.append((falls(last, add(before, 1.0)), falls(end, height)))
    # With a share of 0 the rise is over at step -1, and with three phases the way down at step -2.
    # A piece has no knots before 0, so the axis begins 4 steps earlier. Knots that would then be
    # out of order move down to a step before the next.
    early = 0 if surely(lambda up: up > 0, up) else 4
    at = [add(step, early) for step, _ in knots]
    for i in reversed(range(len(at) - 1)):
        at[i] = where(lambda x, y: x < y, (at[i], at[i + 1]), at[i], subtract_steps(at[i + 1], 1))
    curve = pieces.moved(make(stack(at), stack([value for _, value in knots])), -early)
    if fix:
        return Window(curve, 0, steps)
    # `step_num > total_steps` is an error there, so that one step more than there are is allowed,
    # and the last phase is extrapolated: a line goes below 0, a cosine comes back.
    (begin, high), (stop, low) = knots[-2:]
    part = divide(subtract_steps(steps, begin), subtract_steps(stop, begin))
    part = _bent(part) if strategy == "cos" else part
    beyond = add(high, multiply(subtract_steps(low, high), part))
    if not surely(operator.gt, last, before):  # without a fall, the rise goes on
        beyond = falls(beyond, value_at(curve, steps))
        low = falls(low, beyond)
    return Window(curve, 0, steps) >> Constant(beyond, 1) >> Constant(low)


def _bent(part: Any) -> Any:
    """Half a cosine from 0 to 1, beyond which it comes back."""
    angle = multiply(part, np.pi)
    cosine = np.cos(angle) if is_concrete(angle) else jnp.cos(angle)
    return divide(subtract_steps(1.0, cosine), 2.0)


@drop_in
def SWALR(
    base_lr: Number, swa_lr: Number, anneal_epochs: Whole = 10, anneal_strategy: Anneal = "cos"
) -> AbstractSchedule:
    """From the rate that it finds, ``base_lr``, to ``swa_lr``, which holds.

    >>> from jaxsched.compat import torch
    >>> [float(torch.SWALR(1.0, 0.5, 10)(t)) for t in (0, 5, 10)]
    [1.0, 0.75, 0.5]
    """
    # The class takes the rate that it finds at its first step, whatever the optimizer began with:
    # `base_lr` is the one at which averaging begins.
    make = shapes.Cosine if anneal_strategy == "cos" else shapes.Linear
    return make(base_lr, swa_lr, anneal_epochs) >> Constant(swa_lr)
