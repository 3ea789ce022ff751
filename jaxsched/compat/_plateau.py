"""PyTorch's rule of the plateau, which transformers and timm use too."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp

from jaxsched._checks import checked_number
from jaxsched.compat._knots import known
from jaxsched.compat._pieces import larger, plain
from jaxsched.compat._signature import chosen
from jaxsched.controllers import Plateau

_CUTS = 10_000  # of known numbers, which are followed one by one
_LEAST = 2.0**-100  # in place of a factor of 0, which has no logarithm


def plateau(
    name: str,
    base_lr: Any,
    mode: Any,
    factor: Any,
    patience: Any,
    threshold: Any,
    threshold_mode: Any,
    cooldown: Any,
    min_lr: Any,
    eps: Any,
) -> Plateau:
    """Its controller; ``name`` is what was called."""
    rtol, atol = margins(name, threshold, threshold_mode)
    chosen(f"{name}(mode=...)", mode, {"min": mode, "max": mode})
    least = _least_scale(base_lr, factor, min_lr, eps)
    return Plateau(
        *(base_lr, factor, patience, rtol, atol, cooldown, least),
        mode=mode,
        rule="torch",
        nan="bad",
    )


def margins(name: str, threshold: Any, mode: Any) -> Any:
    """The relative margin of an improvement, and the absolute one."""
    if mode == "rel":
        checked_number(f"{name}(threshold=...)", threshold, below=1)
    kinds = {"rel": (threshold, 0.0), "abs": (0.0, threshold)}
    return chosen(f"{name}(threshold_mode=...)", mode, kinds)


def _least_scale(base: Any, factor: Any, min_lr: Any, eps: Any) -> Any:
    """The last of the scales 1, factor, factor ** 2, ..., ``min_lr / base``.

    A cut that lowers the rate by ``eps`` or less is not made, nor is any after it.
    """
    numbers = (base, factor, min_lr, eps)
    if known(numbers):  # as PyTorch counts, whose rounding decides whether a cut is ``eps``
        base, factor, min_lr, eps = map(plain, numbers)
        rate = base
        for _ in range(_CUTS):
            lower = max(rate * factor, min_lr)
            if not rate - lower > eps:
                return rate / base
            rate = lower

    def cut(times: Any) -> Any:
        """The scale after so many cuts; after infinitely many it is 0, also to a gradient."""
        some = jnp.isfinite(times)
        return jnp.where(some, factor ** jnp.where(some, jnp.maximum(times, 0.0), 1.0), 0.0)

    factor = larger(factor, _LEAST)
    rate = jnp.log(factor)
    frozen = cut(jnp.ceil(jnp.log(eps / (base * (1 - factor))) / rate))
    low = min_lr / base
    before = cut(jnp.floor(jnp.log(low) / rate))
    last = jnp.where(base * (before - low) > eps, low, before)
    return jnp.minimum(jnp.maximum(frozen, last), 1.0)
