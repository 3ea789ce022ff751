"""Progress of a sweep on a terminal, from the host loop; nothing inside the compiled program."""

from __future__ import annotations

import contextlib
import math
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from jaxsched._text import printable
from jaxsched.search.engine._ledger import Ledger

_SECONDS = 0.25  # between updates
_SHARE = 0.01  # of the time, at most


class Bar:
    """A line of ``rich``: trials, steps per second, time to go, the best trial so far."""

    def __init__(self, ledger: Ledger, bar: Any):
        plan = ledger.plan
        self._ledger, self._bar = ledger, bar
        self._metric = printable(plan.objective.metric)
        self._runs = len(plan.runs())
        # Of every trial, since it is unknown yet how often controllers separate trials.
        self._whole = plan.table.horizons * self._runs
        self._task = bar.add_task("sweep", total=int(self._whole.sum()), note="")
        self._last = self._took = 0.0
        self._begun = time.monotonic()
        self._read: Any = None  # the dict that was read, and how much of it

    def on_segment(self) -> None:
        """Draws the line anew if it is time to; called under the ledger's lock."""
        if time.monotonic() - self._last >= max(_SECONDS, self._took / _SHARE):
            self.draw()

    def draw(self) -> None:
        """Draws the line."""
        self._last = time.monotonic()
        self._read_finished()
        rate = self._ledger.steps_trained / max(self._last - self._begun, 1e-9)
        done = self._done()
        ended = int((done == self._whole).sum())
        note = f"{ended}/{len(done)} trials, {rate:.0f} steps/s{self._best_so_far()}"
        self._bar.update(self._task, completed=int(done.sum()), note=note)
        self._took = time.monotonic() - self._last

    def _read_finished(self) -> None:
        """What was filed since the last time: all runs would be too many for each line."""
        ledger, plan = self._ledger, self._ledger.plan
        if self._read is not ledger.finished:
            self._read, self._seen = ledger.finished, 0
            self._filed = np.zeros_like(self._whole)  # updates of finished runs
            self._ends: dict[int, list[Any]] = {}  # of trials that have ended with some seeds
            self._best = math.inf, -1
        fresh = ledger.filed_since(self._seen)
        self._seen += len(fresh)
        for key, curves in fresh:
            stage, trials = plan.stages[key.stage], list(key.trials)
            if curves.diverged >= 0:
                self._filed[trials] += plan.table.horizons[trials] - stage.start
                continue
            self._filed[trials] += stage.stop - stage.start
            for trial in set(stage.ended).intersection(trials):
                ends = self._ends.setdefault(trial, [])
                ends.append(curves.validation[plan.objective.metric][-1])
                if len(ends) == self._runs:
                    cost = plan.objective.cost(self._ends.pop(trial))
                    self._best = min(self._best, (cost, trial))

    def _done(self) -> np.ndarray:
        """Updates of each trial, int64 [trials]: all of them after a stop or divergence."""
        done, plan = self._filed.copy(), self._ledger.plan
        for run in self._ledger.unfinished():
            if run.at > (start := plan.stages[run.key.stage].start):
                done[list(run.key.trials)] += run.at - start
        return np.where(self._ledger.stopped >= 0, self._whole, done)

    def _best_so_far(self) -> str:
        cost, trial = self._best
        if trial < 0:
            return ""
        plan = self._ledger.plan
        score = -cost if plan.objective.maximize else cost
        return f", best {self._metric} {score:.4g} ({printable(plan.trials[trial].name)})"


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
