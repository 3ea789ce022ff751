"""`jax.vmap` over schedules: a population of trainings in one compiled loop of your own.

    python -m examples.population      # 4 s of CPU; the same on a GPU or TPU

A schedule is a pytree of numbers. So `train` below is an ordinary training function whose schedule
is an *argument*; `jax.vmap` over that argument trains all members side by side, and `jax.jit` sees
one program, whatever the peaks. The data are UCI Letter Recognition. You should see

    peak    0.01  0.02  0.04  0.08  0.16  0.32
    val %   84.7  89.2  92.2  93.2  89.5   6.7
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax

import jaxsched as js
from examples import datasets
from examples.letter_linen import MLP
from jaxsched import search

STEPS = 2000
PEAKS = [0.01, 0.02, 0.04, 0.08, 0.16, 0.32]


def train(schedule: js.AbstractSchedule, params: Any, batches: jax.Array, data: Any) -> jax.Array:
    """One training; the validation accuracy in percent at its end."""
    tx = optax.sgd(schedule, momentum=0.9)

    def loss(params: Any, rows: jax.Array) -> jax.Array:
        logits = MLP().apply(params, data.train.x[rows])
        return optax.softmax_cross_entropy_with_integer_labels(logits, data.train.y[rows]).mean()

    def update(carry: Any, rows: jax.Array) -> Any:
        params, opt_state = carry
        updates, opt_state = tx.update(jax.grad(loss)(params, rows), opt_state, params)
        return (optax.apply_updates(params, updates), opt_state), None

    (params, _), _ = jax.lax.scan(update, (params, tx.init(params)), batches)
    logits = jnp.asarray(MLP().apply(params, data.val.x))
    return 100 * (logits.argmax(-1) == data.val.y).mean()


def problem() -> tuple[js.AbstractSchedule, Any, Any, Any]:
    """The population, and what all of its members share: start, batches, data."""
    data = datasets.load("letter")
    recipe = partial(js.warmup_cosine, steps=STEPS, warmup=js.share(0.05))
    population = jax.vmap(recipe)(jnp.array(PEAKS))
    batches = search.shuffled(len(data.train.y), 32, seed=0, start=0, length=STEPS)
    return population, MLP().init(jax.random.key(0), data.val.x), batches, data


def main() -> jax.Array:
    side_by_side = jax.jit(jax.vmap(train, in_axes=(0, None, None, None)))
    accuracies = side_by_side(*problem())
    print("peak  ", *[f"{peak:5g}" for peak in PEAKS])
    print("val % ", *[f"{accuracy:5.1f}" for accuracy in accuracies])
    return accuracies


if __name__ == "__main__":
    main()
