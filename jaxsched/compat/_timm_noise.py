"""timm's noise, which all of its schedulers have."""

from __future__ import annotations

from typing import Any

from jaxsched._arrays import is_list
from jaxsched.recipes._arguments import value_at
from jaxsched.schedules._base import AbstractSchedule, Constant
from jaxsched.schedules._noise import Noisy


def noisy(schedule: Any, steps: Any, limit: Any, std: Any, seed: Any, kind: Any = "normal") -> Any:
    """With noise within a range of steps, or from a step on."""
    if steps is None:
        return schedule
    start, stop = steps if is_list(steps) else (steps, None)
    if isinstance(schedule, AbstractSchedule) and schedule.duration is not None:
        # It goes on after the end, on the last value, where that of `Noisy` holds.
        schedule = schedule >> Constant(value_at(schedule, schedule.duration))
    return Noisy(schedule, limit, std, start, stop, seed, kind)
