"""The rates of a state are read and changed: current, upcoming, override."""

import re

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from updates import EXPECTED, GRADS, LR, PARAMS, STEPS, applied

import jaxsched as js
from jaxsched.optim import (
    current,
    group_lr,
    inject,
    override,
)


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


class Opaque:
    """A controller that only the optimizer holds."""

    def init(self):
        return jnp.int32(0)

    def update(self, state, **extra):
        return state

    def __call__(self, state, **extra):
        return 0.5


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
        ({"scale": {"learning_rate": 0.5}}, 0.5 * EXPECTED[4]),  # it is set: still a half
        ({"learning_rate": 0.25}, 0.25),
        ({"scale": {"learning_rate": 0.5}}, 0.125),
        ({"learning_rate": None}, EXPECTED[7]),
        ({"learning_rate": new}, new(8)),
    ]:
        rate, state = step(override(state, **change))
        np.testing.assert_allclose(rate, expected, rtol=1e-6)
    for peak in range(60):
        _, state = step(override(state, learning_rate=js.warmup_cosine(peak + 1.0, 90, 5, 0.0)))
    for source in (LR, js.Plateau(LR), Opaque()):
        fresh = override(inject(optax.sgd)(learning_rate=source).init(PARAMS), learning_rate=0.25)
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
@pytest.mark.parametrize("scale", [False, True])
def test_a_rate_that_is_no_number_is_refused(scale, rate):
    state = inject(optax.sgd)(learning_rate=LR).init(PARAMS)
    change = {"scale": {"learning_rate": rate}} if scale else {"learning_rate": rate}
    where = "override(scale={'learning_rate': ...})" if scale else "override(learning_rate=...)"
    with pytest.raises(ValueError, match=re.escape(where)):
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
