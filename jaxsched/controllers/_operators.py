"""The operators of controllers, which are those of schedules: each makes an ``Around``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar


class Operators:
    """``0.5 * controller``, ``warmup >> controller``, ``js.Clip(controller, low=1e-5)``, ..."""

    __array_ufunc__ = None  # so that `numpy_number * controller` reaches our operators
    _around: ClassVar[Any]  # the class ``Around``, which is made of controllers

    def _wrap(self, rule: Callable[[Any], Any], *others: Any) -> Any:
        """An ``Around`` with ``rule`` of the rate; ``others`` are what else is in it."""
        for other in others:
            if isinstance(other, Operators):
                raise TypeError(
                    f"{type(self).__name__} can be combined with schedules and numbers, not with "
                    f"another controller, got {other!r}: let one follow the other, as in "
                    "`js.Plateau(js.Greedy(0.1))`."
                )
        return self._around.of(self, rule)

    def __mul__(self, other: Any) -> Any:
        return self._wrap(lambda rate: rate * other, other)

    def __rmul__(self, other: Any) -> Any:
        return self._wrap(lambda rate: other * rate)

    def __truediv__(self, other: Any) -> Any:
        return self._wrap(lambda rate: rate / other, other)

    def __rtruediv__(self, other: Any) -> Any:
        return self._wrap(lambda rate: other / rate)

    def __pow__(self, exponent: Any) -> Any:
        return self._wrap(lambda rate: rate**exponent, exponent)

    def __add__(self, other: Any) -> Any:
        return self._wrap(lambda rate: rate + other, other)

    def __radd__(self, other: Any) -> Any:
        return self._wrap(lambda rate: other + rate)

    def __sub__(self, other: Any) -> Any:
        return self._wrap(lambda rate: rate - other, other)

    def __rsub__(self, other: Any) -> Any:
        return self._wrap(lambda rate: other - rate)

    def __neg__(self) -> Any:
        return self._wrap(lambda rate: -rate)

    def __rshift__(self, other: Any) -> Any:
        return self._wrap(lambda rate: rate >> other, other)

    def __rrshift__(self, other: Any) -> Any:
        return self._around.after(other, self)
