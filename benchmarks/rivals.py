"""A sweep beside the tools that people use instead: PyTorch's loop, and Optuna around Optax's.

    pip install torch optuna
    taskset -c 0 python -m benchmarks.rivals
    python -m benchmarks.rivals wall       # wall time on all cores, PyTorch with one thread and all

Neither is a requirement of jaxsched; a rival that isn't installed is named and left out. CPU
seconds of one process with one thread, in turns; ours compiles anew each time ("cold"). The others'
cost is the same for each trial, so a few trials of theirs are timed and multiplied.
"""

from __future__ import annotations

import os
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import numpy as np
import optax

import jaxsched as js
from benchmarks import versions
from benchmarks.sweep import ONE, RATES, cnn, cold, mlp, rebuilding_loop, say, sweep
from jaxsched import search

FEW = 4


def main(wall: bool) -> None:
    print(versions())
    rivals: dict[str, Any] = {"PyTorch": pytorch, "Optuna around the rebuilding loop": optuna}
    if wall:
        rivals = {
            "PyTorch, 1 thread": pytorch,
            "PyTorch, all threads": partial(pytorch, os.cpu_count() or 1),
        }
    for name, rival in rivals.items():
        try:
            loop = rival()
        except ImportError as error:
            print(f"{name}: left out, {error}")
            continue
        compare(name, "MLP", mlp, loop, 64, 300, wall)
        compare(name, "MLP", mlp, loop, 64, 3000, wall)
        compare(name, "CNN", cnn, loop, 64, 300, wall)


def compare(
    rival: str,
    name: str,
    make: Callable[[], search.Supervised],
    loop: Callable[[search.Supervised, list[float], int], Any],
    count: int,
    steps: int,
    wall: bool,
) -> None:
    clock, devices = (time.perf_counter, None) if wall else (time.process_time, ONE)
    schedules = [js.cosine_decay(float(rate), steps) for rate in RATES[:count]]
    rates = [float(rate) for rate in RATES[:FEW]]
    loop(make(), rates[:1], 10)  # so that no measurement contains a first call
    theirs, ours = [], []
    for _ in range(3):
        model = make()
        theirs.append(cold(partial(loop, model, rates, steps), clock) / FEW * count)
        ours.append(cold(partial(sweep, model, schedules, steps=steps, devices=devices), clock))
    a, b = statistics.median(theirs), statistics.median(ours)
    say(
        f"{rival}, {name}, N={count}, T={steps}, cold" + ", wall time" * wall,
        f"theirs {a:.2f} s ({FEW} measured), sweep {b:.2f} s",
        f"{a / b:.1f}",
    )


def pytorch(threads: int = 1) -> Callable[[search.Supervised, list[float], int], None]:
    """The loop of its tutorials: SGD with momentum and ``CosineAnnealingLR``."""
    import torch
    from torch import nn

    torch.set_num_threads(threads)

    def loop(model: search.Supervised, rates: list[float], steps: int) -> None:
        data: Any = model._data
        x, y = (torch.from_numpy(np.array(a)) for a in data)
        x, y = x.movedim(-1, 1) if x.ndim > 2 else x, y.long()
        rows = torch.from_numpy(np.array(model.batches(0, 0, steps), np.int64))
        loss = nn.CrossEntropyLoss()
        for rate in rates:
            net = network(x.ndim > 2)
            optimizer = torch.optim.SGD(net.parameters(), lr=rate, momentum=0.9)
            scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
            for batch in rows:
                optimizer.zero_grad()
                loss(net(x[batch]), y[batch]).backward()
                optimizer.step()
                scheduler.step()

    def network(convolutional: bool) -> nn.Module:
        if not convolutional:
            return nn.Sequential(
                nn.Linear(64, 128, bias=False), nn.ReLU(), nn.Linear(128, 10, bias=False)
            )
        return nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(16, 32, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(4 * 4 * 32, 10),
        )

    return loop


def optuna() -> Callable[[search.Supervised, list[float], int], None]:
    """A study over the loop that most people write: an optimizer and a step for each trial."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)

    def loop(model: search.Supervised, rates: list[float], steps: int) -> None:
        evaluate = jax.jit(model.evaluate)

        def objective(trial: Any) -> float:
            rate = trial.suggest_float("rate", RATES[0], RATES[-1], log=True)
            params = rebuilding_loop(model, optax.cosine_decay_schedule(rate, steps), steps)
            state = model.init(jax.random.key(0))._replace(params=params)
            return float(evaluate(state)["loss"])

        study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=0))
        study.optimize(objective, n_trials=len(rates))

    return loop


if __name__ == "__main__":
    main(sys.argv[1:] == ["wall"])
