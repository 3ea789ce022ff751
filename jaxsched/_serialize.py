"""Schedules as plain data: ``to_dict``, ``from_dict`` and strict JSON. Nothing is ever executed."""

from __future__ import annotations

import dataclasses
import functools
import json
import math
from collections.abc import Mapping
from typing import Any, NoReturn, TypeVar

import numpy as np

from jaxsched._arrays import is_concrete, is_list, to_host
from jaxsched._bounds import checked_kind
from jaxsched._checks import cure
from jaxsched._numerals import REAL, numeral
from jaxsched._struct import Record
from jaxsched._text import describe, shorten
from jaxsched.recipes._share import share
from jaxsched.schedules import (
    _base,
    _extremes,
    _joined,
    _logarithmic,
    _noise,
    _open_ended,
    _paced,
    _piecewise,
    _power,
    _repeat,
    _shapes,
    _wrappers,
)
from jaxsched.schedules._base import AbstractSchedule

T = TypeVar("T")
FORMAT = 1
_DEPTH = 200  # of nesting: Python's own limit depends on the caller's stack
_WIDE = "float64"  # an array of this dtype is {"float64": [...]}, all others are plain lists


class UnknownType(ValueError):
    """A type without a class registered here: nothing is wrong with the data."""


_REGISTERED: dict[str, type[Record]] = {}


def register(cls: T) -> T:
    """Lets a file name a class of one's own, a schedule or a controller: a decorator.

    A file can name nothing else, and nothing is imported by its name. The constructor gets the
    contents of the file, numbers, texts and lists as well as schedules, so it must check everything
    that its fields do not check.

    Args:
        cls: a ``@struct`` without static fields other than a ``choice``. Registered anew by the
            same module (a cell of a notebook), it takes the place of the old one.

    Returns:
        The class.

    Raises:
        TypeError: if it is not such a class.
        ValueError: if another class has its name.

    >>> import jaxsched as js
    >>> @js.register
    ... @js.schedules.struct
    ... class Step(js.schedules.AbstractWrapper):
    ...     def value_at(self, t):
    ...         return self.schedule.value_at(js.schedules.floor(t))
    >>> js.from_json(js.to_json(Step(js.Constant(0.5))))
    Step(schedule=Constant(value=0.5))
    """
    kind: Any = cls
    if not isinstance(kind, type) or not issubclass(kind, Record) or "_names" not in vars(kind):
        raise TypeError(
            "register(cls=...) must be a class made by @struct, a schedule or a controller, got "
            f"{describe(cls)}."
        )
    fields: Any = dataclasses.fields(kind)
    if static := [f.name for f in fields if "static" in f.metadata and "check" not in f.metadata]:
        raise TypeError(
            f"register(cls=...) must be a class whose fields are numbers, schedules and choices, "
            f"got {kind.__name__} with the static {', '.join(static)}."
        )
    # A file holds only the name. So two modules cannot register the same name: the class of one
    # would be read as the other's. A class defined anew, in the same module, replaces the old one.
    other = _types().get(kind.__name__, kind)
    place = lambda cls: (cls.__module__, cls.__qualname__)
    if kind.__name__ in _ours() or place(other) != place(kind):
        raise ValueError(
            f"register(cls=...) must have a name of its own, got {kind.__name__}, which is "
            f"{other.__module__}.{other.__qualname__}."
        )
    _REGISTERED[kind.__name__] = kind
    return cls


def _types() -> dict[str, type[Record]]:
    """The closed list of the types in files."""
    return _ours() | _REGISTERED


@functools.cache
def _ours() -> dict[str, type[Record]]:
    """Our own: schedules, controllers and shares."""
    # The first read or write of a file loads the controllers. Loaded at import, they made the first
    # schedule of a program slower by 66 ms of CPU.
    from jaxsched import controllers

    return {"share": share} | {
        name: value
        for module in (
            _base,
            _extremes,
            _joined,
            _shapes,
            _logarithmic,
            _open_ended,
            _wrappers,
            _repeat,
            _noise,
            _power,
            _piecewise,
            _paced,
            controllers,
        )
        for name, value in vars(module).items()
        if isinstance(value, type)
        and dataclasses.is_dataclass(value)
        and issubclass(value, AbstractSchedule | controllers.AbstractController)
        and not name.startswith(("_", "Abstract"))
    }


