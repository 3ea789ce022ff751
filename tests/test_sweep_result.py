"""The result: immutable, ranks the finite first, says where the edge is, goes to files and back."""

import csv
import dataclasses
import fractions
import io
import json
import re
import sys

import jax
import numpy as np
import pytest
from results_by_hand import result_of
from sweep_tasks import Plain, shared, supervised

import jaxsched as js
from jaxsched import search
from jaxsched.search import _files, grid, load

NAN = np.nan


@pytest.mark.parametrize(
    ("scores", "maximize", "ranking"),
    [
        ([[3], [1], [2]], False, [1, 2, 0]),
        ([[3], [1], [2]], True, [0, 2, 1]),
        ([[NAN], [1], [np.inf]], False, [1, 0, 2]),
        ([[NAN], [1], [-np.inf]], True, [1, 0, 2]),
        ([[1, NAN], [5, 6]], False, [1, 0]),
        ([[2], [2]], False, [0, 1]),
    ],
)
def test_ranking(scores, maximize, ranking):
    result = result_of(scores, maximize=maximize)
    assert result.ranking() == ranking
    assert result.best().index == ranking[0]


def test_best_by_any_metric():
    result = result_of([[1], [2]], accuracy=[[0.5], [0.9]])
    assert result.best().index == 0
    assert result.best(metric="loss", maximize=True).index == 1
    best = result.best(metric="accuracy", maximize=True)
    assert (best.index, best.score) == (1, pytest.approx(0.9))
    assert result.ranking("accuracy", False) == [0, 1]
    for call in (result.best, result.table, result.compare, result.ranking):
        words = r"\(maximize=...\) must be given for 'accuracy': of 'loss' only"
        with pytest.raises(ValueError, match=call.__name__ + words):
            call(metric="accuracy")
        with pytest.raises(ValueError, match=r"\(metric=...\) must be one of .*, got 'speed'"):
            call(metric="speed")
        with pytest.raises(TypeError, match=r"\(maximize=...\) must be True or False, got 1"):
            call(maximize=1)


@pytest.mark.parametrize(
    ("scores", "words"),
    [
        ([[3], [1], [2]], "inside the range"),
        ([[1], [2], [3]], "on the edge of the range (peak is the lowest tried)"),
        ([[3], [2], [1]], "on the edge of the range (peak is the highest tried)"),
    ],
)
def test_summary_says_where_the_best_is(scores, words):
    summary = result_of(scores).summary()
    assert words in summary
    assert "60 of 100 steps trained" in summary
    assert "\n" not in summary
    assert summary in repr(result_of(scores))


def test_summary_and_info_say_what_a_reader_wants_to_know():
    result = result_of([[1], [2]])
    shard, identity = search.results._info.Shard(0, 2, [0], {"jax": "0.11"}), {"jax": "0.10"}
    info = dataclasses.replace(result.info, stored=40, identity=identity, shard=shard)
    found = dataclasses.replace(result, info=info)
    assert found.summary().endswith("steps trained (40 found in the checkpoint)")
    assert "checkpoint" not in result.summary()
    assert "0.1" not in repr(info)


def test_of_trials_that_are_one_run_none_is_at_an_edge():
    settings = [{"peak": p, "f": f} for p in (0.1, 0.2) for f in (1, 2)]
    idle = result_of([[1], [1], [2], [2]], settings)
    assert idle.edges() == {"peak": "lowest"}
    assert "(peak is the lowest tried), f has had no effect;" in idle.summary()
    some = result_of([[1], [1], [1], [2]], [{"f": f} for f in (1, 2, [4], 3)])
    assert some.edges() == {} and "effect" not in some.summary()
    apart = result_of([[1], [1]], settings[:2], norm=[[1], [2]])  # a tie by chance
    assert apart.edges() == {"f": "lowest"}


