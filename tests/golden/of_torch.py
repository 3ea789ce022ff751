"""Draws of arguments for PyTorch's schedulers, and the values of the real ones."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

from golden import FUNCTIONS
from golden.draws import Random, losses, number, whole


def _lr(random: Random) -> dict[str, Any]:
    return {"base_lr": number(random, 1e-4, 1.0)}


def draw(name: str, random: Random, steps: int) -> list[dict[str, Any]]:
    """Arguments of that scheduler for a run of so many steps, a list for each of its kinds."""
    lr = _lr(random)
    part = whole(random, 2, steps / 3)
    factor = number(random, 0.1, 0.95)
    share = number(random, 0.2, 0.9)
    one = {"max_lr": number(random, 1e-4, 1.0)}
    cycle = {"max_lr": 2 * lr["base_lr"], "step_size_up": part}
    metrics = losses(random, 2 * steps)
    plateau = {"metrics": metrics, "factor": factor, "patience": 2, "threshold": 0.01}
    of = lambda name, arguments: {"schedule": name, "arguments": arguments}
    kinds: dict[str, list[dict[str, Any]]] = {
        "StepLR": [{"step_size": part, "gamma": factor}, {"step_size": part, "gamma": 0.0}],
        "MultiStepLR": [
            {"milestones": [3 * part, part, 2 * part], "gamma": factor},
            {"milestones": [part, 0, part, 2 * part], "gamma": factor},
            {"milestones": [part, -3, part + 0.5], "gamma": factor},
        ],
        "ConstantLR": [{"factor": factor, "total_iters": part}, {}, {"total_iters": 0}],
        "LinearLR": [
            {"start_factor": factor, "end_factor": number(random, 0.1, 1), "total_iters": part},
            {"start_factor": factor, "end_factor": 0.0, "total_iters": part},
            {"start_factor": factor, "total_iters": 0},
        ],
        "PolynomialLR": [
            {"total_iters": part, "power": number(random, 0.5, 3)},
            {"total_iters": part, "power": 0.0},
            {"total_iters": 0},
        ],
        "ExponentialLR": [{"gamma": number(random, 0.8, 0.99)}, {"gamma": 0.0}],
        "CosineAnnealingWarmRestarts": [
            {"T_0": part, "T_mult": 2, "eta_min": lr["base_lr"] / 10},
            {"T_0": part},
        ],
        "CyclicLR": [
            cycle | {"mode": "triangular", "step_size_down": part + 1},
            cycle | {"mode": "triangular2"},
            cycle | {"mode": "exp_range", "gamma": factor},
            cycle | {"scale_fn": {"function": "1 / (1 + t)"}},
            cycle | {"scale_fn": {"function": "1 / (1 + t)"}, "scale_mode": "iterations"},
        ],
        "OneCycleLR": [
            one | {"total_steps": steps},
            one | {"total_steps": steps, "pct_start": 0.0, "three_phase": True},
            one | {"total_steps": steps, "pct_start": 0.0},
            one | {"total_steps": steps, "pct_start": 1.0},
            one | {"total_steps": steps, "pct_start": share, "anneal_strategy": "linear"},
            one | {"epochs": 3, "steps_per_epoch": part, "pct_start": share, "div_factor": 10.0},
            one | {"total_steps": steps, "pct_start": share / 2, "three_phase": True},
            one | {"total_steps": steps, "pct_start": 0.75, "three_phase": True},
        ],
        "OneCycleLR_momentum": [
            {"total_steps": steps, "pct_start": share},
            {"total_steps": steps, "base_momentum": 0.8, "anneal_strategy": "linear"},
        ],
        "LambdaLR": [
            lr | {"lr_lambda": {"function": "1 / (1 + t)"}},
            lr | {"lr_lambda": {"function": "0.95 ** t"}, "total_steps": 2 * steps + 1},
        ],
        "MultiplicativeLR": [
            lr | {"lr_lambda": {"function": "0.95"}, "total_steps": 2 * steps + 1},
        ],
        "SequentialLR": [
            {
                "schedulers": [
                    of("ConstantLR", lr | {"factor": factor, "total_iters": steps}),
                    of("StepLR", lr | {"step_size": part, "gamma": factor}),
                    of("ExponentialLR", lr | {"gamma": 0.9}),
                ],
                "milestones": [part, 2 * part],
            },
            {
                "schedulers": [
                    of("LinearLR", lr | {"start_factor": factor, "total_iters": part}),
                    of("CosineAnnealingLR", lr | {"T_max": steps - part}),
                ],
                "milestones": [part],
            },
        ],
        "ChainedScheduler": [
            lr
            | {
                "schedulers": [
                    of("ConstantLR", lr | {"factor": factor, "total_iters": part}),
                    of("ExponentialLR", lr | {"gamma": 0.9}),
                    of("MultiStepLR", lr | {"milestones": [part, 2 * part], "gamma": factor}),
                ],
            },
            lr
            | {
                "schedulers": [
                    of("LinearLR", lr | {"start_factor": factor, "total_iters": part}),
                    of("StepLR", lr | {"step_size": part, "gamma": factor}),
                    of("PolynomialLR", lr | {"total_iters": steps, "power": 2.0}),
                ],
            },
        ],
        "ReduceLROnPlateau": [
            plateau,
            plateau | {"threshold_mode": "abs", "threshold": 0.0503, "cooldown": 3},
            plateau | {"min_lr": lr["base_lr"] / 7},
            plateau | {"min_lr": lr["base_lr"] / 7, "eps": lr["base_lr"] / 8},
            plateau | {"eps": lr["base_lr"] / 5, "patience": 0},
            plateau | {"mode": "max", "patience": 1},
            plateau | {"factor": 0.0, "min_lr": 2 * lr["base_lr"]},
            plateau | {"factor": 0.0},
        ],
        "SWALR": [
            {"swa_lr": number(random, 1e-4, 1.0), "anneal_epochs": part},
            {"swa_lr": 0.5, "anneal_epochs": part, "anneal_strategy": "linear"},
            {"swa_lr": 0.5, "anneal_epochs": 0},
        ],
        "CosineAnnealingLR": [{"T_max": steps, "eta_min": lr["base_lr"] / 10}, {"T_max": part}],
    }
    none = ("OneCycleLR", "OneCycleLR_momentum", "SequentialLR")
    return [kind if name in none else lr | kind for kind in kinds[name]]


NAMES = (
    *("StepLR", "MultiStepLR", "ConstantLR", "LinearLR", "ExponentialLR", "PolynomialLR"),
    *("CosineAnnealingLR", "CosineAnnealingWarmRestarts", "CyclicLR", "OneCycleLR"),
    *("OneCycleLR_momentum", "LambdaLR", "MultiplicativeLR", "SequentialLR", "ChainedScheduler"),
    *("SWALR", "ReduceLROnPlateau"),
)


def curve(name: str, arguments: dict[str, Any], steps: int) -> Iterator[float]:
    """What the real one gives at the steps 0, 1, ... up to twice the run, or to where it ends."""
    import torch

    field = "momentum" if name.endswith("_momentum") else "lr"
    base = arguments.get("base_lr", arguments.get("max_lr", 0.1))
    if name == "SequentialLR":
        base = arguments["schedulers"][0]["arguments"]["base_lr"]
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=base, momentum=0.9)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scheduler = _real(name, optimizer, arguments)
        if "metrics" in arguments:
            yield from (told(scheduler, metric, optimizer) for metric in arguments["metrics"])
            return
        yield float(optimizer.param_groups[0][field])
        for _ in range(2 * steps):
            scheduler.step()
            yield float(optimizer.param_groups[0][field])


def told(scheduler: Any, metric: float, optimizer: Any) -> float:
    scheduler.step(metric)
    return float(optimizer.param_groups[0]["lr"])


def _real(name: str, optimizer: Any, arguments: dict[str, Any]) -> Any:
    import torch

    unknown = ("metrics",) if name == "CyclicLR" else ("metrics", "base_lr")
    arguments = {n: x for n, x in arguments.items() if n not in unknown}
    if name.startswith("OneCycleLR_"):
        arguments |= {"max_lr": 0.1}
    if "lr_lambda" in arguments:
        arguments = {"lr_lambda": FUNCTIONS[arguments["lr_lambda"]["function"]]}
    if "scale_fn" in arguments:
        arguments |= {"scale_fn": FUNCTIONS[arguments["scale_fn"]["function"]]}
    if "schedulers" in arguments:
        parts = arguments["schedulers"]
        made = [_real(part["schedule"], optimizer, part["arguments"]) for part in parts]
        arguments |= {"schedulers": made}
    called = name.removesuffix("_momentum")
    kind: Any = getattr(torch.optim.lr_scheduler, called, None) or torch.optim.swa_utils.SWALR
    chain = (arguments.pop("schedulers"),) if name == "ChainedScheduler" else (optimizer,)
    return kind(*chain, **arguments)
