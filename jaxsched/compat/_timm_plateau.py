"""timm's scheduler of the plateau, and the noise that all of them have."""

from __future__ import annotations

from typing import Any, Literal, cast

from jaxsched._arrays import is_list
from jaxsched.compat._pieces import onward, surely
from jaxsched.compat._signature import (
    Fraction,
    Mode,
    NotNegative,
    Positive,
    Range,
    Ratio,
    Seed,
    Whole,
    drop_in,
)
from jaxsched.compat._torch_plateau import plateau
from jaxsched.controllers import AbstractController
from jaxsched.schedules._base import AbstractSchedule
from jaxsched.schedules._noise import Noisy
from jaxsched.schedules._shapes import Linear

Distribution = Literal["normal", "uniform"]


@drop_in
def PlateauLRScheduler(
    base_lr: Positive,
    decay_rate: Fraction = 0.1,
    patience_t: Whole = 10,
    threshold: NotNegative = 1e-4,
    cooldown_t: Whole = 0,
    warmup_t: Whole = 0,
    warmup_lr_init: NotNegative = 0.0,
    lr_min: NotNegative = 0.0,
    mode: Mode = "max",
    noise_range_t: Range | None = None,
    noise_type: Distribution = "normal",
    noise_pct: Ratio = 0.67,
    noise_std: NotNegative = 1.0,
    noise_seed: Seed | None = None,
) -> AbstractController:
    """PyTorch's ``ReduceLROnPlateau`` of a metric; by default, more is better.

    Args:
        warmup_t, warmup_lr_init: length of a line to ``base_lr`` and its first rate; metrics of
            the warmup do not count.

    timm means to remove it.

    >>> from jaxsched.compat import timm
    >>> plateau = timm.PlateauLRScheduler(1.0, 0.5, patience_t=1)
    >>> state = plateau.init()
    >>> for accuracy in (0.5, 0.5, 0.5):
    ...     state = plateau.update(state, value=accuracy)
    >>> float(plateau(state))
    0.5
    """
    # timm holds a `ReduceLROnPlateau` of PyTorch. It has no arguments for "rel" and an eps of 1e-8,
    # PyTorch's defaults. Its own `step` is the line while `epoch <= warmup_t`, so it asks for no
    # metric in the step after the line is at its top.
    controller: AbstractController = plateau(
        "timm.PlateauLRScheduler",
        *(base_lr, mode, decay_rate, patience_t, threshold, "rel", cooldown_t, lr_min, 1e-8),
    )
    if not surely(lambda steps: steps == 0, warmup_t):
        controller = Linear(warmup_lr_init, base_lr, warmup_t) >> controller
    # The base class makes 42 of None. Noise is drawn anew for each step from `noise_seed + t`, and
    # so here, from the bits of `js.Noisy`.
    seed = 42 if noise_seed is None else noise_seed
    noise = (noise_range_t, noise_pct, noise_std, seed, noise_type)
    return cast(AbstractController, noisy(controller, *noise))


def noisy(schedule: Any, steps: Any, limit: Any, std: Any, seed: Any, kind: Any = "normal") -> Any:
    """With noise within a range of steps, or from a step on."""
    if steps is None:
        return schedule
    start, stop = steps if is_list(steps) else (steps, None)
    if isinstance(schedule, AbstractSchedule):
        schedule = onward(schedule)  # so does the noise, after an end where that of `Noisy` holds
    return Noisy(schedule, limit, std, start, stop, seed, kind)
