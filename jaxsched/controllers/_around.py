"""``Around``: a schedule around a controller, such as a floor, a factor or a warmup."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import jax
import numpy as np

from jaxsched import _number as num
from jaxsched._bounds import checked_kind
from jaxsched._number import Number, Value
from jaxsched._struct import length, number, static, struct
from jaxsched._types import Leaf, PyTree
from jaxsched.controllers._base import AbstractController, untold
from jaxsched.schedules._base import AbstractSchedule, AbstractTimed
from jaxsched.schedules._wrappers import Shift


@struct
class Rate(AbstractTimed):
    """Stands for the rate of the controller in the ``rule`` of an ``Around``.

    Args:
        value: filled in at each update.
        steps: length of the controller's base, in optimizer updates; ``None``: no end.
        endless: whether the base has no end and is not a constant. ``Around`` sets it, and
            ``steps``.

    >>> import jaxsched as js
    >>> js.controllers.Around(js.Plateau(0.1), 0.5 * js.controllers.Rate()) == 0.5 * js.Plateau(0.1)
    True
    """

    value: Leaf = number(default=1.0)
    steps: Leaf = length(default=None, at_least=0, optional=True)
    endless: bool = static(default=False)

    @classmethod
    def of(cls, followed: AbstractSchedule) -> Rate:
        steps = followed.duration
        return cls(steps=steps, endless=steps is None and not followed._is_constant())

    def value_at(self, t: Number) -> Value:
        return num.as_value(t, self.value)

    def _is_constant(self) -> bool:
        return self.steps is None and not self.endless


class AroundState(NamedTuple):
    step: jax.Array  # int32: optimizer updates
    base: PyTree  # the controller's state


@struct
class Around(AbstractController, of_operators=True):
    """A schedule made of the rate of a controller; usually written with operators.

    ``js.maximum(plateau, 1e-5)`` is a floor, ``js.Clip(plateau, low, high)`` two bounds; ``*``,
    ``/``, ``+``, ``-``, ``**`` and ``plateau >> schedule`` work as with schedules. The controller
    in it observes, decides and is saved as it is by itself.

    ``warmup >> controller`` begins its base after the warmup. Reports during the warmup do not
    reach the controller: its best loss must not be one of the warmup.

    Args:
        base: the controller.
        rule: a schedule with a ``js.controllers.Rate()`` in the controller's place; by default
            this ``Rate`` alone. It counts the steps of the run.
        quiet: optimizer updates at the start; their reports do not reach the controller.

    >>> import jaxsched as js
    >>> floored = js.Linear(0.0, 0.5, 2) >> js.maximum(js.Plateau(0.5, patience=0), 0.25)
    >>> state = floored.init()
    >>> for loss in (1.0, 1.0, 1.0, 1.0):
    ...     print(float(floored(state)))
    ...     state = floored.update(state, value=loss)
    0.0
    0.25
    0.5
    0.5
    >>> float(floored(state))
    0.25
    """

    base: Any
    rule: Any = None
    quiet: Leaf = length(default=0, at_least=0)

    State = AroundState
    reads: ClassVar[tuple[str, ...]] = ()

    def __check_init__(self) -> None:
        told = ": operators on schedules make schedules"
        checked_kind("Around(base=...)", self.base, AbstractController, "a controller", told)
        if self.rule is None:
            self.__dict__["rule"] = Rate()
        expected = "a schedule with a js.controllers.Rate() in it"
        checked_kind("Around(rule=...)", self.rule, AbstractSchedule, expected)
        # A user writes a plain `Rate()`; combinations ask for its length, so it gets the base's.
        own = Rate.of(untold(self.base))
        self.__dict__["rule"] = self._with(lambda rate: own if rate == Rate() else rate)

    @classmethod
    def of(cls, controller: AbstractController, rule: Callable[[Any], Any]) -> Around:
        """``rule`` of the rate of ``controller``; one around another is one."""
        rule(untold(controller))  # the error names the base's last value: a Rate hides it
        if isinstance(controller, Around):
            return dataclasses.replace(controller, rule=rule(controller.rule))
        return cls(controller, rule(Rate.of(untold(controller))))

    @classmethod
    def after(cls, warmup: AbstractSchedule, controller: AbstractController) -> Around:
        """``warmup >> controller``."""
        around = cls.of(controller, lambda rate: warmup >> rate)
        steps: Any = warmup.duration
        return cls(_later(around.base, steps), around.rule, steps + around.quiet)

    def init(self) -> AroundState:
        return self.first_state()

    def react(self, state: AroundState, **report: object) -> AroundState:
        return state

    def value_at(self, state: PyTree) -> jax.Array:
        return self._filled(self.base_value(state))(state.step)

    def host_values(self, state: PyTree, steps: np.ndarray, values: np.ndarray) -> np.ndarray:
        rule: Any = self._filled(self.base_host_values(state, steps, values))
        return np.asarray(rule.value_at(np.asarray(steps, np.float64)), np.float64)

    def times(self, factor: float) -> Any:
        return dataclasses.replace(self, rule=factor * self.rule)

    def untold(self, base: AbstractSchedule) -> AbstractSchedule:
        return self._with(lambda rate: base)

    def _filled(self, value: Leaf) -> AbstractSchedule:
        def fill(rate: Rate) -> Rate:
            filled = object.__new__(Rate)  # not checked: traced, or an array of one for each step
            filled.__dict__.update(rate.__dict__, value=value)
            return filled

        return self._with(fill)

    def _with(self, change: Callable[[Rate], AbstractSchedule]) -> Any:
        is_rate = lambda x: isinstance(x, Rate)
        fill = lambda x: change(x) if is_rate(x) else x
        return jax.tree.map(fill, self.rule, is_leaf=is_rate)


def _later(followed: Any, steps: Leaf) -> Any:
    """The same with the schedule at the bottom ``steps`` later."""
    if isinstance(followed, AbstractController):
        changed: Any = followed
        return dataclasses.replace(changed, base=_later(changed.base, steps))
    return followed if followed._is_constant() else Shift(followed, steps)
