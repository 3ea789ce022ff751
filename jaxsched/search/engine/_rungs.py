"""From rung to rung: trains all open runs up to a rung, then stops the worse trials there."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from jaxsched.search.engine._engine import Backend, Engine
from jaxsched.search.engine._ledger import Ledger
from jaxsched.search.engine._pacer import Coordinator
from jaxsched.search.engine._plan import Plan
from jaxsched.search.engine._records import RunCurves, by_trial


def run_plan(
    ledger: Ledger,
    backend: Backend,
    coordinator: Coordinator | None = None,
    listeners: Iterable[Callable[[], Any]] = (),
) -> None:
    """Trains all open runs of a plan.

    Args:
        ledger: of the plan, new or from a checkpoint.
        backend: where.
        coordinator: of the backend; by default one that never saves.
        listeners: called after every segment, under the ledger's lock.
    """
    coordinator = coordinator or backend.coordinator(ledger, None)
    engine = Engine(ledger, backend, coordinator, listeners)
    # Rungs first that a checkpoint decides: its damaged runs are then not repaired for a trial that
    # was stopped.
    for rung in ledger.plan.rungs[ledger.rungs_decided :]:
        if (losers := _losers(ledger, rung)) is None:
            break
        ledger.give_up(losers, rung)
    ledger.reopen()
    for rung in ledger.plan.rungs[ledger.rungs_decided :]:
        engine.run(rung)
        if ledger.stop_requested:
            return
        ledger.give_up(_losers(ledger, rung) or (), rung)
    engine.run(None)


def _losers(ledger: Ledger, rung: int) -> list[int] | None:
    """The trials that the rule stops at a rung; ``None`` if some have not reached it."""
    plan = ledger.plan
    found = by_trial(ledger.finished)
    there: dict[int, list[list[RunCurves]]] = {}
    for trial in range(len(plan.trials)):
        if ledger.stopped[trial] < 0 and plan.table.horizons[trial] > rung:
            parts = _so_far(plan, found, trial, rung)
            if parts is None:
                return None
            there[trial] = parts
    if plan.objective.stopping is None or not there:
        return []
    runs = _distinct(plan, there, rung)
    kept = plan.objective.stopping.keep(np.array([cost for cost, _ in runs]))
    return [t for (_, trials), keep in zip(runs, kept, strict=True) if not keep for t in trials]


def _distinct(
    plan: Plan, there: dict[int, list[list[RunCurves]]], rung: int
) -> list[tuple[float, list[int]]]:
    """The cost of each run, with its trials.

    Trials with equal values so far are one run, even where each was trained by itself: otherwise
    ``share_prefixes`` would change the rule's answer. Values are compared only at equal costs.
    """
    tied: dict[float, list[int]] = {}
    for trial, parts in there.items():
        cost = plan.objective.cost([_last(plan, part[-1]) for part in parts])
        tied.setdefault(cost, []).append(trial)
    runs = []
    for cost, trials in tied.items():
        once = len({tuple(id(part[-1]) for part in there[trial]) for trial in trials}) == 1
        same: dict[bytes, list[int]] = {}
        for trial in trials:
            applied = b"" if once else _applied(plan, there[trial], trial, rung)
            same.setdefault(applied, []).append(trial)
        runs += [(cost, those) for those in same.values()]
    return runs


def _so_far(
    plan: Plan, found: dict[Any, RunCurves], trial: int, rung: int
) -> list[list[RunCurves]] | None:
    """For each fold and seed the curves up to a rung, or to a divergence before it.

    ``None`` if some are not there yet.
    """
    runs = []
    stages = plan.path(trial)
    for fold, seed in plan.runs():
        parts = []
        for stage in stages:
            curves = found.get((stage.index, fold, seed, trial))
            if curves is None:
                return None
            parts.append(curves)
            if curves.diverged >= 0 or stage.stop == rung:
                break
        runs.append(parts)
    return runs


def _last(plan: Plan, curves: RunCurves) -> float:
    """The metric at the end; NaN where the run diverged."""
    return curves.validation[plan.objective.metric][-1] if curves.diverged < 0 else math.nan


def _applied(plan: Plan, runs: list[list[RunCurves]], trial: int, rung: int) -> bytes:
    """The values that a trial has applied, up to a rung or its divergence."""
    if not plan.table.watched:
        ends = [parts[-1].diverged for parts in runs]
        return plan.table.values(trial, 0, max(e + 1 if e >= 0 else rung for e in ends)).tobytes()
    rows = [part.train[name] for parts in runs for part in parts for name in plan.table.names]
    return b"".join(row[~np.isnan(row)].tobytes() for row in rows)
