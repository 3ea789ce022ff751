"""Grids, lists and draws of trials: names and settings stay, mistakes are named."""

import copy
import functools
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxsched as js
from jaxsched.search import Trial, grid, loguniform, sampled, uniform, zipped
from jaxsched.search.engine._values import ScheduleValues
from jaxsched.search.trials._given import as_trials


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
    for array in (list, tuple, np.array, jnp.array):
        milestones = [array([10, 20]), array([30])]
        trials = grid(js.multi_step, peak=0.1, factor=0.5, milestones=milestones)
        assert [t.settings["milestones"] for t in trials] == [[10, 20], [30]]
        assert [t.name for t in trials] == ["milestones=[10, 20]", "milestones=[30]"]
        assert trials[1].schedule == js.multi_step(0.1, 0.5, [30])


def test_a_recipe_may_schedule_several_hyperparameters():
    def recipe(peak, decay):
        return {"learning_rate": js.cosine_decay(peak, 50), "weight_decay": jnp.float32(decay)}

    trial = grid(recipe, peak=0.1, decay=[0.0, 0.01])[1]
    assert trial.schedules == {
        "learning_rate": js.cosine_decay(0.1, 50),
        "weight_decay": js.Constant(float(np.float32(0.01))),
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
        (lambda: grid(js.constant, peak=[]), r"grid\(peak=...\) must hold at least one value"),
        (lambda: zipped(js.constant, peak=[]), r"zipped\(peak=...\) must hold at least one"),
        (
            lambda: zipped(js.cosine_decay, peak=[1, 2], steps=[1, 2, 3]),
            r"zipped\(...\) must be given lists of one length, got {'peak': 2, 'steps': 3}",
        ),
        (lambda: sampled(js.constant, 0, peak=uniform(0, 1)), "whole number of at least 1, got 0"),
        (lambda: sampled(js.constant, 2.5, peak=uniform(0, 1)), "of at least 1, got 2.5"),
        (lambda: sampled(js.constant, 2, peak=uniform(0, 1), seed=-1), r"sampled\(seed=...\)"),
        (lambda: sampled(js.constant, 3, peak=1.0), "must be given something to draw"),
        (
            lambda: sampled(js.constant, 3, method="Halton", peak=uniform(0, 1)),
            r"sampled\(method=...\) must be one of 'halton', 'latin'.*; did you mean 'halton'",
        ),
        (lambda: uniform(js.share(0.1), 1), r"uniform\(low=...\) .*let the recipe make them"),
        (lambda: uniform(2, 1), r"uniform\(high=...\) must be greater than low=2, got 1"),
        (lambda: loguniform(0, 1), r"loguniform\(low=...\) must be greater than 0"),
        (lambda: as_trials([]), r"sweep\(trials=...\) must hold at least one trial, got none"),
        (lambda: as_trials([{}]), "must schedule at least one hyperparameter"),
        (lambda: as_trials({"a": 0.1, "b": []}), "must hold at least one trial for 'b', got none"),
        (lambda: as_trials({1: 0.1, "1": 0.2}), r"must have different names .* \[1, '1'\]"),
        (lambda: grid({"": js.constant}, peak=1), "must have different names that are not empty"),
        (lambda: as_trials({}), r"sweep\(trials=...\) must hold at least one trial, got none"),
        (lambda: grid([], peak=1), "must hold at least one recipe, got none"),
        (lambda: grid([js.constant, js.constant], peak=1), "must be different, got constant twice"),
        (
            lambda: as_trials([{"learning_rate": 0.1}, {"lr": 0.1}]),
            "must schedule the same hyperparameters in all trials",
        ),
        (
            lambda: ScheduleValues(as_trials([js.Constant(0.1)]), None),
            r"sweep\(steps=...\) must be given for the trial Constant.* has an end\.$",
        ),
        (
            lambda: js.sweep(None, [js.compat.torch.CosineAnnealingLR(0.1, 9)]),
            "by fix=True",
        ),
        (
            lambda: ScheduleValues(as_trials([js.stack([js.Constant(0.1), js.Constant(0.2)])]), 5),
            r"is a population of 2: .*js\.unstack",
        ),
    ],
)
def test_mistakes(make, words):
    with pytest.raises(ValueError, match=words):
        make()


