"""The pains that users report (PAIN.md), one test or more for each, in its order.

Where Optax is known to fail, its failure is shown beside ours: that is why this package exists.
Not here: 8 and 9 (plateau decisions, adaptive rule times schedule) are in test_plateau.py and
test_controllers.py; 12 (range test) and 15 (vmapped sweeps) belong to the search. Items 25 and 28
are questions of documentation and of measured speed, and have no test.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import itertools
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import jaxsched as js
from jaxsched.optim import current, group_lr, inject, override, resume

PARAMS = {"w": jnp.ones(3), "b": jnp.ones(2)}
GRADS = jax.tree.map(jnp.ones_like, PARAMS)
LR = js.warmup_cosine(peak=0.5, steps=8, warmup=3, end=0.01)
RATES = np.asarray(LR(np.arange(8)))


def train(tx, steps, state=None, params=PARAMS):
    """Parameters, state and the applied rates (-update / gradient) after some updates."""
    update, rates = jax.jit(tx.update), []
    state = tx.init(params) if state is None else state
    for _ in range(steps):
        updates, state = update(GRADS, state, params)
        params = optax.apply_updates(params, updates)
        rates.append(-float(updates["w"][0]))
    return params, state, np.array(rates)


def bits_equal(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    jax.tree.map(np.testing.assert_array_equal, a, b)


# ---------------------------------------------------------------------------------------- tier 1

SETTINGS = [
    {"peak": 0.1 * (i + 1), "steps": 100 + i, "warmup": 10 + i, "end": 0.001 * i} for i in range(8)
]


def test_pain_01_eight_settings_are_one_trace_and_in_optax_eight():
    traces = 0

    @jax.jit
    def step(schedule, params, count):
        nonlocal traces
        traces += 1
        return jax.tree.map(lambda p: p - schedule(count) * p, params)

    for setting in SETTINGS:
        step(js.warmup_cosine(**setting), PARAMS, 5)
    assert traces == 1

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


def test_pain_01_a_setting_held_in_the_optimizer_state_is_no_new_trace():
    tx, traces = inject(optax.sgd)(learning_rate=js.warmup_cosine(**SETTINGS[0])), 0

    @jax.jit
    def step(state):
        nonlocal traces
        traces += 1
        return tx.update(GRADS, state, PARAMS)[1]

    state = step(tx.init(PARAMS))
    for setting in SETTINGS:
        state = step(override(state, learning_rate=js.warmup_cosine(**setting)))
    assert traces == 1


def test_pain_01_equal_schedules_are_equal_and_optax_closures_are_not():
    a, b = js.warmup_cosine(0.1, 100, 10), js.warmup_cosine(0.1, 100, 10)
    assert a == b
    assert len({a, b}) == 1
    assert a != js.warmup_cosine(0.2, 100, 10)
    assert optax.cosine_decay_schedule(0.1, 10) != optax.cosine_decay_schedule(0.1, 10)


@pytest.mark.parametrize("argument", ["peak", "steps", "warmup", "end"])
def test_pain_02_every_argument_may_be_traced_where_optax_raises(argument):
    given = {"peak": 0.5, "steps": 100.0, "warmup": 20.0, "end": 0.01}
    values = np.float32([0.8, 1.0]) * np.float32(given[argument])
    call = lambda x: js.warmup_cosine(**{**given, argument: x})(jnp.asarray(50))
    rows, grads, once = jax.jit(
        lambda xs: (jax.vmap(call)(xs), jax.vmap(jax.grad(call))(xs), call(xs[0]))
    )(values)
    plain = [call(float(x)) for x in values]
    np.testing.assert_allclose(rows, plain, rtol=1e-6)
    np.testing.assert_allclose(once, plain[0], rtol=1e-6)
    assert np.all(np.isfinite(grads))

    theirs = {"peak": "peak_value", "steps": "decay_steps", "warmup": "warmup_steps"}
    if argument in theirs:
        fixed = {"init_value": 0.0, "peak_value": 0.5, "warmup_steps": 20, "decay_steps": 100}
        with pytest.raises(jax.errors.TracerBoolConversionError):
            jax.vmap(
                lambda x: optax.warmup_cosine_decay_schedule(**{**fixed, theirs[argument]: x})(50)
            )(values)


@pytest.mark.parametrize(
    "schedule",
    [js.Constant(0.1), LR, js.warm_restarts(0.5, 3, 2.0), js.Table([0.1, 0.2, 0.3])],
    ids=lambda s: type(s).__name__,
)
def test_pain_03_a_run_that_was_saved_is_the_run_that_was_not_bit_for_bit(schedule):
    tx = inject(optax.adamw)(learning_rate=schedule)
    whole, whole_state, rates = train(tx, 7)
    half, half_state, first = train(tx, 3)
    half, half_state = pickle.loads(pickle.dumps(jax.tree.map(np.asarray, (half, half_state))))
    params, state, rest = train(tx, 4, half_state, half)
    bits_equal((params, state), (whole, whole_state))
    np.testing.assert_array_equal(np.append(first, rest), rates)


def test_pain_03_checkpoint_or_new_is_an_explicit_choice():
    old, new = js.Constant(0.1), js.Linear(1.0, 0.0, 10)
    for before, after in ((old, new), (new, old)):  # a migration both ways
        saved = train(inject(optax.adam)(learning_rate=before), 3)[1]
        fresh_tx = inject(optax.adam)(learning_rate=after)
        fresh = fresh_tx.init(PARAMS)
        with pytest.raises(ValueError, match="policy"):
            resume(saved, fresh)
        with pytest.raises(ValueError, match="policy"):
            resume(saved, fresh, policy="newest")
        for policy, schedule in (("checkpoint", before), ("new", after)):
            state = resume(saved, fresh, policy=policy)
            bits_equal(state.inner_state, saved.inner_state)  # moments and Adam's own count
            assert int(state.count) == 3
            _, state, _ = train(fresh_tx, 1, state)
            np.testing.assert_allclose(current(state)["learning_rate"], schedule(3), rtol=1e-6)


def test_pain_03_in_optax_a_constant_and_a_schedule_have_other_trees():
    constant, scheduled = optax.adamw(0.1).init(PARAMS), optax.adamw(LR).init(PARAMS)
    assert jax.tree.structure(constant) != jax.tree.structure(scheduled)


WRAPPED = {
    "chain": lambda tx: optax.chain(optax.clip_by_global_norm(1e9), tx),
    "masked": lambda tx: optax.masked(tx, {"w": True, "b": False}),
    "partition": lambda tx: optax.partition({"all": tx}, {"w": "all", "b": "all"}),
    "MultiSteps": lambda tx: optax.MultiSteps(tx, every_k_schedule=1),
    "apply_if_finite": lambda tx: optax.apply_if_finite(tx, 3),
}


@pytest.mark.parametrize("wrapper", WRAPPED)
def test_pain_04_current_is_the_rate_that_was_applied(wrapper):
    tx = WRAPPED[wrapper](inject(optax.sgd)(learning_rate=LR))
    state = tx.init(PARAMS)

    def step(state, _):
        updates, state = tx.update(GRADS, state, PARAMS)
        return state, (list(current(state).values()), -updates["w"][0])

    _, (shown, applied) = jax.jit(lambda s: jax.lax.scan(step, s, None, 8))(state)
    np.testing.assert_array_equal(shown[0], applied)
    np.testing.assert_allclose(applied, RATES, rtol=1e-6)


def test_pain_04_current_in_an_nnx_optimizer_and_under_vmap():
    model = nnx.Linear(1, 1, rngs=nnx.Rngs(0))
    optimizer = nnx.Optimizer(model, inject(optax.sgd)(learning_rate=LR), wrt=nnx.Param)
    for rate in RATES[:3]:
        before = float(model.bias[0])
        optimizer.update(model, nnx.grad(lambda m: m.bias[...].sum())(model))
        assert before - float(model.bias[0]) == pytest.approx(rate, abs=1e-6)
        assert float(current(optimizer)["learning_rate"]) == pytest.approx(rate)

    build = lambda peak: inject(optax.sgd)(learning_rate=js.Linear(peak, 0.0, 4))
    states = jax.vmap(lambda peak: build(peak).init(PARAMS))(jnp.asarray([1.0, 2.0]))
    np.testing.assert_array_equal(current(states)["learning_rate"], [1.0, 2.0])


def test_pain_04_optax_has_no_answer():
    tx = optax.chain(optax.clip(1.0), optax.adamw(LR))
    state = tx.init(PARAMS)
    assert optax.tree_utils.tree_get(state, "learning_rate") is None
    with pytest.raises(KeyError, match="multiple"):
        optax.tree_utils.tree_get(state, "count")


@pytest.mark.parametrize("dtypes", [("bfloat16",) * 2, ("float32",) * 2, ("bfloat16", "float32")])
def test_pain_05_scheduled_values_stay_float32_and_updates_keep_their_dtype(dtypes):
    params = {k: jnp.linspace(0.1, 1.0, 5).astype(d) for k, d in zip("ab", dtypes, strict=True)}
    ours, plain = inject(optax.adam)(learning_rate=js.Constant(1e-3)), optax.adam(1e-3)
    updates, _ = ours.update(params, ours.init(params), params)
    wanted, _ = plain.update(params, plain.init(params), params)
    for key, dtype in zip("ab", dtypes, strict=True):
        got, want = np.float64(updates[key]), np.float64(wanted[key])
        assert updates[key].dtype == dtype
        assert np.all(np.abs(got - want) <= float(jnp.finfo(dtype).eps) * np.abs(want))
    # A scheduled b2 is a float32, so 1 - b2 has 14 bits; in bfloat16 it would have none.
    both = inject(optax.adam)(learning_rate=js.Constant(1e-3), b2=js.Constant(0.999))
    updates, state = both.update(params, both.init(params), params)
    for key in "ab":
        np.testing.assert_allclose(np.float64(updates[key]), np.float64(wanted[key]), rtol=2e-5)
    assert {x.dtype for x in current(state).values()} == {np.dtype("float32")}
    assert float(current(state)["b2"]) == np.float32(0.999)


def test_pain_05_optax_injection_gives_nan_with_bfloat16():
    params = {"w": jnp.ones(3, jnp.bfloat16)}
    tx = optax.inject_hyperparams(optax.adam)(learning_rate=1e-3)
    state = tx.init(params)
    assert float(state.hyperparams["b2"]) == 1.0
    updates, _ = tx.update(params, state, params)
    assert np.isnan(np.float32(updates["w"])).all()


def test_pain_06_phases_are_where_they_were_declared():
    assert js.boundaries(js.warmup_cosine(1.0, 100, 10)) == (10,)
    assert js.boundaries(js.wsd(1.0, 100, 10, 20)) == (10, 80)
    for schedule in (js.warmup_cosine(1.0, 100, 10), js.wsd(1.0, 100, 10, 20)):
        assert schedule.duration == 100  # `steps` is the whole, warmup included
        assert [float(schedule(t)) for t in (0, 10, 100)] == [0.0, 1.0, 0.0]


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: js.warmup_cosine(1.0, 100, 101), r"warmup=.*at most steps=100, got 101"),
        (lambda: js.warmup_linear(1.0, 100, 101), r"warmup=.*at most steps=100, got 101"),
        (lambda: js.wsd(1.0, 100, 60, 50), r"must fit into steps=100, got 60 \+ 50"),
        (lambda: js.wsd_s(1.0, 100, 0, 101), r"decay=.*at most steps=100, got 101"),
    ],
)
def test_pain_06_lengths_that_do_not_fit_raise_with_the_arithmetic(call, words):
    with pytest.raises(ValueError, match=words):
        call()


def test_pain_06_optax_lengths_have_two_meanings_and_ours_one():
    """Optax: `decay_steps` is the whole in warmup_cosine and the decay alone in cosine."""
    steps = np.arange(120)
    theirs = optax.warmup_cosine_decay_schedule(0.0, 1.0, 10, decay_steps=100, end_value=0.1)
    ours = js.warmup_cosine(1.0, steps=100, warmup=10, end=0.1)
    np.testing.assert_allclose(ours(steps), theirs(steps), atol=1e-6)
    alone = optax.cosine_decay_schedule(1.0, decay_steps=100)
    np.testing.assert_allclose(js.cosine_decay(1.0, steps=100)(steps), alone(steps), atol=1e-6)


def test_pain_07_epochs_samples_tokens_become_updates_with_accumulation_counted():
    run = js.Units(batch=32, accumulation=4, samples=50_000, tokens_per_sample=2048, steps=10_000)
    assert run.epochs(1) == 50_000 // 32 // 4 == 390
    assert run.epochs(90) == 50_000 // 32 * 90 // 4
    assert run.from_samples(128 * 10) == 10
    assert run.tokens(128 * 2048 * 7) == 7
    assert run.fraction(0.05) == 500
    # Not dropping the last batch: one more micro-batch in each epoch.
    assert js.Units(batch=32, samples=33, drop_last=False).epochs(3) == 6


@pytest.mark.parametrize("samples", [3_000_000_000, 10**13])
def test_pain_07_a_large_data_set_gives_whole_steps(samples):
    steps = js.Units(batch=32, samples=samples).epochs(1)
    assert isinstance(steps, int)
    assert steps == samples // 32


def test_pain_07_accumulation_changes_no_rate_and_coverage_tells_what_is_not_reached():
    tx = optax.MultiSteps(inject(optax.sgd)(learning_rate=LR), every_k_schedule=4)
    _, _, rates = train(tx, 4 * 8)
    np.testing.assert_allclose(rates[3::4], RATES, rtol=1e-6)

    # The horizon written in micro-steps: a quarter of the curve, in silence. `coverage` speaks.
    report = js.coverage(js.wsd(1.0, 1000, warmup=100, decay=200), 1000 // 4)
    assert report.fraction == 0.25
    assert [phase.name for phase in report.unreached] == ["Linear"]
    assert [phase.name for phase in report.cut] == ["Constant"]
    assert not report.complete
    assert js.coverage(js.wsd(1.0, 1000, warmup=100, decay=200), 1000).complete


A, B, C = js.Linear(0.0, 1.0, 5), js.Cosine(1.0, 0.5, 7), js.Polynomial(0.5, 0.1, 4)


def test_pain_10_composing_does_not_change_what_is_composed():
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


def test_pain_10_laws_of_shift_scale_clip_and_products():
    steps = np.arange(-2, 25)
    np.testing.assert_allclose((A * B)(steps), A(steps) * B(steps), rtol=2e-7)
    np.testing.assert_array_equal(js.Shift(B, 6)(steps), B(steps - 6))
    np.testing.assert_allclose((0.3 * B)(steps), 0.3 * np.float64(B(steps)), rtol=2e-7)
    np.testing.assert_array_equal(
        js.Clip(B, low=0.6, high=0.9)(steps), np.clip(B(steps), np.float32(0.6), np.float32(0.9))
    )


def test_pain_10_the_order_of_calls_means_nothing():
    steps = [7, 0, 12, 3, 3, 16, 1]
    schedule = A >> B >> C
    values = {t: float(schedule(t)) for t in steps}
    for order in itertools.islice(itertools.permutations(steps), 0, 5040, 1000):
        assert [float(schedule(t)) for t in order] == [values[t] for t in order]


def test_pain_10_optax_takes_boundaries_that_cannot_be_meant():
    one, two, three = (optax.constant_schedule(x) for x in (1.0, 2.0, 3.0))
    assert float(optax.join_schedules([one, two, three], [10])(10**6)) == 2.0  # drops the third
    assert float(optax.join_schedules([one, two, three], [10, 5])(7)) == 3.0  # skips the second
    with pytest.raises(ValueError, match="strictly increasing"):
        js.PiecewiseConstant([10, 5], [1.0, 2.0, 3.0])
    with pytest.raises(ValueError, match=r"must have 1 \+ 1 values"):
        js.PiecewiseConstant([10], [1.0, 2.0, 3.0])


# ---------------------------------------------------------------------------------------- tier 2


@pytest.mark.parametrize("length", [1, 2, 3, 10])
def test_pain_11_update_i_uses_s_of_i_and_the_first_and_last_are_known(length):
    """The convention of Optax; PyTorch's closed form of the cosine is the same curve."""
    steps = np.arange(length + 1)
    ours = js.cosine_decay(1.0, length, end=0.1)
    torch = 0.1 + 0.9 * (1 + np.cos(np.pi * steps / length)) / 2
    np.testing.assert_allclose(ours(steps), torch, rtol=1e-6)
    theirs = optax.cosine_decay_schedule(1.0, length, alpha=0.1)
    np.testing.assert_allclose(ours(steps), theirs(steps), rtol=1e-6)
    _, _, rates = train(inject(optax.sgd)(learning_rate=ours), length)
    np.testing.assert_allclose(rates, torch[:-1], rtol=1e-5)


