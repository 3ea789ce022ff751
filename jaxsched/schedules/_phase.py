"""Phases: the parts of a schedule, such as warmup and decay; all lengths must be known."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from jaxsched._arrays import NEEDS_A_NUMBER, is_concrete, is_number, to_host
from jaxsched._number import Number
from jaxsched._text import describe
from jaxsched._types import Leaf

_NEED_LENGTHS = "the phases of a schedule need known lengths"
ROUNDED = 2.0**-40  # of a number of steps: 3 * 333.3333 is 1000


class Phase(NamedTuple):
    """A phase of a schedule: from ``start`` (inclusive) to ``end`` (exclusive; None: for ever)."""

    name: str
    start: float
    end: float | None


def phases_of(schedule: Any) -> list[Phase]:
    """``schedule.phases()``, checked: the class may be a user's."""
    phases = schedule.phases()
    if not isinstance(phases, list) or not phases or not all(isinstance(p, Phase) for p in phases):
        raise TypeError(
            f"{type(schedule).__name__}.phases() must return a list of js.Phase(name, start, end), "
            f"the first from step 0, got {describe(phases)}."
        )
    if [phase.start for phase in phases] != [0, *(phase.end for phase in phases[:-1])]:
        raise ValueError(
            f"{type(schedule).__name__}.phases() must begin at step 0, and each after the first at "
            f"the end of the one before, got {describe(phases)}."
        )
    return phases


def retimed(phases: list[Phase], at: Callable[[float], float]) -> list[Phase]:
    return [Phase(n, at(a), None if b is None else at(b)) for n, a, b in phases]


def boundaries_of(schedule: Any) -> list[float]:
    """Where a phase begins, after the first."""
    return [phase.start for phase in phases_of(schedule)[1:]]


def later(phases: list[Phase], by: float) -> list[Phase]:
    return retimed(phases, lambda step: step + by)


def cut(phases: list[Phase], stop: float | None) -> list[Phase]:
    """The phases within [0, stop]; if they end before, the last value holds.

    ``Linear`` to 10 and ``Cosine`` to 30 are cut at 20 to ``Linear`` to 10 and ``Cosine`` to 20,
    and at 50 they go on with ``Constant`` from 30 to 50. Starts are not read: each phase begins at
    the end of the one before, so phases before 0, as in a ``Window``, drop out.
    """
    within: list[Phase] = []
    begin: float | None = 0
    for name, _, end in [*phases, Phase("Constant", 0, None)]:
        if begin is None or begin == stop:
            break
        if stop is not None and (end is None or end >= stop - _rounding(stop)):
            end = stop
        if end is None or end > begin:
            within.append(Phase(name, begin, end))
            begin = end
    return within or [Phase(phases[0].name, 0, 0)]


def fitted(phases: list[Phase], stop: float | None) -> list[Phase]:
    """As ``cut``, but a last value at the very end, as in ``PiecewiseConstant``, stays a phase.

    Its drops at 10 and 20 make it 20 steps long, and its third value begins there. As a phase of no
    length, from 20 to 20, it is a boundary all the same.
    """
    last = phases[-1]
    if stop is None or (stop and abs(last.start - stop) > _rounding(stop)):
        return cut(phases, stop)
    return [*(cut(phases, stop) if stop else []), Phase(last.name, stop, last.end and stop)]


def _rounding(stop: float) -> float:
    return min(stop * ROUNDED, 0.5)  # less than a step, which may be a phase


def known(x: Leaf) -> float:
    """A length as a number for people."""
    if not is_concrete(x):
        raise TypeError(f"{_NEED_LENGTHS}, got {x!r}.")
    if np.ndim(x):
        raise ValueError("the phases of a population differ: ask one of `js.unstack(population)`.")
    return np.asarray(to_host(x)).item()


def known_duration(schedule: Any) -> float | None:
    """The duration as a number for people; values may be traced, lengths not."""
    return known_step(schedule, schedule.exact_length)


def known_step(schedule: Any, step: Callable[[Number], Number | None]) -> Any:
    """A step computed from the schedule's lengths, as a number for people, or ``None``."""
    try:
        with np.errstate(all="ignore"):
            exact = step(np.float64(0.0))  # 0.0 as a host number: on the host
    except (*NEEDS_A_NUMBER, RuntimeError) as error:  # traced, or spread over processes
        raise TypeError(f"{_NEED_LENGTHS}, got {schedule!r}.") from error
    if exact is None:
        return None
    plain = known(exact)
    return int(plain) if float(plain).is_integer() else plain


def side_by_side(schedules: Any, end: float | None) -> list[Phase]:
    """The phases of the schedule with most phases, or with a last phase beyond the common ``end``.

    All boundaries of all parts would be right, too. But for ``wsd`` times a line one means the
    stages of ``wsd``. If they end before the combination, the phases of the longest part follow.
    """
    composed = [phases for phases in map(phases_of, schedules) if len(phases) > 1]
    late = lambda phases: end is not None and phases[-1].start >= end
    most = max(composed, key=lambda phases: (late(phases), len(phases)), default=[])
    if not most or (over := most[-1].end) in (None, end):
        return most
    longest = [s for s in schedules if not s._is_constant() and known_duration(s) == end]
    return most + [p for s in longest[:1] for p in phases_of(s) if p.end is None or p.end > over]


def ends(schedule: Any) -> bool:
    """Whether a run may end with it: its last phase, held for ever, begins before its end."""
    begin = phases_of(schedule)[-1]
    return begin.end is not None or begin.start < known(schedule.duration)


def unfinished(schedule: Any) -> str:
    """The end of an error about a schedule that no other can follow; "" for any other.

    The last value of ``PiecewiseConstant([10, 20], ...)`` begins at 20, the end of its duration: a
    sequence would skip it without an error.
    """
    give = "Give it a length: a recipe's steps=..., or `Window(schedule, 0, steps)`."
    if schedule.duration is None:
        return f"the open-ended {schedule!r}. {give}"
    with contextlib.suppress(TypeError, ValueError):  # traced lengths, or a population's
        if not ends(schedule):
            return f"{schedule!r}, whose last value begins where it ends. {give}"
    return ""


def shown_length(schedule: Any) -> float:
    """The number of steps that show the whole shape of a schedule."""
    # An open-ended schedule gives its own length, such as a few timescales. If the last value of a
    # schedule begins at its end, the length includes some steps of the last value.
    duration = schedule.duration
    if duration is not None:
        length = float(to_host(duration))
        if ends(schedule):
            return length
        before, last = ([Phase("", 0, 0), *phases_of(schedule)])[-2:]
        return length + last.start - before.start  # the last value as long as the one before
    natural = schedule.natural_length()
    if not (is_number(natural) and 0 <= natural < math.inf):
        raise TypeError(
            f"{type(schedule).__name__}.natural_length() must return a number of steps, got "
            f"{describe(natural)}."
        )
    return float(natural)
