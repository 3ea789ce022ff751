"""The phases of a schedule: boundaries, coverage."""

from __future__ import annotations

from typing import NamedTuple

from jaxsched._arrays import to_host
from jaxsched._checks import checked_number
from jaxsched._populations import require_schedule
from jaxsched.schedules._base import AbstractSchedule
from jaxsched.schedules._phase import Phase, boundaries_of, known, phases_of


def boundaries(schedule: AbstractSchedule) -> tuple[float, ...]:
    """The first steps of new phases, after 0 and up to the end of the last phase but one.

    >>> import jaxsched as js
    >>> js.boundaries(js.wsd(1.0, 100, warmup=10, decay=20))
    (10, 80)
    """
    require_schedule("boundaries(schedule=...)", schedule)
    return tuple(boundaries_of(schedule))


class Coverage(NamedTuple):
    """How much of a schedule a run reaches; see ``js.coverage``."""

    fraction: float | None
    unreached: tuple[Phase, ...]
    cut: tuple[Phase, ...]
    after: float = 0

    @property
    def complete(self) -> bool:
        """Whether the run covers the whole schedule; it may go on ``after`` the end."""
        return not (self.unreached or self.cut)


def coverage(schedule: AbstractSchedule, steps: int) -> Coverage:
    """The part of a schedule within a run of ``steps`` updates.

    Returns:
        fraction: share of the schedule's duration, at most 1 (``None``: it is open-ended);
        unreached: phases that the run never enters; cut: phases that it enters but does not finish;
        after: updates of the run after the schedule's end, which have its last value;
        complete: whether no phase is unreached or cut, however many updates come after.

    >>> import jaxsched as js
    >>> report = js.coverage(js.wsd(1.0, 100, warmup=10, decay=20), 50)
    >>> report.fraction, [phase.name for phase in report.unreached]
    (0.5, ['Linear'])
    """
    require_schedule("coverage(schedule=...)", schedule)
    run = known(checked_number("coverage(steps=...)", steps, at_least=0))
    phases = phases_of(schedule)
    duration = schedule.duration
    fraction, after = None, 0.0
    if duration is not None:
        end = float(to_host(duration))
        fraction, after = min(1.0, run / end) if end else 1.0, max(0.0, run - end)
    unreached = tuple(p for p in phases if p.start >= run and (p.end is None or p.end > p.start))
    cut = tuple(p for p in phases if p.start < run and p.end is not None and run < p.end)
    return Coverage(fraction, unreached, cut, after)
