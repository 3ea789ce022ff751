"""The phases of a schedule: boundaries, coverage."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from jaxsched._arrays import is_concrete, to_host
from jaxsched._checks import checked_number
from jaxsched._populations import require_schedule
from jaxsched.schedules._base import AbstractSchedule, Sequence
from jaxsched.schedules._piecewise import AbstractKnots, PiecewiseConstant
from jaxsched.schedules._wrappers import Clip, Quantize, Reverse, Shift, Stretch, Window


def boundaries(schedule: AbstractSchedule) -> tuple[float, ...]:
    """The steps at which a new phase begins, after 0 and up to the end of the last phase but one.

    >>> import jaxsched as js
    >>> js.boundaries(js.wsd(1.0, 100, warmup=10, decay=20))
    (10, 80)
    """
    require_schedule("boundaries(schedule=...)", schedule)
    return tuple(phase.start for phase in _phases(schedule)[1:])


class Phase(NamedTuple):
    """A phase of a schedule: from ``start`` (inclusive) to ``end`` (exclusive; None: for ever)."""

    name: str
    start: float
    end: float | None


class Coverage(NamedTuple):
    """How much of a schedule a run reaches; see ``js.coverage``."""

    fraction: float | None
    unreached: tuple[Phase, ...]
    cut: tuple[Phase, ...]

    @property
    def complete(self) -> bool:
        return not (self.unreached or self.cut)


def coverage(schedule: AbstractSchedule, steps: int) -> Coverage:
    """What of a schedule a run of ``steps`` updates reaches.

    Returns:
        fraction: share of the schedule's duration, at most 1 (``None``: it is open-ended);
        unreached: phases that are never entered; cut: phases that are entered and not finished.

    >>> import jaxsched as js
    >>> report = js.coverage(js.wsd(1.0, 100, warmup=10, decay=20), 50)
    >>> report.fraction, [phase.name for phase in report.unreached]
    (0.5, ['Linear'])
    """
    require_schedule("coverage(schedule=...)", schedule)
    steps = checked_number("coverage(steps=...)", steps, at_least=0)
    phases = _phases(schedule)
    duration = schedule.duration
    fraction = None
    if duration is not None:
        fraction = min(1.0, steps / float(to_host(duration))) if float(to_host(duration)) else 1.0
    unreached = tuple(p for p in phases if p.start >= steps and (p.end is None or p.end > p.start))
    cut = tuple(p for p in phases if p.start < steps and p.end is not None and steps < p.end)
    return Coverage(fraction, unreached, cut)


def _phases(schedule: AbstractSchedule) -> list[Phase]:
    name, duration = type(schedule).__name__, _known(schedule.duration)
    if isinstance(schedule, Sequence):
        found: list[Phase] = []
        begin: float = 0
        for index, part in enumerate(schedule.parts):
            length = _known(part.duration)
            inner = _phases(part)
            if index + 1 < len(schedule.parts):
                inner = _moved(inner, 0, length)
            found += [Phase(n, begin + a, None if b is None else begin + b) for n, a, b in inner]
            begin += length or 0
        return found
    if isinstance(schedule, PiecewiseConstant | AbstractKnots):
        points = schedule.boundaries if isinstance(schedule, PiecewiseConstant) else schedule.steps
        edges = [0, *(p for p in np.asarray(to_host(points)).tolist() if p > 0)]
        ends = [*edges[1:], None if isinstance(schedule, PiecewiseConstant) else edges[-1]]
        return [Phase(name, a, b) for a, b in zip(edges, ends, strict=True) if a != b]
    if isinstance(schedule, Clip | Quantize):
        return _phases(schedule.schedule)
    if isinstance(schedule, Shift):
        return _moved(_phases(schedule.schedule), _number(schedule.steps), None)
    if isinstance(schedule, Window):
        return _moved(_phases(schedule.schedule), -_number(schedule.start), duration)
    if isinstance(schedule, Stretch):
        factor = _number(schedule.factor)
        inner = _phases(schedule.schedule)
        return [Phase(n, a * factor, None if b is None else b * factor) for n, a, b in inner]
    if isinstance(schedule, Reverse) and duration is not None:
        inner = _moved(_phases(schedule.schedule), 0, duration)
        return [Phase(n, duration - (b or duration), duration - a) for n, a, b in reversed(inner)]
    parts = getattr(schedule, "parts", ())
    composed = [phases for phases in map(_phases, parts) if len(phases) > 1]
    return max(composed, key=len) if composed else [Phase(name, 0, duration)]


def _moved(phases: list[Phase], by: float, stop: float | None) -> list[Phase]:
    """Phases ``by`` steps later and cut to [0, stop]; the first one reaches back to 0."""
    moved: list[Phase] = []
    for name, start, end in phases:
        start = max(start + by, 0) if moved else 0
        end = end if end is None else end + by
        if stop is not None:
            end = stop if end is None else min(end, stop)
        if end is None or end > start:
            moved.append(Phase(name, start, end))
    return moved or phases[:1]


def _known(x: Any) -> float | None:
    if x is None:
        return None
    return _number(x)


def _number(x: Any) -> float:
    if not is_concrete(x):
        raise TypeError(f"the phases of a schedule need known lengths, got {x!r}.")
    if np.ndim(x):
        raise ValueError("the phases of a population differ: ask one of `js.unstack(population)`.")
    number: float = np.asarray(to_host(x)).item()
    return number
