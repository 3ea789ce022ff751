"""PyTorch's rule of the plateau, which transformers and timm use too."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxsched._arrays import is_concrete, to_host
from jaxsched._checks import checked_number
from jaxsched.compat._pieces import larger
from jaxsched.compat._signature import chosen
from jaxsched.controllers import Plateau

_LEAST = 2.0**-100  # in place of a factor of 0


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
    factor = larger(factor, _LEAST)
    least = _least_scale(base_lr, factor, min_lr, eps)
    return Plateau(
        base_lr,
        factor,
        patience,
        rtol,
        atol,
        cooldown,
        least,
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
    known = all(map(is_concrete, (base, factor, min_lr, eps)))
    xp: Any = np if known else jnp
    numbers = (base, factor, min_lr, eps)
    base, factor, min_lr, eps = map(np.float64, map(to_host, numbers)) if known else numbers

    def cut(times: Any) -> Any:
        """The scale after so many cuts; after infinitely many it is 0, also to a gradient."""
        some = xp.isfinite(times)
        return xp.where(some, factor ** xp.where(some, xp.maximum(times, 0.0), 1.0), 0.0)

    with np.errstate(divide="ignore"):
        rate = xp.log(factor)
        frozen = cut(xp.ceil(xp.log(eps / (base * (1 - factor))) / rate))
        low = min_lr / base
        before = cut(xp.floor(xp.log(low) / rate))
    last = xp.where(base * (before - low) > eps, low, before)
    least = xp.minimum(xp.maximum(frozen, last), 1.0)
    return float(least) if known else least
