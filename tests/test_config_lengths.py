"""Lengths in configs: epochs, samples, tokens and shares, and what they are of."""

from __future__ import annotations

import math

import pytest
from cases import RUN

import jaxsched as js


@pytest.mark.parametrize(
    "text",
    [
        "Epochwise(cosine_decay(0.1, 90 epochs), 1 epoch)",
        "Epochwise(schedule=0.5 * Clip(Cosine(1, 0, 90 updates), 0, 1), per_epoch=9)",
        "Epochwise(Cosine(1, 0, 10%), 9)",
        "Paced(torch.StepLR(0.1, 2B tokens), [10], [1, 2])",
        "by_tokens(linear_decay(1, 3 epochs))",
        "by_tokens(composer.LinearScheduler(t_max=100sp))",
        "timm.CosineLRScheduler(0.1, 3 epochs, warmup_t=10%)",
        "optax.sgdr_schedule([{'warmup_steps': 10%, 'decay_steps': 300}])",
        "composer.CosineAnnealingWithWarmupScheduler(t_warmup=10%, t_max=300ba)",
        "torch.SequentialLR([torch.LinearLR(1, 1, 1, 10%), torch.StepLR(1, 9)], [10])"
        " + torch.CosineAnnealingLR(1, 270)",
        "Repeat(cosine_decay(0.1, 1 epoch), cycles=3, warmup=10%)",
        "Window(cosine_decay(0.1, 300), 10%, 90%)",
        "Linear(0, 1, 10%) >> warmup_cosine(1, 270, 10%)",
        "keras.CosineDecay(0.1, 300, warmup_target=1.0, warmup_steps=10%)",
        "megatron.OptimizerParamScheduler(0, 1, 0, 10%, 300, linear)",
    ],
)
def test_a_length_that_could_mean_two_things_is_refused(text):
    with pytest.raises(ValueError, match=r"must be a plain number|a percentage is of"):
        js.from_config(text, units=RUN)


@pytest.mark.parametrize(
    ("text", "made"),
    [
        ("by_tokens(linear_decay(1, 2k tokens))", RUN.by_tokens(js.linear_decay(1, 2000))),
        (
            "2 * by_samples(warmup_cosine(1, 0.5k samples, 10%))",
            2 * RUN.by_samples(js.warmup_cosine(1, 500, 50)),
        ),
        (
            "by_epochs(torch.StepLR(0.1, 30 epochs))",
            RUN.by_epochs(js.compat.torch.StepLR(0.1, 30)),
        ),
        (
            "by_tokens(hf.linear(1, 10%, 1k tokens))",
            RUN.by_tokens(js.compat.transformers.linear(1, 100, 1000)),
        ),
        (
            "by_tokens(composer.LinearScheduler(t_max=1000tok))",
            RUN.by_tokens(js.Linear(1.0, 0.0, 1000)),
        ),
    ],
)
def test_a_schedule_may_count_epochs_samples_and_tokens(text, made):
    assert js.from_config(text, units=RUN) == made
    for within in (f"Epochwise({text}, 9)", f"by_tokens({text})"):
        with pytest.raises(ValueError, match="must not stand within"):
            js.from_config(within, units=RUN)
    with pytest.raises(ValueError, match="must be given the sizes of a run"):
        js.from_config(text)


def test_a_drop_in_that_names_its_run_takes_any_sizes():
    steady = js.Units(batch=js.Constant(10), samples=1000, steps=500)
    wanted = js.compat.timm.CosineLRScheduler(0.1, 300)
    assert js.from_config("timm.CosineLRScheduler(0.1, 3 epochs)", units=steady) == wanted
    within = js.from_config("Epochwise(timm.CosineLRScheduler(0.1, 300), 1 epoch)", units=steady)
    assert within == js.Epochwise(wanted, 100)
    assert steady.steps == 500


@pytest.mark.parametrize(
    ("warmup", "steps"),
    [("2000tok", 2), ("100sp", 10), ("20ba", 20), ("1ep", 100), ("0.1dur", 30), ("50%", 250)],
)
def test_each_time_of_composer_is_converted_by_the_sizes_of_the_run(warmup, steps):
    config = {"name": "composer.LinearWithWarmupScheduler", "t_warmup": warmup}
    end = "500ba" if "%" in warmup else "3ep"
    made = js.from_config({**config, "max_duration": end}, units=RUN)
    assert made.parts[0] == js.Linear(0.0, 1.0, steps)


