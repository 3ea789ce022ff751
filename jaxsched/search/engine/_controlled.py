"""Controllers in a sweep: their reports, and the forks after them.

Controllers observe on the host, after a stage that ends with an evaluation. Until the next one
their rates are known, so they are values of the table like those of any schedule. (Inside the
program each kind of controller would need a program of its own.) Trials whose controllers have
decided alike so far are one run, which forks where they decide differently.
"""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from jaxsched.controllers._base import at_step, reads
from jaxsched.search.engine._monitored import told_names
from jaxsched.search.engine._plan import Plan
from jaxsched.search.engine._records import Key, RunCurves
from jaxsched.search.engine._stage_tree import Stage
from jaxsched.search.engine._values import ControllerStates, ScheduleValues


def root_runs(plan: Plan) -> list[tuple[Key, tuple[ControllerStates, ...]]]:
    """The runs at step 0, with the first states of their trials' controllers."""
    opened = []
    for fold, seed in plan.runs():
        for stage in plan.stages:
            if stage.parent is None:
                key = Key(stage.index, fold, seed, stage.trials)
                if plan.table.watched:
                    states = {trial: plan.table.start(trial) for trial in stage.trials}
                    opened += _split_by_values(plan, key, states)
                else:
                    opened.append((key, _without_controllers(stage)))
    return opened


def child_runs(
    plan: Plan, key: Key, states: tuple[ControllerStates, ...], curves: RunCurves | None
) -> list[tuple[Key, tuple[ControllerStates, ...]]]:
    """The runs that follow a run with these curves, in a fixed order; none after a divergence.

    Without controllers they are known before it ends: ``curves`` may be ``None``.
    """
    if curves is not None and curves.diverged >= 0:
        return []
    stage, children = plan.stages[key.stage], plan.children[key.stage]
    if not plan.table.watched:
        below = [plan.stages[child] for child in children]
        return [(Key(s.index, *key[1:3], s.trials), _without_controllers(s)) for s in below]
    report = _report(plan, stage.stop, curves)
    after = dict(zip(key.trials, states, strict=True))
    if report:
        after = {t: _observe_all(plan.table, t, s, stage.stop, report) for t, s in after.items()}
    opened = []
    for child in children:
        trials = tuple(t for t in plan.stages[child].trials if t in after)
        opened += _split_by_values(plan, key._replace(stage=child, trials=trials), after)
    return opened


def _report(plan: Plan, step: int, curves: RunCurves | None) -> dict[str, np.float32]:
    """The measurements for controllers at the end of a stage; empty between evaluations."""
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
            count = np.int32(step * table.updates)
            told = jax.device_put((count, read), state.step.sharding)
            state = _observe(controller, state, *told)
        after.append(state)
    return tuple(after)


@jax.jit
def _observe(controller: Any, state: Any, step: Any, report: dict[str, Any]) -> Any:
    return controller.observe(at_step(controller, state, step), **report)


def _split_by_values(
    plan: Plan, key: Key, states: dict[int, ControllerStates]
) -> list[tuple[Key, tuple[ControllerStates, ...]]]:
    """The trials of ``key``, grouped by their values in this stage."""
    if not key.trials:
        return []
    table, stage = plan.table, plan.stages[key.stage]
    groups: dict[bytes, list[int]] = {}
    for trial in key.trials:
        bits = b""
        if len(key.trials) > 1:
            bits = table.values(trial, stage.start, stage.stop, states[trial]).tobytes()
        groups.setdefault(bits, []).append(trial)
    return [
        (key._replace(trials=tuple(group)), tuple(states[t] for t in group))
        for group in groups.values()
    ]


def _without_controllers(stage: Stage) -> tuple[ControllerStates, ...]:
    return ((),) * len(stage.trials)
