"""No silent wrong value: steps of every kind, numbers of any size, and what Optax gets wrong."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import ALL
from helpers import IN_LOOPS, OPTIMIZED

import jaxsched as js

# ------------------------------------------------------------------------ silent wrong values

TOP = 2**31 - 1
ANSWERS = {
    # what is asked for: (schedule, step, our value); Optax's answer in words
    "a warmup of none begins at the peak (0 for ever)": (
        lambda: js.warmup_constant(0.1, 0),
        [0, 1, 10**6],
        [0.1] * 3,
    ),
    "a peak of 0 and an end above it (0 for ever)": (
        lambda: js.Linear(0.0, 0.0, 10) >> js.Cosine(0.0, 0.01, 90),
        [0, 10, 100, 10**6],
        [0, 0, 0.01, 0.01],
    ),
    "a cosine before its start (cos is even: it falls)": (
        lambda: js.cosine_decay(0.1, 10),
        [-5, -TOP, 0],
        [0.1] * 3,
    ),
    "a line of no length (its start for ever)": (
        lambda: js.Linear(1.0, 0.25, 0),
        [-1, 0, 1, 100],
        [0.25] * 4,
    ),
    "a step beyond int32 (wraps to the first)": (
        lambda: js.Linear(1.0, 0.25, 100),
        [np.int64(2**40), 2**40, TOP],
        [0.25] * 3,
    ),
    "an unsigned step before a shift (underflows to the end)": (
        lambda: js.Shift(js.Linear(1.0, 0.0, 100), 10),
        [np.uint32(5), np.uint8(5)],
        [1.0] * 2,
    ),
    "an unsigned step at an unsigned length": (
        lambda: js.Reverse(js.Linear(0.0, 1.0, np.uint8(100))),
        [np.uint8(200)],
        [0.0],
    ),
    "a half precision step (2049 is 2048)": (
        lambda: js.Linear(0.0, 1.0, 4096),
        [np.float16(2048), 2049],
        [0.5, 2049 / 4096],
    ),
    "a staircase beyond 2^24 (one period early)": (
        lambda: js.step_decay(1.0, 0.5, 5_000_000),
        [74_999_999, 75_000_000],
        [2.0**-14, 2.0**-15],
    ),
    "a boundary beyond 2^24": (
        lambda: js.PiecewiseConstant([20_000_001], [1.0, 0.5]),
        [20_000_000, 20_000_001],
        [1, 0.5],
    ),
    "a sequence beyond 2^24": (
        lambda: js.Constant(1.0, 20_000_001) >> js.Constant(0.5),
        [20_000_000, 20_000_001],
        [1, 0.5],
    ),
    "a table after its end": (lambda: js.Table([1.0, 0.5]), [1, 2, TOP], [0.5] * 3),
    "a piece after its end (rises again)": (
        lambda: js.cosine_decay(1.0, 10, end=0.1),
        [10, 15, 20, TOP],
        [0.1] * 4,
    ),
    "a polynomial after its end (negative)": (
        lambda: js.polynomial_decay(1.0, 10),
        [10, 11, 20, TOP],
        [0.0] * 4,
    ),
}


@pytest.mark.optimized
@pytest.mark.parametrize("case", ANSWERS)
def test_what_optax_gets_wrong_in_silence_has_a_value(case):
    make, steps, wanted = ANSWERS[case]
    schedule = make()
    eager = [float(schedule(step)) for step in steps]
    np.testing.assert_allclose(eager, np.float32(wanted), rtol=1e-6)
    program = jax.jit(schedule)
    for step, want in zip(steps, wanted, strict=True):
        step = TOP if int(step) > TOP else step  # a program has no larger integers
        assert float(program(step)) == pytest.approx(want, rel=1e-6, abs=1e-12)


ERRORS = {
    "a rise beyond the cycle": (lambda: js.one_cycle(0.1, 100, warmup=101), "one_cycle.warmup"),
    "a negative length": (lambda: js.Linear(1.0, 0.0, -5), "Linear.steps"),
    "a factor of 0": (lambda: js.exponential_decay(0.1, 0, 10), "exponential_decay.factor"),
    "a period of 0": (lambda: js.exponential_decay(0.1, 0.5, 0), "exponential_decay.every"),
    "a negative factor": (lambda: js.exponential_decay(0.1, -0.5, 2), "exponential_decay.factor"),
    "a stair of 0": (lambda: js.step_decay(0.1, 0.5, 0), "step_decay.every"),
    "too few values": (lambda: js.PiecewiseConstant([1, 2], [0.1, 0.2]), "PiecewiseConstant.val"),
    "too many values": (lambda: js.PiecewiseConstant([1], [1, 2, 3]), "PiecewiseConstant.val"),
    "unsorted boundaries": (lambda: js.PiecewiseConstant([8, 2], [1, 2, 3]), "Constant.boundaries"),
    "an empty sequence": (lambda: js.Sequence(()), "Sequence.parts"),
    "an empty product": (lambda: js.Product(()), "Product.parts"),
    "a restart of no length": (lambda: js.warm_restarts(0.1, 0), "warm_restarts.steps"),
    "no population": (lambda: js.stack([]), "stack.schedules"),
}


@pytest.mark.parametrize("case", ERRORS)
def test_what_optax_takes_in_silence_is_refused(case):
    call, where = ERRORS[case]
    with pytest.raises(ValueError, match=where):
        call()


# ------------------------------------------------------------------------- steps of every kind

KINDS = [
    np.int8,
    np.int16,
    np.int32,
    np.int64,
    np.uint8,
    np.uint16,
    np.uint32,
    np.uint64,
    np.float32,
    np.float64,
    jnp.bfloat16,
    int,
    float,
]
SHIFTED = js.Shift(js.Linear(1.0, 0.0, 100), 10)
TRACED = jax.jit(lambda schedule, step: schedule(step))


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_a_step_of_any_kind_means_the_same(kind):
    """Eager, as argument of a program, and as a constant in one whose schedule is traced.

    An unsigned step does not wrap when a boundary is subtracted (Optax: the end value).
    """
    steps = (0, 5, 10, 60, 110, 120)
    inside = jax.jit(lambda schedule: [schedule(kind(step)) for step in steps])(SHIFTED)
    for step, constant in zip(steps, inside, strict=True):
        want = 1.0 - min(max(step - 10, 0), 100) / 100
        for value in (SHIFTED(kind(step)), TRACED(SHIFTED, kind(step)), constant):
            assert value.dtype == jnp.float32
            assert value.shape == ()
            assert float(value) == pytest.approx(want, rel=1e-6)


def test_a_half_precision_step_in_every_place():
    want = 1.0 - 50 / 100
    assert float(SHIFTED(np.float16(60))) == pytest.approx(want)
    assert float(TRACED(SHIFTED, np.float16(60))) == pytest.approx(want)


def test_a_half_precision_step_as_a_constant_of_a_program():
    assert float(jax.jit(lambda schedule: schedule(np.float16(60)))(SHIFTED)) == 0.5


BIG = [2**63, 2**64, 10**30, -(10**30)]


@pytest.mark.parametrize("step", BIG)
def test_a_python_integer_of_any_size_is_a_step(step):
    assert float(js.Linear(1.0, 0.0, 10)(step)) == (1.0 if step < 0 else 0.0)


@pytest.mark.parametrize("step", BIG[1:])
def test_a_python_integer_of_any_size_is_a_step_where_numbers_are_arrays(step):
    want, schedule = 1.0 if step < 0 else 0.0, js.Linear(1.0, 0.0, 10)
    assert float(js.strong(schedule)(step)) == want
    assert float(jax.jit(lambda schedule: schedule(step))(schedule)) == want


@pytest.mark.parametrize("step", [-(2**31), -(2**32) + 5, -(2**40) + 5, 2**32 + 5, 2**40 + 5])
def test_a_64_bit_step_saturates_in_x64_mode(step):
    with jax.enable_x64(True):
        value = float(jax.jit(js.Linear(1.0, 0.0, 10))(jnp.int64(step)))
    assert value == (1.0 if step < 0 else 0.0)


@pytest.mark.parametrize(
    "step",
    [
        True,
        np.True_,
        np.asarray([True, False]),
        "3",
        None,
        1j,
        np.complex64(1),
        ["1"],
        [True],
        [[1], [1, 2]],
        {},
    ],
    ids=repr,
)
def test_what_is_no_step_is_a_type_error(step):
    for schedule in (SHIFTED, js.strong(SHIFTED), js.Table([1.0, 0.5])):
        with pytest.raises(TypeError, match=r"schedule\(step\) must be given"):
            schedule(step)


@pytest.mark.parametrize("step", [True, np.True_, np.asarray([True]), jnp.asarray(True)], ids=repr)
def test_a_bool_is_no_step_in_a_program_either(step):
    with pytest.raises(TypeError, match=r"schedule\(step\) must be given"):
        jax.eval_shape(lambda schedule: schedule(step), SHIFTED)


# ---------------------------------------------------------------------------------------- tails

FALLING = [
    js.Linear,
    js.Cosine,
    js.Polynomial,
    js.Rex,
    js.HalfCosine,
    js.QuarterCosine,
    js.Sqrt,
    js.MirrorCosine,
    js.ShiftedExponential,
    js.Logarithmic,
]


@pytest.mark.optimized
@pytest.mark.parametrize("shape", FALLING, ids=lambda shape: shape.__name__)
def test_a_tail_falls_to_the_end_and_is_never_zero_before_it(shape):
    """Optax's cosine is exactly 0 on the last 77 steps of a million."""
    at = lambda horizon, steps: jax.lax.map(lambda step: shape(0.1, 0.0, horizon)(step), steps)
    program = jax.jit(at, compiler_options=OPTIMIZED | IN_LOOPS)
    for horizon in (10**5, 10**6, 2**24 + 3, TOP):
        tail = np.append(np.arange(horizon - 100, horizon - 1), horizon - 1).astype(np.int32)
        values = np.asarray(program(np.int32(horizon), tail))
        assert np.all(values > 0)
        assert np.all(np.diff(values) <= 0)
        assert np.unique(values).size >= values.size // 2
        assert float(shape(0.1, 0.0, horizon)(horizon)) == 0.0


