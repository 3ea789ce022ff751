"""The times of Composer's schedulers: strings such as "10ba", in one unit for a schedule."""

from __future__ import annotations

from typing import Annotated, Any

from jaxsched._arrays import is_concrete, is_list
from jaxsched._checks import check_beside, checked_number, violates
from jaxsched._text import describe
from jaxsched._types import Leaf
from jaxsched.compat._pieces import floor, larger, lasting, where
from jaxsched.recipes._arguments import multiply
from jaxsched.schedules import _shapes as shapes
from jaxsched.schedules._base import AbstractSchedule
from jaxsched.schedules._lengths import subtract_steps
from jaxsched.schedules._wrappers import Window

_UNITS = ("ba", "ep", "sp", "tok", "dur", "iter")
Pair = tuple[Leaf, str]  # a value and its unit


def _time(where: str, x: Leaf) -> Pair:
    """A time of a string, or of a number of batches."""
    if not isinstance(x, str):
        return checked_number(where, x, at_least=0, whole=True), "ba"
    unit = next((unit for unit in _UNITS if x.lower().endswith(unit)), "")
    try:
        value = float(x.lower().removesuffix(unit))
    except ValueError:
        value = -1.0
    if not unit or not value >= 0:
        raise ValueError(
            f"{where} must be a time such as '10ba' (units {', '.join(_UNITS)}) or a number of "
            f"batches, got {x!r}."
        )
    if unit != "dur":
        if value % 1:
            raise ValueError(f"{where} must be a whole number of {unit!r}, got {x!r}.")
        value = int(value)
    return checked_number(where, value), unit


def _times(where: str, xs: Any) -> list[Pair]:
    if not is_list(xs):
        raise TypeError(f"{where} must be a list of times, got {describe(xs)}.")
    return [_time(where, x) for x in xs]


Time = Annotated[Any, _time]
Times = Annotated[Any, _times]


class Clock:
    """Converts the times of one schedule to whole numbers of one unit."""

    # Composer compares each time with the trainer's timestamp in the time's own unit, so milestones
    # in samples and in batches may stand side by side. A schedule here has one unit, the unit of
    # its first time, and all its times are in this unit. Epochs count as batches.

    def __init__(self, name: str, max_duration: Pair | None, dataloader_len: Leaf, ssr: Leaf):
        self.name, self.duration, self.epoch, self.ssr = name, max_duration, dataloader_len, ssr
        self.unit: str | None = None
        if max_duration is not None and max_duration[1] == "dur":
            raise ValueError(f"composer.{name}(max_duration=...) must not be a share of itself.")

    def length(self, word: str, time: Pair, scaled: bool = True, above: bool = False) -> Leaf:
        """The whole steps of a time: a share of the run, or epochs in batches; times ``ssr``."""
        value, unit = time
        if unit == "dur":
            if self.duration is None:
                raise ValueError(
                    f"composer.{self.name}(max_duration=...) must be given: {word} is a share of "
                    "it, 'dur'."
                )
            # The order of the factors is theirs, `value * dataloader_len * max_duration`: the
            # product is cut to a whole number, and another order may round to the one below.
            total, total_unit = self.duration
            share = self._batches("max_duration", value) if total_unit == "ep" else value
            value, unit = multiply(share, total), "ba" if total_unit == "ep" else total_unit
            scaled = False  # as there, where the trainer has scaled `max_duration` already
        elif unit == "ep":
            value, unit = self._batches(word, value), "ba"
        if self.unit not in (None, unit):
            raise ValueError(
                f"composer.{self.name}({word}=...) must have the unit of the other times, "
                f"{self.unit!r}, got {unit!r}."
            )
        self.unit = unit
        if scaled and not (is_concrete(self.ssr) and self.ssr == 1):
            value = multiply(value, self.ssr)
        steps = floor(value)
        if above and violates(lambda steps: steps <= 0, steps):
            raise ValueError(
                f"composer.{self.name}({word}=...) must be at least 1 {unit!r}, got "
                f"{describe(steps)}."
            )
        return steps

    def _batches(self, word: str, epochs: Leaf) -> Leaf:
        if self.epoch is None:
            raise ValueError(
                f"composer.{self.name}(dataloader_len=...) must be given, the batches of an epoch: "
                f"{word} is in epochs."
            )
        return multiply(epochs, self.epoch)

    def warmed(self, top: Leaf, warmup: Pair, scale_warmup: bool, fix: bool) -> AbstractSchedule:
        """A line from 0 to ``top``, until the warmup is over.

        Where the rise is scaled by ``ssr``, the step at which it hands over is not, unless ``fix``.
        """
        rise = shapes.Linear(0.0, top, self.length("t_warmup", warmup, scaled=scale_warmup))
        if fix or not scale_warmup:
            return rise
        return Window(rise, 0, self.length("t_warmup", warmup, scaled=False))

    def fall(
        self, warmup: AbstractSchedule, t_max: Pair, shape: Any, top: Leaf, end: Leaf
    ) -> AbstractSchedule:
        """The warmup and a shape until ``t_max``; after a longer warmup it stays at the top."""
        # `... if t_max > t_warmup else 0.0`: where the warmup is not over before `t_max`, their
        # fraction is 0 for ever, the top, and not 1, the end.
        rest = self.rest(warmup, t_max)
        end = where(lambda rest: rest <= 0, (rest,), top, end)
        return self.within(warmup >> shape(top, end, larger(rest, 0)))

    def rest(self, warmup: AbstractSchedule, t_max: Pair) -> Leaf:
        """The rest of ``t_max`` after the warmup, negative if the warmup is longer."""
        # Only the schedulers with a warmup refuse a `t_max` shorter than the run, and they compare
        # the two only if both are in one unit, or are batches and epochs.
        end, whole = self.length("t_max", t_max), self._whole()
        given, told = f"composer.{self.name}(t_max=...)", f" {self.unit!r}"
        check_beside(given, end, "at least", "max_duration", whole, told)
        return subtract_steps(end, warmup.duration)

    def within(self, schedule: AbstractSchedule) -> AbstractSchedule:
        """The schedule in the trainer's run, if the trainer's part was given."""
        whole = self._whole()
        return schedule if whole is None else lasting(schedule, whole)

    def _whole(self) -> Leaf:
        """The run in the unit of the other times, as far as both are known."""
        if self.duration is None:
            return None
        total = self.duration[1]
        if total == self.unit or (total == "ep" and self.unit == "ba" and self.epoch is not None):
            return self.length("max_duration", self.duration, scaled=False)
        return None
