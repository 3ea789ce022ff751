"""Trials from the words of a W&B sweep."""

from __future__ import annotations

import math

import numpy as np
import pytest
from cases import RUN

import jaxsched as js
from jaxsched.names._distributions import column
from jaxsched.names._texts import value

DECAY = {"parameters": {"peak": 1, "steps": 9}}
PEAK = {"min": 1e-4, "max": 1e-1, "distribution": "log_uniform_values"}


def test_a_table_of_values_is_a_grid():
    config = {
        "name": "warmup_cosine",
        "parameters": {
            "peak": {"values": ["1e-3", 0.1]},
            "steps": {"value": "1 epoch"},
            "warmup": ["5%", 10],
        },
    }
    wanted = js.grid(js.warmup_cosine, peak=[1e-3, 0.1], steps=100, warmup=[js.share(0.05), 10])
    assert js.trials_from_config(config, units=RUN) == wanted
    both = js.trials_from_config({**config, "name": ["warmup_cosine", "linear_decay"]}, units=RUN)
    assert [t.name for t in both][-2:] == ["linear_decay peak=0.001", "linear_decay peak=0.1"]


def test_kinds_with_arguments_of_their_own_are_a_list_of_tables():
    kinds = ["warmup_cosine", "torch.CosineAnnealingLR"]
    given = [{"peak": 1, "steps": 9, "warmup": [1, 2]}, {"base_lr": 1, "T_max": 9}]
    tables = [{"name": n, "parameters": p} for n, p in zip(kinds, given, strict=True)]
    names = [trial.name for trial in js.trials_from_config(tables)]
    assert names == [
        "warmup_cosine warmup=1",
        "warmup_cosine warmup=2",
        "CosineAnnealingLR base_lr=1 T_max=9",
    ]
    with pytest.raises(TypeError, match="base_lr") as told:
        js.trials_from_config({"name": kinds, "parameters": given[0]})
    assert "a list of tables" in told.value.__notes__[0]


def test_bounds_are_drawn_from():
    config = {"name": "warmup_cosine", "method": "random", "run_cap": "5", "seed": 3}
    parameters = {"peak": PEAK, "steps": {"min": 50, "max": 90}, "warmup": 5}
    wanted = js.sampled(
        js.warmup_cosine,
        5,
        seed=3,
        method="random",
        peak=js.loguniform(1e-4, 1e-1),
        steps=js.uniform(50, 90, whole=True),
        warmup=5,
    )
    assert js.trials_from_config({**config, "parameters": parameters}) == wanted
    shares = {"peak": 1, "steps": 100, "warmup": {"min": "1%", "max": "20%"}}
    for trial in js.trials_from_config({**config, "parameters": shares}):
        assert js.share(0.01) <= trial.settings["warmup"] <= js.share(0.2)


@pytest.mark.parametrize(
    ("given", "low", "middle", "high"),
    [
        ({"values": [1, 2], "probabilities": ["0.25", 0.75]}, 1, 2, 2),
        ({"distribution": "q_uniform", "min": 0, "max": 10, "q": 4}, 0, 4, 8),
        ({"distribution": "q_log_uniform_values", "min": 1, "max": 100, "q": 5}, 5, 10, 100),
        ({"distribution": "q_uniform", "min": 0.01, "max": 1, "q": 0.03}, 0.03, 0.51, 0.99),
        ({"distribution": "q_uniform", "min": 0.1, "max": 0.3, "q": 0.1}, 0.1, 0.2, 0.3),
        ({"distribution": "q_log_uniform", "min": -2, "max": 2, "q": 2}, 2, 2, 6),
        ({"distribution": "q_log_normal", "sigma": 0.2, "q": 3}, 3, 3, 3),
        ({"distribution": "q_normal", "sigma": 1, "q": 2}, -8, 0, 6),
        ({"distribution": "log_uniform", "min": -2, "max": 2}, math.exp(-2), 1, math.exp(2)),
        ({"distribution": "log_normal", "mu": 1, "sigma": 1e-9}, math.e, math.e, math.e),
        ({"distribution": "normal", "mu": 3, "sigma": "1e-9"}, 3, 3, 3),
        ({"min": "10%", "max": "30%"}, js.share(0.1), js.share(0.2), js.share(0.3)),
        (
            {"distribution": "q_uniform", "min": "1%", "max": "100%", "q": "40%"},
            js.share(0.4),
            js.share(0.4),
            js.share(0.8),
        ),
    ],
    ids=str,
)
def test_every_distribution_of_wandb_has_its_quantiles(given, low, middle, high):
    drawn = column("here", given, read)
    for u, wanted in ((0.0, low), (0.5, middle), (1 - 1e-9, high)):
        assert float(drawn.at(u)) == pytest.approx(float(wanted), rel=1e-6)


