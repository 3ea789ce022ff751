"""Pieces of a given length that go from ``start`` to ``end``, from simple to complex.

Each one is a *weight* that falls from 1 to 0 over ``steps`` updates:

    value = start * weight + end * (1 - weight)

and computes both weights in the form that keeps every digit: from the steps that are *left* near
the end, from those *done* near the start (1 - weight would cancel there).
"""

from __future__ import annotations

import abc
from typing import Any

from jaxsched import _number as num
from jaxsched._number import Number
from jaxsched._struct import number, struct
from jaxsched.schedules._base import AbstractSchedule


class AbstractShape(AbstractSchedule):
    """A piece from ``start`` to ``end`` over ``steps``; a subclass gives the two weights."""

    start: Any
    end: Any
    steps: Any

    @property
    def duration(self) -> Any:
        return self.steps

    @abc.abstractmethod
    def _weights(self, done: Number, left: Number) -> tuple[Number, Number]:
        """Weights of ``start`` and ``end`` at the fractions ``done`` and ``left = 1 - done``."""

    def _value(self, t: Number) -> Number:
        done, left = fractions(t, self.steps)
        w_start, w_end = self._weights(done, left)
        return w_start * num.like(t, self.start) + w_end * num.like(t, self.end)


def fractions(t: Number, steps: Any) -> tuple[Number, Number]:
    """The shares of ``steps`` that are done and left at ``t``, each to its last digit.

    A piece of length 0 is over at once.
    """
    steps = num.like(t, steps)
    zero, one = num.like(t, 0.0), num.like(t, 1.0)
    empty = steps <= 0.0
    length = num.where(empty, one, steps)
    passed = num.where(empty, one, num.clip(t, zero, length))
    return passed / length, (length - passed) / length


@struct
class Linear(AbstractShape):
    r"""A straight line.

    .. math:: s(t) = \text{start}\,(1-p) + \text{end}\,p, \quad p = \min(t/\text{steps}, 1)

    Args:
        start: value at step 0.
        end: value from step ``steps`` on.
        steps: length in optimizer updates, at least 0.

    >>> import jaxsched as js
    >>> float(js.Linear(0.0, 1.0, 4)(1))
    0.25
    """

    start: Any = number()
    end: Any = number()
    steps: Any = number(at_least=0)

    def _weights(self, done: Number, left: Number) -> tuple[Number, Number]:
        return left, done


@struct
class Cosine(AbstractShape):
    r"""Half a cosine wave: flat at both ends.

    .. math:: s(t) = \text{end} + (\text{start}-\text{end})
              \left[\tfrac12 (1+\cos \pi p)\right]^{\text{exponent}}

    Loshchilov & Hutter, "SGDR" (arXiv:1608.03983). Evaluated as the squared sine of what is left,
    which keeps its digits to the last step.

    Args:
        start: value at step 0.
        end: value from step ``steps`` on.
        steps: length in optimizer updates, at least 0.
        exponent: positive; above 1 the decay comes earlier.

    >>> import jaxsched as js
    >>> float(js.Cosine(1.0, 0.0, 100)(50))
    0.5
    """

    start: Any = number()
    end: Any = number()
    steps: Any = number(at_least=0)
    exponent: Any = number(1.0, above=0)

    def _weights(self, done: Number, left: Number) -> tuple[Number, Number]:
        # One evaluation on the shorter side, where the squared sine is at most 1/2.
        early = done <= left
        small = num.sin_squared(num.where(early, done, left))
        large = 1.0 - small
        w_start, w_end = num.where(early, large, small), num.where(early, small, large)
        if isinstance(self.exponent, (int, float)) and self.exponent == 1:
            return w_start, w_end
        return raised(w_start, w_end, self.exponent)


