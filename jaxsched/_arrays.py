"""The kinds of numbers (Python, NumPy, JAX; known or traced) and their conversion to arrays."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, TypeGuard, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from jaxsched._types import Leaf

T = TypeVar("T")

INT32_MAX = 2**31 - 1
NEEDS_A_NUMBER = (  # the errors of code that needs a traced value to be known
    jax.errors.ConcretizationTypeError,
    jax.errors.TracerArrayConversionError,
    jax.errors.TracerIntegerConversionError,
)
_LISTED = 2**26  # a range of more is not made a list: it would fill the memory


def is_concrete(x: object) -> bool:
    """Whether a number's value is at hand: a Python or NumPy number, or a concrete array."""
    if isinstance(x, (int, float, np.ndarray, np.generic)):
        return True
    if not isinstance(x, jax.Array) or isinstance(x, jax.core.Tracer):
        return False
    return x.is_fully_addressable  # else a part of it is with another process


def to_host(x: object) -> Any:
    """The value of a known number on the host (an explicit transfer, so no guard forbids it)."""
    return jax.device_get(x) if isinstance(x, jax.Array) else x


def frozen(x: Any) -> Any:
    """A read-only copy of a writable NumPy array; anything else unchanged."""
    # If a field changed with the user's array, hashes would change, which breaks caches. JAX also
    # caches the float32 copy of an array, and may use the old copy after the content has changed.
    if isinstance(x, np.ndarray) and x.flags.writeable:
        x = x.copy()
        x.setflags(write=False)
    return x


def is_x64() -> bool:
    settings: Any = jax.config  # some versions of JAX declare its attributes, some do not
    return bool(settings.jax_enable_x64)


def has_float64(numbers: Iterable[object]) -> bool:
    """Whether one of them is a float64 array or NumPy number, in x64 mode."""
    return is_x64() and any(
        # A Python number is, as an argument of a program, a weak-typed float64.
        isinstance(x, (np.ndarray, np.generic, jax.Array))
        and x.dtype == np.float64
        and not getattr(x, "weak_type", False)
        for x in numbers
    )


def strong(tree: T) -> T:
    """Every number of ``tree`` as a strong-typed array: float32 or int32, so that it can be state.

    A Python number is *weak-typed* in JAX: a program traced with one is traced again when an array
    takes its place. Arrays that are already strong are left as they are. So give a compiled
    function ``strong(schedule)``: ``jax.jit`` then has one program for all numbers, and so has
    ``equinox.filter_jit``, which takes Python numbers for a part of the program.
    """

    def convert(x: Any) -> Any:
        if isinstance(x, jax.Array) and not x.weak_type:
            return x
        if isinstance(x, (np.ndarray, np.generic)):
            return jnp.asarray(x)
        if isinstance(x, int) and abs(x) > INT32_MAX:
            return jnp.asarray(x, jnp.int64)  # in x64 mode
        return jax.lax.convert_element_type(x, jnp.int32 if is_whole(x) else jnp.float32)

    return jax.tree.map(convert, tree)


def same_structure(a: object, b: object) -> bool:
    """Whether two trees differ in their leaves alone."""
    trees: Any = (jax.tree.structure(a), jax.tree.structure(b))  # JAX does not type their ==
    return trees[0] == trees[1]


def same_form(a: object, b: object) -> bool:
    """Whether two trees differ in their values alone, not in a shape or dtype."""
    kinds = lambda tree: [(jnp.shape(x), jnp.result_type(x)) for x in jax.tree.leaves(tree)]
    return same_structure(a, b) and kinds(a) == kinds(b)


def donatable_copy(tree: T) -> T:
    """``strong``, in arrays without another owner, so that they may be donated."""
    return jax.tree.map(lambda x: jnp.array(x, copy=True), strong(tree))


def as_array(x: object) -> Any:
    """An array of another library (of PyTorch, a column of pandas) as NumPy's."""
    ours = isinstance(x, (int, float, np.ndarray, np.generic, jax.Array))
    if ours or not hasattr(x, "__array__") or is_list(x):
        return x
    try:
        return np.asarray(x)
    except Exception:  # another library's: PyTorch raises for a tensor with a gradient
        return x


def is_list(x: object) -> TypeGuard[Sequence[Any]]:
    """A list or another sequence: a tuple, deque, range of limited length, a config's list."""
    if isinstance(x, range):
        return not x[_LISTED:]
    return isinstance(x, Sequence) and not isinstance(x, (str, bytes, bytearray, memoryview))


def is_number(x: object) -> TypeGuard[Leaf]:
    if isinstance(x, (int, float)):
        return True
    # The test is on the dtype: NumPy's classes do not know JAX's own types (bfloat16, keys).
    dtype = getattr(x, "dtype", None)
    return dtype is not None and (
        (jnp.issubdtype(dtype, jnp.integer) and dtype.kind != "m")  # NumPy counts durations too
        or jnp.issubdtype(dtype, jnp.floating)
    )


def is_whole(x: object) -> bool:
    """Whether it is an integer by its type: Python's, or an array of them."""
    return isinstance(x, int) or (hasattr(x, "dtype") and jnp.issubdtype(x.dtype, jnp.integer))


def to_source(x: object, rank: int = 0) -> str:
    """A field as its constructor takes it; a list stands for an array of the field's ``rank``."""
    if isinstance(x, tuple):
        inner = ", ".join(map(to_source, x))
        return f"({inner},)" if len(x) == 1 else f"({inner})"
    if isinstance(x, jax.core.Tracer):
        return f"<traced {x.dtype}{list(x.shape)}>"
    if isinstance(x, jax.Array) and x.is_deleted():
        return "<deleted>"
    if isinstance(x, (np.ndarray, np.generic, jax.Array)) and is_concrete(x):
        value = np.asarray(to_host(x))
        return repr(value.item()) if value.ndim == 0 else _show_array(value, rank)
    return repr(x)


def _show_array(value: np.ndarray, rank: int) -> str:
    """A list where the constructor makes the same array of it, else a call of NumPy."""

    # str(np.float32) is the shortest text that reads back as the same float32.
    def nested(x: np.ndarray) -> str:
        return str(x) if np.ndim(x) == 0 else "[" + ", ".join(map(nested, x)) + "]"

    kind = "float32" if value.dtype.itemsize == 2 else value.dtype.name  # of half precision
    text = nested(value.astype(kind))
    return text if value.ndim == rank and kind != "float64" else f"np.{kind}({text})"