def to_dict(schedule: Record) -> dict[str, Any]:
    """A schedule, controller or share as nested dicts, lists and numbers, ready for JSON or TOML.

    Raises:
        TypeError: for anything else; for a schedule of ``js.from_fn``: code is not data; or for
            traced numbers.

    >>> import jaxsched as js
    >>> js.to_dict(js.Constant(0.5))
    {'jaxsched': 1, 'type': 'Constant', 'value': 0.5}
    """
    checked_kind("to_dict(schedule=...)", schedule, Record, "a schedule or controller", cure)
    return {"jaxsched": FORMAT, **_encode(schedule, 0)}


def from_dict(data: Mapping[str, Any]) -> Any:
    """The schedule, controller or share of a dict from ``to_dict``.

    Args:
        data: a mapping of any kind, such as a config's, with lists of any kind. A number may be a
            text, as YAML reads ``1e-5``, and the fraction of a share a percentage, ``"10%"``.

    Raises:
        ValueError: for an unknown version, type or field, a missing field or a bad number.

    >>> import jaxsched as js
    >>> js.from_dict({'jaxsched': 1, 'type': 'Constant', 'value': 0.5})
    Constant(value=0.5)
    """
    return _read(data, texts=True)


def _read(data: Any, texts: bool) -> Any:
    """A schedule or controller from the dict of a file; ``texts`` as in ``_decode``."""
    try:
        data = _plain(data)
    except RecursionError:
        raise ValueError(f"from_dict(data=...) must be nested at most {_DEPTH} deep.") from None
    version = data.get("jaxsched") if isinstance(data, dict) else type(data).__name__
    if type(version) is not int or version != FORMAT:
        raise ValueError(
            f"from_dict(data=...) must have 'jaxsched': {FORMAT}, got {shorten(repr(version))}."
        )
    return _decode({k: v for k, v in data.items() if k != "jaxsched"}, 0, texts)


def _plain(data: Any) -> Any:
    """Mappings and sequences of any kind as dicts and lists."""
    if isinstance(data, Mapping):
        return {key: _plain(value) for key, value in data.items()}
    return [_plain(value) for value in data] if is_list(data) else data


def to_json(schedule: Record) -> str:
    """``to_dict`` as strict JSON.

    >>> import jaxsched as js
    >>> js.from_json(js.to_json(js.Constant(0.5)))
    Constant(value=0.5)
    """
    return json.dumps(to_dict(schedule), allow_nan=False)


def from_json(text: str) -> Any:
    """The inverse of ``to_json``; duplicate keys, NaN and numbers as texts are refused.

    >>> import jaxsched as js
    >>> js.from_json('{"jaxsched": 1, "type": "Constant", "value": 0.5}')
    Constant(value=0.5)
    """

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len({key for key, _ in pairs}) != len(pairs):
            raise ValueError(
                f"from_json(text=...) must not repeat a key, got {shorten(repr(pairs))}."
            )
        return dict(pairs)

    def refuse(word: str) -> NoReturn:
        raise ValueError(f"from_json(text=...) must hold finite numbers, got {word}.")

    try:
        data = json.loads(text, object_pairs_hook=unique, parse_constant=refuse)
    except RecursionError:
        raise ValueError(f"from_json(text=...) must be nested at most {_DEPTH} deep.") from None
    except ValueError as error:  # also for bytes that are not text, and for too long numbers
        if str(error).startswith("from_json"):
            raise
        raise ValueError(f"from_json(text=...) must be JSON, got {error}.") from None
    return _read(data, texts=False)


def _encode(x: Any, depth: int) -> Any:
    """A record as a dict, its tuples as lists; ``depth`` is the nesting so far, at most _DEPTH."""
    # Fields with None are omitted: None is a default for "none", and TOML has no null.
    if depth > _DEPTH:
        raise ValueError(f"to_dict(schedule=...) must be nested at most {_DEPTH} deep.")
    if isinstance(x, Record):
        name = type(x).__name__
        if _types().get(name) is not type(x):
            raise TypeError(
                f"to_dict(schedule=...) must be made of jaxsched's own types, got {x!r} ({name}): "
                "a class of yours is registered by js.register; a function is code, not data. "
                "Sample it into a js.Table, or pickle it."
            )
        fields = {
            f.name: _encode(getattr(x, f.name), depth + 1)
            for f in dataclasses.fields(x)
            if getattr(x, f.name) is not None
        }
        return {"type": name, **fields}
    if isinstance(x, tuple):
        return [_encode(part, depth) for part in x]
    if isinstance(x, (int, float, str)):
        return x
    if not is_concrete(x):
        raise TypeError(f"to_dict(schedule=...) must hold known numbers, got {x!r}.")
    value = np.asarray(to_host(x))
    if value.ndim == 0:
        return value.item()
    return {_WIDE: value.tolist()} if value.dtype == np.float64 else value.tolist()


