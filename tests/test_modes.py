"""Every schedule in every mode of JAX.

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
from helpers import checking_leaks

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
    exact = np.abs(steps) <= 2**24  # a float32 holds no steps beyond
    # The loop of Repeat has the same operations in each round, and these steps few cycles.
    monkeypatch.setattr(_repeat, "_BITS", 5)

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
    strong, real = as_arrays(ALL["Repeat-growth"] * ALL["warmup_cosine"])
    steps = marks(strong)
    want = np.asarray(strong(steps))
    monkeypatch.setattr(_repeat, "_BITS", 5)
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
        with jax.numpy_dtype_promotion("strict"), pytest.raises(ValueError, match="promotion"):
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


# ------------------------------------------------------------------- as a sharded value and a carry

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
