"""The modules of the package, their layers and syntax trees, for tests that read them."""

from __future__ import annotations

import ast
import functools
from pathlib import Path

import jaxsched as js

PACKAGE = Path(js.__file__).parent
ROOT = PACKAGE.parent
FILES = sorted(PACKAGE.rglob("*.py"))


@functools.cache
def parsed(path):
    return ast.parse(path.read_text("utf-8"), str(path))


def module_name(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in FILES}


def type_checking(body):
    return next(
        (
            n.body
            for n in body
            if isinstance(n, ast.If) and getattr(n.test, "id", "") == "TYPE_CHECKING"
        ),
        [],
    )


# A module imports only from what stands before it. A new module is put here by hand.
ORDER = [
    "_types",
    "_text",
    "_words",
    "_numerals",
    "_bounds",
    "_arrays",
    "_machine",
    "_checks",
    "_struct",
    "_double",
    "_elementary",
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
    "_api",
    "testing",
    "command",
    "__main__",
]


def room(module):
    """Where a module stands in ``ORDER``: a folder or file of the package, or of ``search/``."""
    parts = module.split(".")[1:]
    return ".".join(parts[:2] if parts[:1] == ["search"] else parts[:1])


def layer(module):
    return ORDER.index(room(module)) if room(module) else len(ORDER)
