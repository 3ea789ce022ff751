"""Draws of arguments for fvcore's schedules, and the values of the real ones."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from golden.draws import Random, number, whole

NAMES = (
    "ConstantParamScheduler",
    "CosineParamScheduler",
    "ExponentialParamScheduler",
    "LinearParamScheduler",
    "PolynomialDecayParamScheduler",
    "MultiStepParamScheduler",
    "StepParamScheduler",
    "StepWithFixedGammaParamScheduler",
    "CompositeParamScheduler",
)


def draw(name: str, random: Random, steps: int) -> list[dict[str, Any]]:
    """Arguments of that schedule for a run of so many steps, a list for each of its kinds."""
    run = {"steps": steps}
    start, end = number(random, 1e-3, 1.0), number(random, 1e-5, 1e-3)
    ends = {"start_value": start, "end_value": end}
    part, factor = whole(random, 1, steps / 3), number(random, 0.1, 0.95)
    values = [start, end, start / 2, end / 2]
    drops = {"values": values, "num_updates": steps, "milestones": [part, part + 1, 2 * part + 1]}
    rows: list[tuple[str, dict[str, Any]]] = [
        ("LinearParamScheduler", {"start_value": end, "end_value": start}),
        ("CosineParamScheduler", ends),
        ("StepParamScheduler", {"num_updates": 5, "values": values}),
    ]
    parts = [{"schedule": name, "arguments": given} for name, given in rows]
    gone = {"schedule": "ExponentialParamScheduler"}
    gone |= {"arguments": {"start_value": start, "decay": 0.0}}
    mixed = {"lengths": [0.25, 0.5, 0.25], "interval_scaling": ["rescaled", "fixed", "rescaled"]}
    kinds: dict[str, list[dict[str, Any]]] = {
        "ConstantParamScheduler": [{"value": start}],
        "CosineParamScheduler": [ends | run],
        "ExponentialParamScheduler": [
            {"start_value": start, "decay": decay} | run for decay in (factor, 0.0)
        ],
        "LinearParamScheduler": [ends | run],
        "PolynomialDecayParamScheduler": [
            {"base_value": start, "power": power} | run for power in (number(random, 0.5, 3), 0.0)
        ],
        "MultiStepParamScheduler": [
            drops | run,
            run | {"values": values, "num_updates": steps},
            run | {"values": values[:2], "milestones": [part, 3 * part]},
        ],
        "StepParamScheduler": [run | {"num_updates": part, "values": values}],
        "StepWithFixedGammaParamScheduler": [
            run | {"base_value": start, "num_decays": 3, "gamma": factor, "num_updates": part}
        ],
        "CompositeParamScheduler": [
            run | mixed | {"schedulers": each} for each in (parts, [*parts[:2], gone])
        ],
    }
    return kinds[name]


def curve(name: str, arguments: dict[str, Any], steps: int) -> Iterator[float]:
    """What the real one gives within the run, and after it where it goes on so here too."""
    given = dict(arguments)
    given.pop("steps", None)
    schedule = _scheduler(name, given)
    for step in range((2 if name == "ExponentialParamScheduler" else 1) * steps + 1):
        yield float(schedule(step / steps))


def _scheduler(name: str, arguments: dict[str, Any]) -> Any:
    from fvcore.common import param_scheduler

    given = dict(arguments)
    if "schedulers" in given:
        given["schedulers"] = [_scheduler(**_named(each)) for each in given["schedulers"]]
    return getattr(param_scheduler, name)(**given)


def _named(part: dict[str, Any]) -> dict[str, Any]:
    return {"name": part["schedule"], "arguments": part["arguments"]}
