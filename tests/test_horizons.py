"""How long a sweep runs without ``steps``: as long as its schedules, if that shows all of them."""

from __future__ import annotations

import numpy as np
import pytest

import jaxsched as js
from jaxsched.compat import composer, fastai, fvcore, keras, megatron, optax, timm, torch
from jaxsched.compat import transformers as hf
from jaxsched.search.engine._values import ScheduleValues
from jaxsched.search.trials._given import as_trials

DROPS = js.multi_step(0.1, 0.1, [10, 20])
MORE = dict(max_duration="50ba")


def horizon(schedule):
    return int(ScheduleValues(as_trials([schedule]), None).horizons[0])


@pytest.mark.parametrize(
    ("steps", "schedules"),
    [
        (20, [js.Constant(0.1, 20), js.Linear(0.0, 0.1, 20), js.Table(np.ones(20, np.float32))]),
        (20, [js.from_fn(lambda t: 1.0 * t, steps=20), js.PiecewiseLinear([5, 20], [1.0, 0.1])]),
        (20, [js.Reverse(js.Window(DROPS, 0, 20)), js.Linear(0.0, 0.1, 20) >> js.Constant(0.1, 0)]),
        (50, [js.multi_step(0.1, 0.1, [10, 20], 50), js.step_decay(0.1, 0.1, 25, 50)]),
        (50, [DROPS * js.cosine_decay(1.0, 50), js.maximum(js.linear_decay(1.0, 50), DROPS)]),
        (50, [{"learning_rate": js.linear_decay(0.1, 50), "weight_decay": DROPS}]),
        (50, [js.cooldown_from(DROPS, 40, 10), js.Plateau(js.cosine_decay(0.1, 50))]),
        (50, [torch.OneCycleLR(0.1, 50, fix=True), torch.OneCycleLR_momentum(50, fix=True)]),
        (50, [torch.PolynomialLR(0.1, 50), torch.LinearLR(0.1, 1.0, 0.0, 50)]),
        (50, [hf.linear(0.1, 5, 50), hf.cosine(0.1, 5, 50, 1.5, fix=True)]),
        (50, [hf.cosine_with_restarts(0.1, 5, 50, 2), hf.warmup_stable_decay(0.1, 5, 20, 50)]),
        (50, [hf.cosine_warmup_with_min_lr(0.1, 5, 50, min_lr=0.0, fix=True)]),
        (50, [fvcore.StepParamScheduler(3, [1.0, 0.5, 0.25], steps=50)]),
        (50, [fvcore.MultiStepParamScheduler([1.0, 0.5], 50, [20], steps=50)]),
        (50, [fvcore.StepWithFixedGammaParamScheduler(1.0, 2, 0.5, 9, steps=50)]),
        (50, [composer.MultiStepScheduler(["10ba"], **MORE), composer.LinearScheduler(**MORE)]),
        (50, [composer.CosineAnnealingScheduler("10ba", **MORE)]),
        (50, [composer.MultiStepWithWarmupScheduler("5ba", ["10ba"], **MORE)]),
        (50, [optax.linear_schedule(0.1, 0.0, 50), optax.cosine_onecycle_schedule(50, 0.1)]),
        (50, [keras.CosineDecay(0.0, 40, warmup_target=0.1, warmup_steps=10)]),
        (50, [megatron.OptimizerParamScheduler(0.0, 0.1, 0.0, 5, 50, "cosine")]),
        (50, [fastai.fit_one_cycle(10, 0.1, steps_per_epoch=5), timm.PolyLRScheduler(0.1, 50)]),
    ],
)
def test_a_run_lasts_as_long_as_its_schedules(steps, schedules):
    assert [horizon(schedule) for schedule in schedules] == [steps] * len(schedules)


@pytest.mark.parametrize(
    "schedules",
    [
        [DROPS, js.piecewise_constant([20], [1.0, 0.1]), js.with_warmup(DROPS, 5)],
        [
            2.0 * DROPS,
            js.Clip(DROPS, low=1e-3),
            DROPS**0.5,
            js.Noisy(DROPS, 0.1),
            js.Shift(DROPS, 5),
        ],
        [js.Stretch(DROPS, 2), js.Epochwise(DROPS, 10), js.Quantize(DROPS, 3)],
        [js.Paced(DROPS, [5], [1, 2]), js.RightClosed([js.Constant(0.1, 5), DROPS])],
        [js.cosine_decay(1.0, 15) * DROPS, js.warmup_cosine(1.0, 15, 5) + js.Shift(DROPS, 9)],
        [{"learning_rate": DROPS, "weight_decay": js.linear_decay(0.1, 15)}],
        [js.Plateau(DROPS), js.Linear(0.0, 0.1, 5) >> js.Plateau(DROPS)],
        [
            torch.MultiStepLR(0.1, [10, 20]),
            torch.LinearLR(0.1, 0.1, 1.0, 10),
            torch.SWALR(0.1, 0.05),
        ],
        [torch.OneCycleLR(0.1, 50), torch.SequentialLR([torch.ConstantLR(0.1), DROPS], [5])],
        [hf.constant_with_warmup(0.1, 10), timm.MultiStepLRScheduler(0.1, [10, 20], 0.1)],
        [optax.linear_schedule(0.0, 0.1, 10), optax.warmup_constant_schedule(0.0, 0.1, 10)],
        [
            optax.polynomial_schedule(0.0, 0.1, 2, 10),
            optax.piecewise_constant_schedule(1.0, {9: 0.1}),
        ],
        [keras.PiecewiseConstantDecay([10, 20], [1.0, 0.5, 0.1])],
        [fvcore.CosineParamScheduler(1.0, 0.0)],
        [composer.MultiStepScheduler(["10ba"]), composer.MultiStepScheduler(["60ba"], **MORE)],
        [
            composer.LinearScheduler(0.0, 1.0, "10ba"),
            composer.LinearScheduler(t_max="60ba", **MORE),
        ],
    ],
)
def test_a_run_that_would_miss_the_last_value_must_have_steps(schedules):
    for schedule in schedules:
        with pytest.raises(ValueError, match=r"sweep\(steps=...\) must be given for the trial"):
            horizon(schedule)


def test_a_drop_in_that_jumps_after_its_end_names_the_repair():
    with pytest.raises(ValueError, match=r"no schedule of it has an end\. .* by fix=True"):
        horizon(torch.OneCycleLR(0.1, 50))


def test_the_rise_of_a_warmup_holds_its_end():
    for schedule in (torch.LinearLR(0.1, 0.1, 1.0, 10), optax.polynomial_schedule(0.0, 0.1, 2, 10)):
        assert [schedule.host(t) for t in (9, 10, 99)][1:] == [0.1, 0.1]
    assert optax.polynomial_schedule(0.25, 0.5, 0, 10).host(99) == 0.25  # no rise with power 0
