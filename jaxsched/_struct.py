"""Immutable records of numbers: frozen dataclasses that are pytrees.

``@struct`` registers a class with JAX. Unlike ``jax.tree_util.register_dataclass`` it does not run
the constructor when JAX rebuilds an object: there the leaves may be tracers, axis specifications,
shardings or *gradients* (where a length of -0.3 is right). So a constructor may check and convert
a user's arguments, and a transformation never runs the checks.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable, Hashable, Iterable
from typing import Any, ClassVar, TypeVar, dataclass_transform

import jax
import numpy as np

from jaxsched._arrays import frozen, is_concrete, same_structure, to_host, to_source
from jaxsched._bounds import check_choice
from jaxsched._checks import checked_array, checked_number
from jaxsched._types import Leaf
from jaxsched._words import bind

T = TypeVar("T")


def number(
    default: Any = dataclasses.MISSING,
    *,
    at_least: float | None = None,
    above: float | None = None,
    at_most: float | None = None,
    below: float | None = None,
    optional: bool = False,
) -> Any:
    """A field for one real number; if its value is known, the bounds are checked.

    A whole number is made a float, so that 1 and 0.5 are the same kind of leaf.
    """
    bounds = dict(at_least=at_least, above=above, at_most=at_most, below=below)
    return _checked(default, 0, checked_number, **bounds, optional=optional, real=True)


def length(
    default: Any = dataclasses.MISSING,
    *,
    at_least: float | None = None,
    above: float | None = None,
    optional: bool = False,
) -> Any:
    """A field for a number of steps; a whole number, the usual case, stays an integer."""
    return _checked(default, 0, checked_number, at_least=at_least, above=above, optional=optional)


def count(
    default: Any = dataclasses.MISSING,
    *,
    at_least: float | None = None,
    at_most: float | None = None,
    optional: bool = False,
) -> Any:
    """A field for a whole number: a count of things.

    >>> from jaxsched.controllers import count
    >>> count(10, at_least=0).default
    10
    """
    bounds = dict(at_least=at_least, at_most=at_most)
    return _checked(default, 0, checked_number, **bounds, optional=optional, whole=True)


def numbers(*, increasing: bool = False, at_least: float | None = None) -> Any:
    """A field for a one-dimensional array; it converts any sequence."""
    default = dataclasses.MISSING
    return _checked(default, 1, checked_array, increasing=increasing, at_least=at_least)


def choice(*options: str, default: str) -> Any:
    """A field for one of a few words: structure, not a number.

    >>> from jaxsched.controllers import choice
    >>> choice("min", "max", default="min").default
    'min'
    """
    check = functools.partial(check_choice, options=options)
    return dataclasses.field(default=default, metadata={"static": True, "check": check})


def static(default: Any = dataclasses.MISSING) -> Any:
    """A field that is not a number: part of the structure, compared and hashed by JAX."""
    return dataclasses.field(default=default, metadata={"static": True})


def _checked(default: Any, rank: int, check: Callable[..., Any], **settings: Any) -> Any:
    """A field for a number, or for an array (``rank`` 1) of them: without a population's axes."""
    metadata = {"rank": rank, "check": functools.partial(check, **settings)}
    return dataclasses.field(default=default, metadata=metadata)


@dataclass_transform(
    frozen_default=True, field_specifiers=(number, length, count, numbers, choice, static)
)
def struct(cls: type[T]) -> type[T]:
    """Makes a subclass of ``Record`` a frozen dataclass and a pytree; see the module's text."""
    # The dataclass gives the fields, their order and `dataclasses.replace`, but no methods. Record
    # has the methods, once for all: to generate them per class would take most of our import.
    cls = dataclasses.dataclass(init=False, repr=False, eq=False)(cls)
    fields = dataclasses.fields(cls)  # type: ignore[arg-type]
    kind: Any = cls
    kind.__signature__ = _signature(fields)
    leaves = tuple(f.name for f in fields if not f.metadata.get("static"))
    fixed = tuple(f.name for f in fields if f.metadata.get("static"))
    keys = tuple(jax.tree_util.GetAttrKey(name) for name in leaves)
    kind._names = tuple(f.name for f in fields)
    kind._defaults = {f.name: f.default for f in fields if f.default is not dataclasses.MISSING}
    kind._checks = {f.name: f.metadata["check"] for f in fields if "check" in f.metadata}
    kind.ranks = {f.name: f.metadata["rank"] for f in fields if "rank" in f.metadata}

    def flatten(self: Any) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        values = self.__dict__  # in lists: a generator is slower, and this runs at every trace
        return tuple([values[n] for n in leaves]), tuple([values[n] for n in fixed])

    def flatten_with_keys(self: Any) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        children, aux = flatten(self)
        return tuple(zip(keys, children, strict=True)), aux

    def unflatten(aux: tuple[object, ...], children: Iterable[Leaf]) -> Any:
        # Not by the constructor: its checks are for a user's arguments, and a leaf here may be a
        # tracer, an axis, a sharding or a gradient. Nor by `setattr`, which this class refuses.
        self = object.__new__(cls)
        self.__dict__.update(zip(leaves, children, strict=True))
        self.__dict__.update(zip(fixed, aux, strict=True))
        return self

    jax.tree_util.register_pytree_with_keys(cls, flatten_with_keys, unflatten, flatten)
    return cls


