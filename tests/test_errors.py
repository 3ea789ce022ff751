"""A wrong number is an error that names class, argument, expectation and value; a file is data.

The cases are generated: every field of every class with the bounds it declares, every argument of
every recipe. Relations between arguments are tables below.
"""

from __future__ import annotations

import ast
import collections
import copy
import dataclasses
import inspect
import json
import math
import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from cases import ALL, ARGUMENTS, CLASSES, RECIPE, VALID, kind_of

import jaxsched as js
from jaxsched import _serialize
from jaxsched.optim import decay_weights, group_lr

# ------------------------------------------------------------------------------ every field

ONE_OF_EACH_CLASS: dict[str, Any] = {
    type(schedule).__name__: schedule for schedule in CLASSES.values()
}
ONE_OF_EACH_CLASS["Units"] = js.Units(batch=32, samples=100, tokens_per_sample=10, steps=1000)
FIELDS = [(name, field) for name, value in ONE_OF_EACH_CLASS.items() for field in value.ranks]
NO_NUMBERS = ["a", b"1", True, np.True_, 1j, [1.0], (1.0,), {}, {1.0}, object(), len, float]
NOT_FINITE = [math.nan, math.inf, -math.inf, np.float32("nan"), 10**400, -(10**400), 1e300]


def settings_of(value, field):
    """What the class has declared for one of its numbers; None where it says nothing."""
    return collections.defaultdict(lambda: None, value._checks[field].keywords)


def fields_of(rank):
    return [(name, field) for name, field in FIELDS if ONE_OF_EACH_CLASS[name].ranks[field] == rank]


def outside(settings):
    """Values next to the declared bounds, on the wrong side or, where open, on the bound."""
    past = dict(at_least=(-1, -1e-3), above=(0, -0.5), at_most=(1,), below=(0, 0.5))
    declared = {bound: settings[bound] for bound in past if settings[bound] is not None}
    return [value + beyond for bound, value in declared.items() for beyond in past[bound]]


def refused(call, where, value, errors=(ValueError, TypeError)):
    """The error of ``call``: it says where, what was expected and what was given."""
    with pytest.raises(errors) as caught:
        call()
    message = str(caught.value)
    assert re.search(where, message), message
    assert "must" in message, message
    assert repr(value)[:40] in message or "got" in message, message
    return message


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


# ----------------------------------------------------------------------------- every recipe

BAD_ARGUMENTS = ["a", True, 1.0, None, [1.0], {}, math.nan, math.inf, -math.inf, 10**400, -1.0]
LISTS = {"Factors", "Milestones", "Numbers"}
LENGTHS = {"Length", "Apart", "Period", "Steps", "Cycle"}


def test_every_recipe_has_valid_arguments():
    assert VALID.keys() == RECIPE.keys() and len(RECIPE) > 30
    for name, given in VALID.items():
        assert isinstance(RECIPE[name](**given), js.AbstractSchedule)


@pytest.mark.parametrize(("name", "argument"), ARGUMENTS)
def test_every_argument_of_every_recipe_is_checked_in_the_recipes_name(name, argument):
    kind, optional = kind_of(name, argument)
    fine = [] if kind in {"Base", "Flag", "Shape", "Milestones", "Numbers"} else [1.0]
    fine += [None] if optional else []
    fine += [True] if kind == "Flag" else []
    fine += [[1.0]] if kind in LISTS else []
    fine += [-1.0] if kind == "Number" else []
    for value in BAD_ARGUMENTS:
        if any(value is x or (type(value) is type(x) and value == x) for x in fine):
            continue
        refused(
            lambda v=value: RECIPE[name](**{**VALID[name], argument: v}),
            rf"^{name}\(.*\b{argument}=\.\.\.\) must ",
            value,
        )


@pytest.mark.parametrize(
    ("name", "argument"), [case for case in ARGUMENTS if kind_of(*case)[0] in LENGTHS]
)
def test_a_length_between_0_and_1_is_refused_with_the_repair(name, argument):
    kind, _ = kind_of(name, argument)
    for value in (0.1, np.float32(0.999), np.asarray([0.5, 2.0]), jnp.float32(1e-3)):
        message = refused(
            lambda v=value: RECIPE[name](**{**VALID[name], argument: v}),
            rf"^{name}\({argument}=\.\.\.\) must be a number of steps",
            value,
            ValueError,
        )
        assert ("the whole length" if kind in ("Steps", "Cycle") else "js.share(") in message


