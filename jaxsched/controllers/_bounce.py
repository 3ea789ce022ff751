"""``Bounce`` (ABEL): lower the rate when the norm of the weights bounces."""

from __future__ import annotations

from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp

from jaxsched._struct import count, number, struct
from jaxsched._types import Leaf, PyTree
from jaxsched.controllers._metric import count_if
from jaxsched.controllers._numbers import flag, next_count, number32, scalar, zero
from jaxsched.controllers._scaler import AbstractScaler


class BounceState(NamedTuple):
    step: jax.Array  # int32: optimizer updates
    base: PyTree  # () or, if the base is a controller, its state
    scale: jax.Array  # float32
    seen: jax.Array  # int32: norms received
    last: jax.Array  # float32: the norm at the last look
    trend: jax.Array  # int32: +1 it rose, -1 it fell, 0 not known yet
    turned: jax.Array  # bool: it has turned once since the last cut
    pending: jax.Array  # int32: norms since the last look


@struct
class Bounce(AbstractScaler):
    r"""ABEL: multiplies the rate by ``factor`` each time the norm of the weights has bounced.

    At every look (each ``every``-th report) the norm has risen or fallen since the look before.
    Its first turn is its minimum; at the next turn the weights have bounced, and the rate is cut:

    .. math:: (n_i - n_{i-1})\,(n_{i-1} - n_{i-2}) < 0 \quad \text{twice}

    It needs no validation. It does nothing while the norm keeps rising, as it does without weight
    decay. Look once an epoch; from update to update a norm turns by chance.

    Args:
        base: the schedule (or number, or controller) that is scaled. The authors add one cut near
            the end of training: multiply the base by ``js.piecewise_constant`` for it.
        factor: of the scale at each cut, above 0 and below 1.
        every: reports per look, at least 1: the updates of an epoch, if every update reports.
        min_scale: the scale's lower bound, 0 to 1.
        min_lr: the least rate; ``None`` (default): none.

    ``update`` and ``observe`` take either ``norm`` (a number that grows with the norm, such as its
    square) or ``weights`` (a tree of arrays, for their squared norm), and ``reported``, which may
    be traced. A norm that isn't finite is ignored.

    Raises:
        ValueError: if ``norm`` isn't one number, or both are given.

    References: Lewkowycz, How to decay your learning rate, arXiv:2103.12682.

    >>> from jaxsched.controllers import Bounce
    >>> bounce = Bounce(1.0, factor=0.1)
    >>> state = bounce.init()
    >>> for norm in (5.0, 4.0, 3.0, 4.0, 3.5):
    ...     state = bounce.update(state, norm=norm)
    ...     print(norm, round(float(bounce(state)), 3))
    5.0 1.0
    4.0 1.0
    3.0 1.0
    4.0 1.0
    3.5 0.1
    """

    base: Any
    factor: Leaf = number(default=0.1, above=0, below=1)
    every: Leaf = count(default=1, at_least=1)
    min_scale: Leaf = number(default=0.0, at_least=0, at_most=1)
    min_lr: Leaf = number(default=None, at_least=0, optional=True)

    State = BounceState
    reads: ClassVar[tuple[str, ...]] = ("norm",)
    or_reads: ClassVar[tuple[str, ...]] = ("weights",)

    def init(self) -> BounceState:
        return self.first_state(last=zero(), turned=zero(jnp.bool_))

    def react(
        self,
        state: BounceState,
        *,
        norm: Leaf = None,
        weights: PyTree = None,
        reported: Leaf = True,
        **extra: object,
    ) -> BounceState:
        if norm is None and weights is None:
            return state
        if norm is not None and weights is not None:
            raise ValueError("Bounce.update(norm=..., weights=...) must be given one, got both.")
        norm = _squared_norm(weights) if norm is None else norm
        norm = scalar("Bounce.update(norm=...)", norm)
        arrived = flag("Bounce.update(reported=...)", reported) & jnp.isfinite(norm)
        pending = next_count(state.pending)
        # The first report is the first look: there is nothing to wait for.
        looks = arrived & ((number32(pending) >= self.every) | (state.seen == 0))

        moved = jnp.where(norm > state.last, 1, -1).astype(jnp.int32)
        moved = jnp.where((state.seen == 0) | (norm == state.last), 0, moved)
        # The norms 5, 4, 3, 4, 3.5 turn at 4 (after the minimum) and at 3.5: the second one cuts.
        # Equal norms keep the trend, so a plateau between a fall and a rise is still one turn.
        turns = looks & (moved * state.trend < 0)
        fires = turns & state.turned
        return state._replace(
            scale=jnp.where(fires, self.cut(state.scale, state), state.scale),
            seen=count_if(arrived, state.seen),
            last=jnp.where(looks, norm, state.last),
            trend=jnp.where(looks & (moved != 0), moved, state.trend),
            turned=state.turned ^ turns,
            pending=jnp.where(arrived, jnp.where(looks, 0, pending), state.pending),
        )


def _squared_norm(weights: PyTree) -> jax.Array:
    sizes = [jnp.abs(jnp.asarray(w)).astype(jnp.float32) for w in jax.tree.leaves(weights)]
    squares = [jnp.sum(jnp.square(size)) for size in sizes]
    return jnp.sum(jnp.stack(squares)) if squares else zero()