def _decode(data: Any, depth: int, texts: bool) -> Any:
    """The record of a dict of ``_encode``; ``texts``: numbers may be texts, as in a config."""
    if depth > _DEPTH:
        raise ValueError(f"from_dict(data=...) must be nested at most {_DEPTH} deep.")
    kind = data.get("type") if isinstance(data, dict) else data
    if not isinstance(data, dict) or not isinstance(kind, str) or kind not in _types():
        import difflib

        near = difflib.get_close_matches(str(kind)[:40], _types(), 1, 0.8)
        own = "a class of your own is known when the module that registers it (js.register) is"
        raise UnknownType(
            f"from_dict(type=...) must be one of {', '.join(sorted(_types()))}, got "
            f"{shorten(repr(kind))}; {f'did you mean {near[0]}' if near else f'{own} imported'}."
        )
    # The constructor checks the numbers of a file like a user's. The check here is for files of
    # another version: a renamed field would be lost, and its default used, without an error.
    cls = _types()[kind]
    given = {k: _field(v, depth, texts) for k, v in data.items() if k != "type"}
    fields = {f.name: f for f in dataclasses.fields(cls)}
    ranks: dict[str, int] = cls.ranks
    missing = [n for n, f in fields.items() if f.default is dataclasses.MISSING and n not in given]
    unknown = [name for name in given if name not in fields]
    if missing or unknown:
        raise ValueError(
            f"from_dict: {cls.__name__} must have the fields {', '.join(fields)}, "
            f"got unknown {shorten(repr(unknown))}, missing {missing}."
        )
    if texts:
        given = {k: _number(v, cls) if k in ranks else v for k, v in given.items()}
    # In a field for a single number (rank 0), a list holds the members of a population.
    given = {k: _population(v, ranks.get(k, 1)) for k, v in given.items()}
    try:
        return cls(**given)
    except (TypeError, OverflowError) as error:
        raise ValueError(f"from_dict: {error}") from error


def _number(value: object, cls: type) -> object:
    """A number from a text of a config, also in lists; other values unchanged."""
    if isinstance(value, list):
        return [_number(x, cls) for x in value]
    if not isinstance(value, str):
        return value
    text = value.strip()
    if cls is share and text.endswith("%") and REAL.fullmatch(text[:-1]):
        return float(text[:-1]) / 100
    number = numeral(text)
    return value if number is None else number


def _population(value: Any, rank: int) -> Any:
    """The numbers of a stacked population, as ``js.stack`` holds them; others unchanged."""
    # The rank says how many axes a field has of its own: none for a rate, one for knots. A list in
    # a rate's place is a population; in the place of knots it is one only if it is nested.
    is_nested = isinstance(value, list) and value and isinstance(value[0], list)
    if not isinstance(value, list) or (rank and not is_nested):
        return value
    array = _array(value)
    # checked_number narrows whole numbers, or keeps them as floats where int32 ends.
    with np.errstate(over="ignore"):  # an infinity is refused where a number belongs
        return array if array.dtype.kind == "i" else array.astype(np.float32)


def _array(value: object) -> np.ndarray:
    """A list of numbers, nested alike, as an array."""
    try:
        array = np.asarray(value)
    except ValueError:  # a ragged list
        array = np.asarray(None)
    fits = isinstance(value, list) and array.dtype.kind in "if" and array.size
    if not fits or any(type(x) is bool for x in np.array(value, object).ravel()):
        raise ValueError(f"from_dict(data=...) must hold numbers, got {shorten(repr(value))}.")
    return array


def _field(value: Any, depth: int, texts: bool) -> Any:
    """The value of a field from JSON: a record, several, an array or a number."""
    # Python reads every real number of JSON as float64; a schedule's are float32 or Python's own.
    # So only arrays that were float64 on purpose are marked in the file.
    if isinstance(value, dict) and value.keys() == {_WIDE}:
        return _array(value[_WIDE]).astype(np.float64)
    if isinstance(value, dict):
        return _decode(value, depth + 1, texts)
    if isinstance(value, list):
        if value and isinstance(value[0], dict):
            return tuple(_decode(part, depth + 1, texts) for part in value)
        return value
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"from_dict(data=...) must hold finite numbers, got {value!r}.")
    return value
