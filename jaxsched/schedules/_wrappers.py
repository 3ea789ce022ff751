"""Schedules around a schedule: the same values at other times, or others at the same times."""

from __future__ import annotations

import abc
import operator
from typing import Any

from jaxsched import _number as num
from jaxsched._arrays import to_host
from jaxsched._checks import violates
from jaxsched._geometric import geometric, growths
from jaxsched._number import Number, Value
from jaxsched._struct import count, length, number, struct
from jaxsched._words import WRAP, uncalled
from jaxsched.schedules._base import AbstractSchedule
from jaxsched.schedules._lengths import exact_duration
from jaxsched.schedules._phase import (
    Phase,
    cut,
    known,
    known_duration,
    later,
    phases_of,
    shown_length,
)

Pair = tuple[Number, Number]
_CYCLE_BITS = 13  # at most 8191 growing cycles: growth 1.005 passes 2^60 steps in 7300
LEAST_GROWTH = 1.005  # or its float32, which is a little less


@struct
class AbstractWrapper(AbstractSchedule):
    """A schedule around ``schedule``, as long as it; a subclass gives ``value_at``."""

    schedule: AbstractSchedule

    def __check_init__(self) -> None:
        name = type(self).__name__
        if not isinstance(self.schedule, AbstractSchedule):
            raise TypeError(
                f"{name}(schedule=...) must be a schedule, got {self.schedule!r} "
                f"({type(self.schedule).__name__}){uncalled(self.schedule) or WRAP}."
            )

    @property
    def duration(self) -> Any:
        return exact_duration(self)

    def exact_length(self, t: Number) -> Number | None:
        return self.schedule.exact_length(t)

    def phases(self) -> list[Phase]:
        return phases_of(self.schedule)

    def natural_length(self) -> float:
        return shown_length(self.schedule)

    def _require_duration(self) -> None:
        if self.schedule.duration is None:
            raise ValueError(
                f"{type(self).__name__}(schedule=...) must have a duration, got the open-ended "
                f"{self.schedule!r}. Give it a length, e.g. `Window(schedule, 0, steps)`."
            )


class AbstractRetimed(AbstractWrapper):
    """The values of a schedule at other times.

    A subclass implements ``inner_step`` and, if its length differs, ``exact_length``.
    """

    @abc.abstractmethod
    def inner_step(self, t: Number) -> Number:
        """The step of the inner schedule at ``t``."""

    def value_at(self, t: Number) -> Value:
        return self.schedule.value_at(self.inner_step(t))


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


@struct
class Stretch(AbstractRetimed):
    r"""The same schedule, slower: :math:`s(t/\text{factor})`.

    Args:
        schedule: any schedule.
        factor: positive; 2 doubles the length, 0.5 halves it.

    >>> import jaxsched as js
    >>> float(js.Stretch(js.Linear(0.0, 1.0, 10), 2.0)(10))
    0.5
    """

    factor: Any = number(above=0)

    def exact_length(self, t: Number) -> Number | None:
        inner = self.schedule.exact_length(t)
        return None if inner is None else inner * num.as_number(t, self.factor)

    def inner_step(self, t: Number) -> Number:
        return t / num.as_number(t, self.factor)

    def phases(self) -> list[Phase]:
        factor, inner = known(self.factor), phases_of(self.schedule)
        return [Phase(n, a * factor, None if b is None else b * factor) for n, a, b in inner]

    def natural_length(self) -> float:
        return shown_length(self.schedule) * float(to_host(self.factor))


@struct
class Shift(AbstractRetimed):
    r"""The same schedule, later: :math:`s(t - \text{steps})`, with s(0) held before.

    Args:
        schedule: any schedule.
        steps: delay in optimizer updates; negative to start in the middle.

    >>> import jaxsched as js
    >>> float(js.Shift(js.Linear(0.0, 1.0, 10), 5)(10))
    0.5
    """

    steps: Any = length()

    def exact_length(self, t: Number) -> Number | None:
        inner = self.schedule.exact_length(t)
        return None if inner is None else num.at_least_zero(inner + num.as_number(t, self.steps))

    def inner_step(self, t: Number) -> Number:
        return num.at_least_zero(num.at_least_zero(t) - num.as_number(t, self.steps))

    def phases(self) -> list[Phase]:
        return cut(later(phases_of(self.schedule), known(self.steps)), None)

    def natural_length(self) -> float:
        return max(shown_length(self.schedule) + float(to_host(self.steps)), 1.0)


