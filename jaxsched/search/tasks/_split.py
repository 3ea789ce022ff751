"""Which samples of a ``Supervised`` task are trained on, and which it is evaluated on."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from jaxsched.search.tasks._batches import shuffled

_DRAWN = 4096  # of all samples of a source, so many are evaluated on


class Split(NamedTuple):
    """Rows of the data, as arrays: so a fold of a cross-validation is the same program.

    Args:
        train: int32 [samples].
        validation: int32 [samples].
        weight: float32, of each row of ``validation``; 0 for one that only fills up, since all
            folds are evaluated on equally many.
    """

    train: np.ndarray
    validation: np.ndarray
    weight: np.ndarray

    @classmethod
    def of(cls, train: int, validation: int) -> Split:
        """The first rows, and those after them."""
        rows = np.arange(train + validation, dtype=np.int32)
        return cls(rows[:train], rows[train:], np.ones(validation, np.float32))

    @classmethod
    def fold(cls, samples: int, index: int, folds: int) -> Split:
        """All rows but every ``folds``-th of a fixed shuffle, and those; of equal lengths."""
        order = shuffled(samples, samples, 0, 0, 1)[0]
        held = order[index::folds]
        most = -(-samples // folds)
        weight = np.zeros(most, np.float32)
        weight[: len(held)] = 1.0
        return cls(np.setdiff1d(order, held)[: samples - most], np.resize(held, most), weight)

    @classmethod
    def everything(cls, samples: int, read: bool) -> Split:
        """All rows for both; ``read``: they are read on the host, so few are evaluated on."""
        rows = np.arange(samples, dtype=np.int32)
        held = rows
        if read and samples > _DRAWN:
            held = np.sort(shuffled(samples, _DRAWN, 0, 0, 1)[0])
        return cls(rows, held, np.ones(len(held), np.float32))
