"""The Optax seam: what is applied is what the schedule says, read from -update / gradient."""

import pickle
from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import checking_leaks
from updates import EXPECTED, GRADS, LR, PARAMS, STEPS, applied

import jaxsched as js
from jaxsched.optim import (
    adopt,
    current,
    decay_weights,
    group_lr,
    inject,
    override,
    resume,
)
from jaxsched.optim._state import find_sites


@pytest.mark.parametrize(
    "tx",
    [
        optax.sgd(LR),
        optax.chain(optax.scale_by_schedule(LR), optax.scale(-1.0)),
        optax.inject_hyperparams(optax.sgd)(learning_rate=LR),
        optax.inject_hyperparams(optax.sgd)(learning_rate=LR, momentum=js.Constant(0.0)),
        inject(optax.sgd)(learning_rate=LR),
        inject(optax.sgd)(LR),
        optax.chain(optax.clip_by_global_norm(1e9), inject(optax.sgd)(learning_rate=LR)),
        optax.partition({"a": inject(optax.sgd)(LR)}, {"w": "a", "b": "a"}),
        optax.masked(inject(optax.sgd)(LR), {"w": True, "b": False}),
        optax.apply_if_finite(inject(optax.sgd)(LR), 3),
    ],
)
def test_the_applied_rates_are_the_schedule(tx):
    np.testing.assert_allclose(applied(tx)[0], EXPECTED, rtol=1e-6)


@pytest.mark.parametrize("factory", [optax.adam, optax.adamw, partial(optax.sgd, momentum=0.9)])
def test_static_hyperparameters_leave_the_optimizer_bit_identical(factory):
    mine, plain = inject(factory)(learning_rate=js.Constant(1e-3)), factory(1e-3)
    p = q = {"w": jnp.linspace(-1.0, 1.0, 7)}
    s, t = mine.init(p), plain.init(q)
    for i in range(20):
        g = jax.tree.map(lambda x, i=i: jnp.sin(x * (i + 1)), p)
        u, s = jax.jit(mine.update)(g, s, p)
        v, t = jax.jit(plain.update)(g, t, q)
        chex.assert_trees_all_equal(u, v)
        p, q = optax.apply_updates(p, u), optax.apply_updates(q, v)


@pytest.mark.parametrize("factory", [optax.adam, optax.adamw, partial(optax.sgd, momentum=0.9)])
@pytest.mark.parametrize(
    "dtypes", [(jnp.bfloat16,) * 2, (jnp.float32,) * 2, (jnp.bfloat16, jnp.float32)]
)
def test_updates_keep_their_dtype_within_an_ulp(factory, dtypes):
    p = {k: jnp.linspace(0.1, 1.0, 5).astype(d) for k, d in zip("ab", dtypes, strict=True)}
    mine, plain = inject(factory)(learning_rate=js.Constant(1e-3)), factory(1e-3)
    s, t = mine.init(p), plain.init(p)
    for _ in range(3):
        u, s = jax.jit(mine.update)(p, s, p)
        v, t = jax.jit(plain.update)(p, t, p)
    assert current(s)["learning_rate"].dtype == jnp.float32
    for k, d in zip("ab", dtypes, strict=True):
        assert u[k].dtype == d
        a, b = np.float64(u[k]), np.float64(v[k])
        assert np.isfinite(a).all()
        assert (np.abs(a - b) <= float(jnp.finfo(d).eps) * np.abs(b)).all()


def test_optax_inject_is_nan_with_bfloat16_and_ours_is_not():
    p = {"w": jnp.ones(3, jnp.bfloat16)}
    theirs = optax.inject_hyperparams(optax.adam)(learning_rate=1e-3)
    ours = inject(optax.adam)(learning_rate=js.Constant(1e-3), b2=js.Constant(0.999))
    u, _ = theirs.update(p, theirs.init(p), p)
    assert np.isnan(np.float32(u["w"])).any()
    with jax.debug_nans(True):
        u, s = jax.jit(ours.update)(p, ours.init(p), p)
    assert np.isfinite(np.float32(u["w"])).all()
    assert jax.tree.map(jnp.result_type, s) == jax.tree.map(jnp.result_type, ours.init(p))


