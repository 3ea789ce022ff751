"""Pictures of a sweep: what is named, in which colours, on which axes."""

import dataclasses
import io
import sys

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.figure import Figure
from results_by_hand import result_of

from jaxsched.search.results._drawing import looks, score_axis

mpl.use("Agg")

NAN = np.nan


def drawn(result, *names):
    figure = Figure(layout="constrained")
    ax = figure.subplots()
    assert result.plot(*names, ax=ax) is ax
    figure.savefig(io.BytesIO(), dpi=30)  # a canvas without a backend draws nothing
    return ax


def words(ax):
    return [text.get_text() for text in ax.texts]


def test_another_metric_is_drawn_as_it_is_ranked():
    result = result_of([[1], [2], [3]], accuracy=[[0.2], [0.9], [0.4]])
    ax = Figure().subplots()
    result.plot("peak", metric="accuracy", maximize=True, ax=ax)
    star = next(line for line in ax.lines if line.get_marker() == "*")
    assert ax.get_ylabel() == "validation accuracy"
    assert star.get_xydata().tolist() == [[pytest.approx(0.2), pytest.approx(0.9)]]
    assert result.metric == "loss"
    with pytest.raises(ValueError, match=r"plot\(maximize=...\) must be given for 'accuracy'"):
        result.plot(metric="accuracy")


@pytest.mark.parametrize("names", [(), ("peak",), ("peak", "steps")])
def test_plots_draw_on_given_axes(names):
    settings = [{"peak": p, "steps": s} for p in (0.1, 0.3) for s in (20, 30)]
    ax = drawn(result_of([[1, 2], [2, 3], [3, 4], [NAN, 1]], settings), *names)
    assert ax.get_xlabel() == (names[0] if names else "step (optimizer updates)")


CROSS = "\N{MULTIPLICATION SIGN}"
KINDS = ["cosine"] * 3 + ["wsd"] * 3
PEAKS = [{"peak": peak} for peak in (0.01, 0.1, 1.0)] * 2


def test_kinds_are_named_at_their_lines():
    result = result_of([[3], [1], [2], [4], [2.5], [NAN]], PEAKS, kinds=KINDS)
    ax = drawn(result, "peak")
    assert words(ax) == ["cosine", "wsd"]
    lines = {line.get_color(): line for line in ax.lines if line.get_linestyle() in ("-", "--")}
    found = [list(line.get_ydata()) for line in lines.values()]
    assert found == [[3, 1, 2], [4, 2.5]]
    assert len(lines) == 2  # two colours
    assert ax.get_xscale() == "log"
    assert ax.get_title(loc="right") == f"☆ best   {CROSS} diverged"
    crosses = [line for line in ax.lines if line.get_marker() == "x"]
    assert [(c.get_xdata()[0], c.get_ydata()[0]) for c in crosses] == [(1.0, 0.98)]
    assert words(drawn(result_of([[i] for i in range(3)], PEAKS[:3]), "peak")) == []


def test_without_evaluations_the_training_is_drawn():
    result = result_of([[3], [1], [2], [4], [2.5], [NAN]], PEAKS, kinds=KINDS)
    loss = np.tile(np.arange(40, 0, -1, np.float32), (6, 1, 1, 1))
    loss[5, ..., 30:] = NAN
    ax = drawn(dataclasses.replace(result, train={"loss": loss}))
    assert ax.get_ylabel() == "training loss (mean of 2 updates)"
    smooth = [line for line in ax.lines if len(line.get_xdata()) == 39]
    np.testing.assert_allclose(smooth[0].get_ydata(), np.arange(39.5, 1, -1))
    assert smooth[0].get_xdata()[[0, -1]].tolist() == [2, 40]
    assert "best: cosine t1" in words(ax)
    many = result_of([[i] for i in range(12)], [{"peak": i + 1.0} for i in range(12)])
    assert words(drawn(many)) == ["best: t0"]


def test_a_second_setting_is_a_colour():
    settings = [{"peak": p, "warmup": w} for w in (0, 10) for p in (0.1, 0.2, 0.3)]
    ax = drawn(result_of([[i] for i in range(6)], settings), "peak")
    assert words(ax) == ["warmup=0", "warmup=10"]
    assert ax.get_xscale() == "linear"


