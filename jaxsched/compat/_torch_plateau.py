"""PyTorch's ``ReduceLROnPlateau``; transformers and timm use its rule too."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp

from jaxsched._bounds import FLOAT32_TINY
from jaxsched._checks import checked_number
from jaxsched._types import Leaf
from jaxsched.compat._knots import known
from jaxsched.compat._pieces import larger, plain
from jaxsched.compat._signature import (
    Fraction,
    Mode,
    NotNegative,
    Positive,
    ThresholdMode,
    Whole,
    drop_in,
)
from jaxsched.controllers import Plateau

_CUTS = 10_000  # of known numbers, which are followed one by one; with more the formula does
_LEAST = 2.0**-100  # in place of a factor of 0, which has no logarithm


@drop_in
def ReduceLROnPlateau(
    base_lr: Positive,
    mode: Mode = "min",
    factor: Fraction = 0.1,
    patience: Whole = 10,
    threshold: NotNegative = 1e-4,
    threshold_mode: ThresholdMode = "rel",
    cooldown: Whole = 0,
    min_lr: NotNegative = 0.0,
    eps: NotNegative = 1e-8,
) -> Plateau:
    """Multiplied by ``factor`` when a metric has not improved for more than ``patience`` reports.

    Args:
        min_lr: the least rate; one for each group is a controller for each.
        eps: a cut by this much or less is not made, and so none after it: the least rate is
            greater than ``min_lr``, as ``min_scale`` shows.

    There the margin of a negative metric has the wrong sign with ``threshold_mode="rel"``, so that
    a constant one improves for ever; not here.

    >>> from jaxsched.compat import torch
    >>> plateau = torch.ReduceLROnPlateau(1.0, factor=0.5, patience=1)
    >>> state = plateau.init()
    >>> for loss in (3.0, 3.0, 3.0):
    ...     state = plateau.update(state, value=loss)
    >>> float(plateau(state))
    0.5
    """
    return plateau(
        "torch.ReduceLROnPlateau",
        *(base_lr, mode, factor, patience, threshold, threshold_mode, cooldown, min_lr, eps),
    )


def plateau(
    name: str,
    base_lr: Leaf,
    mode: Any,
    factor: Leaf,
    patience: Leaf,
    threshold: Leaf,
    threshold_mode: str,
    cooldown: Leaf,
    min_lr: Leaf,
    eps: Leaf,
) -> Plateau:
    """The controller; ``name`` is the called drop-in, for messages."""
    rtol, atol = margins(name, threshold, threshold_mode)
    least = _least_scale(base_lr, factor, min_lr, eps)
    return Plateau(
        *(base_lr, factor, patience, rtol, atol, cooldown, least),
        mode=mode,
        rule="torch",
        nan="bad",
    )


def margins(name: str, threshold: Leaf, mode: Any) -> tuple[Leaf, Leaf]:
    """The relative margin of an improvement, and the absolute one."""
    # PyTorch takes a relative threshold of 1 or more, with which no positive loss ever improves.
    if mode == "abs":
        return 0.0, threshold
    return checked_number(f"{name}(threshold=...)", threshold, below=1), 0.0


def _least_scale(base: Leaf, factor: Leaf, min_lr: Leaf, eps: Leaf) -> Leaf:
    """The last of the scales 1, factor, factor ** 2, ..., ``min_lr / base``.

    A cut that lowers the rate by ``eps`` or less is not made, nor is any after it.
    """
    # PyTorch asks before each cut whether it is worth it, with a rate that it finds. `Plateau` asks
    # nothing: it cuts down to a least scale. So the scale is computed here at which PyTorch would
    # stop: for a base of 1, a factor of 0.1 and an eps of 1e-8 it is 1e-8, since the cut from
    # there to 1e-9 is 9e-9. Known numbers are followed as PyTorch follows them: its rounding
    # decides whether a cut is more than `eps` where the two are equal.
    numbers = (base, factor, min_lr, eps)
    if known(numbers):
        base, factor, min_lr, eps = map(plain, numbers)
        rate = base
        for _ in range(_CUTS):
            lower = max(rate * factor, min_lr)
            if not rate - lower > eps:
                return rate / base if rate / base >= FLOAT32_TINY else 0.0  # as in a program
            rate = lower

    def cut(times: Leaf) -> Leaf:
        """The scale after so many cuts; after infinitely many it is 0, also to a gradient."""
        some = jnp.isfinite(times)
        return jnp.where(some, factor ** jnp.where(some, jnp.maximum(times, 0.0), 1.0), 0.0)

    # In a program two bounds are solved for by logarithms. `frozen`: the first scale at which
    # another cut would be `eps` or less. `low`: the least rate, unless the cut to it, from the last
    # power of the factor above it (`before`), is `eps` or less. The larger one is met first.
    factor = larger(factor, _LEAST)
    rate = jnp.log(factor)
    frozen = cut(jnp.ceil(jnp.log(eps / (base * (1 - factor))) / rate))
    low = min_lr / base
    before = cut(jnp.floor(jnp.log(low) / rate))
    last = jnp.where(base * (before - low) > eps, low, before)
    return jnp.minimum(jnp.maximum(frozen, last), 1.0)