def test_pain_11_one_step_ahead_wastes_no_update_and_ends_at_the_end():
    """`Shift(s, -1)`: update i uses s(i + 1), so the first is not 0 and the last is the end."""
    schedule = js.Shift(js.warmup_cosine(1.0, 100, 10, end=0.1), -1)
    assert float(schedule(0)) == np.float32(0.1)
    assert float(schedule(9)) == 1.0
    assert float(schedule(99)) == np.float32(0.1)
    assert schedule.duration == 99


def test_pain_13_a_cooldown_needs_no_horizon_and_starts_without_a_jump():
    endless = js.wsd(0.1, None, warmup=10, decay=0)
    assert endless.duration is None
    assert float(endless(2**31 - 1)) == np.float32(0.1)
    for base in (endless, js.inverse_sqrt(0.1, 10), js.cosine_decay(0.1, 1000)):
        cooled = js.cooldown_from(base, at=400, steps=50, shape="1-sqrt")
        top = float(base(400))
        assert abs(float(cooled(400)) - top) <= np.spacing(np.float32(top))
        assert float(cooled(399)) == float(base(399))
        assert float(cooled(450)) == float(cooled(10**6)) == 0.0
    again = js.wsd_s(1.0, steps=100, warmup=10, decay=20)
    assert [float(again(t)) for t in (10, 89, 110, 210, 1010)] == [1.0] * 5
    for shape in js.SHAPES:
        assert float(js.wsd(1.0, 100, 10, 20, shape=shape, end=0.01)(100)) == np.float32(0.01)


