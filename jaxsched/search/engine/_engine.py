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

from jaxsched.search.engine._controlled import followers
from jaxsched.search.engine._devices import put
from jaxsched.search.engine._plan import Plan
from jaxsched.search.engine._program import Program, random_key
from jaxsched.search.engine._records import Key, Record, Work
from jaxsched.search.engine._settings import in_force

# Segments that may be on their way when the loop waits for the oldest: two keep a device busy.
_AHEAD = 2
_SECONDS = 0.25  # what one of them is to take


class Engine:
    """Runs the work of a plan on some devices; one thread for each device if there are several.

    Args:
        plan: what to train.
        programs: of each fold's task; folds that differ in arrays only have the same one.
        devices: where.
        tick: called after every piece with the engine, under its lock: progress and checkpoints.
    """

    def __init__(
        self,
        plan: Plan,
        programs: tuple[Program, ...],
        devices: list[Any],
        tick: Callable[[Engine], Any],
    ):
        self.plan, self.programs, self.devices = plan, programs, devices
        self.records: dict[Key, Record] = {}
        self.running = set(range(len(plan.table.horizons)))  # trials not given up
        self.ends: dict[Key, Any] | None = None  # states at the ends of runs, if a dict is put here
        self.steps_trained = 0
        self.stopping = False  # set by a signal handler: finish the segments under way
        self.lock = threading.Condition()
        self.pool: list[Work] = []  # last in, first out
        self._later: list[Work] = []  # what begins at the barrier or after it
        self.paces = [Pace(plan.feed.length) for _ in devices]
        self._busy: dict[int, list[Work]] = {}  # what each device is at
        self._tick = tick
        self._barrier = math.inf
        self._opened: set[Key] = set()
        self._arguments: dict[Any, list[Any]] = {}
        self._initial: dict[Any, tuple[Any, Any]] = {}  # device -> (fold, seed), state

    @property
    def width(self) -> int:
        """Lanes that run together."""
        return self.programs[0].width

    def run(self, barrier: int | None) -> None:
        """Trains until nothing is left that begins before the step ``barrier``."""
        self._barrier = math.inf if barrier is None else barrier
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
                            self._narrow(number, taken[1], error)
            except BaseException as error:
                errors.append(error)
                with self.lock:
                    self.stopping = True
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

    def unfinished(self) -> list[Work]:
        """All that is left to do, as it stands now; call it under the lock."""
        return [
            *self._later,
            *self.pool,
            *(work for lanes in self._busy.values() for work in lanes),
        ]

    def stop(self) -> None:
        """Lets the segments under way end, and starts no others."""
        self.stopping = True

    def drop_stopped(self) -> None:
        """Takes out of the pool what no running trial needs."""
        with self.lock:
            self.pool = [work for work in self.pool if self.needs(work.key)]

    def needs(self, key: Key) -> bool:
        """Whether a trial that is not given up goes through the run."""
        return not self.running.isdisjoint(key.trials)

    # ------------------------------------------------------------------------------ the work pool

    def _take(self, number: int) -> tuple[list[Work], Program] | None:
        """Some work, and the program that is wide enough for it."""
        with self.lock:
            while not self.stopping:
                lanes = self._next_lanes()
                if lanes:
                    self._busy[number] = lanes
                    return lanes, self.programs[lanes[0].key.fold]
                self._busy.pop(number, None)
                if not self._busy:
                    break
                self.lock.wait()  # another device may be about to open new stages
            return None

    def _next_lanes(self) -> list[Work]:
        lanes: list[Work] = []
        for index in range(len(self.pool) - 1, -1, -1):
            work = self.pool[index]
            if not lanes or (work.key.fold, work.at) == (lanes[0].key.fold, lanes[0].at):
                lanes.append(self.pool.pop(index))
            if len(lanes) == self.width:
                break
        return lanes

    def _open(self, work: Work) -> None:
        later = self.plan.stages[work.key.stage].start >= self._barrier
        (self._later if later else self.pool).append(work)

    def _finish(self, number: int, works: list[Work]) -> None:
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
                if self.ends is not None and not plan.children[stage.index]:
                    self.ends[work.key] = plain_state(work.state)
                for key, seen in reversed(followers(plan, work.key, work.seen, work.record)):
                    # One that is open already: a lost record has been made again.
                    if self.needs(key) and key not in self._opened:
                        self._opened.add(key)
                        self._open(Work(key, stage.stop, work.state, plan.empty_record(), seen))
            self._tick(self)
            self.lock.notify_all()

    def _narrow(self, number: int, program: Program, error: jax.errors.JaxRuntimeError) -> None:
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
                narrower = {p: p.narrower() for p in dict.fromkeys(self.programs)}
                self.programs = tuple(narrower[p] for p in self.programs)
                warnings.warn(
                    f"sweep(width={program.width}): {str(error).splitlines()[0]} It goes on with "
                    f"width {self.width}.",
                    RuntimeWarning,
                    stacklevel=2,
                )
            self.lock.notify_all()

    # ---------------------------------------------------------------------------------- training

    def _train(self, number: int, lanes: list[Work], program: Program) -> None:
        """Runs the lanes together up to where the first of them ends."""
        plan = self.plan
        device = self.devices[number]
        arrays = self._arrays(lanes[0].key.fold, device)
        seats = [*lanes, *[lanes[0]] * (program.width - len(lanes))]  # the rest repeats the first
        state = program.seated([self._state(work, arrays, device) for work in seats])
        alive: Any = np.array([work.record.diverged < 0 for work in seats])
        alive = alive if program.width > 1 else alive[0]
        alive = put(alive, device)
        pending: deque[_Piece] = deque()
        works = lanes
        pace = self.paces[number]
        pace.begin()
        segment = -1
        for lo, hi, evaluated in self._pieces(lanes, pace):
            if segment != lo // program.length:  # what a whole segment reads is put there once
                segment = lo // program.length
                table = self._values(seats, lo, program)
                values = put(table, device)
                batches = program.seated(self._batches(seats, lo, device))
            first = lo % program.length
            bounds = (np.int32(first), np.int32(first + hi - lo), np.float32(plan.limit))
            bounds = put(bounds, device)
            state, alive, seen = program.segment(arrays, state, alive, values, batches, *bounds)
            validation = program.evaluate(arrays, state) if evaluated else None
            pending.append(_Piece(lo, hi, table, state, seen, validation, pace.ask()))
            if len(pending) > _AHEAD:
                oldest = pending.popleft()
                works = self._collect(number, works, oldest, program)
                pace.collected(oldest.hi - oldest.lo, oldest.answer)
            if self.stopping or all(work.record.diverged >= 0 for work in works):
                break
        for piece in pending:
            works = self._collect(number, works, piece, program)
            pace.collected(piece.hi - piece.lo, piece.answer)
        self._finish(number, works)

    def _collect(
        self, number: int, works: list[Work], piece: _Piece, program: Program
    ) -> list[Work]:
        """The lanes after a piece whose measurements are waited for here."""
        seen, validation = jax.device_get((piece.seen, piece.validation))
        start = piece.lo % program.length
        updates = slice(start, start + piece.hi - piece.lo)
        stacked = _Stacked(piece.state, program)
        after = []
        for lane, work in enumerate(works):
            at = (lane,) if program.width > 1 else ()
            train = {k: v[at][updates] for k, v in seen.items()}
            found = None
            if self.plan.evaluates(self.plan.stages[work.key.stage], piece.hi):
                found = {k: v[at] for k, v in validation.items()}
            diverged = work.record.diverged
            if diverged < 0:
                loss = train["loss"]
                bad = ~(np.isfinite(loss) & (loss <= np.float32(self.plan.limit)))
                diverged = piece.lo + int(bad.argmax()) if bad.any() else -1
            if self.plan.table.watched:
                applied = piece.values[at][:, updates].copy()
                if diverged >= 0:
                    applied[:, max(diverged + 1 - piece.lo, 0) :] = np.nan
                train |= dict(zip(self.plan.table.names, applied, strict=True))
            if diverged >= 0 and found is not None:
                found = dict.fromkeys(found, np.float32(np.nan))
            state = _Seat(stacked, lane) if at else piece.state
            record = work.record.extended(train, found, diverged)
            after.append(dataclasses.replace(work, at=piece.hi, state=state, record=record))
        with self.lock:
            self.steps_trained += (piece.hi - piece.lo) * len(works)
            self._busy[number] = after
            self._tick(self)
        return after

    def _pieces(self, lanes: list[Work], pace: Pace) -> Iterator[tuple[int, int, bool]]:
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

    def _state(self, work: Work, arrays: list[Any], device: Any) -> Any:
        if work.state is not None:
            return put(plain_state(work.state), device)
        where = work.key[1:3]
        with self.lock:
            if self._initial.get(device, (None,))[0] != where:
                key = put(random_key(self.plan.seeds[work.key.seed]), device)
                self._initial[device] = (where, self.programs[where[0]].init(arrays, key))
            return self._initial[device][1]

    def _values(self, seats: list[Work], lo: int, program: Program) -> np.ndarray:
        first = lo - lo % program.length
        rows = [
            self.plan.table.values(work.key.trials[0], first, first + program.length, work.seen[0])
            for work in seats
        ]
        return rows[0] if program.width == 1 else np.stack(rows)

    def _batches(self, seats: list[Work], lo: int, device: Any) -> list[Any]:
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
                for work in seats
            ]


class Pace:
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
        """What to hand to ``collected`` when the piece that was launched last has come back."""

    def collected(self, steps: int, answer: Any) -> None:
        """Another ``steps`` updates have come back."""
        now = time.monotonic()
        wanted = steps * _SECONDS / max(now - self._last, 1e-9)
        self.steps = int(max(1, min(wanted, 4 * self.steps, self._most)))
        self._last = now


class _Piece(NamedTuple):
    lo: int
    hi: int
    values: np.ndarray  # as the program was given them
    state: Any
    seen: dict[str, jax.Array]
    validation: dict[str, jax.Array] | None
    answer: Any  # of the pace


class _Stacked:
    """A vectorized state, taken apart once and only if somebody asks."""

    def __init__(self, state: Any, program: Program):
        self._state, self._program = state, program

    @cached_property
    def lanes(self) -> tuple[Any, ...]:
        return self._program.unstack(self._state)


class _Seat(NamedTuple):
    stacked: _Stacked
    lane: int


def plain_state(state: Any) -> Any:
    """The state of a ``Work`` as the task knows it."""
    return state.stacked.lanes[state.lane] if isinstance(state, _Seat) else state
