"""The files of a checkpoint."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from jaxsched.search._files import Damaged, read, write
from jaxsched.search.store._lock import locked


class CheckpointDirectory:
    """A directory of one process. That of a mesh writes states otherwise, in the same places.

    Args:
        path: where.
    """

    def __init__(self, path: Path):
        self.path = path

    def on_first_process(self, call: Callable[[], Any]) -> Any:
        """What ``call`` returns, a JSON value, or raises; on a mesh, on the first process."""
        return call()

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Holds the directory; see ``_lock.locked``."""
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
        """Writes a JSON value, arrays and states, whole or not at all; see ``_files.write``.

        Args:
            path: the file.
            meta: a JSON value, no object.
            arrays: name -> array of the host.
            states: "s<state>/<leaf>" -> array of the devices.
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