@pytest.mark.parametrize(
    ("factory", "given"),
    [
        (optax.sgd, {"learning_rate": LR, "momentum": js.Linear(0.95, 0.85, STEPS)}),
        (optax.adam, {"learning_rate": 0.1, "b1": js.Linear(0.95, 0.85, STEPS)}),
        (optax.adam, {"learning_rate": 0.1, "eps": js.Linear(1e-8, 1e-3, STEPS)}),
        (optax.adamw, {"learning_rate": 0.1, "weight_decay": js.Linear(0.1, 0.0, STEPS)}),
        (optax.adamw, {"learning_rate": LR, "weight_decay": js.Linear(0.1, 0.0, STEPS)}),
        (optax.ema, {"decay": js.Linear(0.9, 0.5, STEPS)}),
        (optax.clip_by_global_norm, {"max_norm": js.Linear(1.0, 0.1, STEPS)}),
    ],
)
def test_every_hyperparameter_can_be_scheduled(factory, given):
    _, state = applied(inject(factory)(**given))
    scheduled = {k: s for k, s in given.items() if isinstance(s, js.AbstractSchedule)}
    assert set(current(state)) == set(scheduled)
    for name, schedule in scheduled.items():
        np.testing.assert_allclose(current(state)[name], schedule(STEPS - 1), rtol=1e-6)


def test_multisteps_uses_the_rate_of_each_update():
    tx = optax.MultiSteps(inject(optax.sgd)(LR), every_k_schedule=2)
    update, state, rates = jax.jit(tx.update), tx.init(PARAMS), []
    for i in range(2 * STEPS):
        updates, state = update(GRADS, state, PARAMS)
        if i % 2:
            rates.append(-float(updates["w"][0]))
            assert float(current(state)["learning_rate"]) == pytest.approx(rates[-1])
    np.testing.assert_allclose(rates, EXPECTED, rtol=1e-6)


_TWICE = lambda tx: optax.MultiSteps(optax.MultiSteps(tx, 2), 2).gradient_transformation()
GATHERED = {
    "MultiSteps": lambda tx: optax.MultiSteps(tx, 4),
    "twice in a guarded chain": lambda tx: optax.apply_if_finite(
        optax.chain(optax.identity(), _TWICE(tx)), 3
    ),
    "apply_every": lambda tx: optax.chain(tx, optax.scale(0.25), optax.apply_every(4)),
}


@pytest.mark.parametrize("gathered", GATHERED)
def test_micro_batches_are_no_steps_where_they_are_gathered_inside(gathered):
    lr = js.Plateau(LR, factor=0.5, patience=1)

    def rates(tx):
        def step(state, _):
            updates, state = tx.update(GRADS, state, PARAMS, value=1.0)
            return state, (updates["w"], *current(state).values())

        return jax.lax.scan(step, tx.init(PARAMS), length=16)[1]

    inside = inject(lambda rate: GATHERED[gathered](optax.sgd(rate)))(rate=lr)
    expected = rates(optax.MultiSteps(inject(optax.sgd)(lr), 4))
    jax.tree.map(np.testing.assert_array_equal, rates(inside), expected)


def test_a_step_is_a_micro_batch_where_only_a_group_gathers():
    group = lambda rate: optax.MultiSteps(optax.sgd(rate), 4).gradient_transformation()
    tx = inject(lambda rate: optax.masked(group(rate), {"w": True, "b": False}))(rate=LR)
    assert int(tx.update(GRADS, tx.init(PARAMS), PARAMS)[1].count) == 1


BAD = {**GRADS, "w": GRADS["w"] * jnp.nan}
_GUARDED = lambda tx: optax.apply_if_finite(tx, 1)
# Counted after each of: good, bad, good, bad, bad (the guard gives up), good.
COUNTED = {
    "inside": (lambda r: _GUARDED(optax.sgd(r)), [1, 1, 2, 2, 3, 4]),
    "first": (lambda r: optax.chain(_GUARDED(optax.identity()), optax.sgd(r)), [1, 1, 2, 2, 3, 4]),
    "gathered": (lambda r: optax.MultiSteps(_GUARDED(optax.sgd(r)), 2), [0, 0, 0, 1, 1, 2]),
    # What moves the parameters all the same is an update.
    "momentum": (
        lambda r: optax.chain(_GUARDED(optax.trace(0.9)), optax.adam(r)),
        [1, 2, 3, 4, 5, 6],
    ),
    "beside": (
        optax.chain(_GUARDED(optax.identity()), inject(optax.sgd)(LR)),
        [1, 2, 3, 4, 5, 6],
    ),
}


@pytest.mark.parametrize("place", COUNTED)
def test_a_skipped_update_that_changes_nothing_is_no_step(place):
    make, counts = COUNTED[place]
    tx = inject(make)(r=LR) if not hasattr(make, "update") else make

    def step(state, grads):
        state = tx.update(grads, state, PARAMS)[1]
        return state, find_sites(state)[0].state.count

    several = jax.tree.map(lambda *x: jnp.stack(x), GRADS, BAD, GRADS, BAD, BAD, GRADS)
    assert jax.lax.scan(step, tx.init(PARAMS), several)[1].tolist() == counts


