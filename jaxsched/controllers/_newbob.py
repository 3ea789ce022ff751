"""``NewBob``: lower the rate when an evaluation improves too little on the one before."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp

from jaxsched._struct import choice, count, length, number, struct
from jaxsched._types import Leaf, PyTree
from jaxsched.controllers._metric import AbstractEvaluator, Evaluation, improves, sign, worst
from jaxsched.controllers._numbers import next_count, number32


class NewBobState(NamedTuple):
    step: jax.Array  # int32: optimizer updates
    base: PyTree  # () or, if the base is a controller, its state
    scale: jax.Array  # float32
    seen: jax.Array  # int32: metrics received
    last: jax.Array  # float32: the evaluation before, in the metric's own sign
    bad: jax.Array  # int32: small improvements since the last cut, in a row or not
    evaluation: Evaluation  # the one under way


@struct
class NewBob(AbstractEvaluator):
    r"""Multiplies the rate by ``factor`` when an evaluation gains too little on the last one.

    Evaluation :math:`v_i` gains enough (``mode="min"``) if :math:`v_i < v_{i-1} - \text{rtol}\,
    |v_{i-1}|`. After more than ``patience`` evaluations that don't, in a row or not, the rate is
    cut and the count begins anew. Unlike ``Plateau`` it compares with the evaluation before, not
    with the best, so it also acts while progress goes on slowly.

    Args:
        base: the schedule (or number, or controller) that is scaled.
        factor: of the scale at each cut, above 0 and below 1.
        patience: evaluations with too small a gain that are tolerated, at least 0.
        rtol: the least sufficient gain, a fraction of the magnitude of the evaluation before.
        min_scale: the scale's lower bound, 0 to 1.
        accumulate: reports per evaluation, which is their mean.
        mode: ``"min"`` if less is better, ``"max"`` if more is.
        nan: ``"ignore"`` a NaN metric, or take it as a ``"bad"`` one.
        min_lr, smooth, quiet: as in ``Plateau``.

    ``update`` and ``observe`` take ``value`` and ``reported``, as in ``Plateau``.

    References: the "newbob" of ICSI's QuickNet; speechbrain's ``NewBobScheduler``.

    >>> from jaxsched.controllers import NewBob
    >>> newbob = NewBob(1.0)
    >>> state = newbob.init()
    >>> for loss in (10.0, 2.0, 2.5):
    ...     state = newbob.update(state, value=loss)
    ...     print(loss, float(newbob(state)))
    10.0 1.0
    2.0 1.0
    2.5 0.5
    """

    base: Any
    factor: Leaf = number(default=0.5, above=0, below=1)
    patience: Leaf = count(default=0, at_least=0)
    rtol: Leaf = number(default=0.0025, at_least=0, below=1)
    min_scale: Leaf = number(default=0.0, at_least=0, at_most=1)
    accumulate: Leaf = count(default=1, at_least=1)
    mode: Literal["min", "max"] = choice("min", "max", default="min")
    nan: Literal["ignore", "bad"] = choice("ignore", "bad", default="ignore")
    min_lr: Leaf = number(default=None, at_least=0, optional=True)
    smooth: Leaf = number(default=None, at_least=0, below=1, optional=True)
    quiet: Leaf = length(default=0, at_least=0)

    State = NewBobState

    def init(self) -> NewBobState:
        return self.first_state(last=worst(self.mode))

    def judge(
        self, state: NewBobState, mean: jax.Array, ready: jax.Array, broken: jax.Array
    ) -> NewBobState:
        better = improves(mean, sign(self.mode) * state.last, self.rtol, 0.0)

        # In a row or not: a sufficient gain leaves this count as it is, while Plateau's begins
        # anew.
        bad = jnp.where(better, state.bad, next_count(state.bad))
        fires = ready & ~better & (number32(bad) > self.patience)
        return state._replace(
            scale=jnp.where(fires, self.cut(state.scale, state), state.scale),
            last=jnp.where(ready, sign(self.mode) * mean, state.last),
            bad=jnp.where(ready, jnp.where(fires, 0, bad), state.bad),
        )
