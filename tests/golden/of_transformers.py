"""Draws of arguments for the schedules of transformers, and the values of the real ones."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from golden.draws import Random, losses, number, whole
from golden.of_torch import told

NAMES = (
    *("constant", "constant_with_warmup", "linear", "cosine", "cosine_with_restarts"),
    *("polynomial", "inverse_sqrt", "cosine_with_min_lr", "cosine_warmup_with_min_lr"),
    *("warmup_stable_decay", "get_adafactor_schedule", "reduce_lr_on_plateau", "greedy"),
    "get_scheduler",
)


def draw(name: str, random: Random, steps: int) -> list[dict[str, Any]]:
    """Arguments of that schedule for a run of so many steps, a list for each of its kinds."""
    lr = {"lr": number(random, 1e-4, 1.0)}
    warmup, decay = whole(random, 2, steps / 3), whole(random, 2, steps / 3)
    warm = {"num_warmup_steps": warmup}
    both = warm | {"num_training_steps": steps}
    late = {"num_warmup_steps": steps, "num_training_steps": steps - 3}
    cold = {"num_warmup_steps": 0, "num_training_steps": steps}
    cycles = number(random, 0.3, 4)
    rate = number(random, 0.01, 0.5)
    metric = {"metrics": losses(random, 2 * steps), "factor": 0.5 + rate / 2, "patience": 2}
    wsd = warm | {"num_decay_steps": decay}
    kinds: dict[str, list[dict[str, Any]]] = {
        "constant": [{}],
        "constant_with_warmup": [warm, {"num_warmup_steps": 0}],
        "linear": [both, late, cold, late | {"num_training_steps": steps}],
        "cosine": [both, both | {"num_cycles": cycles}, late, cold, both | {"num_cycles": 0.0}],
        "cosine_with_restarts": [
            *(both, both | {"num_cycles": 3}, both | {"num_cycles": cycles}),
            *(late, cold, both | {"num_cycles": 0}),
        ],
        "polynomial": [
            *(both | {"power": number(random, 0.3, 3)}, both | {"lr_end": 0.0}),
            *(cold, late, both | {"power": 0.0}),
        ],
        "inverse_sqrt": [warm, warm | {"timescale": decay}, {"num_warmup_steps": 0}],
        "cosine_with_min_lr": [
            both | {"min_lr_rate": rate},
            both | {"min_lr": lr["lr"] * rate, "num_cycles": cycles},
            cold | {"min_lr": 0.0},
        ],
        "cosine_warmup_with_min_lr": [
            both | {"min_lr_rate": rate},
            both | {"min_lr_rate": rate, "warmup_lr_rate": rate / 2, "num_cycles": cycles},
            cold | {"min_lr": 0.0},
            both | {"num_warmup_steps": 1, "min_lr_rate": rate, "warmup_lr_rate": rate / 2},
        ],
        "warmup_stable_decay": [
            wsd
            | {"num_training_steps": steps, "min_lr_ratio": rate}
            | {"warmup_type": kind, "decay_type": other}
            for kind in ("linear", "cosine", "1-sqrt")
            for other in ("linear", "cosine", "1-sqrt")
        ]
        + [
            wsd | {"num_stable_steps": decay},
            wsd | {"num_training_steps": steps, "num_cycles": cycles, "min_lr_ratio": rate},
            {"num_warmup_steps": steps // 2, "num_decay_steps": steps // 2 + 3}
            | {"num_training_steps": steps, "decay_type": "linear"},
        ],
        "reduce_lr_on_plateau": [metric | {"mode": "max"}, metric | {"eps": lr["lr"] / 5}],
        "greedy": [
            metric | {"min_lr": lr["lr"] / 3, "max_lr": 2 * lr["lr"], "threshold_mode": "rel"},
            metric | {"min_lr": 0.0, "max_lr": 100.0, "cooldown": 2, "warmup": 1},
            metric | {"min_lr": 0.0, "max_lr": 100.0, "mode": "max", "patience": 0},
            metric | {"min_lr": 2 * lr["lr"], "max_lr": 100.0, "reset_start": 1, "eps": 0.0},
            metric | {"min_lr": lr["lr"] / 2, "patience": 0, "reset_start": 2},
            metric | {"smooth": True, "window_size": 4, "min_lr": 0.0, "eps": lr["lr"] / 9},
        ],
        "get_scheduler": [
            lr | both | {"name": "polynomial", "scheduler_specific_kwargs": {"power": 1 + rate}},
            lr | warm | {"name": "inverse_sqrt", "num_training_steps": steps},
            lr | warm | {"name": "constant_with_warmup", "scheduler_specific_kwargs": {"x": rate}},
            lr | {"name": "constant", "num_training_steps": steps},
        ],
        "get_adafactor_schedule": [{"initial_lr": 0.5}, {"warmup_init": True}],
    }
    return [kind if name.startswith("get_") else lr | kind for kind in kinds[name]]


def curve(name: str, arguments: dict[str, Any], steps: int) -> Iterator[float]:
    """What the real one gives at the steps 0, 1, ... up to twice the run."""
    import torch
    from transformers import optimization

    if name == "get_adafactor_schedule":
        yield from _adafactor(arguments, steps)
        return
    made: Any = optimization.get_scheduler
    if name != "get_scheduler":
        made = optimization.TYPE_TO_SCHEDULER_FUNCTION[optimization.SchedulerType(name)]
    rest = {n: x for n, x in arguments.items() if n != "lr"}
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=arguments["lr"])
    if "metrics" in rest:
        metrics, scheduler = rest.pop("metrics"), made(optimizer, **rest)
        yield from (told(scheduler, metric, optimizer) for metric in metrics)
        return
    function = made(optimizer=optimizer, **rest).lr_lambdas[0]
    yield from (arguments["lr"] * function(t) for t in range(2 * steps + 1))


def _adafactor(arguments: dict[str, Any], steps: int) -> Iterator[float]:
    """The rate of each update, which the proxy shows after it."""
    import torch
    from transformers.optimization import Adafactor, get_adafactor_schedule

    weight = torch.zeros(1, requires_grad=True)
    warm = arguments.get("warmup_init", False)
    optimizer = Adafactor([weight], lr=None, scale_parameter=False, warmup_init=warm)
    shown = get_adafactor_schedule(optimizer, arguments.get("initial_lr", 0.0))
    weight.grad = torch.ones(1)  # not before: the proxy asks for the state of what has one
    for _ in range(2 * steps + 1):
        optimizer.step()
        yield float(shown.get_lr()[0])
