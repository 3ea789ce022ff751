"""The range test: a pure run with a mask; an answer inside the range, or the reason why not."""

from __future__ import annotations

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from matplotlib.figure import Figure
from range_tasks import Bowl, Scripted, assert_sound, bowl

import jaxsched as js
from jaxsched.search import suggest
from jaxsched.search.range_tests._result import RangeTest
from jaxsched.search.range_tests._run import range_test


@functools.partial(jax.tree_util.register_dataclass, data_fields=["which"], meta_fields=[])
@dataclasses.dataclass(frozen=True)
class Hopeless(Scripted):
    """One of the losses below that no rate brings down; one program for all of them."""

    which: int

    def loss(self, rate, z):
        losses = [lambda rate, z, loss=loss: jnp.float32(loss(rate, z)) for _, loss, _ in NOTHING]
        return jax.lax.switch(self.which, losses, rate, z)


# ------------------------------------------------------------------------------ the answer is right


@pytest.mark.parametrize("noise", [0.0, 0.1])
@pytest.mark.parametrize("condition", [1.0, 10.0, 1000.0])
@pytest.mark.parametrize("largest", [0.5, 100.0])
def test_below_the_known_limit_of_a_quadratic(largest, condition, noise):
    """Gradient descent is stable below 2/L: from 2/(100 L) to 2/L."""
    task = bowl(largest, condition, noise=noise)
    limit = 2 / largest
    for kind in ("decay", "constant"):
        found = range_test(task, schedule=kind)
        assert_sound(found)
        assert limit / 100 < found.peak < limit


@pytest.mark.parametrize("steps", [100, 500, 1500])
@pytest.mark.parametrize("noise", [0.0, 0.1])
def test_below_the_limit_at_every_speed_of_the_ramp(steps, noise):
    for momentum, limit in ((0.0, 2 / 5), (0.9, 2 * 1.9 / 5)):
        found = range_test(bowl(noise=noise, momentum=momentum), steps=steps)
        assert limit / 100 < found.peak < limit


def test_divisors():
    """Ends near zero: the lowest over 3; constant: over 7; the same curves."""
    by_kind = {kind: range_test(bowl(noise=0.1), schedule=kind) for kind in ("decay", "constant")}
    decay, constant = by_kind["decay"], by_kind["constant"]
    np.testing.assert_array_equal(decay.smooth, constant.smooth)
    assert decay.peak / constant.peak == pytest.approx(7 / 3)
    assert (decay.end, decay.ratio, decay.start) == (0.0, 0.0, decay.peak)
    assert (constant.end, constant.ratio) == (constant.peak, 1.0)


def test_median_over_seeds_with_its_spread():
    found = range_test(bowl(noise=0.1))
    assert found.peak == pytest.approx(np.exp(np.median(np.log(found.picks))))
    logs = np.log(found.picks)
    assert found.spread == pytest.approx(math.exp(np.std(logs, ddof=1)))
    factor = found.interval[1] / found.peak
    assert factor == pytest.approx(found.peak / found.interval[0])
    assert 2.0 < factor < 2.5
    single = range_test(bowl(noise=0.1), seeds=1)
    assert single.interval[1] / single.peak > factor  # one seed says less
    assert single.spread == 1.0


def test_pick_is_the_middle_of_a_symmetric_bottom_over_three():
    """A parabola in the log of the rate: smoothing shifts it by its lag, 9 steps of the ramp."""
    parabola = Scripted(lambda rate, _: 1.0 + (jnp.log10(rate) + 2.0) ** 2)
    found = range_test(parabola, start=1e-4, end=1.0, steps=400)
    lag = 9 * 4 / 399  # decades
    assert found.peak * 3 == pytest.approx(10 ** (-2 + lag), rel=0.02)


def test_a_shift_of_the_loss_changes_nothing():
    """A loss near or below zero has no "4 times the best"."""
    base = range_test(bowl(noise=0.1))
    for shift in (-5.0, -1.0, 5.0):
        found = range_test(bowl(noise=0.1, shift=shift))
        assert_sound(found)
        assert found.peak == pytest.approx(base.peak, rel=0.05)


def test_still_falling():
    found = range_test(Scripted(lambda rate, _: 2.0 - rate), start=0.01, end=1.0)
    assert_sound(found)
    assert found.still_falling and found.stable_is_bound
    assert "still falling" in repr(found) and "or more" in repr(found)


@pytest.mark.parametrize("height", [30.0, 1e4])
def test_odd_batches_do_not_end_it(height):
    """One batch of two hundred, the very first one too, has many times the loss of the others."""

    def loss(rate, z):
        return jnp.where((z > 2.6) | (rate < 1.05e-7), height, 1.0) * (2.0 - jnp.tanh(50 * rate))

    found = range_test(Scripted(loss), end=1.0, seeds=8)
    assert found.diverged_at == (None,) * 8
    assert_sound(found)


