"""Progress of a sweep on a terminal, from the host loop; nothing inside the compiled program."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator
from typing import Any

import numpy as np

from jaxsched._text import printable
from jaxsched.search.engine._engine import Engine
from jaxsched.search.engine._records import by_trial

_SECONDS = 0.25  # between updates: far under 1 % of the time


class Silent:
    """No terminal, no text."""

    def on_segment(self, engine: Engine) -> None:
        """Does nothing."""


class Bar:
    """A line of ``rich``: trials, steps per second, time to go, the best trial so far."""

    def __init__(self, engine: Engine, bar: Any, names: list[str], metric: str, maximize: bool):
        plan = engine.plan
        self._bar, self._metric, self._shown = bar, metric, printable(metric)
        self._names = [printable(name) for name in names]
        self._sign = -1.0 if maximize else 1.0
        # Of every trial, since nobody knows yet how often controllers set trials apart.
        self._total = int(plan.table.horizons.sum()) * len(plan.runs())
        self._task = bar.add_task("sweep", total=self._total, note="")
        self._last = 0.0
        self._begun = time.monotonic()

    def on_segment(self, engine: Engine) -> None:
        """Draws the line anew if it is time to; called under the engine's lock."""
        if time.monotonic() - self._last >= _SECONDS:
            self.draw(engine)

    def draw(self, engine: Engine) -> None:
        """Draws the line as it stands."""
        self._last = time.monotonic()
        rate = engine.steps_trained / max(self._last - self._begun, 1e-9)
        done = _done(engine)
        ended = int((done == engine.plan.table.horizons * len(engine.plan.runs())).sum())
        note = f"{ended}/{len(self._names)} trials, {rate:.0f} steps/s{self._best(engine)}"
        self._bar.update(self._task, completed=int(done.sum()), note=note)

    def _best(self, engine: Engine) -> str:
        plan = engine.plan
        there = by_trial(engine.records)
        costs = {}
        for trial, leaf in plan.leaf.items():
            found = [there.get((leaf.index, f, s, trial)) for f, s in plan.runs()]
            if all(r is not None for r in found):
                score = np.mean([r.validation[self._metric][-1:] for r in found if r])
                costs[trial] = self._sign * float(score)
        finite = {trial: cost for trial, cost in costs.items() if np.isfinite(cost)}
        if not finite:
            return ""
        best = min(finite, key=lambda trial: finite[trial])
        return f", best {self._shown} {self._sign * finite[best]:.4g} ({self._names[best]})"


def _done(engine: Engine) -> np.ndarray:
    """Updates of each trial that are behind it, int64 [trials]: all, once it was given up.

    A run that has diverged will make no more; those that trials share count for each of them.
    """
    plan = engine.plan
    horizons = plan.table.horizons
    done = np.zeros(len(horizons), np.int64)
    for key, record in engine.records.items():
        stage, trials = plan.stages[key.stage], list(key.trials)
        ends = stage.stop if record.diverged < 0 else horizons[trials]
        done[trials] += ends - stage.start
    for work in engine.unfinished():
        done[list(work.key.trials)] += work.at - plan.stages[work.key.stage].start
    given_up = [trial for trial in range(len(done)) if trial not in engine.active_trials]
    done[given_up] = horizons[given_up] * len(plan.runs())
    return done


@contextlib.contextmanager
def shown(
    wanted: bool | None, engine: Engine, names: list[str], metric: str, maximize: bool
) -> Iterator[Silent | Bar]:
    """A bar on standard error; ``None``: only where that is a terminal and rich is installed.

    Raises:
        ImportError: if it is wanted and rich is not installed.
    """
    if wanted is False or (wanted is None and not sys.stderr.isatty()):
        yield Silent()
        return
    try:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
        from rich.table import Column
    except ImportError:
        if wanted:
            raise ImportError("sweep(progress=True) needs rich: pip install rich.") from None
        yield Silent()
        return
    columns = (
        BarColumn(),
        # A long name must not push these out.
        TextColumn("{task.percentage:>3.0f}%", table_column=Column(min_width=4, no_wrap=True)),
        TimeRemainingColumn(table_column=Column(min_width=7, no_wrap=True)),
        TextColumn("{task.fields[note]}", markup=False),  # a name may hold anything
    )
    with Progress(*columns, console=Console(stderr=True), refresh_per_second=4) as bar:
        line = Bar(engine, bar, names, metric, maximize)
        try:
            yield line
        finally:
            line.draw(engine)
