"""The tables of docs/migrating: our line and the drop-in are equal on the steps that a row says."""

from __future__ import annotations

import importlib
from pathlib import Path

import jax
import numpy as np
import optax
import pytest

import jaxsched as js
from jaxsched import compat

PAGES = sorted((Path(__file__).parents[1] / "docs/migrating").glob("*.md"))
LIBRARIES = {"pytorch": "torch"}
KNOWN = {"js": js, "np": np, "lr": 0.1, "T": 1000, "w": 100, "f": lambda t: 1 / (1 + t)}
STEPS = np.arange(2 * 1000)


def rows():
    for page in PAGES:
        for line in page.read_text().splitlines():
            if line.startswith("|") and "js." in line:
                *lines, equal, _ = [cell.strip(" `") for cell in line.strip("|").split("|")]
                yield pytest.param(page.stem, lines, equal, id=f"{page.stem}-{lines[0][:40]}")


def values(line, **known):
    made = eval(line, KNOWN | known)
    return (
        made.host(STEPS)
        if isinstance(made, js.AbstractSchedule)
        else jax.jit(jax.vmap(made))(STEPS)
    )


@pytest.mark.parametrize(("page", "lines", "equal"), list(rows()))
def test_our_line_and_the_drop_in_are_equal_where_the_page_says_so(page, lines, equal):
    library = LIBRARIES.get(page, page)
    drop_in = {library: importlib.import_module(f"jaxsched.compat.{library}")}
    theirs = lines[0] if page == "optax" else lines[2]
    same = np.isclose(values(lines[1]), values(theirs, **drop_in), rtol=1e-6, atol=1e-8)
    until = {"always": None, "to `T": 1001, "to `T - 1": 1000, "no": 0}[equal]
    assert same[:until].all(), STEPS[~same][:5]
    assert equal == "always" or not same.all()


def test_the_lines_of_optax_are_those_of_the_real_one():
    for each in rows():
        page, (theirs, ours, *_), _ = each.values
        if page == "optax":
            real = values(theirs, optax=optax)
            np.testing.assert_allclose(values(ours), real, atol=2e-7, err_msg=theirs)


@pytest.mark.parametrize("library", compat._WORDS)
def test_every_drop_in_is_on_the_page_of_its_library(library):
    page = {name: stem for stem, name in LIBRARIES.items()}.get(library, library)
    text = (PAGES[0].parent / f"{page}.md").read_text()
    drop_ins = vars(importlib.import_module(f"jaxsched.compat.{library}")).values()
    names = {each.__name__ for each in drop_ins if hasattr(each, "__wrapped__")}
    assert names and not [name for name in names if name not in text]
