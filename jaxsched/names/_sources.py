"""The names and arguments of all calls in texts, read from the source without importing it.

So a slip is answered before JAX is loaded, and the command is quick. A test compares each entry
with the imported object.
"""

from __future__ import annotations

import ast
import dataclasses
import functools
import threading
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from jaxsched import compat
from jaxsched.names._elsewhere import ALIASES, ELSEWHERE, OTHERWISE

PACKAGE = Path(__file__).parents[1]
LIBRARIES = compat._WORDS
_PARSER = threading.Lock()  # CPython counts the depths in all threads as one
BY = ("by_epochs", "by_samples", "by_tokens")  # methods of the sizes of a run


@dataclasses.dataclass(frozen=True)
class Entry:
    """A name of the table: the function or class, its arguments, its text, and names elsewhere."""

    name: str  # as a text says it: "warmup_cosine", "torch.OneCycleLR"
    module: str  # empty: said in Python only
    kinds: dict[str, str]  # argument -> annotation of a function, field of a class
    needed: tuple[str, ...]
    doc: str  # up to the arguments and examples
    # Argument -> the bounds of a number, or the options of a word, as the check has them.
    bounds: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)

    @property
    def summary(self) -> str:
        return self.doc.partition("\n")[0]

    @property
    def elsewhere(self) -> tuple[str, ...]:
        """Its names in other libraries."""
        aliases = [alias for alias, name in ALIASES.items() if name == self.name]
        return (*(ELSEWHERE | OTHERWISE).get(self.name, "").split(), *aliases)

    @property
    def call(self) -> str:
        """As one writes it: ``warmup_cosine(peak, steps, warmup, end=...)``."""
        if not self.module:
            return self.name
        shown = [n if n in self.needed else f"{n}=..." for n in self.kinds]
        return f"{self.name}({', '.join(shown)})"


def undescribed(name: str, arguments: Iterable[str] = ()) -> Entry:
    """An entry for names outside of the table: a user's class, hyperparameters of a task."""
    return Entry(name, "", dict.fromkeys(arguments, ""), (), "")


def _body(path: Path) -> list[ast.stmt]:
    """The statements of a module; none where there is no such file."""
    with _PARSER:
        return ast.parse(path.read_text("utf-8")).body if path.exists() else []


@functools.cache
def ours() -> dict[str, Entry]:
    """Recipes, pieces and controllers, ``share``, and the ``by_...`` of `Units`, by name."""
    # Public names are known by a decorator, `@recipe` or `@struct`, and by the file (`_name.py`).
    # Each file is parsed and not run, so a recipe that is made in another way than by a `def` would
    # be missed. A test compares all with the imported ones. It takes 70 ms;
    # to import them takes a second, most of it JAX.
    sources: dict[str, Entry] = {}
    fields: dict[str, dict[str, ast.AnnAssign]] = {}  # of a class and its bases
    nodes = [
        (path, node)
        for folder in ("recipes", "schedules", "controllers")
        for path in sorted((PACKAGE / folder).glob("_*.py"))
        for node in _body(path)
    ]
    classes = {n.name: (path, n) for path, n in nodes if isinstance(n, ast.ClassDef)}

    def fields_of(name: str) -> dict[str, ast.AnnAssign]:
        # The order of a dataclass: the fields of the bases first, from the last base to the first.
        # A base that is not a dataclass adds no fields.
        if name in classes and name not in fields:
            _, node = classes[name]
            inherited = [fields_of(base.id) for base in node.bases if isinstance(base, ast.Name)]
            own = _fields(node) if _decorated(node, "struct") else {}
            fields[name] = {k: v for one in reversed(inherited) for k, v in one.items()} | own
        return fields.get(name, {})

    for path, node in nodes:
        if isinstance(node, ast.FunctionDef) and _decorated(node, "recipe"):
            sources[node.name] = _function(node, node.name, _module(path))
        elif isinstance(node, ast.ClassDef) and _is_piece(node):
            sources[node.name] = _class(node, fields_of(node.name), _module(path))
    methods = [n for n in _units().body if isinstance(n, ast.FunctionDef) and n.name in BY]
    return sources | {n.name: _function(n, n.name, "jaxsched.units") for n in methods}


def unit_names() -> list[str]:
    """The arguments of `Units`."""
    return list(_fields(_units()))


@functools.cache
def _units() -> ast.ClassDef:
    nodes = _body(PACKAGE / "units.py")
    return next(n for n in nodes if isinstance(n, ast.ClassDef) and n.name == "Units")


def _fields(node: ast.ClassDef) -> dict[str, ast.AnnAssign]:
    return {
        n.target.id: n
        for n in node.body
        if isinstance(n, ast.AnnAssign) and isinstance(n.target, ast.Name)
        if not ast.unparse(n.annotation).startswith("ClassVar")
    }


def _is_piece(node: ast.ClassDef) -> bool:
    """Whether it is a class of values: not one for others, nor `Function`, which holds code."""
    return (
        _decorated(node, "struct")
        and not node.name.startswith(("Abstract", "_"))
        and node.name != "Function"
    )


@functools.cache
def theirs(library: str) -> dict[str, Entry]:
    """The drop-ins of ``jaxsched.compat.<library>`` by name; none where there is no such module."""
    nodes = _drop_ins(f"jaxsched.compat.{library}")
    return {
        f"{library}.{name}": _function(node, f"{library}.{name}", module)
        for name, (node, module) in nodes.items()
    }