def test_a_heat_map_has_numbers_and_one_bad_trial_does_not_take_its_colours():
    settings = [{"peak": p, "warmup": w} for w in (0, 10) for p in (0.1, 0.2, 0.3)]
    scores = [[0.5], [0.3], [0.4], [0.45], [1e6], [NAN]]
    ax = drawn(result_of(scores, settings), "peak", "warmup")
    assert words(ax) == ["0.3", "0.4", "0.45", "0.5", "1e+06", CROSS]
    colours = ax.figure.axes[1]
    assert colours.get_ylim() == pytest.approx((0.3, 0.75))  # three times from best to median
    frames = [patch for patch in ax.patches if not patch.get_fill()]
    assert [patch.get_xy() for patch in frames] == [pytest.approx((0.53, -0.47))]
    fills = {str(patch.get_facecolor()) for patch in ax.patches if patch.get_fill()}
    assert len(fills) == 6
    assert ax.get_title(loc="right") == f"{CROSS} diverged"


@pytest.mark.parametrize(
    ("values", "scale"),
    [
        ((0.01, 0.1, 1), "log"),
        ((0.1, 0.2, 0.3), "linear"),
        ((0.1, 0.2, 0.4), "log"),
        ((0, 10, 100, 1000), ["0", "10", "100", "1e+03"]),
        ((0.01, 0.1, 1, 1e30), ["0.01", "0.1", "1", "1e+30"]),
        (("a", "b"), ["a", "b"]),
    ],
)
def test_an_axis_is_as_its_setting_is_spaced(values, scale):
    ax = drawn(result_of([[1]] * len(values), [{"peak": value} for value in values]), "peak")
    if isinstance(scale, str):
        assert ax.get_xscale() == scale
    else:
        assert [label.get_text() for label in ax.get_xticklabels()] == scale


def test_the_trials_that_have_a_setting_are_drawn():
    settings = [{"peak": 1}, {"peak": 2, "warmup": 0}, {"peak": 3, "warmup": 5}]
    ax = drawn(result_of([[1], [2], [3]], settings), "warmup")
    assert {x for line in ax.lines for x in line.get_xdata()} == {0, 5}
    with pytest.raises(
        ValueError, match=r"must name a setting of a trial \(peak, warmup\), got 'p'"
    ):
        result_of([[1], [2], [3]], settings).plot("p")
    with pytest.raises(ValueError, match="must be settings of one trial"):
        result_of([[1], [2]], [{"a": 1}, {"b": 2}]).plot("a", "b")


def test_draws_over_two_settings_are_points():
    settings = [{"peak": 1.5**i, "warmup": (7 * i) % 11} for i in range(10)]
    ax = drawn(result_of([[i] for i in range(10)], settings), "peak", "warmup")
    assert len(ax.collections[0].get_offsets()) == 10
    assert ax.get_xscale() == "log"


ODD = [{"peak": p, "w": w} for p, w in ((0.1, [1, 2]), (True, None), (np.inf, "$x_1$\n"))]


@pytest.mark.parametrize(
    ("scores", "settings"),
    [
        ([[3e38, 3e38], [1, 2], [3e38, 3e38]], None),
        ([[0, 0]] * 3, None),
        ([[-5, 1e-30], [0, 3], [-1e30, 1]], None),
        ([[1, NAN], [NAN, NAN], [1, 2]], None),
        ([[1, 2], [3, 4], [5, 6]], ODD),
    ],
)
def test_whatever_was_found_can_be_said_and_drawn(scores, settings):
    result = result_of(scores, settings, kinds=["a", "a", "b"])
    loss = np.full((3, 1, 2, 10), NAN, np.float32)
    loss[:2, ..., :4] = 3e38
    result = dataclasses.replace(result, train={"loss": loss})
    for call in (result.summary, result.table, result.compare, result.to_csv, result.to_json):
        assert str(call())
    for names in ((), ("peak", "w") if settings else ("peak",)):
        drawn(result, *names)