EXTREME = {
    "40 decades": js.Geometric(1e-20, 1e20, 100),
    "16 decades": js.Geometric(1e-12, 1e4, 100),
    "InverseSqrt of a tiny timescale": js.InverseSqrt(1.0, 1e-35),
    "PowerLaw of a tiny timescale": js.PowerLaw(1.0, -0.5, 1e-35),
}


@pytest.mark.optimized
@pytest.mark.parametrize("case", EXTREME)
def test_an_extreme_number_is_right_in_a_program(case):
    steps = np.asarray([0, 50, 10**6], np.int32)
    np.testing.assert_allclose(jax.jit(EXTREME[case])(steps), EXTREME[case](steps), rtol=1e-6)


def test_a_harmonic_of_thirty_decades_has_finite_gradients():
    value = lambda start, end, t: js.Harmonic(start, end, 100)(t)
    slopes = jax.jit(jax.vmap(jax.grad(value, (0, 1, 2))))
    starts, ends = np.float32([1.0, 1e-30, 1e-30, 1.0]), np.float32([1e-30, 1.0, 1e-30, 1e-30])
    in_start, in_end, in_step = slopes(starts, ends, np.float32([0, 100, 50, 50]))
    np.testing.assert_allclose(in_start, [1.0, 0.0, 0.5, 0.0], atol=1e-6)
    np.testing.assert_allclose(in_end, [0.0, 1.0, 0.5, 2.0], atol=1e-6)
    assert np.all(np.isfinite(in_step))


