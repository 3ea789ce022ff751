"""``Greedy``: lower the rate when a metric stalls, raise it while it improves."""

from __future__ import annotations

from typing import Any, ClassVar, Literal, NamedTuple

import jax
import jax.numpy as jnp

from jaxsched._checks import MANY, check_beside, checked_whole
from jaxsched._struct import choice, count, length, number, static, struct
from jaxsched._types import Leaf, PyTree
from jaxsched.controllers._metric import AbstractEvaluator, Evaluation, improves, sign, worst
from jaxsched.controllers._numbers import next_count, number32, zero


class GreedyState(NamedTuple):
    step: jax.Array  # int32: optimizer updates
    base: PyTree  # () or, if the base is a controller, its state
    scale: jax.Array  # float32
    seen: jax.Array  # int32: metrics received
    best: jax.Array  # float32, in the metric's own sign
    good: jax.Array  # int32: improving evaluations in a row
    bad: jax.Array  # int32: evaluations without improvement in a row
    wait: jax.Array  # int32: evaluations still to be ignored
    evaluation: Evaluation  # the one under way
    lowest: PyTree = ()  # () or, with `reset`, int32: cuts that ended on the floor, since it rose
    recent: PyTree = ()  # () or, with a window, its evaluations (float32), and their number (int32)


