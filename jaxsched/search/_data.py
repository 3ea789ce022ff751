"""The data of a ``Supervised`` task."""

from __future__ import annotations

from typing import Any

Arrays = tuple[Any, Any]  # inputs [samples, ...], targets [samples, ...]


def samples_of(name: str, arrays: Any) -> int:
    if not isinstance(arrays, (tuple, list)) or len(arrays) != 2:
        raise TypeError(
            f"`Supervised({name}=...)` must be a pair (inputs, targets), "
            f"got {type(arrays).__name__}."
        )
    lengths = [len(a) for a in arrays]
    if lengths[0] != lengths[1] or lengths[0] == 0:
        raise ValueError(
            f"`Supervised({name}=...)` must have as many targets as inputs, and some, got "
            f"{lengths[0]} inputs and {lengths[1]} targets."
        )
    return lengths[0]
