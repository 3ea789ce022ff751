"""The run of a range test, and the schedule that its answer is for."""

from __future__ import annotations

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from range_tasks import TRACES, Bowl, Scripted, assert_sound, bowl

import jaxsched as js
from jaxsched.controllers import Plateau, Trigger
from jaxsched.search.range_tests._run import range_test

# ---------------------------------------------------------------------------- the run: pure, masked


def test_losses_and_average_are_those_of_a_plain_loop():
    task, rates, seed = bowl(noise=0.1), np.geomspace(1e-3, 0.3, 60), 3
    found = range_test(task, 1e-3, 0.3, 60, seeds=[seed])
    np.testing.assert_allclose(found.rates, rates, rtol=1e-6)
    assert found.rates[0] == np.float32(1e-3) and found.rates[-1] == np.float32(0.3)
    step, state, total = jax.jit(task.step), task.init(jax.random.key(seed)), 0.0
    batches = task.batches(seed, 0, 60)
    for i, rate in enumerate(found.rates):
        state, metrics = step(state, {"learning_rate": rate}, (batches[0][i], batches[1][i]))
        total = 0.9 * total + 0.1 * float(metrics["loss"])
        assert found.losses[0, i] == pytest.approx(float(metrics["loss"]), rel=1e-5)
        assert found.smooth[0, i] == pytest.approx(total / (1 - 0.9 ** (i + 1)), rel=1e-5)
    assert found.kept.all()


def test_what_was_given_is_the_same_afterwards_and_so_is_a_second_answer():
    task = bowl()
    state = task.init(jax.random.key(7))
    state["key"] = jax.random.fold_in(state["key"], 1)

    def bits(tree):
        arrays = [x for x in jax.tree.leaves(tree) if isinstance(x, jax.Array)]
        keys = [jnp.issubdtype(x.dtype, jax.dtypes.prng_key) for x in arrays]
        return [
            np.asarray(jax.random.key_data(x) if key else x).tobytes()
            for x, key in zip(arrays, keys, strict=True)
        ]

    before = bits((task, state))
    first = range_test(task, state=state)
    assert bits((task, state)) == before
    second = range_test(task, state=state)
    assert first.losses.tobytes() == second.losses.tobytes()
    assert first.losses[0, 0] == first.losses[3, 0]  # every seed starts there
    with pytest.raises(ValueError, match="read-only"):
        first.losses[0, 0] = 1.0
    with pytest.raises(dataclasses.FrozenInstanceError):
        first.peak = 1.0


def test_a_seed_that_diverges_is_a_mask_and_disturbs_no_other():
    healthy = range_test(bowl(noise=0.1))
    found = range_test(bowl(noise=0.1, bad_seed=2))
    assert found.diverged_at[2] == 90
    assert not found.kept[2, 90:].any() and found.kept[2, :90].all()
    assert np.isfinite(found.losses).all() and np.isfinite(found.smooth).all()
    others = [0, 1, 3]
    assert found.smooth[others].tobytes() == healthy.smooth[others].tobytes()
    assert found.picks[others].tobytes() == healthy.picks[others].tobytes()
    assert found.picks[2] == 0.0
    assert_sound(found)
    assert "3 of 4 seeds" in repr(found)


def test_seeds_and_width_only_choose_what_runs():
    task = bowl(noise=0.1)
    every = range_test(task, seeds=3)
    some = range_test(task, seeds=[2, 1, 0])
    assert some.losses.tobytes() == every.losses[[2, 1, 0]].tobytes()
    assert some.seeds == (2, 1, 0)
    for width in (2, 3):  # 2: a pair and a rest
        wide = range_test(task, seeds=3, width=width)
        assert wide.peak == pytest.approx(every.peak, rel=0.05)
        np.testing.assert_allclose(wide.losses[:, :100], every.losses[:, :100], rtol=1e-4)


