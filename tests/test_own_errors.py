"""Errors of one's own schedule or controller name it, with the repair."""

import math
import re
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxsched as js
from jaxsched import controllers
from jaxsched import schedules as own
from jaxsched.testing import LAWS, check_controller, check_schedule


def schedule(value_at=lambda self, t: 0.1, base=js.AbstractSchedule, **members):
    members = {"duration": None, "value_at": value_at, **members}
    return own.struct(type("Mine", (base,), members))


def branches(self, t):
    return own.as_value(t, 0.1) if t < 10 else own.as_value(t, 0.2)


STEPS = np.arange(3)
FORMULA = (
    r"^Mine\.value_at\(t\) must take a `t` of any shape, .* got \w+Error \(.*\): write `where\("
)
NUMBER = r"^Mine\.value_at\(t\) must return one number for each element of `t`, got "


@pytest.mark.parametrize(
    ("value_at", "eager", "words"),
    [
        (branches, True, FORMULA),
        (lambda self, t: math.exp(-t), True, FORMULA),
        (lambda self, t: 0.1 * float(t), True, FORMULA),
        (lambda self, t: np.minimum(t, 10.0), False, FORMULA),
        (lambda self, t: jnp.exp(-t), False, FORMULA),
        (lambda self, t: t**2, False, FORMULA),
        (lambda self, t: t.astype(int) * 0.1, False, FORMULA),
        (lambda self, t: None, True, NUMBER + "None"),
        (lambda self, t: "0.1", True, NUMBER + "'0.1'"),
        (lambda self, t: (0.1, 0.2), True, NUMBER + r"\(0\.1, 0\.2\)"),
        (lambda self, t: jnp.zeros((2, 2)), True, NUMBER + ".*(Array|Tracer)"),
    ],
)
def test_a_value_is_a_formula_of_any_step(value_at, eager, words):
    mine = schedule(value_at)()
    around = js.Clip(2 * (js.Linear(0.0, 1.0, 10) >> mine), low=0.0)
    for each in (mine, around):
        with pytest.raises(TypeError, match=words):
            jax.jit(lambda t, each=each: each(t))(3)
        if eager:
            with pytest.raises(TypeError, match=words):
                each(STEPS)


def test_an_error_of_another_kind_is_left_alone():
    with pytest.raises(ZeroDivisionError):
        schedule(lambda self, t: 1 // 0)()(3)


@pytest.mark.parametrize(
    "weights",
    [lambda self, at: at.left, lambda self, at: (at.left, at.done, 0.0), lambda s, a: None],
)
def test_a_shape_has_two_weights(weights):
    mine = own.struct(type("Mine", (own.AbstractShape,), {"weights": weights}))(1.0, 0.0, 10)
    for call in (mine, jax.jit(lambda t: (0.5 * mine)(t))):
        with pytest.raises(TypeError, match=r"^Mine\.weights\(at\) must return two values"):
            call(3)


def wrapped(**members):
    value_at = lambda self, t: self.schedule.value_at(t)
    return own.struct(type("Mine", (own.AbstractWrapper,), {"value_at": value_at, **members}))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: schedule(duration="a")(), r"duration must be .* got 'a' \(str\)"),
        (lambda: schedule(duration=lambda self: 3)(), "duration must be .* with @property"),
        (
            lambda: wrapped(exact_length=lambda s, t: "a")(js.Constant(1.0)),
            r"exact_length\(t\) must",
        ),
        (
            lambda: schedule(natural_length=lambda self: None)()._repr_html_(),
            r"natural_length\(\) must return .* None",
        ),
        (
            lambda: schedule(natural_length=lambda self: math.inf)()._repr_html_(),
            r"natural_length\(\) must return a number of steps, got inf",
        ),
        *(
            (
                lambda phases=phases: js.boundaries(
                    js.Shift(wrapped(phases=lambda self: phases)(js.Constant(1.0)), 3)
                ),
                r"phases\(\) must return a list of js\.Phase",
            )
            for phases in (None, [], ["a"], js.Phase("a", 0, 3))
        ),
    ],
)
def test_lengths_and_phases_are_checked(make, words):
    with pytest.raises(TypeError, match=r"^Mine\." + words):
        make()


@pytest.mark.parametrize(
    ("length", "words"),
    [
        (-5, "at least 0, got -5"),
        (math.inf, "finite in float32, got inf"),
        (np.float32("nan"), "finite in float32, got .*nan"),
        (jnp.array([10, -1]), "at least 0, got .*10, -1"),
    ],
)
def test_a_length_that_no_run_has_is_refused_as_the_schedule_is_made(length, words):
    with pytest.raises(ValueError, match=r"^Mine\.duration must be " + words):
        schedule(duration=length)()


class State(NamedTuple):
    step: Any
    base: Any


