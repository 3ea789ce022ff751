"""Populations: schedules whose numbers have the members' axes in front, all of them the same."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxsched._arrays import INT32_MAX, has_float64, is_number, to_host
from jaxsched._struct import Record


def align(record: Record) -> None:
    """Gives every number of ``record`` the members' axes, if some have them.

    ``js.Cosine(peaks, 0.0, 100)`` has one peak for each member and one length for all: only when
    the length is an array as well can JAX map over the whole.

    Raises:
        ValueError: if two numbers have different axes.
    """
    leaves = jax.tree.leaves(record)
    if not any(map(np.ndim, leaves)):
        return
    found = sorted(axes(record) - {()})
    if len(found) > 1:
        raise ValueError(
            f"{type(record).__name__}(...) must be made of populations of one size, got numbers "
            f"with the axes {' and '.join(map(str, found))}."
        )
    if found:
        record.__dict__.update(vars(_spread(record, 0, found[0], has_float64(leaves))))


def numbers_of(value: Any, rank: int = 0, path: str = "") -> Iterator[tuple[str, Any, int]]:
    """Every number in a schedule or a field: where, itself, and its rank without members' axes.

    The rank is 0 for a field that is a number, 1 for one that is an array.
    """
    if isinstance(value, Record):
        parts = [(f".{name}", part, value.ranks.get(name, 0)) for name, part in vars(value).items()]
    elif isinstance(value, dict):  # the parameters of a function
        parts = [(f"[{name!r}]", part, 0) for name, part in value.items()]
    elif isinstance(value, tuple):
        parts = [(f"[{i}]", part, 0) for i, part in enumerate(value)]
    else:
        if is_number(value):
            yield path, value, rank
        return
    for place, part, own in parts:
        yield from numbers_of(part, own, path + place)


def axes(value: Any) -> set[tuple[int, ...]]:
    """The members' axes of all numbers."""
    return {np.shape(x)[: np.ndim(x) - rank] for _, x, rank in numbers_of(value)}


def size(record: Record) -> int | None:
    """How many members a population has; ``None``: it is single."""
    sizes = {front[0] for front in axes(record) if front}
    if len(sizes) > 1:
        raise ValueError(f"a population must have one number of members, got {sorted(sizes)}.")
    return sizes.pop() if sizes else None


def split(record: Any) -> list[Any]:
    """The members of a population, whose numbers are known."""
    count = size(record)
    if count is None:
        return [record]
    host = jax.tree.map(lambda x: np.asarray(to_host(x)), record)
    return [jax.tree.map(lambda x, i=i: x[i], host) for i in range(count)]


def _spread(value: Any, rank: int, front: tuple[int, ...], wide: bool) -> Any:
    """The same with every number that has no members' axes repeated for each member."""
    if isinstance(value, Record):
        same = object.__new__(type(value))
        for name, inner in vars(value).items():
            same.__dict__[name] = _spread(inner, value.ranks.get(name, 0), front, wide)
        return same
    if isinstance(value, tuple):
        return tuple(_spread(part, 0, front, wide) for part in value)
    if isinstance(value, dict):
        return {name: _spread(part, 0, front, wide) for name, part in value.items()}
    if not is_number(value) or np.ndim(value) > rank:
        return value
    if isinstance(value, jax.Array):
        return jnp.broadcast_to(value, front + value.shape)
    if isinstance(value, (int, float)) and not isinstance(value, np.generic):
        value = np.asarray(value, _kind(value, wide))
    return np.broadcast_to(value, front + np.shape(value))


def _kind(value: float, wide: bool) -> Any:
    if isinstance(value, int):
        return np.int32 if abs(value) <= INT32_MAX else np.int64
    return np.float64 if wide else np.float32
