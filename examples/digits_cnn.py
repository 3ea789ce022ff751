"""Four schedules, one small CNN: one data set where decaying buys much, two where it buys little.

    python -m examples.digits_cnn                      # 36 s of CPU; a table, out/digits_cnn.png
    python -m examples.digits_cnn --data optdigits     # 16 s
    python -m examples.digits_cnn --data mnist5k       # 23 s
    python -m examples.digits_cnn --quick              # 8 s: does it run?

A Flax CNN, SGD with momentum 0.9, batch 32, 8 seeds, paired as in letter_mlp. You should see, in
test accuracy,

    data                           peak held   best constant   cosine      WSD   averaged weights
    mnist1d (procedural signals)      84.9 %          90.1 %   91.9 %   93.2 %             93.1 %
    optdigits (other writers)         96.2 %          96.3 %   96.7 %   97.0 %             97.0 %
    mnist5k (14x14 pixels)            94.4 %          94.7 %   95.8 %   95.9 %             96.1 %

The last column is a constant run whose weights were averaged as it went, without any schedule; here
it is as good as the best of them. On easy data a schedule gains less than a point. The signals of
mnist1d are generated, not measured: the standard small test for what convolutions are good at.
"""

from __future__ import annotations

import argparse
import time
from typing import NamedTuple

import jax
import numpy as np
from flax import nnx
from jax import lax

import jaxsched as js
from examples import datasets, letter_mlp, report
from jaxsched import search

NAMES = ["cosine to 0", "linear to 0", "warmup 10 %, cosine", "WSD, last 20 % linear", "constant"]
KINDS = {name: letter_mlp.KINDS[name] for name in NAMES}


class Setting(NamedTuple):
    channels: tuple[int, ...]
    kernels: tuple[int, ...]
    strides: tuple[int, ...]
    steps: int
    peak: float
    rivals: tuple[float, ...]  # constant rates that could be better than the peak held


SETTINGS = {
    "mnist1d": Setting((16, 16, 16), (5, 3, 3), (2, 2, 2), 3000, 0.05, (0.0125, 0.025)),
    "optdigits": Setting((8, 16), (3, 3), (1, 2), 500, 0.0625, (0.025,)),
    "mnist5k": Setting((8, 16), (3, 3), (2, 2), 1000, 0.04, (0.01, 0.02)),
}

# In a compiled loop on a CPU XLA's own convolution is many times slower; see docs/finding.md.
CONV = js.search.cpu_conv if jax.default_backend() == "cpu" else lax.conv_general_dilated


class CNN(nnx.Module):
    """Strided convolutions and one linear layer; 1-D or 2-D, as the data are."""

    def __init__(self, shape: tuple[int, ...], setting: Setting, classes: int, rngs: nnx.Rngs):
        layers, inputs = [], 1
        for channels, kernel, stride in zip(*setting[:3], strict=True):
            kernel_size, strides = (kernel,) * len(shape), (stride,) * len(shape)
            layers.append(
                nnx.Conv(
                    inputs, channels, kernel_size, strides, conv_general_dilated=CONV, rngs=rngs
                )
            )
            shape, inputs = tuple(-(-n // stride) for n in shape), channels
        self.layers = nnx.List(layers)
        self.out = nnx.Linear(inputs * int(np.prod(shape)), classes, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        x = x[..., None]
        for layer in self.layers:
            x = nnx.relu(layer(x))
        return self.out(x.reshape(len(x), -1))


def compared(name: str, seeds: int, steps: int) -> tuple[search.SweepResult, letter_mlp.Tests]:
    """Every kind at the peak, and the constant rates that may be better than the peak held."""
    setting, data = SETTINGS[name], datasets.load(name)
    shape = data.train.x.shape[1:]
    task = letter_mlp.supervised(
        name, lambda rngs: CNN(shape, setting, data.classes, rngs), letter_mlp.momentum
    )
    trials = js.grid(KINDS, peak=[setting.peak], steps=steps)
    trials += js.grid({"constant": js.constant}, peak=setting.rivals)
    averaged, result = letter_mlp.trained(task, trials, seeds, steps)
    return result, letter_mlp.tested(averaged, result, setting.peak)


def plot(result: search.SweepResult, tests: letter_mlp.Tests, name: str, path: str) -> None:
    peak, (best, tuned) = SETTINGS[name].peak, tests.tuned
    colors = dict(zip(KINDS, report.PALETTE, strict=False)) | {"constant": report.PALETTE[-1]}
    shown = ["WSD, last 20 % linear", "cosine to 0", "constant"]
    with report.figure(path, 1, 2, (13.0, 5.2)) as (_, (left, right)):
        lines = {("constant", best): report.GREY} | {(kind, peak): colors[kind] for kind in shown}
        letter_mlp.plot_curves(left, result, lines)
        left.set_title(f"{name}: the same CNN, start\nand batches under each schedule")
        shades = colors | {letter_mlp.held(peak): colors["constant"]}
        report.dots(right, letter_mlp.rows(tests, peak), shades, tuned.mean())
        cosine, constant = tests.at_peak["cosine to 0"], tests.at_peak["constant"]
        over_best = f"{(cosine - tuned).mean():+.1f} over the best constant rate"
        right.set_title(
            f"Cosine: {(cosine - constant).mean():+.1f} points over {letter_mlp.held(peak)},\n"
            f"{over_best if best != peak else 'which is the best constant rate'}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description="Schedules for a small CNN.")
    parser.add_argument("--data", choices=sorted(SETTINGS), default="mnist1d")
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--steps", type=int, help="a multiple of 10; default: as the data set")
    parser.add_argument("--out", default="out/digits_cnn.png")
    parser.add_argument("--quick", action="store_true", help="2 seeds, 60 steps")
    args = parser.parse_args()
    steps = args.steps or SETTINGS[args.data].steps
    seeds, steps = (2, 60) if args.quick else (args.seeds, steps)
    wall, cpu = time.time(), time.process_time()
    result, tests = compared(args.data, seeds, steps)
    wall, cpu = time.time() - wall, time.process_time() - cpu
    print(
        f"{args.data}: {seeds * len(result.trials)} trainings of {steps} steps in {wall:.0f} s "
        f"({cpu:.0f} s of CPU)\n"
    )
    print(letter_mlp.main_table(tests, SETTINGS[args.data].peak), end="\n\n")
    plot(result, tests, args.data, args.out)


if __name__ == "__main__":
    main()
