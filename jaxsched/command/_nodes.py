"""What the nodes of a program say by themselves."""

from __future__ import annotations

import ast
import contextlib
import re
import textwrap
from collections.abc import Mapping
from typing import Any

from jaxsched._text import describe
from jaxsched.names._expression import Word, dotted

FUNCTION = (ast.FunctionDef, ast.AsyncFunctionDef)
DEFINITION = (*FUNCTION, ast.ClassDef)
LOOP = (ast.For, ast.AsyncFor, ast.While)
LOAD = ast.Load()
INLINE = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
SCOPE = (*DEFINITION, ast.Lambda, *INLINE)
PART = (ast.Attribute, ast.Subscript)
# The texts in a node that give no name a value; all others may.
_FREE = {"attr", "kind", "module", "tag", "type_comment", "value"}
# Decorators that change neither what a function is given nor what it gives back.
_SAME = {
    *("autocast", "classmethod", "compile", "filter_jit", "filter_pmap", "function", "jit", "main"),
    *("inference_mode", "no_grad", "override", "pmap", "record", "staticmethod"),
}


def binds(node: ast.AST) -> list[str]:
    """The names which a node may give a value, of whatever kind it is."""
    if isinstance(node, ast.Name):
        return [node.id] if isinstance(node.ctx, ast.Store) else []
    if isinstance(node, ast.alias):
        return [(node.asname or node.name).partition(".")[0]]
    free = (*_FREE, "arg" if isinstance(node, ast.keyword) else "")
    return [x for k, x in ast.iter_fields(node) if isinstance(x, str) and k not in free]


def default_of(arg: ast.arg, args: ast.arguments) -> Any:
    if arg in args.kwonlyargs:
        return args.kw_defaults[args.kwonlyargs.index(arg)]
    places = [*args.posonlyargs, *args.args]
    found = dict(zip(reversed(places), reversed(args.defaults), strict=False))
    return found.get(arg)


def part_name(node: Any) -> Any:
    """The name of a part: of an attribute, or the constant in brackets."""
    if isinstance(node, ast.Attribute):
        return node.attr
    name = node.slice.value if isinstance(node.slice, ast.Constant) else None
    return name if type(name) in (str, int) else None  # True and 1.0 are 1


def called(node: ast.Call) -> str:
    return getattr(node.func, "attr", dotted(node.func))


def of_partial(call: ast.Call) -> Any:
    return call.args[0] if called(call) == "partial" and call.args else call.func


def is_class(node: Any) -> bool:
    return isinstance(node, ast.ClassDef)


def is_main(node: ast.AST) -> bool:
    """Whether it is ``if __name__ == "__main__":``."""
    return isinstance(node, ast.If) and ast.unparse(node.test).startswith("__name__ ==")


def head(node: ast.AST) -> str:
    return ast.unparse(node).partition("\n")[0]


def is_changed(function: Any) -> bool:
    """Whether a decorator makes another one of a function."""
    for x in getattr(function, "decorator_list", ()):
        name = of_partial(x) if isinstance(x, ast.Call) else x
        if dotted(name).rpartition(".")[2] not in _SAME:
            return True
    return False


def place(node: Any) -> tuple[int, int]:
    return node.lineno, node.col_offset


def listed(node: Any, name: str) -> list[Any]:
    found = getattr(node, name, [])
    return found if isinstance(found, list) else [found]


def parsed(text: str) -> ast.Module:
    plain = re.sub(r"(?m)^ *(>>>|\.\.\.) ?|^ *[%!].*$", "", text)  # of a console, of a notebook
    for each in (text, plain):
        with contextlib.suppress(SyntaxError):
            return ast.parse(textwrap.dedent(each))
    # Lines of which the first was copied without its indentation.
    return ast.parse("\n".join(line.strip() for line in text.splitlines()))


def told_values(values: Mapping[str, Any]) -> dict[str, Any]:
    """What stands for values of the program, each as the parser writes it."""
    values_of = {}
    where = "convert(values=...) must have names or calls, as in the text, of numbers,"
    for name, value in values.items():
        try:
            node = ast.parse(str(name), mode="eval").body
        except (SyntaxError, ValueError):
            raise ValueError(f"{where} texts or lists, got {name!r:.60}.") from None
        if not isinstance(value, (int, float, str, list, type(None))):
            raise ValueError(f"{where} texts or lists, got {describe(value)} for {name!r:.60}.")
        word = isinstance(value, Word)  # of the command: a text without quotes
        values_of[dotted(node) or ast.unparse(node)] = str(value) if word else value
    return values_of
