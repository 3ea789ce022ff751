"""Sequences with each boundary in the earlier part."""

from __future__ import annotations

import math

from jaxsched import _number as num
from jaxsched._number import Number
from jaxsched._struct import struct
from jaxsched.schedules._base import Sequence


@struct
class RightClosed(Sequence):
    r"""A ``Sequence`` with each boundary in the earlier part.

    .. math:: s(t) = s_i(t - b_i), \quad b_i < t \le b_{i+1}

    So a part has its last value at the step of its end, and the next part begins with its step 1.
    OLMo-core's joins and Keras' ``PiecewiseConstantDecay`` have this convention.

    Args:
        parts: as for ``js.Sequence``. Step 0 belongs to the first one.

    >>> import jaxsched as js
    >>> drop = js.RightClosed([js.Constant(1.0, 10), js.Constant(0.5)])
    >>> [float(drop(t)) for t in (9, 10, 11)]
    [1.0, 1.0, 0.5]
    """

    _symbol = ""
    _few = math.inf  # `selected` knows the other convention

    def _begun(self, t: Number, reached: Number, start: Number) -> num.Mask:
        # The boundary is nudged here, not the step: a step just after a boundary counts as on the
        # boundary, in the earlier part.
        return t > num.nudge(start)
