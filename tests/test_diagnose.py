"""Diagnosis on quadratics of known curvature and noise, where everything has a formula.

The loss of example i is c/2 |w - a_i|^2 with a_i of variance s^2: curvature c, gradient noise c s,
and a floor that no rate removes. Batches of one, so that with k = rate * c the iterates spread
around the minimum with the variance s^2 k / (2 - k) in every direction, and the mean of n steps
with about s^2 / n.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxsched.controllers import (
    AutoDecay,
    Average,
    Diagnosis,
    Work,
    averaging_gap,
    diagnose,
    sharpness,
    stability_limit,
)

CURVATURE, SIZE, WINDOW = 3.0, 400, 400
EXAMPLES = jnp.asarray(np.random.RandomState(0).standard_normal((500, SIZE)), jnp.float32)
CENTRE = EXAMPLES.mean(0)


@jax.jit
def losses(w):
    return CURVATURE / 2 * jnp.sum((w[None] - EXAMPLES) ** 2, axis=1)


@jax.jit
def descend(w, rate, noise, key):
    """A window of updates, and the mean of their weights; ``noise`` 0: the full gradient."""

    def step(carry, key):
        w, average, work = carry
        row = jax.random.randint(key, (), 0, len(EXAMPLES))
        target = CENTRE + noise * (EXAMPLES[row] - CENTRE)
        new = w - rate * CURVATURE * (w - target)
        before, after = (jnp.sum((x - target) ** 2) for x in (w, new))
        return (new, average.add(new), work.add(before, after)), None

    start = (w, Average.start(w), Work.start())
    return jax.lax.scan(step, start, jax.random.split(key, WINDOW))[0]


def floor():
    return float(losses(CENTRE).mean())


@pytest.mark.parametrize("k", [0.1, 0.5, 1.0, 1.5])  # rate * curvature; the limit is 2
def test_a_noisy_quadratic_bounces_by_as_much_as_theory_says(k):
    rate, noise = k / CURVATURE, float(np.mean(np.var(EXAMPLES, axis=0)))
    w, average, work = descend(CENTRE, rate, 1.0, jax.random.key(0))
    w, average, work = descend(w, rate, 1.0, jax.random.key(1))
    report = diagnose(losses, w, average, work=work, rate=rate, limit=stability_limit())

    bounce = CURVATURE / 2 * SIZE * noise * k / (2 - k)
    lag = CURVATURE / 2 * SIZE * noise / WINDOW
    expected = np.log(floor() + bounce) - np.log(floor() + lag)
    assert report.gap == pytest.approx(expected, abs=0.15 * expected + 0.01)
    assert report.verdict == ("bouncing" if k > 0.2 else "stable")
    assert report.sure or abs(expected - 0.1) < 0.05
    assert report.stability == pytest.approx(k / 2, rel=1e-3)
    assert report.stability_error < 1e-3
    # E|w-a|^2 falls by (1-k)^2 at its own example, of which |w-a|^2 = s^2 (1 + k/(2-k)).
    assert report.work == pytest.approx(1 - (1 - k) ** 2, rel=0.02)

    # The gap is what the decay really gains: a tenth of the rate, once it has settled.
    dropped = w
    for key in (2, 3, 4):
        dropped, _, _ = descend(dropped, rate / 10, 1.0, jax.random.key(key))
    left = CURVATURE / 2 * SIZE * noise * (k / 10) / (2 - k / 10)
    gained = report.loss / float(losses(dropped).mean())
    assert np.log(gained) == pytest.approx(report.gap - np.log1p(left / floor()), abs=0.03)


def test_verdicts_without_noise():
    far = CENTRE + 3.0
    rate = 1e-3 / CURVATURE
    w, average, _ = descend(far, rate, 0.0, jax.random.key(0))
    first = diagnose(losses, w, average)
    assert (first.verdict, first.sure, first.progress) == ("creeping", True, None)
    assert first.gap < -0.02  # the mean lags behind
    w, average, _ = descend(w, rate, 0.0, jax.random.key(0))
    second = diagnose(losses, w, average, previous=first)
    assert second.verdict == "creeping"
    assert second.progress == pytest.approx(np.log(first.averaged / second.averaged))

    w, average, _ = descend(CENTRE, rate, 0.0, jax.random.key(0))
    still = diagnose(losses, w, average)
    still = diagnose(losses, w, average, previous=still)
    assert (still.verdict, still.sure) == ("stable", True)

    w, average, _ = descend(CENTRE + 0.1, 1.9 / CURVATURE, 0.0, jax.random.key(0))
    edge = diagnose(losses, w, average, rate=1.9 / CURVATURE)
    assert edge.verdict == "unstable"
    assert str(edge).startswith("unstable: sharpness x rate at 0.95 of its limit")

    w, average, _ = descend(CENTRE + 0.1, 2.5 / CURVATURE, 0.0, jax.random.key(0))
    assert str(diagnose(losses, w, average)).startswith("diverged")


def test_what_it_says():
    report = Diagnosis(
        "bouncing", True, 0.4, 0.28, 0.35, 0.02, 0.31, 0.11, 0.05, 0.2, 0.01, 0.1, 0.01
    )
    lines = str(report).split("\n")
    assert lines[0] == "bouncing: decaying now is worth about 0.31 nats (0.2 to 0.42)"
    assert "averaging gap 0.35 +- 0.02 nats" in lines[1]
    assert "staying still pays, too" in lines[2]
    assert "own-batch work 0.2 +- 0.01" in lines[3]
    assert "0.1 +- 0.01 of its limit" in lines[4]
    assert str(report._replace(sure=False)).startswith("perhaps bouncing")
    empty = Average.start(CENTRE)
    with pytest.raises(ValueError, match="add"):
        diagnose(losses, CENTRE, empty)
    # Before the losses, which `None` here could not give.
    for wrong in ({"rate": -0.1}, {"rate": 0.1, "limit": 0.0}, {"steps": 0}):
        with pytest.raises(ValueError, match=rf"diagnose\({[*wrong][-1]}=...\) must be"):
            diagnose(None, CENTRE, empty.add(CENTRE), **wrong)


def test_the_error_of_the_gap_covers_it():
    rng = np.random.RandomState(0)
    common = rng.gamma(2.0, size=(400, 200))  # 400 experiments of 200 examples
    here, there = common * 1.2 + rng.rand(400, 200) * 0.5, common + rng.rand(400, 200) * 0.5
    truth = np.log(2.0 * 1.2 + 0.25) - np.log(2.0 + 0.25)
    gap, error = jax.jit(jax.vmap(averaging_gap))(here, there)
    z = (np.asarray(gap) - truth) / np.asarray(error)
    assert 0.9 < z.std() < 1.1
    assert np.abs(z.mean()) < 0.15


@pytest.mark.parametrize(("here", "there"), [(np.nan, 1.0), (1.0, np.inf), (0.0, 1.0), (-1.0, 1.0)])
def test_the_gap_of_what_is_no_loss_is_zero(here, there):
    gap = averaging_gap(np.array([here, 1.0 if here > 0 else here]), np.array([there, 1.0]))
    assert float(gap.value) == 0.0
    assert np.isfinite(gap.error)
    assert float(averaging_gap(2.0, 1.0).error) == np.inf
    with pytest.raises(ValueError, match="same examples"):
        averaging_gap(np.ones(3), np.ones(4))


def test_sharpness_of_a_known_spectrum_and_with_a_scale():
    spectrum = np.append(np.linspace(0.1, 4.0, 50), 10.0)
    basis, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(51, 51)))
    hessian = (basis @ np.diag(spectrum) @ basis.T).astype(np.float32)

    def loss(w):
        x = jnp.concatenate([w["a"], w["b"].ravel()])
        return 0.5 * x @ hessian @ x

    weights = {"a": jnp.ones(21), "b": jnp.ones((6, 5))}
    top = jax.jit(lambda w: sharpness(loss, w, steps=20))(weights)
    assert float(top.value) == pytest.approx(10.0, rel=1e-4)
    assert float(top.error) < 0.02
    rough = jax.jit(lambda w: sharpness(loss, w, steps=3))(weights)
    assert abs(float(rough.value) - 10.0) <= float(rough.error) * 3

    curvature = jnp.array([1.0, 100.0, 4.0])
    scale = jnp.array([1.0, 0.01, 2.0])

    @jax.jit
    def preconditioned(w):
        return sharpness(lambda w: 0.5 * jnp.sum(curvature * w**2), w, scale=scale, steps=30)

    top = preconditioned(jnp.ones(3))
    assert float(top.value) == pytest.approx(8.0, rel=1e-4)


@pytest.mark.parametrize(
    ("tx", "limit"),
    [
        (optax.identity(), stability_limit()),
        (optax.trace(0.9), stability_limit(0.9)),
        (optax.ema(0.9, debias=False), stability_limit(0.9, ema=True)),
    ],
)
def test_stability_limits_are_where_descent_turns(tx, limit):
    def grows(rate):
        w, state = 1.0, tx.init(jnp.zeros(()))

        def step(carry, _):
            w, state = carry
            update, state = tx.update(w, state)
            return (w - rate * update, state), jnp.abs(w)

        return jax.lax.scan(step, (jnp.float32(w), state), None, 600)[1]

    below, above = grows(0.98 * limit), grows(1.02 * limit)
    assert float(below[-50:].max()) < 0.1
    assert float(jnp.nan_to_num(above, nan=jnp.inf).max()) > 10.0


def test_averages():
    rng = np.random.RandomState(0)
    trees = [{"w": rng.randn(3).astype(np.float32), "n": np.int32(i)} for i in range(10)]
    average, ema = Average.start(trees[0]), Average.start(trees[0])
    add = jax.jit(lambda a, t: a.add(t))
    add_ema = jax.jit(lambda a, t, d: a.add(t, decay=d))
    for tree in trees:
        average, ema = add(average, tree), add_ema(ema, tree, 0.8)
    np.testing.assert_allclose(average.mean["w"], np.mean([t["w"] for t in trees], 0), rtol=1e-5)
    weights = 0.8 ** np.arange(9, -1, -1)
    expected = np.average([t["w"] for t in trees], axis=0, weights=weights)
    np.testing.assert_allclose(ema.mean["w"], expected, rtol=1e-5)
    assert int(average.mean["n"]) == 9
    assert int(average.steps) == 10

    again = jax.jit(lambda a, w: a.restart(w))(average, True).add(trees[0])
    np.testing.assert_array_equal(again.mean["w"], trees[0]["w"])
    assert int(average.restart(False).steps) == 10

    half = Average.start({"w": jnp.ones(2, jnp.bfloat16)})
    for _ in range(300):  # in bfloat16 a sum of these would stop at 256
        half = add(half, {"w": jnp.ones(2, jnp.bfloat16)})
    assert half.mean["w"].dtype == jnp.float32
    assert half.mean["w"].tolist() == [1.0, 1.0]
    assert half.like({"w": jnp.ones(2, jnp.bfloat16)})["w"].dtype == jnp.bfloat16
    key = Average.start(jax.random.key(0)).add(jax.random.key(3))
    assert key.mean == key.like(jax.random.key(0)) == jax.random.key(3)
    broken = Average.start(jnp.ones(2)).add(jnp.full(2, jnp.nan)).restart().add(jnp.ones(2))
    assert broken.mean.tolist() == [1.0, 1.0]
    turned = Average.start(jnp.ones(1, jnp.complex64)).add(jnp.full(1, 2j)).add(jnp.ones(1) + 0j)
    assert turned.mean.tolist() == [0.5 + 1j]
    for decay in (np.nan, -0.1, 1.0, True):
        with pytest.raises((ValueError, TypeError), match=r"Average.add\(decay=...\) must be"):
            average.add(trees[0], decay=decay)


def test_own_batch_work_leaves_out_what_is_no_loss():
    work = Work.start().add(2.0, 1.0).add(np.nan, 1.0).add(1.0, np.inf).add(0.0, 1.0).add(1.0, 0.7)
    assert int(work.steps) == 2
    assert float(work.mean) == pytest.approx(0.4)
    assert float(work.error) == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("reports", "scales"),
    [
        # bouncing, and the averaged weights improve: stay
        ([(1.0, 0.8), (0.9, 0.7), (0.8, 0.6)], [1.0, 1.0, 1.0]),
        # bouncing, and they don't: cut, again and again
        ([(1.0, 0.8), (1.0, 0.8), (1.0, 0.8)], [1.0, 0.5, 0.25]),
        # they don't improve, but nothing bounces: a cut would gain nothing
        ([(0.8, 0.8), (0.8, 0.8), (0.83, 0.8)], [1.0, 1.0, 1.0]),
        # what can't be measured is ignored; the iterate alone blew up: bouncing
        (
            [(1.0, 0.8), (np.nan, 0.8), (1.0, np.nan), (-1.0, 0.8), (np.inf, 0.8)],
            [1.0, 1.0, 1.0, 1.0, 0.5],
        ),
    ],
)
def test_autodecay_needs_the_gap_and_the_plateau(reports, scales):
    auto = AutoDecay(1.0, factor=0.5, patience=0)
    state = auto.init()
    for (value, averaged), scale in zip(reports, scales, strict=True):
        state = auto.update(auto.update(state, value=value), value=value, averaged=averaged)
        assert float(state.scale) == scale
    with pytest.raises(ValueError, match=r"AutoDecay.update\(averaged=...\) must be one number"):
        auto.update(state, value=1.0, averaged=np.ones(2))


def test_autodecay_on_the_noisy_quadratic_stops_where_nothing_bounces():
    """From a rate that bounces it comes down to one whose gap is below the threshold, and stays."""
    auto = AutoDecay(1.0 / CURVATURE, factor=0.5, patience=0)

    @jax.jit
    def run(key):
        def window(carry, key):
            w, state = carry
            w, average, _ = descend(w, auto(state), 1.0, key)
            report = {"value": losses(w).mean(), "averaged": losses(average.mean).mean()}
            state = auto.observe(state, **report)
            return (w, state), (state.scale, state.gap)

        carry = (CENTRE + 1.0, auto.init())
        return jax.lax.scan(window, carry, jax.random.split(key, 40))[1]

    scale, gap = (np.asarray(x) for x in run(jax.random.key(0)))
    assert gap[0] > 0.3
    assert 0.02 < scale[-1] < 0.4
    assert scale[-1] == scale[-15]
    assert gap[-1] < 0.1
