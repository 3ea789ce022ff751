"""The batches that the runs of one fold and seed read, known by checksums."""

from __future__ import annotations

import bisect
import itertools
from hashlib import blake2b

import jax
import numpy as np

from jaxsched._types import PyTree
from jaxsched.search.tasks._reading import READING
from jaxsched.search.tasks._traced import Fold

_BYTES = 2 << 20  # of batches at the beginning, all of them checked
_MOST = 1 << 16
_BLOCKS = 16  # read at once, of these
_SUM = 8  # bytes of a checksum


class Rows:
    """A checksum of each batch, in order; of few in many where there are many.

    Which batches are looked at depends on their size and on nothing else, above all not on the
    length of a run: so a longer run begins with the same checksums. After the first ones, as many
    again are checked each time the step doubles.

    Args:
        fold: of the task.
        seed: of the order of the data.
        steps: of the longest run; later batches are never asked for.
    """

    def __init__(self, fold: Fold, seed: int, steps: int):
        self._fold, self._seed, self._steps = fold, seed, steps
        # With batches of 64 KiB, 32 are 2 MiB, so that a block has 2. All batches from 0 to 63 are
        # checked, half of the batches from 64 to 127, and so on: 512 in a million updates.
        at_first = min(_MOST, max(_BLOCKS, _BYTES // fold.shape.batch_bytes))
        paths = jax.tree_util.tree_leaves_with_path(fold.shape.batch)
        self._leaves = [jax.tree_util.keystr(path) for path, _ in paths]
        self._size = _SUM * len(paths)
        self._block = (1 << at_first.bit_length() - 1) // _BLOCKS  # batches
        self._starts: list[int] = []  # of the checked blocks
        self._sums = bytearray()
        self._end = 0
        self._digested: list[int] = []  # in order; their digests are extended, not made anew
        self._digests: dict[int, blake2b] = {0: blake2b(digest_size=16)}

    def digest(self, step: int) -> bytes:
        """The digest of all batches before a step."""
        if step not in self._digests:
            at = bisect.bisect_left(self._digested, step)
            before = self._digested[at - 1] if at else 0
            digest = self._digests[before].copy()
            digest.update(self.sums(before, step))
            self._digests[step] = digest
            self._digested.insert(at, step)
        return self._digests[step].digest()

    def sums(self, start: int, stop: int) -> bytes:
        """The checksums of the batches of some updates."""
        self._read_up_to(stop)
        first, last = (self._size * self._sums_before(step) for step in (start, stop))
        return bytes(self._sums[first:last])

    def agreed(self, start: int, stop: int, sums: bytes) -> tuple[int, str]:
        """The first of some updates whose checksums differ, or ``stop``; and the arrays of its
        batch that differ, in parentheses, or "" if it has only one.

        Checksums of batches without a run here are ignored.
        """
        stop_here = min(stop, self._steps)
        ours = self.sums(start, stop_here) if start < stop_here else b""
        batches = min(len(ours), len(sums)) // self._size
        # For each batch: do its arrays have another checksum?
        first, second = (
            np.frombuffer(data, f"u{_SUM}", batches * len(self._leaves)) for data in (ours, sums)
        )
        differ = (first != second).reshape(batches, len(self._leaves))
        if not differ.any():
            return stop, ""
        batch = int(differ.any(axis=1).argmax())
        block, row = divmod(self._sums_before(start) + batch, self._block)
        names = ", ".join(itertools.compress(self._leaves, differ[batch]))
        return self._starts[block] + row, names and f" ({names})"

    def _read_up_to(self, stop: int) -> None:
        """Adds the checksums of the batches before ``stop``."""
        while self._fold.batches.drawn and self._end < stop:
            number, row = divmod(self._end, self._block)
            end = min((number + 1) * self._block, stop)
            # All blocks from 0 to 31, every second from 32 to 63, every fourth from 64 to 127, ...
            if number % (1 << max(0, (number // _BLOCKS).bit_length() - 1)) == 0:
                if row == 0:
                    self._starts.append(self._end)
                count = end - self._end
                with READING:
                    drawn = self._fold.batches.read(self._seed, self._end, count, self._steps)
                    self._sums += _checksums(drawn, count)
            self._end = end

    def _sums_before(self, step: int) -> int:
        """How many checksums there are of the batches before a step."""
        blocks = bisect.bisect_left(self._starts, step)
        if blocks == 0:
            return 0
        # All but the last of them were read to their ends, before the next one began.
        return (blocks - 1) * self._block + min(self._block, step - self._starts[blocks - 1])


def _checksums(drawn: PyTree, count: int) -> bytes:
    """One of each array of each batch, side by side: so a message can name the array."""
    leaves = [np.ascontiguousarray(leaf) for leaf in jax.tree.leaves(drawn)]
    rows = [leaf.reshape(count, -1).view(np.uint8) for leaf in leaves]
    of_rows = (row for batch in zip(*rows, strict=True) for row in batch)
    return b"".join(blake2b(row, digest_size=_SUM).digest() for row in of_rows)
