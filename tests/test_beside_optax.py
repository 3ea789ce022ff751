"""Beside Optax: where it is known to fail, its failure and our answer. That is why we exist."""

from __future__ import annotations

import pickle

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from updates import GRADS, LR, PARAMS, applied

import jaxsched as js
from jaxsched.optim import current, inject, override

SETTINGS = [
    {"peak": 0.1 * (i + 1), "steps": 100 + i, "warmup": 10 + i, "end": 0.001 * i} for i in range(8)
]


def test_eight_settings_are_one_trace_and_in_optax_eight():
    @jax.jit
    @chex.assert_max_traces(n=1)
    def step(schedule, params, count):
        return jax.tree.map(lambda p: p - schedule(count) * p, params)

    for setting in SETTINGS:
        step(js.warmup_cosine(**setting), PARAMS, 5)

    optax_traces = 0

    def closure_step(schedule):
        @jax.jit
        def step(params, count):
            nonlocal optax_traces
            optax_traces += 1
            return jax.tree.map(lambda p: p - schedule(count) * p, params)

        return step

    for setting in SETTINGS:
        schedule = optax.warmup_cosine_decay_schedule(
            0.0, setting["peak"], setting["warmup"], setting["steps"], setting["end"]
        )
        closure_step(schedule)(PARAMS, 5)
    assert optax_traces == 8


def test_equal_schedules_are_equal_and_optax_closures_are_not():
    a, b = js.warmup_cosine(0.1, 100, 10), js.warmup_cosine(0.1, 100, 10)
    assert a == b
    assert len({a, b}) == 1
    assert a != js.warmup_cosine(0.2, 100, 10)
    assert optax.cosine_decay_schedule(0.1, 10) != optax.cosine_decay_schedule(0.1, 10)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [("peak", "peak_value"), ("steps", "decay_steps"), ("warmup", "warmup_steps")],
)
def test_every_argument_may_be_traced_where_optax_raises(ours, theirs):
    given = {"peak": 0.5, "steps": 100.0, "warmup": 20.0, "end": 0.01}
    values = np.float32([0.8, 1.0]) * np.float32(given[ours])
    call = lambda x: js.warmup_cosine(**{**given, ours: x})(50)
    found = jax.jit(jax.vmap(call))(values)
    np.testing.assert_allclose(found, [call(float(x)) for x in values], rtol=1e-6)
    fixed = {"init_value": 0.0, "peak_value": 0.5, "warmup_steps": 20, "decay_steps": 100}
    with pytest.raises(jax.errors.TracerBoolConversionError):
        jax.vmap(lambda x: optax.warmup_cosine_decay_schedule(**{**fixed, theirs: x})(50))(values)


def test_in_optax_a_constant_and_a_schedule_have_other_trees():
    constant, scheduled = optax.adamw(0.1).init(PARAMS), optax.adamw(LR).init(PARAMS)
    assert jax.tree.structure(constant) != jax.tree.structure(scheduled)


def test_optax_has_no_answer():
    tx = optax.chain(optax.clip(1.0), optax.adamw(LR))
    state = tx.init(PARAMS)
    assert optax.tree_utils.tree_get(state, "learning_rate") is None
    with pytest.raises(KeyError, match="multiple"):
        optax.tree_utils.tree_get(state, "count")


def test_optax_lengths_have_two_meanings_and_ours_one():
    """Optax: `decay_steps` is the whole in warmup_cosine and the decay alone in cosine."""
    steps = np.arange(120)
    theirs = optax.warmup_cosine_decay_schedule(0.0, 1.0, 10, decay_steps=100, end_value=0.1)
    ours = js.warmup_cosine(1.0, steps=100, warmup=10, end=0.1)
    np.testing.assert_allclose(ours(steps), theirs(steps), atol=1e-6)
    alone = optax.cosine_decay_schedule(1.0, decay_steps=100)
    np.testing.assert_allclose(js.cosine_decay(1.0, steps=100)(steps), alone(steps), atol=1e-6)


def test_optax_takes_boundaries_that_cannot_be_meant():
    one, two, three = (optax.constant_schedule(x) for x in (1.0, 2.0, 3.0))
    assert float(optax.join_schedules([one, two, three], [10])(10**6)) == 2.0  # drops the third
    assert float(optax.join_schedules([one, two, three], [10, 5])(7)) == 3.0  # skips the second
    with pytest.raises(ValueError, match="strictly increasing"):
        js.PiecewiseConstant([10, 5], [1.0, 2.0, 3.0])
    with pytest.raises(ValueError, match=r"must have 1 \+ 1 values"):
        js.PiecewiseConstant([10], [1.0, 2.0, 3.0])


@pytest.mark.parametrize("length", [1, 2, 3, 10])
def test_update_i_uses_s_of_i_and_the_first_and_last_are_known(length):
    """The convention of Optax; PyTorch's closed form of the cosine is the same curve."""
    steps = np.arange(length + 1)
    ours = js.cosine_decay(1.0, length, end=0.1)
    torch = 0.1 + 0.9 * (1 + np.cos(np.pi * steps / length)) / 2
    np.testing.assert_allclose(ours(steps), torch, rtol=1e-6)
    theirs = optax.cosine_decay_schedule(1.0, length, alpha=0.1)
    np.testing.assert_allclose(ours(steps), jax.jit(theirs)(steps), rtol=1e-6)
    rates, _ = applied(inject(optax.sgd)(learning_rate=ours), length)
    np.testing.assert_allclose(rates, torch[:-1], rtol=1e-5)


