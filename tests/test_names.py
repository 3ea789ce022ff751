"""The table of names, and what configs and texts make of it."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import json
import math
import random
import re
import tomllib
from collections import UserList
from collections.abc import Mapping

import golden
import pytest
from cases import ALL, RECIPE, VALID
from mutations import mutated_json

import jaxsched as js
from jaxsched import _serialize
from jaxsched._struct import Record
from jaxsched.names import _config, entries
from jaxsched.names._config import maker
from jaxsched.names._distributions import column
from jaxsched.names._elsewhere import ALIASES, ELSEWHERE
from jaxsched.names._expression import Call
from jaxsched.names._lookup import check_values, source_of
from jaxsched.names._sources import BY, LIBRARIES, all_sources, ours, theirs
from jaxsched.names._texts import _THEIRS, value

RUN = js.Units(batch=10, samples=1000, tokens_per_sample=100, steps=500)
SOURCES = {source.name: source for source in all_sources()}


def test_the_table_has_every_recipe_piece_and_controller():
    assert set(ours()) == set(RECIPE) | set(_serialize._ours()) | set(BY)
    assert set(ELSEWHERE) <= set(ours())


def test_the_table_has_every_library():
    assert {name for name in LIBRARIES if theirs(name)} == set(js.compat._LIBRARIES)


NO_SCHEDULE = {"megatron.rampup_batch_size"}  # sizes for Units


def is_public(name, value):
    made_here = getattr(value, "__module__", "").startswith("jaxsched.compat.")
    return made_here and ">>>" in (value.__doc__ or "") and name[0] != "_"


def test_no_public_name_is_missing_in_the_table():
    """Nor can one be added without it: what `dir` lists, of js and of each library."""
    for library in js.compat._LIBRARIES:
        module = importlib.import_module(f"jaxsched.compat.{library}")
        public = [name for name, value in vars(module).items() if is_public(name, value)]
        public = [name for name in public if f"{library}.{name}" not in NO_SCHEDULE]
        assert len(public) >= 2 and all(source_of(f"{library}.{name}") for name in public)
    kinds = (js.AbstractSchedule, js.AbstractController)
    for place in (js, js.controllers, js.schedules):
        for name in dir(place):
            value = getattr(place, name)
            piece = isinstance(value, type) and issubclass(value, kinds)
            recipe = getattr(value, "__module__", "").startswith("jaxsched.recipes.")
            abstract = "Abstract" in name or value is js.Function
            if (piece and not abstract) or (recipe and callable(value)):
                assert source_of(name), name


@pytest.mark.parametrize("name", SOURCES)
def test_what_is_read_of_the_source_is_what_is_imported(name):
    source = SOURCES[name]
    parameters = inspect.signature(maker(source, RUN)).parameters
    assert list(parameters) == list(source.kinds)
    needed = [n for n, p in parameters.items() if p.default is p.empty]
    assert needed == list(source.needed)
    assert source.summary


def of_arguments():
    """Each call whose arguments are known to be right, as a name and its arguments by name."""
    for name, given in VALID.items():
        yield name, dict(given)
    for library in golden.LIBRARIES:
        first = {case["name"]: case["arguments"] for case in golden.read(library)}
        for name, given in first.items():
            if not any(word in str(given) for word in ("'schedule'", "'of_step'", "'function'")):
                yield f"{library}.{name}", {k: v for k, v in given.items() if k != "metrics"}


def test_what_is_told_without_jax_is_what_the_real_check_tells():
    count = 0
    for name, given in of_arguments():
        source = source_of(name)
        for argument, bounds in source.bounds.items():
            low = bounds.get("at_least", bounds.get("above", math.nan))
            high = bounds.get("at_most", bounds.get("below", math.nan))
            for bad in ("abc", True, math.inf, low, low - 1, high, high + 1, 1.5):
                call = {**given, argument: bad}
                early = told(lambda n=name, c=call: check_values(Call(n, (), c), None))
                assert early in ("", told(lambda s=source, c=call: maker(s, RUN)(**c))), (
                    name,
                    call,
                )
                count += bool(early)
    assert count > 1000


def told(call):
    try:
        call()
    except (ValueError, TypeError) as error:
        return f"{type(error)} {error}"
    return ""


LENGTHS = re.compile(r"(steps|iters|milestones|boundaries|T_0|T_max|t_0|t_max|t_initial|_t)$")
EVALUATIONS = {"patience_t", "cooldown_t"}


def test_every_length_of_a_drop_in_may_have_a_unit():
    drop_ins = [source for source in SOURCES.values() if "." in source.name]
    found = {word for source in drop_ins for word in source.kinds if LENGTHS.search(word)}
    assert {_THEIRS.get(word) for word in found - EVALUATIONS} == {"length"}


def test_an_alias_is_one_of_a_drop_in():
    assert all(source_of(alias) for alias in ALIASES)


LINE = js.Linear(0.0, 0.1, 10)


@pytest.mark.parametrize(
    "config",
    [
        {"name": "warmup_cosine", "peak": "1e-3", "steps": 1000, "warmup": "10%"},
        {"_target_": "jaxsched.warmup_cosine", "args": ["1e-3", "1e3", "100 steps"]},
        {"_target_": "jaxsched.warmup_cosine", "_args_": [1e-3, 1000, 100], "_convert_": "all"},
        "warmup_cosine(1e-3, steps=1_000, warmup=10 %,)",
        "js.warmup_cosine(peak = '1e-3', steps=10 epochs, warmup=1 epoch)",
        "jaxsched.warmup_cosine(.001, 1M tokens, 0.1M tokens)",
        "warmup_cosine(.001, 1k, warmup=1K samples)",
        "warmup_cosine(.001, 1000ba, warmup=0.1dur)",
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
        (
            "optax.piecewise_constant_schedule(1, {1_0: 0.5, 20: 0.1})",
            js.compat.optax.piecewise_constant_schedule(1, {10: 0.5, 20: 0.1}),
        ),
        ("{'name': 'Linear', 'start': 0, 'end': 0.1, 'steps': 10}", LINE),
        (js.to_json(LINE), LINE),
        ("hf.get_scheduler('linear', 1, 10, 100)", js.compat.transformers.linear(1, 10, 100)),
        ("Table([1, 0.5, 2e-1])", js.Table([1, 0.5, 0.2])),
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


def test_a_config_that_aliases_blow_up_is_refused(monkeypatch):
    monkeypatch.setattr(_config, "_MOST", 50)
    row = [{}] * 10  # as YAML's aliases give it: the same list again and again
    with pytest.raises(ValueError, match="at most 50 values"):
        js.from_config({"name": "Table", "values": [row] * 10})
    assert js.from_config({"name": "Table", "values": [1.0] * 100}).duration == 100


def test_what_a_config_cannot_give_is_a_value_error():
    class Missing(Config):
        def __getitem__(self, key):
            if key == "parts":
                raise AttributeError(f"Missing mandatory value: {key}")
            return super().__getitem__(key)

    with pytest.raises(ValueError, match="must be complete, got Missing: Missing mandatory value"):
        js.from_config(Missing(NESTED))


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
    finally:
        del _serialize._REGISTERED["Mine"]


@pytest.mark.parametrize(
    ("config", "error", "said"),
    [
        ("warmup_cosne(1)", ValueError, "did you mean warmup_cosine"),
        ("OneCycleLR(1)", ValueError, "it is one_cycle"),
        ("trapezoid(1)", ValueError, "it is wsd here"),
        ("cosine_annealing(1)", ValueError, "it is cosine_decay or"),
        ("torch.StepLr(1)", ValueError, r"did you mean torch\.StepLR\.$"),
        ("hf.linear(warmup_ratio=0.1)", TypeError, "in steps: a share of the run"),
        ("warm_restarts(1, 9, growth=0.5)", ValueError, "below 1 it needs cycles"),
        ("cosine(1)", ValueError, "or warmup_cosine or transformers.cosine here"),
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
        ({"name": "*", "args": [1, 10**400]}, TypeError, "the text of a name"),
        ({"name": 3}, TypeError, r"from_config\(name=...\) must be the text of a name"),
        (3, TypeError, "must be a mapping with a name"),
        ("silver", TypeError, "or a text such as"),
        ("share(0.1)", TypeError, "a schedule or controller"),
        ("constant(0.1", ValueError, r"a call of a name, got 'constant\(0.1': "),
        ("constant(0.1))", ValueError, r"a call of a name, got 'constant\(0.1\)\)': "),
        ("constant(peak=1, peak=2)", ValueError, "each argument once"),
        ("constant(peak=1, 2)", ValueError, "positional argument follows"),
        ("Constant(1).__class__", ValueError, r"got 'Constant\(1\)\.__class__'"),
        ("Constant(1) * 9 ** 9 ** 9", ValueError, "arithmetic that works"),
        ("from_fn(1)", ValueError, "got 'from_fn'"),
        ("Function(1)", ValueError, "got 'Function'"),
        ("2 >> 3", TypeError, r"other operands around >>, got \[2.0, 3.0\]"),
        ("Constant(1) * cosine", TypeError, r"got 'cosine' \(str\)"),
        ("Constant(1) / (1 / 0)", ValueError, "arithmetic that works"),
        ("Constant(1) ** Constant(2)", TypeError, r"other operands around \*\*"),
        ({"name": "Linear", "steps": "-3 epochs"}, TypeError, "must be given start"),
        ({"name": "Constant", "value": 1, "steps": "-3 epochs"}, ValueError, "and at least 0, got"),
        ("warmup_cosine(1, 9, 110%)", ValueError, r"warmup=...\) must be from 0% to 100%"),
        ("optax.piecewise_constant_schedule(1, {1: 1, 1: 2})", ValueError, "each once"),
        ("Linear(0, 1, 3 epochs)", ValueError, r"units=js\.Units"),
        ("Linear(0, 1, 10%)", ValueError, "a share is of the length of a recipe"),
        ("Linear(0, 10%, 10)", ValueError, "only a length or a ratio has shares"),
        ("Linear(0, 3 epochs, 10)", ValueError, "must not be a length"),
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


def test_the_table_is_searched_by_any_librarys_word():
    names = lambda word: [entry.name for entry in entries(word)]
    assert "one_cycle" in names("OneCycleLR")
    assert "warm_restarts" in names("cosine_with_restarts")
    assert {"warm_restarts", "Sequence"} <= set(names("SGDR"))
    assert names("hf.get_wsd_schedule") == ["transformers.warmup_stable_decay"]
    assert "step_decay" in names("torch.optim.lr_scheduler.StepLR") and "step_decay" in names(
        "step lr"
    )
    assert names("no such thing") == []
    assert len(entries()) == len(SOURCES)


# ---------------------------------------------------------------------------------------- trials

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


@pytest.mark.parametrize(
    "text",
    [
        "Epochwise(cosine_decay(0.1, 90 epochs), 1 epoch)",
        "Epochwise(schedule=0.5 * Clip(Cosine(1, 0, 90 updates), 0, 1), per_epoch=9)",
        "Epochwise(Cosine(1, 0, 10%), 9)",
        "Paced(torch.StepLR(0.1, 2B tokens), [10], [1, 2])",
        "by_tokens(linear_decay(1, 3 epochs))",
        "timm.CosineLRScheduler(0.1, 3 epochs, warmup_t=10%)",
        "keras.CosineDecay(0.1, 300, warmup_target=1.0, warmup_steps=10%)",
        "megatron.OptimizerParamScheduler(0, 1, 0, 10%, 300, linear)",
    ],
)
def test_a_length_that_could_mean_two_things_is_refused(text):
    with pytest.raises(ValueError, match=r"must be a plain number|share is of the length"):
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


def test_a_percentage_of_a_ratio_of_a_piece_is_one():
    assert js.from_config("Noisy(Plateau(Constant(1), factor=50%), limit=10%)") == js.Noisy(
        js.Plateau(js.Constant(1.0), factor=0.5), limit=0.1
    )


def test_a_share_is_of_the_run_that_a_drop_in_names():
    config = {"name": "hf.linear", "lr": 1, "num_warmup_steps": "10%"}
    wanted = js.compat.transformers.linear(1, 30, 300)
    assert js.from_config({**config, "num_training_steps": "3 epochs"}, units=RUN) == wanted
    parameters = {"lr": 1, "num_warmup_steps": "10%", "num_training_steps": "3 epochs"}
    table = {"name": "hf.linear", "parameters": parameters}
    assert js.trials_from_config(table, units=RUN)[0].schedule == wanted
    parameters["num_training_steps"] = [300, 500]
    with pytest.raises(ValueError, match="share is of the length"):
        js.trials_from_config(table, units=RUN)
    with pytest.raises(ValueError, match="must have values or bounds, got parameters within"):
        js.trials_from_config({"name": "constant", "parameters": {"peak": {"parameters": {}}}})
    within = {"name": "Epochwise", "parameters": {"schedule": "Linear(0, 1, 9 epochs)"}}
    with pytest.raises(ValueError, match="plain number within Epochwise"):
        js.trials_from_config(within, units=RUN)


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
        ({"distribution": "q_log_uniform_values", "min": 1, "max": 100, "q": 5}, 0, 10, 100),
        ({"distribution": "log_uniform", "min": -2, "max": 2}, math.exp(-2), 1, math.exp(2)),
        ({"distribution": "log_normal", "mu": 1, "sigma": 1e-9}, math.e, math.e, math.e),
        ({"distribution": "normal", "mu": 3, "sigma": "1e-9"}, 3, 3, 3),
        ({"min": "10%", "max": "30%"}, js.share(0.1), js.share(0.2), js.share(0.3)),
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


LOG = {"distribution": "log_normal"}


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
        ({"parameters": {"peak": PEAK}}, "got bounds for peak"),
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
        ({"metric": {"name": "loss"}}, "an argument of js.sweep, in a file beside the table"),
        ({"parameters": {"peek": [1]}}, "peek"),
        ({"count": 3}, "must be given no count"),
    ],
    ids=str,
)
def test_a_slip_in_a_sweep_is_told(changed, said):
    config = {"name": "cosine_decay", "parameters": {"peak": [1], "steps": 10}}
    with pytest.raises((ValueError, TypeError), match=said):
        js.trials_from_config({**config, **changed})


# ----------------------------------------------------------------------------------------- noise

CONFIGS = [
    *({"name": name, **given} for name, given in VALID.items()),
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
        config, units = make(rng), dataclasses.replace(RUN, steps=(500, None)[i % 2])
        try:
            made = js.from_config(config, units=units)
        except (ValueError, TypeError):
            continue
        if "jaxsched" not in config:  # what the command would refuse without JAX
            check_values(_config.read(config), units)
        assert isinstance(made, (js.AbstractSchedule, js.AbstractController))
        known += 1
    return known
