"""Draws of arguments for Composer's schedulers, and the values of the real ones.

Their module is imported without its package, which would import a whole trainer.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import sys
import types
import warnings
from collections.abc import Iterator
from typing import Any

from golden.draws import Random, number, whole

NAMES = (
    "StepScheduler",
    "MultiStepScheduler",
    "ConstantScheduler",
    "LinearScheduler",
    "ExponentialScheduler",
    "CosineAnnealingScheduler",
    "PolynomialScheduler",
    "CosineAnnealingWarmRestartsScheduler",
    "MultiStepWithWarmupScheduler",
    "ConstantWithWarmupScheduler",
    "LinearWithWarmupScheduler",
    "CosineAnnealingWithWarmupScheduler",
    "PolynomialWithWarmupScheduler",
)


def draw(name: str, random: Random, steps: int) -> list[dict[str, Any]]:
    """Arguments of that scheduler for a run of so many steps, a list for each of its kinds."""
    factor, low, power = number(random, 0.1, 0.9), number(random, 0.01, 0.5), number(random, 0.5, 3)
    part = whole(random, 2, steps / 3)
    batches = {"max_duration": f"{steps}ba"}
    epochs = {"max_duration": "4ep", "dataloader_len": whole(random, 3, steps / 4), "ssr": 0.5}
    warm = {"t_warmup": part}
    scaled = {"t_warmup": f"{part}ba", "scale_warmup": True, "ssr": 1.5} | batches
    tails: dict[str, list[dict[str, Any]]] = {
        "Constant": [{"alpha": factor}],
        "Linear": [{"alpha_i": factor, "alpha_f": low}],
        "CosineAnnealing": [{"alpha_f": low}],
        "Polynomial": [{"alpha_f": low, "power": power}, {"alpha_f": low, "power": 0.0}],
    }
    points = {"milestones": [part, 2 * part, part], "gamma": factor}
    shares = {"milestones": ["0.5dur", "3ep"], "gamma": factor}
    cycles = "CosineAnnealingWarmRestartsScheduler"
    kinds: dict[str, list[dict[str, Any]]] = {
        "StepScheduler": [{"step_size": part, "gamma": factor}, {"step_size": "1ep"} | epochs],
        "MultiStepScheduler": [points, shares | epochs],
        "ExponentialScheduler": [{"gamma": factor, "decay_period": part}, {"gamma": 0.0} | epochs],
        cycles: [{"t_0": part, "alpha_f": low}]
        + [{"t_0": f"{t}ba", "t_mult": m} | batches for t, m in ((3, 1.5), (1, 1.5), (2, 2.0))],
        "MultiStepWithWarmupScheduler": [warm | points, scaled | points],
    }
    for kind, tail in tails.items():
        kinds[f"{kind}Scheduler"] = [x | {"t_max": part} for x in tail] + [tail[0] | epochs]
        longer = {"t_max": steps}
        kinds[f"{kind}WithWarmupScheduler"] = [warm | longer | x for x in tail] + [
            scaled | {"t_max": f"{steps}ba"} | tail[0],
            scaled | tail[0] | {"ssr": 1.0},
            {"t_warmup": "2ep", "t_max": "1dur"} | epochs | tail[0] | {"ssr": 1.0},
            longer | {"t_warmup": steps + 2} | tail[0],
        ]
    return kinds[name]


def curve(name: str, arguments: dict[str, Any], steps: int) -> Iterator[float]:
    """What the real one gives at the steps 0, 1, ... up to twice the run."""
    given, module, time = dict(arguments), *_theirs()
    ssr = given.pop("ssr", 1.0)
    length = given.pop("dataloader_len", None)
    duration = time.Time.from_timestring(given.pop("max_duration", "1ba"))
    given = {word: _as_time(word, x) for word, x in given.items()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scheduler = getattr(module, name)(**given)
        for step in range(2 * steps + 1):
            state = types.SimpleNamespace(max_duration=duration, dataloader_len=length)
            state.timestamp = _Now(step, time.Time)
            yield float(scheduler(state, ssr))


def _as_time(word: str, x: Any) -> Any:
    """A number of batches as they write it."""
    if word == "milestones":
        return [_as_time("milestone", each) for each in x]
    times = ("t_warmup", "t_max", "t_0", "step_size", "decay_period", "milestone")
    return f"{x}ba" if word in times and not isinstance(x, str) else x


class _Now:
    """The step, in whatever unit is asked for."""

    def __init__(self, step: int, time: Any) -> None:
        self.step, self.time = step, time

    def get(self, unit: Any) -> Any:
        return self.time(self.step, unit)

    def __lt__(self, other: Any) -> bool:
        return bool(self.step < other.value)

    def __ge__(self, other: Any) -> bool:
        return not self < other


@functools.cache
def _theirs() -> tuple[Any, Any]:
    spec = importlib.util.find_spec("composer")
    assert spec is not None and spec.submodule_search_locations is not None
    root = spec.submodule_search_locations[0]
    for part in ("", ".core", ".utils", ".optim"):
        package = types.ModuleType(f"composer{part}")
        package.__path__ = [root + part.replace(".", "/")]
        sys.modules[package.__name__] = package
    enum: Any = importlib.import_module("composer.utils.string_enum")
    sys.modules["composer.utils"].StringEnum = enum.StringEnum  # type: ignore[attr-defined]
    time: Any = importlib.import_module("composer.core.time")
    core: Any = sys.modules["composer.core"]
    core.Time, core.TimeUnit, core.State = time.Time, time.TimeUnit, object
    return importlib.import_module("composer.optim.scheduler"), time
