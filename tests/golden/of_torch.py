"""Draws of arguments for PyTorch's schedulers, and the values of the real ones."""

from __future__ import annotations

import warnings
from typing import Any

from golden.draws import Random, number, whole


def _lr(random: Random) -> dict[str, Any]:
    return {"base_lr": number(random, 1e-4, 1.0)}


def draw(name: str, random: Random, steps: int) -> list[dict[str, Any]]:
    """Arguments of that scheduler for a run of so many steps, a list for each of its kinds."""
    lr = _lr(random)
    part = whole(random, 2, steps / 3)
    factor = number(random, 0.1, 0.95)
    kinds: dict[str, list[dict[str, Any]]] = {
        "StepLR": [{"step_size": part, "gamma": factor}, {"step_size": part, "gamma": 0.0}],
        "MultiStepLR": [
            {"milestones": [3 * part, part, 2 * part], "gamma": factor},
            {"milestones": [part, 0, part, 2 * part], "gamma": factor},
            {"milestones": [part, -3, part + 0.5], "gamma": factor},
        ],
        "ConstantLR": [{"factor": factor, "total_iters": part}, {}],
        "LinearLR": [
            {"start_factor": factor, "end_factor": number(random, 0.1, 1), "total_iters": part},
            {"start_factor": factor, "end_factor": 0.0, "total_iters": part},
        ],
        "PolynomialLR": [
            {"total_iters": part, "power": number(random, 0.5, 3)},
            {"total_iters": part, "power": 0.0},
        ],
        "CosineAnnealingLR": [{"T_max": steps, "eta_min": lr["base_lr"] / 10}, {"T_max": part}],
    }
    return [lr | kind for kind in kinds[name]]


NAMES = ("StepLR", "MultiStepLR", "ConstantLR", "LinearLR", "PolynomialLR", "CosineAnnealingLR")


def curve(name: str, arguments: dict[str, Any], steps: int) -> list[float]:
    """What the real one gives at the steps 0, 1, ... up to twice the run, or where it raises."""
    import torch

    arguments = dict(arguments)
    base = arguments.pop("base_lr", arguments.get("max_lr"))
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=base, momentum=0.9)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scheduler = getattr(torch.optim.lr_scheduler, name)(optimizer, **arguments)
        values = [float(optimizer.param_groups[0]["lr"])]
        for _ in range(2 * steps):
            try:
                scheduler.step()
            except ValueError:
                break
            values.append(float(optimizer.param_groups[0]["lr"]))
    return values
