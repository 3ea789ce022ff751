"""How the cost of a sweep grows: the exponent of CPU time in each size, on the tiniest task.

    python -m benchmarks.large              # some minutes; or name rows: ... large updates halving

An exponent is log(time ratio) / log(size ratio): 1 is linear, 2 quadratic, and what does not grow
takes it below 1. Both sizes are measured in turns in one run, in CPU seconds, without compilation.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import math
import resource
import shutil
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import jaxsched as js
from benchmarks import versions
from jaxsched import search
from jaxsched.controllers import Plateau

TEN = list(range(10, 20))
Make = Callable[[int], Callable[[], Any]]  # a size -> what is measured at that size


class Row(NamedTuple):
    what: str
    make: Make
    small: int
    large: int


class Bowl:
    """A scalar that goes downhill, with so many metrics of its evaluation."""

    def __init__(self, metrics: int = 1, fold: int = 0):
        self.metrics, self.index = metrics, fold

    def init(self, key: jax.Array) -> jax.Array:
        return jnp.float32(1.0)

    def step(self, state: Any, hyperparams: Any, batch: Any) -> Any:
        total = sum(hyperparams.values()) / len(hyperparams)
        return state - total * state, {"loss": state**2}

    def evaluate(self, state: Any) -> dict[str, Any]:
        loss = (state - 0.01 * self.index) ** 2
        return {"loss": loss} | {f"metric {i}": loss + i for i in range(1, self.metrics)}

    def fold(self, index: int, folds: int) -> Bowl:
        return Bowl(self.metrics, index)


BOWL = Bowl()  # one object: its program is compiled once


def sweep(trials: Any, task: Any = BOWL, **arguments: Any) -> search.SweepResult:
    arguments = {"progress": False, "devices": jax.local_devices()[:1], **arguments}
    return search.sweep(task, trials, **arguments)


def rates(count: int) -> list[Any]:
    return [js.Constant(0.1 + 0.1 * i / count) for i in range(count)]


def swept(size: str, trials: Callable[[int], Any] = lambda n: rates(8), **fixed: Any) -> Make:
    """A sweep in which an argument is the size, or the trials are (for "")."""

    def make(n: int) -> Callable[[], Any]:
        given, arguments = trials(n), {**fixed, **({size: n} if size else {})}
        return lambda: sweep(given, **arguments)

    return make


# --------------------------------------------------------------------- what is not only an argument


def metrics(n: int) -> Callable[[], Any]:
    task = Bowl(n)
    call = lambda: sweep(rates(2), task, steps=1000, evaluate_every=10)
    call()
    return call


def hyperparams(n: int) -> Callable[[], Any]:
    trials = [{f"rate {i}": rate for i in range(n)} for rate in rates(4)]
    sweep(trials, steps=1)
    return lambda: sweep(trials, steps=3000)


def folded(n: int) -> Callable[[], Any]:
    call = lambda: sweep(rates(8), folds=n, steps=20)
    call()  # each fold has an `evaluate` of its own
    return call


def shown(n: int) -> Callable[[], Any]:
    def call() -> None:
        with contextlib.redirect_stderr(io.StringIO()):
            sweep(rates(n), steps=2, progress=True)

    return call


def checkpointed(n: int, again: bool = False) -> Callable[[], Any]:
    def call() -> None:
        if not again:
            shutil.rmtree(folder, ignore_errors=True)
        sweep(trials, steps=2, checkpoint=folder)

    folder, trials = Path(tempfile.mkdtemp()), rates(n)
    if again:
        sweep(trials, steps=2, checkpoint=folder)
    return call


def merged(n: int) -> Callable[[], Any]:
    parts = [sweep(rates(4 * n), steps=2, shard=(i, n)) for i in range(n)]
    return lambda: search.merge(parts)


def found(trials: int, steps: int = 4, ties: bool = False) -> search.SweepResult:
    """A result of so many trials, of two settings, made without training."""
    made = search.zipped(
        js.cosine_decay,
        peak=np.geomspace(1e-4, 0.1, trials).tolist(),
        steps=[steps + i % 8 for i in range(trials)],
    )
    result = sweep(made[:2], steps=steps, seeds=3)
    curves = np.random.RandomState(0).rand(trials, 1, 3, steps).astype(np.float32)
    curves = np.round(curves) if ties else curves
    return dataclasses.replace(
        result,
        trials=made,
        horizons=np.full(trials, steps),
        train={"loss": curves},
        validation={"loss": curves[..., -1:]},
        diverged=np.full((trials, 1, 3), -1),
        stopped=np.full(trials, -1),
    )


def reported(n: int, ties: bool = False) -> Callable[[], Any]:
    result = found(n, ties=ties)

    def call() -> None:
        fresh = dataclasses.replace(result)
        repr(fresh), fresh.best(prefer="peak"), fresh.compare("steps").table(), fresh.to_json()
        fresh.table(limit=None)._repr_html_(), str(fresh.table()), fresh.edges()

    return call


def filed(n: int) -> Callable[[], Any]:
    result, file = found(n), Path(tempfile.mkdtemp()) / "result.npz"

    def call() -> None:
        result.save(file)
        search.load(file)

    return call


def drawn(n: int, *names: str) -> Callable[[], Any]:
    import matplotlib

    matplotlib.use("agg")
    from matplotlib.figure import Figure

    result = found(n)
    return lambda: result.plot(*names, ax=Figure().add_subplot())


def range_tested(n: int) -> Callable[[], Any]:
    task = Bowl()
    return lambda: js.range_test(task, start=1e-4, steps=n)


ROWS = {
    "updates": Row("updates", swept("steps", lambda n: rates(1)), 10**6, 10**7),
    "evaluations": Row(
        "updates, evaluated every 10",
        swept("steps", lambda n: rates(1), evaluate_every=10),
        5 * 10**4,
        5 * 10**5,
    ),
    "trials": Row("trials, T=2", swept("", rates, steps=2), 10**4, 10**5),
    "halving": Row(
        "trials with halving, T=64",
        swept("", rates, steps=64, stopping=search.SuccessiveHalving(1, 2)),
        1000,
        8000,
    ),
    "rungs": Row(
        "rungs, a median rule at each update, N=8",
        swept("steps", stopping=search.MedianRule(1)),
        1000,
        10_000,
    ),
    "reports": Row(
        "reports to 2 controllers",
        lambda n: swept(
            "",
            lambda n: [Plateau(js.Constant(0.1), f, patience=3) for f in (0.5, 0.6)],
            steps=10 * n,
            evaluate_every=10,
        )(n),
        200,
        2000,
    ),
    "metrics": Row("metrics, evaluated 100 times, N=2", metrics, 100, 1000),
    "hyperparameters": Row("hyperparameters, N=4, T=3000", hyperparams, 30, 300),
    "seeds": Row("seeds, N=8, T=20", swept("seeds", steps=20), 100, 1000),
    "folds": Row("folds, N=8, T=20", folded, 20, 200),
    "horizons": Row(
        "horizons of one rate: a fork at each step",
        swept("", lambda n: [js.Constant(0.1, i + 1) for i in range(n)]),
        500,
        5000,
    ),
    "forks": Row(
        "decays of one rate: two ways at each step",
        lambda n: swept("", lambda n: [js.wsd(0.1, n, 0, i + 1) for i in range(n)], steps=n)(n),
        500,
        4000,
    ),
    "wide": Row(
        "trials of three lengths, 8 side by side",
        swept(
            "", lambda n: [js.Linear(0.1 + i / n, 0.0, 10 + 3 * (i % 3)) for i in range(n)], width=8
        ),
        1000,
        10_000,
    ),
    "progress": Row("trials with a progress line, T=2", shown, 1000, 10_000),
    "checkpoint": Row("trials with a checkpoint, T=2", checkpointed, 1000, 10_000),
    "resumed": Row(
        "trials of a finished checkpoint", lambda n: checkpointed(n, True), 1000, 10_000
    ),
    "merged": Row("shards that are merged", merged, 10, 100),
    "grid": Row(
        "trials of a grid",
        lambda n: lambda: search.grid(js.cosine_decay, peak=list(range(1, n // 10 + 1)), steps=TEN),
        10_000,
        100_000,
    ),
    "sampled": Row(
        "trials of a draw",
        lambda n: lambda: search.sampled(js.constant, n, peak=search.loguniform(1e-4, 1.0)),
        10_000,
        100_000,
    ),
    "reported": Row("trials in tables and comparisons", reported, 3000, 30_000),
    "ties": Row("the same, two scores in all", lambda n: reported(n, True), 1000, 10_000),
    "filed": Row("trials saved and loaded", filed, 10_000, 100_000),
    "curves": Row("trials in a picture of curves", drawn, 1000, 10_000),
    "settings": Row("trials against a setting", lambda n: drawn(n, "peak"), 10_000, 100_000),
    "pairs": Row("trials over two settings", lambda n: drawn(n, "peak", "steps"), 1000, 10_000),
    "range test": Row("updates of a range test, 4 seeds", range_tested, 10**5, 10**6),
}


def main(names: list[str]) -> None:
    print(versions())
    warnings.simplefilter("ignore")
    for name in names or ROWS:
        row = ROWS[name]
        small, large = row.make(row.small), row.make(row.large)
        small()  # compiles
        times = [cpu(call) for call in (small, large, small)]
        begin = min(times[::2])
        exponent = math.log(times[1] / begin) / math.log(row.large / row.small)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
        print(
            f"{name}: {row.what}, {row.small} -> {row.large}: {begin:.2f} -> {times[1]:.2f} s, "
            f"exponent {exponent:.2f} (most memory so far {peak:.0f} MiB)",
            flush=True,
        )


def cpu(call: Callable[[], Any]) -> float:
    begin = time.process_time()
    call()
    return time.process_time() - begin


if __name__ == "__main__":
    main(sys.argv[1:])