@pytest.mark.parametrize("name", RECIPE)
def test_an_unknown_argument_of_a_recipe_lists_its_own(name):
    ours = ", ".join(inspect.signature(RECIPE[name]).parameters)
    with pytest.raises(
        TypeError, match=rf"^{name} has no argument zz\. .*{re.escape(f'({ours})')}"
    ):
        RECIPE[name](zz=1)
    with pytest.raises(TypeError, match=rf"^{name} must be given "):
        RECIPE[name]()
    with pytest.raises(TypeError, match=rf"^{name} takes \("):
        RECIPE[name](*range(30))


RELATIONS = {
    "warmup beyond the run": (lambda: js.warmup_cosine(1.0, 10, 11), "warmup_cosine(warmup=...)"),
    "warmup beyond, linear": (lambda: js.warmup_linear(1.0, 10, 11), "warmup_linear(warmup=...)"),
    "warmup beyond, array": (
        lambda: js.warmup_cosine(1.0, jnp.asarray(10), jnp.asarray(11)),
        "warmup_cosine(warmup=...)",
    ),
    "wsd that does not fit": (lambda: js.wsd(1.0, 10, 6, 5), "wsd(warmup=..., decay=...)"),
    "cycle shorter than its decay": (lambda: js.wsd_s(1.0, 10, 0, 11), "wsd_s(decay=...)"),
    "unknown shape": (lambda: js.wsd(1.0, 10, 1, 1, shape="sin"), "wsd(shape=...)"),
    "unknown shape in infinite": (
        lambda: js.infinite(1.0, 1, 1, 0.1, shape="sin"),
        "infinite(shape=...)",
    ),
    "shape that is no name": (lambda: js.wsd(1.0, 10, 1, 1, shape=3), "wsd(shape=...)"),
    "shape of two arguments": (
        lambda: js.wsd(1.0, 10, 1, 1, shape=lambda start, end: js.Constant(start)),  # type: ignore[misc]
        "wsd(shape=...)",
    ),
    "hold at zero": (lambda: js.tri_stage(0, 1, 1, 1), "tri_stage(peak=...)"),
    "samples of a share": (lambda: js.sample(js.share(0.1), 3), "sample(schedule=...)"),
    "coverage of a controller": (
        lambda: js.coverage(js.Plateau(js.cosine_decay(0.1, 10)), 3),
        "coverage(schedule=...)",
    ),
    "geometric to zero": (lambda: js.wsd(1.0, 10, 1, 5, shape="geometric"), "wsd(end=...)"),
    "no warmup, no timescale": (lambda: js.inverse_sqrt(1.0, 0), "inverse_sqrt(warmup=...)"),
    "more than half, three phases": (
        lambda: js.one_cycle(1.0, 10, warmup=6, three_phase=True),
        "one_cycle(warmup=...)",
    ),
    "flat beyond": (lambda: js.flat_cosine(1.0, 10, flat=11), "flat_cosine(flat=...)"),
    "factor 0": (lambda: js.step_decay(1.0, 0, 10), "step_decay(factor=...)"),
    "factor negative": (lambda: js.exponential_decay(1.0, -0.5), "exponential_decay(factor=...)"),
    "period 0": (lambda: js.step_decay(1.0, 0.5, 0), "step_decay(every=...)"),
    "power 0": (lambda: js.Polynomial(1.0, 0.0, 10, 0), "Polynomial(power=...)"),
    "exponent 0": (lambda: js.Cosine(1.0, 0.0, 10, 0.0), "Cosine(exponent=...)"),
    "negative length": (lambda: js.Linear(0.0, 1.0, -1), "Linear(steps=...)"),
    "window backwards": (lambda: js.Window(js.Constant(1.0), 10, 9), "Window(stop=...)"),
    "clip backwards": (lambda: js.Clip(js.Constant(1.0), 1.0, 0.5), "Clip(high=...)"),
    "clip without bounds": (lambda: js.Clip(js.Constant(1.0)), "Clip(low=..., high=...)"),
    "open-ended in the middle": (
        lambda: js.Constant(1.0) >> js.Constant(0.5),
        "Sequence(parts=...)",
    ),
    "open-ended law in the middle": (
        lambda: js.InverseSqrt(1.0, 10) >> js.Constant(0.5, 10),
        "Sequence(parts=...)",
    ),
    "repeat for ever": (lambda: js.Repeat(js.Constant(1.0)), "Repeat(schedule=...)"),
    "repeat of nothing": (lambda: js.Repeat(js.Constant(1.0, 0)), "Repeat(schedule=...)"),
    "repeat of a repeat": (
        lambda: js.Repeat(js.Repeat(js.Constant(1.0, 5))),
        "Repeat(schedule=...)",
    ),
    "a warmup longer than its cycle": (
        lambda: js.Repeat(js.Constant(1.0, 5), growth=1.001, warmup=6),
        "Repeat(warmup=...)",
    ),
    "shrinking cycles for ever": (
        lambda: js.Repeat(js.Constant(1.0, 5), growth=0.5),
        "Repeat(growth=...)",
    ),
    "half a cycle": (lambda: js.Repeat(js.Constant(1.0, 5), cycles=2.5), "Repeat(cycles=...)"),
    "reverse of a law": (lambda: js.Reverse(js.InverseSqrt(1.0, 10)), "Reverse(schedule=...)"),
    "unsorted boundaries": (
        lambda: js.PiecewiseConstant([5, 3], [1, 2, 3]),
        "PiecewiseConstant(boundaries=...)",
    ),
    "equal boundaries": (
        lambda: js.PiecewiseConstant([5, 5], [1, 2, 3]),
        "PiecewiseConstant(boundaries=...)",
    ),
    "negative boundary": (
        lambda: js.PiecewiseConstant([-5], [1, 2]),
        "PiecewiseConstant(boundaries=...)",
    ),
    "a value too few": (lambda: js.PiecewiseConstant([5], [1]), "PiecewiseConstant(values=...)"),
    "a value too many": (lambda: js.PiecewiseLinear([5], [1, 2]), "PiecewiseLinear(values=...)"),
    "one knot of a cubic": (lambda: js.MonotoneCubic([5], [1]), "MonotoneCubic(steps=...)"),
    "empty table": (lambda: js.Table([]), "Table(values=...)"),
    "unsorted milestones": (
        lambda: js.multi_step(1.0, 0.5, [9, 3]),
        "multi_step(milestones=...)",
    ),
    "number times a word": (lambda: js.Constant(1.0) >> "a", "Constant(value=...)"),
    "a boolean factor": (lambda: True * js.Linear(0.0, 1.0, 5), "Constant(value=...)"),
    "a factor that is nan": (lambda: js.Linear(0.0, 1.0, 5) * math.nan, "Constant(value=...)"),
    "no schedules to stack": (lambda: js.stack([]), "stack(schedules=...)"),
    "kinds that do not stack": (
        lambda: js.stack([js.Constant(1.0), js.Linear(0.0, 1.0, 5)]),
        "stack(schedules=...)",
    ),
    "tables that do not stack": (
        lambda: js.stack([js.Table([1.0]), js.Table([1.0, 2.0])]),
        "stack(schedules=...)",
    ),
    "numbers that are no schedules": (lambda: js.stack([0.1, 0.2]), "stack(schedules=...)"),
    "samples: none": (lambda: js.sample(js.Constant(1.0), 0), "sample(n=...)"),
    "samples: a fraction": (lambda: js.sample(js.Constant(1.0), 2.5), "sample(n=...)"),
    "coverage of less than nothing": (
        lambda: js.coverage(js.Constant(1.0), -1),
        "coverage(steps=...)",
    ),
    "a function that is none": (lambda: js.from_fn(3), "from_fn(fn=...)"),
    "a function of a pair": (lambda: js.from_fn(lambda s: (s, s)), "from_fn(fn=...)"),
    "a function of a vector": (lambda: js.from_fn(lambda s: jnp.ones(3)), "from_fn(fn=...)"),
    "a function's parameter": (lambda: js.from_fn(lambda s, p: p, p="a"), "from_fn(p=...)"),
    "a function's length": (lambda: js.from_fn(lambda s: 1.0, steps=-1), "from_fn(steps=...)"),
    "a class of functions of none": (lambda: js.Function(3, {}), "Function(fn=...)"),
    "parameters without names": (lambda: js.Function(math.sin, 3), "Function(parameters=...)"),
    "parameters that are None": (lambda: js.Function(math.sin, None), "Function(parameters=...)"),
    "names that are numbers": (lambda: js.Function(math.sin, {1: 2}), "Function(parameters=...)"),
    "a parameter that is a text": (
        lambda: js.Function(math.sin, {"x": "a"}),
        "Function(parameters={'x': ...})",
    ),
    "a parameter that is an array": (
        lambda: js.Function(math.sin, {"x": [1.0, 2.0]}),
        "Function(parameters={'x': ...})",
    ),
    "epochs without a data set": (lambda: js.Units(batch=3).epochs(1), "Units(samples=...)"),
    "a batch above the data set": (
        lambda: js.Units(batch=3, samples=2).epochs(1),
        "Units(batch=...)",
    ),
    "a batch and a half": (lambda: js.Units(batch=2.5), "Units(batch=...)"),
    "a fraction above 1": (
        lambda: js.Units(batch=3, steps=10).fraction(1.5),
        "Units.fraction(share=...)",
    ),
    "epochs that are nan": (
        lambda: js.Units(batch=3, samples=10).epochs(math.nan),
        "Units.epochs(count=...)",
    ),
    "division by zero": (lambda: js.Constant(1.0) / 0, "zero"),
    "power of an array": (lambda: js.Constant(1.0) ** np.arange(2), "single numbers"),
    "a population as a rate": (
        lambda: js.stack([js.Constant(1.0), js.Constant(2.0)])(0),
        "jax.vmap",
    ),
    "phases of a population": (
        lambda: js.boundaries(js.stack([js.wsd(1.0, 9, 1, 2)] * 2)),
        "population",
    ),
    "three factors for two milestones": (
        lambda: js.multi_step(1.0, [0.5, 0.5, 0.5], [1, 2]),
        "multi_step(factor=...)",
    ),
    "an expression that is none": (
        lambda: group_lr(optax.sgd, {"(": 1.0}),
        "group_lr(groups=...)",
    ),
    "an expression that is no text": (
        lambda: group_lr(optax.sgd, {1: 1.0}),
        "group_lr(groups=...)",
    ),
    "groups that are no mapping": (
        lambda: group_lr(optax.sgd, [1]),
        "group_lr(groups=...)",
    ),
    "a decay that is nan": (
        lambda: decay_weights(math.nan),
        "decay_weights(weight_decay=...)",
    ),
    "a decay that is a word": (
        lambda: decay_weights("0.1"),
        "decay_weights(weight_decay=...)",
    ),
    "a number before a sequence": (lambda: 1.0 >> js.Linear(1.0, 0.0, 5), "open-ended Constant"),
    "a word before a sequence": (lambda: "a" >> js.Linear(1.0, 0.0, 5), "Constant(value=...)"),
    "a word for a yes or no": (lambda: js.Units(4, drop_last="no"), "Units(drop_last=...)"),
    "an integer for a yes or no": (lambda: js.Units(4, drop_last=1), "Units(drop_last=...)"),
}


