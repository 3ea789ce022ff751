"""Texts such as ``warmup_cosine(peak=1e-3, steps=1000, warmup=10%) * 0.5`` as calls.

Python's parser reads them, and of its tree only names, numbers, texts, lists, dicts, calls and the
operators of schedules are taken. Nothing is looked up and nothing runs: what a name may be says the
table.
"""

from __future__ import annotations

import ast
import dataclasses
import operator
import re
import textwrap
from collections.abc import Callable
from typing import Any

DEPTH = 100
LENGTH = 20_000
# A number with a percent sign or a unit, which stays a text; in quotes it is one.
_MEASURED = re.compile(
    r"'[^']*'|\"[^\"]*\"|(?<![\w.])(?:\d[\d_]*\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"
    r"([ ]*%|[ ]*[A-Za-z]+(?:[ ]+[A-Za-z]+)?)?"
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


@dataclasses.dataclass(frozen=True)
class Call:
    """A name of the table with its arguments; or an operator with its two operands."""

    name: str
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = dataclasses.field(default_factory=dict)


class Word(str):
    """A text without quotes; of a program anything that only the program knows."""


def parse(text: str, where: str = "from_config(config=...)", program: bool = False) -> Any:
    """A ``Call``, number, text, list or dict; of a program its values, and those that have names.

    A number with ``%`` or a unit (``10%``, ``3 epochs``) stays a text, and so does a bare word.
    """
    if text.strip() == "-":
        raise ValueError(f"{where} must be given as it is, got '-': standard input is not read.")
    if len(text) > LENGTH:
        raise ValueError(f"{where} must have at most {LENGTH} letters, got {len(text)}.")
    reader = _Reader(where, text, program)
    try:
        if program:
            reader.statements(_program(text).body)
            return reader.values, reader.named
        if found := re.search(r"[\\#\0]", text):
            reader.fail(text[found.start() :])
        quoted = lambda found: f"'{found[0]}'" if found[1] else found[0]
        line = _MEASURED.sub(quoted, " ".join(text.split("\n")).strip())
        return reader.value(ast.parse(line, mode="eval").body)
    except SyntaxError as error:
        told = error.msg.rstrip("?")
        raise ValueError(f"{where} must be a call of a name, got {text!r:.60}: {told}.") from None
    except (RecursionError, MemoryError):
        raise ValueError(f"{where} must be nested at most {DEPTH} deep.") from None


def _program(text: str) -> ast.Module:
    try:
        return ast.parse(textwrap.dedent(text))
    except IndentationError:  # lines of which the first was copied without its indentation
        return ast.parse("\n".join(line.strip() for line in text.splitlines()))


class _Reader:
    def __init__(self, where: str, text: str, program: bool):
        self.where, self.text, self.program = where, text, program
        self.values: list[Any] = []  # of the statements of a program
        self.named: dict[str, Any] = {}  # those that have a name

    def fail(self, got: str, wanted: str = "names, numbers, texts, lists, dicts and calls") -> Any:
        raise ValueError(f"{self.where} must have {wanted}, got {got!r:.60}.")

    def statements(self, body: list[ast.stmt]) -> None:
        """``name = value``, ``return value`` or a value alone, one after the other."""
        for node in body:
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
                self.statements(node.body)
            elif isinstance(node, (ast.Assign, ast.AnnAssign, ast.Return, ast.Expr)):
                targets = getattr(node, "targets", [getattr(node, "target", None)])
                self.values.append(None if node.value is None else self.value(node.value))
                for name in filter(None, map(self.name, targets)):
                    self.named[name] = self.values[-1]
            elif not isinstance(node, (ast.Import, ast.ImportFrom, ast.Pass)):
                self.fail(ast.unparse(node), "only values that are given names, and calls")

    def value(self, node: ast.expr, depth: int = 0) -> Any:
        if depth > DEPTH:
            raise ValueError(f"{self.where} must be nested at most {DEPTH} deep.")
        inner = lambda node: self.value(node, depth + 1)
        if isinstance(node, ast.Constant) and isinstance(node.value, (str, int, float, type(None))):
            return node.value
        if isinstance(node, (ast.List, ast.Tuple)):
            return list(map(inner, node.elts))
        if isinstance(node, ast.Dict) and all(node.keys):
            keys = [inner(key) for key in node.keys if key]
            if not all(isinstance(key, (str, int, float)) for key in keys) or len({*keys}) < len(
                keys
            ):
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
            operands = self.value(node.left, depth), inner(node.right)
            return Call(_OPERATORS[type(node.op)][0], operands)
        name = self.name(node.func if isinstance(node, ast.Call) else node)
        if isinstance(node, ast.Call) and name:
            return self.call(name, node, inner)
        if name and (self.program or not isinstance(node, ast.Subscript)):
            return self.named.get(name, _WORDS.get(name, Word(name)))
        return Word(ast.unparse(node)) if self.program else self.fail(ast.unparse(node))

    def name(self, node: Any) -> str:
        """The name that stands there, with its dots; ``cfg["lr"]`` is no other than ``cfg.lr``."""
        if isinstance(node, ast.Name):
            return node.id
        if isinstance(node, ast.Attribute):
            return f"{head}.{node.attr}" if (head := self.name(node.value)) else ""
        if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant):
            return f"{head}.{node.slice.value!s}" if (head := self.name(node.value)) else ""
        return ""

    def call(self, name: str, node: ast.Call, inner: Any) -> Any:
        names = [keyword.arg or "**" for keyword in node.keywords]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice:
            self.fail(ast.unparse(node), f"each argument once: {twice}")
        kwargs = {
            name: inner(keyword.value) for name, keyword in zip(names, node.keywords, strict=True)
        }
        if name == "dict" and not node.args:
            return kwargs
        return Call(name, tuple(map(inner, node.args)), kwargs)
