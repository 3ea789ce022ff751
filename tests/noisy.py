"""A Flax model; not in ``sweep_tasks``, which the processes that tests start import quickly so."""

import jax
import jax.numpy as jnp
from flax import nnx


class Noisy(nnx.Module):
    """A state with everything: random keys, batch statistics, bfloat16."""

    def __init__(self, rngs):
        self.a = nnx.Linear(6, 8, rngs=rngs, param_dtype=jnp.bfloat16)
        self.norm = nnx.BatchNorm(8, rngs=rngs)
        self.dropout = nnx.Dropout(0.2, rngs=rngs)
        self.b = nnx.Linear(8, 3, rngs=rngs)

    def __call__(self, x):
        return self.b(self.dropout(self.norm(jax.nn.relu(self.a(x)))))
