"""A task by its name, "package.module:factory": the only form in which every process has it."""

from __future__ import annotations

import importlib
import importlib.util
import marshal
import os
import sys
import sysconfig
import threading
import time
from collections.abc import Container
from importlib.machinery import ModuleSpec, SourceFileLoader
from pathlib import Path
from typing import Any

import jax

from jaxsched._words import did_you_mean
from jaxsched.search._fingerprint import digest
from jaxsched.search.tasks._protocol import Task

# Module -> how it was loaded, and the stat and a digest of its source.
_LOADED: dict[str, tuple[ModuleSpec | None, tuple[float, ...] | None, str]] = {}
_USED: list[int] = []  # the process that has used JAX; a fork of it has this list too
_PATIENCE = 60.0  # seconds for a first computation
_LIBRARY = (sysconfig.get_path("stdlib") + os.sep, str(Path(__file__).parents[2]) + os.sep)


def found_task(task: Task | str, caller: str = "sweep") -> Task:
    """The task itself, or that of a name: what the factory returns, or the object if it is none.

    Raises:
        ValueError: if the text is not of this form, nothing can be imported by it, or its source
            has changed since a call before: Python keeps what it has imported.
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
    known = set(sys.modules)
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
    if changed := _changed(module, known):
        raise ValueError(
            f"{where} must name a task as its source is now, but {changed}. Start the process "
            "again (the workers, if it is one), or call `importlib.reload` for the module."
        )
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


def _changed(module: str, known: Container[str]) -> str:
    """What of the user's modules is not as this process has loaded it, or "".

    Args:
        module: that of the task.
        known: modules that were loaded before the call, perhaps long before.
    """
    top, own = module.partition(".")[0], getattr(sys.modules[module], "__file__", None) or ""
    changed, since = "", " has changed since this process imported it"
    # What it took from another module is as before, if that module alone was loaded again.
    as_before = _LOADED.get(module, ("",))[0] is getattr(sys.modules[module], "__spec__", None)
    for name, one in list(sys.modules.items()):
        file, spec = getattr(one, "__file__", None) or "", getattr(one, "__spec__", None)
        # The running script is left out: no task is made of it, and it may be edited meanwhile. It
        # is known by its names, or by its lack of a spec, as in a worker of mpi4py.
        if not file.endswith(".py") or spec is None or name in ("__main__", "__mp_main__"):
            continue
        near = name.partition(".")[0] == top or os.path.dirname(file) == os.path.dirname(own)
        if not near and (file.startswith(_LIBRARY) or f"-packages{os.sep}" in file):
            continue
        try:
            stat = os.stat(file)
            as_now = (stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)
            loaded, before, text = _LOADED.get(name, (None, None, ""))
            if loaded is spec and as_now == before:
                continue
            source = Path(file).read_bytes()
        except OSError:  # deleted, or inside an archive
            continue
        if loaded is spec and digest(source) != text:
            changed = file + since
            continue
        if loaded is not None and as_before and digest(source) != text:
            changed = f"{own} was not loaded again with {file}, of which it may hold a part"
            continue
        if loaded is not spec and name in known:  # first looked at long after the import, perhaps
            written = max(stat.st_mtime, stat.st_ctime)
            if written > _BEGUN and not _compiled_alike(spec, file, source, loaded is not None):
                changed = file + since
                _LOADED[name] = (spec, None, "")
                continue
        _LOADED[name] = (spec, as_now, digest(source))
    return changed


def _compiled_alike(spec: ModuleSpec, file: str, source: bytes, again: bool) -> bool:
    """Whether the bytecode that Python kept of an import is that of the source as it is now.

    Where none is written, nothing tells what was loaded: only a reload is then believed.
    """
    if not isinstance(getattr(spec, "loader", None), SourceFileLoader):
        return True
    try:  # behind a header of 16 bytes
        cached = marshal.loads(Path(importlib.util.cache_from_source(file)).read_bytes()[16:])
    except (OSError, ValueError, EOFError, TypeError, NotImplementedError):
        return again
    try:
        alike = bool(cached == compile(source, file, "exec", dont_inherit=True))
    except (SyntaxError, ValueError):
        return False
    return alike or (again and sys.dont_write_bytecode)


def _begun() -> float:
    """When this process began, in seconds of the epoch; at the latest."""
    try:
        ticks = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
        up = time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
        return time.time() - up
    except (OSError, ValueError, AttributeError):  # not Linux
        return time.time()


_BEGUN = _begun()
