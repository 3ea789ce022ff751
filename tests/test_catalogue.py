"""docs/catalogue.md is whole and that of its script, and each of its lines has its curve."""

from __future__ import annotations

import collections
import runpy
from pathlib import Path

import numpy as np
import pytest

from jaxsched.controllers import AbstractController

DOCS = Path(__file__).parents[1] / "docs"
script = runpy.run_path(str(DOCS / "catalogue.py"))
ROWS = {row["id"]: row for row in script["ROWS"]}
SAID = {name: row for name, row in ROWS.items() if "ours" in row}


def test_every_behaviour_has_one_row_and_the_page_is_that_of_the_script():
    assert len(script["ROWS"]) == len(ROWS)
    families = collections.Counter(name[0] for name in ROWS)
    assert families == {"A": 43, "W": 15, "C": 15, "L": 24, "S": 11}
    assert sum(bool(row.get("stateful")) for row in ROWS.values()) == 10
    assert (DOCS / "catalogue.md").read_text() == script["page"]()
    assert all(row["who"] and ("ours" in row or "differs" in row) for row in ROWS.values())


def test_the_pictures_are_those_of_the_script():
    folder = DOCS / "figures/catalogue"
    texts = {path.name: path.read_text().rstrip("\n") for path in folder.glob("*.svg")}
    assert texts == script["pictures"]()


@pytest.mark.parametrize("name", SAID)
def test_a_line_has_the_curve_of_its_formula(name):
    row = SAID[name]
    made = script["ours"](row)
    if "formula" not in row:
        assert isinstance(made, AbstractController)
        return
    t = np.arange(3 * row.get("steps", 100))
    want = script["formula"](row, t.astype(np.float64))
    assert np.abs(made.host(t) - want).max() <= 1e-6 * np.abs(want).max()


def test_a_line_is_one_short_line_of_pieces():
    for name, row in SAID.items():
        assert len(row["ours"]) <= 130, name
        # But for a user's function of the step, and functions of a schedule.
        assert name in ("A39", "A31", "A38") or "lambda" not in row["ours"], name