@struct
class Greedy(AbstractEvaluator):
    r"""GreedyLR: the rate falls while a metric stalls and rises while it improves.

    .. math::
        \text{scale} \leftarrow \begin{cases}
            \max(\text{scale} \cdot \text{factor},\ \text{min\_scale}) & \text{more than patience
            evaluations in a row don't improve} \\
            \min(\text{scale} / \text{factor},\ \text{max\_scale}) & \text{more than patience do}
        \end{cases}

    Improvement is measured against the best evaluation, as in ``Plateau``. The rule is that of
    transformers' ``GreedyLR``; the bounds are relative to the base, so that they fit any rate
    (there ``min_lr`` is 1e-3, above most rates for fine-tuning), and its ``reset`` is off.

    Args:
        base: the schedule (or number, or controller) that is scaled.
        factor: of the scale at each change (or its divisor), above 0 and below 1.
        patience: evaluations in a row without a change, at least 0.
        rtol: relative margin of an improvement, a fraction of ``|best|``.
        atol: absolute margin, in the units of the metric.
        cooldown: evaluations that are ignored after the rate was lowered.
        warmup: evaluations that are ignored after it was raised.
        min_scale: the scale's lower bound; above 1 it holds once the scale has risen to it.
        max_scale: its upper bound; below 1 it holds once the scale has fallen to it. A largest
            rate, whatever the base, is ``js.minimum(greedy, rate)``.
        accumulate: reports per evaluation, which is their mean.
        mode: ``"min"`` if less is better, ``"max"`` if more is.
        nan: ``"ignore"`` a NaN metric, or take it as a ``"bad"`` one.
        min_lr, smooth, quiet: as in ``Plateau``.
        eps: a change of the scale by this much or less is not made.
        reset: cuts that end on ``min_scale`` or ``min_lr``, not counting those before it rose,
            after which it is 1 again; the best and the averages are forgotten. ``None`` (default):
            never.
        window: judge the mean of so many last evaluations, a plain integer; ``None`` (default): 1.

    ``update`` and ``observe`` take ``value`` and ``reported``, as in ``Plateau``.

    References: Subramanian et al., GreedyLR, arXiv:2512.14527.

    >>> import jaxsched as js
    >>> from jaxsched.controllers import Greedy
    >>> greedy = Greedy(0.5, factor=0.5, patience=1)
    >>> state = greedy.init()
    >>> for loss in (3.0, 2.0, 2.0, 2.0):
    ...     state = greedy.update(state, value=loss)
    ...     print(loss, float(greedy(state)))
    3.0 0.5
    2.0 1.0
    2.0 1.0
    2.0 0.5
    """

    base: Any
    factor: Leaf = number(default=0.95, above=0, below=1)
    patience: Leaf = count(default=10, at_least=0)
    rtol: Leaf = number(default=0.0, at_least=0, below=1)
    atol: Leaf = number(default=1e-6, at_least=0)
    cooldown: Leaf = count(default=0, at_least=0)
    warmup: Leaf = count(default=0, at_least=0)
    min_scale: Leaf = number(default=0.0, at_least=0)
    max_scale: Leaf = number(default=10.0, above=0)
    accumulate: Leaf = count(default=1, at_least=1)
    mode: Literal["min", "max"] = choice("min", "max", default="min")
    nan: Literal["ignore", "bad"] = choice("ignore", "bad", default="ignore")
    min_lr: Leaf = number(default=None, at_least=0, optional=True)
    smooth: Leaf = number(default=None, at_least=0, below=1, optional=True)
    quiet: Leaf = length(default=0, at_least=0)
    eps: Leaf = number(default=0.0, at_least=0)
    reset: Leaf = count(default=None, at_least=0, optional=True)
    window: int | None = static(default=None)

    State = GreedyState
    monotone: ClassVar[bool] = False

    @property
    def bounds(self) -> tuple[Leaf, Leaf]:
        return jnp.minimum(self.min_scale, 1.0), jnp.maximum(self.max_scale, 1.0)

    def __check_init__(self) -> None:
        most = ("at most", "max_scale", self.max_scale)
        check_beside("Greedy(min_scale=...)", self.min_scale, *most)
        if self.window is not None:
            self.__dict__["window"] = checked_whole("Greedy(window=...)", self.window, 1, MANY)

    def init(self) -> GreedyState:
        none = () if self.window is None else (jnp.zeros(self.window, jnp.float32), zero(jnp.int32))
        cuts = () if self.reset is None else zero(jnp.int32)
        return self.first_state(best=worst(self.mode), recent=none, lowest=cuts)

    def judge(
        self, state: GreedyState, mean: jax.Array, ready: jax.Array, broken: jax.Array
    ) -> GreedyState:
        recent = state.recent
        if self.window is not None:
            mean, recent = _window_mean(recent, mean, ready)
        better = improves(mean, sign(self.mode) * state.best, self.rtol, self.atol)

        # While it waits, an evaluation is ignored: it doesn't even become the best.
        looked = ready & (state.wait == 0)
        good = jnp.where(better, next_count(state.good), 0)
        bad = jnp.where(better, 0, next_count(state.bad))
        # At most one of the counts is above 0, so at most one of these is true.
        rises = looked & (number32(good) > self.patience)
        falls = looked & (number32(bad) > self.patience)
        higher = jnp.minimum(state.scale / self.factor, self.max_scale)
        lower = self.cut(state.scale, state)
        scale = state.scale
        scale = jnp.where(rises & (higher - scale > self.eps), higher, scale)
        scale = jnp.where(falls & (scale - lower > self.eps), lower, scale)
        waits = [n.astype(jnp.int32) for n in (self.warmup, self.cooldown)]
        rest = jnp.maximum(state.wait - 1, 0)
        after = state._replace(
            scale=scale,
            recent=recent,
            best=jnp.where(looked & better, sign(self.mode) * mean, state.best),
            good=jnp.where(ready, jnp.where(looked & ~rises, good, 0), state.good),
            bad=jnp.where(ready, jnp.where(looked & ~falls, bad, 0), state.bad),
            wait=jnp.where(
                rises, waits[0], jnp.where(falls, waits[1], jnp.where(ready, rest, state.wait))
            ),
        )
        if self.reset is None:
            return after
        # A cut that `eps` has refused may count too: the scale alone decides.
        ends = falls & (scale <= self.floor(state.scale, state))
        lowest = jnp.where(rises, 0, jnp.where(ends, next_count(state.lowest), state.lowest))
        again = ends & (number32(lowest) >= self.reset)
        return self._forgotten(again, after._replace(lowest=lowest))

    def _forgotten(self, again: jax.Array, state: GreedyState) -> GreedyState:
        """The state; where ``again`` holds, a first state with the same clock and waits."""
        anew = self.first_state(
            step=state.step,
            base=state.base,
            seen=state.seen,
            best=worst(self.mode),
            wait=state.wait,
            recent=jax.tree.map(jnp.zeros_like, state.recent),
        )
        return jax.tree.map(lambda new, old: jnp.where(again, new, old), anew, state)


def _window_mean(
    recent: tuple[jax.Array, jax.Array], value: jax.Array, ready: jax.Array
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    """The mean of the last evaluations, where this one is ``ready``; a sum in one order."""
    values, count = recent
    pushed = jnp.concatenate([values[1:], value[None]])
    values = jnp.where(ready, pushed, values)
    count = jnp.where(ready, jnp.minimum(next_count(count), len(values)), count)
    # The order in which `jnp.sum` adds is XLA's choice, another one in another program: a run in a
    # sweep would have other bits than a loop.
    total = jax.lax.scan(lambda total, x: (total + x, None), number32(0.0), values)[0]
    return total / jnp.maximum(number32(count), 1.0), (values, count)
