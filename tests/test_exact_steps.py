"""Steps, lengths and boundaries beyond int32 or float32 are themselves, in every program."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from accuracy import as_argument, worst
from reference import reference

import jaxsched as js
from jaxsched.testing import check_schedule

pytestmark = pytest.mark.optimized

BEYOND = {
    "line": js.Linear(0.0, 1.0, 4_000_000_000),
    "late": js.Shift(js.Linear(1.0, 0.0, 4_000_000_001), 1000),
    "sequence": js.wsd(0.1, 4_000_000_000, 1_000_000_000, 1_000_000_000),
    "stairs": js.step_decay(0.1, 0.5, 700_000_000),
    "cycles": js.Repeat(js.Linear(1.0, 0.0, 1_500_000_001)),
    "cycles of a step": js.Repeat(js.Linear(1.0, 0.5, 1), growth=1.0, decay=0.999999999),
    "growing cycles": js.warm_restarts(0.1, 1000, 2.0),
    "boundaries": js.PiecewiseConstant([10, 20_000_001, 3_000_000_001], [1.0, 0.5, 0.25, 0.1]),
    "knots": js.PiecewiseLinear([0, 3_000_000_001], [0.0, 1.0]),
    "law": js.inverse_sqrt(0.1, 3_000_000_000),
}
UNSIGNED = [0, 999_999_999, 2**31, 3_000_000_000, 3_000_000_001, 4_000_000_000, 2**32 - 1]


@pytest.mark.parametrize("name", BEYOND)
def test_an_unsigned_step_beyond_int32_is_itself_in_every_program(name):
    """Token counters: Optax wraps them."""
    schedule, steps = BEYOND[name], np.asarray(UNSIGNED, np.uint32)
    want = [reference(schedule, int(step)) for step in steps]
    assert worst(schedule(steps), want) <= 0.51
    assert worst(jax.jit(jax.vmap(schedule))(steps), want) <= 4


@pytest.mark.parametrize("step", [7 * 10**12, -(2**40), 2**48 - 1, 2**53 - 1, 2**62])
def test_a_64_bit_step_is_itself_in_x64_mode(step):
    schedule, half = js.Linear(0.0, 1.0, 10**13), js.PiecewiseConstant([10**12 + 1], [0.0, 1.0])
    with jax.enable_x64(True):
        counter = jnp.asarray(step, jnp.int64)
        assert float(jax.jit(schedule)(counter)) == pytest.approx(
            min(max(step / 10**13, 0.0), 1.0), rel=3e-7
        )
        edge = js.PiecewiseConstant([max(step, 0)], [0.0, 1.0])
        assert float(as_argument(edge, counter)) == 1.0
        assert [float(jax.jit(half)(jnp.int64(10**12 + i))) for i in (0, 1)] == [0.0, 1.0]
        whole = as_argument(js.Linear(0.0, 1.0, jnp.int64(4_000_000_001)), jnp.int64(4_000_000_000))
        assert whole.dtype == jnp.float32 and float(whole) == np.float32(1 - 1 / 4_000_000_001)


def test_more_cycles_than_an_int32_counts_have_their_length():
    cycle = js.Linear(1.0, 0.0, 1)
    assert js.Repeat(cycle, growth=1.0, cycles=2**33).duration == 2**33
    assert js.Repeat(cycle, growth=1.0, cycles=2**33).host(2.0**32 + 0.5) == 0.5
    for growth in (None, 1.0):  # more than there are steps for
        assert js.Repeat(cycle, growth=growth, cycles=2**63 - 1).host(2.0**40 + 0.5) == 0.5
    assert js.compat.timm.CosineLRScheduler(0.1, 9, cycle_limit=2**63 - 1)(27) == np.float32(0.1)


def test_a_traced_whole_length_beyond_int32_is_exact():
    build = jax.jit(lambda n, t: js.wsd(1.0, n, 10, n // 4)(t))
    steps = np.asarray([5, 2_000_000_000, 3_500_000_000], np.uint32)
    np.testing.assert_allclose(build(np.uint32(4_000_000_000), steps), [0.5, 1.0, 0.5], rtol=1e-6)


class _Counter:
    """As Keras's variables are."""

    def __jax_array__(self):
        return jnp.int32(3)


@pytest.mark.parametrize(
    "step", [_Counter(), [3], (3,), range(3, 4), [[jnp.int32(3)]], [np.float32(3.0)]]
)
def test_a_step_is_whatever_turns_into_an_array(step):
    schedule = js.Linear(0.0, 1.0, 4)
    for value in (schedule(step), jax.jit(lambda schedule: schedule(step))(schedule)):
        assert np.ravel(value).tolist() == [0.75] and value.dtype == jnp.float32
    inside = jax.jit(lambda t: schedule([t, 4]))(3)
    assert inside.tolist() == [0.75, 1.0]


