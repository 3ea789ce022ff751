"""Ctrl-C and SIGTERM in a long run: the segments under way are finished, then it stops."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any


@contextlib.contextmanager
def graceful(stop: Callable[[], None]) -> Iterator[list[int]]:
    """Calls ``stop`` at the first signal; the second one does what it always does.

    Signals that are ignored stay ignored.

    Yields:
        A list that holds the signal's number once it has come.
    """
    received: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield received  # Python delivers signals to the main thread only, which is not ours
        return
    before: dict[int, Any] = {}

    def handle(number: int, frame: Any) -> None:
        received.append(number)
        restore()
        stop()

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    for number in (signal.SIGINT, signal.SIGTERM):
        # One that is ignored stays so, as in the background of a shell; of one that was not set
        # from Python (None), the handler could not be put back.
        if signal.getsignal(number) not in (signal.SIG_IGN, None):
            before[number] = signal.signal(number, handle)
    try:
        yield received
    finally:
        restore()


def leave(number: int, text: str) -> None:
    """Ends as the signal asked to."""
    if number == signal.SIGINT:
        raise KeyboardInterrupt(text)
    raise SystemExit(128 + number)
