"""Every schedule in every mode of JAX; steps of every kind; no silent wrong value.

Optax 0.2.8 for comparison (17 schedules, 205 uses): 107 uses fail under strict dtype promotion, 17
under ``debug_nans``, and under x64 the same call gives three different dtypes.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import textwrap

import chex
import jax
import jax.numpy as jnp
import numpy as np
import operations
import optax
import pytest
from cases import ALL, CLASSES, ONE_OF_EACH_CLASS, OURS, RECIPES
from helpers import IN_LOOPS, OPTIMIZED, checking_leaks

import jaxsched as js
from jaxsched.optim import current, inject
from jaxsched.schedules import _repeat

OF_CLASSES = [name for name in OURS if name in CLASSES]  # recipes are composed of them


@contextlib.contextmanager
def _all(*contexts):
    with contextlib.ExitStack() as stack:
        for context in contexts:
            stack.enter_context(context)
        yield


MODES = {
    # What may be on together is on together.
    "strict": lambda: _all(jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise")),
    "x64-strict": lambda: _all(
        jax.enable_x64(True), jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise")
    ),
    "leaks": checking_leaks,
    "debug": lambda: _all(jax.disable_jit(True), jax.debug_nans(True), jax.debug_infs(True)),
}


def marks(schedule):
    """Seven steps around the start and the end, int32."""
    end = 1000 if schedule.duration is None else float(schedule.duration)
    marks = {-1, 0, 1, int(end) // 2, int(end) - 1, int(end), int(end) + 1}
    return np.resize(sorted((m for m in marks if -1 <= m < 2**31), reverse=True), 7).astype(
        np.int32
    )


def uses(schedule, real, steps):
    """vmap, the same with gradients in every number and in the step, and plain."""
    both = jax.value_and_grad(lambda s, t: s(t), (0, 1))
    mapped, grads = jax.vmap(both, (None, 0))(real, steps.astype(jnp.float32))
    return schedule(steps), mapped, grads


def as_arrays(schedule):
    """The schedule with arrays for numbers, and with real arrays to differentiate in."""
    strong = js.strong(schedule)
    return strong, jax.tree.map(lambda x: x.astype(jnp.float32), strong)


@pytest.mark.parametrize("mode", ["strict", "x64-strict"])
@pytest.mark.parametrize("name", OURS)
def test_every_schedule_in_every_mode_of_tracing(name, mode):
    """Eager the same bits as without the mode; jit, vmap and grad are traced, to float32.

    These modes raise while a program is traced, so nothing is compiled: that would be nine tenths
    of the time. Recipes are composed of the classes that are differentiated, with a look for leaks;
    one of each class is differentiated in strict mode below.
    """
    schedule = ALL[name]
    steps = marks(schedule)
    want = np.asarray(schedule(steps))
    strong, real = as_arrays(schedule)
    device_steps = jnp.asarray(steps)
    one = name in ONE_OF_EACH_CLASS
    leaks = mode == "x64-strict" and one
    with MODES[mode]():
        outs = [schedule(steps), jax.eval_shape(schedule, device_steps)]
        if leaks or (mode == "strict" and name in CLASSES and not one):
            with MODES["leaks"]() if leaks else contextlib.nullcontext():
                outs += jax.tree.leaves(jax.eval_shape(uses, strong, real, device_steps))
        single = schedule(int(steps[-1]))
    np.testing.assert_array_equal(outs[0], want)
    assert single.shape == ()
    for out in (single, *outs):
        assert (out.dtype, out.weak_type) == (jnp.float32, False)


@pytest.mark.parametrize("name", OF_CLASSES)
def test_every_schedule_with_every_single_operation_checked_for_nan_and_inf(name, monkeypatch):
    """As ``disable_jit`` with ``debug_nans`` and ``debug_infs``, in the arithmetic of a program.

    What runs is traced in strict mode.
    """
    strong, real = as_arrays(ALL[name])
    steps = marks(strong)
    want = np.asarray(strong(steps))
    exact = np.abs(steps) <= 2**24  # further steps are no float32
    # The loop of Repeat has the same operations in each round; 3 ** 2**9 is no float32 already.
    monkeypatch.setattr(_repeat, "_BITS", 10)

    def look(equation, given, results):
        finite = lambda xs: all(np.all(np.isfinite(x)) for x in xs)
        assert finite(results) or not finite(given), equation

    def checked(f, *arguments):
        with MODES["strict"]():
            program = jax.jit(f).trace(*arguments)
        return operations.run(program, *arguments, look=look)

    values = checked(jax.vmap(strong), steps)
    if name in ONE_OF_EACH_CLASS:
        _, mapped, grads = checked(lambda real, steps: uses(strong, real, steps), real, steps)
        chex.assert_trees_all_close_ulp(mapped[exact], want[exact], maxulp=2)
        chex.assert_tree_all_finite(grads)
    chex.assert_trees_all_close_ulp(values, want, maxulp=2)


def test_a_schedule_with_every_single_operation_checked_by_jax(monkeypatch):
    """That is slow: a few of the compositions of the above, in all."""
    monkeypatch.setattr(_repeat, "_BITS", 10)
    strong, real = as_arrays(ALL["Repeat-growth"] * ALL["warmup_cosine"])
    steps = marks(strong)
    want = np.asarray(strong(steps))
    with MODES["debug"]():
        values, mapped, grads = uses(strong, real, jnp.asarray(steps))
    chex.assert_trees_all_close_ulp(values, mapped, want, maxulp=2)
    chex.assert_tree_all_finite(grads)


@pytest.mark.parametrize("name", OF_CLASSES)
def test_every_schedule_is_exported_and_its_program_moves_nothing_to_or_from_the_host(name):
    """``jax.export`` for any number of steps; a few are run under ``transfer_guard``.

    test_values runs all of them so, as programs of their own.
    """
    schedule = ALL[name]
    steps = marks(schedule)
    exported = jax.export.export(jax.jit(schedule))(
        jax.ShapeDtypeStruct(jax.export.symbolic_shape("n"), jnp.int32)
    )
    assert not exported.ordered_effects and not exported.unordered_effects
    if name in DOUBLE:
        program, device_steps = jax.jit(exported.call), jnp.asarray(steps)
        with jax.transfer_guard("disallow"):
            values = program(device_steps)
        chex.assert_trees_all_close_ulp(values, schedule(steps), maxulp=2)


def test_an_exported_schedule_is_bytes_that_are_read_back():
    pytest.importorskip("flatbuffers", reason="jax.export writes with flatbuffers")
    schedule = ALL["warmup_cosine"]
    exported = jax.export.export(jax.jit(schedule))(jax.ShapeDtypeStruct((), jnp.int32))
    again = jax.export.deserialize(exported.serialize())
    assert float(again.call(jnp.int32(50))) == pytest.approx(float(schedule(50)))


def test_a_users_function_in_every_mode_where_its_code_survives():
    schedule = js.from_fn(lambda step, peak: peak / (1 + step).astype(jnp.float32), peak=0.1)
    steps = np.asarray([-1, 0, 1, 100], np.int32)
    want = np.asarray(schedule(steps))
    strong, real = as_arrays(schedule)
    for mode, call in (("strict", jax.jit(uses)), ("x64-strict", jax.jit(uses)), ("debug", uses)):
        with MODES[mode]():
            values, mapped, _ = call(strong, real, jnp.asarray(steps))
        chex.assert_trees_all_close_ulp(want, values, mapped, maxulp=2)


DOUBLE = [
    "Linear",
    "Cosine-exponent-end",
    "Repeat-growth",
    "Sequence",
    "PiecewiseCosine",
    "Geometric",
    "MonotoneCubic",
    "Silver",
]


@pytest.mark.parametrize("name", DOUBLE)
def test_float64_numbers_give_float64_values(name):
    """In x64 mode, where a schedule's own numbers are float64 arrays; strict promotion too."""
    jax.jit(ALL[name])(0)  # what JAX keeps of a float32 program does no harm
    schedule = ALL[name]
    steps = marks(schedule)
    with jax.enable_x64(True), jax.numpy_dtype_promotion("strict"):
        double = jax.tree.map(lambda x: jnp.asarray(x, jnp.float64), schedule)
        values = jax.jit(jax.vmap(double))(jnp.asarray(steps))
        eager = double(steps)
        assert values.dtype == eager.dtype == jnp.float64
        np.testing.assert_allclose(values, eager, rtol=1e-10, atol=1e-300)
    np.testing.assert_allclose(values, np.asarray(schedule(steps), np.float64), rtol=2e-7)


