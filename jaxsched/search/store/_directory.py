"""The files of a checkpoint: npz, and Orbax for states on a mesh, which no process has whole."""

from __future__ import annotations

import contextlib
import re
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
from jax.sharding import Mesh

from jaxsched.search._files import Damaged, read, write
from jaxsched.search.engine._devices import MeshDevices
from jaxsched.search.multihost._processes import (
    allgather_bytes,
    broadcast_from_first,
    on_first_process,
)
from jaxsched.search.store import _orbax
from jaxsched.search.store._lock import locked


class CheckpointDirectory:
    """A directory of one owner, or of all processes of a mesh, of which the first writes for all.

    A file and its states in Orbax's format have one name, ``….npz`` and ``….orbax``. The npz is
    written last and deleted first: where it is, all of it is.

    Args:
        directory: where; for a mesh, one that all processes see.
        place: the mesh, if there is one.
        layout: the shardings of a state on it.

    Raises:
        ImportError: on a mesh, if Orbax is not installed.
    """

    def __init__(self, directory: Path, place: MeshDevices | None = None, layout: Any = None):
        self.directory = directory
        self._mesh = place.mesh if place is not None else None
        self._layout = jax.tree.leaves(layout)
        if self._mesh is not None and not _orbax.installed():
            raise ImportError(
                "sweep(checkpoint=...) on a mesh needs Orbax: pip install orbax-checkpoint."
            )

    def on_first_process(self, call: Callable[[], Any]) -> Any:
        """What ``call`` returns, a JSON value, or raises; on a mesh, on the first process."""
        return call() if self._mesh is None else on_first_process(call)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Holds the directory; see ``_lock.locked``."""
        with contextlib.ExitStack() as stack:
            self.on_first_process(lambda: stack.enter_context(locked(self.directory)))
            yield

    def glob(self, pattern: str) -> list[Path]:
        """The files that match, in order."""
        names = self.on_first_process(
            lambda: sorted(path.name for path in self.directory.glob(pattern))
        )
        return [self.directory / name for name in names]

    def prune(self, kept: int | None = None) -> None:
        """Deletes what was not finished, and all states but the last ones."""

        def delete() -> None:
            old = [] if kept is None else sorted(self.directory.glob("states-*.npz"))[:-kept]
            for path in [*old, *self.directory.glob("*.npz.*.tmp")]:
                path.unlink()
            for folder in self.directory.glob("states-*.orbax*"):
                if not (self.directory / f"{folder.name.split('.')[0]}.npz").exists():
                    _orbax.remove(folder)

        self.on_first_process(delete)

    def write(self, path: Path, meta: Any, arrays: dict[str, Any]) -> None:
        """Writes a JSON value and arrays, whole or not at all; see ``_files.write``."""
        states = {name: x for name, x in arrays.items() if re.match(r"s\d+/", name)}
        if states and self._mesh is not None:
            folder = path.with_suffix(".orbax")
            kinds = _orbax.save(folder, states)
            meta = {
                "orbax": folder.name,
                "kinds": kinds,
                "mesh": _mesh_text(self._mesh),
                "meta": meta,
            }
            arrays = {name: x for name, x in arrays.items() if name not in states}
        self.on_first_process(lambda: write(path, meta, arrays))

    def read(self, path: Path) -> tuple[Any, dict[str, Any]]:
        """What ``write`` wrote.

        Raises:
            Damaged: if anything of it has changed; on a mesh, on every process.
        """
        meta, arrays = self._read(path)
        if not isinstance(meta, dict):
            return meta, arrays
        if self._mesh is None:  # an earlier version wrote so what was large
            raise Damaged(f"{path}: states in Orbax's format are read on a mesh only")
        folder, kinds = self.directory / meta["orbax"], meta["kinds"]
        found, problem = {}, ""
        try:
            shardings = {name: self._layout[int(name.split("/")[1])] for name in kinds}
            found = _orbax.load(folder, kinds, shardings)
        except Exception as error:  # of many kinds, and perhaps on one process only
            problem = f"{type(error).__name__}: {error}"
        problems = [text.decode() for text in allgather_bytes(problem.encode())]
        if any(problems):
            raise Damaged(f"{folder}: {next(filter(None, problems))}")
        states, changed = _orbax.verified(found, kinds)
        if changed:
            raise Damaged(f"{folder}: {len(changed)} arrays do not have their checksums")
        if meta["mesh"] != (here := _mesh_text(self._mesh)):
            warnings.warn(
                f"sweep(checkpoint=...): {folder} was saved on the mesh {meta['mesh']}. On "
                f"{here} sums are rounded in another order: what is trained from here "
                "on is not bit for bit what it would have been.",
                RuntimeWarning,
                stacklevel=2,
            )
        return meta["meta"], arrays | states

    # -------------------------------------------------------------------------------- details

    def _read(self, path: Path) -> tuple[Any, dict[str, Any]]:
        if self._mesh is None:
            return read(path)
        data = b""  # of the first process, so that all see the same damage
        if jax.process_index() == 0 and path.exists():
            data = path.read_bytes()
        return read(path, broadcast_from_first(data))


def _mesh_text(mesh: Mesh) -> str:
    return f"{dict(mesh.shape)} of {jax.process_count()} processes"