@pytest.mark.parametrize(
    ("make", "words"),
    [
        *(
            (lambda make=make: make(jax.random.key(0)), "must be .*, got Array.*key<fry>")
            for make in (
                lambda key: grid(js.constant, peak=key),
                lambda key: zipped(js.constant, peak=[jax.random.split(key), key]),
                lambda key: sampled(js.constant, 1, peak=[key, key]),
                lambda key: Trial("a", {}, {"learning_rate": key}),
            )
        ),
        (lambda: as_trials(0.1), "must be a schedule, or a list or dict of .*, got 0.1"),
        (lambda: as_trials("cosine"), "must be a schedule, or a list or dict of .*, got .cosine"),
        (lambda: as_trials({"learning_rate": 0.1}), r"got a dict with learning_rate; write \[{"),
        (lambda: Trial("x", [], js.Constant(0.1)), r"Trial\(settings=...\) must be a dict"),
        (lambda: Trial(3, {}, js.Constant(0.1)), r"Trial\(name=...\) must be a text, got 3"),
        (lambda: Trial("x", {}, "cosine"), r"Trial\(schedules=...\) must be made of schedules"),
        (
            lambda: grid([js.Constant(0.1)] * 2, peak=1),
            r"got the schedule Constant.* `sweep` takes",
        ),
        (lambda: grid({"a": None}, peak=1), r"name -> function, got None \(NoneType\)"),
        (
            lambda: grid([js.cosine_decay, js.warmup_cosine], peak=1, steps=9),
            r"grid\(warmup=...\) must be given: warmup_cosine needs it, got only peak, steps",
        ),
        (
            lambda: grid({"\x1b[31m": js.warmup_cosine, "k": js.constant}, peak=1),
            r"must be given: \\x1b\[31m needs it",
        ),
        (
            lambda: zipped([js.cosine_decay, js.constant], peak_value=1, steps=9),
            r"zipped\(peak_value=...\) .* called peak here. cosine_decay has peak, steps, end",
        ),
        (lambda: as_trials({"a": lambda step: 0.1}), r"wrap a function with `js.from_fn`"),
        (lambda: as_trials([lambda step: 0.1]), r"wrap a function with `js.from_fn`"),
        (lambda: as_trials([js.warmup_cosine]), r"not called: give js.warmup_cosine\(...\)"),
        (lambda: as_trials(js.warmup_cosine), r"not called: give js.warmup_cosine\(...\)"),
        (
            lambda: as_trials([optax.sgd(0.1)]),
            "schedules and controllers, for 'learning_rate' too, got Grad",
        ),
        (lambda: grid(js.constant, peak=uniform(0, 1)), "use `sampled`"),
        (
            lambda: grid(js.constant, speak=[1.0]),
            "constant has no argument speak; did you mean peak",
        ),
    ],
)
def test_wrong_types(make, words):
    with pytest.raises(TypeError, match=words):
        make()


LAMBDAS = [lambda peak: js.Constant(peak), lambda peak, steps: js.cosine_decay(peak, steps)]
PARTIALS = [functools.partial(js.cosine_decay, end=end) for end in (0.0, 0.1, 0.1)]


def names(trials):
    return [(trial.name, trial.kind) for trial in as_trials(trials)]