class Record:
    """The base of every struct: checks at construction, a repr that pastes back, == and hash."""

    # So `dataclasses.replace` takes one.
    __dataclass_fields__: ClassVar[dict[str, dataclasses.Field[Any]]]
    _names: ClassVar[tuple[str, ...]]  # of the fields
    _defaults: ClassVar[dict[str, object]]
    _checks: ClassVar[dict[str, Callable[[str, Any], Any]]]
    ranks: ClassVar[dict[str, int]]  # of the fields for numbers: 1 for an array, 0 for one number

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        _check_made(type(self))
        # `bind` in place of Python's own arguments, for errors that know other libraries' names.
        # Then the checks: each field by itself, then the relations among them, the bases' first.
        given = bind(type(self).__name__, self._names, self._defaults, args, kwargs)
        self.__dict__.update(given)
        self.__post_init__()
        kind: Any = type(self)
        for check in _checks_of(kind):
            check(self)

    def __setattr__(self, name: str, value: object) -> None:
        _check_made(type(self))
        raise dataclasses.FrozenInstanceError(
            f"{type(self).__name__}.{name} cannot be set: it is immutable. Make another one, e.g. "
            f"`dataclasses.replace(x, {name}=...)`."
        )

    def __delattr__(self, name: str) -> None:
        raise dataclasses.FrozenInstanceError(f"{type(self).__name__}.{name} cannot be deleted.")

    def __setstate__(self, state: dict[str, Leaf]) -> None:
        # NumPy copies and unpickles arrays as writable ones.
        self.__dict__.update({name: frozen(value) for name, value in state.items()})

    def __post_init__(self) -> None:
        for name, check in self._checks.items():
            where = f"{type(self).__name__}({name}=...)"
            self.__dict__[name] = check(where, getattr(self, name))

    def __repr__(self) -> str:
        shown = ", ".join(
            f"{field.name}={to_source(getattr(self, field.name), self.ranks.get(field.name, 0))}"
            for field in dataclasses.fields(self)
            if not _is_default(getattr(self, field.name), field.default)
        )
        return f"{type(self).__name__}({shown})"

    def __eq__(self, other: object) -> bool:
        if type(self) is not type(other):
            return NotImplemented
        leaves = map(_same, jax.tree.leaves(self), jax.tree.leaves(other))
        return same_structure(self, other) and all(leaves)

    # A number and a JAX array of the same value are equal, so the hash is one of values, not of
    # types.
    def __hash__(self) -> int:
        leaves, tree = jax.tree.flatten(self)
        return hash((type(self), tree, tuple(map(_hashable, leaves))))


@functools.cache
def _checks_of(cls: type) -> list[Callable[[Record], None]]:
    """The ``__check_init__`` of a class and its bases, the bases' first, as in Equinox."""
    checks = [vars(c)["__check_init__"] for c in cls.__mro__ if "__check_init__" in vars(c)]
    return checks[::-1]


def _check_made(cls: type) -> None:
    if "_names" not in vars(cls):  # inherited names belong to another class
        raise TypeError(
            f"{cls.__name__} must be decorated with @struct of jaxsched.schedules or "
            "jaxsched.controllers, which makes its constructor of the fields that it declares, and "
            "a pytree of its numbers; a class derived from a decorated one, too."
        )


def _signature(fields: tuple[dataclasses.Field[Any], ...]) -> inspect.Signature:
    """The signature for ``help`` and ``inspect``: all classes share Record's constructor."""
    kind, empty = inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.empty
    missing = dataclasses.MISSING
    return inspect.Signature(
        [
            inspect.Parameter(f.name, kind, default=empty if f.default is missing else f.default)
            for f in fields
        ]
    )


def _is_default(value: object, default: object) -> bool:
    return isinstance(value, (int, float, str, type(None))) and bool(value == default)


def _same(a: Leaf, b: Leaf) -> bool:
    known = is_concrete(a) and is_concrete(b)
    return a is b or (known and bool(np.array_equal(to_host(a), to_host(b))))


def _hashable(x: Leaf) -> Hashable:
    if isinstance(x, (int, float)):
        return x
    if is_concrete(x):
        value = np.asarray(to_host(x))
        return value.item() if value.ndim == 0 else tuple(value.ravel().tolist())
    return id(x)  # traced: equal to itself only, as `_same` has it
