"""A file is data: whatever its bytes are, it is read right or is a ``ValueError``."""

from __future__ import annotations

import ast
import copy
import inspect
import json
import math

import jax
import numpy as np
import pytest
from cases import CLASSES
from refusals import settings_of

import jaxsched as js
from jaxsched import _serialize

HEAD = '{"jaxsched": 1, "type": '

LINEAR = HEAD + '"Linear", "start": 1.0, "end": 0.0, "steps": '

INNER = '{"type": "Constant", "value": 1.0}'

HOSTILE = {
    "nothing": "",
    "no JSON": "{",
    "two documents": LINEAR + "5} {}",
    "a list": "[]",
    "a number": "1",
    "null": "null",
    "a string": '"Linear"',
    "an empty object": "{}",
    "no version": '{"type": "Constant", "value": 1}',
    "a version from the future": '{"jaxsched": 2, "type": "Constant", "value": 1}',
    "a version as a word": '{"jaxsched": "1", "type": "Constant", "value": 1}',
    "a version as a bool": '{"jaxsched": true, "type": "Constant", "value": 1}',
    "a version as a list": '{"jaxsched": [1], "type": "Constant", "value": 1}',
    "no type": '{"jaxsched": 1, "value": 1}',
    "an unknown type": HEAD + '"Exotic"}',
    "a type in another case": HEAD + '"constant", "value": 1}',
    "an abstract type": HEAD + '"AbstractSchedule"}',
    "a private type": HEAD + '"_Wrapper", "schedule": ' + INNER + "}",
    "a recipe as type": HEAD + '"warmup_cosine", "peak": 1}',
    "code as type": HEAD + '"Function", "fn": "os.system", "parameters": {}}',
    "a module as type": HEAD + '"os.system"}',
    "a dunder as type": HEAD + '"__class__"}',
    "an import as type": HEAD + "\"__import__('os').system('false')\"}",
    "a null type": HEAD + "null}",
    "a number as type": HEAD + "1}",
    "a list as type": HEAD + '["Constant"], "value": 1}',
    "an object as type": HEAD + '{"type": "Constant"}, "value": 1}',
    "a missing field": HEAD + '"Linear", "start": 1.0, "end": 0.0}',
    "an extra field": HEAD + '"Constant", "value": 1, "extra": 2}',
    "a dunder field": HEAD + '"Constant", "value": 1, "__class__": "os.system"}',
    "a reduce field": HEAD + '"Constant", "value": 1, "__reduce__": ["os.system", ["false"]]}',
    "self as field": HEAD + '"Constant", "value": 1, "self": 2}',
    "a repeated key": HEAD + '"Constant", "value": 1, "value": 2}',
    "a repeated key inside": HEAD
    + '"Shift", "steps": 1, "schedule": {"type": "Constant", "value": '
    '1, "value": 2}}',
    "a version inside": HEAD
    + '"Shift", "steps": 1, "schedule": {"jaxsched": 1, "type": "Constant",'
    ' "value": 1}}',
    "NaN": LINEAR + "NaN}",
    "Infinity": LINEAR + "Infinity}",
    "minus Infinity": LINEAR + "-Infinity}",
    "a float that overflows": LINEAR + "1e999}",
    "a float beyond float32": HEAD + '"Constant", "value": 1e300}',
    "NaN in a list": HEAD + '"Table", "values": [1, NaN]}',
    "an overflow in a list": HEAD + '"Table", "values": [1, 1e999]}',
    "an integer of 400 digits": LINEAR + "1" + "0" * 400 + "}",
    "an integer of 5000 digits": LINEAR + "1" + "0" * 5000 + "}",
    "a negative length": LINEAR + "-1}",
    "a number in quotes": LINEAR + '"5"}',
    "true for a number": LINEAR + "true}",
    "null for a number": LINEAR + "null}",
    "a list of words for a number": LINEAR + '["5"]}',
    "a list of lists of words for a number": LINEAR + '[[["5"]]]}',
    "an empty list for a number": LINEAR + "[]}",
    "true in a list for a number": LINEAR + "[true]}",
    "null in a list for a number": LINEAR + "[null]}",
    "a ragged list for a number": LINEAR + "[[1], [1, 2]]}",
    "a negative length beyond int32": LINEAR + "[-4294967291]}",
    "words as float64": HEAD + '"Table", "values": {"float64": ["a"]}}',
    "no list as float64": HEAD + '"Table", "values": {"float64": 1}}',
    "null as float64": LINEAR + '{"float64": [null]}}',
    "ten thousand words for a number": LINEAR + "[" + '"w", ' * 9999 + '"w"]}',
    "ten thousand words for a list": HEAD + '"Table", "values": [' + '"w", ' * 9999 + '"w"]}',
    "a long repeated key": HEAD + '"Constant", "value": 1, "value": "' + "x" * 100_000 + '"}',
    "a long type": HEAD + '"' + "x" * 100_000 + '"}',
    "a long field": HEAD + '"Constant", "value": 1, "' + "x" * 100_000 + '": 1}',
    "a long version": '{"jaxsched": "' + "x" * 100_000 + '"}',
    "an object for a number": LINEAR + "{}}",
    "a schedule for a number": LINEAR + INNER + "}",
    "a number for a list": HEAD + '"Table", "values": 1}',
    "a string for a list": HEAD + '"Table", "values": "123"}',
    "an object for a list": HEAD + '"Table", "values": {}}',
    "an empty list": HEAD + '"Table", "values": []}',
    "null in a list": HEAD + '"Table", "values": [1, null]}',
    "words in a list": HEAD + '"Table", "values": ["a"]}',
    "true in a list": HEAD + '"Table", "values": [true]}',
    "an object in a list": HEAD + '"Table", "values": [1, {}]}',
    "a ragged list": HEAD + '"Table", "values": [[1], [1, 2]]}',
    "a schedule for a list": HEAD + '"Table", "values": [' + INNER + "]}",
    "a number for a schedule": HEAD + '"Shift", "steps": 1, "schedule": 1}',
    "a string for a schedule": HEAD + '"Shift", "steps": 1, "schedule": "Constant"}',
    "a list for a schedule": HEAD + '"Shift", "steps": 1, "schedule": [' + INNER + "]}",
    "a wrong shape": HEAD + '"Warp", "power": 1, "shape": ' + INNER + "}",
    "a number for the parts": HEAD + '"Sequence", "parts": 1}',
    "an object for the parts": HEAD + '"Sequence", "parts": ' + INNER + "}",
    "a string for the parts": HEAD + '"Sequence", "parts": "ab"}',
    "no parts": HEAD + '"Sequence", "parts": []}',
    "numbers for the parts": HEAD + '"Sequence", "parts": [1, 2]}',
    "a number among the parts": HEAD + '"Sequence", "parts": [' + INNER + ", 1]}",
    "a number before the parts": HEAD + '"Sequence", "parts": [1, ' + INNER + "]}",
    "an open-ended part": HEAD + '"Sequence", "parts": [' + INNER + ", " + INNER + "]}",
    "a bomb of lists": HEAD + '"Table", "values": ' + "[" * 100_000 + "]" * 100_000 + "}",
    "a bomb of objects": '{"a": ' * 100_000 + "1" + "}" * 100_000,
    "a bomb of schedules": HEAD
    + '"Shift", "steps": 1, "schedule": '
    + '{"type": "Shift", "steps": 1, "schedule": ' * 300
    + INNER
    + "}" * 301,
    "bytes that are no text": b"\xff\xfe{",
    "a byte order mark": "\ufeff" + LINEAR + "5}",
    "a zero byte": "\x00",
    "a lone surrogate": HEAD + '"\\ud800"}',
}