@pytest.mark.parametrize(
    ("trials", "expected"),
    [
        (
            grid({"cos": js.cosine_decay, "wsd": js.wsd}, peak=[1, 2], steps=9, warmup=1, decay=2),
            ["cos|peak=1", "cos|peak=2", "wsd|peak=1", "wsd|peak=2"],
        ),
        (grid([js.cosine_decay, js.constant], peak=1, steps=9), ["cosine_decay|", "constant|"]),
        (
            grid(js.cosine_decay, peak=[1, 2], steps=9) + grid(js.constant, peak=[1, 2]),
            ["cosine_decay|peak=1", "cosine_decay|peak=2", "constant|peak=1", "constant|peak=2"],
        ),
        (grid(LAMBDAS, peak=[1], steps=9), ["recipe 1|", "recipe 2|"]),
        (
            grid(LAMBDAS[0], peak=[1]) + grid(LAMBDAS, peak=[2, 3], steps=9),
            [f"recipe {i}|peak={p}" for i, p in ((1, 1), (1, 2), (1, 3), (2, 2), (2, 3))],
        ),
        (
            sum((grid(partial, peak=[1], steps=9) for partial in PARTIALS), ()),
            [f"cosine_decay(end={end})|peak=1 steps=9" for end in (0.0, 0.1, 0.1)],
        ),
        (
            zipped({"c": js.cosine_decay, "k": js.constant}, peak=[1, 1, 2], steps=[9, 8, 9]),
            [f"{k}|peak={p} steps={s}" for k in "ck" for p, s in ((1, 9), (1, 8), (2, 9))],
        ),
        (
            zipped({"c": js.cosine_decay, "w": js.warmup_cosine}, peak=1, steps=9, warmup=[1, 2]),
            ["c|", "w|warmup=1", "w|warmup=2"],
        ),
        (
            {"a": js.Constant(0.1), "b": grid(js.constant, peak=[1, 2]), "c": {"learning_rate": 1}},
            ["a|", "b|peak=1", "b|peak=2", "c|"],
        ),
        (
            {"a": grid({"c": js.cosine_decay, "k": js.constant}, peak=1, steps=9)},
            ["a|c", "a|k"],
        ),
    ],
)
def test_several_kinds_are_in_the_names(trials, expected):
    found = [f"{kind}|{name.removeprefix(kind).strip()}" for name, kind in names(trials)]
    assert [text.removesuffix(" (2)") for text in found] == expected
    assert len({name for name, _ in names(trials)}) == len(expected)


def test_of_one_kind_the_names_say_nothing_but_what_varies():
    assert names(grid(js.constant, peak=[1, 2])) == [("peak=1", "constant"), ("peak=2", "constant")]
    assert names(js.Constant(0.1)) == [("Constant(value=0.1)", "Constant")]
    assert names(js.Linear(0, 1, 5) >> js.Constant(1))[0][1] == "Linear >> Constant"
    functions = [js.from_fn(lambda step: 0.1), js.from_fn(lambda step: 0.2)]
    assert [kind for _, kind in names(functions)] == ["recipe 1", "recipe 2"]


def test_equal_names_get_what_differs_and_else_a_number():
    made = [grid(js.warmup_cosine, peak=[1, 2], steps=9, warmup=w) for w in (0, 3)]
    expected = [f"peak={p} warmup={w}" for w in (0, 3) for p in (1, 2)]
    assert [name for name, _ in names(made)] == expected
    assert [name for name, _ in names([0.1, np.float64(0.1)])] == ["0.1", "0.1 (2)"]
    warmed = [
        js.warmup_cosine(0.1, steps, warmup=10, end=e) for steps, e in ((900, 0), (800, 0.01))
    ]
    ends = [name.partition("... ")[2] for name, _ in names(warmed)]  # what comes first is cut
    assert ends == ["end=0.0 steps=890", "end=0.01 steps=790"]
    alike = grid(lambda peak, clip: js.constant(peak), peak=0.1, clip=[None, "None"])
    assert [trial.name for trial in alike] == ["clip=None clip=None", "clip=None clip='None'"]


def test_schedules_as_values_have_short_names():
    bases = [js.Cosine(0.1, 0.0, 9), js.Cosine(0.2, 0.0, 9), js.warmup_cosine(0.1, 9, 2)]
    made = [trial.name for trial in grid(js.Plateau, base=bases)]
    assert made == ["base=Cosine(start=0.1)", "base=Cosine(start=0.2)", "base=Linear >> Cosine"]
    assert len({trial.name for trial in grid(js.Plateau, base=bases, patience=[1, 2])}) == 6


