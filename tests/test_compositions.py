"""What composed schedules are: their parts, unchanged, at exactly the given steps."""

from __future__ import annotations

import itertools
from fractions import Fraction

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import schedules

import jaxsched as js
from jaxsched.testing import LAWS

TRACED = jax.jit(lambda schedule, steps: schedule(steps))
A, B, C = js.Linear(0.0, 1.0, 5), js.Cosine(1.0, 0.5, 7), js.Polynomial(0.5, 0.1, 4)
C2 = js.Constant(2.0)


def test_composing_does_not_change_what_is_composed():
    steps = np.arange(-2, 25)
    assert js.Sequence((A,)).duration == A.duration
    np.testing.assert_array_equal(js.Sequence((A,))(steps), A(steps))
    assert (A >> B) >> C == A >> (B >> C) == js.Sequence((A, B, C))
    assert js.boundaries(A >> B >> C) == (5, 12)
    whole = A >> B >> C
    for part, start, length in ((A, 0, 5), (B, 5, 7), (C, 12, 4)):
        inside = np.arange(length)
        np.testing.assert_array_equal(whole(start + inside), part(inside))
    # At a boundary the later part begins: b-1, b, b+1.
    nested = A >> (js.Constant(0.25, 3) >> B)
    assert float(nested(4)) == float(A(4))
    assert float(nested(5)) == float(nested(7)) == 0.25
    assert float(nested(8)) == 1.0


def test_laws_of_shift_scale_clip_and_products():
    steps = np.arange(-2, 25)
    np.testing.assert_allclose((A * B)(steps), A(steps) * B(steps), rtol=2e-7)
    np.testing.assert_array_equal(js.Shift(B, 6)(steps), B(steps - 6))
    np.testing.assert_allclose((0.3 * B)(steps), 0.3 * np.float64(B(steps)), rtol=2e-7)
    np.testing.assert_array_equal(
        js.Clip(B, low=0.6, high=0.9)(steps), np.clip(B(steps), np.float32(0.6), np.float32(0.9))
    )


WSD, STEPS = js.wsd(1.0, 100, 10, 20), js.multi_step(1.0, 0.1, [30])
WHERE = {
    "a window over a shorter piece": (js.Window(WSD, 5, 300), (5, 75, 95), "Constant"),
    "after its end": (js.Window(WSD, 150, 300), (), "Constant"),
    "over drops": (js.Window(STEPS, 0, 50), (30,), "PiecewiseConstant"),
    "backwards": (js.Reverse(js.Window(WSD, 50, 300)), (200, 220), "Constant"),
    "a longer factor": (WSD * js.Linear(1, 0, 200), (10, 80, 100), "Linear"),
    "one without end": (js.InverseSqrt(1.0, 10) + WSD, (10, 80, 100), "InverseSqrt"),
    "drops and a curve": (js.minimum(STEPS, js.Linear(1, 0, 100)), (30,), "PiecewiseConstant"),
    "no warmup": (js.wsd(1.0, 100, 0, 20), (80,), "Linear"),
    "no plateau": (js.wsd(1.0, 100, 80, 20), (80,), "Linear"),
    "no decay": (js.wsd(1.0, 100, 10, 0), (10, 100), "Linear"),
    "epochs of less than a step": (js.Epochwise(js.wsd(1.0, 100, 1, 1), 0.3), (29,), "Linear"),
    "a step after 2^40": (js.Linear(1.0, 0.0, 2**40) >> js.Linear(0.0, 1.0, 1), (2**40,), "Linear"),
    "one knot": (js.PiecewiseLinear([0], [1.0]), (), "PiecewiseLinear"),
    "drops over before the start": (js.Shift(STEPS, -40), (), "PiecewiseConstant"),
}


@pytest.mark.parametrize(("schedule", "boundaries", "last"), WHERE.values(), ids=WHERE)
def test_phases_reach_from_0_to_the_duration(schedule, boundaries, last):
    LAWS["phased"](schedule, None)
    assert js.boundaries(schedule) == boundaries and schedule.phases()[-1].name == last


@given(schedules, schedules, st.sampled_from(["__mul__", "__add__", "__rshift__"]))
def test_phases_of_any_combination_reach_to_its_duration(a, b, operator):
    if operator != "__rshift__" or a.duration is not None:
        LAWS["phased"](js.Window(getattr(a, operator)(b), 0, 2000) * b, None)
    LAWS["phased"](a, None)


def test_the_order_of_calls_means_nothing():
    steps = [7, 0, 12, 3, 3, 16, 1]
    schedule = A >> B >> C
    values = {t: float(schedule(t)) for t in steps}
    for order in itertools.islice(itertools.permutations(steps), 0, 5040, 1000):
        assert [float(schedule(t)) for t in order] == [values[t] for t in order]


def test_one_step_ahead_wastes_no_update_and_ends_at_the_end():
    """`Shift(s, -1)`: update i uses s(i + 1), so the first is not 0 and the last is the end."""
    schedule = js.Shift(js.warmup_cosine(1.0, 100, 10, end=0.1), -1)
    assert float(schedule(0)) == np.float32(0.1)
    assert float(schedule(9)) == 1.0
    assert float(schedule(99)) == np.float32(0.1)
    assert schedule.duration == 99


