"""The files of a store, which any number of sweeps write at once, each under its own name."""

from __future__ import annotations

import contextlib
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import jax

from jaxsched.search._files import Arrays, Damaged, read, read_meta, write
from jaxsched.search.store._locks import held

_OURS = re.compile(r"(records|ends|marks|states)-([0-9a-f]+)-(\d+)\.(npz|orbax)")
# Files of running or killed processes. NFS renames a file so if it is deleted while open.
_PASSING = re.compile(r"\.(lock|tmp)$|^\.nfs")

_ON_MESH = "{}: states in Orbax's format are read on a mesh only"

T = TypeVar("T")


class StoreDirectory:
    """A directory of one process. The directory of a mesh writes states in another format.

    Attributes:
        suppressed: errors after which a sweep goes on without the file.
    """

    # Any number of processes write here at once, and read one another's files, without a lock for
    # it: a file has a name that no other writer uses, "records-<writer>-<number>.npz", and is
    # either whole or absent. A writer deletes its own files only, and the others are prepared for a
    # file that disappears between two looks. The one lock is against two calls that train the same:
    # they would have one name.

    suppressed: tuple[type[Exception], ...] = (OSError,)

    def __init__(self, path: Path):
        self.path = path

    def on_first_process(self, call: Callable[[], T]) -> T:
        """Returns or raises as ``call`` does, a JSON value; on a mesh the first process calls."""
        return call()

    @contextlib.contextmanager
    def locked(self, writer: str) -> Iterator[None]:
        """Holds the name of a writer, and deletes its unfinished files.

        Raises:
            RuntimeError: if another one does.
            ValueError: if the directory holds anything else.
        """
        self.on_first_process(self._check)
        lock = held(
            self.path / f"{writer}.lock",
            "sweep(checkpoint=...) must be a directory in which no other process trains the same, "
            f"got {self.path}",
        )
        with contextlib.ExitStack() as stack:
            self.on_first_process(lambda: stack.enter_context(lock))
            self.prune(writer)
            yield

    def glob(self, pattern: str) -> list[Path]:
        """The files of a store that match, in order."""
        names = self.on_first_process(
            lambda: sorted(p.name for p in self.path.glob(pattern) if _OURS.fullmatch(p.name))
        )
        return [self.path / name for name in names]

    def next_number(self, writer: str) -> int:
        """A number that no file of a writer has."""
        numbers = (int(path.stem.split("-")[2]) for path in self.glob(f"*-{writer}-*"))
        return 1 + max(numbers, default=0)

    def has(self, path: Path) -> bool:
        """Whether a file is still there: other writers delete their older states."""
        return bool(self.on_first_process(path.exists))

    def size(self, pattern: str) -> int:
        """Bytes of the matching files, and of all files in matching folders."""

        def total() -> int:
            paths = [p for path in self.path.glob(pattern) for p in (path, *path.rglob("*"))]
            with contextlib.suppress(FileNotFoundError):  # another writer deletes its own
                return sum(p.stat().st_size for p in paths if p.is_file())
            return 0

        return int(self.on_first_process(total))

    def free(self) -> int:
        """Bytes that its disk has room for."""
        return int(self.on_first_process(lambda: shutil.disk_usage(self.path).free))

    def prune(self, writer: str, keep: int | None = None) -> None:
        """Deletes a writer's unfinished files, and all its states but the last ``keep``."""

        def delete() -> None:
            states = sorted(self.path.glob(f"states-{writer}-*.npz"))
            old = [] if keep is None else states[:-keep]
            # Names with no word in front are the flags of killed drivers.
            for path in [*old, *self.path.glob(f"*{writer}-*.tmp")]:
                if not path.is_dir() or path.is_symlink():
                    path.unlink(missing_ok=True)
            # The npz is written last and deleted first: without it a folder belongs to nothing.
            for folder in self.path.glob(f"*-{writer}-*.orbax*"):
                if not (self.path / f"{folder.name.split('.')[0]}.npz").exists():
                    shutil.rmtree(folder, ignore_errors=True)

        self.on_first_process(delete)

    def _check(self) -> None:
        """Raises if it is neither empty nor of a store."""
        names = sorted(p.name for p in self.path.iterdir() if not _PASSING.search(p.name))
        if any(map(_OURS.match, names)):  # Orbax adds to a name while it writes
            return
        if names:
            raise ValueError(
                f"sweep(checkpoint=...) must be an empty directory or one of sweeps, got "
                f"{self.path}, which holds {', '.join(names[:3])}."
            )

    def write(self, path: Path, meta: object, arrays: Arrays) -> None:
        """Writes a file, whole or not at all; see ``_files.write``.

        ``meta`` is a JSON value, but not an object, which marks the states of a mesh.
        """
        self.on_first_process(lambda: write(path, meta, arrays))

    def write_states(self, path: Path, meta: object, states: Mapping[str, jax.Array]) -> None:
        """Writes states, "s<state>/<leaf>" -> array on devices, with ``meta`` as for ``write``."""
        self.write(path, meta, states)

    def read(self, path: Path) -> tuple[Any, dict[str, Any]]:
        """Reads a file of ``write``: the JSON value; the arrays, of states too.

        Raises:
            Damaged: if anything in it has changed; on a mesh, on every process.
        """
        meta, arrays = read(path)
        if isinstance(meta, dict):
            raise Damaged(_ON_MESH.format(path))
        return meta, arrays

    def read_meta(self, path: Path) -> Any:
        """The JSON value alone; raises as ``read``, but for arrays."""
        meta = read_meta(path)
        if isinstance(meta, dict):
            raise Damaged(_ON_MESH.format(path))
        return meta
