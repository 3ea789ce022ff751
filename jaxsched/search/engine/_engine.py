"""The host loop: takes runs from the ledger, trains them segment by segment, and files them.

States are immutable arrays, so a fork costs a reference and no copy.
"""

from __future__ import annotations

import bisect
import functools
import threading
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, NamedTuple, TypeVar

import jax
import numpy as np

from jaxsched._text import warn
from jaxsched._types import PyTree
from jaxsched.search.engine._devices import Place, put
from jaxsched.search.engine._feed import Feed
from jaxsched.search.engine._ledger import Ledger
from jaxsched.search.engine._pacer import Coordinator, Pacer
from jaxsched.search.engine._program import Program
from jaxsched.search.engine._records import LaneState, OpenRun, RunCurves
from jaxsched.search.engine._threads import Threads

# Segments in flight before the loop waits for the oldest. JAX returns before a segment has been
# trained, so the host works beside the device, two segments ahead:
#
#     launch 0   launch 1   launch 2   collect 0   launch 3   collect 1   launch 4   ...
#
# While 0 is collected, 1 and 2 are in the device's queue: it never waits for the host. More would
# gain nothing, and delay the answer to a divergence or Ctrl-C.
_MAX_IN_FLIGHT = 2
_NAN = np.float32(np.nan)
T = TypeVar("T")


class Backend:
    """The devices of a plan, and the programs for them."""

    devices: list[Place]  # one for each thread
    threads: Threads
    programs: Any  # tuple[Program, ...], of each fold; equal computations share one
    width: Any  # int, the lanes of a program

    def compile_ahead(self, ledger: Ledger) -> None:
        """Compiles the functions that the open runs of the ledger will call, if this is quicker.

        On a mesh each function is compiled when all processes call it, in one order.
        """

    def halve_width(self) -> None:
        """Replaces the programs by programs of half as many lanes, after a lack of memory.

        Never called at width 1, where a lack of memory is raised.
        """


