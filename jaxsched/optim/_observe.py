"""``observe``: tells the controllers in an optimizer state what was measured between updates."""

from __future__ import annotations

from typing import Any

import jax

from jaxsched.optim._state import InjectState, Site, find_sites, plain_arrays, replaced_sites


def observe(opt_state: Any, **report: Any) -> Any:
    """Reports a metric, such as a validation loss, to every controller; no step is counted.

    For what is measured once in a while; a metric of every update goes to ``tx.update(...,
    value=loss)``. What is reported acts from the next update on.

    Args:
        opt_state: as for ``current``. An ``nnx.Optimizer`` is changed in place and returned.
        **report: what the controllers' ``observe`` takes, ``value=`` for most; one number, or one
            for each member of a vmapped population.

    Returns:
        A state of the same structure, shapes and dtypes.

    Raises:
        ValueError: if no controller in the state could be told.

    >>> import jax.numpy as jnp, optax, jaxsched as js
    >>> from jaxsched.optim import inject, observe
    >>> tx = inject(optax.sgd)(learning_rate=js.Plateau(0.5, factor=0.5, patience=0))
    >>> state = tx.init(jnp.ones(2))
    >>> for validation_loss in (1.0, 1.0):
    ...     state = observe(state, value=validation_loss)
    >>> tx.update(jnp.ones(2), state, jnp.ones(2))[0].tolist()
    [-0.25, -0.25]
    """

    def tell(site: Site) -> Any:
        state = site.state
        if not isinstance(state, InjectState):
            return state
        states = dict(state.controller_states)
        for name in _listening(state):

            def one(controller: Any, held: Any, report: Any) -> Any:
                return controller.observe(held, **report)

            for _ in range(state.count.ndim):  # members of a vmapped population
                one = jax.vmap(one)
            states[name] = one(state.schedules[name], states[name], report)
        return state._replace(controller_states=states)

    sites = find_sites(plain_arrays(opt_state))
    if not any(isinstance(s.state, InjectState) and _listening(s.state) for s in sites):
        raise ValueError(
            "observe(opt_state) must hold a controller that can be told, found none; build the "
            "optimizer as js.inject(optax.adam)(learning_rate=js.Plateau(...))."
        )
    return replaced_sites(tell, opt_state)


def _listening(state: InjectState) -> list[str]:
    """The hyperparameters whose controllers have ``observe`` (ours; Optax's protocol has not)."""
    return [n for n in state.controller_states if hasattr(state.schedules.get(n), "observe")]