def test_one_program_serves_other_numbers():
    range_test(bowl(), steps=111)
    TRACES.clear()
    range_test(bowl(largest=7.0), 1e-6, 3.0, steps=111, schedule="constant")
    assert len(TRACES) == 1  # by the check of the task, which compiles nothing


def test_other_hyperparameters_and_names():
    class Two(Scripted):
        def step(self, state, hyperparams, batch):
            assert sorted(hyperparams) == ["rate", "weight_decay"]
            assert {x.dtype for x in hyperparams.values()} == {jnp.dtype("float32")}
            loss = hyperparams["weight_decay"] + (jnp.log10(hyperparams["rate"]) + 2) ** 2
            return state, {"loss": loss}

    found = range_test(Two(None), 1e-4, 1.0, name="rate", hyperparams={"weight_decay": 2})
    assert 1e-3 < found.peak < 1e-2
    assert found.losses[0].min() == pytest.approx(2.0, abs=1e-2)


def test_linear_ramp():
    found = range_test(bowl(noise=0.1), 1e-3, 1.0, ramp="linear")
    np.testing.assert_allclose(found.rates, np.linspace(1e-3, 1.0, 200), rtol=1e-6)
    assert 0.4 / 100 < found.peak < 0.4
    assert_sound(found)


def test_survives_the_strict_modes():
    task = bowl(noise=0.1, bad_seed=2)
    plain = range_test(task, steps=110)
    with (
        jax.numpy_dtype_promotion("strict"),
        jax.numpy_rank_promotion("raise"),
        jax.debug_nans(True),
        jax.transfer_guard("disallow"),
    ):
        strict = range_test(Scripted(lambda rate, z: jnp.square(jnp.log10(rate) + jnp.float32(2))))
        assert strict.suggestions()["minimum"] < strict.peak
    assert 1e-3 < strict.peak < 1e-2
    with jax.enable_x64(True):
        wide = range_test(task, steps=110)
    assert wide.peak == pytest.approx(plain.peak, rel=0.5)
    assert wide.losses.dtype == np.float32


def test_a_batch_of_data_and_a_loss_of_another_dtype():
    class Mean:
        def batches(self, seed, start, length):
            rng = np.random.default_rng(seed)
            return rng.normal(3.0, 1.0, (start + length, 8)).astype(np.float32)[start:]

        def init(self, key):
            return 0.0  # weakly typed, as a Python number is

        def step(self, state, hyperparams, batch):
            loss, grad = jax.value_and_grad(lambda m: jnp.mean((batch - m) ** 2))(state)
            return state - hyperparams["learning_rate"] * grad, {"loss": loss.astype(jnp.bfloat16)}

        def evaluate(self, state):
            return {"loss": state}

    found = range_test(Mean(), schedule="cosine")
    assert_sound(found)
    assert 0.01 < found.peak < 1.0  # 2/L = 1


# --------------------------------------------------------------------------- the schedule to follow

RECIPE = functools.partial(js.warmup_cosine, steps=100, warmup=10, end=0.0)

SCHEDULES = [  # (schedule, start over peak, end over peak, divisor)
    (None, 1.0, 0.0, 3.0),
    ("cosine", 1.0, 0.0, 3.0),
    ("exponential", 1.0, 0.01, 3.0),
    ("constant", 1.0, 1.0, 7.0),
    (RECIPE, 0.0, 0.0, 3.0),
    (RECIPE(peak=0.3), 0.0, 0.0, 3.0),
    (js.one_cycle(1.0, 100), 1 / 25, 1 / 25e4, 3.0),
    (js.wsd(2.0, 100, 10, 20), 0.0, 0.0, 3.0),
    (js.Constant(0.1), 1.0, 1.0, 7.0),
    (js.warmup_constant(0.1, 500), 0.0, 1.0, 7.0),
    (js.cosine_decay(1.0, 100, end=0.5), 1.0, 0.5, None),
    (js.Window(js.exponential_decay(1.0, 0.1, 100), 0, 200), 1.0, 0.01, 3.0),
    (js.multi_step(1.0, 0.1, [50, 80]), 1.0, 0.01, 3.0),
]