@pytest.mark.parametrize(
    "case",
    RELATIONS,
)
def test_what_cannot_be_meant_is_refused_by_name(case):
    call, where = RELATIONS[case]
    with pytest.raises((ValueError, TypeError), match=re.escape(where)):
        call()


@pytest.mark.parametrize("name", ["fn", "step"])
def test_a_functions_construction_is_checked_like_any_other(name):
    """`js.Function` is public: made directly it must check too."""
    with pytest.raises((TypeError, ValueError), match=r"Function|from_fn"):
        js.Function(fn=abs, parameters={"a": "x"} if name == "fn" else {}, steps=-3)


# ------------------------------------------------- what a transformation makes is never checked


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


# ------------------------------------------------------------------------------------ files

HEAD = '{"jaxsched": 1, "type": '
LINEAR = HEAD + '"Linear", "start": 1.0, "end": 0.0, "steps": '
INNER = '{"type": "Constant", "value": 1.0}'
HOSTILE = {
    "nothing": "",
    "no JSON": "{",
    "two documents": LINEAR + "5} {}",
    "a list": "[]",
    "a number": "1",
    "null": "null",
    "a string": '"Linear"',
    "an empty object": "{}",
    "no version": '{"type": "Constant", "value": 1}',
    "a version from the future": '{"jaxsched": 2, "type": "Constant", "value": 1}',
    "a version as a word": '{"jaxsched": "1", "type": "Constant", "value": 1}',
    "a version as a bool": '{"jaxsched": true, "type": "Constant", "value": 1}',
    "a version as a list": '{"jaxsched": [1], "type": "Constant", "value": 1}',
    "no type": '{"jaxsched": 1, "value": 1}',
    "an unknown type": HEAD + '"Exotic"}',
    "a type in another case": HEAD + '"constant", "value": 1}',
    "an abstract type": HEAD + '"AbstractSchedule"}',
    "a private type": HEAD + '"_Wrapper", "schedule": ' + INNER + "}",
    "a recipe as type": HEAD + '"warmup_cosine", "peak": 1}',
    "code as type": HEAD + '"Function", "fn": "os.system", "parameters": {}}',
    "a module as type": HEAD + '"os.system"}',
    "a dunder as type": HEAD + '"__class__"}',
    "an import as type": HEAD + "\"__import__('os').system('false')\"}",
    "a null type": HEAD + "null}",
    "a number as type": HEAD + "1}",
    "a list as type": HEAD + '["Constant"], "value": 1}',
    "an object as type": HEAD + '{"type": "Constant"}, "value": 1}',
    "a missing field": HEAD + '"Linear", "start": 1.0, "end": 0.0}',
    "an extra field": HEAD + '"Constant", "value": 1, "extra": 2}',
    "a dunder field": HEAD + '"Constant", "value": 1, "__class__": "os.system"}',
    "a reduce field": HEAD + '"Constant", "value": 1, "__reduce__": ["os.system", ["false"]]}',
    "self as field": HEAD + '"Constant", "value": 1, "self": 2}',
    "a repeated key": HEAD + '"Constant", "value": 1, "value": 2}',
    "a repeated key inside": HEAD
    + '"Shift", "steps": 1, "schedule": {"type": "Constant", "value": '
    '1, "value": 2}}',
    "a version inside": HEAD
    + '"Shift", "steps": 1, "schedule": {"jaxsched": 1, "type": "Constant",'
    ' "value": 1}}',
    "NaN": LINEAR + "NaN}",
    "Infinity": LINEAR + "Infinity}",
    "minus Infinity": LINEAR + "-Infinity}",
    "a float that overflows": LINEAR + "1e999}",
    "a float beyond float32": HEAD + '"Constant", "value": 1e300}',
    "NaN in a list": HEAD + '"Table", "values": [1, NaN]}',
    "an overflow in a list": HEAD + '"Table", "values": [1, 1e999]}',
    "an integer of 400 digits": LINEAR + "1" + "0" * 400 + "}",
    "an integer of 5000 digits": LINEAR + "1" + "0" * 5000 + "}",
    "a negative length": LINEAR + "-1}",
    "a number in quotes": LINEAR + '"5"}',
    "true for a number": LINEAR + "true}",
    "null for a number": LINEAR + "null}",
    "a list of words for a number": LINEAR + '["5"]}',
    "a list of lists of words for a number": LINEAR + '[[["5"]]]}',
    "an empty list for a number": LINEAR + "[]}",
    "true in a list for a number": LINEAR + "[true]}",
    "null in a list for a number": LINEAR + "[null]}",
    "a ragged list for a number": LINEAR + "[[1], [1, 2]]}",
    "a negative length beyond int32": LINEAR + "[-4294967291]}",
    "words as float64": HEAD + '"Table", "values": {"float64": ["a"]}}',
    "no list as float64": HEAD + '"Table", "values": {"float64": 1}}',
    "null as float64": LINEAR + '{"float64": [null]}}',
    "ten thousand words for a number": LINEAR + "[" + '"w", ' * 9999 + '"w"]}',
    "ten thousand words for a list": HEAD + '"Table", "values": [' + '"w", ' * 9999 + '"w"]}',
    "a long repeated key": HEAD + '"Constant", "value": 1, "value": "' + "x" * 100_000 + '"}',
    "a long type": HEAD + '"' + "x" * 100_000 + '"}',
    "a long field": HEAD + '"Constant", "value": 1, "' + "x" * 100_000 + '": 1}',
    "a long version": '{"jaxsched": "' + "x" * 100_000 + '"}',
    "an object for a number": LINEAR + "{}}",
    "a schedule for a number": LINEAR + INNER + "}",
    "a number for a list": HEAD + '"Table", "values": 1}',
    "a string for a list": HEAD + '"Table", "values": "123"}',
    "an object for a list": HEAD + '"Table", "values": {}}',
    "an empty list": HEAD + '"Table", "values": []}',
    "null in a list": HEAD + '"Table", "values": [1, null]}',
    "words in a list": HEAD + '"Table", "values": ["a"]}',
    "true in a list": HEAD + '"Table", "values": [true]}',
    "an object in a list": HEAD + '"Table", "values": [1, {}]}',
    "a ragged list": HEAD + '"Table", "values": [[1], [1, 2]]}',
    "a schedule for a list": HEAD + '"Table", "values": [' + INNER + "]}",
    "a number for a schedule": HEAD + '"Shift", "steps": 1, "schedule": 1}',
    "a string for a schedule": HEAD + '"Shift", "steps": 1, "schedule": "Constant"}',
    "a list for a schedule": HEAD + '"Shift", "steps": 1, "schedule": [' + INNER + "]}",
    "a wrong shape": HEAD + '"Warp", "power": 1, "shape": ' + INNER + "}",
    "a number for the parts": HEAD + '"Sequence", "parts": 1}',
    "an object for the parts": HEAD + '"Sequence", "parts": ' + INNER + "}",
    "a string for the parts": HEAD + '"Sequence", "parts": "ab"}',
    "no parts": HEAD + '"Sequence", "parts": []}',
    "numbers for the parts": HEAD + '"Sequence", "parts": [1, 2]}',
    "a number among the parts": HEAD + '"Sequence", "parts": [' + INNER + ", 1]}",
    "a number before the parts": HEAD + '"Sequence", "parts": [1, ' + INNER + "]}",
    "an open-ended part": HEAD + '"Sequence", "parts": [' + INNER + ", " + INNER + "]}",
    "a bomb of lists": HEAD + '"Table", "values": ' + "[" * 100_000 + "]" * 100_000 + "}",
    "a bomb of objects": '{"a": ' * 100_000 + "1" + "}" * 100_000,
    "a bomb of schedules": HEAD
    + '"Shift", "steps": 1, "schedule": '
    + '{"type": "Shift", "steps": 1, "schedule": ' * 300
    + INNER
    + "}" * 301,
    "bytes that are no text": b"\xff\xfe{",
    "a byte order mark": "\ufeff" + LINEAR + "5}",
    "a zero byte": "\x00",
    "a lone surrogate": HEAD + '"\\ud800"}',
}