def read(x):
    return js.share(float(x[:-1]) / 100) if str(x).endswith("%") else value(x)


def test_a_config_may_be_a_value_of_a_sweep():
    config = {"name": "Repeat", "parameters": {"schedule": {"name": "Constant", "value": 1}}}
    config["parameters"]["schedule"]["steps"] = 3
    assert js.trials_from_config(config) == js.grid(js.Repeat, schedule=js.Constant(1, 3))
    config["parameters"]["schedule"] |= {"value": {"values": [1, 2]}, "steps": {"values": [3, 4]}}
    choices = [js.Constant(1, 3), js.Constant(1, 4), js.Constant(2, 3), js.Constant(2, 4)]
    assert js.trials_from_config(config) == js.grid(js.Repeat, schedule=choices)
    nested = {"name": "Plateau", "parameters": {"base": {"name": "Clip", "low": 0, "high": 1}}}
    nested["parameters"]["base"]["schedule"] = {"name": "constant", "peak": {"values": [1, 2]}}
    assert [len(t.settings) for t in js.trials_from_config(nested)] == [1, 1]


def test_other_hyperparameters_than_the_learning_rate_have_a_table_of_their_own():
    names = ["cosine_decay", "torch.CosineAnnealingLR"]
    config = {"name": names, "parameters": {"peak": 1, "steps": 50, "base_lr": 2, "T_max": 50}}
    momentum = {"name": "Linear", "start": 0, "end": {"values": [0.5, 0.9]}, "steps": 25}
    others = {"weight_decay": np.float64(0.1), "momentum": momentum}
    trials = js.trials_from_config({**config, "hyperparameters": others})
    assert [t.schedules["momentum"].end for t in trials] == [0.5, 0.9] * 2
    relative = {"hyperparameters": {"wd": {**momentum, "steps": "50%"}}} | DECAY
    half = js.trials_from_config({"name": "cosine_decay", **relative}, units=js.Units(1, steps=9))
    assert half[1].schedules["wd"] == js.Linear(0, 0.9, 5)
    assert {t.kind for t in trials} == {"cosine_decay", "CosineAnnealingLR"}
    assert all(t.schedules["weight_decay"] == js.Constant(0.1) for t in trials)
    drawn = {"method": "halton", "count": 3, "hyperparameters": {"weight_decay": PEAK}}
    trials = js.trials_from_config({**config, "name": "cosine_decay", **drawn} | DECAY)
    wanted = js.sampled(js.constant, 3, peak=js.loguniform(1e-4, 1e-1))
    assert [t.settings["weight_decay"] for t in trials] == [t.settings["peak"] for t in wanted]