def test_plots_of_words_and_of_nothing_finite():
    settings = [{"shape": "$linear"}, {"shape": "cosine"}]
    for scores in ([[1], [2]], [[NAN], [NAN]]):
        for names in ((), ("shape",), ("shape", "shape")):
            drawn(result_of(scores, settings), *names)
    with pytest.raises(ValueError, match=r"plot\(\*names\) must name a setting"):
        result_of([[1]]).plot("warmth")
    with pytest.raises(ValueError, match="at most two settings"):
        result_of([[1]]).plot("peak", "peak", "peak")


def test_what_is_no_axes_is_refused_and_matplotlib_is_asked_for(monkeypatch):
    result = result_of([[1]])
    with pytest.raises(TypeError, match=r"SweepResult.plot\(ax=...\) must be axes of .*, got int"):
        result.plot(ax=3)
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with pytest.raises(ImportError, match=r"SweepResult\.plot needs matplotlib"):
        result.plot()


def test_what_explodes_leaves_the_axis_to_the_others():
    scores = [[0.5], [0.3], [0.4], [50.0], [0.6], [0.3], [0.5], [NAN]]
    ax = drawn(result_of(scores, [{"peak": 0.01 * 4**i} for i in range(8)]), "peak")
    assert ax.get_ylim() == pytest.approx((0.3 - 0.08 * 0.3, 0.6 + 0.08 * 0.3), abs=1e-6)
    assert ax.get_title(loc="right") == f"☆ best   {CROSS} diverged   ▲ beyond"
    accuracy = drawn(result_of([[0.94], [0.95], [0.93], [0.04]], maximize=True), "peak")
    assert accuracy.get_yscale() == "linear" and accuracy.get_ylim()[0] > 0.8
    assert "▼ beyond" in accuracy.get_title(loc="right")
    result = result_of([[0.5], [0.3], [0.4], [NAN]])
    loss = np.tile(np.linspace(1, 0.5, 40, dtype=np.float32), (4, 1, 1, 1))
    loss[3] = np.geomspace(1, 1e30, 40)
    ax = drawn(dataclasses.replace(result, train={"loss": loss}))
    assert (ax.get_yscale(), ax.get_ylim()[1] < 1.5) == ("linear", True)


@pytest.mark.parametrize(
    ("scores", "maximize", "expected"),
    [
        ([1, 2, 3], False, (False, 3)),
        ([1e-3, 1e-2, 0.1, 1], False, (True, 1)),
        ([0.5, 0.5, 0.5, 9], False, (False, 9)),
        ([-5, -4, -3, 1e6], False, (False, -3)),
        ([0.02, 0.9, 0.91, 0.92], True, (False, 0.9)),
        ([0.3, 50, NAN], False, (True, 50)),
        ([2], False, (False, 2)),
    ],
)
def test_the_axis_of_scores(scores, maximize, expected):
    assert score_axis(np.array(scores, float), maximize) == pytest.approx(expected)


def test_of_many_kinds_the_best_eight_are_named():
    scores, settings = [[i + 1] for i in range(20)], [{"peak": 1 + i % 2} for i in range(20)]
    ax = drawn(result_of(scores, settings, kinds=[f"k{i // 2}" for i in range(20)]), "peak")
    assert words(ax) == [f"k{i}" for i in range(8)]
    assert len({look[1:] for look in looks(14, False)}) == 14  # on a page in grey too
    kindless = drawn(result_of([[1], [2]], kinds=["", "a"]), "peak")
    assert words(kindless) == ["of no kind", "a"]


def test_values_that_read_alike_are_groups_of_their_own():
    settings = [{"peak": p, "x": x} for p in (1, 2) for x in (0.10001, 0.10002)]
    ax = drawn(result_of([[1], [2], [3], [NAN]], settings), "peak")
    assert words(ax) == ["x=0.10001", "x=0.10002"]


def test_marks_do_not_overlap():
    grid = [{"peak": 1.3**i, "warmup": w} for i in range(20) for w in range(20)]
    ax = drawn(result_of([[i] for i in range(400)], grid), "peak", "warmup")
    assert len(ax.get_xticks()) < 20
    shapes = [{"shape": f"a long word for a shape {i}"} for i in range(9)]
    ax = drawn(result_of([[i] for i in range(9)], shapes), "shape")
    assert {label.get_rotation() for label in ax.get_xticklabels()} == {30}
