"""What the tests of the optimizer's seam apply: a schedule, parameters, gradients of one."""

import jax
import jax.numpy as jnp
import numpy as np

import jaxsched as js

STEPS = 8
LR = js.warmup_cosine(peak=0.5, steps=STEPS, warmup=3, end=0.01)
EXPECTED = np.asarray(LR(np.arange(STEPS)))
PARAMS = {"w": jnp.ones(3), "b": jnp.ones(2)}
GRADS = jax.tree.map(jnp.ones_like, PARAMS)


def applied(tx, steps=STEPS, leaf="w"):
    """The rate of every update under a gradient of one, and the last state."""
    update, state, rates = jax.jit(tx.update), tx.init(PARAMS), []
    for _ in range(steps):
        updates, state = update(GRADS, state, PARAMS)
        rates.append(-float(updates[leaf][0]))
    return np.array(rates), state
