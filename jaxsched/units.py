"""From epochs, samples, tokens and fractions of the run to steps (optimizer updates).

A schedule counts optimizer updates and nothing else. People think in epochs; the conversion is
written here once, with the batch size and the gradient accumulation in it, and says how it rounds.
Nothing is guessed from whether a number is an int or a float.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from jaxsched import _number as num
from jaxsched._checks import checked_flag, checked_number
from jaxsched._struct import Record, count, static, struct


@struct
class Units(Record):
    """The sizes of a run, from which lengths in steps follow.

    Args:
        batch: samples in one micro-batch, over all devices, at least 1.
        accumulation: micro-batches in one optimizer update (``optax.MultiSteps``,
            ``search.Supervised(accumulation=...)``), at least 1.
        samples: size of the training set, for ``epochs``.
        tokens_per_sample: for ``tokens``.
        steps: length of the whole run in updates, for ``fraction``.
        drop_last: whether a last batch that is not full is dropped (the default).

    Lengths are rounded to the nearest whole step, and a positive length is at least one.

    >>> import jaxsched as js
    >>> run = js.Units(batch=32, accumulation=4, samples=50_000)
    >>> run.epochs(1), run.epochs(0.5), run.from_samples(1280)
    (390, 195, 10)
    """

    batch: int = count(at_least=1)
    accumulation: int = count(default=1, at_least=1)
    samples: int | None = count(default=None, at_least=1, optional=True)
    tokens_per_sample: int | None = count(default=None, at_least=1, optional=True)
    steps: int | None = count(default=None, at_least=1, optional=True)
    drop_last: bool = static(default=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        checked_flag("Units(drop_last=...)", self.drop_last)
        for name in self.ranks:
            value = getattr(self, name)
            # An integer beyond int32 may be one here: it never enters a program.
            self.__dict__[name] = None if value is None else int(value)

    def epochs(self, count: float) -> int:
        """Steps in ``count`` passes over the training set.

        An epoch has floor(samples / batch) micro-batches (ceil without ``drop_last``); those that
        do not fill an update are carried into the next epoch. (``Supervised`` shuffles for whole
        updates: its epochs are those of ``Units(batch=batch * accumulation)``.)
        """
        count = checked_number("Units.epochs(count=...)", count, at_least=0)
        samples = self._need("samples", "epochs")
        batches = samples // self.batch if self.drop_last else math.ceil(samples / self.batch)
        if batches == 0:
            raise ValueError(
                f"Units(batch=...) must be at most samples={samples} with drop_last, "
                f"got {self.batch}: there is no full batch."
            )
        if float(count).is_integer():  # whole epochs: what has run is run, so round down
            return max(int(count) * batches // self.accumulation, int(count > 0))
        return _whole(count * batches / self.accumulation)

    def from_samples(self, count: float) -> int:
        """Steps in which ``count`` samples are seen."""
        count = checked_number("Units.from_samples(count=...)", count, at_least=0)
        return _whole(count / (self.batch * self.accumulation))

    def tokens(self, count: float) -> int:
        """Steps in which ``count`` tokens are seen."""
        count = checked_number("Units.tokens(count=...)", count, at_least=0)
        per_step = self.batch * self.accumulation * self._need("tokens_per_sample", "tokens")
        return _whole(count / per_step)

    def fraction(self, share: float) -> int:
        """Steps in a ``share`` of the run, from 0 to 1."""
        share = checked_number("Units.fraction(share=...)", share, at_least=0, at_most=1)
        return _whole(share * self._need("steps", "fraction"))

    def _need(self, name: str, caller: str) -> int:
        value: Any = getattr(self, name)
        if value is None:
            raise ValueError(f"Units.{caller} must be given Units({name}=...), got None.")
        return value


def _whole(steps: float) -> int:
    return max(int(num.floor(num.nudge(np.float64(steps) + 0.5))), int(steps > 0))
