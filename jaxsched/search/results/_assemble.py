"""From the curves of the stages to the curves of the trials, their cost, and their warnings."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from jaxsched._text import warn
from jaxsched.search.engine._ledger import Ledger
from jaxsched.search.engine._plan import Plan
from jaxsched.search.engine._values import ScheduleValues
from jaxsched.search.results._info import RunInfo
from jaxsched.search.results._result import SweepResult


def assemble(ledger: Ledger, **how: Any) -> SweepResult:
    """The result of a ledger; ``how``: the fields of ``RunInfo`` that a ledger does not know."""
    plan, horizons = ledger.plan, ledger.plan.table.horizons
    trained, halted, lost = _count_steps(ledger, set(range(len(plan.trials))))
    asked = int(horizons.sum()) * len(plan.runs)
    # Every requested update is trained, halted or lost, or it is shared with another trial.
    saved = {"shared": asked - trained - halted - lost, "stopped": halted, "diverged": lost}
    if ledger.partial:
        # A ledger knows which stages were never begun, not why. Missing steps of trials that no
        # rule stopped are due to Ctrl-C, the rest to early stopping.
        _, unfinished, _ = _count_steps(ledger, set(np.flatnonzero(ledger.stopped < 0).tolist()))
        saved |= {"stopped": halted - unfinished, "unfinished": unfinished}
    info = {
        "evaluate_every": plan.every,
        "monitor": plan.monitor,
        "updates_per_step": plan.table.updates,
        "saved": saved,
        "stored": ledger.stored,
        "partial": ledger.partial,
        **how,
    }
    train, validation, evaluated, diverged = _curves_of_trials(ledger)
    for curve in (*train.values(), *validation.values()):
        curve.setflags(write=False)
    for steps in (evaluated, diverged, ledger.stopped, horizons):
        steps.setflags(write=False)
    return SweepResult(
        trials=plan.trials,
        metric=plan.objective.metric,
        maximize=plan.objective.maximize,
        seeds=plan.seeds,
        horizons=horizons,
        train=train,
        validation=validation,
        evaluated=evaluated,
        diverged=diverged,
        stopped=ledger.stopped,
        steps_asked=asked,
        steps_trained=trained,
        info=RunInfo(**info),
    )


def warn_after(ledger: Ledger, result: SweepResult) -> None:
    """Warns of problems in the result; it is returned all the same, whatever the filters."""
    if result.info.partial:
        warn(
            f"sweep(...): Ctrl-C after {ledger.steps_trained} updates: the result is partial, of "
            "the runs that had ended. With checkpoint=... the same call would go on from there.",
            late=True,
        )
    warn_of_callbacks(ledger.plan, result.info.stored)
    if not result.info.partial:  # runs not begun look alike
        warn_of_twins(result, ledger.plan.table)


def warn_of_callbacks(plan: Plan, stored: int) -> None:
    """Warns of stored updates by a task with a callback: its code was compared only in part."""
    if stored and (method := plan.folds[0].asks_host):
        warn(
            f"sweep(checkpoint=...): {stored} updates were trained before, by a task whose "
            f"`{method}` asks the host (a callback). Of that only its code and what it closes over "
            "were compared. If it reads anything else that has changed, give another directory.",
            late=True,
        )


def warn_of_twins(result: SweepResult, table: ScheduleValues) -> None:
    """Warns once of trials with different values and yet the same curves, bit for bit."""
    groups: dict[bytes, list[int]] = {}
    sound = (result.diverged < 0).all(axis=(1, 2))  # runs that diverge at once look alike
    for trial in np.flatnonzero(sound):  # by their few evaluations, before any update is compared
        ends = [curve[trial].tobytes() for curve in result.validation.values()]
        groups.setdefault(b"".join(ends), []).append(int(trial))
    for first, *others in (group for group in groups.values() if len(group) > 1):
        curves = _curve_bits(result, table, first)
        values = _applied_bits(result, table, first)
        twins = [
            trial
            for trial in others
            if _curve_bits(result, table, trial) == curves
            and _applied_bits(result, table, trial) != values
        ]
        if twins:
            names = [result.trials[trial].name for trial in (first, *twins)]
            shown = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
            warn(
                f"sweep(trials=...): {len(names)} trials have different values and the same curves "
                f"bit for bit, {shown}: what differs between them has no effect.",
                late=True,
            )
            return


Curves = dict[str, np.ndarray]


def _curves_of_trials(ledger: Ledger) -> tuple[Curves, Curves, np.ndarray, np.ndarray]:
    """``train``, ``validation``, ``evaluated`` and ``diverged`` of a result.

    A trial's curve is joined from the stages on its path, each trained once for several trials. So
    the loop is over the finished runs, and each is written into the rows of all its trials. A loop
    over the path of each trial would read a shared trunk once for every trial, and with controllers
    the tree does not contain a trial's path: only the keys do.
    """
    plan, stopped = ledger.plan, ledger.stopped
    shape = (len(plan.trials), len(plan.folds), len(plan.seeds))
    # Stages of the same updates share a list (``Plan.evaluations``). The places of its steps are
    # found once for each list, and not for each stage: there may be as many stages as trials.
    lists = {id(steps): steps for steps in map(plan.evaluations, plan.stages)}
    evaluated = np.array(sorted(set[int]().union(*lists.values())), np.int64)
    places = {which: np.searchsorted(evaluated, steps) for which, steps in lists.items()}

    def empty(names: Iterable[str], length: int) -> Curves:
        return {name: np.full((*shape, length), np.nan, np.float32) for name in names}

    train, validation = empty(plan.train, plan.longest), empty(plan.validation, len(evaluated))
    diverged = np.full(shape, -1, np.int64)
    for key, curves in ledger.finished.items():
        stage = plan.stages[key.stage]
        run = (_rows_of(key.trials), key.fold, key.seed)
        for name, curve in curves.train.items():
            span = slice(stage.start, stage.start + len(curve))
            train[name][*run, span] = curve
        at = places[id(plan.evaluations(stage))]
        for name, curve in curves.validation.items():
            validation[name][*run, at[: len(curve)]] = curve
        if curves.diverged >= 0:
            diverged[run] = curves.diverged
    # A shared stage may go on beyond a trial's stop, for another trial. The values there belong to
    # the other trial: this trial's curves end where it was given up, and a later divergence is
    # not its own.
    for trial in np.flatnonzero(stopped >= 0):
        for curve in train.values():
            curve[trial, ..., stopped[trial] :] = np.nan
        for curve in validation.values():
            curve[trial][..., evaluated > stopped[trial]] = np.nan
        diverged[trial][diverged[trial] >= stopped[trial]] = -1
    return train, validation, evaluated, diverged


def _rows_of(trials: tuple[int, ...]) -> slice | np.ndarray:
    """Their rows, for an index with another one for steps behind it.

    Most are neighbours: an array of them would take longer to make than to write a step into.
    """
    if trials[-1] - trials[0] == len(trials) - 1:  # they are in order
        return slice(trials[0], trials[-1] + 1)
    return np.array(trials)[:, None]


def _count_steps(ledger: Ledger, trials: set[int]) -> tuple[int, int, int]:
    """Steps trained, and not for some of the trials: never begun, and below a divergence.

    A step that several trials share counts once. The missing steps hang below the trained stages.
    Below a finished run they are the steps of the stages that its trials never began, and after a
    divergence also the rest of its own stage. With controllers the trials of a stage may have gone
    on apart: some of them have begun a child, and others have not. Then the child counts as missing
    once for each run in which its trials were still together.
    """
    plan = ledger.plan
    begun: dict[tuple[int, int, int], list[tuple[int, ...]]] = {}
    for key in ledger.finished:
        begun.setdefault(key[:3], []).append(key.trials)

    def below(children: list[int], some: Iterable[int], fold: int, seed: int) -> int:
        """The updates of stages that were never begun, from ``children`` down."""
        total = 0
        todo = [(child, some) for child in children]
        while todo:
            index, those = todo.pop()
            stage, done = plan.stages[index], begun.get((index, fold, seed), [])
            if sum(map(len, done)) < len(stage.trials):
                # For trials that have begun here, the loop over `finished` counts the steps below.
                those = trials.intersection(stage.trials, those).difference(*done)
                if those:
                    total += stage.stop - stage.start
                    todo += [(child, those) for child in plan.children[index]]
        return total

    roots = [stage.index for stage in plan.stages if stage.parent is None]
    trained = lost = 0
    halted = sum(below(roots, trials, fold, seed) for fold, seed in plan.runs)
    for key, curves in ledger.finished.items():
        stage = plan.stages[key.stage]
        rest = below(plan.children[key.stage], key.trials, key.fold, key.seed)
        if curves.diverged < 0:
            trained += curves.updates
            halted += rest
        else:
            trained += curves.diverged + 1 - stage.start
            lost += stage.stop - (curves.diverged + 1) + rest
    return trained, halted, lost


def _applied_bits(result: SweepResult, table: ScheduleValues, trial: int) -> bytes:
    """The hyperparameter values applied by a trial."""
    if table.controlled:
        values = np.stack([result.train[name][trial] for name in table.names])
    else:
        steps = table.horizons[trial] if result.stopped[trial] < 0 else result.stopped[trial]
        values = table.values(trial, 0, int(steps))
    return (values + np.float32(0.0)).tobytes()  # -0.0 is 0.0


def _curve_bits(result: SweepResult, table: ScheduleValues, trial: int) -> bytes:
    return b"".join(
        curve[trial].tobytes() for name, curve in result.train.items() if name not in table.names
    )
