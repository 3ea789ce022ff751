"""Reads and checks the batches of a task: on the host, by one thread at a time."""

from __future__ import annotations

import dataclasses
import threading
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import keystr, tree_leaves_with_path

from jaxsched._types import PyTree
from jaxsched.search._fingerprint import digest, fingerprint_of
from jaxsched.search.tasks._protocol import Task

# One lock for the process: a sweep's threads, its store, and units in threads read the same source,
# and two threads that seek in one file get each other's rows. It is held until the rows are no
# longer needed: a task may fill one buffer with all of its batches.
READING = threading.RLock()
_PIECES, _ROWS = 16, 1024  # for digests: number of pieces, and updates in each


@dataclasses.dataclass(frozen=True)
class Batches:
    """The batches that the updates of a task read."""

    task: Any  # a `Task`, which may have `batches`
    row: PyTree = None  # one batch, abstract; unknown until the first is read

    @property
    def drawn(self) -> bool:
        """Whether a task has batches, and not the numbers of its updates only."""
        return getattr(self.task, "batches", None) is not None

    def read(
        self, seed: int, start: int, length: int, steps: int | None = None, caller: str = "sweep"
    ) -> PyTree:
        """Batches of ``length`` updates, of ``steps`` in all; or their numbers, int32 [length]."""
        if not self.drawn:
            return np.arange(start, start + length, dtype=np.int32)
        called = f"{caller}(task=...): batches({seed}, {start}, {length})"
        try:
            with READING:
                drawn = self.task.batches(seed, start, length)
        except (StopIteration, IndexError) as error:
            needed = "" if steps is None else f" of the {steps}"
            raise ValueError(
                f"{called} must return what the updates {start} to {start + length - 1}{needed} "
                f"read, got {type(error).__name__}{f' ({error})' if str(error) else ''}: the data "
                "have ended too early. Begin them again, as `js.search.shuffled` does, or train "
                "fewer steps."
            ) from error
        except Exception as error:
            error.add_note(f"in {called}")
            raise
        self._check(drawn, length, called)
        return drawn

    def _check(self, drawn: PyTree, length: int, called: str) -> None:
        """Raises unless these are numbers, ``length`` rows of them, each as the first one."""
        leaves = jax.tree.leaves(drawn)
        for dtype in (leaf.dtype for leaf in leaves if hasattr(leaf, "dtype")):
            if not (jnp.issubdtype(dtype, jnp.number) or dtype == jnp.bool_):
                raise TypeError(f"{called} must return arrays of numbers, got dtype {dtype}.")
        lengths = {np.shape(leaf)[:1] for leaf in leaves}
        if lengths != {(length,)}:
            raise TypeError(
                f"{called} must return arrays with the leading axis {length}, "
                f"got the leading axes {sorted(lengths)}."
            )
        if self.row is not None and (got := shown(_row(drawn))) != (wanted := shown(self.row)):
            raise TypeError(
                f"{called} must return rows of the shapes and dtypes of the first ones, {wanted}, "
                f"got {got}."
            )

    def digest_of_runs(self, seeds: tuple[int, ...], steps: int, rows: int) -> str:
        """A digest of the batches of all runs: all of them, or ``rows`` of each run, evenly in some
        pieces from its first update to its last."""
        if not self.drawn:
            return ""
        if steps <= rows:
            pieces = [(start, min(_ROWS, steps - start)) for start in range(0, steps, _ROWS)]
        else:
            count = min(max(2, rows), _PIECES)
            length = min(max(1, rows // count), _ROWS)
            pieces = [(int(start), length) for start in np.linspace(0, steps - length, count)]
        digests = []
        for seed in seeds:
            for piece in pieces:
                with READING:
                    digests.append(fingerprint_of(self.read(seed, *piece, steps)))
        return digest(*digests)


def shown(row: PyTree) -> str:
    """The arrays of a batch: their places, dtypes and shapes."""
    leaves = tree_leaves_with_path(row)
    return ", ".join(f"{keystr(path)} {x.dtype}{list(x.shape)}".strip() for path, x in leaves)


def first_batch(task: Task, caller: str, steps: int) -> PyTree:
    """A row of the batches, abstract; raises if its numbers depend on earlier calls."""
    # ``batches`` must be a function of its arguments, or a run that is resumed, moved or cut into
    # other segments reads other data without notice. So the last of the first two rows is requested
    # once more, alone. An iterator has gone on by then and returns a third row; a loader that
    # begins anew at each call returns the first. A later mistake is not found.
    batches = Batches(task)
    last = min(2, steps) - 1
    with READING:
        drawn = batches.read(0, 0, last + 1, steps, caller)
        row = _row(drawn)
        # A copy, as the buffer may be reused; only of the last row, since rows may be large.
        first = [np.array(np.asarray(x)[last:]) for x in jax.tree.leaves(drawn)]
        again = Batches(task, row).read(0, last, 1, steps, caller)
        differ = any(map(_differ, first, map(np.asarray, jax.tree.leaves(again))))
    if differ:
        raise ValueError(
            f"{caller}(task=...): batches(seed, start, length) must be a function of its arguments "
            f"alone, but update {last} has other data in batches(0, {last}, 1) than in "
            f"batches(0, 0, {last + 1}): each run would read others. Compute the rows from `start` "
            "on, as `js.search.shuffled` does, without an iterator or a generator that goes on."
        )
    return row


def _differ(x: np.ndarray, y: np.ndarray) -> bool:
    """Whether two arrays differ by more than rounding; in a product it depends on the row count."""
    if np.array_equal(x, y) or not jnp.issubdtype(x.dtype, jnp.inexact):
        return not np.array_equal(x, y)
    # A task may make its batches by a matrix product (a projection, a mixing of channels), and BLAS
    # adds up in another order for one row than for two. The difference is far below the square root
    # of the dtype's precision, 3e-4 of the largest number in float32; other data are far above it.
    wide = np.result_type(x.dtype, np.float64) if x.dtype.kind in "fc" else np.float64
    x, y, eps = x.astype(wide), y.astype(wide), float(jnp.finfo(x.dtype).eps)
    near = eps**0.5 * np.abs(np.where(np.isfinite(x), x, 0)).max(initial=0)
    return not np.allclose(x, y, 0, near, equal_nan=True)


def _row(drawn: PyTree) -> PyTree:
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(np.shape(x)[1:], jnp.result_type(x)), drawn)
