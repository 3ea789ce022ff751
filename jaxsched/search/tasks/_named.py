"""A task by its name, "package.module:factory": the only form in which every process has it."""

from __future__ import annotations

import importlib
import os
import threading
from typing import Any

import jax

from jaxsched._words import did_you_mean
from jaxsched.search.tasks._protocol import Task

_USED: list[int] = []  # the process that has used JAX; a fork of it has this list too
_PATIENCE = 60.0  # seconds for a first computation


def found_task(task: Task | str, caller: str = "sweep") -> Task:
    """The task itself, or that of a name: what the factory returns, or the object if it is none.

    Raises:
        ValueError: if the text is not of this form, or nothing can be imported by it.
    """
    check_place(caller)
    if not isinstance(task, str):
        return task
    where = f"{caller}(task={task!r})"
    module, colon, path = task.partition(":")
    if not colon or not all(part.isidentifier() for part in [*module.split("."), *path.split(".")]):
        raise ValueError(
            f"{caller}(task=...) must be a task, or a text of the form 'package.module:factory', "
            f"got {task!r}."
        )
    try:
        value: Any = importlib.import_module(module)
    except (ImportError, AttributeError) as error:
        raise ValueError(
            f"{where} must name what can be imported here, got {type(error).__name__}: {error}. "
            "Is its directory in PYTHONPATH?"
        ) from error
    for name in path.split("."):
        if not hasattr(value, name):
            hint = did_you_mean(name, [each for each in dir(value) if each[0] != "_"])
            raise ValueError(f"{where} must name what {module} has, got {name!r}{hint}.")
        value = getattr(value, name)
    try:
        made: Task = value() if callable(value) else value
    except Exception as error:
        error.add_note(f"in {path}() of {where}")
        raise
    return made


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


def _lacks_threads() -> bool:
    """Whether a fork server has used JAX before it forked this process."""
    jax.local_devices()  # makes them, if they were not made before
    try:
        # Threads that Python does not know of are XLA's: a fork has none of its parent's.
        if len(os.listdir("/proc/self/task")) > threading.active_count():
            return False
    except OSError:  # not Linux
        return False
    compute = lambda: jax.jit(lambda x: -x)(jax.device_put(0.0))
    probe = threading.Thread(target=compute, daemon=True)
    probe.start()
    probe.join(_PATIENCE)
    return probe.is_alive()
