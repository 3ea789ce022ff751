"""The tasks of a sweep: one, or the folds of a cross-validation, each with what it computes."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxsched.search._files import digest
from jaxsched.search._fingerprint import Walk, fingerprints
from jaxsched.search.tasks._protocol import Task
from jaxsched.search.tasks._traced import TaskShape, trace_task

METHODS = ("init", "step", "evaluate")


@dataclasses.dataclass(frozen=True)
class Fold:
    """A task that was traced.

    Args:
        task: the task itself.
        shape: what it computes on, with its evaluation.
        digests: method -> digest of the program, all constants included.
        arrays: digest of the task's arrays.
    """

    task: Task
    shape: TaskShape
    digests: dict[str, str]
    arrays: str

    @property
    def code(self) -> str:
        """Alike for folds that are one program."""
        return " ".join(self.digests.values())


def trace_folds(
    task: Any, folds: int | None, names: tuple[str, ...], steps: int
) -> tuple[Fold, ...]:
    """The tasks, traced; those that differ in arrays only are traced once.

    Args:
        task: as it was given.
        folds: the number of folds, at least 2; ``None``: the task itself.
        names: the scheduled hyperparameters.
        steps: of the longest run.

    Raises:
        TypeError, ValueError: as ``trace_task``; or if a fold is not like the others.
    """
    if folds is not None and not hasattr(task, "fold"):
        raise TypeError(f"sweep(folds=...) must be None for a task without `fold`, got {folds}.")
    traced: list[Fold] = []
    kinds: list[tuple[Any, Fold]] = []
    walk = Walk()  # folds share their data
    for index in range(folds or 1):
        one = task if folds is None else task.fold(index, folds)
        kind, arrays = _kind(one)  # once: a task may read its arrays from a disk
        data = digest(*map(walk.of, arrays))
        like = next((fold for other, fold in kinds if _alike(other, kind)), None)
        if like is None:
            try:
                like = _traced(one, names, steps)
            except Exception as error:
                if folds is not None:
                    error.add_note(f"in fold({index}, {folds}) of the task")
                raise
            kinds.append((kind, like))
        traced.append(dataclasses.replace(like, task=one, arrays=data))
        _check_fits(traced[0].shape, like.shape, index, folds)
    return tuple(traced)


# ---------------------------------------------------------------------------------------- details


def _traced(task: Any, names: tuple[str, ...], steps: int) -> Fold:
    shape = trace_task(task, names, steps=steps)
    digests = fingerprints([getattr(shape, method) for method in METHODS])
    return Fold(task, shape, dict(zip(METHODS, digests, strict=True)), "")


def _kind(task: Any) -> tuple[Any, list[Any]]:
    """What a task is but for the numbers in its arrays, and those; all of it, if it is opaque."""
    structure: Any
    arrays, structure = jax.tree.flatten(task)
    if jax.tree_util.treedef_is_leaf(structure):
        return task, []
    return (structure, [(np.shape(x), jnp.result_type(x)) for x in arrays]), arrays


def _alike(a: Any, b: Any) -> bool:
    """Whether two tasks are one program, by their static parts.

    Of an opaque object, equal or not, only the trace tells what its methods close over.
    """
    return a is b or (isinstance(a, tuple) and isinstance(b, tuple) and bool(a == b))


def _check_fits(first: TaskShape, shape: TaskShape, index: int, folds: int | None) -> None:
    """All folds are rows of the same curves, and their states lie in the same files."""
    wanted, got = _described(first), _described(shape)
    for name in {**wanted, **got}:
        if wanted.get(name) != got.get(name):
            raise ValueError(
                f"sweep(folds={folds}): all folds must have the same shapes, dtypes and metrics, "
                f"got {got.get(name, 'nothing')} for the {name} in fold({index}, {folds}) and "
                f"{wanted.get(name, 'nothing')} in fold(0, {folds})."
            )


def _described(shape: TaskShape) -> dict[str, str]:
    """What must be alike, by its name in an error."""
    shown = {f"metric {name!r} of step": "a number" for name in shape.metrics}
    shown |= {f"metric {name!r} of evaluate": "a number" for name in shape.validation}
    for kind, tree in {"state": shape.state, "batches": shape.batch}.items():
        for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]:
            where = f"{kind}{jax.tree_util.keystr(path)}"
            shown[where] = f"{leaf.dtype}{list(leaf.shape)}"
    return shown
