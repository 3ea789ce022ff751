"""What other libraries' schedules give, as facts: one JSON file a library, written by write.py.

A line of a file is a draw: ``{"name", "arguments", "values"}``, the values of the real package at
the steps 0, 1, ..., in float64. In arguments ``{"schedule": name, "arguments": {...}}`` stands for
a schedule, ``{"function": name}`` for one of ``FUNCTIONS``, and ``{"of_step": {...}}`` for a dict
whose keys are steps. A controller has the argument ``"metrics"`` too: its values follow on each.
"""

from __future__ import annotations

import functools
import importlib
import json
import math
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import operations

import jaxsched as js

HERE = Path(__file__).parent
LIBRARIES = sorted(path.stem.removeprefix("of_") for path in HERE.glob("of_*.py"))
LONGEST = 65  # of most tables, so that most programs are of one shape
TOLERANCE = 1e-6  # of the largest value
# (library, name) -> (the tolerance on the host, in a program, and its reason).
KNOWN: dict[tuple[str, str], tuple[float, float, str]] = {
    # Cycles that become shorter than a step: float32 has few digits of where they begin. As Keras
    # ships it, which computes parts of it in float32, it is as far from its formula.
    ("keras", "CosineDecayRestarts"): (TOLERANCE, 1e-3, "cycles shorter than a step, in float32"),
}
# What is not a number for a program: a count, or what sizes an array.
INHERENT = {
    ("composer", "CosineAnnealingWarmRestartsScheduler", "t_mult"),
    ("fvcore", "StepWithFixedGammaParamScheduler", "num_decays"),
    ("keras", "LearningRateScheduler", "base_lr"),
    ("keras", "LearningRateScheduler", "epochs"),
    ("torch", "LambdaLR", "total_steps"),
    ("torch", "MultiplicativeLR", "total_steps"),
    ("transformers", "greedy", "window_size"),
}
FUNCTIONS = {
    "0.95 ** t": lambda t: 0.95**t,
    "1 - t": lambda t: 1 - t,
    "0.95": lambda t: 0.95,
    "1 / (1 + t)": lambda t: 1 / (1 + t),
    "lr / (1 + t)": lambda t, lr: lr / (1 + t),
}


def read(library: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (HERE / f"{library}.json").read_text().splitlines()]


def exception(library: str, name: str) -> tuple[float, float, str]:
    return KNOWN.get((library, name), (TOLERANCE, TOLERANCE, ""))


def ours(library: str, name: str, arguments: dict[str, Any]) -> Any:
    """The drop-in of that name, called with these arguments."""
    module = importlib.import_module(f"jaxsched.compat.{library}")
    made = getattr(module, name)(**{n: _resolved(library, x) for n, x in arguments.items()})
    assert isinstance(made, (js.AbstractSchedule, js.AbstractController)), made
    return made


def _resolved(library: str, x: Any) -> Any:
    if isinstance(x, list):
        return [_resolved(library, each) for each in x]
    if isinstance(x, dict) and "function" in x:
        return FUNCTIONS[x["function"]]
    if isinstance(x, dict) and "schedule" in x:
        return ours(library, x["schedule"], x["arguments"])
    if isinstance(x, dict) and "of_step" in x:
        return {int(step): each for step, each in x["of_step"].items()}
    return x


def _values(library: str, name: str, arguments: dict[str, Any], steps: Any) -> Any:
    """At these steps; of a controller, after each metric."""
    given = dict(arguments)
    metrics = given.pop("metrics", None)
    made = ours(library, name, given)
    if metrics is None:
        return made(steps)

    def follow(state: Any, metric: Any) -> Any:
        state = made.update(state, value=metric)
        return state, made(state)

    return jax.lax.scan(follow, made.init(), jnp.asarray(metrics, jnp.float32))[1]


