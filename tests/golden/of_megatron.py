"""Draws of arguments for Megatron's schedules, and the values of the real ones."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from golden.draws import Random, number, whole

NAMES = ("OptimizerParamScheduler", "get_wd")


def draw(name: str, random: Random, steps: int) -> list[dict[str, Any]]:
    """Arguments of that schedule for a run of so many steps, a list for each of its kinds."""
    top, low = number(random, 1e-3, 1.0), number(random, 1e-5, 1e-4)
    part = whole(random, 1, steps / 3)
    rate = {"init_lr": low / 2, "max_lr": top, "min_lr": low, "lr_warmup_steps": part}
    rate |= {"lr_decay_steps": steps}
    fall = {"lr_decay_style": "WSD", "wsd_decay_steps": whole(random, 1, steps / 3)}
    decays: list[dict[str, Any]] = [
        {"lr_decay_style": style}
        for style in ("constant", "linear", "cosine", "inverse-square-root")
    ]
    decays += [
        fall | {"lr_wsd_decay_style": style}
        for style in ("linear", "cosine", "exponential", "minus_sqrt")
    ]
    late = fall | {"lr_wsd_decay_style": "linear", "wsd_decay_steps": steps + 2}
    halves = {"lr_warmup_steps": part + 0.5, "lr_decay_steps": steps + 0.25}
    growth = {"start_wd": low, "end_wd": top, "wd_incr_steps": part}
    kinds: dict[str, list[dict[str, Any]]] = {
        "OptimizerParamScheduler": [
            *(rate | decay for decay in [*decays, late]),
            *(rate | decay | {"lr_warmup_steps": 0} for decay in [*decays, late]),
            *(rate | decay | halves for decay in [decays[3], late]),
            rate | late | {"wsd_decay_steps": 0},
        ],
        "get_wd": [growth | {"wd_incr_style": style} for style in ("linear", "cosine")]
        + [growth | {"wd_incr_style": "constant", "start_wd": top}],
    }
    return kinds[name]


def curve(name: str, arguments: dict[str, Any], steps: int) -> Iterator[float]:
    """What the real one gives at the steps 0, 1, ... up to twice the run."""
    from types import SimpleNamespace

    from megatron.core.optimizer_param_scheduler import OptimizerParamScheduler

    rate = {"init_lr": 0.0, "max_lr": 1.0, "min_lr": 0.0, "lr_warmup_steps": 0}
    rate |= {"lr_decay_steps": steps, "lr_decay_style": "constant"}
    decay = {"start_wd": 0.0, "end_wd": 0.0, "wd_incr_steps": 1, "wd_incr_style": "constant"}
    group: dict[str, Any] = {}
    optimizer = SimpleNamespace(param_groups=[group])
    scheduler = OptimizerParamScheduler(optimizer, **(rate | decay | arguments))
    for _ in range(2 * steps + 1):
        yield float(group["weight_decay" if name == "get_wd" else "lr"])
        scheduler.step(1)
