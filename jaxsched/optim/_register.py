"""The nodes of an optimizer state, registered for ``jax.export`` and ``flax.serialization``."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import Any

import jax
from jax import export

from jaxsched._struct import Record
from jaxsched._types import PyTree
from jaxsched.optim._state import InjectState, Override, one_level


def register_export(tree: PyTree) -> None:
    """Registers every class in ``tree`` that ``jax.export`` doesn't know, so it can be serialized.

    ``inject`` does it for its own state and for the schedules it is given, so this is for the rest:
    call ``register_export(opt_state)`` before you serialize or deserialize an exported train step,
    because Optax doesn't register its states (``ScaleByAdamState``, ...). A class is written
    under its module and name. Calling it again does no harm.

    Args:
        tree: any pytree, such as an optimizer state. Only its structure is looked at.

    Raises:
        TypeError: when such a step is serialized later, if JSON can't write the static fields of a
            class (its fields that aren't leaves).

    >>> import jax.numpy as jnp, optax
    >>> from jaxsched.optim import register_export
    >>> register_export(optax.adam(0.1).init(jnp.ones(3)))
    """
    for kind in node_types(tree):
        _register(kind)


def node_types(tree: PyTree) -> Iterator[type]:
    """The class of every node of a pytree."""
    nodes: list[Any] = [jax.tree.structure(tree)]
    while nodes:
        node = nodes.pop()
        nodes.extend(node.children())
        if node.node_data() is not None:
            yield node.node_data()[0]


def _register(kind: type) -> None:
    """Makes a class in an optimizer's state known to ``jax.export``."""
    if kind in (tuple, list, dict, type(None)):
        return
    # Beside its leaves a struct has a tuple of its static fields, words and whole numbers. JSON has
    # all of them but the tuple, which `_tuples` makes again of a list.
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
            )
    except ValueError:  # already registered, by us or by the class's own library
        return


def _name(kind: type) -> str:
    # A file of today must be read after a class of ours has moved.
    module = "jaxsched" if kind.__module__.startswith("jaxsched.") else kind.__module__
    return f"{module}.{kind.__qualname__}"


def _tuples(value: object) -> object:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


for _kind in (Override, InjectState):
    _register(_kind)


def register_flax(tree: PyTree) -> None:
    """Makes ``flax.serialization`` write the numbers of every schedule in ``tree``.

    A program that serializes with Flax has imported it, so nothing is imported here.
    """
    serialization = sys.modules.get("flax.serialization")
    for kind in node_types(tree) if serialization is not None else ():
        if issubclass(kind, Record):
            serialization.register_serialization_state(  # type: ignore[union-attr]
                kind, _to_state, _from_state, override=True
            )


def _to_state(record: Record) -> dict[str, PyTree]:
    serialization: Any = sys.modules["flax.serialization"]
    fields = {name: serialization.to_state_dict(child) for name, child in one_level(record)[0]}
    # Fields alone do not tell a Sqrt from a Linear: both have start, end and steps. So the class is
    # in the file, as the name of an empty dict.
    return fields | {_mark(record): {}}  # without a leaf, since all leaves there are arrays


def _mark(record: Record) -> str:
    return f"{type(record).__name__}()"  # the name of no field


def _from_state(record: Record, state: dict[str, PyTree]) -> PyTree:
    """A record from Flax's dict of it; the dict must have the fields of ``record``, the target."""
    serialization: Any = sys.modules["flax.serialization"]
    pairs, tree = one_level(record)
    names = {name for name, _ in pairs}
    saved = {name for name in state if name.isidentifier()}
    other = "".join({*state} - saved - {_mark(record)})
    if {*state} != names | {_mark(record)}:
        raise ValueError(
            f"from_state_dict(target=...) must have the kinds of schedules that were saved, got "
            f"{type(record).__name__}({', '.join(sorted(names))}) for what has "
            f"{', '.join(sorted(saved))}{other and f' of {other}'}. Restore it into an optimizer "
            "that is made as the saved one was; js.resume then goes on with another schedule."
        )
    return jax.tree.unflatten(
        tree, [serialization.from_state_dict(x, state[name], name=name) for name, x in pairs]
    )
