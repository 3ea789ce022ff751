"""How long a segment is to be, and when a sweep saves or stops."""

from __future__ import annotations

import time
from typing import Any, Protocol

from jaxsched.search.engine._ledger import Ledger

_SECONDS = 0.25  # that one segment is to take


class Pacer:
    """How many updates to hand over at once: as many as take a moment, whatever the model.

    So that progress, checkpoints and Ctrl-C come often, and calls cost little. Results do not
    depend on it: the bounds of a segment are values.
    """

    def __init__(self, most: int):
        self.steps = min(8, most)
        self._most = most
        self._last = 0.0

    def begin(self) -> None:
        """A group of runs begins."""
        self._last = time.monotonic()

    def ask(self) -> Any:
        """What to hand to ``collected`` when the segment that was launched last has come back."""

    def collected(self, steps: int, answer: Any) -> None:
        """Another ``steps`` updates have come back."""
        now = time.monotonic()
        wanted = steps * _SECONDS / max(now - self._last, 1e-9)
        self.steps = int(max(1, min(wanted, 4 * self.steps, self._most)))
        self._last = now


class Store(Protocol):
    """A checkpoint, as far as the loop knows it."""

    def due(self) -> bool:
        """Whether it is time to save."""
        ...

    def save(self, ledger: Ledger) -> None:
        """Saves; called under the ledger's lock."""
        ...


class Coordinator(Protocol):
    """When segments end, when to save and when to stop, as all processes of a sweep agree."""

    pacers: list[Pacer]  # one for each device

    def stop(self) -> None:
        """Asks that the segments under way end and no others start."""
        ...

    def on_segment(self) -> None:
        """Saves if it is time to; called after every segment, under the ledger's lock."""
        ...


class LocalCoordinator:
    """Of one process with so many devices, which asks nobody."""

    def __init__(self, ledger: Ledger, store: Store | None, devices: int):
        self.pacers = [Pacer(ledger.plan.length) for _ in range(devices)]
        self._ledger, self._store = ledger, store

    def stop(self) -> None:
        self._ledger.stop()

    def on_segment(self) -> None:
        if self._store is not None and self._store.due():
            self._store.save(self._ledger)
