"""Every recipe x every numeric argument x {jit, vmap, grad}, and what each recipe promises."""

from __future__ import annotations

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import RECIPES

import jaxsched as js
from jaxsched.testing import landmarks, ulp_distance

BASE = [name for name in RECIPES if not name.startswith("wsd-")]


def perturbed(name):
    """All arguments of a recipe as arrays [rows]: in each row one of them is another."""
    _, given = RECIPES[name]
    rows = []
    for argument, value in given.items():
        factors = (0.75, 1.5) if (name, argument) == ("warm_restarts", "growth") else (0.9, 0.95)
        rows += [{**given, argument: type(value)(factor * value)} for factor in factors]
    return {key: np.array([row[key] for row in rows], _kind(x)) for key, x in given.items()}


def _kind(value):
    return np.int32 if isinstance(value, int) else np.float32


@pytest.mark.parametrize("name", BASE)
def test_every_argument_may_be_traced(name, in_numpy):
    """jit arguments, vmap and grad in one program; its rows equal the plain calls."""
    recipe, given = RECIPES[name]
    steps = landmarks(recipe(**given))
    steps = jnp.asarray(steps[steps < 10**6])
    settings = perturbed(name)

    @jax.jit
    def program(settings):
        loss = lambda arguments: jnp.mean(recipe(**arguments)(steps))

        def row(arguments):
            real = {key: x.astype(jnp.float32) for key, x in arguments.items()}
            return recipe(**arguments)(steps), jax.grad(loss)(real)

        return jax.vmap(row)(settings)

    rows, grads = program(settings)
    chex.assert_tree_all_finite((rows, grads))
    for i, row in enumerate(np.asarray(rows)):
        plain = np.asarray(recipe(**{key: x[i].item() for key, x in settings.items()})(steps))
        # A traced factor is turned into a rate in float32; everything else stays within 2 ulp.
        np.testing.assert_allclose(row, plain, rtol=2e-6, atol=1e-12)
        if "factor" not in given:
            assert np.median(ulp_distance(row, plain)) <= 1


@pytest.mark.parametrize("name", ["warmup_cosine", "one_cycle", "wsd", "warm_restarts"])
def test_one_trace_for_64_settings(name):
    recipe, given = RECIPES[name]

    @jax.jit
    @chex.assert_max_traces(n=1)
    def value(arguments, step):
        return recipe(**arguments)(step)

    floats = {key: jnp.asarray(x, jnp.float32) for key, x in given.items()}
    for k in range(64):
        changed = {key: x * (1 + k / 640) for key, x in floats.items()}
        found = value(changed, jnp.int32(50))
    np.testing.assert_allclose(found, recipe(**changed)(50), rtol=2e-6)


def test_warmup_cosine_prints_as_promised():
    assert repr(js.warmup_cosine(peak=3e-4, steps=10_000, warmup=500)) == (
        "Sequence(parts=(Linear(start=0.0, end=0.0003, steps=500), "
        "Cosine(start=0.0003, end=0.0, steps=9500)))"
    )


def test_a_warmup_of_all_and_of_none(in_numpy):
    for steps in (0, 1, 2, 10):
        for warmup in (0, steps):
            schedule = js.warmup_cosine(1.0, steps, warmup)
            values = np.asarray(jax.jit(schedule)(jnp.arange(-2, 25)))
            assert np.all(np.isfinite(values)) and values.min() >= 0 and values.max() <= 1
            assert values[-1] == 0.0


@pytest.mark.parametrize("shape", js.SHAPES)
def test_wsd_decays_in_every_shape(shape):
    lr = js.sample(js.wsd(1.0, 100, 10, 40, shape=shape, end=0.01), 120)
    np.testing.assert_allclose(lr[10:61], 1.0, rtol=1e-6)
    assert np.all(np.diff(lr[60:101]) <= 1e-7)
    assert np.all(lr[100:] == np.float32(0.01))


def test_cooldowns_are_continuous_and_map():
    """|jump| <= 1 ulp at the start, no horizon needed, vmap over start and length."""
    base = js.inverse_sqrt(0.1, 100)
    starts, lengths = jnp.asarray([200, 400, 777]), jnp.asarray([50, 100, 333])
    branch = jax.jit(
        jax.vmap(
            lambda start, length: js.cooldown_from(base, start, length)(
                start + jnp.asarray([-1, 0, length])
            )
        )
    )
    values = np.asarray(branch(starts, lengths))
    chex.assert_trees_all_close_ulp(values[:, 1], base(starts))
    assert np.all(values[:, 2] == 0)


def test_shapes_by_function():
    bent = js.wsd(1.0, 100, 0, 50, shape=functools.partial(js.Polynomial, power=3.0))
    assert float(bent(75)) == 0.125


