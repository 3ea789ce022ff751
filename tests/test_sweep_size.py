"""What many steps, trials and runs cost, and where a size is refused."""

import itertools
import types

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from sweep_tasks import Plain, shared

import jaxsched as js
import jaxsched.testing
from jaxsched import _checks, search
from jaxsched.controllers import sharpness
from jaxsched.optim import group_lr
from jaxsched.search import MedianRule, SuccessiveHalving
from jaxsched.search.engine import _plan, _width
from jaxsched.search.engine._records import RunCurves
from jaxsched.search.engine._request import Request
from jaxsched.search.engine._values import ScheduleValues
from jaxsched.search.trials._given import as_trials

ONE = jax.local_devices()[:1]
SIZES = list(range(2**9))
RATES = [js.Constant(0.01 * (i + 1)) for i in range(8)]


def sweep(trials=RATES, task=None, **arguments):
    return search.sweep(task or shared(Plain), trials, **{"steps": 20, "devices": ONE, **arguments})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"steps": 2**40}, r"sweep\(steps=...\) must be a whole number from 1 to 2147483647"),
        ({"steps": 2**31}, r"sweep\(steps=...\)"),
        ({"evaluate_every": 2**40}, r"sweep\(evaluate_every=...\)"),
        ({"seeds": 2**40}, r"sweep\(seeds=...\)"),
        ({"folds": 2**40}, r"sweep\(folds=...\)"),
        ({"width": 2**31}, r"sweep\(width=...\) must leave room for .* of 2147483648 lanes"),
        ({"steps": None, "trials": [js.Linear(0.1, 0.0, 1e12)]}, "lasts 1e[+]12 steps"),
    ],
    ids=str,
)
def test_a_size_that_would_never_end_is_refused_at_once(arguments, message):
    with pytest.raises(ValueError, match=message):
        sweep(**arguments)


def test_a_range_test_has_a_most_as_well():
    for name in ("steps", "seeds"):
        with pytest.raises(ValueError, match=rf"range_test\({name}=...\) must be"):
            js.range_test(shared(Plain), **{name: 2**40})


def test_what_does_not_fit_into_memory_is_refused_before_the_work(monkeypatch, tmp_path):
    monkeypatch.setattr(_checks, "_SMALL", 0)
    monkeypatch.setattr(_checks, "memory", lambda: 8 * 20 * 8)  # one metric of each update
    for arguments in ({"evaluate_every": 1}, {"stopping": MedianRule(1)}):
        with pytest.raises(ValueError, match=r"20 steps and (20|19) evaluations of 8 runs: .* GiB"):
            sweep(**arguments)
    with pytest.raises(ValueError, match=r"range_test\(steps=...\) must leave room .* 100 steps"):
        js.range_test(shared(Plain), steps=100)
    monkeypatch.setattr(_checks, "memory", lambda: 8 * (20 + 1) * 8 + 100)
    result = sweep()
    result.save(tmp_path / "result.npz")
    with pytest.raises(ValueError, match=r"load\(file=...\) .* must leave room for what it holds"):
        search.load(tmp_path / "result.npz")


def checks(**arguments):
    js.testing.check_schedule(RATES[0], **arguments)


def test_what_takes_steps_has_a_most_and_names_it():
    many, both = 2**40, [js.Constant(0.1)]
    for call, words in [
        (lambda: js.sample(js.Constant(0.1), many), r"sample\(n=...\) must be .* to 2147483647"),
        (lambda: js.sample(js.stack(both * 4), 2**31 - 1), r"sample\(n=...\) must leave room"),
        (lambda: js.plot(js.Constant(0.1), steps=many), r"plot\(steps=...\)"),
        (lambda: search.shuffled(many, 1, 0, 0, 1), r"shuffled\(samples=...\) must be"),
        *(
            (
                lambda seed=seed: search.shuffled(9, 1, seed, 0, 1),
                r"shuffled\(seed=...\) must be a who",
            )
            for seed in (2.7, -1, 2**64)
        ),
        (lambda: search.shuffled(9, 1, 0, 0, many), r"shuffled\(length=...\) must leave room"),
        (lambda: search.sampled(js.constant, many, peak=[1, 2]), r"sampled\(count=...\)"),
        (
            lambda: search.grid(
                js.wsd, warmup=0, **dict.fromkeys(("peak", "steps", "decay"), SIZES)
            ),
            r"grid\(...\) must be given at most 1048576 combinations of values, got 134217728",
        ),
        (lambda: js.testing.default_run(steps=many), r"default_run\(steps=...\)"),
        (lambda: sharpness(jnp.sum, jnp.ones(3), steps=many), r"sharpness\(steps=...\)"),
        (lambda: sweep(steps=2**31 - 1, stopping=MedianRule(1)), r"sweep\(steps=...\)"),
    ]:
        with pytest.raises(ValueError, match=words):
            call()
    assert len(MedianRule(1, grace=5).rungs(many)) == many - 5
    assert len(MedianRule(10, grace=5).rungs(4)) == 0