def test_edges_ignore_what_is_no_range():
    settings = [
        {"peak": 0.1, "shape": "linear", "steps": 5},
        {"peak": 0.2, "shape": "x", "steps": 5},
    ]
    assert result_of([[1], [2]], settings).edges() == {"peak": "lowest"}


@pytest.mark.parametrize(
    ("settings", "kinds", "edges", "inside"),
    [
        ([{}, {}, {}], None, {}, False),  # a list of schedules has no range
        ([{"warmup": w} for w in (0, 10, 20)], None, {}, False),  # nothing is below 0
        ([{"warmup": w, "peak": p} for w, p in ((0, 2), (10, 1), (20, 3))], None, {}, True),
        ([{"nesterov": n} for n in (True, False, False)], None, {}, False),
        ([{"peak": 1}, {"peak": 2}, {"peak": 0.1}], ["a", "a", "b"], {"peak": "lowest"}, False),
        ([{"peak": 1}, {"peak": 1}, {"peak": 0.1}], ["a", "a", "b"], {}, False),
    ],
)
def test_an_edge_is_one_of_a_range_that_is_known(settings, kinds, edges, inside):
    result = result_of([[1], [2], [3]], settings, kinds=kinds)
    assert result.edges() == edges
    assert ("inside the range" in result.summary()) == inside
    assert ("on the edge" in result.summary()) == bool(edges)


def test_the_table_marks_who_did_not_come_to_the_end():
    scores = [[3], [NAN], [1], [NAN], [NAN]]
    settings = [{"peak": 0.1 * i, "steps": 10} for i in range(5)]
    result = result_of(scores, settings, accuracy=[[0.5]] * 5)
    stopped, evaluated = np.array([-1, 5, -1, 5, 2]), np.array([2, 5, 10])
    loss = np.full((5, 1, 1, 3), NAN, np.float32)
    loss[..., -1] = np.array(scores)[:, None]
    loss[3, ..., :2], loss[4, ..., 0] = (8, 7), 9
    curves = {"loss": loss, "accuracy": loss / 10}
    diverged = np.where(np.arange(5) == 1, 3, -1)[:, None, None]
    changes = {"stopped": stopped, "validation": curves, "diverged": diverged}
    table = dataclasses.replace(result, evaluated=evaluated, **changes).table()
    assert table.head == ("", "peak", "loss", "accuracy", "")
    assert table.rows == (
        ("1", "0.2", "1", "0.1", ""),
        ("2", "0", "3", "0.3", ""),
        ("", "0.3", "(7)", "(0.7)", "stopped at 5"),
        ("", "0.4", "(9)", "(0.9)", "stopped at 2"),
        ("", "0.1", "", "", "diverged at 3, stopped at 5"),
    )
    assert str(result.table(limit=1)).count("\n") == 7
    assert "... 4 more" in str(result.table(limit=1))
    assert len(result_of([[i] for i in range(30)]).table(limit=None).rows) == 30
    assert len(result_of([[i] for i in range(30)]).table().rows) == 20


def test_no_name_breaks_a_table():
    settings = [{"shape": name} for name in ("<b>|\n*x*", "\x1b[31mred", "plain")]
    table = result_of([[1], [2], [3]], settings).table()
    assert "\x1b" not in str(table)
    assert str(table).count("\n") == 8
    assert "&lt;b&gt;|\\n*x*" in table._repr_html_()
    assert table.markdown().split("\n")[4] == r"| 1 | &lt;b&gt;\|\\n\*x\* | 1 |"


