"""The package as a thing that is shipped: its names, layers, imports, types and files."""

from __future__ import annotations

import ast
import functools
import graphlib
import importlib
import os
import re
import statistics
import subprocess
import sys
import textwrap
import tomllib
import typing
import zipfile
from pathlib import Path

import jax
import pytest

import jaxsched as js

PACKAGE = Path(js.__file__).parent
ROOT = PACKAGE.parent
FILES = sorted(PACKAGE.rglob("*.py"))
INIT = PACKAGE / "__init__.py"


def python(program, *flags, **environment):
    """A fresh interpreter that sees this checkout and nothing of this process's modules."""
    return subprocess.run(
        [sys.executable, "-W", "error", *flags, "-c", textwrap.dedent(program)],
        env={**os.environ, "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu", **environment},
        capture_output=True,
        text=True,
        timeout=300,
    )


@functools.cache
def parsed(path):
    return ast.parse(path.read_text("utf-8"), str(path))


def module_name(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in FILES}


# ------------------------------------------------------------------------------------- names


def exports(body):
    return [
        (node.module, alias.name, alias.asname)
        for node in body
        if isinstance(node, ast.ImportFrom) and node.module.startswith("jaxsched")
        for alias in node.names
    ]


def type_checking(body):
    return next(
        (
            n.body
            for n in body
            if isinstance(n, ast.If) and getattr(n.test, "id", "") == "TYPE_CHECKING"
        ),
        [],
    )


EXPORTS = exports(type_checking(parsed(INIT).body))
PUBLIC = [name for _, name, _ in EXPORTS]


@pytest.mark.parametrize("folder", sorted({str(p.parent.relative_to(PACKAGE)) for p in FILES}))
def test_every_name_is_exported_as_itself(folder):
    """``X as X``: the only form that type checkers take for an export without ``__all__``."""
    body = parsed(PACKAGE / folder / "__init__.py").body
    for module, name, alias in exports(body) + exports(type_checking(body)):
        assert alias == name, f"{module}.{name} is exported as {alias}"


def test_names_stand_sorted_by_module_and_name_and_once():
    assert sorted(EXPORTS, key=lambda line: (line[0], *_isort(line[1]))) == EXPORTS
    assert len(set(PUBLIC)) == len(PUBLIC)


def _isort(name):
    """As Ruff sorts: constants, classes, functions."""
    kind = 0 if name.isupper() and len(name) > 1 else 1 if name[0].isupper() else 2
    return kind, name


def test_what_is_exported_is_what_can_be_imported():
    """In both directions, and the names are those that type checkers see."""
    listed = {module: set() for module, _, _ in EXPORTS}
    for module, name, _ in EXPORTS:
        assert getattr(js, name) is getattr(importlib.import_module(module), name)
        listed[module].add(name)
    tables = {**js._CORE, **js._LAZY}
    assert {module: set(names.split()) for module, names in tables.items()} == listed
    assert js._CORE.keys().isdisjoint(js._LAZY)
    visible = {n for n in dir(js) if not n.startswith("_")}
    modules = {n.split(".")[1] for n in MODULES if n.count(".") >= 1}
    assert set(PUBLIC) <= visible
    assert visible - set(PUBLIC) <= modules


def test_a_lazy_name_is_there_and_is_itself_next_time():
    """One module after another, from the lowest layer up: none is there before it is asked for."""
    names = {module: names.split() for module, names in js._LAZY.items()}
    done = python(f"""
        import importlib, sys
        import jaxsched as js
        for module, names in {sorted(names.items(), key=lambda item: layer(item[0]))}:
            assert module not in sys.modules, module
            first = {{name: getattr(js, name) for name in names}}
            importlib.import_module(module)
            for name, value in first.items():
                assert getattr(js, name) is value and callable(value), name
                exec(f"from jaxsched import {{name}} as again; assert again is value")
    """)
    assert done.returncode == 0, done.stderr


def test_a_name_that_does_not_exist_is_an_attribute_error():
    with pytest.raises(AttributeError, match=r"'jaxsched' has no attribute 'no_such_name'"):
        js.no_such_name  # noqa: B018
    assert not hasattr(js, "init")


@pytest.mark.parametrize(
    ("word", "ours"),
    [
        ("join_schedules", r"it is a >> b or js\.Sequence here"),
        ("warmup_cosine_decay_schedule", r"it is js\.warmup_cosine here"),
        ("cosine_decay_schedule", r"it is js\.cosine_decay or js\.Cosine here"),
        ("linear_schedule", r"it is js\.linear_decay or js\.Linear here"),
        ("ReduceLROnPlateau", r"it is js\.Plateau here"),
        ("adopt", r"it is jaxsched\.optim\.adopt here"),
        ("trapezoid", r"it is js\.wsd here"),
        ("reverse", r"it is js\.Reverse here"),
        ("accuracy", r"it is jaxsched\.search\.accuracy here"),
        ("lr_find", r"it is js\.range_test here"),
        ("plateau", r"did you mean js\.Plateau"),
    ],
)
def test_a_name_of_another_library_is_told_as_ours(word, ours):
    with pytest.raises(AttributeError, match=ours):
        getattr(js, word)