# ------------------------------------------------------------------- recipes, while they are built


def _built(name, argument, dtype):
    recipe, given = RECIPES[name]
    if not float(given[argument]).is_integer() and dtype is np.int32:
        return None
    return lambda x: recipe(**{**given, argument: x})(jnp.arange(3, dtype=jnp.int32))


BUILDS = [
    (name, argument)
    for name, (_, given) in RECIPES.items()
    if not name.startswith("wsd-")
    for argument in given
]


@pytest.mark.parametrize(("name", "argument"), BUILDS)
def test_every_recipe_is_built_in_a_trace_under_strict_promotion(name, argument, strict):
    """From float32 and, where the argument is whole, from int32. Traced only: nothing compiles."""
    value = RECIPES[name][1][argument]
    for dtype in (np.float32, np.int32):
        if (build := _built(name, argument, dtype)) is not None:
            out = jax.eval_shape(build, jax.ShapeDtypeStruct((), dtype))
            assert (out.shape, out.dtype) == ((3,), jnp.float32), value


def test_stacking_whole_and_broken_lengths_under_strict_promotion(strict):
    family = js.stack([js.Linear(1.0, 0.0, 10), js.Linear(1.0, 0.0, 10.5)])
    assert jax.tree.leaves(family)[2].tolist() == [10.0, 10.5]


# ------------------------------------------------------------------------------ through Optax