@pytest.mark.parametrize(
    "case",
    HOSTILE,
)
def test_a_hostile_file_is_a_value_error_and_nothing_else(case):
    """With a message of bearable length: a file of a megabyte is not repeated."""
    with pytest.raises(ValueError, match=r".") as caught:
        js.from_json(HOSTILE[case])
    assert len(str(caught.value)) < 2000


@pytest.mark.parametrize("case", ["a long repeated key", "a long type", "a long version"])
def test_what_was_read_is_cut_in_the_message(case):
    with pytest.raises(ValueError, match=r"got .{60}(\.$|;)"):
        js.from_json(HOSTILE[case])


def test_a_population_of_long_lengths_is_read_as_it_was_written():
    family = js.from_json(LINEAR + '{"float64": [4294967301, 4294967302]}}')
    assert family.steps.tolist() == [4294967301, 4294967302]
    assert js.from_json(js.to_json(family)) == family


HOSTILE_DICTS = {
    "no dict": [("jaxsched", 1)],
    "a class as type": {"jaxsched": 1, "type": js.Constant, "value": 1.0},
    "a function as type": {"jaxsched": 1, "type": eval, "value": "1"},
    "an object as value": {"jaxsched": 1, "type": "Constant", "value": object()},
    "a set as value": {"jaxsched": 1, "type": "Constant", "value": {1}},
    "nan": {"jaxsched": 1, "type": "Constant", "value": math.nan},
    "nan in an array": {"jaxsched": 1, "type": "Table", "values": np.asarray([math.nan])},
    "a key that is no word": {"jaxsched": 1, "type": "Constant", "value": 1.0, 3: 4},
}


