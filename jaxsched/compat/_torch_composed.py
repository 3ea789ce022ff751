"""The schedulers of PyTorch that are made of functions or of other schedulers."""

from __future__ import annotations

import functools
import operator

import numpy as np

from jaxsched._checks import checked_whole, violates
from jaxsched._types import Leaf
from jaxsched.compat._pieces import called, joined, surely
from jaxsched.compat._signature import Count, Function, Number, Schedules, Wholes, drop_in
from jaxsched.recipes._arguments import power
from jaxsched.schedules import _shapes as shapes
from jaxsched.schedules._base import AbstractSchedule, Constant, Product, Sequence
from jaxsched.schedules._function import traced
from jaxsched.schedules._open_ended import Exponential
from jaxsched.schedules._piecewise import PiecewiseConstant, Table
from jaxsched.schedules._repeat import Repeat


@drop_in
def LambdaLR(
    base_lr: Number, lr_lambda: Function, *, total_steps: Count | None = None
) -> AbstractSchedule:
    """``base_lr * lr_lambda(step)``.

    Args:
        lr_lambda: in ``jnp`` of the step, which is int32; its value is float32.
        total_steps: with it ``lr_lambda`` may be any function of a Python number, is called for so
            many steps here, in float64, and the last value holds.

    >>> from jaxsched.compat import torch
    >>> float(torch.LambdaLR(1.0, lambda t: 1 / (1 + t))(3))
    0.25
    >>> float(torch.LambdaLR(1.0, lambda t: 1.0 if t < 3 else 0.1, total_steps=5)(2))
    1.0
    """
    where = "torch.LambdaLR(lr_lambda=...)"
    if total_steps is None:
        other = "give total_steps=..., with which it may be any function in Python"
        factor = traced(where, lr_lambda, {}, instead=other)
        return Constant(base_lr) * factor
    steps = checked_whole("torch.LambdaLR(total_steps=...)", total_steps, 1)
    return Table([called(where, lr_lambda, t) for t in range(steps)]) * Constant(base_lr)


@drop_in
def MultiplicativeLR(
    base_lr: Number, lr_lambda: Function, *, total_steps: Count
) -> AbstractSchedule:
    """``base_lr`` at step 0, and at each later step ``lr_lambda(step)`` times the one before.

    Args:
        lr_lambda: any function of a Python number, called for each step from 1.
        total_steps: how many steps are computed (in float64); the last value holds.

    >>> from jaxsched.compat import torch
    >>> float(torch.MultiplicativeLR(1.0, lambda t: 0.5, total_steps=10)(3))
    0.125
    """
    # A product of unknown factors has no closed form. So the drop-in needs `total_steps`, which
    # PyTorch does not have, and there is no default. The factor of step 0 is never asked for.
    steps = checked_whole("torch.MultiplicativeLR(total_steps=...)", total_steps, 1)
    where = "torch.MultiplicativeLR(lr_lambda=...)"
    factors = [1.0, *(called(where, lr_lambda, t) for t in range(1, steps))]
    return Constant(base_lr) * Table(np.cumprod(factors).tolist())


@drop_in
def SequentialLR(schedulers: Schedules, milestones: Wholes) -> AbstractSchedule:
    """One after another, each from its own step 0 and its own base rate.

    Args:
        schedulers: schedules, such as drop-ins of this module.
        milestones: the first step of each but the first one.

    ``OneCycleLR`` and ``CyclicLR`` change the optimizer's rate there: the ``base_lr`` of schedulers
    made after them is ``max_lr / div_factor``, or their ``base_lr``. With ``OneCycleLR`` this holds
    for the schedulers before it too.

    Raises:
        ValueError: for a ``MultiplicativeLR`` that is not the first one: there it goes on from the
            rate that it finds.

    >>> from jaxsched.compat import torch
    >>> parts = [torch.ConstantLR(1.0, 0.1, 100), torch.ExponentialLR(1.0, 0.5)]
    >>> [round(float(torch.SequentialLR(parts, [3])(t)), 6) for t in (2, 3, 4)]
    [0.1, 1.0, 0.5]
    """
    if len(milestones) != len(schedulers) - 1:
        raise ValueError(
            f"torch.SequentialLR(milestones=...) must be one fewer than {len(schedulers)} "
            f"schedulers, got {len(milestones)}."
        )
    # At a milestone PyTorch calls `_update_lr(0)` of the next scheduler, which sets the rate by the
    # branch for step 0: for all but this one that is the base rate times something.
    if any(map(_is_recursion, schedulers[1:])):
        raise ValueError(
            "torch.SequentialLR(schedulers=...) must have a MultiplicativeLR at the beginning, got "
            "one later, which goes on there from the rate that it finds: write it as a LambdaLR."
        )
    return joined("torch.SequentialLR(milestones=...)", schedulers, milestones)


