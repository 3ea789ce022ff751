"""Marks: steps within a stage at which the state of a run is kept, for sweeps to come."""

from __future__ import annotations

import bisect
import contextlib
import functools
import math

from jaxsched.schedules._phase import phases_of
from jaxsched.search.engine._plan import Plan
from jaxsched.search.engine._records import OpenRun

# To cut a run costs so many seconds of CPU time; a state there as many, and more for each byte. All
# may take a 150th of the time, or twice that on busy cores, which the time of an update counts.
_CUT, _STATE, _BYTE, _SHARE = 5e-4, 3e-4, 5e-9, 150
_PARTS = (20, 10, 5, 4, 2, 1)  # a run is cut in one of these numbers: as people write shares


class Marks:
    """The steps at which states of runs are kept.

    A state at the end of a stage serves the forks of its own sweep only. Say a run of ``wsd`` has
    1000 updates, and its decay begins at 800. A run of 2000 updates agrees with it up to 800. With
    a state there it goes on from 800, and else from 0, though the records have all 800 updates.

    Args:
        plan: of the sweep.
        room: bytes that states at marks may take.
    """

    # An interruption of a run changes no bit of it: the bounds of a segment are values of the
    # program. So marks may depend on clocks, like everything else about saving.

    def __init__(self, plan: Plan, room: int):
        self._plan, self._state_bytes = plan, plan.shape.state_bytes
        # A part of the room is for each run, or the first ones would leave none for the others.
        self._each = room / max(1, 2 * plan.widest * self._state_bytes)
        self._forks = functools.lru_cache(1024)(self._likely_forks)

    def next(self, run: OpenRun, lanes: int, kept: int, at: int, speed: int) -> int | None:
        """The next mark of a run after ``at`` and before its stage ends, if any; see ``Store``.

        It is at least ``_apart`` after ``kept``, and if no phase begins there, as far before the
        next begin: that will then have a state.
        """
        stop, trial = self._plan.stages[run.key.stage].stop, run.key.trials[0]
        least = self._apart(lanes, speed)
        # Controllers may fork at each report, so that there is a state at each.
        if stop - kept <= least or self._plan.table.controlled:
            return None
        most = min(self._each, int(self._plan.table.horizons[trial]) / least)
        parts = next(n for n in _PARTS if n <= max(1, most))
        begins, inner = (steps[bisect.bisect(steps, at) :] for steps in self._forks(trial, parts))
        first = max(at + 1, kept + least)
        begin = next((step for step in begins if step >= first), stop)
        step = next((step for step in inner if first <= step <= begin - least), begin)
        return step if step < stop else None

    def _apart(self, lanes: int, speed: int) -> float:
        """The least updates between a run's kept states."""
        seconds = _CUT + lanes * (_STATE + _BYTE * self._state_bytes)
        return max(1.0, _SHARE * seconds * (speed or math.inf))

    def _likely_forks(self, trial: int, parts: int) -> tuple[list[int], list[int]]:
        """The steps at which phases of a trial begin; the steps that cut its run into ``parts``.

        A longer run leaves this one where its last phase begins. A run with another last phase
        leaves it anywhere before, mostly after a share such as 80 %. All values of a last phase
        depend on its length, unless it is a plateau: so no part ends within it.
        """
        table, horizon = self._plan.table, int(self._plan.table.horizons[trial])
        begins, last = set[int](), list[tuple[float, float]]()
        for schedule in self._plan.trials[trial].schedules.values():
            # A user's own class may tell of phases without a number. Here they are a guess only.
            with contextlib.suppress(Exception):
                phases = phases_of(schedule)
                last += [(p.start, p.end) for p in phases[-1:] if p.end is not None]
                begins |= {math.ceil(p.start) // table.updates for p in phases[1:]}

        def goes_on(step: int) -> bool:
            """Whether a run of another length is likely to agree with this one up to a step."""
            if not any(start < step * table.updates < end for start, end in last):
                return True
            before, after = table.values(trial, step - 1, step + 1).T
            return bool((before == after).all())

        inner = [step for i in range(1, parts) if (step := horizon * i // parts)]
        return sorted(begins), [step for step in inner if goes_on(step)]
