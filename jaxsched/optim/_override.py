"""``override`` changes the hyperparameters of an optimizer state from the next update on."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import KeyPath

from jaxsched._arrays import INT32_MAX, is_concrete, same_structure, to_source
from jaxsched._bounds import check_text, checked_kind
from jaxsched._checks import checked_number, violates
from jaxsched._text import describe
from jaxsched._types import Leaf, OptState, PyTree
from jaxsched._words import known_arguments
from jaxsched.controllers._base import AbstractController
from jaxsched.optim._current import HELP, current
from jaxsched.optim._groups import readable
from jaxsched.optim._state import (
    InjectState,
    Override,
    Site,
    find_sites,
    map_sites,
    plain_arrays,
    shortest,
    upcoming_value,
    write_back,
)
from jaxsched.schedules._base import AbstractSchedule


@known_arguments
def override(
    opt_state: OptState,
    *,
    group: str | None = None,
    scale: Mapping[str, Any] | None = None,
    **values: Any,
) -> OptState:
    """Changes hyperparameters from the next update on, without a new trace.

    Args:
        opt_state: as for ``current``. An ``nnx.Optimizer`` is changed in place and returned.
        group: where several groups have the name: the part before ``/name`` in ``current`` (or
            the place in a chain, such as ``"1"``), or ``"*"`` for all of them. Where no group
            has the name itself, it names a stack, with all its layers: ``layers`` means
            ``layers/0`` and ``layers/1_2``, but not ``layers/norm``.
        scale: name -> factor in front of the schedule, or of the held number. It takes the place of
            the one before: 0.5 twice is a half, not a quarter. ``values`` make it 1 again.
        values: name -> a number, held until further notice; a schedule or controller of the same
            structure, which takes the old one's place (a controller keeps its memory); or
            ``None``, which gives control back to the schedule.
            ``multiplier=`` is the multiplier of a group of ``group_lr``. Under ``vmap``, an array
            with one number per member is allowed. Arrays are copied.

    Returns:
        A state of the same structure, shapes and dtypes.

    Raises:
        ValueError: if a name is unknown or ambiguous, a learning rate negative, a schedule has
            another structure (see ``resume``) or a real number where it has a whole one, or Optax
            would ignore the change (a value that its own ``inject_hyperparams`` schedules).

    >>> import jax.numpy as jnp, optax, jaxsched as js
    >>> from jaxsched.optim import current, inject, override
    >>> state = inject(optax.sgd)(learning_rate=js.Constant(0.5)).init(jnp.ones(2))
    >>> float(current(override(state, learning_rate=0.25))["learning_rate"])
    0.25
    """
    expected = "a mapping such as {'learning_rate': 0.5}"
    checked_kind("override(scale=...)", scale, (Mapping, type(None)), expected)
    if group is not None:
        check_text("override(group=...)", group)
    changes = [(name, value, False) for name, value in values.items()]
    changes += [(name, value, True) for name, value in (scale or {}).items()]
    if not changes:
        raise ValueError("override(...) must be given something to change, got nothing.")
    arrays = plain_arrays(opt_state)
    for name, value, is_scale in changes:
        arrays = _changed(arrays, group, name, value, is_scale)
    return write_back(opt_state, arrays)


def _changed(tree: PyTree, group: str | None, name: str, value: PyTree, is_scale: bool) -> PyTree:
    """The state with one change, made at each place that ``group`` and ``name`` mean."""
    sites = find_sites(tree)
    if not sites:
        raise ValueError(f"override(opt_state) {HELP}")
    matches = {
        (site.prefix, key): how
        for site in sites
        for key in _held_values(site.state)
        if (how := _match_rank(site, key, group, name, is_scale))
    }
    # A group's own name counts more than the name of a stack of layers: with groups "layers" and
    # "layers/0" a change of "layers" affects the first alone.
    targets = [place for place, how in matches.items() if how == max(matches.values())]
    several = group == "*" or all("/" in key for _, key in targets)  # the layers of a stack
    if not targets or (len(targets) > 1 and not several):
        raise ValueError(_misnamed_text(tree, sites, group, name, is_scale, bool(targets)))

    def change(site: Site) -> PyTree:
        state = site.state
        turn = _set_in_ours if isinstance(state, InjectState) else _set_in_optax
        for prefix, key in targets:
            if site.prefix == prefix and key in _held_values(state):
                state = turn(state, key, value, is_scale)
        return state

    return map_sites(change, tree)


def _misnamed_text(
    tree: PyTree, sites: list[Site], group: str | None, name: str, is_scale: bool, ambiguous: bool
) -> str:
    """The message for a name that means no place, or several groups."""
    bases, groups = {}, []  # of the groups of group_lr; all groups
    for site in sites:
        for key in _held_values(site.state):
            part, _, base = key.rpartition("/")
            groups.append(site.group_of(key))
            if part:
                bases[groups[-1]] = base
    groups = [g for g in dict.fromkeys(groups) if g]
    where = _argument_text(name, is_scale)
    if ambiguous:
        return f"{where} is ambiguous; give group=, '*' for all or one of {groups}."
    if group is None and name == "multiplier" and bases:
        return f"{where} must be given group=, '*' for all or one of {list(bases)}."
    meant = group if group is None or group in groups else readable(group)
    if group not in (None, "*") and meant not in groups:
        among = f"'*' or one of {groups}" if groups else "left out, as there are no groups"
        return f"override(group=...) must be {among}, got {group!r}."
    if bases.get(str(meant)) == name and not is_scale:
        return (
            f"{where} must be given without group=, got {group!r}: there is one {name} for all "
            f"groups of group_lr. Give group={group!r}, multiplier=... to change that group alone."
        )
    place = "" if group is None else f" in group {group!r}"
    return (
        f"{where} must name a hyperparameter that is injected, got {name!r}{place}; there are "
        f"{list(current(tree))}."
    )


def _argument_text(name: str, is_scale: bool) -> str:
    return f"override(scale={{{name!r}: ...}})" if is_scale else f"override({name}=...)"


def _held_values(state: Any) -> dict[str, jax.Array]:
    return state.values if isinstance(state, InjectState) else state.hyperparams


def _match_rank(site: Site, key: str, group: str | None, name: str, is_scale: bool) -> int:
    """2: ``group`` and ``name`` mean this one; 1: a layer of the stack of that name; 0: neither."""
    part, _, base = key.rpartition("/")
    if not part:
        return 2 * (name == key and site.is_in(group))
    # A multiplier of `group_lr`. All groups have one rate, which "*" scales once, at its root.
    if group is None or name != ("multiplier" if not is_scale or group == "*" else base):
        return 0
    own, groups = site.qualified(part), (group, readable(group))
    if group == "*" or own in groups:
        return 2
    stack, _, layer = own.rpartition("/")
    return int(stack in groups and bool(re.fullmatch(r"\d[\d_-]*", layer)))  # 0, 0_1 or 0-5


def _set_in_ours(state: InjectState, name: str, value: PyTree, is_scale: bool) -> InjectState:
    """Gives one hyperparameter a factor, a fixed value, its schedule back, or another one."""
    # A knob is scale * (fixed if is_fixed else schedule). A new factor keeps the other operand, the
    # schedule or a held number. A new value or schedule begins with a factor of 1.
    knob, schedules = state.knobs[name], state.schedules
    if is_scale:
        knob = knob._replace(scale=_number_like(knob.scale, value, name, is_scale=True))
    elif value is None or isinstance(value, (AbstractSchedule, AbstractController)):
        knob = Override(jnp.ones_like(knob.scale), knob.fixed, jnp.zeros_like(knob.is_fixed))
        if value is not None:
            schedules = {**schedules, name: _in_old_arrays(state, name, value)}
    else:
        fixed = _number_like(knob.fixed, value, name)
        knob = Override(jnp.ones_like(knob.scale), fixed, jnp.ones_like(knob.is_fixed))
    state = state._replace(schedules=schedules, knobs={**state.knobs, name: knob})
    return state._replace(values={**state.values, name: _shown_value(state, name)})


def _shown_value(state: InjectState, name: str) -> jax.Array:
    """The value for ``current`` to show: before the first update, the value of that update."""
    if name not in state.schedules:  # an opaque controller's value, which `current` overrides
        return state.values[name]
    return jnp.where(state.count == 0, upcoming_value(state, name), state.values[name])


def _in_old_arrays(state: InjectState, name: str, schedule: PyTree) -> PyTree:
    """A new schedule as the old one's arrays; raises if it is of another structure."""
    old = state.schedules.get(name)
    where = f"override({name}=...)"
    if not same_structure(old, schedule):
        raise ValueError(
            f"{where} must have the structure of the present schedule {shortest(old)!r}, got "
            f"{describe(schedule)}. Continue with another kind of schedule by `resume(..., "
            "policy='new')`."
        )
    return jax.tree_util.tree_map_with_path(
        lambda path, o, n: _leaf_like(where, path, state.count.ndim, o, n), old, schedule
    )