def raised(w_start: Number, w_end: Number, exponent: Any) -> tuple[Number, Number]:
    """``w_start ** exponent`` and its complement, given ``w_end = 1 - w_start``."""
    exponent = num.like(w_start, exponent)
    zero, one = num.like(w_start, 0.0), num.like(w_start, 1.0)
    some = w_start > zero
    # The logarithm from whichever weight is the smaller, and with it the more exact.
    early = w_end < 0.25
    log = num.where(
        early,
        num.log1p(-num.where(early, w_end, zero)),
        num.log(num.where(early | ~some, one, w_start)),
    )
    power = num.where(some, num.exp(exponent * log), zero)
    return power, num.where(some, -num.expm1(exponent * log), one)


@struct
class Polynomial(AbstractShape):
    r"""A power of the fraction that is left.

    .. math:: s(t) = \text{end} + (\text{start}-\text{end})\,(1-p)^{\text{power}}

    Args:
        start: value at step 0.
        end: value from step ``steps`` on.
        steps: length in optimizer updates, at least 0.
        power: positive; 1 is ``Linear``, 0.5 the square-root shape.

    >>> import jaxsched as js
    >>> float(js.Polynomial(1.0, 0.0, 4, power=2.0)(2))
    0.25
    """

    start: Any = number()
    end: Any = number()
    steps: Any = number(at_least=0)
    power: Any = number(2.0, above=0)

    def _weights(self, done: Number, left: Number) -> tuple[Number, Number]:
        return raised(left, done, self.power)


@struct
class Geometric(AbstractSchedule):
    r"""A constant ratio per step from ``start`` to ``end``; a straight line on a log axis.

    .. math:: s(t) = \text{start}\,(\text{end}/\text{start})^{p}

    Args:
        start: value at step 0, positive.
        end: value from step ``steps`` on, positive.
        steps: length in optimizer updates, at least 0.

    >>> import jaxsched as js
    >>> round(float(js.Geometric(1.0, 0.01, 10)(5)), 6)
    0.1
    """

    start: Any = number(above=0)
    end: Any = number(above=0)
    steps: Any = number(at_least=0)

    @property
    def duration(self) -> Any:
        return self.steps

    def _value(self, t: Number) -> Number:
        done, left = fractions(t, self.steps)
        start, end = num.like(t, self.start), num.like(t, self.end)
        # From the nearer end, so that both ends are met exactly.
        ratio = num.log(end / start)
        early = done <= left
        power = num.where(early, done * ratio, -(left * ratio))
        return num.where(early, start, end) * num.exp(power)


@struct
class Sqrt(AbstractShape):
    r"""The "1-sqrt" cooldown: steep first, then gentle.

    .. math:: s(t) = \text{end} + (\text{start}-\text{end})\,(1-\sqrt p)

    Hägele et al., "Scaling Laws and Compute-Optimal Training Beyond Fixed Training Durations"
    (arXiv:2405.18392). Its slope is infinite at step 0, where the derivative is given as that of
    the straight part, which is finite.

    Args:
        start: value at step 0.
        end: value from step ``steps`` on.
        steps: length in optimizer updates, at least 0.

    >>> import jaxsched as js
    >>> float(js.Sqrt(1.0, 0.0, 100)(25))
    0.5
    """

    start: Any = number()
    end: Any = number()
    steps: Any = number(at_least=0)

    def _weights(self, done: Number, left: Number) -> tuple[Number, Number]:
        root = num.sqrt(done)
        return left / (1.0 + root), root


