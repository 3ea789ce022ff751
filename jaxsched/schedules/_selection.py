"""Long sequences: the current part is selected first, with one evaluation for all of its kind.

Evaluated one by one, n parts make a program of n formulas, in each of which XLA repeats the sum of
all earlier lengths: the time to compile grows with n squared.
"""

from __future__ import annotations

import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxsched import _number as num
from jaxsched._arrays import is_concrete
from jaxsched._number import Number, Value
from jaxsched._struct import Record


def can_select(t: Number) -> bool:
    """In a program, unless the steps are spread over a mesh: a look-up would have to say how."""
    time = num.to_arrays(t)[0]
    return isinstance(time, jax.Array) and num.explicit_sharding(time) is None


def selected(t: Number, parts: tuple[Any, ...]) -> Value:
    """The value of a sequence of ``parts`` at the traced ``t >= 0``."""
    words = num.to_arrays(t)
    shape = words[0].shape
    if not shape:
        return _at(t, parts)
    # Mapped over the steps, so that every part sees numbers without axes, as for one step.
    one = lambda words: _at(num.from_arrays(words), parts)
    return jax.vmap(one)(tuple(map(jnp.ravel, words))).reshape(shape)


def _at(t: Number, parts: tuple[Any, ...]) -> Value:
    groups = _alike(parts)
    lengths = _lengths(t, parts, groups)
    starts = num.running_sum(t, [0.0, *map(num.at_least_zero, lengths[:-1])])
    index = jnp.sum(num.nudge(t) >= starts, dtype=jnp.int32) - 1
    local = t - num.take_number(t, starts, index)
    value = None
    for members in groups:
        # Parts that are not current are evaluated at their start, where nothing overflows.
        due = num.take(np.isin(np.arange(len(parts)), members), index)
        here = _merged(t, [parts[i] for i in members], index, members)
        mine = here.value_at(num.where(due, local, 0.0))
        value = mine if value is None else num.where(due, *num.alike(mine, value))
    return value


def _alike(parts: tuple[Any, ...]) -> list[list[int]]:
    """The places of parts that differ in their numbers only."""
    groups: dict[Any, list[int]] = {}
    for place, part in enumerate(parts):
        alone = _has_code(part) or any(map(np.ndim, jax.tree.leaves(part)))
        groups.setdefault(place if alone else jax.tree.structure(part), []).append(place)
    return list(groups.values())


def _has_code(x: Any) -> bool:
    """Whether a class that is not of this package, or a function, is part of ``x``."""
    if isinstance(x, Record):
        ours = type(x).__module__.startswith("jaxsched.") and not hasattr(x, "fn")
        return not ours or any(map(_has_code, vars(x).values()))
    return isinstance(x, tuple) and any(map(_has_code, x))


def _lengths(t: Number, parts: tuple[Any, ...], groups: list[list[int]]) -> list[Any]:
    """The length of each part; of parts around others, where it is computed, at once for a kind."""
    is_nested = lambda part: any(
        isinstance(field, (Record, tuple)) for field in vars(part).values()
    )
    lengths = [None if is_nested(part) else part.exact_length(t) for part in parts]
    for members in groups:
        if lengths[members[0]] is not None:
            continue
        leaves = [jax.tree.leaves(parts[i]) for i in members]
        if len(members) == 1 or all(map(is_concrete, itertools.chain(*leaves))):
            for i in members:
                lengths[i] = parts[i].exact_length(t)
            continue
        columns = [num.stacked(t, column) for column in zip(*leaves, strict=True)]
        tree = jax.tree.structure(parts[members[0]])
        # Mapped over an index, since a Double is not a pytree.
        one = lambda i, tree=tree, columns=columns: num.to_arrays(
            jax.tree.unflatten(tree, [num.take_number(t, xs, i) for xs in columns]).exact_length(t)
        )
        found = num.from_arrays(jax.vmap(one)(np.arange(len(members), dtype=np.int32)))
        for place, i in enumerate(members):
            lengths[i] = found[place]
    return lengths


def _merged(t: Number, members: list[Any], index: Any, places: list[int]) -> Any:
    """One of its kind with the numbers of the member that is due."""
    if len(members) == 1:
        return members[0]
    among = np.zeros(places[-1] + 1, np.int32)
    among[places] = range(len(places))
    at = num.take(among, num.minimum(index, np.int32(places[-1])))
    columns = zip(*map(jax.tree.leaves, members), strict=True)
    return jax.tree.unflatten(
        jax.tree.structure(members[0]), [_picked(t, column, at) for column in columns]
    )


def _picked(t: Number, column: tuple[Any, ...], at: Any) -> Any:
    first = column[0]
    if all(x is first or (type(x) is type(first) is float and x == first) for x in column):
        return first
    return num.take_number(t, num.stacked(t, column), at)
