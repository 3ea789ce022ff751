"""A task by its name, "package.module:factory": the only form in which every process has it."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

from jaxsched.search._fingerprint import digest
from jaxsched.search.tasks._protocol import Task

# File -> how it was loaded, and a digest of its text when it was first looked at.
_LOADED: dict[str, tuple[Any, str]] = {}


def found_task(task: Task | str, caller: str = "sweep") -> Task:
    """The task itself, or that of a name: what the factory returns, or the object if it is none.

    Raises:
        ValueError: if the text is not of this form, nothing can be imported by it, or its source
            has changed since a call before: Python keeps what it has imported.
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
    if changed := _changed(module):
        raise ValueError(
            f"{where} must name a task as its source is now, but {changed} has changed since this "
            "process imported it. Start the process again (the workers, if it is one), or call "
            "`importlib.reload` for the module."
        )
    try:
        made: Task = found() if callable(found) else found
    except Exception as error:
        error.add_note(f"in {path}() of {where}")
        raise
    return made


def _changed(module: str) -> str:
    """A file of the module's package, or beside it, that is not as it was loaded, or ""."""
    top, own = module.partition(".")[0], getattr(sys.modules[module], "__file__", None)
    if own is None:
        return ""
    changed = ""
    for name, one in list(sys.modules.items()):
        file, spec = getattr(one, "__file__", None) or "", getattr(one, "__spec__", None)
        if not file.endswith(".py"):
            continue
        if name.partition(".")[0] == top or Path(file).parent == Path(own).parent:
            try:
                text = digest(Path(file).read_bytes())
            except OSError:  # deleted, or inside an archive
                continue
            loaded, before = _LOADED.get(file, (None, ""))
            if loaded is not spec or not before:  # loaded since, or again
                _LOADED[file] = (spec, text)
            elif text != before:
                changed = file
    return changed
