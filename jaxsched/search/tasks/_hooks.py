"""What ``Supervised`` is given besides a model and data, checked before any tracing."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from jaxsched._checks import checked_number

PerSample = Callable[[Any, Any], Any]  # outputs, targets -> [samples, ...]
Augment = Callable[..., Any]  # key, inputs(, targets) -> the same anew


def checked_sizes(batch_size: Any, accumulation: Any) -> tuple[int, int]:
    for name, size in {"batch_size": batch_size, "accumulation": accumulation}.items():
        if size != int(checked_number(f"Supervised({name}=...)", size, at_least=1)):
            raise ValueError(f"Supervised({name}=...) must be a whole number, got {size!r}.")
    return int(batch_size), int(accumulation)


def check_fits(batch_size: int, accumulation: int, samples: int, what: str) -> None:
    if batch_size * accumulation <= samples:
        return
    if accumulation == 1:
        raise ValueError(
            f"Supervised(batch_size=...) must be at most the {samples} {what}, got {batch_size}."
        )
    raise ValueError(
        f"Supervised(batch_size=..., accumulation=...) must read at most the {samples} {what} in "
        f"an update, got {batch_size} * {accumulation} = {batch_size * accumulation}."
    )


def checked_metrics(metrics: Any) -> dict[str, PerSample]:
    if metrics is None:
        return {}
    where = "Supervised(metrics=...)"
    if not isinstance(metrics, Mapping):
        raise TypeError(
            f"{where} must be a dict name -> function, got {type(metrics).__name__}; "
            'for example `{"accuracy": js.search.accuracy}`.'
        )
    for name, metric in metrics.items():
        if not isinstance(name, str) or not name:
            raise TypeError(f"{where} must be named by text, got the name {name!r}.")
        if not callable(metric):
            raise TypeError(
                f"{where} must be functions of outputs and targets, got {metric!r} for {name!r}."
            )
        if name == "loss" or name.startswith("averaged "):
            what = "loss=..." if name == "loss" else "search.Averaged"
            raise ValueError(f"{where} must not hold {name!r}, which is what {what} reports.")
    return dict(metrics)


def augmentation(augment: Any) -> Augment:
    """``augment`` as ``key, inputs, targets -> (inputs, targets)``, whose result is checked."""
    where = "Supervised(augment=...)"
    empty = inspect.Parameter.empty
    try:
        parameters = inspect.signature(augment).parameters.values()
    except (TypeError, ValueError):
        raise TypeError(
            f"{where} must be a function of a key, inputs and perhaps targets, got {augment!r}."
        ) from None
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    asked = [p.name for p in parameters if p.kind in positional and p.default is empty]
    if len(asked) not in (2, 3):
        raise TypeError(
            f"{where} must take (key, inputs) or (key, inputs, targets), "
            f"got one that takes {asked}."
        )

    def augmented(key: Any, inputs: Any, targets: Any) -> Any:
        samples = len(jax.tree.leaves(inputs)[0])
        made = (augment(key, inputs), targets) if len(asked) == 2 else augment(key, inputs, targets)
        if not isinstance(made, (tuple, list)) or len(made) != 2:
            raise TypeError(
                f"{where} must return (inputs, targets), as it takes both, "
                f"got {type(made).__name__}."
            )
        before: Any = jax.tree.structure((inputs, targets))
        after: Any = jax.tree.structure(tuple(made))
        if before != after:
            raise TypeError(
                f"{where} must return the structure that it was given, {before}, got {after}."
            )
        shapes = [np.shape(leaf) for leaf in jax.tree.leaves(made)]
        if any(shape[:1] != (samples,) for shape in shapes):
            raise TypeError(
                f"{where} must return as many samples as it was given, {samples}, "
                f"got the shapes {list(map(list, shapes))}."
            )
        return tuple(made)

    return augmented
