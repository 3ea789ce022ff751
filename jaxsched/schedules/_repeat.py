"""``Repeat``: cycles of one schedule, each of which may be longer and lower than the one before."""

from __future__ import annotations

from typing import Any

from jaxsched import _number as num
from jaxsched._arrays import to_host
from jaxsched._checks import violates
from jaxsched._geometric import geometric, growths
from jaxsched._number import Number, Value
from jaxsched._struct import count, number, struct
from jaxsched.schedules._base import AbstractSchedule
from jaxsched.schedules._phase import Phase, shown_length
from jaxsched.schedules._wrappers import AbstractWrapper

Pair = tuple[Number, Number]
_CYCLE_BITS = 13  # at most 8191 growing cycles: growth 1.005 passes 2^60 steps in 7300
LEAST_GROWTH = 1.005  # or its float32, which is a little less


@struct
class Repeat(AbstractWrapper):
    r"""The same schedule again and again, each cycle longer and lower by a factor.

    Cycle i begins at :math:`b_i = d\,(g^i-1)/(g-1)`, runs :math:`g^i` times as slowly and is
    multiplied by :math:`\text{decay}^i`. A step on a restart belongs to the new cycle. The cycle
    comes from exact sums: the rounded logarithm of PyTorch, timm and Keras may restart late.

    Args:
        schedule: one cycle; it must have a duration d > 0.
        growth: g, length of each cycle over the one before: 1, or at least 1.005, or with
            ``cycles`` also below 1. ``None`` (default) is 1.
        decay: factor on the values of each cycle, at least 0. ``None`` (default) is 1.
        cycles: their number, at least 1; ``None`` (default) for ever. The last value holds.

    >>> import jaxsched as js
    >>> saw = js.Repeat(js.Linear(1.0, 0.0, 4), growth=2.0, decay=0.5)
    >>> [float(saw(t)) for t in (0, 2, 4, 8, 12)]
    [1.0, 0.5, 0.5, 0.25, 0.25]
    """

    growth: Any = number(default=None, above=0, optional=True)
    decay: Any = number(default=None, at_least=0, optional=True)
    cycles: Any = count(default=None, at_least=1, optional=True)

    def __check_init__(self) -> None:
        self._require_duration()
        length = self.schedule.duration
        if violates(lambda length: length <= 0, length):
            raise ValueError(
                f"Repeat(schedule=...) must have a duration greater than 0, got {self.schedule!r}."
            )
        if violates(lambda growth: (growth > 1) & (growth < LEAST_GROWTH - 1e-7), self.growth):
            raise ValueError(
                f"Repeat(growth=...) must be 1 or at least {LEAST_GROWTH}, got {self.growth!r}."
            )
        if self.cycles is None and violates(lambda growth: growth < 1, self.growth):
            raise ValueError(
                "Repeat(growth=...) must be at least 1 without cycles=... (cycles that shrink for "
                f"ever have an end, after which nothing is left), got {self.growth!r}."
            )

    def exact_length(self, t: Number) -> Number | None:
        if self.cycles is None:
            return None
        once, cycles = self._once(t), num.as_number(t, self.cycles)
        if self.growth is None:
            return once * cycles
        growth = num.as_number(t, self.growth)
        grows = self._grows(growth)
        _, total = geometric(num.where(grows, growth, 2.0), cycles, _CYCLE_BITS)
        return num.where(grows, total, cycles) * once

    def _grows(self, growth: Number) -> Any:
        """Whether it is another one than 1; below 1, if there is an end."""
        return growth > 1.0 if self.cycles is None else (growth > 1.0) | (growth < 1.0)

    def _once(self, t: Number) -> Number:
        length: Number = self.schedule.exact_length(t)
        return num.where(length > 0.0, length, 1.0)

    def value_at(self, t: Number) -> Value:
        t = num.at_least_zero(t)
        length = self._once(t)
        last = None if self.cycles is None else num.as_number(t, self.cycles) - 1.0
        cycle, local = _equal_cycles(t, length, last)
        if self.growth is not None:
            growth = num.as_number(t, self.growth)
            grows = self._grows(growth)
            growing = _growing_cycles(t, length, num.where(grows, growth, 2.0), last)
            cycle, local = _where_pair(grows, growing, (cycle, local))
        value = self.schedule.value_at(local)
        if self.decay is None:
            return value
        later = cycle > 0.0
        value = num.floating(t, value)
        factor = num.power(num.as_number(t, self.decay), num.where(later, cycle, 1.0))
        return num.where(later, value * num.to_value(factor), value)

    def phases(self) -> list[Phase]:
        return AbstractSchedule.phases(self)

    def natural_length(self) -> float:
        growth = 1.0 if self.growth is None else float(to_host(self.growth))
        cycles = range(3 if growth > 1 else 4)
        return shown_length(self.schedule) * sum(growth**i for i in cycles) - 1  # no restart


def _where_pair(condition: Any, x: Pair, y: Pair) -> Pair:
    return num.where(condition, x[0], y[0]), num.where(condition, x[1], y[1])


def _equal_cycles(t: Number, length: Number, last: Number | None) -> Pair:
    """Number of the cycle at ``t`` and the step in it."""
    cycle, local = num.divmod_exact(t, length)
    if last is None:
        return cycle, local
    return num.minimum(cycle, last), num.where(cycle > last, length, local)


def _growing_cycles(t: Number, length: Number, growth: Number, last: Number | None) -> Pair:
    """The same where each cycle is ``growth`` times as long as the one before."""
    reached = num.nudge(t)
    # The guess may be off by one either way; the sums of lengths are exact, so they decide.
    guess = growths(reached / length, growth - 1.0)
    guess = num.minimum(num.at_least_zero(guess - 1.0), num.full_like(t, float(2**_CYCLE_BITS - 3)))
    cycle, (ratio, before) = guess, geometric(growth, guess, _CYCLE_BITS)
    for _ in range(2):
        after = before * growth + 1.0
        later = reached >= after * length
        cycle = num.where(later, cycle + 1.0, cycle)
        ratio, before = num.where(later, ratio * growth, ratio), num.where(later, after, before)
    if last is not None:
        over = cycle > last
        cycle = num.minimum(cycle, last)
        at_last = geometric(growth, cycle, _CYCLE_BITS)
        ratio, before = _where_pair(over, at_last, (ratio, before))
    return cycle, num.at_least_zero(t - before * length) / ratio
