"""How many runs go through the compiled program together: measured, and bounded by memory."""

from __future__ import annotations

import os
import time
from typing import Any

import jax
import numpy as np

from jaxsched.search._plan import Plan
from jaxsched.search._program import program_for, random_key

_CANDIDATES = (1, 8, 64, 256)
_STEPS = 32
_GAIN = 1.1  # what a greater width must gain: at 1 a run has the bits of a solo run


def measured_width(plan: Plan, names: tuple[str, ...], length: int, device: Any) -> int:
    """The width with the least time for each run and update, of those that fit into memory.

    On a CPU a small matrix product already fills the core, so only tiny models gain; an
    accelerator wants as many as it can hold.
    """
    runs = len(plan.stages) * len(plan.runs())
    best, least = 1, float("inf")
    for width in _CANDIDATES:
        if width > max(1, runs):
            break
        seconds = _seconds(plan, names, length, width, device)
        if seconds is None:
            break
        if seconds * _GAIN < least:
            best, least = width, seconds
    return best


def _seconds(
    plan: Plan, names: tuple[str, ...], length: int, width: int, device: Any
) -> float | None:
    """Seconds for each run and update at this width; ``None`` if it does not fit."""
    program = program_for(plan.tasks[0], names, length, width)
    arrays = program.arguments(plan.tasks[0], device)
    state = program.init(arrays, jax.device_put(random_key(plan.seeds[0]), device))
    values: Any = plan.table.values(0, 0, length)
    batches = plan.feed.get(plan.tasks[0], 0, plan.seeds[0], 0, device)
    alive: Any = np.ones((), bool)
    if width > 1:
        state, batches = program.stack([state] * width), program.stack([batches] * width)
        values, alive = np.stack([values] * width), np.ones(width, bool)
    count = min(_STEPS, length)
    bounds = (np.int32(0), np.int32(count), np.float32(np.inf))
    values, alive, bounds = jax.device_put((values, alive, bounds), device)
    arguments = (arrays, state, alive, values, batches, *bounds)
    try:
        compiled = program.segment.lower(*arguments).compile()
        if _needs(compiled) > _has(device):
            return None
        jax.block_until_ready(compiled(*arguments))
        times = []
        for _ in range(3):
            begin = time.perf_counter()
            jax.block_until_ready(compiled(*arguments))
            times.append(time.perf_counter() - begin)
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" in str(error) and width > 1:
            return None
        raise
    return min(times) / (width * count)


def _needs(compiled: Any) -> int:
    sizes = compiled.memory_analysis()
    if sizes is None:
        return 0
    return int(sizes.argument_size_in_bytes + sizes.output_size_in_bytes + sizes.temp_size_in_bytes)


def _has(device: Any) -> float:
    """Four fifths of the device's memory, or of what is free on the host for a CPU."""
    stats = device.memory_stats() if device.platform != "cpu" else None
    if stats and "bytes_limit" in stats:
        return 0.8 * float(stats["bytes_limit"])
    try:
        return 0.8 * os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError, AttributeError):
        return float("inf")
