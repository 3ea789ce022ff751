"""The table of names."""

from __future__ import annotations

import importlib
import inspect
import math
import pkgutil
import re
from concurrent.futures import ThreadPoolExecutor

import golden
import numpy as np
import pytest
from cases import RECIPE, RUN, VALID

import jaxsched as js
from jaxsched import _serialize
from jaxsched.command import convert, read_file, sweep_from_config
from jaxsched.names import entries
from jaxsched.names._config import maker
from jaxsched.names._elsewhere import ALIASES, ELSEWHERE
from jaxsched.names._expression import Call
from jaxsched.names._lookup import check_values, source_of, unknown
from jaxsched.names._places import Place
from jaxsched.names._sources import BY, LIBRARIES, all_sources, ours, theirs
from jaxsched.names._texts import _THEIRS

SOURCES = {source.name: source for source in all_sources()}


def test_the_table_has_every_recipe_piece_and_controller():
    assert set(ours()) == set(RECIPE) | set(_serialize._ours()) | set(BY)
    assert set(ELSEWHERE) <= set(ours())


def test_the_table_has_every_library():
    modules = pkgutil.iter_modules(js.compat.__path__)
    assert {name for name in LIBRARIES if theirs(name)} == {
        m.name for m in modules if m.name[0] != "_"
    }
    assert js.compat.hf is js.compat.transformers


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_library_is_imported_by_every_word_for_it(library):
    module = importlib.import_module(f"jaxsched.compat.{library}")
    for word in LIBRARIES[library].split():
        space: dict = {}
        exec(f"import jaxsched.compat.{word} as a\nfrom jaxsched.compat.{word} import *", space)
        name = next(name for name, value in vars(module).items() if is_public(name, value))
        assert space["a"] is module and space[name] is getattr(module, name)
        assert not hasattr(importlib.import_module(f"jaxsched.compat.{word}"), "__path__")
        with pytest.raises(AttributeError, match=f"compat.{library}.*; did you mean {name}$"):
            getattr(importlib.import_module(f"jaxsched.compat.{word}"), f"{name}s")


NO_SCHEDULE = {"megatron.rampup_batch_size"}  # sizes for Units


def is_public(name, value):
    made_here = getattr(value, "__module__", "").startswith("jaxsched.compat.")
    return made_here and ">>>" in (value.__doc__ or "") and name[0] != "_"


def test_no_public_name_is_missing_in_the_table():
    """Nor can one be added without it: what `dir` lists, of js and of each library."""
    for library in LIBRARIES:
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
                early = told(lambda n=name, c=call: check_values(Call(n, (), c), Place()))
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


@pytest.mark.parametrize("x", [[1], b"a", object(), 5j], ids=["list", "bytes", "object", "complex"])
def test_what_is_of_another_type_is_told_by_the_arguments_name(x):
    calls = {
        r"entries\(word": entries,
        r"read_file\(path": read_file,
        r"convert\(text": lambda x: convert("torch", x),
        r"convert\(lr": lambda x: convert("torch", "StepLR(o, 3)", x),
        r"convert\(values": lambda x: convert("torch", "StepLR(o, 3)", 0.1, values=x),
        r"sweep_from_config\(config": lambda x: sweep_from_config("a:b", x),
    }
    for told, call in calls.items():
        with pytest.raises(TypeError, match=rf"{told}=\.\.\.\) must "):
            call(x)


def test_the_table_is_read_by_two_threads_at_once():
    with ThreadPoolExecutor(2) as pool:
        one, other = [pool.submit(ours.__wrapped__).result for _ in range(2)]
        assert one() == other() == ours()


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
    assert names("lr_find") == ["js.range_test"]
    assert names("deepspeed")[0] == "one_cycle" and names("detectron2")
    every = {entry.name: entry.call for entry in entries()}
    assert len(entries()) == len(every) > len(SOURCES)
    assert "t_initial" in every["timm.CosineLRScheduler"]  # which has other names, too
    assert every["js.range_test"] == "js.range_test"


@pytest.mark.parametrize(
    ("word", "answer"),
    [
        ("torch.OneCycle", "did you mean torch.OneCycleLR"),  # DeepSpeed has one of that name
        ("deepspeed.OneCycle", "it is one_cycle here"),
        ("hf.OneCycleLR", "it is one_cycle or torch.OneCycleLR here"),
        ("detectron2.WarmupCosineLR", "it is js.Linear(factor, 1.0, warmup) * schedule here"),
        ("AdafactorSchedule", "it is transformers.get_adafactor_schedule here"),
        ("keras.cosine_decay", "did you mean keras.CosineDecay"),
        ("warmup_table_decay", "did you mean warmup_constant or warmup_linear"),  # not warm
    ],
)
def test_a_name_of_a_library_is_answered_with_that_library_first(word, answer):
    assert unknown(word) == f"{word!r}; {answer}"


PEAK = {"peak": 0.7, "warmup": 12, "steps": 40, "end": 0.07}


@pytest.mark.parametrize("name", ["WarmupLR", "WarmupDecayLR", "WarmupCosineLR"])
def test_the_warmups_of_deepspeed_are_logarithmic(name):
    line = entries(f"deepspeed.{name}")[0].name
    t, (peak, w, steps, end) = np.arange(60), PEAK.values()
    fall = {"WarmupLR": 0 * t + peak, "WarmupDecayLR": peak * (steps - t) / (steps - w)}
    part = np.clip((t - w + 1) / (steps - w), 0, 1)
    fall["WarmupCosineLR"] = end + (peak - end) * (1 + np.cos(np.pi * part)) / 2
    rise = peak * np.log(t + 1) / np.log(w)
    want = np.where(t < w, rise, np.maximum(fall[name], 0))
    np.testing.assert_allclose(eval(line, {"js": js, **PEAK}).host(t), want, atol=1e-12)