def test_kinds_are_a_column_and_settings_keep_their_names():
    settings = [{"peak": 1, "name": "x", "loss": 3}, {"peak": 2, "kind": "soft", "trial": 7}]
    rows = result_of([[1], [2]], settings, kinds=["cosine", "wsd"]).rows()
    assert [(r["kind"], r["name"], r["loss"], r["trial"]) for r in rows] == [
        ("cosine", "cosine t0", 1.0, 0),
        ("wsd", "wsd t1", 2.0, 1),
    ]
    assert [r["setting kind"] for r in rows] == [None, "soft"]
    assert (rows[0]["setting name"], rows[0]["setting loss"], rows[1]["setting trial"]) == (
        "x",
        3,
        7,
    )
    assert "kind" not in result_of([[1], [2]]).rows()[0]
    cut = result_of([[1], [2]], [{"steps": 10, "x": 1, "setting x": 2}, {"steps": 40, "loss": 5}])
    assert [(r["steps"], r["setting steps"], r["setting loss"]) for r in cut.rows()] == [
        (10, 10, None),
        (10, 40, 5),
    ]
    counted = dataclasses.replace(result_of([[1]], steps=[[7]]), metric="steps").rows()[0]
    assert (counted["metric steps"], counted["steps"]) == (7.0, 10)
    table = result_of([[1], [2]], settings, kinds=["cosine", "wsd"]).table()
    assert table.head[:3] == ("", "kind", "peak")


@pytest.fixture(scope="module")
def swept():
    trials = grid(js.cosine_decay, peak=[0.01, 0.1, 1e30], steps=[20, 30])
    return search.sweep(shared(supervised), trials, seeds=2, evaluate_every=10)


def test_it_is_immutable(swept):
    with pytest.raises(dataclasses.FrozenInstanceError):
        swept.metric = "accuracy"
    for array in (swept.train["loss"], swept.validation["loss"], swept.diverged, swept.horizons):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0


def test_the_info_is_a_record_and_reads_as_a_mapping(swept):
    info = swept.info
    assert (info["width"], info["saved"], dict(info)["platform"]) == (info.width, info.saved, "cpu")
    assert len(info) == len(list(info))
    with pytest.raises(KeyError, match="speed"):
        info["speed"]


def test_rows_csv_json(swept, tmp_path):
    rows = swept.rows()
    assert [r["peak"] for r in rows] == [0.01, 0.01, 0.1, 0.1, 1e30, 1e30]
    assert [r["diverged runs"] for r in rows] == [0, 0, 0, 0, 2, 2]
    text = swept.to_csv(tmp_path / "rows.csv")
    assert (tmp_path / "rows.csv").read_text() == text
    read = list(csv.DictReader(io.StringIO(text)))
    assert [float(r["loss"]) for r in read[:4]] == [r["loss"] for r in rows[:4]]
    data = json.loads(swept.to_json(), parse_constant=pytest.fail)
    assert data[5]["loss"] is None
    assert data[5]["diverged at"] == int(swept.diverged[5].min())


def test_json_says_why_there_is_no_score():
    result = result_of([[1.0], [np.nan], [np.nan], [np.nan]])
    result = dataclasses.replace(
        result,
        stopped=np.array([-1, 1, -1, -1]),
        diverged=np.array([-1, -1, 1, -1])[:, None, None],
    )
    kinds = [(r["loss"], r["stopped at"], r["diverged runs"]) for r in json.loads(result.to_json())]
    assert kinds == [(1.0, None, 0), (None, 1, 0), (None, None, 1), (None, None, 0)]


def test_hostile_names_do_no_harm():
    formulas = [
        '=HYPERLINK("x")',
        "+1",
        "-1",
        "@x",
        "\n=1",
        "\r=1",
        " \t-1",
        "\x1b=1",
        "\ufeff=1",
        "\uff1d1",
    ]
    names = [*formulas, "\t1", 'a,"b"\nc', "a\r=1,2", "[/bold]", " it's", "a b=1", "\x1b[2J\x9b2J"]
    result = result_of([[1.0]] * len(names), [{"shape": name} for name in names])
    text = result.to_csv()
    read = list(csv.DictReader(io.StringIO(text, newline="")))
    assert [r["shape"] for r in read] == [f"'{n}" for n in names[:11]] + names[11:]
    assert not re.search(r"(^|[\r\n,])[=+@\t-]", re.sub(r'"[^"]*"', "", text))
    assert [r["shape"] for r in json.loads(result.to_json())] == names


