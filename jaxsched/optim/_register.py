"""What ``jax.export`` and ``flax.serialization`` must know of the nodes of an optimizer state."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Iterator
from typing import Any

import jax
from jax import export

from jaxsched._struct import Record
from jaxsched._types import PyTree
from jaxsched.optim._state import InjectState, Override


def register_export(tree: PyTree) -> None:
    """Registers every class in ``tree`` that ``jax.export`` doesn't know, so it can be serialized.

    ``inject`` does it for its own state and for the schedules it is given, so this is for the rest:
    call ``register_export(opt_state)`` before you serialize or deserialize an exported train step,
    because Optax doesn't register its states (``ScaleByAdamState``, ...). A class is written
    under its module and name. Calling it again does no harm.

    Args:
        tree: any pytree, such as an optimizer state. Only its structure is looked at.

    Raises:
        TypeError: when such a step is serialized later, if a class holds static fields (those that
            aren't leaves) that JSON can't write.

    >>> import jax.numpy as jnp, optax
    >>> from jaxsched.optim import register_export
    >>> register_export(optax.adam(0.1).init(jnp.ones(3)))
    """
    for kind in node_types(tree):
        _register(kind)


def node_types(tree: Any) -> Iterator[type]:
    """The class of every node of a pytree."""
    nodes: list[Any] = [jax.tree.structure(tree)]
    while nodes:
        node = nodes.pop()
        nodes.extend(node.children())
        if node.node_data() is not None:
            yield node.node_data()[0]


def _register(kind: type) -> None:
    if kind in (tuple, list, dict, type(None)):
        return
    name = _name(kind)
    try:
        if issubclass(kind, tuple):
            export.register_namedtuple_serialization(kind, serialized_name=name)
        else:
            export.register_pytree_node_serialization(
                kind,
                serialized_name=name,
                serialize_auxdata=lambda aux: json.dumps(aux).encode(),
                deserialize_auxdata=lambda data: _tuples(json.loads(data)),
                from_children=_of_before(kind) if issubclass(kind, Record) else None,
            )
    except ValueError:  # already registered, by us or by the class's own library
        return


def _of_before(kind: Any) -> Any:
    """Makes a record of a file, in which fields that were added since are missing.

    They are ``None``, whatever their default: a number would be a leaf that the file does not have.
    """

    def from_children(aux: Any, children: Any) -> Any:
        fields = dataclasses.fields(kind)
        parts = {True: iter(aux), False: iter(children)}
        record = object.__new__(kind)
        for field in fields:
            record.__dict__[field.name] = next(parts[bool(field.metadata.get("static"))], None)
        return record

    return from_children


def with_defaults(tree: Any) -> Any:
    """``tree``, in whose records what is ``None`` since a file lacks it has its default."""

    def completed(x: Any) -> Any:
        if not isinstance(x, Record):
            return x
        whole = object.__new__(type(x))
        for name, value in x.__dict__.items():
            settings = getattr(x._checks.get(name), "keywords", {})
            lacking = value is None and not settings.get("optional", True)
            whole.__dict__[name] = x._defaults.get(name) if lacking else with_defaults(value)
        return whole

    return jax.tree.map(completed, tree, is_leaf=lambda x: isinstance(x, Record))


# Where the classes of a module were when files were first written, which know them by that.
_MOVED = {
    "jaxsched.schedules._open_ended.": "jaxsched.schedules._laws.",
    "jaxsched.schedules._extremes.": "jaxsched.schedules._base.",
    "jaxsched.schedules._repeat.": "jaxsched.schedules._wrappers.",
    "jaxsched.controllers.measurements.": "jaxsched.controllers.",
}


def _name(kind: type) -> str:
    name = f"{kind.__module__}.{kind.__qualname__}"
    for today, once in _MOVED.items():
        name = name.replace(today, once)
    return name


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


# Our own names are fixed: a file written today must be read after a module has been moved.
for _kind, _known in {Override: "Knob", InjectState: "InjectState"}.items():
    export.register_namedtuple_serialization(_kind, serialized_name=f"jaxsched.optim.{_known}")


def register_flax(tree: Any) -> None:
    """Makes ``flax.serialization`` write the numbers of every schedule in ``tree``.

    A program that serializes with Flax has imported it, so nothing is imported here.
    """
    serialization = sys.modules.get("flax.serialization")
    for kind in node_types(tree) if serialization is not None else ():
        if issubclass(kind, Record):
            serialization.register_serialization_state(  # type: ignore[union-attr]
                kind, _to_state, _from_state, override=True
            )


def _to_state(record: Record) -> dict[str, Any]:
    serialization: Any = sys.modules["flax.serialization"]
    fields = {name: serialization.to_state_dict(child) for name, child in _children(record)[0]}
    return fields | {_mark(record): {}}  # without a leaf, since all leaves there are arrays


def _mark(record: Record) -> str:
    return f"{type(record).__name__}()"  # the name of no field


def _from_state(record: Record, state: dict[str, Any]) -> Any:
    serialization: Any = sys.modules["flax.serialization"]
    pairs, tree = _children(record)
    added = record._defaults.keys() - state.keys()  # since the file was written
    names = {name for name, _ in pairs}
    saved = {name for name in state if name.isidentifier()}
    other = "".join({*state} - saved - {_mark(record)})  # files of earlier versions lack it
    if other or not names - added <= saved <= names:
        raise ValueError(
            f"from_state_dict(target=...) must have the kinds of schedules that were saved, got "
            f"{type(record).__name__}({', '.join(sorted(names))}) for what has "
            f"{', '.join(sorted(saved))}{other and f' of {other}'}. Restore it into an optimizer "
            "that is made as the saved one was; js.resume then goes on with another schedule."
        )
    return jax.tree.unflatten(
        tree,
        [
            x if name in added else serialization.from_state_dict(x, state[name], name=name)
            for name, x in pairs
        ],
    )


def _children(record: Record) -> tuple[list[tuple[str, Any]], Any]:
    is_child = lambda x: x is not record
    pairs, tree = jax.tree_util.tree_flatten_with_path(record, is_leaf=is_child)
    return [(path[0].name, child) for path, child in pairs], tree
