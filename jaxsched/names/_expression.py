"""Texts such as ``warmup_cosine(peak=1e-3, steps=1000, warmup=10%) * 0.5`` as calls.

Python's parser reads them. Only names, numbers, texts, lists, dicts, calls and the operators of
schedules are accepted from its tree. Nothing is looked up and nothing runs: the table lists the
allowed names.
"""

from __future__ import annotations

import ast
import contextlib
import dataclasses
import operator
import re
from collections.abc import Callable, Iterator
from typing import Any, NoReturn, TypeAlias

from jaxsched._bounds import check_text

DEPTH = 100
_LENGTH = 20_000
# A number with a percent sign or a unit, which stays a text: `10%` and `3 epochs` are not Python,
# so they get quotes before its parser sees them. Texts in quotes are matched first, and left alone.
_MEASURED = re.compile(
    r"'[^']*'|\"[^\"]*\"|(?<![\w.])(?:\d[\d_]*\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"
    r"([ ]*%|[ ]*[A-Za-z]+(?:[ ]+[A-Za-z]+)?)?"
)
# A comma within a number, or one between two that looks like it: of 10,000 Python makes 10 and 0.
# `f(peak=1,200)` may be one number or two and is refused, too; with a space after it, it is two.
_COMMA = re.compile(
    r"(?<![\w.])(?<![\d.][eE][+-])0\d+(?![\d.])|(?<=[ =])[1-9]\d{0,2},\d{3}\b(?!\.|,\S)"
    r"|(?<![\w.,])[1-9]\d{0,2},\d{3}(?= *\w*, )"
)
_WORDS = {"true": True, "false": False, "null": None}
_OPERATORS: dict[type, tuple[str, Callable[[Any, Any], Any]]] = {
    ast.RShift: (">>", operator.rshift),
    ast.Add: ("+", operator.add),
    ast.Sub: ("-", operator.sub),
    ast.Mult: ("*", operator.mul),
    ast.Div: ("/", operator.truediv),
    ast.FloorDiv: ("//", operator.floordiv),
    ast.Pow: ("**", operator.pow),
}
OPERATORS = dict(_OPERATORS.values())


Tree: TypeAlias = Any  # a Call, number, text, list or dict, with others in it


@dataclasses.dataclass(frozen=True)
class Call:
    """A name of the table with its arguments; or an operator with its two operands."""

    name: str
    args: tuple[Tree, ...] = ()
    kwargs: dict[str, Tree] = dataclasses.field(default_factory=dict)

    @property
    def bare(self) -> str:
        """The last part of a dotted name."""
        return self.name.rpartition(".")[2]


class Word(str):
    """A text without quotes."""


def parse(text: str, where: str = "from_config(config=...)") -> Tree:
    """A ``Call``, number, text, list or dict.

    A number with ``%`` or a unit (``10%``, ``3 epochs``) stays a text, and so does a bare word.
    """
    reader = Reader(where)
    with reading(text, where):
        # A comment or an escaped quote would move the end of a text for the parser, and not for the
        # expressions above.
        if match := re.search(r"[\\#\0]", text):
            reader.fail(text[match.start() :], "no comments and no backslashes")
        if match := _COMMA.search(re.sub(r"'[^']*'|\"[^\"]*\"", "''", text)):
            wanted = "no comma within a number (10000), a space after one between two"
            reader.fail(match[0], f"{wanted}, and no 0 before a whole number")
        quoted = lambda match: f"'{match[0]}'" if match[1] else match[0]
        line = _MEASURED.sub(quoted, " ".join(text.split("\n")).strip())
        return reader.value(ast.parse(line, mode="eval").body)


