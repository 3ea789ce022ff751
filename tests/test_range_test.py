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

import jaxsched as js
from jaxsched.controllers import Plateau, Trigger
from jaxsched.search import suggest
from jaxsched.search.range_tests._result import RangeTest
from jaxsched.search.range_tests._run import range_test

TRACES: list[str] = []


def drawn(seed, start, length):
    """The number of each update and a random number."""
    z = np.random.default_rng(seed).normal(size=(start + length, 1)).astype(np.float32)
    return np.arange(start, start + length, dtype=np.int32), z[start:]


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=["curvature", "noise", "shift"],
    meta_fields=["momentum", "bad_seed"],
)
@dataclasses.dataclass(frozen=True)
class Bowl:
    """A quadratic whose minimum is drawn anew for each batch."""

    curvature: jax.Array
    noise: float = 0.0
    shift: float = 0.0
    momentum: float = 0.0
    bad_seed: int = -1  # the key of which gives NaN at update 90

    def init(self, key):
        bad = jnp.all(
            jax.random.key_data(key) == jax.random.key_data(jax.random.key(self.bad_seed))
        )
        zeros = jnp.zeros(len(self.curvature))
        return {"w": jax.random.normal(key, zeros.shape), "v": zeros, "key": key, "bad": bad}

    def batches(self, seed, start, length):
        return drawn(seed, start, length)

    def step(self, state, hyperparams, batch):
        TRACES.append("step")
        i, z = batch

        def loss(w):
            return 0.5 * jnp.sum(self.curvature * (w + self.noise * z) ** 2)

        value, grad = jax.value_and_grad(loss)(state["w"])
        value = jnp.where(state["bad"] & (i >= 90), jnp.inf, value) + self.shift
        v = self.momentum * state["v"] + grad
        w = state["w"] - hyperparams["learning_rate"] * v
        return {**state, "w": w, "v": v}, {"loss": value}

    def evaluate(self, state):
        return {"loss": jnp.sum(state["w"] ** 2)}


def bowl(largest=5.0, condition=10.0, **more):
    return Bowl(jnp.float32(np.geomspace(largest / condition, largest, 10)), **more)


class Scripted:
    """A loss that is a function of the rate and a random number; there is nothing to train."""

    def __init__(self, loss):
        self.loss = loss

    def init(self, key):
        return {"sum": jnp.zeros(())}

    def batches(self, seed, start, length):
        return drawn(seed, start, length)[1][:, 0]

    def step(self, state, hyperparams, batch):
        rate = hyperparams["learning_rate"]
        return {"sum": state["sum"] + rate}, {"loss": jnp.asarray(self.loss(rate, batch))}

    def evaluate(self, state):
        return {"loss": state["sum"]}


@functools.partial(jax.tree_util.register_dataclass, data_fields=["which"], meta_fields=[])
@dataclasses.dataclass(frozen=True)
class Hopeless(Scripted):
    """One of the losses below that no rate brings down; one program for all of them."""

    which: int

    def loss(self, rate, z):
        losses = [lambda rate, z, loss=loss: jnp.float32(loss(rate, z)) for _, loss, _ in NOTHING]
        return jax.lax.switch(self.which, losses, rate, z)


def assert_sound(found):
    """What holds for every result: inside the range, no NaN, a peak or a reason."""
    low, high = found.rates[0], found.rates[-1]
    for field in dataclasses.fields(found):
        value = getattr(found, field.name)
        if isinstance(value, float | tuple | np.ndarray):
            assert np.all(np.isfinite(np.asarray(value, np.float64))), field.name
    assert (found.peak is None) == (found.reason is not None) == (found.peaks == ())
    if found.peak is not None:
        assert low <= found.interval[0] <= found.peak <= found.interval[1] <= high
        assert all(low <= peak <= high for peak in found.peaks)
        assert found.peak < found.stable <= high
        assert found.start <= found.peak and found.end <= found.peak
    for rate in found.suggestions().values():
        assert rate is None or low <= rate <= high
    assert "nan" not in repr(found)


# ------------------------------------------------------------------------- the answer is right


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


# --------------------------------------------------------------------------- the run: pure, masked


def test_losses_and_average_are_those_of_a_plain_loop():
    task, rates, seed = bowl(noise=0.1), np.geomspace(1e-3, 0.3, 60), 3
    found = range_test(task, 1e-3, 0.3, 60, seeds=[seed])
    np.testing.assert_allclose(found.rates, rates, rtol=1e-6)
    assert found.rates[0] == np.float32(1e-3) and found.rates[-1] == np.float32(0.3)
    step, state, total = jax.jit(task.step), task.init(jax.random.key(seed)), 0.0
    batches = task.batches(seed, 0, 60)
    for i, rate in enumerate(found.rates):
        state, metrics = step(state, {"learning_rate": rate}, (batches[0][i], batches[1][i]))
        total = 0.9 * total + 0.1 * float(metrics["loss"])
        assert found.losses[0, i] == pytest.approx(float(metrics["loss"]), rel=1e-5)
        assert found.smooth[0, i] == pytest.approx(total / (1 - 0.9 ** (i + 1)), rel=1e-5)
    assert found.kept.all()


