"""Early stopping compares runs, and the order of the trials decides nothing."""

import jax
import numpy as np
import pytest
from sweep_tasks import Plain, shared, supervised

import jaxsched as js
from jaxsched import search
from jaxsched.controllers import Plateau
from jaxsched.search import MedianRule, SuccessiveHalving, grid

ONE = jax.local_devices()[:1]
TASK = shared(supervised)
DECAYS = grid(js.wsd, peak=[0.2], steps=100, warmup=[10], decay=[10, 20, 30, 40])
HALVING = SuccessiveHalving(first=25, eta=2)


def sweep(trials, task=TASK, **arguments):
    return search.sweep(task, trials, devices=ONE, **arguments)


def by_schedule(result):
    """What a sweep found of each schedule, whatever its place."""
    found = {}
    for i, trial in enumerate(result.trials):
        curves = [result.train["loss"][i].tobytes(), result.diverged[i].tolist()]
        found[repr(trial.schedules)] = [int(result.stopped[i]), *curves]
    return found


def permuted(trials):
    trials = list(trials)
    return [trials[::-1], trials[len(trials) // 2 :] + trials[: len(trials) // 2]]


@pytest.mark.parametrize("share", [True, False])
def test_trials_that_are_one_run_so_far_go_on_together_and_count_once(share):
    worse = [js.Constant(rate) for rate in (1e-2, 1e-3, 1e-4)]
    result = sweep([*DECAYS, *worse], steps=100, share_prefixes=share, stopping=HALVING)
    assert result.stopped.tolist() == [-1, -1, -1, -1, 50, 25, 25]  # of 4 runs 2, of 2 runs 1
    for trials in permuted([*DECAYS, *worse]):
        again = sweep(trials, steps=100, share_prefixes=share, stopping=HALVING)
        assert by_schedule(again) == by_schedule(result)
        assert again.best().schedules == result.best().schedules


RATES = [js.Constant(rate) for rate in (1e-4, 1e-3, 1e-2, 0.1, 0.3, 1e30)]
PLATEAUS = [
    Plateau(js.Constant(rate), factor=0.5, patience=p, rtol=0.3)
    for rate in (0.05, 0.2)
    for p in (0, 1, 2)
]


@pytest.mark.parametrize(
    ("trials", "arguments"),
    [
        (RATES, {"stopping": SuccessiveHalving(10, 2), "metric": "accuracy", "maximize": True}),
        (RATES, {"stopping": MedianRule(every=20), "folds": 2, "seeds": 2}),
        (PLATEAUS, {"stopping": SuccessiveHalving(15, 2), "evaluate_every": 10, "seeds": 2}),
        ([js.wsd(0.1, 60, 0, d) for d in (5, 45)] + RATES, {"stopping": MedianRule(every=10)}),
    ],
    ids=["ties of accuracy", "folds and seeds", "controllers", "shared"],
)
def test_the_order_of_the_trials_decides_nothing(trials, arguments):
    result = sweep(trials, steps=60, **arguments)
    for others in permuted(trials):
        again = sweep(others, steps=60, **arguments)
        assert by_schedule(again) == by_schedule(result)
        assert again.best().schedules == result.best().schedules
        assert [r[-3:] for r in again.table().rows] == [r[-3:] for r in result.table().rows]
    assert (result.stopped >= 0).any()


class Coarse(Plain):
    """Scored by an accuracy that most runs have in common."""

    def evaluate(self, state):
        return {"loss": 0.0 * super().evaluate(state)["loss"] + 0.5}


def test_equal_scores_are_ranked_by_the_schedules_and_not_by_their_places():
    rates = [js.Constant(rate) for rate in (0.1, 0.03, 0.02, 0.05)]
    results = [sweep(trials, Coarse(), steps=5) for trials in [rates, *permuted(rates)]]
    chosen = {result.best().schedule for result in results}
    assert chosen == {js.Constant(0.02)}
    assert len({str([r.trials[i].schedule for i in r.ranking()]) for r in results}) == 1
    kinds = [
        {"a": js.Constant(0.1), "b": js.Constant(0.2)},
        {"b": js.Constant(0.2), "a": js.Constant(0.1)},
    ]
    orders = [list(sweep(k, Coarse(), steps=5).compare().contenders) for k in kinds]
    assert orders[0] == orders[1]


def test_functions_that_read_alike_are_ranked_by_what_they_hold():
    made = [js.from_fn(lambda step, rate=rate: rate) for rate in (0.1, 0.02, 0.3)]
    results = [sweep(trials, Coarse(), steps=5) for trials in [made, *permuted(made)]]
    assert len({id(result.best().schedule.fn) for result in results}) == 1


def test_runs_that_tie_at_the_cut_all_go_on():
    result = sweep(
        [js.Constant(0.01 * (i + 1)) for i in range(4)],
        Coarse(),
        steps=8,
        stopping=SuccessiveHalving(2, 2),
    )
    assert (result.stopped == -1).all()
    costs = np.array([3.0, 1.0, 2.0, 2.0, np.inf, 2.0])
    kept = SuccessiveHalving(1, 3).keep(costs)
    assert kept.tolist() == [False, True, True, True, False, True]
    assert not SuccessiveHalving(1, 3).keep(np.full(3, np.inf)).any()
    assert MedianRule(1).keep(costs).tolist() == [False, True, True, True, False, True]


def test_a_replayed_sweep_stops_the_same_trials(tmp_path):
    arguments = {"steps": 60, "stopping": SuccessiveHalving(10, 2), "checkpoint_every": 0.0}
    trials = [*(js.wsd(0.1, 60, 0, d) for d in (5, 45)), *RATES]
    whole = sweep(trials, **arguments)
    sweep(trials, checkpoint=tmp_path, **arguments)
    newest = max(tmp_path.glob("records-*.npz"))
    newest.unlink()  # what it held is trained again, from the decisions before it
    for states in tmp_path.glob("states-*.npz"):
        states.unlink()
    again = sweep(trials, checkpoint=tmp_path, **arguments)
    assert by_schedule(again) == by_schedule(whole)


@pytest.mark.parametrize("rule", [HALVING, MedianRule(10)])
def test_no_rung_is_at_the_end_or_twice(rule):
    rungs = rule.rungs(100)
    assert list(rungs) == sorted(set(rungs)) and max(rungs) < 100


def test_a_rule_that_would_have_endless_rungs_is_refused():
    with pytest.raises(ValueError, match=r"SuccessiveHalving\(eta=...\) must be at least 1.01"):
        SuccessiveHalving(first=1, eta=1 + 1e-9)


class Own:
    def __init__(self, rungs, keep):
        self.steps, self.kept = rungs, keep

    def rungs(self, steps):
        return self.steps

    def keep(self, costs):
        return self.kept(costs)


@pytest.mark.parametrize("rungs", [np.array([4, 6]), [6, np.int64(4), 6, 99], {4.0, 6}])
def test_rungs_of_any_kind_are_those_of_a_list(rungs):
    arguments = {"task": shared(Plain), "steps": 8, "evaluate_every": 2}
    result = sweep(RATES, stopping=Own(rungs, lambda costs: costs < max(costs)), **arguments)
    usual = sweep(RATES, stopping=Own([4, 6], lambda costs: costs < max(costs)), **arguments)
    assert by_schedule(result) == by_schedule(usual)
    assert sorted({*result.stopped.tolist()}) == [-1, 4, 6]


@pytest.mark.parametrize("rungs", [4, None, ["4"], [0], [4.5]])
def test_what_is_no_rung_is_refused_before_any_training(rungs):
    words = r"sweep\(stopping=...\): .*Own.*rungs\(8\) must be"
    with pytest.raises((TypeError, ValueError), match=words):
        sweep(RATES, shared(Plain), steps=8, stopping=Own(rungs, np.isfinite))


@pytest.mark.parametrize("keep", [np.argsort, lambda c: [True], lambda c: None, lambda c: True])
def test_a_rule_that_returns_no_mask_is_refused(keep):
    with pytest.raises(TypeError, match=r"keep\(costs\) must return an array of bool \[6\]"):
        sweep(RATES, shared(Plain), steps=8, stopping=Own([4], keep))


def test_median_rule():
    trials = [js.Constant(rate) for rate in (1e-4, 1e-3, 1e-2, 0.1)]
    result = sweep(trials, steps=60, stopping=MedianRule(every=20, grace=20))
    assert result.stopped.tolist() == [20, 20, 40, -1]
