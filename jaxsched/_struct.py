"""Immutable records whose fields are numbers: frozen dataclasses that are pytrees.

``@struct`` registers a class with JAX. Unlike ``jax.tree_util.register_dataclass`` it does not run
the constructor when JAX rebuilds an object: there the leaves may be tracers, axis specifications,
shardings or *gradients* (for which a length of -0.3 is no error). So a constructor may check and
convert what a person wrote, and a transformation never meets those checks.
"""

from __future__ import annotations

import dataclasses
import inspect
import operator
from collections.abc import Callable, Iterable, Sequence
from typing import Any, ClassVar, TypeVar, dataclass_transform

import jax
import jax.numpy as jnp
import numpy as np

from jaxsched._words import bind, uncalled

T = TypeVar("T")

INT32_MAX = 2**31 - 1
_FLOAT32_MAX = float(np.finfo(np.float32).max)
_FLOAT32_TINY = float(np.finfo(np.float32).tiny)


def number(
    default: Any = dataclasses.MISSING,
    *,
    at_least: float | None = None,
    above: float | None = None,
    at_most: float | None = None,
    below: float | None = None,
    optional: bool = False,
) -> Any:
    """A field that holds one real number; where its value is known, the bounds are checked.

    A whole number is made a float, so that 1 and 0.5 are the same kind of leaf.
    """
    bounds = {"at_least": at_least, "above": above, "at_most": at_most, "below": below}
    check = {"kind": "number", "optional": optional, "real": True, **bounds}
    return dataclasses.field(default=default, metadata={"check": check})


def length(
    default: Any = dataclasses.MISSING,
    *,
    at_least: float | None = None,
    above: float | None = None,
    optional: bool = False,
) -> Any:
    """A field that holds a number of steps, usually a whole one, which stays an integer."""
    field = number(default, at_least=at_least, above=above, optional=optional)
    check = {**field.metadata["check"], "real": False}
    return dataclasses.field(default=default, metadata={"check": check})


def numbers(*, increasing: bool = False, at_least: float | None = None) -> Any:
    """A field that holds a one-dimensional array; any sequence is made one."""
    check = {"kind": "numbers", "increasing": increasing, "at_least": at_least}
    return dataclasses.field(metadata={"check": check})


def static(default: Any = dataclasses.MISSING) -> Any:
    """A field that is not a number: part of the structure, compared and hashed by JAX."""
    return dataclasses.field(default=default, metadata={"static": True})


@dataclass_transform(frozen_default=True, field_specifiers=(number, length, numbers, static))
def struct(cls: type[T]) -> type[T]:
    """Makes a subclass of ``Record`` a frozen dataclass and a pytree; see the module's text."""
    # Its methods are those of Record: to generate them per class would take most of our import.
    cls = dataclasses.dataclass(init=False, repr=False, eq=False)(cls)
    fields = dataclasses.fields(cls)  # type: ignore[arg-type]
    cls.__signature__ = _signature(fields)  # type: ignore[attr-defined]
    leaves = tuple(f.name for f in fields if not f.metadata.get("static"))
    fixed = tuple(f.name for f in fields if f.metadata.get("static"))
    keys = tuple(jax.tree_util.GetAttrKey(name) for name in leaves)
    cls._names = tuple(f.name for f in fields)  # type: ignore[attr-defined]
    cls._defaults = {  # type: ignore[attr-defined]
        f.name: f.default for f in fields if f.default is not dataclasses.MISSING
    }

    def flatten(self: Any) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        values = self.__dict__
        return tuple([values[n] for n in leaves]), tuple([values[n] for n in fixed])

    def flatten_with_keys(self: Any) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        children, aux = flatten(self)
        return tuple(zip(keys, children, strict=True)), aux

    def unflatten(aux: tuple[Any, ...], children: Any) -> Any:
        self = object.__new__(cls)
        self.__dict__.update(zip(leaves, children, strict=True))
        self.__dict__.update(zip(fixed, aux, strict=True))
        return self

    jax.tree_util.register_pytree_with_keys(cls, flatten_with_keys, unflatten, flatten)
    return cls


