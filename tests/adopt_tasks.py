"""Optimizers and states for the tests of ``adopt``."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxsched as js
from jaxsched.controllers import Plateau
from jaxsched.optim import inject

PARAMS = {"w": jnp.ones(3), "b": jnp.ones(2)}

GRADS = jax.tree.map(jnp.ones_like, PARAMS)

BASE = js.warmup_cosine(0.1, 100, 10)

RATE = 0.0586824088833465  # of BASE at 50: 0.1 * cos(pi / 2 * 40 / 90) ** 2

COOLDOWN = js.Linear(1.0, 0.0, 20)


def at(step, tx, params=PARAMS):
    """A state (or that of an optimizer) as after ``step`` updates, with moments of 0.25."""

    def leaf(path, x):
        name = getattr(path[-1], "name", None)
        if name in ("count", "step", "gradient_step"):
            return jnp.full_like(x, step)
        moments = {"mu", "nu", "trace"} & {getattr(key, "name", "") for key in path}
        return jnp.full_like(x, 0.25) if moments else x

    state = tx.init(params) if hasattr(tx, "init") else tx
    return jax.tree_util.tree_map_with_path(leaf, state)


def sgd(lr):
    return inject(optax.sgd)(learning_rate=lr)


def adamw(lr, **more):
    return inject(optax.adamw)(learning_rate=lr, **more)


ORIGINS = {
    "a number": optax.adamw(0.3),
    "a schedule": optax.adamw(optax.cosine_decay_schedule(0.3, 100)),
    "inject_hyperparams": optax.inject_hyperparams(optax.adamw)(learning_rate=0.3),
    "inject_hyperparams of a schedule": optax.inject_hyperparams(optax.adamw)(learning_rate=BASE),
    "one hyperparameter less": adamw(js.Constant(0.3)),
    "one more": adamw(BASE, weight_decay=js.Constant(0.1), b1=js.Constant(0.9)),
    "a controller": adamw(Plateau(js.Constant(0.3))),
}


def as_dicts(state):
    """Nested dicts and lists, as Orbax restores a state of classes without a target."""
    children, _ = jax.tree_util.tree_flatten_with_path(state, is_leaf=lambda x: x is not state)
    if len(children) == 1 and children[0][1] is state:
        return np.asarray(state)
    if not children:
        return None
    parts = [(path[0], as_dicts(child)) for path, child in children]
    if hasattr(parts[0][0], "idx"):
        return [part for _, part in parts]
    return {getattr(key, "name", getattr(key, "key", None)): part for key, part in parts}