def test_pain_14_dead_branches_have_no_part_in_a_gradient():
    step = 5

    def theirs(w):
        later = lambda t: w / jnp.sqrt(t)
        return optax.join_schedules([optax.constant_schedule(w), later], [10])(step)

    def ours(w):
        return (js.Constant(w, 10) >> js.InverseSqrt(w, 1.0))(step)

    assert np.isnan(jax.grad(theirs)(1.0))
    assert float(jax.grad(ours)(1.0)) == 1.0

    def late(rate):  # the later part overflows at its own step -5000
        return (js.Constant(1.0, 5000) >> js.Exponential(1.0, rate))(0)

    assert float(jax.grad(late)(-1.0)) == 0.0


def test_pain_14_a_length_has_a_gradient():
    """d/dn of a line at step t is (start - end) t / n^2; past the end it is 0."""
    value = lambda n, t: js.Linear(1.0, 0.0, n)(t)
    slopes = jax.vmap(jax.grad(value), (None, 0))(20.0, jnp.asarray([0.0, 1.0, 5.0, 19.0, 21.0]))
    np.testing.assert_allclose(slopes, np.asarray([0, 1, 5, 19, 0]) / 400, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("horizon", [3 * 10**9, 10**13])
def test_pain_16_a_horizon_in_tokens(horizon):
    for schedule in (
        js.linear_decay(1.0, horizon),
        js.warmup_cosine(1.0, horizon, horizon // 100),
        js.exponential_decay(1.0, 0.5, horizon),
        js.wsd(1.0, horizon, horizon // 100, horizon // 10),
    ):
        for step in (0, 10**6, 2**31 - 1):
            value = float(jax.jit(schedule)(step))
            assert value == pytest.approx(float(schedule(step)), rel=1e-6)
    with pytest.raises(OverflowError):
        optax.linear_schedule(1.0, 0.0, horizon)(5)


def test_pain_16_the_tail_keeps_its_digits():
    horizon = 10**6
    steps = np.arange(horizon - 1000, horizon, dtype=np.int32)
    want = np.sin(np.pi / 2 * (horizon - steps) / horizon) ** 2
    got = np.asarray(jax.jit(js.cosine_decay(1.0, horizon))(steps))
    np.testing.assert_allclose(got, want, rtol=1e-6)
    theirs = np.asarray(jax.jit(optax.cosine_decay_schedule(1.0, horizon))(steps))
    assert np.count_nonzero(theirs == 0) == 77


@pytest.mark.parametrize(
    "boundaries",
    [
        [10.5, 20_000_001],
        [10, 20_000_001, 3_000_000_000],
    ],
)
def test_pain_16_a_boundary_is_exact_whatever_its_neighbours(boundaries):
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
def test_pain_16_an_int64_length_does_not_wrap(make):
    schedule = make(np.asarray(2**33))
    assert float(schedule(5)) > 0.99
    assert float(jax.jit(lambda s: s(5))(js.strong(schedule))) > 0.99


def test_pain_16_a_boundary_that_no_step_reaches_is_refused():
    for make in (
        lambda n: js.PiecewiseLinear([0, n], [1.0, 0.0]),
        lambda n: js.PiecewiseConstant(np.asarray([n]), [1.0, 0.0]),
    ):
        with pytest.raises(ValueError, match=r"less than 2\*\*64"):
            make(2**64)


def test_pain_17_a_change_acts_at_the_next_update_or_raises():
    tx, traces = inject(optax.sgd)(learning_rate=LR), 0

    @jax.jit
    def step(state):
        nonlocal traces
        traces += 1
        updates, state = tx.update(GRADS, state, PARAMS)
        return -updates["w"][0], state

    _, state = step(tx.init(PARAMS))
    new = js.warmup_cosine(peak=0.9, steps=20, warmup=5, end=0.02)
    for change, rate in (
        ({"learning_rate": 0.125}, 0.125),
        ({"learning_rate": None}, RATES[2]),
        ({"scale": {"learning_rate": 0.5}}, RATES[3] / 2),
        ({"learning_rate": new}, float(new(4))),
    ):
        applied, state = step(override(state, **change))
        assert float(applied) == pytest.approx(rate, rel=1e-6)
    assert traces == 1
    with pytest.raises(ValueError, match="momentum"):
        override(state, momentum=0.5)


def test_pain_17_optax_ignores_a_change_in_silence_and_we_do_not():
    tx = optax.inject_hyperparams(optax.sgd)(learning_rate=LR)
    state = tx.init(PARAMS)
    state.hyperparams["learning_rate"] = jnp.float32(123.0)
    updates, _ = tx.update(GRADS, state, PARAMS)
    assert float(updates["w"][0]) == 0.0
    with pytest.raises(ValueError, match="ignores"):
        override(state, learning_rate=123.0)


@pytest.mark.parametrize("rate", [float("nan"), float("inf"), -float("inf"), 10**400])
@pytest.mark.parametrize("how", ["value", "scale"])
def test_pain_17_a_rate_that_is_no_number_is_refused(how, rate):
    state = inject(optax.sgd)(learning_rate=LR).init(PARAMS)
    change = {"learning_rate": rate} if how == "value" else {"scale": {"learning_rate": rate}}
    with pytest.raises(ValueError, match="learning_rate"):
        override(state, **change)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (js.Constant(1), js.Constant(0.5)),
        (js.Linear(1, 0, 10), js.Linear(0.5, 0.0, 10)),
    ],
    ids=["value", "start"],
)
def test_pain_17_a_whole_number_may_give_way_to_a_fraction(old, new):
    """`js.Constant(1)` is a rate like any other; `override` to 0.5 must act or `inject` refuse."""
    state = inject(optax.sgd)(learning_rate=old).init(PARAMS)
    assert float(override(state, learning_rate=new).schedules["learning_rate"](0)) == float(new(0))


SHAPE = js.Linear(0.9, 0.5, 8)


@pytest.mark.parametrize(
    ("factory", "name"),
    [
        (lambda x: optax.sgd(0.1, momentum=x), "x"),
        (lambda x: optax.adam(0.1, b1=x), "x"),
        (lambda x: optax.adam(0.1, eps=x), "x"),
        (lambda x: optax.adamw(0.1, weight_decay=x), "x"),
        (lambda x: optax.clip_by_global_norm(x), "x"),
        (lambda x: optax.ema(x), "x"),
    ],
    ids=["momentum", "b1", "eps", "weight_decay", "clip", "ema"],
)
def test_pain_18_one_schedule_drives_any_hyperparameter(factory, name):
    _, state, _ = train(inject(factory)(**{name: SHAPE}), 3)
    assert float(current(state)[name]) == pytest.approx(float(SHAPE(2)))


def test_pain_18_two_scheduled_values_share_one_step_and_a_loss_weight_is_a_call():
    both = inject(optax.adamw)(learning_rate=LR, weight_decay=SHAPE)
    _, state, _ = train(both, 5)
    assert int(state.count) == 5
    np.testing.assert_allclose(
        [current(state)["learning_rate"], current(state)["weight_decay"]], [LR(4), SHAPE(4)]
    )
    loss = jax.jit(lambda step: 2.0 + SHAPE(step) * 3.0)
    assert float(loss(4)) == pytest.approx(2.0 + 3.0 * 0.7)


def test_pain_19_groups_keep_their_ratio_at_every_step():
    tx = group_lr(optax.sgd, {"w": 0.5, "b": 2.0})(learning_rate=LR)
    state = tx.init(PARAMS)
    for rate in RATES:
        updates, state = tx.update(GRADS, state, PARAMS)
        np.testing.assert_allclose(-updates["w"][0], 0.5 * rate, rtol=1e-6)
        np.testing.assert_allclose(-updates["b"][0], 2.0 * rate, rtol=1e-6)
        assert float(current(state)["b/learning_rate"]) == pytest.approx(2.0 * rate)
    for groups, path in (({"w": 1.0}, "'b'"), ({".*": 1.0, "w": 1.0}, "'w'")):
        with pytest.raises(ValueError, match=path):
            group_lr(optax.sgd, groups)(learning_rate=LR).init(PARAMS)

    def updates(multiplier):  # multipliers may be mapped over
        tx = group_lr(optax.sgd, {"w": multiplier, "b": 1.0})(learning_rate=LR)
        _, state = tx.update(GRADS, tx.init(PARAMS), PARAMS)
        return -tx.update(GRADS, state, PARAMS)[0]["w"][0]

    np.testing.assert_allclose(
        jax.vmap(updates)(jnp.asarray([0.5, 2.0])), np.asarray([0.5, 2.0]) * RATES[1], rtol=1e-6
    )


def test_pain_20_a_branch_in_a_users_function_is_found_when_it_is_made():
    branch = lambda step: 0.1 if step < 10 else 0.01
    with pytest.raises(TypeError, match=r"(?s)from_fn.*jnp\.where.*PiecewiseConstant"):
        js.from_fn(branch)
    with pytest.raises(jax.errors.TracerBoolConversionError):  # in the middle of a run
        jax.jit(optax.sgd(branch).update)(GRADS, optax.sgd(branch).init(PARAMS), PARAMS)
    good = js.from_fn(lambda step, low: jnp.where(step < 10, 0.1, low), low=0.01)
    np.testing.assert_allclose(jax.jit(good)(np.asarray([9, 10])), [0.1, 0.01], rtol=1e-6)


def test_pain_20_an_optimizer_made_in_a_trace_leaks_nothing():
    with jax.checking_leaks():
        peaks = jnp.asarray([0.1, 0.2])
        states = jax.jit(
            jax.vmap(lambda p: inject(optax.sgd)(learning_rate=js.Linear(p, 0.0, 9)).init(PARAMS))
        )(peaks)
    np.testing.assert_array_equal(current(states)["learning_rate"], peaks)


def test_pain_21_a_skipped_update_holds_the_step_only_inside_the_guard():
    bad = {**GRADS, "w": GRADS["w"] * jnp.nan}
    inside = optax.apply_if_finite(inject(optax.sgd)(learning_rate=LR), 5)
    outside = optax.chain(
        optax.apply_if_finite(optax.identity(), 5), inject(optax.sgd)(learning_rate=LR)
    )
    for tx, step in ((inside, 0), (outside, 1)):
        _, state = tx.update(bad, tx.init(PARAMS), PARAMS)
        updates, state = tx.update(GRADS, state, PARAMS)
        assert -float(updates["w"][0]) == pytest.approx(RATES[step])


def test_pain_22_a_schedule_survives_pickle_copy_json_and_its_repr():
    for schedule in (LR, js.warm_restarts(0.1, 10, 2.0), js.Table([0.1, 0.2]), 0.5 * LR + 0.1):
        namespace = {name: getattr(js, name) for name in dir(js)}
        for again in (
            pickle.loads(pickle.dumps(schedule)),
            copy.deepcopy(schedule),
            js.from_json(js.to_json(schedule)),
            js.from_dict(js.to_dict(schedule)),
            eval(repr(schedule), namespace),
        ):
            assert again == schedule
            assert hash(again) == hash(schedule)
            np.testing.assert_array_equal(again(np.arange(20)), schedule(np.arange(20)))
    with pytest.raises((AttributeError, pickle.PicklingError)):
        pickle.dumps(optax.cosine_decay_schedule(0.1, 10))
    assert repr(optax.constant_schedule(0.1)).startswith("<function")


def test_pain_22_whatever_is_written_can_be_read():
    schedule = js.Linear(1.0, 0.0, 10)
    for _ in range(70):
        schedule = js.Shift(schedule, 1)
    assert js.from_json(js.to_json(schedule)) == schedule


def test_pain_22_a_population_can_be_written_and_read():
    population = js.stack([js.Linear(peak, 0.0, 10) for peak in (1.0, 2.0)])
    assert js.from_json(js.to_json(population)) == population


def _own_copy():
    values = np.asarray([1.0, 0.5], np.float32)
    schedule = js.Table(values)
    values[0] = 9.0
    return schedule


def _own_leaf():
    schedule = js.Table([1.0, 0.5])
    with contextlib.suppress(TypeError, ValueError):
        schedule.values[0] = 9.0
    return schedule


def _own_parameters():
    schedule = js.from_fn(lambda step, peak: peak * jnp.ones_like(step, jnp.float32), peak=1.0)
    with contextlib.suppress(TypeError):
        schedule.parameters["peak"] = 9.0
    return schedule


@pytest.mark.parametrize(
    "make",
    [
        _own_copy,
        _own_leaf,
        _own_parameters,
    ],
)
def test_pain_22_nothing_outside_changes_an_immutable_schedule(make):
    assert float(make()(0)) == 1.0


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda s: pickle.loads(pickle.dumps(s))])
def test_pain_22_a_copy_is_as_immutable_as_the_original(copied):
    again = copied(js.Table([1.0, 0.5]) >> js.Constant(0.1))
    with pytest.raises(ValueError, match="read-only"):
        again.parts[0].values[0] = 9.0
    again = copied(js.from_fn(_half, peak=1.0))
    assert dict(again.parameters) == {"peak": 1.0}
    assert dataclasses.replace(again, steps=5).parameters["peak"] == 1.0