class Record:
    """What every struct does: checks at construction, a repr that pastes back, == and hash."""

    _names: ClassVar[tuple[str, ...]]  # of the fields
    _defaults: ClassVar[dict[str, Any]]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        given = bind(type(self).__name__, self._names, self._defaults, args, kwargs)
        self.__dict__.update(given)
        self.__post_init__()

    def __setattr__(self, name: str, value: Any) -> None:
        raise dataclasses.FrozenInstanceError(
            f"{type(self).__name__}.{name} cannot be set: it is immutable. Make another one, e.g. "
            f"`dataclasses.replace(x, {name}=...)`."
        )

    def __delattr__(self, name: str) -> None:
        raise dataclasses.FrozenInstanceError(f"{type(self).__name__}.{name} cannot be deleted.")

    def __setstate__(self, state: dict[str, Any]) -> None:
        # NumPy copies and unpickles arrays as writable ones.
        self.__dict__.update({name: _frozen(value) for name, value in state.items()})

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):  # type: ignore[arg-type]
            check = field.metadata.get("check")
            if check is None:
                continue
            value = getattr(self, field.name)
            where = f"{type(self).__name__}({field.name}=...)"
            if check["kind"] == "number":
                value = checked_number(
                    where,
                    value,
                    **{k: check[k] for k in _BOUNDS},
                    optional=check["optional"],
                    real=check["real"],
                )
            else:
                value = checked_array(where, value, check["increasing"], check["at_least"])
            self.__dict__[field.name] = value

    def __repr__(self) -> str:
        shown = ", ".join(
            f"{field.name}={show(getattr(self, field.name), _rank(field))}"
            for field in dataclasses.fields(self)  # type: ignore[arg-type]
            if not _is_default(field, getattr(self, field.name))
        )
        return f"{type(self).__name__}({shown})"

    def __eq__(self, other: object) -> bool:
        if type(self) is not type(other):
            return NotImplemented
        trees: Any = (jax.tree.structure(self), jax.tree.structure(other))
        return trees[0] == trees[1] and all(
            map(_same, jax.tree.leaves(self), jax.tree.leaves(other))
        )

    def __hash__(self) -> int:
        leaves, tree = jax.tree.flatten(self)
        return hash((type(self), tree, tuple(map(_hashable, leaves))))


def _signature(fields: Any) -> inspect.Signature:
    kind, empty = inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.empty
    missing = dataclasses.MISSING
    return inspect.Signature(
        [
            inspect.Parameter(f.name, kind, default=empty if f.default is missing else f.default)
            for f in fields
        ]
    )


_BOUNDS = ("at_least", "above", "at_most", "below")


def is_known(x: Any) -> bool:
    """Whether a number's value is at hand: a Python or NumPy number, or a concrete array."""
    if isinstance(x, (int, float, np.ndarray, np.generic)):
        return True
    return (
        isinstance(x, jax.Array) and not isinstance(x, jax.core.Tracer) and (x.is_fully_addressable)
    )


def fetch(x: Any) -> Any:
    """The value of a known number on the host (an explicit transfer, so no guard forbids it)."""
    return jax.device_get(x) if isinstance(x, jax.Array) else x


def breaks(rule: Callable[..., Any], *numbers: Any) -> bool:
    """Whether ``rule`` holds for any member of numbers that are all known: a relation violated."""
    if all(type(x) is float or type(x) is int for x in numbers):  # the usual case, quickly
        return bool(rule(*numbers))
    if not all(map(is_known, numbers)):
        return False
    return bool(np.any(rule(*(np.asarray(fetch(x), np.float64) for x in numbers))))


def checked_number(
    where: str,
    x: Any,
    *,
    at_least: float | None = None,
    above: float | None = None,
    at_most: float | None = None,
    below: float | None = None,
    optional: bool = False,
    real: bool = False,
) -> Any:
    """``x`` as a leaf, or a ``TypeError``/``ValueError`` that says what was expected.

    Arrays keep their value; an array with axes is a *population* (see ``js.stack``) and is checked
    member by member. An integer that JAX cannot hold (beyond int32, or int64 in x64 mode) becomes a
    float; so does every integer if ``real``.
    """
    if x is None and optional:
        return None
    x = _as_array(x)
    if isinstance(x, (bool, np.bool_)) or not is_number(x):
        raise TypeError(f"{where} must be a number, got {_describe(x)}{cure(x)}.")
    if isinstance(x, np.ndarray) and x.ndim == 0:
        x = x[()]
    if not is_known(x):
        whole = jnp.issubdtype(x.dtype, jnp.integer)
        return x.astype(jnp.float32) if real and whole else x
    value: Any = x
    every: Any = bool  # for a Python number, the usual case, without NumPy's price
    some: Any = bool
    if type(x) is not float and type(x) is not int:
        every, some = np.all, np.any
        try:
            value = np.asarray(fetch(x), np.float64)
        except OverflowError:
            value = np.asarray(np.inf)
    wanted = [
        (at_least, operator.ge, "at least"),
        (above, operator.gt, "greater than"),
        (at_most, operator.le, "at most"),
        (below, operator.lt, "less than"),
    ]
    if not every(abs(value) <= _FLOAT32_MAX):
        raise ValueError(f"{where} must be finite in float32, got {_describe(x)}.")
    if 0 in (at_least, above) and some((value > 0) & (value < _FLOAT32_TINY)):
        raise ValueError(
            f"{where} must be at least {_FLOAT32_TINY:.3g}, below which a program has zero, got "
            f"{_describe(x)}."
        )
    for bound, holds, words in wanted:
        if bound is not None and not every(holds(value, bound)):
            raise ValueError(f"{where} must be {words} {bound:g}, got {_describe(x)}.")
    if isinstance(x, (int, np.integer)):
        most = 2**63 - 1 if is_x64() else INT32_MAX
        return float(x) if real or abs(int(x)) > most else int(x)
    if isinstance(x, (float, np.floating)):
        kept = isinstance(x, np.float32) or has_float64([x])
        return x if kept else float(x)
    if jnp.issubdtype(x.dtype, jnp.integer):
        if real:
            return x.astype(jnp.float32)
        if np.any(np.abs(value) > INT32_MAX):
            if is_x64():
                return _frozen(x)
            return _frozen(value) if value.ndim else float(value)
        x = x.astype(np.int32)
    return _frozen(x)