def _leaf_like(where: str, path: KeyPath[Any], axes: int, old: jax.Array, new: Leaf) -> jax.Array:
    """A number of a new schedule in the old one's dtype and shape: then nothing retraces."""
    field = jax.tree_util.keystr(path).lstrip(".")
    # In a population the old number has the members' axes in front; a new one without them is for
    # all members.
    if jnp.shape(new) not in (old.shape, old.shape[axes:]):
        raise ValueError(
            f"{where} must have a number of shape {old.shape} in {field}, got {jnp.shape(new)}."
        )
    # 290.5 steps would be cut to 290 in silence, since the dtype of the state stays.
    if jnp.issubdtype(old.dtype, jnp.integer) and not _is_whole(new):
        raise ValueError(
            f"{where} must have a whole number in {field}, where the schedule in the state has "
            f"{old.dtype}, got {to_source(new)}. Continue with a real one by `resume(..., "
            "policy='new')`."
        )
    return jnp.broadcast_to(jnp.array(new, old.dtype, copy=True), old.shape)


def _is_whole(x: Leaf) -> bool:
    if jnp.issubdtype(jnp.result_type(x), jnp.integer):
        return True
    return is_concrete(x) and not violates(
        lambda x: (x != np.floor(x)) | (np.abs(x) > INT32_MAX), x
    )


