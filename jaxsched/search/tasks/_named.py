"""A task by its name, "package.module:factory": the only form in which every process has it."""

from __future__ import annotations

import importlib
from typing import Any

from jaxsched.search.tasks._protocol import Task


def found_task(task: Task | str, caller: str = "sweep") -> Task:
    """The task itself, or that of a name: what the factory returns, or the object if it is none.

    Raises:
        ValueError: if the text is not of this form, or nothing can be imported by it.
    """
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
        found: Any = importlib.import_module(module)
        for name in path.split("."):
            found = getattr(found, name)
    except (ImportError, AttributeError) as error:
        raise ValueError(
            f"{where} must name what can be imported here, got {type(error).__name__}: {error}. "
            "Is its directory in PYTHONPATH?"
        ) from error
    try:
        made: Task = found() if callable(found) else found
    except Exception as error:
        error.add_note(f"in {path}() of {where}")
        raise
    return made