@pytest.mark.parametrize(
    "case",
    HOSTILE_DICTS,
)
def test_a_hostile_dict_is_a_value_error(case):
    with pytest.raises(ValueError, match=r"."):
        js.from_dict(HOSTILE_DICTS[case])


def test_a_dict_that_holds_itself_is_a_value_error():
    data = {"jaxsched": 1, "type": "Shift", "steps": 1}
    data["schedule"] = inner = {"type": "Shift", "steps": 1}
    inner["schedule"] = inner
    with pytest.raises(ValueError, match="nested"):
        js.from_dict(data)


def test_reading_changes_nothing_that_was_given():
    data = js.to_dict(js.warmup_cosine(0.1, 10, 2))
    before = copy.deepcopy(data)
    js.from_dict(data)
    assert data == before


@pytest.mark.parametrize("name", [name for name in CLASSES if not name.startswith("Function")])
def test_any_one_field_that_is_spoilt_is_found(name):
    """Each value of a good file in turn replaced by null, a word, a list, an object, NaN."""
    valid = CLASSES[name]
    good = js.to_dict(valid)
    for key in good:
        for spoilt in (None, "a", [["a"]], {}, {"type": "os"}, math.nan, True):
            if spoilt is None and key in valid.ranks and settings_of(valid, key)["optional"]:
                continue
            with pytest.raises(ValueError, match=r"."):
                js.from_json(json.dumps({**good, key: spoilt}))


RUNS_CODE = {"eval", "exec", "compile", "__import__", "import_module", "globals", "system"}

RUNNERS = {"pickle", "importlib", "marshal", "shelve", "os", "subprocess", "yaml", "runpy"}


def test_nothing_on_the_way_from_a_file_can_execute():
    """The reader names no way to run code, and the types that a file can name are a closed list."""
    nodes = list(ast.walk(ast.parse(inspect.getsource(_serialize))))
    names = {node.id for node in nodes if isinstance(node, ast.Name)}
    names |= {node.attr for node in nodes if isinstance(node, ast.Attribute)}
    imports = {a.name for node in nodes if isinstance(node, ast.Import) for a in node.names}
    assert not names & RUNS_CODE
    assert not imports & RUNNERS
    readable = set()
    for name in {*dir(js), *dir(__builtins__), "os", "os.system", "Record", "_Wrapper"}:
        try:
            js.from_dict({"jaxsched": 1, "type": name})
        except ValueError as error:
            if "type=..." not in str(error):
                readable.add(name)
        else:
            readable.add(name)
    kinds = (js.AbstractSchedule, js.AbstractController)
    assert readable >= {"Linear", "Sequence", "Repeat", "Table"}
    assert all(issubclass(getattr(js, name), kinds) for name in readable - {"share"})
    assert not readable & {"Function", "AbstractSchedule", "AbstractController"}


@pytest.mark.parametrize("value", [3, None, "x" * 1000, {"type": "Constant"}])
def test_only_schedules_are_written(value):
    with pytest.raises(TypeError, match=r"^to_dict\(schedule=\.\.\.\) must be a schedule.{,119}$"):
        js.to_dict(value)


def test_code_is_not_written_as_data():
    with pytest.raises(TypeError, match=r"to_dict\(schedule=\.\.\.\).*function"):
        js.to_json(js.from_fn(lambda step: 0.1) * js.Constant(1.0))
    with pytest.raises(TypeError, match=r"to_dict\(schedule=\.\.\.\) must"):
        jax.eval_shape(lambda s: (js.to_dict(s), s(0))[1], js.Constant(1.0))