@pytest.mark.parametrize(
    "case",
    HOSTILE,
)
def test_a_hostile_file_is_a_value_error_and_nothing_else(case):
    """With a message of bearable length: a file of a megabyte is not repeated."""
    with pytest.raises(ValueError, match=r".") as caught:
        js.from_json(HOSTILE[case])
    assert len(str(caught.value)) < 2000


@pytest.mark.parametrize("case", ["a long repeated key", "a long type", "a long version"])
def test_what_was_read_is_cut_in_the_message(case):
    with pytest.raises(ValueError, match=r"got .{60}(\.$|;)"):
        js.from_json(HOSTILE[case])


def test_a_population_of_long_lengths_is_read_as_it_was_written():
    family = js.from_json(LINEAR + '{"float64": [4294967301, 4294967302]}}')
    assert family.steps.tolist() == [4294967301, 4294967302]
    assert js.from_json(js.to_json(family)) == family


HOSTILE_DICTS = {
    "no dict": [("jaxsched", 1)],
    "a class as type": {"jaxsched": 1, "type": js.Constant, "value": 1.0},
    "a function as type": {"jaxsched": 1, "type": eval, "value": "1"},
    "an object as value": {"jaxsched": 1, "type": "Constant", "value": object()},
    "a set as value": {"jaxsched": 1, "type": "Constant", "value": {1}},
    "nan": {"jaxsched": 1, "type": "Constant", "value": math.nan},
    "nan in an array": {"jaxsched": 1, "type": "Table", "values": np.asarray([math.nan])},
    "a key that is no word": {"jaxsched": 1, "type": "Constant", "value": 1.0, 3: 4},
}


