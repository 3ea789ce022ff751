"""Schedules from configs and texts."""

from __future__ import annotations

import dataclasses
import json
import random
import tomllib
from collections import UserList
from collections.abc import Mapping

import pytest
from cases import ALL, RUN, VALID
from mutations import mutated_json

import jaxsched as js
from jaxsched import _serialize
from jaxsched._struct import Record
from jaxsched.command import read_file
from jaxsched.names import _config
from jaxsched.names._lookup import check_values
from jaxsched.names._places import Place

LINE = js.Linear(0.0, 0.1, 10)


@pytest.mark.parametrize(
    "config",
    [
        {"name": "warmup_cosine", "peak": "1e-3", "steps": 1000, "warmup": "10%"},
        {"_target_": "jaxsched.warmup_cosine", "args": ["1e-3", "1e3", "100 steps"]},
        {"_target_": "jaxsched.warmup_cosine", "_args_": [1e-3, 1000, 100], "_partial_": True},
        "warmup_cosine(1e-3, steps=1_000, warmup=10 %,)",
        "js.warmup_cosine(peak = '1e-3', steps=10 epochs, warmup=1 epoch)",
        "jaxsched.warmup_cosine(.001, 1M tokens, 0.1M tokens)",
        "warmup_cosine(.001, 1k, warmup=1K samples)",
        "warmup_cosine(.001, 1000ba, warmup=0.1dur)",
        {"class_path": "js.warmup_cosine", "init_args": {"args": [1e-3, 1000, 100]}},
        {"type": "warmup_cosine", "params": {"peak": 1e-3, "steps": 1000}, "warmup": "1 epoch"},
    ],
    ids=str,
)
def test_numbers_shares_and_lengths_may_be_texts(config):
    assert js.from_config(config, units=RUN) == js.warmup_cosine(1e-3, 1000, 100)


@pytest.mark.parametrize(
    ("text", "schedule"),
    [
        ("Linear(0, 0.1, 10) >> Constant(1e-4) * 2", LINE >> js.Constant(1e-4) * 2),
        ("(Linear(0, 0.1, 10) >> Constant(1)) / 2", (LINE >> js.Constant(1)) / 2),
        ("-Linear(0, 0.1, 10) + 1/4", -1 * LINE + 0.25),
        ("1 / (Linear(0, 0.1, 10) + 1) ** 2 ** 0.5", 1 / (LINE + 1) ** 2**0.5),
        ("1 - Linear(0, -(-0.1), +10)", 1 - LINE),
        ("js.schedules.Linear(0, '0.1', '1_0')", LINE),
        ("Linear(0,0.1,10) >> Table([100,200,3])", LINE >> js.Table([100, 200, 3])),
        ("Shift(Linear(0, 0.1, 10), -1 epoch)", js.Shift(LINE, -100)),
        ("Shift(constant(1), -10%)", js.Shift(js.constant(1), -50)),
        (
            "optax.piecewise_constant_schedule(1, {1_0: 0.5, 20: 0.1})",
            js.compat.optax.piecewise_constant_schedule(1, {10: 0.5, 20: 0.1}),
        ),
        ("{'name': 'Linear', 'start': 0, 'end': 0.1, 'steps': 10}", LINE),
        (js.to_json(LINE), LINE),
        ("hf.get_scheduler('linear', 1, 10, 100)", js.compat.transformers.linear(1, 10, 100)),
        ("Table([1, 0.5, 2e-1])", js.Table([1, 0.5, 0.2])),
        (repr(js.Linear(1e-07, 1e-08, 10)), js.Linear(1e-07, 1e-08, 10)),
        ("multi_step(1, 0.1, (50%, 75%), steps=90)", js.multi_step(1, 0.1, [45, 68], steps=90)),
        ("wsd(1, 100, 10, 20, shape=cosine)", js.wsd(1, 100, 10, 20, shape="cosine")),
        ("tri_stage(1, 5, 5, 5, start=5%)", js.tri_stage(1, 5, 5, 5, start=0.05)),
        ("Plateau(Linear(0, .1, 10), mode='max')", js.Plateau(LINE, mode="max")),
        ("constant(0.1, steps=None)", js.constant(0.1)),
        ("Linear(0, 0.1, 2%)", LINE),
        (
            "composer.LinearScheduler(1, 0, t_max=1dur, max_duration=10ep, dataloader_len=7)",
            js.compat.composer.LinearScheduler(1, 0, "1dur", max_duration=70),
        ),
        (
            "composer.LinearScheduler(1, 0, t_max=10 epochs)",
            js.compat.composer.LinearScheduler(1, 0, 1000),
        ),
        (
            "torch.OneCycleLR(1, 100, pct_start=40%)",
            js.compat.torch.OneCycleLR(1, 100, pct_start=0.4),
        ),
        (
            "hf.get_linear_schedule_with_warmup(1, 10, 100 steps)",
            js.compat.transformers.linear(1, 10, 100),
        ),
        ("pytorch.optim.lr_scheduler.StepLR(1, 10)", js.compat.torch.StepLR(1, 10)),
    ],
)
def test_a_text_is_the_python_that_it_looks_like(text, schedule):
    assert js.from_config(text, units=RUN) == schedule


