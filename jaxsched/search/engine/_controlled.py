"""Controllers as members of a sweep: what they are told, and which runs go on as one after it.

They are told on the host, when a stage has ended with an evaluation; until the next one their rates
are known, so they are values of the table like those of any schedule. Trials whose controllers
have decided alike so far are one and the same run: a decision is where it forks.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from jaxsched.controllers._base import AbstractController, levels, reads
from jaxsched.search.engine._stopping import Objective
from jaxsched.search.engine._values import ScheduleValues
from jaxsched.search.tasks._shape import TaskShape
from jaxsched.search.trials._trials import Trial


def check(
    table: ScheduleValues,
    monitor: str,
    every: int | None,
    objective: Objective,
    shape: TaskShape,
) -> None:
    """Raises unless the controllers of an abstract task will be told what they act on."""
    if not table.watched:
        return
    metrics = shape.validation
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
    if monitor not in metrics:
        raise ValueError(f"sweep(monitor=...) must be one of {sorted(metrics)}, got {monitor!r}.")
    names = told_names(monitor, metrics)
    told = set(names)
    for controller in (c for row in table.controllers for c in row if c is not None):
        missing = sorted(reads(controller) - told)
        if missing:
            advice = (
                "; `search.Averaged(task, window=...)` measures the averaged weights, beside the "
                "metric that monitor=... names"
                if "averaged" in missing
                else ", nor is it a metric of task.evaluate"
            )
            raise ValueError(
                f"sweep(trials=...): {type(controller).__name__} must be told "
                f"{', '.join(missing)}, got only {', '.join(sorted(told))}{advice}."
            )
        for level in levels(controller):
            _check_sense(level, names, objective)


def controllers(trial: Trial) -> dict[str, AbstractController]:
    """What of a trial is not in its table."""
    return {n: s for n, s in trial.schedules.items() if isinstance(s, AbstractController)}


# ---------------------------------------------------------------------------------------- details


def told_names(monitor: str, metrics: Any) -> dict[str, str]:
    """Keyword of ``observe`` -> validation metric."""
    found = {name: name for name in metrics if name.isidentifier()}
    found["value"] = monitor
    if f"averaged {monitor}" in metrics:
        found["averaged"] = f"averaged {monitor}"
    return found


def _check_sense(level: Any, names: dict[str, str], objective: Objective) -> None:
    """Raises if a controller takes for better what the sweep takes for worse."""
    metric, maximize = objective.metric, objective.maximize
    mode, own = getattr(level, "mode", None), "max" if maximize else "min"
    if mode not in ("min", "max"):
        return
    for told in (names[keyword] for keyword in level.reads if keyword in names):
        plain = told.removeprefix("averaged ")
        if plain == "loss":
            right, why = "min", "which is minimized"
        elif plain == metric.removeprefix("averaged "):
            right, why = own, f"the sweep's own metric with maximize={maximize}"
        else:
            continue
        if mode != right:
            meant = repr(metric) if mode == own and plain != metric else "..."
            chosen = "mode" in {field.name for field in dataclasses.fields(level)}
            named = f"mode={mode!r}" if chosen else "..."
            raise ValueError(
                f"sweep(monitor=...) must be a metric of the controllers' sense, but "
                f"{type(level).__name__}({named}) is told {told!r}, {why}. Write monitor={meant} "
                f"for the metric that it is to watch{f', or mode={right!r}' * chosen}."
            )
