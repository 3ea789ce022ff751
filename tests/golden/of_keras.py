"""Draws of arguments for Keras' schedules, and the values of the real ones in float64."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

from golden.draws import Random, losses, number, whole

NAMES = (
    "ExponentialDecay",
    "PiecewiseConstantDecay",
    "PolynomialDecay",
    "InverseTimeDecay",
    "CosineDecay",
    "CosineDecayRestarts",
    "LearningRateScheduler",
    "ReduceLROnPlateau",
)


def draw(name: str, random: Random, steps: int) -> list[dict[str, Any]]:
    """Arguments of that schedule for a run of so many steps, a list for each of its kinds."""
    peak, part = number(random, 1e-3, 1.0), whole(random, 2, steps)
    rate, power = number(random, 0.1, 0.95), number(random, 0.5, 3)
    lr = {"initial_learning_rate": peak}
    decay = lr | {"decay_steps": part, "decay_rate": rate}
    stairs = {"staircase": True}
    plateau = {"metrics": losses(random, 2 * steps), "factor": rate, "base_lr": peak}
    kinds: dict[str, list[dict[str, Any]]] = {
        "ExponentialDecay": [
            decay | more for more in ({}, stairs, {"decay_rate": 0.0}, stairs | {"decay_rate": 0.0})
        ],
        "PiecewiseConstantDecay": [
            {"boundaries": [part, 2 * part, 3 * part], "values": [peak, rate, power, peak / 2]},
            {"boundaries": [-1, part, part], "values": [peak, rate, power, peak / 2]},
        ],
        "PolynomialDecay": [
            lr | {"decay_steps": part} | more
            for more in (
                {"power": power},
                {"initial_learning_rate": 1e-5},
                {"power": 0.0},
                {"cycle": True, "end_learning_rate": peak / 10},
                {"cycle": True, "power": power},
                {"cycle": True, "decay_steps": part + 0.5},
            )
        ],
        "InverseTimeDecay": [decay, decay | stairs, decay | {"decay_rate": 0.0}],
        "CosineDecay": [
            lr | {"decay_steps": part, "alpha": rate},
            lr | {"decay_steps": part, "warmup_target": 2 * peak, "warmup_steps": part},
            lr | {"decay_steps": part, "warmup_target": 2 * peak},
            lr | {"decay_steps": steps, "warmup_steps": part},
        ],
        "CosineDecayRestarts": [
            lr | {"first_decay_steps": part + 0.3, "t_mul": 1.7, "m_mul": rate, "alpha": 0.1},
            lr | {"first_decay_steps": part, "t_mul": 1.0, "m_mul": power},
            # No restart on a step, where their logarithm rounds to either side.
            lr | {"first_decay_steps": part + 0.3, "t_mul": 0.8, "m_mul": rate},
        ],
        "LearningRateScheduler": [
            {"schedule": {"function": "1 / (1 + t)"}},
            {"schedule": {"function": "lr / (1 + t)"}, "base_lr": peak, "epochs": 2 * steps + 1},
        ],
        "ReduceLROnPlateau": [
            plateau | {"patience": 2},
            plateau | {"patience": 1, "cooldown": 2, "min_lr": peak * rate**2},
            plateau | {"patience": 0, "min_delta": 0.0503, "mode": "max", "monitor": "accuracy"},
            plateau | {"patience": 1, "min_lr": 2 * peak},
            plateau | {"patience": 2, "factor": 0.0, "min_lr": peak / 3},
        ],
    }
    return kinds[name]


def curve(name: str, arguments: dict[str, Any], steps: int) -> Iterator[float]:
    """What the real one gives at the steps 0, 1, ... up to twice the run, in float64."""
    os.environ["KERAS_BACKEND"] = "numpy"
    import keras
    from keras.src.backend.common import dtypes

    keras.config.set_floatx("float64")
    dtypes.BIT64_TO_BIT32_DTYPE["float64"] = "float64"  # else some operations make it a float32
    if name == "ReduceLROnPlateau":
        yield from _after(**arguments)
    elif name == "LearningRateScheduler":
        yield from _epochs(2 * steps + 1, **arguments)
    else:
        schedule = getattr(keras.optimizers.schedules, name)(**arguments)
        yield from (float(schedule(step)) for step in range(2 * steps + 1))


def _optimizer(rate: float) -> Any:
    """All that a callback asks of a model."""
    from types import SimpleNamespace

    return SimpleNamespace(optimizer=SimpleNamespace(learning_rate=rate))


def _after(metrics: list[float], base_lr: float, **arguments: Any) -> Iterator[float]:
    import keras

    callback = keras.callbacks.ReduceLROnPlateau(**arguments)
    callback.set_model(_optimizer(base_lr))
    callback.on_train_begin()
    for epoch, metric in enumerate(metrics):
        callback.on_epoch_end(epoch, {arguments.get("monitor", "val_loss"): metric})
        yield float(callback.model.optimizer.learning_rate)


def _epochs(count: int, schedule: Any, base_lr: float = 1.0, epochs: Any = None) -> Iterator[float]:
    import keras

    from golden import FUNCTIONS

    callback = keras.callbacks.LearningRateScheduler(FUNCTIONS[schedule["function"]])
    callback.set_model(_optimizer(base_lr))
    for epoch in range(count):
        callback.on_epoch_begin(epoch)
        yield float(callback.model.optimizer.learning_rate)