def _number_like(old: jax.Array, value: Leaf, name: str, is_scale: bool = False) -> jax.Array:
    """A number, or one for each member, in an array like the old one, so that nothing retraces."""
    where = _argument_text(name, is_scale)
    is_rate = name.rpartition("/")[2] in ("learning_rate", "lr")
    value = checked_number(where, value, at_least=0 if is_rate else None)
    if jnp.shape(value) not in ((), old.shape):
        raise ValueError(
            f"{where} must be a number or an array of shape {old.shape}, got {value!r}."
        )
    return jnp.broadcast_to(jnp.array(value, old.dtype, copy=True), old.shape)


def _set_in_optax(state: Any, name: str, value: PyTree, is_scale: bool) -> Any:
    """Changes a fixed value of Optax's own state; it has no place for anything else."""
    if name in getattr(state, "hyperparams_states", {}):
        raise ValueError(
            f"override({name}=...): optax.inject_hyperparams ignores changes to a scheduled value. "
            f"Build the optimizer by js.inject(...)({name}=schedule) instead."
        )
    if is_scale or value is None or callable(value):
        got = "a factor" if is_scale else describe(value)
        raise ValueError(
            f"override({name}=...) must be a number in a state of optax.inject_hyperparams, got "
            f"{got}. For factors and schedules build the optimizer by `js.inject`."
        )
    hyperparams = {**state.hyperparams, name: _number_like(state.hyperparams[name], value, name)}
    return state._replace(hyperparams=hyperparams)
