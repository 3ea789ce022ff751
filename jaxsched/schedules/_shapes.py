"""Pieces of a given length that go from ``start`` to ``end``, from simple to complex.

Each one is its two weights; see ``_progress.py``.
"""

from __future__ import annotations

import numpy as np

from jaxsched import _number as num
from jaxsched._bounds import checked_kind
from jaxsched._checks import violates
from jaxsched._number import Number, Value
from jaxsched._struct import length, number, struct
from jaxsched._types import Leaf
from jaxsched.schedules._base import AbstractSchedule, AbstractTimed
from jaxsched.schedules._progress import AbstractShape, Progress, mirrored, progress, raised

_FAR = 2.0**100  # between the ends of a Harmonic: a product of two words needs 2^-124 to be exact


@struct
class Linear(AbstractShape):
    r"""A straight line.

    .. math:: s(t) = \text{start}\,(1-p) + \text{end}\,p, \quad p = \min(t/\text{steps}, 1)

    Args:
        start, end, steps: value at step 0, value from ``steps`` on, length in updates, at least 0.

    >>> import jaxsched as js
    >>> float(js.Linear(0.0, 1.0, 4)(1))
    0.25
    """

    def weights(self, at: Progress) -> tuple[Value, Value]:
        return at.left, at.done


@struct
class Cosine(AbstractShape):
    r"""Half a cosine wave: flat at both ends.

    .. math:: s(t) = \text{end} + (\text{start}-\text{end})
              \left[\tfrac12 (1+\cos \pi p)\right]^{\text{exponent}}

    Evaluated as a squared sine of 1 - p, so the digits are exact to the last step.

    Args:
        start, end, steps: value at step 0, value from ``steps`` on, length in updates, at least 0.
        exponent: positive; above 1 the decay comes earlier. ``None`` (default) is 1.

    References: Loshchilov & Hutter, SGDR, arXiv:1608.03983.

    >>> import jaxsched as js
    >>> float(js.Cosine(1.0, 0.0, 100)(50))
    0.5
    """

    exponent: Leaf = number(default=None, above=0, optional=True)

    def weights(self, at: Progress) -> tuple[Value, Value]:
        if self.exponent is None:
            return mirrored(at, num.sin_squared)
        w_start, w_end = raised(*mirrored(at, num.exact_sin_squared), self.exponent)
        return num.to_value(w_start), num.to_value(w_end)


@struct
class Polynomial(AbstractShape):
    r"""A power of the remaining fraction.

    .. math:: s(t) = \text{end} + (\text{start}-\text{end})\,(1-p)^{\text{power}}

    Args:
        start, end, steps: value at step 0, value from ``steps`` on, length in updates, at least 0.
        power: positive; 1 is ``Linear``, 0.5 the square-root shape.

    >>> import jaxsched as js
    >>> float(js.Polynomial(1.0, 0.0, 4, power=2.0)(2))
    0.25
    """

    power: Leaf = number(default=2.0, above=0)

    def weights(self, at: Progress) -> tuple[Value, Value]:
        done, left = at.exact()
        w_start, w_end = raised(left, done, self.power)
        return num.to_value(w_start), num.to_value(w_end)


@struct
class Geometric(AbstractTimed):
    r"""A constant ratio per step from ``start`` to ``end``; a straight line on a log axis.

    .. math:: s(t) = \text{start}\,(\text{end}/\text{start})^{p}

    Args:
        start, end: value at step 0, value from step ``steps`` on, both positive.
        steps: length in optimizer updates, at least 0.

    >>> import jaxsched as js
    >>> round(float(js.Geometric(1.0, 0.01, 10)(5)), 6)
    0.1
    """

    start: Leaf = number(above=0)
    end: Leaf = number(above=0)
    steps: Leaf = length(at_least=0)

    def value_at(self, t: Number) -> Value:
        # From the nearer end, so that both ends are met exactly: exp(0) is 1, and `start` times the
        # exponential of a whole ratio would be `end` but for rounding.
        early, near = progress(t, self.steps).nearer()
        rate = num.log(num.as_number(t, self.end)) - num.log(num.as_number(t, self.start))
        growth = num.to_value(num.exp(num.where(early, near, -near) * rate))
        return num.where(early, num.as_value(t, self.start), num.as_value(t, self.end)) * growth


