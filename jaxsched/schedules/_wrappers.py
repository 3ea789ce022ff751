"""Schedules around a schedule: the same values at other times, or others at the same times."""

from __future__ import annotations

import abc
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxsched import _number as num
from jaxsched._arrays import to_host
from jaxsched._bounds import checked_kind
from jaxsched._checks import check_beside
from jaxsched._number import Number, Value
from jaxsched._struct import length, number, struct
from jaxsched._types import Leaf
from jaxsched._words import wrap
from jaxsched.schedules._base import AbstractSchedule
from jaxsched.schedules._lengths import exact_duration
from jaxsched.schedules._phase import (
    ROUNDED,
    Phase,
    cut,
    fitted,
    known,
    known_duration,
    known_step,
    later,
    phases_of,
    retimed,
    shown_length,
    unfinished,
)


@struct
class AbstractWrapper(AbstractSchedule):
    """A schedule around ``schedule``, as long as it; a subclass gives ``value_at``."""

    schedule: AbstractSchedule

    def __check_init__(self) -> None:
        where = f"{type(self).__name__}(schedule=...)"
        checked_kind(where, self.schedule, AbstractSchedule, "a schedule", wrap)

    @property
    def duration(self) -> Leaf:
        return exact_duration(self)

    def exact_length(self, t: Number) -> Number | None:
        # A class of a user's may say its length as `duration` alone: then this is the length. Ours
        # say it here, exactly, and `duration` is made of it.
        if type(self).duration is not AbstractWrapper.duration:
            return AbstractSchedule.exact_length(self, t)
        inner = self.schedule.exact_length(t)
        return None if inner is None else self._outer_step(t, inner)

    def phases(self) -> list[Phase]:
        return fitted(retimed(phases_of(self.schedule), self._when), known_duration(self))

    def natural_length(self) -> float:
        return float(self._when(shown_length(self.schedule)))

    def _when(self, inner: float) -> float:
        return known_step(self, lambda t: self._outer_step(t, np.float64(inner)))

    def _outer_step(self, t: Number, inner: Number) -> Number:
        """The outer step for the schedule's own step ``inner``, in the kind of ``t``.

        For the schedule's end it is the whole length; for its boundaries, the starts of phases.
        """
        return inner

    def _require_duration(self) -> None:
        if got := unfinished(self.schedule):
            raise ValueError(f"{type(self).__name__}(schedule=...) must have a duration, got {got}")


class AbstractPointwise(AbstractWrapper):
    """Other values at the same times; around a controller it makes one, too."""

    def __new__(cls, schedule: Any = None, *args: Any, **named: Any) -> Any:
        # `Clip(plateau, low=0.1)` is not a Clip but a controller that clips the plateau's rate. It
        # has another class, so Python does not call `__init__` on it. The method identifies a
        # controller, since its class is in a later module.
        if hasattr(schedule, "_wrap"):
            return schedule._wrap(lambda rate: cls(rate, *args, **named))
        return super().__new__(cls)

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any: ...  # of a controller


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
class Stretch(AbstractRetimed):
    r"""The same schedule, slower: :math:`s(t/\text{factor})`.

    Args:
        schedule: any schedule.
        factor: positive; 2 doubles the length, 0.5 halves it.

    >>> import jaxsched as js
    >>> float(js.Stretch(js.Linear(0.0, 1.0, 10), 2.0)(10))
    0.5
    """

    factor: Leaf = number(above=0)

    def inner_step(self, t: Number) -> Number:
        return t / num.as_number(t, self.factor)

    def _outer_step(self, t: Number, inner: Number) -> Number:
        return inner * num.as_number(t, self.factor)


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

    steps: Leaf = length()

    def inner_step(self, t: Number) -> Number:
        return num.at_least_zero(num.at_least_zero(t) - num.as_number(t, self.steps))

    def _outer_step(self, t: Number, inner: Number) -> Number:
        return num.at_least_zero(inner + num.as_number(t, self.steps))

    def natural_length(self) -> float:
        return max(super().natural_length(), 1.0)


