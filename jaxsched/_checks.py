"""Checks of a user's arguments; each error names the argument and the expected value."""

from __future__ import annotations

import dataclasses
import itertools
import math
import operator
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeGuard

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from jaxsched._arrays import (
    INT32_MAX,
    as_array,
    frozen,
    has_float64,
    is_concrete,
    is_list,
    is_number,
    is_whole,
    is_x64,
    to_host,
)
from jaxsched._bounds import FLOAT32_MAX, check_bounds
from jaxsched._machine import memory
from jaxsched._text import describe
from jaxsched._types import Leaf
from jaxsched._words import uncalled

MANY = 2**20  # an upper bound from here on only catches slips
_SMALL = 2**20  # bytes


def violates(rule: Callable[..., Any], *numbers: Leaf) -> bool:
    """Whether all ``numbers`` are known, and ``rule`` (a violation) holds for any member."""
    if all(type(x) is float or type(x) is int for x in numbers):  # the usual case, quickly
        return bool(rule(*numbers))
    if not all(map(is_concrete, numbers)):
        return False
    return bool(np.any(rule(*(np.asarray(to_host(x), np.float64) for x in numbers))))


_BROKEN = {
    "at most": operator.gt,
    "less than": operator.ge,
    "at least": operator.lt,
    "greater than": operator.le,
}


def check_beside(where: str, x: Leaf, words: str, other: str, limit: Leaf, told: str = "") -> None:
    """Raises unless a known number is ``"at most"`` (or the like) the number of another argument.

    ``None`` is not a number: it breaks no relation.
    """
    got = lambda: f"{other}={describe(limit)}, got {describe(x)}"
    try:
        broken = violates(_BROKEN[words], x, limit)
    except ValueError:  # of NumPy: populations of two sizes
        raise ValueError(f"{where} must have as many members as {got()}.") from None
    if broken:
        raise ValueError(f"{where} must be {words} {got()}{told}.")


def checked_steps(where: str, x: Leaf, **bounds: Any) -> Leaf:
    """A known or traced number of steps; a known one between 0 and 1 is a share of them."""
    x = checked_number(where, x, **bounds)
    if violates(lambda x: (x > 0) & (x < 1), x):
        said = f"{float(to_host(x)):.6g}" if np.ndim(x) == 0 else "..."
        raise ValueError(
            f"{where} must be a number of steps, got {describe(x)}: a share of them is "
            f"js.share({said}).of(steps)."
        )
    return x


def checked_number(
    where: str,
    x: Leaf,
    *,
    optional: bool = False,
    real: bool = False,
    **bounds: Any,
) -> Leaf:
    """``x`` as a leaf, or a ``TypeError``/``ValueError`` that names the expected value.

    Arrays keep their value; an array with axes is a *population* (see ``js.stack``) and is checked
    member by member. An integer that JAX cannot hold (beyond int32, or int64 in x64 mode) becomes a
    float; so does every integer if ``real``. For the bounds see ``check_bounds``.
    """
    if x is None and optional:
        return None
    x = as_array(x)
    if isinstance(x, (bool, np.bool_)) or not is_number(x):
        raise TypeError(f"{where} must be a number, got {describe(x)}{cure(x)}.")
    if isinstance(x, np.ndarray) and x.ndim == 0:
        x = x[()]
    if np.size(x) == 0:
        raise ValueError(f"{where} must be a number, or one for each member, got {describe(x)}.")
    # A traced number has no value to check: its type alone is known. The rest is about known ones.
    if not is_concrete(x):
        # An integer has no gradient, and a later float (0.5) would need another program.
        return x.astype(jnp.float32) if real and is_whole(x) else x
    value = x
    every: Any = bool  # for a Python number, the usual case, without NumPy's price
    some: Any = bool
    if type(x) is not float and type(x) is not int:
        every, some = np.all, np.any
        try:
            value = np.asarray(to_host(x), np.float64)
        except OverflowError:  # of a Python integer beyond float64
            value = np.asarray(np.inf)
    check_bounds(where, x, value, every=every, some=some, **bounds)
    return _leaf(x, value, real)


