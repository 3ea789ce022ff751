"""The optimizer's rate, a drop-in's argument in the place of the optimizer. It loads no JAX."""

from __future__ import annotations

import numbers
from collections.abc import Sequence
from typing import Any

OF_OPTIMIZER = {"torch": "base_lr", "timm": "base_lr", "keras": "base_lr", "transformers": "lr"}


def optimizers_place(function: str, names: Sequence[str], args: Sequence[Any]) -> dict[str, str]:
    """The name and meaning of this argument; raises for a length in the place of the rate."""
    rate = OF_OPTIMIZER.get(function.partition(".")[0], "")
    if function == "torch.CyclicLR":  # an argument of the peer's own
        return {rate: "the least rate, whatever the optimizer has"}
    given = dict(zip(names, args, strict=False)).get(rate)
    if isinstance(given, numbers.Integral) and int(given) > 1:
        raise ValueError(
            f"{function}({rate}=...) must be the rate of the optimizer, which stands in its place, "
            f"got {given}, as of a length: if it is the rate, write {rate}={given}."
        )
    return {rate: "the rate of the optimizer"}
