"""Doubts before a sweep is trained: where its schedules and its runs do not agree."""

from __future__ import annotations

import math

import numpy as np

from jaxsched._arrays import to_host
from jaxsched._text import describe, warn
from jaxsched.controllers._base import untold
from jaxsched.schedules import _shapes as shapes
from jaxsched.schedules._base import AbstractSchedule
from jaxsched.schedules._phase import phases_of
from jaxsched.search.engine._plan import Plan
from jaxsched.search.engine._request import Request

# The trial and its updates, the hyperparameter, and the schedule that it or its controller follows.
Scheduled = list[tuple[str, int, str, AbstractSchedule]]


def warn_before(plan: Plan, request: Request, platform: str) -> None:
    """Warns of likely mistakes, before any training."""
    scheduled = [
        (trial.name, steps * plan.table.updates, name, untold(schedule))
        for trial, steps in zip(plan.trials, plan.table.horizons.tolist(), strict=True)
        for name, schedule in trial.schedules.items()
    ]
    if request.steps is not None or len(plan.table.hyperparams) > 1:
        warn_of_lengths(scheduled, len(plan.trials), request.steps)
    warn_of_fractions(scheduled)
    warn_of_idle(plan)
    if plan.doubt:
        warn(plan.doubt)
    if platform == "cpu":
        warn_of_convolutions(plan)


def warn_of_lengths(scheduled: Scheduled, trials: int, requested: int | None) -> None:
    """Warns once, for a whole sweep, that its runs do not have the length of their schedules.

    Either a run ends far from where a schedule ends (over a tenth of its range: a decay is not
    seen), or over a tenth of its updates come after a learning rate has ended at zero. Without
    ``steps`` a longer schedule beside the rate, such as of the weight decay, makes it so long.
    """
    cut, dead = [], []
    for trial, steps, name, schedule in scheduled:
        if schedule.duration is None:
            continue
        duration = float(to_host(schedule.duration))
        if steps < duration and requested is not None:
            grid = np.linspace(0, math.ceil(duration), 256).round()
            values = schedule.host(np.array([steps, *grid]))  # where the run is cut, then all of it
            if abs(values[0] - values[-1]) > 0.1 * np.ptp(values):
                cut.append((trial, f"{steps / duration:.0%} of its {name}"))
        elif name == "learning_rate" and duration < 0.9 * steps:
            ended = math.ceil(duration)
            if schedule.host(np.array([ended]))[0] == 0:
                dead.append((trial, f"{steps - ended} of its updates"))
    for examples, what, how in (
        (cut, "end before their schedules have", "does only {}"),
        (dead, "go on after their learning rate has ended at zero", "has rate 0 in {}"),
    ):
        if examples:
            count = len({name for name, _ in examples})
            name, example = examples[0]
            where = "trials=..." if requested is None else f"steps={requested}"
            repair = "Give the recipe the length of the run, or omit steps=."
            if requested is None:
                repair = "Another of its schedules is longer: give all one length, or steps=."
            warn(
                f"sweep({where}): {count} of {trials} trials {what}: {name} "
                f"{how.format(example)}. {repair}"
            )
            return


def warn_of_fractions(scheduled: Scheduled) -> None:
    """Warns once of a curve within one update: a traced share, which no recipe could check."""
    for trial, _, name, schedule in scheduled:
        for kind, start, end in phases_of(schedule):
            length = 0 if end is None else end - start
            if 0 < length < 1 and hasattr(shapes, kind):
                warn(
                    f"sweep(trials=...): {name} of {trial} has a {kind} of {length:.4g} updates: a "
                    f"share of the run is js.share({length:.4g})."
                )
                return


def warn_of_idle(plan: Plan) -> None:
    """Warns of actions that never happen: they would come after the end of the longest run."""
    if plan.objective.stopping is not None and not len(plan.rungs):
        warn(
            f"sweep(stopping=...): {describe(plan.objective.stopping)} compares no trials within "
            f"the longest run, of {plan.longest} steps: none is given up."
        )
    # Without controllers the last step may be meant; with them a report there comes too late.
    if plan.every is not None and plan.every >= plan.longest + (not plan.table.controlled):
        once = "evaluated at its end only"
        if plan.table.controlled:
            once += ", so that no controller is told anything"
        warn(
            f"sweep(evaluate_every={plan.every}): the longest run has {plan.longest} steps: it is "
            f"{once}."
        )


def warn_of_convolutions(plan: Plan) -> None:
    """Says how to be faster if a step has an ordinary convolution."""
    if "conv_general_dilated" in plan.folds[0].primitives("step"):
        warn(
            f"{plan.caller}(task=...): the step has a convolution of XLA, which inside a compiled "
            "loop on a CPU is 10 to 30 times slower than it need be. Give the layer "
            "`conv_general_dilated=js.search.cpu_conv` (Flax nnx.Conv and linen.Conv take it)."
        )
