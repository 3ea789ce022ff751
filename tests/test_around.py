"""Schedules around a controller: a floor, a factor, a warmup."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

import jaxsched as js
from jaxsched.controllers import Plateau
from jaxsched.controllers._base import at_step, levels

BASE = js.Linear(0.5, 0.1, 40)
AROUND = [
    js.Clip(0.5 * Plateau(BASE, factor=0.5, patience=0) + 1e-3, low=0.01),
    js.Linear(0.0, 0.1, 9) >> Plateau(BASE, factor=0.5, patience=0) >> js.Linear(0.1, 0.0, 5),
]


def test_an_absolute_floor_holds_under_every_cut():
    floored = js.maximum(Plateau(BASE, 0.1, patience=0), 0.02)
    state = floored.init()
    for _ in range(20):
        assert float(floored(state)) >= np.float32(0.02)
        state = floored.update(state, value=1.0)
    assert float(floored(state)) == np.float32(0.02)


def test_a_warmup_before_a_controller_is_quiet_and_moves_its_base():
    plateau = Plateau(js.Linear(0.4, 0.0, 8), 0.5, patience=0)
    warmed, alone = js.Linear(0.0, 0.4, 3) >> plateau, plateau.init()
    state = warmed.init()
    for loss in (0.1, 0.1, 0.1):  # lower than all that follow
        state = warmed.observe(state, value=0.05)
        state = warmed.update(state, value=loss)
    assert int(state.base.seen) == 0
    for loss in (1.0, 1.0, 0.9, 1.0):
        assert float(warmed(state)) == pytest.approx(float(plateau(alone)))
        state, alone = warmed.update(state, value=loss), plateau.update(alone, value=loss)


FOLLOWED = [js.Constant(0.3), js.InverseSqrt(0.3, 10), js.Linear(0.3, 0.1, 20)]
LONG = [lambda rate: js.Noisy(rate * BASE), lambda rate: js.Noisy(rate, 0.5) + BASE]
LONG += [lambda rate: js.Linear(0.0, 1.0, 3) >> js.Noisy(js.minimum(BASE, rate))]
CASES = [*itertools.product(LONG, FOLLOWED), (lambda rate: rate * BASE >> BASE, FOLLOWED[0])]


@pytest.mark.parametrize(("around", "followed"), CASES)
def test_a_combination_is_as_long_as_with_what_the_controller_follows(around, followed):
    controller, steps = around(Plateau(followed)), np.array([0, 5, 19, 25, 39, 41, 50, 51, 99])
    values = levels(controller)[-1].base.host(steps)
    told = controller.host_values(controller.init(), steps, values)
    np.testing.assert_allclose(told, around(followed).host(steps))


@pytest.mark.parametrize("controller", AROUND)
def test_a_sweep_tabulates_what_an_optimizer_gets(controller):
    state = controller.init()
    for loss in (1.0, 1.0, 1.0):
        state = controller.update(state, value=loss)
    steps = np.arange(3, 60)
    values = levels(controller)[-1].base.host(steps)
    want = [float(controller(at_step(controller, state, np.int32(step)))) for step in steps]
    np.testing.assert_allclose(
        controller.host_values(state, steps, values), want, rtol=1e-6, atol=1e-9
    )


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda c: c * c, "not with another controller"),
        (lambda c: js.minimum(c, c), "not with another controller"),
        (lambda c: c >> js.Constant(0.1), r"got for part 0 of 2 the open-ended Constant"),
        (
            lambda c: js.Plateau(js.multi_step(1, 0.1, [3])) >> js.Constant(0.1),
            "last value begins where it ends",
        ),
        (lambda c: js.Repeat(c), "must be a schedule"),
        (lambda c: js.controllers.Around(0.1), "must be a controller"),
        (lambda c: js.controllers.Around(c, 0.1), "must be a schedule with a"),
    ],
)
def test_what_cannot_be_around_a_controller_is_refused(make, words):
    with pytest.raises((TypeError, ValueError), match=words):
        make(Plateau(0.1))
