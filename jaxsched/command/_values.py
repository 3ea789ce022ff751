"""What stands for a value of a program that is not one call or constant."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from jaxsched.names._expression import OPERATORS, Call, Word

ARITHMETIC: dict[str, Callable[..., Any]] = {
    **{**OPERATORS, "**": math.pow, "int": int, "float": float, "round": round},
    **{"min": min, "max": max, "math.ceil": math.ceil, "math.floor": math.floor},
}


class Placed(Word):
    """What only the program knows and is told with its line, since it is not a name alone."""


class Taken(Word):
    """What is read elsewhere: in a literal container, or as the default of an option."""

    value: Any
    container: Any

    def __new__(cls, name: str, value: Any, container: Any = None) -> Taken:
        made = super().__new__(cls, name)
        made.value, made.container = value, container
        return made


def placed(word: Word, nodes: list[Any]) -> Placed:
    """With the lines that give it values."""
    return Placed(f"{word} (line {', '.join(map(str, sorted({x.lineno for x in nodes})))})")


def is_plain(x: Any) -> bool:
    return isinstance(x, (int, float, str)) and not isinstance(x, Word)


def is_same(a: Any, b: Any, word: Any = None) -> bool:
    """Whether two values are one, or the second is the ``word`` that is given them."""
    if isinstance(a, Call) and isinstance(b, Call) and a.name.endswith(".parse_args"):
        return a.name == b.name
    plain = type(a) is type(b) and is_plain(a)
    return a is b or b is word or (plain and a == b)


def computes(tree: Any) -> bool:
    return isinstance(tree, Call) and tree.name in ARITHMETIC


def arithmetic(tree: Call, args: list[Any]) -> Any:
    """The number of an operator between numbers."""
    try:
        return ARITHMETIC[tree.name](*args)
    except (ArithmeticError, ValueError, TypeError) as error:
        raise ValueError(f"convert(text=...) must be arithmetic that works, got {error}.") from None
