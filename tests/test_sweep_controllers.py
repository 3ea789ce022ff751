"""Controllers as trials: told what is validated, forking where they decide."""

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sweep_tasks import Plain, Watched, interrupted, jitted, python_loop, same, shared, supervised

import jaxsched as js
from jaxsched import search
from jaxsched.controllers import (
    AbstractController,
    AutoDecay,
    Bounce,
    Greedy,
    NewBob,
    Plateau,
    Trigger,
    struct,
)
from jaxsched.search.engine import _plan
from jaxsched.search.store import _store

BASE = js.warmup_cosine(0.4, 90, warmup=7)
PLATEAUS = search.grid(
    lambda factor, patience: Plateau(BASE, factor=factor, patience=patience),
    factor=[0.3, 0.5],
    patience=[0, 1],
)


def sweep(trials, task=None, **arguments):
    arguments = {"steps": 90, "evaluate_every": 10, **arguments}
    return search.sweep(task or shared(Watched), trials, **arguments)


def by_hand(task, controller, steps, every, seed):
    """What a user's loop does: an update, and after every ``every``-th one a validation."""
    init, step, evaluate = jitted(task)
    state, told = init(jax.random.key(seed)), jax.jit(controller.init)()
    value, update, observe = map(jax.jit, (controller, controller.update, controller.observe))
    rates = []
    for t in range(steps):
        rate = value(told)
        rates.append(float(rate))
        state, _ = step(state, {"learning_rate": rate}, jnp.int32(t))
        told = update(told)
        if (t + 1) % every == 0:
            metrics = dict(evaluate(state))
            report = metrics | {"value": metrics["loss"], "averaged": metrics["averaged loss"]}
            told = observe(told, **report)
    return np.array(rates, np.float32), told


class OffsetState(NamedTuple):
    step: jax.Array
    base: Any
    offset: jax.Array


@struct
class Offset(AbstractController):
    """Of somebody else, and no multiple of its base: a tenth more with every evaluation."""

    base: Any

    State = OffsetState

    def init(self):
        return OffsetState(jnp.int32(0), self.base_init(), jnp.float32(0))

    def react(self, state, *, value=None, **others):
        return state._replace(offset=state.offset + 0.1)

    def value_at(self, state):
        return self.base_value(state) + state.offset


CONTROLLERS = [
    Offset(Plateau(BASE, factor=0.5, patience=0)),
    Plateau(BASE, factor=0.5, patience=0),
    Plateau(0.3, 0.3, 0, cooldown=1, rule="keras", min_lr=0.02, smooth=0.5, quiet=25),
    Greedy(BASE, factor=0.7, patience=0),
    NewBob(0.3),
    Bounce(0.3, factor=0.5),
    AutoDecay(0.3, patience=0),
    Trigger(Plateau(0.4, factor=0.5, patience=0), (js.Linear(1.0, 0.5, 30), js.Constant(0.5))),
]


PLAIN = {"task": shared(Plain)}
START = {"scale": 1, "stage": 0, "offset": 0}


@functools.cache  # called by the tests, which say how it is compiled
def every_controller():
    return sweep(CONTROLLERS, seeds=2)


@pytest.mark.optimized
@pytest.mark.parametrize("which", range(len(CONTROLLERS)))
def test_a_controller_does_what_it_does_in_a_loop(which):
    controller, result = CONTROLLERS[which], every_controller()
    for seed in range(2):
        applied = result.train["learning_rate"][which, 0, seed]
        rates, told = by_hand(shared(Watched), controller, 90, 10, seed)
        np.testing.assert_allclose(applied, rates, rtol=1e-6)
        assert any(getattr(told, name, x) != x for name, x in START.items())  # it has decided
        _, losses = python_loop(shared(Watched), {"learning_rate": applied}, seed)
        assert losses.tobytes() == result.train["loss"][which, 0, seed].tobytes()


@pytest.mark.optimized
def test_trials_are_one_run_until_a_decision_sets_them_apart():
    trials = (*PLATEAUS, *search.grid(lambda peak: js.warmup_cosine(peak, 90, warmup=7), peak=0.4))
    result = sweep(trials, seeds=2)
    alone = sweep(trials, seeds=2, share_prefixes=False)
    assert alone.steps_trained == alone.steps_asked == 2 * 5 * 90
    for name in result.train:
        assert result.train[name].tobytes() == alone.train[name].tobytes()
    rates = result.train["learning_rate"][:, 0]
    distinct = sum(
        len({one[: 10 * k + 10].tobytes() for one in rates[:, seed]})
        for seed in range(2)
        for k in range(9)
    )
    assert result.steps_trained == 10 * distinct < alone.steps_trained
    assert result.info["saved"]["shared"] == result.steps_asked - result.steps_trained
    plain = sweep([BASE])
    assert plain.train["loss"][0, 0, 0].tobytes() == result.train["loss"][-1, 0, 0].tobytes()
    assert "learning_rate" not in plain.train