def _half(step, peak):
    return peak * jnp.where(step > 0, 0.5, 1.0)


def test_pain_22_a_schedule_whose_array_was_donated_has_a_repr():
    rate = jnp.asarray(1.0)
    schedule = js.Linear(rate, 0.0, 5) >> js.Constant(0.0)
    given = js.from_fn(_half, peak=rate)
    rate.delete()
    assert "start=<deleted>, end=0.0" in repr(schedule)
    assert "peak=<deleted>" in repr(given)


@pytest.mark.parametrize("x64", [False, True])
@pytest.mark.parametrize(
    "make",
    [
        lambda: js.Table(np.array([0.1, 0.2])),
        lambda: js.PiecewiseLinear(np.array([0.1, 20_000_001.5]), np.array([0.1, 0.2])),
        lambda: js.stack([js.Table(np.array([0.1, 0.2])), js.Table(np.array([0.3, 0.4]))]),
    ],
    ids=["Table", "PiecewiseLinear", "population"],
)
def test_pain_22_float64_arrays_are_read_as_they_were_written(make, x64):
    """Float32 as for a list, save in x64 mode, where they stay float64."""
    with jax.enable_x64(x64):
        schedule = make()
        assert schedule.values.dtype == (np.float64 if x64 else np.float32)
        read = [js.from_json(js.to_json(schedule))]
        if schedule.values.ndim == 1:  # the repr of a population is for the eye
            read.append(eval(repr(schedule), {**vars(js), "np": np}))
        for again in read:
            assert again == schedule
            assert again.values.dtype == schedule.values.dtype
    assert x64 or js.Table(np.array([0.1, 0.2])) == js.Table([0.1, 0.2])


