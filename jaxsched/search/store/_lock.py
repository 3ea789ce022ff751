"""One process at a time in a directory."""

from __future__ import annotations

import contextlib
import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path


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