class Config(Mapping):
    """As OmegaConf's are: a mapping, but no dict."""

    def __init__(self, given):
        self.given = given

    def __getitem__(self, key):
        value = self.given[key]
        if isinstance(value, list):
            return UserList(Config(x) if isinstance(x, dict) else x for x in value)
        return Config(value) if isinstance(value, dict) else value

    def __iter__(self):
        return iter(self.given)

    def __len__(self):
        return len(self.given)


NESTED = {
    "name": "Sequence",
    "parts": [{"name": "Linear", "start": 0, "end": 0.1, "steps": 10}, "Constant(1e-4)"],
}


def test_toml_json_any_mapping_and_what_to_dict_wrote_read_the_same():
    wanted = LINE >> js.Constant(1e-4)
    toml = "name = 'Sequence'\n[[parts]]\nname = 'Linear'\nstart = 0\nend = '.1'\nsteps = 10\n"
    toml += "[[parts]]\nname = 'Constant'\nvalue = 1e-4\n"
    for config in (NESTED, json.loads(json.dumps(NESTED)), tomllib.loads(toml), Config(NESTED)):
        assert js.from_config(config) == wanted
    data = js.to_dict(wanted)
    assert js.from_config(data) == js.from_config({k: data[k] for k in data if k != "jaxsched"})


@pytest.mark.parametrize("ending", ["toml", "json", "yaml"])
def test_files_of_every_kind_are_read_alike(tmp_path, ending):
    texts = {"toml": "a = [1, '2']", "json": '{"a": [1, "2"]}', "yaml": "a: [1, '2']"}
    file = tmp_path / f"a.{ending}"
    file.write_text(texts[ending])
    assert read_file(file) == {"a": [1, "2"]}
    twice = {"toml": "a = 1\na = 2", "json": '{"a": 1, "a": 2}', "yaml": "a: 1\na: 2"}
    file.write_text(twice[ending])
    with pytest.raises(ValueError, match="must be a file that can be read"):
        read_file(file)
    if ending == "yaml":  # a merged key may be said anew
        file.write_text("base: &b {x: 1, y: 2}\nother: {<<: *b, y: 3}\n")
        assert read_file(file)["other"] == {"x": 1, "y": 3}
    file.write_text("\0]")
    with pytest.raises(ValueError, match=r"must be a file that can be read|must hold a mapping"):
        read_file(file)


def test_a_config_that_aliases_blow_up_is_refused(monkeypatch):
    monkeypatch.setattr(_config, "_MOST", 50)
    row = [{}] * 10  # as YAML's aliases give it: the same list again and again
    with pytest.raises(ValueError, match="at most 50 values"):
        js.from_config({"name": "Table", "values": [row] * 10})
    assert js.from_config({"name": "Table", "values": [1.0] * 100}).duration == 100


@pytest.mark.parametrize("kind", [AttributeError, KeyError, ValueError, TypeError])
def test_what_a_config_cannot_give_is_a_value_error(kind):
    class Missing(Config):
        def __getitem__(self, key):
            if key == "parts":
                raise kind(f"Missing mandatory value:\n    {key}")
            return super().__getitem__(key)

    with pytest.raises(ValueError, match=r"must be complete, got Missing: .*Missing .*value"):
        js.from_config(Missing(NESTED))


