"""Metrics that a sweep asks for, or its controllers read."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection

from jaxsched._bounds import check_choice
from jaxsched.controllers._base import AbstractController, levels, reads
from jaxsched.search.engine._request import Request
from jaxsched.search.engine._values import ScheduleValues
from jaxsched.search.tasks._returned import AVERAGED, of_weights


def check_measured(
    request: Request, table: ScheduleValues, measured: tuple[str, ...], validation: tuple[str, ...]
) -> str:
    """Raises unless the task measures every requested metric, in senses that are known.

    Args:
        measured, validation: the metrics of a step and of an evaluation.

    Returns:
        A text to warn with, of a controller that minimizes a metric of unknown sense; or "".
    """
    metric, maximize = request.metric, request.maximize
    asked = {"metric": metric}
    if table.controlled or request.monitor != "loss":  # by default it is not asked for
        asked["monitor"] = request.monitor
    for argument, given in asked.items():
        check_choice(f"sweep({argument}=...)", given, validation)
    known = of_weights(metric) == "loss"  # the name of another metric says nothing
    if maximize is None and not known:
        raise ValueError(
            f"sweep(maximize=...) must be given for {metric!r}: True if more of it is better, "
            "False if less is, got None."
        )
    if maximize and known:
        raise ValueError(
            f"sweep(maximize=...) must be False for {metric!r}, which is minimized, got True. "
            "Write metric=... for the metric of which more is better."
        )
    return _check_reports(request, table, measured, validation) if table.controlled else ""


def _check_reports(
    request: Request, table: ScheduleValues, measured: tuple[str, ...], validation: tuple[str, ...]
) -> str:
    """Raises unless the reports have all that controllers read; returns as ``check_measured``."""
    if both := sorted({*table.names} & {*measured}):
        raise ValueError(
            f"sweep(task=...): step must not return a metric {', '.join(map(repr, both))} in a "
            "sweep with controllers, whose applied values are shown under this name. Call it "
            "another."
        )
    if request.evaluate_every is None:
        raise ValueError(
            "sweep(evaluate_every=...) must be given with controllers, which are told what is "
            "validated, got None."
        )
    told = report_names(request.monitor, validation)
    controllers = (c for row in table.controllers for c in row if c is not None)
    doubts = [_check_told(controller, told, request) for controller in controllers]
    return next(filter(None, doubts), "")


def report_names(monitor: str, metrics: Collection[str]) -> dict[str, str]:
    """Keyword of ``observe`` -> validation metric."""
    keywords = {name: name for name in metrics if name.isidentifier()}
    keywords["value"] = monitor
    if AVERAGED + monitor in metrics:
        keywords["averaged"] = AVERAGED + monitor
    return keywords


def _check_told(controller: AbstractController, told: dict[str, str], request: Request) -> str:
    """Raises if a controller reads an unreported value; else as ``_check_sense`` of its levels."""
    if missing := sorted(reads(controller) - told.keys()):
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
    doubts = [_check_sense(level, told, request) for level in levels(controller)]
    return next(filter(None, doubts), "")


def _check_sense(level: AbstractController, told: dict[str, str], request: Request) -> str:
    """Raises if a controller minimizes a metric that the sweep maximizes, or vice versa.

    Returns a text to warn with if it minimizes a metric of unknown sense, or "".
    """
    metric, maximize = request.metric, bool(request.maximize)
    mode, own = getattr(level, "mode", None), "max" if maximize else "min"
    if mode not in ("min", "max"):
        return ""
    kind, unknown = type(level).__name__, list[str]()
    chosen = "mode" in {field.name for field in dataclasses.fields(level)}  # by an argument
    for monitored in (told[keyword] for keyword in level.reads if keyword in told):
        plain = of_weights(monitored)
        if plain == "loss":
            right, why = "min", "which is minimized"
        elif plain == of_weights(metric):
            right, why = own, f"the sweep's own metric with maximize={maximize}"
        else:
            unknown.append(monitored)
            continue
        if mode != right:
            meant = repr(metric) if mode == own and plain == "loss" else "..."
            repair = f"monitor={meant} for the metric that it is to watch"
            named = f"mode={mode!r}" if chosen else "..."
            if chosen and plain != "loss":
                more = "less" if maximize else "more"
                repair = f"maximize={not maximize} if {more} of {metric!r} is better"
            raise ValueError(
                f"sweep(monitor=...) must be a metric of the controllers' sense, but "
                f"{kind}({named}) is told {monitored!r}, {why}. Write {repair}"
                f"{f', or mode={right!r}' * chosen}."
            )
    if mode == "max" or not unknown:
        return ""
    own = "(mode='min')" * chosen
    repair = "mode='max'" if chosen else "monitor=... for another metric"
    return (
        f"sweep(monitor={request.monitor!r}): {kind}{own} takes less of {min(unknown)!r} "
        f"for better. If more is better, write {repair}; if less is, "
        f"metric={min(unknown)!r} with maximize=False says so."
    )
