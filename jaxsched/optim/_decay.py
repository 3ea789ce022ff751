"""Weight decay that doesn't depend on the learning rate."""

from __future__ import annotations

from typing import Any

import jax
import optax

from jaxsched._checks import checked_number
from jaxsched._types import Number, PyTree
from jaxsched.schedules._base import AbstractSchedule


def decay_weights(
    weight_decay: Number | AbstractSchedule, mask: PyTree | None = None
) -> optax.GradientTransformation:
    """Shrinks every parameter by ``weight_decay`` times itself, whatever the learning rate.

    Chain it *after* the optimizer. ``optax.adamw`` shrinks by ``lr * weight_decay`` (coupled); with
    ``inject(decay_weights)(weight_decay=wd * shape)`` beside a rate of ``peak * shape`` the shrink
    is ``wd * lr / peak``, as in Loshchilov & Hutter (2019), and a new peak leaves it as it is.

    Args:
        weight_decay: fraction by which a parameter shrinks per update.
        mask: as in ``optax.add_decayed_weights``: a tree of booleans or a function that makes one.

    Returns:
        A transformation of finished updates; its ``update`` needs ``params``.

    Raises:
        TypeError: if ``weight_decay`` is not a number.
        ValueError: if it is not finite, or negative.

    >>> import jax.numpy as jnp
    >>> from jaxsched.optim import decay_weights
    >>> tx = decay_weights(0.25)
    >>> params = jnp.ones(2)
    >>> updates, _ = tx.update(jnp.zeros(2), tx.init(params), params)
    >>> updates.tolist()
    [-0.25, -0.25]
    """
    shrink: Any = weight_decay
    if not isinstance(shrink, (AbstractSchedule, jax.Array)):
        shrink = checked_number("decay_weights(weight_decay=...)", shrink, at_least=0)
    return optax.add_decayed_weights(-shrink, mask)
