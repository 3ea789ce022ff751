# ruff: noqa: B023  # the closures are called inside the loop that they are made in
"""What a sweep costs: ours beside the loops that people write, in turns in one run.

    taskset -c 0 python -m benchmarks.sweep          # some minutes; or name rows: ... sweep loops

Times are CPU seconds of this process, compilation included where a row says "cold". Ratios depend
on the number of trials N and of steps T, so every row names them.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

import jaxsched as js
from benchmarks import versions
from jaxsched import search
from jaxsched.search.engine._plan import LENGTH
from jaxsched.search.engine._program import Program
from jaxsched.search.tasks._traced import trace_folds

ONE = jax.local_devices()[:1]
RATES = np.geomspace(1e-3, 0.3, 64)  # repeated where more are asked for


def main(names: list[str]) -> None:
    rows: dict[str, Callable[[], Any]] = {
        "loops": lambda: loops(64, 300),
        "long": lambda: loops(8, 3000),
        "sizes": sizes,
        "convolution": convolution,
        "network": network,
        "overhead": overhead,
        "gemm": gemm,
        "prefixes": prefixes,
        "grown": grown,
        "halving": halving,
        "mixed": mixed,
        "watched": watched,
        "cache": cache,
        "width": width,
        "memory": memory,
    }
    if names[:1] == ["--child"]:
        child(*names[1:])
        return
    print(versions())
    for name in names or rows:
        rows[name]()


# --------------------------------------------------------------------------------- what is trained


def mlp(hidden: int = 128, features: int = 64, batch: int = 64) -> search.Supervised:
    def init(key: jax.Array) -> Any:
        a, b = jax.random.split(key)
        return {
            "a": jax.random.normal(a, (features, hidden)) / features**0.5,
            "b": jax.random.normal(b, (hidden, 10)) / hidden**0.5,
        }

    def apply(params: Any, x: Any) -> Any:
        return jax.nn.relu(x @ params["a"]) @ params["b"]

    return task((init, apply), (features,), batch)


class Cnn(nnx.Module):
    def __init__(self, rngs: nnx.Rngs, **options: Any):
        self.a = nnx.Conv(1, 16, (3, 3), rngs=rngs, **options)
        self.b = nnx.Conv(16, 32, (3, 3), strides=2, rngs=rngs, **options)
        self.out = nnx.Linear(4 * 4 * 32, 10, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        x = jax.nn.relu(self.b(jax.nn.relu(self.a(x))))
        return self.out(x.reshape(x.shape[0], -1))


def cnn() -> search.Supervised:
    return task(lambda rngs: Cnn(rngs, conv_general_dilated=search.cpu_conv), (8, 8, 1))


def task(model: Any, shape: tuple[int, ...], batch: int = 64) -> search.Supervised:
    rng = np.random.RandomState(0)
    x = rng.randn(1536 + 256, *shape).astype(np.float32)
    y = (x.reshape(len(x), -1) @ rng.randn(int(np.prod(shape)), 10)).argmax(axis=1)
    return search.Supervised(
        model,
        lambda learning_rate: optax.sgd(learning_rate, momentum=0.9),
        optax.softmax_cross_entropy_with_integer_labels,
        train=(x[:1536], y[:1536]),
        validation=(x[1536:], y[1536:]),
        batch_size=batch,
    )


def rebuilding_loop(task: Any, schedule: Any, steps: int) -> Any:
    """What most people write: an optimizer and a jitted step for each schedule."""
    rows = task.batches(0, 0, steps)
    tx = optax.sgd(schedule, momentum=0.9)
    state = task.init(jax.random.key(0))
    params, opt_state = state.params, tx.init(state.params)

    @jax.jit
    def step(params: Any, opt_state: Any, batch: Any) -> Any:
        x, y = (a[batch] for a in task._data)

        def loss(p: Any) -> Any:
            outputs = task._static.model.apply(p, state.rest, x, True)[0]
            return optax.softmax_cross_entropy_with_integer_labels(outputs, y).mean()

        value, grads = jax.value_and_grad(loss)(params)
        updates, opt_state = tx.update(grads, opt_state, params)
        return optax.apply_updates(params, updates), opt_state, value

    for row in rows:
        params, opt_state, _ = step(params, opt_state, row)
    return jax.block_until_ready(params)


def careful_loop(task: Any, schedules: Any, steps: int) -> Any:
    """What few write: one jitted step, the rate passed in."""
    init, step = jax.jit(task.init), jax.jit(task.step)
    rows = task.batches(0, 0, steps)
    for schedule in schedules:
        state = init(jax.random.key(0))
        for t, rate in enumerate(js.sample(schedule, steps)):
            state, _ = step(state, {"learning_rate": rate}, rows[t])
    return jax.block_until_ready(state)


# --------------------------------------------------------------------------------------- the rows


def sizes() -> None:
    for count in (1, 4, 16, 256):
        loops(count, 300)


def loops(
    count: int,
    steps: int,
    make: Any = mlp,
    name: str = "MLP",
    theirs: Any = None,
    wall: bool = False,
) -> None:
    clock, devices = (time.perf_counter, None) if wall else (time.process_time, ONE)
    rates = np.resize(RATES, count) * (1 + 1e-3 * np.arange(count))  # no two alike: none is shared
    schedules = [js.cosine_decay(float(rate), steps) for rate in rates]
    few = min(4, count)
    for schedule in schedules[:1]:  # so that no one pays for the first import of anything
        rebuilding_loop((theirs or make)(), schedule, 3)
    rebuild, careful, ours = [], [], []
    for _ in range(3):
        model, other = make(), (theirs or make)()
        again = lambda: [rebuilding_loop(other, s, steps) for s in schedules[:few]]
        rebuild.append(cold(again, clock))
        careful.append(cold(lambda: careful_loop(other, schedules, steps), clock))
        ours.append(cold(lambda: sweep(model, schedules, steps=steps, devices=devices), clock))
    each, loop, engine = map(statistics.median, (rebuild, careful, ours))
    say(
        f"{name}, N={count}, T={steps}, cold" + ", wall time" * wall,
        f"rebuilding loop {each / few * count:.2f} s ({few} measured), "
        f"one-compilation loop {loop:.2f} s, sweep {engine:.2f} s",
        f"{each / few * count / engine:.1f} and {loop / engine:.2f}",
    )


def network(count: int = 16, wall: bool = False) -> None:
    # In a Python loop, where XLA's convolution is not slow, people have no reason to replace it.
    plain = lambda: task(lambda rngs: Cnn(rngs), (8, 8, 1))
    loops(count, 300, cnn, "CNN, XLA's convolution in the loops", plain, wall)


def convolution() -> None:
    """A scan over training steps: XLA's convolution and ours; and XLA's in a Python loop."""
    for name, shape, kernel in (
        ("2-D", (8, 8, 1), lambda rngs, **o: Cnn(rngs, **o)),
        ("1-D", (40, 1), lambda rngs, **o: Cnn1d(rngs, **o)),
    ):
        times = {}
        for which, options in (("XLA", {}), ("ours", {"conv_general_dilated": search.cpu_conv})):
            model = task(lambda rngs, o=options: kernel(rngs, **o), shape)
            steps = 30 if which == "XLA" else 300
            times[which] = per_step(model, steps)
        say(
            f"convolution in a compiled loop, {name}",
            f"XLA {1e6 * times['XLA']:.0f} us, ours {1e6 * times['ours']:.0f} us a step",
            f"{times['XLA'] / times['ours']:.1f}",
        )


class Cnn1d(nnx.Module):
    def __init__(self, rngs: nnx.Rngs, **options: Any):
        self.a = nnx.Conv(1, 25, (5,), strides=2, rngs=rngs, **options)
        self.b = nnx.Conv(25, 25, (3,), strides=2, rngs=rngs, **options)
        self.c = nnx.Conv(25, 25, (3,), strides=2, rngs=rngs, **options)
        self.out = nnx.Linear(125, 10, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        for layer in (self.a, self.b, self.c):
            x = jax.nn.relu(layer(x))
        return self.out(x.reshape(x.shape[0], -1))


def segment_of(model: Any, width: int = 1) -> tuple[Any, list[Any]]:
    """The compiled segment and its arguments, up to the rates."""
    names = ("learning_rate",)
    (fold,) = trace_folds(model, None, names, LENGTH)
    program = Program(fold, names, LENGTH, width)
    arrays = program.arguments(fold, ONE[0])
    state = program.init(arrays, *program.start(0, ONE[0]))
    rows = jax.device_put(model.batches(0, 0, program.length))
    alive = np.ones(() if width == 1 else width, bool)
    if width > 1:
        state, rows = program.stack([state] * width), program.stack([rows] * width)
    return program, [arrays, state, alive, rows]


def per_step(model: Any, steps: int, width: int = 1) -> float:
    program, (arrays, state, alive, rows) = segment_of(model, width)
    rates = np.full((1, program.length), 0.01, np.float32)
    rates = rates if width == 1 else np.stack([rates] * width)
    steps = min(steps, program.length)

    def call() -> Any:
        bounds = (np.int32(0), np.int32(steps), np.float32(np.inf))
        return jax.block_until_ready(program.segment(arrays, state, alive, rates, rows, *bounds))

    call()
    return min(cpu(call) for _ in range(5)) / (steps * width)


def overhead() -> None:
    """The engine against the shortest loop over the same compiled segment."""
    for name, model, steps, runs in (
        ("MLP", mlp(), 4096, 16),
        ("tiny (64-16-10, batch 16)", mlp(16, 64, 16), 4096, 64),
    ):
        schedules = [js.cosine_decay(float(r), steps) for r in RATES[:runs]]
        program, (arrays, first, alive, _) = segment_of(model)
        count = steps // program.length
        rows = [
            jax.device_put(model.batches(0, k * program.length, program.length))
            for k in range(count)
        ]

        def by_hand() -> None:
            for schedule in schedules:
                table = js.sample(schedule, steps)[None]
                state, seen = first, []
                for k in range(count):
                    rates = table[:, k * program.length : (k + 1) * program.length]
                    bounds = (np.int32(0), np.int32(program.length), np.float32(np.inf))
                    state, _, losses = program.segment(
                        arrays,
                        state,
                        alive,
                        rates,
                        rows[k],
                        *bounds,
                    )
                    seen.append(losses)
                jax.device_get(seen)
                jax.device_get(program.evaluate(arrays, state))

        by_hand()
        sweep(model, schedules, steps=steps)
        hand, ours = [], []
        for _ in range(5):
            hand.append(cpu(by_hand))
            ours.append(cpu(lambda: sweep(model, schedules, steps=steps)))
        say(
            f"{name}, N={runs}, T={steps}, warm",
            f"by hand {min(hand):.3f} s, sweep {min(ours):.3f} s",
            f"{min(ours) / min(hand):.3f}",
        )


def gemm() -> None:
    a = jnp.ones((1024, 1024))
    product = jax.jit(lambda a: a @ a)
    jax.block_until_ready(product(a))
    best = 2 * 1024**3 / min(cpu(lambda: jax.block_until_ready(product(a))) for _ in range(10))
    for name, model, flops in (
        ("MLP", mlp(), 6 * 64 * (64 * 128 + 128 * 10) - 2 * 64 * 64 * 128),
        ("tiny", mlp(16, 64, 16), 6 * 16 * (64 * 16 + 16 * 10) - 2 * 16 * 64 * 16),
    ):
        rate = flops / per_step(model, 256)
        say(
            f"{name}, products alone",
            f"{rate / 1e9:.1f} of {best / 1e9:.1f} GFLOP/s",
            f"{rate / best:.2f}",
        )


def prefixes() -> None:
    model = mlp()
    cases = {
        "WSD, 8 cooldown starts": [
            js.wsd(0.1, 4800, warmup=100, decay=d) for d in range(400, 2000, 200)
        ],
        "step decay, 16 drops": [js.multi_step(0.1, 0.1, [m]) for m in range(1600, 4800, 200)],
        "8 horizons of one trunk": [
            js.wsd(0.1, n, warmup=100, decay=400) for n in range(1600, 4800, 400)
        ],
    }
    for name, schedules in cases.items():
        steps = None if "horizons" in name else 4800
        sweep(model, schedules[:1], steps=steps)
        with_, without = [], []
        for _ in range(3):
            with_.append(cpu(lambda: sweep(model, schedules, steps=steps)))
            without.append(cpu(lambda: sweep(model, schedules, steps=steps, share_prefixes=False)))
        a = sweep(model, schedules, steps=steps)
        b = sweep(model, schedules, steps=steps, share_prefixes=False)
        equal = a.train["loss"].tobytes() == b.train["loss"].tobytes()
        wanted = a.steps_asked / a.steps_trained
        got = min(without) / min(with_)
        say(
            f"prefix sharing, {name}",
            f"steps {a.steps_asked} : {a.steps_trained} = {wanted:.2f}, time {min(without):.2f} : "
            f"{min(with_):.2f} = {got:.2f}, bits equal: {equal}",
            f"{got / wanted:.2f} of ideal",
        )


def grown() -> None:
    """Updates that a second sweep in a directory trains : those that the first has not trained."""
    steps = 300_000  # three seconds: of much shorter runs fewer states are kept
    model = mlp(16, 64, 16)
    wsd = lambda length, decay: js.wsd(0.01, length, warmup=steps // 20, decay=decay)
    cosine = lambda warmup, length=steps: js.warmup_cosine(0.01, length, warmup=warmup)
    first, early = [wsd(steps, steps // 5)], [cosine(steps // 20)]
    trunk = [js.warmup_constant(0.01, steps // 20, steps)]
    cases: dict[str, tuple[list[Any], list[Any], int]] = {
        "longer decay, same length": (first, [wsd(steps, 2 * steps // 5)], 1),
        "longer decay, 37.7 %": (first, [wsd(steps, round(0.377 * steps))], 1),
        "longer wsd": (first, [wsd(2 * steps, steps // 5)], 1),
        "wsd after its trunk": (trunk, first, 1),
        "other kind, same warmup": (early, [js.warmup_linear(0.01, steps, steps // 20)], 1),
        "longer cosine and warmup": (early, [cosine(steps // 10, 2 * steps)], 1),
        "more seeds": (first, [], 2),
    }
    for name, (before, more, seeds) in cases.items():
        with tempfile.TemporaryDirectory() as folder:
            had = sweep(model, before, checkpoint=folder).steps_trained
            result = sweep(model, [*before, *more], seeds=seeds, checkpoint=folder)
        missing = result.steps_trained - had
        trained = result.steps_trained - result.info.stored
        say(f"grown, {name}", f"steps {trained} : {missing}", f"{trained / missing:.3f}")


def halving() -> None:
    schedules = [js.Constant(float(r)) for r in RATES]
    rule = search.SuccessiveHalving(first=50, eta=2)
    full, halved, warm_full, warm = [], [], [], []
    for _ in range(3):
        model = mlp()
        full.append(cold(lambda: sweep(model, schedules, steps=1600, share_prefixes=False)))
        warm_full.append(cpu(lambda: sweep(model, schedules, steps=1600, share_prefixes=False)))
        other = mlp()
        halved.append(cold(lambda: sweep(other, schedules, steps=1600, stopping=rule)))
        warm.append(cpu(lambda: sweep(other, schedules, steps=1600, stopping=rule)))
    result = sweep(mlp(), schedules, steps=1600, stopping=rule)
    ideal = result.steps_asked / result.steps_trained
    say(
        "successive halving, N=64, T=1600, eta 2",
        f"cold {min(full):.2f} : {min(halved):.2f}, warm {min(warm_full):.2f} : {min(warm):.2f}, "
        f"steps {ideal:.2f}, traces {result.info['traces']}",
        f"cold {min(full) / min(halved):.2f}, "
        f"warm {min(warm_full) / min(warm) / ideal:.2f} of ideal",
    )


def mixed() -> None:
    model = mlp()
    one = [js.cosine_decay(float(r), 1000) for r in RATES[:16]]
    kinds = [
        js.cosine_decay,
        lambda r, n: js.wsd(r, n, 50, 200),
        js.one_cycle,
        lambda r, n: js.step_decay(r, 0.5, 300),
        js.polynomial_decay,
    ]
    many = [kinds[i % 5](float(r), 1000) for i, r in enumerate(RATES[:16])]
    sweep(model, one, steps=1000)
    a, b = [], []
    for _ in range(5):
        a.append(cpu(lambda: sweep(model, one, steps=1000)))
        b.append(cpu(lambda: sweep(model, many, steps=1000)))
    say(
        "mixed kinds : one kind, N=16, T=1000, warm",
        f"{min(b):.3f} : {min(a):.3f} s",
        f"{min(b) / min(a):.3f}",
    )


def watched() -> None:
    """Controllers with a report every 100 updates, against schedules; and what they share."""
    model = mlp()
    plain = [js.cosine_decay(float(r), 2000) for r in RATES[:16]]
    alone = [js.Plateau(schedule, patience=1) for schedule in plain]
    same = [
        js.Plateau(0.1, factor=factor, patience=patience)
        for factor in (0.1, 0.3, 0.5, 0.7)
        for patience in (2, 4, 6, 8)
    ]
    asked: dict[str, Any] = {"steps": 2000, "evaluate_every": 100}
    for trials in (plain, alone):
        sweep(model, trials, **asked)
    a, b, c, d = [], [], [], []
    for _ in range(3):
        a.append(cpu(lambda: sweep(model, plain, **asked)))
        b.append(cpu(lambda: sweep(model, alone, **asked)))
        c.append(cpu(lambda: sweep(model, same, **asked)))
        d.append(cpu(lambda: sweep(model, same, share_prefixes=False, **asked)))
    result = sweep(model, same, **asked)
    wanted, got = result.steps_asked / result.steps_trained, min(d) / min(c)
    say(
        "controllers, N=16, T=2000, told every 100, warm",
        f"schedules {min(a):.2f} s, controllers {min(b):.2f} s; 4 factors x 4 patiences: steps "
        f"{result.steps_asked} : {result.steps_trained} = {wanted:.2f}, time {got:.2f}",
        f"{min(b) / min(a):.3f}, {got / wanted:.2f} of ideal",
    )


def width() -> None:
    model = mlp(16, 64, 16)
    schedules = [js.cosine_decay(float(r), 2000) for r in RATES]
    for choice in (1, "auto"):
        sweep(model, schedules, steps=2000, width=choice)
    a, b = [], []
    for _ in range(3):
        a.append(cpu(lambda: sweep(model, schedules, steps=2000)))
        b.append(cpu(lambda: sweep(model, schedules, steps=2000, width="auto")))
    chosen = sweep(model, schedules, steps=2000, width="auto").info["width"]
    say(
        "tiny model, N=64, T=2000, warm",
        f"width 1 {min(a):.2f} s, auto ({chosen}) {min(b):.2f} s",
        f"{min(a) / min(b):.2f}",
    )


def cache() -> None:
    with tempfile.TemporaryDirectory() as directory:
        seconds = [float(run_child("cache", directory)) for _ in range(3)]
    first, *later = seconds
    say(
        "second start with JAX's compilation cache",
        f"compiling {first:.2f}, then {later[0]:.2f} and {later[1]:.2f} s",
        f"{first / min(later):.1f}",
    )


def memory() -> None:
    peak = {n: float(run_child("memory", str(n))) for n in (0, 16, 256)}
    say(
        "peak memory beyond one step of one run, T=300",
        f"N=16 {peak[16] - peak[0]:.1f} MB, N=256 {peak[256] - peak[0]:.1f} MB",
        f"{peak[256] / peak[16]:.3f} in all",
    )


# ----------------------------------------------------------------------------------------- details


def child(which: str, argument: str) -> None:
    if which == "cache":
        jax.config.update("jax_compilation_cache_dir", argument)
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
        jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
        spent: list[float] = []

        def listen(event: str, duration_secs: float, **_: Any) -> None:
            if "backend_compile" in event:
                spent.append(duration_secs)

        jax.monitoring.register_event_duration_secs_listener(listen)
        sweep(mlp(), [js.Constant(0.1)], steps=10)
        print(sum(spent))
        return
    count = int(argument)
    rates = np.geomspace(1e-3, 0.3, max(count, 1))
    sweep(mlp(512), [js.Constant(float(r)) for r in rates], steps=300 if count else 1)
    # Not getrusage: its peak is inherited from the process that started this one.
    status = Path("/proc/self/status").read_text()
    print(int(status.split("VmHWM:")[1].split()[0]) / 1024)


def run_child(*arguments: str) -> str:
    command = [sys.executable, "-m", "benchmarks.sweep", "--child", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def sweep(model: Any, trials: Any, **arguments: Any) -> search.SweepResult:
    return search.sweep(model, trials, **{"devices": ONE, "progress": False, **arguments})


def cpu(call: Callable[[], Any]) -> float:
    begin = time.process_time()
    call()
    return time.process_time() - begin


def cold(call: Callable[[], Any], clock: Callable[[], float] = time.process_time) -> float:
    jax.clear_caches()
    begin = clock()
    call()
    return clock() - begin


def say(row: str, what: str, ratio: str) -> None:
    print(f"{row}: {what} -> {ratio}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
