"""Averages of the weights: a preview of the effect of a lower rate, for one sum a step."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxsched._checks import checked_number
from jaxsched._types import Leaf, Number, PyTree
from jaxsched.controllers._numbers import flag, next_count, number32


class Average(NamedTuple):
    r"""The running mean of a tree of weights, as a small pytree that goes through ``jit``.

    After ``n`` calls of ``add`` the mean is that of the window, or with ``decay`` an exponential
    moving average without the bias of its start:

    .. math:: m_n = m_{n-1} + r_n\,(w_n - m_{n-1}), \quad
        r_n = \tfrac1n \text{ or } \frac{1 - d}{1 - d^n}

    Means are kept in float32, or in the weights' dtype if it is wider. Leaves of other dtypes
    (counters, random keys) are taken from the last ``add``. Batch statistics are not weights:
    measure them again at the mean, or average them too and check the loss in quality.

    >>> import jax.numpy as jnp
    >>> from jaxsched.controllers import Average
    >>> average = Average.start({"w": jnp.zeros(2)})
    >>> for w in (1.0, 2.0, 6.0):
    ...     average = average.add({"w": jnp.full(2, w)})
    >>> average.mean["w"].tolist(), int(average.steps)
    ([3.0, 3.0], 3)
    """

    mean: PyTree  # a tree like the weights
    steps: jax.Array  # int32 (): how many were added since the start

    @classmethod
    def start(cls, weights: PyTree) -> Average:
        """An empty average; only shapes and dtypes of ``weights`` are looked at."""
        return cls(jax.tree.map(_wide, weights), jnp.zeros((), jnp.int32))

    def add(self, weights: PyTree, *, decay: Number | None = None) -> Average:
        """The average with one more tree in it.

        Args:
            weights: a tree like the one of ``start``.
            decay: None: the mean of all, each with the same weight; a number of at least 0 and
                below 1: an exponential moving average over about ``1 / (1 - decay)`` steps.
        """
        steps = next_count(self.steps)
        n = number32(steps)
        if decay is None:
            share = 1.0 / n
        else:
            decay = checked_number("Average.add(decay=...)", decay, at_least=0, below=1)
            # 1 - d**n as it is written keeps few digits where d is near 1: of 0.9999 after two
            # steps it is 2.0003319e-4 in float32, and really 2.0002318e-4.
            lost = 1.0 - number32(decay)
            share = lost / -jnp.expm1(n * jnp.log1p(-lost))
        first = steps == 1
        mean = jax.tree.map(lambda m, w: _toward(m, w, share, first), self.mean, weights)
        return Average(mean, steps)

    def restart(self, when: ArrayLike = True) -> Average:
        """The average, emptied where ``when`` is true (it may be traced): the next window."""
        fresh = flag("Average.restart(when=...)", when)
        return self._replace(steps=jnp.where(fresh, 0, self.steps))

    def like(self, weights: PyTree) -> PyTree:
        """The mean in the dtypes of ``weights``, as the model takes it."""
        return jax.tree.map(
            lambda m, w: m if m.dtype == w.dtype else m.astype(w.dtype), self.mean, weights
        )


def _has_mean(x: jax.Array) -> bool:
    return bool(jnp.issubdtype(x.dtype, jnp.inexact))


def _wide(x: Leaf) -> jax.Array:
    x = jnp.asarray(x)
    if not _has_mean(x):
        return x
    return jnp.zeros(x.shape, jnp.promote_types(x.dtype, jnp.float32))


def _toward(mean: jax.Array, weight: Leaf, share: jax.Array, first: jax.Array) -> jax.Array:
    """One leaf of the mean, moved by ``share`` of the way to the new weight."""
    weight = jnp.asarray(weight)
    if not _has_mean(mean):
        return weight
    weight = weight.astype(mean.dtype)
    # Written so, the mean of equal weights is that weight exactly. The first tree replaces the old
    # mean, a NaN included.
    return jnp.where(first, weight, mean + share.astype(mean.dtype) * (weight - mean))
