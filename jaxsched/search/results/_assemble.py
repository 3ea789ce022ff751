"""From the curves of the stages to the curves of the trials, and their cost."""

from __future__ import annotations

import dataclasses

import numpy as np

from jaxsched.search.engine._ledger import Ledger
from jaxsched.search.engine._records import by_trial
from jaxsched.search.results._info import RunInfo
from jaxsched.search.results._result import SweepResult


def assemble(ledger: Ledger, info: RunInfo) -> SweepResult:
    plan, trials, stopped = ledger.plan, ledger.plan.trials, ledger.stopped
    shape = (len(trials), len(plan.folds), len(plan.seeds))
    evaluated = np.array(
        sorted({step for stage in plan.stages for step in plan.evaluations(stage)}), np.int64
    )
    longest = plan.longest
    train = {n: np.full((*shape, longest), np.nan, np.float32) for n in plan.train}
    validation = {n: np.full((*shape, len(evaluated)), np.nan, np.float32) for n in plan.validation}
    diverged = np.full(shape, -1, np.int64)
    found = by_trial(ledger.finished)
    for trial in range(len(trials)):
        for fold, seed in plan.runs():
            where = (trial, fold, seed)
            for stage in plan.path(trial):
                part = found.get((stage.index, fold, seed, trial))
                if part is None:
                    break
                for name, curve in part.train.items():
                    train[name][where][stage.start : stage.start + len(curve)] = curve
                at = np.searchsorted(evaluated, plan.evaluations(stage))
                for name, curve in part.validation.items():
                    validation[name][where][at[: len(curve)]] = curve
                if part.diverged >= 0:
                    diverged[where] = part.diverged
                    break
        if stopped[trial] >= 0:  # a shared stage may go on beyond this trial's stop
            for curve in train.values():
                curve[trial, ..., stopped[trial] :] = np.nan
            for curve in validation.values():
                curve[trial][..., evaluated > stopped[trial]] = np.nan
            diverged[trial][diverged[trial] >= stopped[trial]] = -1
    arrays: list[np.ndarray] = [*train.values(), *validation.values()]
    for array in (*arrays, evaluated, diverged, stopped, plan.table.horizons):
        array.setflags(write=False)
    asked = int(plan.table.horizons.sum()) * len(plan.runs())
    trained, halted, lost = _tally(ledger)
    saved = {"shared": asked - trained - halted - lost, "stopped": halted, "diverged": lost}
    return SweepResult(
        trials=trials,
        metric=plan.objective.metric,
        maximize=plan.objective.maximize,
        seeds=plan.seeds,
        horizons=plan.table.horizons,
        train=train,
        validation=validation,
        evaluated=evaluated,
        diverged=diverged,
        stopped=stopped,
        steps_asked=asked,
        steps_trained=trained,
        info=dataclasses.replace(info, saved=saved),
    )


def _tally(ledger: Ledger) -> tuple[int, int, int]:
    """Steps trained, and not: given up by early stopping, and below a divergence."""
    plan, found = ledger.plan, by_trial(ledger.finished)

    def below(children: list[int], trials: set[int], fold: int, seed: int) -> int:
        """The updates of stages that were never begun, from ``children`` down."""
        total = 0
        todo = [(child, trials) for child in children]
        while todo:
            index, those = todo.pop()
            stage = plan.stages[index]
            those = {t for t in those & set(stage.trials) if (index, fold, seed, t) not in found}
            if those:
                total += stage.stop - stage.start
                todo += [(child, those) for child in plan.children[index]]
        return total

    first = [stage.index for stage in plan.stages if stage.parent is None]
    everyone = set(range(len(plan.table.horizons)))
    trained = lost = 0
    halted = sum(below(first, everyone, fold, seed) for fold, seed in plan.runs())
    for key, part in ledger.finished.items():
        stage = plan.stages[key.stage]
        rest = below(plan.children[key.stage], set(key.trials), key.fold, key.seed)
        if part.diverged < 0:
            trained += len(part.train["loss"])
            halted += rest
        else:
            trained += part.diverged + 1 - stage.start
            lost += stage.stop - (part.diverged + 1) + rest
    return trained, halted, lost