def test_a_power_means_what_numpy_means():
    line = js.Linear(-2.0, 2.0, 4)
    for exponent in (2.0, 3.0, -1.0, -2.0, 0.0, 0.5):
        with np.errstate(all="ignore"):
            want = line(np.arange(5)) ** np.float32(exponent)
        power = jax.jit(lambda exponent, t: (line**exponent)(t))(exponent, np.arange(5))
        np.testing.assert_allclose(power, want, rtol=3e-7)
        np.testing.assert_allclose((line**exponent).host(np.arange(5)), want, rtol=3e-7)
        np.testing.assert_allclose([(line**exponent)(t) for t in range(5)], want, rtol=3e-7)
    np.testing.assert_allclose((A / B)(steps := np.arange(9)), A(steps) / B(steps), rtol=3e-7)
    np.testing.assert_allclose((2 / B)(steps), 2 / B(steps), rtol=3e-7)


@pytest.mark.parametrize(
    "combined",
    [A - 0.1, 0.1 - A, A - C2, A / C2, A * (C2 * 2), js.maximum(A, C2 + 1), js.Sequence([C2]) + A],
    ids=lambda s: repr(s)[:40],
)
def test_what_never_changes_has_no_part_in_the_length(combined):
    assert combined.duration == A.duration and (C2 - C2).duration is None
    assert (combined >> B).duration == A.duration + B.duration


@pytest.mark.parametrize("growth", [0.8, 1.0, 1.0002, 1.3, 2.0])
def test_a_warmup_in_each_cycle_keeps_its_length_and_the_rest_grows(growth):
    """As in the community's CosineAnnealingWarmupRestarts, but for the rounding of its lengths."""
    growth, begin, cycle, want = float(np.float32(growth)), 0.0, 0, []
    for t in range(700):
        if cycle < 29 and t >= begin + 10 + 30 * growth**cycle - 1e-9:
            begin, cycle = begin + 10 + 30 * growth**cycle, cycle + 1
        local, rest = t - begin, min((t - begin - 10) / (30 * growth**cycle), 1)
        shape = local / 10 if local < 10 else 0.5 * (1 + np.cos(np.pi * rest))
        want.append(0.9**cycle * shape + 0.1 * (1 - shape))
    restarts = js.warm_restarts(1.0, 40, np.float32(growth), 0.9, 0.1, cycles=30, warmup=10)
    for values in (
        restarts.host(range(700)),
        jax.jit(lambda s: s(np.arange(700)))(js.strong(restarts)),
    ):
        np.testing.assert_allclose(values, want, atol=1e-5)


@pytest.mark.parametrize("growth", [0.5, 1.0, 2.0, 1e6])
def test_cycles_that_are_all_warmup_are_equal_for_ever(growth):
    cycles = 10**9 if growth < 1 else None
    restarts = js.Repeat(js.Linear(1.0, 0.0, 4), growth, cycles=cycles, warmup=4)
    steps = np.int32([0, 3, 513, 801, 4001, 10**6 + 2, 10**9 + 1])
    for values in (restarts.host(steps), jax.jit(restarts)(steps)):
        np.testing.assert_allclose(values, 1 - steps % 4 / 4, atol=1e-6)


@pytest.mark.parametrize("length", [7, 1000, 2**20])
@pytest.mark.parametrize("growth", [0.3, 0.75, 0.99])
def test_restarts_that_come_more_often_are_all_found(length, growth):
    """At and around each: by sums of exact fractions."""
    ratio, cycles = Fraction(float(np.float32(growth))), 12
    spans = [length * ratio**i for i in range(cycles)]
    starts = [sum(spans[:i], Fraction(0)) for i in range(cycles)]
    steps = np.int32([int(start) + k for start in starts for k in (0, 1, 2)])
    as_one = [t + min(t * Fraction(1, 2**22), Fraction(1, 4)) for t in map(int, steps)]
    last = [max(i for i, start in enumerate(starts) if start <= t) for t in as_one]
    want = [
        min(max((int(t) - starts[i]) / spans[i], 0), 1) for t, i in zip(steps, last, strict=True)
    ]
    schedule = js.Repeat(js.Linear(0.0, 1.0, length), np.float32(growth), cycles=cycles)
    for values in (schedule.host(steps), TRACED(js.strong(schedule), steps)):
        np.testing.assert_allclose(values, np.array(want, float), atol=1e-5)
    assert schedule.host(100 * length) == 1.0


K = js.PiecewiseConstant([2], [1, 3])
PIECE = js.Window(K, 0, 5)
CHOSEN = [PIECE >> js.Table([5]), js.Repeat(PIECE), js.maximum(K, js.Table([2, 9])), PIECE >> K]
CALCULATED = [2 * K, K + K, js.Clip(K, high=2.5), js.minimum(K, 2), js.Repeat(PIECE, decay=0.5)]
CALCULATED += [PIECE >> js.Constant(0.5), js.Sequence([PIECE, js.Constant(0.5, 3)] * 4)]


@pytest.mark.parametrize("schedule", [*CHOSEN, js.Sequence([PIECE] * 6), *CALCULATED])
def test_integers_that_are_chosen_among_stay_integers(schedule, strict, in_numpy):
    """XLA compiles it as an argument."""
    steps = np.arange(12, dtype=np.int32)
    values, kind = schedule(steps), np.float32 if schedule in CALCULATED else np.int32
    for others in (
        jax.jit(lambda t: schedule(t))(steps),
        TRACED(schedule, steps),
    ):
        assert others.dtype == values.dtype == schedule(7).dtype == kind
        np.testing.assert_array_equal(others, values)
