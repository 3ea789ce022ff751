"""Units, and how much of a schedule a run covers."""

from __future__ import annotations

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