def test_draws_that_repeat_others_are_told():
    with pytest.warns(UserWarning, match="6 of the trials repeat others"):
        sampled(js.constant, 8, peak=[1, 2])


def test_trials_of_an_earlier_sweep_stay_of_their_kind():
    earlier = as_trials(grid(LAMBDAS[0], peak=[1]) + grid(js.constant, peak=[1]))
    again = as_trials(earlier + grid(js.constant, peak=[2]))
    assert [trial.kind for trial in again] == ["recipe", "constant", "constant"]
    assert [t.name for t in again] == ["recipe peak=1", "constant peak=1", "constant peak=2"]
    assert pickle.loads(pickle.dumps(grid(LAMBDAS, peak=1, steps=9)))[0].kind == "recipe 1"


def test_a_trial_by_hand_takes_what_is_clear():
    trial = Trial("mine", {"peak": np.float32(0.5)}, js.cosine_decay(0.5, 10), kind="cosine")
    assert (trial.schedule, type(trial.settings["peak"])) == (js.cosine_decay(0.5, 10), float)
    both = Trial("both", {3: 1}, {"momentum": 0.9, "weight_decay": 0.1})
    assert both.settings == {"3": 1}
    with pytest.raises(ValueError, match=r"got momentum, weight_decay; take `schedules\[name\]`"):
        both.schedule  # noqa: B018


def test_several_recipes_are_drawn_the_same_values():
    kinds = {"c": js.cosine_decay, "w": js.warmup_cosine}
    drawn = sampled(kinds, 3, steps=9, warmup=uniform(0, 5, whole=True), peak=loguniform(0.1, 1))
    peaks = [trial.settings["peak"] for trial in drawn]
    assert peaks[:3] == peaks[3:]
    assert "warmup" not in drawn[0].settings


def test_a_dict_of_hyperparameters_says_whose_value_is_another():
    rate = js.warmup_cosine(0.1, 1000, 100)
    trials = [{"learning_rate": rate, "momentum": js.Constant(value)} for value in (0.9, 0.8)]
    ends = [trial.name.split("... ")[1] for trial in as_trials(trials)]
    assert ends == ["momentum value=0.9", "momentum value=0.8"]


def test_an_error_of_a_recipe_names_the_trial():
    with pytest.raises(ValueError, match="must be") as caught:
        grid(js.cosine_decay, peak=0.1, steps=[10, -5])
    assert caught.value.__notes__ == ["in grid(...), for the trial steps=-5"]


class Shape:
    """A setting without a ``__repr__``."""

    def __init__(self, power):
        self.power = power

    def __call__(self, peak):
        return js.polynomial_decay(peak, 10, power=self.power)


def test_functions_and_objects_as_settings_have_names_without_addresses():
    def recipe(peak, shape):
        return shape(peak)

    shapes = [js.constant, Shape(2.0), Shape(3.0)]
    shapes += [lambda peak, n=n: js.cosine_decay(peak, n) for n in (10, 20)]
    names = [t.name for t in grid(recipe, peak=0.1, shape=shapes)]
    assert names == [
        t.name for t in grid(recipe, peak=0.1, shape=[*shapes[:1], *map(copy.copy, shapes[1:])])
    ]
    assert len(set(names)) == 5
    assert names[1] == "shape=test_trials.Shape(power=2.0)"
    names += [t.kind for t in grid([functools.partial(recipe, shape=s) for s in shapes], peak=1)]
    assert not any("0x" in name or "\n" in name for name in names)


def test_the_name_of_a_schedule_of_a_callable_has_no_address():
    def decay(peak, step):
        return peak / (1 + step)

    found = repr(js.from_fn(functools.partial(decay, 0.1)))
    assert found.startswith("from_fn(test_the_name")
    assert found.endswith("decay)")