@pytest.mark.parametrize("name", [n for n in PUBLIC if n[0].islower()])
def test_every_public_function_is_documented(name):
    assert getattr(js, name).__doc__


def test_every_schedule_that_is_defined_is_public():
    defined = {
        node.name
        for folder in ("schedules", "recipes")
        for path in (PACKAGE / folder).glob("*.py")
        for node in parsed(path).body
        if isinstance(node, ast.ClassDef) and not node.name.startswith(("_", "Abstract"))
    }
    protocols = {"Progress"}  # what shapes hand to each other
    assert defined - protocols <= set(PUBLIC), sorted(defined - set(PUBLIC))


# ------------------------------------------------------------------------------------ layers

# A module imports only from what stands before it. A new module is put here by hand.
ORDER = [
    "_types",
    "_text",
    "_words",
    "_numerals",
    "_bounds",
    "_arrays",
    "_checks",
    "_struct",
    "_double",
    "_number",
    "_axes",
    "_svg",
    "schedules",
    "recipes",
    "_populations",
    "_phases",
    "units",
    "controllers",
    "compat",
    "_serialize",
    "optim",
    "search._fingerprint",
    "search._files",
    "search._locks",
    "search._signals",
    "search.suggest",
    "search.trials",
    "search.tasks",
    "search.engine",
    "search.store",
    "search.multihost",
    "search.results",
    "search._progress",
    "search.range_tests",
    "search._sweep",
    "search._final",
    "search",
    "_plot",
    "names",
    "testing",
    "command",
    "__main__",
]
# The root is loaded before any of its modules, and its names are all there when a law is asked.
FROM_THE_ROOT = {
    "jaxsched.testing._laws",
    "jaxsched.testing._schedules",
    "jaxsched.search.store._identity",  # its version
    "jaxsched.command._explain",  # its names
    "jaxsched.command._main",  # its version
}


def imports(path, nested=None):
    """The modules of ours that a file imports: when it is loaded, only when called, or at all."""
    tree = parsed(path)
    hidden = {id(n) for stmt in type_checking(tree.body) for n in ast.walk(stmt)}
    inside = {
        id(n)
        for function in ast.walk(tree)
        if isinstance(function, (ast.FunctionDef, ast.AsyncFunctionDef))
        for n in ast.walk(function)
    }
    for node in ast.walk(tree):
        if nested is not None and (id(node) in hidden or (id(node) in inside) != nested):
            continue
        if isinstance(node, ast.Import):
            yield from (a.name for a in node.names if a.name.split(".")[0] == "jaxsched")
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            if node.module.split(".")[0] == "jaxsched":
                for alias in node.names:
                    full = f"{node.module}.{alias.name}"
                    yield full if full in MODULES else node.module


def room(module):
    """Where a module stands in ``ORDER``: a folder or file of the package, or of ``search/``."""
    parts = module.split(".")[1:]
    return ".".join(parts[:2] if parts[:1] == ["search"] else parts[:1])


def layer(module):
    return ORDER.index(room(module)) if room(module) else len(ORDER)


def test_every_module_has_its_place():
    rooms = {room(name) for name in MODULES} - {""}
    assert rooms == set(ORDER), "put every folder and file into ORDER"


def test_the_table_for_contributors_is_this_order():
    page = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
    assert re.findall(r"^\| `([\w.]+)` \|", page, re.MULTILINE) == ORDER


@pytest.mark.parametrize("module", [name for name in MODULES if name != "jaxsched"])
def test_a_module_imports_only_from_the_layers_before_it(module):
    for nested in (False, True):
        for imported in imports(MODULES[module], nested):
            if imported != "jaxsched" or module not in FROM_THE_ROOT:
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


def private_uses(source):
    """Dotted names and imports that reach into the inside of JAX, Optax or Flax."""
    found = []
    tree = ast.parse(source)
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
    assert private_uses(source)


@pytest.mark.parametrize("module", MODULES)
def test_no_module_reaches_into_the_inside_of_jax_or_optax(module):
    assert not private_uses(MODULES[module].read_text("utf-8"))


# ----------------------------------------------------------------------------------- imports

