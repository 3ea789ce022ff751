"""The data sets of the examples: small, embedded, split once and for all.

    data = datasets.load("letter")
    data.train.x, data.train.y, data.val, data.test

Validation rows come out of the training part. The test part is for the last number of a run and
for nothing else: no rate, schedule or checkpoint is chosen on it. Sources, licences and the scripts
that made the files: examples/data/README.md.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

FOLDER = Path(__file__).parent / "data"


class Part(NamedTuple):
    x: np.ndarray  # float32 [n, ...], standardised with the mean and deviation of the train part
    y: np.ndarray  # int32 [n]


class Data(NamedTuple):
    train: Part
    val: Part
    test: Part
    classes: int


# name: rows of the file, its shape without rows, classes, sizes of train / val / test
EXPECTED = {
    "letter": (18_668, (16,), 26, (13_000, 2_000, 3_668)),
    "optdigits": (5_620, (8, 8), 10, (3_323, 500, 1_797)),
    "mnist1d": (5_000, (40,), 10, (3_500, 500, 1_000)),
    "mnist5k": (5_000, (14, 14), 10, (3_500, 500, 1_000)),
}


def load(name: str) -> Data:
    """One of "letter", "optdigits", "mnist1d" and "mnist5k"; the same split every time."""
    if name not in EXPECTED:
        raise ValueError(f"load(name=...) must be one of {sorted(EXPECTED)}, got {name!r}.")
    rows, shape, classes, sizes = EXPECTED[name]
    x, y, fixed_test = _read(name)
    found = (len(x), x.shape[1:], len(np.unique(y)), len(y))
    if found != (rows, shape, classes, rows):
        raise ValueError(f"{name}.npz must hold {(rows, shape, classes, rows)}, got {found}.")
    # RandomState's stream is frozen by NumPy, so this is the same split everywhere.
    order = np.random.RandomState(1).permutation(rows - fixed_test)
    order = np.concatenate([order, np.arange(rows - fixed_test, rows)])
    x, y = x[order], y[order].astype(np.int32)
    cuts = np.cumsum(sizes)[:2]
    parts = [Part(*part) for part in zip(np.split(x, cuts), np.split(y, cuts), strict=True)]
    # A column of Letter is a feature with its own scale; pixels and samples of a signal share one.
    axis = 0 if name == "letter" else None
    mean, deviation = parts[0].x.mean(axis), parts[0].x.std(axis)
    train, val, test = (Part((p.x - mean) / deviation, p.y) for p in parts)
    return Data(train, val, test, classes)


def _read(name: str) -> tuple[np.ndarray, np.ndarray, int]:
    """All rows, and how many at the end are a test part that the authors of the data fixed."""
    with np.load(FOLDER / f"{name}.npz") as file:
        x, y = file["x"], file["y"]
        fixed_test = len(file["y_test"]) if "y_test" in file else 0
        if fixed_test:
            x, y = np.concatenate([x, file["x_test"]]), np.concatenate([y, file["y_test"]])
    return x.astype(np.float32), y, fixed_test