def test_negative_numbers_of_any_kind_stay_numbers_in_csv():
    numbers = [-1, -1.5, np.int64(-3), np.float32(-0.5), fractions.Fraction(-1, 2)]
    result = result_of([[1.0]] * 5, [{"x": number} for number in numbers])
    read = csv.DictReader(io.StringIO(result.to_csv()))
    assert [r["x"] for r in read] == ["-1", "-1.5", "-3", "-0.5", "-1/2"]


def test_texts_for_a_terminal_hold_no_control_characters():
    name = "a\x1b]0;title\x07\x9b2J\r\u202eb"
    trial = search.Trial(name, {name: 1.0}, {"learning_rate": js.Constant(0.1)})
    result = dataclasses.replace(result_of([[1.0], [2.0]]), trials=(trial, trial), metric=name)
    result = dataclasses.replace(result, validation={name: result.validation["loss"]})
    texts = [result.summary(), repr(result), repr(result.best())]
    with pytest.raises(ValueError, match="must be given for the trial") as error:
        search.sweep(shared(Plain), [trial])
    for text in (*texts, str(error.value)):
        assert text.isprintable()
        assert r"a\x1b]0;title\x07\x9b2J\r\u202eb" in text


def test_json_has_no_infinity_in_lists_either():
    result = result_of([[1.0]], [{"s": [1, [np.inf, np.nan], 2.0]}])
    assert json.loads(result.to_json())[0]["s"] == [1, [None, None], 2.0]


class Unprintable:
    value = 3

    def __repr__(self):
        raise RuntimeError("a repr of a user's own")


def test_a_setting_without_a_text_is_shown_by_its_class(tmp_path):
    result = result_of([[1.0], [2.0]], [{"rule": Unprintable()}, {"rule": 1}])
    shown = "test_sweep_result.Unprintable()"
    assert [row[1] for row in result.table().rows] == [shown, "1"]
    assert json.loads(result.to_json())[0]["rule"] == shown
    assert list(result.compare("rule")) == [shown, "1"]
    result.save(tmp_path / "r.npz")
    assert load(tmp_path / "r.npz").best().settings == {"rule": shown}


@pytest.mark.parametrize(
    "call",
    [
        lambda result, x: result.table(x),
        lambda result, x: result.compare(x),
        lambda result, x: result.compare()[x],
        lambda result, x: result.plot(x),
        lambda result, x: result.plot(x, x, x),
    ],
)
def test_an_argument_without_a_text_is_refused(call):
    with pytest.raises((ValueError, KeyError), match=r"must .*, got a .* that cannot be printed"):
        call(result_of([[1.0]]), Unprintable())


def test_pandas_is_asked_for_by_name(swept, monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match="needs pandas"):
        swept.to_pandas()


def test_save_and_load(swept, tmp_path):
    swept.save(tmp_path / "r.npz")
    back = load(tmp_path / "r.npz")
    assert back.trials == swept.trials
    for f in dataclasses.fields(swept):
        a, b = getattr(swept, f.name), getattr(back, f.name)
        assert jax.tree.structure(a) == jax.tree.structure(b)
        for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
            assert np.array_equal(x, y, equal_nan=isinstance(x, np.ndarray))
    assert back.best().schedule == swept.best().schedule
    for call, name in ((load, "load(file=...)"), (lambda x: search.merge([x]), "merge(parts=...)")):
        words = re.escape(f"{name} must be a saved result, got no file: ") + r".*s\.npz"
        with pytest.raises(FileNotFoundError, match=words):
            call(tmp_path / "s.npz")
    (tmp_path / "t.csv").write_text("peak,loss\n0.1,2\n")
    np.savez(tmp_path / "t.npz", peak=[0.1])
    _files.write(tmp_path / "records.npz", [], {"peak": np.ones(3)})
    for name in ("t.csv", "t.npz", "records.npz"):
        with pytest.raises(ValueError, match=r"no file that `SweepResult\.save` has") as caught:
            load(tmp_path / name)
        assert "pickle" not in str(caught.value)
    for one in ("r.npz", tmp_path / "r.npz", swept, 3):
        with pytest.raises(TypeError, match=r"merge\(parts=...\) must be a list of results or of"):
            search.merge(one)


