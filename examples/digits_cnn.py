"""Four schedules, one small CNN: a case where decaying buys much, and two where it buys little.

    python -m examples.digits_cnn                      # 26 s of CPU; a table, out/digits_cnn.png
    python -m examples.digits_cnn --data optdigits     # 17 s
    python -m examples.digits_cnn --data mnist5k       # 23 s
    python -m examples.digits_cnn --quick              # 7 s: does it run?

A Flax CNN, SGD with momentum 0.9, batch 32, 8 seeds, paired as in letter_mlp. By the clock it took
50 to 70 s on two busy cores. You should see, in test accuracy,

    data                           peak held   best constant   cosine   averaged weights
    mnist1d (procedural signals)      83.5 %          89.7 %   92.5 %             93.1 %
    optdigits (other writers)         96.2 %          96.2 %   97.0 %             97.2 %
    mnist5k (14x14 pixels)            94.8 %          94.8 %   95.7 %             96.0 %

The last column is a constant run whose weights were averaged as it went, without any schedule; here
it is as good as the best of them. On easy data a schedule gains less than a point. The signals of
mnist1d are generated, not measured: the standard small test for what convolutions are good at.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np
from flax import nnx
from jax import lax

import jaxsched as js
from examples import datasets, report
from examples.population import Runs, train_all

KINDS: dict[str, Callable[[float, int], js.AbstractSchedule]] = {
    "cosine to 0": lambda peak, steps: js.cosine_decay(peak, steps),
    "linear to 0": lambda peak, steps: js.linear_decay(peak, steps),
    "warmup 10 %, cosine": lambda peak, steps: js.warmup_cosine(peak, steps, warmup=steps // 10),
    "WSD, last 20 % linear": lambda peak, steps: js.wsd(peak, steps, 0, decay=steps // 5),
}

COLORS = [report.GREEN, report.BLUE, report.RED, report.WINE]


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


def compare(name: str, seeds: int, steps: int) -> dict[str, Runs]:
    """The results by the name of the schedule, each without the schedules' axis."""
    setting, data = SETTINGS[name], datasets.load(name)
    schedules = {held(rate): js.constant(rate) for rate in (*setting.rivals, setting.peak)}
    schedules |= {kind: make(setting.peak, steps) for kind, make in KINDS.items()}
    shape = data.train.x.shape[1:]

    def model(rngs: nnx.Rngs) -> CNN:
        return CNN(shape, setting, data.classes, rngs)

    runs = train_all(model, data, list(schedules.values()), seeds, steps)
    return {name: runs[:, i] for i, name in enumerate(schedules)}


def held(rate: float) -> str:
    return f"constant {rate:g}"


def best_constant(results: dict[str, Runs], field: str = "val") -> str:
    """The constant rate with the best mean validation accuracy; the test data have no say."""
    constants = [name for name in results if name not in KINDS]
    return max(constants, key=lambda name: getattr(results[name], field).mean())


def tests(results: dict[str, Runs]) -> list[report.Entry]:
    averaged = best_constant(results, "average_val")
    entries = [(name, runs.test) for name, runs in results.items()]
    return [*entries, (f"{averaged}, averaged weights", results[averaged].average_test)]


def plot(results: dict[str, Runs], name: str, steps: int, path: str) -> None:
    peak, best = held(SETTINGS[name].peak), best_constant(results)
    colours = {kind: report.GREY for kind, _ in tests(results)}
    colours |= {peak: report.BLACK, **dict(zip(KINDS, COLORS, strict=True))}
    shown = dict.fromkeys([best, "WSD, last 20 % linear", "cosine to 0", peak])
    with report.figure(path, 1, 2, (13.0, 5.2)) as (_, (left, right)):
        report.curves(left, {kind: (results[kind].curve, colours[kind]) for kind in shown}, steps)
        left.set_title(f"{name}: the same CNN, start\nand batches under each schedule")
        entries = [(kind, test, colours[kind]) for kind, test in tests(results)]
        report.dots(right, entries, results[best].test.mean())
        gains = [(results["cosine to 0"].test - results[c].test).mean() for c in (peak, best)]
        over_best = f"{gains[1]:+.1f} over the best constant rate"
        right.set_title(
            f"Cosine: {gains[0]:+.1f} points over {peak},\n"
            f"{over_best if best != peak else 'which is the best constant rate'}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description="Schedules for a small CNN.")
    parser.add_argument("--data", choices=sorted(SETTINGS), default="mnist1d")
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--steps", type=int, help="a multiple of 20; default: as the data set")
    parser.add_argument("--out", default="out/digits_cnn.png")
    parser.add_argument("--quick", action="store_true", help="2 seeds, 60 steps")
    args = parser.parse_args()
    steps = args.steps or SETTINGS[args.data].steps
    seeds, steps = (2, 60) if args.quick else (args.seeds, steps)
    wall, cpu = time.time(), time.process_time()
    results = compare(args.data, seeds, steps)
    wall, cpu = time.time() - wall, time.process_time() - cpu
    print(
        f"{args.data}: {seeds * len(results)} trainings of {steps} steps in {wall:.0f} s "
        f"({cpu:.0f} s of CPU)\n"
    )
    peak = SETTINGS[args.data].peak
    rivals = dict.fromkeys([held(peak), best_constant(results)])
    references = [(rate, results[rate].test) for rate in rivals]
    print(report.comparison(f"schedule (peak {peak:g})", tests(results), references), end="\n\n")
    plot(results, args.data, steps, args.out)


if __name__ == "__main__":
    main()
