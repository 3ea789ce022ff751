"""What a result makes doubtful: updates of a task that asks the host, equal curves."""

from __future__ import annotations

import numpy as np

from jaxsched._text import warn
from jaxsched.search.engine._ledger import Ledger
from jaxsched.search.engine._plan import Plan
from jaxsched.search.engine._values import ScheduleValues
from jaxsched.search.results._result import SweepResult


def warn_after(ledger: Ledger, result: SweepResult) -> None:
    """Warns of what the result shows; it is returned all the same, whatever the filters."""
    if result.info.partial:
        warn(
            f"sweep(...): Ctrl-C after {ledger.steps_trained} updates: the result is partial, of "
            "the runs that had ended. With checkpoint=... the same call would go on from there.",
            late=True,
        )
    warn_of_callbacks(ledger.plan, result.info.stored)
    if not result.info.partial:  # runs that have not begun look alike
        warn_of_twins(result, ledger.plan.table)


def warn_of_callbacks(plan: Plan, stored: int) -> None:
    """Warns that updates are those of a task of which only a part was compared."""
    if stored and (method := plan.folds[0].asks_host):
        warn(
            f"sweep(checkpoint=...): {stored} updates were trained before, by a task whose "
            f"`{method}` asks the host (a callback). Of that only its code and what it closes over "
            "were compared. If it reads anything else that has changed, give another directory.",
            late=True,
        )


def warn_of_twins(result: SweepResult, table: ScheduleValues) -> None:
    """Says once which trials have different values and yet the same curves, bit for bit."""
    groups: dict[bytes, list[int]] = {}
    sound = (result.diverged < 0).all(axis=(1, 2))  # runs that diverge at once look alike
    for trial in np.flatnonzero(sound):  # by their few evaluations, before any update is compared
        ends = [curve[trial].tobytes() for curve in result.validation.values()]
        groups.setdefault(b"".join(ends), []).append(int(trial))
    for first, *others in (group for group in groups.values() if len(group) > 1):
        curves = _curve_bits(result, table, first)
        alike = [trial for trial in others if _curve_bits(result, table, trial) == curves]
        applied = (_applied_bits(result, table, trial) for trial in (first, *alike))
        own = next(applied)
        twins = [trial for trial, values in zip(alike, applied, strict=True) if values != own]
        if twins:
            names = [result.trials[trial].name for trial in (first, *twins)]
            shown = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
            warn(
                f"sweep(trials=...): {len(names)} trials have different values and the same curves "
                f"bit for bit, {shown}: what differs between them has no effect.",
                late=True,
            )
            return


def _applied_bits(result: SweepResult, table: ScheduleValues, trial: int) -> bytes:
    """What a trial has applied."""
    if table.controlled:
        applied = np.stack([result.train[name][trial] for name in table.names])
    else:
        steps = table.horizons[trial] if result.stopped[trial] < 0 else result.stopped[trial]
        applied = table.values(trial, 0, int(steps))
    return (applied + np.float32(0.0)).tobytes()  # -0.0 is 0.0


def _curve_bits(result: SweepResult, table: ScheduleValues, trial: int) -> bytes:
    return b"".join(
        curve[trial].tobytes() for name, curve in result.train.items() if name not in table.names
    )
