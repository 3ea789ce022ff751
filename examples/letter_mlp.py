"""Seven schedules, one MLP, real data: what does decaying the learning rate buy?

    python -m examples.letter_mlp              # 68 s of CPU; tables and out/letter_mlp.png
    python -m examples.letter_mlp --quick      # 8 s of CPU: does it run?

A Flax MLP 16-64-64-26 on UCI Letter Recognition (26 classes, 13 000 training rows), SGD with
momentum 0.9, batch 32, 4 000 steps, 8 seeds. Seven kinds with five peaks each are one sweep. For
each seed every schedule starts from the same weights and sees the same batches. You should see

    Holding LR 0.08 for the whole run: 85.7 %. Same run, same start, decayed to 0: 95.2 %.
    Tuning the constant rate instead (0.02): 92.0 %.
    Averaging the weights of a constant run (0.04) instead: 94.6 %.

and all four numbers belong together. 0.08 is too large a rate to *end* with, so holding it is a
weak rival; the best constant rate, chosen on validation data, is a fair one. Averaging the weights
of a constant run removes much of the same noise and is a strong one. And the peak matters: at a
timid 0.01 cosine is worse than holding it (last panel). On several cores it is faster with
`JAX_NUM_CPU_DEVICES=4`; a GPU or TPU trains many runs side by side.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
import optax
from flax import nnx

import jaxsched as js
from examples import datasets, report
from jaxsched import search

# What is compared: each from a peak and the length of the run.
KINDS: dict[str, Callable[..., js.AbstractSchedule]] = {
    "cosine to 0": js.cosine_decay,
    "linear to 0": js.linear_decay,
    "warmup 10 %, cosine": partial(js.warmup_cosine, warmup=js.share(0.1)),
    "one-cycle": js.one_cycle,
    "WSD, last 20 % linear": partial(js.wsd, warmup=0, decay=js.share(0.2)),
    "step x0.1 at 50 %, 75 %": lambda peak, steps: js.multi_step(
        peak, factor=0.1, milestones=[steps // 2, 3 * steps // 4]
    ),
    "constant": js.constant,
}
PEAKS = [0.01, 0.02, 0.04, 0.08, 0.16]
PEAK = 0.08  # of PEAKS the one that has learned most after 100 steps (--quick shows it)


class MLP(nnx.Module):
    def __init__(self, rngs: nnx.Rngs):
        self.hidden1 = nnx.Linear(16, 64, rngs=rngs)
        self.hidden2 = nnx.Linear(64, 64, rngs=rngs)
        self.out = nnx.Linear(64, 26, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        x = nnx.relu(self.hidden1(x))
        x = nnx.relu(self.hidden2(x))
        return self.out(x)


def supervised(
    name: str,
    model: Callable[[nnx.Rngs], nnx.Module],
    optimizer: Callable[..., optax.GradientTransformation],
) -> search.Supervised:
    """A classifier on one of the data sets, in batches of 32."""
    data = datasets.load(name)
    return search.Supervised(
        model,
        optimizer,
        optax.softmax_cross_entropy_with_integer_labels,
        train=tuple(data.train),
        validation=tuple(data.val),
        test=tuple(data.test),
        batch_size=32,
        metrics={"accuracy": search.accuracy},
    )


def momentum(learning_rate: Any) -> optax.GradientTransformation:
    return optax.sgd(learning_rate, momentum=0.9)


def trained(
    task: search.Supervised, trials: Any, seeds: int, steps: int
) -> tuple[search.Averaged, search.SweepResult]:
    """The sweep; beside the weights their running average, which is a schedule's strong rival."""
    averaged = search.Averaged(task, decay=0.99)
    result = js.sweep(
        averaged,
        trials,
        seeds=seeds,
        steps=steps,
        evaluate_every=steps // 10,
        metric="accuracy",
        maximize=True,
    )
    return averaged, result


class Tests(NamedTuple):
    """Test accuracies in percent, [seeds] each; of the rivals also their rates."""

    at_peak: dict[str, np.ndarray]  # of every kind
    tuned: tuple[float, np.ndarray]  # the best constant rate
    averaged: tuple[float, np.ndarray]  # the constant rate with the best averaged weights


def tested(task: search.Averaged, result: search.SweepResult, peak: float) -> Tests:
    """Trains every kind at one peak and the two rivals once more, and looks at the test data."""
    kinds = dict.fromkeys(trial.kind for trial in result.trials)
    at_peak = {kind: index(result, kind, peak) for kind in kinds}
    # The rivals are chosen on validation data; the test data have no say.
    tuned, averaged = (
        next(i for i in result.ranking(metric, True) if result.trials[i].kind == "constant")
        for metric in ("accuracy", "averaged accuracy")
    )
    scores = {
        i: search.final_score(task, result, result.chosen(i)).metrics
        for i in {*at_peak.values(), tuned, averaged}
    }

    def rival(i: int, metric: str) -> tuple[float, np.ndarray]:
        return result.trials[i].settings["peak"], 100 * scores[i][metric]

    accuracies = {kind: 100 * scores[i]["accuracy"] for kind, i in at_peak.items()}
    return Tests(accuracies, rival(tuned, "accuracy"), rival(averaged, "averaged accuracy"))