PARAMS = {"w": jnp.ones(3), "b": jnp.ones(2)}
GRADS = jax.tree.map(jnp.ones_like, PARAMS)
OPTAX_MODES = {
    "x64": lambda: jax.enable_x64(True),
    "debug": lambda: _all(jax.debug_nans(True), jax.debug_infs(True)),
    "leaks": checking_leaks,
    "disable_jit": lambda: jax.disable_jit(True),
    "transfer_guard": lambda: jax.transfer_guard("disallow"),
    "strict": lambda: jax.numpy_dtype_promotion("strict"),
}


@pytest.mark.parametrize("mode", OPTAX_MODES)
@pytest.mark.parametrize("factory", [optax.sgd, optax.adam], ids=["sgd", "adam"])
def test_an_injected_optimizer_updates_in_every_mode_that_optax_survives(factory, mode):
    if mode == "strict" and factory is optax.adam:
        tx = optax.adam(0.1)
        with jax.numpy_dtype_promotion("strict"), pytest.raises(jax.dtypes.TypePromotionError):
            jax.eval_shape(tx.update, GRADS, tx.init(PARAMS), PARAMS)
        return
    schedule = js.warmup_cosine(0.5, 8, 3, end=0.01)
    tx = inject(factory)(learning_rate=schedule)
    state, update = tx.init(PARAMS), jax.jit(tx.update)
    with OPTAX_MODES[mode]():
        for _ in range(3):
            updates, state = update(GRADS, state, PARAMS)
    np.testing.assert_allclose(current(state)["learning_rate"], schedule(2), rtol=1e-6)
    kinds = {x.dtype for x in jax.tree.leaves(state)}
    assert kinds <= {np.dtype(k) for k in ("int32", "float32", "bool")}
    assert not any(x.weak_type for x in jax.tree.leaves(state))
    chex.assert_tree_all_finite(updates)


def test_modes_that_are_set_before_the_import():
    """As environment variables, from the first import on: strict, ranks, x64, nans, leaks."""
    program = """
        import gc, jax, numpy as np, optax, jaxsched as js
        gc.freeze()  # a leak is not sought in what was imported
        assert jax.config.jax_enable_x64 and jax.config.jax_debug_nans
        schedules = [js.warmup_cosine(0.1, 10, 2), js.PiecewiseConstant([3], [0.1, 0.2])]
        for s in schedules:
            t = np.arange(-2, 15)
            e, j = s(t), jax.jit(s)(t)
            assert e.dtype == j.dtype == np.float32
            np.testing.assert_allclose(e, j, rtol=3e-7)
            jax.vmap(jax.grad(s))(np.arange(15.0, dtype=np.float32))
        tx = js.inject(optax.sgd)(learning_rate=schedules[0])
        p = {"w": jax.numpy.ones(3, "float32")}
        u, state = jax.jit(tx.update)(p, tx.init(p), p)
        assert js.current(state)["learning_rate"].dtype == np.float32
        print("survived")
    """
    modes = {
        "JAX_ENABLE_X64": "1",
        "JAX_NUMPY_DTYPE_PROMOTION": "strict",
        "JAX_NUMPY_RANK_PROMOTION": "raise",
        "JAX_DEBUG_NANS": "1",
        "JAX_CHECK_TRACER_LEAKS": "1",
    }
    root = os.path.dirname(os.path.dirname(js.__file__))
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(program)],
        env={**os.environ, **modes, "PYTHONPATH": root},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.stdout == "survived\n", done.stderr


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


TABLES = {
    "Table": js.Table([1.0, 0.5, 0.25]),
    "Silver": js.Silver(1.0),
    "few": js.PiecewiseConstant([1, 3], [1.0, 0.5, 0.25]),
    "many": js.PiecewiseLinear(range(40), [1.0 / (1 + i) for i in range(40)]),
}


@pytest.mark.parametrize("name", TABLES)
def test_a_table_is_read_by_steps_on_an_explicit_mesh(name):
    schedule, steps = TABLES[name], np.arange(6, dtype=np.int32)
    mesh = jax.make_mesh((2,), ("data",), axis_types=(jax.sharding.AxisType.Explicit,))
    spec = jax.sharding.PartitionSpec("data")
    with jax.set_mesh(mesh):
        spread = jax.device_put(steps, jax.NamedSharding(mesh, spec))
        values = jax.jit(schedule)(spread)
        slopes = jax.jit(jax.grad(lambda s: jnp.sum(s(spread)), allow_int=True))(
            js.strong(schedule)
        )
    assert values.sharding.spec == spec
    np.testing.assert_array_equal(np.asarray(values), np.asarray(schedule(steps)))
    assert all(np.all(np.isfinite(x)) for x in jax.tree.leaves(slopes) if x.dtype == np.float32)


@pytest.mark.parametrize("x64", [False, True])
def test_a_value_is_a_carry_of_scan_and_has_one_dtype_as_argument_and_as_constant(x64):
    schedule = js.exponential_decay(0.1, 0.5, 3)
    with jax.enable_x64(x64):
        carry = lambda s: jax.lax.scan(lambda c, t: (s(t), c), s(0), jnp.arange(3))[0]
        kinds = (jax.eval_shape(carry, schedule), jax.eval_shape(lambda: carry(schedule)))
    assert {kind.dtype for kind in kinds} == {np.dtype("float32")}