@pytest.mark.optimized
@pytest.mark.parametrize("arguments", [{"length": 16}, {"devices": 2}, {"width": 3}])
def test_nothing_depends_on_how_it_is_run(monkeypatch, arguments):
    whole = sweep(PLATEAUS, seeds=2)
    if "length" in arguments:
        monkeypatch.setattr(_plan, "LENGTH", arguments["length"])
    width = arguments.get("width", 1)
    devices = jax.local_devices()[:1] * arguments.get("devices", 1)
    result = sweep(PLATEAUS, seeds=2, devices=devices, width=width)
    assert result.steps_trained == whole.steps_trained
    for name in result.train:
        if width == 1:
            assert result.train[name].tobytes() == whole.train[name].tobytes()
        np.testing.assert_allclose(result.train[name], whole.train[name], rtol=1e-4)


def test_a_population_of_factors_is_vectorized():
    factors = np.linspace(0.2, 0.8, 6)
    trials = search.grid(lambda factor: Plateau(0.3, factor=factor, patience=0), factor=factors)
    wide = sweep(trials, shared(supervised), width=4)
    for trial, rates in zip(trials, wide.train["learning_rate"][:, 0, 0], strict=True):
        ratios = rates[1:] / rates[:-1]
        np.testing.assert_allclose(ratios[ratios < 1], trial.settings["factor"], rtol=1e-6)


def test_one_program_for_controllers_and_schedules_of_all_kinds():
    result = sweep([*CONTROLLERS, BASE, js.Constant(0.1)], Watched())
    assert result.info["traces"] == {"init": 1, "segment": 1, "evaluate": 1}


def test_several_hyperparameters_each_with_a_controller():
    def recipe(patience):
        return {"learning_rate": Plateau(BASE, patience=patience), "weight_decay": NewBob(0.1)}

    result = sweep(search.grid(recipe, patience=[0, 1]))
    rates, decays = result.train["learning_rate"], result.train["weight_decay"]
    assert not np.array_equal(rates[0], rates[1])
    assert float(decays.max()) == np.float32(0.1) > float(decays[..., -1].max())


def test_rungs_report_nothing():
    """Early stopping evaluates in between; a controller must not act on that."""
    plain = sweep(PLATEAUS)
    halved = sweep(PLATEAUS, stopping=search.SuccessiveHalving(first=15, eta=3))
    for trial, stop in enumerate(halved.stopped):
        stop = 90 if stop < 0 else stop
        got = halved.train["learning_rate"][trial, 0, 0, :stop]
        assert got.tobytes() == plain.train["learning_rate"][trial, 0, 0, :stop].tobytes()
    assert (halved.stopped >= 0).any()
    saved = halved.info["saved"]
    assert sum(saved.values()) == halved.steps_asked - halved.steps_trained
    assert saved["stopped"] > 0


def test_a_diverged_run_forks_no_further():
    trials = search.grid(lambda patience: Plateau(1e30, patience=patience), patience=[0, 1])
    result = sweep(trials)
    assert (result.diverged >= 0).all() and result.steps_trained < 10
    for rates, step in zip(result.train["learning_rate"][:, 0, 0], result.diverged, strict=True):
        assert np.isfinite(rates).sum() == step.item() + 1


def kept_sweep(directory, **arguments):
    one = jax.local_devices()[:1]
    return search.sweep(checkpoint=directory, checkpoint_every=0.0, devices=one, **arguments)


ARGUMENTS = {
    "trials": PLATEAUS,
    "task": shared(Watched),
    "steps": 90,
    "evaluate_every": 10,
    "seeds": 2,
}


@pytest.mark.parametrize("after", [3, 9, 20])
def test_interrupted_it_goes_on_with_the_same_bits(tmp_path, after):
    whole = kept_sweep(None, **ARGUMENTS)
    interrupted(tmp_path, after, kept_sweep, **ARGUMENTS)
    again = kept_sweep(tmp_path, **ARGUMENTS)
    assert same(again, whole)


@pytest.mark.parametrize("lost", ["states-*.npz", "records-*[13579].npz"])
def test_lost_files_are_made_again(tmp_path, lost):
    whole = kept_sweep(None, **ARGUMENTS)
    interrupted(tmp_path, 20, kept_sweep, **ARGUMENTS)
    for path in tmp_path.glob(lost):
        path.unlink()
    assert same(kept_sweep(tmp_path, **ARGUMENTS), whole)


@pytest.mark.parametrize("monitor", ["loss", "averaged loss"])
def test_other_controllers_take_from_a_directory_what_they_share(tmp_path, monitor):
    """What they decided is decided again: only what was applied and measured is kept."""
    kept_sweep(tmp_path, **ARGUMENTS)
    other = {"learning_rate": Plateau(BASE, factor=0.35, patience=0)}
    trials = (dataclasses.replace(PLATEAUS[0], schedules=other), *PLATEAUS[1:])
    arguments = {**ARGUMENTS, "trials": trials, "monitor": monitor}
    again = kept_sweep(tmp_path, **arguments)
    assert 0 < again.info.stored < again.steps_trained
    assert same(again, kept_sweep(None, **arguments))


