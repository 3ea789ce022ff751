"""What ``flax.serialization`` must know of a state: how a schedule is taken apart and put back."""

from __future__ import annotations

import sys
from typing import Any

import jax

from jaxsched._struct import Record
from jaxsched.optim._export import node_types


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
    return {name: serialization.to_state_dict(child) for name, child in _children(record).items()}


def _from_state(record: Record, state: dict[str, Any]) -> Any:
    serialization: Any = sys.modules["flax.serialization"]
    children = [
        serialization.from_state_dict(child, state[name], name=name)
        for name, child in _children(record).items()
    ]
    _, tree = jax.tree.flatten(record, is_leaf=lambda x: x is not record)
    return jax.tree.unflatten(tree, children)


def _children(record: Record) -> dict[str, Any]:
    pairs, _ = jax.tree_util.tree_flatten_with_path(record, is_leaf=lambda x: x is not record)
    return {path[0].name: child for path, child in pairs}