@struct
class Tanh(AbstractSchedule):
    r"""Hyperbolic-tangent decay: stays high, falls, stays low.

    .. math:: s(t) = \text{end} + (\text{start}-\text{end})\,
              \tfrac12\left(1-\tanh(\text{lower}\,(1-p) + \text{upper}\,p)\right)

    Hsueh et al., "Stochastic Gradient Descent with Hyperbolic-Tangent Decay" (arXiv:1806.01593).
    Both ends are approached, not met, as in the paper: from ``steps`` on the value at p = 1 holds.

    Args:
        start: value approached before the fall.
        end: value approached after it.
        steps: length in optimizer updates, at least 0.
        lower: argument of tanh at step 0.
        upper: argument of tanh at step ``steps``.

    >>> import jaxsched as js
    >>> round(float(js.Tanh(1.0, 0.0, 100)(70)), 6)
    0.5
    """

    start: Any = number()
    end: Any = number()
    steps: Any = number(at_least=0)
    lower: Any = number(-7.0)
    upper: Any = number(3.0)

    @property
    def duration(self) -> Any:
        return self.steps

    def _value(self, t: Number) -> Number:
        done, left = fractions(t, self.steps)
        u = num.like(t, self.lower) * left + num.like(t, self.upper) * done
        start, end = num.like(t, self.start), num.like(t, self.end)
        one, zero = num.like(t, 1.0), num.like(t, 0.0)
        # (1 - tanh u)/2 = 1/(1 + e^2u), with the exponential on the side where it is small.
        tail = num.exp(-2.0 * num.maximum(u, -u))
        small, large = tail / (one + tail), one / (one + tail)
        falling = u > zero
        return num.where(falling, small, large) * start + num.where(falling, large, small) * end


@struct
class Rex(AbstractShape):
    r"""The REX profile: close to linear first, steep at the end.

    .. math:: s(t) = \text{end} + (\text{start}-\text{end})\,
              \frac{1-p}{\beta + (1-\beta)(1-p)}

    Chen et al., "REX: Revisiting Budgeted Training with an Improved Schedule" (arXiv:2107.04197),
    where :math:`\beta = 1/2`.

    Args:
        start: value at step 0.
        end: value from step ``steps`` on.
        steps: length in optimizer updates, at least 0.
        beta: positive; 1 is ``Linear``, below it the value stays up longer.

    >>> import jaxsched as js
    >>> round(float(js.Rex(1.0, 0.0, 100)(50)), 6)
    0.666667
    """

    start: Any = number()
    end: Any = number()
    steps: Any = number(at_least=0)
    beta: Any = number(0.5, above=0)

    def _weights(self, done: Number, left: Number) -> tuple[Number, Number]:
        beta = num.like(done, self.beta)
        whole = beta * done + left  # beta + (1 - beta) * left, without the difference
        return left / whole, beta * done / whole


@struct
class HalfCosine(AbstractShape):
    r"""The second half of a cosine decay: steep first, flat at the end.

    .. math:: s(t) = \text{end} + (\text{start}-\text{end})\,(1-\sin\tfrac{\pi}{2}p)

    Args:
        start: value at step 0 (the midpoint of the whole cosine).
        end: value from step ``steps`` on.
        steps: length in optimizer updates, at least 0.

    >>> import jaxsched as js
    >>> round(float(js.HalfCosine(1.0, 0.0, 3)(1)), 6)
    0.5
    """

    start: Any = number()
    end: Any = number()
    steps: Any = number(at_least=0)

    def _weights(self, done: Number, left: Number) -> tuple[Number, Number]:
        return 2.0 * num.sin_squared(left * 0.5), num.sin(done)


@struct
class QuarterCosine(AbstractShape):
    r"""A quarter of a cosine wave: flat first, steep at the end.

    .. math:: s(t) = \text{end} + (\text{start}-\text{end})\,\cos\tfrac{\pi}{2}p

    Args:
        start: value at step 0.
        end: value from step ``steps`` on.
        steps: length in optimizer updates, at least 0.

    >>> import jaxsched as js
    >>> round(float(js.QuarterCosine(1.0, 0.0, 3)(2)), 6)
    0.5
    """

    start: Any = number()
    end: Any = number()
    steps: Any = number(at_least=0)

    def _weights(self, done: Number, left: Number) -> tuple[Number, Number]:
        return num.sin(left), 2.0 * num.sin_squared(done * 0.5)


