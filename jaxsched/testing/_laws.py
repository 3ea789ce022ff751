"""The common part of both contracts: how laws are run, and how results are compared.

A law is a function of a subject (with known numbers) and of its input. It raises
``AssertionError`` if it does not hold; its docstring states it in words.
"""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

import jaxsched as js
from jaxsched import controllers
from jaxsched._arrays import is_concrete, is_list, strong, to_host
from jaxsched._checks import checked_items
from jaxsched._struct import Record
from jaxsched._text import describe
from jaxsched._types import PyTree

Law = Callable[[Any, Any], None]


def by_name(*laws: Law) -> dict[str, Law]:
    return {law.__name__: law for law in laws}


def check(where: str, laws: Mapping[str, Law], subject: PyTree, trial: Any, skip: object) -> None:
    """Runs every law that is not skipped; ``trial`` is the subject's input."""
    skipped = checked_items(f"{where}(skip=...)", skip, "names of laws")
    if unknown := [name for name in skipped if not isinstance(name, str) or name not in laws]:
        raise ValueError(f"{where}(skip=...) must name laws of {list(laws)}, got {unknown}.")
    for name in [name for name in laws if name not in skipped]:
        try:
            laws[name](subject, trial)
        except AssertionError as error:
            raise AssertionError(
                f"law {name!r} does not hold for {describe(subject)}: {error}"
            ) from error


def rescaled(subject: PyTree, factor: float) -> PyTree:
    """One of the same structure with other numbers, all of them arrays."""
    return jax.tree.map(
        lambda x: x * jnp.asarray(factor, x.dtype) if x.dtype.kind == "f" else x, strong(subject)
    )


# ------------------------------------------------------------------------------------- comparisons


def ulp_distance(x: ArrayLike, y: ArrayLike) -> np.ndarray:
    """The difference of two arrays in float32 units in the last place.

    The units are the last places of ``y``, or of its largest value if ``y`` changes its sign: near
    the zero of a difference, float32 has no more digits.
    """
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    size = np.abs(y)
    if size.size and np.min(y) < 0 < np.max(y):
        size = np.full_like(size, size.max())
    return np.abs(x - y) / np.spacing(size.astype(np.float32)).astype(np.float64)


def assert_equal(a: PyTree, b: PyTree, words: str) -> None:
    """Two trees have the same numbers; NaN is NaN."""
    for x, y in _pairs(a, b):
        same = np.array_equal(x, y, equal_nan=x.dtype.kind == "f")
        assert same, f"{words}: {a} and {b}"


def assert_close(a: PyTree, b: PyTree, words: str, ulps: int = 2, at: Any = None) -> None:
    """Two trees have the same integers, and real numbers within ``ulps``; ``at``: their steps."""
    for x, y in _pairs(a, b):
        near = x == y
        if x.dtype.kind == "f":
            with np.errstate(invalid="ignore"):
                near |= (np.isnan(x) & np.isnan(y)) | (ulp_distance(x, y) <= ulps)
        if len(wrong := np.flatnonzero(~np.ravel(near))):
            shown = f"{a} and {b}"
            if at is not None:
                step, one, other = (np.ravel(every)[wrong[0]] for every in (at, x, y))
                shown = f"{one} and {other} at step {step}, and {len(wrong) - 1} more"
            raise AssertionError(f"{words} differ by more than {ulps} ulp: {shown}")


def _pairs(a: PyTree, b: PyTree) -> Iterable[tuple[np.ndarray, np.ndarray]]:
    leaves = [map(np.asarray, jax.tree.leaves(tree)) for tree in (a, b)]
    return zip(*leaves, strict=True)


# ------------------------------------------------------------------------------- subjects as data


def assert_numbers(subject: PyTree) -> None:
    """Its leaves are numbers, and rebuild it."""
    leaves, tree = jax.tree.flatten(subject)
    for leaf in leaves:
        number = is_concrete(leaf) and np.asarray(to_host(leaf)).dtype.kind in "if"
        assert number, f"the leaf {leaf!r} is not a number"
    assert jax.tree.unflatten(tree, leaves) == subject, "it is not equal to one of its leaves"


def assert_read_back(subject: PyTree) -> None:
    """``eval(repr(s)) == s``."""
    js.Constant  # noqa: B018  # with it come all names of reprs
    # A repr holds the names of classes. A user's classes are not in our modules, so they are taken
    # from the object itself.
    names = {**vars(js), **vars(controllers), **_classes(subject)}
    again = eval(repr(subject), names)
    assert again == subject, f"eval(repr(s)) is {again!r}"
    assert hash(again) == hash(subject), "equal ones have different hashes"


def copies(subject: PyTree) -> list[PyTree]:
    """Pickled and read back, copied and deeply copied: each equal, of the same class and hash."""
    made = [pickle.loads(pickle.dumps(subject)), copy.copy(subject), copy.deepcopy(subject)]
    for again in made:
        assert again == subject, f"copied it is {again!r}"
        assert type(again) is type(subject), f"copied it is of {type(again)}"
        assert hash(again) == hash(subject), "equal ones have different hashes"
    return made


def _classes(subject: PyTree) -> dict[str, type]:
    """The classes in it, by name: a user's classes too."""
    if isinstance(subject, Record):
        own = {type(subject).__name__: type(subject)}
        return own | _classes(list(vars(subject).values()))
    inner = subject if is_list(subject) else []
    return {name: kind for part in inner for name, kind in _classes(part).items()}
