"""Draws of arguments for timm's schedulers, and the values of the real ones."""

from __future__ import annotations

import importlib.util
import sys
import types
from collections.abc import Iterator
from typing import Any

from golden import FUNCTIONS
from golden.draws import Random, losses, number, whole

CYCLIC = ("CosineLRScheduler", "PolyLRScheduler", "TanhLRScheduler")
NAMES = (*CYCLIC, "StepLRScheduler", "MultiStepLRScheduler", "WSDLRScheduler", "PlateauLRScheduler")


def draw(name: str, random: Random, steps: int) -> list[dict[str, Any]]:
    """Arguments of that scheduler for a run of so many steps, a list for each of its kinds."""
    lr: dict[str, Any] = {"base_lr": number(random, 1e-4, 1.0)}
    low: dict[str, Any] = {"lr_min": lr["base_lr"] / 16}
    part = whole(random, 2, steps / 3)
    rate = number(random, 0.1, 0.9)
    warm = {"warmup_t": whole(random, 1, steps / 4), "warmup_lr_init": lr["base_lr"] / 32}
    prefix = warm | {"warmup_prefix": True}
    own: dict[str, list[dict[str, Any]]] = {
        "CosineLRScheduler": [{"k_decay": number(random, 0.5, 3)}],
        "PolyLRScheduler": [
            {"power": number(random, 0.3, 3), "k_decay": number(random, 0.5, 3)},
            {"power": 0.0, "cycle_limit": 2},
        ],
        "TanhLRScheduler": [{"lb": -4.0, "ub": 2.0, "warmup_t": warm["warmup_t"]}],
    }
    kinds: list[dict[str, Any]]
    if name in CYCLIC:
        cycles: dict[str, Any] = {"t_initial": part, "cycle_limit": 3}
        kinds = [
            {"t_initial": steps},
            {"t_initial": steps} | warm | low,
            {"t_initial": steps} | prefix | low,
            cycles | {"cycle_decay": rate} | low,
            cycles | {"cycle_mul": 2.0} | low | prefix,
            cycles | {"cycle_mul": 2.0, "cycle_decay": rate} | low,
            cycles | {"cycle_mul": 0.75} | low,
            {"t_initial": steps, "cycle_limit": 0} | low,
            *({"t_initial": steps} | low | kind for kind in own[name]),
        ]
    elif name == "StepLRScheduler":
        step = {"decay_t": part, "decay_rate": rate}
        kinds = [step, step | prefix, step | warm | {"warmup_prefix": False}]
        kinds += [{"decay_t": part + 0.5, "decay_rate": rate}, {"decay_t": part}]
    elif name == "MultiStepLRScheduler":
        many = {"decay_t": [part, part, 2 * part], "decay_rate": rate}
        kinds = [many, many | prefix, many | warm | {"warmup_prefix": False}]
        kinds += [{"decay_t": [0, part], "decay_rate": rate}]
    elif name == "PlateauLRScheduler":
        plateau = {"metrics": losses(random, 2 * steps), "decay_rate": rate, "patience_t": 2}
        kinds = [plateau, plateau | {"mode": "min", "lr_min": lr["base_lr"] / 8, "cooldown_t": 2}]
        kinds += [plateau | warm]
    else:
        wsd = {"t_initial": steps, "decay_t": part} | low
        falls = ("linear", "1-sqrt", "cosine", "power", "exp")
        kinds = [wsd | {"decay_fn": fall} | warm for fall in falls]
        kinds += [wsd | {"stable_fn": "rsqrt", "decay_fn": fall} | warm for fall in falls]
        kinds += [
            wsd | {"stable_fn": "power", "stable_timescale": part, "stable_power": rate},
            wsd | {"stable_fn": "rsqrt", "stable_timescale": 1, "lr_min": lr["base_lr"] / 2},
            wsd | {"decay_fn": {"function": "1 - t"}},
            wsd | {"decay_power": 2.0, "decay_ratio": 0.3, "decay_fn": "power"},
            wsd | {"decay_ratio": 0.3, "decay_fn": "exp", "decay_t": steps},
            wsd | {"lr_min": 2 * lr["base_lr"]} | warm,
        ]
    return [lr | kind for kind in kinds]


def curve(name: str, arguments: dict[str, Any], steps: int) -> Iterator[float]:
    """What the real one gives at the steps 0, 1, ... up to twice the run."""
    import torch

    real = _schedulers()
    rest = {n: x for n, x in arguments.items() if n != "base_lr"}
    if isinstance(rest.get("decay_fn"), dict):
        rest["decay_fn"] = FUNCTIONS[rest["decay_fn"]["function"]]
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=arguments["base_lr"])
    if "metrics" in rest:
        metrics, scheduler = rest.pop("metrics"), getattr(real, name)(optimizer, **rest)
        told = lambda epoch, metric: scheduler.step(epoch, metric) or optimizer.param_groups[0]
        yield from (float(told(t, metric)["lr"]) for t, metric in enumerate(metrics, 1))
        return
    made = getattr(real, name)(optimizer, t_in_epochs=False, **rest)
    for t in range(2 * steps + 1):
        made.step_update(t)
        yield float(optimizer.param_groups[0]["lr"])


def _schedulers() -> Any:
    """The package timm.scheduler, without the models, which need torchvision."""
    if "timm" not in sys.modules:
        spec = importlib.util.find_spec("timm")
        assert spec is not None
        package = types.ModuleType("timm")
        package.__path__ = list(spec.submodule_search_locations or [])
        sys.modules["timm"] = package
    return importlib.import_module("timm.scheduler")