@pytest.mark.parametrize(
    "case",
    HOSTILE_DICTS,
)
def test_a_hostile_dict_is_a_value_error(case):
    with pytest.raises(ValueError, match=r"."):
        js.from_dict(HOSTILE_DICTS[case])


def test_a_dict_that_holds_itself_is_a_value_error():
    data = {"jaxsched": 1, "type": "Shift", "steps": 1}
    data["schedule"] = inner = {"type": "Shift", "steps": 1}
    inner["schedule"] = inner
    with pytest.raises(ValueError, match="nested"):
        js.from_dict(data)


def test_reading_changes_nothing_that_was_given():
    data = js.to_dict(js.warmup_cosine(0.1, 10, 2))
    before = copy.deepcopy(data)
    js.from_dict(data)
    assert data == before


@pytest.mark.parametrize("name", [name for name in CLASSES if not name.startswith("Function")])
def test_any_one_field_that_is_spoilt_is_found(name):
    """Each value of a good file in turn replaced by null, a word, a list, an object, NaN."""
    valid = CLASSES[name]
    good = js.to_dict(valid)
    for key in good:
        for spoilt in (None, "a", [["a"]], {}, {"type": "os"}, math.nan, True):
            if spoilt is None and key in valid.ranks and settings_of(valid, key)["optional"]:
                continue
            with pytest.raises(ValueError, match=r"."):
                js.from_json(json.dumps({**good, key: spoilt}))