@pytest.mark.parametrize("array", [np.asarray, jnp.asarray])
def test_pain_16_unsigned_steps_and_lengths_beyond_int32_are_not_rounded(array):
    schedule = js.Linear(1.0, 0.0, array(np.uint32(2**31 + 5)))
    assert schedule.steps == 2**31 + 5
    steps = array(np.asarray([0, 2**32 - 1], np.uint32))
    assert schedule(steps).tolist() == [1.0, 0.0]
    family = js.Linear(1.0, 0.0, array(np.asarray([10, 2**31 + 5], np.uint32)))
    assert family.steps.tolist() == [10, 2**31 + 5]


def test_pain_16_whole_boundaries_that_no_float32_holds_are_integers():
    for whole in ([10.0, 20_000_001.0], np.array([10.0, 20_000_001.0])):
        drops = js.PiecewiseConstant(whole, [2.0, 1.0, 0.0])
        assert [float(drops(t)) for t in (20_000_000, 20_000_001)] == [1.0, 0.0]
    with pytest.raises(ValueError, match="strictly increasing"):
        js.PiecewiseConstant(np.array([20_000_000.5, 20_000_001.0]), [2.0, 1.0, 0.0])


@pytest.mark.parametrize("steps", [10.5, 10**10])
def test_pain_17_a_length_that_is_no_int32_does_not_take_the_place_of_one(steps):
    """It would be another dtype, and so another trace: loud, with the way out in the message."""
    state = inject(optax.sgd)(learning_rate=js.Linear(1.0, 0.0, 10)).init(PARAMS)
    with pytest.raises(ValueError, match="int32"):
        override(state, learning_rate=js.Linear(1.0, 0.0, steps))


