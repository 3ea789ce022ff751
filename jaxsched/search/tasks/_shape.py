"""What a task computes on: its abstract trees and programs, its first state, and their dtypes."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxsched.search.tasks._protocol import Metrics, State, Task


@dataclasses.dataclass(frozen=True)
class TaskShape:
    """What is known of a task that was traced and not run; all trees are abstract."""

    state: State
    metrics: Metrics  # of a step
    batch: Any  # of one update
    init: Any  # closed jaxprs, whose last inputs are the task's arrays
    step: Any  # first inputs: the state and the hyperparameters; first outputs: the state
    validation: Metrics  # of an evaluation, or {} and None
    evaluate: Any

    @property
    def dtypes(self) -> tuple[Any, ...]:
        """Of the leaves of a state."""
        return tuple(leaf.dtype for leaf in jax.tree.leaves(self.state))

    @property
    def loss(self) -> int:
        """Which output of ``step`` is the loss."""
        return len(self.dtypes) + sorted(self.metrics).index("loss")


def initial_state(task: Task, key: jax.Array, dtypes: Sequence[Any]) -> State:
    """``task.init``, with its Python numbers in the dtypes that ``trace_task`` has found."""
    treedef: Any
    leaves, treedef = jax.tree.flatten(task.init(key))
    return treedef.unflatten([typed(x, dtype) for x, dtype in zip(leaves, dtypes, strict=True)])


def strong(x: Any) -> jax.Array:
    # What was made of Python numbers is weak-typed; as a loop's state it would change its type.
    x = jnp.asarray(x)
    return typed(x, x.dtype)


def typed(x: Any, dtype: Any) -> jax.Array:
    """An array, of this dtype if it was made of Python numbers."""
    x = jnp.asarray(x)
    if getattr(x, "weak_type", False):
        return jax.lax.convert_element_type(x, dtype)
    return x


def promoted(first: Any, before: Any, after: Any) -> jax.ShapeDtypeStruct:
    """As in ``lax.scan``: a leaf that ``init`` made of a Python number takes the step's dtype."""
    dtype = before.dtype
    if first.weak_type and before.shape == after.shape and dtype != after.dtype:
        number = {"i": 0, "f": 0.0, "c": 0j}[np.dtype(dtype).kind]
        dtype = jnp.result_type(number, after.dtype)
    return jax.ShapeDtypeStruct(before.shape, dtype)
