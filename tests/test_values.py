"""Accuracy: every schedule against its definition in 40 digits (tests/reference.py)."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import operations
import pytest
from accuracy import as_argument, mapped, padded, scanned, steps_of, worst
from cases import ALL, CLASSES
from helpers import IN_LOOPS, OPTIMIZED
from hypothesis import given, settings
from reference import reference
from strategies import schedules

import jaxsched as js

pytestmark = pytest.mark.optimized

# Against SciPy, and against itself, below; the third is a user's code around ours.
WITHOUT_REFERENCE = {"MonotoneCubic", "Function", "Function-of-schedules"}
scanned_in_numpy = operations.jit(scanned, compiler_options=OPTIMIZED | IN_LOOPS)

NAMES = sorted(set(ALL) - WITHOUT_REFERENCE)
TOGETHER = 8  # a program each takes half as long again to compile


@functools.cache  # called by the tests, which say how it is compiled
def as_constants(first):
    """The values of some schedules that stand together, by name."""
    schedules = {name: ALL[name] for name in NAMES[first : first + TOGETHER]}
    steps = {name: jnp.asarray(steps_of(schedule)) for name, schedule in schedules.items()}
    program = lambda steps: {name: scanned(s, steps[name]) for name, s in schedules.items()}
    with jax.transfer_guard("disallow"):
        return jax.jit(program)(steps)


@pytest.mark.parametrize("name", NAMES)
def test_accuracy(name):
    """At most 4 ulp in a program, its numbers constants or arguments, and half a unit on the host.

    Constants are scanned, in half the time to compile that they take mapped, and move nothing to or
    from the host. Arguments, a program for each structure, are mapped in classes; those of the
    recipes composed of them run in NumPy. Powers may take 16; these take 2.
    """
    schedule = ALL[name]
    steps = steps_of(schedule)
    rounded = js.strong(schedule)  # other numbers: their float32
    as_constant = as_constants(NAMES.index(name) // TOGETHER * TOGETHER)[name]
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
def test_every_restart_is_found(growth):
    """At an exact restart the value is the peak: not one step late, as with a floating log."""
    restarts, schedules = {}, {}
    for first in (1, 7, 10, 1000):
        starts, begin, span = [], 0.0, float(first)
        while begin < 2**31 - 1 and len(starts) < 200:
            if begin.is_integer():
                starts.append(int(begin))
            begin, span = begin + span, span * growth
        restarts[first] = padded(starts, 200), padded(starts[1:], 200) - 1
        schedules[first] = js.warm_restarts(1.0, first, growth)
    constants = lambda steps: {
        n: scanned(s, jnp.concatenate(steps[n])) for n, s in schedules.items()
    }
    found = jax.device_get(jax.jit(constants, compiler_options=None)(restarts))
    for first, schedule in schedules.items():
        as_data = functools.partial(as_argument, js.strong(schedule))
        values = [np.split(found[first], 2)]
        values += [[call(steps) for steps in restarts[first]] for call in (schedule, as_data)]
        for at_restarts, before in values:
            np.testing.assert_array_equal(at_restarts, 1.0)
            assert first == 1 or np.all(np.asarray(before) < 0.5)


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
    *(
        js.Stretch(js.Sequence([js.Linear(0.0, 0.1, n)] * 4 + [js.Rex(0.1, 0.2, n)]), 0.5)
        for n in (4, 6)
    ),
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