def test_shards_saved_and_merged(tmp_path):
    whole = sweep(PLATEAUS)
    for i in range(2):
        part = sweep(PLATEAUS, shard=(i, 2))
        assert f" in shard {i} of 2: " in part.summary()
        part.save(tmp_path / f"{i}.npz")
    merged = search.merge([tmp_path / "0.npz", tmp_path / "1.npz"])
    assert merged.train["loss"].tobytes() == whole.train["loss"].tobytes()
    assert merged.best().schedule == whole.best().schedule
    assert isinstance(merged.best().schedule, Plateau)


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0)])
def test_shards_with_and_without_controllers_are_merged(order):
    trials = [Plateau(0.3, patience=0), js.Constant(0.2), js.Constant(0.1)]
    whole = sweep(trials)
    merged = search.merge([sweep(trials, shard=(i, 3)) for i in order])
    assert merged.train.keys() == whole.train.keys()
    for name, values in whole.train.items():
        assert merged.train[name].tobytes() == values.tobytes()
    assert merged.to_json() == whole.to_json()


def test_a_controller_with_other_code_has_other_runs(tmp_path):
    def run(factor, directory=tmp_path):
        stages = js.from_fn(lambda step: 1.0 / (1.0 + factor * step))
        return kept_sweep(directory, **{**ARGUMENTS, "trials": [Trigger(0.1, stages)]})

    first = run(0.5)
    assert run(0.5).info.stored == first.steps_trained
    assert same(run(0.25), run(0.25, None))


def test_a_lack_of_memory_while_saving_loses_nothing(tmp_path, monkeypatch):
    save, calls = _store.StageStore.save, iter(range(10_000))

    def lacking(self, ledger):
        if not ledger._taken and next(calls) == 1:
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory")
        save(self, ledger)

    monkeypatch.setattr(_store.StageStore, "save", lacking)
    with pytest.warns(RuntimeWarning, match="goes on with width 2"):
        result = kept_sweep(tmp_path, **ARGUMENTS, width=4)
    exact = sweep(PLATEAUS, seeds=2)
    np.testing.assert_allclose(result.train["loss"], exact.train["loss"], rtol=1e-4)


def test_a_controller_over_code_is_saved_with_its_values(tmp_path):
    one = Plateau(js.from_fn(lambda step: 0.3 / (1 + step)), patience=0)
    sweep([one]).save(tmp_path / "code.npz")
    base = search.load(tmp_path / "code.npz").best().schedule.base
    assert np.allclose(js.sample(base, 90), 0.3 / (1 + np.arange(90)))


@pytest.mark.optimized
def test_the_winner_is_scored_by_the_very_same_run():
    task = supervised()
    result = sweep([Plateau(0.3, factor=f, patience=0) for f in (0.1, 0.7)], task, seeds=2)
    final = search.final_score(task, result)
    best = final.best.index
    assert final.result.train["loss"].tobytes() == result.train["loss"][best : best + 1].tobytes()


def test_after_a_cross_validation_no_validation_data_are_left_to_watch():
    task = supervised()
    result = sweep([Plateau(0.3, patience=0)], task, folds=2)
    assert result.train["learning_rate"].shape == (1, 2, 1, 90)
    with pytest.raises(ValueError, match="a controller watches validation data"):
        search.final_score(task, result)
    applied = js.Table(result.train["learning_rate"][0, 0, 0])
    trial = search.Trial("applied", {}, {"learning_rate": applied})
    fixed = dataclasses.replace(result.best(), trial=trial)
    assert "loss" in search.final_score(task, result, fixed).metrics


@pytest.mark.parametrize(
    ("trials", "arguments", "words"),
    [
        ([Plateau(0.1)], {"evaluate_every": None}, r"evaluate_every=...\) must be given with con"),
        (
            [Plateau(0.1)],
            {"monitor": "lost"},
            r"monitor=...\) must be one of 'averaged loss', 'l",
        ),
        (
            [Bounce(0.1)],
            {"task": shared(Plain)},
            "Bounce must be told norm, got only loss, value, nor",
        ),
        (
            [AutoDecay(0.1)],
            {"task": shared(Plain)},
            "AutoDecay must be told averaged.*search.Averaged",
        ),
        ([Plateau(0.1, factor=np.array([0.1, 0.2]))], {}, r"is a population of 2: .*js\.unstack"),
        ([Plateau(0.1)], {"steps": None}, "steps=.* must be given for the trial Plateau"),
    ],
)
def test_what_is_refused_before_any_training(trials, arguments, words):
    with pytest.raises(ValueError, match=words):
        sweep(trials, **arguments)
