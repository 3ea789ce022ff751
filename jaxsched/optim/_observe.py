"""``observe``: reports measurements between updates to the controllers in an optimizer state."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxsched._bounds import check_text
from jaxsched._types import OptState, PyTree
from jaxsched._words import known_arguments
from jaxsched.controllers._base import AbstractController, levels
from jaxsched.controllers._reports import check_report, require_measured
from jaxsched.optim._state import (
    InjectState,
    Site,
    find_sites,
    map_sites,
    per_member,
    plain_arrays,
    write_back,
)


@known_arguments
def observe(opt_state: OptState, *, group: str = "*", **report: PyTree) -> OptState:
    """Reports a metric, such as a validation loss, to every controller; no step is counted.

    For a measurement once in a while; a metric of every update goes to ``tx.update(...,
    value=loss)``. A report acts from the next update on: ``current(..., upcoming=True)`` and
    ``remembered`` show its effect at once.

    Args:
        opt_state: as for ``current``. An ``nnx.Optimizer`` is changed in place and returned.
        group: the part before ``/name`` in ``current`` (or the place in a chain, such as ``"1"``),
            to tell the controllers there only.
        **report: the keywords of the controllers' ``observe``, ``value=`` for most. One number, or
            one for each member of a vmapped population. ``None``: not measured, unlike another.

    Returns:
        A state of the same structure, shapes and dtypes.

    Raises:
        ValueError: if no controller in the state could be told, nothing was measured, or one of the
            measurements acts on none of them. (``tx.update`` can't know a wrong name: a chain hands
            on all extra arguments.)

    >>> import jax.numpy as jnp, optax, jaxsched as js
    >>> from jaxsched.optim import inject, observe
    >>> tx = inject(optax.sgd)(learning_rate=js.Plateau(0.5, factor=0.5, patience=0))
    >>> state = tx.init(jnp.ones(2))
    >>> for validation_loss in (1.0, 1.0):
    ...     state = observe(state, value=validation_loss)
    >>> tx.update(jnp.ones(2), state, jnp.ones(2))[0].tolist()
    [-0.25, -0.25]
    """
    if group is not None:
        check_text("observe(group=...)", group)
    arrays = plain_arrays(opt_state)
    listening = [(site, name) for site in find_sites(arrays) for name in _listening(site.state)]
    meant = {
        (s.prefix, name): s.state.schedules[name]
        for s, name in listening
        if s.is_in(group) or group == s.group_of(name)
    }
    if not meant:
        groups = sorted({site.group_of(name) for site, name in listening})
        where = f"; group {group!r} has none, " + (
            f"{groups} have" if any(groups) else "as there are no groups"
        )
        raise ValueError(
            "observe(opt_state) must hold a controller that can be told, found none"
            f"{where if listening else ''}. Build the optimizer as "
            "js.inject(optax.adam)(learning_rate=js.Plateau(...))."
        )
    # A foreign controller does not declare its measurements, so beside one any name may be right.
    require_measured("observe", report)
    if all(isinstance(c, AbstractController) for c in meant.values()):
        kinds = [type(level) for c in meant.values() for level in levels(c)]
        check_report("observe", kinds, report)

    def tell(site: Site) -> PyTree:
        if not isinstance(site.state, InjectState):
            return site.state
        states = site.state.controller_states
        observed = {
            n: _state_after_report(site.state, n, report)
            for n in states
            if (site.prefix, n) in meant
        }
        return site.state._replace(controller_states=states | observed)

    return write_back(opt_state, map_sites(tell, arrays))


def _state_after_report(state: InjectState, name: str, report: dict[str, PyTree]) -> PyTree:
    """The state of a controller after a report; for a population, of each member."""

    def one(controller: PyTree, state: PyTree, report: PyTree) -> PyTree:
        if isinstance(controller, AbstractController):
            return controller.tell(state, report)  # a measurement may be meant for another one
        return controller.observe(state, **report)

    members = jnp.shape(state.count)  # of a vmapped population: one number is for all
    if members:
        report = jax.tree.map(
            lambda x: jnp.broadcast_to(x, members) if jnp.ndim(x) == 0 else x, report
        )
    return per_member(one, state)(state.schedules[name], state.controller_states[name], report)


def _listening(state: PyTree) -> list[str]:
    """The hyperparameters that have a controller with ``observe`` (ours; Optax's have none)."""
    if not isinstance(state, InjectState):
        return []
    return [n for n in state.controller_states if hasattr(state.schedules.get(n), "observe")]
