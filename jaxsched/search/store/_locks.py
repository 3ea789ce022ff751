"""Locks that the kernel holds: gone with their owner, and seen across containers."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

from jaxsched._text import shorten, warn

# O_NONBLOCK: a planted pipe would never open. Neither flag exists on Windows.
_FLAGS = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)


@contextlib.contextmanager
def held(path: Path, expected: str) -> Iterator[None]:
    """Holds the lock ``path`` for one user at a time, be it a thread, a process or a machine.

    The lock does not depend on the file's text: a process number means nothing in another
    container. The file names its owner for the message only, and is deleted at the end. On a file
    system without locks, the user is warned and nothing is held.

    Args:
        path: a file of its own, in a directory that exists.
        expected: how the message begins, such as "sweep(checkpoint=...) must be a directory that no
            other process uses, got DIR".

    Raises:
        RuntimeError: if another holds it, or something else is there, such as a link.
        OSError: if the directory cannot be written.
    """
    from filelock import unlock_descriptor

    descriptor, locked = _open_and_lock(path, expected)
    try:
        yield
    finally:
        # Deleted while it is held: a process that opened it before finds another file there.
        with contextlib.suppress(OSError):
            if _is_still_at(path, descriptor):
                path.unlink()
        if locked:
            unlock_descriptor(descriptor)  # a forked child has the descriptor too
        os.close(descriptor)


def _open_and_lock(path: Path, expected: str) -> tuple[int, bool]:
    """A descriptor, and whether it is locked, which some file systems cannot do."""
    # A process may open the file just before its owner deletes it, and then lock it. That file has
    # no name any more. So a third process makes another one, and both believe that they are alone.
    # So the owner of the lock checks whether its file still has the name, and else opens again.
    while True:
        try:
            descriptor = os.open(path, _FLAGS, 0o666)
        except OSError as error:
            if path.is_symlink() or path.is_dir():
                raise _not_a_lock(path, expected) from None
            raise error
        try:
            locked = _try_to_lock(path, descriptor, expected)
            if _is_still_at(path, descriptor):
                with contextlib.suppress(OSError):  # on a full disk the lock has no text
                    os.ftruncate(descriptor, 0)
                    owner = {"pid": os.getpid(), "host": socket.gethostname()}
                    os.write(descriptor, json.dumps(owner).encode())
                    os.fsync(descriptor)  # on NFS other machines read it then, and not at the end
                return descriptor, locked
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _try_to_lock(path: Path, descriptor: int, expected: str) -> bool:
    """Whether it is locked, or ``False`` with a warning; raises if another holds it."""
    from filelock import lock_descriptor

    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode) or status.st_nlink > 1:  # a hard link to a file of others
        raise _not_a_lock(path, expected)
    try:
        if lock_descriptor(descriptor, blocking=False):
            return True
    except OSError as error:
        warn(
            f"{path} cannot be locked ({error.strerror}): its file system may have no locks. Make "
            "sure that the same call does not run twice at once.",
            RuntimeWarning,
        )
        return False
    raise RuntimeError(f"{expected}, in use by {_owner_of(descriptor)}.")


def _owner_of(descriptor: int) -> str:
    try:
        owner = json.loads(os.pread(descriptor, 1000, 0))
        return f"process {int(owner['pid'])} on {shorten(str(owner['host']))}"
    except Exception:  # no name yet, none on a full disk, or any other text
        return "an unknown process"


def _not_a_lock(path: Path, expected: str) -> RuntimeError:
    return RuntimeError(f"{expected}, where {path} is not a lock but something else: delete it.")


def _is_still_at(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.lstat(path), os.fstat(descriptor))
    except FileNotFoundError:
        return False
