"""``Repeat``: cycles of one schedule; each may be longer and lower than the one before."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax import lax

from jaxsched import _number as num
from jaxsched._arrays import to_host
from jaxsched._checks import check_beside, violates
from jaxsched._number import Number, Value
from jaxsched._struct import count, length, number, struct
from jaxsched._types import Leaf
from jaxsched.schedules._base import AbstractSchedule
from jaxsched.schedules._phase import Phase, shown_length
from jaxsched.schedules._wrappers import AbstractWrapper

_BITS = 48  # of the number of a cycle: steps are exact to 2^48, and a cycle may be one step
_MOST = 2.0**_BITS - 1.0  # cycles that can be counted; there are no steps for more
_FAR = 2.0**60  # beyond any step, and its square is still a float32


@struct
class Repeat(AbstractWrapper):
    r"""The same schedule again and again, each cycle longer and lower by a factor.

    Cycle i begins at :math:`b_i = i\,w + (d-w)(g^i-1)/(g-1)`. Its first w steps are the first w
    steps of the schedule; the rest runs :math:`g^i` times as slowly. Its values are multiplied by
    :math:`\text{decay}^i`. A step on a restart belongs to the new cycle. The number of the cycle
    comes from exact sums: PyTorch, timm and Keras take a rounded logarithm, and may restart late.

    Args:
        schedule: one cycle; it must have a duration d > 0.
        growth: g, length of each cycle (but for its warmup) over the one before; below 1 it needs
            ``cycles``. ``None`` (default) is 1.
        decay: factor on the values of each cycle, at least 0. ``None`` (default) is 1.
        cycles: their number, at least 1; ``None`` (default) for ever. The last value holds.
        warmup: w, steps at the start of each cycle that do not grow, at most d; ``None`` (default):
            none.

    >>> import jaxsched as js
    >>> saw = js.Repeat(js.Linear(1.0, 0.0, 4), growth=2.0, decay=0.5)
    >>> [float(saw(t)) for t in (0, 2, 4, 8, 12)]
    [1.0, 0.5, 0.5, 0.25, 0.25]
    """

    growth: Leaf = number(default=None, above=0, optional=True)
    decay: Leaf = number(default=None, at_least=0, optional=True)
    cycles: Leaf = count(default=None, at_least=1, optional=True)
    warmup: Leaf = length(default=None, at_least=0, optional=True)

    def __check_init__(self) -> None:
        self._require_duration()
        length = self.schedule.duration
        if violates(lambda length: length <= 0, length):
            raise ValueError(
                f"Repeat(schedule=...) must have a duration greater than 0, got {self.schedule!r}."
            )
        if self.cycles is None and violates(lambda growth: growth < 1, self.growth):
            raise ValueError(
                "Repeat(growth=...) must be at least 1 without cycles=... (cycles that shrink for "
                f"ever have an end, after which nothing is left), got {self.growth!r}."
            )
        check_beside("Repeat(warmup=...)", self.warmup, "at most", "schedule.duration", length)

    def exact_length(self, t: Number) -> Number | None:
        if self.cycles is None:
            return None
        cycles, (fixed, growing) = num.as_number(t, self.cycles), self._lengths(t)
        if self.growth is None:
            return (fixed + growing) * cycles
        cycles = num.minimum(cycles, _MOST)
        blocks = _blocks(num.as_number(t, self.growth), cycles)
        like, fits = num.full_like(t, 0.0) + cycles, lambda cycle, total: cycle <= cycles
        total = _descend(like, blocks, fits)[2]
        return cycles * fixed + total * growing

    def _lengths(self, t: Number) -> tuple[Number, Number]:
        """The lengths of the fixed part of a cycle (its warmup) and of the growing part."""
        whole: Any = self.schedule.exact_length(t)
        whole = num.where(whole > 0.0, whole, 1.0)
        if self.warmup is None:
            return num.full_like(t, 0.0), whole
        fixed = num.minimum(num.as_number(t, self.warmup), whole)
        return fixed, whole - fixed

    def value_at(self, t: Number) -> Value:
        t = num.at_least_zero(t)
        fixed, growing = self._lengths(t)
        last = None if self.cycles is None else num.as_number(t, self.cycles) - 1.0
        if self.growth is None:
            cycle, local = _equal_cycles(t, fixed + growing, last)
        else:
            growth, reached = num.as_number(t, self.growth), num.nudge(t)
            last = None if last is None else num.minimum(last, _MOST)

            def begun(cycle: Number, total: Number) -> num.Mask:
                reaches = reached >= cycle * fixed + total * growing
                return reaches if last is None else reaches & (cycle <= last)

            cycle, ratio, total = _descend(
                reached, _blocks(growth, last, all_=self.warmup is not None), begun
            )
            local = num.at_least_zero(t - cycle * fixed - total * growing)
            slow = num.at_least_zero(local - fixed) / num.maximum(ratio, 1.0 / _FAR)
            local = num.minimum(local, fixed) + slow
            # No cycles at all, as timm allows: over at once.
            if last is not None:
                local = num.where(last < 0.0, fixed + growing, local)
        value = self.schedule.value_at(local)
        if self.decay is None:
            return value
        # The first cycle is left as it is: `power` is 0 for a decay of 0, also to the power of 0.
        later = cycle > 0.0
        value = num.floating(t, value)
        factor = num.power(num.as_number(t, self.decay), num.where(later, cycle, 1.0))
        return num.where(later, value * num.to_value(factor), value)

    def phases(self) -> list[Phase]:
        return AbstractSchedule.phases(self)

    def natural_length(self) -> float:
        growth = 1.0 if self.growth is None else float(to_host(self.growth))
        fixed = 0.0 if self.warmup is None else float(to_host(self.warmup))
        rest = shown_length(self.schedule) - fixed
        return sum(fixed + rest * growth**i for i in range(3 if growth > 1 else 4)) - 1


def _equal_cycles(t: Number, length: Number, last: Number | None) -> tuple[Number, Number]:
    """Number of the cycle at ``t`` and the step in it."""
    cycle, local = num.divmod_exact(t, length)
    if last is None:
        return cycle, local
    return num.minimum(cycle, last), num.where(cycle > last, length, local)


# The search for the cycle at t takes blocks of 2^47, 2^46, ... 1 cycles, like a set of weights on
# scales. It adds a block if the block ends by t. A block is growth ** n and the sum
# 1 + growth + ... + growth ** (n - 1); both can be doubled without a division:
#
#     growth ** 2n = (growth ** n) ** 2        sum of 2n = sum of n + growth ** n * sum of n
#
# Cycles of 4, 8, 16 steps (growth 2) begin at 0, 4, 12, 28. At step 13 the block of 4 cycles, 15 *
# 4 steps long, has not ended; the block of 2, 3 * 4 steps, has ended and is taken. The block of 1
# would be the third cycle, 2 ** 2 times as long: 12 + 4 * 4 = 28 is too far. So 2 cycles are over,
# and step 13 is step 1 of a cycle that is 4 times as slow.
#
# The sums are exact as long as they have 48 bits (53 on the host). The textbook's formula is a
# rounded logarithm: it may restart one step late if a restart is exactly on a step.

Block = tuple[Number, Number, Any]  # growth ** n, the sum, and n


def _blocks(growth: Number, most: Number | None, all_: bool = False) -> Any:
    """The blocks from the smallest to the greatest, as a list or, in a program, as arrays.

    A known growth needs few of them: with growth 2 the sum of 64 cycles is beyond any step, so 7
    are enough. ``all_``: all of them, since a cycle of nothing but warmup does not grow.
    """
    first: Any = growth, num.full_like(growth, 1.0)
    doubled = lambda power, total: (_held(power * power), _held(total + power * total))
    if _in_program(growth):
        _, blocks = lax.scan(lambda block, _: (doubled(*block), block), first, None, _BITS)
        return (*blocks, num.in_program(growth, 2.0 ** np.arange(_BITS)))
    listed: list[Block] = [(*first, 1.0)]
    while len(listed) < _BITS and (all_ or not _is_enough(listed[-1], most)):
        power, total, n = listed[-1]
        listed.append((*doubled(power, total), 2 * n))
    return listed


def _is_enough(block: Block, most: Number | None) -> bool:
    known = most is not None and not _in_program(most)
    return bool(np.all(block[1] >= _FAR) or (known and np.all(block[2] > most)))


def _descend(like: Number, blocks: Any, fits: Callable[[Number, Number], num.Mask]) -> Any:
    """As many cycles as fit: their number n, ``growth ** n`` and the sum."""

    def take(so_far: Any, block: Any) -> Any:
        cycle, ratio, total = so_far
        power, sum_, n = block
        more, after = cycle + n, _held(total + ratio * sum_)
        taken = fits(more, after)
        pick = lambda new, old: num.where(taken, new, old)
        return pick(more, cycle), pick(_held(ratio * power), ratio), pick(after, total)

    so_far: Any = tuple(num.full_like(like, x) for x in (0.0, 1.0, 0.0))
    if not _in_program(like):
        return functools.reduce(take, reversed(blocks), so_far)
    if isinstance(blocks, list):
        columns = zip(*blocks, strict=True)
        blocks = tuple(num.in_program(like, np.array(column)) for column in columns)
    # As a loop it compiles in a tenth of the time.
    step = lambda so_far, block: (take(so_far, block), None)
    return lax.scan(step, so_far, blocks, reverse=True)[0]


def _held(x: Number) -> Number:
    # Infinity times a length of 0 (a cycle of nothing but warmup has no growing part) would be NaN.
    return num.where(num.to_value(x) < _FAR, x, num.full_like(x, _FAR))


def _in_program(x: object) -> bool:
    return isinstance(x, (num.Double, jax.Array))