def test_a_step_that_is_known_to_be_nan_is_refused():
    for step in (float("nan"), np.float32("nan"), [1.0, float("nan")], jnp.float32("nan")):
        with pytest.raises(
            ValueError, match=r"schedule\(step\) must be given a step that is a num"
        ):
            js.Linear(0.0, 1.0, 4)(step)


def test_steps_beyond_int32():
    schedule = js.Linear(1.0, 0.0, 10**13)
    assert float(schedule(2**40)) == np.float32(1 - 2**40 / 10**13)
    assert float(schedule(np.int64(2**40))) == np.float32(1 - 2**40 / 10**13)
    for call in (schedule, jax.jit(schedule)):
        np.testing.assert_allclose(float(call(2**31 - 1)), 1 - (2**31 - 1) / 10**13, rtol=1e-7)
    assert float(jax.jit(lambda s, t: s(t))(schedule, 5)) == 1.0


WHOLE = js.PiecewiseConstant([2, 5], [1, 3, 100_000_001])


def test_integers_make_an_integer_schedule():
    """For micro-batches, batch sizes and lengths: exact where float32 is not."""
    for schedule in (WHOLE, js.Table([1, 1, 3, 3, 3, 100_000_001])):
        for values in (schedule(np.arange(6)), jax.jit(schedule)(np.arange(6, dtype=np.int32))):
            assert values.dtype == jnp.int32 and not values.weak_type
            assert values.tolist() == [1, 1, 3, 3, 3, 100_000_001]
        assert js.from_json(js.to_json(schedule)) == schedule == eval(repr(schedule), vars(js))
        later = js.Window(schedule, 0, 6) >> js.Constant(1.0)
        assert (0.5 * schedule)(3).dtype == js.sample(later, 2).dtype
    assert js.Table([1, 2.5])(0).dtype == jnp.float32
    check_schedule(js.PiecewiseConstant([2, 5], [1, 3, 8]))


FLOAT64 = {
    "multi_step": lambda x: js.multi_step(x, 0.5, [10]),
    "drops": lambda x: js.PiecewiseConstant([10], [0.3, x / 2]),
    "factor": lambda x: js.step_decay(1.0, x / 2, 10),
    "noam": lambda x: js.noam(x * 5120, 400),
    "law": lambda x: js.power_scheduler(x / 5, 128, 524_288),
    "one_cycle": lambda x: js.one_cycle(x, 100),
    "with_warmup": lambda x: js.with_warmup(js.step_decay(x, 0.5, 300), 10),
    "cycles": lambda x: js.warm_restarts(1.0, 5, 2.0, decay=x),
}


@pytest.mark.parametrize("name", FLOAT64)
def test_one_float64_number_makes_values_of_float64(name):
    """In x64 mode: an array or a NumPy number, known or traced."""
    build = FLOAT64[name]
    with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"):
        want = build(jnp.float64(0.1)).host(17)
        rounded = build(jnp.float32(0.1)).host(17)
        inside = jax.eval_shape(lambda x: build(x)(17), jnp.float64(0.1))
        for schedule in (build(jnp.float64(0.1)), build(np.float64(0.1))):
            assert schedule(17).dtype == inside.dtype == jnp.float64
            assert float(schedule(17)) == pytest.approx(float(want), rel=1e-13)
    assert float(want) != pytest.approx(float(rounded), rel=1e-10)


def test_what_leaves_float32_on_the_way_does_not_leave_it_at_the_end():
    """And a factor without end stops at its largest value, everywhere alike."""
    steps = np.asarray([0, 1, 50, 200, 10**6], np.int32)
    for schedule in (
        js.Constant(1e30) * js.Constant(1e30) * js.Constant(1e-30),
        js.Constant(1e-30) * js.Constant(-1e-30) * js.Constant(1e30),
        js.Linear(1e30, 0.0, 300) * js.Constant(1e30) * js.Constant(3e-30) * js.Constant(1e-30),
        js.Repeat(js.Constant(1.0, 1), decay=2.0),
        js.Harmonic(1e15, 1e-15, 100),
    ):
        want = np.asarray(schedule(steps))
        assert np.all(np.isfinite(want))
        for values in (jax.jit(schedule)(steps), as_argument(js.strong(schedule), steps)):
            np.testing.assert_allclose(values, want, rtol=1e-6)


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: js.Linear(0.0, 1.0, 1e-40), r"Linear\(steps=...\) must be at least 1.18e-38"),
        (lambda: js.InverseTime(1.0, 1e-40), r"InverseTime\(timescale=...\) must be at least"),
        (
            lambda: js.Harmonic(1e20, 1e-20, 100),
            r"Harmonic\(end=...\) must be within 1.3e\+30 times",
        ),
    ],
)
def test_a_number_that_a_program_cannot_tell_from_zero_is_refused(build, words):
    with pytest.raises(ValueError, match=words):
        build()