@struct
class Sqrt(AbstractShape):
    r"""The "1-sqrt" cooldown: steep first, then gentle.

    .. math:: s(t) = \text{end} + (\text{start}-\text{end})\,(1-\sqrt p)

    Its slope is infinite at step 0; the derivative there is the slope of the straight part.

    Args:
        start, end, steps: value at step 0, value from ``steps`` on, length in updates, at least 0.

    References: Hägele et al., Training beyond fixed training durations, arXiv:2405.18392.

    >>> import jaxsched as js
    >>> float(js.Sqrt(1.0, 0.0, 100)(25))
    0.5
    """

    def weights(self, at: Progress) -> tuple[Value, Value]:
        # 1 - sqrt(p) is (1 - p) / (1 + sqrt(p)): near the end the difference has no digits left.
        root = num.sqrt(at.done)
        return at.left / (1.0 + root), root


@struct
class Tanh(AbstractShape):
    r"""Hyperbolic-tangent decay: stays high, falls, stays low.

    .. math:: s(t) = \text{end} + (\text{start}-\text{end})\,
              \tfrac12\left(1-\tanh(\text{lower}\,(1-p) + \text{upper}\,p)\right)

    Both ends are approached, not met, as in the paper: from ``steps`` on the value at p = 1 holds.

    Args:
        start: value approached before the fall.
        end: value approached after it.
        steps: length in optimizer updates, at least 0.
        lower: argument of tanh at step 0.
        upper: argument of tanh at step ``steps``.

    References: Hsueh et al., SGD with hyperbolic-tangent decay, arXiv:1806.01593.

    >>> import jaxsched as js
    >>> round(float(js.Tanh(1.0, 0.0, 100)(70)), 6)
    0.5
    """

    lower: Leaf = number(default=-7.0)
    upper: Leaf = number(default=3.0)

    def weights(self, at: Progress) -> tuple[Value, Value]:
        done, left = at.exact()
        u = left * num.as_number(left, self.lower) + done * num.as_number(done, self.upper)
        # (1 - tanh u)/2 = 1/(1 + e^2u), with the exponential on the side where it is small.
        falling = u > 0.0
        tail = num.to_value(num.exp(num.where(falling, u, -u) * -2.0))
        small, large = tail / (1.0 + tail), 1.0 / (1.0 + tail)
        return num.where(falling, small, large), num.where(falling, large, small)


@struct
class Rex(AbstractShape):
    r"""The REX profile: close to linear first, steep at the end.

    .. math:: s(t) = \text{end} + (\text{start}-\text{end})\,
              \frac{1-p}{\beta + (1-\beta)(1-p)}

    Args:
        start, end, steps: value at step 0, value from ``steps`` on, length in updates, at least 0.
        beta: positive; 1 is ``Linear``, below it the value stays up longer.

    References: Chen et al., REX (with :math:`\beta = 1/2`), arXiv:2107.04197.

    >>> import jaxsched as js
    >>> round(float(js.Rex(1.0, 0.0, 100)(50)), 6)
    0.666667
    """

    beta: Leaf = number(default=0.5, above=0)

    def weights(self, at: Progress) -> tuple[Value, Value]:
        passed = at.passed * num.as_number(at.passed, self.beta)
        whole = passed + at.rest  # beta + (1 - beta) * left, without the difference
        return num.quotient(at.rest, whole), num.quotient(passed, whole)


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

    def weights(self, at: Progress) -> tuple[Value, Value]:
        # 1 - sin(pi/2 p) is 2 sin^2(pi/4 (1 - p)), without a difference near the end.
        return 2.0 * num.sin_squared(at.rest / at.length * 0.5), num.sin(at.done)


@struct
class QuarterCosine(AbstractShape):
    r"""A quarter of a cosine wave: flat first, steep at the end.

    .. math:: s(t) = \text{end} + (\text{start}-\text{end})\,\cos\tfrac{\pi}{2}p

    Args:
        start, end, steps: value at step 0, value from ``steps`` on, length in updates, at least 0.

    >>> import jaxsched as js
    >>> round(float(js.QuarterCosine(1.0, 0.0, 3)(2)), 6)
    0.5
    """

    def weights(self, at: Progress) -> tuple[Value, Value]:
        # cos(pi/2 p) is sin(pi/2 (1 - p)), and 1 less that as in HalfCosine, from the other end.
        return num.sin(at.left), 2.0 * num.sin_squared(at.passed / at.length * 0.5)


@struct
class MirrorCosine(AbstractShape):
    r"""Twice the line minus the cosine: steep, flat in the middle, steep.

    .. math:: s(t) = \text{end} + (\text{start}-\text{end})\,
              \left(2(1-p) - \tfrac12(1+\cos \pi p)\right)

    Args:
        start, end, steps: value at step 0, value from ``steps`` on, length in updates, at least 0.

    References: Hägele et al. (a cooldown shape), arXiv:2405.18392.

    >>> import jaxsched as js
    >>> float(js.MirrorCosine(1.0, 0.0, 100)(50))
    0.5
    """

    def weights(self, at: Progress) -> tuple[Value, Value]:
        return mirrored(at, lambda near: 2.0 * num.to_value(near) - num.sin_squared(near))


