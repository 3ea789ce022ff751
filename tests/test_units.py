"""Units, and how much of a schedule a run covers."""

from __future__ import annotations

import jax
import numpy as np
import optax
import pytest
from updates import EXPECTED, LR, applied

import jaxsched as js
from jaxsched.optim import inject


def test_epochs_samples_tokens_become_updates_with_accumulation_counted():
    run = js.Units(batch=32, accumulation=4, samples=50_000, tokens_per_sample=2048, steps=10_000)
    assert run.epochs(1) == 50_000 // 32 // 4 == 390
    assert run.epochs(90) == 50_000 // 32 * 90 // 4
    assert run.from_samples(128 * 10) == 10
    assert run.tokens(128 * 2048 * 7) == 7
    assert run.fraction(0.05) == 500
    # Not dropping the last batch: one more micro-batch in each epoch.
    assert js.Units(batch=32, samples=33, drop_last=False).epochs(3) == 6


def updates_one_by_one(ramps, count):
    """Samples and tokens seen before each update, of pairs or schedules for three sizes."""
    seen, tokens, before = 0, 0, []
    for step in range(count):
        before.append((seen, tokens))
        batch, accumulation, length = (
            int(ramp.host(step))
            if isinstance(ramp, js.AbstractSchedule)
            else next(size for at, size in reversed(ramp) if at <= seen)
            for ramp in ramps
        )
        seen += batch * accumulation
        tokens += batch * accumulation * length
    return np.array(before)


@pytest.mark.parametrize(
    "ramps",
    [
        ([(0, 5), (17, 7), (19, 30), (20, 1), (300, 8)], [(0, 1), (100, 3)], [(0, 11)]),
        (js.Table([1, 2, 3, 4, 40]), [(0, 2), (90, 5)], js.PiecewiseConstant([7, 30], [1, 9, 90])),
        ([(0, 4)], js.Quantize(js.Linear(2.0, 10.0, 32), 4), [(0, 1), (1, 2), (999, 64)]),
    ],
)
def test_sizes_that_grow_are_added_up_as_one_by_one(ramps):
    want = updates_one_by_one(ramps, 80)
    run = js.Units(*ramps[:2], tokens_per_sample=ramps[2], samples=100)
    steps = np.arange(80)
    np.testing.assert_array_equal(run.samples_at(steps), want[:, 0])
    np.testing.assert_array_equal(run.tokens_at(steps), want[:, 1])
    np.testing.assert_array_equal(run.per_update()(steps[:-1]), np.diff(want[:, 0]))
    assert [run.tokens(int(n)) for n in want[:, 1]] == steps.tolist()
    assert run.from_samples(int(want[50, 0])) == 50
    assert run.epochs(3) == run.from_samples(300)
    line = js.Linear(0.0, 1e6, 10**6)
    np.testing.assert_allclose(run.by_tokens(line).host(steps), want[:, 1], rtol=1e-13)
    assert run.by_samples(line).host(41) == want[41, 0]
    assert eval(repr(run), vars(js)) == run
    assert float(jax.jit(run.tokens_at)(60)) == np.float32(want[60, 1])


def test_an_epoch_is_a_stream_where_batch_and_accumulation_change_against_each_other():
    run = js.Units(batch=[(0, 256), (5120, 512)], accumulation=[(0, 2), (5120, 1)], samples=1000)
    assert [run.epochs(n) for n in (1, 2, 10)] == [2, 4, 20]  # of 512 samples each
    assert run.by_epochs(js.Linear(1.0, 0.0, 4)).host([1, 2, 3, 4]).tolist() == [1, 0.75, 0.75, 0.5]
    longer = js.Units(batch=32, samples=1000, tokens_per_sample=[(0, 10), (100, 20)])
    assert longer.epochs(1) == 31  # batches that are full: their size stays