HEAVY = (
    *("optax", "flax", "orbax", "matplotlib", "scipy", "pandas", "hypothesis", "rich"),
    *("dask", "distributed", "submitit"),
)
LIGHT = """
import jaxsched
import jaxsched as js; js.warmup_cosine(0.1, 10, 2)(3)
js.from_json(js.to_json(js.Table([1.0, 2.0])))
from jaxsched import *
"""


def test_import_jaxsched_loads_nothing_and_a_schedule_jax_and_numpy_only():
    """And the check itself: with what needs Optax, Optax is there."""
    done = python(
        "import sys, jaxsched, jaxsched.names; print({'jax', 'numpy'} & set(sys.modules))"
    )
    assert done.stdout == "set()\n", done.stderr
    done = python(f"""
        import sys
        loaded = lambda: sorted(set({HEAVY}) & set(sys.modules))
        for statement in {[*LIGHT.strip().splitlines(), "js.inject", "import jaxsched.search"]}:
            exec(statement)
            print(statement, loaded())
    """)
    assert done.returncode == 0, done.stderr
    said = [f"{statement} []" for statement in LIGHT.strip().splitlines()]
    said += [f"{statement} ['optax']" for statement in ("js.inject", "import jaxsched.search")]
    assert done.stdout.splitlines() == said


def test_an_import_touches_no_device_and_prints_nothing():
    """JAX's settings may still be changed after the import: no array has been made."""
    done = python("""
        import jaxsched, jax
        jax.config.update("jax_num_cpu_devices", 3)
        assert jax.device_count() == 3
    """)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_package_works_with_assertions_stripped():
    """As with ``-OO``, but JAX as it is: to compile all of it takes seconds."""
    done = python("""
        import jax
        from importlib.machinery import SourceFileLoader

        def stripped(self, name):
            return compile(self.get_data(self.path), self.path, "exec", optimize=2)

        SourceFileLoader.get_code = stripped
        import jaxsched as js
        try:
            js.Linear(0.0, 1.0, -1)
        except ValueError:
            print(js.__doc__, float(js.Linear(0.0, 1.0, 4)(1)))
    """)
    assert done.stdout == "None 0.25\n", done.stderr


@pytest.mark.parametrize("module", MODULES)
def test_no_assert_is_aimed_at_users(module):
    """``-O`` strips them. The public laws raise AssertionError: there it is the promise."""
    if module.startswith("jaxsched.testing"):
        return
    lines = [n.lineno for n in ast.walk(parsed(MODULES[module])) if isinstance(n, ast.Assert)]
    assert not lines, f"{module}: assert in the lines {lines}"


# ------------------------------------------------------------------------------------- files


@functools.cache
def tracked():
    done = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if done.returncode:
        pytest.skip("not a git checkout")
    return [ROOT / name for name in done.stdout.split("\0") if name and (ROOT / name).is_file()]


# Written so that none of them matches itself.
MACHINE = re.compile(r"(?<![\w.~])/(?:home|root|work|Users|mnt|srv)/\w|[A-Z]:\\\\Users")
REGISTRY = re.compile(
    r"https?://[\w.:@/-]*(?:simple\b|registry|artifactory|nexus|devpi|/pypi/)|"
    r"--(?:extra-)?index[-]url|--trusted[-]host|--find[-]links"
)


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        (MACHINE, "see /" + "home/me/x"),
        (MACHINE, "'/" + "work/main/jaxsched'"),
        (REGISTRY, "https://mirror.corp" + "/simple"),
        (REGISTRY, "pip install --index" + "-url x"),
    ],
)
def test_the_search_for_machine_paths_finds_one(pattern, text):
    assert pattern.search(text)


@pytest.mark.parametrize("pattern", [MACHINE, REGISTRY], ids=["machine path", "registry"])
def test_no_tracked_file_names_this_machine_or_a_registry(pattern):
    found = []
    for path in tracked():
        try:
            text = path.read_text("utf-8")
        except UnicodeDecodeError:
            continue
        found += [
            f"{path.relative_to(ROOT)}:{number}: {line.strip()[:100]}"
            for number, line in enumerate(text.splitlines(), 1)
            if pattern.search(line)
        ]
    assert not found, "\n".join(found)


def test_no_tracked_file_is_made_by_a_machine():
    parts = {"__pycache__", ".venv", ".hypothesis", ".pytest_cache", "build", "dist", "out"}
    assert not [p for p in tracked() if parts & set(p.relative_to(ROOT).parts)]
    assert not [p for p in tracked() if p.stat().st_size > 1_000_000]


def settings():
    return tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))


