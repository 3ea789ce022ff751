"""A power of a schedule, and so a quotient: ``a / b`` is ``a * b ** -1``."""

from __future__ import annotations

import numpy as np

from jaxsched import _number as num
from jaxsched._number import Number, Value
from jaxsched._struct import number, struct
from jaxsched._types import Leaf
from jaxsched.schedules._wrappers import AbstractWrapper


@struct
class Power(AbstractWrapper, operator="**"):
    r"""A schedule to a power, step by step; usually written ``s ** exponent`` or ``a / s``.

    .. math:: s(t)^{\text{exponent}}

    As in NumPy: of 0 a negative power is infinite, and of a negative value only a whole power is a
    number.

    Args:
        schedule: any schedule.
        exponent: any number; -1 is the reciprocal.

    >>> import jaxsched as js
    >>> float((js.Linear(1.0, 0.0, 4) ** 0.5)(3)), float((0.5 / js.Linear(1.0, 3.0, 4))(2))
    (0.5, 0.25)
    """

    exponent: Leaf = number()

    def _is_constant(self) -> bool:
        return self.schedule._is_constant()

    def value_at(self, t: Number) -> Value:
        base = num.as_number(t, self.schedule.value_at(t))
        exponent = num.as_number(t, self.exponent)
        negative = base < 0.0
        base = num.where(negative, -base, base)
        power = num.to_value(num.power(base, exponent))
        # By division where it is met, as NaN below: ``debug_infs`` would stop at a constant.
        pole = num.where((exponent < 0.0) & ~(base > 0.0), 0.0, 1.0)
        at_zero = _quotient(t, num.where(exponent > 0.0, 0.0, 1.0), pole)
        power = num.where(base > 0.0, power, at_zero)
        # Selected and not multiplied by a sign: NaN times 0 would be in the gradient.
        odd = num.to_value(exponent - num.floor(exponent * 0.5) * 2.0)  # 0, 1, or between
        gap = num.where(negative & (odd != 0.0) & (odd != 1.0), 0.0, 1.0)
        signed = num.where(odd == 1.0, -power, _quotient(t, 0.0, gap))
        return num.where(negative, num.where(odd == 0.0, power, signed), power)


def _quotient(t: Number, x: Leaf, y: Leaf) -> Value:
    """A quotient; infinite or NaN for a division by zero, without Python's error."""
    with np.errstate(all="ignore"):  # for known numbers in a program
        return num.as_value(t, x) / num.as_value(t, y)
