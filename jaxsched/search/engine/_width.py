"""The width (runs vectorized together): measured, and bounded by memory."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import numpy as np
from jax.stages import Compiled

from jaxsched._checks import check_room
from jaxsched._machine import free_memory
from jaxsched.search.engine._feed import padded
from jaxsched.search.engine._plan import Plan
from jaxsched.search.engine._program import Program
from jaxsched.search.tasks._pool import device_memory
from jaxsched.search.tasks._reading import READING

_CANDIDATES = (1, 8, 64, 256)
_STEPS = 32
_GAIN = 1.1  # the least gain of a greater width: at width 1 a run has the bits of a solo run
_SHARE = 0.1  # the time to measure, as a fraction of the time to train


def chosen_width(
    plan: Plan, given: int | str | None, device: jax.Device, stored: Callable[[str], int | None]
) -> tuple[int, bool]:
    """The width on a device, and whether it was measured, now or earlier.

    Args:
        plan: of the sweep.
        given: lanes; "auto" measures; ``None``: 1 on a CPU, else "auto".
        device: one of the training devices.
        stored: platform -> the width of runs in a store, taken in place of a measured one.

    Raises:
        ValueError: if runs must not be vectorized, or there is no memory for so many values.
    """
    if given is None:
        given = 1 if device.platform == "cpu" else "auto"
    if mixed := next(filter(None, (fold.mixes_lanes for fold in plan.folds)), ""):
        if given not in (1, "auto"):
            raise ValueError(
                f"{plan.caller}(width=...) must be 1 for a task whose `{mixed}` draws from keys of "
                f'"rbg", got {given}: `jax.vmap` draws for all runs from the key of one. Use keys '
                'of "threefry2x32".'
            )
        given = 1
    if measured := isinstance(given, str):
        programs = partial(Program, plan.folds[0], plan.table.names, plan.length)
        given = stored(device.platform) or measured_width(plan, programs, device)
    if (lanes := int(given)) > 1:
        size, what = 4 * lanes * len(plan.table.names) * plan.length, f"the values of {lanes} lanes"
        check_room(f"{plan.caller}(width=...)", size, what, "Train fewer side by side.")
    return lanes, measured


def measured_width(plan: Plan, programs: Callable[[int], Program], device: jax.Device) -> int:
    """The width with the least time per run and update, among the ones that fit into memory.

    On a CPU a small matrix product already fills the core, so only tiny models gain; an
    accelerator gains up to its memory. A short sweep isn't measured: compiling for another width
    takes at least as long as for width 1, and would not pay.
    """
    runs = len(plan.stages) * len(plan.runs)
    updates = _updates(plan)
    best, least = 1, math.inf
    spent = took = 0.0
    for width in _CANDIDATES:
        if width > max(1, runs):
            break
        # Twice, since the program is compiled to measure and again to train: it isn't kept.
        if width > 1 and spent + 2 * took > _SHARE * updates * least:
            break
        began = time.perf_counter()
        # Few in a short sweep: these updates are lost.
        count = max(1, min(_STEPS, plan.length, updates // 100))
        seconds = seconds_per_update(plan, programs(width), device, count)
        took = time.perf_counter() - began
        spent += took if width > 1 else 0.0  # the program of width 1 is kept
        if seconds is None:
            break
        if seconds * _GAIN < least:
            best, least = width, seconds
    return best


def _updates(plan: Plan) -> int:
    """The least number of updates: early stopping may keep only one trial after its first rung."""
    first = plan.rungs[0] if plan.rungs else math.inf
    stages = sum(stage.stop - stage.start for stage in plan.stages if stage.stop <= first)
    return (stages or plan.longest) * len(plan.runs)


def seconds_per_update(
    plan: Plan, program: Program, device: jax.Device, count: int = _STEPS
) -> float | None:
    """Seconds for each run and update, of ``count``; ``None`` if the program does not fit."""
    width, length = program.width, program.length
    arrays = program.arguments(program.fold, device)
    state = program.init(arrays, *program.start(0, device))
    reads = (plan.seeds[0], 0, min(count, plan.longest), plan.longest, plan.caller)
    with READING:
        rows = jax.tree.map(lambda x: padded(x, length), program.fold.batches.read(*reads))
    lane = (state, *jax.device_put((np.True_, plan.table.values(0, 0, length), rows), device))
    bounds = jax.device_put((np.int32(0), np.int32(count), np.float32(np.inf)), device)
    arguments = (arrays, *program.stack([lane] * width), *bounds)
    segment: Any = program.segment
    try:
        if width > 1:
            segment = program.segment.lower(*arguments).compile()
            if not _fits(segment, device):
                return None
        jax.block_until_ready(segment(*arguments))
        times = []
        for _ in range(3):
            begin = time.perf_counter()
            jax.block_until_ready(segment(*arguments))
            times.append(time.perf_counter() - begin)
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" in str(error) and width > 1:
            return None
        raise
    return min(times) / (width * count)


def _fits(segment: Compiled, device: jax.Device) -> bool:
    """Whether there is memory for a program: its compiler knows how much, before any is taken."""
    memory: Any = segment.memory_analysis()
    if memory is None:  # not every platform tells
        return True
    needed = memory.argument_size_in_bytes + memory.output_size_in_bytes + memory.temp_size_in_bytes
    return bool(needed <= 0.8 * device_memory(device, free_memory))
