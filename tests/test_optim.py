"""The Optax seam: what is applied is what the schedule says, read from -update / gradient."""

import pickle
from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from updates import EXPECTED, GRADS, LR, PARAMS, STEPS, applied

import jaxsched as js
from jaxsched.optim import (
    InjectState,
    Override,
    _register,
    adopt,
    current,
    decay_weights,
    group_lr,
    inject,
    override,
    register_export,
    resume,
)


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


def test_current_names_groups_and_sees_through_wrappers():
    tx = optax.partition(
        {"x": inject(optax.sgd)(LR), "y": inject(optax.sgd)(2.0 * LR)}, {"w": "x", "b": "y"}
    )
    _, state = applied(optax.apply_if_finite(tx, 2), steps=3)
    values = current(state)
    np.testing.assert_allclose(values["x/learning_rate"], EXPECTED[2], rtol=1e-6)
    np.testing.assert_allclose(values["y/learning_rate"], 2 * EXPECTED[2], rtol=1e-6)
    state = override(state, group="y", learning_rate=0.25)
    _, state = jax.jit(tx.update)(GRADS, state.inner_state, PARAMS)
    assert float(current(state)["y/learning_rate"]) == 0.25
    with pytest.raises(ValueError, match="ambiguous"):
        override(state, learning_rate=1.0)
    twice = optax.chain(inject(optax.sgd)(LR), inject(optax.sgd)(LR)).init(PARAMS)
    assert set(current(twice)) == {"0/learning_rate", "1/learning_rate"}
    with pytest.raises(ValueError, match=r"js\.inject"):
        current(optax.adam(LR).init(PARAMS))


def test_multisteps_uses_the_rate_of_each_update():
    tx = optax.MultiSteps(inject(optax.sgd)(LR), every_k_schedule=2)
    update, state, rates = jax.jit(tx.update), tx.init(PARAMS), []
    for i in range(2 * STEPS):
        updates, state = update(GRADS, state, PARAMS)
        if i % 2:
            rates.append(-float(updates["w"][0]))
            assert float(current(state)["learning_rate"]) == pytest.approx(rates[-1])
    np.testing.assert_allclose(rates, EXPECTED, rtol=1e-6)


def test_a_skipped_update_holds_the_count_only_inside_the_guard():
    bad = {**GRADS, "w": GRADS["w"] * jnp.nan}
    inside = optax.apply_if_finite(inject(optax.sgd)(LR), 5)
    outside = optax.chain(optax.apply_if_finite(optax.identity(), 5), inject(optax.sgd)(LR))
    for tx, count in ((inside, 0), (outside, 1)):
        _, state = tx.update(bad, tx.init(PARAMS), PARAMS)
        assert int(optax.tree_utils.tree_get(state, "count")) == count


def test_override_acts_at_the_next_update_and_never_retraces():
    tx = inject(optax.sgd)(learning_rate=LR)

    @jax.jit
    @chex.assert_max_traces(n=1)
    def step(state):
        updates, state = tx.update(GRADS, state, PARAMS)
        return -updates["w"][0], state

    state = tx.init(PARAMS)
    _, state = step(state)
    new = js.warmup_cosine(peak=0.9, steps=20, warmup=5, end=0.02)
    for change, expected in [
        ({"learning_rate": 0.125}, 0.125),
        ({"learning_rate": None}, EXPECTED[2]),
        ({"scale": {"learning_rate": 0.5}}, 0.5 * EXPECTED[3]),
        ({"learning_rate": new}, new(4)),
    ]:
        rate, state = step(override(state, **change))
        np.testing.assert_allclose(rate, expected, rtol=1e-6)
    for peak in range(60):
        _, state = step(override(state, learning_rate=js.warmup_cosine(peak + 1.0, 90, 5, 0.0)))
    fresh = override(tx.init(PARAMS), learning_rate=0.25)
    assert float(current(fresh)["learning_rate"]) == 0.25


def test_override_raises_where_it_would_not_act():
    state = inject(optax.sgd)(LR).init(PARAMS)
    with pytest.raises(ValueError, match="'momentum'"):
        override(state, momentum=0.5)
    with pytest.raises(ValueError, match="structure"):
        override(state, learning_rate=js.Constant(0.1))
    scheduled = optax.inject_hyperparams(optax.sgd)(learning_rate=LR).init(PARAMS)
    with pytest.raises(ValueError, match="ignores"):
        override(scheduled, learning_rate=0.1)
    constant = optax.inject_hyperparams(optax.sgd)(learning_rate=0.5)
    state = override(constant.init(PARAMS), learning_rate=0.25)
    assert -float(constant.update(GRADS, state, PARAMS)[0]["w"][0]) == 0.25


