"""The drop-ins have the curves of the libraries whose names they have, by tables of theirs."""

from __future__ import annotations

import functools
import importlib
import inspect

import golden
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsched import compat
from jaxsched.names import from_config

CASES = {
    (library, name): [case for case in golden.read(library) if case["name"] == name]
    for library in golden.LIBRARIES
    for name in sorted({case["name"] for case in golden.read(library)})
}


@pytest.mark.parametrize(("library", "name"), CASES)
def test_a_drop_in_has_the_values_of_its_peer_on_the_host_and_in_a_program(library, name):
    on_host, in_program, _ = golden.exception(library, name)
    for number, case in enumerate(CASES[library, name]):
        assert golden.on_the_host(library, case) <= on_host, case["arguments"]
        traced = golden.in_a_program(library, case, mapped=number == 0)
        assert traced <= in_program, case["arguments"]


@pytest.mark.parametrize(("library", "name"), CASES)
def test_numbers_of_jax_are_as_good_as_those_of_python(library, name):
    case = CASES[library, name][0]
    fixed = {word for where, called, word in golden.INHERENT if (where, called) == (library, name)}
    number = lambda x: jnp.asarray(x) if type(x) in (int, float) else x
    arguments = {
        word: x if word in fixed else jax.tree.map(number, x)
        for word, x in case["arguments"].items()
    }
    arrays = case | {"arguments": arguments}
    assert golden.on_the_host(library, arrays) <= golden.exception(library, name)[1]


@pytest.mark.parametrize("library", golden.LIBRARIES)
def test_every_drop_in_has_a_table_and_an_example(library):
    module = importlib.import_module(f"jaxsched.compat.{library}")
    public = {
        name: value
        for name, value in inspect.getmembers(module, callable)
        if hasattr(value, "__wrapped__") and not name.startswith("_")
    }
    assert all(">>>" in value.__doc__ for value in public.values())
    called = {value.__name__ for value in public.values()}
    assert called == {name for where, name in CASES if where == library}


SEVERAL = {
    "torch.OneCycleLR": lambda x: compat.torch.OneCycleLR(x, 10),
    "torch.MultiStepLR": lambda x: compat.torch.MultiStepLR(1.0, [5, 3], x),
    "torch.LambdaLR": lambda x: compat.torch.LambdaLR(x, lambda t: 1 / (1 + t)),
    "fvcore.StepWithFixedGamma": lambda x: compat.fvcore.StepWithFixedGammaParamScheduler(
        1.0, 2, x, 9, steps=6
    ),
    "fastai.fit_one_cycle": lambda x: compat.fastai.fit_one_cycle(1, x, steps_per_epoch=9),
    "optax.cosine_onecycle": lambda x: compat.optax.cosine_onecycle_schedule(9, 1.0, x),
}


@pytest.mark.parametrize("name", SEVERAL)
def test_members_of_several_rates_have_the_curves_of_single_ones(name):
    rates = np.array([0.25, 0.5, 0.75])  # as many as there are knots
    found = jax.jit(jax.vmap(lambda s: s(4)))(SEVERAL[name](rates))
    np.testing.assert_allclose(found, [SEVERAL[name](x).host(4) for x in rates], rtol=1e-6)


def test_a_cut_is_made_or_not_as_the_rounding_of_the_peer_decides():
    scale = lambda **given: compat.torch.ReduceLROnPlateau(0.1, **given).min_scale
    assert scale(factor=0.1, eps=0.09) == 1.0  # 0.1 - 0.1 * 0.1 is 0.09, and not 0.09 + 1e-17
    assert scale(factor=0.1, eps=0.0899) == pytest.approx(0.1)
    assert scale(factor=0.0) == scale(factor=0.515, eps=0.0) == 0.0


LR = {"base_lr": 0.1}
WD = ("start_wd", "end_wd", "wd_incr_steps")
LISTED = compat.torch.LambdaLR(0.1, lambda t: 0.5, total_steps=9)
WAVE = compat.torch.CosineAnnealingLR(0.1, 10)
FALLING, RISING = (compat.torch.SWALR(0.1, to, 10, "linear") for to in (0.05, 0.2))
WARM = {"lr": 0.1, "num_warmup_steps": 10, "num_training_steps": 100}