def test_what_was_given_is_the_same_afterwards_and_so_is_a_second_answer():
    task = bowl()
    state = task.init(jax.random.key(7))
    state["key"] = jax.random.fold_in(state["key"], 1)

    def bits(tree):
        arrays = [x for x in jax.tree.leaves(tree) if isinstance(x, jax.Array)]
        keys = [jnp.issubdtype(x.dtype, jax.dtypes.prng_key) for x in arrays]
        return [
            np.asarray(jax.random.key_data(x) if key else x).tobytes()
            for x, key in zip(arrays, keys, strict=True)
        ]

    before = bits((task, state))
    first = range_test(task, state=state)
    assert bits((task, state)) == before
    second = range_test(task, state=state)
    assert first.losses.tobytes() == second.losses.tobytes()
    assert first.losses[0, 0] == first.losses[3, 0]  # every seed starts there
    with pytest.raises(ValueError, match="read-only"):
        first.losses[0, 0] = 1.0
    with pytest.raises(dataclasses.FrozenInstanceError):
        first.peak = 1.0


def test_a_seed_that_diverges_is_a_mask_and_disturbs_no_other():
    healthy = range_test(bowl(noise=0.1))
    found = range_test(bowl(noise=0.1, bad_seed=2))
    assert found.diverged_at[2] == 90
    assert not found.kept[2, 90:].any() and found.kept[2, :90].all()
    assert np.isfinite(found.losses).all() and np.isfinite(found.smooth).all()
    others = [0, 1, 3]
    assert found.smooth[others].tobytes() == healthy.smooth[others].tobytes()
    assert found.picks[others].tobytes() == healthy.picks[others].tobytes()
    assert found.picks[2] == 0.0
    assert_sound(found)
    assert "3 of 4 seeds" in repr(found)


def test_seeds_and_width_only_choose_what_runs():
    task = bowl(noise=0.1)
    every = range_test(task, seeds=3)
    some = range_test(task, seeds=[2, 1, 0])
    assert some.losses.tobytes() == every.losses[[2, 1, 0]].tobytes()
    assert some.seeds == (2, 1, 0)
    for width in (2, 3):  # 2: a pair and a rest
        wide = range_test(task, seeds=3, width=width)
        assert wide.peak == pytest.approx(every.peak, rel=0.05)
        np.testing.assert_allclose(wide.losses[:, :100], every.losses[:, :100], rtol=1e-4)


def test_one_program_serves_other_numbers():
    range_test(bowl(), steps=111)
    TRACES.clear()
    range_test(bowl(largest=7.0), 1e-6, 3.0, steps=111, schedule="constant")
    assert len(TRACES) == 1  # by the check of the task, which compiles nothing


def test_other_hyperparameters_and_names():
    class Two(Scripted):
        def step(self, state, hyperparams, batch):
            assert sorted(hyperparams) == ["rate", "weight_decay"]
            assert {x.dtype for x in hyperparams.values()} == {jnp.dtype("float32")}
            loss = hyperparams["weight_decay"] + (jnp.log10(hyperparams["rate"]) + 2) ** 2
            return state, {"loss": loss}

    found = range_test(Two(None), 1e-4, 1.0, name="rate", hyperparams={"weight_decay": 2})
    assert 1e-3 < found.peak < 1e-2
    assert found.losses[0].min() == pytest.approx(2.0, abs=1e-2)


def test_linear_ramp():
    found = range_test(bowl(noise=0.1), 1e-3, 1.0, ramp="linear")
    np.testing.assert_allclose(found.rates, np.linspace(1e-3, 1.0, 200), rtol=1e-6)
    assert 0.4 / 100 < found.peak < 0.4
    assert_sound(found)


def test_survives_the_strict_modes():
    task = bowl(noise=0.1, bad_seed=2)
    plain = range_test(task, steps=110)
    with (
        jax.numpy_dtype_promotion("strict"),
        jax.numpy_rank_promotion("raise"),
        jax.debug_nans(True),
    ):
        strict = range_test(Scripted(lambda rate, z: jnp.square(jnp.log10(rate) + jnp.float32(2))))
    assert 1e-3 < strict.peak < 1e-2
    with jax.enable_x64(True):
        wide = range_test(task, steps=110)
    assert wide.peak == pytest.approx(plain.peak, rel=0.5)
    assert wide.losses.dtype == np.float32


def test_a_batch_of_data_and_a_loss_of_another_dtype():
    class Mean:
        def batches(self, seed, start, length):
            rng = np.random.default_rng(seed)
            return rng.normal(3.0, 1.0, (start + length, 8)).astype(np.float32)[start:]

        def init(self, key):
            return 0.0  # weakly typed, as a Python number is

        def step(self, state, hyperparams, batch):
            loss, grad = jax.value_and_grad(lambda m: jnp.mean((batch - m) ** 2))(state)
            return state - hyperparams["learning_rate"] * grad, {"loss": loss.astype(jnp.bfloat16)}

        def evaluate(self, state):
            return {"loss": state}

    found = range_test(Mean(), schedule="cosine")
    assert_sound(found)
    assert 0.01 < found.peak < 1.0  # 2/L = 1


