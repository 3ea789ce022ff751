"""Ctrl-C, SIGTERM and the like in a long run: it finishes the segments under way, then stops."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any


def of_jobs() -> tuple[int, ...]:
    """The signals that ask a process, if it is a job of submitit, to end before its limit.

    Their handler raises, or has the job run again: runs must have saved before. Other handlers of
    these signals, such as one that prints a traceback, end nothing.
    """
    numbers = [getattr(signal, name) for name in ("SIGUSR1", "SIGUSR2") if hasattr(signal, name)]
    modules = {n: getattr(signal.getsignal(n), "__module__", None) or "" for n in numbers}
    return tuple(n for n in numbers if modules[n].startswith("submitit."))


@contextlib.contextmanager
def graceful(
    stop: Callable[[], None], numbers: tuple[int, ...] = (signal.SIGINT, signal.SIGTERM)
) -> Iterator[list[int]]:
    """Calls ``stop`` at the first of these signals; a second Ctrl-C has its usual effect.

    So has any signal after a Ctrl-C. A second SIGTERM after a first one has none: SLURM sends two
    within 10 ms as it preempts a job, and the second would end the process while it saves.

    Ignored signals stay ignored.

    Yields:
        A list, to which the signal's number is appended when it comes.
    """
    received: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield received  # Python delivers signals to the main thread only, which is not ours
        return
    before: dict[int, Any] = {}

    # It runs between two bytecodes of the main thread, which may hold the ledger's lock: so `stop`
    # takes none, and sets a flag that the loop reads.
    def handle(number: int, frame: FrameType | None) -> None:
        received.append(number)
        restore()
        for other in before.keys() - {signal.SIGINT} if number != signal.SIGINT else ():
            signal.signal(other, signal.SIG_IGN)
        stop()

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    for number in numbers:
        # An ignored signal stays ignored, as in the background of a shell. A handler that was not
        # set from Python (None) could not be restored.
        if signal.getsignal(number) not in (signal.SIG_IGN, None):
            before[number] = signal.signal(number, handle)
    try:
        yield received
    finally:
        restore()


def leave(number: int, text: str) -> None:
    """Ends the process as the signal would."""
    if number == signal.SIGINT:
        raise KeyboardInterrupt(text)
    if number != signal.SIGTERM:
        signal.raise_signal(number)
    raise SystemExit(128 + number)
