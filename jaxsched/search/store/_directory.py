"""The files of a checkpoint."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from jaxsched.search._files import Damaged, read, write
from jaxsched.search._locks import held


class CheckpointDirectory:
    """A directory of one process. That of a mesh writes states in another format."""

    def __init__(self, path: Path):
        self.path = path

    def on_first_process(self, call: Callable[[], Any]) -> Any:
        """Returns or raises as ``call`` does, a JSON value; on a mesh the first process calls."""
        return call()

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Holds the directory.

        Raises:
            RuntimeError: if another one does.
        """
        lock = held(
            self.path / "lock",
            "sweep(checkpoint=...) must be a directory that no other process uses, got "
            f"{self.path}",
        )
        with contextlib.ExitStack() as stack:
            self.on_first_process(lambda: stack.enter_context(lock))
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
