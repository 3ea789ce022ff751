"""Calls of other libraries, as one writes them there. It loads no JAX."""

from __future__ import annotations

from typing import Any

from jaxsched.names._expression import Call, parse
from jaxsched.names._lookup import LIBRARY, check, source_of

_RATES = (
    "base_lr",
    "lr",
    "learning_rate",
    "initial_learning_rate",
    "lr_max",
    "max_lr",
    "init_value",
)


def call_of(library: str, text: str, lr: float | None) -> Call:
    """The call of a drop-in, whose name and arguments are known."""
    known = LIBRARY.get(library)
    if known is None:
        raise ValueError(
            f"convert(library=...) must be one of {', '.join(LIBRARY)}, got {library!r}."
        )
    tree = _within(parse(text, "convert(text=...)"), known)
    if not isinstance(tree, Call):
        raise ValueError(f"convert(text=...) must be a call such as StepLR(30), got {text!r:.60}.")
    source = source_of(tree.name)
    kwargs = dict(tree.kwargs)
    kwargs.pop("optimizer", None)
    args = tree.args
    rate = next((n for n in _RATES if source and n in source.kinds and n not in kwargs), None)
    if lr is not None and rate:
        args = args[1:] if args[:1] == ("optimizer",) else args
        places = [name for name in source.kinds if name != rate] if source else []
        kwargs = {rate: lr, **dict(zip(places, args, strict=False)), **kwargs}
        args = ()
    tree = Call(tree.name, args, kwargs)
    check(tree)
    return tree


def _within(tree: Any, library: str) -> Any:
    """The names of a text as those of its library."""
    if isinstance(tree, list):
        return [_within(x, library) for x in tree]
    if not isinstance(tree, Call):
        return tree
    name = tree.name if not tree.name.isidentifier() else f"{library}.{tree.name}"
    kwargs = {key: _within(x, library) for key, x in tree.kwargs.items()}
    return Call(name, tuple(_within(x, library) for x in tree.args), kwargs)
