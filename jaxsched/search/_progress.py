"""Progress on a terminal or in a notebook, from the host loop; nothing inside the program.

A line must have no noticeable cost. It is drawn by whichever thread has just ended a segment,
under the ledger's lock, so all other threads wait for it: at most four times a second, and at most
a hundredth of the time, whatever the size of the sweep. So each finished run is read once.
"""

from __future__ import annotations

import contextlib
import math
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from jaxsched._text import printable
from jaxsched.search.engine._ledger import Ledger
from jaxsched.search.engine._records import Key, RunCurves

if TYPE_CHECKING:
    from rich.progress import Progress

_SECONDS = 0.25  # between updates
_SHARE = 0.01  # of the time, at most
_COMPILE = "/jax/core/compile/backend_compile_duration"  # reported when it begins, and when it ends


class Bar:
    """A line of ``rich``: trials, steps per second, time to go, the best trial so far."""

    def __init__(self, ledger: Ledger, bar: Progress):
        plan = ledger.plan
        self._ledger, self._bar = ledger, bar
        self._metric = printable(plan.objective.metric)
        self._runs = len(plan.runs)
        # All trials count, since it is unknown yet how often controllers separate them.
        self._planned = plan.table.horizons * self._runs
        self._task = bar.add_task("sweep", total=int(self._planned.sum()), note="")
        self._last = self._took = 0.0
        self._begun = time.monotonic()
        # The last dict of finished runs. A ledger makes a new one when it reads a
        # store again, as after each unit of a worker: then all counts begin anew.
        self._read: dict[Key, RunCurves] | None = None
        self._note = ""
        self._compiling: dict[int, str] = {}  # thread -> function
        self._since = 0.0  # when the first of them began

    def on_segment(self) -> None:
        """Draws the line anew if it is time to; called under the ledger's lock."""
        self._compiling.pop(threading.get_ident(), None)  # if it failed, its end was not reported
        if time.monotonic() - self._last >= max(_SECONDS, self._took / _SHARE):
            self.draw()

    def draw(self) -> None:
        self._last = time.monotonic()
        self._read_finished()
        # A trial counts a shared trunk as its own, so that 100 % are all trials. The rate counts
        # the trained updates: it shows how fast the machine is.
        rate = self._ledger.steps_trained / max(self._last - self._begun, 1e-9)
        done = self._updates_done()
        ended = int((done == self._planned).sum())
        count = f"{ended}/{len(done)} trials"
        if self._ledger.units:
            count = "{}/{} units, ".format(*self._ledger.units) + count
        if not self._ledger.plan.validation:  # a range test: its runs are seeds
            count = f"{self._seen}/{self._runs} seeds"
        self._note = f"{count}, {rate:.0f} steps/s{self._best_so_far()}"
        self._bar.update(self._task, completed=int(done.sum()))
        self._show_note()
        self._took = time.monotonic() - self._last

    def on_compile(self, event: str, value: float, **about: str | int) -> None:
        """JAX begins to compile, which may take minutes; called in any thread, without a lock."""
        if event == _COMPILE:
            if not self._compiling:
                self._since = time.monotonic()
            name = str(about.get("fun_name", "")).removeprefix("jit(").removesuffix(")").strip("_")
            self._compiling[threading.get_ident()] = name
            self._show_note()

    def on_compiled(self, event: str, duration_secs: float, **about: str | int) -> None:
        """It has ended; this time is not counted in the steps per second."""
        if event == _COMPILE and self._compiling.pop(threading.get_ident(), None) is not None:
            if not self._compiling:
                self._begun += time.monotonic() - self._since
            self._show_note()

    def _show_note(self) -> None:
        names = dict.fromkeys(list(self._compiling.values()))  # other threads add
        parts = [*filter(None, [self._note]), *(f"compiling {name}" for name in names)]
        self._bar.update(self._task, note=", ".join(parts))

    def _read_finished(self) -> None:
        """Reads the runs filed since the last time: all runs would be too many for each line."""
        ledger, plan = self._ledger, self._ledger.plan
        if self._read is not ledger.finished:
            self._read, self._seen = ledger.finished, 0
            self._filed = np.zeros_like(self._planned)  # updates of finished runs
            self._ends: dict[int, list[float]] = {}  # of trials that have ended with some seeds
            self._best = math.inf, -1
        fresh = ledger.filed_since(self._seen)
        self._seen += len(fresh)
        for key, curves in fresh:
            stage, trials = plan.stages[key.stage], list(key.trials)
            if curves.diverged >= 0:  # nothing of these runs follows
                self._filed[trials] += plan.table.horizons[trials] - stage.start
                continue
            self._filed[trials] += stage.stop - stage.start
            if not plan.validation:
                continue
            # A trial has a score once all its runs have ended; until then their ends are kept.
            for trial in set(stage.ended).intersection(trials):
                ends = self._ends.setdefault(trial, [])
                ends.append(curves.validation[plan.objective.metric][-1])
                if len(ends) == self._runs:
                    cost = plan.objective.cost(self._ends.pop(trial))
                    self._best = min(self._best, (cost, trial))

    def _updates_done(self) -> np.ndarray:
        """Updates of each trial, int64 [trials]: all of them after a stop or divergence."""
        done, plan = self._filed.copy(), self._ledger.plan
        for run in self._ledger.unfinished():
            if run.at > (start := plan.stages[run.key.stage].start):
                done[list(run.key.trials)] += run.at - start
        return np.where(self._ledger.stopped >= 0, self._planned, done)

    def _best_so_far(self) -> str:
        cost, trial = self._best
        if trial < 0:
            return ""
        plan = self._ledger.plan
        score = -cost if plan.objective.maximize else cost
        return f", best {self._metric} {score:.4g} ({printable(plan.trials[trial].name)})"


