"""Trains one model under many schedules at once; shared by letter_mlp and digits_cnn.

The trick is that a jaxsched schedule is a pytree of numbers. So `train_one` below is an ordinary
training function with the schedule as an *argument*, and `jax.vmap` over that argument trains a
population: `js.stack` puts schedules of one kind side by side, and schedules of different kinds
become one kind, a `js.Table` of what they would apply. One program is compiled for all of them.

Every schedule gets the same initial weights and the same batches for the same seed, so that
differences between schedules are paired.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

import jaxsched as js
from examples.datasets import Data

MOMENTUM = 0.9
AVERAGE = 0.99  # of the weights, at every step: the honest rival of a schedule
POINTS = 20  # of the curves; `steps` is a multiple of it


class Runs(NamedTuple):
    """Results; accuracies in percent. S seeds, N schedules, P points of the curves."""

    loss: np.ndarray  # [S, N, P] training loss, the mean since the point before
    curve: np.ndarray  # [S, N, P] validation accuracy
    val: np.ndarray  # [S, N] validation accuracy at the end
    test: np.ndarray  # [S, N]
    average_val: np.ndarray  # [S, N] the same two with the averaged weights
    average_test: np.ndarray  # [S, N]

    def __getitem__(self, where: Any) -> Runs:
        return Runs(*[field[where] for field in tuple(self)])


def population(schedules: Sequence[js.AbstractSchedule], steps: int) -> js.AbstractSchedule:
    """Schedules of any kinds as one: a `js.Table` whose values are [N, steps]."""
    return js.stack([js.Table(js.sample(schedule, steps)) for schedule in schedules])


def batches(rows: int, batch: int, steps: int, seed: int) -> np.ndarray:
    """Which rows each step trains on, int32 [steps, batch]; each epoch a new order.

    Made by NumPy beforehand: random numbers inside the program cost more to compile than all the
    rest of it.
    """
    random = np.random.RandomState(seed)
    epochs = -(-steps // (rows // batch))
    usable = rows // batch * batch
    order = np.concatenate([random.permutation(rows)[:usable] for _ in range(epochs)])
    return order[: steps * batch].reshape(steps, batch).astype(np.int32)


@functools.partial(jax.jit, static_argnums=0)
def train_side_by_side(
    graph: Any, schedules: js.AbstractSchedule, params: Any, rows: jax.Array, data: Data
) -> dict[str, jax.Array]:
    """One seed, a population of schedules; `graph` and `params` come from `nnx.split`."""
    train = functools.partial(train_one, graph)
    return jax.vmap(train, in_axes=(0, None, None, None))(schedules, params, rows, data)


def train_one(
    graph: Any, schedule: js.AbstractSchedule, params: Any, rows: jax.Array, data: Data
) -> dict[str, jax.Array]:
    """A training run from start to end, as a function of its schedule."""

    def loss_of(params: Any, x: jax.Array, y: jax.Array) -> jax.Array:
        logits = nnx.merge(graph, params)(x)
        return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()

    def accuracy(params: Any, x: jax.Array, y: jax.Array) -> jax.Array:
        return 100.0 * (nnx.merge(graph, params)(x).argmax(-1) == y).mean()

    tx = optax.sgd(schedule, momentum=MOMENTUM)  # a schedule is what Optax takes

    def step(carry: Any, rows: jax.Array) -> Any:
        params, opt_state, average = carry
        loss, grads = jax.value_and_grad(loss_of)(params, data.train.x[rows], data.train.y[rows])
        updates, opt_state = tx.update(grads, opt_state)
        params = optax.apply_updates(params, updates)
        average = optax.incremental_update(params, average, 1.0 - AVERAGE)
        return (params, opt_state, average), loss

    def stretch(carry: Any, rows: jax.Array) -> Any:
        carry, losses = jax.lax.scan(step, carry, rows)
        return carry, (losses.mean(), accuracy(carry[0], *data.val))

    rows = rows.reshape(POINTS, -1, rows.shape[-1])
    carry = (params, tx.init(params), params)
    (params, _, average), (loss, curve) = jax.lax.scan(stretch, carry, rows)
    return {
        "loss": loss,
        "curve": curve,
        "val": curve[-1],
        "test": accuracy(params, *data.test),
        "average_val": accuracy(average, *data.val),
        "average_test": accuracy(average, *data.test),
    }


def train_all(
    make_model: Callable[[nnx.Rngs], nnx.Module],
    data: Data,
    schedules: Sequence[js.AbstractSchedule],
    seeds: int,
    steps: int,
    batch: int = 32,
    width: int | None = None,
) -> Runs:
    """Trains every schedule with every seed.

    `width` schedules run side by side in one call of the program, which is called for each seed
    and each group of that many, from as many threads as there are cores. On a CPU a width of 4 is
    as fast as any (for the MLP, widths from 1 to 40 took the same CPU time within a third); an
    accelerator takes them all at once.
    """
    if steps % POINTS:
        raise ValueError(f"train_all(steps=...) must be a multiple of {POINTS}, got {steps}.")
    on_cpu = jax.default_backend() == "cpu"
    count = len(schedules)
    width = min(width or (4 if on_cpu else count), count)
    table = population([*schedules, *schedules[: -count % width]], steps)  # whole groups
    groups = [jax.tree.map(lambda x, i=i: x[i : i + width], table) for i in range(0, count, width)]
    starts = [nnx.split(make_model(nnx.Rngs(seed))) for seed in range(seeds)]
    orders = [batches(len(data.train.y), batch, steps, seed) for seed in range(seeds)]
    data = jax.tree.map(jnp.asarray, data)

    def call(job: tuple[int, int]) -> dict[str, np.ndarray]:
        seed, group = job
        graph, params = starts[seed]
        out = train_side_by_side(graph, groups[group], params, orders[seed], data)
        return jax.tree.map(np.asarray, out)

    jobs = [(seed, group) for seed in range(seeds) for group in range(len(groups))]
    found = [call(jobs[0])]  # compiles
    with ThreadPoolExecutor(os.cpu_count() if on_cpu else 1) as pool:
        found += pool.map(call, jobs[1:])
    per_seed = [found[i : i + len(groups)] for i in range(0, len(found), len(groups))]
    return Runs(
        **{
            name: np.stack([np.concatenate([g[name] for g in one])[:count] for one in per_seed])
            for name in Runs._fields
        }
    )
