"""The smallest and the largest of schedules, step by step; of integers an integer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, overload

from jaxsched import _number as num
from jaxsched._number import Number, Value
from jaxsched._struct import struct
from jaxsched.schedules._base import AbstractCombination, AbstractSchedule, Operand, parts_of


class AbstractExtreme(AbstractCombination):
    def _values(self, t: Number) -> list[Value]:
        return [part.value_at(t) for part in self.parts]


@struct
class Minimum(AbstractExtreme):
    """The smallest of schedules, step by step; ``js.minimum(a, b)``."""

    @staticmethod
    def _combine(x: Value, y: Value) -> Value:
        return num.minimum(*num.alike(x, y))


@struct
class Maximum(AbstractExtreme):
    """The largest of schedules, step by step; ``js.maximum(a, b)``."""

    @staticmethod
    def _combine(x: Value, y: Value) -> Value:
        return num.maximum(*num.alike(x, y))


@overload
def minimum(*schedules: Operand) -> AbstractSchedule: ...
@overload  # with a controller: its class is in a later module
def minimum(*schedules: Any) -> Any: ...
def minimum(*schedules: Any) -> Any:
    """The pointwise minimum of schedules (one may be a controller) and numbers.

    >>> import jaxsched as js
    >>> float(js.minimum(js.Linear(0.0, 1.0, 10), 0.25)(9))
    0.25
    """
    return _extreme(minimum, Minimum, schedules)


@overload
def maximum(*schedules: Operand) -> AbstractSchedule: ...
@overload
def maximum(*schedules: Any) -> Any: ...
def maximum(*schedules: Any) -> Any:
    """The pointwise maximum of schedules (one may be a controller) and numbers.

    >>> import jaxsched as js
    >>> float(js.maximum(js.Linear(1.0, 0.0, 10), 0.25)(9))
    0.25
    """
    return _extreme(maximum, Maximum, schedules)


def _extreme(
    function: Callable[..., Any], node: type[AbstractExtreme], schedules: tuple[Any, ...]
) -> Any:
    """A ``Minimum`` or ``Maximum``; around a controller, if one is among them.

    A controller has no value at a step alone, so it cannot be a part: the rule is applied to its
    rate. The method ``_wrap`` identifies a controller, since its class is in a later module. A
    controller refuses a second one.
    """
    controllers = [one for one in schedules if hasattr(one, "_wrap")]
    if not controllers:
        return node(parts_of(node, *schedules))
    first, *others = controllers
    rule = lambda rate: function(*[rate if one is first else one for one in schedules])
    return first._wrap(rule, *others)
