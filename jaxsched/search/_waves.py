"""From rung to rung: trains all that is running up to there, then gives the worse trials up."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from jaxsched.search._engine import Engine
from jaxsched.search._plan import Plan
from jaxsched.search._record import Record, by_trial
from jaxsched.search._stopping import StoppingRule


def run_waves(
    engine: Engine, stopping: StoppingRule | None, metric: str, maximize: bool
) -> np.ndarray:
    """Trains everything; the step after which each trial was given up, or -1."""
    plan = engine.plan
    engine.running = set(range(len(plan.table.horizons)))
    stopped = np.full(len(plan.table.horizons), -1, np.int64)
    for rung in plan.rungs:
        engine.run(rung)
        if engine.stopping:
            return stopped
        for trial in _given_up(engine, stopping, rung, metric, maximize) or ():
            stopped[trial] = rung
    engine.run(None)
    return stopped


def replay(engine: Engine, stopping: StoppingRule | None, metric: str, maximize: bool) -> None:
    """Makes the decisions that the records allow, without training: sets ``engine.running``."""
    for rung in engine.plan.rungs:
        if _given_up(engine, stopping, rung, metric, maximize) is None:
            break


def _given_up(
    engine: Engine, stopping: StoppingRule | None, rung: int, metric: str, maximize: bool
) -> list[int] | None:
    """The trials that the rule stops at a rung; ``None`` if some have not come so far."""
    running = sorted(t for t in engine.running if engine.plan.table.horizons[t] > rung)
    found = by_trial(engine.records)
    costs = [_cost(engine.plan, found, trial, rung, metric, maximize) for trial in running]
    known = [cost for cost in costs if cost is not None]
    if len(known) < len(costs):
        return None
    if stopping is None or not running:
        return []
    kept = stopping.keep(np.array(known))
    lost = [trial for trial, keep in zip(running, kept, strict=True) if not keep]
    engine.running -= set(lost)
    engine.drop_stopped()
    return lost


def _cost(
    plan: Plan, found: dict[Any, Record], trial: int, rung: int, metric: str, maximize: bool
) -> float | None:
    """Mean over folds and seeds, infinite if a run diverged; ``None`` if one is not there yet."""
    values = []
    for fold, seed in plan.runs():
        for stage in plan.path(trial):
            record = found.get((stage.index, fold, seed, trial))
            if record is None:
                return None
            if record.diverged >= 0:
                values.append(math.nan)
                break
            if stage.stop == rung:
                values.append(float(record.validation[metric][-1]))
                break
    mean = float(np.mean(values))
    return (-mean if maximize else mean) if math.isfinite(mean) else math.inf
