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
from jaxsched._checks import checked_number, violates
from jaxsched.compat._knots import drops, stack
from jaxsched.compat._pieces import (
    OfCycle,
    OfStep,
    add,
    decay,
    held,
    moved,
    polynomial,
    stairs,
    surely,
    wave,
    where,
)
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


@drop_in
def StepLR(base_lr: Number, step_size: Whole, gamma: NotNegative = 0.1) -> AbstractSchedule:
    """Multiplied by ``gamma``, which may be 0, at every multiple of ``step_size``.

    >>> from jaxsched.compat import torch
    >>> [float(torch.StepLR(1.0, 10, 0.5)(t)) for t in (9, 10, 20)]
    [1.0, 0.5, 0.25]
    """
    checked_number("torch.StepLR(step_size=...)", step_size, above=0)
    return stairs(base_lr, gamma, step_size)


@drop_in
def MultiStepLR(base_lr: Number, milestones: Spans, gamma: Number = 0.1) -> AbstractSchedule:
    """Multiplied by ``gamma`` at each milestone, twice where one is listed twice.

    Their order does not matter; one that is negative or not whole never acts.

    >>> from jaxsched.compat import torch
    >>> [float(torch.MultiStepLR(1.0, [20, 10, 20], 0.5)(t)) for t in (9, 10, 20)]
    [1.0, 0.5, 0.125]
    """
    # One that never acts is left out or, where that is not known, put where no run comes.
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
    return held(rises, shapes.Linear(start, end, total_iters), end)


@drop_in
def ExponentialLR(base_lr: Number, gamma: NotNegative) -> AbstractSchedule:
    """Multiplied by ``gamma`` at every step.

    >>> from jaxsched.compat import torch
    >>> [float(torch.ExponentialLR(1.0, 0.5)(t)) for t in (0, 1, 2)]
    [1.0, 0.5, 0.25]
    """
    return decay(base_lr, gamma, 1)


@drop_in
def PolynomialLR(
    base_lr: Number, total_iters: Whole = 5, power: NotNegative = 1.0
) -> AbstractSchedule:
    """A power of the remaining fraction, to exactly 0; with ``total_iters`` of 0, constant.

    >>> from jaxsched.compat import torch
    >>> [float(torch.PolynomialLR(1.0, 4, 2.0)(t)) for t in (0, 2, 4)]
    [1.0, 0.25, 0.0]
    """
    return polynomial(base_lr, _if_any(total_iters, 0.0, base_lr), total_iters, power)


def _if_any(steps: Any, end: Any, start: Any) -> Any:
    """The end of so many steps; without any, a scheduler stays where it starts."""
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
    return wave(base_lr, eta_min, T_max, fix)


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
    fall = step_size_up if step_size_down is None else step_size_down
    height = subtract_steps(max_lr, base_lr)  # above `base_lr`: the modes scale that alone
    triangle = shapes.Linear(0.0, height, step_size_up) >> shapes.Linear(height, 0.0, fall)
    per_cycle: Any = None
    if scale_fn is None:
        modes = {"triangular": None, "triangular2": 0.5, "exp_range": None}
        per_cycle = chosen("torch.CyclicLR(mode=...)", mode, modes)
    waves: AbstractSchedule = Repeat(triangle, None, per_cycle)
    if scale_fn is not None:
        scales = {"cycle": OfCycle(scale_fn), "iterations": OfStep(scale_fn)}
        scale = chosen("torch.CyclicLR(scale_mode=...)", scale_mode, scales)
        waves = waves * traced(
            "torch.CyclicLR(scale_fn=...)", scale, {"length": add(step_size_up, fall)}
        )
    elif mode == "exp_range":
        waves = waves * decay(1.0, gamma, 1)
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
    # Where the rise takes all steps, its top is the last value.
    is_last = lambda last, before: last > before
    knots.append(
        (
            where(is_last, (last, before), last, add(before, 1.0)),
            where(is_last, (last, before), end, height),
        )
    )
    # A rise of less than a step is over before step 0: its knots are, and the axis begins earlier.
    early = 0 if surely(lambda up: up > 0, up) else 4
    at = [add(step, early) for step, _ in knots]
    for i in reversed(range(len(at) - 1)):
        at[i] = where(lambda x, y: x < y, (at[i], at[i + 1]), at[i], subtract_steps(at[i + 1], 1))
    curve = moved(make(stack(at), stack([value for _, value in knots])), -early)
    if fix:
        return Window(curve, 0, steps)
    (begin, high), (stop, low) = knots[-2:]
    part = divide(subtract_steps(steps, begin), subtract_steps(stop, begin))
    part = _bent(part) if strategy == "cos" else part
    beyond = add(high, multiply(subtract_steps(low, high), part))
    if not surely(is_last, last, before):  # the one before goes on
        beyond = where(is_last, (last, before), beyond, value_at(curve, steps))
        low = where(is_last, (last, before), low, beyond)
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
    make = shapes.Cosine if anneal_strategy == "cos" else shapes.Linear
    return make(base_lr, swa_lr, anneal_epochs) >> Constant(swa_lr)