# --------------------------------------------------------------------- or there is a reason why not

NOTHING = [
    ("flat", lambda rate, z: 1.0, {}),
    ("flat", lambda rate, z: 0.0, {}),
    ("flat", lambda rate, z: 3.0 + 0.03 * z, {}),
    ("noise", lambda rate, z: 1.0 + z, {}),
    ("noise", lambda rate, z: z, {}),
    ("noise", lambda rate, z: 3.0 + 0.5 * z, {}),
    ("noise", lambda rate, z: z**2, {}),  # heavy tails
    ("noise", lambda rate, z: jnp.exp(2 * z), {}),
    ("noise", lambda rate, z: z / jnp.abs(jnp.cos(17 * z)), {}),  # like Cauchy's
    ("noise", lambda rate, z: z, {"seeds": 1}),
    ("diverged at once", lambda rate, z: jnp.nan + rate, {}),
    ("diverged at once", lambda rate, z: jnp.inf + rate, {}),
    ("diverged at once", lambda rate, z: jnp.where(rate > 2e-7, jnp.nan, 1.0), {}),
    ("diverged at once", lambda rate, z: jnp.where(rate > 1e-7, 50.0, 1.0), {}),
    ("no descent", lambda rate, z: 1.0 + rate + 0.01 * z, {}),
    ("no descent", lambda rate, z: 1.0 + rate**2, {}),
]


@pytest.mark.parametrize("which", range(len(NOTHING)))
def test_no_peak_and_the_reason(which):
    reason, _, more = NOTHING[which]
    found = range_test(Hopeless(which), **more)
    assert found.peak is None
    assert found.reason.startswith(reason + ":"), found.reason
    assert found.reason in repr(found)
    if reason == "noise" and "differ" not in found.reason:
        assert "or a larger end" in found.reason and "or a smaller start" in found.reason
    assert found.schedule is None
    with pytest.raises(ValueError, match="must have a peak"):
        found.confirm()
    assert_sound(found)


def test_a_real_task_that_starts_far_too_high_diverges_at_once():
    found = range_test(bowl(), start=1.0, end=100.0)
    assert found.peak is None
    assert found.reason.startswith("diverged at once:")
    assert_sound(found)


RECIPE = functools.partial(js.warmup_cosine, steps=100, warmup=10, end=0.0)


# ------------------------------------------------------------------------ what each rule would pick


