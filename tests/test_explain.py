"""What ``jaxsched show`` says of a schedule: a sentence in words that are true, JSON and Python."""

from __future__ import annotations

import re

import numpy as np
import pytest
from cases import ALL

import jaxsched as js
from jaxsched.command import explain, python_line
from jaxsched.schedules._picture import extent

STAGE = re.compile(r"(?:from (\S+) to (\S+) in|(\S+) for) (\S+) steps?")


@pytest.mark.parametrize("name", ALL)
def test_every_schedule_is_explained_in_words_that_are_true_and_written_as_python(name):
    schedule = ALL[name]
    said, *_, data, line = explain(schedule).splitlines()
    if " of (" not in said and "Repeat of" not in said:  # of each part its own
        is_true(said, schedule)
    if "from_fn" not in repr(schedule):
        assert line == f"Python  {python_line(schedule)}"
        assert eval(python_line(schedule), {"js": js, "np": np}) == schedule
        assert js.from_json(data.removeprefix("JSON    ")) == schedule
    else:
        assert line == "Python  none: a function is code, not data"


def is_true(said, schedule):
    step = 0.0
    for first, last, held, length in STAGE.findall(said):
        assert schedule.host(step) == pytest.approx(float(first or held), rel=1e-3)
        step += float(length)
        ends = schedule.host([step, step - 1e-5 * float(length)])
        assert min(abs(ends - float(last or held))) <= 1e-3 * abs(float(last or held)) + 1e-12
    goes_on = np.ptp(schedule.host(extent([schedule]) + np.arange(0, 10_000, 7))) > 0
    assert said.endswith("which goes on." if goes_on else "which holds.")


def test_a_staircase_is_told_with_its_stairs():
    said = explain(js.multi_step(0.1, 0.1, [30, 60])).splitlines()[0]
    assert said.startswith("PiecewiseConstant 0.1 for 30 steps, then PiecewiseConstant 0.01 for 30")
    assert explain(js.Quantize(js.Cosine(0.1, 0.0, 100), 30)).startswith(
        "Quantize of: Cosine from 0.1 to 0.002447 in 120 steps, which holds."
    )


def test_noise_is_told_by_what_it_is_on():
    told = explain(js.Clip(js.Noisy(js.cosine_decay(0.1, 100)), 0, 1)).splitlines()[0]
    assert told == "Clip of Noisy of: Cosine from 0.1 to 0 in 100 steps, which holds."


def test_a_controller_is_explained_by_its_base():
    plateau = js.Plateau(js.Constant(0.1, 10), factor=0.5)
    assert explain(plateau).startswith("Plateau, which acts on: Constant 0.1 for 10 steps")
    assert eval(python_line(plateau), {"js": js}) == plateau
    quiet = js.controllers.Around(plateau, quiet=5)
    assert eval(python_line(quiet), {"js": js}) == quiet
    warmed = explain(0.5 * (js.Linear(0.0, 0.2, 10) >> js.Plateau(0.2)))
    assert "on: Linear from 0 to 0.1 in 10 steps, then" in warmed and "10         0.1\n" in warmed