def test_what_keras_has_serialized_is_a_config():
    """``keras.optimizers.schedules.serialize`` and ``keras.optimizers.serialize`` write it so."""
    config = {"initial_learning_rate": 0.1, "decay_steps": 9, "name": "CosineDecay", "alpha": 0.0}
    saved = {"module": "keras.optimizers.schedules", "class_name": "CosineDecay", "config": config}
    saved["registered_name"] = None
    assert js.from_config(saved) == js.compat.keras.CosineDecay(0.1, 9)


def test_a_class_of_ones_own_is_named_once_it_is_registered():
    with pytest.raises(ValueError, match="got 'Mine'"):
        js.from_config("Mine(1)")

    @js.register
    @js.schedules.struct
    class Mine(js.schedules.AbstractWrapper):
        def value_at(self, t):
            return self.schedule.value_at(t)

    try:
        assert js.from_config("Mine(Constant(1))") == Mine(js.Constant(1))
        with pytest.raises(ValueError, match=r"^Mine\(schedule=...\) must not be a length"):
            js.from_config("Mine(1k)")
        for within in ("Linear(0, 1, 10%)", "fastai.SchedLin(0, 1)"):  # what it counts is not known
            with pytest.raises(ValueError, match="within Mine"):
                js.from_config(f"Mine({within})", units=RUN)
    finally:
        del _serialize._REGISTERED["Mine"]