RUNS_CODE = {"eval", "exec", "compile", "__import__", "import_module", "globals", "system"}
RUNNERS = {"pickle", "importlib", "marshal", "shelve", "os", "subprocess", "yaml", "runpy"}


def test_nothing_on_the_way_from_a_file_can_execute():
    """The reader names no way to run code, and the types that a file can name are a closed list."""
    nodes = list(ast.walk(ast.parse(inspect.getsource(_serialize))))
    names = {node.id for node in nodes if isinstance(node, ast.Name)}
    names |= {node.attr for node in nodes if isinstance(node, ast.Attribute)}
    imports = {a.name for node in nodes if isinstance(node, ast.Import) for a in node.names}
    assert not names & RUNS_CODE
    assert not imports & RUNNERS
    readable = set()
    for name in {*dir(js), *dir(__builtins__), "os", "os.system", "Record", "_Wrapper"}:
        try:
            js.from_dict({"jaxsched": 1, "type": name})
        except ValueError as error:
            if "type=..." not in str(error):
                readable.add(name)
        else:
            readable.add(name)
    kinds = (js.AbstractSchedule, js.AbstractController)
    assert readable >= {"Linear", "Sequence", "Repeat", "Table"}
    assert all(issubclass(getattr(js, name), kinds) for name in readable - {"share"})
    assert not readable & {"Function", "AbstractSchedule", "AbstractController"}


@pytest.mark.parametrize("value", [3, None, "x" * 1000, {"type": "Constant"}])
def test_only_schedules_are_written(value):
    with pytest.raises(TypeError, match=r"^to_dict\(schedule=\.\.\.\) must be a schedule.{,99}$"):
        js.to_dict(value)


def test_code_is_not_written_as_data():
    with pytest.raises(TypeError, match=r"to_dict\(schedule=\.\.\.\).*function"):
        js.to_json(js.from_fn(lambda step: 0.1) * js.Constant(1.0))
    with pytest.raises(TypeError, match=r"to_dict\(schedule=\.\.\.\) must"):
        jax.eval_shape(lambda s: (js.to_dict(s), s(0))[1], js.Constant(1.0))


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
