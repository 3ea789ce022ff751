"""Draws of arguments for Optax's schedules, and the values of the real ones in float64."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from golden.draws import Random, losses, number, whole

NAMES = (
    "constant_schedule",
    "linear_schedule",
    "polynomial_schedule",
    "exponential_decay",
    "cosine_decay_schedule",
    "piecewise_constant_schedule",
    "piecewise_interpolate_schedule",
    "linear_onecycle_schedule",
    "cosine_onecycle_schedule",
    "warmup_constant_schedule",
    "warmup_cosine_decay_schedule",
    "warmup_exponential_decay_schedule",
    "sgdr_schedule",
    "join_schedules",
    "reduce_on_plateau",
)


def draw(name: str, random: Random, steps: int) -> list[dict[str, Any]]:
    """Arguments of that schedule for a run of so many steps, a list for each of its kinds."""
    peak, low, part = number(random, 1e-4, 1.0), number(random, 1e-6, 1e-4), whole(random, 2, steps)
    rate, power = number(random, 0.1, 0.95), number(random, 0.5, 3)
    ends = {"init_value": peak, "end_value": low}
    line = ends | {"transition_steps": part}
    begun = {"transition_begin": whole(random, 1, 9)}
    decay = {"transition_steps": part, "decay_rate": rate}
    warm = {"init_value": low, "peak_value": peak, "warmup_steps": whole(random, 1, steps / 3)}
    cycle = warm | {"decay_steps": steps}
    cycles = {"transition_steps": steps, "peak_value": peak, "pct_start": rate / 2}
    pairs = {"of_step": {str(3 * part): 0.0, str(part): rate, str(2 * part): power}}
    early = {"of_step": {"0": rate, str(part): power, "-3": rate}}
    parts = [
        {"schedule": "warmup_cosine_decay_schedule", "arguments": cycle},
        {"schedule": "exponential_decay", "arguments": {"init_value": peak} | decay},
        {"schedule": "constant_schedule", "arguments": {"value": low}},
    ]
    kinds: dict[str, list[dict[str, Any]]] = {
        "constant_schedule": [{"value": peak}],
        "linear_schedule": [line | begun, line | {"transition_steps": -part}],
        "polynomial_schedule": [line | begun | {"power": p} for p in (power, 0.0)]
        + [ends | {"power": power, "transition_steps": 0}],
        "exponential_decay": [
            {"init_value": peak} | decay | more
            for more in (
                begun,
                begun | {"staircase": True, "end_value": peak * rate**2},
                {"decay_rate": 0.0, "end_value": 1.0, "transition_begin": -3},
                {"decay_rate": 1 / rate, "end_value": 2.0 * peak},
                {"transition_steps": 0, "end_value": 1.0},
            )
        ],
        "cosine_decay_schedule": [
            {"init_value": peak, "decay_steps": part, "alpha": rate, "exponent": power},
            {"init_value": peak, "decay_steps": steps},
            {"init_value": peak, "decay_steps": steps, "exponent": 0.0},
        ],
        "piecewise_constant_schedule": [
            {"init_value": peak, "boundaries_and_scales": each} for each in (pairs, early)
        ]
        + [{"init_value": peak}],
        "piecewise_interpolate_schedule": [
            {"interpolate_type": kind, "init_value": peak, "boundaries_and_scales": each}
            for kind in ("linear", "cosine")
            for each in (pairs, early)
        ],
        "linear_onecycle_schedule": [
            cycles | {"div_factor": 10.0},
            cycles | {"pct_start": 1.0},
            cycles | {"pct_start": 0.0, "pct_final": 1.0},
            cycles | {"pct_start": 0.5, "pct_final": 0.5},
            cycles | {"pct_start": 0.75, "pct_final": 0.5},
        ],
        "cosine_onecycle_schedule": [cycles, cycles | {"pct_start": 1.0, "final_div_factor": 10.0}],
        "warmup_constant_schedule": [warm, warm | {"warmup_steps": 0}],
        "warmup_cosine_decay_schedule": [
            cycle | {"end_value": low / 2, "exponent": power},
            cycle | {"warmup_steps": 0},
            cycle | {"warmup_steps": -3},
            cycle | {"peak_value": 0.0, "end_value": low},
        ],
        "warmup_exponential_decay_schedule": [
            warm | decay,
            warm | decay | begun | {"staircase": True, "end_value": peak * rate},
        ],
        "sgdr_schedule": [{"cosine_kwargs": [cycle, cycle | {"peak_value": low}, cycle]}],
        "join_schedules": [
            {"schedules": parts, "boundaries": [part, steps + 3]},
            {"schedules": parts, "boundaries": [part, part - 1, 3]},
            {"schedules": parts, "boundaries": [part]},
            {"schedules": parts[:2], "boundaries": [-2]},
        ],
        "reduce_on_plateau": [
            {"metrics": losses(random, 2 * steps), "factor": rate} | more
            for more in (
                {"patience": 2},
                {"patience": 1, "cooldown": 2, "min_scale": rate**2, "rtol": 0.01},
                {"patience": 2, "accumulation_size": 3, "atol": 0.0503},
            )
        ],
    }
    return kinds[name]


def curve(name: str, arguments: dict[str, Any], steps: int) -> Iterator[float]:
    """What the real one gives at the steps 0, 1, ... up to twice the run, in float64."""
    import jax
    import jax.numpy as jnp

    with jax.enable_x64(True):
        if name == "reduce_on_plateau":
            yield from _after(**arguments)
            return
        schedule = _schedule(name, arguments)
        yield from (float(schedule(jnp.asarray(step))) for step in range(2 * steps + 1))


def _schedule(name: str, arguments: dict[str, Any]) -> Any:
    import optax

    given = dict(arguments)
    if "schedules" in given:
        given["schedules"] = [_schedule(x["schedule"], x["arguments"]) for x in given["schedules"]]
    if "boundaries_and_scales" in given:
        of_step = given["boundaries_and_scales"]["of_step"]
        given["boundaries_and_scales"] = {int(step): x for step, x in of_step.items()}
    return getattr(optax, name)(**given)


def _after(metrics: list[float], **arguments: Any) -> Iterator[float]:
    import jax
    import jax.numpy as jnp
    import optax

    plateau = optax.contrib.reduce_on_plateau(**arguments)

    def follow(state: Any, metric: Any) -> Any:
        _, state = plateau.update({"w": jnp.ones(1)}, state, value=metric)
        return state, state.scale

    first = plateau.init({"w": jnp.zeros(1)})
    yield from jax.lax.scan(follow, first, jnp.asarray(metrics))[1].tolist()
