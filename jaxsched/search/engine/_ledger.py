"""The ledger of a sweep: which runs are finished and open, and which trials are given up.

It is the only owner of these facts. The engine takes and files runs, the rungs give trials up, a
checkpoint stores runs. All use its methods: no other code writes its fields.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
import threading
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from jaxsched.search.engine._controlled import child_runs, root_runs
from jaxsched.search.engine._plan import Plan
from jaxsched.search.engine._records import Key, OpenRun, RunCurves, plain_state


class Ledger:
    """The finished and the open runs of a plan; each device takes its runs from here.

    Args:
        plan: of the sweep.
        keep_final_states: whether to fill ``final_states``, Key -> state.
        state: where all runs begin; by default each where ``init`` begins.

    Attributes:
        finished: the runs of completed stages, Key -> curves.
        stopped: int64 [trials], the rung at which a trial was given up, or -1.
        rungs_decided: the number of rungs that have been compared.
        steps_trained: updates of this call, without those of a checkpoint.
        stop_requested: whether the segments under way are the last ones.
        lock: hold it to read several fields that must be consistent.
    """

    def __init__(self, plan: Plan, keep_final_states: bool = False, state: Any = None):
        self.plan = plan
        self.finished: dict[Key, RunCurves] = {}
        self.final_states: dict[Key, Any] = {}
        self.stopped = np.full(len(plan.trials), -1, np.int64)
        self.rungs_decided = 0
        self.steps_trained = 0
        self.stop_requested = False
        self.lock = threading.Condition()
        self._keep = keep_final_states
        self._active = set(range(len(plan.trials)))
        # A stack: the tree is trained depth first, so the number of states in memory is that of
        # the tree's depth. Breadth first would keep as many as the tree is wide.
        self._open = _roots(plan, state)
        self._later: list[OpenRun] = []  # runs that begin at the step ``_until`` or after it
        self._taken: dict[int, list[OpenRun]] = {}  # the runs of each device
        self._until = math.inf
        self._opened = {run.key for run in self._open}
        self._at_hand: list[OpenRun] = []  # the open runs of a checkpoint

    @classmethod
    def restored(cls, plan: Plan, finished: dict[Key, RunCurves], at_hand: list[OpenRun]) -> Ledger:
        """The ledger of a checkpoint; call ``reopen`` after its rungs have been decided."""
        ledger = cls(plan)
        ledger.finished = dict(finished)
        ledger._at_hand = at_hand
        return ledger

    # ---------------------------------------------------------------------- which trials are left

    def needs(self, key: Key) -> bool:
        """Whether a trial that is not given up goes through the run."""
        return not self._active.isdisjoint(key.trials)

    def give_up(self, trials: Iterable[int], rung: int) -> None:
        """Stops trials at a rung, and drops the open runs of these trials alone."""
        with self.lock:
            self.rungs_decided += 1
            for trial in trials:
                self.stopped[trial] = rung
                self._active.discard(trial)
            self._open = [run for run in [*self._later, *self._open] if self.needs(run.key)]
            self._later = []

    # ---------------------------------------------------------------------------------- open runs

    def begin(self, until: int | None) -> None:
        """From now on runs that begin at ``until`` or after it are held back."""
        with self.lock:
            self._until = math.inf if until is None else until
            waiting, self._open, self._later = [*self._later, *self._open], [], []
            for run in waiting:
                self._add(run)

    def take(self, device: int, width: Callable[[], int]) -> list[OpenRun]:
        """Runs that can go on together: of one fold, at one step; none if all is done.

        Waits while other devices have runs, since these may open more.
        """
        with self.lock:
            while not self.stop_requested:
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
            for run in reversed(runs):
                stage = plan.stages[run.key.stage]
                if run.at < stage.stop and run.curves.diverged < 0:
                    self._open.append(run)
                    continue
                self.finished[run.key] = run.curves.trimmed()
                if self._keep and not plan.children[stage.index]:
                    self.final_states[run.key] = plain_state(run.state)
                children = child_runs(plan, run.key, run.controller_states, run.curves)
                for key, states in reversed(children):
                    # A parent that was trained again, for its lost curves, has open children.
                    if self.needs(key) and key not in self._opened:
                        self._opened.add(key)
                        self._add(OpenRun(key, stage.stop, run.state, plan.empty_curves(), states))
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

        In time proportional to their number: what is read after each segment or rung is read once.
        """
        return list(itertools.islice(reversed(self.finished.items()), len(self.finished) - count))

    def reopen(self) -> None:
        """Opens the runs that a checkpoint lacks, whichever of its files were lost.

        A lost state is trained again from the nearest state above it, with the same bits; to start
        over would cost the whole sweep. First it goes down the tree from the roots, to list all
        runs. Then it goes up: for a missing run without a state, its parent is trained again, so
        the parent's curves are removed; then the same for the parent. With controllers, all runs
        below a missing one are removed as well: how it forks is unknown until it is evaluated
        again.
        """
        if not self.finished and not self._at_hand:
            return
        plan, finished, roots = self.plan, self.finished, _roots(self.plan)
        at_hand = {run.key: run for run in [*roots, *self._at_hand]}
        states = {run.key: run.controller_states for run in roots}
        parents: dict[Key, Key] = {}
        order: list[Key] = []  # parents before children
        todo = [run.key for run in roots]
        while todo:
            key = todo.pop()
            order.append(key)
            if key in finished or not plan.table.watched:
                children = child_runs(plan, key, states[key], finished.get(key))
                states |= dict(children)
                parents |= {child: key for child, _ in children}
                todo += [child for child, _ in reversed(children)]
        for key in finished.keys() - set(order):
            del finished[key]
        for key in reversed(order):
            missing = key not in finished and key not in at_hand and self.needs(key)
            if missing and key in parents:
                finished.pop(parents[key], None)
        self._open = [
            dataclasses.replace(at_hand[key], controller_states=states[key])
            for key in reversed(order)
            if key in at_hand and key not in finished and self.needs(key)
        ]
        self._at_hand = []
        self._opened = {*finished, *(run.key for run in self._open)}

    # ------------------------------------------------------------------------------------ details

    def _add(self, run: OpenRun) -> None:
        later = self.plan.stages[run.key.stage].start >= self._until
        (self._later if later else self._open).append(run)

    def _next(self, width: int) -> list[OpenRun]:
        runs: list[OpenRun] = []
        for index in range(len(self._open) - 1, -1, -1):
            run = self._open[index]
            if not runs or (run.key.fold, run.at) == (runs[0].key.fold, runs[0].at):
                runs.append(self._open.pop(index))
            if len(runs) == width:
                break
        return runs


def _roots(plan: Plan, state: Any = None) -> list[OpenRun]:
    """The runs at step 0, reversed: the last one is taken first."""
    return [
        OpenRun(key, 0, state, plan.empty_curves(), states)
        for key, states in reversed(root_runs(plan))
    ]
