"""The ledger of a sweep: which runs are finished and open, and which trials are given up.

It is the only owner of these facts. The engine takes and files runs, the rungs give trials up, a
store keeps the measurements. All use its methods: no other code writes its fields.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
import threading
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from jaxsched._types import PyTree
from jaxsched.search.engine._controlled import child_runs, no_curves, root_runs
from jaxsched.search.engine._plan import Plan
from jaxsched.search.engine._records import Key, OpenRun, RunCurves

# Times the width: among so many runs, a group that goes on together is sought. A search among all
# runs, for each group, would take a time quadratic in their number.
_LOOK = 32


# The runs that a store was asked for, as far as it holds them, with the one before each; parents
# come before their children.
Recalled = dict[Key, tuple[OpenRun, Key | None]]


class Store:
    """Measurements and states of this sweep and of others, by the input that the runs have read.

    This one holds nothing and keeps nothing, as a sweep without a checkpoint does.
    """

    machines: frozenset[str] | set[str] = frozenset()  # the kinds that have trained the stored runs

    @property
    def empty(self) -> bool:
        """Whether it holds nothing of use."""
        return True

    def due(self) -> bool:
        """Whether it is time to save."""
        return False

    def save(self, ledger: Ledger) -> None:
        """Saves; called under the ledger's lock."""

    def begin(self) -> Any:
        """The path of the runs that begin at step 0."""

    def look(self, run: OpenRun) -> tuple[OpenRun, Any]:
        """A run that begins as far as it is measured, without a state; the path of the others."""
        return run, None

    def reopened(self, run: OpenRun) -> OpenRun | None:
        """A run of ``look`` at the last state that it holds of it, if any."""
        return None

    def mark(self, run: OpenRun, lanes: int, kept: int, at: int, speed: int) -> int | None:
        """The next step within the stage of a run at which ``keep`` is to be called for it, if any.

        Args:
            run: as it began to go on.
            lanes: how many go on together.
            kept: the last step at which there is a state.
            at: the step reached.
            speed: updates in a second, or 0 if it is unknown.
        """
        return None

    def keep(self, run: OpenRun) -> None:
        """Takes the state of a run at a mark; called under the ledger's lock.

        Another sweep may go on from there.
        """

    def ended(self, run: OpenRun) -> Any:
        """Takes a run that has ended; returns the path of its successors."""