def test_a_whole_float_fits_a_whole_number_and_else_the_field_is_named():
    state = inject(optax.sgd)(learning_rate=js.warmup_cosine(0.1, 200, 10)).init(PARAMS)
    for steps in (300.0, np.float32(300), jnp.int32(300), jnp.float32(300)):
        new = override(state, learning_rate=js.warmup_cosine(0.1, steps, 10))
        assert jax.tree.map(jnp.result_type, new) == jax.tree.map(jnp.result_type, state)
        assert int(new.schedules["learning_rate"].parts[1].steps) == 290
    with pytest.raises(ValueError, match=r"whole number in parts\[1\]\.steps.*int32, got 290\.5"):
        override(state, learning_rate=js.warmup_cosine(0.1, 300.5, 10))
    with pytest.raises(ValueError, match=r"whole number in parts\[1\]\.steps.*traced"):
        jax.jit(lambda n: override(state, learning_rate=js.warmup_cosine(0.1, n, 10)))(300.0)
    population = js.stack([js.warmup_cosine(p, 200, 10) for p in (0.1, 0.2)])
    with pytest.raises(ValueError, match=r"shape \(\) in parts\[0\]\.start, got \(2,\)"):
        override(state, learning_rate=population)


def test_upcoming_is_what_the_next_update_applies():
    tx = group_lr(optax.sgd, {"w": 0.5, "b": js.Linear(1.0, 0.0, STEPS)})(learning_rate=LR)
    state = tx.init(PARAMS)
    for change in ({}, {}, {"learning_rate": 0.25}, {"scale": {"learning_rate": 0.5}}, {}):
        state = override(state, **change) if change else state
        shown = jax.jit(lambda s: current(s, upcoming=True))(state)
        assert set(shown) == set(current(state))
        updates, state = tx.update(GRADS, state, PARAMS)
        for name in ("w", "b"):
            assert float(shown[f"{name}/learning_rate"]) == pytest.approx(-float(updates[name][0]))
    constant = optax.inject_hyperparams(optax.sgd)(learning_rate=0.5).init(PARAMS)
    assert float(current(constant, upcoming=True)["learning_rate"]) == 0.5
    with pytest.raises(ValueError, match=r"upcoming=True.*js\.inject"):
        current(optax.inject_hyperparams(optax.sgd)(learning_rate=LR).init(PARAMS), upcoming=True)


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


def test_linen_train_state_and_nnx_optimizer():
    from flax import nnx
    from flax.training.train_state import TrainState

    tx = inject(optax.sgd)(learning_rate=LR)
    train = TrainState.create(apply_fn=None, params=PARAMS, tx=tx)
    train = override(train.apply_gradients(grads=GRADS), learning_rate=0.25)
    train = train.apply_gradients(grads=GRADS)
    assert float(current(train)["learning_rate"]) == 0.25
    np.testing.assert_allclose(train.params["w"], 0.75)

    model = nnx.Linear(1, 1, rngs=nnx.Rngs(0))
    tx = group_lr(optax.sgd, {"kernel": 1.0, "bias": 0.5})(learning_rate=LR)
    optimizer = nnx.Optimizer(model, tx, wrt=nnx.Param)
    step = nnx.jit(lambda m, o: o.update(m, nnx.grad(lambda m: m.bias[...].sum())(m)))
    before = float(model.bias[0])
    step(model, optimizer)
    override(optimizer, learning_rate=0.25)
    step(model, optimizer)
    assert float(model.bias[0]) == pytest.approx(before - 0.5 * 0.25)
    assert float(current(optimizer)["bias/learning_rate"]) == 0.125


@pytest.mark.parametrize(
    "schedule",
    [LR, js.Clip(js.Table([0.5, 0.25]), high=0.4), js.from_fn(lambda t, a: a / (1 + t), a=1.0)],
    ids=["sequence", "optional field", "function"],
)
def test_flax_writes_and_reads_a_state_bit_for_bit(schedule):
    serialization = pytest.importorskip("flax.serialization")
    tx = inject(optax.adam)(learning_rate=schedule, b1=js.Constant(0.9))
    start = tx.init(PARAMS)
    _, state = tx.update(GRADS, start, PARAMS)
    again = serialization.from_bytes(start, serialization.to_bytes(state))
    assert jax.tree.structure(again) == jax.tree.structure(state)
    for a, b in zip(jax.tree.leaves(again), jax.tree.leaves(state), strict=True):
        assert a.dtype == b.dtype and np.array_equal(a, b)


