"""The scales of a plateau, ours and Optax's."""

from functools import partial

import jax
import jax.numpy as jnp
import optax

FACTOR = 0.5


@partial(jax.jit, static_argnames=("rtol", "atol"))
def optax_scales(metrics, patience, rtol=0.0, atol=0.0, cooldown=0, low=0.0, size=1):
    """The scale of ``optax.contrib.reduce_on_plateau`` after each report."""
    tx = optax.contrib.reduce_on_plateau(FACTOR, patience, rtol, atol, cooldown, size, low)

    def body(state, value):
        state = tx.update(jnp.zeros(()), state, value=value)[1]
        return state, state.scale

    return jax.lax.scan(body, tx.init(jnp.zeros(())), metrics)[1]


@jax.jit
def scales(plateau, metrics):
    """The scale after each report."""

    def body(state, value):
        state = plateau.update(state, value=value)
        return state, state.scale

    return jax.lax.scan(body, plateau.init(), metrics)[1]