@pytest.mark.parametrize(
    ("called", "arguments", "message"),
    [
        ("torch.StepLR", LR | {"step_size": 0}, r"torch\.StepLR\(step_size=\.\.\.\) must be at"),
        (
            "optax.warmup_cosine_decay_schedule",
            {"init_value": 0.0, "peak_value": 1.0, "warmup_steps": 9, "decay_steps": 9},
            "must be greater than warmup_steps=9, got 9: it includes",
        ),
        ("keras.PiecewiseConstantDecay", {"boundaries": [2], "values": [1.0]}, "a value more"),
        ("keras.ReduceLROnPlateau", {"monitor": "accuracy", "base_lr": 0.1}, "'min' or 'max'"),
        ("composer.LinearScheduler", {}, "max_duration=.*must be given"),
        ("composer.LinearScheduler", {"t_max": "10 bananas"}, "must be a time such as '10ba'"),
        ("megatron.get_wd", dict.fromkeys(WD, 1.0) | {"wd_incr_style": "odd"}, "must be one of"),
        ("fastai.combine_scheds", {"pcts": [0.5], "scheds": [WAVE]}, "add up to 1"),
        ("fvcore.StepParamScheduler", {"num_updates": 9, "values": []}, "must hold at least one"),
        ("fvcore.MultiStepParamScheduler", {"values": [], "num_updates": 9}, "at least one"),
        ("torch.LinearLR", LR | {"start_factor": 0.0}, "must be greater than 0, got 0"),
        ("torch.ConstantLR", LR | {"factor": 1.5}, "must be at most 1, got 1.5"),
        ("torch.CosineAnnealingLR", LR | {"T_max": 0}, "must be greater than 0"),
        ("torch.CosineAnnealingWarmRestarts", LR | {"T_0": 2.5}, "must be a whole number"),
        ("torch.CyclicLR", LR | {"max_lr": 1.0, "mode": "sine"}, "must be one of 'triangular'"),
        ("torch.OneCycleLR", {"max_lr": 1.0}, "or epochs=... and steps_per_epoch"),
        ("torch.OneCycleLR", {"max_lr": 1.0, "total_steps": 10, "pct_start": 0.1}, "must not be 1"),
        ("torch.SequentialLR", {"schedulers": [WAVE], "milestones": [3]}, "one fewer than 1"),
        ("torch.ChainedScheduler", LR | {"schedulers": [WAVE]}, "must be ones that mult"),
        ("torch.ChainedScheduler", LR | {"schedulers": [LISTED]}, "must be ones that mult"),
        ("torch.ChainedScheduler", LR | {"schedulers": [FALLING]}, "must be ones that mult"),
        ("torch.ChainedScheduler", LR | {"schedulers": [RISING]}, "must be ones that mult"),
        (
            "torch.SequentialLR",
            {"schedulers": [WAVE, compat.torch.MultiplicativeLR(0.1, abs, total_steps=9)]}
            | {"milestones": [3]},
            "must have a MultiplicativeLR at the beginning",
        ),
        ("torch.ReduceLROnPlateau", LR | {"factor": 1.0}, "must be less than 1"),
        ("transformers.polynomial", WARM | {"lr_end": 0.2}, "must be less than lr=0.1"),
        ("transformers.cosine_with_min_lr", WARM, "must be given, and not both"),
        ("transformers.greedy", {"lr": 0.1, "factor": 1.0}, "must be less than 1, got 1.0"),
        ("transformers.greedy", {"lr": 0.1, "min_lr": 2.0}, r"\.greedy\(min_lr=.*max_lr=1\.0"),
        ("torch.SequentialLR", {"schedulers": [WAVE, WAVE], "milestones": [3.5]}, "whole number"),
        ("torch.ReduceLROnPlateau", LR | {"threshold": 1.0}, "must be less than 1, got 1.0"),
        ("optax.reduce_on_plateau", {"patience": 0.5}, r"optax.*\(patience=.*whole number"),
        ("transformers.get_scheduler", {"name": "linear", "lr": 0.1}, "num_warmup_steps=.*given"),
        ("timm.TanhLRScheduler", LR | {"t_initial": 9, "lb": 3.0}, "must be less than ub=3.0"),
        ("timm.MultiStepLRScheduler", LR | {"decay_t": [20, 10]}, "must be in order"),
        ("timm.WSDLRScheduler", LR | {"t_initial": 9, "decay_t": 10}, "at most t_initial=9"),
    ],
)
def test_what_the_peer_refuses_is_an_error_in_its_name(called, arguments, message):
    library, name = called.split(".")
    with pytest.raises(ValueError, match=message):
        getattr(importlib.import_module(f"jaxsched.compat.{library}"), name)(**arguments)


