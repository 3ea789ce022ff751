"""From rung to rung: trains all that is running up to there, then gives the worse trials up."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from jaxsched.search.engine._engine import Engine
from jaxsched.search.engine._plan import Plan
from jaxsched.search.engine._records import RunCurves, by_trial
from jaxsched.search.engine._stopping import StoppingRule


def train_rung_by_rung(
    engine: Engine, stopping: StoppingRule | None, metric: str, maximize: bool
) -> np.ndarray:
    """Trains everything; the step after which each trial was given up, or -1."""
    plan = engine.plan
    engine.active_trials = set(range(len(plan.table.horizons)))
    stopped = np.full(len(plan.table.horizons), -1, np.int64)
    for rung in plan.rungs:
        engine.run(rung)
        if engine.stop_requested:
            return stopped
        for trial in _given_up(engine, stopping, rung, metric, maximize) or ():
            stopped[trial] = rung
    engine.run(None)
    return stopped


def apply_rungs(engine: Engine, stopping: StoppingRule | None, metric: str, maximize: bool) -> None:
    """Makes the decisions that the records allow, without training."""
    for rung in engine.plan.rungs:
        if _given_up(engine, stopping, rung, metric, maximize) is None:
            break


def _given_up(
    engine: Engine, stopping: StoppingRule | None, rung: int, metric: str, maximize: bool
) -> list[int] | None:
    """The trials that the rule stops at a rung; ``None`` if some have not come so far."""
    plan = engine.plan
    running = sorted(t for t in engine.active_trials if plan.table.horizons[t] > rung)
    found = by_trial(engine.records)
    there: dict[int, list[list[RunCurves]]] = {}
    for trial in running:
        parts = _so_far(plan, found, trial, rung)
        if parts is None:
            return None
        there[trial] = parts
    if stopping is None or not running:
        return []
    runs = _distinct(plan, there, rung, metric, maximize)
    kept = stopping.keep(np.array([cost for cost, _ in runs]))
    lost = [t for (_, those), keep in zip(runs, kept, strict=True) if not keep for t in those]
    engine.active_trials -= set(lost)
    engine.drop_stopped()
    return lost


def _distinct(
    plan: Plan, there: dict[int, list[list[RunCurves]]], rung: int, metric: str, maximize: bool
) -> list[tuple[float, list[int]]]:
    """The cost of each run, with the trials that are one run so far, trained once or not."""
    tied: dict[float, list[int]] = {}
    for trial, parts in there.items():
        tied.setdefault(_cost([part[-1] for part in parts], metric, maximize), []).append(trial)
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
    """For each fold and seed the records up to a rung, or to a divergence before it.

    ``None`` if one is not there yet.
    """
    runs = []
    stages = plan.path(trial)
    for fold, seed in plan.runs():
        parts = []
        for stage in stages:
            record = found.get((stage.index, fold, seed, trial))
            if record is None:
                return None
            parts.append(record)
            if record.diverged >= 0 or stage.stop == rung:
                break
        runs.append(parts)
    return runs


def _cost(ends: list[RunCurves], metric: str, maximize: bool) -> float:
    """Mean over folds and seeds; infinite if a run diverged."""
    values = [r.validation[metric][-1] if r.diverged < 0 else math.nan for r in ends]
    mean = float(np.mean(np.array(values, np.float64)))
    return (-mean if maximize else mean) if math.isfinite(mean) else math.inf


def _applied(plan: Plan, runs: list[list[RunCurves]], trial: int, rung: int) -> bytes:
    """The values that a trial has applied, up to a rung or where it diverged."""
    if not plan.table.watched:
        ends = [parts[-1].diverged for parts in runs]
        return plan.table.values(trial, 0, max(e + 1 if e >= 0 else rung for e in ends)).tobytes()
    rows = [part.train[name] for parts in runs for part in parts for name in plan.table.names]
    return b"".join(row[~np.isnan(row)].tobytes() for row in rows)