def test_suggestions_are_the_rules_on_each_curve():
    found = range_test(bowl(noise=0.1))
    picks = found.suggestions()
    assert set(picks) == set(suggest.RULES)
    n = len(found.rates)
    for name, rule in suggest.RULES.items():
        rows = [
            float(rule(found.rates, smooth, suggest.window(smooth, n // 10, 5) & kept))
            for smooth, kept in zip(found.smooth, found.kept, strict=True)
        ]
        assert picks[name] == pytest.approx(np.exp(np.median(np.log(rows))), rel=1e-5)


# ------------------------------------------------------------------------------------ looking at it


def test_plot_returns_its_axes():
    found = range_test(bowl(noise=0.1, bad_seed=2))
    ax = Figure().add_subplot()
    assert found.plot(ax, rules=True) is ax
    assert ax.get_xscale() == "log"
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("learning rate", "training loss, smoothed")
    texts = [text.get_text() for text in ax.get_legend().get_texts()]
    assert [text.split()[0] for text in texts] == [
        *("loss,", "peak", "stable"),
        *("minimum", "steepest", "valley", "slide"),
    ]
    for line in ax.lines:
        assert np.all(np.isfinite(np.asarray(line.get_ydata(), np.float64)))


@pytest.mark.parametrize("which", range(0, len(NOTHING), 5))
def test_plot_of_nothing_says_so(which):
    ax = Figure().add_subplot()
    found = range_test(Hopeless(which))
    found.plot(ax, rules=True)
    assert ax.get_title() == "no suggestion: " + found.reason.split(":")[0]
    with pytest.raises(TypeError, match=r"RangeTest.plot\(ax=...\) must be axes of matplotlib"):
        found.plot([ax])


def test_repr_is_a_readable_answer():
    found = range_test(bowl(noise=0.1), schedule=RECIPE)
    assert isinstance(found, RangeTest)
    text = repr(found)
    assert text.startswith("RangeTest: peak 0.0") and len(text.splitlines()) == 2
    for word in ("end 0", "stable up to", "4 of 4 seeds", "confirm with"):
        assert word in text
    assert max(map(len, text.splitlines())) <= 120
    with pytest.raises(TypeError, match=r"peak, such as .*, got wsd: .*steps"):
        range_test(bowl(), schedule=js.wsd)
    single = repr(range_test(bowl(noise=0.1), seeds=1))
    assert "1 of 1 seeds; confirm" in single and "vary" not in single


# ------------------------------------------------------------------ bad input, before any long work

BAD = [
    ({"start": 0.0}, ValueError, r"range_test\(start=\.\.\.\) must be at least 1e-30, got 0\.0"),
    ({"start": math.nan}, ValueError, r"range_test\(start=\.\.\.\) must be finite"),
    ({"start": "1e-3"}, TypeError, r"range_test\(start=\.\.\.\) must be a number"),
    ({"end": 1e-9}, ValueError, r"range_test\(end=\.\.\.\) must be greater than 1e-07, got 1e-09"),
    ({"end": math.inf}, ValueError, r"range_test\(end=\.\.\.\) must be finite"),
    ({"steps": 29}, ValueError, r"range_test\(steps=\.\.\.\) must be a whole .* least 30, got 29"),
    ({"steps": 99.5}, ValueError, "a whole number of at least 30, got 99.5"),
    ({"seeds": 0}, ValueError, r"range_test\(seeds=\.\.\.\) must .* of at least 1, .*got 0"),
    ({"seeds": []}, ValueError, r"range_test\(seeds=\.\.\.\).*at least one, got \[\]"),
    ({"seeds": [1, 1]}, ValueError, "must be different whole numbers"),
    ({"seeds": [-1]}, ValueError, r"range_test\(seeds=\.\.\.\) must .* got -1"),
    ({"seeds": 1.5}, ValueError, r"range_test\(seeds=\.\.\.\)"),
    ({"seeds": None}, TypeError, r"range_test\(seeds=\.\.\.\) must .* several different ones"),
    ({"seeds": True}, TypeError, r"range_test\(seeds=\.\.\.\)"),
    ({"ramp": "cubic"}, ValueError, r"range_test\(ramp=\.\.\.\).*got 'cubic'"),
    ({"smoothing": 1.0}, ValueError, r"range_test\(smoothing=\.\.\.\) must be less than 1"),
    ({"width": 5}, ValueError, r"range_test\(width=\.\.\.\) must .* from 1 to 4, got 5"),
    ({"width": 1.5}, ValueError, "a whole number from 1 to 4, got 1.5"),
    ({"name": ""}, TypeError, r"range_test\(name=\.\.\.\)"),
    ({"hyperparams": [1]}, TypeError, r"range_test\(hyperparams=\.\.\.\) must be a dict"),
    ({"hyperparams": {"learning_rate": 1}}, ValueError, r"range_test\(hyperparams=\.\.\.\)"),
    ({"hyperparams": {"b": "x"}}, TypeError, r"range_test\(hyperparams=\{'b': \.\.\.\}\)"),
    ({"schedule": "zigzag"}, ValueError, r"range_test\(schedule=\.\.\.\).*got 'zigzag'"),
    ({"schedule": 3.0}, TypeError, r"range_test\(schedule=\.\.\.\).*got 3\.0"),
    ({"schedule": js.Cosine}, TypeError, r"range_test\(schedule=\.\.\.\) must be a schedule"),
    ({"schedule": js.cosine_decay}, TypeError, r"only lacks its peak.*steps"),
    ({"schedule": lambda peak: peak}, TypeError, r"must return a schedule, got 1\.0"),
    ({"schedule": js.inverse_sqrt(1.0, 10)}, ValueError, r"must end somewhere.*js\.Window"),
    ({"schedule": js.Constant(0.0)}, ValueError, r"must be a rate: positive"),
    ({"schedule": js.Linear(1.0, -1.0, 10)}, ValueError, r"must be a rate: .*nowhere negative"),
    ({"schedule": js.stack([js.Constant(1.0)] * 2)}, ValueError, r"population of 2"),
    ({"state": {"w": 1.0}}, TypeError, r"range_test\(state=\.\.\.\) must be a state of this task"),
]


@pytest.mark.parametrize(("arguments", "error", "message"), BAD)
def test_bad_arguments(arguments, error, message):
    with pytest.raises(error, match=message):
        range_test(bowl(), **arguments)


class Changes(Scripted):
    def step(self, state, hyperparams, batch):
        return {**state, "sum": jnp.zeros(2)}, {"loss": jnp.zeros(())}


class NoLoss(Scripted):
    def step(self, state, hyperparams, batch):
        return state, {"accuracy": jnp.zeros(())}


class NotScalar(Scripted):
    def step(self, state, hyperparams, batch):
        return state, {"loss": jnp.zeros(3)}


@pytest.mark.parametrize(
    ("task", "error"),
    [
        (Changes(None), TypeError),
        (NoLoss(None), ValueError),
        (NotScalar(None), TypeError),
        (object(), TypeError),
        (Bowl, TypeError),
    ],
)
def test_bad_tasks(task, error):
    with pytest.raises(error, match=r"range_test\(task=\.\.\.\)"):
        range_test(task)
