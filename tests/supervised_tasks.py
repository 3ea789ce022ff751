"""What the tests of ``Supervised`` share."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxsched as js
from jaxsched import search
from jaxsched.search import Supervised

RATES = [js.Constant(0.1), js.cosine_decay(0.2, 12)]


class Linen(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(3)(nn.relu(nn.Dense(8)(x)))


def sweep(task, trials=RATES, **arguments):
    arguments = {"steps": 12, "devices": jax.local_devices()[:1], **arguments}
    return search.sweep(task, trials, **arguments)


def close(a, b, rtol=2e-5):
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_allclose(x, y, rtol=rtol, atol=1e-6)


def slope(**changes):
    """A model whose gradient is always 1: minus its parameter is the sum of the rates."""
    x = np.ones((64, 1), np.float32)
    model = (lambda key: jnp.zeros(()), lambda w, x: w * x)
    arguments = {"train": (x, x), "validation": (x, x), "batch_size": 4, **changes}
    optimizer = arguments.pop("optimizer", optax.sgd)
    return Supervised(model, optimizer, lambda outputs, targets: outputs, **arguments)
