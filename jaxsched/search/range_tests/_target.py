"""The schedule of the real run, for which a range test suggests a peak.

A rate that decays can start higher than one that stays. So the rule only needs end over peak. The
given schedule is kept as well, to make it again at the suggested peak.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from jaxsched._arrays import is_concrete, to_host
from jaxsched._bounds import check_choice
from jaxsched._populations import members
from jaxsched._text import describe
from jaxsched._words import uncalled
from jaxsched.controllers._base import AbstractController, levels, scaled, untold
from jaxsched.schedules._phase import boundaries_of
from jaxsched.search.trials._kinds import kinds_of, maker_of, structure
from jaxsched.search.trials._trials import Followed

# End over peak of the kinds that may be named in place of a schedule.
KINDS = {
    **dict.fromkeys(("decay", "cosine", "linear", "one_cycle", "wsd"), 0.0),
    "exponential": 0.01,
    "constant": 1.0,
}


@dataclasses.dataclass(frozen=True)
class TargetShape:
    """The schedule of the real run: its start and end over its peak, and how to make it."""

    begin: float  # first value over the largest
    ratio: float  # end value over the largest
    make: Callable[[float], Followed] | None = None  # the schedule of a peak, if one was given
    kind: str = ""  # its recipe or structure
    name: str = "learning_rate"  # the hyperparameter that follows it
    others: dict[str, Any] = dataclasses.field(default_factory=dict)  # constant hyperparameters


def target_of(schedule: Any) -> TargetShape:
    """The shape of a given schedule, controller, recipe or kind; ``None`` is "decay"."""
    where = "range_test(schedule=...)"
    if schedule is None:
        return TargetShape(1.0, KINDS["decay"])
    if isinstance(schedule, str):
        check_choice(where, schedule, KINDS)
        return TargetShape(1.0, KINDS[schedule])
    if isinstance(schedule, Followed):
        begin, peak, end = _begin_peak_end(where, schedule)
        made = maker_of(schedule)
        kind = structure(schedule) if made is None else made[0]
        make = lambda rate: scaled(schedule, rate / peak)
        return TargetShape(begin / peak, end / peak, make, kind)
    if not callable(schedule) or isinstance(schedule, type):
        raise TypeError(
            f"{where} must be a schedule, a recipe that only lacks its peak, or a kind, "
            f"got {describe(schedule)}{uncalled(schedule)}."
        )
    (recipe,) = kinds_of(schedule, {}, "range_test")
    try:
        example = schedule(peak=1.0)
    except TypeError as error:
        raise TypeError(
            f"{where} must be a recipe that only lacks its peak, such as "
            "`functools.partial(js.cosine_decay, steps=2000)`, got "
            f"{recipe.name}: {str(error).rstrip('.')}."
        ) from error
    if not isinstance(example, Followed):
        raise TypeError(
            f"{where} must return a schedule, got {describe(example)} from {describe(schedule)}."
        )
    begin, peak, end = _begin_peak_end(where, example)
    return TargetShape(begin / peak, end / peak, lambda rate: schedule(peak=rate), recipe.name)


def _begin_peak_end(where: str, schedule: Followed) -> tuple[float, float, float]:
    """First value, largest value and end value of a schedule; a controller cuts all it may."""
    if isinstance(schedule, AbstractController):
        # Its cuts depend on metrics. It is taken to cut as far as it may, so it counts as a decay.
        begin, peak, end = _begin_peak_end(where, untold(schedule))
        return begin, peak, end * math.prod(level.lowest() for level in levels(schedule))
    if not all(map(is_concrete, jax.tree.leaves(schedule))):
        raise TypeError(f"{where} must have known numbers, got {schedule!r}.")
    if members(schedule) is not None:
        raise ValueError(f"{where} must be one schedule, got a population of {members(schedule)}.")
    edges = [int(edge) for edge in boundaries_of(schedule)]
    if schedule.duration is not None:
        last = math.ceil(float(to_host(schedule.duration)))
    else:
        # Without an end its value beyond the last phase counts, if it stays there.
        last = 2 * max([1, *edges])
        settled = schedule.host(np.array([last, 2**30, 2**31 - 1]))
        if len(set(settled.tolist())) > 1:
            raise ValueError(
                f"{where} must end somewhere, got the open-ended {schedule!r}. Give the run's "
                "length: `js.Window(schedule, 0, steps)`."
            )
    # The largest value may be anywhere in a user's own schedule. Our schedules have it where a
    # phase begins or ends, so these steps are looked at exactly, and 5000 others besides.
    steps = np.unique([*np.rint(np.linspace(0, last, 5000)), *edges, last]).clip(0, last)
    values = schedule.host(steps)
    peak = float(values.max())
    if not math.isfinite(peak) or peak <= 0 or values.min() < 0:
        raise ValueError(
            f"{where} must be a rate: positive, and nowhere negative, got {schedule!r}."
        )
    return float(values[0]), peak, float(values[-1])
