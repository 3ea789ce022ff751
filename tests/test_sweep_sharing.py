"""Prefix sharing: read off the table, exact, and it saves what the tree says."""

import itertools

import jax
import numpy as np
import pytest
from sweep_tasks import Plain, shared, supervised

import jaxsched as js
from jaxsched import search
from jaxsched.search.engine import _stage_tree
from jaxsched.search.engine._stage_tree import stage_tree
from jaxsched.search.engine._values import ScheduleValues
from jaxsched.search.trials._given import as_trials

TASK = shared(supervised)
WSD = [js.wsd(0.2, 120, warmup=10, decay=d) for d in (10, 20, 30, 40, 50, 60, 70, 80)]
DROPS = [js.multi_step(0.2, 0.1, [m]) for m in range(20, 100, 5)]
HORIZONS = [js.wsd(0.2, n, warmup=10, decay=10) for n in range(40, 120, 10)]


def sweep(trials, **arguments):
    return search.sweep(TASK, trials, devices=jax.local_devices()[:1], **arguments)


@pytest.mark.optimized
@pytest.mark.parametrize(
    ("trials", "steps", "trained"),
    [
        (WSD, 120, 120 + sum(d - 1 for d in range(20, 90, 10))),
        (DROPS, 100, 100 + sum(100 - m for m in range(20, 95, 5))),
        (HORIZONS, None, 110 + 7 * 9),
        ([js.Constant(0.1)] * 5, 50, 50),
    ],
    ids=["wsd", "drops", "horizons", "twins"],
)
def test_shared_runs_have_the_bits_of_separate_ones(trials, steps, trained):
    shared = sweep(trials, steps=steps, evaluate_every=40)
    apart = sweep(trials, steps=steps, evaluate_every=40, share_prefixes=False)
    assert shared.train["loss"].tobytes() == apart.train["loss"].tobytes()
    for name in shared.validation:
        assert shared.validation[name].tobytes() == apart.validation[name].tobytes()
    assert apart.steps_trained == apart.steps_asked == shared.steps_asked
    assert shared.steps_trained == trained
    assert shared.info["saved"] == {
        "shared": shared.steps_asked - trained, "stopped": 0, "diverged": 0
    }  # fmt: skip


def test_equal_mathematics_shares_whatever_wrote_it():
    """One constant phase, by five names."""
    trials = [
        js.Linear(0.0, 0.3, 10) >> js.Constant(0.3),
        js.wsd(0.3, 100, warmup=10, decay=20),
        js.Linear(0.0, 0.3, 10) >> js.Constant(0.3, 40) >> js.Cosine(0.3, 0.0, 50),
        js.minimum(js.Linear(0.0, 0.6, 20), 0.3),
        0.3 * (js.Linear(0.0, 1.0, 10) >> js.Constant(1.0)),
    ]
    stages = stage_tree(ScheduleValues(as_trials(trials), 100))
    assert stages[0].trials == (0, 1, 2, 3, 4)
    assert stages[0].stop == 51


def test_several_hyperparameters_share_only_where_all_agree():
    def both(lr, decay):
        return {"learning_rate": lr, "weight_decay": decay}

    flat = js.Constant(0.1)
    stages = stage_tree(
        ScheduleValues(
            as_trials(
                [both(flat, 0.0), both(flat, js.multi_step(1.0, 0.5, [30])), both(flat, 1.0)]
            ),
            50,
        )
    )
    spans = sorted((s.start, s.stop, s.trials) for s in stages)
    assert spans == [(0, 30, (1, 2)), (0, 50, (0,)), (30, 50, (1,)), (30, 50, (2,))]


def test_every_trial_is_covered_once_at_each_step():
    trials = as_trials([*WSD, *DROPS, *HORIZONS, js.Constant(0.2), js.Constant(-0.0)])
    table = ScheduleValues(trials, 120)
    for cuts in ((), (15, 60)):
        stages = stage_tree(table, cuts)
        for trial in range(len(trials)):
            mine = [s for s in stages if trial in s.trials]
            assert [s.start for s in mine] == [0, *(s.stop for s in mine[:-1])]
            assert mine[-1].stop == 120
            assert all(a.index == b.parent for a, b in itertools.pairwise(mine))
        assert all(not (s.start < cut < s.stop) for s in stages for cut in cuts)


@pytest.mark.parametrize("window", [1, 300, 1 << 20])  # bytes
def test_trials_share_a_stage_as_long_as_their_values_agree(monkeypatch, window):
    monkeypatch.setattr(_stage_tree, "_BYTES", window)
    trials = as_trials([*WSD[:4], *DROPS[:4], *HORIZONS[:4], js.Constant(0.2), js.Constant(-0.0)])
    table = ScheduleValues(trials, 120)
    table.horizons = 120 - 20 * (np.arange(len(trials)) % 3)
    values = [table.values(t, 0, n).view(np.uint32) for t, n in enumerate(table.horizons)]
    stages = stage_tree(table, (30,))
    for a, b in itertools.combinations(range(len(trials)), 2):
        both = [s for s in stages if a in s.trials and b in s.trials]
        length = min(values[a].shape[1], values[b].shape[1])
        differs = (values[a][:, :length] != values[b][:, :length]).any(axis=0)
        agree = int(differs.argmax()) if differs.any() else length
        assert max((s.stop for s in both), default=0) == agree
        assert both or agree == 0
    assert all(sorted(s.trials) == list(s.trials) for s in stages)
    assert {t for s in stages for t in s.ended} == set(range(len(trials)))


def test_the_table_has_the_values_of_the_schedule_however_it_is_asked():
    trials = as_trials([js.warmup_cosine(0.3, 20_000, 100), js.from_fn(lambda t: 1.0 / (1 + t))])
    table = ScheduleValues(trials, 20_000, budget=1)  # keeps one block
    for i, trial in enumerate(trials):
        whole = js.sample(trial.schedule, 20_000)
        for start, stop in ((0, 20_000), (0, 1), (4095, 4097), (9_000, 13_333)):
            assert table.values(i, start, stop)[0].tobytes() == whole[start:stop].tobytes()


def test_a_diverged_prefix_ends_all_that_share_it():
    trials = [js.Constant(1e30, 5) >> js.Constant(v) for v in (0.1, 0.2)] + [js.Constant(0.1)]
    result = search.sweep(Plain(), trials, steps=50)
    assert result.diverged[0, 0, 0] == result.diverged[1, 0, 0] <= 5
    assert result.diverged[2, 0, 0] == -1
    assert np.isnan(result.train["loss"][:2, 0, 0, 6:]).all()
    assert result.best().index == 2


@pytest.mark.parametrize("width", [2, 8])
def test_wide_sharing_covers_the_same_steps(width):
    shared = sweep(WSD, evaluate_every=40, width=width)
    narrow = sweep(WSD, evaluate_every=40)
    assert shared.steps_trained == narrow.steps_trained
    np.testing.assert_allclose(shared.train["loss"], narrow.train["loss"], rtol=1e-3, atol=1e-5)
