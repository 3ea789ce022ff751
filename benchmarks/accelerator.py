"""What one accelerator gains: runs side by side (``jax.vmap``) against one after the other.

    python -m benchmarks.accelerator                   # about 8 minutes at most
    python -m benchmarks.accelerator --minutes 3 mlp   # some rows, less time
    python -m benchmarks.accelerator --small           # every row in little, to see that it runs

Needs one GPU or TPU, JAX for it, NumPy and Optax; the examples need Flax and matplotlib. What is
missing is said first, and its rows are skipped. It runs on a CPU too, for comparison. Times are
wall seconds of warm calls; each row is a ratio of two things that were timed in one process. What
would not end in the given time, judged by the row before it, is not begun.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxsched as js
from jaxsched import search

WIDTHS = [1, 4, 16, 64, 256, 1024]
STEPS = 256  # updates of a run: one table of the engine holds four times as many
SEEDS = 16
ABSENT = [name for name in ("flax", "matplotlib") if importlib.util.find_spec(name) is None]
TOLERANCE = 1e-5  # of losses side by side and alone, over 16 updates


def main() -> None:
    rows: dict[str, Callable[[], None]] = {
        "rounding": rounding,
        "mlp": lambda: widths("MLP 64-128-10, batch 64", mlp, end),
        "cnn": lambda: widths("CNN 8x8, 16 and 32 channels, batch 64", cnn, end),
        "transformer": lambda: widths("transformer, 2 layers, 64 wide", transformer, end),
        "loop": loop,
        "schedule": schedule_in_the_step,
        "range": range_test,
        "examples": examples,
    }
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("rows", nargs="*", default=[])
    parser.add_argument("--minutes", type=float, default=8.0)
    parser.add_argument("--small", action="store_true")
    asked = parser.parse_args()
    if unknown := {*asked.rows} - {*rows}:
        parser.error(f"rows must be of {', '.join(rows)}, got {', '.join(sorted(unknown))}")
    if asked.small:
        global STEPS, SEEDS
        STEPS, SEEDS, WIDTHS[:] = 16, 2, [1, 2, 4]
        rows.pop("examples")
    device = jax.devices()[0]
    print(
        f"jax {jax.__version__}, optax {optax.__version__}, Python {sys.version.split()[0]}, "
        f"{device.device_kind} ({device.platform}), {os.cpu_count()} cores",
        flush=True,
    )
    if ABSENT:
        print(f"without {' and '.join(ABSENT)}: the examples are skipped")
    if device.platform == "cpu":
        print("JAX sees no accelerator; what follows was measured on the CPU")
    end = time.monotonic() + 60 * asked.minutes
    for name in asked.rows or rows:
        if name == "examples" and ABSENT:
            continue
        if time.monotonic() > end:
            print(f"{name}: not begun, {asked.minutes:g} minutes are over")
            continue
        rows[name]()


def say(what: str, detail: str, ratio: str) -> None:
    print(f"{what:72} {ratio:>9}   {detail}", flush=True)


# --------------------------------------------------------------------------------- what is trained


def mlp() -> search.Supervised:
    def init(key: jax.Array) -> Any:
        return dense(key, a=(64, 128), b=(128, 10))

    def apply(p: Any, x: Any) -> Any:
        return jax.nn.relu(x @ p["a"]) @ p["b"]

    return task(init, apply, (64,))


def cnn() -> search.Supervised:
    # On a CPU XLA's own convolution is many times slower inside a compiled loop.
    conv = search.cpu_conv if jax.default_backend() == "cpu" else jax.lax.conv_general_dilated
    layout = ("NHWC", "HWIO", "NHWC")

    def init(key: jax.Array) -> Any:
        return dense(key, a=(3, 3, 1, 16), b=(3, 3, 16, 32), out=(4 * 4 * 32, 10))

    def apply(p: Any, x: Any) -> Any:
        x = jax.nn.relu(conv(x, p["a"], (1, 1), "SAME", dimension_numbers=layout))
        x = jax.nn.relu(conv(x, p["b"], (2, 2), "SAME", dimension_numbers=layout))
        return x.reshape(len(x), -1) @ p["out"]

    return task(init, apply, (8, 8, 1))


def transformer() -> search.Supervised:
    wide, heads, layers, tokens = 64, 4, 2, 32

    def init(key: jax.Array) -> Any:
        keys = jax.random.split(key, layers + 1)
        return {
            "blocks": [
                dense(k, qkv=(wide, 3 * wide), mix=(wide, wide), up=(wide, 256), down=(256, wide))
                for k in keys[:-1]
            ],
            **dense(keys[-1], into=(8, wide), out=(wide, 10), place=(tokens, wide)),
        }

    def norm(x: Any) -> Any:
        return x * jax.lax.rsqrt(jnp.mean(x * x, axis=-1, keepdims=True) + 1e-6)

    def apply(p: Any, x: Any) -> Any:
        x = x @ p["into"] + p["place"][None]
        for block in p["blocks"]:
            q, k, v = jnp.split(norm(x) @ block["qkv"], 3, axis=-1)
            q, k, v = (y.reshape(len(x), tokens, heads, -1) for y in (q, k, v))
            x = x + jax.nn.dot_product_attention(q, k, v).reshape(x.shape) @ block["mix"]
            x = x + jax.nn.gelu(norm(x) @ block["up"]) @ block["down"]
        return norm(x).mean(axis=1) @ p["out"]

    return task(init, apply, (tokens, 8), optimizer=optax.adam)


def dense(key: jax.Array, **shapes: tuple[int, ...]) -> Any:
    keys = jax.random.split(key, len(shapes))
    return {
        name: jax.random.normal(k, shape) / np.prod(shape[:-1]) ** 0.5
        for k, (name, shape) in zip(keys, shapes.items(), strict=True)
    }


def task(init: Any, apply: Any, shape: tuple[int, ...], optimizer: Any = None) -> Any:
    rng = np.random.RandomState(0)
    x = rng.randn(4096 + 512, *shape).astype(np.float32)
    y = (x.reshape(len(x), -1) @ rng.randn(int(np.prod(shape)), 10)).argmax(axis=1)
    return search.Supervised(
        (init, apply),
        optimizer or (lambda learning_rate: optax.sgd(learning_rate, momentum=0.9)),
        optax.softmax_cross_entropy_with_integer_labels,
        train=(x[:4096], y[:4096]),
        validation=(x[4096:], y[4096:]),
        batch_size=64,
    )


def rates(count: int, steps: int | None = None) -> list[js.AbstractSchedule]:
    """Cosines to 0 from as many peaks, no two alike: none shares a prefix with another."""
    peaks = np.geomspace(1e-3, 1e-1, max(count, 2))
    return [js.cosine_decay(float(peak), steps or STEPS) for peak in peaks]


# --------------------------------------------------------------------------------------- the rows


def widths(name: str, make: Callable[[], Any], end: float) -> None:
    """A sweep at each width, against the same runs one after the other."""
    model = make()
    few = 4  # runs that are timed at width 1; each costs the same
    alone, _ = timed(model, rates(few), 1)
    say(f"{name}, width 1", f"{1e6 * alone / few / STEPS:.1f} us for each run and update", "1")
    took = 0.0
    for width, before in zip(WIDTHS[1:], WIDTHS, strict=False):
        began = time.monotonic()
        if began + took * width / before > end:
            say(f"{name}, width {width}", "not begun: too little time is left", "-")
            return
        schedules = rates(width)
        seconds, compiled = timed(model, schedules, width)
        say(
            f"{name}, width {width}, one after the other : side by side",
            f"{1e6 * seconds / width / STEPS:.2f} us for each run and update, compiled in "
            f"{compiled:.1f} s, {memory()}",
            f"{(alone / few) / (seconds / width):.1f}",
        )
        took = time.monotonic() - began
    began = time.monotonic()
    found = js.sweep(model, rates(WIDTHS[-1]), steps=STEPS, width="auto")
    say(
        f'{name}, N={WIDTHS[-1]}, width="auto"',
        f"{time.monotonic() - began:.1f} s with all that it measured",
        f"width {found.info['width']}",
    )


def rounding() -> None:
    """How far the losses of a run side by side with others are from those of a solo run, and why.

    By default an accelerator multiplies float32 matrices in fewer digits (TF32, bfloat16), with
    another rounding in a batched product. In full precision they must agree, at the lowest peak: at
    the highest, Adam's first updates make of any rounding what they like.
    """
    width, failed = min(64, WIDTHS[-1]), []
    for name, make in (("MLP", mlp), ("CNN", cnn), ("transformer", transformer)):
        for precision in ("default", "highest"):
            with jax.default_matmul_precision(precision):
                schedules = rates(width)
                wide = js.sweep(make(), schedules, steps=STEPS, width=width)
                solo = js.sweep(make(), [schedules[0], schedules[-1]], steps=STEPS, width=1)
            apart = np.abs(wide.train["loss"][[0, -1], 0, 0] / solo.train["loss"][:, 0, 0] - 1)
            low, high = apart.max(axis=1)
            say(
                f"{name}, width {width} against solo runs, {precision} matmul precision",
                f"relative difference of the losses in 16 updates; in {STEPS} updates {low:.1e} "
                f"at the lowest peak, {high:.1e} at the highest",
                f"{apart[:, :16].max():.1e}",
            )
            if precision == "highest" and not apart[0, :16].max() <= TOLERANCE:
                failed.append(name)
    if failed:
        sys.exit(f"not within {TOLERANCE:g} in full precision: {', '.join(failed)}")


def timed(model: Any, schedules: Any, width: int) -> tuple[float, float]:
    """Wall seconds of a warm sweep, and how much longer the first one took."""

    def call() -> Any:
        return js.sweep(model, schedules, steps=STEPS, width=width)

    began = time.perf_counter()
    call()
    cold = time.perf_counter() - began
    seconds = statistics.median(wall(call) for _ in range(3))
    return seconds, cold - seconds


def wall(call: Callable[[], Any]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def memory() -> str:
    """The most that JAX has held on the device so far; widths are tried from small to large."""
    stats = jax.devices()[0].memory_stats()
    if not stats or "peak_bytes_in_use" not in stats:
        return "memory unknown"
    return f"at most {stats['peak_bytes_in_use'] / 2**20:.0f} MiB"


def loop() -> None:
    """The engine against the shortest loop, a jitted scan over a vmapped step: short and long."""
    model, width = mlp(), min(64, WIDTHS[-1])

    @jax.jit
    def by_hand(tables: Any, batches: Any) -> Any:
        def run(table: Any) -> Any:
            def step(state: Any, row: Any) -> Any:
                rate, batch = row
                state, metrics = model.step(state, {"learning_rate": rate}, batch)
                return state, metrics["loss"]

            state, losses = jax.lax.scan(step, model.init(jax.random.key(0)), (table, batches))
            return losses, model.evaluate(state)

        return jax.vmap(run)(tables)

    for steps in (STEPS, 16 * STEPS):
        schedules = rates(width, steps)
        batches = jax.device_put(model.batches(0, 0, steps))

        def hand(schedules: Any = schedules, batches: Any = batches, steps: int = steps) -> Any:
            tables = jnp.stack([js.sample(s, steps) for s in schedules])
            return jax.device_get(by_hand(tables, batches))

        def ours(schedules: Any = schedules, steps: int = steps) -> Any:
            return js.sweep(model, schedules, steps=steps, width=width)

        wall(ours), wall(hand)
        pairs = [(wall(ours), wall(hand)) for _ in range(5)]
        sweep, scan = (statistics.median(side) for side in zip(*pairs, strict=True))
        say(
            f"MLP, N={width}, T={steps}, engine : hand-written scan",
            f"{1e3 * sweep:.1f} and {1e3 * scan:.1f} ms, schedules tabulated in both",
            f"{sweep / scan:.2f}",
        )


def schedule_in_the_step() -> None:
    """What a schedule costs inside a compiled training loop, against a constant rate."""
    model = mlp()
    steps = 16 * STEPS
    batches = jax.device_put(model.batches(0, 0, steps))
    ours = js.warmup_cosine(0.05, steps, warmup=100)
    theirs = optax.warmup_cosine_decay_schedule(0.0, 0.05, 100, steps)
    inputs, targets = jax.random.normal(jax.random.key(1), (4096, 64)), jnp.zeros(4096, jnp.int32)
    first = model.init(jax.random.key(0)).params

    def program(tx: Any) -> Any:
        def run(params: Any, state: Any) -> Any:
            def step(carry: Any, batch: Any) -> Any:
                params, state = carry

                def loss(p: Any) -> Any:
                    outputs = jax.nn.relu(inputs[batch] @ p["a"]) @ p["b"]
                    each = optax.softmax_cross_entropy_with_integer_labels(outputs, targets[batch])
                    return each.mean()

                value, grads = jax.value_and_grad(loss)(params)
                updates, state = tx.update(grads, state, params)
                return (optax.apply_updates(params, updates), state), value

            return jax.lax.scan(step, (params, state), batches)[1]

        compiled = jax.jit(run).lower(first, tx.init(first)).compile()
        return lambda: jax.block_until_ready(compiled(first, tx.init(first)))

    sides = {
        "constant": program(optax.sgd(0.05, momentum=0.9)),
        "jaxsched": program(optax.sgd(ours, momentum=0.9)),
        "injected": program(js.inject(optax.sgd, static_args=("momentum",))(ours, momentum=0.9)),
        "optax": program(optax.sgd(theirs, momentum=0.9)),
    }
    times: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(7):
        for name, call in sides.items():
            times[name].append(wall(call))
    medians = {name: statistics.median(each) for name, each in times.items()}
    for name in ("jaxsched", "injected", "optax"):
        say(
            f"MLP step, warmup-cosine {name} : constant rate",
            f"{1e6 * medians[name] / steps:.2f} and {1e6 * medians['constant'] / steps:.2f} us",
            f"{medians[name] / medians['constant']:.3f}",
        )


def range_test() -> None:
    """Seeds side by side against seeds one after the other, and whether both say the same."""
    model, seeds = mlp(), SEEDS
    found = {}
    for width in (1, seeds):

        def call(width: int = width) -> Any:
            return js.range_test(model, seeds=seeds, width=width)

        first = wall(call)
        seconds = wall(call)
        found[width] = (call().peak, min(first, seconds))
    (alone, one), (together, many) = found[1], found[seeds]
    say(
        f"range test, MLP, {seeds} seeds, one after the other : side by side",
        f"{one:.2f} and {many:.2f} s; suggested peaks {alone:.3g} and {together:.3g}",
        f"{one / many:.1f}",
    )


def examples() -> None:
    """The flagship examples themselves, whole."""
    for name in ("letter_mlp", "digits_cnn"):
        out = os.path.join(os.environ.get("OUT", "out"), f"{name}.png")
        command = [sys.executable, "-m", f"examples.{name}", "--out", out]
        began = time.perf_counter()
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        seconds = time.perf_counter() - began
        if done.returncode:
            print(f"examples.{name} failed:\n{done.stderr[-2000:]}", flush=True)
            continue
        print(f"examples.{name}: {seconds:.0f} s of wall time")
        print("    " + done.stdout.strip().replace("\n", "\n    "), flush=True)


if __name__ == "__main__":
    main()
