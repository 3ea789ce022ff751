"""A share of the whole length, in every length of every recipe that knows the whole."""

from __future__ import annotations

import dataclasses
import inspect
import json
import pickle

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import ARGUMENTS, RECIPE, VALID, kind_of
from matplotlib.figure import Figure
from results_by_hand import result_of

import jaxsched as js
from jaxsched.search import load

LENGTHS = [case for case in ARGUMENTS if kind_of(*case)[0] in ("Length", "Apart", "Period")]


@pytest.mark.parametrize(("name", "argument"), LENGTHS)
def test_a_share_is_so_many_steps_of_the_whole(name, argument):
    """`steps`, or the duration of the schedule that is given; and no share where none is known."""
    recipe, whole = RECIPE[name], {}
    if "steps" in inspect.signature(recipe).parameters and name != "cooldown_from":
        whole = {"steps": 1000}
    given = {**VALID[name], **whole}
    assert recipe(**{**given, argument: js.share(0.1)}) == recipe(**{**given, argument: 100})
    if kind_of(name, "steps" if whole else "schedule")[1]:
        with pytest.raises(ValueError, match=rf"{name}\({argument}=...\).* need the whole length"):
            recipe(**{**given, "steps": None, argument: js.share(0.1)})


@pytest.mark.parametrize("name", ["with_warmup", "cooldown_from"])
def test_an_open_ended_schedule_has_no_shares(name):
    lengths = {n: js.share(0.1) for n in ("warmup", "at", "steps") if n in VALID[name]}
    with pytest.raises(ValueError, match="need a schedule with a duration"):
        RECIPE[name](js.cosine_decay(1.0, 10) >> js.Constant(0.1), **lengths)


def test_milestones_may_be_shares():
    half, most = js.share(0.5), js.share(0.75)
    assert js.multi_step(0.1, 0.1, [half, most], steps=200) == js.multi_step(
        0.1, 0.1, [100, 150], steps=200
    )
    assert js.boundaries(js.piecewise_constant([half], [1.0, 0.1], steps=90)) == (45,)
    with pytest.raises(ValueError, match=r"multi_step\(milestones=...\).*need the whole length"):
        js.multi_step(0.1, 0.1, [half])
    with pytest.raises(ValueError, match=r"js.share\(0.75\) = 75 steps, '75%' in a config"):
        js.multi_step(0.1, 0.1, [50, 0.75], steps=100)
    with pytest.raises(ValueError, match=r"multi_step\(milestones=...\) must be at most steps=90"):
        js.multi_step(0.1, 0.1, [50, 91], steps=90)
    value = lambda fraction: js.multi_step(1.0, 0.5, [js.share(fraction), most], 100)(49)
    values = jax.jit(jax.vmap(value))(jnp.asarray([0.4, 0.5]))
    np.testing.assert_array_equal(values, [0.5, 1.0])
    runs = js.multi_step(0.1, 0.1, [js.share(0.25), most], steps=np.array([8, 16]))
    assert list(map(js.boundaries, js.unstack(runs))) == [(2, 6), (4, 12)]
    late = js.multi_step(0.1, 0.1, [np.array([2**24 + 1, 2**24 + 3]), 2**25 + 0.5])
    assert late.boundaries[:, 0].tolist() == [2**24 + 1, 2**24 + 3]
    with pytest.raises(TypeError, match=r"piecewise_constant\(values=...\).* axes in front"):
        js.piecewise_constant([10], [np.array([0.2, 0.1]), np.array([0.1, 0.1])])
    with pytest.raises(ValueError, match=r"multi_step\(milestones=...\) must be at most steps="):
        js.multi_step(0.1, 0.1, [2, 9], steps=np.array([8, 16]))


def test_every_recipe_ends_with_the_whole_length_that_it_is_given():
    for name, recipe in RECIPE.items():
        if "steps" in inspect.signature(recipe).parameters and name != "cooldown_from":
            schedule = recipe(**{**VALID[name], "steps": 1234})
            assert schedule.duration in (1234, None), name  # None: cycles without end
            if schedule.duration is None:
                assert name in ("warm_restarts", "wsd_s")


@pytest.mark.parametrize(
    ("stages", "arithmetic"),
    [
        ((js.share(0.6), js.share(0.5)), r"share\(0.6\) \+ share\(0.5\) = 1100"),
        ((600, js.share(0.5)), r"600 \+ share\(0.5\) = 1100"),
        ((600, 500), r"600 \+ 500 = 1100"),
    ],
)
def test_stages_that_do_not_fit_are_refused_with_the_arithmetic(stages, arithmetic):
    with pytest.raises(ValueError, match=rf"wsd\(warmup=..., decay=...\).*=1000, got {arithmetic}"):
        js.wsd(0.1, 1000, *stages)
    with pytest.raises(ValueError, match=r"tri_stage\(warmup=..., hold=..., decay=...\) must fit"):
        js.tri_stage(0.1, *stages, 100, steps=1000)
    if isinstance(stages[0], js.share):  # known to be too much of whatever length
        with pytest.raises(ValueError, match=r"share\(0.5\) = 1.1 of the whole"):
            jax.eval_shape(lambda n: js.wsd(0.1, n, *stages)(0), 1000)


