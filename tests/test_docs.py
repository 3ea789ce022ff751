"""The documentation is executed: every Python block, every docstring, every public name."""

from __future__ import annotations

import ast
import contextlib
import doctest
import importlib
import io
import os
import pkgutil
import re
import runpy
import sys
import tokenize
import types
from pathlib import Path

import pytest

import jaxsched

os.environ.setdefault("MPLBACKEND", "Agg")  # no block opens a window

ROOT = Path(__file__).parents[1]
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")])
MODULES = sorted(
    module.name
    for module in pkgutil.walk_packages(jaxsched.__path__, "jaxsched.")
    if not module.name.endswith("__main__")
)
# The public modules, and where each one's names are listed.
PUBLIC = {
    "jaxsched": "jaxsched/_api/*.py",
    "jaxsched.controllers": "jaxsched/controllers/__init__.py",
    "jaxsched.optim": "jaxsched/optim/__init__.py",
    "jaxsched.search": "jaxsched/search/__init__.py",
}


def name_of(page):
    return str(page.relative_to(ROOT))


def blocks(page):
    """(first line number, source) of each ```python block."""
    text = page.read_text()
    for match in re.finditer(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        yield text.count("\n", 0, match.start(1)), match.group(1)


def public_names(module):
    """The names that a public module lists as ``from ... import Name as Name``."""
    return sorted(
        alias.asname
        for path in ROOT.glob(PUBLIC[module])
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
        if alias.asname == alias.name and not alias.name.startswith("_")
    )


NAMES = [(module, name) for module in PUBLIC for name in public_names(module)]


def expected_output(source):
    """Line number -> the comment behind a statement that ends there, for ``print(...)  # this``."""
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    return {
        token.start[0]: token.string[1:].strip()
        for token in tokens
        if token.type == tokenize.COMMENT
    }


def run(source, namespace, filename, first_line):
    """Executes a block; what a ``print`` shows must be what its comment says."""
    comments = expected_output(source)
    for statement in ast.parse(source).body:
        prints = [
            node
            for node in ast.walk(statement)
            if isinstance(node, ast.Expr) and ast.unparse(node).startswith("print(")
        ]
        # Before the line numbers become those of the page.
        wanted = [comments[node.end_lineno] for node in prints if node.end_lineno in comments]
        shown = io.StringIO()
        code = ast.increment_lineno(ast.Module([statement], []), first_line)
        with contextlib.redirect_stdout(shown):
            exec(compile(code, filename, "exec", dont_inherit=True), namespace)
        if wanted:
            where = f"{filename}:{statement.lineno}"
            assert wanted == shown.getvalue().strip().split("\n"), where


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_block_of_a_page_runs(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    module = types.ModuleType("docs")  # where pickle finds its classes
    monkeypatch.setitem(sys.modules, "docs", module)
    namespace = vars(module)
    for first_line, source in blocks(page):
        run(source, namespace, name_of(page), first_line)


def test_a_wrong_comment_is_found():
    with pytest.raises(AssertionError, match=r"page\.md:11"):
        run("print(1 + 1)  # 3\n", {}, "page.md", 10)


@pytest.mark.parametrize("name", MODULES)
def test_every_docstring_example_runs(name):
    module = importlib.import_module(name)
    finder = doctest.DocTestFinder(exclude_empty=True)
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE)
    report = io.StringIO()
    for test in finder.find(module, name):
        runner.run(test, out=report.write)
    assert runner.failures == 0, report.getvalue()


def get(module, name):
    return getattr(importlib.import_module(module), name)


@pytest.mark.parametrize(("module", "name"), NAMES)
def test_every_public_name_has_a_docstring(module, name):
    value = get(module, name)
    if not callable(value):  # data, such as a table of names: documented in docs/
        return
    own = value.__doc__ or ""
    assert own.strip(), f"{module}.{name} has no docstring"
    assert not own.startswith(f"{name}("), f"{module}.{name} has only its signature"


@pytest.mark.parametrize(("module", "name"), NAMES)
def test_every_public_name_is_in_the_docs_with_an_example(module, name):
    """In the text of a page; and in a ``>>>`` of its docstring or a Python block of a page."""
    word = re.compile(rf"(?<![A-Za-z0-9_]){name}(?![A-Za-z0-9_])")
    pages = [page for page in PAGES if page.parent.name == "docs"]
    assert any(word.search(page.read_text()) for page in pages), f"{name} is not in docs/*.md"
    example = ">>>" in (getattr(get(module, name), "__doc__", "") or "")
    shown = any(word.search(source) for page in PAGES for _, source in blocks(page))
    assert example or shown, f"{module}.{name} has no runnable example"


def headings(page):
    """As GitHub names them in links."""
    titles = re.findall(r"^#+ (.+)$", page.read_text(), re.M)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_and_figures_exist(page):
    for target, heading in re.findall(r"\]\(([^)#\s]*)(?:#([^)\s]*))?\)", page.read_text()):
        if not target.startswith(("http:", "https:")):
            there = page.parent / target if target else page
            assert there.exists(), f"{name_of(page)} points to {target}"
            assert not heading or heading in headings(there), f"{name_of(page)}: #{heading}"


def test_the_contract_names_tests_that_exist():
    """``tests/test_x.py::test_y`` and ``jaxsched.testing.law`` in the page are real."""
    text = (ROOT / "docs" / "the-contract.md").read_text()
    for file, test in re.findall(r"`?(tests/test_\w+\.py)::(\w+)", text):
        assert f"def {test}(" in (ROOT / file).read_text(), f"{file}::{test}"
    laws = importlib.import_module("jaxsched.testing").LAWS
    named = set(re.findall(r"law `(\w+)`", text))
    assert named == set(laws)


def test_the_page_of_all_names_is_whole_and_that_of_its_script():
    script = runpy.run_path(str(ROOT / "docs/api.py"))
    assert (ROOT / "docs/api.md").read_text() == script["page"]()
    listed = list(script["public"]().values())
    for module, name in NAMES:
        value = getattr(importlib.import_module(module), name)
        assert any(value is other for other in listed), f"{module}.{name}"
