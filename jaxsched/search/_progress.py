"""Progress of a sweep on a terminal, from the host loop; nothing inside the compiled program."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from jaxsched._text import printable
from jaxsched.search.engine._ledger import Ledger
from jaxsched.search.engine._records import by_trial

_SECONDS = 0.25  # between updates: far under 1 % of the time


class Bar:
    """A line of ``rich``: trials, steps per second, time to go, the best trial so far."""

    def __init__(self, ledger: Ledger, bar: Any):
        plan = ledger.plan
        self._ledger, self._bar = ledger, bar
        self._metric = printable(plan.objective.metric)
        self._names = [printable(trial.name) for trial in plan.trials]
        # Of every trial, since it is unknown yet how often controllers separate trials.
        self._total = int(plan.table.horizons.sum()) * len(plan.runs())
        self._task = bar.add_task("sweep", total=self._total, note="")
        self._last = 0.0
        self._begun = time.monotonic()

    def on_segment(self) -> None:
        """Draws the line anew if it is time to; called under the ledger's lock."""
        if time.monotonic() - self._last >= _SECONDS:
            self.draw()

    def draw(self) -> None:
        """Draws the line."""
        plan = self._ledger.plan
        self._last = time.monotonic()
        rate = self._ledger.steps_trained / max(self._last - self._begun, 1e-9)
        done = _done(self._ledger)
        ended = int((done == plan.table.horizons * len(plan.runs())).sum())
        note = f"{ended}/{len(self._names)} trials, {rate:.0f} steps/s{self._best()}"
        self._bar.update(self._task, completed=int(done.sum()), note=note)

    def _best(self) -> str:
        plan, objective = self._ledger.plan, self._ledger.plan.objective
        there = by_trial(self._ledger.finished)
        costs = {}
        for trial, leaf in plan.leaf.items():
            runs = [there.get((leaf.index, f, s, trial)) for f, s in plan.runs()]
            if all(curves is not None for curves in runs):
                ends = [curves.validation[objective.metric][-1] for curves in runs if curves]
                costs[trial] = objective.cost(ends)
        finite = {trial: cost for trial, cost in costs.items() if np.isfinite(cost)}
        if not finite:
            return ""
        best = min(finite, key=lambda trial: finite[trial])
        score = -finite[best] if objective.maximize else finite[best]
        return f", best {self._metric} {score:.4g} ({self._names[best]})"


def _done(ledger: Ledger) -> np.ndarray:
    """Finished updates of each trial, int64 [trials]: all of them after a stop or divergence."""
    plan = ledger.plan
    horizons = plan.table.horizons
    done = np.zeros(len(horizons), np.int64)
    for key, curves in ledger.finished.items():
        stage, trials = plan.stages[key.stage], list(key.trials)
        ends = stage.stop if curves.diverged < 0 else horizons[trials]
        done[trials] += ends - stage.start
    for run in ledger.unfinished():
        done[list(run.key.trials)] += run.at - plan.stages[run.key.stage].start
    given_up = ledger.stopped >= 0
    done[given_up] = horizons[given_up] * len(plan.runs())
    return done


@contextlib.contextmanager
def progress_line(wanted: bool | None, ledger: Ledger) -> Iterator[list[Callable[[], None]]]:
    """The listeners that draw a bar on standard error; for ``None``, only on a terminal with rich.

    Raises:
        ImportError: if rich is not installed, for ``True``.
    """
    if wanted is False or (wanted is None and not sys.stderr.isatty()):
        yield []
        return
    try:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
        from rich.table import Column
    except ImportError:
        if wanted:
            raise ImportError("sweep(progress=True) needs rich: pip install rich.") from None
        yield []
        return
    columns = (
        BarColumn(),
        # A long name must not push these out.
        TextColumn("{task.percentage:>3.0f}%", table_column=Column(min_width=4, no_wrap=True)),
        TimeRemainingColumn(table_column=Column(min_width=7, no_wrap=True)),
        TextColumn("{task.fields[note]}", markup=False),  # a name may hold anything
    )
    with Progress(*columns, console=Console(stderr=True), refresh_per_second=4) as bar:
        line = Bar(ledger, bar)
        try:
            yield [line.on_segment]
        finally:
            line.draw()