@pytest.mark.parametrize(
    ("config", "error", "said"),
    [
        ("warmup_cosne(1)", ValueError, "did you mean warmup_cosine"),
        ("OneCycleLR(1)", ValueError, "it is one_cycle"),
        ("trapezoid(1)", ValueError, "it is wsd here"),
        ("maximum(constant(1), 1e-5)", ValueError, "it is Clip or Maximum here"),
        ("cosine_annealing(1)", ValueError, "it is cosine_decay or"),
        ("torch.StepLr(1)", ValueError, r"did you mean torch\.StepLR\.$"),
        ("hf.linear(warmup_ratio=0.1)", TypeError, "in steps: a share of the run"),
        ("warm_restarts(1, 9, growth=0.5)", ValueError, "below 1 it needs cycles"),
        ("cosine(1)", ValueError, "or warmup_cosine or Cosine or transformers.cosine or .*timm"),
        ("sgdr(1)", ValueError, "did you mean .*warm_restarts"),
        ("wramup(1)", ValueError, "did you mean warmup_"),
        ("wsd(1, 9, 2, 3, shape=1_sqrt)", ValueError, "did you mean '1-sqrt'"),
        ("torch.OneCycleLR(1, 9, anneal_strategy=cosine)", ValueError, "did you mean 'cos'"),
        ("Plateau(constant(1), mode=MAX)", ValueError, "did you mean 'max'"),
        ("timm.StepLRScheduler(1, 9, t_in_epochs=True)", TypeError, "a step is what one counts"),
        ("Epochwise(constant(1), 1, verbose=True)", TypeError, "a schedule prints nothing"),
        ("hf.cosine(learning_rate=1)", TypeError, "learning_rate; it is called lr here"),
        ("hf.cosine(1, warmup_steps=9)", TypeError, "is called num_warmup_steps here"),
        ("torch.StpLR(1)", ValueError, "did you mean torch.StepLR"),
        ("hf.Adam(1)", ValueError, "a name that `jaxsched names` lists, got 'hf.Adam'"),
        ("warmup_cosine(peak_value=1)", TypeError, "peak_value; it is called peak here"),
        ("warmup_cosine(1, 2)", TypeError, "must be given warmup"),
        ({"name": "cosine_decay", "peek": 1}, TypeError, "did you mean peak"),
        ({"peak": 1}, TypeError, "must have a 'name', got the keys 'peak'"),
        ({"scheduler": {"_target_": "a"}}, TypeError, "'scheduler': that of 'scheduler' has one"),
        ({"a": {"type": "b"}, "c": {"type": "d"}}, TypeError, "those of 'a', 'c' have one"),
        ({"lr_scheduler_type": "linear"}, TypeError, "type='linear'; it is .*transformers.linear"),
        ({"LR_POLICY": "constant"}, TypeError, r"LR_POLICY=constant\(peak, steps=\.\.\.\)"),
        (
            [{"type": "torch.LinearLR", "base_lr": 1}],
            TypeError,
            "after the other they are {'name': 'Sequence'",
        ),
        ({"name": "hf.linear", "lr": "${lr}"}, ValueError, r"resolve=True\)`, got '\${lr}'"),
        ({"class_path": "Linear", "init_args": {"end": 1}, "end": 2}, TypeError, "'end'. twice"),
        ({"name": "torch.StepLR", "step_size": 3}, TypeError, "base_lr .the rate of the optimizer"),
        ({"name": "cosine_with_warmup"}, ValueError, "or composer.CosineAnnealingWithWarmup"),
        (
            "hf.linear(num_train_epochs=3)",
            TypeError,
            "called num_training_steps here .in steps; js.Units",
        ),
        ("cosine_decay(warmup_ratio=0.1)", TypeError, r"js\.with_warmup\(.* has one"),
        ("timm.CosineLRScheduler(warmup_lr=0)", TypeError, "is called warmup_lr_init here"),
        ({"name": "*", "args": [1, 10**400]}, TypeError, "the text of a name"),
        ({"name": 3}, TypeError, r"from_config\(name=...\) must be the text of a name"),
        (3, TypeError, "must be a mapping with a name"),
        ("silver", TypeError, "or a text such as"),
        ("share(0.1)", TypeError, "a schedule or controller"),
        ("constant(0.1", ValueError, r"a call of a name, got 'constant\(0.1': "),
        ("constant(0.1)\ud800", ValueError, r"a call of a name, got 'constant\(0.1\)\\ud800': "),
        ("constant(0.1))", ValueError, r"a call of a name, got 'constant\(0.1\)\)': "),
        ("constant(peak=1, peak=2)", ValueError, "each argument once"),
        ("constant(peak=1, 2)", ValueError, "positional argument follows"),
        ("Constant(1).__class__", ValueError, r"got 'Constant\(1\)\.__class__'"),
        ("Constant(1) * 9 ** 9 ** 9", ValueError, "arithmetic that works"),
        ("from_fn(1)", ValueError, "got 'from_fn'"),
        ("Function(1)", ValueError, "got 'Function'"),
        ("2 >> 3", TypeError, r"other operands around >>, got \[2.0, 3.0\]"),
        ("Constant(1) * cosine", TypeError, "got 'cosine': there is no"),
        ("Constant(1) / (1 / 0)", ValueError, "arithmetic that works"),
        ("Constant(1) ** Constant(2)", TypeError, r"other operands around \*\*"),
        ({"name": "Linear", "steps": "-3 epochs"}, TypeError, "must be given start"),
        ({"name": "Constant", "value": 1, "steps": "-3 epochs"}, ValueError, "and at least 0, got"),
        ("warmup_cosine(1, 9, 110%)", ValueError, r"warmup=...\) must be from 0% to 100%"),
        ("optax.piecewise_constant_schedule(1, {1: 1, 1: 2})", ValueError, "each once"),
        ("Linear(0, 1, 3 epochs)", ValueError, r"units=js\.Units"),
        ("Linear(0, 1, 10%)", ValueError, "a percentage is of the length of a recipe"),
        ("timm.StepLRScheduler(1, 10%)", ValueError, "a percentage is of the length of a recipe"),
        ("warmup_cosine(1, 9, -10%)", ValueError, "from 0% to 100%, got '-10%'"),
        ("cosine_decay(1, 5m)", ValueError, "got '5m': 5M is 5,000,000 steps"),
        ("composer.LinearScheduler(t_max='100b')", ValueError, "100B is 100,000,000,000 steps"),
        (
            "composer.LinearScheduler(t_max=100tok)",
            ValueError,
            "are not given, got '100tok'",
        ),
        ("Linear(0, 10%, 10)", ValueError, r"not a percentage, got '10%': write 0\.1\.$"),
        ("Plateau(0.1, mode='10%')", ValueError, r"one of 'min', 'max', got '10%'\.$"),
        ("Linear(0, 3 epochs, 10)", ValueError, r"must not be a length, got '3 epochs'\.$"),
        (
            "power_scheduler(1, 1, 2M, 9)",
            ValueError,
            r"\(tokens_per_step=.* '2M': write 2000000\.$",
        ),
        ("Linear(0, 1, 3 epochs + 2)", TypeError, r"got '3 epochs': there is no arithmetic"),
        ("cosine_decay(0.1, 10,000)", ValueError, r"no comma within a number .*, got '10,000'\.$"),
        (
            "hf.linear(10,250 steps, 9)",
            ValueError,
            "no comma within a number .*, got '10,250'",
        ),
        ("multi_step(1, 0.1, [10,000, 20,000])", ValueError, "no comma within"),
        ("cosine_decay(1, 007)", ValueError, "no 0 before a whole number, got '007'"),
        ("cosine_decay(0.1, 10)  # lr", ValueError, "must have no comments and no backslashes"),
        ({"name": "constant", "value": {"min": 0, "max": 1}}, ValueError, "and bounds only of"),
        ("fastai.fit_sgdr(2, cycle_len=3 epochs, lr_max=1)", ValueError, "must not be a length"),
        ("Linear(0, 1, 3 parsecs)", ValueError, "must be a length such as"),
        ("[" * 110 + "]" * 110, ValueError, "at most 100 deep"),
        ("Constant(1)" * 9000, ValueError, "at most 20000 letters"),
        ("Constant(" + "9" * 400 + ")", ValueError, "Constant"),
    ],
    ids=lambda x: str(x)[:30],
)
def test_a_slip_is_told_with_what_was_meant(config, error, said):
    with pytest.raises(error, match=said):
        js.from_config(config)


