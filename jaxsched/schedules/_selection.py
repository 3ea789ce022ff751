"""Long sequences: the current part is selected first, with one evaluation for all of its kind.

Evaluated one by one, n parts make a program of n formulas. In each formula XLA repeats the sum of
all earlier lengths: the time to compile grows with n squared. So this module selects first. The
starts of all parts are one array of sums, and the step is looked up in it. Ten cosines become one
evaluation with the numbers of the current cosine. Parts are alike if their pytrees have the same
structure: ``Cosine(1.0, 0.1, 50)`` and ``Cosine(0.5, 0.0, 80)`` differ only in three numbers.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxsched import _number as num
from jaxsched._arrays import is_concrete
from jaxsched._number import Number, Value
from jaxsched._struct import Record
from jaxsched._types import Leaf


def can_select(t: Number) -> bool:
    """In a program, unless the steps are spread over a mesh: a look-up would have to say how."""
    time = num.to_value(t)
    return isinstance(time, jax.Array) and num.explicit_sharding(time) is None


def selected(t: Number, parts: Sequence[Any]) -> Value:
    """The value of a sequence of ``parts`` at the traced ``t >= 0``."""
    shape = np.shape(num.to_value(t))
    if not shape:
        return _at(t, parts)
    # `vmap` over the steps: every part sees numbers without axes, as for one step.
    return jax.vmap(lambda t: _at(t, parts))(jax.tree.map(jnp.ravel, t)).reshape(shape)


def _at(t: Number, parts: Sequence[Any]) -> Value:
    """The value of the part at step ``t``; alike parts are one computation."""
    groups = _alike(parts)
    lengths = num.at_least_zero(_lengths(t, parts[:-1], groups))
    starts = num.running_sum(num.concatenated(t, [np.zeros(1), lengths]))
    # Parts of length 0 begin where the next one does: the last of them counts, as with `where`.
    index = jnp.sum(num.nudge(t) >= starts, dtype=jnp.int32) - 1
    local = t - num.take_number(t, starts, index)
    value: Any = None
    for members in groups:
        # The other parts are evaluated at their start, where nothing overflows.
        due = num.take(np.isin(np.arange(len(parts)), members), index)
        merged = _merged(t, [parts[i] for i in members], index, members)
        mine = merged.value_at(num.where(due, local, 0.0))
        value = mine if value is None else num.where(due, *num.alike(mine, value))
    return value


def _alike(parts: Sequence[Any]) -> list[list[int]]:
    """The places of the parts, in groups that differ in their numbers only.

    A part with a user's code is alone, since the code may branch in Python on a known number. So is
    a part with arrays, such as a table, since the shapes would have to agree.
    """
    groups: dict[Any, list[int]] = {}
    for place, part in enumerate(parts):
        # The key of a part alone is its own place.
        numbers, form = _flat(part)
        alone = _has_code(part) or any(np.ndim(num.to_value(x)) for x in numbers)
        groups.setdefault(place if alone else form, []).append(place)
    return list(groups.values())


def _flat(part: Any) -> tuple[list[Any], Any]:
    """A part's numbers and its form.

    In a sequence within a sequence, the numbers from ``_merged`` have two words. JAX would take
    them apart, and each word would become a number of two words again.
    """
    return jax.tree.flatten(part, is_leaf=lambda x: isinstance(x, num.Double))


def _has_code(x: object) -> bool:
    """Whether ``x`` contains a class from outside of this package, or a function."""
    if isinstance(x, Record):
        ours = type(x).__module__.startswith("jaxsched.") and not hasattr(x, "fn")
        return not ours or any(map(_has_code, vars(x).values()))
    return isinstance(x, tuple) and any(map(_has_code, x))


def _lengths(t: Number, parts: Sequence[Any], groups: list[list[int]]) -> Number:
    """The lengths of ``parts``, in their order; alike parts are computed at once."""
    places: list[int] = []
    stacks: list[Number] = []
    for group in groups:
        members = [i for i in group if i < len(parts)]
        places += members
        leaves = [_flat(parts[i])[0] for i in members]
        if len(members) < 2 or all(map(is_concrete, itertools.chain(*leaves))):
            stacks += [num.stacked(t, [parts[i].exact_length(t)]) for i in members]
            continue
        columns = (num.stacked(t, column) for column in zip(*leaves, strict=True))
        tree = _flat(parts[members[0]])[1]
        one = lambda *numbers, tree=tree: jax.tree.unflatten(tree, numbers).exact_length(t)
        stacks.append(jax.vmap(one)(*(num.in_program(t, column) for column in columns)))
    lengths: Any = num.concatenated(t, stacks)
    return lengths if places == sorted(places) else lengths[np.argsort(places)]


def _merged(t: Number, members: list[Any], index: Value, places: list[int]) -> Any:
    """One part of its kind with the numbers of the current member.

    If the parts are at ``places`` [1, 4, 6], the part at 4 is member 1. The table ``among``,
    [0, 0, 0, 0, 1, 0, 2], translates ``index`` to members.
    """
    if len(members) == 1:
        return members[0]
    # For a part of another kind any member will do: its value is not selected.
    among = np.zeros(places[-1] + 1, np.int32)
    among[places] = range(len(places))
    at = num.take(among, num.minimum(index, np.int32(places[-1])))
    columns = zip(*(_flat(member)[0] for member in members), strict=True)
    form = _flat(members[0])[1]
    return jax.tree.unflatten(form, [_picked(t, column, at) for column in columns])


def _picked(t: Number, column: tuple[Leaf, ...], at: Value) -> Leaf:
    first = column[0]
    if all(x is first or (type(x) is type(first) is float and x == first) for x in column):
        return first  # known, it costs the program nothing
    return num.take_number(t, num.stacked(t, column), at)
