"""Controllers in a sweep: their reports, and the forks after them.

Controllers observe on the host, after a stage that ends with an evaluation. Until the next one
their rates are known, so they are values of the table like those of any schedule. (Inside the
program each kind of controller would need a program of its own.) Trials whose controllers have
decided alike so far are one run, which forks where they decide differently.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import numpy as np

from jaxsched._bounds import check_choice
from jaxsched._text import warn
from jaxsched.controllers._base import AbstractController, at_step, levels, reads
from jaxsched.search.engine._plan import Plan
from jaxsched.search.engine._records import Key, RunCurves
from jaxsched.search.engine._stage_tree import Stage
from jaxsched.search.engine._stopping import Objective
from jaxsched.search.engine._values import ControllerStates, ScheduleValues
from jaxsched.search.tasks._returned import AVERAGED, TaskShape, of_weights
from jaxsched.search.trials._trials import Trial


def check(
    table: ScheduleValues,
    monitor: str,
    every: int | None,
    objective: Objective,
    shape: TaskShape,
) -> None:
    """Raises unless the task's validation metrics hold all that the controllers act on."""
    metrics = shape.validation
    if table.watched or monitor != "loss":  # by default it is not asked for
        check_choice("sweep(monitor=...)", monitor, sorted(metrics))
    if not table.watched:
        return
    if both := sorted({*table.names} & {*shape.metrics}):
        raise ValueError(
            f"sweep(task=...): step must not return a metric {', '.join(map(repr, both))} in a "
            "sweep with controllers, whose applied values are shown under this name. Call it "
            "another."
        )
    if every is None:
        raise ValueError(
            "sweep(evaluate_every=...) must be given with controllers, which are told what is "
            "validated, got None."
        )
    names = _told_names(monitor, metrics)
    for controller in (c for row in table.controllers for c in row if c is not None):
        missing = sorted(reads(controller) - names.keys())
        if missing:
            advice = (
                "; `search.Averaged(task, window=...)` measures the averaged weights, beside the "
                "metric that monitor=... names"
                if "averaged" in missing
                else ", nor is it a metric of task.evaluate"
            )
            raise ValueError(
                f"sweep(trials=...): {type(controller).__name__} must be told "
                f"{', '.join(missing)}, got only {', '.join(sorted(names))}{advice}."
            )
        for level in levels(controller):
            _check_sense(level, names, objective)


def warn_of_senses(plan: Plan) -> None:
    """Says once that a controller minimizes a metric of unknown sense."""
    known = {"loss", of_weights(plan.objective.metric)}
    names = _told_names(plan.monitor, plan.validation)
    every = (c for row in plan.table.controllers for c in row if c is not None)
    for level in (level for controller in every for level in levels(controller)):
        unknown = sorted({m for m in _observed(level, names) if of_weights(m) not in known})
        if unknown and getattr(level, "mode", None) == "min":
            chosen = _chooses_mode(level)
            kind, own = type(level).__name__, "(mode='min')" * chosen
            repair = "mode='max'" if chosen else "monitor=... for another metric"
            warn(
                f"sweep(monitor={plan.monitor!r}): {kind}{own} takes less of {unknown[0]!r} for "
                f"better. If more is better, write {repair}; if less is, "
                f"metric={unknown[0]!r} with maximize=False says so."
            )
            return


def controllers(trial: Trial) -> dict[str, AbstractController]:
    """The controllers of a trial: hyperparameter -> controller."""
    return {n: s for n, s in trial.schedules.items() if isinstance(s, AbstractController)}


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


def _told_names(monitor: str, metrics: Any) -> dict[str, str]:
    """Keyword of ``observe`` -> validation metric."""
    found = {name: name for name in metrics if name.isidentifier()}
    found["value"] = monitor
    if AVERAGED + monitor in metrics:
        found["averaged"] = AVERAGED + monitor
    return found


def _observed(level: Any, names: dict[str, str]) -> list[str]:
    """The metrics that a controller observes, of those of ``_told_names``."""
    return [names[keyword] for keyword in level.reads if keyword in names]


def _chooses_mode(level: Any) -> bool:
    """Whether the sense of a controller is an argument of it."""
    return "mode" in {field.name for field in dataclasses.fields(level)}


def _check_sense(level: Any, names: dict[str, str], objective: Objective) -> None:
    """Raises if a controller minimizes a metric that the sweep maximizes, or vice versa."""
    metric, maximize = objective.metric, objective.maximize
    mode, own = getattr(level, "mode", None), "max" if maximize else "min"
    if mode not in ("min", "max"):
        return
    for told in _observed(level, names):
        plain = of_weights(told)
        if plain == "loss":
            right, why = "min", "which is minimized"
        elif plain == of_weights(metric):
            right, why = own, f"the sweep's own metric with maximize={maximize}"
        else:
            continue
        if mode != right:
            meant = repr(metric) if mode == own and plain == "loss" else "..."
            repair = f"monitor={meant} for the metric that it is to watch"
            chosen = _chooses_mode(level)
            named = f"mode={mode!r}" if chosen else "..."
            if chosen and plain != "loss":
                more = "less" if maximize else "more"
                repair = f"maximize={not maximize} if {more} of {metric!r} is better"
            raise ValueError(
                f"sweep(monitor=...) must be a metric of the controllers' sense, but "
                f"{type(level).__name__}({named}) is told {told!r}, {why}. Write {repair}"
                f"{f', or mode={right!r}' * chosen}."
            )


def _report(plan: Plan, step: int, curves: RunCurves | None) -> dict[str, np.float32]:
    """The measurements for controllers at the end of a stage; empty between evaluations."""
    if not plan.table.watched or plan.every is None or step % plan.every or curves is None:
        return {}
    names = _told_names(plan.monitor, plan.validation)
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
