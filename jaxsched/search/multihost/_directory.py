"""The files of a store on a mesh: Orbax for states; each process has a part of a state."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import jax

from jaxsched._types import PyTree
from jaxsched.search._files import Damaged, opened, read, typed
from jaxsched.search.multihost import _orbax
from jaxsched.search.multihost._processes import (
    allgather_bytes,
    broadcast_from_first,
    on_first_process,
)
from jaxsched.search.store._directory import StoreDirectory

T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class _OnMesh:
    """The JSON of a file; its states are in the folder of its own name, which no text changes."""

    kinds: dict[str, _orbax.Kind]
    meta: Any


class MeshDirectory(StoreDirectory):
    """The directory of a mesh; its first process writes for all.

    A file and its states in Orbax's format have one name, ``….npz`` and ``….orbax``. The npz is
    written last and deleted first: if it exists, the states are complete.

    Args:
        path: on a file system that all processes see.
        layout: the shardings of a state on it.

    Raises:
        ImportError: if Orbax is not installed.
    """

    suppressed = ()  # perhaps one process only has met it

    def __init__(self, path: Path, layout: PyTree):
        super().__init__(path)
        self._layout = jax.tree.leaves(layout)
        try:  # a third of a second
            import orbax.checkpoint  # noqa: F401
        except ImportError:
            raise ImportError(
                "sweep(checkpoint=...) on a mesh needs Orbax: pip install orbax-checkpoint."
            ) from None

    def on_first_process(self, call: Callable[[], T]) -> T:
        return on_first_process(call)

    def write_states(self, path: Path, meta: object, states: Mapping[str, jax.Array]) -> None:
        kinds = _orbax.save(path.with_suffix(".orbax"), states)
        self.write(path, dataclasses.asdict(_OnMesh(kinds, meta)), {})

    def read_meta(self, path: Path) -> Any:
        meta, _ = self._read(path)
        return typed(_OnMesh, meta, f"{path}: its JSON").meta if isinstance(meta, dict) else meta

    def _read(self, path: Path) -> tuple[Any, dict[str, Any]]:
        """The content of the npz: all but states."""
        data = b""  # of the first process, so that all see the same damage
        if jax.process_index() == 0:
            # A process that raised here, or waited for a pipe, would leave the others waiting.
            with contextlib.suppress(OSError), opened(path) as file:
                data = file.read()
        return read(path, broadcast_from_first(data))

    def read(self, path: Path) -> tuple[Any, dict[str, Any]]:
        meta, arrays = self._read(path)
        if not isinstance(meta, dict):
            return meta, arrays
        header: _OnMesh = typed(_OnMesh, meta, f"{path}: its JSON")
        folder, kinds = path.with_suffix(".orbax"), header.kinds
        # Each process reads its own part, and may be the only one that cannot. It must not raise
        # alone: the others would wait for it in the checksums. So all first hear of all problems.
        loaded, problem = {}, ""
        try:
            if folder.is_symlink():
                raise ValueError("it is a link")
            shardings = {name: self._layout[int(name.split("/")[1])] for name in kinds}
            loaded = _orbax.load(folder, kinds, shardings)
        except Exception as error:  # Orbax raises many kinds, perhaps on one process only
            problem = f"{type(error).__name__}: {error}"
        problems = [text.decode() for text in allgather_bytes(problem.encode())]
        if any(problems):
            raise Damaged(f"{folder}: {next(filter(None, problems))}")
        states, changed = _orbax.verified(loaded, kinds)
        if changed:
            raise Damaged(f"{folder}: {len(changed)} arrays do not have their checksums")
        return header.meta, arrays | states