@struct
class Window(AbstractRetimed):
    """The part of a schedule from ``start`` to ``stop``, as a piece of this length.

    Args:
        schedule: any schedule, open-ended ones too.
        start: first step taken, at least 0.
        stop: end of the piece, at least ``start``; its value holds afterwards.

    >>> import jaxsched as js
    >>> piece = js.Window(js.InverseSqrt(1.0, 100), 0, 300)
    >>> piece.duration, float(piece(1000))
    (300, 0.5)
    """

    start: Leaf = length(at_least=0)
    stop: Leaf = length(at_least=0)

    def __check_init__(self) -> None:
        check_beside("Window(stop=...)", self.stop, "at least", "start", self.start)

    def exact_length(self, t: Number) -> Number:
        return num.at_least_zero(num.as_number(t, self.stop) - num.as_number(t, self.start))

    def inner_step(self, t: Number) -> Number:
        return num.minimum(
            num.at_least_zero(t) + num.as_number(t, self.start), num.as_number(t, self.stop)
        )

    def phases(self) -> list[Phase]:
        return cut(later(phases_of(self.schedule), -known(self.start)), known_duration(self))


@struct
class Clip(AbstractPointwise):
    """A schedule kept between two bounds.

    Args:
        schedule: any schedule.
        low: least value, or ``None``.
        high: largest value, or ``None``; at least ``low``.

    >>> import jaxsched as js
    >>> float(js.Clip(js.Linear(1.0, 0.0, 10), low=0.25)(10))
    0.25
    """

    schedule: Any
    low: Leaf = number(default=None, optional=True)
    high: Leaf = number(default=None, optional=True)

    def __check_init__(self) -> None:
        if self.low is None and self.high is None:
            raise ValueError("Clip(low=..., high=...) must be given at least one bound, got none.")
        check_beside("Clip(high=...)", self.high, "at least", "low", self.low)

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

    every: Leaf = length(above=0)

    def _stair(self, t: Number) -> Number:
        every = num.as_number(t, self.every)
        return num.where(every > 0.0, every, 1.0)

    def inner_step(self, t: Number) -> Number:
        every = self._stair(t)
        return num.divmod_exact(num.at_least_zero(t), every)[0] * every

    def _outer_step(self, t: Number, inner: Number) -> Number:
        every = self._stair(t)
        count, rest = num.divmod_exact(inner, every)
        return num.where(rest > 0.0, count + 1.0, count) * every

    def natural_length(self) -> float:
        return max(shown_length(self.schedule), 5 * float(to_host(self.every)))


@struct
class Epochwise(AbstractRetimed):
    r"""A schedule in epochs, which moves once an epoch.

    .. math:: s(e), \quad e = \max\{n : \lfloor n \cdot \text{per\_epoch} \rfloor \le t\}

    PyTorch's ``scheduler.step()`` after each epoch does the same. An epoch need not be a whole
    number of updates: the fraction of an update is carried into the next epoch, as in ``js.Units``
    (``by_epochs`` makes an ``Epochwise``). For a schedule with lengths in updates there is
    ``js.Quantize``.

    Args:
        schedule: any schedule of the epoch.
        per_epoch: optimizer updates in an epoch, greater than 0.

    >>> import jaxsched as js
    >>> lr = js.Epochwise(js.Linear(1.0, 0.0, 4), 100)
    >>> [float(lr(t)) for t in (0, 99, 100, 399, 400)]
    [1.0, 1.0, 0.75, 0.25, 0.0]
    """

    per_epoch: Leaf = length(above=0)

    def inner_step(self, t: Number) -> Number:
        # Epochs of 390.75 steps begin at 0, 390, 781, 1172 (rounded down). After step 389 there are
        # 390, no full epoch: it is in the first one. After step 390 there are 391, an epoch and a
        # rest: it is in the second. Without a rest an epoch was just filled, and the step is its
        # last. A rest of rounding alone is none: 3 * 333.3333 is 1000.
        every = num.as_number(t, self.per_epoch)
        after = num.floor(num.nudge(num.at_least_zero(t))) + 1.0
        epochs, rest = num.divmod_exact(after, num.where(every > 0.0, every, 1.0))
        return num.where(rest > after * ROUNDED, epochs, epochs - 1.0)

    def _outer_step(self, t: Number, inner: Number) -> Number:
        steps = -num.floor(-inner) * num.as_number(t, self.per_epoch)
        return num.floor(steps + steps * ROUNDED)

    def natural_length(self) -> float:
        return shown_length(self.schedule) * float(to_host(self.per_epoch))


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
        whole: Any = self.schedule.exact_length(t)
        return num.at_least_zero(whole - num.at_least_zero(t))

    def phases(self) -> list[Phase]:
        duration = known(self.duration)
        inner = cut(phases_of(self.schedule), duration)
        return [Phase(n, duration - (b or duration), duration - a) for n, a, b in reversed(inner)]
