"""A task is traced, without being run: what it computes on, and whether it can be trained."""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxsched.search.tasks._batches import read_batches
from jaxsched.search.tasks._every_step import check_every_step
from jaxsched.search.tasks._protocol import Metrics, State, Task
from jaxsched.search.tasks._returned import (
    as_array,
    called,
    check_metrics,
    check_same,
    check_structure,
)
from jaxsched.search.tasks._states import promoted
from jaxsched.search.tasks._used import check_used


@dataclasses.dataclass(frozen=True)
class TaskShape:
    """What is known of a task that was traced and not run; all trees are abstract.

    Args:
        state: of the training.
        metrics: of a step.
        batch: of one update.
        init, step: closed jaxprs, whose last arguments are the task's arrays.
        validation, evaluate: the metrics of an evaluation and its closed jaxpr; {} and ``None`` if
            it was not traced.
    """

    state: State
    metrics: Metrics
    batch: Any
    init: Any
    step: Any
    validation: Metrics
    evaluate: Any

    @property
    def dtypes(self) -> tuple[Any, ...]:
        """Of the leaves of a state."""
        return tuple(leaf.dtype for leaf in jax.tree.leaves(self.state))


def trace_task(
    task: Any,
    hyperparams: tuple[str, ...],
    caller: str = "sweep",
    steps: int = 2,
    evaluated: bool = True,
) -> TaskShape:
    """Traces a task without running it; raises if it can't be trained.

    Args:
        task: the task.
        hyperparams: the names that ``step`` will be given.
        caller: the caller's name, for the errors.
        steps: the updates of the longest run, at least 1.
        evaluated: whether ``evaluate`` is traced as well.

    Raises:
        TypeError: if a method is missing, the step changes the state's structure, shapes or dtypes,
            or a metric is not a real scalar.
        ValueError: if there is no "loss" among the metrics, a step is not an optimizer update, or
            a hyperparameter has no effect on what is trained.
    """
    missing = [m for m in ("init", "step", "evaluate") if not callable(getattr(task, m, None))]
    if missing or isinstance(task, type):
        raise TypeError(
            f"{caller}(task=...) must have the methods init, step and evaluate, "
            f"got {task!r}" + (f" without {', '.join(missing)}." if missing else ", a class.")
        )
    arrays, rebuild = taken_apart(task)
    drawn = read_batches(task, 0, 0, min(2, steps), caller, steps)
    batch = jax.tree.map(lambda x: jax.ShapeDtypeStruct(np.shape(x)[1:], jnp.result_type(x)), drawn)
    values = {name: jax.ShapeDtypeStruct((), jnp.float32) for name in hyperparams}

    def init(key: Any, arrays: Any) -> Any:
        made = called(caller, "init", rebuild(arrays), key)
        return jax.tree_util.tree_map_with_path(partial(as_array, caller), made)

    def step(state: Any, hyperparams: Any, batch: Any, arrays: Any) -> Any:
        made = called(caller, "step", rebuild(arrays), state, hyperparams, batch)
        if not isinstance(made, (tuple, list)) or len(made) != 2:
            raise TypeError(f"{caller}(task=...): step must return (state, metrics), got {made!r}.")
        check_metrics(made[1], caller, "step")
        return tuple(made)

    key = jax.eval_shape(lambda: jax.random.key(0))
    begun, first = jax.make_jaxpr(init, return_shape=True)(key, arrays)
    wanted, known = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), first), None
    # Twice at most, unless dtypes depend on dtypes. Leaves, since a state may hold schedules, and
    # those are equal by their numbers, which abstract ones don't have.
    while known != jax.tree.leaves(wanted):
        state, known = wanted, jax.tree.leaves(wanted)
        traced, (after, metrics) = jax.make_jaxpr(step, return_shape=True)(
            state, values, batch, arrays
        )
        check_structure(state, after, caller)
        wanted = jax.tree.map(promoted, first, state, after)
    check_same(state, after, caller)
    outputs: Any = jax.tree.structure((after, metrics))
    _, numbers = outputs.unflatten(range(outputs.num_leaves))
    check_every_step(caller, state, begun, traced, numbers["loss"], len(hyperparams))
    validation, evaluate = trace_metrics(task, state, caller) if evaluated else ({}, None)
    size = len(jax.tree.leaves(state))
    check_used(caller, task, hyperparams, traced, evaluate, size, numbers["loss"])
    return TaskShape(state, metrics, batch, begun, traced, validation, evaluate)


def trace_metrics(
    task: Any, state: Any, caller: str = "sweep", method: str = "evaluate"
) -> tuple[Metrics, Any]:
    """The abstract metrics of ``evaluate`` (or ``test``) and its closed jaxpr.

    Raises:
        TypeError, ValueError: as ``trace_task``.
    """
    arrays, rebuild = taken_apart(task)

    def measure(state: Any, arrays: Any) -> Any:
        metrics = called(caller, method, rebuild(arrays), state)
        check_metrics(metrics, caller, method)
        return metrics

    traced, metrics = jax.make_jaxpr(measure, return_shape=True)(state, arrays)
    return metrics, traced


def taken_apart(task: Task) -> tuple[list[Any], Any]:
    """The arrays of a task, and what makes such a task of others; an opaque object has none."""
    treedef: Any
    arrays, treedef = jax.tree.flatten(task)
    if jax.tree_util.treedef_is_leaf(treedef):
        return [], lambda arrays: task
    return arrays, treedef.unflatten
