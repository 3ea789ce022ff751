"""``Greedy``: lower the rate when a metric stalls, raise it while it improves."""

from __future__ import annotations

from typing import Any, ClassVar, Literal, NamedTuple

import jax
import jax.numpy as jnp

from jaxsched._struct import choice, count, length, number, struct
from jaxsched.controllers._base import next_count, number32
from jaxsched.controllers._metric import AbstractEvaluator, Evaluation, improves, sign, worst


class GreedyState(NamedTuple):
    step: jax.Array  # int32: optimizer updates
    base: Any  # () or, if the base is a controller, its state
    scale: jax.Array  # float32
    seen: jax.Array  # int32: metrics received
    best: jax.Array  # float32, in the metric's own sign
    good: jax.Array  # int32: improving evaluations in a row
    bad: jax.Array  # int32: evaluations without improvement in a row
    wait: jax.Array  # int32: evaluations still to be ignored
    evaluation: Evaluation  # the one under way


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
    transformers' ``GreedyLR`` without its reset; the bounds are relative to the base, so that they
    fit any rate (there ``min_lr`` is 1e-3, above most rates for fine-tuning).

    Args:
        base: the schedule (or number, or controller) that is scaled.
        factor: of the scale at each change (or its divisor), above 0 and below 1.
        patience: evaluations in a row without a change, at least 0.
        rtol: relative margin of an improvement, a fraction of ``|best|``.
        atol: absolute margin, in the units of the metric.
        cooldown: evaluations that are ignored after the rate was lowered.
        warmup: evaluations that are ignored after it was raised.
        min_scale: the scale's lower bound, 0 to 1.
        max_scale: its upper bound, at least 1.
        accumulate: reports whose mean is one evaluation.
        mode: ``"min"`` if less is better, ``"max"`` if more is.
        nan: ``"ignore"`` a NaN metric, or take it as a ``"bad"`` one.
        min_lr, smooth, quiet: as in ``Plateau``.

    ``update`` and ``observe`` take ``value`` and ``reported``, as those of ``Plateau`` do.

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
    factor: Any = number(default=0.95, above=0, below=1)
    patience: Any = count(default=10, at_least=0)
    rtol: Any = number(default=0.0, at_least=0, below=1)
    atol: Any = number(default=1e-6, at_least=0)
    cooldown: Any = count(default=0, at_least=0)
    warmup: Any = count(default=0, at_least=0)
    min_scale: Any = number(default=0.0, at_least=0, at_most=1)
    max_scale: Any = number(default=10.0, at_least=1)
    accumulate: Any = count(default=1, at_least=1)
    mode: Literal["min", "max"] = choice("min", "max", default="min")
    nan: Literal["ignore", "bad"] = choice("ignore", "bad", default="ignore")
    min_lr: Any = number(default=None, at_least=0, optional=True)
    smooth: Any = number(default=None, at_least=0, below=1, optional=True)
    quiet: Any = length(default=0, at_least=0)

    State = GreedyState
    monotone: ClassVar[bool] = False

    @property
    def bounds(self) -> tuple[Any, Any]:
        return self.min_scale, self.max_scale

    def init(self) -> GreedyState:
        return self.first_state(best=worst(self.mode))

    def judge(self, state: GreedyState, mean: Any, ready: Any, broken: Any) -> GreedyState:
        better = improves(mean, sign(self.mode) * state.best, self.rtol, self.atol)

        # While it waits, an evaluation is ignored: it doesn't even become the best.
        looked = ready & (state.wait == 0)
        good = jnp.where(better, next_count(state.good), 0)
        bad = jnp.where(better, 0, next_count(state.bad))
        rises = looked & (number32(good) > self.patience)
        falls = looked & (number32(bad) > self.patience)
        higher = jnp.minimum(state.scale / self.factor, self.max_scale)
        lower = self.cut(state.scale, state)
        waits = [n.astype(jnp.int32) for n in (self.warmup, self.cooldown)]
        rest = jnp.maximum(state.wait - 1, 0)
        return state._replace(
            scale=jnp.where(rises, higher, jnp.where(falls, lower, state.scale)),
            best=jnp.where(looked & better, sign(self.mode) * mean, state.best),
            good=jnp.where(ready, jnp.where(looked & ~rises, good, 0), state.good),
            bad=jnp.where(ready, jnp.where(looked & ~falls, bad, 0), state.bad),
            wait=jnp.where(
                rises, waits[0], jnp.where(falls, waits[1], jnp.where(ready, rest, state.wait))
            ),
        )
