"""The process that traces tasks: whether it can train at all, and its garbage collector."""

from __future__ import annotations

import contextlib
import gc
import os
import threading
from collections.abc import Iterator

import jax

_USED: list[int] = []  # the process that has used JAX; a fork of it has this list too
_PATIENCE = 60.0  # seconds for a first computation


def check_place(caller: str) -> None:
    """Raises where nothing can be trained: in a trace, and in a fork, where JAX would hang."""
    _USED[:] = _USED or [os.getpid()]
    if _USED[0] != os.getpid() or _lacks_threads():
        raise ValueError(
            f"{caller}(...) must not be called in a fork of a process that had used JAX, without "
            'whose threads it would wait for ever. Use multiprocessing.get_context("spawn"); or, '
            'with "forkserver", make no array where a module is imported.'
        )
    if isinstance(jax.device_put(0.0), jax.core.Tracer):  # explicit, for a transfer guard
        raise ValueError(
            f"{caller}(...) must not be called in a function that JAX traces, such as a method of "
            "a task. Call it outside, and pass what it returns."
        )


@contextlib.contextmanager
def uncollected() -> Iterator[None]:
    """Without Python's garbage collector, which would walk a trace's lasting objects repeatedly."""
    was = gc.isenabled()
    try:  # from here on: Ctrl-C may come between any two lines
        gc.disable()
        yield
    finally:
        if was:
            gc.enable()


def _lacks_threads() -> bool:
    """Whether a fork server has used JAX before it forked this process."""
    jax.local_devices()  # makes them, if they were not made before
    try:
        # Threads unknown to Python are XLA's: a fork has none of its parent's threads.
        if len(os.listdir("/proc/self/task")) > threading.active_count():
            return False
    except OSError:  # not Linux
        return False
    compute = lambda: jax.jit(lambda x: -x)(jax.device_put(0.0))
    probe = threading.Thread(target=compute, daemon=True)
    probe.start()
    probe.join(_PATIENCE)
    return probe.is_alive()
