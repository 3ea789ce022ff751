"""Controllers in a sweep: their reports, and the forks after them.

Controllers observe on the host, after a stage that ends with an evaluation. Until the next one
their rates are known, so these are values of the table like any schedule's. (Inside the program
each kind of controller would need a program of its own.) Trials whose controllers have decided
alike so far are one run. It forks where they decide differently.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import jax
import numpy as np

from jaxsched._types import PyTree
from jaxsched.controllers._base import AbstractController, at_step, reads
from jaxsched.search.engine._monitored import report_names
from jaxsched.search.engine._plan import Plan
from jaxsched.search.engine._records import Key, OpenRun, RunCurves
from jaxsched.search.engine._values import ControllerStates, ScheduleValues


def root_runs(plan: Plan, state: PyTree | None, path: Any) -> list[OpenRun]:
    """The runs at step 0, with the first states of their trials' controllers."""
    opened, none = list[OpenRun](), no_curves(plan)  # each run gets curves of its own when it forks
    for fold, seed in plan.runs:
        for stage in (stage for stage in plan.stages if stage.parent is None):
            states = dict[int, ControllerStates]()
            if plan.table.controlled:
                states = {trial: plan.table.start(trial) for trial in stage.trials}
            key = Key(stage.index, fold, seed, stage.trials)
            opened += _forked_runs(plan, OpenRun(key, 0, state, none, (), path), states)
    return opened


def child_runs(plan: Plan, run: OpenRun, path: Any) -> list[OpenRun]:
    """The runs that follow a run, in a fixed order; none after a divergence.

    Without controllers they are known before it ends. ``path`` is theirs.
    """
    if run.curves.diverged >= 0:
        return []
    stage, states = plan.stages[run.key.stage], dict[int, ControllerStates]()
    if plan.table.controlled:
        states = dict(zip(run.key.trials, run.controller_states, strict=True))
        # Each trial's controllers for themselves, though all have run as one until here.
        if report := _report_at(plan, stage.stop, run.curves):
            observe = partial(_observed_states, plan.table, step=stage.stop, report=report)
            states = {trial: observe(trial, before) for trial, before in states.items()}
    opened = list[OpenRun]()
    for child in plan.children[stage.index]:
        trials = plan.stages[child].trials
        if plan.table.controlled:
            trials = tuple(trial for trial in trials if trial in states)
        key = run.key._replace(stage=child, trials=trials)
        opened += _forked_runs(plan, replace(run, key=key, at=stage.stop, path=path), states)
    return opened


def _report_at(plan: Plan, step: int, curves: RunCurves) -> dict[str, np.float32]:
    """The measurements for controllers at the end of a stage; empty between evaluations."""
    if plan.every is None or step % plan.every:
        return {}
    names = report_names(plan.monitor, plan.validation)
    return {keyword: curves.validation[metric][-1] for keyword, metric in names.items()}


def _observed_states(
    table: ScheduleValues,
    trial: int,
    states: ControllerStates,
    step: int,
    report: dict[str, np.float32],
) -> ControllerStates:
    """The states of a trial's controllers after a report."""
    after = []
    for controller, state in zip(table.host_controllers(trial), states, strict=True):
        if controller is not None:
            read = {k: v for k, v in report.items() if k in reads(controller)}
            count = np.int32(step * table.updates)
            # To the CPU of the host, where the states lie: JAX compiles for each placement anew.
            arguments = jax.device_put((count, read), state.step.sharding)
            state = _observed_state(controller, state, *arguments)
        after.append(state)
    return tuple(after)


@jax.jit
def _observed_state(
    controller: AbstractController, state: PyTree, step: jax.Array, report: dict[str, jax.Array]
) -> PyTree:
    return controller.observe(at_step(controller, state, step), **report)


def no_curves(plan: Plan) -> RunCurves:
    """The curves of a run that begins: nothing is measured yet."""
    none = np.zeros(0, np.float32)
    return RunCurves(dict.fromkeys(plan.train, none), dict.fromkeys(plan.validation, none))


def _forked_runs(plan: Plan, run: OpenRun, states: dict[int, ControllerStates]) -> list[OpenRun]:
    """A run at its begin; or with controllers one run for each set of values in this stage."""
    # The counters of two controllers may differ long before their rates do: two `js.Plateau` with
    # patience 1 and 2 have different states after the first report, and are one run until one of
    # them cuts. So the values up to the next report are compared, not the states.
    key, table, stage = run.key, plan.table, plan.stages[run.key.stage]
    if not table.controlled:
        states_of_none = ((),) * len(key.trials)
        return [replace(run, curves=no_curves(plan), controller_states=states_of_none)]
    groups: dict[bytes, list[int]] = {}
    for trial in key.trials:
        bits = b""
        if len(key.trials) > 1:  # alone it forks from nothing, and no values are computed for it
            bits = table.values(trial, stage.start, stage.stop, states[trial]).tobytes()
        groups.setdefault(bits, []).append(trial)
    return [
        replace(
            run,
            key=key._replace(trials=tuple(group)),
            curves=no_curves(plan),
            controller_states=tuple(states[trial] for trial in group),
        )
        for group in groups.values()
    ]