def test_every_folder_that_a_tool_is_told_of_exists():
    tool = settings()["tool"]
    told = [
        *tool["pytest"]["ini_options"]["testpaths"],
        *tool["pytest"]["ini_options"]["pythonpath"],
        *tool["ruff"]["src"],
        *tool["mypy"]["files"],
        *tool["flit"]["sdist"]["exclude"],
        tool["flit"]["module"]["name"],
        settings()["project"]["readme"],
        *settings()["project"]["license-files"],
    ]
    assert not [name for name in told if not (ROOT / name).exists()]


def test_changelog_and_citation_have_the_version_of_the_package():
    newest, when = re.search(
        r"^## \[(.*?)\] - (.*)$", (ROOT / "CHANGELOG.md").read_text(), re.M
    ).groups()
    assert newest == js.__version__
    assert re.fullmatch(r"unreleased|20\d\d-\d\d-\d\d", when)
    assert f"\nversion: {js.__version__}\n" in (ROOT / "CITATION.cff").read_text()


def test_the_oldest_versions_that_are_tested_are_those_that_are_promised():
    pins = dict(
        re.findall(r"^([\w-]+)==([\d.]+?)(?:\.\*)?$", (ROOT / ".ci/oldest.txt").read_text(), re.M)
    )
    project = settings()["project"]
    extras = [
        line for name, x in project["optional-dependencies"].items() if name != "dev" for line in x
    ]
    floors = dict(
        re.match(r"([\w-]+)>=([\d.]+)", x).groups()
        for x in project["dependencies"] + extras
        if ">=" in x
    )
    assert set(floors) == set(pins) - {"jaxlib"}
    for name, floor in floors.items():
        assert f"{pins[name]}.".startswith(f"{floor}."), name


PATHS = re.compile(r"\b((?:benchmarks|docs|tests|examples|jaxsched)/[\w/.-]+\.(?:py|md|png|npz))\b")

MAKES_UP_NAMES = {"test_public.py", "test_docs.py"}


def test_every_file_that_a_text_names_exists():
    missing = {
        f"{path.relative_to(ROOT)} names {name}"
        for path in [*FILES, *tracked()]
        if path.suffix in (".py", ".md", ".toml") and path.name not in MAKES_UP_NAMES
        for name in PATHS.findall(path.read_text("utf-8"))
        if not (ROOT / name).exists() and not (path.parent / name).exists()
    }
    assert not missing, "\n".join(sorted(missing))


def test_the_wheel_holds_the_package_and_nothing_else(tmp_path):
    pytest.importorskip("flit_core")
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            f"import flit_core.buildapi as b; print(b.build_wheel({str(tmp_path)!r}))",
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    with zipfile.ZipFile(tmp_path / done.stdout.strip().splitlines()[-1]) as wheel:
        names = {n for n in wheel.namelist() if not n.endswith("/")}
        metadata = wheel.read(next(n for n in names if n.endswith("METADATA"))).decode()
    code = {n for n in names if ".dist-info/" not in n}
    shipped = {
        str(p.relative_to(ROOT))
        for p in PACKAGE.rglob("*")
        if p.is_file() and "__pycache__" not in p.parts
    }
    assert code == shipped
    assert "jaxsched/py.typed" in code
    assert not [n for n in names if n.startswith(("tests", "examples", "benchmarks", "docs"))]
    assert any("LICENSE" in n for n in names)
    assert f"Version: {js.__version__}" in metadata
    needed = {
        re.split(r"[<>=!~ ;\[]", line.split(": ")[1])[0]
        for line in metadata.splitlines()
        if line.startswith("Requires-Dist") and "extra ==" not in line
    }
    assert needed == {"filelock", "jax", "numpy", "optax", "scipy"}


def test_what_we_import_is_declared():
    """A dependency; or an extra, where a function imports it or the editor's types need it."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    top = lambda wanted: re.match(r"\w+", wanted)[0]
    needed = {*map(top, project["dependencies"]), "jaxlib"}
    extras = {
        top(wanted) for group in project["optional-dependencies"].values() for wanted in group
    } | {"yaml"}  # PyYAML's module
    for ours, path in MODULES.items():
        tree = parsed(path)
        eager = {id(n) for n in tree.body} - {id(n) for n in type_checking(tree.body)}
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom):
                modules = [node.module]
            else:
                modules = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            declared = needed if id(node) in eager else needed | extras
            for module in modules:
                known = top(module) in declared | {"jaxsched"} | sys.stdlib_module_names
                assert known, f"{ours}: {module}"


def test_a_call_is_annotated_as_what_it_returns():
    assert typing.get_type_hints(js.AbstractSchedule.__call__)["return"] is jax.Array


@pytest.mark.parametrize("name", PUBLIC)
def test_a_schedule_has_no_step_of_its_own(name):
    value = getattr(js, name)
    if isinstance(value, type) and issubclass(value, js.AbstractSchedule):
        assert not hasattr(value, "step") and not hasattr(value, "reset")
