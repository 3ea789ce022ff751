"""A small model that is sharded over a mesh, for the tests and the processes that they start."""

import jax
import jax.numpy as jnp
from jax.lax import with_sharding_constraint
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from sweep_tasks import data, noise

from jaxsched.search import shuffled


def mesh_of_all():
    return jax.make_mesh((jax.device_count(),), ("model",), axis_types=(AxisType.Auto,))


class Wide:
    """An MLP whose hidden units lie on all devices, with momentum in bfloat16 and a random key."""

    def __init__(self, mesh):
        self.mesh = mesh
        self.x, self.y = data(192)

    def laid_out(self, params):
        specs = {"a": PartitionSpec(None, "model"), "b": PartitionSpec("model")}
        return {
            name: with_sharding_constraint(x, NamedSharding(self.mesh, specs[name]))
            for name, x in params.items()
        }

    def init(self, key):
        params = {"a": 0.7 * noise(key, 6, 16), "b": 0.7 * noise(key, 16, 3)}
        momentum = jax.tree.map(lambda x: jnp.zeros_like(x, jnp.bfloat16), params)
        return {"params": self.laid_out(params), "m": self.laid_out(momentum), "key": key}

    def loss(self, params, rows):
        x, y = jnp.asarray(self.x)[rows], jnp.asarray(self.y)[rows]
        logits = jax.nn.relu(x @ params["a"]) @ params["b"]
        return jnp.mean(
            jax.nn.logsumexp(logits, -1) - jnp.take_along_axis(logits, y[:, None], 1)[:, 0]
        )

    def batches(self, seed, start, length):
        return shuffled(96, 16, seed, start, length)

    def step(self, state, hyperparams, batch):
        loss, grads = jax.value_and_grad(self.loss)(state["params"], batch)
        m = jax.tree.map(lambda m, g: 0.9 * m.astype(g.dtype) + g, state["m"], grads)
        rate = hyperparams["learning_rate"]
        params = jax.tree.map(lambda p, m: p - rate * m, state["params"], m)
        m = jax.tree.map(lambda x: x.astype(jnp.bfloat16), m)
        key = jax.random.fold_in(state["key"], 1)
        return {"params": params, "m": m, "key": key}, {"loss": loss}

    def evaluate(self, state):
        return {"loss": self.loss(state["params"], jnp.arange(96, 144))}

    def test(self, state):
        return {"loss": self.loss(state["params"], jnp.arange(144, 192))}