LESS = {"lr": 0.1, "num_warmup_steps": 10}
KERAS = {"initial_learning_rate": 0.1}
RUN = dict(init_lr=0.0, max_lr=1.0, min_lr=0.0, lr_warmup_steps=0, lr_decay_steps=9)
MEGATRON = "megatron.OptimizerParamScheduler", RUN | {"lr_decay_style": "cosine"}
OPTAX = "optax.linear_schedule", dict(init_value=1.0, end_value=0.0, transition_steps=9)


@pytest.mark.parametrize(
    ("called", "arguments", "word"),
    [
        ("torch.MultiStepLR", LR | {"milestones": [0.5, 0.75]}, "milestones"),
        ("torch.CosineAnnealingLR", {"base_lr": 100, "T_max": 1e-5}, "T_max"),
        ("torch.CyclicLR", LR | {"max_lr": 1.0, "step_size_up": 0.5}, "step_size_up"),
        ("timm.CosineLRScheduler", LR | {"t_initial": 9, "warmup_t": 0.1}, "warmup_t"),
        ("timm.StepLRScheduler", LR | {"decay_t": 0.3}, "decay_t"),
        ("timm.MultiStepLRScheduler", LR | {"decay_t": [0.3, 0.6]}, "decay_t"),
        ("keras.PiecewiseConstantDecay", {"boundaries": [0.5], "values": [1, 2]}, "boundaries"),
        ("keras.CosineDecayRestarts", KERAS | {"first_decay_steps": 0.5}, "first_decay_steps"),
        ("keras.CosineDecay", KERAS | {"decay_steps": 9, "warmup_steps": 0.1}, "warmup_steps"),
        (MEGATRON[0], MEGATRON[1] | {"lr_warmup_steps": 0.1}, "lr_warmup_steps"),
        (OPTAX[0], OPTAX[1] | {"transition_begin": 0.5}, "transition_begin"),
        (
            "optax.piecewise_constant_schedule",
            dict(init_value=1, boundaries_and_scales={0.5: 0.1}),
            "boundaries_and_scales",
        ),
        ("optax.join_schedules", {"schedules": [WAVE, WAVE], "boundaries": [0.5]}, "boundaries"),
        ("transformers.inverse_sqrt", LESS | {"timescale": 0.1}, "timescale"),
    ],
)
def test_a_fraction_is_not_a_number_of_steps(called, arguments, word):
    message = rf"\({word}=...\).* must be a number of steps, got .* js.share\(.*\).of\(steps\)"
    test_what_the_peer_refuses_is_an_error_in_its_name(called, arguments, message)


@pytest.mark.parametrize(
    ("made", "low"),
    [
        (compat.torch.CosineAnnealingLR(1.0, 10, 0.5, fix=True), 0.5),
        (compat.transformers.cosine(1.0, 2, 10, fix=True), 0.0),
        (compat.transformers.cosine_with_min_lr(1.0, 2, 10, min_lr=0.5, fix=True), 0.5),
        (compat.transformers.cosine_warmup_with_min_lr(1.0, 2, 10, min_lr=0.5, fix=True), 0.5),
        (compat.transformers.warmup_stable_decay(1.0, 2, 5, 10, num_cycles=2.0, fix=True), 0.0),
    ],
    ids=repr,
)
def test_what_is_fixed_stays_down_after_its_end(made, low):
    values = np.asarray(made(np.arange(2, 30)))
    assert np.all(np.diff(values) <= 0) and np.all(values[8:] == low)