def on_the_host(library: str, case: dict[str, Any]) -> float:
    """The largest difference, over the largest value."""
    steps = np.arange(len(case["values"]))
    found = lambda: _values(library, case["name"], case["arguments"], steps)
    controls = "metrics" in case["arguments"]  # a loop, which XLA would compile for each draw
    return _difference((operations.jit(found) if controls else found)(), case["values"])


def in_a_program(
    library: str, case: dict[str, Any], mapped: bool = False, compiled: bool = False
) -> float:
    """The same in a program, with every number traced, the steps too.

    Args:
        mapped: over members, with the gradient in every real number, finite.
        compiled: by XLA, else it runs operation by operation.
    """
    longer = math.ceil(math.log2(max(1.0, len(case["values"]) / LONGEST)))
    steps = np.arange(LONGEST << longer, dtype=np.int32)
    arguments = dict(case["arguments"])
    if "metrics" in arguments:  # one array, of one shape for all draws
        arguments["metrics"] = np.resize(np.float32(arguments["metrics"]), len(steps))
    leaves, tree = jax.tree.flatten(arguments)
    tracers = _are_numbers(library, case["name"], arguments, leaves)
    known = tuple(None if one else x for one, x in zip(tracers, leaves, strict=True))
    numbers = [
        np.int32(x) if isinstance(x, int) else np.float32(x)
        for one, x in zip(tracers, leaves, strict=True)
        if one
    ]
    program = _program(library, case["name"], tree, known, mapped)
    given = numbers, steps
    if compiled:
        values, gradients = program(*given)
    else:
        values, gradients = operations.run(program.trace(*given), *given)
    if not all(map(np.all, map(np.isfinite, jax.tree.leaves(gradients)))):
        return math.inf
    return _difference(np.ravel(values)[: len(case["values"])], case["values"])


def _are_numbers(library: str, name: str, arguments: Any, leaves: list[Any]) -> list[bool]:
    fixed = {n for where, called, n in INHERENT if (where, called) == (library, name)}
    inherent = [
        n in fixed for n, x in sorted(arguments.items()) for _ in range(len(jax.tree.leaves(x)))
    ]
    return [
        isinstance(x, (int, float, np.ndarray)) and not isinstance(x, bool) and not kept
        for x, kept in zip(leaves, inherent, strict=True)
    ]


@functools.cache  # draws that differ in numbers alone are one program
def _program(library: str, name: str, tree: Any, known: tuple[Any, ...], mapped: bool) -> Any:
    def program(numbers: list[Any], steps: Any) -> jax.Array:
        rest = iter(numbers)
        leaves = [next(rest) if x is None else x for x in known]
        return _values(library, name, jax.tree.unflatten(tree, leaves), steps)

    if not mapped:
        return jax.jit(lambda numbers, steps: (program(numbers, steps), ()))

    def member(numbers: list[Any], steps: Any) -> Any:
        real = [jnp.issubdtype(x.dtype, jnp.floating) for x in numbers]

        def of(floats: list[Any]) -> jax.Array:
            rest = iter(floats)
            all_numbers = [next(rest) if one else x for one, x in zip(real, numbers, strict=True)]
            return program(all_numbers, steps)

        values, pull = jax.vjp(of, [x for one, x in zip(real, numbers, strict=True) if one])
        return values, pull(jnp.ones_like(values))

    mapped_member = jax.vmap(member, (0, None), axis_size=1)
    members = lambda numbers, steps: mapped_member([x[None] for x in numbers], steps)
    if "metrics" in jax.tree.unflatten(tree, known):  # of a controller, which looks at no step
        return jax.jit(members)
    # A loop compiles sooner.
    return jax.jit(lambda numbers, steps: jax.lax.map(lambda step: members(numbers, step), steps))


def _difference(ours: Any, theirs: list[float]) -> float:
    found, wanted = np.asarray(ours, np.float64), np.asarray(theirs)
    largest = float(np.max(np.abs(wanted)))
    difference = float(np.max(np.abs(found - wanted)))
    return math.inf if math.isnan(difference) else difference / (largest or 1.0)