@struct
class Harmonic(AbstractShape):
    r"""Linear in the reciprocal of the value.

    .. math:: s(t) = \frac{1}{(1-p)/\text{start} + p/\text{end}}

    Args:
        start, end: value at step 0, value from step ``steps`` on, both positive.
        steps: length in optimizer updates, at least 0.

    >>> import jaxsched as js
    >>> round(float(js.Harmonic(1.0, 0.5, 100)(50)), 6)
    0.666667
    """

    start: Leaf = number(above=0)
    end: Leaf = number(above=0)

    def __check_init__(self) -> None:
        far = lambda start, end: np.maximum(start / end, end / start) > _FAR
        if violates(far, self.start, self.end):
            raise ValueError(
                f"Harmonic(end=...) must be within {_FAR:.2g} times start={self.start!r}, beyond "
                f"which float32 cannot add their reciprocals, got {self.end!r}."
            )

    def weights(self, at: Progress) -> tuple[Value, Value]:
        # The two ends as fractions of the larger one, so that nothing overflows.
        start, end = num.as_number(at.rest, self.start), num.as_number(at.rest, self.end)
        top = num.stop_gradient(num.maximum(start, end))  # it cancels, and so does its derivative
        done, left = at.exact()
        before, after = left * (end / top), done * (start / top)
        whole = before + after
        # With ends 38 decades apart one fraction is 0 in float32, and at an end the other is 0 too:
        # there the value is the end.
        some = whole > 0.0
        whole = num.where(some, whole, 1.0)
        return (
            num.where(some, num.safe_quotient(before, whole), at.left),
            num.where(some, num.safe_quotient(after, whole), at.done),
        )


@struct
class ShiftedExponential(AbstractShape):
    r"""An exponential decay, shifted and scaled so that it lands on ``end`` exactly.

    .. math:: s(t) = \text{end} + (\text{start}-\text{end})\,\frac{r^p - r}{1 - r}

    Args:
        start, end, steps: value at step 0, value from ``steps`` on, length in updates, at least 0.
        ratio: r, between 0 and 1 exclusive: the smaller, the earlier the fall.

    >>> import jaxsched as js
    >>> round(float(js.ShiftedExponential(1.0, 0.0, 100, ratio=0.25)(50)), 6)
    0.333333
    """

    ratio: Leaf = number(default=0.1, above=0, below=1)

    def weights(self, at: Progress) -> tuple[Value, Value]:
        done, left = at.exact()
        rate = num.log(num.as_number(done, self.ratio))
        whole = num.expm1(rate)
        # r^p - r = r^p (1 - r^(1-p)) and 1 - r^p: no difference of nearly equal numbers.
        power, less = num.exp_and_expm1(done * rate)
        w_start = power * num.expm1(left * rate) / whole
        return num.to_value(w_start), num.quotient(less, whole)


@struct
class Warp(AbstractSchedule):
    r"""A shape with its time as a power (k-decay): :math:`p \to p^{\text{power}}`.

    With ``Linear`` it gives 1 - p^k, with ``Cosine`` timm's ``k_decay``.

    Args:
        shape: a piece from ``start`` to ``end``: ``Linear``, ``Cosine``, ``Polynomial``, ...
        power: positive; above 1 the decay comes later.

    References: Zhang & Li, k-decay: a new method for learning rate schedule, arXiv:2004.05909.

    >>> import jaxsched as js
    >>> float(js.Warp(js.Linear(1.0, 0.0, 10), power=2.0)(5))
    0.75
    """

    shape: AbstractShape
    power: Leaf = number(above=0)

    def __check_init__(self) -> None:
        expected = "a piece from start to end such as Linear or Cosine"
        checked_kind("Warp(shape=...)", self.shape, AbstractShape, expected)

    @property
    def duration(self) -> Leaf:
        return self.shape.steps

    def value_at(self, t: Number) -> Value:
        shape = self.shape
        # The shape gets a progress of length 1, with p^k passed, for its weights: it has no code
        # for the bent time. Both p^k and 1 - p^k are exact, so near the ends, too.
        passed, rest = raised(*progress(t, shape.steps).exact(), self.power)
        w_start, w_end = shape.weights(Progress(passed, rest, num.full_like(t, 1.0)))
        return w_start * num.as_value(t, shape.start) + w_end * num.as_value(t, shape.end)
