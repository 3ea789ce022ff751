"""The values that trials apply, tabulated on the host: float64, rounded once to float32.

So they depend on no program and no device, a training program depends on no kind of schedule, and
schedules that are mathematically equal for a while are equal bit for bit.
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import numpy as np

from jaxsched._struct import fetch, is_known
from jaxsched.search._trials import Trials

# Values are always computed in whole blocks that begin at multiples of this, whoever asks for how
# many: NumPy may round differently in the last, partly filled vector register of an array.
BLOCK = 4096


class Table:
    """[trials, hyperparameters, steps] float32, computed in blocks when asked for.

    Args:
        trials: the schedules.
        steps: length of all runs in updates, or ``None``: of each its own (its longest schedule's).
        budget: bytes to keep; beyond it blocks are computed again when they are needed again.
    """

    def __init__(self, trials: Trials, steps: int | None, budget: int = 64 << 20):
        self.names = tuple(sorted(trials[0].schedules))
        self.horizons = np.array([_horizon(trial, steps) for trial in trials], np.int64)
        self._schedules = [[trial.schedules[name] for name in self.names] for trial in trials]
        for trial in trials:
            for name, schedule in trial.schedules.items():
                if not all(map(is_known, jax.tree.leaves(schedule))):
                    raise TypeError(f"`sweep(trials=...)`: {name} of {trial.name} is traced.")
                schedule._require_single()
        kept = max(1, budget // (BLOCK * len(self.names) * 4))
        self._block = functools.lru_cache(maxsize=kept)(self._compute)

    def values(self, trial: int, start: int, stop: int) -> np.ndarray:
        """float32 [hyperparameters, stop - start]: what the updates from ``start`` on apply."""
        first, last = start // BLOCK, -(-stop // BLOCK)
        blocks = [self._block(trial, b) for b in range(first, last)]
        joined = blocks[0] if len(blocks) == 1 else np.concatenate(blocks, axis=1)
        return joined[:, start - first * BLOCK : stop - first * BLOCK]

    def _compute(self, trial: int, block: int) -> np.ndarray:
        steps = np.arange(block * BLOCK, (block + 1) * BLOCK)
        with np.errstate(over="ignore"):  # beyond float32 is infinite: such a run diverges
            rows = [s._on_host(steps).astype(np.float32) for s in self._schedules[trial]]
        return np.stack(rows)


def _horizon(trial: Any, steps: int | None) -> int:
    if steps is not None:
        return steps
    durations = [schedule.duration for schedule in trial.schedules.values()]
    known = [float(np.asarray(fetch(d))) for d in durations if d is not None]
    if not known or max(known) < 1:
        raise ValueError(
            f"`sweep(steps=...)` must be given for the trial {trial.name}: "
            "no schedule of it has an end."
        )
    return round(max(known))
