"""Checks of the results of a task's methods: states and metrics, their shapes and dtypes."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr
from jax.tree_util import KeyPath, PyTreeDef
from jax.typing import ArrayLike, DTypeLike

from jaxsched._arrays import NEEDS_A_NUMBER
from jaxsched._text import describe, shorten
from jaxsched._types import PyTree
from jaxsched.search.tasks._protocol import Metrics, State, Task

AVERAGED = "averaged "  # prefix for the name of a metric of the averaged weights


def of_weights(metric: str) -> str:
    """The name of a metric without ``AVERAGED``."""
    return metric.removeprefix(AVERAGED)


@dataclasses.dataclass(frozen=True)
class TaskShape:
    """The shapes of a traced task; nothing was run, so all trees are abstract."""

    state: State
    metrics: Metrics  # of a step
    batch: PyTree  # of one update
    init: ClosedJaxpr  # their last inputs are the task's arrays
    step: ClosedJaxpr  # first inputs: the state and the hyperparameters; first outputs: the state
    updates: int  # in a step: where there are several, a hyperparameter is an array of them
    validation: Metrics  # of an evaluation, or {} and None
    evaluate: ClosedJaxpr | None
    tested: Metrics = dataclasses.field(default_factory=dict)  # of a test, if it was traced
    test: ClosedJaxpr | None = None

    @property
    def dtypes(self) -> tuple[DTypeLike, ...]:
        """The dtypes of the leaves of a state."""
        return tuple(leaf.dtype for leaf in jax.tree.leaves(self.state))

    @property
    def state_bytes(self) -> int:
        """The bytes of a state."""
        return nbytes(self.state)

    @property
    def batch_bytes(self) -> int:
        """The bytes of the batch of one update, at least 1."""
        return max(1, nbytes(self.batch))

    @property
    def loss(self) -> int:
        """Which output of ``step`` is the loss."""
        return len(self.dtypes) + sorted(self.metrics).index("loss")


def nbytes(tree: PyTree) -> int:
    """Bytes of a pytree of arrays, concrete or abstract."""
    return sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(tree))


def strong(x: ArrayLike) -> jax.Array:
    """An array with a fixed dtype; a weak one, of Python numbers, would change in a loop."""
    x = jnp.asarray(x)
    return typed(x, x.dtype)


def typed(x: ArrayLike, dtype: DTypeLike) -> jax.Array:
    """An array, of this dtype if it was made of Python numbers."""
    x = jnp.asarray(x)
    if getattr(x, "weak_type", False):
        return jax.lax.convert_element_type(x, dtype)
    return x


def promoted(first: Any, before: Any, after: Any) -> jax.ShapeDtypeStruct:
    """As in ``lax.scan``: a leaf of a Python number in ``init`` takes the step's dtype."""
    # `first` is the result of `init`; a step takes `before` and returns `after`. A `0` of
    # `init` is a weak-typed int32; when a step adds a float32 loss to it, the state is a float32
    # from the start. A strong-typed leaf keeps its dtype, and `check_same` refuses the step.
    dtype = before.dtype
    if first.weak_type and before.shape == after.shape and dtype != after.dtype:
        number = {"i": 0, "f": 0.0, "c": 0j}[np.dtype(dtype).kind]
        dtype = jnp.result_type(number, after.dtype)
    return jax.ShapeDtypeStruct(before.shape, dtype)


def called(caller: str, method: str, task: Task, *arguments: PyTree) -> PyTree:
    """Errors of the user's own code get a note with the method."""
    try:
        return getattr(task, method)(*arguments)
    except StopIteration as error:
        raise ValueError(
            f"{caller}(task=...): {method} must not raise StopIteration; what it reads belongs "
            "into `batches`, which finds it by the numbers of the updates."
        ) from error
    except Exception as error:
        note = f"in `{method}` of {caller}(task=...)"
        if isinstance(error, NEEDS_A_NUMBER):
            note += (
                ", whose program serves all values: it computes in jnp, without math, NumPy and "
                "float(...), and selects by jnp.where, without `if`"
            )
        if method == "step":
            size = next((np.shape(x) for x in arguments[1].values()), ())
            each = (
                f"each an array [{size[0]}], a value for each of updates_per_step={size[0]}, as "
                "jax.lax.scan takes"
                if size
                else "each a number (an array where the task has `updates_per_step`)"
            )
            names = ", ".join(sorted(arguments[1]))
            note += (
                ", called with (state, hyperparams, batch); the hyperparameters are "
                f"{names}, {each}"
            )
        error.add_note(note)
        raise


