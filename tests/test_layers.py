"""A module imports only from the layers before it, and nothing from the inside of JAX or Optax."""

from __future__ import annotations

import ast
import functools
import graphlib
import re
import statistics

import pytest
from modules import MODULES, ORDER, ROOT, layer, parsed, room, type_checking

# The root is loaded before any of its modules, and its names are all there when a law is asked.
FROM_THE_ROOT = {
    "jaxsched.testing._laws",
    "jaxsched.testing._schedules",
    "jaxsched.search.store._identity",  # its version
    "jaxsched.command._main",  # its version
}


@functools.cache
def imports(path):
    """The modules of ours that a file imports, also when it is called: name -> only for types."""
    tree, found = parsed(path), {}
    hidden = {id(n) for stmt in type_checking(tree.body) for n in ast.walk(stmt)}
    for node in ast.walk(tree):
        names = []
        if isinstance(node, ast.Import):
            names = [a.name for a in node.names if a.name.split(".")[0] == "jaxsched"]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            if node.module.split(".")[0] == "jaxsched":
                full = {f"{node.module}.{alias.name}" for alias in node.names}
                names = [name if name in MODULES else node.module for name in full]
        for name in names:
            found[name] = found.get(name, True) and id(node) in hidden
    return found


def test_every_module_has_its_place():
    rooms = {room(name) for name in MODULES} - {""}
    assert rooms == set(ORDER), "put every folder and file into ORDER"


def test_the_table_for_contributors_is_this_order():
    page = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
    assert re.findall(r"^\| `([\w.]+)` \|", page, re.MULTILINE) == ORDER


@pytest.mark.parametrize("module", [name for name in MODULES if name != "jaxsched"])
def test_a_module_imports_only_from_the_layers_before_it(module):
    for imported, for_types in imports(MODULES[module]).items():
        if not for_types and (imported != "jaxsched" or module not in FROM_THE_ROOT):
            assert layer(imported) <= layer(module), f"{module} imports {imported}"


@functools.cache
def import_graph():
    """Module -> the modules that it imports, inside functions and for types too."""
    graph = {name: set(imports(path)) - {name} for name, path in MODULES.items()}
    for name in FROM_THE_ROOT & set(graph):
        graph[name].discard("jaxsched")
    return graph


def test_no_modules_import_each_other():
    graphlib.TopologicalSorter(import_graph()).prepare()  # CycleError


def test_search_has_at_most_15_rooms_on_6_floors():
    rooms = {name: set() for name in ORDER if name.startswith("search.")}
    for module, imported in import_graph().items():
        if room(module) in rooms:
            rooms[room(module)] |= rooms.keys() & {room(name) for name in imported} - {room(module)}
    floors = {}
    for name in graphlib.TopologicalSorter(rooms).static_order():
        floors[name] = 1 + max((floors[below] for below in rooms[name]), default=-1)
    assert len(rooms) <= 15, rooms
    assert len(set(floors.values())) <= 6, floors


def test_files_are_short():
    lines = {name: len(path.read_text("utf-8").splitlines()) for name, path in MODULES.items()}
    assert not {name: count for name, count in lines.items() if count > 400}
    assert statistics.median(lines.values()) < 160


ALLOWED_CORE = {"Tracer"}


def private_uses(tree):
    """Dotted names and imports that reach into the inside of JAX, Optax or Flax."""
    found = []
    roots = {
        "jax": "jax",
        "jnp": "jax.numpy",
        "lax": "jax.lax",
        "optax": "optax",
        "flax": "flax",
        "nnx": "flax.nnx",
        "jaxlib": "jaxlib",
    }
    for node in ast.walk(tree):
        names = []
        if isinstance(node, ast.Import):
            names = [a.name for a in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{a.name}" for a in node.names]
        elif isinstance(node, ast.Attribute):
            parts, inner = [node.attr], node.value
            while isinstance(inner, ast.Attribute):
                parts.append(inner.attr)
                inner = inner.value
            if isinstance(inner, ast.Name) and inner.id in roots:
                names = [".".join([roots[inner.id], *reversed(parts)])]
        for name in names:
            parts = name.split(".")
            if parts[0] not in {"jax", "jaxlib", "optax", "flax"}:
                continue
            inside = any(p.startswith("_") and not p.startswith("__") for p in parts)
            core = parts[:2] == ["jax", "core"] and not set(parts[2:]) <= ALLOWED_CORE
            if inside or core or parts[:2] == ["jax", "interpreters"]:
                found.append(name)
    return found


@pytest.mark.parametrize(
    "source",
    [
        "import jax._src.core",
        "from jax._src import core",
        "from jax.core import ShapedArray",
        "import jax\njax._src.core.x",
        "import jax\njax.core.get_aval(1)",
        "from jax.interpreters import ad",
        "import jax.numpy as jnp\njnp._where(1)",
        "import optax\noptax._src.base.x",
    ],
)
def test_the_search_for_private_uses_finds_one(source):
    assert private_uses(ast.parse(source))


@pytest.mark.parametrize("module", MODULES)
def test_no_module_reaches_into_the_inside_of_jax_or_optax(module):
    assert not private_uses(parsed(MODULES[module]))