def test_the_rate_is_found_by_current_and_by_optax_with_a_filter():
    state = inject(optax.adam)(learning_rate=LR).init(PARAMS)
    is_value = lambda path, value: isinstance(value, jax.Array)
    found = optax.tree_utils.tree_get(state, "learning_rate", filtering=is_value)
    assert float(found) == float(current(state)["learning_rate"])


def test_states_have_the_names_that_files_of_before_know_them_by():
    """Flax and Orbax go by the fields, pickles and ``jax.export`` by the classes too."""
    serialization = pytest.importorskip("flax.serialization")
    tx = js.inject(optax.adam)(learning_rate=js.cosine_decay(0.1, 10))
    state = js.override(tx.init(PARAMS), learning_rate=0.03)
    held = serialization.to_state_dict(state)
    assert " ".join(held) == "count values schedules controller_states knobs inner_state"
    assert list(held["knobs"]["learning_rate"]) == ["scale", "fixed", "is_fixed"]
    assert int(adopt({**held, "count": jnp.int32(3)}, tx.init(PARAMS)).count) == 3
    assert pickle.loads(b"cjaxsched.optim._state\nKnob\n.") is Override
    assert pickle.loads(b"cjaxsched.optim._state\nInjectState\n.") is InjectState
    register_export(state)
    data = bytes(jax.export.export(jax.jit(tx.update))(GRADS, state, PARAMS).serialize())
    for name in ("optim.Knob", "optim.InjectState", "schedules._shapes.Cosine"):
        assert f"jaxsched.{name}".encode() in data


FIRST_MODULES = {
    "schedules._base": "Constant Sequence Product Sum Minimum Maximum",
    "schedules._laws": "Exponential InverseSqrt InverseTime PowerLaw RAdamWarmup Silver",
    "schedules._shapes": "Linear Cosine Polynomial Sqrt Tanh Rex HalfCosine QuarterCosine "
    "MirrorCosine Harmonic ShiftedExponential Geometric Warp",
    "schedules._piecewise": "PiecewiseConstant Table PiecewiseLinear PiecewiseCosine MonotoneCubic",
    "schedules._wrappers": "Stretch Shift Window Quantize Reverse Repeat Clip",
    "schedules._function": "Function",
    "controllers._autodecay": "AutoDecay",
    "controllers._bounce": "Bounce",
    "controllers._greedy": "Greedy",
    "controllers._newbob": "NewBob",
    "controllers._plateau": "Plateau",
    "controllers._trigger": "Trigger",
    "controllers._average": "Average",
    "controllers._gap": "Gap Work",
}


@pytest.mark.parametrize("module", FIRST_MODULES)
def test_a_class_is_exported_under_the_module_where_it_was_first(module):
    """A module may move: then it needs a line in ``_MOVED``."""
    for name in FIRST_MODULES[module].split():
        kind = getattr(js, name, None) or getattr(js.controllers, name, None)
        kind = kind or getattr(js.schedules, name)
        assert _register._name(kind) == f"jaxsched.{module}.{name}"
        if state := getattr(kind, "State", None):
            assert _register._name(state) == f"jaxsched.{module}.{name}State"


def _as_before(tree, added=("min_lr", "smooth", "quiet", "eps", "reset", "warmup", "condition")):
    """The dicts of a state, as of before these fields."""
    added = {*added, "lowest", "recent", "average", "weight"}
    is_dict = isinstance(tree, dict)
    return {k: _as_before(v) for k, v in tree.items() if k not in added} if is_dict else tree


C = js.controllers


@pytest.mark.parametrize(
    "source", [js.Repeat(js.Linear(1.0, 0.0, 4)), js.Silver(1.0), C.Bounce(1.0)]
)
def test_flax_reads_schedules_of_before_a_field_was_added(source):
    serialization = pytest.importorskip("flax.serialization")
    tx = inject(optax.sgd)(learning_rate=source)
    state = tx.update(GRADS, tx.init(PARAMS), PARAMS)[1]
    dicts = _as_before(serialization.to_state_dict(state))
    chex.assert_trees_all_equal(serialization.from_state_dict(tx.init(PARAMS), dicts), state)
    with pytest.raises(KeyError):  # not one that has always been there
        serialization.from_state_dict(state, {**dicts, "schedules": {"learning_rate": {}}})


