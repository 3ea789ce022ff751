"""Pictures: the data and the axes are asserted, never the pixels."""

from __future__ import annotations

import functools
from xml.etree import ElementTree

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import ALL
from children import Child

import jaxsched as js
from jaxsched._plot import plot
from jaxsched.controllers import Plateau
from jaxsched.schedules._picture import picture as svg

UNNAMED = lambda step: 1.0 / (1 + step)
SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture
def ax():
    return pytest.importorskip("matplotlib.figure").Figure().add_subplot()


def curves(ax):
    """The curves on the axes, without the boundary marks (which have two points on one step)."""
    return [line for line in ax.lines if len(set(line.get_xdata())) > 1]


def marks(ax):
    return [line.get_xdata()[0] for line in ax.lines if len(set(line.get_xdata())) == 1]


def family(members=3):
    recipe = functools.partial(js.warmup_cosine, steps=100, warmup=10)
    return jax.vmap(recipe)(peak=jnp.linspace(0.1, 0.3, members))


def test_the_curve_is_what_training_applies(ax):
    schedule = js.wsd(0.1, 100, warmup=10, decay=20)
    assert plot(schedule, ax=ax) is ax
    (line,) = curves(ax)
    np.testing.assert_array_equal(np.arange(101), line.get_xdata())
    np.testing.assert_array_equal(js.sample(schedule, 101), line.get_ydata())
    assert marks(ax) == [10, 80]
    assert ax.get_xlabel() == "step (optimizer update)"
    assert ax.get_ylabel() == "value"
    assert ax.get_title() == "Linear(0, 0.1, 10) >> Constant(0.1, 70) >> Linear(0.1, 0, 20)"


def test_a_population_is_a_family_of_colors(ax):
    population = family()
    plot(population, ax=ax)
    lines = curves(ax)
    np.testing.assert_array_equal(
        js.sample(population, 101), np.stack([line.get_ydata() for line in lines])
    )
    assert [line.get_label() for line in lines] == ["0.1", "0.2", "0.3"]
    assert len({tuple(line.get_color()) for line in lines}) == 3
    brightness = [sum(line.get_color()[:3]) for line in lines]
    assert brightness == sorted(brightness)
    assert marks(ax) == [10]


def test_only_shared_boundaries_of_a_family_are_marked(ax):
    warmups = jnp.asarray([10, 20])
    population = jax.vmap(lambda w: js.wsd(1.0, 100, w, 20))(warmups)
    plot(population, ax=ax)
    assert marks(ax) == [80]


def test_a_large_family_has_one_entry_in_the_legend(ax):
    plot(family(30), js.Linear(1.0, 0.0, 10), ax=ax)
    texts = [text.get_text() for text in ax.get_legend().get_texts()]
    assert texts == ["Linear(0, 0.1..0.3, 10) >> Cosine(0.1..0.3, 0, 90)", "Linear(1, 0, 10)"]


@pytest.mark.parametrize(
    ("schedule", "last"),
    [
        (js.Linear(1.0, 0.0, 40), 40),
        (js.Constant(1.0), 100),
        (js.inverse_sqrt(1.0, 100), 900),
        (js.Exponential(1.0, -0.1), 40),
        (js.step_decay(1.0, 0.5, 10), 58),
        (js.Repeat(js.Linear(1.0, 0.0, 10)), 39),
        (js.Repeat(js.Linear(1.0, 0.0, 10), growth=2.0), 69),
        (js.wsd(1.0, None, 50), 100),
        (js.Shift(js.InverseTime(1.0, 10), 20), 100),
        (js.Stretch(js.InverseTime(1.0, 10), 2.0), 160),
        (js.minimum(js.InverseTime(1.0, 10), 0.5), 80),
        (js.Linear(1.0, 0.0, 0), 100),
        (js.multi_step(1.0, 0.1, [10, 30]), 50),
        (js.with_warmup(js.Epochwise(js.PiecewiseConstant([4], [1.0, 0.1]), 10), 5), 85),
    ],
)
def test_the_range_shows_what_a_schedule_does(ax, schedule, last):
    (line, *_) = plot(schedule, ax=ax).lines
    assert line.get_xdata()[-1] == last


def test_given_steps_and_the_longest_of_several(ax):
    plot(js.Linear(1.0, 0.0, 40), js.Cosine(1.0, 0.0, 70), ax=ax)
    assert [line.get_xdata()[-1] for line in curves(ax)] == [70, 70]
    assert plot(js.Linear(1.0, 0.0, 40), steps=5, ax=ax).lines[-1].get_xdata()[-1] == 5