def controller(kind=controllers.AbstractController, **members):
    own_methods = {
        "__annotations__": {"base": Any},
        "State": State,
        "init": lambda self: self.first_state(),
        "react": lambda self, state, value=None, **others: state,
        "value_at": lambda self, state: self.base_value(state),
        **members,
    }
    kept = {name: member for name, member in own_methods.items() if member is not None}
    return controllers.struct(type("Mine", (kind,), kept))


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ({"State": None}, r"State must be .* step: Any; base: Any`, got None"),
        ({"State": dict}, r"State must be .* got <class 'dict'>"),
        ({"State": NamedTuple("Odd", [("base", Any)])}, "State must be .* got the fields base"),
        (
            {"kind": controllers.AbstractScaler},
            "State must be .* scale: Any`, got the fields step, b",
        ),
        ({"__annotations__": {"rate": Any}, "rate": 0.1}, "must have the field `base`"),
        ({"reads": "value"}, r"reads must be a tuple .* got 'value'"),
        ({"react": lambda self, state, value: state}, "react must take whatever else is reported"),
    ],
)
def test_a_controller_is_checked_before_it_is_used(members, words):
    with pytest.raises(TypeError, match=r"^Mine.?" + words):
        controller(**members)(0.1)


@pytest.mark.parametrize(
    ("members", "words"),
    [
        (
            {"react": lambda self, state, **report: None},
            r"react\(state, ...\) must return a State,",
        ),
        (
            {"react": lambda self, state, value=None, **others: state if value > 3 else None},
            r"react\(state, ...\) must be traceable, .* `jnp\.where",
        ),
        (
            {"value_at": lambda self, state: 0.1 if state.step < 3 else 0.2},
            r"value_at\(state\) must be traceable, .* `jnp\.where",
        ),
    ],
)
def test_a_controller_returns_states_and_is_traceable(members, words):
    mine = controller(**members)(0.1)
    with pytest.raises(TypeError, match=r"^Mine\." + words):
        jax.jit(lambda state, loss: mine(mine.update(state, value=loss)))(mine.init(), 1.0)


@pytest.mark.parametrize(
    ("base", "arguments"),
    [(js.Cosine, (1.0, 0.0, 10)), (controllers.Plateau, (0.1,)), (js.Units, (8, 64))],
)
def test_a_class_derived_from_a_struct_is_one_too(base, arguments):
    """Without it a field would be ignored, and JAX would see no numbers in it."""
    plain = type("Plain", (base,), {})
    with pytest.raises(TypeError, match=r"^Plain must be decorated with @struct"):
        plain(*arguments)
    assert controllers.struct(plain)(*arguments)


@pytest.mark.parametrize(
    "fn",
    [
        lambda step: math.cos(step),
        lambda step: 0.1 * float(step),
        lambda step: np.maximum(step, 1) * 0.1,
        lambda step: [0.1, 0.2, 0.3][step],
        lambda step: sum(0.1 for _ in range(step)),
        lambda step: math.floor(step / 3) * 0.1,
        lambda step: {0: 0.1}[step],
    ],
)
def test_a_function_that_needs_a_number_is_told_of_jnp(fn):
    makes = {
        "from_fn(fn=...)": js.from_fn,
        "torch.LambdaLR(lr_lambda=...)": lambda fn: js.compat.torch.LambdaLR(1.0, fn),
        "keras.LearningRateScheduler(schedule=...)": js.compat.keras.LearningRateScheduler,
    }
    for called, make in makes.items():
        with pytest.raises(
            TypeError, match=f"^{re.escape(called)} must compute in jnp: .*<lambda>"
        ):
            make(fn)
    with pytest.raises(
        TypeError, match=r"must not branch(.|\n)*, or give total_steps=..., with which"
    ):
        js.compat.torch.LambdaLR(1.0, lambda step: 0.1 if step < 3 else 0.2)
    with pytest.raises(
        ValueError, match=r"^keras\..*schedule=.* one finite number, got None .* 2\.$"
    ):
        js.compat.keras.LearningRateScheduler({0: 0.2, 1: 0.1}.get, epochs=3)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: check_schedule(js.Plateau(0.1)), r"check_schedule\(schedule=.* give its base"),
        (lambda: check_schedule(lambda t: 0.1), r"check_schedule\(schedule=.*js\.from_fn"),
        (lambda: check_controller(js.Constant(1.0)), r"controller=.*`check_schedule` takes"),
        (lambda: check_controller(js.Plateau), r"controller=.* give js\.Plateau\(\.\.\.\)"),
        (lambda: js.Plateau(0.1).host(3), r"Plateau has no host, .* `controller\.base\.host`"),
        (lambda: js.Plateau(0.1).duration, "Plateau has no duration"),
    ],
)
def test_a_schedule_in_the_place_of_a_controller_is_told_so(call, words):
    with pytest.raises((TypeError, AttributeError), match=words):
        call()
    assert not hasattr(js.Plateau(0.1), "host")


def test_a_law_that_does_not_hold_is_named_with_the_step():
    LAWS["total"](js.Linear(1.0, 0.0, 4), np.int32([1, 2]))  # without step 0
    mine = schedule(lambda self, t: jnp.exp(-0.1 * own.to_value(t)))()
    with pytest.raises(AssertionError, match=r"law 'total' .* before 0 it is not .* at step -5"):
        check_schedule(mine)
    with pytest.raises(
        AssertionError, match=r"law 'elementwise' .* and .* at step -5, and \d+ more"
    ):
        check_schedule(schedule(_unlike)())


def _unlike(self, t):
    return own.as_value(t, 0.1 if isinstance(t, np.ndarray | np.generic) else 0.2)