@struct
class Window(AbstractRetimed):
    """The part of a schedule from ``start`` to ``stop``, as a piece of that length.

    Args:
        schedule: any schedule, open-ended ones too.
        start: first step taken, at least 0.
        stop: step at which the piece ends, at least ``start``; its value holds afterwards.

    >>> import jaxsched as js
    >>> piece = js.Window(js.InverseSqrt(1.0, 100), 0, 300)
    >>> piece.duration, float(piece(1000))
    (300, 0.5)
    """

    start: Any = length(at_least=0)
    stop: Any = length(at_least=0)

    def __check_init__(self) -> None:
        if violates(operator.gt, self.start, self.stop):
            raise ValueError(
                f"Window(stop=...) must be at least start={self.start!r}, got {self.stop!r}."
            )

    def exact_length(self, t: Number) -> Number:
        return num.at_least_zero(num.as_number(t, self.stop) - num.as_number(t, self.start))

    def inner_step(self, t: Number) -> Number:
        return num.minimum(
            num.at_least_zero(t) + num.as_number(t, self.start), num.as_number(t, self.stop)
        )

    def phases(self) -> list[Phase]:
        return cut(later(phases_of(self.schedule), -known(self.start)), known_duration(self))


@struct
class Clip(AbstractWrapper):
    """A schedule kept between two bounds.

    Args:
        schedule: any schedule.
        low: least value, or ``None``.
        high: largest value, or ``None``; at least ``low``.

    >>> import jaxsched as js
    >>> float(js.Clip(js.Linear(1.0, 0.0, 10), low=0.25)(10))
    0.25
    """

    low: Any = number(default=None, optional=True)
    high: Any = number(default=None, optional=True)

    def __new__(cls, schedule: Any = None, *bounds: Any, **named: Any) -> Any:
        if hasattr(schedule, "_wrap"):  # a controller: what is made is one, too
            return schedule._wrap(lambda rate: cls(rate, *bounds, **named))
        return super().__new__(cls)

    def __check_init__(self) -> None:
        if self.low is None and self.high is None:
            raise ValueError("Clip(low=..., high=...) must be given at least one bound, got none.")
        if violates(operator.gt, self.low, self.high):
            raise ValueError(
                f"Clip(high=...) must be at least low={self.low!r}, got {self.high!r}."
            )

    def value_at(self, t: Number) -> Value:
        value = num.floating(t, self.schedule.value_at(t))
        if self.high is not None:
            value = num.minimum(value, num.as_value(t, self.high))
        if self.low is not None:
            value = num.maximum(value, num.as_value(t, self.low))
        return value


@struct
class Quantize(AbstractRetimed):
    r"""A schedule that moves only every so many steps: a staircase.

    .. math:: s(\text{every}\cdot\lfloor t/\text{every} \rfloor)

    Args:
        schedule: any schedule.
        every: length of a stair in optimizer updates, greater than 0.

    >>> import jaxsched as js
    >>> stairs = js.Quantize(js.Linear(1.0, 0.0, 10), 5)
    >>> [float(stairs(t)) for t in (0, 4, 5, 10)]
    [1.0, 1.0, 0.5, 0.0]
    """

    every: Any = length(above=0)

    def exact_length(self, t: Number) -> Number | None:
        inner = self.schedule.exact_length(t)
        if inner is None:
            return None
        every = self._stair(t)
        count, rest = num.divmod_exact(inner, every)
        return num.where(rest > 0.0, count + 1.0, count) * every

    def _stair(self, t: Number) -> Number:
        every = num.as_number(t, self.every)
        return num.where(every > 0.0, every, 1.0)

    def inner_step(self, t: Number) -> Number:
        every = self._stair(t)
        return num.divmod_exact(num.at_least_zero(t), every)[0] * every

    def phases(self) -> list[Phase]:
        every = known(self.every)
        up: Any = lambda step: None if step is None else -(-step // every) * every
        return cut([Phase(n, up(a), up(b)) for n, a, b in phases_of(self.schedule)], None)

    def natural_length(self) -> float:
        return max(shown_length(self.schedule), 5 * float(to_host(self.every)))


@struct
class Reverse(AbstractRetimed):
    r"""A schedule run backwards: :math:`s(d - t)`.

    Args:
        schedule: a schedule with a duration d.

    >>> import jaxsched as js
    >>> float(js.Reverse(js.Linear(0.0, 1.0, 4))(1))
    0.75
    """

    def __check_init__(self) -> None:
        self._require_duration()

    def inner_step(self, t: Number) -> Number:
        return num.at_least_zero(self.schedule.exact_length(t) - num.at_least_zero(t))

    def phases(self) -> list[Phase]:
        duration = known(self.duration)
        inner = cut(phases_of(self.schedule), duration)
        return [Phase(n, duration - (b or duration), duration - a) for n, a, b in reversed(inner)]