def test_long_schedules_are_thinned_and_jumps_stay_jumps(ax):
    schedule = js.multi_step(1.0, 0.1, [333_333, 777_777], steps=1_000_000)
    (line,) = curves(plot(schedule, ax=ax))
    at, values = line.get_xdata(), line.get_ydata()
    assert len(at) < 2100
    assert at[-1] == 1_000_000
    assert np.all(np.diff(at) > 0)
    for edge in (333_333, 777_777):
        index = int(np.searchsorted(at, edge))
        assert at[index - 1 : index + 2].tolist() == [edge - 1, edge, edge + 1]
    np.testing.assert_array_equal(np.asarray(schedule(at)), values)


@pytest.mark.parametrize("name", sorted(ALL))
def test_every_schedule_can_be_drawn(ax, name):
    (line, *_) = plot(ALL[name], ax=ax).lines
    assert np.all(np.isfinite(line.get_ydata()))
    assert 2 <= len(line.get_xdata()) <= 5001
    ElementTree.fromstring(svg(ALL[name]))


def test_thousands_of_boundaries_are_not_marked(ax):
    table = js.PiecewiseConstant(range(1, 1000), np.linspace(1.0, 0.0, 1000, dtype=np.float32))
    assert marks(plot(table, ax=ax)) == []
    assert marks(plot(js.wsd(1.0, 100, 10, 20), ax=ax, phases=False)) == []


def test_labels_styles_and_the_log_axis(ax):
    plot(js.Linear(1.0, 0.0, 10), family(), labels=["line", "family"], log=True, ax=ax, lw=3)
    assert [t.get_text() for t in ax.get_legend().get_texts()] == ["line", "family"]
    assert {line.get_linewidth() for line in curves(ax)} == {3}
    assert ax.get_yscale() == "log"


def test_a_label_for_each_curve(ax):
    plot(family(), labels=["a", "b", "c"], ax=ax)
    assert [line.get_label() for line in curves(ax)] == ["a", "b", "c"]


def test_what_the_user_wrote_on_the_axes_stays(ax):
    ax.set(xlabel="update", ylabel="learning rate", title="mine")
    plot(js.Constant(1.0), ax=ax)
    assert (ax.get_xlabel(), ax.get_ylabel(), ax.get_title()) == ("update", "learning rate", "mine")


def test_one_schedule_takes_a_label_as_matplotlib_does(ax):
    plot(family(), label="three", ax=ax)
    assert [line.get_label() for line in curves(ax)] == ["three", "_member", "_member"]


def test_a_second_call_makes_the_title_a_legend(ax):
    plot(js.Constant(1.0), ax=ax)
    assert ax.get_title() == "Constant(1)"
    plot(js.Constant(2.0), ax=ax)
    assert ax.get_title() == ""
    assert [t.get_text() for t in ax.get_legend().get_texts()] == ["Constant(1)", "Constant(2)"]


def test_a_list_counts_as_its_members_and_one_array_makes_a_family(ax):
    plot([js.Constant(1.0), js.Constant(2.0)], js.cosine_decay(np.float32([0.1, 0.2]), 100), ax=ax)
    assert len(ax.lines) == 4


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda ax: plot(ax=ax), ValueError, "at least one schedule"),
        (lambda ax: plot(lambda step: step, ax=ax), TypeError, "js.from_fn"),
        (lambda ax: plot([js.Constant(1.0), 2.0], ax=ax), TypeError, "must be a schedule, got 2"),
        (lambda ax: plot({"a": js.Constant(1.0)}, ax=ax), TypeError, r"labels=\[\*them\]"),
        (lambda ax: plot(js.Constant(1.0), labels=["a", "b"], ax=ax), ValueError, "have 1 texts"),
        (lambda ax: plot(family(), labels=["a", "b"], ax=ax), ValueError, "have 1 or 3 texts"),
        (lambda ax: plot(js.Constant(1.0), steps=0, ax=ax), ValueError, r"plot\(steps=\.\.\.\)"),
        (lambda ax: plot(js.Constant(1.0), steps=2.5, ax=ax), ValueError, r"plot\(steps=\.\.\.\)"),
        (lambda ax: plot(Plateau(0.1), ax=ax), TypeError, "got Plateau.*: give its base"),
        (lambda ax: plot(js.grid(js.constant, peak=[1.0]), ax=ax), TypeError, "`trial.schedule`"),
        (lambda ax: plot(family(), labels=3, ax=ax), TypeError, r"labels=...\) must be a list"),
        (
            lambda ax: plot([js.Constant(1.0)] * 2, label=["a", "b"], ax=ax),
            TypeError,
            r"label=...\) must be .* for 2: give `labels=",
        ),
        (lambda ax: plot(family(), ax=ax.figure), TypeError, "axes of matplotlib, got Figure"),
        (lambda ax: plot(family(), ax=ax, cmap="no"), ValueError, r"cmap=...\) must be the name"),
        (
            lambda ax: jax.jit(lambda x: plot(js.Constant(x), ax=ax))(1.0),
            TypeError,
            "known numbers",
        ),
    ],
)
def test_errors_say_what_to_do(ax, call, error, words):
    with pytest.raises(error, match=words):
        call(ax)