@pytest.mark.parametrize("steps", [11, 1001, 1003])
def test_shares_of_all_fit_although_each_is_rounded(steps):
    """Halves of 11 are 6 and 5 steps: rounding never makes the whole longer."""
    parts = [js.share(f) for f in (0.25, 0.25, 0.5)]
    assert js.tri_stage(1.0, *parts, steps=steps).duration == steps
    assert js.tri_stage(1.0, *parts, steps=steps).schedule.duration == steps
    halves = (js.share(0.5), js.share(0.5))
    assert js.wsd(1.0, steps, *halves).duration == steps
    traced = jax.jit(lambda n: js.wsd(1.0, n, *halves)(n - 1))(steps)
    assert traced == js.wsd(1.0, steps, *halves)(steps - 1) > 0


def test_half_of_an_odd_number_of_steps_is_half_in_three_phases():
    """6 of 11 steps up, the other 5 down, known or traced."""
    half = js.share(0.5)
    assert js.one_cycle(1.0, 11, half, three_phase=True).duration == 11
    assert js.boundaries(js.one_cycle(1.0, 11, half, three_phase=True)) == (6, 11)
    traced = jax.jit(lambda n: js.one_cycle(1.0, n, half, three_phase=True)(n))(11)
    assert traced == js.one_cycle(1.0, 11, half, three_phase=True)(11) == np.float32(4e-6)
    with pytest.raises(ValueError, match=r"one_cycle\(warmup=...\) must be at most half"):
        js.one_cycle(1.0, 11, 7, three_phase=True)


def test_the_whole_may_be_traced_and_then_shares_are_whole_steps_as_well():
    steps = jnp.asarray([10, 1001, 16_777_217])
    values = jax.jit(jax.vmap(lambda n: js.warmup_constant(1.0, js.share(0.3), n)(2)))(steps)
    np.testing.assert_allclose(values, [2 / 3, 2 / 300, 2 / 5_033_165], rtol=1e-6)


def test_shares_of_more_steps_than_an_int32_holds():
    half = jax.jit(lambda n, t: js.warmup_linear(1.0, n, js.share(0.5))(t))
    assert half(jnp.uint32(4_000_000_000), jnp.uint32(3_000_000_000)) == 0.5
    assert js.warmup_linear(1.0, 4_000_000_000, js.share(0.5))(3_000_000_000) == 0.5


def test_a_traced_share_is_mapped_and_has_the_gradient_of_the_plain_product():
    value = lambda fraction: js.warmup_constant(1.0, js.share(fraction), 1000)(25)
    mapped = lambda f, x: jax.jit(jax.vmap(f))(x)
    np.testing.assert_array_equal(mapped(value, jnp.asarray([0.05, 0.1])), [0.5, 0.25])
    many = js.share(jnp.asarray([0.05, 0.1]))  # a pytree: its number is a leaf
    rise = mapped(lambda share: js.warmup_constant(1.0, share, 1000)(25), many)
    np.testing.assert_array_equal(rise, [0.5, 0.25])
    # d/df 25 / (1000 f) = -25 / (1000 f^2)
    assert jax.jit(jax.grad(value))(0.1) == pytest.approx(-2.5, rel=1e-6)
    slope = jax.jit(jax.grad(lambda n: js.warmup_constant(1.0, js.share(0.1), n)(25)))
    assert slope(1000.0) == pytest.approx(-25 * 0.1 / 100**2, rel=1e-6)


def test_shares_that_are_known_are_rounded_as_units_round():
    run = js.Units(batch=1, steps=1001)
    for fraction in np.linspace(0.01, 0.99, 99):
        assert js.share(fraction).of(1001) == run.fraction(fraction)
    assert js.share(0.29).of(100) == 29  # 0.29 * 100 is 28.999999999999996
    assert js.share(0.5).of(np.asarray([3, 4])).tolist() == [2, 2]
    assert js.share(0.9).of(10**11) == 90_000_000_000  # of tokens
    assert (js.share(0.0).of(7), js.share(1).of(7)) == (0, 7)


def test_the_defaults_that_are_shares_give_the_bits_that_they_gave_as_fractions():
    lr = js.one_cycle(0.1, 1001)
    assert lr == js.Cosine(0.1 / 25, 0.1, 300) >> js.Cosine(0.1, 0.1 / 25 / 1e4, 701)
    assert js.slanted_triangular(0.1, 96) == js.slanted_triangular(0.1, 96, cut=10)
    assert js.flat_cosine(0.1, 1001) == js.flat_cosine(0.1, 1001, flat=751)
    assert js.one_cycle_momentum(1001) == js.one_cycle_momentum(1001, warmup=300)
    traced = jax.jit(lambda n: js.one_cycle(0.1, n)(jnp.arange(0, 1001, 7)))(1001)
    chex.assert_trees_all_close_ulp(traced, lr(jnp.arange(0, 1001, 7)), maxulp=2)


