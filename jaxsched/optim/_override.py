"""``current`` reads the hyperparameters of an optimizer state, ``override`` changes them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from jaxsched._struct import checked_number, own
from jaxsched.optim._state import (
    InjectState,
    Site,
    find_sites,
    hyperparameters,
    map_sites,
    plain_arrays,
    write_back,
)
from jaxsched.schedules._base import AbstractSchedule

_HELP = (
    "found no injected hyperparameters. A rate inside optax.adam(schedule) can't be read or set; "
    "build the optimizer as js.inject(optax.adam)(learning_rate=schedule)."
)


def current(opt_state: Any) -> dict[str, Any]:
    """Every scheduled hyperparameter as it was applied in the last update.

    Args:
        opt_state: an optimizer state, or anything that holds one: the state of a chain, partition,
            MultiSteps or apply_if_finite, a Linen ``TrainState``, an ``nnx.Optimizer``.

    Returns:
        Name -> float32 scalar (with the members' axes in front under ``vmap``). Names under a label
        of ``optax.partition`` are ``"label/learning_rate"``. Before the first update: the value
        that the first update will use. From Optax's own ``inject_hyperparams``: what is scheduled,
        or all that is injected if nothing is. Free inside ``jit`` and ``scan``: nothing is
        evaluated. A skipped update leaves the values of the last applied one.

    Raises:
        ValueError: if nothing was injected.

    >>> import jax.numpy as jnp, optax, jaxsched as js
    >>> from jaxsched.optim import current, inject
    >>> state = inject(optax.sgd)(learning_rate=js.Constant(0.5)).init(jnp.ones(2))
    >>> {name: float(value) for name, value in current(state).items()}
    {'learning_rate': 0.5}
    """
    sites = find_sites(plain_arrays(opt_state))
    if not sites:
        raise ValueError(f"current(opt_state) {_HELP}")
    found = {}
    for site in sites:
        values = hyperparameters(site.state)
        for name, value in values.items():
            base = name.rpartition("/")[2]  # a group's multiplier is named "<pattern>/<rate>"
            found[site.qualified(name)] = value if base == name else value * values[base]
    return found


def override(
    opt_state: Any,
    *,
    group: str | None = None,
    scale: Mapping[str, Any] | None = None,
    **values: Any,
) -> Any:
    """Changes hyperparameters from the next update on, without a new trace.

    Args:
        opt_state: as for ``current``. An ``nnx.Optimizer`` is changed in place and returned.
        group: where several groups have the name: the part before ``/name`` in ``current``.
        scale: name -> factor in front of the schedule (set, not accumulated).
        values: name -> a number, held until further notice; a schedule of the same structure, which
            takes the old one's place; or ``None``, which gives control back to the schedule.
            ``multiplier=`` is the multiplier of a group of ``group_lr``. Under ``vmap``, an array
            with one number per member is allowed.

    Returns:
        A state of the same structure, shapes and dtypes.

    Raises:
        ValueError: if a name is unknown or ambiguous, a schedule has another structure (see
            ``resume``), or Optax would ignore the change (a value that its own
            ``inject_hyperparams`` schedules).

    >>> import jax.numpy as jnp, optax, jaxsched as js
    >>> from jaxsched.optim import current, inject, override
    >>> state = inject(optax.sgd)(learning_rate=js.Constant(0.5)).init(jnp.ones(2))
    >>> float(current(override(state, learning_rate=0.25))["learning_rate"])
    0.25
    """
    if scale is not None and not isinstance(scale, Mapping):
        raise TypeError(
            "override(scale=...) must be a mapping such as {'learning_rate': 0.5}, got "
            f"{scale!r}."
        )
    changes = [(name, value, False) for name, value in values.items()]
    changes += [(name, value, True) for name, value in (scale or {}).items()]
    if not changes:
        raise ValueError("override(...) must be given something to change, got nothing.")
    arrays = plain_arrays(opt_state)
    for name, value, is_scale in changes:
        arrays = _change(arrays, group, name, value, is_scale)
    return write_back(opt_state, arrays)


def _change(tree: Any, group: str | None, name: str, value: Any, is_scale: bool) -> Any:
    sites = find_sites(tree)
    if not sites:
        raise ValueError(f"override(opt_state) {_HELP}")
    targets = []
    for site in sites:
        held = site.state.values if isinstance(site.state, InjectState) else site.state.hyperparams
        for key in held:
            pattern, _, base = key.rpartition("/")
            where = site.qualified(pattern) if pattern else site.prefix
            accepted = (name == "multiplier" and not is_scale) or (is_scale and name == base)
            if (group in (None, where) if not pattern else group == where) and (
                accepted if pattern else name == key
            ):
                targets.append((site.prefix, key))
    if len(targets) != 1:
        known = list(current(tree))
        problem = "must name one hyperparameter" if not targets else "is ambiguous; give group="
        place = "" if group is None else f" in group {group!r}"
        raise ValueError(f"override({name}=...) {problem}, got {name!r}{place}; there are {known}.")
    prefix, key = targets[0]

    def change(site: Site) -> Any:
        hit = site.prefix == prefix and key in getattr(
            site.state, "values" if isinstance(site.state, InjectState) else "hyperparams"
        )
        if not hit:
            return site.state
        if isinstance(site.state, InjectState):
            return _set(site.state, key, value, is_scale)
        return _set_optax(site.state, key, value, is_scale)

    return map_sites(change, tree)


def _set(state: InjectState, name: str, value: Any, is_scale: bool) -> InjectState:
    knob = state.knobs[name]
    schedules = state.schedules
    if is_scale:
        knob = knob._replace(scale=_like(knob.scale, value, name))
    elif value is None or isinstance(value, AbstractSchedule):
        knob = knob._replace(
            scale=jnp.ones_like(knob.scale), is_fixed=jnp.zeros_like(knob.is_fixed)
        )
        if value is not None:
            new = _same_structure(state, name, value)
            schedules = {**schedules, name: new}
    else:
        knob = knob._replace(
            scale=jnp.ones_like(knob.scale),
            fixed=_like(knob.fixed, value, name),
            is_fixed=jnp.ones_like(knob.is_fixed),
        )
    state = state._replace(schedules=schedules, knobs={**state.knobs, name: knob})
    return state._replace(values={**state.values, name: _shown(state, name)})


def _shown(state: InjectState, name: str) -> jax.Array:
    """What ``current`` is to show: before the first update, what that update will use."""
    if name in state.controller_states:
        return state.values[name]

    def first(count: Any, schedule: Any, knob: Any) -> jax.Array:
        return knob.apply(schedule(count))

    for _ in range(state.count.ndim):  # members of a vmapped population
        first = jax.vmap(first)
    value: jax.Array = first(state.count, state.schedules[name], state.knobs[name])
    shown: jax.Array = jnp.where(state.count == 0, value, state.values[name])
    return shown


def _same_structure(state: InjectState, name: str, schedule: AbstractSchedule) -> Any:
    old, new = state.schedules.get(name), own(schedule)
    present: Any = jax.tree.structure(old)
    where = f"override({name}=...)"
    if present != jax.tree.structure(new):
        raise ValueError(
            f"{where} must have the structure of the present schedule {old!r}, got {schedule!r}. "
            "Continue with another kind of schedule by `resume(..., policy='new')`."
        )
    return jax.tree.map(lambda o, n: _leaf_like(where, state.count.ndim, o, n), old, new)


def _leaf_like(where: str, axes: int, old: jax.Array, new: jax.Array) -> jax.Array:
    if new.shape not in (old.shape, old.shape[axes:]):
        raise ValueError(f"{where} must have numbers of shape {old.shape}, got {new.shape}.")
    if new.dtype != old.dtype and not jnp.issubdtype(old.dtype, jnp.floating):
        raise ValueError(f"{where} must have {old.dtype} where it has {new.dtype} ({new}).")
    return jnp.full_like(old, new)


def _like(old: jax.Array, value: Any, name: str) -> jax.Array:
    value = checked_number(f"override({name}=...)", value)
    if jnp.shape(value) not in ((), old.shape):
        raise ValueError(
            f"override({name}=...) must be a number or an array of shape {old.shape}, got "
            f"{value!r}."
        )
    return jnp.full_like(old, value)


def _set_optax(state: Any, name: str, value: Any, is_scale: bool) -> Any:
    if name in getattr(state, "hyperparams_states", {}):
        raise ValueError(
            f"override({name}=...): optax.inject_hyperparams ignores changes to a scheduled value. "
            f"Build the optimizer by js.inject(...)({name}=schedule) instead."
        )
    if is_scale or value is None or callable(value):
        raise ValueError(
            f"override({name}=...) must be a number in a state of optax.inject_hyperparams, got "
            f"{value!r}."
        )
    hyperparams = {**state.hyperparams, name: _like(state.hyperparams[name], value, name)}
    return state._replace(hyperparams=hyperparams)
