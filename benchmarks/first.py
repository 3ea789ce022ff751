"""What a schedule costs: ours beside Optax's and a constant rate, timed in turns in one run.

    python -m benchmarks.first          # about a minute; pin it: taskset -c 0 python -m ...

Prints one row for each question, the times and the ratio that matters. Times are CPU seconds of
this process, the smallest of several turns, because a neighbor's load moves wall clocks by 2-3x.
"""

from __future__ import annotations

import compileall
import itertools
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import optax

import jaxsched as js
from benchmarks import versions

HORIZON = 5000


def main() -> None:
    print(versions() + "\n")
    for name, sizes, batch, steps in (
        ("tiny step (8-16-4, batch 16)", (8, 16, 4), 16, 20_000),
        ("MLP step (16-64-64-26, batch 32)", (16, 64, 64, 26), 32, 4000),
    ):
        in_a_step(name, sizes, batch, steps)
    eager_call()
    many_steps()
    boundaries(1000)
    import_time()


def in_a_step(name: str, sizes: tuple[int, ...], batch: int, steps: int) -> None:
    """The whole training step in a compiled scan; only the rate differs."""
    keys = jax.random.split(jax.random.key(0), len(sizes) + 1)
    pairs = list(itertools.pairwise(sizes))
    params = [
        (jax.random.normal(key, pair) / pair[0] ** 0.5, jnp.zeros(pair[1]))
        for key, pair in zip(keys, pairs, strict=False)
    ]
    x = jax.random.normal(keys[-1], (batch, sizes[0]))
    labels = jnp.arange(batch) % sizes[-1]

    def loss(params: Any) -> jax.Array:
        hidden = x
        for weights, bias in params[:-1]:
            hidden = jax.nn.relu(hidden @ weights + bias)
        weights, bias = params[-1]
        logits = hidden @ weights + bias
        return optax.losses.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

    def training(learning_rate: Any, inject: bool = False) -> Callable[[], Any]:
        sgd = js.inject(optax.sgd) if inject else optax.sgd
        tx = sgd(learning_rate=learning_rate, momentum=0.9)

        def step(carry: Any, _: Any) -> tuple[Any, None]:
            params, state = carry
            updates, state = tx.update(jax.grad(loss)(params), state, params)
            return (optax.apply_updates(params, updates), state), None

        def run(params: Any) -> Any:
            return jax.lax.scan(step, (params, tx.init(params)), None, length=steps)[0]

        compiled = jax.jit(run).lower(params).compile()
        return lambda: jax.block_until_ready(compiled(params))

    ours = js.warmup_cosine(1e-3, HORIZON, 100)
    times = in_turns(
        {
            "constant": training(1e-3),
            "optax warmup_cosine": training(
                optax.warmup_cosine_decay_schedule(0.0, 1e-3, 100, HORIZON)
            ),
            "jaxsched warmup_cosine": training(ours),
            "jaxsched, injected": training(ours, inject=True),
            "constant again": training(1e-3),  # how much of a ratio is noise
        },
        turns=15,
    )
    report(f"{name}: CPU us per step", times, "constant", 1e6 / steps)


def eager_call() -> None:
    """``schedule(step)`` on a Python number, as a logger calls it."""
    step = 1234
    theirs = optax.warmup_cosine_decay_schedule(0.0, 1e-3, 100, HORIZON)
    ours = js.warmup_cosine(1e-3, HORIZON, 100)
    count = 300

    def repeat(f: Callable[[int], Any]) -> Callable[[], None]:
        def run() -> None:
            for _ in range(count):
                f(step)

        return run

    times = in_turns({"optax": repeat(theirs), "jaxsched": repeat(ours)}, turns=9)
    report("eager call: CPU us", times, "jaxsched", 1e6 / count)


def many_steps() -> None:
    """10^6 steps in one compiled call, without the compilation."""
    steps = jnp.arange(1_000_000)
    calls = {
        "optax": jax.jit(optax.warmup_cosine_decay_schedule(0.0, 1e-3, 1000, 1_000_000)),
        "jaxsched": jax.jit(js.warmup_cosine(1e-3, 1_000_000, 1000)),
    }
    times = in_turns({k: ready(f, steps) for k, f in calls.items()}, turns=15)
    report("10^6 steps, compiled: CPU ms", times, "jaxsched", 1e3)


def boundaries(count: int) -> None:
    """A staircase of many drops: trace and compile, then the cost of one step in a scan."""
    drops = {10 * (i + 1): 0.999 for i in range(count)}

    def theirs() -> Any:
        return optax.piecewise_constant_schedule(1.0, drops)

    def ours() -> Any:
        return js.multi_step(1.0, 0.999, list(drops))

    steps = 2000

    def program(make: Callable[[], Any]) -> Any:
        schedule = make()

        def run(start: jax.Array) -> Any:
            total, _ = jax.lax.scan(
                lambda total, t: (total + schedule(t), None), 0.0, start + jnp.arange(steps)
            )
            return total

        return jax.jit(run).lower(jnp.int32(0)).compile()

    makers = {"optax": theirs, "jaxsched": ours}
    times = in_turns({k: partial(program, make) for k, make in makers.items()}, turns=3)
    report(f"{count} boundaries, trace + compile: CPU ms", times, "jaxsched", 1e3)
    compiled = {k: program(make) for k, make in makers.items()}
    zero = jnp.int32(0)
    times = in_turns({k: ready(f, zero) for k, f in compiled.items()}, turns=9)
    report(f"{count} boundaries, one step: CPU us", times, "jaxsched", 1e6 / steps)


def import_time() -> None:
    """What ``import`` adds after ``import jax``, each in fresh processes, from compiled files."""
    compileall.compile_dir(Path(js.__file__).parent, quiet=1)  # as pip does when it installs
    code = "import jax, time; t = time.process_time(); import {}; print(time.process_time() - t)"

    def fresh(module: str) -> float:
        run = [sys.executable, "-c", code.format(module)]
        return float(subprocess.run(run, check=True, capture_output=True, text=True).stdout)

    turns = [{m: fresh(m) for m in ("optax", "jaxsched")} for _ in range(5)]
    times = {m: [turn[m] for turn in turns] for m in turns[0]}
    report("import after jax: CPU ms", times, "optax", 1e3)


def ready(call: Callable[..., Any], argument: Any) -> Callable[[], Any]:
    return lambda: jax.block_until_ready(call(argument))


def in_turns(calls: dict[str, Callable[[], Any]], turns: int) -> dict[str, list[float]]:
    """CPU seconds of each call in each turn; the calls take turns, so load meets all of them."""
    for call in calls.values():
        call()
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(turns):
        for name, call in calls.items():
            start = time.process_time()
            call()
            times[name].append(time.process_time() - start)
    return times


def report(title: str, times: dict[str, list[float]], base: str, unit: float) -> None:
    print(title)
    least = min(times[base])
    for name, values in times.items():
        # Of one turn, so that a load that lasts a while cancels; the median of those.
        ratio = statistics.median(v / b for v, b in zip(values, times[base], strict=True))
        best = min(values)
        print(
            f"  {name:24s} {best * unit:10.3f}   : {base} = {best / least:8.3f} by the smallest,"
            f" {ratio:8.3f} by the median of turns"
        )
    print()


if __name__ == "__main__":
    main()
