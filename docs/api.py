"""Writes docs/api.md, the page of all public names: ``python docs/api.py``; `make docs` runs it."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
# The rooms in the order of the page: their titles, their pages for readers, what is in them.
ROOMS = {
    "jaxsched.recipes": ("Recipes", "schedules.md", "functions that compose schedules"),
    "jaxsched.schedules": ("Schedules", "schedules.md", "classes, and the parts for one's own"),
    "jaxsched": ("Around schedules", "getting-started.md", "populations, phases, units, files"),
    "jaxsched.names": ("Names", "config.md", "schedules and trials from configs"),
    "jaxsched.optim": ("Optax and Flax", "optax.md", "the seam to an optimizer"),
    "jaxsched.controllers": ("Controllers", "controllers.md", "schedules that watch a metric"),
    "jaxsched.search": ("Search", "finding.md", "tasks, trials, sweeps, range tests, results"),
    "jaxsched.search.suggest": ("Rules", "range-test.md", "what reads a rate off a range test"),
    "jaxsched.command": ("The command", "command.md", "what it does, as functions"),
    "jaxsched.testing": ("Testing", "the-contract.md", "the contracts as checks"),
}
# Where public names are listed, the shortest way to one first.
PUBLIC = ("jaxsched", *(room for room in ROOMS if room not in ("jaxsched", "jaxsched.recipes")))


def public_names(module: str) -> list[str]:
    """What a module lists as ``from ... import name as name``, or defines for others."""
    names: set[str | None] = set()
    body = ast.parse(inspect.getsource(importlib.import_module(module))).body
    late = [n for each in body if isinstance(each, ast.If) for n in each.body]  # for type checkers
    for node in [*body, *late]:
        if isinstance(node, ast.ImportFrom) and node.names[0].name == "*":
            names |= {*public_names(str(node.module))}
        elif isinstance(node, ast.ImportFrom):
            names |= {alias.asname for alias in node.names if alias.asname == alias.name}
        elif isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            names.add(node.name)
        elif isinstance(node, ast.Assign):
            names |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    return sorted(name for name in names if name and not name.startswith("_"))


def public() -> dict[str, Any]:
    """Each public thing by the shortest of its names."""
    found: dict[str, Any] = {}
    for module in PUBLIC:
        for name in public_names(module):
            value = getattr(importlib.import_module(module), name)
            if not (inspect.ismodule(value) or any(value is other for other in found.values())):
                found[f"{module}.{name}"] = value
    return found


def page() -> str:
    """The text of docs/api.md."""
    found = public()
    lines = [
        "# All public names",
        "",
        "`js` is `import jaxsched as js`. `help(js.wsd)` tells the arguments, their units and the "
        "errors, with an",
        "example. `python docs/api.py` writes this page.",
    ]
    for room, (title, link, what) in ROOMS.items():
        lines += ["", f"## {title}", "", f"`{room}`: {what}. See [{link}]({link}).", ""]
        lines += ["| name | |", "|---|---|"]
        mine = [name for name, value in found.items() if _room(name, value) == room]
        for name in sorted(mine, key=lambda name: name.rpartition(".")[2].lower()):
            lines += _rows(name, found[name], found)
    return "\n".join(lines) + "\n"


def _room(name: str, value: Any) -> str:
    """The room that defines it; of what is defined beside the rooms, the one that lists it."""
    module = str(getattr(value, "__module__", ""))
    inside = [room for room in ROOMS if f"{module}.".startswith(f"{room}.") and room != "jaxsched"]
    return inside[-1] if inside else name.rpartition(".")[0]


def _rows(name: str, value: Any, found: dict[str, Any]) -> list[str]:
    short = name.replace("jaxsched.", "js.", 1)
    rows = [_row(f"`{short}{_signature(value)}`", _first_line(value))]
    if not isinstance(value, type):
        return rows
    if any(base.__name__ in _NO_METHODS for base in value.__mro__[1:]):
        return rows
    ours = [c for c in value.__mro__ if c is value or _is_inside(c, found)]
    members = {name: member for kind in reversed(ours) for name, member in vars(kind).items()}
    for name, member in members.items():
        kinds = (classmethod, staticmethod, property)
        is_method = inspect.isfunction(member) or isinstance(member, kinds)
        text = _first_line(member) if is_method and not name.startswith("_") else ""
        if text:
            rows.append(_row(f"&nbsp;&nbsp;`.{name}{_signature(getattr(value, name))}`", text))
    return rows


_NO_METHODS = ("AbstractSchedule", "AbstractController")  # a subclass has theirs


def _is_inside(kind: type, found: dict[str, Any]) -> bool:
    return kind.__module__.startswith("jaxsched.search.") and kind not in found.values()


def _signature(value: Any) -> str:
    if not callable(value):
        return ""
    parameters = [p for p in inspect.signature(value).parameters.values() if p.name != "self"]
    kinds = [p.kind for p in parameters]
    made_by_us = isinstance(value, type) and ".results." in f"{value.__module__}."
    made_by_us |= isinstance(value, type) and sum(p.default is p.empty for p in parameters) > 4
    if made_by_us or kinds == [inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD]:
        return ""
    shown = [f"{_PREFIX.get(p.kind, '')}{p.name}{_default(p)}" for p in parameters]
    if inspect.Parameter.KEYWORD_ONLY in kinds and inspect.Parameter.VAR_POSITIONAL not in kinds:
        shown.insert(kinds.index(inspect.Parameter.KEYWORD_ONLY), "*")
    return f"({', '.join(shown)})"


_PREFIX = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}


def _default(parameter: inspect.Parameter) -> str:
    if parameter.default is parameter.empty:
        return ""
    text = getattr(parameter.default, "__name__", None) or repr(parameter.default)
    return "=..." if text.startswith("<") else f"={text}"


def _first_line(value: Any) -> str:
    if isinstance(value, dict):
        return f"A dict of {', '.join(f'`{key}`' for key in value)}."
    if isinstance(value, float):
        return f"The number {value:g}."
    text = (inspect.getdoc(value) or "").partition("\n\n")[0].replace("\n", " ")
    return re.sub(r":math:`([^`]*)`", r"$\1$", text).replace("``", "`")


def _row(*cells: str) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


if __name__ == "__main__":
    (HERE / "api.md").write_text(page())