def _drop_ins(module: str) -> dict[str, tuple[ast.FunctionDef, str]]:
    """The drop-ins that a module defines or imports as ``X as X``, with their own modules."""
    path = PACKAGE.parent.joinpath(*module.split(".")).with_suffix(".py")
    nodes: dict[str, tuple[ast.FunctionDef, str]] = {}
    for node in _body(path):
        if isinstance(node, ast.FunctionDef) and _decorated(node, "drop_in"):
            nodes[node.name] = node, module
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("jaxsched.compat"):
            names = {alias.name for alias in node.names if alias.asname == alias.name}
            if names:
                others = _drop_ins(str(node.module))
                nodes |= {name: others[name] for name in names & others.keys()}
    return nodes


def all_sources() -> Iterator[Entry]:
    yield from ours().values()
    for library in LIBRARIES:
        yield from theirs(library).values()


def _decorated(node: ast.FunctionDef | ast.ClassDef, word: str) -> bool:
    return any(isinstance(d, ast.Name) and d.id == word for d in node.decorator_list)


def _function(node: ast.FunctionDef, name: str, module: str) -> Entry:
    """The entry of a recipe, a drop-in or a method: its bounds are in its annotations."""
    given = node.args
    places = [a for a in given.args if a.arg != "self"]
    defaults = [None] * (len(places) - len(given.defaults)) + given.defaults + given.kw_defaults
    arguments = [*places, *given.kwonlyargs]
    needed = [a.arg for a, x in zip(arguments, defaults, strict=True) if x is None]
    kinds = {
        a.arg: ast.unparse(a.annotation).removesuffix(" | None") if a.annotation else ""
        for a in arguments
    }
    # An annotation is the name of a kind. The kind's bounds are in the `_signature.py` beside the
    # function's module. Drop-ins have one of their own, with wider bounds than the recipes'.
    path = PACKAGE.parent.joinpath(*module.split("."))
    known = _kinds_of(path.with_name("_signature.py"))
    bounds = {n: known[kind] for n, kind in kinds.items() if kind in known}
    return Entry(name, module, kinds, tuple(needed), _doc(node), bounds)


def _class(node: ast.ClassDef, fields: Mapping[str, ast.AnnAssign], module: str) -> Entry:
    """The entry of a class, read off its fields."""
    # A field of a struct has its check as its value, `steps: Leaf = length(at_least=0)`: the name
    # of the maker is the kind, its keywords are the bounds.
    kinds = {name: _kind(n) for name, n in fields.items()}
    needed = tuple(name for name, n in fields.items() if not _has_default(n))
    bounds = {}
    for name, field in fields.items():
        call = field.value
        if kinds[name] in ("number", "length", "count") and isinstance(call, ast.Call):
            bounds[name] = _keywords(call) | ({"whole": True} if kinds[name] == "count" else {})
        elif kinds[name] == "choice" and isinstance(call, ast.Call):
            bounds[name] = {"options": tuple(ast.literal_eval(a) for a in call.args)}
    return Entry(node.name, module, kinds, needed, _doc(node), bounds)


def _keywords(call: ast.Call, constants: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The bounds that a call has as keywords."""
    bounds = {}
    for keyword in call.keywords:
        if keyword.arg in ("at_least", "above", "at_most", "below", "whole", "told"):
            name = keyword.value.id if isinstance(keyword.value, ast.Name) else None
            value = (constants or {})[name] if name else ast.literal_eval(keyword.value)
            bounds[keyword.arg] = value
    return bounds


@functools.cache
def _kinds_of(path: Path) -> dict[str, dict[str, Any]]:
    """The bounds of a module's ``Kind = Annotated[type, check(above=0)]``."""
    kinds: dict[str, dict[str, Any]] = {}
    constants: dict[str, Any] = {}
    for node in _body(path):
        if not isinstance(node, ast.Assign) or not isinstance(node.targets[0], ast.Name):
            continue
        name, value = node.targets[0].id, node.value
        if isinstance(value, ast.Constant):
            constants[name] = value.value
        elif isinstance(value, ast.Subscript) and isinstance(value.slice, ast.Tuple):
            kind, *_, check = value.slice.elts
            if isinstance(check, ast.Call) and ast.unparse(kind) != "Any":  # which may be a list
                kinds[name] = _keywords(check, constants)
    return kinds


def _kind(field: ast.AnnAssign) -> str:
    """The maker of a field: ``number``, ``length``; ``lengths`` for steps that increase."""
    call = field.value
    if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name):
        return ""
    increasing = any(k.arg == "increasing" for k in call.keywords)
    return "lengths" if increasing else call.func.id


def _has_default(field: ast.AnnAssign) -> bool:
    call = field.value
    if not isinstance(call, ast.Call):
        return call is not None
    return bool(call.args) or any(k.arg == "default" for k in call.keywords)


def _doc(node: ast.FunctionDef | ast.ClassDef) -> str:
    # The text for messages and `jaxsched convert`, without the arguments: they are shown by name.
    rest = ("Args:", "Returns:", "Raises:", "References:", ">>>")
    paragraphs = (ast.get_docstring(node) or "").split("\n\n")
    return "\n\n".join(text for text in paragraphs if not text.startswith(rest)).strip()


def _module(path: Path) -> str:
    return ".".join(["jaxsched", *path.relative_to(PACKAGE).with_suffix("").parts])
