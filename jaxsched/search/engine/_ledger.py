"""The ledger of a sweep: which runs are finished and open, and which trials are given up.

It is the one owner of these facts. The engine takes runs and files what they have done, the rungs
give trials up, a checkpoint stores what is finished and open. All do so by methods: nobody else
writes a field.
"""

from __future__ import annotations

import dataclasses
import math
import threading
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from jaxsched.search.engine._controlled import child_runs, root_runs
from jaxsched.search.engine._plan import Plan
from jaxsched.search.engine._records import Key, OpenRun, RunCurves, plain_state


class Ledger:
    """What of a plan is done and what is left; each device takes its runs from here.

    Args:
        plan: what is trained.
        keep_final_states: whether ``final_states`` is to be filled, Key -> state.

    Attributes:
        finished: the runs of whole stages, Key -> curves.
        stopped: int64 [trials], the rung at which a trial was given up, or -1.
        rungs_decided: how many rungs have been compared.
        steps_trained: updates, here and now.
        stop_requested: whether the segments under way are to be the last ones.
        lock: held while anything of it is read that has to fit together.
    """

    def __init__(self, plan: Plan, keep_final_states: bool = False):
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
        # The last one is taken first: so the tree is trained depth first, and a population of any
        # size keeps no more states than the tree is deep. Breadth first would keep its width.
        self._open = _roots(plan)
        self._later: list[OpenRun] = []  # what begins at the step ``_until`` or after it
        self._taken: dict[int, list[OpenRun]] = {}  # what each device is at
        self._until = math.inf
        self._opened = {run.key for run in self._open}
        self._at_hand: list[OpenRun] = []  # what a checkpoint held

    @classmethod
    def restored(cls, plan: Plan, finished: dict[Key, RunCurves], at_hand: list[OpenRun]) -> Ledger:
        """With what a checkpoint held; ``reopen`` it when its rungs have been decided."""
        ledger = cls(plan)
        ledger.finished = dict(finished)
        ledger._at_hand = at_hand
        return ledger

    # ---------------------------------------------------------------------- which trials are left

    def needs(self, key: Key) -> bool:
        """Whether a trial that is not given up goes through the run."""
        return not self._active.isdisjoint(key.trials)

    def give_up(self, trials: Iterable[int], rung: int) -> None:
        """What a rung has decided; no run is kept that no other trial needs."""
        with self.lock:
            self.rungs_decided += 1
            for trial in trials:
                self.stopped[trial] = rung
                self._active.discard(trial)
            self._open = [run for run in [*self._later, *self._open] if self.needs(run.key)]
            self._later = []

    # ---------------------------------------------------------------------------------- open runs

    def begin(self, until: int | None) -> None:
        """From now on nothing is handed out that begins at ``until`` or after it."""
        with self.lock:
            self._until = math.inf if until is None else until
            waiting, self._open, self._later = [*self._later, *self._open], [], []
            for run in waiting:
                self._add(run)

    def take(self, device: int, width: Callable[[], int]) -> list[OpenRun]:
        """Runs that can go on together: of one fold, from one step on; none if all is done.

        Waits while other devices may open more.
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
        """What was taken has gone on by so many updates."""
        with self.lock:
            self.steps_trained += steps * len(runs)
            self._taken[device] = runs

    def file(self, device: int, runs: list[OpenRun]) -> None:
        """What was taken is given back: finished stages are filed, and what follows is opened."""
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
                    # One that is open already: lost curves have been made again.
                    if self.needs(key) and key not in self._opened:
                        self._opened.add(key)
                        self._add(OpenRun(key, stage.stop, run.state, plan.empty_curves(), states))
            self.lock.notify_all()

    def put_back(self, device: int) -> None:
        """What was taken, as it was after its last update; nothing if it has been filed."""
        with self.lock:
            self._open += reversed(self._taken.pop(device, []))
            self.lock.notify_all()

    def leave(self, device: int) -> None:
        """The device takes no more."""
        with self.lock:
            self._taken.pop(device, None)
            self.lock.notify_all()

    def stop(self) -> None:
        """Lets the segments under way end, and hands out no others; for signal handlers too."""
        self.stop_requested = True

    def unfinished(self) -> list[OpenRun]:
        """All that is left to do, as it stands now; call it under the lock."""
        taken = (run for runs in self._taken.values() for run in runs)
        return [*self._later, *self._open, *taken]

    def reopen(self) -> None:
        """Opens the runs that complete the finished ones of a checkpoint, whatever of it was lost.

        Others store one file for all that is open, and start over if it is damaged. Here a state is
        worth more: any finished run whose own state is gone can be had again from the nearest
        state above it, with the same bits. So it goes down the tree from the roots to see which
        runs there are, and then up again: a run that is missing and has no state to begin with
        asks for its parent, whose curves are taken out, and the parent for its own. Where
        controllers watch, what lies below a missing run is taken out too, since it is unknown how
        it forks before its parent has been evaluated again.
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


def _roots(plan: Plan) -> list[OpenRun]:
    """The runs of a sweep at their beginning, the last one first."""
    return [
        OpenRun(key, 0, None, plan.empty_curves(), states)
        for key, states in reversed(root_runs(plan))
    ]
