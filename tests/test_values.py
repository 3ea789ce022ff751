"""Accuracy: every schedule against its definition in 40 digits (tests/reference.py)."""

from __future__ import annotations

import functools
import random

import jax
import jax.numpy as jnp
import mpmath as mp
import numpy as np
import operations
import pytest
from cases import ALL, CLASSES
from helpers import IN_LOOPS, OPTIMIZED
from hypothesis import given, settings
from reference import reference
from strategies import schedules

import jaxsched as js
from jaxsched.testing import check_schedule, landmarks

pytestmark = pytest.mark.optimized

TINY = float(np.finfo(np.float32).tiny)
# Against SciPy, and against itself, below; the third is a user's code around ours.
WITHOUT_REFERENCE = {"MonotoneCubic", "Function", "Function-of-schedules"}


def ulps(got, want):
    """Distance in float32 units of the exact value; below the normal range, 0 if both are there."""
    if abs(want) < TINY:
        return 0.0 if abs(float(got)) < 2 * TINY else np.inf
    unit = float(np.spacing(np.float32(abs(float(want)))))
    return float(abs(mp.mpf(float(got)) - want) / unit)


def worst(values, want):
    """Of an array, which is read as a whole: to take it apart JAX compiles a program."""
    return max(ulps(value, exact) for value, exact in zip(np.asarray(values), want, strict=True))


