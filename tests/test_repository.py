"""The files of the repository: what they name, what is packed, and what is declared."""

from __future__ import annotations

import ast
import functools
import re
import subprocess
import sys
import tomllib
import zipfile

import pytest
from modules import FILES, MODULES, PACKAGE, ROOT, parsed, type_checking

import jaxsched as js


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


def test_every_page_is_in_the_contents_of_the_site():
    listed = re.findall(r"[\w/-]+\.md", (ROOT / "mkdocs.yml").read_text("utf-8"))
    others = re.findall(r'"([\w/-]+\.md)",\n', (ROOT / "docs/pages.py").read_text("utf-8"))
    pages = [str(page.relative_to(ROOT / "docs")) for page in (ROOT / "docs").rglob("*.md")]
    assert sorted(listed) == sorted([*pages, *others])


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

MAKES_UP_NAMES = {"test_repository.py", "test_docs.py"}


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
