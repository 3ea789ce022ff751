"""``Trigger``: start the cooldown, or the next stage, at a user's flag."""

from __future__ import annotations

from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxsched._arrays import INT32_MAX, is_concrete, is_list, to_host
from jaxsched._axes import size
from jaxsched._checks import cure
from jaxsched._struct import struct
from jaxsched._text import describe, warn
from jaxsched._types import Leaf, PyTree
from jaxsched.controllers._base import AbstractController
from jaxsched.controllers._numbers import flag, number32, zero
from jaxsched.schedules._base import AbstractSchedule


class TriggerState(NamedTuple):
    step: jax.Array  # int32: optimizer updates
    base: PyTree  # () or, if the base is a controller, its state
    stage: jax.Array  # int32: 0: the base, i: the i-th of the stages
    start: jax.Array  # int32: the step at which the stage began
    held: jax.Array  # float32: the rate at that step, which the stage multiplies


@struct
class Trigger(AbstractController):
    r"""Follows ``base`` until a flag starts the next stage, which begins at the present rate.

    The flag is an event: one that stays up starts one stage after another, an update each. With
    :math:`t_i` the update at which the flag came for the i-th time,

    .. math:: \eta(t) = \eta(t_i) \cdot \text{stage}_i(t - t_i), \quad t_i \le t < t_{i+1}

    One stage is on-demand annealing: train at a constant rate as long as you want, then cool down
    (``js.Linear(1.0, 0.0, 1000)``). With several, each stage starts at the last rate of the one
    before. The base may be a controller: the held rate includes its cuts. After the last stage the
    flag has no effect.

    Args:
        base: the schedule (or number, or controller) to follow at first.
        stages: a schedule, or a tuple of them: factors of the rate at their start. Begin them at 1
            for a rate without jumps; a decay that begins elsewhere is a ``UserWarning``.

    ``update`` and ``observe`` take ``trigger``: whether the next stage starts, a boolean (Python
    or traced; one for each member under ``vmap``). The update with the flag is the stage's step 0.

    References: Hägele et al., arXiv:2405.18392 (cooldown from a constant rate); OLMo-core and
    allennlp (stages).

    >>> import jaxsched as js
    >>> from jaxsched.controllers import Trigger
    >>> trigger = Trigger(0.5, js.Linear(1.0, 0.0, 2))
    >>> state = trigger.init()
    >>> for step in range(5):
    ...     print(step, float(trigger(state)))
    ...     state = trigger.update(state, trigger=step == 2)
    0 0.5
    1 0.5
    2 0.5
    3 0.25
    4 0.0
    """

    base: Any
    stages: Any

    State = TriggerState
    reads: ClassVar[tuple[str, ...]] = ("trigger",)

    def __check_init__(self) -> None:
        stages = tuple(self.stages) if is_list(self.stages) else (self.stages,)
        if not stages or not all(isinstance(stage, AbstractSchedule) for stage in stages):
            raise TypeError(
                "Trigger(stages=...) must be a schedule or a tuple of schedules, got "
                f"{describe(self.stages)}{cure(self.stages)}; a cooldown over n steps is "
                "`js.Linear(1.0, 0.0, n)`."
            )
        self.__dict__["stages"] = stages
        for stage in stages:
            _doubt(stage)

    def init(self) -> TriggerState:
        return self.first_state(held=zero())

    def react(self, state: TriggerState, *, trigger: Leaf = None, **extra: object) -> TriggerState:
        if trigger is None:
            return state
        starts = flag("Trigger.update(trigger=...)", trigger) & (state.stage < len(self.stages))
        return state._replace(
            stage=state.stage + starts.astype(jnp.int32),
            start=jnp.where(starts, state.step, state.start),
            held=jnp.where(starts, number32(self.value_at(state)), state.held),
        )

    def value_at(self, state: PyTree) -> jax.Array:
        value = self.base_value(state)
        # The stage is a number of the state, so all stages are evaluated and one is chosen.
        for index, stage in enumerate(self.stages, 1):
            scaled = number32(state.held * number32(stage(state.step - state.start)))
            value = jnp.where(state.stage == index, scaled.astype(value.dtype), value)
        return value

    def lowest(self) -> float:
        ends = [1.0 if s.duration is None else s.host(to_host(s.duration)) for s in self.stages]
        return float(np.prod(ends))

    def host_values(self, state: PyTree, steps: np.ndarray, values: np.ndarray) -> np.ndarray:
        index, start, held = jax.device_get((state.stage, state.start, state.held))
        if index == 0:
            return self.base_host_values(state, steps, values)
        stage = self.stages[int(index) - 1]
        return np.asarray(np.float64(held) * stage.host(np.maximum(steps - int(start), 0)))

    def carried(self, old: AbstractController, state: PyTree, first: PyTree) -> PyTree:
        # With fewer stages than before: the last one. It is as far on as it was, whatever the step.
        return state._replace(
            stage=jnp.minimum(state.stage, len(self.stages)),
            start=first.step - (state.step - state.start),
        )


def _doubt(stage: AbstractSchedule) -> None:
    """Warns of a decay that begins elsewhere than at 1, as one of rates does."""
    if not all(map(is_concrete, jax.tree.leaves(stage))) or size(stage) is not None:
        return
    end = INT32_MAX if stage.duration is None else float(to_host(stage.duration))
    first, last = stage.host(np.array([0.0, end])).tolist()
    if last < first and abs(first - 1.0) > 1e-6:
        warn(
            f"Trigger(stages=...): {describe(stage)} begins at {first:.6g}, and a stage is a factor"
            f" of the rate at its start, which it multiplies by {first:.6g} at once. A decay of "
            f"rates is one of factors as `schedule / {first:.6g}`."
        )
