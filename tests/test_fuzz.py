"""Whatever the bytes, a reader gives what was written, or an error that says what and where."""

import json

import fuzz
import numpy as np
import pytest
from results_by_hand import result_of

import jaxsched as js
from jaxsched import search
from jaxsched.search import _files

COUNTS = {"from_json": 500, "from_dict": 300, "sweep(checkpoint=...)": 12}


@pytest.mark.parametrize("reader", fuzz.READERS)
def test_mutations_are_refused_or_harmless(reader):
    """A small part of ``python tests/fuzz.py 20000``."""
    counts, wrong = fuzz.fuzz(reader, COUNTS.get(reader, 50))
    assert not wrong
    assert counts["refused"] > 0.5 * counts.total() or "checkpoint" in reader  # which trains again


RESULT = result_of([[1.0, 2.0], [3.0, 4.0]])
SHARE = js.to_dict(js.share(0.1))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"metric": "x"}, "'x' must be a validation metric"),
        ({"metric": 3}, "the result, metric must be of type str, got 3"),
        ({"seeds": [0, 0]}, r"seeds must be different whole numbers, .* got \[0, 0\]"),
        ({"seeds": [0, 1, 2]}, r"'diverged' must be int64\[2, 1, 3\], got int64\[2, 1, 2\]"),
        ({"trials": []}, r"'horizons' must be int64\[0\], got int64\[2\]"),
        (
            {"trials": 2 * [{"name": 1, "settings": {}, "schedules": {}}]},
            r"trials \[0\], name must",
        ),
        ({"trials": [{}, {}]}, r"trials \[0\] must not lack \['name', 'schedules', 'settings'\]"),
        ({"info": {"width": "2"}}, "info, width must be of type int, got '2'"),
        ({"info": {"shard": {"index": 0}}}, r"info, shard must not lack \['of', 'trials'\]"),
        ({"a": 1}, r"the result must not lack \[\], nor have \['a'\]"),
        ({"jaxsched sweep": 2}, "of format 2"),
        ({"horizons": np.array([10, 9])}, "all horizons must be evaluated"),
        (
            {"horizons": np.array([1.0, 2.0])},
            r"array 'horizons' must be int64\[2\], got float64\[2\]",
        ),
        ({"evaluated": np.array([0])}, "evaluated must increase from 1 up"),
        ({"stopped": np.array([-2, 0])}, "stopped must be -1 or a step"),
        ({"train/loss": np.zeros((2, 1, 2, 9), np.float32)}, "array 'train/loss' must be"),
        ({"odd": np.zeros(3)}, r"array 'odd' must be none, got float64\[3\]"),
    ],
)
def test_a_result_that_does_not_belong_together_is_refused(tmp_path, change, words):
    """With the right digests, too."""
    RESULT.save(tmp_path / "r.npz")
    meta, arrays = _files.read(tmp_path / "r.npz")
    for name, value in change.items():
        (arrays if isinstance(value, np.ndarray) else meta)[name] = value
    _files.write(tmp_path / "r.npz", meta, arrays)
    with pytest.raises(ValueError, match=rf"load\(file=...\) must be .*r\.npz.*{words}"):
        search.load(tmp_path / "r.npz")


def test_a_share_in_a_list_is_a_share_again(tmp_path):
    setting = [js.share(0.1), [js.share(0.2)], "x"]
    trial = search.Trial("t", {"s": setting}, {"learning_rate": js.Constant(0.1)})
    result_of([[1.0]], [{"s": setting}]).save(tmp_path / "r.npz")
    assert search.load(tmp_path / "r.npz").trials[0].settings == trial.settings


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"jaxsched": 1, ', r"^from_json\(text=...\) must be JSON, got Expecting property name"),
        (b"\xff", r"^from_json\(text=...\) must be JSON, got 'utf-8' codec"),
        ("9" * 5000, r"^from_json\(text=...\) must be JSON, got Exceeds the limit"),
        ('{"jaxsched": 1, "type": "Sequence", "parts": [{}, "Constant"]}', "got None"),
        (
            '{"jaxsched": 1, "type": "Constant", "value": [1, true]}',
            "numbers, got",
        ),
    ],
)
def test_a_text_that_is_no_schedule_is_refused(text, words):
    with pytest.raises(ValueError, match=words):
        js.from_json(text)


def test_a_text_in_place_of_a_part_is_refused():
    parts = [js.to_dict(js.Constant(0.1, 3)), "Constant"]
    del parts[0]["jaxsched"]
    with pytest.raises(ValueError, match=r"from_dict\(type=...\) must be one of .* got 'Constant'"):
        js.from_json(json.dumps({"jaxsched": 1, "type": "Sequence", "parts": parts}))
