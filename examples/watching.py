"""Do schedules that watch the validation loss match one that knows the horizon?

    python -m examples.watching              # 21 s of CPU; a table and out/watching.png
    python -m examples.watching --quick      # does it run?

The perceptron 16-64-64-26 on UCI Letter, SGD with momentum and a little weight decay, batch 32,
2000 steps, four seeds. Every rule trains from the same weights on the same batches. Each gets
the validation loss every 50 steps, `AutoDecay` also that of the mean of the last 50 steps' weights.
Nothing is chosen on test data: the table shows the test accuracy of the last weights, and in
brackets that of the mean. It is one sweep of `search.Averaged(task)`, in which controllers are
trials like any schedule; the rule that watches the averaged loss is another one. You should see

    At its worst peak, short of cosine with a known horizon by points, last weights (mean of the
    last window): Plateau +0.02 (+0.06), Plateau, averaged loss -0.11 (-0.05), AutoDecay +0.12
    (+0.09).

and two more things. At the timid peak 0.02 cosine loses to all that hold the rate until it no
longer pays. And `Bounce` does nothing here: in a run so short the norm of the weights only grows.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxsched as js
from examples import report
from examples.letter_mlp import MLP, supervised
from jaxsched import search
from jaxsched.controllers import AutoDecay, Bounce, Plateau

PEAKS = [0.02, 0.04, 0.08]
EVERY = 50

# What is compared: each from a peak and the length of the run.
RULES: dict[str, Callable[[float, int], Any]] = {
    "constant": lambda peak, steps: js.constant(peak),
    "cosine, horizon known": js.cosine_decay,
    "Plateau": lambda peak, steps: Plateau(peak, 0.7, patience=1, rtol=0.01),
    "Bounce": lambda peak, steps: Bounce(peak, 0.3, every=8),
    "AutoDecay": lambda peak, steps: AutoDecay(peak),
}
AVERAGED = "Plateau, averaged loss"
COLORS = dict(zip([*RULES, AVERAGED], report.PALETTE, strict=False))


class Watched:
    """A task that also measures the weights' squared norm, and the test data, which decide nothing.

    A sweep shows what its task evaluates; a real search leaves test data to `final_score`.
    """

    def __init__(self, task: search.Supervised):
        self.init, self.step, self.batches = task.init, task.step, task.batches
        self.weights, self.with_weights = task.weights, task.with_weights
        self._task = task

    def evaluate(self, state: Any) -> dict[str, Any]:
        norm = sum(jnp.sum(jnp.square(w)) for w in jax.tree.leaves(state.params))
        test = self._task.test(state)["accuracy"]
        return {**self._task.evaluate(state), "norm": norm, "test": 100 * test}


def decayed(learning_rate: Any) -> optax.GradientTransformation:
    return optax.chain(optax.add_decayed_weights(1e-4), optax.sgd(learning_rate, 0.9))


def compare(seeds: int, steps: int) -> dict[str, search.SweepResult]:
    """The rules that watch the loss, and the one that watches the averaged loss."""
    task = search.Averaged(Watched(supervised("letter", MLP, decayed)), window=EVERY)

    def trained(rules: list[str], watch: str) -> search.SweepResult:
        trials = search.grid(lambda rule, peak: RULES[rule](peak, steps), rule=rules, peak=PEAKS)
        return search.sweep(
            task, trials, steps=steps, seeds=seeds, evaluate_every=EVERY, monitor=watch
        )

    return {"loss": trained(list(RULES), "loss"), AVERAGED: trained(["Plateau"], "averaged loss")}


def by_rule(results: dict[str, search.SweepResult], values: Callable[[Any], np.ndarray]) -> Any:
    """Rule -> peak -> what ``values`` reads off a result for that trial, [seeds, ...]."""
    table: dict[str, dict[float, np.ndarray]] = {}
    for which, result in results.items():
        for trial, row in zip(result.trials, values(result), strict=True):
            rule = AVERAGED if which == AVERAGED else trial.settings["rule"]
            table.setdefault(rule, {})[trial.settings["peak"]] = row[0]
    return table


def main_table(results: dict[str, search.SweepResult]) -> str:
    last = by_rule(results, lambda r: r.final("test"))
    mean = by_rule(results, lambda r: r.final("averaged test"))
    rows = [["test accuracy (of the mean)", *[f"peak {peak:g}" for peak in PEAKS]]]
    for rule, peaks in last.items():
        cells = [f"{report.mean_std(peaks[p])} ({mean[rule][p].mean():.2f})" for p in PEAKS]
        rows.append([rule, *cells])
    return report.table(rows)


def sentence(results: dict[str, search.SweepResult]) -> str:
    last = by_rule(results, lambda r: r.final("test"))
    mean = by_rule(results, lambda r: r.final("averaged test"))
    known = last["cosine, horizon known"]
    texts = []
    for rule in ("Plateau", AVERAGED, "AutoDecay"):
        raw = max(float(known[p].mean() - last[rule][p].mean()) for p in PEAKS)
        kept = max(float(known[p].mean() - mean[rule][p].mean()) for p in PEAKS)
        texts.append(f"{rule} {raw:+.2f} ({kept:+.2f})")
    return (
        "At its worst peak, short of cosine with a known horizon by points, last weights "
        f"(mean of the last window): {', '.join(texts)}."
    )


def plot(results: dict[str, search.SweepResult], steps: int, path: str) -> None:
    rates = by_rule(results, lambda r: r.train["learning_rate"])
    last = by_rule(results, lambda r: r.final("test"))
    mean = by_rule(results, lambda r: r.final("averaged test"))
    with report.figure(path, 1, 2, (12.5, 5.2)) as (fig, (left, right)):
        for rule, color in COLORS.items():
            left.plot(rates[rule][PEAKS[-1]][0], color=color, lw=2, label=rule)
            for values, style in ((last, "o-"), (mean, "o:")):
                accuracy = [values[rule][peak].mean() for peak in PEAKS]
                right.plot(PEAKS, accuracy, style, color=color, ms=4, lw=2)
        left.set(yscale="log", xlabel="step", ylabel="learning rate", ylim=(PEAKS[-1] / 60, None))
        left.set_title(f"What each rule made of the peak {PEAKS[-1]:g} (one seed)")
        right.set(xscale="log", xlabel="peak learning rate", ylabel="test accuracy, %")
        right.set_title("Last weights, and the mean of the last window (dotted)")
        right.set_xticks(PEAKS, [f"{peak:g}" for peak in PEAKS])
        right.minorticks_off()
        fig.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=3)


def main() -> None:
    parser = argparse.ArgumentParser(description="Schedules that watch, on UCI Letter Recognition.")
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--steps", type=int, default=2000, help=f"a multiple of {EVERY}")
    parser.add_argument("--out", default="out/watching.png")
    parser.add_argument("--quick", action="store_true", help="2 seeds, 100 steps")
    args = parser.parse_args()
    seeds, steps = (2, 100) if args.quick else (args.seeds, args.steps)
    cpu = time.process_time()
    results = compare(seeds, steps)
    trained = sum(result.steps_trained for result in results.values())
    asked = sum(result.steps_asked for result in results.values())
    print(f"{trained} of {asked} steps trained, {time.process_time() - cpu:.0f} s of CPU\n")
    print(main_table(results), end="\n\n")
    print(sentence(results), end="\n\n")
    plot(results, steps, args.out)


if __name__ == "__main__":
    main()
