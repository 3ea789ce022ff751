"""The public names of the package, and what importing it does."""

from __future__ import annotations

import ast
import importlib
import os
import subprocess
import sys
import textwrap
import typing

import jax
import pytest
from modules import FILES, MODULES, PACKAGE, ROOT, parsed, type_checking

import jaxsched as js


def python(program, *flags, **environment):
    """A fresh interpreter that sees this checkout and nothing of this process's modules."""
    return subprocess.run(
        [sys.executable, "-W", "error", *flags, "-c", textwrap.dedent(program)],
        env={**os.environ, "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu", **environment},
        capture_output=True,
        text=True,
        timeout=300,
    )


# -------------------------------------------------------------------------------------------- names


def exports(path):
    """Also those for type checkers only."""
    body = parsed(path).body
    return [
        (node.module, alias.name, alias.asname)
        for node in (*body, *type_checking(body))
        if isinstance(node, ast.ImportFrom) and node.module.startswith("jaxsched")
        for alias in node.names
        if alias.name != "*"
    ]


PARTS = {part: exports(PACKAGE / f"_api/{part}.py") for part in js._PARTS}
EXPORTS = [line for lines in PARTS.values() for line in lines]
PUBLIC = [name for _, name, _ in EXPORTS]
LISTS = [path for path in FILES if path.name == "__init__.py" or path.parent.name == "_api"]


@pytest.mark.parametrize("path", LISTS, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_every_name_is_exported_as_itself(path):
    """``X as X``: the only form that type checkers take for an export without ``__all__``."""
    for module, name, alias in exports(path):
        assert alias == name, f"{module}.{name} is exported as {alias}"


def test_what_is_exported_is_what_can_be_imported_and_once():
    assert len(set(PUBLIC)) == len(PUBLIC)
    for module, name, _ in EXPORTS:
        assert getattr(js, name) is getattr(importlib.import_module(module), name)
    visible = {n for n in dir(js) if not n.startswith("_")}
    modules = {n.split(".")[1] for n in MODULES if n.count(".") >= 1}
    assert {*PUBLIC, *js._ROOMS} <= visible
    assert visible - set(PUBLIC) <= modules
    assert tuple(name for _, name, _ in exports(PACKAGE / "__init__.py")) == js._ROOMS


def test_a_name_comes_with_its_part_and_no_import_touches_a_device_or_prints():
    """JAX's settings may still be changed after all of them: no array has been made."""
    first = {part: [name for _, name, _ in lines] for part, lines in PARTS.items()}
    done = python(f"""
        import sys
        import jaxsched as js
        js.Window = None
        for part, names in {first}.items():
            assert f"jaxsched._api.{{part}}" not in sys.modules, part
            found = {{name: getattr(js, name) for name in names}}
            for name, value in found.items():
                assert vars(js)[name] is value, name
                exec(f"from jaxsched import {{name}} as again; assert again is value")
        assert js.Window is None  # what a user has put there stays
        del js.Window
        assert js.Window is js._api.core.Window
        import jax
        jax.config.update("jax_num_cpu_devices", 3)
        assert jax.device_count() == 3
    """)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_name_that_does_not_exist_is_an_attribute_error():
    with pytest.raises(AttributeError, match=r"'jaxsched' has no attribute 'no_such_name'"):
        js.no_such_name  # noqa: B018
    assert not hasattr(js, "init")
    for place, word in {"controllers": "Plateau", "names": "entries", "command": "convert"}.items():
        with pytest.raises(AttributeError, match=f"'jaxsched.{place}' .*; did you mean {word}$"):
            getattr(getattr(js, place), word[:-1])


@pytest.mark.parametrize(
    ("word", "ours"),
    [
        ("join_schedules", r"it is a >> b or js\.Sequence here"),
        ("warmup_cosine_decay_schedule", r"it is js\.warmup_cosine here"),
        ("cosine_decay_schedule", r"it is js\.cosine_decay or js\.Cosine here"),
        ("linear_schedule", r"it is js\.linear_decay or js\.Linear here"),
        ("ReduceLROnPlateau", r"it is js\.Plateau here"),
        ("adopt", r"it is js\.optim\.adopt here"),
        ("trapezoid", r"it is js\.wsd here"),
        ("reverse", r"it is js\.Reverse here"),
        ("load", r"it is js\.search\.load here"),
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


# ------------------------------------------------------------------------------------------ imports

HEAVY = (
    *("optax", "flax", "orbax", "matplotlib", "scipy", "pandas", "hypothesis", "rich"),
    *("dask", "distributed", "submitit", "jaxsched.search"),
)

# The second has the operators, though the module of powers is imported by none before it.
LIGHT = """
import jaxsched
from jaxsched.schedules._base import Constant as C; assert (1 / C(2.0)).host(0) == 0.5
import jaxsched.controllers
import jaxsched as js; js.warmup_cosine(0.1, 10, 2)(3)
js.from_json(js.to_json(js.Table([1.0, 2.0]))); js.from_config("Table([1, 2])"); js.plot
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
    said += ["js.inject ['optax']", "import jaxsched.search ['jaxsched.search', 'optax']"]
    assert done.stdout.splitlines() == said
    done = python("from jaxsched import *; print(Plateau, plot, Units, Cosine)")  # of both parts
    assert done.returncode == 0, done.stderr


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


# -------------------------------------------------------------------------------------------- files


def test_a_call_is_annotated_as_what_it_returns():
    assert typing.get_type_hints(js.AbstractSchedule.__call__)["return"] is jax.Array


@pytest.mark.parametrize("name", PUBLIC)
def test_a_schedule_has_no_step_of_its_own(name):
    value = getattr(js, name)
    if isinstance(value, type) and issubclass(value, js.AbstractSchedule):
        assert not hasattr(value, "step") and not hasattr(value, "reset")
