"""Grids, lists and draws of trials: names and settings stay, mistakes are named."""

import numpy as np
import optax
import pytest

import jaxsched as js
from jaxsched.search import Trial, grid, loguniform, sampled, uniform, zipped
from jaxsched.search._table import Table
from jaxsched.search._trials import as_trials


def test_grid_is_the_product_with_the_last_argument_fastest():
    trials = grid(js.warmup_cosine, steps=[100], peak=[0.1, 0.3], warmup=np.array([0, 10, 20]))
    assert [(t.settings["peak"], t.settings["warmup"]) for t in trials] == [
        (p, w) for p in (0.1, 0.3) for w in (0, 10, 20)
    ]
    assert trials[4].name == "peak=0.3 warmup=10"
    assert trials[4].schedule == js.warmup_cosine(peak=0.3, steps=100, warmup=10)
    assert all(type(v) in (int, float) for t in trials for v in t.settings.values())


def test_words_and_lists_are_values_too():
    trials = grid(js.wsd, peak=0.1, steps=100, warmup=5, decay=20, shape=["linear", "1-sqrt"])
    assert [t.name for t in trials] == ["shape=linear", "shape=1-sqrt"]
    trials = grid(js.multi_step, peak=0.1, factor=0.5, milestones=[[10, 20], [30]])
    assert [t.settings["milestones"] for t in trials] == [[10, 20], [30]]


def test_a_recipe_may_schedule_several_hyperparameters():
    def recipe(peak, decay):
        return {"learning_rate": js.cosine_decay(peak, 50), "weight_decay": decay}

    trial = grid(recipe, peak=0.1, decay=[0.0, 0.01])[1]
    assert trial.schedules == {
        "learning_rate": js.cosine_decay(0.1, 50),
        "weight_decay": js.Constant(0.01),
    }
    assert trial.schedule == js.cosine_decay(0.1, 50)


def test_zipped():
    trials = zipped(js.warmup_cosine, steps=100, peak=[0.1, 0.3], warmup=[0, 10])
    assert [(t.settings["peak"], t.settings["warmup"]) for t in trials] == [(0.1, 0), (0.3, 10)]


@pytest.mark.parametrize("method", ["halton", "sobol", "latin", "random"])
def test_draws_are_reproducible_and_inside(method):
    def draw(seed):
        return sampled(
            js.warmup_cosine,
            20,
            seed=seed,
            method=method,
            steps=100,
            peak=loguniform(1e-4, 1e-1),
            warmup=uniform(0, 9, whole=True),
            end=[0.0, 1e-5],
        )

    trials = draw(1)
    assert trials == draw(1)
    assert trials != draw(2)
    assert len(trials) == 20
    assert all(1e-4 <= t.settings["peak"] <= 1e-1 for t in trials)
    assert {t.settings["warmup"] for t in trials} <= set(range(10))
    assert {t.settings["end"] for t in trials} == {0.0, 1e-5}
    logs = np.log10([t.settings["peak"] for t in trials])
    if method != "random":  # even: each third of the range holds about a third of the draws
        counts = np.histogram(logs, 3, (-4, -1))[0]
        assert counts.min() >= 4


def test_whole_numbers_have_equal_chances_to_the_bounds():
    values = [uniform(1, 4, whole=True).at(u) for u in (np.arange(4000) + 0.5) / 4000]
    assert np.bincount(values).tolist() == [0, 1000, 1000, 1000, 1000]
    assert loguniform(1, 8, whole=True).at(1 - 1e-12) == 8


def test_mixed_lists():
    trials = as_trials([js.Constant(0.1), {"learning_rate": 0.2}, *grid(js.constant, peak=0.3)])
    assert [float(t.schedule(0)) for t in trials] == [np.float32(v) for v in (0.1, 0.2, 0.3)]
    assert all(isinstance(t, Trial) for t in trials)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: grid(js.constant, peak=[]), r"`grid\(peak=...\)` must hold at least one value"),
        (lambda: zipped(js.constant, peak=[]), r"`zipped\(peak=...\)` must hold at least one"),
        (
            lambda: zipped(js.cosine_decay, peak=[1, 2], steps=[1, 2, 3]),
            r"`zipped\(...\)` must be given lists of one length, got {'peak': 2, 'steps': 3}",
        ),
        (lambda: sampled(js.constant, 0, peak=uniform(0, 1)), "must be at least 1, got 0"),
        (lambda: sampled(js.constant, 3, peak=1.0), "must be given something to draw"),
        (
            lambda: sampled(js.constant, 3, method="magic", peak=uniform(0, 1)),
            r"`sampled\(method=...\)` must be \"halton\"",
        ),
        (lambda: uniform(2, 1), r"`uniform\(high=...\)` must be greater than low=2, got 1"),
        (lambda: loguniform(0, 1), r"loguniform\(low=...\) must be greater than 0"),
        (lambda: as_trials([]), r"`sweep\(trials=...\)` must hold at least one trial, got none"),
        (lambda: as_trials([{}]), "must schedule at least one hyperparameter"),
        (
            lambda: as_trials([{"learning_rate": 0.1}, {"lr": 0.1}]),
            "must schedule the same hyperparameters in all trials",
        ),
        (
            lambda: Table(as_trials([js.Constant(0.1)]), None),
            r"`sweep\(steps=...\)` must be given for the trial Constant",
        ),
        (
            lambda: Table(as_trials([js.stack([js.Constant(0.1), js.Constant(0.2)])]), 5),
            "is a population",
        ),
    ],
)
def test_mistakes(make, words):
    with pytest.raises(ValueError, match=words):
        make()


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (
            lambda: as_trials(js.Constant(0.1)),
            "must be a list of schedules or trials, got Constant",
        ),
        (lambda: as_trials([lambda step: 0.1]), r"wrap a function with `js.from_fn`"),
        (
            lambda: as_trials([optax.sgd(0.1)]),
            "must be made of schedules and controllers, got Grad",
        ),
        (lambda: grid(js.constant, peak=uniform(0, 1)), "use `sampled`"),
        (lambda: grid(js.constant, speak=[1.0]), "unexpected keyword argument 'speak'"),
    ],
)
def test_wrong_types(make, words):
    with pytest.raises(TypeError, match=words):
        make()


def test_an_error_of_a_recipe_names_the_trial():
    with pytest.raises(ValueError, match="must be") as caught:
        grid(js.cosine_decay, peak=0.1, steps=[10, -5])
    assert caught.value.__notes__ == ["in grid(...), for the trial steps=-5"]
