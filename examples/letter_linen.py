"""The same MLP the everyday way: Flax Linen, a TrainState, a Python loop, one schedule.

    python -m examples.letter_linen            # 6 s of CPU
    python -m examples.letter_linen --quick    # 5 s: does it run?

`js.inject` puts the schedule into the optimizer state, so the loop can print with `js.current` the
rate that was really applied, and a checkpoint of the state holds it too. You should see the
validation accuracy of the held rate wander and that of the decayed one settle, in our run

    Constant(value=0.08), seed 0                   Cosine(start=0.08, end=0.0, steps=4000), seed 0
      step 1000  rate 0.08  val 81.2 %               step 1000  rate 0.0683  val 83.7 %
      step 2000  rate 0.08  val 83.7 %               step 2000  rate 0.04  val 93.3 %
      step 3000  rate 0.08  val 79.7 %               step 3000  rate 0.0117  val 95.3 %
      step 4000  rate 0.08  val 85.8 %               step 4000  rate 1.23e-08  val 95.5 %
      test 85.8 %                                    test 95.2 %

(the last digits differ from machine to machine).
"""

from __future__ import annotations

import argparse

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from flax.training.train_state import TrainState

import jaxsched as js
from examples import datasets
from jaxsched import search

PEAK = 0.08


class MLP(nn.Module):
    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = nn.relu(nn.Dense(64)(x))
        x = nn.relu(nn.Dense(64)(x))
        return nn.Dense(26)(x)


@jax.jit
def train_step(state: TrainState, x: jax.Array, y: jax.Array) -> TrainState:
    def loss_of(params):
        logits = state.apply_fn(params, x)
        return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()

    return state.apply_gradients(grads=jax.grad(loss_of)(state.params))


@jax.jit
def accuracy(state: TrainState, x: jax.Array, y: jax.Array) -> jax.Array:
    return 100.0 * (state.apply_fn(state.params, x).argmax(-1) == y).mean()


def train(
    model: MLP, tx: optax.GradientTransformation, data: datasets.Data, seed: int, steps: int
) -> TrainState:
    params = model.init(jax.random.key(seed), jnp.zeros((1, 16)))
    state = TrainState.create(apply_fn=model.apply, params=params, tx=tx)
    order = search.shuffled(len(data.train.y), 32, seed, 0, steps)
    for step, rows in enumerate(order, start=1):
        state = train_step(state, data.train.x[rows], data.train.y[rows])
        if step % (steps // 4) == 0:
            rate = js.current(state)["learning_rate"]  # of this update
            print(f"  step {step:4d}  rate {rate:.3g}  val {accuracy(state, *data.val):.1f} %")
    return state


def main() -> None:
    parser = argparse.ArgumentParser(description="Flax Linen with a schedule in its state.")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--steps", type=int, default=4000, help="at least 4")
    parser.add_argument("--quick", action="store_true", help="1 seed, 100 steps")
    args = parser.parse_args()
    seeds, steps = (1, 100) if args.quick else (args.seeds, args.steps)
    data, model = datasets.load("letter"), MLP()
    for schedule in [js.constant(PEAK), js.cosine_decay(PEAK, steps)]:
        tx = js.inject(optax.sgd)(learning_rate=schedule, momentum=0.9)
        for seed in range(seeds):
            print(f"{schedule}, seed {seed}")
            state = train(model, tx, data, seed, steps)
            print(f"  test {accuracy(state, *data.test):.1f} %")


if __name__ == "__main__":
    main()