CONFIGS = [
    *({"name": name, **given} for name, given in VALID.items()),
    {"name": "timm.StepLRScheduler", "base_lr": 1, "decay_t": "10%"},
    {"name": "hf.cosine", "lr": 1, "num_warmup_steps": "10%", "num_training_steps": "3 epochs"},
    *(js.to_dict(schedule) for schedule in ALL.values() if "from_fn" not in repr(schedule)),
    {"name": "torch.StepLR", "base_lr": "1e-1", "step_size": "2 epochs"},
    {"name": "Plateau", "base": "warmup_cosine(0.1, 1000, 10%)", "patience": 3},
]

SIGNS = [*"()[],=*/+-.%'\"\\ _é", ">>", "1e3", "eval", "__import__", "js.", "1e999", "3 epochs"]


def config_with_noise(rng):
    config = {k: v for k, v in rng.choice(CONFIGS).items() if k != "jaxsched"}
    return mutated_json({k: v for k, v in config.items() if not isinstance(v, Record)}, rng)


def text_with_noise(rng):
    text = as_text(rng.choice(CONFIGS))
    for _ in range(rng.randrange(3)):
        at = rng.randrange(len(text))
        text = text[:at] + rng.choice(SIGNS) + text[at + rng.randrange(3) :]
    return text


def as_text(x):
    if isinstance(x, dict):
        name = x.get("name", x.get("type"))
        given = {k: v for k, v in x.items() if k not in ("name", "type", "jaxsched")}
        return f"{name}({', '.join(f'{k}={as_text(v)}' for k, v in given.items())})"
    return f"[{', '.join(map(as_text, x))}]" if isinstance(x, list) else repr(x)


@pytest.mark.parametrize("make", [text_with_noise, config_with_noise])
def test_noise_is_a_schedule_or_a_clear_error(make):
    assert try_noise(make, 300) > 50


def try_noise(make, count, seed=0):
    """How many are schedules; by hand with 10 000, after a change of a reader."""
    rng, known = random.Random(seed), 0
    for i in range(count):
        config, units = make(rng), (RUN, dataclasses.replace(RUN, steps=None), None)[i % 3]
        try:
            made = js.from_config(config, units=units)
        except (ValueError, TypeError):
            continue
        if "jaxsched" not in config:  # what the command would refuse without JAX
            check_values(_config.read(config), Place.of(units))
        assert isinstance(made, (js.AbstractSchedule, js.AbstractController))
        known += 1
    return known
