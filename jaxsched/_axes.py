"""Populations: schedules whose numbers have the members' axes in front, all of them the same."""

from __future__ import annotations

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
    found = sorted(axes(record, 0) - {()})
    if len(found) > 1:
        raise ValueError(
            f"{type(record).__name__}(...) must be made of populations of one size, got numbers "
            f"with the axes {' and '.join(map(str, found))}."
        )
    for name, (value, rank) in zip(list(vars(record)), _items(record), strict=True):
        if found:
            record.__dict__[name] = _spread(value, rank, found[0], has_float64(leaves))


def own_rank(schedule: Any, path: Any) -> int:
    """0 for a field that is a number, 1 for one that is an array, anywhere in the tree."""
    node: Any = schedule
    rank = 0
    for key in path:
        if isinstance(key, jax.tree_util.GetAttrKey):
            rank = getattr(type(node), "ranks", {}).get(key.name, 0)
            node = getattr(node, key.name)
        elif isinstance(key, jax.tree_util.SequenceKey):
            node = node[key.idx]
        elif isinstance(key, jax.tree_util.DictKey):
            node = node[key.key]
    return rank if isinstance(node, (np.ndarray, jax.Array, np.generic, int, float)) else 2


def size(record: Record) -> int | None:
    """How many members a population has; ``None``: it is single."""
    leaves = jax.tree_util.tree_flatten_with_path(record)[0]
    sizes = {np.shape(x)[0] for path, x in leaves if np.ndim(x) > own_rank(record, path)}
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


def _items(record: Record) -> list[tuple[Any, int]]:
    return [(value, record.ranks.get(name, 0)) for name, value in vars(record).items()]


def _parts(value: Any) -> list[tuple[Any, int]] | None:
    """What a field is made of, if it is not one number: schedules, or parameters of a function."""
    if isinstance(value, Record):
        return _items(value)
    value = tuple(value.values()) if isinstance(value, dict) else value
    return [(part, 0) for part in value] if isinstance(value, tuple) else None


def axes(value: Any, rank: int = 0) -> set[tuple[int, ...]]:
    """The members' axes of all numbers of a schedule, or of a field."""
    parts = _parts(value)
    if parts is not None:
        return set().union(*(axes(*part) for part in parts))
    shape = np.shape(value) if is_number(value) else ()
    return {shape[: len(shape) - rank]}


def _spread(value: Any, rank: int, front: tuple[int, ...], wide: bool) -> Any:
    """The same with every number that has no members' axes repeated for each member."""
    if isinstance(value, Record):
        same = object.__new__(type(value))
        for (name, inner), (_, own) in zip(vars(value).items(), _items(value), strict=True):
            same.__dict__[name] = _spread(inner, own, front, wide)
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
