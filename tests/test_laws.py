"""Every law of ``jaxsched.testing`` on every schedule and every recipe."""

from __future__ import annotations

import inspect

import pytest
from cases import ALL, CLASSES, ONE_OF_EACH_CLASS, ONE_OF_EACH_STRUCTURE, RECIPES

import jaxsched as js
from jaxsched.testing import LAWS, check_schedule, landmarks

# A function is code: it has no repr that pastes back, and a lambda no pickle.
NOT_FOR_FUNCTIONS = {"printable", "copyable", "serializable"}


# What is traced depends on the structure only: once is enough for the costly laws.
COSTLY = ["elementwise", "no_retrace", "differentiable"]


@pytest.mark.parametrize("name", [*CLASSES, *RECIPES])
@pytest.mark.parametrize("law", [law for law in LAWS if law not in COSTLY])
def test_law(law, name):
    if name.startswith("Function") and law in NOT_FOR_FUNCTIONS:
        pytest.skip("code is not data")
    LAWS[law](ALL[name], landmarks(ALL[name]))


@pytest.mark.parametrize("name", ONE_OF_EACH_STRUCTURE)
@pytest.mark.parametrize("law", COSTLY)
def test_law_of_programs(law, name, request):
    """XLA compiles the gradients of each class here, and the values of all in test_values."""
    if law != "differentiable" or name not in ONE_OF_EACH_CLASS:
        request.getfixturevalue("in_numpy")
    LAWS[law](ALL[name], landmarks(ALL[name]))


def test_every_public_class_is_among_the_cases():
    public = {x for name in dir(js) if inspect.isclass(x := getattr(js, name))}
    ours = {x for x in public if issubclass(x, js.AbstractSchedule) and not inspect.isabstract(x)}
    assert ours == {type(schedule) for schedule in CLASSES.values()}


def test_a_broken_schedule_is_found():
    import dataclasses

    from jaxsched import AbstractSchedule
    from jaxsched import _number as num
    from jaxsched._struct import number, struct

    @struct
    class Rebound(AbstractSchedule):
        """Falls linearly and does not stop at its end."""

        steps: float = number()

        @property
        def duration(self):
            return self.steps

        def value_at(self, t):
            return num.at_least_zero(t) * (-1.0) + 1.0

    assert dataclasses.is_dataclass(Rebound)
    with pytest.raises(AssertionError, match=r"law 'total' .* end does not hold"):
        check_schedule(Rebound(10), skip=["printable"])