DEGENERATE = {
    "Linear": lambda n, w: js.Linear(1.0, 0.1, n),
    "cosine_decay": lambda n, w: js.cosine_decay(1.0, n, end=0.1),
    "warmup_cosine": lambda n, w: js.warmup_cosine(1.0, n, w, end=0.1),
    "warmup_linear": lambda n, w: js.warmup_linear(1.0, n, w, end=0.1),
    "warmup_polynomial": lambda n, w: js.warmup_polynomial(1.0, n, w, end=0.1),
    "wsd": lambda n, w: js.wsd(1.0, n, w, n - w, end=0.1),
    "one_cycle": lambda n, w: js.one_cycle(1.0, n, final_div=1.0),
    "slanted_triangular": lambda n, w: js.slanted_triangular(1.0, n),
    "flat_cosine": lambda n, w: js.flat_cosine(1.0, n, end=0.1),
}


@pytest.mark.parametrize("name", DEGENERATE)
def test_pain_23_runs_of_0_1_2_steps_are_finite_bounded_and_held(name):
    steps = np.asarray([-(2**31), -5, -1, 0, 1, 2, 3, 10, 10**6, 2**31 - 1], np.int64)
    for length, warmup in ((0, 0), (1, 0), (1, 1), (2, 0), (2, 1), (2, 2)):
        schedule = DEGENERATE[name](length, warmup)
        values = np.asarray(schedule(steps))
        assert np.all(np.isfinite(values))
        assert values.min() >= 0.0
        assert values.max() <= 1.0
        assert np.all(values[steps <= 0] == values[steps == 0])
        assert np.all(values[steps >= length] == values[-1])


