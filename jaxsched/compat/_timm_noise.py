"""timm's noise, which all of its schedulers have."""

from __future__ import annotations

from typing import Any

from jaxsched._arrays import is_list
from jaxsched.schedules._noise import Noisy


def noisy(schedule: Any, steps: Any, limit: Any, std: Any, seed: Any, kind: Any = "normal") -> Any:
    """With noise within a range of steps, or from a step on."""
    if steps is None:
        return schedule
    start, stop = steps if is_list(steps) else (steps, None)
    return Noisy(schedule, limit, std, start, stop, seed, kind)
