"""``js.share``: a length as a fraction of the whole one."""

from __future__ import annotations

import functools
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxsched import _number as num
from jaxsched._arrays import is_concrete, is_whole, to_host
from jaxsched._checks import checked_number
from jaxsched._struct import Record, number, struct
from jaxsched._types import Leaf, Number
from jaxsched.schedules._lengths import as_real


@functools.total_ordering
@struct
class share(Record):  # in lower case, as `slice` is: it stands in the place of a number
    """A share of the whole length, for every length of a recipe with a given whole.

    The recipe converts it to steps (``of``), so the schedule holds only numbers. Shares print,
    compare, sort, pickle and go through ``js.to_json``. They are values for ``js.grid``, and
    pytrees with a number that may be traced.

    Args:
        fraction: 0 to 1.

    >>> import jaxsched as js
    >>> js.warmup_cosine(0.1, 1000, warmup=js.share(0.1)) == js.warmup_cosine(0.1, 1000, 100)
    True
    >>> js.share(0.1), str(js.share(0.1))
    (share(0.1), '10%')
    """

    fraction: Leaf = number(at_least=0, at_most=1)

    def of(self, steps: Number) -> Leaf:
        """The share of ``steps``, to the nearest whole step, halves up: an integer if it is known.

        If it is traced, it has the derivative of the product without rounding. A traced fraction
        (or a traced ``steps`` other than an int32) gives a float32, whole up to 2^24.

        >>> import jaxsched as js
        >>> js.share(0.3).of(1001)
        300
        """
        known = is_concrete(self.fraction) and is_concrete(steps)
        length: Any = checked_number("share.of(steps=...)", steps, at_least=0)
        x: Any = np.float64(0.0) if known else num.as_double(0.0)
        x = num.as_number(x, to_host(self.fraction)) * num.as_number(x, to_host(length))
        nearest: Any = num.nudge(x + 0.5)  # 0.145 * 100 is 14.499999999999998
        if known:
            whole = np.floor(nearest)
            return int(whole) if np.ndim(whole) == 0 else whole.astype(np.int64)
        if is_concrete(self.fraction) and is_whole(length) and jnp.can_cast(length.dtype, np.int32):
            return num.to_int32(nearest)
        # Rounding has no slope, so a gradient with respect to the fraction would be 0.
        product = as_real(self.fraction) * as_real(length)
        return num.graft(num.to_value(num.floor(nearest)).astype(product.dtype), product)

    def __repr__(self) -> str:
        return super().__repr__().replace("fraction=", "", 1)

    def __str__(self) -> str:
        plain = is_concrete(self.fraction) and np.ndim(self.fraction) == 0
        return f"{100 * float(to_host(self.fraction)):.6g}%" if plain else repr(self)

    def __float__(self) -> float:
        """The fraction: where shares stand on an axis."""
        return float(to_host(self.fraction))

    def __lt__(self, other: object) -> bool:
        return float(self) < float(other) if isinstance(other, share) else NotImplemented