ENDLESS = range(2**40)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (
            lambda: checks(steps=ENDLESS),
            r"\(steps=...\) must be steps, at most 1048576",
        ),
        (
            lambda: checks(steps=[2**31]),
            r"\(steps=...\) must be .* to 2147483647, got",
        ),
        (lambda: checks(steps=[0.5]), r"check_schedule\(steps=...\) must be a whole number"),
        (lambda: checks(steps=5), r"check_schedule\(steps=...\) must be steps, got 5\."),
        (lambda: checks(steps=[]), r"check_schedule\(steps=...\) must hold at least one step"),
        (
            lambda: checks(skip=itertools.repeat("pure")),
            r"\(skip=...\) must be names of",
        ),
        (
            lambda: js.testing.check_controller(js.Plateau(0.1), run=itertools.repeat({})),
            r"check_controller\(run=...\) must be reports, such as",
        ),
        (lambda: RATES[0](ENDLESS), r"schedule\(step\) must be .*, got range"),
        (lambda: RATES[0].host(ENDLESS), r"schedule\(step\) must be .*, got range"),
        (lambda: js.Table(ENDLESS), r"Table\(values=...\) must be a one-dimensional array, got ra"),
        (lambda: js.PiecewiseConstant(ENDLESS, [1, 2]), r"\(boundaries=...\) must be a one-dimen"),
        (lambda: js.compat.torch.MultiStepLR(0.1, ENDLESS), r"milestones=...\) must be"),
        (lambda: js.stack(ENDLESS), r"stack\(schedules=...\) must be schedules, at most"),  # type: ignore[type-var]
        (lambda: js.Units(samples=64, batch=ENDLESS), r"Units\(batch=...\) must be"),
        (lambda: group_lr(optax.sgd, {".*": ENDLESS}), r"group_lr\(.*got range"),
        (lambda: search.grid(js.constant, peak=ENDLESS), r"constant\(.*got range"),
        (lambda: sweep(seeds=ENDLESS), r"sweep\(seeds=...\) must be different whole numbers, at"),
        (lambda: sweep(devices=itertools.repeat(ONE[0])), r"sweep\(devices=...\) must be None"),
        (lambda: sweep(itertools.repeat(RATES[0])), r"sweep\(trials=...\) must be a schedule, or"),
    ],
)
def test_what_has_no_end_is_refused_by_name(call, words):
    with pytest.raises((ValueError, TypeError), match=words):
        call()


def test_a_curve_grows_in_time_proportional_to_its_length():
    none = {"loss": np.zeros(0, np.float32)}
    record = first = RunCurves(none, none)
    rooms = set()
    for step in range(1000):
        found = {"loss": np.float32(-step)} if step % 2 else None
        record = record.extended({"loss": np.full(3, step, np.float32)}, found, -1)
        rooms |= {id(record.train["loss"].base), id(record.validation["loss"].base)}
        first = record if step == 10 else first
    assert len(rooms) < 30  # a new one at each doubling, not at each step
    for kept in (record, record.trimmed()):
        np.testing.assert_array_equal(kept.train["loss"], np.repeat(np.arange(1000), 3))
        np.testing.assert_array_equal(kept.validation["loss"], -np.arange(1.0, 1000, 2))
    assert record.trimmed().train["loss"].base is None
    assert first.train["loss"].tolist() == np.repeat(np.arange(11), 3).tolist()


def test_halving_looks_at_work_in_proportion_to_the_trials(monkeypatch):
    """What waits for the next rung is not looked through for each run before it."""
    looks = 0

    class Counted(list):
        def __getitem__(self, index):
            nonlocal looks
            looks += 1
            return super().__getitem__(index)

    stage_tree = _plan.stage_tree
    monkeypatch.setattr(_plan, "stage_tree", lambda *a: Counted(stage_tree(*a)))
    counts = []
    for many in (8, 32):
        looks = 0
        rates = [js.Constant(0.01 * (1 + i / many)) for i in range(many)]
        sweep(rates, task=Plain(), stopping=SuccessiveHalving(5, 2))
        counts.append(looks)
    assert counts[1] < 4.5 * counts[0]


def test_the_table_keeps_the_beginning_of_short_runs():
    table = ScheduleValues(as_trials(RATES), 20)
    assert table.values(0, 0, 1024).base.shape == (1, 1024)
    values = ScheduleValues(as_trials([js.Linear(1, 0, 5000)]), 5000).values(0, 10, 4999)
    assert values.tobytes() == js.sample(js.Linear(1, 0, 5000), 5000)[10:4999].tobytes()


@pytest.mark.parametrize(
    ("share", "steps", "measured"),
    [(0.1, 20, [1]), (np.inf, 20, [1, 8]), (0.1, 10**6, [1, 8])],
)
def test_widths_are_measured_where_that_is_a_small_share_of_the_work(
    monkeypatch, share, steps, measured
):
    seen = []

    def seconds(plan, program, device, count):
        seen.append(program.width)
        return 0.01 / program.width

    monkeypatch.setattr(_width, "seconds_per_update", seconds)
    monkeypatch.setattr(_width, "_SHARE", share)
    times = iter(np.arange(0.0, 100.0))
    monkeypatch.setattr(_width, "time", types.SimpleNamespace(perf_counter=lambda: next(times)))
    trials = as_trials(RATES)
    plan = _plan.make_plan(Plain(), trials, Request(steps=steps))
    programs = lambda width: types.SimpleNamespace(width=width)
    assert _width.measured_width(plan, programs, ONE[0]) == measured[-1]
    assert seen == measured