# -------------------------------------------------------------------------- the schedule to follow


RECIPE = functools.partial(js.warmup_cosine, steps=100, warmup=10, end=0.0)
SCHEDULES = [  # (schedule, start over peak, end over peak, divisor)
    (None, 1.0, 0.0, 3.0),
    ("cosine", 1.0, 0.0, 3.0),
    ("exponential", 1.0, 0.01, 3.0),
    ("constant", 1.0, 1.0, 7.0),
    (RECIPE, 0.0, 0.0, 3.0),
    (RECIPE(peak=0.3), 0.0, 0.0, 3.0),
    (js.one_cycle(1.0, 100), 1 / 25, 1 / 25e4, 3.0),
    (js.wsd(2.0, 100, 10, 20), 0.0, 0.0, 3.0),
    (js.Constant(0.1), 1.0, 1.0, 7.0),
    (js.warmup_constant(0.1, 500), 0.0, 1.0, 7.0),
    (js.cosine_decay(1.0, 100, end=0.5), 1.0, 0.5, None),
    (js.Window(js.exponential_decay(1.0, 0.1, 100), 0, 200), 1.0, 0.01, 3.0),
    (js.multi_step(1.0, 0.1, [50, 80]), 1.0, 0.01, 3.0),
]


@pytest.mark.parametrize(("schedule", "start", "end", "divisor"), SCHEDULES)
def test_the_answer_is_for_the_schedule_that_follows(schedule, start, end, divisor):
    lowest = range_test(bowl(noise=0.1)).peak * 3
    found = range_test(bowl(noise=0.1), schedule=schedule)
    assert_sound(found)
    assert found.start == pytest.approx(start * found.peak, abs=1e-9)
    assert found.end == pytest.approx(end * found.peak, rel=1e-4, abs=1e-12)
    if divisor is None:
        assert 3 < lowest / found.peak < 7
    else:
        assert lowest / found.peak == pytest.approx(divisor, rel=1e-5)
    assert found.peaks == pytest.approx((found.peak / 2, found.peak, 2 * found.peak))
    if schedule is None or isinstance(schedule, str):
        assert found.schedule is None
        with pytest.raises(ValueError, match="must have been told the schedule"):
            found.confirm()
        return
    trials = found.confirm()
    for trial, peak in zip(trials, found.peaks, strict=True):
        assert trial.settings == {"peak": peak} and trial.name == f"peak={peak:.3g}"
        assert float(np.max(js.sample(trial.schedule, 600))) == pytest.approx(peak, rel=1e-3)
    assert trials[1].schedule == found.schedule


@pytest.mark.parametrize(
    ("controller", "kind"),
    [
        (Plateau(0.5, factor=0.5), "decay"),
        (lambda peak: Plateau(js.warmup_cosine(peak, 100, 10), min_scale=0.5), "decay"),
        (Plateau(0.5, min_scale=1.0), "constant"),
        (Trigger(Plateau(0.5, min_scale=1.0), js.Linear(1.0, 0.0, 20)), "decay"),
        (Trigger(0.5, js.Constant(1.0)), "constant"),
    ],
)
def test_a_controller_is_taken_to_cut_as_far_as_it_may(controller, kind):
    found = range_test(bowl(noise=0.1), schedule=controller)
    assert found.peak == range_test(bowl(noise=0.1), schedule=kind).peak
    for trial, peak in zip(found.confirm(), found.peaks, strict=True):
        follows = trial.schedule
        rates = [float(follows(follows.init()._replace(step=jnp.int32(t)))) for t in (0, 10)]
        assert max(rates) == pytest.approx(peak)


def test_confirming_runs_as_a_sweep():
    found = range_test(bowl(noise=0.1), schedule=RECIPE)
    assert [trial.schedule for trial in found.confirm()] == [RECIPE(peak=p) for p in found.peaks]
    from jaxsched.search import sweep

    result = sweep(bowl(noise=0.1), found.confirm(), steps=100)
    assert [trial.name for trial in result.trials] == [f"peak={p:.3g}" for p in found.peaks]
    assert result.trials[0].kind.startswith("warmup_cosine(")
    assert result.edges() == {"peak": "highest"} and " peak " in str(result.table())


class Decayed(Bowl):
    """With a second hyperparameter."""

    def step(self, state, hyperparams, batch):
        state = {**state, "w": state["w"] * (1 - 0.01 * hyperparams["decay"])}
        return super().step(state, hyperparams, batch)


def test_confirming_schedules_all_that_the_test_was_given():
    task = Decayed(bowl().curvature)
    found = range_test(task, schedule=js.Constant(0.1), hyperparams={"decay": 0.1})
    for trial, peak in zip(found.confirm(), found.peaks, strict=True):
        assert trial.kind == "Constant" and sorted(trial.schedules) == ["decay", "learning_rate"]
        assert [float(trial.schedules[n](0)) for n in ("decay", "learning_rate")] == pytest.approx(
            [0.1, peak]
        )


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


# ------------------------------------------------------------------------------ looking at it


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


# ---------------------------------------------------------------- bad input, before any long work


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