def _leaf(x: Leaf, value: Any, real: bool) -> Leaf:
    """A known number as a schedule holds it; ``value`` is the same in float64."""
    if isinstance(x, (int, np.integer)):
        most = 2**63 - 1 if is_x64() else INT32_MAX
        return float(x) if real or abs(int(x)) > most else int(x)
    # A NumPy number stays one where its type would matter to a program: a float32, or, in x64 mode,
    # a float64, which makes a float64 schedule. Any other becomes a Python number, which prints as
    # the user wrote it.
    if isinstance(x, (float, np.floating)):
        typed = isinstance(x, np.float32) or has_float64([x])
        return x if typed else float(x)
    if is_whole(x):
        if real:
            return x.astype(jnp.float32)
        if np.any(np.abs(value) > INT32_MAX):
            if is_x64():
                return frozen(x)
            return frozen(value) if value.ndim else float(value)
        x = x.astype(np.int32)
    return frozen(x)


def checked_array(where: str, xs: Any, increasing: bool, at_least: float | None) -> Any:
    """``xs`` as a one-dimensional int32 or float32 array, checked where its values are known.

    A float64 array stays one in x64 mode. Steps too large for float32 become int32 or uint32; steps
    too large for these stay float64, and are exact until a program takes them as arguments.
    """
    xs = as_array(xs)
    if isinstance(xs, np.ndarray) and xs.dtype.hasobject:  # NumPy's array of larger integers
        xs = xs.tolist()
    wide = has_float64([xs])
    if is_list(xs):
        wide = not increasing and has_float64(xs)
        xs = _joined(where, xs, wide)
    if not is_number(xs) or np.ndim(xs) < 1:
        raise TypeError(f"{where} must be a one-dimensional array, got {describe(xs)}.")
    # Integers of any dtype become int32 if their values fit: a list of Python numbers is int64. If
    # they do not fit, a JAX array stays as it is, and a NumPy array is treated as float64.
    if is_concrete(xs):
        _check_array(where, xs, increasing, at_least)
    if is_whole(xs):
        known = np.asarray(to_host(xs)) if is_concrete(xs) else None
        if _is_narrow(xs.dtype) or (known is not None and np.all(np.abs(known) <= INT32_MAX)):
            return frozen(xs.astype(jnp.int32))
        if isinstance(xs, jax.Array):
            return xs
        xs = np.asarray(known, np.float64)
    elif wide:
        return frozen(xs)
    # A second check, of the rounded steps: two of them may have become equal.
    narrow = xs.astype(jnp.float32)
    if increasing and isinstance(xs, np.ndarray):
        if np.any(narrow != xs):
            narrow = _exact_steps(xs, narrow)
        _check_array(where, narrow, increasing, at_least)
    return frozen(narrow)


def _joined(where: str, given: Any, wide: bool) -> np.ndarray | jax.Array:
    """A list of single numbers as one array: of integers, if all of them are, else of floats."""
    xs = [checked_number(where, x) for x in given]
    if any(map(np.ndim, xs)):  # members or knots in front? A square array would not tell
        raise TypeError(
            f"{where} must be a list of single numbers, got {describe(given)}: those of a "
            "population are one array, with the members' axes in front."
        )
    whole = bool(xs) and all(map(is_whole, xs))
    if not any(isinstance(x, jax.core.Tracer) for x in xs):
        return np.asarray(xs, np.int64 if whole else np.float64)
    dtype: Any = jnp.float64 if wide else jnp.float32
    if whole:
        longest = jnp.int64 if is_x64() else jnp.uint32
        dtype = jnp.int32 if all(_is_narrow(jnp.result_type(x)) for x in xs) else longest
    return jnp.stack([jnp.asarray(x).astype(dtype) for x in xs])


def _is_narrow(dtype: DTypeLike) -> bool:
    """Whether every number of an integer dtype is an int32."""
    return np.iinfo(dtype).max <= INT32_MAX


def _exact_steps(xs: np.ndarray, narrow: np.ndarray) -> np.ndarray:
    """Float64 steps beyond float32, in a dtype that holds them; fractions of small ones are cut.

    Of [10, 16777217] the second would be 16777216 in float32: they become int32. Of [0.1, 10.3] the
    float32 numbers next to them are meant, unless two steps would become one.
    """
    if np.all(np.floor(xs) == xs):
        kinds: dict[int, Any] = {31: np.int32, 32: np.uint32}
        if is_x64():
            kinds[63] = np.int64
        for bits, kind in kinds.items():
            if np.all((xs >= np.iinfo(kind).min) & (xs < 2.0**bits)):
                return xs.astype(kind)
    elif np.all(xs < 2.0**24) or np.any(np.diff(narrow) <= 0):
        return narrow
    return xs


