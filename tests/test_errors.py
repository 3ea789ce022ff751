"""A wrong number is an error that names class, argument, expectation and value.

The cases are generated: every field of every class with the bounds that it declares.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import ALL, CLASSES
from refusals import refused, settings_of

import jaxsched as js

# -------------------------------------------------------------------------------------- every field

ONE_OF_EACH_CLASS: dict[str, Any] = {
    type(schedule).__name__: schedule for schedule in CLASSES.values()
}

ONE_OF_EACH_CLASS["Units"] = js.Units(batch=32, samples=100, tokens_per_sample=10, steps=1000)

FIELDS = [(name, field) for name, value in ONE_OF_EACH_CLASS.items() for field in value.ranks]

NO_NUMBERS = ["a", b"1", True, np.True_, 1j, [1.0], (1.0,), {}, {1.0}, object(), len, float]
NO_NUMBERS += [np.timedelta64(5, "s")]

NOT_FINITE = [math.nan, math.inf, -math.inf, np.float32("nan"), 10**400, -(10**400), 1e300]
NOT_FINITE += [np.zeros(0)]  # a population of none


def fields_of(rank):
    return [(name, field) for name, field in FIELDS if ONE_OF_EACH_CLASS[name].ranks[field] == rank]


def outside(settings):
    """Values next to the declared bounds, on the wrong side or, where open, on the bound."""
    past = dict(at_least=(-1, -1e-3), above=(0, -0.5), at_most=(1,), below=(0, 0.5))
    declared = {bound: settings[bound] for bound in past if settings[bound] is not None}
    return [value + beyond for bound, value in declared.items() for beyond in past[bound]]


@pytest.mark.parametrize(("name", "field"), fields_of(rank=0))
def test_every_number_of_every_class_is_checked(name, field):
    valid = ONE_OF_EACH_CLASS[name]
    settings = settings_of(valid, field)
    where = rf"^{name}\({field}=\.\.\.\) must "
    bad = [*NO_NUMBERS, *([] if settings["optional"] else [None])]
    for value in bad:
        message = refused(
            lambda v=value: dataclasses.replace(valid, **{field: v}), where, value, TypeError
        )
        assert "must be a number" in message
    for value in [*NOT_FINITE, *outside(settings)]:
        message = refused(
            lambda v=value: dataclasses.replace(valid, **{field: v}), where, value, ValueError
        )
        assert f"got {value!r}"[:60] in message
    # One bad member in a population is enough; it is checked member by member.
    for value in outside(settings):
        good = getattr(valid, field)
        population = np.asarray([1.0 if good is None else good, value], np.float32)
        refused(
            lambda p=population: dataclasses.replace(valid, **{field: p}),
            where,
            population,
            ValueError,
        )
    if settings["optional"]:
        assert getattr(dataclasses.replace(valid, **{field: None}), field) is None


@pytest.mark.parametrize(("name", "field"), fields_of(rank=1))
def test_every_array_of_every_class_is_checked(name, field):
    valid = ONE_OF_EACH_CLASS[name]
    settings = settings_of(valid, field)
    good = np.asarray(getattr(valid, field)).tolist()
    where = rf"^{name}\({field}=\.\.\.\) must "
    for value in [
        "abc",
        None,
        3.0,
        True,
        {},
        np.float32(1),
        len,
        [*good[:-1], "a"],
        [*good[:-1], None],
        [*good[:-1], True],
        [good, good],
        [np.array(good), np.array(good)],
        np.array([1, 2], "m8[s]"),
    ]:
        refused(lambda v=value: dataclasses.replace(valid, **{field: v}), where, value, TypeError)
    bad = [[*good[:-1], x] for x in (math.nan, math.inf, 10**400)]
    if settings["increasing"] and len(good) > 1:
        bad += [good[::-1], [*good[:-1], good[-2]]]
    if settings["at_least"] is not None:
        bad += [[settings["at_least"] - 1, *good[1:]]]
    for value in bad:
        refused(lambda v=value: dataclasses.replace(valid, **{field: v}), where, value, ValueError)


STRUCTURE = [
    (name, field.name)
    for name, value in ONE_OF_EACH_CLASS.items()
    for field in dataclasses.fields(value)
    if field.name in ("schedule", "shape", "parts")
]


@pytest.mark.parametrize(("name", "field"), STRUCTURE)
def test_every_inner_schedule_is_checked(name, field):
    valid = ONE_OF_EACH_CLASS[name]
    alone = [3, "a", None, lambda step: 0.1, js.Linear, object()]
    bad = alone if field != "parts" else [(), [], 3, None, *((js.Constant(1.0), x) for x in alone)]
    for value in bad:
        refused(
            lambda v=value: dataclasses.replace(valid, **{field: v}),
            rf"^{name}\({field}=\.\.\.\) must ",
            value,
        )


@pytest.mark.parametrize("name", ONE_OF_EACH_CLASS)
def test_arguments_that_do_not_exist_or_are_missing_name_the_class(name):
    cls = type(ONE_OF_EACH_CLASS[name])
    with pytest.raises(TypeError, match=name):
        cls(no_such_argument=1)
    if any(field.default is dataclasses.MISSING for field in dataclasses.fields(cls)):
        with pytest.raises(TypeError, match=name):
            cls()


@pytest.mark.parametrize("name", ONE_OF_EACH_CLASS)
def test_no_field_can_be_set_or_deleted(name):
    schedule = ONE_OF_EACH_CLASS[name]
    before = repr(schedule)
    for field in dataclasses.fields(schedule):
        with pytest.raises(AttributeError, match=field.name):
            setattr(schedule, field.name, 1)
        with pytest.raises(AttributeError, match=field.name):
            delattr(schedule, field.name)
    with pytest.raises(AttributeError, match="anything"):
        schedule.anything = 1
    assert repr(schedule) == before


# ----------------------------------------------------- what a transformation makes is never checked


@pytest.mark.parametrize("name", ALL)
def test_jax_may_rebuild_a_schedule_from_anything(name):
    """Axes, shardings, shapes, None, tracers and gradients: unflatten asks nothing."""
    schedule = ALL[name]
    spec = jax.sharding.PartitionSpec()
    for leaf in (object(), None, "a", -1.5, math.nan, spec, jax.ShapeDtypeStruct((), jnp.float32)):
        rebuilt = jax.tree.map(lambda _, x=leaf: x, schedule)
        assert type(rebuilt) is type(schedule)
        assert repr(rebuilt)
    assert jax.tree.map(lambda x: x, schedule) == schedule
    jax.eval_shape(lambda s: jax.tree.map(lambda x: x * -1, s), js.strong(schedule))


def test_a_schedule_of_axes_maps_and_a_schedule_of_shapes_is_evaluated():
    family = js.stack([js.Linear(peak, 0.0, 10) for peak in (1.0, 2.0)])
    shared = dataclasses.replace(family, end=0.0, steps=10)
    axes = jax.tree.map(lambda x: 0 if np.ndim(x) else None, shared)
    values = jax.vmap(lambda s: s(5), in_axes=(axes,))(shared)
    np.testing.assert_array_equal(values, [0.5, 1.0])
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype), family)
    assert jax.eval_shape(lambda s: s(5), shapes).shape == ()


def test_traced_numbers_are_not_checked():
    def build(x):
        schedules = (
            js.Linear(1.0, 0.0, x),
            js.Polynomial(1.0, 0.0, 10, x),
            js.warmup_cosine(1.0, 10.0, x),
            js.Window(js.Constant(1.0), 5.0, x),
            js.Clip(js.Constant(1.0), 0.5, x),
        )
        return [schedule(3) for schedule in schedules]

    assert all(np.isfinite(jax.jit(build)(jnp.float32(7.0))))
    jax.jit(build)(jnp.float32(-7.0))  # wrong, and no error


# -------------------------------------------------------------------------------------------- files


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: js.warmup_cosine(1.0, 100, 101), r"warmup=.*at most steps=100, got 101"),
        (lambda: js.warmup_linear(1.0, 100, 101), r"warmup=.*at most steps=100, got 101"),
        (lambda: js.wsd(1.0, 100, 60, 50), r"must fit into steps=100, got 60 \+ 50"),
        (lambda: js.wsd_s(1.0, 100, 0, 101), r"decay=.*at most steps=100, got 101"),
    ],
)
def test_lengths_that_do_not_fit_raise_with_the_arithmetic(call, words):
    with pytest.raises(ValueError, match=words):
        call()


def test_a_boundary_that_no_step_reaches_is_refused():
    for make in (
        lambda n: js.PiecewiseLinear([0, n], [1.0, 0.0]),
        lambda n: js.PiecewiseConstant(np.asarray([n]), [1.0, 0.0]),
    ):
        with pytest.raises(ValueError, match=r"less than 2\*\*64"):
            make(2**64)