@pytest.mark.parametrize("dtype", [jnp.float64, jnp.float32, jnp.float16, jnp.bfloat16])
def test_a_rate_is_computed_in_the_dtype_that_is_asked_for(dtype):
    """To its last digit: 0.1 in float64, and rounded once to anything narrower."""
    jax.config.update("jax_enable_x64", True)
    try:
        params = jnp.ones(2, jnp.float64)
        tx = inject(optax.sgd, hyperparam_dtype=dtype)(learning_rate=js.Constant(0.1))
        state, expected = tx.init(params), float(np.asarray(0.1, dtype))
        for change in ({}, {"learning_rate": None}, {"learning_rate": js.Constant(0.1)}):
            state = override(state, **change) if change else state
            updates, state = jax.jit(tx.update)(params, state, params)
            assert updates.dtype == jnp.float64
            assert updates.tolist() == [-expected] * 2
        watching = inject(optax.sgd, hyperparam_dtype=dtype)(learning_rate=js.Plateau(0.1))
        state = resume(state, watching.init(params), policy="new")
        groups = group_lr(optax.sgd, {".*": 1.0}, hyperparam_dtype=dtype)(learning_rate=0.1)
        assert groups.update(params, groups.init(params), params)[0].tolist() == [-expected] * 2
        assert jax.jit(watching.update)(params, state, params)[0].tolist() == [-expected] * 2
    finally:
        jax.config.update("jax_enable_x64", False)


def test_float64_is_refused_where_jax_has_none():
    with pytest.raises(ValueError, match="jax_enable_x64"):
        inject(optax.sgd, hyperparam_dtype=jnp.float64)


def test_vmapped_members_have_their_own_schedules():
    peaks = jnp.array([0.1, 0.2, 0.4])
    tx = inject(optax.sgd)(learning_rate=LR)

    @jax.jit
    @jax.vmap
    def start(peak):
        lr = js.warmup_cosine(peak=peak, steps=STEPS, warmup=3, end=0.01)
        return inject(optax.sgd)(learning_rate=lr).init(PARAMS)

    states = override(start(peaks), scale={"learning_rate": jnp.array([1.0, 1.0, 2.0])})
    update = jax.jit(jax.vmap(tx.update, in_axes=(None, 0, None)))
    for _ in range(4):
        updates, states = update(GRADS, states, PARAMS)
    np.testing.assert_allclose(current(states)["learning_rate"], [0.1, 0.2, 0.8], rtol=1e-6)
    np.testing.assert_allclose(-updates["w"][:, 0], [0.1, 0.2, 0.8], rtol=1e-6)


def test_both_weight_decay_conventions_shrink_in_closed_form():
    shape, peak, wd = js.Linear(1.0, 0.0, STEPS), 0.5, 0.1
    coupled = inject(optax.adamw)(learning_rate=peak * shape, weight_decay=wd)
    free = optax.chain(
        inject(optax.adam)(learning_rate=peak * shape),
        inject(decay_weights)(weight_decay=wd * shape),
    )
    weights = np.asarray(shape(np.arange(STEPS)), np.float64)
    for tx, factor in ((coupled, wd * peak), (free, wd)):
        p, s = PARAMS, tx.init(PARAMS)
        for _ in range(STEPS):
            u, s = tx.update(jax.tree.map(jnp.zeros_like, p), s, p)
            p = optax.apply_updates(p, u)
        np.testing.assert_allclose(p["w"], np.prod(1 - factor * weights), rtol=1e-5)