class _Screen:
    """Standard error, as long as there is one: a terminal that goes away must not end a sweep.

    A closed window or a lost SSH connection makes each write an OSError, which ``rich`` would raise
    out of the loop that trains. Standard error may also be ``None`` (``pythonw``), closed, or an
    object of the user's with ``write`` alone.
    """

    def __init__(self, file: Any):
        self._file = file  # None where Python has none, or without some of the methods of a file

    def isatty(self) -> bool:
        return bool(self._asked("isatty", False))

    def write(self, text: str) -> int:
        return int(self._asked("write", len(text), text) or 0)

    def flush(self) -> None:
        self._asked("flush", None)

    def _asked(self, method: str, otherwise: Any, *arguments: str) -> Any:
        try:
            return getattr(self._file, method)(*arguments)
        except (AttributeError, OSError, ValueError):  # the last of a closed file
            return otherwise

    def __getattr__(self, name: str) -> Any:  # its encoding and its number
        return getattr(self._file, name)


@contextlib.contextmanager
def progress_line(
    wanted: bool | None, ledger: Ledger, listeners: list[Callable[[], object]]
) -> Iterator[None]:
    """Adds a listener that draws a bar on standard error.

    For ``None``, only on a terminal or in a notebook, and with rich.

    Raises:
        ImportError: if rich is not installed, for ``True``.
    """
    if (bar := _rich_bar(wanted, ledger.plan.caller)) is None:
        yield
        return
    with bar:
        line = Bar(ledger, bar)
        # These are of the process: compilations of another sweep would be shown here, too.
        jax.monitoring.register_scalar_listener(line.on_compile)
        jax.monitoring.register_event_duration_secs_listener(line.on_compiled)
        listeners.append(line.on_segment)
        try:
            yield
        finally:
            jax.monitoring.unregister_scalar_listener(line.on_compile)
            jax.monitoring.unregister_event_duration_listener(line.on_compiled)
            line.draw()  # the last segments have ended since it was drawn: without this, 98 %


def _rich_bar(wanted: bool | None, caller: str) -> Progress | None:
    """An empty line of ``rich``, or ``None`` where none is to be shown."""
    screen: Any = _Screen(sys.stderr)
    notebook = type(sys.stderr).__module__.startswith("ipykernel")
    if wanted is False or (wanted is None and not notebook and not screen.isatty()):
        return None
    try:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
        from rich.table import Column
    except ImportError:
        if wanted:
            raise ImportError(f"{caller}(progress=True) needs rich: pip install rich.") from None
        return None
    columns = (
        BarColumn(),
        # A long name must not push these out.
        TextColumn("{task.percentage:>3.0f}%", table_column=Column(min_width=4, no_wrap=True)),
        TimeRemainingColumn(table_column=Column(min_width=7, no_wrap=True)),
        TextColumn("{task.fields[note]}", markup=False),  # a name may hold anything
    )
    # A notebook draws over a line as a terminal does; rich's own way there needs ipywidgets.
    console = Console(file=screen, force_terminal=notebook or None, force_jupyter=False)
    return Progress(*columns, console=console, refresh_per_second=4)