@pytest.mark.parametrize("name", ["warmup_cosine", "wsd", "one_cycle"])
def test_pain_23_traced_lengths_never_raise_at_run_time(name):
    """A warmup longer than the run, too: known numbers are refused, traced ones are survived."""
    lengths = jnp.asarray([[0, 0], [1, 1], [2, 1], [2, 5]])
    steps = jnp.asarray([-5, 0, 1, 2, 3, 10**6])
    values = jax.jit(jax.vmap(lambda n: DEGENERATE[name](n[0], n[1])(steps)))(lengths)
    assert np.all(np.isfinite(values))
    assert values.min() >= 0.0
    assert values.max() <= 1.0


def test_pain_23_optax_goes_wrong_in_silence():
    assert float(optax.linear_schedule(0.0, 1.0, 0)(100)) == 0.0  # never reaches its end
    assert float(optax.cosine_decay_schedule(1.0, 10)(-5)) == pytest.approx(0.5)
    assert float(js.Linear(0.0, 1.0, 0)(100)) == 1.0
    assert float(js.Cosine(1.0, 0.0, 10)(-5)) == 1.0


def test_pain_24_what_was_sampled_is_what_training_logs():
    tx = inject(optax.sgd)(learning_rate=LR)
    state = tx.init(PARAMS)

    def step(state, _):
        _, state = tx.update(GRADS, state, PARAMS)
        return state, current(state)["learning_rate"]

    logged = jax.jit(lambda s: jax.lax.scan(step, s, None, 12)[1])(state)
    sampled = js.sample(LR, 12)
    assert np.all(np.abs(sampled - logged) <= 2 * np.spacing(sampled))
    family = js.stack([js.warmup_cosine(p, 8, 3) for p in (0.1, 0.2)])
    assert js.sample(family, 12).shape == (2, 12)


