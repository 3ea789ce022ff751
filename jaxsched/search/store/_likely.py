"""Where sweeps to come are likely to leave a run: from a state there, they go on."""

from __future__ import annotations

import bisect
import contextlib
import math

from jaxsched.schedules._phase import phases_of
from jaxsched.search.engine._plan import Plan


def likely_forks(plan: Plan, trial: int, parts: int) -> tuple[list[int], list[int]]:
    """The steps at which phases of a trial's schedules begin; those that make ``parts`` of its run.

    A longer run leaves this one where its last phase begins. One with another last phase leaves it
    anywhere before, mostly after a share such as 80 %. Of a last phase all values depend on its
    length, unless it is a plateau: so no part ends within it.
    """
    table, horizon = plan.table, int(plan.table.horizons[trial])
    begins, last = set[int](), list[tuple[float, float]]()
    for schedule in plan.trials[trial].schedules.values():
        # A user's own class may tell of phases without a number. Here they are a guess only.
        with contextlib.suppress(Exception):
            phases = phases_of(schedule)
            last += [(p.start, p.end) for p in phases[-1:] if p.end is not None]
            begins |= {math.ceil(p.start) // table.updates for p in phases[1:]}

    def goes_on(step: int) -> bool:
        if not any(start < step * table.updates < end for start, end in last):
            return True
        before, after = table.values(trial, step - 1, step + 1).T
        return bool((before == after).all())

    inner = [step for i in range(1, parts) if (step := horizon * i // parts)]
    return sorted(begins), [step for step in inner if goes_on(step)]


def next_fork(
    forks: tuple[list[int], list[int]], kept: int, at: int, stop: int, least: float
) -> int | None:
    """Of the steps of ``likely_forks`` the next one within (at, stop), if any.

    It is at least ``least`` after ``kept``, and if no phase begins there, as far before the next
    begin: that will then have a state.
    """
    begins, inner = (steps[bisect.bisect(steps, at) :] for steps in forks)
    first = max(at + 1, kept + least)
    begin = next((step for step in begins if step >= first), stop)
    step = next((step for step in inner if first <= step <= begin - least), begin)
    return step if step < stop else None