def index(result: search.SweepResult, kind: str, peak: float) -> int:
    wanted = kind, peak
    return [(trial.kind, trial.settings["peak"]) for trial in result.trials].index(wanted)


def held(rate: float) -> str:
    return f"constant {rate:g}"


def rows(tests: Tests, peak: float) -> dict[str, np.ndarray]:
    """Name -> test accuracies, the rivals last."""
    (rate, tuned), (other, averaged) = tests.tuned, tests.averaged
    named = {held(peak) if kind == "constant" else kind: v for kind, v in tests.at_peak.items()}
    return {**named, held(rate): tuned, f"{held(other)}, averaged weights": averaged}


def main_table(tests: Tests, peak: float) -> str:
    entries = rows(tests, peak)
    references = dict.fromkeys([held(peak), held(tests.tuned[0])])
    return report.comparison(f"schedule (peak {peak:g})", entries, references)


def sentences(tests: Tests) -> str:
    (rate, tuned), (other, averaged) = tests.tuned, tests.averaged
    return (
        f"Holding LR {PEAK:g} for the whole run: {tests.at_peak['constant'].mean():.1f} %. "
        f"Same run, same start, decayed to 0: {tests.at_peak['cosine to 0'].mean():.1f} %.\n"
        f"Tuning the constant rate instead ({rate:g}): {tuned.mean():.1f} %.\n"
        f"Averaging the weights of a constant run ({other:g}) instead: {averaged.mean():.1f} %."
    )


def plot_curves(ax: Any, result: search.SweepResult, shown: dict[tuple[str, float], str]) -> None:
    """Validation accuracy over the steps; (kind, peak) -> colour."""
    accuracy = 100 * result.validation["accuracy"][:, 0]
    lines = {
        (held(peak) if kind == "constant" else kind): (accuracy[index(result, kind, peak)], colour)
        for (kind, peak), colour in shown.items()
    }
    report.curves(ax, lines, result.evaluated)


def plot(result: search.SweepResult, tests: Tests, steps: int, path: str) -> None:
    colors = dict(zip(KINDS, report.PALETTE, strict=False))
    with report.figure(path, 2, 2, (12.5, 9.6)) as (_, ((rates, training), (dots, peaks))):
        at_peak: list[Any] = [result.trials[index(result, kind, PEAK)] for kind in KINDS]
        js.plot(*(trial.schedule for trial in at_peak), ax=rates, steps=steps, labels=list(KINDS))
        rates.set(ylabel="learning rate", title=f"{len(KINDS)} schedules, one peak")

        shown = ["WSD, last 20 % linear", "step x0.1 at 50 %, 75 %", "cosine to 0", "constant"]
        tuned, _ = tests.tuned
        lines = {("constant", tuned): report.GREY}
        plot_curves(training, result, lines | {(kind, PEAK): colors[kind] for kind in shown})
        training.set_title(f"The same start and batches, held at {PEAK:g} or decayed")

        shades = colors | {held(PEAK): colors["constant"]}
        report.dots(dots, rows(tests, PEAK), shades, tests.tuned[1].mean())
        beaten = sum(v.mean() > tests.tuned[1].mean() for v in tests.at_peak.values())
        dots.set_title(f"{beaten} of {len(KINDS) - 1} schedules beat the best constant rate")

        result.plot("peak", ax=peaks)
        peaks.set_title("Every kind has its own best peak")


def main() -> Tests:
    parser = argparse.ArgumentParser(description="Seven schedules on UCI Letter Recognition.")
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--steps", type=int, default=4000, help="a multiple of 10")
    parser.add_argument("--out", default="out/letter_mlp.png")
    parser.add_argument("--quick", action="store_true", help="2 seeds, 100 steps")
    args = parser.parse_args()
    seeds, steps = (2, 100) if args.quick else (args.seeds, args.steps)
    wall, cpu = time.time(), time.process_time()
    trials = js.grid(KINDS, peak=PEAKS, steps=steps)
    task, result = trained(supervised("letter", MLP, momentum), trials, seeds, steps)
    tests = tested(task, result, PEAK)
    wall, cpu = time.time() - wall, time.process_time() - cpu
    print(
        f"{seeds * len(trials)} trainings of {steps} steps in {wall:.0f} s ({cpu:.0f} s of CPU)\n"
    )
    print(main_table(tests, PEAK), end="\n\n")
    print(result.compare(), end="\n\n")
    print(sentences(tests), end="\n\n")
    plot(result, tests, steps, args.out)
    return tests


if __name__ == "__main__":
    main()