def test_a_damaged_result_is_named_or_is_what_it_was(swept, tmp_path):
    path = tmp_path / "r.npz"
    swept.save(path)
    data, said = path.read_bytes(), []
    for damaged in (data[:1000], *(flipped(data, at) for at in range(2, len(data), 97))):
        path.write_bytes(damaged)
        try:
            back = load(path)
        except ValueError as error:
            said.append(str(error))
        else:  # a bit that nothing reads, such as one of a date
            assert back.summary() == swept.summary()
            assert back.train["loss"].tobytes() == swept.train["loss"].tobytes()
    words = rf"load\(file=...\) must be a saved result, got a damaged one: .*{path.name}: "
    unknown = "no file that `SweepResult.save` has written"  # by the names of what it holds
    assert all(re.search(words, text) or unknown in text for text in said)
    assert len(said) > 0.8 * len(data) / 97
    assert sum(unknown in text for text in said) < 4


def flipped(data, at):
    return data[:at] + bytes([data[at] ^ 4]) + data[at + 1 :]


@pytest.mark.parametrize("file", [None, 3.5, 3, ["a.npz"], io.BytesIO(b"PK")])
def test_what_is_not_a_path_is_named(swept, file):
    calls = {"load": load, "save": swept.save}
    calls |= {} if file is None else {"to_csv": swept.to_csv, "to_json": swept.to_json}
    for name, call in calls.items():
        with pytest.raises(TypeError, match=rf"^{name}\(file=...\) must be a path, got "):
            call(file)
    with pytest.raises(TypeError, match=r"^merge\(parts=...\) must be a path, got"):
        search.merge([file])


def test_a_path_may_be_bytes(swept, tmp_path):
    swept.save(bytes(tmp_path / "one.npz"))
    assert load(bytes(tmp_path / "one.npz")).to_csv() == swept.to_csv()
    with pytest.raises(TypeError, match=r"merge\(parts=...\) must be a list"):
        search.merge(bytes(tmp_path / "one.npz"))
    with pytest.raises(ValueError, match=r"load\(file=...\) must be a path with a name"):
        load("a\0b")


@pytest.mark.parametrize("name", ["best", "scores", "ranking", "difference", "table", "compare"])
def test_a_wrong_call_names_the_class_of_the_result(swept, name):
    with pytest.raises(TypeError, match=rf"^SweepResult\.{name}\(\) got .* 'epochs'"):
        getattr(swept, name)(epochs=3)


def test_a_result_of_another_format_is_refused(swept, tmp_path):
    swept.save(tmp_path / "r.npz")
    meta, arrays = _files.read(tmp_path / "r.npz")
    _files.write(tmp_path / "r.npz", meta | {"jaxsched sweep": 4}, arrays)
    with pytest.raises(ValueError, match=r"must be a saved result, got .* of format 4"):
        load(tmp_path / "r.npz")
    np.savez(tmp_path / "old.npz", meta=np.array(json.dumps(meta)), **arrays)
    with pytest.raises(ValueError, match=r"no file that `SweepResult.save` has written"):
        load(tmp_path / "old.npz")


def test_a_schedule_of_code_is_saved_as_its_values(tmp_path):
    schedule = js.from_fn(lambda step: 0.1 / (1 + step))
    search.sweep(shared(Plain), [schedule], steps=20).save(tmp_path / "r.npz")
    back = load(tmp_path / "r.npz").best().schedule
    assert np.array_equal(js.sample(back, 20), js.sample(schedule, 20))
