"""From rung to rung: trains all open runs up to a rung, then stops the worse trials there."""

from __future__ import annotations

import bisect
import math
from collections.abc import Callable
from operator import itemgetter
from typing import NamedTuple

import numpy as np

from jaxsched.search.engine._ledger import Ledger
from jaxsched.search.engine._plan import Plan
from jaxsched.search.engine._records import Key, RunCurves


def run_plan(ledger: Ledger, train: Callable[[int | None], None]) -> None:
    """Trains all open runs of a plan; ``train(until)`` stops before a step. Workers may train."""
    # Rungs decided by the store come first: a stopped trial needs no missing runs.
    recalled = ledger.recall()
    reached = _TrialPaths(ledger)
    for rung in ledger.plan.rungs[ledger.rungs_decided :]:
        if (losers := _stopped_trials(ledger, reached, rung)) is None:
            break
        ledger.give_up(losers, rung)
    ledger.reopen(recalled)
    reached = _TrialPaths(ledger)
    for rung in ledger.plan.rungs[ledger.rungs_decided :]:
        train(rung)
        if ledger.stop_requested:
            return
        ledger.give_up(_stopped_trials(ledger, reached, rung) or (), rung)
    train(None)


class _PathPart(NamedTuple):
    """A run on the path of a trial, with the run before it."""

    curves: RunCurves
    stop: int
    before: _PathPart | None

    def path(self) -> list[RunCurves]:
        """The curves up to here, the first ones first."""
        path, part = [self.curves], self.before
        while part is not None:
            path.append(part.curves)
            part = part.before
        return path[::-1]


class _TrialPaths:
    """How far the trials are at a rung. Every finished run is looked at once, not at every rung.

    A trial's path is a chain of runs. Only its last part up to the rung counts, and is kept for
    each fold and seed. A store may have runs beyond an undecided rung. So each run
    waits in the bucket of the first rung at or after its end. When its rung comes, a bucket is
    taken in, from the earliest start on.
    """

    def __init__(self, ledger: Ledger):
        self._ledger = ledger
        self._start_over()

    def _start_over(self) -> None:
        ledger = self._ledger
        self._read, self._seen, self._next = ledger.finished, 0, 0
        self._due: dict[int, list[tuple[int, Key, RunCurves]]] = {}  # by the rung that follows
        self._last_parts: dict[tuple[int, int], dict[int, _PathPart]] = {
            r: {} for r in ledger.plan.runs
        }

    def parts(self, trials: list[int], rung: int) -> dict[int, list[_PathPart]] | None:
        """The run of each trial, fold and seed that ends at a rung or diverged before.

        ``None`` if some are not there yet.
        """
        self._read_up_to(rung)
        reached = {}
        for trial in trials:
            parts = [last.get(trial) for last in self._last_parts.values()]
            at_rung = [p for p in parts if p and (p.stop == rung or p.curves.diverged >= 0)]
            if len(at_rung) < len(parts):
                return None
            reached[trial] = at_rung
        return reached

    def _read_up_to(self, rung: int) -> None:
        """Takes in the runs finished since the last call, up to a rung."""
        plan = self._ledger.plan
        if self._read is not self._ledger.finished:  # of workers: read from the store as a whole
            self._start_over()
        fresh = self._ledger.filed_since(self._seen)
        self._seen += len(fresh)
        for key, curves in fresh:  # of a checkpoint, some may be beyond the rung
            stage = plan.stages[key.stage]
            due = bisect.bisect_left(plan.rungs, stage.stop)
            self._due.setdefault(due, []).append((stage.start, key, curves))
        while self._next < len(plan.rungs) and plan.rungs[self._next] <= rung:
            for _, key, curves in sorted(self._due.pop(self._next, ()), key=itemgetter(0)):
                last = self._last_parts[key.fold, key.seed]
                part = _PathPart(curves, plan.stages[key.stage].stop, last.get(key.trials[0]))
                last.update(dict.fromkeys(key.trials, part))
            self._next += 1


def _stopped_trials(ledger: Ledger, reached: _TrialPaths, rung: int) -> list[int] | None:
    """The trials that the rule stops at a rung; ``None`` if some have not reached it."""
    plan = ledger.plan
    running = np.flatnonzero((ledger.stopped < 0) & (plan.table.horizons > rung)).tolist()
    parts_of = reached.parts(running, rung)
    if parts_of is None:
        return None
    if plan.objective.stopping is None or not parts_of:
        return []
    runs = _distinct_runs(plan, parts_of, rung)
    keeps = plan.objective.keeps(plan.objective.stopping, [cost for cost, _ in runs])
    return [t for (_, trials), keep in zip(runs, keeps, strict=True) if not keep for t in trials]


def _distinct_runs(
    plan: Plan, parts_of: dict[int, list[_PathPart]], rung: int
) -> list[tuple[float, list[int]]]:
    """The cost of each run, with its trials.

    Trials with equal values so far are one run, even where each was trained by itself: otherwise
    ``share_prefixes`` would change the rule's answer. Values are compared only at equal costs, and
    only where trials with equal values may have several runs.
    """
    tied: dict[float, list[int]] = {}
    for trial, parts in parts_of.items():
        cost = plan.objective.cost([_last_metric(plan, part.curves) for part in parts])
        tied.setdefault(cost, []).append(trial)
    shared, runs = plan.share_prefixes and not plan.table.controlled, []
    for cost, trials in tied.items():
        # Trials of one run have the same parts, as objects: this is the quickest test.
        groups: dict[object, list[int]] = {}
        for trial in trials:
            groups.setdefault(tuple(map(id, parts_of[trial])), []).append(trial)
        if not shared and len(groups) > 1:
            separate, groups = groups, {}
            for trial, *others in separate.values():
                applied = _applied_bits(plan, parts_of[trial], trial, rung)
                groups.setdefault(applied, []).extend([trial, *others])
        runs += [(cost, those) for those in groups.values()]
    return runs


def _last_metric(plan: Plan, curves: RunCurves) -> float:
    """The metric at the end; NaN where the run diverged."""
    return curves.validation[plan.objective.metric][-1] if curves.diverged < 0 else math.nan


def _applied_bits(plan: Plan, runs: list[_PathPart], trial: int, rung: int) -> bytes:
    """The values that a trial has applied, up to a rung or its divergence."""
    if not plan.table.controlled:
        ends = [part.curves.diverged for part in runs]
        return plan.table.values(trial, 0, max(e + 1 if e >= 0 else rung for e in ends)).tobytes()
    parts = (curves for part in runs for curves in part.path())
    rows = [curves.train[name] for curves in parts for name in plan.table.names]
    return b"".join(row[~np.isnan(row)].tobytes() for row in rows)