@pytest.mark.parametrize("more", [{}, {"smooth": 0.5}, {"window": 3}, {"reset": 2}])
@pytest.mark.parametrize("kind", [C.Greedy, C.Plateau])
def test_adopt_takes_the_memory_of_a_controller_of_before_a_field_was_added(kind, more):
    serialization = pytest.importorskip("flax.serialization")
    more = {name: x for name, x in more.items() if name in kind._names}
    tx, longer = (
        inject(optax.sgd)(learning_rate=kind(1.0, factor=0.5, patience=0, **kw))
        for kw in ({}, more)
    )
    state = tx.init(PARAMS)
    for value in (1.0, 2.0, 3.0):
        state = tx.update(GRADS, state, PARAMS, value=value)[1]
    for saved in (state, serialization.to_state_dict(state)):
        saved = saved if saved is state else _as_before(saved)
        adopted = adopt(saved, longer.init(PARAMS))
        assert float(current(adopted)["learning_rate"]) == float(
            state.schedules["learning_rate"](state.controller_states["learning_rate"])
        )
        assert jax.tree.structure(longer.update(GRADS, adopted, PARAMS, value=4.0)[1]) == (
            jax.tree.structure(adopted)
        )
        back = adopt(adopted, tx.init(PARAMS))
        chex.assert_trees_all_equal(
            back.controller_states, adopt(saved, tx.init(PARAMS)).controller_states
        )


def test_pickles_and_exports_of_before_a_field_was_added_are_read():
    start = C.Greedy(1.0).init()
    assert jax.tree.structure(C.Greedy.State(*start[:9])) == jax.tree.structure(start)
    greedy = C.Greedy(0.5, patience=3)
    held = {k: v for k, v in greedy.__dict__.items() if k not in ("window", "min_lr", "eps")}
    again = object.__new__(C.Greedy)
    again.__setstate__(held)
    assert again == greedy
    (children, aux), count = jax.tree_util.default_registry.flatten_one_level(greedy), 10
    again = _register._of_before(C.Greedy)(aux[:2], list(children)[:count])
    assert (again.patience, again.mode, again.window, again.eps) == (3, "min", None, None)
    tx = inject(optax.sgd)(learning_rate=greedy)
    state = tx.init(PARAMS)
    saved = state._replace(schedules={"learning_rate": again})
    chex.assert_trees_all_close(resume(saved, state, policy="checkpoint"), state)


def test_an_update_step_is_exported():
    tx = inject(optax.adam)(learning_rate=LR)
    state = tx.init(PARAMS)
    register_export(state)
    step = jax.jit(tx.update)
    data = jax.export.export(step)(GRADS, state, PARAMS).serialize()
    chex.assert_trees_all_equal(
        jax.export.deserialize(data).call(GRADS, state, PARAMS), step(GRADS, state, PARAMS)
    )


def test_harsh_modes():
    # Not adam: optax.adam itself fails under strict promotion, at `b1 ** count`.
    tx = inject(optax.sgd)(learning_rate=LR, momentum=js.Linear(0.9, 0.8, 5))
    state = tx.init(PARAMS)
    with (
        jax.transfer_guard("disallow"),
        jax.numpy_dtype_promotion("strict"),
        jax.check_tracer_leaks(),
    ):
        _, state = jax.jit(tx.update)(GRADS, state, PARAMS)
    assert all(not x.weak_type for x in jax.tree.leaves(state))


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: inject(optax.adam(1.0)), TypeError, "inject"),
        (lambda: inject(optax.adam)(learning_rate=0.1), ValueError, "js.Constant"),
        (lambda: inject(optax.adam)(LR, beta=LR), TypeError, "beta"),
        (lambda: inject(optax.adam)(LR, nesterov=LR), TypeError, "nesterov"),
        (lambda: inject(optax.adam)(LR, mu_dtype=LR), TypeError, "mu_dtype"),
        (lambda: inject(optax.adam, static_args="no"), ValueError, "static_args"),
        (lambda: inject(optax.sgd, hyperparam_dtype=jnp.int32), TypeError, "hyperparam_dtype"),
    ],
)
def test_errors_name_the_argument(call, error, words):
    with pytest.raises(error, match=words):
        call()


def test_a_schedule_in_params_is_neither_called_nor_dropped():
    params = {"w": jnp.ones(2), "lr": js.strong(js.Constant(0.5))}
    tx = optax.masked(optax.sgd(1.0), {"w": True, "lr": False})
    grads = jax.tree.map(jnp.ones_like, params)
    updates, _ = tx.update(grads, tx.init(params), params)
    assert isinstance(optax.apply_updates(params, updates)["lr"], js.Constant)


