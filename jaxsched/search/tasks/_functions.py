"""The functions given to a ``Supervised`` task: losses, metrics and augmentations, checked."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import PyTreeDef
from jax.typing import ArrayLike

from jaxsched._bounds import checked_kind
from jaxsched._types import PyTree
from jaxsched.search.tasks._pairing import check_not_paired, shapes
from jaxsched.search.tasks._returned import AVERAGED

PerSample: TypeAlias = Callable[[Any, Any], Any]  # outputs, targets -> [samples, ...]
Augment: TypeAlias = Callable[..., Any]  # key, inputs(, targets) -> the same anew
# The names of a loss's arguments.
_OUTPUTS = re.compile(r"(outputs?|logits?|preds?|predictions?|y_pred|y_hat)\b")
_TARGETS = re.compile(r"(targets?|labels?|y_true|y)\b")


def accuracy(outputs: ArrayLike, targets: ArrayLike) -> jax.Array:
    """1 where the largest of ``outputs`` [..., classes] is at the label ``targets`` [...], else 0.

    Raises:
        ValueError: for shapes that do not fit, such as one-hot targets.

    >>> import jax.numpy as jnp
    >>> from jaxsched.search import accuracy
    >>> accuracy(jnp.array([[0.1, 0.9], [0.8, 0.2]]), jnp.array([1, 1])).tolist()
    [1.0, 0.0]
    """
    scores, labels = jnp.shape(outputs), jnp.shape(targets)
    if not scores or scores[-1] < 2:
        raise ValueError(
            "accuracy(outputs=...) must have scores of at least 2 classes on the last axis, got "
            f"shape {list(scores)}; with one logit, give "
            "`lambda outputs, targets: (outputs[..., 0] > 0) == targets`."
        )
    if labels != scores[:-1]:
        instead = (
            "`targets[..., 0]`" if labels[-1:] == (1,) else "`targets.argmax(-1)` of one-hot ones"
        )
        raise ValueError(
            f"accuracy(targets=...) must be labels of shape {list(scores[:-1])}, that of the "
            f"outputs without the classes, got {list(labels)}: give {instead}."
        )
    return (jnp.argmax(outputs, axis=-1) == targets).astype(jnp.float32)


def per_sample(argument: str, f: PerSample, outputs: PyTree, targets: PyTree) -> jax.Array:
    """The values of a loss or metric, float32 [samples]."""
    samples = len(jax.tree.leaves(targets)[0])
    try:
        values = jnp.asarray(f(outputs, targets), jnp.float32)
    except Exception as error:
        given = f"outputs and targets, here {shapes(outputs)} and {shapes(targets)}"
        if _takes(f, targets, outputs):
            raise TypeError(
                f"Supervised({argument}) must take {given}, got a function that takes them the "
                "other way round: give `lambda outputs, targets: loss(targets, outputs)`."
            ) from error
        error.add_note(f"in Supervised({argument}), called with {given}")
        raise
    if values.ndim < 1 or values.shape[0] != samples:
        raise TypeError(
            f"Supervised({argument}) must return a value per sample, [{samples}, ...], "
            f"got shape {list(values.shape)}: leave the mean to the task."
        )
    check_not_paired(argument, f, outputs, targets, values.shape)
    # One for each sample: a row may only fill up a fold, with weight 0 (`Split.weight`).
    return jnp.mean(values, axis=tuple(range(1, values.ndim)))


def check_order(loss: object, optimizer: Callable[..., object]) -> None:
    """Raises if loss and optimizer are swapped, or the outputs and targets of the loss."""
    expected = "a function of outputs and targets, a value per sample"
    function = checked_kind("Supervised(loss=...)", loss, Callable, expected)
    names = ", ".join(_signature(optimizer).parameters)
    if _OUTPUTS.match(names) or _TARGETS.match(names):
        raise TypeError(
            "Supervised(optimizer=...) must be a function of the scheduled hyperparameters, got "
            f"one of ({names}): the order is Supervised(model, optimizer, loss)."
        )
    _check_two("loss=...", function, ": the order is Supervised(model, optimizer, loss)")


def _check_two(argument: str, f: Callable[..., object], repair: str = "") -> None:
    """Raises unless ``f`` takes two arguments, and not targets first."""
    signature = _signature(f)
    names = ", ".join(signature.parameters)
    wanted = f"Supervised({argument}) must take outputs and targets, got a function of ({names})"
    try:
        signature.bind(None, None)
    except TypeError:
        raise TypeError(f"{wanted}{repair}.") from None
    # The values may not show it: accuracy with the two swapped has an allowed shape, and is 0.
    if _TARGETS.match(names) and _OUTPUTS.match(names.partition(", ")[2]):
        raise TypeError(
            f"{wanted}, the other way round: give `lambda outputs, targets: f(targets, outputs)`."
        )


def _signature(f: Callable[..., object]) -> inspect.Signature:
    try:
        return inspect.signature(f)
    except (TypeError, ValueError):  # a function in C may have none
        return inspect.signature(lambda *anything: None)


def metrics_of(given: object) -> dict[str, PerSample]:
    """The metrics of a task by name, each a function of outputs and targets."""
    if given is None:
        return {}
    argument = "Supervised(metrics=...)"
    example = '; for example `{"accuracy": js.search.accuracy}`'
    metrics: Mapping[Any, Any] = checked_kind(
        argument, given, Mapping, "a dict name -> function", example
    )
    for name, metric in metrics.items():
        if not isinstance(name, str) or not name:
            raise TypeError(f"{argument} must be named by text, got the name {name!r}.")
        each = f"{argument}, {name!r},"
        checked_kind(each, metric, Callable, "a function of outputs and targets")
        _check_two(f"metrics={{{name!r}: ...}}", metric)
        if name == "loss" or name.startswith(AVERAGED):
            what = "loss=..." if name == "loss" else "search.Averaged"
            raise ValueError(f"{argument} must not hold {name!r}, which is what {what} reports.")
    return dict(metrics)


def augment_of(augment: Any) -> Augment:
    """``augment`` as ``key, inputs, targets -> (inputs, targets)``, with a check of its result."""
    argument = "Supervised(augment=...)"
    empty = inspect.Parameter.empty
    try:
        parameters = inspect.signature(augment).parameters.values()
    except (TypeError, ValueError):
        raise TypeError(
            f"{argument} must be a function of a key, inputs and perhaps targets, got {augment!r}."
        ) from None
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    required = [p.name for p in parameters if p.kind in positional and p.default is empty]
    if len(required) not in (2, 3):
        raise TypeError(
            f"{argument} must take (key, inputs) or (key, inputs, targets), "
            f"got one that takes {required}."
        )

    def augmented(key: jax.Array, inputs: PyTree, targets: PyTree) -> tuple[PyTree, PyTree]:
        if len(required) == 2:
            result = augment(key, inputs), targets
        else:
            result = augment(key, inputs, targets)
        _check_augmented(argument, result, (inputs, targets))
        return tuple(result)

    return augmented


def _check_augmented(argument: str, result: Any, given: tuple[PyTree, PyTree]) -> None:
    """Raises unless it is (inputs, targets) as they were given, but for the values."""
    if not isinstance(result, (tuple, list)) or len(result) != 2:
        raise TypeError(
            f"{argument} must return (inputs, targets), as it takes both, "
            f"got {type(result).__name__}."
        )
    before: PyTreeDef = jax.tree.structure(given)
    after: PyTreeDef = jax.tree.structure(tuple(result))
    if before != after:
        raise TypeError(
            f"{argument} must return the structure that it was given, {before}, got {after}."
        )
    samples = len(jax.tree.leaves(given)[0])
    got = [list(np.shape(leaf)) for leaf in jax.tree.leaves(result)]
    if any(shape[:1] != [samples] for shape in got):
        raise TypeError(
            f"{argument} must return as many samples as it was given, {samples}, "
            f"got the shapes {got}."
        )


def _takes(f: PerSample, *arguments: PyTree) -> bool:
    try:
        jax.eval_shape(f, *arguments)
    except Exception:
        return False
    return True