def steps_of(schedule, most=2**31 - 1, count=40):
    """Around every boundary and the end, further before them, and at random; int32."""
    marks = {*landmarks(schedule).tolist(), 3, 5, 100, 10**6}
    ends = [end for end in (*js.boundaries(schedule), schedule.duration) if end is not None]
    marks |= {int(end) - d for end in ends for d in (3, 7, 77, 1000)}
    marks |= {int(end) * 2 // 3 for end in ends}
    marks |= {*random_steps(schedule, count)}
    return np.asarray(sorted(step for step in marks if 0 <= step <= most), np.int32)


def random_steps(schedule, count, seed=0):
    rng = random.Random(seed)
    top = 10**6 if schedule.duration is None else max(int(schedule.duration), 10)
    near = [rng.randrange(min(2 * top, 2**31)) for _ in range(count)]
    return near + [rng.randrange(2**31) for _ in range(count // 4)]


@functools.partial(jax.jit, compiler_options=OPTIMIZED)
def as_argument(schedule, steps):
    return schedule(steps)


@functools.partial(jax.jit, compiler_options=OPTIMIZED)
def mapped(schedule, steps):
    return jax.vmap(schedule)(steps)


def scanned(schedule, steps):
    return jax.lax.scan(lambda carry, step: (carry, schedule(step)), None, steps)[1]


scanned_in_numpy = operations.jit(scanned, compiler_options=OPTIMIZED | IN_LOOPS)


def padded(steps, size):
    """Steps of one shape for many tests, so that they share programs."""
    assert len(steps) <= size
    return np.resize(np.asarray(steps, np.int32), size)


@pytest.mark.parametrize("name", sorted(set(ALL) - WITHOUT_REFERENCE))
def test_accuracy(name):
    """At most 4 ulp in a program, its numbers constants or arguments, and half a unit on the host.

    Constants are scanned, in half the time to compile that they take mapped, and move nothing to or
    from the host. Arguments, a program for each structure, are mapped in classes; those of the
    recipes composed of them run in NumPy. Powers may take 16; these take 2.
    """
    schedule = ALL[name]
    steps = steps_of(schedule)
    rounded = js.strong(schedule)  # other numbers: their float32
    on_device = jnp.asarray(steps)
    with jax.transfer_guard("disallow"):
        as_constant = jax.jit(lambda steps: scanned(schedule, steps))(on_device)
    program = mapped if name in CLASSES else scanned_in_numpy
    as_argument = np.asarray(program(rounded, padded(steps, 200)))[: len(steps)]
    want = [reference(schedule, int(step)) for step in steps]
    assert worst(schedule(steps), want) <= 0.51
    assert worst(as_constant, want) <= 4
    want = [reference(rounded, int(step)) for step in steps]
    assert worst(as_argument, want) <= 4


@settings(max_examples=25)
@given(schedules)
def test_accuracy_of_compositions(schedule):
    """At most 16 ulp, compiled and on the host."""
    steps = steps_of(schedule, most=10**8, count=8)
    want = [reference(schedule, int(step)) for step in steps]
    assert worst(schedule(steps), want) <= 2
    assert worst(jax.jit(functools.partial(scanned, schedule))(steps), want) <= 16


@pytest.mark.parametrize("exponent", [0.1, 1.0, 10.0, 20.0, 50.0])
def test_powers_keep_16_ulp(exponent):
    steps = np.unique(np.geomspace(1, 2**24, 60).astype(np.int32))
    for schedule in (
        js.Cosine(1.0, 0.0, 2**24 + 1, exponent),
        js.Polynomial(1.0, 0.0, 2**24 + 1, exponent),
        js.Warp(js.Cosine(1.0, 0.5, 2**24 + 1), exponent),
        js.PowerLaw(1.0, -exponent, 1000.0),
    ):
        rounded = js.strong(schedule)
        want = [reference(rounded, int(step)) for step in steps]
        assert worst(as_argument(rounded, steps), want) <= 16


@pytest.mark.parametrize("every", [390.6, 97.7, 12.2, 1562.4, 1.4, 0.7])
def test_every_program_puts_a_boundary_at_the_same_step(every):
    """5 * 390.6 is 1953 in float64 and a little more or less in other representations."""
    steps = padded(range(int(40 * every) + 3), 62_500)
    for schedule in (
        js.Quantize(js.Exponential(0.1, np.log(0.5) / every), every),
        js.Repeat(js.Linear(1.0, 0.5, every)),
        js.Constant(1.0, every) >> js.Constant(0.5, every) >> js.Constant(0.25),
        js.Stretch(js.Constant(1.0, 10) >> js.Constant(2.0), every),
    ):
        eager = np.asarray(schedule(steps))
        for other in (jax.jit(schedule)(steps), as_argument(js.strong(schedule), steps)):
            np.testing.assert_allclose(np.asarray(other), eager, rtol=1e-4)


@pytest.mark.parametrize("growth", [1.1, 1.3, 1.7, 2.5])
@pytest.mark.parametrize("length", [43, 100, 715])
def test_a_restart_after_the_first_cycle_is_not_late(growth, length):
    schedule = js.Repeat(js.Linear(1.0, 0.0, length), growth)
    for value in (schedule(length), as_argument(js.strong(schedule), length)):
        assert float(value) == 1.0


def test_boundaries_far_out_are_exact_in_every_program():
    """Lengths are summed exactly: int32 would wrap, float32 round."""
    ramp = js.Linear(1.0, 0.0, 1_500_000_000)
    for schedule, step in (
        (js.Repeat(js.Linear(1.0, 0.5, 1_500_000_000), cycles=2) >> js.Constant(7.0), 10**9),
        (js.Repeat(ramp >> js.Constant(0.5, 1_500_000_000)), 10**9),
        (js.Reverse(ramp >> js.Constant(0.5, 1_500_000_000)), 10**9),
        (js.Repeat(js.Linear(1.0, 0.0, 10_000_001), 1.0, cycles=3) >> js.Constant(5.0), 30_000_003),
    ):
        want = float(schedule(step))
        assert float(as_argument(js.strong(schedule), step)) == pytest.approx(want, rel=1e-6)
    two = js.strong(js.Constant(1.0, 1_500_000_000) >> js.Constant(1.0, 1_500_000_000))
    assert two.duration == 3_000_000_000


def test_second_derivatives():
    """Of the numbers that stand in exponents, against closed forms."""
    second = lambda f: jax.jit(jax.grad(jax.grad(f)))
    cases = [
        (lambda r: js.Exponential(1.0, r)(10), -0.1, 100 * np.exp(-1.0)),
        (lambda r: js.step_decay(1.0, r, 10)(35), 0.5, 6 * 0.5),
        (lambda r: js.Polynomial(1.0, 0.0, 10, r)(5), 2.0, np.log(0.5) ** 2 * 0.25),
        (lambda r: js.PowerLaw(1.0, r, 10.0)(30), -1.0, np.log(4.0) ** 2 / 4),
        (lambda r: js.Geometric(1.0, r, 10)(5), 0.1, -0.25 * 0.1**-1.5),
    ]
    for f, at, want in cases:
        assert float(second(f)(at)) == pytest.approx(want, rel=1e-4)


def test_extreme_numbers_stay_finite():
    last = 2**31 - 1
    for schedule, step, want in (
        (js.Exponential(1.0, -1e4), last, 0.0),
        (js.step_decay(1.0, 1e-30, 1), last - 6, 0.0),
        (js.Exponential(0.0, 0.01), 10**6, 0.0),
        (js.Geometric(1e-20, 1e20, 10), 5, 1.0),
        (js.Harmonic(1e30, 1e29, 2e9), 10**9, 2 / 11 * 1e30),
    ):
        for value in (schedule(step), as_argument(js.strong(schedule), step)):
            assert float(value) == pytest.approx(want, rel=1e-6)


def test_the_tail_of_a_cosine_keeps_its_digits():
    for horizon in (10**5, 10**6, 2 * 10**7, 2**31 - 1):
        schedule = js.cosine_decay(0.1, horizon)
        steps = np.arange(horizon - 1000, horizon, dtype=np.int32)
        left = (horizon - steps).astype(np.float64) / horizon
        want = 0.1 * np.sin(np.pi / 2 * left) ** 2
        got = as_argument(js.strong(schedule), steps)
        np.testing.assert_allclose(np.asarray(got, np.float64), want, rtol=3e-7)


def test_monotone_cubic_is_scipys():
    scipy_interpolate = pytest.importorskip("scipy.interpolate")
    steps, values = [0, 100, 400, 1000], np.float32([0.1, 0.08, 0.02, 0.0])
    curve = scipy_interpolate.PchipInterpolator(steps, values.astype(np.float64))
    at = np.arange(0, 1001, 7, dtype=np.int32)
    got = np.asarray(jax.jit(js.MonotoneCubic(steps, values))(at))
    np.testing.assert_allclose(got, curve(at), rtol=1e-5, atol=1e-9)
    rng = np.random.default_rng(0)
    for _ in range(20):
        steps = np.sort(rng.choice(10_000, 8, replace=False)).astype(np.int32)
        values = rng.uniform(0, 1, 8).astype(np.float32)
        curve = scipy_interpolate.PchipInterpolator(steps, values.astype(np.float64))
        at = rng.integers(steps[0], steps[-1], 50).astype(np.int32)
        got = np.asarray(js.MonotoneCubic(steps, values)(at))
        np.testing.assert_allclose(got, curve(at), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("growth", [1.0, 1.5, 2.0, 3.0, 10.0])
@pytest.mark.parametrize("first", [1, 7, 10, 1000])
def test_every_restart_is_found(growth, first):
    """At an exact restart the value is the peak: not one step late, as with a floating log."""
    starts, begin, span = [], 0.0, float(first)
    while begin < 2**31 - 1 and len(starts) < 200:
        if begin.is_integer():
            starts.append(int(begin))
        begin, span = begin + span, span * growth
    schedule = js.warm_restarts(1.0, first, growth)
    starts, before = padded(starts, 200), padded(starts[1:], 200) - 1
    quickly = jax.jit(schedule, compiler_options=None)  # a program for each pair of numbers
    for call in (schedule, quickly, functools.partial(as_argument, js.strong(schedule))):
        np.testing.assert_array_equal(call(starts), 1.0)
        assert first == 1 or np.all(np.asarray(call(before)) < 0.5)


def test_known_numbers_of_the_field():
    """Values that peers print, by hand."""
    noam = js.noam(512, 4000)
    steps = np.asarray([0, 10, 3999, 4000, 100_000])
    s = steps + 1.0
    want = 512**-0.5 * np.minimum(s**-0.5, s * 4000**-1.5)
    np.testing.assert_allclose(np.asarray(noam(steps)), want, rtol=2e-7)
    tokens = (np.asarray([0, 10, 1000, 10**6]) + 1.0) * 128 * 4096
    power = js.power_scheduler(0.02, 128, 128 * 4096)
    want = np.minimum(0.02, 128 * 4.6 * tokens**-0.51)
    got = np.asarray(power(np.asarray([0, 10, 1000, 10**6])))
    np.testing.assert_allclose(got, want, rtol=2e-7)
    pattern = [2**0.5, 2, 2**0.5, 2 + 2**0.5, 2**0.5, 2, 2**0.5, 1 + (1 + 2**0.5) ** 2]
    np.testing.assert_allclose(js.sample(js.silver(1.0), 8), pattern, rtol=2e-7)


ROW = [
    js.Linear(0.0, 0.1, 10),
    js.Cosine(0.1, 0.3, 40.5),
    js.Table([0.1, 0.2, 0.3]),
    0.5 * js.Linear(0.1, 0.2, 12),
    js.Constant(0.3, 33),
    js.Linear(0.2, 0.25, 0),
    js.Linear(0.2, 0.5, 1),
]


def test_a_long_sequence_is_the_same_with_few_formulas():
    """More than four parts: one formula for each kind, not for each part."""
    one, many = (js.Sequence([ROW[0], *[ROW[1]] * n]) for n in (6, 60))
    size = lambda s: len(str(jax.make_jaxpr(lambda s, t: s(t))(js.strong(s), 3)).splitlines())
    assert size(many) < 2 * size(one)
    schedule = js.Sequence(ROW)
    steps = np.arange(schedule.duration + 3, dtype=np.int32)
    rounded = js.strong(schedule)
    want = [reference(rounded, int(step)) for step in steps]
    assert worst(as_argument(rounded, steps), want) <= 4


BEYOND = {
    "line": js.Linear(0.0, 1.0, 4_000_000_000),
    "late": js.Shift(js.Linear(1.0, 0.0, 4_000_000_001), 1000),
    "sequence": js.wsd(0.1, 4_000_000_000, 1_000_000_000, 1_000_000_000),
    "stairs": js.step_decay(0.1, 0.5, 700_000_000),
    "cycles": js.Repeat(js.Linear(1.0, 0.0, 1_500_000_001)),
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
