"""``Plateau`` against its own words."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from plateaus import FACTOR, optax_scales, scales

import jaxsched as js
from jaxsched.controllers import Plateau


def test_patience_zero_cuts_at_evaluations_without_improvement_only():
    improving, stalled = np.float32([5, 4, 3, 2]), np.float32([5, 4, 4, 3])
    assert optax_scales(improving, 0, rtol=1e-4).tolist() == [0.5, 0.25, 0.125, 0.0625]
    for rule in ("torch", "keras", "optax"):
        plateau = Plateau(1.0, FACTOR, patience=0, rule=rule)
        assert scales(plateau, improving).tolist() == [1.0, 1.0, 1.0, 1.0]
        assert scales(plateau, stalled).tolist() == [1.0, 1.0, 0.5, 0.5]


@pytest.mark.parametrize(
    ("rule", "patience", "cooldown", "cuts"),
    [  # at which evaluations (from 1) of a constant metric the scale is cut
        ("torch", 2, 0, [4, 7, 10]),
        ("keras", 2, 0, [3, 5, 7, 9, 11]),
        ("optax", 2, 0, [3, 5, 7, 9, 11]),
        ("torch", 2, 1, [4, 8, 12]),
        ("optax", 2, 1, [3, 6, 9, 12]),
        ("keras", 2, 1, [3, 5, 7, 9, 11]),
        ("keras", 2, 2, [3, 6, 9, 12]),
        ("torch", 0, 0, [2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]),
        ("torch", 20, 0, []),
    ],
)
def test_when_a_constant_metric_is_cut(rule, patience, cooldown, cuts):
    plateau = Plateau(1.0, FACTOR, patience=patience, cooldown=cooldown, rule=rule)
    s = np.asarray([1.0, *scales(plateau, np.ones(12, np.float32))])
    assert cuts == [i for i in range(1, 13) if s[i] < s[i - 1]]


@pytest.mark.parametrize(
    ("mode", "margins", "values", "improves"),
    [
        ("min", {"rtol": 0.1, "atol": 0.0}, [-1.0, -1.0, -1.05, -1.2, -1.3], [1, 0, 0, 1, 0]),
        ("min", {"rtol": 0.1, "atol": 0.0}, [0.0, 0.0, -0.01, -0.0105, -1.0], [1, 0, 1, 0, 1]),
        ("min", {"rtol": 0.1, "atol": 0.0}, [1.0, 0.95, 0.85, 0.8, -0.1], [1, 0, 1, 0, 1]),
        ("min", {"rtol": 0.0, "atol": 0.5}, [-10.0, -10.4, -10.6, 0.0, -11.2], [1, 0, 1, 0, 1]),
        ("max", {"rtol": 0.1, "atol": 0.0}, [-1.0, -1.0, -0.95, -0.85, -0.8], [1, 0, 0, 1, 0]),
        ("max", {"rtol": 0.1, "atol": 0.0}, [0.5, 0.5, 0.54, 0.56, 0.6], [1, 0, 0, 1, 0]),
        ("max", {"rtol": 0.0, "atol": 0.0}, [0.0, 0.0, 1e-6, 1e-6, 2e-6], [1, 0, 1, 0, 1]),
        ("min", {"rtol": 0.0, "atol": 0.0}, [np.inf, np.inf, 3.0, np.inf, 2.0], [0, 0, 1, 0, 1]),
    ],
)
def test_what_improves(mode, margins, values, improves):
    plateau, got = Plateau(1.0, mode=mode, **margins), []
    state = plateau.init()
    for value in values:
        new = plateau.update(state, value=value)
        got.append(int(new.best != state.best))
        assert (int(new.bad) == 0) == bool(got[-1])
        state = new
    assert improves == got


def test_a_constant_negative_metric_is_a_plateau_here_and_not_in_optax():
    constant = np.full(9, -1.0, np.float32)
    assert float(optax_scales(constant, 2, rtol=1e-4)[-1]) == 1.0  # optax #1767, pytorch #47513
    assert float(scales(Plateau(1.0, FACTOR, patience=2), constant)[-1]) == 0.25


@pytest.mark.parametrize("mode", ["min", "max"])
@pytest.mark.parametrize(
    ("nan", "expected"),
    [
        ("ignore", [1.0, 1.0, 1.0, 1.0, 0.5, 0.5]),
        ("bad", [1.0, 1.0, 0.5, 0.5, 0.5, 0.25]),
        ("stop", [1.0, 1.0, 0.1, 0.1, 0.1, 0.1]),
    ],
)
def test_nan_policy(nan, expected, mode):
    plateau = Plateau(1.0, FACTOR, patience=1, min_scale=0.1, mode=mode, nan=nan)
    # An infinite value does not count either; in other libraries it would stay the best for ever.
    values = np.float32([1.0, 1.0, np.nan, -np.inf if mode == "min" else np.inf, 1.0, 1.0])
    np.testing.assert_allclose(scales(plateau, values), expected, rtol=1e-6)


def test_nan_in_an_accumulated_evaluation():
    values = np.float32([1.0, np.nan, 3.0, 2.0, 2.0])
    ignoring = Plateau(1.0, FACTOR, patience=0, accumulate=2)
    state = ignoring.init()
    for value in values:
        state = ignoring.update(state, value=value)
    # (1 + 3) / 2 and (2 + 2) / 2: the NaN is not reported.
    assert (float(state.best), float(state.scale), int(state.seen)) == (2.0, 0.5, 4)
    bad = Plateau(1.0, FACTOR, patience=0, accumulate=2, nan="bad")
    assert scales(bad, values).tolist() == [1.0, 0.5, 0.5, 0.5, 0.5]


def test_accumulation_is_the_mean_as_in_optax():
    micro = np.random.RandomState(0).rand(60).astype(np.float32)
    ours = Plateau(1.0, FACTOR, patience=2, rtol=0.01, rule="optax", accumulate=4)
    assert scales(ours, micro).tolist() == optax_scales(micro, 2, rtol=0.01, size=4).tolist()
    means = scales(
        Plateau(1.0, FACTOR, patience=2, rtol=0.01, rule="optax"), micro.reshape(-1, 4).mean(1)
    )
    assert scales(ours, micro)[3::4].tolist() == means.tolist()


def test_no_rate_is_below_min_lr_and_a_cut_ends_on_it():
    for base in (0.1, js.Linear(0.1, 0.0, 9)):
        plateau = Plateau(base, 0.1, patience=0, min_lr=2e-3)
        floored = js.maximum(dataclasses.replace(plateau, min_lr=None), 2e-3)
        states = plateau.init(), floored.init()
        for _ in range(10):
            rate = float(plateau(states[0]))
            assert rate == float(floored(states[1])) >= np.float32(2e-3)
            states = plateau.update(states[0], value=1.0), floored.update(states[1], value=1.0)
    rates, greedy = [], js.Greedy(0.1, 0.5, patience=0, min_lr=0.03)
    state = greedy.init()
    for loss in (3.0, 3.0, 3.0, 3.0, 3.0, 2.0):
        rates.append(float(greedy(state)))
        state = greedy.update(state, value=loss)
    assert rates == pytest.approx([0.1, 0.2, 0.1, 0.05, 0.03, 0.03])
    assert float(greedy(state)) == pytest.approx(0.06)  # from the floor, at once


@pytest.mark.parametrize("mode", ["min", "max"])
def test_a_metric_is_smoothed_by_an_average_without_bias(mode):
    values = np.float32(np.random.RandomState(1).randn(12))
    values[6] = np.nan  # infinitely bad: judged, but in no average
    plateau = Plateau(1.0, FACTOR, patience=1, rtol=0.0, smooth=0.8, mode=mode, nan="bad")
    update = lambda state, value: (plateau.update(state, value=value),) * 2
    state, states = jax.jit(lambda values: jax.lax.scan(update, plateau.init(), values))(values)
    known = np.isfinite(values)
    ages = np.cumsum(known)[:, None] - np.cumsum(known)
    weights = np.where((ages >= 0) & known, 0.8 ** np.maximum(ages, 0.0), 0.0)
    averages = weights @ np.nan_to_num(values) / weights.sum(1)
    np.testing.assert_allclose(states.evaluation.average, averages, rtol=1e-5)
    judged = scales(dataclasses.replace(plateau, smooth=None), np.where(known, averages, np.nan))
    assert states.scale.tolist() == judged.tolist()
    # Its products are exact, so the bits are those of any program.
    alone, step = plateau.init(), jax.jit(plateau.update)
    for value in values:
        alone = step(alone, value=value)
    assert all(map(np.array_equal, jax.tree.leaves(alone), jax.tree.leaves(state)))


def test_a_quiet_start_is_that_of_around():
    inner = js.NewBob(0.1, patience=0)
    quiet = Plateau(inner, FACTOR, patience=0, quiet=4)
    around = js.controllers.Around(dataclasses.replace(quiet, quiet=0), quiet=4)
    states = quiet.init(), around.init()
    for step in range(8):
        states = quiet.observe(states[0], value=1.0), around.observe(states[1], value=1.0)
        states = quiet.update(states[0], value=1.0), around.update(states[1], value=1.0)
        assert int(states[0].seen) == int(states[0].base.seen) == 2 * max(step - 3, 0)
        assert float(quiet(states[0])) == float(around(states[1]))
    assert states[0] == states[1].base


def test_a_metric_every_k_updates_holds_the_scale_in_between():
    every, losses = 5, np.ones(30, np.float32)
    plateau = Plateau(js.Linear(1.0, 0.0, 30), FACTOR, patience=1)

    def absent(state, step):
        return plateau.update(state, value=losses[step] if step % every == 0 else None)

    def unreported(state, step):
        return plateau.update(state, value=losses[step], reported=step % every == 0)

    def nan(state, step):
        return plateau.update(state, value=losses[step] if step % every == 0 else np.nan)

    for how in (absent, unreported, nan):
        state = plateau.init()
        for step in range(30):
            # Evaluated at 0, 5, 10 (the second bad one: cut), 15, 20 (cut), 25.
            assert float(state.scale) == (1.0 if step <= 10 else 0.5 if step <= 20 else 0.25)
            state = how(state, step)
        assert (int(state.step), int(state.seen)) == (30, 6)


def test_observe_between_updates_is_a_report_without_a_step():
    plateau = Plateau(js.Linear(1.0, 0.0, 10), FACTOR, patience=0)
    state = plateau.update(plateau.update(plateau.init(), value=1.0))
    assert float(plateau(state)) == pytest.approx(0.8)
    state = plateau.observe(state, value=1.0)
    assert float(plateau(state)) == pytest.approx(0.4)
    assert (int(state.step), int(state.seen)) == (2, 2)


def test_nobody_reports_and_the_state_says_so():
    plateau = Plateau(0.1)
    state = plateau.init()
    for _ in range(5):
        state = plateau.update(state, grad_norm=1.0)
    assert (int(state.step), int(state.seen), float(state.scale)) == (5, 0, 1.0)


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: Plateau(0.1, factor=1.0), ValueError, r"Plateau\(factor=...\) .* less than 1"),
        (lambda: Plateau(0.1, min_lr=0.2), ValueError, r"min_lr=...\) must be at most base=0.1"),
        (lambda: Plateau(0.1, factor=-0.1), ValueError, r"factor=...\) must be at least 0"),
        (lambda: Plateau(0.1, patience=-1), ValueError, r"patience=...\) must be at least 0"),
        (lambda: Plateau(0.1, mode="auto"), ValueError, r"mode=...\) must be one of 'min', 'max'"),
        (lambda: Plateau(0.1, nan="raise"), ValueError, r"nan=...\) must be one of 'ignore'"),
        (lambda: Plateau(0.1, accumulate=0), ValueError, r"accumulate=...\) must be at least 1"),
        (lambda: Plateau(0.1, rtol=1.0), ValueError, r"rtol=...\) must be less than 1"),
        (lambda: Plateau("0.1"), TypeError, r"Plateau\(base=...\) must be a schedule"),
        (lambda: Plateau(lambda t: 0.1), TypeError, r"js\.from_fn"),
        (lambda: Plateau(0.1)(0), TypeError, r"js\.inject\(optax\.adam\)"),
        (
            lambda: optax.adam(Plateau(0.1)).update(jnp.ones(2), optax.adam(0.1).init(jnp.ones(2))),
            TypeError,
            "inject_hyperparams",
        ),
        (
            lambda: Plateau(0.1).update(Plateau(0.1).init(), value=jnp.ones(3)),
            ValueError,
            r"value=...\) must be one number, got shape \(3,\)",
        ),
        (
            lambda: Plateau(0.1).update(Plateau(0.1).init(), value=1.0, reported=[True]),
            ValueError,
            r"reported=...\) must be one boolean",
        ),
        (
            lambda: Plateau(0.1).update(Plateau(0.1).init(), value=1.0, reported=np.nan),
            TypeError,
            r"reported=...\) must be one boolean, got nan",
        ),
        (
            lambda: Plateau(0.1).update(Plateau(0.1).init(), value=np.complex64(1j)),
            TypeError,
            r"value=...\) must be one number",
        ),
        (
            lambda: (
                Plateau(0.1, factor=jnp.array([0.1, 0.5])).init()
                and Plateau(0.1, factor=jnp.array([0.1, 0.5]))(Plateau(0.1).init())
            ),
            ValueError,
            "population: factor",
        ),
    ],
)
def test_errors_name_what_was_expected(make, error, words):
    with pytest.raises(error, match=words):
        make()