def test_a_curve_over_the_fraction_of_a_run_has_the_length_of_the_run():
    fastai, fvcore = js.compat.fastai, js.compat.fvcore
    inner = fastai.SchedLin(0, 1)
    for text, made in {
        "Plateau(fastai.fit_one_cycle(5, 1))": js.Plateau(
            fastai.fit_one_cycle(5, 1, steps_per_epoch=100)
        ),
        "2 * fvcore.CosineParamScheduler(1, 0)": 2 * js.Cosine(1.0, 0.0, 500),
        "fvcore.CosineParamScheduler(1, 0, steps=9)": js.Cosine(1.0, 0.0, 9),
        "fastai.combine_scheds([1], [fastai.SchedLin(0, 1)])": fastai.combine_scheds(
            [1], [inner], steps=500
        ),
        "Stretch(fastai.SchedLin(0, 1), 9)": js.Stretch(inner, 9),
        "composer.ExponentialScheduler(0.5)": js.compat.composer.ExponentialScheduler(0.5, 100),
    }.items():
        assert js.from_config(text, units=RUN) == made
    assert js.from_config("fastai.SchedLin(0, 1)") == inner
    assert fvcore.CosineParamScheduler(1, 0).duration == 1
    table = {"name": "fastai.fit_flat_cos", "parameters": {"n_epoch": 2, "lr": [1, 2]}}
    assert js.trials_from_config(table, units=RUN)[0].schedule.duration == 200
    with pytest.raises(
        ValueError, match=r"steps_per_epoch=...\) must be given, or units=js.Units\("
    ):
        js.from_config("fastai.fit_one_cycle(5, 1)", units=js.Units(batch=10))
    with pytest.raises(ValueError, match=r"SchedLin\(steps=...\) must be given\."):
        js.from_config("fastai.SchedLin(0, 1) >> Constant(0)", units=RUN)


def test_a_percentage_of_a_ratio_of_a_piece_is_one():
    assert js.from_config("Noisy(Plateau(Constant(1), factor=50%), limit=10%)") == js.Noisy(
        js.Plateau(js.Constant(1.0), factor=0.5), limit=0.1
    )
    cuts = js.from_config("Plateau(0.1, min_scale='10%', smooth='90%')")
    assert cuts == js.Plateau(0.1, min_scale=0.1, smooth=0.9)


def test_percentages_are_points_of_the_run_beside_others():
    run = js.Units(batch=10, samples=1000, steps=1000)
    for kind in (js.PiecewiseLinear, js.PiecewiseCosine, js.MonotoneCubic):
        curve = js.from_config(f"{kind.__name__}([0, 50%, 100%], [0, 1, 0])", units=run)
        assert curve == kind([0, 500, 1000], [0.0, 1.0, 0.0])


def test_a_share_is_of_the_run_that_a_drop_in_names():
    config = {"name": "hf.linear", "lr": 1, "num_warmup_steps": "10%"}
    wanted = js.compat.transformers.linear(1, 30, 300)
    assert js.from_config({**config, "num_training_steps": "3 epochs"}, units=RUN) == wanted
    parameters = {"lr": 1, "num_warmup_steps": "10%", "num_training_steps": "3 epochs"}
    table = {"name": "hf.linear", "parameters": parameters}
    assert js.trials_from_config(table, units=RUN)[0].schedule == wanted
    parameters["num_training_steps"] = math.inf
    with pytest.raises(ValueError, match="a percentage is of the length"):
        js.trials_from_config(table, units=RUN)
    parameters["num_training_steps"] = [300, 500]
    with pytest.raises(ValueError, match="percentage is of the length"):
        js.trials_from_config(table, units=RUN)
    with pytest.raises(ValueError, match="must have values or bounds, got parameters within"):
        js.trials_from_config({"name": "constant", "parameters": {"peak": {"parameters": {}}}})
    within = {"name": "Epochwise", "parameters": {"schedule": "Linear(0, 1, 9 epochs)"}}
    with pytest.raises(ValueError, match="plain number within Epochwise"):
        js.trials_from_config(within, units=RUN)