def test_no_token_is_lost_where_there_are_many():
    run = js.Units(batch=[(0, 512), (10**9, 1024), (3 * 10**9, 4096)], tokens_per_sample=8191)
    step = run.tokens(10**13)
    assert abs(run.tokens_at(step) - 10**13) <= 1024 * 8191 // 2
    assert run.tokens_at(step + 1) - run.tokens_at(step) == 1024 * 8191
    # Beyond 2^20 steps the nearest whole step, too.
    assert js.Units(batch=10).from_samples(10 * 2**20 + 3) == 2**20
    assert js.Units(batch=1, steps=5).fraction(0.7) == 4  # 3.5, as it is written
    lr = run.by_tokens(js.warmup_cosine(1.0, steps=10**13, warmup=10**10))
    for at in (1000, 2_500_000, int(lr.duration) - 1):
        assert float(jax.jit(lr)(at)) == pytest.approx(lr.host(at), rel=2e-6)
    # The batch sizes of Megatron-core 0.16's own calculator, whose last one is late here.
    ramp = js.compat.megatron.rampup_batch_size(1, 1, 9, 8)
    assert ramp[-3:] == [(7, 6), (8, 7), (10, 8)]
    assert js.compat.megatron.rampup_batch_size(2, 3, 2, 14) == [(0, 2), (1, 8), (2, 14)]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (dict(batch=0), "a whole number of at least 1, .samples, size. pairs or a schedule, got 0"),
        (
            dict(batch=[1, 2]),
            r"Units\(batch=...\) must be a whole number, a list of .samples, size",
        ),
        (dict(batch=[(5, 1)]), "from 0 samples on"),
        (dict(batch=[(0, 1), (9, 2), (9, 3)]), "with more in each"),
        (dict(batch=[(0, 2.5)]), r"size of \(0, 2.5\) must be a whole number"),
        (dict(batch=1, accumulation=js.Linear(1.0, 2.0, 2)), "whole numbers.* got 1.5 at step 1"),
        (dict(batch=1, tokens_per_sample=js.Table([1, 0])), "got 0 at step 1"),
        (dict(batch=js.Repeat(js.Table([1, 2]))), "come to its last size"),
    ],
)
def test_sizes_that_cannot_be_are_refused_by_name(given, words):
    with pytest.raises(ValueError, match=words):
        js.Units(**given)


def test_what_was_seen_is_asked_for_by_a_whole_step():
    run = js.Units(batch=8)
    past = 2**60 + 1  # 8 samples each are more than an int64 counts
    for step in (-1, 2.5, "a", True, None, np.timedelta64(1, "s"), np.inf, past, [[1], [2, 3]]):
        with pytest.raises(ValueError, match=r"Units.samples_at\(step=...\) must be whole"):
            run.samples_at(step)
    assert run.samples_at(2**60 - 1) == 2**63 - 8
    with pytest.raises(ValueError, match=r"must be given Units\(tokens_per_sample=...\)"):
        run.tokens_at(1)
    with pytest.raises(TypeError, match=r"Units\(samples=...\) must be a whole number"):
        js.Units(batch=8, samples=np.ones(3))
    with pytest.raises(TypeError, match=r"a js.Units converts: .*run.by_epochs\(schedule\)"):
        js.Epochwise(js.Constant(1.0), run)
    with pytest.raises(TypeError, match=r"Units.by_samples\(schedule=...\) must be a schedule"):
        run.by_samples(3)
    assert float(jax.jit(run.by_samples(js.Linear(0.0, 1.0, 80)))(5)) == 0.5
    assert js.from_config("Cosine(1, 0, 64 samples)", units=run) == js.Cosine(1.0, 0.0, 8)


@pytest.mark.parametrize("samples", [3_000_000_000, 10**13])
def test_a_large_data_set_gives_whole_steps(samples):
    steps = js.Units(batch=32, samples=samples).epochs(1)
    assert isinstance(steps, int)
    assert steps == samples // 32


def test_accumulation_changes_no_rate_and_coverage_tells_what_is_not_reached():
    tx = optax.MultiSteps(inject(optax.sgd)(learning_rate=LR), every_k_schedule=4)
    rates, _ = applied(tx, 4 * 8)
    np.testing.assert_allclose(rates[3::4], EXPECTED, rtol=1e-6)

    # The horizon written in micro-steps: a quarter of the curve, in silence. `coverage` speaks.
    report = js.coverage(js.wsd(1.0, 1000, warmup=100, decay=200), 1000 // 4)
    assert report.fraction == 0.25
    assert [phase.name for phase in report.unreached] == ["Linear"]
    assert [phase.name for phase in report.cut] == ["Constant"]
    assert not report.complete
    assert js.coverage(js.wsd(1.0, 1000, warmup=100, decay=200), 1000).complete
    assert js.coverage(js.linear_decay(1.0, 100), 500).after == 400


@pytest.mark.parametrize(
    "run",
    [
        js.Units(batch=10, samples=1000),
        js.Units(batch=10, accumulation=3, samples=1005),  # 33 and a third of an update
        js.Units(batch=[(0, 10), (2000, 30)], samples=1000),
    ],
)
def test_a_schedule_of_epochs_moves_where_a_loop_steps_its_scheduler(run):
    epochs = js.multi_step(1.0, 0.1, [2, 5])
    lr, rates = run.by_epochs(epochs), []
    for epoch in range(8):  # scheduler.step() after each
        rates += [epochs.host(epoch)] * (run.epochs(epoch + 1) - run.epochs(epoch))
    assert lr.host(range(len(rates))).tolist() == rates
    assert jax.jit(lr)(np.arange(len(rates))).tolist() == np.float32(rates).tolist()
