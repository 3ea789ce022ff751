"""Where runs begin and how they go on: which trials are one and the same run, and up to where.

Controllers are told on the host, when a stage has ended with an evaluation; until the next one
their rates are known, so they are values of the table like those of any schedule. Trials whose
controllers have decided alike so far are one and the same run: a decision is where it forks.
"""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from jaxsched.controllers._base import at_step, reads
from jaxsched.search.engine._controlled import told_names
from jaxsched.search.engine._plan import Plan
from jaxsched.search.engine._records import Key, RunCurves
from jaxsched.search.engine._values import ControllerStates, ScheduleValues


def root_runs(plan: Plan) -> list[tuple[Key, tuple[ControllerStates, ...]]]:
    """The runs at their beginning, and what the controllers of their trials have seen: nothing."""
    opened = []
    for fold, seed in plan.runs():
        for stage in plan.stages:
            if stage.parent is None:
                states = {trial: plan.table.start(trial) for trial in stage.trials}
                opened += _split_by_values(plan, Key(stage.index, fold, seed, stage.trials), states)
    return opened


def child_runs(
    plan: Plan, key: Key, states: tuple[ControllerStates, ...], curves: RunCurves | None
) -> list[tuple[Key, tuple[ControllerStates, ...]]]:
    """What follows a run of a stage that has ended as ``curves`` say, in a fixed order.

    Without controllers, that is known before it has.
    """
    if curves is not None and curves.diverged >= 0:
        return []
    stage = plan.stages[key.stage]
    report = _report(plan, stage.stop, curves)
    after = dict(zip(key.trials, states, strict=True))
    if report:
        after = {t: _observe_all(plan.table, t, s, stage.stop, report) for t, s in after.items()}
    opened = []
    for child in plan.children[key.stage]:
        trials = tuple(t for t in plan.stages[child].trials if t in after)
        opened += _split_by_values(plan, key._replace(stage=child, trials=trials), after)
    return opened


# ---------------------------------------------------------------------------------------- details


def _report(plan: Plan, step: int, curves: RunCurves | None) -> dict[str, np.float32]:
    """What is told at the end of a stage; nothing between the evaluations."""
    if not plan.table.watched or plan.every is None or step % plan.every or curves is None:
        return {}
    names = told_names(plan.monitor, plan.validation)
    return {keyword: curves.validation[metric][-1] for keyword, metric in names.items()}


def _observe_all(
    table: ScheduleValues,
    trial: int,
    states: ControllerStates,
    step: int,
    report: dict[str, np.float32],
) -> ControllerStates:
    after = []
    for controller, state in zip(table.host_controllers(trial), states, strict=True):
        if controller is not None:
            read = {k: v for k, v in report.items() if k in reads(controller)}
            told = jax.device_put((np.int32(step), read), state.step.sharding)
            state = _observe(controller, state, *told)
        after.append(state)
    return tuple(after)


@jax.jit
def _observe(controller: Any, state: Any, step: Any, report: dict[str, Any]) -> Any:
    return controller.observe(at_step(controller, state, step), **report)


def _split_by_values(
    plan: Plan, key: Key, states: dict[int, ControllerStates]
) -> list[tuple[Key, tuple[ControllerStates, ...]]]:
    """The trials of ``key``, taken apart where their values differ in this stage."""
    if not key.trials:
        return []
    table, stage = plan.table, plan.stages[key.stage]
    groups: dict[bytes, list[int]] = {}
    for trial in key.trials:
        bits = b""
        if table.watched and len(key.trials) > 1:
            bits = table.values(trial, stage.start, stage.stop, states[trial]).tobytes()
        groups.setdefault(bits, []).append(trial)
    return [
        (key._replace(trials=tuple(group)), tuple(states[t] for t in group))
        for group in groups.values()
    ]
