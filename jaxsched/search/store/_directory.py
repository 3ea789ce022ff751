"""The files of a checkpoint, and a lock that admits one process at a time."""

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
    """A directory of one process. That of a mesh writes states in another format."""

    def __init__(self, path: Path):
        self.path = path

    def on_first_process(self, call: Callable[[], Any]) -> Any:
        """Returns or raises as ``call`` does, a JSON value; on a mesh the first process calls."""
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
        """Deletes unfinished files, and all states but the last ``kept``."""

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

        ``meta`` is a JSON value, but not an object, which marks the file of a mesh. ``states``,
        "s<state>/<leaf>" -> array, are on devices.
        """
        write(path, meta, {**arrays, **(states or {})})

    def read(self, path: Path) -> tuple[Any, dict[str, Any]]:
        """Reads a file of ``write``: the JSON value; the arrays, those of states included.

        Raises:
            Damaged: if anything in it has changed; on a mesh, on every process.
        """
        meta, arrays = read(path)
        if isinstance(meta, dict):  # of a mesh, or large states of an earlier version
            raise Damaged(f"{path}: states in Orbax's format are read on a mesh only")
        return meta, arrays


@contextlib.contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Holds ``directory`` for this process alone; a dead process's lock is removed.

    Raises:
        RuntimeError: if another live process holds it.
    """
    lock = directory / "lock"
    pid = os.getpid()
    mine = json.dumps({"pid": pid, "host": socket.gethostname(), "born": _born(pid)})
    # Making a link is atomic, as O_EXCL is; unlike with O_EXCL, the lock is never without its text.
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
    # Of several processes that see the dead owner, only one can rename its lock. If another has
    # locked meanwhile, its lock is put back.
    aside = lock.with_name(f"lock.{os.getpid()}.stale")
    with contextlib.suppress(FileNotFoundError):
        os.rename(lock, aside)
        if aside.read_text() != text:
            with contextlib.suppress(FileExistsError):
                os.link(aside, lock)
        aside.unlink()


def _born(pid: int) -> str | None:
    """The start time of a process, which tells it from a later one with the same number."""
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