@pytest.mark.parametrize(
    "every",
    [
        js.piecewise_constant([2], [1, 3]),
        js.piecewise_constant([js.share(0.02)], [1, 3], steps=100),
        js.Shift(js.Quantize(js.Reverse(js.Stretch(js.Table([3, 3, 1, 1]), 0.5)), 1), 0),
    ],
)
def test_an_integer_schedule_says_how_many_micro_batches_make_an_update(every):
    assert every(0).dtype == jax.jit(every)(0).dtype == jnp.int32
    tx = optax.MultiSteps(optax.sgd(1.0), every_k_schedule=every)
    params = {"w": jnp.zeros(2)}
    state, update, updated = tx.init(params), jax.jit(tx.update), []
    for micro_step in range(1, 9):
        updates, state = update({"w": jnp.ones(2)}, state, params)
        updated += [micro_step] if updates["w"].any() else []
    assert updated == [1, 2, 5, 8]


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: inject(optax.adam)(js.cosine_decay), r"js\.cosine_decay is a recipe, not called"),
        (lambda: inject(optax.adam)(learning_rate=js.Plateau), r"a class, not called: give js\.Pl"),
        (lambda: inject(optax.adamw)(LR, weight_decay=js.wsd), r"\(weight_decay=\.\.\.\) must be"),
        (lambda: js.Shift(js.wsd, 3), r"js\.wsd is a recipe, not called: give js\.wsd\("),
        (lambda: js.Plateau(js.wsd), r"js\.wsd is a recipe, not called"),
        (lambda: js.Sequence([js.wsd]), r"js\.wsd is a recipe, not called"),
        (lambda: js.with_warmup(js.wsd, 3), r"js\.wsd is a recipe, not called"),
        (lambda: js.plot(js.wsd), r"js\.wsd is a recipe, not called"),
        (lambda: inject(optax.adam, learning_rate=LR), r"second call: js\.inject\(adam\)\(learn"),
    ],
)
def test_what_was_not_called_or_is_given_too_early_is_told(build, words):
    with pytest.raises(TypeError, match=words):
        build()


def test_a_recipe_may_be_an_argument_that_is_left_alone():
    def factory(lr, make):
        return optax.sgd(make(lr, 10)(0))

    tx = inject(factory, static_args="make")(LR, make=js.cosine_decay)
    assert float(current(tx.init(PARAMS))["lr"]) == pytest.approx(float(LR(0)))


WRAPPED = {
    "chain": lambda tx: optax.chain(optax.clip_by_global_norm(1e9), tx),
    "masked": lambda tx: optax.masked(tx, {"w": True, "b": False}),
    "partition": lambda tx: optax.partition({"all": tx}, {"w": "all", "b": "all"}),
    "MultiSteps": lambda tx: optax.MultiSteps(tx, every_k_schedule=1),
    "apply_if_finite": lambda tx: optax.apply_if_finite(tx, 3),
}


@pytest.mark.parametrize("wrapper", WRAPPED)
def test_current_is_the_rate_that_was_applied(wrapper):
    tx = WRAPPED[wrapper](inject(optax.sgd)(learning_rate=LR))
    state = tx.init(PARAMS)

    def step(state, _):
        updates, state = tx.update(GRADS, state, PARAMS)
        return state, (list(current(state).values()), -updates["w"][0])

    _, (shown, applied) = jax.jit(lambda s: jax.lax.scan(step, s, None, 8))(state)
    np.testing.assert_array_equal(shown[0], applied)
    np.testing.assert_allclose(applied, EXPECTED, rtol=1e-6)


@pytest.mark.parametrize("rate", [float("nan"), float("inf"), -float("inf"), 10**400])
@pytest.mark.parametrize("how", ["value", "scale"])
def test_a_rate_that_is_no_number_is_refused(how, rate):
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
def test_a_whole_number_may_give_way_to_a_fraction(old, new):
    """`js.Constant(1)` is a rate like any other; `override` to 0.5 must act or `inject` refuse."""
    state = inject(optax.sgd)(learning_rate=old).init(PARAMS)
    assert float(override(state, learning_rate=new).schedules["learning_rate"](0)) == float(new(0))


@pytest.mark.parametrize("steps", [10.5, 10**10])
def test_a_length_that_is_no_int32_does_not_take_the_place_of_one(steps):
    """It would be another dtype, and so another trace: loud, with the way out in the message."""
    state = inject(optax.sgd)(learning_rate=js.Linear(1.0, 0.0, 10)).init(PARAMS)
    with pytest.raises(ValueError, match="int32"):
        override(state, learning_rate=js.Linear(1.0, 0.0, steps))


def test_an_optimizer_made_in_a_trace_leaks_nothing():
    with jax.checking_leaks():
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
