"""Cosine, linear, WSD or a constant rate? The fair comparison, in one sweep.

    python -m examples.compare_kinds            # 26 s of CPU
    python -m examples.compare_kinds --quick    # 5 s: does it run?

Four kinds with six peaks and six seeds each, on the UCI letters: 144 trainings of 4000 steps, with
SGD without momentum (so the peaks are larger than those of ``letter_mlp``, which has 0.9). Each
kind is taken at its own best peak, chosen on validation data; the last table trains those four
again and looks at the test data. You should see that three kinds of decay cannot be told apart, and
that a constant rate can, in our run

    kind      its best     test accuracy         difference  differs
    cosine    peak=0.64   0.9518 ± 0.0009
    wsd       peak=0.32   0.9503 ± 0.0011  -0.0015 ± 0.00088  no
    linear    peak=0.64  0.9507 ± 0.00084  -0.0012 ± 0.00088  no
    constant  peak=0.32   0.9216 ± 0.0033      -0.03 ± 0.004  yes

At the one peak 0.08, wsd would have "won" by four points, at 1.28 "lost" by ten.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np
import optax

import jaxsched as js
from examples import report
from examples.letter_mlp import MLP, supervised
from jaxsched import search

PEAKS = np.geomspace(0.04, 1.28, 6)
KINDS: dict[str, Callable[..., js.AbstractSchedule]] = {
    "cosine": js.cosine_decay,
    "linear": js.linear_decay,
    "wsd": js.wsd,
    "constant": js.constant,
}


def compared(seeds: int, steps: int) -> tuple[search.Supervised, search.SweepResult]:
    trials = js.grid(KINDS, peak=PEAKS, steps=steps, warmup=0, decay=steps // 5)
    task = supervised("letter", MLP, optax.sgd)
    return task, js.sweep(task, trials, seeds=seeds, steps=steps, metric="accuracy", maximize=True)


def main() -> search.SweepResult:
    parser = argparse.ArgumentParser(description="Four kinds of schedule on Letter, compared.")
    parser.add_argument("--seeds", type=int, default=6)
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--out", default="out/compare_kinds.png")
    parser.add_argument("--quick", action="store_true", help="2 seeds, 100 steps")
    args = parser.parse_args()
    seeds, steps = (2, 100) if args.quick else (args.seeds, args.steps)
    wall, cpu = time.time(), time.process_time()
    task, result = compared(seeds, steps)
    print(f"{time.time() - wall:.0f} s ({time.process_time() - cpu:.0f} s of CPU)")
    print(result.summary(), end="\n\n")
    print(result.compare(), end="\n\n")
    print(search.final_scores(task, result))
    with report.figure(args.out, 1, 1, (6.4, 4.8)) as (_, ax):
        result.plot("peak", ax=ax)
    return result


if __name__ == "__main__":
    main()
