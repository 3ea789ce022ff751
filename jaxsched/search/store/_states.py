"""The states in a store, by the points of the runs that they belong to."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
from jax.tree_util import PyTreeDef

from jaxsched._types import PyTree
from jaxsched.search._files import Damaged, typed
from jaxsched.search.store._directory import StoreDirectory
from jaxsched.search.store._pieces import FORMAT

SavedStates = dict[str, tuple[int, PyTree]]  # point -> step and state

_Entries = list[tuple[int, str]]  # step, point


class States:
    """Finds and reads states. After ``forget`` it lists the files again.

    A file's JSON is read first, and its arrays only when one of its states is loaded: all states of
    a directory may be a GiB, and a sweep needs a few of them.

    Args:
        directory: of the files.
        like: a state, abstract.
        on_damage: is given a file, and its error.

    Attributes:
        kept: the points of states that are never deleted.
    """

    def __init__(
        self, directory: StoreDirectory, like: PyTree, on_damage: Callable[[Path, Exception], None]
    ):
        self._directory, self._like, self._on_damage = directory, like, on_damage
        self._files: dict[Path, _Entries] = {}  # each file is read once
        self._index: dict[str, list[tuple[Path, int]]] | None = None
        self._arrays: dict[Path, dict[str, Any]] = {}  # of files in use
        self.kept = set[str]()

    def forget(self) -> None:
        """Others may have written more, or deleted their own."""
        self._index = None

    def close(self) -> None:
        """Drops the read arrays."""
        self._arrays = {}

    def at(self, point: str) -> list[tuple[Path, int]]:
        """The files that hold the state of a point, with its number there."""
        return self._read().get(point, [])

    def load(self, path: Path, number: int) -> PyTree | None:
        """A state, or ``None`` if the file is damaged or gone."""
        treedef: PyTreeDef
        if not self._files[path]:  # it was reported already
            return None
        wanted, treedef = jax.tree.flatten(self._like)
        try:
            # Digests protect from chance only: a forged file may have any shapes.
            if path not in self._arrays:
                self._arrays[path] = self._directory.read(path)[1]
            leaves = [self._arrays[path][f"s{number}/{j}"] for j in range(len(wanted))]
            for leaf, like in zip(leaves, wanted, strict=True):
                if (leaf.shape, leaf.dtype) != (like.shape, like.dtype):
                    raise Damaged(f"{path}: {leaf.dtype}{list(leaf.shape)} for {like}")
        except (Damaged, KeyError) as damage:
            self._on_damage(path, damage)
            self.kept -= {point for _, point in self._files[path]}
            self._files[path] = []
            return None
        return treedef.unflatten(leaves)

    def _read(self) -> dict[str, list[tuple[Path, int]]]:
        """Point -> the files that hold its state, with its number in each."""
        if self._index is None:
            self._index, glob = {}, self._directory.glob
            for path in [*glob("ends-*.npz"), *glob("marks-*.npz"), *glob("states-*.npz")]:
                for number, (_, point) in enumerate(self._entries(path)):
                    self._index.setdefault(point, []).append((path, number))
                    if not path.name.startswith("states"):  # never deleted: not to be saved again
                        self.kept.add(point)
        return self._index

    def _entries(self, path: Path) -> _Entries:
        """The steps and points of a file's states; none of a damaged or earlier file."""
        if path not in self._files:
            try:
                meta = self._directory.read_meta(path)
                version, *_ = meta if isinstance(meta, list) and meta else [None]
                self._files[path] = (
                    typed(tuple[int, _Entries], meta, "its JSON")[1] if version == FORMAT else []
                )
            except Damaged as damage:
                self._on_damage(path, damage)
                return []
        return self._files[path]


def saved_states(states: SavedStates) -> tuple[object, dict[str, jax.Array]]:
    """A JSON value and arrays, for a file."""
    entries = [FORMAT, [[step, point] for point, (step, _) in states.items()]]
    return entries, {
        f"s{i}/{j}": leaf
        for i, (_, state) in enumerate(states.values())
        for j, leaf in enumerate(jax.tree.leaves(state))
    }
