"""``current`` reads an optimizer state's rates, ``remembered`` its controllers' memories."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from jaxsched._checks import checked_flag
from jaxsched._types import OptState, PyTree
from jaxsched.optim._state import (
    InjectState,
    Site,
    find_sites,
    hyperparameters,
    path_text,
    plain_arrays,
    upcoming_value,
)

HELP = (
    "found no injected hyperparameters. A rate inside optax.adam(schedule) can't be read or set; "
    "build the optimizer as js.inject(optax.adam)(learning_rate=schedule)."
)


def current(opt_state: OptState, *, upcoming: bool = False) -> dict[str, jax.Array]:
    """Every scheduled hyperparameter as it was applied in the last update.

    Args:
        opt_state: an optimizer state, or anything that holds one: the state of a chain, partition,
            MultiSteps or apply_if_finite, a Linen ``TrainState``, an ``nnx.Optimizer``.
        upcoming: show the values of the next update, if nothing more is reported or changed. They
            differ from the last ones after ``observe`` or ``override``, and where the schedule has
            moved on. So this is for a look once an epoch.

    Returns:
        Name -> scalar in the hyperparameter dtype, float32 (with the members' axes in front under
        ``vmap``). Names under a label of ``optax.partition`` or ``optax.named_chain`` are
        ``"label/learning_rate"``. Before the first update: the value that the first update will
        use. From Optax's own ``inject_hyperparams``: the scheduled values, or all injected ones if
        none is scheduled. Free inside ``jit`` and ``scan``: nothing is evaluated unless
        ``upcoming``. A skipped update leaves the values of the last applied one. The arrays are the
        state's own: read them (``float(...)``) before a step that donates it.

    Raises:
        ValueError: if nothing was injected, or an upcoming value isn't in the state
            (``optax.inject_hyperparams`` keeps its schedules elsewhere).

    >>> import jax.numpy as jnp, optax, jaxsched as js
    >>> from jaxsched.optim import current, inject
    >>> tx = inject(optax.sgd)(learning_rate=js.Linear(1.0, 0.0, 4))
    >>> _, state = tx.update(jnp.ones(2), tx.init(jnp.ones(2)))
    >>> current(state)["learning_rate"].item()
    1.0
    >>> current(state, upcoming=True)["learning_rate"].item()
    0.75
    """
    upcoming = checked_flag("current(upcoming=...)", upcoming)
    sites = find_sites(plain_arrays(opt_state))
    if not sites:
        raise ValueError(f"current(opt_state) {HELP}")
    named = {}
    for site in sites:
        values = _upcoming_values(site) if upcoming else _applied_values(site.state)
        for name, value in sorted(values.items()):
            # A group's multiplier is named "<group>/<rate>"; its rate is shown.
            base = name.rpartition("/")[2]
            named[site.qualified(name)] = value if base == name else value * values[base]
    return named


def _applied_values(state: Any) -> dict[str, jax.Array]:
    """The values as they were applied; before the first update, the values for that update."""
    values = hyperparameters(state)
    if isinstance(state, InjectState):
        # Only the optimizer can ask an opaque controller. Until an update has asked it again, its
        # value from `init` is here, as it was before any override.
        for name in values.keys() - state.schedules.keys():
            applied = state.knobs[name].apply(values[name])
            values[name] = jnp.where(state.count == 0, applied, values[name])
    return values


def _upcoming_values(site: Site) -> dict[str, jax.Array]:
    """Hyperparameter -> its value in the next update."""
    state = site.state
    if isinstance(state, InjectState):
        return {name: upcoming_value(state, name) for name in state.values}
    scheduled = sorted(getattr(state, "hyperparams_states", {}))
    if scheduled:
        raise ValueError(
            f"current(upcoming=True) must find the schedule of {scheduled[0]} in the state, but "
            "optax.inject_hyperparams keeps it in the optimizer; build that by "
            f"js.inject(...)({scheduled[0]}=schedule)."
        )
    return hyperparameters(state)


def remembered(opt_state: OptState) -> dict[str, jax.Array]:
    """The memory of every controller in an optimizer state: its scale, its best, its counts.

    It shows a change by ``observe`` at once; the rate that follows is
    ``current(opt_state, upcoming=True)``.

    Args:
        opt_state: as for ``current``; controllers in Optax's ``inject_hyperparams`` are shown too.

    Returns:
        ``"learning_rate/scale"`` and the like -> scalar, for every field of the controller's state:
        ``step``, ``scale``, ``seen`` and the fields of its class. The names of a controller below
        another are ``"learning_rate/base/scale"``. Names in groups are as in ``current``.

    Raises:
        ValueError: if there is no controller.

    >>> import jax.numpy as jnp, optax, jaxsched as js
    >>> from jaxsched.optim import inject, observe, remembered
    >>> tx = inject(optax.sgd)(learning_rate=js.Plateau(0.5, factor=0.5, patience=0))
    >>> state = tx.init(jnp.ones(2))
    >>> for validation_loss in (2.0, 3.0):
    ...     state = observe(state, value=validation_loss)
    >>> seen = remembered(state)
    >>> float(seen["learning_rate/scale"]), float(seen["learning_rate/best"])
    (0.5, 2.0)
    """
    leaves = {}
    for site in find_sites(plain_arrays(opt_state)):
        for name, state in _controller_states(site.state).items():
            for path, leaf in jax.tree_util.tree_leaves_with_path(state):
                leaves[site.qualified("/".join(filter(None, (name, path_text(path)))))] = leaf
    if not leaves:
        raise ValueError(
            "remembered(opt_state) must hold a controller, found none; build the optimizer as "
            "js.inject(optax.adam)(learning_rate=js.Plateau(...))."
        )
    return leaves


def _controller_states(state: PyTree) -> dict[str, PyTree]:
    if isinstance(state, InjectState):
        return state.controller_states
    states = getattr(state, "hyperparams_states", {})
    # Optax's wrapper of a plain schedule counts, and sees nothing.
    return {name: x for name, x in states.items() if getattr(x, "_fields", ()) != ("count",)}
