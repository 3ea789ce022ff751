"""Progress of a sweep on a terminal, from the host loop; nothing inside the compiled program."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator
from typing import Any

import numpy as np

from jaxsched._struct import printable
from jaxsched.search._engine import Engine
from jaxsched.search._record import by_trial

_SECONDS = 0.25  # between updates: far under 1 % of the time


class Silent:
    """No terminal, no text."""

    def tick(self, engine: Engine) -> None:
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

    def tick(self, engine: Engine) -> None:
        """Draws the line anew if it is time to; called under the engine's lock."""
        now = time.monotonic()
        if now - self._last < _SECONDS:
            return
        self._last = now
        stages = engine.plan.stages
        done = sum(
            (stages[key.stage].stop - stages[key.stage].start) * len(key.trials)
            for key in engine.records
        )
        rate = engine.steps_trained / max(now - self._begun, 1e-9)
        ended, best = self._so_far(engine)
        note = f"{ended}/{len(self._names)} trials, {rate:.0f} steps/s{best}"
        under_way = sum(
            (work.at - stages[work.key.stage].start) * len(work.key.trials)
            for work in engine.unfinished()
        )
        self._bar.update(self._task, completed=done + under_way, note=note)

    def _so_far(self, engine: Engine) -> tuple[int, str]:
        plan = engine.plan
        there = by_trial(engine.records)
        scores = {}
        ended = 0
        for trial, leaf in plan.leaf.items():
            found = [there.get((leaf.index, f, s, trial)) for f, s in plan.runs()]
            if all(r is not None for r in found):
                ended += 1
                scores[trial] = np.mean([r.validation[self._metric][-1:] for r in found if r])
        finite = {trial: self._sign * s for trial, s in scores.items() if np.isfinite(s)}
        if not finite:
            return ended, ""
        best = min(finite, key=lambda trial: finite[trial])
        return ended, f", best {self._shown} {self._sign * finite[best]:.4g} ({self._names[best]})"


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
    except ImportError:
        if wanted:
            raise ImportError("`sweep(progress=True)` needs rich: pip install rich.") from None
        yield Silent()
        return
    columns = (
        BarColumn(),
        TextColumn("{task.percentage:>3.0f}%"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}", markup=False),  # a name may hold anything
    )
    with Progress(*columns, console=Console(stderr=True), refresh_per_second=4) as bar:
        yield Bar(engine, bar, names, metric, maximize)
