"""``AutoDecay``: lower the rate when it bounces and staying no longer pays; no horizon is given."""

from __future__ import annotations

from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp

from jaxsched._struct import count, number, struct
from jaxsched._types import Leaf, PyTree
from jaxsched.controllers._metric import count_if, improves, worst
from jaxsched.controllers._numbers import flag, next_count, number32, scalar, zero
from jaxsched.controllers._scaler import AbstractScaler
from jaxsched.controllers.measurements._gap import averaging_gap


class AutoDecayState(NamedTuple):
    step: jax.Array  # int32: optimizer updates
    base: PyTree  # () or, if the base is a controller, its state
    scale: jax.Array  # float32
    seen: jax.Array  # int32: windows reported
    gap: jax.Array  # float32: the averaging gap of the last window, in nats
    best: jax.Array  # float32: the least loss of averaged weights
    bad: jax.Array  # int32: windows in a row that didn't improve on it


@struct
class AutoDecay(AbstractScaler):
    r"""Multiplies the rate by ``factor`` when it bounces *and* the averaged weights have stalled.

    At the end of each window of updates two losses are reported, on the same examples: the loss of
    the weights, :math:`\ell`, and of the mean of the window's weights, :math:`\bar\ell`. Then

    .. math:: \log \ell - \log \bar\ell > \text{threshold}

    means that a decay now would gain about this gap: the weights bounce around better ones. But the
    gap alone decays too early: while :math:`\bar\ell` itself still falls, staying pays, too. So the
    rate is cut when the gap is above the threshold and more than ``patience`` windows in a row have
    not improved :math:`\bar\ell`. A metric that stalls for another reason does not cut the rate.

    Args:
        base: the schedule (or number, or controller) that is scaled.
        factor: of the scale at each cut, above 0 and below 1.
        patience: tolerated windows without improvement of the averaged weights, at least 0.
        threshold: the averaging gap, in nats, above which the weights count as bouncing.
        rtol: relative margin of an improvement, a fraction of the best loss.
        min_scale: the scale's lower bound, 0 to 1.
        min_lr: the least rate; ``None`` (default): none.

    ``update`` and ``observe`` take ``value`` and ``averaged``, two positive losses, and
    ``reported``, which may be traced. Between the ends of windows omit ``averaged`` or give
    ``reported=False``. A loss that isn't positive and finite is ignored, except that an infinite
    ``value`` with a finite ``averaged`` is a gap above any threshold.

    The defaults are for windows of about a fortieth of a run. Many small cuts did better than a few
    large ones, and so did a threshold below the 0.1 nats of ``diagnose``. Use the mean of the last
    window as the result: without a horizon the rate is never at its end, and the mean makes up for
    that (see ``benchmarks/controllers.py``).

    >>> from jaxsched.controllers import AutoDecay
    >>> auto = AutoDecay(1.0, factor=0.5, patience=0)
    >>> state = auto.init()
    >>> for loss, averaged in [(1.0, 0.8), (0.9, 0.7), (0.9, 0.7), (0.7, 0.68), (0.7, 0.69)]:
    ...     state = auto.update(state, value=loss, averaged=averaged)
    ...     print(loss, averaged, float(auto(state)))
    1.0 0.8 1.0
    0.9 0.7 1.0
    0.9 0.7 0.5
    0.7 0.68 0.5
    0.7 0.69 0.5
    """

    base: Any
    factor: Leaf = number(default=0.7, above=0, below=1)
    patience: Leaf = count(default=1, at_least=0)
    threshold: Leaf = number(default=0.05, at_least=0)
    rtol: Leaf = number(default=0.01, at_least=0, below=1)
    min_scale: Leaf = number(default=0.0, at_least=0, at_most=1)
    min_lr: Leaf = number(default=None, at_least=0, optional=True)

    State = AutoDecayState
    reads: ClassVar[tuple[str, ...]] = ("value", "averaged")
    mode: ClassVar[str] = "min"  # its gap is one of losses

    def init(self) -> AutoDecayState:
        return self.first_state(gap=zero(), best=worst(self.mode))

    def react(
        self,
        state: AutoDecayState,
        *,
        value: Leaf = None,
        averaged: Leaf = None,
        reported: Leaf = True,
        **extra: object,
    ) -> AutoDecayState:
        if value is None or averaged is None:
            return state
        value = scalar("AutoDecay.update(value=...)", value, ": take its mean first")
        averaged = scalar("AutoDecay.update(averaged=...)", averaged, ": take its mean first")
        arrived = flag("AutoDecay.update(reported=...)", reported)
        arrived &= (value > 0) & (averaged > 0) & jnp.isfinite(averaged)
        # With an infinite loss the gap counts as unknown, which is 0. With the largest float32 in
        # its place it is about 88 nats for an averaged loss of 1, above any threshold.
        gap = averaging_gap(jnp.minimum(value, jnp.finfo(jnp.float32).max), averaged).value

        better = improves(averaged, state.best, self.rtol, 0.0)
        bad = jnp.where(better, 0, next_count(state.bad))
        fires = arrived & (number32(bad) > self.patience) & (gap > self.threshold)
        return state._replace(
            scale=jnp.where(fires, self.cut(state.scale, state), state.scale),
            seen=count_if(arrived, state.seen),
            gap=jnp.where(arrived, gap, state.gap),
            best=jnp.where(arrived & better, averaged, state.best),
            bad=jnp.where(arrived, jnp.where(fires, 0, bad), state.bad),
        )