class Engine:
    """Trains the open runs of a ledger.

    Attributes:
        stop: ends it after the segments under way.
        listeners: are called after each segment, under the ledger's lock.
    """

    def __init__(self, ledger: Ledger, backend: Backend, coordinator: Coordinator):
        self._ledger, self._plan, self._backend = ledger, ledger.plan, backend
        self._pacers, self.stop = coordinator.pacers, coordinator.stop
        self.listeners: list[Callable[[], object]] = [coordinator.on_segment]
        self._feed = Feed(ledger.plan)
        self._reading = threading.Lock()  # a task's data, by one thread while others train
        self._width: int | None = None  # the first, once its programs are compiled
        # Bounds of segments recur, and a transfer takes as long as a few updates of a tiny model.
        # Typed, since an int32, a float32 and a bool of 1 are one key otherwise.
        self._scalar = functools.lru_cache(4096, typed=True)(put)
        # number of a thread -> (fold, ..., device), and its arrays or state there
        self._arguments: dict[int, tuple[object, list[jax.Array]]] = {}
        self._initial: dict[int, tuple[object, PyTree]] = {}

    def run(self, until: int | None) -> None:
        """Trains all runs that begin before the step ``until``, and their successors up to it."""
        if self._width is None:
            self._width = self._backend.width
            self._backend.compile_ahead(self._ledger)
        self._ledger.begin(until)
        self._backend.threads.run(self._work, self._ledger.stop)

    def _work(self, number: int) -> None:
        """Trains until nothing is left, or until there is no memory for so many threads."""
        try:
            while taken := self._take(number):
                # Counted before: one that finds fewer after its failure need not make room itself.
                beside = self._others_on_device(number)
                try:
                    self._train(number, *taken)
                # At its end Python drops the error, with the frames that hold the failed states.
                except jax.errors.JaxRuntimeError as error:
                    if not self._make_room(number, taken[1], beside, error):
                        break
        finally:
            self._ledger.leave(number)

    def _take(self, number: int) -> tuple[list[OpenRun], Program] | None:
        """Some runs, and a program with a lane for each."""
        # Another device may be about to halve the width: lanes and program must have the same. A
        # wait within ``take`` releases the lock, though this thread holds it twice.
        with self._ledger.lock:
            lanes = self._ledger.take(number, lambda: self._backend.width)
            return (lanes, self._backend.programs[lanes[0].key.fold]) if lanes else None

    def _others_on_device(self, number: int) -> int:
        """How many other threads train on the device of this one."""
        devices = self._backend.devices
        return sum(devices[n] == devices[number] for n in self._backend.threads.numbers) - 1

    def _make_room(
        self, number: int, program: Program, beside: int, error: jax.errors.JaxRuntimeError
    ) -> bool:
        """After a lack of memory; returns whether this thread goes on, from where its runs are.

        First there are fewer threads, which changes no bits; then half as many lanes.
        """
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise error
        caller = self._plan.caller
        with self._ledger.lock:
            self._ledger.put_back(number)
            others = self._others_on_device(number)
            if others < beside or self._backend.width < program.width:
                return True  # another thread has made room
            if others:
                self._backend.threads.dismiss(number)
                rest = f"{others} thread{'s' * (others > 1)} on this device"
            elif program.width > 1:
                self._backend.halve_width()
                rest = f"width {self._backend.width}"
            else:
                error.add_note(f"in {caller}(...), with one run at a time")
                raise error
            lack = str(error).splitlines()[0]
            text = f"{caller}(width={program.width}): {lack} It goes on with {rest}."
            warn(text, RuntimeWarning, late=True)
        return not others

    # ---------------------------------------------------------------------------------- training

    def _train(self, number: int, lanes: list[OpenRun], program: Program) -> None:
        """Trains the lanes together until the first of them ends.

        The loop runs ahead of the devices: it launches a segment, and only then waits for the
        measurements of an older one. It learns late of a divergence, which does no harm: the
        program itself freezes such a run. One compiled call for the whole stage would cost less
        still, but nothing could be shown, saved or stopped before its end.
        """
        # ``runs`` are as of the last collected segment, behind the launched ones. They are saved,
        # and go on after a lack of memory: their states exist.
        runs, in_flight = lanes, deque[_Segment]()
        for segment in self._launched(number, lanes, program):
            in_flight.append(segment)
            if len(in_flight) > _MAX_IN_FLIGHT:
                runs = self._collect(number, runs, in_flight.popleft(), program)
            if self._ledger.stop_requested or all(run.curves.diverged >= 0 for run in runs):
                break
        for segment in in_flight:  # after a stop, too: launched segments are trained, and count
            runs = self._collect(number, runs, segment, program)
        with self._ledger.lock:
            self._ledger.file(number, runs)
            self._notify()

    def _launched(self, number: int, lanes: list[OpenRun], program: Program) -> Iterator[_Segment]:
        """Launches one segment after another; each goes on from the state of the one before it.

        Nothing here waits for a device: the state that ``segment`` returns is still being computed
        when it becomes the argument of the next launch.
        """
        plan, threads, pacer = self._plan, self._backend.threads, self._pacers[number]
        device = self._backend.devices[number]
        arrays = self._arrays(number, lanes[0].key.fold)
        # A program has one width. Spare lanes repeat the first run, with valid data; their
        # measurements are never read.
        padded = [*lanes, *[lanes[0]] * (program.width - len(lanes))]
        state = program.stack([self._state(number, run, arrays) for run in padded])
        # Runs that were put back after a lack of memory may have diverged: they stay frozen.
        going = np.array([run.curves.diverged < 0 for run in padded])
        # A lone run's flag has two values; each is transferred once.
        alive = put(going, device) if program.width > 1 else self._scalar(going[0], device)
        limit = self._scalar(np.float32(plan.limit), device)
        chunk = -1
        pacer.begin()
        threads.trains(number)
        for lo, hi, evaluated, marked in self._segments(lanes, pacer):
            if chunk != lo // plan.length:  # a chunk's values and batches are transferred once
                chunk = lo // plan.length
                on_host = self._values(padded, chunk, program)
                values = put(on_host, device)
                with threads.unlocked(number):
                    batches = program.stack(self._batches(padded, chunk, device))
            first = lo % plan.length
            bounds = (self._scalar(np.int32(n), device) for n in (first, first + hi - lo))
            arguments = (arrays, state, alive, values, batches, *bounds, limit)
            with threads.unlocked(number):
                state, alive, metrics = program.segment(*arguments)
                validation = program.evaluate(arrays, state) if evaluated else None
            # The pacer asks after the launches: on a mesh its question is a program too. The answer
            # arrives with the measurements.
            yield _Segment(lo, hi, marked, on_host, state, metrics, validation, pacer.ask())

    def _collect(
        self, number: int, runs: list[OpenRun], segment: _Segment, program: Program
    ) -> list[OpenRun]:
        """Waits for the measurements of a segment; returns the runs after it.

        A run's state stays in the batch. It is unstacked only for a checkpoint, a fork or another
        group of lanes: most states are replaced before.
        """
        with self._backend.threads.unlocked(number):
            metrics, validation = jax.device_get((segment.metrics, segment.validation))
        lanes = functools.cache(functools.partial(program.unstack, segment.state))
        hi, after = segment.hi, []
        for lane, run in enumerate(runs):
            at = (lane,) if program.width > 1 else ()
            curves = self._extended(run, segment, at, metrics, validation)
            state = LaneState(lanes, lane) if at else segment.state
            # Lanes have the bits of their width. A store gives the lanes of a halved width to no
            # other sweep: it is chance when memory runs out.
            narrowed = run.narrowed or program.width != self._width
            after.append(replace(run, at=hi, state=state, curves=curves, narrowed=narrowed))
        updates = hi - segment.lo
        with self._ledger.lock:
            self._ledger.update(number, after, updates)
            if segment.marked:
                for run in after:
                    self._ledger.store.keep(run)
            self._notify()
        self._backend.threads.trained(number)
        self._pacers[number].collected(updates, segment.answer)
        return after

    def _extended(
        self,
        run: OpenRun,
        segment: _Segment,
        at: tuple[int, ...],
        metrics: dict[str, np.ndarray],
        validation: dict[str, np.ndarray],
    ) -> RunCurves:
        """The curves of a run after a segment; its measurements are in the lane ``at``.

        The program returns curves and no step of divergence, so it is found here, by the
        program's own comparison in float32. There a limit of 0.1 is 0.1000000015: compared in
        float64, a loss between both would have diverged here and not in the program.
        """
        plan, diverged = self._plan, run.curves.diverged
        start = segment.lo % plan.length
        updates = slice(start, start + segment.hi - segment.lo)
        train = {name: curve[at][updates] for name, curve in metrics.items()}
        evaluation = None
        if plan.evaluates(plan.stages[run.key.stage], segment.hi):
            evaluation = {name: value[at] for name, value in validation.items()}
        if diverged < 0:
            loss = train["loss"]
            bad = ~(np.isfinite(loss) & (loss <= np.float32(plan.limit)))
            diverged = segment.lo + int(bad.argmax()) if bad.any() else -1
        if plan.table.controlled:
            applied = segment.values[at][:, updates]
            train |= dict(zip(plan.table.names, applied, strict=True))
        if diverged >= 0:  # it is frozen from there: later measurements are of no update
            later = np.arange(segment.lo, segment.hi) > diverged
            train = {name: np.where(later, _NAN, curve) for name, curve in train.items()}
            evaluation = None if evaluation is None else dict.fromkeys(evaluation, _NAN)
        return run.curves.extended(train, evaluation, diverged)

    def _notify(self) -> None:
        for listener in self.listeners:
            listener()

    def _segments(
        self, lanes: list[OpenRun], pacer: Pacer
    ) -> Iterator[tuple[int, int, bool, bool]]:
        """(from, to, whether to evaluate and to keep the states at its end); until a lane ends.

        Segments also end with a chunk and at the pacer's length, which may change on the way. A
        stage of 5000 updates that is evaluated after 1000, in chunks of 4096 and at a pacer's 3000,
        has segments up to 1000, 4000, 4096 and 5000. None of these cuts changes a bit: the bounds
        of a segment are values of one program.
        """
        stages = [self._plan.stages[run.key.stage] for run in lanes]
        stop = min(stage.stop for stage in stages)
        at, length = lanes[0].at, self._plan.length
        evaluated = set[int]()
        # By identity: the lanes mostly share one list, as long as the run.
        for steps in {id(s): s for s in map(self._plan.evaluations, stages)}.values():
            # Not of the whole stage: it may be interrupted as often as it is evaluated.
            first, last = (bisect.bisect_right(steps, step) for step in (at, stop))
            evaluated.update(steps[first:last])
        # The next mark depends on the last step at which there was a state for the store.
        cuts, kept = sorted({*evaluated, stop}), at
        for cut in cuts:
            while at < cut:
                # The first lane stands for all: the marks are mostly alike, or any lane serves.
                mark = self._ledger.store.mark(lanes[0], len(lanes), kept, at, pacer.speed)
                end = min(cut, (at // length + 1) * length, at + pacer.steps, mark or cut)
                kept = end if end == mark else kept
                yield at, end, end in evaluated, end == mark
                at = end

    # ---------------------------------------------------------------------------- arrays for it

    def _arrays(self, number: int, fold: int) -> list[jax.Array]:
        one, program = self._plan.folds[fold], self._backend.programs[fold]
        device = self._backend.devices[number]
        make = lambda: program.arguments(one, device)
        return self._cached(self._arguments, number, (fold, device), make)

    def _state(self, number: int, run: OpenRun, arrays: list[jax.Array]) -> PyTree:
        """The state from which a run goes on, on the thread's device."""
        device, (_, fold, seed, _) = self._backend.devices[number], run.key
        if run.state is not None:
            return put(run.plain_state, device)

        def make() -> PyTree:
            program = self._backend.programs[fold]
            return program.init(arrays, *program.start(self._plan.seeds[seed], device))

        return self._cached(self._initial, number, (fold, seed, device), make)

    def _cached(
        self, cache: dict[int, tuple[object, T]], number: int, key: object, make: Callable[[], T]
    ) -> T:
        """The value that a thread needs now, from itself or another thread.

        Each thread keeps one: the data of several folds may not fit into the memory of a device.
        Threads of one device find one another's, so ten of them hold the data of a fold once.
        """
        with self._reading:
            matches = (value for known, value in cache.values() if known == key)
            if (needed := next(matches, None)) is None:
                cache.pop(number, None)  # before the next one is made
                needed = make()
            cache[number] = (key, needed)
            return needed

    def _values(self, lanes: list[OpenRun], chunk: int, program: Program) -> np.ndarray:
        """The chunk's values; values after the longest run are never applied."""
        plan = self._plan
        start = chunk * plan.length
        stop = min(start + plan.length, plan.longest)
        filled = np.zeros((len(lanes), len(plan.table.names), plan.length), np.float32)
        for rows, run in zip(filled, lanes, strict=True):
            states = run.controller_states[0]  # all trials of a run apply the values of its first
            rows[:, : stop - start] = plan.table.values(run.key.trials[0], start, stop, states)
        return filled if program.width > 1 else filled[0]

    def _batches(self, lanes: list[OpenRun], chunk: int, device: Place) -> list[PyTree]:
        with self._reading:
            return [self._feed.get(run.key.fold, run.key.seed, chunk, device) for run in lanes]


class _Segment(NamedTuple):
    """A segment in flight: updates ``lo`` to ``hi - 1``."""

    lo: int
    hi: int
    marked: bool  # whether the states after it are to be kept
    values: np.ndarray  # the chunk's, on the host
    state: PyTree
    metrics: dict[str, jax.Array]
    validation: dict[str, jax.Array] | None
    answer: jax.Array | None  # of the pacer
