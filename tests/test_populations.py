"""Populations: schedules whose numbers are arrays, one entry for each member."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from cases import ARGUMENTS, RECIPE, VALID, kind_of

import jaxsched as js

PEAKS = np.float32([0.1, 0.2])
POP = jax.vmap(lambda peak: js.cosine_decay(peak, 10))(PEAKS)
LINE = js.Linear(0.0, 1.0, 10)
COMPOSED = {
    "factor": (lambda one: 2 * one, 1),
    "then": (lambda one: one >> js.Constant(0.0, 5), 1),
    "after": (lambda one: LINE >> one, 1),
    "itself": (lambda one: one + one, 1),
    "schedule": (lambda one: one * LINE - 1, 1),
    "least": (lambda one: js.minimum(one, 0.15), 1),
    "negative": (lambda one: -one / 2, 1),
    "clip": (lambda one: js.Clip(one, low=0.05), 1),
    "cycles": (lambda one: js.Repeat(one, 2.0, 0.5), 1),
    "window": (lambda one: js.Stretch(js.Window(js.Shift(one, 1), 1, 8), 2.0), 1),
    "table": (lambda one: js.Table([1.0, 2.0, 4.0]) * one, 1),
    "function": (lambda one: one * js.from_fn(lambda step, slope: slope * step, slope=2.0), 0),
}


@pytest.mark.parametrize("case", COMPOSED)
def test_what_is_composed_of_a_population_is_one(case, in_numpy):
    """Its members are what is composed of each member."""
    compose, is_data = COMPOSED[case]
    population, steps = compose(POP), np.arange(25, dtype=np.int32)
    want = np.stack([compose(one)(steps) for one in js.unstack(POP)])
    np.testing.assert_array_equal(js.sample(population, 25), want)
    mapped = jax.jit(jax.vmap(lambda s: s(steps)))(population)
    np.testing.assert_allclose(mapped, want, rtol=1e-6)
    assert js.members(population) == 2
    if is_data:
        assert eval(repr(population), vars(js)) == population
        assert js.from_json(js.to_json(population)) == population


def test_one_array_makes_a_population():
    for population in (
        js.cosine_decay(PEAKS, 10),
        js.cosine_decay(jnp.asarray(PEAKS), 10),
        js.Constant(PEAKS) * js.cosine_decay(1.0, 10),
        jax.jit(lambda peaks: js.cosine_decay(peaks, 10))(PEAKS),
    ):
        np.testing.assert_allclose(jax.vmap(lambda s: s(0))(population), PEAKS)
        assert all(np.shape(leaf) == (2,) for leaf in jax.tree.leaves(population))


def test_a_population_of_unknown_numbers_is_not_taken_apart():
    family = js.stack([js.Constant(1.0), js.Constant(2.0)])
    shapes = jax.eval_shape(lambda: family)
    assert js.members(shapes) == 2
    for take_apart in (lambda: js.unstack(shapes), lambda: jax.jit(js.unstack)(family)):
        with pytest.raises(TypeError, match=r"must have known numbers, got Constant\(value="):
            take_apart()


def test_populations_of_two_sizes_do_not_go_together():
    with pytest.raises(ValueError, match=r"Sum.* populations of one size, .* \(2,\) and \(3,\)"):
        POP + js.Constant(np.ones(3))


@pytest.mark.parametrize(
    "array",
    [
        np.float32([-0.0, 0.1]),
        np.int32([10, 20]),
        jnp.asarray([0.1, 0.2], jnp.bfloat16),
        np.float32([[1.0, 2.0], [3.0, 4.0]]),
        np.uint32([10, 2**31 + 5]),
    ],
    ids=lambda array: array.dtype.name,
)
def test_the_repr_of_a_population_is_read_back(array):
    for population in (js.Linear(0.5, 0.1, abs(array)), js.Constant(array) * js.Table([1.0, 2.0])):
        again = eval(repr(population), vars(js))
        assert again == population and hash(again) == hash(population)


def test_the_repr_of_float64_numbers_is_read_back():
    with jax.enable_x64(True):
        pair = js.stack([js.Constant(jnp.float64(value)) for value in (0.1, 0.2)])
        for schedule in (pair, js.Constant(jnp.float64(0.1)), js.Table(np.array([0.1, 0.2]))):
            assert eval(repr(schedule), vars(js)) == schedule


def test_the_duration_of_a_population_is_an_array():
    scaled = js.stack([0.5 * js.Linear(1.0, 0.1, n) for n in (10, 20)])
    longest = js.stack([js.minimum(js.Linear(1.0, 0.1, n), 0.5) >> LINE for n in (10, 20)])
    assert scaled.duration.tolist() == [10, 20] and longest.duration.tolist() == [20, 30]


ARRAY = np.ones(3, np.float32)
NO_COMPOSITION = {
    "array * s": lambda s: ARRAY * s,
    "s * array": lambda s: s * ARRAY,
    "jax array * s": lambda s: jnp.asarray(ARRAY) * s,
    "s + jax array": lambda s: s + jnp.asarray(ARRAY),
    "array - s": lambda s: ARRAY - s,
    "s / array": lambda s: s / ARRAY,
    "array / s": lambda s: jnp.asarray(ARRAY) / s,
    "s >> array": lambda s: s >> ARRAY,
    "minimum": lambda s: js.minimum(s, ARRAY),
    "traced * s": lambda s: jax.eval_shape(lambda x: x * s, ARRAY),
    "s * traced": lambda s: jax.eval_shape(lambda x: s * x, ARRAY),
    "optax.scale": lambda s: jax.eval_shape(
        optax.scale(-s).update, {"w": ARRAY}, optax.EmptyState()
    ),
    "optax.sm3": lambda s: optax.sm3(s).update({"w": ARRAY}, optax.sm3(s).init({"w": ARRAY})),
}


@pytest.mark.parametrize("case", NO_COMPOSITION)
def test_a_schedule_and_an_array_are_no_schedule(case):
    """It would be handed on as if it were updates."""
    with pytest.raises(TypeError, match="call the schedule with a step"):
        NO_COMPOSITION[case](LINE)


def test_a_list_of_schedules_is_as_good_as_a_tuple():
    assert js.Sequence([LINE, LINE]) == LINE >> LINE
    assert js.Sum([LINE, LINE]) == LINE + LINE


NO_ARRAYS = {"Shape", "Flag", "Base", "Factors", "Numbers", "Milestones"}
RISING = {"Growth", "Divisor"}
NUMBERS = [
    (name, argument)
    for name, argument in ARGUMENTS
    if kind_of(name, argument)[0] not in NO_ARRAYS and VALID[name].get(argument) is not None
]


@pytest.mark.parametrize(("name", "argument"), NUMBERS)
def test_an_array_in_any_argument_of_any_recipe_makes_a_population(name, argument):
    """Its members are what the recipe makes of each entry."""
    make = lambda value: RECIPE[name](**{**VALID[name], argument: value})
    one = VALID[name][argument]
    kind = np.int32 if isinstance(one, int) else np.float32
    pair = np.asarray([one, 2 * one if kind_of(name, argument)[0] in RISING else 0.9 * one], kind)
    members = js.unstack(make(pair))
    assert len(members) == 2
    for member, value in zip(members, pair, strict=True):
        steps = np.asarray([0, 7, 100, 555, 999, 1500])
        np.testing.assert_allclose(member(steps), make(value)(steps), rtol=2e-6, atol=1e-9)


@pytest.mark.parametrize(
    "compose",
    [
        lambda one: js.with_warmup(one, 5),
        lambda one: js.cooldown_from(one, 5, 5),
        lambda one: js.cooldown_from(one, js.share(0.5), 5, end=0.01, shape="cosine"),
    ],
)
def test_recipes_around_a_population(compose):
    want = np.stack([js.sample(compose(one), 20) for one in js.unstack(POP)])
    np.testing.assert_allclose(js.sample(compose(POP), 20), want, rtol=2e-6, atol=1e-9)
    with pytest.raises(ValueError, match=r"cooldown_from\(end=...\) must be at most .*, got 0.15"):
        js.cooldown_from(POP, 5, 5, end=0.15)


def test_piecewise_recipes_take_populations():
    drops = js.multi_step(PEAKS, 0.5, [10, 20])
    np.testing.assert_allclose(js.sample(drops, 21)[:, [0, 10, 20]], PEAKS[:, None] / [1, 2, 4])
    moved = js.multi_step(1.0, 0.5, np.asarray([[10, 20], [12, 24]]))
    np.testing.assert_array_equal(
        js.sample(moved, 13)[:, [9, 10, 12]], [[1, 0.5, 0.5], [1, 1, 0.5]]
    )
    values = js.piecewise_constant([10], np.float32([[1.0, 0.5], [2.0, 0.5]]))
    np.testing.assert_array_equal(js.sample(values, 11)[:, [0, 10]], [[1.0, 0.5], [2.0, 0.5]])