def _check_array(
    where: str, xs: np.ndarray | jax.Array, increasing: bool, at_least: float | None
) -> None:
    """Raises for numbers that are not finite in float32, not increasing, or too small."""
    # Comparisons are written so that NaN fails them: `not all(x <= max)`, not `any(x > max)`.
    value = np.asarray(to_host(xs), np.float64)
    if not np.all(np.abs(value) <= FLOAT32_MAX):
        raise ValueError(f"{where} must be finite in float32, got {describe(xs)}.")
    if increasing and not np.all(value < 2.0**64):
        raise ValueError(
            f"{where} must be less than 2**64, where integers end, got {describe(xs)}."
        )
    if increasing and not np.all(np.diff(value) > 0):
        raise ValueError(f"{where} must be strictly increasing, got {describe(xs)}.")
    if at_least is not None and not np.all(value >= at_least):
        raise ValueError(f"{where} must be at least {at_least:g}, got {describe(xs)}.")


def checked_whole(
    where: str, x: Any, at_least: int, at_most: int | None = None, instead: str = ""
) -> int:
    """A known whole number of any kind (5, ``np.int64(5)``, 5.0) as Python's."""
    x = as_array(x)
    known = is_number(x) and not isinstance(x, bool) and is_concrete(x) and np.ndim(x) == 0
    value = np.asarray(to_host(x)).item() if known else math.nan
    is_whole = value % 1 == 0  # neither of NaN nor of infinity
    if is_whole and at_least <= value and (at_most is None or value <= at_most):
        return int(value)
    # A message names a bound against slips only if it is broken.
    low = at_most is None or (at_most >= MANY and not (is_whole and value > at_most))
    bounds = f"of at least {at_least}" if low else f"from {at_least} to {at_most}"
    error = ValueError if known else TypeError
    raise error(
        f"{where} must be a whole number {bounds}{instead}, got {describe(x)}{uncalled(x)}."
    )


def has_items(x: object) -> TypeGuard[Iterable[Any]]:
    """Whether it is a collection of any kind, but not a text."""
    one = isinstance(x, (str, bytes)) or getattr(x, "ndim", 1) == 0
    return isinstance(x, Iterable) and not one


def checked_items(where: str, xs: object, expected: str) -> list[Any]:
    """The items of an iterable, which may be endless."""
    if not has_items(xs):
        raise TypeError(f"{where} must be {expected}, got {describe(xs)}{uncalled(xs)}.")
    end = None if isinstance(xs, (list, tuple)) else MANY + 1
    items = list(itertools.islice(xs, end))
    if len(items) == end:
        raise ValueError(f"{where} must be {expected}, at most {MANY}, got {describe(xs)}.")
    return items


def checked_flag(where: str, x: object) -> bool:
    """True or False, NumPy's too."""
    if not isinstance(x, (bool, np.bool_)):
        raise TypeError(f"{where} must be True or False, got {describe(x)}.")
    return bool(x)


def checked_path(where: str, x: object) -> Path:
    """A text, bytes or ``os.PathLike``, unless its plain reading is a surprise.

    ``Path("")`` is the working directory: an empty variable hardly means that.
    """
    if not isinstance(x, (str, bytes, os.PathLike)):
        raise TypeError(f"{where} must be a path, got {describe(x)}.")
    text = os.fsdecode(x)
    if not text.strip() or "\0" in text or (isinstance(x, os.PathLike) and text == "."):
        repair = ' Write "." for the working directory.' if text == "." else ""
        raise ValueError(f"{where} must be a path with a name, got {x!r}.{repair}")
    if text.startswith("~"):
        raise ValueError(
            f"{where} must be a path, in which `~` is no home directory, got {x!r}. Write "
            "`Path(...).expanduser()`."
        )
    if "://" in text:
        raise ValueError(f"{where} must be a path of a file system that is mounted, got {x!r}.")
    return Path(text)


def cure(x: object) -> str:
    """The end of a message about a function in place of a schedule or a number."""
    if hasattr(x, "by_epochs"):
        return "; a js.Units converts: `run.epochs(1)` steps, or `run.by_epochs(schedule)`"
    is_function = callable(x) and not isinstance(x, type) and not dataclasses.is_dataclass(x)
    other = "; a function of the step becomes a schedule by `js.from_fn`" if is_function else ""
    return uncalled(x) or other


def check_room(where: str, size: float, what: str, repair: str) -> None:
    """Raises if so many bytes are more than this process may use: before the work, not after."""
    # A small one fits: a batch is drawn in less time than the bounds are read.
    if size > _SMALL and size > (most := memory()):
        raise ValueError(
            f"{where} must leave room for {what}: {size / 2**30:.3g} GiB, of the "
            f"{most / 2**30:.3g} that this process may use. {repair}"
        )
