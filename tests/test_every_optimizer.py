"""``js.inject`` with whatever Optax ships that has a learning rate."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxsched as js

PARAMS = {"w": jnp.ones((4, 3))}
# Other arguments that a factory cannot do without.
NEEDS = {
    "dpsgd": {"l2_norm_clip": 1.0, "noise_multiplier": 0.1, "seed": 0},
    "noisy_sgd": {"key": 0},
    "schedule_free": {"base_optimizer": optax.sgd(0.1)},
}
EXAMPLES = {"dpsgd"}  # its gradients have an axis of examples
FACTORIES = [
    pytest.param(module, name, id=f"{module.__name__}.{name}")
    for module in (optax, optax.contrib)
    for name in dir(module)
    if not name.startswith("_")
    and inspect.isfunction(getattr(module, name))
    and "learning_rate" in inspect.signature(getattr(module, name)).parameters
]


def loss(params, **_):
    return jnp.sum(params["w"] ** 2)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of Optax's own older ones
@pytest.mark.parametrize(("module", "name"), FACTORIES)
def test_every_optimizer_takes_an_injected_rate(module, name):
    """Traced only: an update keeps the structure of the state, and shows the rate."""
    schedule = js.Linear(0.1, 0.0, 10)
    tx = js.inject(getattr(module, name))(learning_rate=schedule, **NEEDS.get(name, {}))
    grads = jax.tree.map(lambda x: x[None], PARAMS) if name in EXAMPLES else PARAMS
    # Those with a line search or a curvature read the loss; the others ignore it.
    told = {"value": jnp.float32(1.0), "grad": PARAMS, "value_fn": loss}
    if name == "sophia":
        told = {"obj_fn": loss}
    state = jax.eval_shape(tx.init, PARAMS)
    updates, after = jax.eval_shape(lambda s: tx.update(grads, s, PARAMS, **told), state)
    assert jax.tree.map(jnp.shape, updates) == jax.tree.map(jnp.shape, PARAMS)
    assert jax.tree.structure(after) == jax.tree.structure(state)
    assert jax.eval_shape(js.current, after)["learning_rate"].dtype == np.float32
