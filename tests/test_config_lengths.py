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
        "optax.sgdr_schedule([{init_value: 0, peak_value: 1, warmup_steps: 1%, decay_steps: 9}])",
        "composer.CosineAnnealingWithWarmupScheduler(t_warmup=10%, t_max=300ba)",
        "torch.SequentialLR([torch.LinearLR(1, 1, 1, 10%), torch.StepLR(1, 9)], [10])"
        " + torch.CosineAnnealingLR(1, 270)",
        "Repeat(cosine_decay(0.1, 1 epoch), cycles=3, warmup=10%)",
        "Window(cosine_decay(0.1, 300), 10%, 90%)",
        "Linear(0, 1, 10%) >> warmup_cosine(1, 270, 10%)",
        "keras.CosineDecay(0.1, 300, warmup_target=1.0, warmup_steps=10%)",
        "megatron.OptimizerParamScheduler(0, 1, 0, 10%, 300, linear)",
        "hf.warmup_stable_decay(1, 10%, 100, num_stable_steps=200)",
        "Linear(0, 1, 10%) >> Window(constant(1), 0, 300)",
        "Linear(0, 1, 10%) >> by_epochs(cosine_decay(1, 3))",
        "Linear(0, 1, 10%) * fastai.fit_one_cycle(3, 1)",
        "PiecewiseLinear([0, 10%, 300], [0, 1, 0])",
        "by_epochs(torch.MultiStepLR(1, [30%, 60%]))",
        "Stretch(Linear(0, 1, 10%), 2)",
        "fvcore.CosineParamScheduler(1, 0) * cosine_decay(1, 300)",
        "Stretch(fvcore.CosineParamScheduler(1, 0) + cosine_decay(1, 300), 9)",
        "fvcore.MultiStepParamScheduler([1, 0], 90 epochs, [30 epochs])",
        "fastai.combine_scheds([0.5, 0.5], [Linear(0, 1, 9), Linear(0, 1, 9)])",
    ],
)
def test_a_length_that_could_mean_two_things_is_refused(text):
    words = "must be a plain number|a percentage is of|must be given|without steps of their own"
    with pytest.raises(ValueError, match=words):
        js.from_config(text, units=RUN)


AROUND = ["2 * {}", "Clip({}, 0, 1)", "Noisy({}, 0.1)", "Plateau({})", "Trigger({}, [Constant(1)])"]
BESIDE = ["{} >> Constant(0)", "Repeat({})", "Window({}, 0, 9)", "Reverse({})", "Shift({}, 9)"]
ANEW = ["Epochwise({}, 9)", "Paced({}, [9], [1, 2])"]
BY = ["by_tokens({})", "by_samples({})", "by_epochs({})"]


@pytest.mark.parametrize(
    ("curve", "length", "refused"),
    [
        ("fvcore.CosineParamScheduler(1, 0", "steps=500", BESIDE + ANEW + BY),
        ("fastai.fit_one_cycle(3, 1", "steps_per_epoch=100", ANEW + BY),
    ],
)
def test_no_wrapper_takes_one_step_for_a_run(curve, length, refused):
    for around in AROUND + BESIDE + ANEW + BY:
        if around in refused:
            with pytest.raises(ValueError, match=f"{length[:5]}.*=...\\) must be given within"):
                js.from_config(around.format(f"{curve})"), units=RUN)
        else:
            wanted = js.from_config(around.format(f"{curve}, {length})"), units=RUN)
            assert js.from_config(around.format(f"{curve})"), units=RUN) == wanted
        if around in BESIDE + ANEW:
            with pytest.raises(ValueError, match="must be given within"):
                js.from_config(around.format(f"{curve})"))


def test_a_length_that_begins_later_is_refused_while_the_batch_grows():
    grown = js.Units(batch=[(0, 10), (2000, 20)], samples=1000, steps=1000)
    text = "wsd(1, 10 epochs, warmup=1 epoch, decay={})"
    assert js.from_config(text.format("20%"), units=grown) == js.wsd(1.0, 600, 100, js.share(0.2))
    for wrong in (
        text.format("2 epochs"),
        "Linear(0, 1, 1 epoch) >> Cosine(1, 0, 9 epochs)",
        "torch.StepLR(1, 3 epochs)",
        "warm_restarts(1, 1 epoch)",
        "composer.LinearScheduler(t_max=3ep)",
        "fastai.fit_one_cycle(3, 1)",
    ):
        with pytest.raises(ValueError, match=r"while the batch grows|must be given"):
            js.from_config(wrong, units=grown)
    with pytest.raises(ValueError, match="not every epoch"):
        js.from_config("fastai.fit_one_cycle(3, 1)", units=js.Units(10, 3, samples=1000))


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
        "fvcore.MultiStepParamScheduler([1, 0], 90, [30], steps=100%)": (
            fvcore.MultiStepParamScheduler([1, 0], 90, [30], steps=500)
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
    with pytest.raises(ValueError, match=r"SchedLin\(steps=...\) must be given within >>"):
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


def test_a_period_of_epochs_is_exact_and_moves_with_them():
    run = js.Units(batch=32, accumulation=8, samples=2000)  # 7.75 updates an epoch
    by_epochs = run.by_epochs(js.step_decay(0.1, 0.5, 3))
    assert js.from_config("Epochwise(step_decay(0.1, 0.5, 3), 1 epoch)", units=run) == by_epochs
    for text in ("step_decay(0.1, 0.5, every=4 epochs)", "Quantize(constant(1), 4 epochs)"):
        assert js.from_config(text, units=run).every == 31
    assert js.from_config("step_decay(0.1, 0.5, every=2 epochs)", units=run).every == 15.5
