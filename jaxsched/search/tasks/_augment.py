"""Augmentations of a ``Supervised`` task, whose result is checked as it is traced."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

Augment = Callable[..., Any]  # key, inputs(, targets) -> the same anew


def augmentation(augment: Any) -> Augment:
    """``augment`` as ``key, inputs, targets -> (inputs, targets)``, whose result is checked."""
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

    def augmented(key: Any, inputs: Any, targets: Any) -> Any:
        samples = len(jax.tree.leaves(inputs)[0])
        result = (
            (augment(key, inputs), targets) if len(required) == 2 else augment(key, inputs, targets)
        )
        if not isinstance(result, (tuple, list)) or len(result) != 2:
            raise TypeError(
                f"{argument} must return (inputs, targets), as it takes both, "
                f"got {type(result).__name__}."
            )
        before: Any = jax.tree.structure((inputs, targets))
        after: Any = jax.tree.structure(tuple(result))
        if before != after:
            raise TypeError(
                f"{argument} must return the structure that it was given, {before}, got {after}."
            )
        shapes = [np.shape(leaf) for leaf in jax.tree.leaves(result)]
        if any(shape[:1] != (samples,) for shape in shapes):
            raise TypeError(
                f"{argument} must return as many samples as it was given, {samples}, "
                f"got the shapes {list(map(list, shapes))}."
            )
        return tuple(result)

    return augmented
