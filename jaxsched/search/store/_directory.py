"""The files of a checkpoint, and one process at a time among them."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from jaxsched.search._files import Damaged, read, write


class CheckpointDirectory:
    """A directory of one process. That of a mesh writes states otherwise, in the same places."""

    def __init__(self, path: Path):
        self.path = path

    def on_first_process(self, call: Callable[[], Any]) -> Any:
        """What ``call`` returns, a JSON value, or raises; on a mesh, on the first process."""
        return call()

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Holds the directory; see ``locked``."""
        with contextlib.ExitStack() as stack:
            self.on_first_process(lambda: stack.enter_context(locked(self.path)))
            yield

    def glob(self, pattern: str) -> list[Path]:
        """The files that match, in order."""
        names = self.on_first_process(lambda: sorted(path.name for path in self.path.glob(pattern)))
        return [self.path / name for name in names]

    def prune(self, kept: int | None = None) -> None:
        """Deletes what was not finished, and all states but the last ones."""

        def delete() -> None:
            old = [] if kept is None else sorted(self.path.glob("states-*.npz"))[:-kept]
            for path in [*old, *self.path.glob("*.npz.*.tmp")]:
                path.unlink()
            for folder in self.path.glob("states-*.orbax*"):
                if not (self.path / f"{folder.name.split('.')[0]}.npz").exists():
                    shutil.rmtree(folder, ignore_errors=True)

        self.on_first_process(delete)

    def write(
        self, path: Path, meta: Any, arrays: dict[str, Any], states: dict[str, Any] | None = None
    ) -> None:
        """Writes a file, whole or not at all; see ``_files.write``.

        ``meta`` is a JSON value but no object; ``states``, "s<state>/<leaf>" -> array, are on
        devices.
        """
        write(path, meta, {**arrays, **(states or {})})

    def read(self, path: Path) -> tuple[Any, dict[str, Any]]:
        """What ``write`` wrote: the JSON value; the arrays, those of states among them.

        Raises:
            Damaged: if anything of it has changed; on a mesh, on every process.
        """
        meta, arrays = read(path)
        if isinstance(meta, dict):  # of a mesh; an earlier version wrote so what was large
            raise Damaged(f"{path}: states in Orbax's format are read on a mesh only")
        return meta, arrays


@contextlib.contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Holds ``directory`` for this process alone; one that died holds nothing.

    Raises:
        RuntimeError: if another process that lives has it.
    """
    lock = directory / "lock"
    pid = os.getpid()
    mine = json.dumps({"pid": pid, "host": socket.gethostname(), "born": _born(pid)})
    # A link is made or not made, as with O_EXCL, and the lock is never there without its text.
    draft = directory / f"lock.{pid}.tmp"
    draft.write_text(mine)
    try:
        while True:
            try:
                os.link(draft, lock)
                break
            except FileExistsError:
                _clear_if_stale(lock)
    finally:
        draft.unlink()
    try:
        yield
    finally:
        with contextlib.suppress(FileNotFoundError):
            if lock.read_text() == mine:
                lock.unlink()


# ---------------------------------------------------------------------------------------- details


def _clear_if_stale(lock: Path) -> None:
    try:
        text = lock.read_text()
        owner = json.loads(text)
    except FileNotFoundError:
        return  # released meanwhile
    except ValueError:
        owner = {}
    if owner.get("host") != socket.gethostname() or _born(owner["pid"]) == owner["born"]:
        raise RuntimeError(
            f"sweep(checkpoint=...) must be a directory that no other process uses, got "
            f"{lock.parent}, in use by process {owner.get('pid', '?')} on "
            f"{owner.get('host', 'an unknown host')}. If that is dead, delete {lock}."
        )
    # Only one of several that see the dead owner can rename its lock; a new one is put back.
    aside = lock.with_name(f"lock.{os.getpid()}.stale")
    with contextlib.suppress(FileNotFoundError):
        os.rename(lock, aside)
        if aside.read_text() != text:
            with contextlib.suppress(FileExistsError):
                os.link(aside, lock)
        aside.unlink()


def _born(pid: int) -> str | None:
    """When a process started, so that a number that was given out again is not taken for it."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[19]
    except (OSError, IndexError):
        pass
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except OSError:
        pass
    return "unknown"
