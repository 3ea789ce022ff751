"""The batches that a sweep reads, on its devices."""

from __future__ import annotations

import jax
import numpy as np
from jax.typing import ArrayLike

from jaxsched._types import PyTree
from jaxsched.search.engine._devices import Place, put
from jaxsched.search.engine._plan import Plan
from jaxsched.search.tasks._reading import READING
from jaxsched.search.tasks._returned import nbytes

_BYTES = 64 << 20


class Feed:
    """The batches of whole chunks, kept on the devices while they are within ``_BYTES``.

    Rows after the end of the longest run are padding: the task is not asked for such batches.
    """

    def __init__(self, plan: Plan):
        self._plan = plan
        self._cache: dict[tuple[object, ...], PyTree] = {}
        self._bytes = 0

    def get(self, fold: int, seed: int, chunk: int, device: Place) -> PyTree:
        """The batches of the updates from ``chunk * plan.length`` on, [length, ...]."""
        key = (fold, seed, chunk, device)
        if key not in self._cache:
            plan, length = self._plan, self._plan.length
            start, steps = chunk * length, plan.longest
            count = min(length, steps - start)
            seeded = plan.seeds[seed]
            with READING:
                drawn = plan.folds[fold].batches.read(seeded, start, count, steps, plan.caller)
                # A copy, for the buffer: JAX need not make one of a given array.
                drawn = jax.tree.map(lambda x: padded(x, length), drawn)
            size = nbytes(drawn)
            while self._cache and self._bytes + size > _BYTES:
                self._bytes -= nbytes(self._cache.pop(next(iter(self._cache))))
            self._cache[key] = put(drawn, device)
            self._bytes += nbytes(self._cache[key])
        return self._cache[key]


def padded(rows: ArrayLike, length: int) -> np.ndarray:
    """Padded to the rows of a program with the last one: valid data (zeros may not be)."""
    rows = np.asarray(rows)
    return np.concatenate([rows, np.broadcast_to(rows[-1:], (length - len(rows), *rows.shape[1:]))])
