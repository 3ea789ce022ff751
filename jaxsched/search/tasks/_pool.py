"""All samples of a ``Supervised`` task: on the device, or read on the host row by row.

Samples that fit into half of the device's memory rest there, and a batch is row numbers. All other
samples stay where they are, and a batch is the data themselves, read on the host.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np

from jaxsched._machine import memory
from jaxsched._types import PyTree
from jaxsched.search.tasks._batches import shuffled
from jaxsched.search.tasks._samples import Samples, check_alike

_DRAWN = 4096  # number of evaluated samples of a source, if it trains on all


class Pool:
    """The samples of several arguments, one after another."""

    def __init__(self, parts: list[Samples]):
        self._parts = parts
        self._starts = np.cumsum([0, *(part.length for part in parts)])
        for part in parts[1:]:
            check_alike(part.sample, parts[0].sample)
        leaves = zip(*(part.sample.leaves for part in parts), strict=True)
        joint = [s[0]._replace(dtype=np.result_type(*(leaf.dtype for leaf in s))) for s in leaves]
        self.sample = parts[0].sample._replace(leaves=joint)
        self._held: tuple[np.ndarray | None, PyTree] = (None, None)  # rows, and their data

    @property
    def length(self) -> int:
        return int(self._starts[-1])

    @property
    def fits(self) -> bool:
        """Whether all samples may rest on the device: a state and its work must fit beside them."""
        return sum(part.nbytes for part in self._parts) <= device_memory(jax.local_devices()[0]) / 2

    def on_device(self) -> PyTree:
        """All samples on the device."""
        columns = zip(*(part.all() for part in self._parts), strict=True)
        return self.sample.treedef.unflatten(
            [jax.device_put(np.concatenate(same)) for same in columns]
        )

    def read(self, rows: np.ndarray) -> PyTree:
        """Some samples on the host, [*rows.shape, ...]."""
        flat = np.ravel(rows)
        leaves = [np.empty((len(flat), *leaf.shape), leaf.dtype) for leaf in self.sample.leaves]
        for part, start in zip(self._parts, self._starts, strict=False):
            mine = (flat >= start) & (flat < start + part.length)
            for leaf, values in zip(leaves, part.read(flat[mine] - start), strict=True):
                leaf[mine] = values
        shape = np.shape(rows)
        return self.sample.treedef.unflatten([x.reshape(*shape, *x.shape[1:]) for x in leaves])

    def held(self, rows: np.ndarray) -> PyTree:
        """As ``read``; the last answer is kept: a fold asks for its own again and again."""
        if self._held[0] is not rows:
            self._held = (rows, self.read(rows))
        return self._held[1]


class Split(NamedTuple):
    """Rows of the data, as arrays: so a fold of a cross-validation is the same program."""

    train: np.ndarray  # int32 [samples]
    validation: np.ndarray  # int32 [samples]
    weight: np.ndarray  # float32; 0 for a row that only makes folds equally long

    @classmethod
    def of(cls, train: int, validation: int) -> Split:
        """The first ``train`` rows, and the ``validation`` rows after them."""
        rows = np.arange(train + validation, dtype=np.int32)
        return cls(rows[:train], rows[train:], np.ones(validation, np.float32))

    @classmethod
    def fold(cls, samples: int, index: int, folds: int) -> Split:
        """Trains on all rows but every ``folds``-th of a fixed shuffle; folds have equal sizes."""
        order = shuffled(samples, samples, 0, 0, 1)[0]
        part = order[index::folds]
        # Where folds do not divide the samples, some parts lack a row: a repeated row of weight 0
        # fills them up, and one row less is trained on. With 10 samples in 3 folds the parts have
        # 4, 3 and 3 rows. Each becomes 4 rows (in two parts the last weighs 0), and trains on 6.
        most = -(-samples // folds)
        weight = np.zeros(most, np.float32)
        weight[: len(part)] = 1.0
        return cls(np.setdiff1d(order, part)[: samples - most], np.resize(part, most), weight)

    @classmethod
    def everything(cls, samples: int, read: bool) -> Split:
        """All rows for both; ``read``: they are read on the host, so few are evaluated on."""
        rows = np.arange(samples, dtype=np.int32)
        few = read and samples > _DRAWN
        evaluated = np.sort(shuffled(samples, _DRAWN, 0, 0, 1)[0]) if few else rows
        return cls(rows, evaluated, np.ones(len(evaluated), np.float32))


def device_memory(device: jax.Device, host: Callable[[], float] = memory) -> float:
    """Bytes of a device's memory; for a CPU, ``host()``."""
    stats = device.memory_stats() if device.platform != "cpu" else None
    return float((stats or {}).get("bytes_limit", 0)) or host()
