"""``Plateau``: lower the rate when a metric stops improving."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp

from jaxsched._struct import choice, count, length, number, struct
from jaxsched._types import Leaf, PyTree
from jaxsched.controllers._metric import AbstractEvaluator, Evaluation, improves, sign, worst
from jaxsched.controllers._numbers import next_count, number32


class PlateauState(NamedTuple):
    step: jax.Array  # int32: optimizer updates
    base: PyTree  # () or, if the base is a controller, its state
    scale: jax.Array  # float32
    seen: jax.Array  # int32: metrics received; 0: none is reported
    best: jax.Array  # float32, in the metric's own sign
    bad: jax.Array  # int32: evaluations without improvement, in a row
    wait: jax.Array  # int32: evaluations of the cooldown that are left
    evaluation: Evaluation  # the one under way


@struct
class Plateau(AbstractEvaluator):
    r"""Multiplies the rate by ``factor`` when a metric has stopped improving.

    An evaluation :math:`v` (the mean of ``accumulate`` reports) improves on the best so far,
    :math:`b`, if (``mode="min"``)

    .. math:: v < b - (\mathrm{rtol}\,|b| + \mathrm{atol})

    and the rate is cut when too many in a row don't. The meaning of "too many" differs:

    ============  ================  ======================  =====================================
    ``rule``      cuts when         cooldown ignores        library
    ============  ================  ======================  =====================================
    ``"torch"``   bad > patience    ``cooldown``            PyTorch, transformers (default)
    ``"keras"``   bad >= patience   ``cooldown - 1``        Keras
    ``"optax"``   bad >= patience   ``cooldown``            optax.contrib.reduce_on_plateau
    ============  ================  ======================  =====================================

    A patience of 0 cuts at every evaluation without improvement under all three. (Optax cuts at
    improving ones too: a bug.) The margin uses the magnitude of the best, so it is right for
    negative metrics and zero. (In PyTorch and Optax a constant negative metric always improves.)

    Args:
        base: the schedule (or number, or controller) to scale; its steps are optimizer updates.
        factor: of the scale at each cut, at least 0 and below 1.
        patience: evaluations without improvement that are tolerated, at least 0.
        rtol: relative margin, a fraction of ``|best|``.
        atol: absolute margin, in the units of the metric.
        cooldown: evaluations that are not counted after a cut.
        min_scale: the scale's lower bound, 0 to 1: the least rate divided by the base.
        accumulate: reports per evaluation, which is their mean, e.g. the micro-batches of an epoch.
        mode: ``"min"`` if less is better, ``"max"`` if more is.
        rule: of patience, see above.
        nan: the effect of a NaN (or infinitely good) metric: ``"ignore"``: none, as if not
            reported; ``"bad"``, as in the libraries above: NaN is the worst value (and an
            infinitely good one the best: no later value improves on it); ``"stop"``: the scale
            stays at ``min_scale`` for good.
        min_lr: the least rate, whatever the base and the scale; ``None`` (default): none.
        smooth: the share of the average that stays at each evaluation, at least 0 and below 1:
            0.9 averages over about ten. The bias of the first ones is corrected. ``None``
            (default): each is judged by itself.
        quiet: optimizer updates at the start of the run, including a warmup's; their reports have
            no effect, here and on controllers in ``base``.

    ``update`` and ``observe`` take ``value``, one real number of any dtype. On updates without one,
    the scale holds: omit it or give ``value=None`` (another compiled program), or, inside one
    program, ``reported=False`` with any value. ``reported`` may be traced.

    >>> import jaxsched as js
    >>> from jaxsched.controllers import Plateau
    >>> plateau = Plateau(js.Constant(0.5), factor=0.5, patience=1)
    >>> state = plateau.init()
    >>> for loss in (3.0, 2.0, 2.0, 2.0, 1.0):
    ...     state = plateau.update(state, value=loss)
    ...     print(loss, float(plateau(state)))
    3.0 0.5
    2.0 0.5
    2.0 0.5
    2.0 0.25
    1.0 0.25
    """

    base: Any
    factor: Leaf = number(default=0.1, at_least=0, below=1)
    patience: Leaf = count(default=10, at_least=0)
    rtol: Leaf = number(default=1e-4, at_least=0, below=1)
    atol: Leaf = number(default=0.0, at_least=0)
    cooldown: Leaf = count(default=0, at_least=0)
    min_scale: Leaf = number(default=0.0, at_least=0, at_most=1)
    accumulate: Leaf = count(default=1, at_least=1)
    mode: Literal["min", "max"] = choice("min", "max", default="min")
    rule: Literal["torch", "keras", "optax"] = choice("torch", "keras", "optax", default="torch")
    nan: Literal["ignore", "bad", "stop"] = choice("ignore", "bad", "stop", default="ignore")
    min_lr: Leaf = number(default=None, at_least=0, optional=True)
    smooth: Leaf = number(default=None, at_least=0, below=1, optional=True)
    quiet: Leaf = length(default=0, at_least=0)

    State = PlateauState

    def init(self) -> PlateauState:
        return self.first_state(best=worst(self.mode))

    def judge(
        self, state: PlateauState, mean: jax.Array, ready: jax.Array, broken: jax.Array
    ) -> PlateauState:
        better = improves(mean, sign(self.mode) * state.best, self.rtol, self.atol)

        # While it waits the best goes on, as in the libraries, but nothing is counted as bad.
        bad = jnp.where(better | (state.wait > 0), 0, next_count(state.bad))
        if self.rule == "torch":
            needed = jnp.floor(self.patience) + 1.0
        else:  # at least 1: `0 >= patience` would cut at an evaluation that improves, as Optax does
            needed = jnp.maximum(self.patience, 1.0)
        fires = ready & (number32(bad) >= needed)
        scale = jnp.where(fires, self.cut(state.scale, state), state.scale)
        if self.nan == "stop":  # for good: no cut goes below `min_scale`, and nothing raises it
            scale = jnp.where(broken, self.min_scale, scale)
        # Keras decrements the cooldown before it judges the evaluation, so the last one counts.
        cooldown = jnp.ceil(self.cooldown) - (1.0 if self.rule == "keras" else 0.0)
        ignored = jnp.maximum(cooldown, 0.0).astype(jnp.int32)
        rest = jnp.where(fires, ignored, jnp.maximum(state.wait - 1, 0))
        return state._replace(
            scale=scale,
            best=jnp.where(ready & better, sign(self.mode) * mean, state.best),
            bad=jnp.where(ready, jnp.where(fires, 0, bad), state.bad),
            wait=jnp.where(ready, rest, state.wait),
        )