LOG = {"distribution": "log_normal"}
INTS = {"distribution": "int_uniform"}


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"name": "warmup_cosne"}, "did you mean warmup_cosine"),
        ({"name": []}, "or a list of them, got"),
        ({"methd": "grid"}, "did you mean method"),
        ({"method": "Bayes"}, "runs of a sweep do not wait for each other"),
        ({"method": "Random"}, "did you mean 'random'"),
        ({"method": "random"}, r"\(method='random'\) must be given count"),
        ({"parameters": 3}, "must be a mapping argument -> values"),
        ({"parameters": {"peak": PEAK}}, "got what peak is drawn from"),
        ({"parameters": {"steps": {**INTS, "min": "1%", "max": "9%"}}}, "are not whole numbers"),
        ({"parameters": {"steps": {"min": "1%", "max": 9}}}, "or two percentages"),
        (
            {"parameters": {"steps": {**INTS, "min": 1.5, "max": 9}}},
            "must be a whole number, got 1.5",
        ),
        (
            {"parameters": {"steps": {"distribution": "q_uniform", "min": "1%", "max": "9%"}}},
            "q, must be given, a percentage",
        ),
        (
            {"parameters": {"peak": {**PEAK, "distribution": "q_log_uniform_values", "q": 1}}},
            "q, must have a multiple from 0.0001 to 0.1, got 1",
        ),
        ({"parameters": {"peak": {"min": 1}}}, "or values .with probabilities., or min and max"),
        ({"parameters": {"peak": {"values": 1}}}, "a list of values"),
        ({"parameters": {"peak": {**PEAK, "q": 1}}}, "or min and max, or mu and sigma with"),
        (
            {"parameters": {"peak": {**PEAK, "distribution": "gamma"}}},
            "distribution, must be one of",
        ),
        ({"parameters": {"peak": {**PEAK, "distribution": "normal"}}}, "or mu and sigma with"),
        ({"parameters": {"peak": {**PEAK, "distribution": "log_uniform"}}}, "exponents of e for"),
        ({"parameters": {"peak": {"mu": 1, "sigma": 1e9, **LOG}}}, "exponents of numbers"),
        ({"parameters": {"peak": {"vlaues": [1], **LOG}}}, "vlaues; did you mean values"),
        ({"parameters": {"peak": {"values": [1], "probabilities": [0.5]}}}, "which add up to 1"),
        ({"parameters": {"optimizer": {"values": [1]}}}, "cosine_decay has no argument optimizer"),
        ({"hyperparameters": [1]}, "must be a mapping name -> values"),
        ({"hyperparameters": {"peak": 1}}, "got peak, which is the learning rate's"),
        ({"hyperparameters": {"learning_rate": 1}}, "which is what `parameters` describe"),
        ({"hyperparameters": {"wd": True}}, r"hyperparameters={'wd': ...}\) must be .* is 0 or 1"),
        ({"hyperparameters": {"wd": [1, math.nan]}}, r"{'wd': ...}\) must be finite .*, got nan"),
        ({"hyperparameters": {"wd": "3%"}}, r"^hyperparameters\(wd=...\) must be a number"),
        ({"hyperparameters": {"weight decay": 1}}, "as of arguments in Python, got 'weight decay'"),
        ({"hyperparameters": {"wd": {"min": 1}}}, r"hyperparameters={'wd': ...}\) must have value"),
        ({"metric": {"name": "loss"}}, "an argument of js.sweep, in a file beside the table"),
        ({"parameters": {"peek": [1], "warmpu": 1}}, "peek.* no argument warmpu"),
        ({"count": 3}, "must be given no count"),
        ({"method": "random", "count": 3, "run_cap": 4}, "must be given one count"),
        ({"metric": 1, "program": 1}, "no argument metric: .*; and no argument program: "),
        ({"name": "Sequence", "parameters": {"parts": ["constant(1)"]}}, r"one list for all is"),
        (
            {"name": "multi_step", "parameters": {"milestones": {"values": [3, 6]}}},
            r"milestones=...\) must be a list in each trial, got .*: one list for all is \[\[",
        ),
    ],
    ids=str,
)
def test_a_slip_in_a_sweep_is_told(changed, said):
    config = {"name": "cosine_decay", "parameters": {"peak": [1], "steps": 10}}
    with pytest.raises((ValueError, TypeError), match=said):
        js.trials_from_config({**config, **changed})