@pytest.mark.parametrize(("growth", "edge"), [(1.0051, 10**5), (1.1, 10**6)])
def test_growing_cycles_keep_16_ulp_to_the_edge_of_the_promise(growth, edge):
    """In the last whole step of a cycle, where little is left."""
    schedule = js.strong(js.Repeat(js.Cosine(1.0, 0.0, 10), growth=growth))
    growth, begin, ends = float(schedule.growth), 0.0, []
    while begin < edge:
        begin += 10 * growth ** len(ends)
        ends.append(int(begin))
    steps = np.asarray([end - 1 for end in ends[-16:-1]], np.int32)
    want = [reference(schedule, int(step)) for step in steps]
    assert worst(as_argument(schedule, steps), want) <= 16
    assert worst(schedule(steps), want) <= 1


@pytest.mark.parametrize(
    "boundaries",
    [
        [10.5, 20_000_001],
        [10, 20_000_001, 3_000_000_000],
    ],
)
def test_a_boundary_is_exact_whatever_its_neighbours(boundaries):
    schedule = js.PiecewiseConstant(boundaries, [float(i) for i in range(len(boundaries) + 1)])
    for call in (schedule, jax.jit(schedule)):
        assert [float(call(t)) for t in (20_000_000, 20_000_001)] == [1.0, 2.0]


@pytest.mark.parametrize(
    "make",
    [
        lambda n: js.Linear(1.0, 0.0, n),
        lambda n: js.Linear(1.0, 0.5, n) >> js.Constant(0.5),
    ],
    ids=["Linear", "Sequence"],
)
def test_an_int64_length_does_not_wrap(make):
    schedule = make(np.asarray(2**33))
    assert float(schedule(5)) > 0.99
    assert float(jax.jit(lambda s: s(5))(js.strong(schedule))) > 0.99


@pytest.mark.parametrize("array", [np.asarray, jnp.asarray])
def test_unsigned_steps_and_lengths_beyond_int32_are_not_rounded(array):
    schedule = js.Linear(1.0, 0.0, array(np.uint32(2**31 + 5)))
    assert schedule.steps == 2**31 + 5
    steps = array(np.asarray([0, 2**32 - 1], np.uint32))
    assert schedule(steps).tolist() == [1.0, 0.0]
    family = js.Linear(1.0, 0.0, array(np.asarray([10, 2**31 + 5], np.uint32)))
    assert family.steps.tolist() == [10, 2**31 + 5]


def test_whole_boundaries_that_no_float32_holds_are_integers():
    for whole in ([10.0, 20_000_001.0], np.array([10.0, 20_000_001.0])):
        drops = js.PiecewiseConstant(whole, [2.0, 1.0, 0.0])
        assert [float(drops(t)) for t in (20_000_000, 20_000_001)] == [1.0, 0.0]
    with pytest.raises(ValueError, match="strictly increasing"):
        js.PiecewiseConstant(np.array([20_000_000.5, 20_000_001.0]), [2.0, 1.0, 0.0])


def test_a_boundary_at_0_is_reached_before_step_0_too():
    schedule = js.PiecewiseConstant([0, 5], [1.0, 2.0, 3.0])
    steps = np.asarray([-3, 0, 4, 5], np.int32)
    for values in (schedule(steps), jax.jit(lambda s, t: s(t))(schedule, steps)):
        assert values.tolist() == [2.0, 2.0, 2.0, 3.0]
    assert js.boundaries(schedule) == (5,)


@pytest.mark.parametrize("start", [1000, 2**20, 2**24 - 2])
def test_a_quarter_before_a_knot_is_not_the_knot(start):
    steps = np.int32(4 * start + np.arange(-1, 5))
    line = js.PiecewiseLinear([start, start + 1], [1.0, 0.0])
    curves = [line, js.MonotoneCubic([start, start + 1, start + 9], [1.0, 0.0, -8.0])]
    slow = [js.Stretch(curve, 4.0) for curve in curves]
    for values in (slow[0].host(steps), jax.jit(slow[0])(steps)):
        np.testing.assert_allclose(values, [1.0, 1.0, 0.75, 0.5, 0.25, 0.0])
    assert 0.2 < slow[1].host(steps[-2]) < 0.3
    paced = js.Stretch(js.Paced(js.Linear(0.0, 2.0**30, 2**30), [start], [1.0, 2.0]), 4.0)
    assert paced.host(steps).tolist() == [start + x for x in (-0.25, 0.0, 0.5, 1.0, 1.5, 2.0)]
