"""The result: immutable, ranks the finite first, says where the edge is, goes to files and back."""

import csv
import dataclasses
import fractions
import io
import json
import re
import sys

import jax
import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.figure import Figure
from sweep_tasks import Plain, supervised

import jaxsched as js
from jaxsched import search
from jaxsched.search import grid, load

mpl.use("Agg")


def result_of(scores, settings=None, maximize=False, diverged=None):
    """A result with these validation scores, float [trials, runs]."""
    scores = np.asarray(scores, np.float32)
    settings = [{"peak": 0.1 * 2**i} for i in range(len(scores))] if settings is None else settings
    trials = tuple(
        search.Trial(f"t{i}", s, {"learning_rate": js.Constant(0.1)})
        for i, s in enumerate(settings)
    )
    shape = (len(scores), 1, scores.shape[1])
    return search.SweepResult(
        trials=trials,
        metric="loss",
        maximize=maximize,
        seeds=tuple(range(scores.shape[1])),
        horizons=np.full(len(scores), 10),
        train={"loss": np.zeros((*shape, 10), np.float32)},
        validation={"loss": scores[:, None, :, None]},
        evaluated=np.array([10]),
        diverged=np.where(np.isfinite(scores), -1, 3)[:, None, :],
        stopped=np.full(len(scores), -1),
        steps_asked=100,
        steps_trained=60,
        info={},
    )


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


def test_one_standard_error_rule():
    scores = [[1.0, 1.4], [1.1, 1.5], [0.9, 1.3], [2.0, 2.1]]  # means 1.2 1.3 1.1 2.05, error 0.2
    result = result_of(scores)
    assert result.best().index == 2
    assert result.best().error == pytest.approx(0.2)
    assert result.best(prefer="peak").index == 0
    assert result.best(prefer=lambda trial: -trial.settings["peak"]).index == 2
    with pytest.raises(ValueError, match="must have several seeds or folds"):
        result_of([[1], [2]]).best(prefer="peak")
    with pytest.raises(ValueError, match=r"`best\(prefer=...\)` must name a setting of all trials"):
        result.best(prefer="warmup")


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


def test_edges_ignore_what_is_no_range():
    settings = [
        {"peak": 0.1, "shape": "linear", "steps": 5},
        {"peak": 0.2, "shape": "x", "steps": 5},
    ]
    assert result_of([[1], [2]], settings).edges() == {"peak": "lowest"}


@pytest.fixture(scope="module")
def swept():
    trials = grid(js.cosine_decay, peak=[0.01, 0.1, 1e30], steps=[20, 30])
    return search.sweep(supervised(), trials, seeds=2, evaluate_every=10)


def test_it_is_immutable(swept):
    with pytest.raises(dataclasses.FrozenInstanceError):
        swept.metric = "accuracy"
    for array in (swept.train["loss"], swept.validation["loss"], swept.diverged, swept.horizons):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0


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
        search.sweep(Plain(), [trial])
    for text in (*texts, str(error.value)):
        assert text.isprintable()
        assert r"a\x1b]0;title\x07\x9b2J\r\u202eb" in text


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
    (tmp_path / "r.npz").write_bytes((tmp_path / "r.npz").read_bytes()[:1000])
    with pytest.raises(ValueError, match=r"`load\(file=...\)` must be a saved result"):
        load(tmp_path / "r.npz")


def test_a_schedule_of_code_is_saved_as_its_values(tmp_path):
    schedule = js.from_fn(lambda step: 0.1 / (1 + step))
    search.sweep(Plain(), [schedule], steps=20).save(tmp_path / "r.npz")
    back = load(tmp_path / "r.npz").best().schedule
    assert np.array_equal(js.sample(back, 20), js.sample(schedule, 20))


@pytest.mark.parametrize("names", [(), ("peak",), ("peak", "steps")])
def test_plots_draw_on_given_axes(swept, names):
    figure = Figure()
    ax = figure.subplots()
    assert swept.plot(*names, ax=ax) is ax
    figure.savefig(io.BytesIO())  # a canvas without a backend draws nothing
    assert ax.get_xlabel() == (names[0] if names else "step (optimizer updates)")


def test_plots_of_words_and_of_nothing_finite():
    figure = Figure()
    settings = [{"shape": "linear"}, {"shape": "cosine"}]
    for scores in ([[1], [2]], [[NAN], [NAN]]):
        result_of(scores, settings).plot("shape", ax=figure.subplots())
        result_of(scores, settings).plot(ax=figure.subplots())
    with pytest.raises(ValueError, match=r"`plot\(\*names\)` must name a setting"):
        result_of([[1]]).plot("warmth")
    with pytest.raises(ValueError, match="at most two settings"):
        result_of([[1]]).plot("peak", "peak", "peak")


def test_progress_is_silent_unless_asked(capsys):
    trials = [js.Constant(0.1), js.Constant(0.2)]
    search.sweep(Plain(), trials, steps=5)
    assert capsys.readouterr() == ("", "")
    search.sweep(Plain(), trials, steps=5, progress=True)
    out, err = capsys.readouterr()
    assert out == ""
    assert "trials" in err


def test_progress_without_rich(monkeypatch):
    monkeypatch.setitem(sys.modules, "rich.console", None)
    with pytest.raises(ImportError, match="needs rich"):
        search.sweep(Plain(), [js.Constant(0.1)], steps=5, progress=True)
