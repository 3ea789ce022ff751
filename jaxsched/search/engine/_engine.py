"""The host loop: takes stages, runs them segment by segment, hands their states to the next ones.

States are immutable arrays, so a fork is a second reference. The order is depth first: a population
of any size keeps no more states than the tree is deep.
"""

from __future__ import annotations

import dataclasses
import math
import threading
import time
import warnings
from collections import deque
from collections.abc import Callable, Iterator
from functools import cached_property
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxsched.search.engine._controlled import child_runs
from jaxsched.search.engine._devices import put
from jaxsched.search.engine._plan import Plan
from jaxsched.search.engine._program import Program, random_key
from jaxsched.search.engine._records import Key, OpenRun, RunCurves
from jaxsched.search.engine._settings import in_force

# Segments that may be on their way when the loop waits for the oldest: two keep a device busy.
_MAX_IN_FLIGHT = 2
_SECONDS = 0.25  # what one of them is to take


class Engine:
    """Runs the work of a plan on some devices; one thread for each device if there are several.

    Args:
        plan: what to train.
        programs: of each fold's task; folds that differ in arrays only have the same one.
        devices: where.
        on_segment: called with the engine after every segment, under its lock.
    """

    def __init__(
        self,
        plan: Plan,
        programs: tuple[Program, ...],
        devices: list[Any],
        on_segment: Callable[[Engine], Any],
    ):
        self.plan, self.programs, self.devices = plan, programs, devices
        self.records: dict[Key, RunCurves] = {}
        self.active_trials = set(range(len(plan.table.horizons)))  # trials not given up
        self.final_states: dict[Key, Any] | None = (
            None  # states at the ends of runs, if a dict is put here
        )
        self.steps_trained = 0
        self.stop_requested = False  # set by a signal handler: finish the segments under way
        self.lock = threading.Condition()
        self.pool: list[OpenRun] = []  # last in, first out
        self._later: list[OpenRun] = []  # what begins at the barrier or after it
        self.pacers = [Pacer(plan.feed.length) for _ in devices]
        self._busy: dict[int, list[OpenRun]] = {}  # what each device is at
        self._on_segment = on_segment
        self._until = math.inf
        self._opened: set[Key] = set()
        self._arguments: dict[Any, list[Any]] = {}
        self._initial: dict[Any, tuple[Any, Any]] = {}  # device -> (fold, seed), state

    @property
    def width(self) -> int:
        """Lanes that run together."""
        return self.programs[0].width

    def run(self, until: int | None) -> None:
        """Trains until nothing is left that begins before the step ``until``."""
        self._until = math.inf if until is None else until
        self._opened = {*self.records, *(work.key for work in self.pool)}
        opened, self.pool = self.pool, []
        for one in opened:
            self._open(one)
        errors: list[BaseException] = []
        context = in_force()

        def work(number: int) -> None:
            try:
                with context():
                    while taken := self._take(number):
                        try:
                            self._train(number, *taken)
                        except jax.errors.JaxRuntimeError as error:
                            self._halve_width(number, taken[1], error)
            except BaseException as error:
                errors.append(error)
                with self.lock:
                    self.stop_requested = True
            finally:
                with self.lock:
                    self._busy.pop(number, None)
                    self.lock.notify_all()

        if len(self.devices) == 1:
            work(0)
        else:
            threads = [threading.Thread(target=work, args=(i,)) for i in range(len(self.devices))]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        self.pool, self._later = self._later + self.pool, []
        if errors:
            raise errors[0]

    def unfinished(self) -> list[OpenRun]:
        """All that is left to do, as it stands now; call it under the lock."""
        return [
            *self._later,
            *self.pool,
            *(work for lanes in self._busy.values() for work in lanes),
        ]

    def stop(self) -> None:
        """Lets the segments under way end, and starts no others."""
        self.stop_requested = True

    def drop_stopped(self) -> None:
        """Takes out of the pool what no running trial needs."""
        with self.lock:
            self.pool = [work for work in self.pool if self.needs(work.key)]

    def needs(self, key: Key) -> bool:
        """Whether a trial that is not given up goes through the run."""
        return not self.active_trials.isdisjoint(key.trials)

    # ------------------------------------------------------------------------------ the work pool

    def _take(self, number: int) -> tuple[list[OpenRun], Program] | None:
        """Some work, and the program that is wide enough for it."""
        with self.lock:
            while not self.stop_requested:
                lanes = self._next_lanes()
                if lanes:
                    self._busy[number] = lanes
                    return lanes, self.programs[lanes[0].key.fold]
                self._busy.pop(number, None)
                if not self._busy:
                    break
                self.lock.wait()  # another device may be about to open new stages
            return None

    def _next_lanes(self) -> list[OpenRun]:
        lanes: list[OpenRun] = []
        for index in range(len(self.pool) - 1, -1, -1):
            work = self.pool[index]
            if not lanes or (work.key.fold, work.at) == (lanes[0].key.fold, lanes[0].at):
                lanes.append(self.pool.pop(index))
            if len(lanes) == self.width:
                break
        return lanes

    def _open(self, work: OpenRun) -> None:
        later = self.plan.stages[work.key.stage].start >= self._until
        (self._later if later else self.pool).append(work)

    def _finish(self, number: int, works: list[OpenRun]) -> None:
        """Files what a group of lanes has done, and opens what follows."""
        plan = self.plan
        with self.lock:
            self._busy.pop(number)
            for work in reversed(works):
                stage = plan.stages[work.key.stage]
                if work.at < stage.stop and work.record.diverged < 0:
                    self.pool.append(work)
                    continue
                self.records[work.key] = work.record.trimmed()
                if self.final_states is not None and not plan.children[stage.index]:
                    self.final_states[work.key] = plain_state(work.state)
                for key, states in reversed(
                    child_runs(plan, work.key, work.controller_states, work.record)
                ):
                    # One that is open already: a lost record has been made again.
                    if self.needs(key) and key not in self._opened:
                        self._opened.add(key)
                        self._open(
                            OpenRun(key, stage.stop, work.state, plan.empty_curves(), states)
                        )
            self._on_segment(self)
            self.lock.notify_all()

    def _halve_width(
        self, number: int, program: Program, error: jax.errors.JaxRuntimeError
    ) -> None:
        """After a lack of memory, half as many runs together go on from where they are."""
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise error
        if program.width == 1:
            error.add_note("in sweep(...), with one run at a time")
            raise error
        with self.lock:
            # Nothing, if it was in saving what has been filed already.
            self.pool += reversed(self._busy.pop(number, []))
            if self.width == program.width:  # no other device has done so meanwhile
                narrower = {p: p.halved() for p in dict.fromkeys(self.programs)}
                self.programs = tuple(narrower[p] for p in self.programs)
                warnings.warn(
                    f"sweep(width={program.width}): {str(error).splitlines()[0]} It goes on with "
                    f"width {self.width}.",
                    RuntimeWarning,
                    stacklevel=2,
                )
            self.lock.notify_all()

    # ---------------------------------------------------------------------------------- training

    def _train(self, number: int, lanes: list[OpenRun], program: Program) -> None:
        """Runs the lanes together up to where the first of them ends."""
        plan = self.plan
        device = self.devices[number]
        arrays = self._arrays(lanes[0].key.fold, device)
        padded_lanes = [
            *lanes,
            *[lanes[0]] * (program.width - len(lanes)),
        ]  # the rest repeats the first
        state = program.stack_lanes([self._state(work, arrays, device) for work in padded_lanes])
        alive: Any = np.array([work.record.diverged < 0 for work in padded_lanes])
        alive = alive if program.width > 1 else alive[0]
        alive = put(alive, device)
        pending: deque[_Segment] = deque()
        works = lanes
        pace = self.pacers[number]
        pace.begin()
        chunk = -1
        for lo, hi, evaluated in self._segments(lanes, pace):
            if chunk != lo // program.length:  # what a whole chunk holds is put there once
                chunk = lo // program.length
                table = self._values(padded_lanes, lo, program)
                values = put(table, device)
                batches = program.stack_lanes(self._batches(padded_lanes, lo, device))
            first = lo % program.length
            bounds = (np.int32(first), np.int32(first + hi - lo), np.float32(plan.limit))
            bounds = put(bounds, device)
            state, alive, metrics = program.segment(arrays, state, alive, values, batches, *bounds)
            validation = program.evaluate(arrays, state) if evaluated else None
            pending.append(_Segment(lo, hi, table, state, metrics, validation, pace.ask()))
            if len(pending) > _MAX_IN_FLIGHT:
                oldest = pending.popleft()
                works = self._collect(number, works, oldest, program)
                pace.collected(oldest.hi - oldest.lo, oldest.answer)
            if self.stop_requested or all(work.record.diverged >= 0 for work in works):
                break
        for segment in pending:
            works = self._collect(number, works, segment, program)
            pace.collected(segment.hi - segment.lo, segment.answer)
        self._finish(number, works)

    def _collect(
        self, number: int, works: list[OpenRun], segment: _Segment, program: Program
    ) -> list[OpenRun]:
        """The lanes after a segment whose measurements are waited for here."""
        metrics, validation = jax.device_get((segment.metrics, segment.validation))
        start = segment.lo % program.length
        updates = slice(start, start + segment.hi - segment.lo)
        stacked = _Batched(segment.state, program)
        after = []
        for lane, work in enumerate(works):
            at = (lane,) if program.width > 1 else ()
            train = {k: v[at][updates] for k, v in metrics.items()}
            found = None
            if self.plan.evaluates(self.plan.stages[work.key.stage], segment.hi):
                found = {k: v[at] for k, v in validation.items()}
            diverged = work.record.diverged
            if diverged < 0:
                loss = train["loss"]
                bad = ~(np.isfinite(loss) & (loss <= np.float32(self.plan.limit)))
                diverged = segment.lo + int(bad.argmax()) if bad.any() else -1
            if self.plan.table.watched:
                applied = segment.values[at][:, updates].copy()
                if diverged >= 0:
                    applied[:, max(diverged + 1 - segment.lo, 0) :] = np.nan
                train |= dict(zip(self.plan.table.names, applied, strict=True))
            if diverged >= 0 and found is not None:
                found = dict.fromkeys(found, np.float32(np.nan))
            state = LaneState(stacked, lane) if at else segment.state
            record = work.record.extended(train, found, diverged)
            after.append(dataclasses.replace(work, at=segment.hi, state=state, record=record))
        with self.lock:
            self.steps_trained += (segment.hi - segment.lo) * len(works)
            self._busy[number] = after
            self._on_segment(self)
        return after

    def _segments(self, lanes: list[OpenRun], pace: Pacer) -> Iterator[tuple[int, int, bool]]:
        """(from, to, whether to evaluate there), to where the first of the lanes ends."""
        stages = [self.plan.stages[work.key.stage] for work in lanes]
        stop = min(stage.stop for stage in stages)
        evaluated = {step for stage in stages for step in self.plan.evaluations(stage)}
        cuts = sorted(step for step in {*evaluated, stop} if lanes[0].at < step <= stop)
        at, length = lanes[0].at, self.plan.feed.length
        for cut in cuts:
            while at < cut:
                end = min(cut, (at // length + 1) * length, at + pace.steps)
                yield at, end, end in evaluated
                at = end

    # ---------------------------------------------------------------------------- arrays for it

    def _arrays(self, fold: int, device: Any) -> list[Any]:
        with self.lock:
            if (fold, device) not in self._arguments:
                # One fold at a time on each device: the next one pushes it out.
                self._arguments = {k: v for k, v in self._arguments.items() if k[1] != device}
                task = self.plan.folds[fold].task
                self._arguments[fold, device] = self.programs[fold].arguments(task, device)
            return self._arguments[fold, device]

    def _state(self, work: OpenRun, arrays: list[Any], device: Any) -> Any:
        if work.state is not None:
            return put(plain_state(work.state), device)
        where = work.key[1:3]
        with self.lock:
            if self._initial.get(device, (None,))[0] != where:
                key = put(random_key(self.plan.seeds[work.key.seed]), device)
                self._initial[device] = (where, self.programs[where[0]].init(arrays, key))
            return self._initial[device][1]

    def _values(self, padded_lanes: list[OpenRun], lo: int, program: Program) -> np.ndarray:
        first = lo - lo % program.length
        rows = [
            self.plan.table.values(
                work.key.trials[0], first, first + program.length, work.controller_states[0]
            )
            for work in padded_lanes
        ]
        return rows[0] if program.width == 1 else np.stack(rows)

    def _batches(self, padded_lanes: list[OpenRun], lo: int, device: Any) -> list[Any]:
        plan, number = self.plan, lo // self.plan.feed.length
        with self.lock:
            return [
                plan.feed.get(
                    plan.folds[work.key.fold].task,
                    work.key.fold,
                    plan.seeds[work.key.seed],
                    number,
                    device,
                )
                for work in padded_lanes
            ]


class Pacer:
    """How many updates to hand over at once: as many as take a moment, whatever the model.

    So that progress, checkpoints and Ctrl-C come often, and calls cost little. Results do not
    depend on it: the bounds of a segment are values.
    """

    def __init__(self, most: int):
        self.steps = min(8, most)
        self._most = most
        self._last = 0.0

    def begin(self) -> None:
        self._last = time.monotonic()

    def ask(self) -> Any:
        """What to hand to ``collected`` when the segment that was launched last has come back."""

    def collected(self, steps: int, answer: Any) -> None:
        """Another ``steps`` updates have come back."""
        now = time.monotonic()
        wanted = steps * _SECONDS / max(now - self._last, 1e-9)
        self.steps = int(max(1, min(wanted, 4 * self.steps, self._most)))
        self._last = now


class _Segment(NamedTuple):
    lo: int
    hi: int
    values: np.ndarray  # as the program was given them
    state: Any
    metrics: dict[str, jax.Array]
    validation: dict[str, jax.Array] | None
    answer: Any  # of the pace


class _Batched:
    """A vectorized state, taken apart once and only if somebody asks."""

    def __init__(self, state: Any, program: Program):
        self._state, self._program = state, program

    @cached_property
    def lanes(self) -> tuple[Any, ...]:
        return self._program.unstack(self._state)


class LaneState(NamedTuple):
    stacked: _Batched
    lane: int


def plain_state(state: Any) -> Any:
    """The state of a ``OpenRun`` as the task knows it."""
    return state.stacked.lanes[state.lane] if isinstance(state, LaneState) else state