def _frozen(x: Any) -> Any:
    """A NumPy array as one of our own that nobody can write to; all else as it is."""
    if isinstance(x, np.ndarray) and x.flags.writeable:
        x = x.copy()
        x.setflags(write=False)
    return x


def checked_array(where: str, xs: Any, increasing: bool, at_least: float | None) -> Any:
    """``xs`` as a one-dimensional int32 or float32 array, checked where its values are known.

    A float64 array stays one in x64 mode. Steps that no float32 holds become int32 or uint32, and
    stay float64 where those do not hold them either: exact until a program takes them as arguments.
    """
    xs = _as_array(xs)
    if isinstance(xs, np.ndarray) and xs.dtype.hasobject:  # NumPy's array of larger integers
        xs = xs.tolist()
    wide = has_float64([xs])
    if is_list(xs):
        wide = not increasing and has_float64(xs)
        xs = [checked_number(where, x) for x in xs]
        whole = bool(xs) and all(jnp.issubdtype(jnp.result_type(x), jnp.integer) for x in xs)
        if any(isinstance(x, jax.core.Tracer) for x in xs):
            dtype: Any = jnp.float64 if wide else jnp.float32
            if whole:
                longest = jnp.int64 if is_x64() else jnp.uint32
                dtype = jnp.int32 if all(_is_narrow(jnp.result_type(x)) for x in xs) else longest
            xs = jnp.stack([jnp.asarray(x).astype(dtype) for x in xs])
        else:
            xs = np.asarray(xs, np.int64 if whole else np.float64)
    if not is_number(xs) or np.ndim(xs) < 1:
        raise TypeError(f"{where} must be a one-dimensional array, got {_describe(xs)}.")
    if is_known(xs):
        _check_array(where, xs, increasing, at_least)
    if jnp.issubdtype(xs.dtype, jnp.integer):
        known = np.asarray(fetch(xs)) if is_known(xs) else None
        if _is_narrow(xs.dtype) or (known is not None and np.all(np.abs(known) <= INT32_MAX)):
            return _frozen(xs.astype(jnp.int32))
        if isinstance(xs, jax.Array):
            return xs
        xs = np.asarray(known, np.float64)
    elif wide:
        return _frozen(xs)
    narrow = xs.astype(jnp.float32)
    if increasing and isinstance(xs, np.ndarray):
        if np.any(narrow != xs):
            narrow = _exact_steps(xs, narrow)
        _check_array(where, narrow, increasing, at_least)
    return _frozen(narrow)


def _is_narrow(dtype: Any) -> bool:
    """Whether every number of an integer dtype is an int32."""
    return np.iinfo(dtype).max <= INT32_MAX


def _exact_steps(xs: np.ndarray, narrow: np.ndarray) -> np.ndarray:
    """Float64 steps that no float32 holds in a dtype that does; fractions of small ones are cut."""
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


def is_x64() -> bool:
    settings: Any = jax.config  # some versions of JAX declare its attributes, some do not
    return bool(settings.jax_enable_x64)


def has_float64(numbers: Iterable[Any]) -> bool:
    """Whether one of them is float64 and means it: an array or a NumPy number, in x64 mode."""
    return is_x64() and any(
        # A Python number that is an argument of a program is weak-typed there, and no float64.
        isinstance(x, (np.ndarray, np.generic, jax.Array))
        and x.dtype == np.float64
        and not getattr(x, "weak_type", False)
        for x in numbers
    )


