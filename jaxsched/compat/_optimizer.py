"""What a drop-in has where its peer has the optimizer: the optimizer's rate. It loads no JAX."""

from __future__ import annotations

import numbers
from collections.abc import Mapping, Sequence
from typing import Any

from jaxsched import _words

OF_OPTIMIZER = {"torch": "base_lr", "timm": "base_lr", "keras": "base_lr", "transformers": "lr"}


def bind(
    function: str,
    names: Sequence[str],
    defaults: Mapping[str, Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> dict[str, Any]:
    """As of any function, but for a length that stands in the place of the optimizer."""
    rate = OF_OPTIMIZER.get(function.partition(".")[0], "")
    given = dict(zip(names, args, strict=False)).get(rate)
    if isinstance(given, numbers.Integral) and int(given) > 1:
        # The optimizer was left out, and what followed it stands in its place.
        raise ValueError(
            f"{function}({rate}=...) must be the rate of the optimizer, which stands in its place, "
            f"got {given}, as of a length: if it is the rate, write {rate}={given}."
        )
    return _words.bind(function, names, defaults, args, kwargs, {rate: "the rate of the optimizer"})