def test_without_matplotlib_there_is_a_sentence_and_the_svg():
    code = """
import sys
sys.modules["matplotlib"] = None
import jaxsched as js
print(len(js.Constant(1.0)._repr_html_()) > 100)
try:
    js.plot(js.Constant(1.0))
except ImportError as error:
    print(error)
"""
    _, out, errors = Child(code).ended()
    message = "js.plot needs matplotlib, which is not installed: pip install jaxsched[plot]"
    assert out.splitlines() == ["True", message], errors


def test_given_axes_need_no_pyplot_and_a_notebook_no_matplotlib():
    code = """
import sys
import jaxsched as js
js.wsd(1.0, 100, 10, 20)._repr_html_()
print("matplotlib" in sys.modules)
from matplotlib.figure import Figure
js.plot(js.Constant(1.0), js.stack([js.Constant(1.0)] * 3), ax=Figure().add_subplot())
print("matplotlib.pyplot" in sys.modules)
"""
    _, out, errors = Child(code).ended()
    assert out.split() == ["False", "False"], errors


def test_without_axes_a_figure_is_made_and_not_shown(monkeypatch):
    pyplot = pytest.importorskip("matplotlib.pyplot")
    monkeypatch.setattr(pyplot, "show", lambda: pytest.fail("shown"))
    pyplot.switch_backend("Agg")
    ax = js.plot(js.Constant(1.0))
    assert pyplot.gcf() is ax.figure
    pyplot.close(ax.figure)


def test_the_svg_is_well_formed_and_escaped():
    schedule = js.from_fn(UNNAMED)
    assert "<lambda>" in repr(schedule)
    root = ElementTree.fromstring(svg(schedule))
    assert root.tag == SVG + "svg"
    assert root.find(SVG + "title").text == repr(schedule)
    assert "<lambda>" in next(root.iter(SVG + "text")).text
    assert len(list(root.iter(SVG + "polyline"))) == 1


def test_the_svg_of_a_population_and_of_traced_numbers():
    picture = family(3)._repr_html_()
    assert picture == svg(family(3))
    lines = list(ElementTree.fromstring(picture).iter(SVG + "polyline"))
    assert len({line.get("stroke") for line in lines}) == 3
    assert len(list(ElementTree.fromstring(svg(family(500))).iter(SVG + "polyline"))) == 50
    seen = []
    jax.jit(lambda x: seen.append(svg(js.Constant(x))))(1.0)
    root = ElementTree.fromstring(seen[0])
    assert not list(root.iter(SVG + "polyline"))
    assert next(root.iter(SVG + "text")).text == "Constant(?)"


@pytest.mark.parametrize("name", sorted(ALL))
def test_the_svg_stays_small_and_inside_its_box(name):
    picture = svg(ALL[name])
    assert len(picture) < 20_000
    assert picture.count("http") == 1  # the namespace: nothing is fetched
    root = ElementTree.fromstring(picture)
    for line in root.iter(SVG + "polyline"):
        points = np.array([p.split(",") for p in line.get("points").split()], float)
        assert np.all((points >= 0) & (points <= [300, 90]))


def test_a_value_beyond_float32_is_infinite_without_a_warning():
    """On the host as in a program; its picture shows the rest."""
    large = js.Constant(1e30) * js.Linear(1e30, 0.0, 10)
    steps = np.asarray([0, 9, 10])
    for values in (large(steps), js.sample(large, 11)[steps], jax.jit(large)(steps)):
        assert np.asarray(values).tolist() == [np.inf, np.inf, 0.0]
    assert "nan" not in large._repr_html_()
    assert "nan" not in (js.Constant(1e30) * js.Constant(1e30))._repr_html_()