def test_a_share_is_a_value():
    tenth = js.share(0.1)
    assert eval(repr(tenth), vars(js)) == tenth == pickle.loads(pickle.dumps(tenth))
    assert (repr(tenth), str(tenth), str(js.share(1 / 3))) == ("share(0.1)", "10%", "33.3333%")
    assert {tenth, js.share(0.1)} == {tenth} and tenth != js.share(0.2) and tenth != 0.1
    assert sorted([js.share(0.3), tenth]) == [tenth, js.share(0.3)] and float(tenth) == 0.1
    assert js.to_dict(tenth) == {"jaxsched": 1, "type": "share", "fraction": 0.1}
    assert js.from_json(js.to_json(tenth)) == tenth
    assert js.from_dict({"jaxsched": 1, "type": "share", "fraction": "10%"}) == tenth
    assert jax.tree.leaves(tenth) == [0.1]


@pytest.mark.parametrize("value", [-0.1, 1.1, float("nan"), "10%", True, None, [0.1], js.share(1)])
def test_what_is_no_share_is_refused(value):
    with pytest.raises((TypeError, ValueError), match=r"^share\(fraction=...\) must "):
        js.share(value)


@pytest.mark.parametrize("steps", ["100", None, True, -1, float("nan"), js.share(0.1), [1, 2]])
def test_what_has_no_shares_is_refused(steps):
    with pytest.raises((TypeError, ValueError), match=r"^share.of\(steps=...\) must be .*, got "):
        js.share(0.1).of(steps)


@pytest.mark.parametrize(
    "call", [lambda s: js.Linear(0.0, s, 10), lambda s: js.Linear(0.0, 1.0, s), js.Constant]
)
def test_pieces_take_no_shares_and_lengths_of_less_than_a_step(call):
    with pytest.raises(TypeError, match=r"must be a number, got share\(0.1\)"):
        call(js.share(0.1))
    assert js.Linear(0.0, 1.0, 0.5).duration == 0.5


# ------------------------------------------------------------------------------------ in a sweep


def test_shares_are_settings_of_a_sweep(tmp_path):
    """Names and tables say 10%; on an axis a share stands at its fraction; files hold data."""
    shares = [js.share(f) for f in (0.0, 0.1, 0.2)]
    kinds = [js.warmup_cosine, js.warmup_constant]
    trials = js.grid(kinds, peak=0.1, steps=100, warmup=shares)
    assert [t.name for t in trials[:3]] == [f"warmup_cosine warmup={n}%" for n in (0, 10, 20)]
    assert trials[1].schedule == js.warmup_cosine(0.1, 100, 10)
    assert trials[4].schedule == js.warmup_constant(0.1, 10, 100)

    result = result_of([[0.3], [0.1], [0.2]], settings=[dict(warmup=s) for s in shares])
    assert result.edges() == {} and "inside the range" in result.summary()
    assert "10%" in str(result.table()) and ",10%," in result.to_csv()
    assert result.rows()[1]["warmup"] == js.share(0.1)
    result.save(tmp_path / "r.npz")
    again = load(tmp_path / "r.npz")
    assert [t.settings["warmup"] for t in again.trials] == shares
    assert json.loads(result.to_json())[1]["warmup"] == js.to_dict(js.share(0.1))
    ax = result.plot("warmup", ax=Figure().subplots())
    drawn = ax.containers[0].lines[0].get_xdata()
    np.testing.assert_allclose(sorted(drawn), [0.0, 0.1, 0.2])

    for scores, edges in (
        ([[0.1], [0.2], [0.3]], {}),
        ([[0.3], [0.2], [0.1]], {"warmup": "highest"}),
    ):
        assert result_of(scores, settings=[dict(warmup=s) for s in shares]).edges() == edges
    whole = [js.share(0.5), js.share(1.0)]
    assert result_of([[0.2], [0.1]], settings=[dict(warmup=s) for s in whole]).edges() == {}


def test_shares_and_steps_are_not_of_one_range():
    mixed = [{"warmup": w} for w in (js.share(0.5), 3, js.share(0.1), 9)]
    assert result_of([[1], [2], [3], [4]], mixed).edges() == {"warmup": "highest"}  # of 10 and 50 %
    result = result_of([[1.0, 1.4], [1.1, 1.5], [1.1, 1.5], [1.1, 1.5]], mixed)
    assert result.best(prefer="warmup").index == 2  # 10 % of 10 updates
    info = dataclasses.replace(result.info, updates_per_step=4)
    assert dataclasses.replace(result, info=info).best(prefer="warmup").index == 1  # of 40
    ax = result.plot("warmup", ax=Figure().subplots())
    assert [label.get_text() for label in ax.get_xticklabels()] == ["50%", "3", "10%", "9"]


def test_a_warmup_that_rounds_to_0_is_refused_where_it_is_divided_by():
    tiny = js.share(0.001)
    for name, make in {
        "inverse_sqrt": lambda: js.inverse_sqrt(0.1, tiny, steps=100),
        "noam": lambda: js.noam(512, tiny, steps=100),
    }.items():
        with pytest.raises(ValueError, match=rf"^{name}\(warmup=...\) .* got 0 of 100 .* 0.005"):
            make()
    assert js.inverse_sqrt(0.1, tiny, timescale=10, steps=100).duration == 100
