"""Runs the lines of the docs that give our schedules to PyTorch and to Keras: ``make parity``."""

from __future__ import annotations

import os
import re
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

import jaxsched as js

PAGE = (Path(__file__).parents[1] / "docs/migrating/README.md").read_text()
LR = js.warmup_cosine(0.1, 1000, 100)


def keras() -> None:
    os.environ["KERAS_BACKEND"] = "jax"
    import keras

    code = re.search(r"^    @keras.*?^    optimizer[^\n]*", PAGE, re.M | re.S)
    assert code
    names: dict[str, Any] = {"js": js, "keras": keras}
    exec(re.sub(r"^    ", "", code[0], flags=re.M), names)
    model = keras.Sequential([keras.layers.Input((3,)), keras.layers.Dense(1)])
    model.compile(names["optimizer"], loss="mse")
    model.fit(np.ones((64, 3)), np.ones((64, 1)), batch_size=8, epochs=3, verbose=0)
    with tempfile.TemporaryDirectory() as folder:
        model.save(f"{folder}/model.keras")
        loaded = keras.models.load_model(f"{folder}/model.keras").optimizer
    assert int(loaded.iterations) == 24
    assert abs(float(loaded.learning_rate) - LR.host(24)) < 1e-8


def torch() -> None:
    import torch

    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, LR.host)
    for step in range(1200):
        assert optimizer.param_groups[0]["lr"] == LR.host(step)
        optimizer.step()
        scheduler.step()


if __name__ == "__main__":
    keras()
    torch()
    print("Our schedules work in PyTorch's LambdaLR and in a Keras model, saved and loaded too.")
