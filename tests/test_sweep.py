"""The engine: every run is the run that a Python loop would make, whatever runs beside it."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from sweep_tasks import Plain, jitted, noise, python_loop, shared, supervised

import jaxsched as js
from jaxsched import search
from jaxsched.search import SuccessiveHalving, grid
from jaxsched.search.engine import _width

MIXED = [
    js.warmup_cosine(0.3, 70, 10),
    js.wsd(0.3, 70, warmup=10, decay=20),
    js.step_decay(0.3, 0.5, 20),
    js.one_cycle(0.3, 70),
    js.Constant(0.05),
]


ONE = jax.local_devices()[:1]
TASK = shared(supervised)


def sweep(task, trials, **arguments):
    """On one device, which halves what is compiled; test_sweep_devices.py takes several."""
    return search.sweep(task, trials, devices=ONE, **arguments)


def solo(task, schedule, seed, steps=70):
    return python_loop(task, {"learning_rate": js.sample(schedule, steps)}, seed)


def curves(result, order=slice(None)):
    return (
        {k: v[order] for k, v in result.train.items()},
        {k: v[order] for k, v in result.validation.items()},
        result.diverged[order],
    )


@pytest.mark.optimized
@pytest.mark.parametrize("optimizer", [optax.adamw, None], ids=["adamw", "momentum"])
def test_each_run_has_the_bits_of_a_python_loop(optimizer):
    task = supervised(**({"optimizer": optimizer} if optimizer else {}))
    result = sweep(task, MIXED, steps=70, seeds=[3, 5])
    for i, schedule in enumerate(MIXED):
        for j, seed in enumerate([3, 5]):
            state, losses = solo(task, schedule, seed)
            assert losses.tobytes() == result.train["loss"][i, 0, j].tobytes()
            final = jitted(task)[2](state)
            for name, value in final.items():
                assert float(value) == result.validation[name][i, 0, j, -1]
    assert result.info["traces"] == {"init": 1, "segment": 1, "evaluate": 1}


@pytest.mark.optimized
def test_a_run_begins_with_those_bits_too():
    class Summing(Plain):
        def init(self, key):
            return jnp.sum(noise(key, 3, 501), axis=1)

    result = sweep(Summing(), js.Constant(0.1), steps=2)
    assert solo(Summing(), js.Constant(0.1), 0, 2)[1].tobytes() == result.train["loss"].tobytes()


@pytest.mark.optimized
def test_order_neighbours_and_number_of_trials_change_nothing():
    task = TASK
    whole = sweep(task, MIXED, steps=70, seeds=2, evaluate_every=25)
    backwards = sweep(task, MIXED[::-1], steps=70, seeds=2, evaluate_every=25)
    one = sweep(task, MIXED[2:3], steps=70, seeds=2, evaluate_every=25)
    chex.assert_trees_all_equal(curves(whole), curves(backwards, slice(None, None, -1)))
    chex.assert_trees_all_equal(curves(whole, slice(2, 3)), curves(one))
    assert whole.evaluated.tolist() == [25, 50, 70]


@pytest.mark.optimized
def test_the_cut_into_segments_changes_nothing(monkeypatch):
    task = TASK
    whole = sweep(task, MIXED, steps=70, seeds=2)
    monkeypatch.setattr("jaxsched.search.engine._plan.LENGTH", 16)
    chex.assert_trees_all_equal(curves(whole), curves(sweep(task, MIXED, steps=70, seeds=2)))
    often = sweep(task, MIXED, steps=70, seeds=2, evaluate_every=3)
    chex.assert_trees_all_equal(whole.train, often.train)
    chex.assert_trees_all_equal(whole.final(), often.final())


@pytest.mark.optimized
def test_long_runs_cross_the_blocks_of_the_table():
    trials = [js.warmup_cosine(0.1, 9_000, 10), js.Constant(0.01)]
    task = Plain()
    result = sweep(task, trials, steps=9_000)
    for i, schedule in enumerate(trials):
        _, losses = python_loop(task, {"learning_rate": js.sample(schedule, 9_000)}, 0)
        assert losses.tobytes() == result.train["loss"][i, 0, 0].tobytes()


@pytest.mark.optimized
def test_several_hyperparameters():
    def adam(learning_rate, weight_decay, b1):
        return optax.adamw(learning_rate, b1=b1, weight_decay=weight_decay)

    def recipe(peak, decay):
        return {
            "learning_rate": js.cosine_decay(peak, 40),
            "weight_decay": decay * js.Linear(1.0, 0.0, 40),
            "b1": 0.8,
        }

    task = supervised(adam)
    trials = grid(recipe, peak=[0.01, 0.1], decay=[0.0, 0.1])
    result = sweep(task, trials)
    assert result.horizons.tolist() == [40] * 4
    for i, trial in enumerate(trials):
        values = {name: js.sample(s, 40) for name, s in trial.schedules.items()}
        _, losses = python_loop(task, values, 0)
        assert losses.tobytes() == result.train["loss"][i, 0, 0].tobytes()
    assert len({result.train["loss"][i].tobytes() for i in range(4)}) == 4


RATES = [1e-3, 0.1, 1e30, 0.1, 1e30 * js.Constant(1e30), 0.3]  # infinite in float32


@pytest.mark.optimized
@pytest.mark.parametrize("width", [1, 4])
def test_a_diverged_trial_is_flagged_and_disturbs_no_other(width):
    task = TASK
    trials = [{"learning_rate": rate} for rate in RATES]
    result = sweep(task, trials, steps=60, evaluate_every=20, width=width)
    alone = sweep(task, [js.Constant(r) for r in (1e-3, 0.1, 0.3)], steps=60, evaluate_every=20,
                  width=width)  # fmt: skip
    chex.assert_trees_all_equal(curves(result, [0, 1, 5]), curves(alone))
    steps = result.diverged[:, 0, 0]
    assert (steps[[0, 1, 3, 5]] == -1).all()
    for i in (2, 4):
        assert 1 <= steps[i] <= 4
        losses = result.train["loss"][i, 0, 0]
        assert np.isfinite(losses[: steps[i]]).all()
        assert not np.isfinite(losses[steps[i] :]).any()
        assert np.isnan(result.validation["loss"][i]).all()
    assert result.best().index in (1, 3, 5)
    assert "2 diverged" in result.summary()


def test_diverged_at_step_0_and_all_diverged():
    class Broken(Plain):
        def step(self, state, hyperparams, batch):
            return state, {"loss": jnp.nan * hyperparams["learning_rate"]}

    result = sweep(Broken(), [js.Constant(0.1), js.Constant(0.2)], steps=10)
    assert (result.diverged == 0).all()
    with pytest.raises(ValueError, match=r"best\(\) must have at least one .* step 0"):
        result.best()
    assert "no trial has a score, 2 diverged" in result.summary()
    assert result.steps_trained == 2
    assert result.info["saved"] == {"shared": 0, "stopped": 0, "diverged": 18}


def test_limit_counts_as_diverged():
    result = sweep(Plain(), [js.Constant(1.02), js.Constant(0.1)], steps=200, limit=50.0)
    at = result.diverged[0, 0, 0]
    losses = result.train["loss"][0, 0, 0]
    assert losses[at] > 50 >= losses[:at].max()
    assert np.isnan(losses[at + 1 :]).all()
    assert result.diverged[1, 0, 0] == -1


@functools.cache  # called by the tests, which say how it is compiled
def narrow():
    return sweep(TASK, MIXED, steps=70, seeds=2, evaluate_every=30)


@pytest.mark.optimized
@pytest.mark.parametrize("width", [2, 4, 8])
def test_wide_runs_do_not_depend_on_place_or_neighbours_and_are_close_to_solo_ones(width):
    task = TASK
    wide = sweep(task, MIXED, steps=70, seeds=2, evaluate_every=30, width=width)
    backwards = sweep(task, MIXED[::-1], steps=70, seeds=2, evaluate_every=30, width=width)
    chex.assert_trees_all_equal(curves(wide), curves(backwards, slice(None, None, -1)))
    for name in ("train", "validation"):
        losses, alone = (getattr(result, name)["loss"] for result in (wide, narrow()))
        np.testing.assert_allclose(losses, alone, rtol=1e-4, atol=1e-6)
    assert wide.info["traces"].get("segment", 0) <= 1


@pytest.mark.parametrize("impl", ["rbg", "unsafe_rbg", "threefry2x32"])
def test_runs_whose_random_bits_vmap_would_mix_are_not_vectorized(impl):
    class Noisy(Plain):
        def step(self, state, hyperparams, batch):
            words = jnp.tile(batch.astype(jnp.uint32), 2 if "3" in impl else 4)
            bits = jax.random.bits(jax.random.wrap_key_data(words, impl=impl))
            after, metrics = super().step(state, hyperparams, batch)
            return after, {"loss": metrics["loss"] + 0 * bits}

    trials = [js.Constant(0.1, 2), js.Constant(0.2, 2)]
    assert sweep(Noisy(), trials, width="auto").info.width == 1
    if "3" in impl:
        assert sweep(Noisy(), trials, width=2).info.width == 2
        return
    for call, given in ((sweep, [trials]), (search.range_test, [])):
        with pytest.raises(
            ValueError, match=rf"{call.__name__}.width=...\) must be 1 for .*`step`"
        ):
            call(Noisy(), *given, width=2)


@pytest.mark.optimized
def test_own_lengths():
    trials = [js.cosine_decay(0.1, 30), js.cosine_decay(0.1, 70), js.cosine_decay(0.1, 50)]
    for width in (1, 3):
        result = sweep(TASK, trials, width=width)
        assert result.horizons.tolist() == [30, 70, 50]
        assert result.evaluated.tolist() == [30, 50, 70]
        finite = np.isfinite(result.train["loss"][:, 0, 0]).sum(axis=1)
        assert finite.tolist() == [30, 70, 50]
        ends = np.isfinite(result.validation["loss"][:, 0, 0])
        assert ends.tolist() == [[True, False, False], [False, False, True], [False, True, False]]
        assert np.isfinite(result.final()).all()


def test_successive_halving_stops_the_worst_and_is_deterministic():
    trials = [js.Constant(rate) for rate in (1e-4, 1e-3, 1e-2, 0.1, 0.3, 1e-5, 1e30, 0.03)]
    task = TASK
    rule = SuccessiveHalving(first=10, eta=2)
    result = sweep(task, trials, steps=80, seeds=2, stopping=rule)
    again = sweep(task, trials[::-1], steps=80, seeds=2, stopping=rule)
    chex.assert_trees_all_equal(curves(result), curves(again, slice(None, None, -1)))
    full = sweep(task, trials, steps=80, seeds=2, evaluate_every=10)
    # Who survives a rung has the best losses there of all that were left.
    left = list(range(8))
    for rung, count in ((10, 4), (20, 2), (40, 1)):
        losses = full.validation["loss"][:, 0, :, rung // 10 - 1].mean(axis=1)
        left = sorted(sorted(left, key=lambda t: (not np.isfinite(losses[t]), losses[t]))[:count])
        assert [t for t in range(8) if not 0 <= result.stopped[t] <= rung] == left
    chex.assert_trees_all_equal(result.train["loss"][left], full.train["loss"][left])
    assert result.best().index == left[0]
    saved = result.info["saved"]
    assert result.steps_asked == 8 * 80 * 2
    assert result.steps_trained + sum(saved.values()) == result.steps_asked
    assert saved["stopped"] == 740  # the diverged trial is none of them


def test_the_width_may_be_measured(monkeypatch):
    monkeypatch.setattr(_width, "_SHARE", np.inf)  # however short the sweep is
    trials = [js.warmup_cosine(0.3, 20, 5), js.Constant(0.05)] * 4
    result = sweep(TASK, trials, steps=20, share_prefixes=False, width="auto")
    assert result.info["width"] in (1, 8)
    narrow = sweep(TASK, trials, steps=20)
    np.testing.assert_allclose(result.train["loss"], narrow.train["loss"], rtol=1e-4, atol=1e-6)


def test_a_step_without_data_is_given_its_number():
    seen = []

    class Counting(Plain):
        def step(self, state, hyperparams, batch):
            seen.append((batch.shape, batch.dtype))
            state = state * hyperparams["learning_rate"]
            return state, {"loss": batch.astype(jnp.float32)}

    result = sweep(Counting(), [js.Constant(0.1)], steps=300)
    assert result.train["loss"][0, 0, 0].tolist() == list(range(300))
    assert set(seen) == {((), np.dtype("int32"))}


def test_weak_types_in_a_state_become_strong():
    class Weak(Plain):
        def init(self, key):
            return {"w": jnp.full((3,), 0.5), "scale": 1.0, "count": 0}

        def step(self, state, hyperparams, batch):
            rate = hyperparams["learning_rate"] * state["scale"]
            w = state["w"] - rate * 2 * state["w"]
            return {"w": w, "scale": 1.0, "count": state["count"] + 1}, {"loss": jnp.sum(w**2)}

        def evaluate(self, state):
            return {"loss": jnp.sum(state["w"] ** 2), "count": state["count"]}

    result = sweep(Weak(), [js.Constant(0.1)], steps=20)
    assert result.final("count")[0, 0, 0] == 20