@pytest.mark.parametrize(("schedule", "start", "end", "divisor"), SCHEDULES)
def test_the_answer_is_for_the_schedule_that_follows(schedule, start, end, divisor):
    lowest = range_test(bowl(noise=0.1)).peak * 3
    found = range_test(bowl(noise=0.1), schedule=schedule)
    assert_sound(found)
    assert found.start == pytest.approx(start * found.peak, abs=1e-9)
    assert found.end == pytest.approx(end * found.peak, rel=1e-4, abs=1e-12)
    if divisor is None:
        assert 3 < lowest / found.peak < 7
    else:
        assert lowest / found.peak == pytest.approx(divisor, rel=1e-5)
    assert found.peaks == pytest.approx((found.peak / 2, found.peak, 2 * found.peak))
    if schedule is None or isinstance(schedule, str):
        assert found.schedule is None
        with pytest.raises(ValueError, match="must have been told the schedule"):
            found.confirm()
        return
    trials = found.confirm()
    for trial, peak in zip(trials, found.peaks, strict=True):
        assert trial.settings == {"peak": peak} and trial.name == f"peak={peak:.3g}"
        assert float(np.max(js.sample(trial.schedule, 600))) == pytest.approx(peak, rel=1e-3)
    assert trials[1].schedule == found.schedule


@pytest.mark.parametrize(
    ("controller", "kind"),
    [
        (Plateau(0.5, factor=0.5), "decay"),
        (lambda peak: Plateau(js.warmup_cosine(peak, 100, 10), min_scale=0.5), "decay"),
        (Plateau(0.5, min_scale=1.0), "constant"),
        (Trigger(Plateau(0.5, min_scale=1.0), js.Linear(1.0, 0.0, 20)), "decay"),
        (Trigger(0.5, js.Constant(1.0)), "constant"),
    ],
)
def test_a_controller_is_taken_to_cut_as_far_as_it_may(controller, kind):
    found = range_test(bowl(noise=0.1), schedule=controller)
    assert found.peak == range_test(bowl(noise=0.1), schedule=kind).peak
    for trial, peak in zip(found.confirm(), found.peaks, strict=True):
        follows = trial.schedule
        rates = [float(follows(follows.init()._replace(step=jnp.int32(t)))) for t in (0, 10)]
        assert max(rates) == pytest.approx(peak)


def test_confirming_runs_as_a_sweep():
    found = range_test(bowl(noise=0.1), schedule=RECIPE)
    assert [trial.schedule for trial in found.confirm()] == [RECIPE(peak=p) for p in found.peaks]
    from jaxsched.search import sweep

    result = sweep(bowl(noise=0.1), found.confirm(), steps=100)
    assert [trial.name for trial in result.trials] == [f"peak={p:.3g}" for p in found.peaks]
    assert result.trials[0].kind.startswith("warmup_cosine(")
    assert result.edges() == {"peak": "highest"} and " peak " in str(result.table())


class Decayed(Bowl):
    """With a second hyperparameter."""

    def step(self, state, hyperparams, batch):
        state = {**state, "w": state["w"] * (1 - 0.01 * hyperparams["decay"])}
        return super().step(state, hyperparams, batch)


def test_confirming_schedules_all_that_the_test_was_given():
    task = Decayed(bowl().curvature)
    found = range_test(task, schedule=js.Constant(0.1), hyperparams={"decay": 0.1})
    for trial, peak in zip(found.confirm(), found.peaks, strict=True):
        assert trial.kind == "Constant" and sorted(trial.schedules) == ["decay", "learning_rate"]
        assert [float(trial.schedules[n](0)) for n in ("decay", "learning_rate")] == pytest.approx(
            [0.1, peak]
        )