def test_dead_branches_have_no_part_in_a_gradient():
    step = 5

    def theirs(w):
        later = lambda t: w / jnp.sqrt(t)
        return optax.join_schedules([optax.constant_schedule(w), later], [10])(step)

    def ours(w):
        return (js.Constant(w, 10) >> js.InverseSqrt(w, 1.0))(step)

    slope = lambda f, at: float(jax.jit(jax.grad(f))(at))
    assert np.isnan(slope(theirs, 1.0))
    assert slope(ours, 1.0) == 1.0

    def late(rate):  # the later part overflows at its own step -5000
        return (js.Constant(1.0, 5000) >> js.Exponential(1.0, rate))(0)

    assert slope(late, -1.0) == 0.0


@pytest.mark.parametrize("horizon", [3 * 10**9, 10**13])
def test_a_horizon_in_tokens(horizon):
    schedules = [
        js.linear_decay(1.0, horizon),
        js.warmup_cosine(1.0, horizon, horizon // 100),
        js.exponential_decay(1.0, 0.5, horizon),
        js.wsd(1.0, horizon, horizon // 100, horizon // 10),
    ]
    program = jax.jit(lambda step: [schedule(step) for schedule in schedules])
    for step in (0, 10**6, 2**31 - 1):
        want = [float(schedule(step)) for schedule in schedules]
        np.testing.assert_allclose(program(step), want, rtol=1e-6)
    with pytest.raises(OverflowError):
        optax.linear_schedule(1.0, 0.0, horizon)(5)


@pytest.mark.optimized
def test_the_tail_keeps_its_digits():
    horizon = 10**6
    steps = np.arange(horizon - 1000, horizon, dtype=np.int32)
    want = np.sin(np.pi / 2 * (horizon - steps) / horizon) ** 2
    got = np.asarray(jax.jit(js.cosine_decay(1.0, horizon))(steps))
    np.testing.assert_allclose(got, want, rtol=1e-6)
    theirs = np.asarray(jax.jit(optax.cosine_decay_schedule(1.0, horizon))(steps))
    assert np.count_nonzero(theirs == 0) == 77


def test_optax_ignores_a_change_in_silence_and_we_do_not():
    tx = optax.inject_hyperparams(optax.sgd)(learning_rate=LR)
    state = tx.init(PARAMS)
    state.hyperparams["learning_rate"] = jnp.float32(123.0)
    updates, _ = tx.update(GRADS, state, PARAMS)
    assert float(updates["w"][0]) == 0.0
    with pytest.raises(ValueError, match="ignores"):
        override(state, learning_rate=123.0)


def test_a_branch_in_a_users_function_is_found_when_it_is_made():
    branch = lambda step: 0.1 if step < 10 else 0.01
    with pytest.raises(TypeError, match=r"(?s)from_fn.*jnp\.where.*PiecewiseConstant"):
        js.from_fn(branch)
    with pytest.raises(jax.errors.TracerBoolConversionError):  # in the middle of a run
        jax.jit(optax.sgd(branch).update)(GRADS, optax.sgd(branch).init(PARAMS), PARAMS)
    good = js.from_fn(lambda step, low: jnp.where(step < 10, 0.1, low), low=0.01)
    np.testing.assert_allclose(jax.jit(good)(np.asarray([9, 10])), [0.1, 0.01], rtol=1e-6)


def test_optax_goes_wrong_in_silence():
    assert float(optax.linear_schedule(0.0, 1.0, 0)(100)) == 0.0  # never reaches its end
    assert float(optax.cosine_decay_schedule(1.0, 10)(-5)) == pytest.approx(0.5)
    assert float(js.Linear(0.0, 1.0, 0)(100)) == 1.0
    assert float(js.Cosine(1.0, 0.0, 10)(-5)) == 1.0


def test_a_schedule_can_be_pickled_and_printed_and_a_closure_not():
    assert pickle.loads(pickle.dumps(LR)) == LR
    with pytest.raises((AttributeError, pickle.PicklingError)):
        pickle.dumps(optax.cosine_decay_schedule(0.1, 10))
    assert repr(optax.constant_schedule(0.1)).startswith("<function")


@pytest.mark.parametrize("x64", [False, True])
def test_one_dtype_in_every_mode_where_optax_has_three(x64):
    with jax.enable_x64(x64):
        assert isinstance(optax.constant_schedule(0.1)(3), float)
        cosine = optax.cosine_decay_schedule(0.1, 10)(3)
        assert cosine.dtype == (jnp.float64 if x64 else jnp.float32)
        assert js.cosine_decay(0.1, 10)(3).dtype == js.Constant(0.1)(3).dtype == jnp.float32


SHAPE = js.Linear(0.9, 0.5, 8)


def test_a_schedule_as_static_argument_is_left_alone_and_in_optax_it_is_called():
    def factory(learning_rate, shape):
        return optax.sgd(lambda count: learning_rate * shape(count))

    plain = inject(factory, static_args="shape")(learning_rate=js.Constant(0.5), shape=SHAPE)
    updates, state = plain.update(GRADS, plain.init(PARAMS), PARAMS)
    assert set(current(state)) == {"learning_rate"}
    assert float(updates["w"][0]) == pytest.approx(-0.45)
    for static in ((), ("learning_rate",)):
        theirs = optax.inject_hyperparams(optax.sgd, static_args=static)(learning_rate=LR)
        updates, _ = theirs.update(GRADS, theirs.init(PARAMS), PARAMS)
        assert float(updates["w"][0]) == 0.0
