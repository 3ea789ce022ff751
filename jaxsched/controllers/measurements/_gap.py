"""Two measurements of bouncing: the averaging gap and own-batch work."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxsched.controllers._numbers import number32, scalar


class Gap(NamedTuple):
    """The averaging gap: by how much, in nats, the averaged weights are better."""

    value: jax.Array  # float32: log loss(iterate) - log loss(mean)
    error: jax.Array  # float32: its standard error over examples; infinite for a single loss


def averaging_gap(losses: ArrayLike, averaged: ArrayLike) -> Gap:
    r"""Log of the loss of an iterate over the loss of the mean of the window's weights.

    .. math:: g = \log \overline{\ell(w)} - \log \overline{\ell(\bar w)}

    Both are measured on the same examples, so most of the noise of the examples cancels.

    Args:
        losses: losses of the examples at the iterate, positive, [n] (or their mean, []).
        averaged: the losses at the averaged weights, of the same shape.

    Returns:
        A ``Gap``; 0 where a mean isn't positive and finite. It goes through ``jit`` and ``vmap``.

    >>> import jax.numpy as jnp
    >>> from jaxsched.controllers import averaging_gap
    >>> round(float(averaging_gap(jnp.array([2.0, 4.0]), jnp.array([1.0, 2.0])).value), 4)
    0.6931
    """
    losses, averaged = (jnp.ravel(jnp.asarray(x, jnp.float32)) for x in (losses, averaged))
    if losses.shape != averaged.shape:
        raise ValueError(
            f"averaging_gap(losses=..., averaged=...) must be of the same examples, got shapes "
            f"{losses.shape} and {averaged.shape}."
        )
    loss, average = jnp.mean(losses), jnp.mean(averaged)
    known = (loss > 0) & (average > 0) & jnp.isfinite(loss) & jnp.isfinite(average)
    a, b = jnp.where(known, loss, 1.0), jnp.where(known, average, 1.0)
    n = losses.shape[0]
    if n == 1:
        return Gap(jnp.log(a) - jnp.log(b), jnp.full((), jnp.inf, jnp.float32))
    # The error of a difference of two logs of means, to first order. The losses are paired by
    # example: its difficulty is in both of its losses, and cancels.
    spread = jnp.where(known, losses, a) / a - jnp.where(known, averaged, b) / b
    error = jnp.sqrt(jnp.sum(jnp.square(spread)) / (n * (n - 1)))
    return Gap(jnp.log(a) - jnp.log(b), error)


class Work(NamedTuple):
    """Own-batch work: the mean relative fall of a step's own batch loss, one more forward a step.

    Add ``loss(w_t, batch_t)`` and ``loss(w_{t+1}, batch_t)``. When the weights bounce, a step gains
    much on its own batch, and the next batches lose it again: in our settings (networks, batches of
    32) more than about 0.08 meant bouncing. The smaller the batch, the larger it is.

    >>> from jaxsched.controllers import Work
    >>> work = Work.start().add(2.0, 1.5).add(1.0, 0.9)
    >>> round(float(work.mean), 4)
    0.175
    """

    total: jax.Array  # float32 ()
    squares: jax.Array  # float32 ()
    steps: jax.Array  # int32 ()

    @classmethod
    def start(cls) -> Work:
        return cls(number32(0.0), number32(0.0), jnp.zeros((), jnp.int32))

    def add(self, before: ArrayLike, after: ArrayLike) -> Work:
        """With one more step; a step is omitted if its losses aren't positive and finite."""
        before, after = scalar("Work.add(before=...)", before), scalar("Work.add(after=...)", after)
        known = (before > 0) & jnp.isfinite(before) & jnp.isfinite(after)
        fall = jnp.where(known, 1.0 - after / jnp.where(known, before, 1.0), 0.0)
        steps = self.steps + known.astype(jnp.int32)
        return Work(self.total + fall, self.squares + fall * fall, steps)

    @property
    def mean(self) -> jax.Array:
        return self.total / jnp.maximum(number32(self.steps), 1.0)

    @property
    def error(self) -> jax.Array:
        """The standard error of the mean over steps."""
        n = jnp.maximum(number32(self.steps), 2.0)
        variance = jnp.maximum(self.squares / n - jnp.square(self.total / n), 0.0)
        return jnp.sqrt(variance / (n - 1.0))