@pytest.mark.parametrize("start", [0.0, 1.0])
def test_a_growing_exponential_is_never_nan(start):
    schedule = js.Exponential(start, 0.01)
    steps = np.asarray([0, 10**6, TOP], np.int32)
    assert not np.any(np.isnan(schedule(steps)))
    assert not np.any(np.isnan(jax.jit(schedule)(steps)))


@pytest.mark.parametrize(
    "wrap",
    [
        lambda s: js.Stretch(s, 1.0),
        lambda s: js.Quantize(s, 1),
        lambda s: js.Repeat(s, cycles=1),
    ],
    ids=["Stretch", "Quantize", "Repeat"],
)
def test_a_wrapped_length_beyond_2_24_ends_at_its_step_traced_or_not(wrap):
    whole = wrap(js.Linear(1.0, 1.0, 20_000_001)) >> js.Constant(0.5)
    assert [float(whole(t)) for t in (20_000_000, 20_000_001)] == [1.0, 0.5]
    assert float(TRACED(js.strong(whole), 20_000_000)) == 1.0


def test_the_lengths_of_a_sequence_do_not_wrap():
    pieces = js.strong(js.Constant(1.0, 2_000_000_000) >> js.Linear(1.0, 0.0, 2_000_000_000))
    assert float(pieces.duration) == 4e9


def test_a_repeat_of_many_growing_cycles_has_a_duration():
    schedule = js.Repeat(js.Linear(1.0, 0.0, 10), growth=2.0, cycles=5000)
    assert schedule.duration > 2**31
    assert float((schedule >> js.Constant(0.0))(0)) == 1.0


def test_xla_does_not_get_lost_in_a_program(capfd):
    """Its simplifier says so on stderr, after 50 rounds and twice the time."""
    jax.jit(lambda x: js.warm_restarts(x, 100, 2.0, 0.8, 0.001)(jnp.arange(3)))(np.float32(0.1))
    assert "simplifi" not in capfd.readouterr().err


@pytest.mark.parametrize("name", ["Linear", "Cosine", "InverseSqrt", "Repeat-growth", "Table"])
def test_a_real_step_of_any_size_is_finite(name):
    step, schedule = np.float32(3e38), ALL[name]
    assert float(jax.jit(schedule)(step)) == pytest.approx(float(schedule(step)), rel=1e-6)


@pytest.mark.parametrize("step", [np.inf, np.float16(-np.inf), jnp.bfloat16(np.inf)], ids=str)
def test_an_infinite_step_is_the_end_in_a_program_too(step):
    names = ["Linear", "Cosine", "InverseSqrt", "PowerLaw", "RAdamWarmup", "PiecewiseConstant"]
    some = [ALL[name] for name in names]
    values = jax.jit(lambda t: [s(t) for s in some])(step)
    np.testing.assert_allclose(values, [s(step) for s in some], rtol=1e-6)
    assert np.all(np.isfinite(values))
    assert np.isfinite(jax.grad(some[0])(jnp.asarray(step, jnp.float32)))
    assert np.isnan(jax.jit(some[0])(jnp.float32(jnp.nan)))