class Ledger:
    """The finished and the open runs of a plan; each device takes its runs from here.

    A run is in one of four places, and moves between them under the lock::

        later  --begin-->  open  --take-->  taken  --file-->  finished; its children are opened
                             ^                |
                             +---- file ------+     another lane has ended before it
                             +-- put_back ----+     there was no memory for it

    A run whose trials are all given up is dropped from ``later`` or ``open``. None is taken then:
    at a rung all threads wait.

    Args:
        plan: of the sweep.
        store: ``recall`` takes known runs from it, and it is given the measurements.
        keep_final_states: whether to fill ``final_states``, Key -> state.
        state: where all runs begin; by default each where ``init`` begins.

    Attributes:
        finished: the runs of completed stages, Key -> curves.
        stopped: int64 [trials], the rung at which a trial was given up, or -1.
        rungs_decided: the number of compared rungs.
        steps_trained: updates of this call.
        units: of workers, how many have ended, and of how many; empty without workers.
        stop_requested: whether the segments under way are the last ones.
        store: the source of known runs, and the place for measurements.
        lock: hold it to read several fields that must be consistent.
    """

    def __init__(
        self,
        plan: Plan,
        store: Store | None = None,
        keep_final_states: bool = False,
        state: PyTree | None = None,
    ):
        self.plan = plan
        self.finished: dict[Key, RunCurves] = {}
        self.final_states: dict[Key, PyTree] = {}
        self.stopped = np.full(len(plan.trials), -1, np.int64)
        self.rungs_decided = 0
        self.steps_trained = 0
        self.units: tuple[int, ...] = ()
        self.stop_requested = False
        self.lock = threading.Condition()
        self.store = store or Store()
        self._keep, self._state = keep_final_states, state
        # A stack: the tree is trained depth first, so the number of states in memory is that of
        # the tree's depth. Breadth first would keep as many as the tree is wide.
        self._open: list[OpenRun] = []
        self._until = math.inf  # the next rung
        self._later: list[OpenRun] = []  # runs that wait for it: perhaps their trials are given up
        self._taken: dict[int, list[OpenRun]] = {}  # the runs of each device
        self._opened: set[Key] = set()
        self._ahead: dict[Key, RunCurves] = {}  # stored, beyond an undecided rung
        self._stored: dict[Key, int] = {}  # updates of a run that the store held

    @property
    def stored(self) -> int:
        """Updates not trained here, since the store held them."""
        keys = self.finished.keys() | {run.key for run in self.unfinished()}
        return sum(count for key, count in self._stored.items() if key in keys)

    @property
    def partial(self) -> bool:
        """Whether it was stopped before all runs had ended."""
        return self.stop_requested and bool(self.unfinished())

    # ---------------------------------------------------------------------- which trials are left

    def needs(self, key: Key) -> bool:
        """Whether a trial that is not given up goes through the run."""
        return any(self.stopped[trial] < 0 for trial in key.trials)

    def give_up(self, trials: Iterable[int], rung: int) -> None:
        """Stops trials at a rung, and drops the open runs of these trials alone."""
        with self.lock:
            self.rungs_decided += 1
            for trial in trials:
                self.stopped[trial] = rung
            # Runs that were held back too: ``begin``, which follows, sorts them by the next rung.
            self._open = [run for run in [*self._later, *self._open] if self.needs(run.key)]
            self._later = []

    # ---------------------------------------------------------------------------------- open runs

    def begin(self, until: int | None) -> None:
        """Holds back runs that begin at ``until`` or after it, from now on."""
        with self.lock:
            self._until = math.inf if until is None else until
            waiting, self._open, self._later = [*self._later, *self._open], [], []
            for run in waiting:
                self._add(run)
            ahead, self._ahead = self._ahead, {}
            for key, curves in ahead.items():
                if self._reached(key):
                    (self._ahead if self._held_back(key) else self.finished)[key] = curves

    def take(self, device: int, width: Callable[[], int]) -> list[OpenRun]:
        """Runs that can go on together: of one fold, at one step; none if all is done.

        Waits while other devices have runs, since these may open more.
        """
        with self.lock:
            while not self.stop_requested:
                # Asked anew after each wait: another device may have halved the width.
                if runs := self._next(width()):
                    self._taken[device] = runs
                    return runs
                self._taken.pop(device, None)
                if not self._taken:
                    break
                self.lock.wait()
            return []

    def update(self, device: int, runs: list[OpenRun], steps: int) -> None:
        """The device's runs after ``steps`` more updates."""
        with self.lock:
            self.steps_trained += steps * len(runs)
            self._taken[device] = runs

    def file(self, device: int, runs: list[OpenRun]) -> None:
        """Gives a device's runs back: completed stages are filed, and their children opened."""
        plan = self.plan
        with self.lock:
            del self._taken[device]
            for run in reversed(runs):  # onto a stack: the first one is on top again
                stage = plan.stages[run.key.stage]
                if run.at < stage.stop and run.curves.diverged < 0:
                    self._open.append(run)  # it was stopped, or another lane ended before it
                    continue
                self.finished[run.key] = run.curves.trimmed()
                if self._keep and not plan.children[stage.index]:
                    self.final_states[run.key] = run.plain_state
                for child in reversed(child_runs(plan, run, self.store.ended(run))):
                    # A parent that was trained again, for its lost curves, has open children.
                    if self.needs(child.key) and child.key not in self._opened:
                        self._opened.add(child.key)
                        self._add(child)
            self.lock.notify_all()

    def put_back(self, device: int) -> None:
        """Gives back, unfiled, a device's runs as they were at the last ``update``, if any."""
        with self.lock:
            self._open += reversed(self._taken.pop(device, []))
            self.lock.notify_all()

    def leave(self, device: int) -> None:
        """The device ends; no other device waits for it any more."""
        with self.lock:
            self._taken.pop(device, None)
            self.lock.notify_all()

    def stop(self) -> None:
        """Ends after the segments under way. Without the lock, so that signal handlers may call."""
        self.stop_requested = True

    def unfinished(self) -> list[OpenRun]:
        """All open runs at this moment; call it under the lock."""
        taken = (run for runs in self._taken.values() for run in runs)
        return [*self._later, *self._open, *taken]

    def filed_since(self, count: int) -> list[tuple[Key, RunCurves]]:
        """The finished runs without the first ``count``, the last one first.

        In time proportional to their number: a run is read once, not after each segment or rung.
        """
        return list(itertools.islice(reversed(self.finished.items()), len(self.finished) - count))

    def recall(self) -> Recalled:
        """Files all runs that the store holds; then decide the rungs, and call ``reopen``.

        It goes down the tree from the roots: with an empty store only they are known. With
        controllers it ends at a missing run: how that one forks is unknown until it is evaluated.
        """
        store, plan, recalled = self.store, self.plan, Recalled()
        self.finished = {}
        roots = root_runs(plan, self._state, store.begin())
        if store.empty:
            return {run.key: (run, None) for run in roots}
        todo: list[tuple[OpenRun, Key | None]] = [(run, None) for run in reversed(roots)]
        while todo:
            run, parent = todo.pop()
            stage = plan.stages[run.key.stage]
            run, path = store.look(run)
            recalled[run.key] = (run, parent)
            if run.at == stage.stop or run.curves.diverged >= 0:
                self.finished[run.key] = run.curves
            elif plan.table.controlled:
                continue
            # Children of a run that is missing too: perhaps only its file is lost, not theirs.
            todo += [(child, run.key) for child in reversed(child_runs(plan, run, path))]
        return recalled

    def reopen(self, recalled: Recalled) -> None:
        """Opens the runs that the store lacks, each at its last stored state.

        It goes up the tree: a run without any state needs the state at the end of its parent. The
        parent is then trained again, from its own last state, with the same bits. To start over
        would cost the whole sweep.
        """
        # Say a trunk has two decays, and of one decay nothing is stored. It needs the state at the
        # end of the trunk. If the store has it, the trunk stays finished and the decay is opened
        # there. If not, the trunk comes into ``again``: it is opened at its own last state, and the
        # decay with it once it ends; the other decay is finished, and so in ``_opened``.
        finished, again = self.finished, set[Key]()
        rungs = self.plan.rungs[self.rungs_decided :]
        # Stopped trials need nothing; runs beyond an undecided rung wait for it.
        for key in list(finished):
            if not self._reached(key):
                del finished[key]
            elif rungs and self.plan.stages[key.stage].start >= rungs[0]:
                self._ahead[key] = finished.pop(key)
        self._open, self._later = [], []
        # Children first: whether one has a state decides whether its parent is trained again.
        for key, (run, parent) in reversed(recalled.items()):
            records = finished if key in finished else self._ahead
            if (key in records and key not in again) or not self.needs(key):
                continue
            records.pop(key, None)  # also if it waits for its parent: else it would not be opened
            opened = self.store.reopened(run)
            if opened is None and parent is not None:
                again.add(parent)
                continue
            if opened is None and run.at > 0:  # measured, but without a state: from its begin
                none = no_curves(self.plan)
                opened = dataclasses.replace(run, at=0, curves=none, narrowed=False)
            self._open.append(opened or run)
        known = {**finished, **self._ahead, **{run.key: run.curves for run in self._open}}
        self._stored = {key: curves.updates for key, curves in known.items()}
        self._opened = set(known)

    # ----------------------------------------------------------------------------------- workers

    def reread(self, until: int | None) -> None:
        """Files the runs that workers have saved in the store, as if they had been trained here."""
        with self.lock:
            stored = self._stored  # as it was: the workers' runs are not earlier ones
            self.reopen(self.recall())
            self._stored = stored
        self.begin(until)

    def ended(self, units: int, of: int, updates: int) -> None:
        """So many units of workers have ended; the last one has trained ``updates``."""
        with self.lock:
            self.units = (units, of)
            self.steps_trained += updates

    def _reached(self, key: Key) -> bool:
        """Whether a trial goes through a run, in view of the rungs at which some were stopped."""
        start, stopped = self.plan.stages[key.stage].start, self.stopped
        return any(not 0 <= stopped[trial] <= start for trial in key.trials)

    def _held_back(self, key: Key) -> bool:
        """Whether a run begins at the next rung or after it."""
        return self.plan.stages[key.stage].start >= self._until

    def _add(self, run: OpenRun) -> None:
        (self._later if self._held_back(run.key) else self._open).append(run)

    def _next(self, width: int) -> list[OpenRun]:
        """Takes the last open run, and others of its fold and step, as many as ``width``.

        A segment has one pair of bounds for all lanes, so they must be at one step; and one set of
        arrays, so they must be of one fold. Their seeds and stages may differ.
        """
        runs: list[OpenRun] = []
        count = len(self._open)
        for index in range(count - 1, max(-1, count - 1 - _LOOK * width), -1):
            run = self._open[index]
            if not runs or (run.key.fold, run.at) == (runs[0].key.fold, runs[0].at):
                runs.append(self._open.pop(index))
            if len(runs) == width:
                break
        return runs
