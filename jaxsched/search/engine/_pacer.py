"""The length of a segment, and when a sweep saves or stops."""

from __future__ import annotations

import time

import jax

from jaxsched._arrays import INT32_MAX
from jaxsched.search.engine._ledger import Ledger

_SECONDS = 0.25  # the time that a segment should take


class Pacer:
    """The number of updates of a segment, so that each takes a quarter of a second on any model.

    Shorter ones would cost calls; longer ones would delay progress, checkpoints and Ctrl-C.
    Results do not depend on it: the bounds of a segment are values.

    It begins with 8, which may take seconds with a large model. Each collected segment allows four
    times as many: with a tiny model they have 8, 8, 8, 32, 128, 512, 2048, 4096 (a chunk), since
    two are in flight when the first is collected.

    Attributes:
        steps: the number of updates.
        speed: updates in a second so far, or 0 before it is known.
    """

    def __init__(self, most: int):
        self.steps, self.speed = min(8, most), 0
        self._most = most
        self._last = self._seconds = 0.0
        self._updates, self._began = 0, False  # the first segment may wait for a compilation

    def begin(self) -> None:
        """A group of runs begins."""
        self._last = time.monotonic()

    def ask(self) -> jax.Array | None:
        """Called at the launch of a segment; ``collected`` gets the answer when it has ended."""

    def collected(self, steps: int, answer: jax.Array | None) -> None:
        """Another ``steps`` updates have ended."""
        now = time.monotonic()
        took = max(now - self._last, 1e-9)
        wanted = steps * _SECONDS / took
        # It grows by and by: after one interval that was timed too short, Ctrl-C must not wait for
        # minutes. It shrinks at once.
        self.steps = int(max(1, min(wanted, 4 * self.steps, self._most)))
        self._last = now
        if self._began:
            self._updates += steps
            self._seconds += took
            self.speed = min(round(self._updates / self._seconds), INT32_MAX)
        self._began = True


class Coordinator:
    """When segments end, when to save and when to stop; one process decides alone.

    Attributes:
        pacers: one for each of its ``devices`` devices.
    """

    def __init__(self, ledger: Ledger, devices: int):
        self.pacers = [Pacer(ledger.plan.length) for _ in range(devices)]
        self._ledger = ledger

    def stop(self) -> None:
        """No further segment starts; segments under way end."""
        self._ledger.stop()

    def on_segment(self) -> None:
        """Saves if it is time to; called after every segment, under the ledger's lock."""
        if self._ledger.store.due():
            self._ledger.store.save(self._ledger)