@drop_in
def ChainedScheduler(schedulers: Schedules, base_lr: Number) -> AbstractSchedule:
    """The product of schedulers: each multiplies the rate that it finds.

    Args:
        schedulers: of this module, all with the same ``base_lr``: ``StepLR``, ``MultiStepLR``,
            ``ConstantLR``, ``LinearLR``, ``ExponentialLR``, ``PolynomialLR``, ``MultiplicativeLR``
            and ``CosineAnnealingLR`` to 0 with ``fix=True``.
        base_lr: theirs, not 0; in place of ``optimizer``.

    Raises:
        ValueError: for other ones. There they overwrite the rate of the schedulers before them, or,
            as ``CosineAnnealingLR`` after ``T_max``, compute something else than a product from it.

    >>> from jaxsched.compat import torch
    >>> parts = [torch.ConstantLR(1.0, 0.1, 2), torch.ExponentialLR(1.0, 0.5)]
    >>> [round(float(torch.ChainedScheduler(parts, 1.0)(t)), 6) for t in (0, 1, 2)]
    [0.1, 0.05, 0.25]
    """
    # Each part has `base_lr` in it, the chain has it once. Parts that set the rate, and do not
    # multiply it, are refused: the last one would win at some steps and not at others. A cosine
    # from 0.1 with `T_max=50` and `eta_min=0.01` falls to -0.18 beside an exponential of 0.95.
    if violates(lambda x: x == 0, base_lr):
        raise ValueError("torch.ChainedScheduler(base_lr=...) must not be 0, got 0.")
    for part in schedulers:
        if not _multiplies(part, base_lr):
            raise ValueError(
                "torch.ChainedScheduler(schedulers=...) must be ones that multiply the rate that "
                f"they find (StepLR, LinearLR, ..., CosineAnnealingLR with fix=True), got {part!r}."
            )
    rest = power(base_lr, 1 - len(schedulers))
    return functools.reduce(operator.mul, schedulers, Constant(rest))


def _multiplies(schedule: AbstractSchedule, base_lr: Leaf) -> bool:
    """By the structures that the drop-ins of this module make."""
    # A schedule does not remember which function made it, so its form has to tell. A `Repeat` of a
    # constant is `StepLR`, of a cosine `CosineAnnealingWarmRestarts`, which sets the rate. A line
    # before a constant is a `LinearLR` if it rises, to at most the base; it is a `SWALR`, which
    # sets the rate too, if it falls or rises from there.
    match schedule:
        case shapes.Cosine(end=end):
            return not violates(lambda end: end != 0, end)
        case Repeat(schedule=inner):
            return isinstance(inner, Constant)
        case Sequence(parts=(Constant(), Constant())):
            return True
        case Sequence(parts=(shapes.Linear(start=start, end=end), Constant())):
            sets = lambda start, end, base: (abs(start) > abs(end)) | (abs(end) > 1.000001 * base)
            return not violates(sets, start, end, abs(base_lr))
    plain = (Constant, PiecewiseConstant, shapes.Linear, shapes.Polynomial, Exponential)
    return type(schedule) in plain or _is_recursion(schedule)


def _is_recursion(schedule: AbstractSchedule) -> bool:
    """Whether it is a ``MultiplicativeLR``; the table of ``LambdaLR`` stands first."""
    match schedule:
        case Product(parts=(Constant(), Table(values=factors))):
            return surely(lambda factors: factors[..., 0] == 1, factors)
    return False