def test_an_example_tunes_a_schedule_by_its_gradient():
    """Twenty steps of descent on a quadratic: the peak follows its own gradient and gains."""

    def final_loss(peak):
        lr = js.cosine_decay(peak, 20.0)
        x = jnp.asarray([1.0, 1.0])
        for t in range(20):
            x = x - lr(t) * jnp.asarray([1.0, 0.05]) * x
        return jnp.sum(x**2)

    gradient = jax.jit(jax.value_and_grad(final_loss))
    peak = jnp.float32(0.1)
    before, _ = gradient(peak)
    for _ in range(30):
        _, slope = gradient(peak)
        peak = peak - 0.05 * slope
    after, _ = gradient(peak)
    assert after < 0.7 * before


@pytest.mark.parametrize("kind", [np.uint8, np.uint32, jnp.uint8, jnp.uint32, np.int64])
def test_lengths_of_every_integer_kind_do_not_wrap(kind):
    """`steps - warmup - decay` of unsigned numbers does not become a huge stable phase."""
    with pytest.raises(ValueError, match="must fit into steps"):
        js.wsd(1.0, kind(10), 8, 8)
    lr = js.wsd(1.0, kind(100), kind(10), kind(20))
    assert lr.duration == 100
    np.testing.assert_array_equal(js.sample(lr, 120), js.sample(js.wsd(1.0, 100, 10, 20), 120))


def test_a_population_of_lengths_beyond_int32_is_read_without_wrapping():
    text = '{"jaxsched": 1, "type": "Linear", "start": 1.0, "end": 0.0, "steps": [4294967301]}'
    assert js.from_json(text).steps.tolist() == [4294967301.0]
    with pytest.raises(ValueError, match="at least 0"):
        js.from_json(text.replace("4294967301", "-4294967291"))


def test_phases_are_where_they_were_declared():
    assert js.boundaries(js.warmup_cosine(1.0, 100, 10)) == (10,)
    assert js.boundaries(js.wsd(1.0, 100, 10, 20)) == (10, 80)
    for schedule in (js.warmup_cosine(1.0, 100, 10), js.wsd(1.0, 100, 10, 20)):
        assert schedule.duration == 100  # `steps` is the whole, warmup included
        assert [float(schedule(t)) for t in (0, 10, 100)] == [0.0, 1.0, 0.0]


def test_a_cooldown_needs_no_horizon_and_starts_without_a_jump():
    endless = js.wsd(0.1, None, warmup=10)
    assert endless.duration is None
    assert float(endless(2**31 - 1)) == np.float32(0.1)
    for base in (endless, js.inverse_sqrt(0.1, 10), js.cosine_decay(0.1, 1000)):
        cooled = js.cooldown_from(base, at=400, steps=50, shape="1-sqrt")
        chex.assert_trees_all_close_ulp(cooled(400), base(400))
        assert float(cooled(399)) == float(base(399))
        assert float(cooled(450)) == float(cooled(10**6)) == 0.0
    again = js.wsd_s(1.0, steps=100, warmup=10, decay=20)
    assert [float(again(t)) for t in (10, 89, 110, 210, 1010)] == [1.0] * 5


DEGENERATE = {
    "Linear": lambda n, w: js.Linear(1.0, 0.1, n),
    "cosine_decay": lambda n, w: js.cosine_decay(1.0, n, end=0.1),
    "warmup_cosine": lambda n, w: js.warmup_cosine(1.0, n, w, end=0.1),
    "warmup_linear": lambda n, w: js.warmup_linear(1.0, n, w, end=0.1),
    "warmup_polynomial": lambda n, w: js.warmup_polynomial(1.0, n, w, end=0.1),
    "wsd": lambda n, w: js.wsd(1.0, n, w, n - w, end=0.1),
    "one_cycle": lambda n, w: js.one_cycle(1.0, n, final_div=1.0),
    "slanted_triangular": lambda n, w: js.slanted_triangular(1.0, n),
    "flat_cosine": lambda n, w: js.flat_cosine(1.0, n, end=0.1),
}


@pytest.mark.parametrize("name", DEGENERATE)
def test_runs_of_0_1_2_steps_are_finite_bounded_and_held(name):
    steps = np.asarray([-(2**31), -5, -1, 0, 1, 2, 3, 10, 10**6, 2**31 - 1], np.int64)
    for length, warmup in ((0, 0), (1, 0), (1, 1), (2, 0), (2, 1), (2, 2)):
        schedule = DEGENERATE[name](length, warmup)
        values = np.asarray(schedule(steps))
        assert np.all(np.isfinite(values))
        assert values.min() >= 0.0
        assert values.max() <= 1.0
        assert np.all(values[steps <= 0] == values[steps == 0])
        assert np.all(values[steps >= length] == values[-1])


@pytest.mark.parametrize("name", ["warmup_cosine", "wsd", "one_cycle"])
def test_traced_lengths_never_raise_at_run_time(name):
    """A warmup longer than the run, too: known numbers are refused, traced ones are survived."""
    lengths = jnp.asarray([[0, 0], [1, 1], [2, 1], [2, 5]])
    steps = jnp.asarray([-5, 0, 1, 2, 3, 10**6])
    values = jax.jit(jax.vmap(lambda n: DEGENERATE[name](n[0], n[1])(steps)))(lengths)
    assert np.all(np.isfinite(values))
    assert values.min() >= 0.0
    assert values.max() <= 1.0