def test_resume_is_bitwise_and_a_new_schedule_is_an_explicit_choice():
    tx = inject(optax.adam)(learning_rate=LR)
    update = jax.jit(tx.update)

    def run(p, s, n):
        for _ in range(n):
            u, s = update(jax.tree.map(jnp.sin, p), s, p)
            p = optax.apply_updates(p, u)
        return p, s

    whole = run(PARAMS, tx.init(PARAMS), 6)
    half = run(PARAMS, tx.init(PARAMS), 2)
    loaded = pickle.loads(pickle.dumps(jax.tree.map(np.asarray, half)))
    chex.assert_trees_all_equal(run(*loaded, 4), whole)

    fresh = inject(optax.adam)(learning_rate=js.Linear(1.0, 0.5, 10)).init(PARAMS)
    with pytest.raises(ValueError, match="policy"):
        resume(half[1], fresh)
    chex.assert_trees_all_equal(resume(half[1], fresh, policy="checkpoint"), half[1])
    held = override(half[1], learning_rate=0.25)
    with pytest.raises(ValueError, match="overridden"):
        resume(held, tx.init(PARAMS))
    chex.assert_trees_all_equal(resume(held, tx.init(PARAMS), policy="checkpoint"), held)
    chex.assert_trees_all_equal(resume(half[1], tx.init(PARAMS)), half[1])
    new = resume(half[1], fresh, policy="new")
    chex.assert_trees_all_equal(new.inner_state, half[1].inner_state)
    _, after = update(GRADS, new, PARAMS)
    assert float(current(after)["learning_rate"]) == pytest.approx(0.9)


def test_a_donated_step_deletes_nobody_elses_arrays():
    rate = jnp.float32(0.5)
    tx = group_lr(optax.adam, {"w": rate, "b": rate})(
        learning_rate=js.Plateau(js.Constant(rate), rate, patience=0), b1=js.Constant(rate)
    )
    step = jax.jit(lambda g, s: tx.update(g, s, PARAMS)[1], donate_argnums=1)
    old, saved = optax.adam(0.1).init(PARAMS), tx.init(PARAMS)
    new = (
        lambda: tx.init(PARAMS),
        lambda: js.override(tx.init(PARAMS), b1=rate),
        lambda: js.override(tx.init(PARAMS), b1=js.Constant(rate)),
        lambda: js.override(tx.init(PARAMS), scale={"b1": rate}),
        lambda: js.override(tx.init(PARAMS), group="*", multiplier=rate),
        lambda: js.observe(tx.init(PARAMS), value=rate),
        lambda: adopt(old, tx.init(PARAMS)),
        lambda: adopt(old, tx.init(PARAMS), step=jnp.int32(7)),
        lambda: resume(saved, tx.init(PARAMS)),
        lambda: resume(saved, tx.init(PARAMS), policy="checkpoint"),
    )
    fresh = tx.init(PARAMS)
    for make in (*new, lambda: resume(saved, fresh, policy="new"), lambda: adopt(old, fresh)):
        state = make()
        step(GRADS, state)
        assert state.count.is_deleted()
        kept = jax.tree.leaves((rate, old, saved, fresh))
        assert not any(x.is_deleted() for x in kept)


def test_harsh_modes():
    # Not adam: optax.adam itself fails under strict promotion, at `b1 ** count`.
    tx = inject(optax.sgd)(learning_rate=LR, momentum=js.Linear(0.9, 0.8, 5))
    state = tx.init(PARAMS)
    with (
        jax.transfer_guard("disallow"),
        jax.numpy_dtype_promotion("strict"),
        checking_leaks(),
    ):
        _, state = jax.jit(tx.update)(GRADS, state, PARAMS)
    assert all(not x.weak_type for x in jax.tree.leaves(state))


def test_an_optimizer_made_in_a_trace_leaks_nothing():
    with checking_leaks():
        peaks = jnp.asarray([0.1, 0.2])
        states = jax.jit(
            jax.vmap(lambda p: inject(optax.sgd)(learning_rate=js.Linear(p, 0.0, 9)).init(PARAMS))
        )(peaks)
    np.testing.assert_array_equal(current(states)["learning_rate"], peaks)


def test_what_was_sampled_is_what_training_logs():
    tx = inject(optax.sgd)(learning_rate=LR)
    state = tx.init(PARAMS)

    def step(state, _):
        _, state = tx.update(GRADS, state, PARAMS)
        return state, current(state)["learning_rate"]

    logged = jax.jit(lambda s: jax.lax.scan(step, s, None, 12)[1])(state)
    sampled = js.sample(LR, 12)
    chex.assert_trees_all_close_ulp(logged, sampled, maxulp=2)
    family = js.stack([js.warmup_cosine(p, 8, 3) for p in (0.1, 0.2)])
    assert js.sample(family, 12).shape == (2, 12)


def test_a_schedule_among_parameters_is_neither_called_nor_dropped():
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


def test_a_schedule_is_a_variable_of_a_module():
    from flax import nnx

    class Model(nnx.Module):
        def __init__(self):
            self.lr = nnx.Variable(js.strong(js.Linear(1.0, 0.0, 4)))

    graph, state = nnx.split(Model())
    assert len(jax.tree.leaves(state)) == 3
    assert float(nnx.merge(graph, state).lr.get_value()(1)) == 0.75
