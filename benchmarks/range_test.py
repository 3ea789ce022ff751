"""How far is the range test's suggestion from the best peak that a sweep finds on validation data?

    python benchmarks/range_test.py                          # Letter, SGD and Adam: 1 to 2 minutes
    python benchmarks/range_test.py --data letter mnist1d mnist5k optdigits --updates 1000

For each data set and optimizer (a perceptron with two hidden layers of 64, batch 32): the range
test, for a cosine to zero and for a constant rate; then a sweep over peaks a factor 2 apart for
both. The best peak is the top of a parabola, in the logarithm of the rate, through the validation
accuracy at the best peak and its two neighbors. What is printed is suggestion : best, for ours and
for fastai's four rules on the same curves, and the accuracy that the suggestion gets, with and
without the sweep over (1/2, 1, 2) times it, beside the best of the whole grid.
"""

from __future__ import annotations

import argparse
import functools
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxsched as js
from benchmarks import versions
from examples import datasets
from jaxsched.search import Supervised, accuracy, range_test, sweep

OPTIMIZERS = {
    "sgd": lambda learning_rate: optax.sgd(learning_rate, momentum=0.9),
    "adam": lambda learning_rate: optax.adam(learning_rate),
}
GRIDS = {"sgd": 0.0025 * 2.0 ** np.arange(9), "adam": 0.0005 * 2.0 ** np.arange(9)}
RULES = ("minimum", "steepest", "valley", "slide")


def perceptron(sizes):
    def init(key):
        keys = jax.random.split(key, len(sizes) - 1)
        return [
            (jax.random.normal(k, (m, n)) * jnp.sqrt(1.0 / m), jnp.zeros(n))
            for k, m, n in zip(keys, sizes[:-1], sizes[1:], strict=True)
        ]

    def apply(weights, x):
        x = x.reshape(len(x), -1)
        for matrix, bias in weights[:-1]:
            x = jax.nn.relu(x @ matrix + bias)
        return x @ weights[-1][0] + weights[-1][1]

    return init, apply


def make_task(name, optimizer):
    data = datasets.load(name)
    inputs = int(np.prod(data.train.x.shape[1:]))
    return Supervised(
        model=perceptron((inputs, 64, 64, data.classes)),
        optimizer=OPTIMIZERS[optimizer],
        loss=optax.softmax_cross_entropy_with_integer_labels,
        train=tuple(data.train),
        validation=tuple(data.val),
        batch_size=32,
        metrics={"accuracy": accuracy},
    )


def score(task, schedules, steps, seeds):
    """Mean validation accuracy of each schedule; 0 where a seed diverged."""
    result = sweep(task, schedules, steps=steps, seeds=seeds, metric="accuracy", maximize=True)
    return np.nan_to_num(result.scores()[0])


def top(peaks, scores):
    """The best peak between the points of the grid; at its edge the point itself."""
    best = int(np.argmax(scores))
    if best in (0, len(peaks) - 1):
        return float(peaks[best])
    x, y = np.log(peaks[best - 1 : best + 2]), scores[best - 1 : best + 2]
    a, b, _ = np.polyfit(x, y, 2)
    return float(np.exp(-b / (2 * a))) if a < 0 else float(peaks[best])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", nargs="+", default=["letter"], choices=sorted(datasets.EXPECTED))
    parser.add_argument("--optimizers", nargs="+", default=["sgd", "adam"], choices=OPTIMIZERS)
    parser.add_argument("--updates", type=int, default=2000, help="length of the real runs")
    parser.add_argument("--steps", type=int, help="length of the range test (default: its own)")
    parser.add_argument("--seeds", type=int, default=4)
    options = parser.parse_args()
    print(versions())
    ratios: dict[str, list[float]] = {}
    for name in options.data:
        for optimizer in options.optimizers:
            task, peaks = make_task(name, optimizer), GRIDS[optimizer]
            for kind in ("cosine", "constant"):
                updates = options.updates
                recipe: Any = {
                    "cosine": functools.partial(js.cosine_decay, steps=updates),
                    "constant": js.constant,
                }[kind]
                started = time.process_time()
                found = range_test(task, steps=options.steps, seeds=options.seeds, schedule=recipe)
                seconds = time.process_time() - started
                trials = [*map(recipe, [*peaks, *found.peaks])]
                scores = score(task, trials, updates, options.seeds)
                grid, three = scores[:-3], scores[-3:]
                best = top(peaks, grid)
                print(f"\n{name}, {optimizer}, {kind}: {updates} updates, {options.seeds} seeds")
                print(found)
                print(f"  range test {seconds:.1f} CPU s, of which most compiles")
                print(f"  best peak {best:.3g}; suggestion : best = {found.peak / best:.2f}")
                marks = {rule: found.suggestions()[rule] / best for rule in RULES}
                print("  fastai's : best =", *(f"{k} {v:.2f}" for k, v in marks.items()))
                print(
                    f"  validation accuracy: suggestion {three[1]:.2%}, best of three "
                    f"{three.max():.2%}, best of the grid {grid.max():.2%}"
                )
                for rule, ratio in {"ours": found.peak / best, **marks}.items():
                    ratios.setdefault(f"{kind} {rule}", []).append(ratio)
    print("\nsuggestion : best over all settings (geometric mean; share within a factor 2)")
    for label, values in ratios.items():
        logs = np.abs(np.log2(values))
        mean = np.exp(np.mean(np.log(values)))
        print(f"  {label:20s} x{mean:.2f}   {np.mean(logs <= 1):.0%} of {len(values)}")


if __name__ == "__main__":
    main()
