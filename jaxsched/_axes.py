"""Populations: schedules of numbers with the members' axes in front, the same in all of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from jaxsched._arrays import INT32_MAX, has_float64, is_concrete, is_number, to_host
from jaxsched._struct import Record
from jaxsched._types import Leaf

R = TypeVar("R", bound=Record)


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
    # Numbers without members' axes fit to any; two different shapes are two populations. The
    # members' axes stand in front of each number's own: knots [3] of 8 members have shape [8, 3].
    shapes = sorted(axes(record) - {()})
    if len(shapes) > 1:
        raise ValueError(
            f"{type(record).__name__}(...) must be made of populations of one size, got numbers "
            f"with the axes {' and '.join(map(str, shapes))}."
        )
    if shapes:  # in place: the constructor calls this, and no other code has the object yet
        record.__dict__.update(vars(_spread(record, shapes[0], has_float64(leaves))))


def numbers_of(record: Record, path: str = "") -> Iterator[tuple[str, Leaf, int]]:
    """Every number in a schedule: where, itself, and its rank without members' axes.

    The rank is 0 for a field that is a number, 1 for an array. So values of shape [3] of a
    ``Table`` are one table of three values, and values of shape [8, 3] a population of 8. Only the
    class with the field knows the rank: the walk stops at each inner record and asks its class.
    """
    inner = lambda x: isinstance(x, Record) and x is not record
    for keys, x in jax.tree_util.tree_flatten_with_path(record, is_leaf=inner)[0]:
        place = path + jax.tree_util.keystr(keys)
        if inner(x):
            yield from numbers_of(x, place)
        elif is_number(x):
            yield place, x, record.ranks.get(keys[0].name, 0)


def axes(record: Record) -> set[tuple[int, ...]]:
    """The members' axes of all numbers."""
    return {np.shape(x)[: np.ndim(x) - rank] for _, x, rank in numbers_of(record)}


def size(record: Record) -> int | None:
    """How many members a population has; ``None``: it is single."""
    sizes = {front[0] for front in axes(record) if front}
    if len(sizes) > 1:
        raise ValueError(f"a population must have one number of members, got {sorted(sizes)}.")
    return sizes.pop() if sizes else None


def split(record: R) -> list[R]:
    """The members of a population with known numbers."""
    count = size(record)
    if count is None:
        return [record]
    if not all(map(is_concrete, jax.tree.leaves(record))):
        raise TypeError(
            f"a population that is taken apart must have known numbers, got {record!r}: in a "
            "traced function, map over it by `jax.vmap`."
        )
    host = jax.tree.map(lambda x: np.asarray(to_host(x)), record)
    return [jax.tree.map(lambda x, i=i: x[i], host) for i in range(count)]


def _spread(record: Record, front: tuple[int, ...], wide: bool) -> Record:
    """The same population, with numbers without members' axes repeated for each member.

    A Python number becomes an array, which has a dtype: float32 or, with ``wide``, float64.
    """
    inner = lambda x: isinstance(x, Record) and x is not record

    def spread(keys: Any, x: Leaf) -> Leaf:
        if inner(x):
            return _spread(x, front, wide)
        if not is_number(x) or np.ndim(x) > record.ranks.get(keys[0].name, 0):
            return x  # it has the members' axes already, in front of its own (knots have one)
        if isinstance(x, jax.Array):
            return jnp.broadcast_to(x, front + x.shape)
        if isinstance(x, (int, float)) and not isinstance(x, np.generic):
            x = np.asarray(x, _kind(x, wide))
        return np.broadcast_to(x, front + np.shape(x))

    return jax.tree_util.tree_map_with_path(spread, record, is_leaf=inner)


def _kind(value: float, wide: bool) -> type[np.number]:
    if isinstance(value, int):
        return np.int32 if abs(value) <= INT32_MAX else np.int64
    return np.float64 if wide else np.float32
