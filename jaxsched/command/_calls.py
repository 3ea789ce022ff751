"""Calls of other libraries, as one writes them there. It loads no JAX."""

from __future__ import annotations

import operator
import re
from typing import Any

from jaxsched._words import nearest
from jaxsched.names._expression import Call, Word, parse
from jaxsched.names._lookup import LIBRARY, OPERATORS, check, source_of
from jaxsched.names._sources import Source, theirs
from jaxsched.names._values import check_values

# A drop-in has the optimizer's rate as an argument, where its peer has the optimizer.
_OF_OPTIMIZER = {"torch": "base_lr", "timm": "base_lr", "keras": "base_lr", "transformers": "lr"}
_OWN = ("torch.CyclicLR",)  # whose rate of that name is the peer's own argument
_RATES = ("learning_rate", "initial_learning_rate", "lr_max", "max_lr", "init_value", "lr")
_ARITHMETIC = {"+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.truediv}
_ASSIGNED = re.compile(r"\A\s*[A-Za-z_][\w.]*\s*=(?!=)\s*(?=[A-Za-z_][\w.]*\()")

_COMMENT = re.compile(r"#[^'\"\n]*$", re.MULTILINE)


def call_of(library: str, text: str, lr: float | None) -> Call:
    """The call of a drop-in, whose name and arguments are known."""
    known = LIBRARY.get(library)
    if known is None:
        raise ValueError(
            f"convert(library=...) must be one of {', '.join(LIBRARY)}, got {library!r}."
        )
    if "lambda" in text.lower():
        raise ValueError(
            "convert(text=...) must have no functions: in Python a drop-in takes them, such as "
            "js.compat.torch.LambdaLR(0.1, lambda epoch: 0.95**epoch)."
        )
    text = _COMMENT.sub("", text)
    tree = parse(_ASSIGNED.sub("", text, count=1), "convert(text=...)")
    if not isinstance(tree, Call) or tree.name in OPERATORS:
        raise ValueError(f"convert(text=...) must be a call such as StepLR(30), got {text!r:.60}.")
    made: Call = _within(tree, known, lr)
    check(made)
    check_values(made, None)
    return made


def _within(tree: Any, library: str, lr: float | None, nested: bool = False) -> Any:
    """The names of a text as those of its library, and rates for optimizers."""
    inner = lambda x: _within(x, library, lr, nested=True)
    if isinstance(tree, list):
        return list(map(inner, tree))
    if isinstance(tree, dict):
        return {key: inner(x) for key, x in tree.items()}
    if not isinstance(tree, Call):
        return tree
    if nested and tree.name not in OPERATORS and not _is_near(tree.name, library):
        raise ValueError(
            f"convert(text=...) must have values in place of {tree.name}(...), which only the "
            "program can compute."
        )
    args, kwargs = tuple(map(inner, tree.args)), {k: inner(x) for k, x in tree.kwargs.items()}
    if tree.name in OPERATORS:
        return _arithmetic(Call(tree.name, args, kwargs))
    name = f"{library}.{tree.name.rpartition('.')[2]}"
    source = source_of(name)
    return _with_rate(source, Call(name, args, kwargs), lr) if source else Call(name, args, kwargs)


def _is_near(name: str, library: str) -> bool:
    bare = name.rpartition(".")[2]
    known = [each.rpartition(".")[2] for each in theirs(library)]
    return source_of(f"{library}.{bare}") is not None or bool(nearest(bare, known))


def _arithmetic(tree: Call) -> Any:
    """The number of an operator between numbers."""
    names = [x for x in tree.args if isinstance(x, str)]
    if names:
        raise ValueError(
            f"convert(text=...) must have numbers around {tree.name}, got {names[0]!r:.40}: only "
            "the program knows what it is."
        )
    if tree.name not in _ARITHMETIC or not all(isinstance(x, (int, float)) for x in tree.args):
        return tree
    try:
        return _ARITHMETIC[tree.name](*tree.args)
    except ArithmeticError as error:
        raise ValueError(f"convert(text=...) must be arithmetic that works, got {error}.") from None


def _with_rate(source: Source, call: Call, lr: float | None) -> Call:
    kwargs = {key: x for key, x in call.kwargs.items() if key != "optimizer"}
    scaled = _OF_OPTIMIZER.get(source.name.partition(".")[0], "")
    if scaled not in source.kinds or source.name in _OWN:
        scaled = ""
    places = [name for name in source.kinds if name != scaled]
    optimizer = next((x for x in call.args if isinstance(x, Word)), None)
    args = [x for x in call.args if x is None or x is not optimizer]
    given = dict(zip(places, args, strict=False))
    if len(args) > len(places) or given.keys() & kwargs:
        return Call(call.name, call.args, kwargs)  # which `check` refuses
    rate = scaled or next((n for n in _RATES if n in source.needed), "")
    if rate and lr is not None and rate not in {**given, **kwargs}:
        given = {rate: lr, **given}
    elif scaled in source.needed and scaled not in kwargs:
        raise ValueError(
            f"convert(lr=...) must be given, the rate of the optimizer that {source.name} scales "
            "(--lr of the command)."
        )
    return Call(call.name, (), {**given, **kwargs})