@contextlib.contextmanager
def reading(text: str, where: str) -> Iterator[None]:
    """Tells the errors of Python's parser as ours."""
    # The parser recurses in C: a text of 20 000 letters that is nested as deep as it can be is
    # refused by it in a thread with 1 MB of stack, and could end the process in one with 512 kB.
    check_text(where, text)
    if text.strip() == "-":
        raise ValueError(f"{where} must be given as it is, got '-': standard input is not read.")
    if len(text) > _LENGTH:
        raise ValueError(f"{where} must have at most {_LENGTH} letters, got {len(text)}.")
    try:
        yield
    except (SyntaxError, UnicodeError) as error:  # such as half a sign
        what = str(getattr(error, "msg", error)).rstrip("?")
        raise ValueError(f"{where} must be a call of a name, got {text!r:.60}: {what}.") from None
    except (RecursionError, MemoryError):
        raise ValueError(f"{where} must be nested at most {DEPTH} deep.") from None


def dotted(node: ast.AST) -> str:
    """The name that stands there, with its dots; ``cfg["lr"]`` is the same as ``cfg.lr``."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        return f"{head}.{node.attr}" if (head := dotted(node.value)) else ""
    if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant):
        return f"{head}.{node.slice.value!s}" if (head := dotted(node.value)) else ""
    return ""


class Reader:
    """Makes values of the nodes of Python's parser."""

    # All other nodes are refused, by name: attributes, subscripts, comprehensions and lambdas have
    # no meaning here, and a new node of Python is refused as well. `convert` overrides
    # `value`, `word` and `call`, which know the names of a program.

    def __init__(self, where: str):
        self.where = where

    def fail(
        self, got: str, wanted: str = "names, numbers, texts, lists, dicts and calls"
    ) -> NoReturn:
        raise ValueError(f"{self.where} must have {wanted}, got {got!r:.60}.")

    def value(self, node: ast.expr, depth: int = 0) -> Tree:
        if depth > DEPTH:
            raise ValueError(f"{self.where} must be nested at most {DEPTH} deep.")
        inner = lambda node: self.value(node, depth + 1)
        if isinstance(node, ast.Constant) and isinstance(node.value, (str, int, float, type(None))):
            return node.value
        if isinstance(node, (ast.List, ast.Tuple)):
            return list(map(inner, node.elts))
        if isinstance(node, ast.Dict) and all(node.keys):
            keys = [inner(key) for key in node.keys if key]
            plain = all(isinstance(key, (str, int, float)) for key in keys)
            if not plain or len({*keys}) < len(keys):
                self.fail(ast.unparse(node), "keys that are numbers or texts, each once")
            return dict(zip(keys, map(inner, node.values), strict=True))
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.USub, ast.UAdd)):
            value = inner(node.operand)
            if isinstance(node.op, ast.UAdd):
                return value
            if type(value) is str:  # of a number with a unit: its message has the sign
                return f"-{value}"
            return -value if isinstance(value, (int, float)) else Call("*", (-1, value))
        if isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
            # The left side is not deeper: a sum of 200 terms leans to the left, without nesting.
            operands = self.value(node.left, depth), inner(node.right)
            return Call(_OPERATORS[type(node.op)][0], operands)
        if isinstance(node, ast.Call) and dotted(node.func):
            return self.call(node, inner)
        return self.word(node)

    def word(self, node: ast.AST) -> Tree:
        name = "" if isinstance(node, ast.Subscript) else dotted(node)
        return _WORDS.get(name, Word(name)) if name else self.fail(ast.unparse(node))

    def call(self, node: ast.Call, inner: Callable[[ast.expr], Tree]) -> Tree:
        names = [keyword.arg for keyword in node.keywords if keyword.arg]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice:
            self.fail(ast.unparse(node), f"each argument once: {twice}")
        kwargs = {each.arg: inner(each.value) for each in node.keywords if each.arg}
        spread = [self.word(each) for each in node.keywords if not each.arg]
        name = dotted(node.func)
        if name == "dict" and not node.args and not spread:
            return kwargs
        return Call(name, (*map(inner, node.args), *spread), kwargs)