@struct
class MirrorCosine(AbstractShape):
    r"""Twice the line minus the cosine: steep, flat in the middle, steep.

    .. math:: s(t) = \text{end} + (\text{start}-\text{end})\,
              \left(2(1-p) - \tfrac12(1+\cos \pi p)\right)

    Hägele et al. (arXiv:2405.18392), a cooldown shape.

    Args:
        start: value at step 0.
        end: value from step ``steps`` on.
        steps: length in optimizer updates, at least 0.

    >>> import jaxsched as js
    >>> float(js.MirrorCosine(1.0, 0.0, 100)(50))
    0.5
    """

    start: Any = number()
    end: Any = number()
    steps: Any = number(at_least=0)

    def _weights(self, done: Number, left: Number) -> tuple[Number, Number]:
        early = done <= left
        near = num.where(early, done, left)
        small = 2.0 * near - num.sin_squared(near)
        large = 1.0 - small
        return num.where(early, large, small), num.where(early, small, large)


@struct
class Harmonic(AbstractShape):
    r"""Linear in the reciprocal of the value.

    .. math:: s(t) = \frac{1}{(1-p)/\text{start} + p/\text{end}}

    Args:
        start: value at step 0, positive.
        end: value from step ``steps`` on, positive.
        steps: length in optimizer updates, at least 0.

    >>> import jaxsched as js
    >>> round(float(js.Harmonic(1.0, 0.5, 100)(50)), 6)
    0.666667
    """

    start: Any = number(above=0)
    end: Any = number(above=0)
    steps: Any = number(at_least=0)

    def _weights(self, done: Number, left: Number) -> tuple[Number, Number]:
        start, end = num.like(done, self.start), num.like(done, self.end)
        whole = left * end + done * start
        return left * end / whole, done * start / whole


@struct
class ShiftedExponential(AbstractShape):
    r"""An exponential decay, shifted and scaled so that it lands on ``end`` exactly.

    .. math:: s(t) = \text{end} + (\text{start}-\text{end})\,\frac{r^p - r}{1 - r}

    Args:
        start: value at step 0.
        end: value from step ``steps`` on.
        steps: length in optimizer updates, at least 0.
        ratio: r, between 0 and 1 exclusive: the smaller, the earlier the fall.

    >>> import jaxsched as js
    >>> round(float(js.ShiftedExponential(1.0, 0.0, 100, ratio=0.25)(50)), 6)
    0.333333
    """

    start: Any = number()
    end: Any = number()
    steps: Any = number(at_least=0)
    ratio: Any = number(0.1, above=0, below=1)

    def _weights(self, done: Number, left: Number) -> tuple[Number, Number]:
        rate = num.log(num.like(done, self.ratio))
        whole = -num.expm1(rate)
        # r^p - r = r^p (1 - r^(1-p)) and 1 - r^p: no difference of nearly equal numbers.
        w_start = num.exp(rate * done) * -num.expm1(rate * left) / whole
        return w_start, -num.expm1(rate * done) / whole


@struct
class Warp(AbstractSchedule):
    r"""A shape whose time runs as a power (k-decay): :math:`p \to p^{\text{power}}`.

    Zhang & Li, "k-decay: A New Method for Learning Rate Schedule" (arXiv:2004.05909). With
    ``Linear`` it gives 1 - p^k, with ``Cosine`` timm's ``k_decay``.

    Args:
        shape: a piece from ``start`` to ``end``: ``Linear``, ``Cosine``, ``Polynomial``, ...
        power: positive; above 1 the decay comes later.

    >>> import jaxsched as js
    >>> float(js.Warp(js.Linear(1.0, 0.0, 10), power=2.0)(5))
    0.75
    """

    shape: AbstractShape
    power: Any = number(above=0)

    def __post_init__(self) -> None:
        if not isinstance(self.shape, AbstractShape):
            raise TypeError(
                "Warp(shape=...) must be a piece from start to end such as Linear or Cosine, got "
                f"{self.shape!r} ({type(self.shape).__name__})."
            )
        super().__post_init__()

    @property
    def duration(self) -> Any:
        return self.shape.steps

    def _value(self, t: Number) -> Number:
        done, left = raised(*fractions(t, self.shape.steps), self.power)
        w_start, w_end = self.shape._weights(done, left)
        return w_start * num.like(t, self.shape.start) + w_end * num.like(t, self.shape.end)
