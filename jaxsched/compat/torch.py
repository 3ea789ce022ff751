"""The schedulers of PyTorch (``torch.optim.lr_scheduler``), as of 2.13.

``base_lr``, the rate of the optimizer, takes the place of ``optimizer``; for several groups map a
drop-in over their rates with ``jax.vmap``. ``last_epoch`` has no meaning here: a schedule has no
state. ``fix=True`` takes back what hurts after the end.
"""

from __future__ import annotations

from jaxsched._arrays import INT32_MAX
from jaxsched._checks import checked_number, violates
from jaxsched.compat._pieces import drops, polynomial, stairs, wave, where
from jaxsched.compat._signature import (
    Flag,
    NotNegative,
    Number,
    Numbers,
    Positive,
    PositiveRatio,
    Ratio,
    Whole,
    drop_in,
)
from jaxsched.recipes._arguments import multiply
from jaxsched.schedules import _shapes as shapes
from jaxsched.schedules._base import AbstractSchedule, Constant


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
def MultiStepLR(base_lr: Number, milestones: Numbers, gamma: Number = 0.1) -> AbstractSchedule:
    """Multiplied by ``gamma`` at each milestone, twice where one is listed twice.

    Their order does not matter; one that is negative or not whole never acts.

    >>> from jaxsched.compat import torch
    >>> [float(torch.MultiStepLR(1.0, [20, 10, 20], 0.5)(t)) for t in (9, 10, 20)]
    [1.0, 0.5, 0.125]
    """
    never = lambda step: (step < 0) | (step % 1 != 0)
    some = [step for step in milestones if not violates(never, step)]
    return drops(base_lr, gamma, [where(never, (step,), INT32_MAX, step) for step in some])


@drop_in
def ConstantLR(
    base_lr: Number, factor: Ratio = 1.0 / 3, total_iters: Whole = 5
) -> AbstractSchedule:
    """``base_lr * factor`` for ``total_iters`` steps, then ``base_lr``.

    >>> from jaxsched.compat import torch
    >>> [float(torch.ConstantLR(1.0, 0.5, 4)(t)) for t in (3, 4)]
    [0.5, 1.0]
    """
    return Constant(multiply(factor, base_lr), total_iters) >> Constant(base_lr)


@drop_in
def LinearLR(
    base_lr: Number,
    start_factor: PositiveRatio = 1.0 / 3,
    end_factor: Ratio = 1.0,
    total_iters: Whole = 5,
) -> AbstractSchedule:
    """A line from ``base_lr * start_factor`` to ``base_lr * end_factor``, which holds.

    >>> from jaxsched.compat import torch
    >>> [float(torch.LinearLR(1.0, 0.5, 1.0, 4)(t)) for t in (0, 2, 4)]
    [0.5, 0.75, 1.0]
    """
    start, end = multiply(start_factor, base_lr), multiply(end_factor, base_lr)
    return shapes.Linear(start, end, total_iters)


@drop_in
def PolynomialLR(
    base_lr: Number, total_iters: Whole = 5, power: NotNegative = 1.0
) -> AbstractSchedule:
    """A power of the remaining fraction, to exactly 0.

    >>> from jaxsched.compat import torch
    >>> [float(torch.PolynomialLR(1.0, 4, 2.0)(t)) for t in (0, 2, 4)]
    [1.0, 0.25, 0.0]
    """
    return polynomial(base_lr, 0.0, total_iters, power)


@drop_in
def CosineAnnealingLR(
    base_lr: Number, T_max: Positive, eta_min: Number = 0.0, *, fix: Flag = False
) -> AbstractSchedule:
    """Half a cosine to ``eta_min`` over ``T_max`` steps, and up again, and so on.

    Args:
        base_lr, T_max, eta_min: as there.
        fix: stay at ``eta_min`` from ``T_max`` on, rather than rise again.

    PyTorch computes it by a recursion, which drifts (5.7e-6 relative after 10^6 steps).

    >>> from jaxsched.compat import torch
    >>> [float(torch.CosineAnnealingLR(1.0, 10)(t)) for t in (5, 10, 20)]
    [0.5, 0.0, 1.0]
    >>> float(torch.CosineAnnealingLR(1.0, 10, fix=True)(20))
    0.0
    """
    return wave(base_lr, eta_min, T_max, fix)
