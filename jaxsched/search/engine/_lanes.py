"""The states of runs that are vectorized together, each as its task knows it."""

from __future__ import annotations

from functools import cached_property
from typing import Any, NamedTuple

from jaxsched.search.engine._program import Program


class BatchedState:
    """The state of all lanes, taken apart once and only if somebody asks."""

    def __init__(self, state: Any, program: Program):
        self._state, self._program = state, program

    @cached_property
    def lanes(self) -> tuple[Any, ...]:
        return self._program.unstack(self._state)


class LaneState(NamedTuple):
    """The state of one lane. Between two segments of the same runs nobody asks for it."""

    batched: BatchedState
    lane: int


def plain_state(state: Any) -> Any:
    """The state of an ``OpenRun`` as the task knows it."""
    return state.batched.lanes[state.lane] if isinstance(state, LaneState) else state
