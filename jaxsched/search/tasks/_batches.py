"""Rows that every epoch shuffles, and micro-batches."""

from __future__ import annotations

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxsched._arrays import INT32_MAX
from jaxsched._checks import check_room, checked_whole
from jaxsched._types import PyTree
from jaxsched._words import known_arguments
from jaxsched.search.tasks._returned import strong

_BYTES = 64 << 20  # of kept orders, with a kilobyte for each


@known_arguments
def shuffled(samples: int, batch: int, seed: int, start: int, length: int) -> np.ndarray:
    """The rows that the updates from ``start`` read, if every epoch shuffles the data anew.

    An epoch has ``samples // batch`` updates; samples left over in one epoch may come in another.
    Row ``t`` depends on ``samples``, ``batch``, ``seed`` and ``t`` only, on every machine.

    Args:
        samples: size of the training set, from ``batch`` to 2**31 - 1.
        batch: rows of one update, at least 1.
        seed: a whole number, at least 0.
        start: first update, from 0.
        length: number of updates.

    Returns:
        int32 [length, batch], each in [0, samples).

    Raises:
        ValueError: if the batch is larger than the data.

    >>> from jaxsched.search import shuffled
    >>> shuffled(6, 2, seed=0, start=0, length=3).shape
    (3, 2)
    >>> bool((shuffled(6, 2, 0, 0, 9)[4:6] == shuffled(6, 2, 0, 4, 2)).all())
    True
    """
    samples = checked_whole("shuffled(samples=...)", samples, 1, INT32_MAX)
    batch = checked_whole("shuffled(batch=...)", batch, 1, samples)
    seed = checked_whole("shuffled(seed=...)", seed, 0, 2**63 - 1)
    start, length = (
        checked_whole(f"shuffled({name}=...)", value, 0, 2**62)
        for name, value in {"start": start, "length": length}.items()
    )
    what = f"{length} batches of {batch} of {samples} rows"
    check_room("shuffled(length=...)", 4 * (length * batch + samples), what, "Take fewer.")
    per_epoch = samples // batch
    updates = np.arange(start, start + length)
    rows = np.empty((length, batch), np.int32)
    for epoch in np.unique(updates // per_epoch):
        order = _permutations(samples)(seed, int(epoch))[: per_epoch * batch]
        in_epoch = updates // per_epoch == epoch
        rows[in_epoch] = order.reshape(per_epoch, batch)[updates[in_epoch] % per_epoch]
    return rows


def mean_of(
    f: Callable[[PyTree, PyTree], tuple[PyTree, PyTree]], rest: PyTree, micro: PyTree, count: int
) -> tuple[PyTree, PyTree]:
    """``rest`` after ``count`` micro-batches, and the mean of the other results of ``f``.

    One after another, in the memory of one; the sum is float32 at least.
    """
    if count == 1:
        return f(rest, micro)
    # A scan with the sum as its carry: `vmap` would need the memory of all micro-batches at once.
    # In bfloat16 a sum of hundreds of gradients would lose the small ones.
    shapes = jax.eval_shape(f, rest, jax.tree.map(lambda x: x[0], micro))[1]

    def add(carry: tuple[PyTree, PyTree], micro: PyTree) -> tuple[tuple[PyTree, PyTree], None]:
        rest, total = carry
        rest, value = f(rest, micro)
        total = jax.tree.map(lambda t, x: t + x.astype(t.dtype), total, value)
        return (jax.tree.map(strong, rest), total), None

    zero = jax.tree.map(lambda x: jnp.zeros(x.shape, jnp.promote_types(x.dtype, "float32")), shapes)
    (rest, total), _ = lax.scan(add, (rest, zero), micro)
    return rest, jax.tree.map(lambda t, x: (t / count).astype(x.dtype), total, shapes)


@functools.lru_cache(maxsize=4)  # folds have one size, or two
def _permutations(samples: int) -> Callable[[int, int], np.ndarray]:
    """(seed, epoch) -> order. The next segment of each seed reads on in the same epoch. If only the
    last few orders were kept, many seeds in turn would drop each just before its next use."""

    @functools.lru_cache(maxsize=max(32, _BYTES // (4 * samples + 1024)))
    def permutation(seed: int, epoch: int) -> np.ndarray:
        # Philox's bits are fixed for ever; `Generator.permutation` may change with NumPy's version.
        bits = np.random.Philox(key=[seed, epoch]).random_raw(samples)
        return np.argsort(bits, kind="stable").astype(np.int32)

    return permutation
