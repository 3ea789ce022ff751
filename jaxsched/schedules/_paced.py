"""A schedule in another unit than updates: samples, tokens, simulated seconds."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxsched import _number as num
from jaxsched._checks import violates
from jaxsched._number import Number
from jaxsched._struct import numbers, struct
from jaxsched._types import Leaf
from jaxsched.schedules._piecewise import count_reached, require_lengths
from jaxsched.schedules._wrappers import AbstractRetimed

_LAST = 2.0**62  # the last update: its progress fits into float32


@struct
class Paced(AbstractRetimed):
    r"""A schedule with a progress of its own in every update, such as its samples or tokens.

    .. math:: s\Bigl(\sum_{u<t} \text{pace}(u)\Bigr)

    So a rate follows the samples seen while the batch grows: the batch sizes are the paces.
    ``js.Units`` writes it: ``run.by_samples(schedule)``, ``run.by_tokens(schedule)``.

    Args:
        schedule: any schedule; its steps are samples or tokens.
        boundaries: strictly increasing steps [K]; each one begins a new pace.
        paces: how far the schedule goes on in an update, [K + 1], greater than 0.

    >>> import jaxsched as js
    >>> grown = js.Paced(js.Linear(1.0, 0.0, 1000), [10], [20, 80])  # batches of 20, then of 80
    >>> [grown.host(t) for t in (5, 10, 15)], grown.duration
    ([0.9, 0.8, 0.4], 20)
    """

    boundaries: Leaf = numbers(increasing=True, at_least=0)
    paces: Leaf = numbers()

    def __check_init__(self) -> None:
        require_lengths(self, "boundaries", "paces", 1)
        if violates(lambda paces: paces <= 0, self.paces):
            raise ValueError(
                f"Paced(paces=...) must be greater than 0 in every update, got {self.paces!r}."
            )

    def inner_step(self, t: Number) -> Number:
        t = num.minimum(num.at_least_zero(t), num.full_like(t, _LAST))
        index = count_reached(self.boundaries, t)
        since, before, paces = (num.take_number(t, xs, index) for xs in self._segments(t))
        return before + (t - since) * paces

    def _segments(self, t: Number) -> tuple[Number, Number, Number]:
        """[K + 1] each: the first step of each pace, the inner step there, and the pace."""
        # Within a segment the schedule goes on at one pace, so `inner_step` is a straight line from
        # the start of the segment: one look-up of each number for any count of segments.
        numbers: Any = [num.as_number(t, xs) for xs in (self.paces, self.boundaries)]
        paces, boundaries = numbers
        zero = paces[..., :1] * 0.0
        since: Any = num.concatenated(t, [zero, boundaries])
        passed = num.running_sum((boundaries - since[..., :-1]) * paces[..., :-1])
        return since, num.concatenated(t, [zero, passed]), paces

    def _outer_step(self, t: Number, inner: Number) -> Number:
        """The inverse of ``inner_step``."""
        since, before, paces = self._segments(t)
        reached: Any = num.at_least_zero(inner)
        passed = reached[..., None] - before
        begun = passed >= 0.0
        # A mask of the last pace that has begun (the next one has not). A mask, not an index, since
        # the members of a population differ. A sum over the masked array then picks the number.
        xp = jnp if isinstance(begun, jax.Array) else np
        last = begun & ~xp.concatenate([begun[..., 1:], xp.zeros_like(begun[..., :1])], -1)
        ends = num.where(last, since + passed / paces, since * 0.0)
        return jax.tree.map(lambda word: word.sum(-1), ends)