def as_array(caller: str, path: KeyPath[Any], leaf: ArrayLike) -> jax.Array:
    try:
        return jnp.asarray(leaf)
    except (TypeError, ValueError, OverflowError):
        raise TypeError(
            f"{caller}(task=...): init must return a pytree of arrays, got {describe(leaf)} "
            f"at state{jax.tree_util.keystr(path)}."
        ) from None


def check_structure(before: PyTree, after: PyTree, caller: str) -> None:
    old: PyTreeDef = jax.tree.structure(before)
    new: PyTreeDef = jax.tree.structure(after)
    if old != new:
        raise TypeError(
            f"{caller}(task=...): step must return a state of the structure that init returned, "
            f"got {_difference(old, new)}."
        )


def check_same(before: PyTree, after: PyTree, caller: str) -> None:
    """Raises for a leaf if a step changes its shape or dtype: no loop can carry it."""
    paths, _ = jax.tree_util.tree_flatten_with_path(before)
    for (path, old), new in zip(paths, jax.tree.leaves(after), strict=True):
        if (old.shape, old.dtype) != (new.shape, new.dtype):
            raise TypeError(
                f"{caller}(task=...): step must not change shapes or dtypes, got "
                f"{new.dtype}{list(new.shape)} for the {old.dtype}{list(old.shape)} at "
                f"state{jax.tree_util.keystr(path)}. Let init make it a {new.dtype}"
                f"{list(new.shape)}, or cast it in step."
            )


def check_metrics(metrics: object, caller: str, method: str) -> None:
    """Raises unless they are a dict of real scalars with a "loss"."""
    if not isinstance(metrics, dict) or not all(isinstance(name, str) for name in metrics):
        raise TypeError(
            f"{caller}(task=...): {method} must return its metrics as a dict name -> scalar, "
            f"got {metrics!r}."
        )
    if "loss" not in metrics:
        raise ValueError(
            f'{caller}(task=...): the metrics of {method} must have a "loss", '
            f"got {sorted(metrics)}."
        )
    for name, value in metrics.items():
        dtype = getattr(value, "dtype", type(value))
        real = jnp.issubdtype(dtype, jnp.floating) or jnp.issubdtype(dtype, jnp.integer)
        if np.shape(value) != () or not real:
            raise TypeError(
                f"{caller}(task=...): the metric {name!r} of {method} must be a real scalar, "
                f"got {value!r}."
            )


def _difference(old: PyTreeDef, new: PyTreeDef) -> str:
    """The first place at which two structures differ."""
    before, after = old.node_data(), new.node_data()
    if before is None or after is None or before[0] is not after[0]:
        return f"{_kind(after)} in place of {_kind(before)}"
    if before[1] != after[1]:
        name = before[0].__name__
        if before[0] is dict:
            return f"a dict with {shorten(str(after[1]))} in place of {shorten(str(before[1]))}"
        return (
            f"a {name} with other static parts (fields that are not arrays, such as the `tx` of a "
            f"TrainState): {shorten(str(after[1]))} in place of {shorten(str(before[1]))}. Keep "
            "them as init made them"
        )
    pairs = list(zip(old.children(), new.children(), strict=False))
    if len(old.children()) != len(new.children()):
        return f"a {before[0].__name__} of {len(new.children())} in place of {len(old.children())}"
    return next(_difference(a, b) for a, b in pairs if a != b)


def _kind(node: tuple[type, object] | None) -> str:
    if node is None:
        return "an array"
    return "None" if node[0] is type(None) else f"a {node[0].__name__}"