JUMPS = {
    "OneCycleLR": lambda fix: compat.torch.OneCycleLR(1.0, 11, anneal_strategy="linear", fix=fix),
    "Tanh": lambda fix: compat.timm.TanhLRScheduler(1.0, 10, ub=1.0, fix=fix),
    "megatron": lambda fix: compat.megatron.OptimizerParamScheduler(
        0.0, 1.0, 0.1, 2, 10, "inverse-square-root", fix=fix
    ),
    "PolynomialDecay": lambda fix: compat.keras.PolynomialDecay(1e-5, 10, fix=fix),
}


@pytest.mark.parametrize("name", JUMPS)
def test_what_is_fixed_holds_its_last_value_where_the_peer_jumps_or_turns(name):
    theirs, ours = (JUMPS[name](fix).host(np.arange(9, 14)) for fix in (False, True))
    assert np.ptp(ours[1:]) == 0.0 < ours[1] <= ours[0] and ours[1] == pytest.approx(ours[0], rel=1)
    assert not np.array_equal(theirs, ours)


def test_what_is_fixed_does_not_jump_within_the_run():
    megatron = functools.partial(
        *(compat.megatron.OptimizerParamScheduler, 0.0, 1.0, 0.0, 10, 50, "WSD"),
        wsd_decay_steps=80,
        lr_wsd_decay_style="linear",
    )
    composer = functools.partial(
        *(compat.composer.CosineAnnealingWithWarmupScheduler, 10, 50), scale_warmup=True, ssr=1.5
    )
    for made, top in ((megatron, 10), (composer, 15)):
        theirs, ours = (made(fix=fix).host(np.arange(76)) for fix in (False, True))
        assert np.abs(np.diff(theirs)).max() > 0.3 > 0.11 > np.abs(np.diff(ours)).max()
        assert ours[top] == 1.0 and np.array_equal(theirs[:10], ours[:10]) and ours[-1] == 0.0
        assert megatron(wsd_decay_steps=8, fix=True) == megatron(wsd_decay_steps=8)
    waits = lambda fix: composer(ssr=0.5, fix=fix).host(np.arange(10))
    assert (waits(False) == 1.0).sum() == 5 and (waits(True) == 1.0).sum() == 1


def test_without_milestones_nothing_of_the_trainer_is_needed():
    for given in ({}, {"max_duration": "9ba"}):
        assert compat.composer.MultiStepScheduler([], **given).host(99) == 1.0
        assert compat.composer.MultiStepWithWarmupScheduler(4, [], **given).host(2) == 0.5


def test_a_fixed_warmup_of_timm_drops_nowhere():
    arguments = {"base_lr": 1.0, "t_initial": 100, "warmup_t": 20}
    drop = lambda made: float(made(19)) - float(made(20))
    assert drop(compat.timm.CosineLRScheduler(**arguments)) > 0
    assert drop(compat.timm.CosineLRScheduler(**arguments, fix=True)) < 0


@pytest.mark.parametrize("text", ["torch.PolynomialLR(100, 2)", "hf.inverse_sqrt(100, 10)"])
def test_a_length_is_no_rate_where_the_optimizer_was_left_out(text):
    refused = pytest.raises(
        ValueError, match=r"lr=\.\.\.\) .* which stands in its place, got 100, as"
    )
    with refused:
        compat.torch.PolynomialLR(np.int64(100), 2)
    with refused:
        from_config(text)
    assert from_config(text.replace("100", "100.0")).host(10**6) < 1  # it was meant


def test_an_argument_that_takes_the_optimizer_is_told_from_one_that_is_not_there():
    with pytest.raises(
        TypeError, match=r"torch\.StepLR has no argument optimizer; it is called base_lr"
    ):
        compat.torch.StepLR(optimizer=None, step_size=3)
    with pytest.raises(TypeError, match=r"CyclicLR must be given base_lr \(the least rate, "):
        compat.torch.CyclicLR(max_lr=0.1)
    with pytest.raises(TypeError, match="got 5 positional arguments"):
        compat.torch.StepLR(0.1, 3, 0.5, -1, True)
    for given in ({"max_lr": [0.1, 0.2]}, {"max_lr": 0.1, "total_steps": (10,)}):
        with pytest.raises(TypeError, match=r"torch\.OneCycleLR\(.* must be one, got .*group_lr"):
            compat.torch.OneCycleLR(**given)