# ---------------------------------------------------------------------------------------- tier 3

STEPS = [3, np.int64(3), np.uint8(3), np.float16(3), np.float32(3), jnp.int32(3), jnp.float32(3)]


@pytest.mark.parametrize("x64", [False, True])
def test_pain_26_always_a_strong_float32_and_a_carry_of_scan(x64):
    with jax.enable_x64(x64):
        for schedule in (js.Constant(0.1), LR, js.exponential_decay(0.1, 0.5, 3)):
            for step, call in itertools.product(STEPS, (schedule, jax.jit(schedule))):
                out = call(step)
                assert (out.dtype, out.weak_type, out.shape) == (jnp.float32, False, ())
            carry = jax.eval_shape(
                lambda s=schedule: jax.lax.scan(lambda c, t: (s(t), c), s(0), jnp.arange(3))[0]
            )
            assert carry.dtype == jnp.float32
        assert isinstance(optax.constant_schedule(0.1)(3), float)
        cosine = optax.cosine_decay_schedule(0.1, 10)(3)
        assert cosine.dtype == (jnp.float64 if x64 else jnp.float32)


def test_pain_26_one_dtype_whether_a_schedule_is_an_argument_or_a_constant_of_the_program():
    with jax.enable_x64(True):
        closure = jax.jit(lambda t: js.Constant(0.1)(t))(3)
        argument = jax.jit(lambda s, t: s(t))(js.Constant(0.1), 3)
    assert closure.dtype == argument.dtype == jnp.float32


def test_pain_27_a_schedule_among_parameters_is_neither_called_nor_dropped():
    params = {"w": jnp.ones(2), "lr": js.strong(js.Constant(0.5))}
    grads = jax.tree.map(jnp.ones_like, params)
    for tx in (
        optax.sgd(1.0),
        optax.adam(0.1),
        optax.masked(optax.sgd(1.0), {"w": True, "lr": False}),
        optax.partition({"a": optax.sgd(1.0)}, {"w": "a", "lr": "a"}),
        optax.adamw(0.1, mask={"w": True, "lr": False}),
    ):
        updates, _ = tx.update(grads, tx.init(params), params)
        new = optax.apply_updates(params, updates)
        assert isinstance(new["lr"], js.Constant)
        assert jax.tree.structure(new) == jax.tree.structure(params)


def test_pain_27_a_schedule_as_variable_of_a_module_and_as_static_argument():
    class Model(nnx.Module):
        def __init__(self):
            self.lr = nnx.Variable(js.strong(js.Linear(1.0, 0.0, 4)))

    graph, state = nnx.split(Model())
    assert len(jax.tree.leaves(state)) == 3
    assert float(nnx.merge(graph, state).lr.get_value()(1)) == 0.75

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


def test_pain_29_the_result_is_annotated_as_what_it_is():
    """Typing against Optax's aliases is checked by mypy in test_public.py."""
    import typing

    hints = typing.get_type_hints(js.AbstractSchedule.__call__)
    assert hints["return"] is jax.Array


def test_pain_30_there_is_no_step_and_looking_changes_no_training():
    for name in dir(js):
        value = getattr(js, name, None) if name not in ("plot",) else None
        if isinstance(value, type) and issubclass(value, js.AbstractSchedule):
            assert not hasattr(value, "step")
            assert not hasattr(value, "reset")
    tx = inject(optax.adam)(learning_rate=LR)
    quiet = train(tx, 5)[:2]
    update, state, params = jax.jit(tx.update), tx.init(PARAMS), PARAMS
    for _ in range(5):
        for step in range(200):
            LR(step)
        updates, state = update(GRADS, state, params)
        params = optax.apply_updates(params, updates)
    bits_equal((params, state), quiet)
