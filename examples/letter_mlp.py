"""Eight schedules, one MLP, real data: what does decaying the learning rate buy?

    python -m examples.letter_mlp              # 35 s of CPU; a table and out/letter_mlp.png
    python -m examples.letter_mlp --quick      # 7 s of CPU: does it run?

A Flax MLP 16-64-64-26 on UCI Letter Recognition (26 classes, 13 000 training rows), SGD with
momentum 0.9, batch 32, 4 000 steps, 8 seeds; for each seed every schedule starts from the same
weights and sees the same batches. By the clock it took 50 to 90 s on two busy cores. You should see

    Holding LR 0.08 for the whole run: 85.1 %. Same run, same start, decayed to 0: 95.1 %.
    Tuning the constant rate instead (0.02): 92.2 %.
    Averaging the weights of a constant run (0.04) instead: 94.7 %.

and all four numbers belong together. 0.08 is too large a rate to *end* with, so holding it is a
weak rival; the best constant rate, chosen on validation data, is a fair one. Averaging the weights
of a constant run removes much of the same noise and is a strong one. And the peak matters: at a
timid 0.01 cosine *costs* 1.6 points against holding it (second table).
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from flax import nnx

import jaxsched as js
from examples import datasets, report
from examples.population import Runs, train_all

# What is compared: each from a peak and the length of the run.
KINDS: dict[str, Callable[[float, int], js.AbstractSchedule]] = {
    "constant": lambda peak, steps: js.constant(peak),
    "step x0.1 at 50 %, 75 %": lambda peak, steps: js.multi_step(
        peak, factor=0.1, milestones=[steps // 2, 3 * steps // 4]
    ),
    "exponential to 1 %": lambda peak, steps: js.exponential_decay(peak, factor=0.01, every=steps),
    "cosine to 0": lambda peak, steps: js.cosine_decay(peak, steps),
    "linear to 0": lambda peak, steps: js.linear_decay(peak, steps),
    "warmup 10 %, cosine": lambda peak, steps: js.warmup_cosine(peak, steps, warmup=steps // 10),
    "one-cycle": lambda peak, steps: js.one_cycle(peak, steps),
    "WSD, last 20 % linear": lambda peak, steps: js.wsd(peak, steps, 0, decay=steps // 5),
}
PEAK = 0.08  # of PEAKS the one that has learned most after 100 steps (--quick shows it)
PEAKS = [0.01, 0.02, 0.04, 0.08, 0.16]
RIVALS = [0.01, 0.02, 0.04]  # constant rates that could be better than the peak held

COLORS = dict(
    zip(
        KINDS,
        [
            *(report.BLACK, report.ORANGE, report.SKY, report.GREEN),
            *(report.BLUE, report.RED, report.PINK, report.WINE),
        ],
        strict=True,
    )
)


class MLP(nnx.Module):
    def __init__(self, rngs: nnx.Rngs):
        self.hidden1 = nnx.Linear(16, 64, rngs=rngs)
        self.hidden2 = nnx.Linear(64, 64, rngs=rngs)
        self.out = nnx.Linear(64, 26, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        x = nnx.relu(self.hidden1(x))
        x = nnx.relu(self.hidden2(x))
        return self.out(x)


Results = dict[tuple[str, float], Runs]  # by kind and peak; a Runs without the schedules' axis


def compare(data: datasets.Data, seeds: int, steps: int) -> Results:
    """All kinds at PEAK and the RIVALS with all seeds; every other peak with half of them."""
    first = [(kind, PEAK) for kind in KINDS] + [("constant", rate) for rate in RIVALS]
    others = [(kind, peak) for kind in KINDS for peak in PEAKS if (kind, peak) not in first]
    results = {}
    for keys, count in [(first, seeds), (others, half(seeds))]:
        runs = train_all(MLP, data, [KINDS[kind](peak, steps) for kind, peak in keys], count, steps)
        results |= {key: runs[:, i] for i, key in enumerate(keys)}
    return results


def half(seeds: int) -> int:
    return max(2, seeds // 2)


def best_constant(results: Results, field: str = "val") -> float:
    """The constant rate with the best mean validation accuracy; the test data have no say."""
    return max([*RIVALS, PEAK], key=lambda rate: getattr(results["constant", rate], field).mean())


def main_table(results: Results) -> str:
    best, averaged = best_constant(results), best_constant(results, "average_val")
    entries = [(f"constant {rate:g}", results["constant", rate].test) for rate in RIVALS]
    entries += [(named(kind), results[kind, PEAK].test) for kind in KINDS]
    entries += [
        (f"constant {rate:g}, averaged weights", results["constant", rate].average_test)
        for rate in dict.fromkeys([PEAK, averaged])
    ]
    references = [(f"{rate:g} held", results["constant", rate].test) for rate in (PEAK, best)]
    return report.comparison(f"schedule (peak {PEAK:g})", entries, references)


def peaks_table(results: Results, seeds: int) -> str:
    few = half(seeds)
    rows = [[f"schedule ({few} seeds)", *[f"peak {peak:g}" for peak in PEAKS]]]
    for kind in KINDS:
        rows.append([kind, *[report.mean_std(results[kind, peak].test[:few]) for peak in PEAKS]])
    return report.table(rows)


def sentences(results: Results) -> str:
    best, averaged = best_constant(results), best_constant(results, "average_val")
    held, tuned = results["constant", PEAK].test.mean(), results["constant", best].test.mean()
    decayed = results["cosine to 0", PEAK].test.mean()
    average = results["constant", averaged].average_test.mean()
    return (
        f"Holding LR {PEAK:g} for the whole run: {held:.1f} %. "
        f"Same run, same start, decayed to 0: {decayed:.1f} %.\n"
        f"Tuning the constant rate instead ({best:g}): {tuned:.1f} %.\n"
        f"Averaging the weights of a constant run ({averaged:g}) instead: {average:.1f} %."
    )


def named(kind: str) -> str:
    return f"constant {PEAK:g}" if kind == "constant" else kind


def plot(results: Results, seeds: int, steps: int, path: str) -> None:
    with report.figure(path, 2, 2, (12.5, 9.6)) as (fig, axes):
        plot_rates(axes[0, 0], steps)
        plot_training(axes[0, 1], results, steps)
        plot_tests(axes[1, 0], results)
        plot_peaks(axes[1, 1], results, half(seeds))
        fig.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=4)


def plot_rates(ax: Any, steps: int) -> None:
    for kind, make in KINDS.items():
        ax.plot(js.sample(make(PEAK, steps), steps), color=COLORS[kind], lw=2, label=kind)
    ax.set(xlabel="step", ylabel="learning rate", title=f"{len(KINDS)} schedules, one peak")


def plot_training(ax: Any, results: Results, steps: int) -> None:
    best = best_constant(results)
    shown = ["WSD, last 20 % linear", "step x0.1 at 50 %, 75 %", "cosine to 0", "constant"]
    curves = {f"constant {best:g}": (results["constant", best].curve, report.GREY)}
    curves |= {named(kind): (results[kind, PEAK].curve, COLORS[kind]) for kind in shown}
    report.curves(ax, curves, steps)
    held, decayed = (results[kind, PEAK].val.mean() for kind in ("constant", "cosine to 0"))
    ax.set(title=f"Held at {PEAK:g} it ends at {held:.0f} %, decayed at {decayed:.0f} %")


def plot_tests(ax: Any, results: Results) -> None:
    best, averaged = best_constant(results), best_constant(results, "average_val")
    tuned = results["constant", best].test
    entries = [(named(kind), results[kind, PEAK].test, COLORS[kind]) for kind in KINDS]
    beaten = sum(test.mean() > tuned.mean() for _, test, _ in entries[1:])
    average = results["constant", averaged].average_test
    entries.append((f"constant {best:g} (tuned)", tuned, report.GREY))
    entries.append((f"constant {averaged:g}, averaged weights", average, report.GREY))
    report.dots(ax, entries, tuned.mean())
    ax.set_title(f"{beaten} of {len(KINDS) - 1} schedules beat the best constant rate")


def plot_peaks(ax: Any, results: Results, few: int) -> None:
    error = {
        kind: [100 - results[kind, peak].test[:few].mean() for peak in PEAKS] for kind in KINDS
    }
    for kind in KINDS:
        ax.plot(PEAKS, error[kind], "o-", ms=4, color=COLORS[kind], lw=2)
    gains = np.subtract(error["constant"], error["cosine to 0"])
    at = PEAKS.index(PEAK)
    ax.set_title(
        f"What cosine gains over holding its peak:\n"
        f"{gains[0]:+.1f} points at {PEAKS[0]:g}, {gains[at]:+.1f} at {PEAK:g}"
    )
    ax.set(xscale="log", yscale="log", xlabel="peak learning rate")
    ax.set_ylabel(f"test error, % (log scale, mean of {few} seeds)")
    ax.set_xticks(PEAKS, [f"{peak:g}" for peak in PEAKS])
    ticks = [4, 5, 7, 10, 15, 20, 30, 50, 70]
    ax.set_yticks(ticks, [str(tick) for tick in ticks])
    ax.minorticks_off()


def main() -> None:
    parser = argparse.ArgumentParser(description="Eight schedules on UCI Letter Recognition.")
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--steps", type=int, default=4000, help="a multiple of 20")
    parser.add_argument("--out", default="out/letter_mlp.png")
    parser.add_argument("--quick", action="store_true", help="2 seeds, 100 steps")
    args = parser.parse_args()
    seeds, steps = (2, 100) if args.quick else (args.seeds, args.steps)
    wall, cpu = time.time(), time.process_time()
    results = compare(datasets.load("letter"), seeds, steps)
    wall, cpu = time.time() - wall, time.process_time() - cpu
    trainings = sum(len(runs.test) for runs in results.values())
    print(f"{trainings} trainings of {steps} steps in {wall:.0f} s ({cpu:.0f} s of CPU)\n")
    print(main_table(results), end="\n\n")
    print(peaks_table(results, seeds), end="\n\n")
    print(sentences(results), end="\n\n")
    plot(results, seeds, steps, args.out)


if __name__ == "__main__":
    main()
