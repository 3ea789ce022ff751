"""The records of the host loop: an open run, and the curves of a finished one."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from jax.typing import ArrayLike

from jaxsched._types import PyTree

Curves: TypeAlias = Mapping[str, ArrayLike]  # of a segment


class Key(NamedTuple):
    """One run of one stage, for all its trials or, with controllers, for the trials that agree.

    ``stage``, ``fold``, ``seed`` and the ``trials`` are positions in the plan.
    """

    stage: int
    fold: int
    seed: int
    trials: tuple[int, ...]


@dataclasses.dataclass
class RunCurves:
    """The measurements of a stage so far."""

    train: dict[str, np.ndarray]  # metric -> float32 [updates so far], NaN after a divergence
    validation: dict[str, np.ndarray]  # metric -> [evaluations so far], NaN after a divergence
    diverged: int = -1  # the first update with a loss that was not finite, or -1
    # (group, metric) -> the array that begins with the curve. Older snapshots share it:
    # each is a view up to its own end, and nothing before an end is written again.
    _room: dict[tuple[str, str], np.ndarray] = dataclasses.field(default_factory=dict, repr=False)

    @property
    def updates(self) -> int:
        return len(self.train["loss"])

    def extended(self, train: Curves, validation: Curves | None, diverged: int) -> RunCurves:
        """New curves with a segment's measurements appended, so that snapshots don't change."""

        def longer(group: str, more: Curves) -> dict[str, np.ndarray]:
            names = getattr(self, group)
            return {name: self._extended_curve(group, name, more[name]) for name in names}

        evaluations = self.validation if validation is None else longer("validation", validation)
        return RunCurves(longer("train", train), evaluations, diverged, self._room)

    def until(self, updates: int, evaluations: int) -> RunCurves:
        """The first of them; before a divergence, if there was one."""
        return RunCurves(
            {name: curve[:updates] for name, curve in self.train.items()},
            {name: curve[:evaluations] for name, curve in self.validation.items()},
        )

    def trimmed(self) -> RunCurves:
        """The same, without room for more."""
        train, validation = (
            {name: curve.copy() for name, curve in curves.items()}
            for curves in (self.train, self.validation)
        )
        return RunCurves(train, validation, self.diverged)

    def _extended_curve(self, group: str, name: str, more: ArrayLike) -> np.ndarray:
        """A longer curve, in time proportional to ``more``: its room doubles when it is full.

        Appending to a copy would be quadratic: 10^7 updates took 44 s, and now 8.
        """
        old = getattr(self, group)[name]
        more = np.ravel(more)
        end, dtype = len(old) + len(more), np.result_type(old, more)
        room = self._room.get((group, name))
        if room is None or len(room) < end or room.dtype != dtype:
            room = self._room[group, name] = np.empty(2 * end, dtype)
            room[: len(old)] = old
        room[len(old) : end] = more
        return room[:end]


@dataclasses.dataclass
class OpenRun:
    """A run to be trained from update ``at`` on."""

    key: Key  # its stage, fold, seed and trials
    at: int  # the next update; the stage's start, or later if it was interrupted
    state: PyTree  # the one before update ``at``; ``None`` for the initial state
    curves: RunCurves  # of the updates before ``at`` in this stage
    # The states of each trial's controllers when the stage began.
    controller_states: tuple[tuple[PyTree, ...], ...]
    path: Any = None  # a store's name for all updates before the stage; of its own kind
    # Whether some of them, or of the stage, were trained at another width than the sweep's first,
    # so that its bits are of this sweep only.
    narrowed: bool = False

    @property
    def plain_state(self) -> PyTree:
        """The state in the task's own form."""
        state = self.state
        return state.lanes()[state.lane] if isinstance(state, LaneState) else state


class LaneState(NamedTuple):
    """The state of one of several runs vectorized together.

    ``lanes`` unstacks the batch at its first call. Between two segments of the same runs it isn't
    called: the batch goes on as it is.
    """

    lanes: Callable[[], tuple[PyTree, ...]]
    lane: int