def _check_array(where: str, xs: Any, increasing: bool, at_least: float | None) -> None:
    value = np.asarray(fetch(xs), np.float64)
    if not np.all(np.abs(value) <= _FLOAT32_MAX):
        raise ValueError(f"{where} must be finite in float32, got {_describe(xs)}.")
    if increasing and not np.all(value < 2.0**64):
        raise ValueError(
            f"{where} must be less than 2**64, where integers end, got {_describe(xs)}."
        )
    if increasing and not np.all(np.diff(value) > 0):
        raise ValueError(f"{where} must be strictly increasing, got {_describe(xs)}.")
    if at_least is not None and not np.all(value >= at_least):
        raise ValueError(f"{where} must be at least {at_least:g}, got {_describe(xs)}.")


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
        whole = isinstance(x, int) or (
            isinstance(x, jax.Array) and jnp.issubdtype(x.dtype, jnp.integer)
        )
        if isinstance(x, int) and abs(x) > INT32_MAX:
            return jnp.asarray(x, jnp.int64)  # in x64 mode
        return jax.lax.convert_element_type(x, jnp.int32 if whole else jnp.float32)

    return jax.tree.map(convert, tree)


def own(tree: T) -> T:
    """``strong``, in arrays that nobody else holds, so that they may be donated."""
    return jax.tree.map(lambda x: jnp.array(x, copy=True), strong(tree))


# ---------------------------------------------------------------------------------------- details


def _as_array(x: Any) -> Any:
    """An array of another library (of PyTorch, a column of pandas) as NumPy's."""
    ours = isinstance(x, (int, float, np.ndarray, np.generic, jax.Array))
    return np.asarray(x) if not ours and hasattr(x, "__array__") and not is_list(x) else x


def is_list(x: Any) -> bool:
    """A list, or whatever is as good: a tuple, deque, range, ``array.array``, a config's list."""
    return isinstance(x, Sequence) and not isinstance(x, (str, bytes, bytearray, memoryview))


def cure(x: Any) -> str:
    """What a message adds where a function was given instead of a schedule or a number."""
    is_function = callable(x) and not isinstance(x, (type, Record))
    other = "; a function of the step becomes a schedule by `js.from_fn`" if is_function else ""
    return uncalled(x) or other


def is_number(x: Any) -> bool:
    if isinstance(x, (int, float)):
        return True
    dtype = getattr(x, "dtype", None)
    return dtype is not None and (
        jnp.issubdtype(dtype, jnp.integer) or jnp.issubdtype(dtype, jnp.floating)
    )


def _describe(x: Any) -> str:
    text = repr(x)
    text = text if len(text) <= 80 else text[:77] + "..."
    return text if isinstance(x, (int, float)) else f"{text} ({type(x).__name__})"


def _is_default(field: Any, value: Any) -> bool:
    if field.default is dataclasses.MISSING:
        return False
    return (
        value is None
        if field.default is None
        else (isinstance(value, (int, float, str)) and value == field.default)
    )


def printable(text: str) -> str:
    """A text for a terminal: line breaks and control characters as a ``repr`` shows them."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def cut(text: str) -> str:
    """A text as a message quotes it: printable, and not much more than a line's half."""
    text = printable(text)
    return text if len(text) <= 60 else text[:57] + "..."


def _rank(field: Any) -> int:
    return int(field.metadata.get("check", {}).get("kind") == "numbers")


def show(x: Any, rank: int = 0) -> str:
    """A field as its constructor takes it; a list stands for an array of the field's ``rank``."""
    if isinstance(x, tuple):
        inner = ", ".join(map(show, x))
        return f"({inner},)" if len(x) == 1 else f"({inner})"
    if isinstance(x, jax.core.Tracer):
        return f"<traced {x.dtype}{list(x.shape)}>"
    if isinstance(x, jax.Array) and x.is_deleted():
        return "<deleted>"
    if isinstance(x, (np.ndarray, np.generic, jax.Array)) and is_known(x):
        value = np.asarray(fetch(x))
        return repr(value.item()) if value.ndim == 0 else _show_array(value, rank)
    return repr(x)


def _show_array(value: np.ndarray, rank: int) -> str:
    # str(np.float32) is the shortest text that reads back as the same float32.
    def nested(x: Any) -> str:
        return str(x) if np.ndim(x) == 0 else "[" + ", ".join(map(nested, x)) + "]"

    kind = "float32" if value.dtype.itemsize == 2 else value.dtype.name  # of half precision
    text = nested(value.astype(kind))
    return text if value.ndim == rank and kind != "float64" else f"np.{kind}({text})"


def _same(a: Any, b: Any) -> bool:
    if a is b:
        return True
    if is_known(a) and is_known(b):
        return bool(np.array_equal(fetch(a), fetch(b)))
    return False


def _hashable(x: Any) -> Any:
    if isinstance(x, (int, float)):
        return x
    if is_known(x):
        value = np.asarray(fetch(x))
        return value.item() if value.ndim == 0 else tuple(value.ravel().tolist())
    return id(x)
