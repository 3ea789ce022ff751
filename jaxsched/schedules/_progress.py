"""The base of pieces from ``start`` to ``end``: their progress, and their weights.

A shape is a *weight* that falls from 1 to 0 over ``steps`` updates:

    value = start * weight + end * (1 - weight)

It computes both weights without cancellation: near the end from the *remaining* steps, near the
start from the *passed* steps (1 - weight would lose digits there).
"""

from __future__ import annotations

import abc
from collections.abc import Callable
from typing import Any, NamedTuple

from jaxsched import _number as num
from jaxsched._number import Number, Value
from jaxsched._struct import length, number, struct
from jaxsched._text import describe
from jaxsched._types import Leaf
from jaxsched.schedules._base import AbstractTimed


@struct
class AbstractShape(AbstractTimed):
    """A piece from ``start`` to ``end`` over ``steps``; a subclass gives the two weights.

    Args:
        start: value at step 0.
        end: value from step ``steps`` on.
        steps: length in optimizer updates, at least 0.
    """

    start: Leaf = number()
    end: Leaf = number()
    steps: Leaf = length(at_least=0)

    @abc.abstractmethod
    def weights(self, at: Progress) -> tuple[Value, Value]:
        """Weights of ``start`` and ``end``; they add up to 1."""

    def value_at(self, t: Number) -> Value:
        both = self.weights(progress(t, self.steps))
        if not isinstance(both, (tuple, list)) or len(both) != 2:
            raise TypeError(
                f"{type(self).__name__}.weights(at) must return two values, the weights of `start` "
                f"and `end`, got {describe(both)}: such as `return at.left, at.done`."
            )
        w_start, w_end = both
        return w_start * num.as_value(t, self.start) + w_end * num.as_value(t, self.end)


class Progress(NamedTuple):
    """How far a piece has come: ``passed + rest == length``, in steps, exactly."""

    passed: Number
    rest: Number
    length: Number

    @property
    def done(self) -> Value:
        """The passed fraction, rounded."""
        return num.quotient(self.passed, self.length)

    @property
    def left(self) -> Value:
        """The remaining fraction, rounded."""
        return num.quotient(self.rest, self.length)

    def exact(self) -> tuple[Number, Number]:
        """Both fractions as numbers."""
        return self.passed / self.length, self.rest / self.length

    def nearer(self) -> tuple[num.Mask, Number]:
        """Whether the start is the nearer end, and the exact fraction to it, at most 1/2."""
        early = num.to_value(self.passed) <= num.to_value(self.rest)
        return early, num.where(early, self.passed, self.rest) / self.length


def progress(t: Number, steps: Leaf) -> Progress:
    """The progress at ``t`` of a piece of ``steps``; a piece of length 0 is over at once."""
    # Selections, no branches, since `steps` may be traced. If it is 0, the weights divide by 1: a
    # NaN would reach the gradient even if it is not selected. `passed` and `rest` are both held,
    # each at its own end. If only one were held, the other would be a difference: it would lose
    # digits, or have a derivative beyond the end.
    length = num.as_number(t, steps)
    empty = length <= 0.0
    length = num.where(empty, 1.0, length)
    rest = length - t
    zero, whole = num.full_like(t, 0.0), num.full_like(t, length)
    before, over = t <= 0.0, rest <= 0.0
    passed = num.where(over, whole, num.where(before, zero, t))
    rest = num.where(over, zero, num.where(before, whole, rest))
    return Progress(num.where(empty, whole, passed), num.where(empty, zero, rest), length)


def mirrored(at: Progress, smaller: Callable[[Number], Any]) -> tuple[Any, Any]:
    """The weights of a symmetric curve, from the nearer end.

    Near one end, the weight of the other end is the smaller one, at most 1/2. The function
    ``smaller`` computes it from the fraction to the nearer end: one evaluation, with all digits.
    """
    early, near = at.nearer()
    small = smaller(near)
    large = 1.0 - small
    return num.where(early, large, small), num.where(early, small, large)


def raised(w_start: Number, w_end: Number, exponent: Leaf) -> tuple[Number, Number]:
    """``w_start ** exponent`` and its complement, given ``w_end = 1 - w_start``.

    The complement is ``-expm1(exponent * log(w_start))``: for a power of 0.9999999, 1 minus the
    power has no digits left. For the same reason, near the start, it takes the logarithm of
    ``1 - w_end``.
    """
    exponent = num.as_number(w_start, exponent)
    some = w_start > 0.0
    # The logarithm from the smaller weight, which is more exact.
    early = w_end < 0.25
    log = num.log1p_or_log(
        early, -num.where(early, w_end, 0.0), num.where(some & ~early, w_start, 1.0)
    )
    power, less = num.exp_and_expm1(exponent * log)
    return num.where(some, power, 0.0), num.where(some, -less, 1.0)
