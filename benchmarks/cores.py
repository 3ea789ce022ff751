"""Wall time on all cores, where the other scripts count CPU seconds of one.

    python -m benchmarks.cores               # 6 minutes; or name rows: ... cores short tiny

The first three rows compare with the loops that people write, compilation included. The others run
one sweep in processes that may use all cores or one of them, and with one thread on all cores.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

import jaxsched as js
from benchmarks import versions
from benchmarks.sweep import ONE, RATES, cnn, loops, mlp, network, say, sweep

MODELS: dict[str, Callable[[], Any]] = {
    "tiny": lambda: mlp(16, 64, 16),
    "MLP": mlp,
    "CNN": cnn,
    "products": lambda: mlp(1024, 1024, 256),
    "large products": lambda: mlp(2048, 2048, 256),
}


def main(names: list[str]) -> None:
    rows: dict[str, Callable[[], Any]] = {
        "short": lambda: loops(64, 300, wall=True),
        "long": lambda: loops(64, 3000, wall=True),
        "convolution": lambda: network(64, wall=True),
        "tiny": lambda: threads("tiny", 64, 3000),
        "MLP": lambda: threads("MLP", 32, 3000),
        "CNN": lambda: threads("CNN", 4, 3000),
        "products": lambda: threads("products", 6, 100),
        "large products": lambda: threads("large products", 6, 16),
        "workers": workers,
    }
    if names[:1] == ["--child"]:
        child(*names[1:])
        return
    print(versions())
    for name in names or rows:
        rows[name]()


def threads(name: str, count: int, steps: int) -> None:
    each = (name, str(count), str(steps))
    cold, warm, used = run_child(*each, "all")
    one_cold, one_warm, _ = run_child(*each, "all", first=("taskset", "-c", "0"))
    thread_cold, thread_warm, _ = run_child(*each, "thread")
    say(
        f"{name}, N={count}, T={steps}, wall time, cold and warm",
        f"all cores ({used:.0f} threads) {cold:.2f} and {warm:.2f} s, one core {one_cold:.2f} "
        f"and {one_warm:.2f} s, one thread {thread_cold:.2f} and {thread_warm:.2f} s",
        f"one core : all {one_cold / cold:.2f} and {one_warm / warm:.2f}, "
        f"all : one thread {cold / thread_cold:.2f} and {warm / thread_warm:.2f}",
    )


def workers(count: int = 6, steps: int = 240_000) -> None:
    """Units of 10 s in two processes with a core each, and in one."""
    context, seconds, schedules = get_context("spawn"), {}, [js.Constant(r) for r in RATES[:count]]
    for number in (2, 1):
        place = (context.Value("i", 0),)
        with ProcessPoolExecutor(number, context, initializer=pin, initargs=place) as pool:
            arguments = {"devices": None, "executor": pool, "units": count}
            for length in (100, steps):  # the first so that no one pays for a start
                begin = time.perf_counter()
                sweep("benchmarks.sweep:mlp", schedules, steps=length, **arguments)
                seconds[number] = time.perf_counter() - begin
    say(
        f"MLP, units of one trial, N={count}, T={steps}",
        f"two workers {seconds[2]:.1f} s, one {seconds[1]:.1f} s",
        f"{seconds[1] / seconds[2]:.2f}",
    )


def pin(core: Any) -> None:
    with core.get_lock():
        os.sched_setaffinity(0, {core.value})
        core.value += 1


def child(name: str, count: str, steps: str, where: str) -> None:
    model, schedules = MODELS[name](), [js.Constant(float(r)) for r in RATES[: int(count)]]
    devices = ONE if where == "thread" else None
    sweep(mlp(8, 8, 8), schedules[:1], steps=1)  # so that no one pays for the first import
    for _ in range(2):
        begin = time.perf_counter()
        result = sweep(model, schedules, steps=int(steps), devices=devices)
        print(time.perf_counter() - begin)
    print(result.info.threads)


def run_child(*arguments: str, first: tuple[str, ...] = ()) -> tuple[float, ...]:
    command = [*first, sys.executable, "-m", "benchmarks.cores", "--child", *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return tuple(map(float, done.stdout.split()))


if __name__ == "__main__":
    main(sys.argv[1:])
