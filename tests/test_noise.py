"""Noise on a rate: its numbers, their distribution, and where it is."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import jaxsched as js
from jaxsched.schedules._noise import random_bits, threefry

STEPS = np.arange(4000)


@pytest.mark.parametrize(
    ("counter", "key", "want"),  # published with Threefry, as known answers
    [
        ([0, 0], [0, 0], [0x6B200159, 0x99BA4EFE]),
        ([0xFFFFFFFF] * 2, [0xFFFFFFFF] * 2, [0x1CB996FC, 0xBB002BE7]),
        ([0x243F6A88, 0x85A308D3], [0x13198A2E, 0x03707344], [0xC4923A9C, 0x483DF7A0]),
    ],
)
def test_the_bits_are_those_of_threefry(counter, key, want):
    words = tuple(np.uint32([x]) for x in key), tuple(np.uint32([x]) for x in counter)
    assert [int(word[0]) for word in threefry(*words)] == want


@pytest.mark.parametrize(
    ("arguments", "want"),
    [
        (dict(), stats.truncnorm(-0.67, 0.67)),
        (dict(std=0.1, seed=3), stats.truncnorm(-6.7, 6.7, scale=0.1)),
        (dict(limit=0.3, distribution="uniform"), stats.uniform(-0.3, 0.6)),
    ],
)
def test_the_noise_has_its_distribution_and_is_the_same_in_a_program(arguments, want):
    noisy = js.Noisy(js.Constant(1.0), **arguments)
    noise = noisy.host(STEPS) - 1
    assert stats.kstest(noise, want.cdf).pvalue > 0.01
    assert abs(np.corrcoef(noise[1:], noise[:-1])[0, 1]) < 0.05
    for made in (noisy, js.strong(noisy)):
        in_program = jax.jit(lambda s: s(STEPS))(made)
        np.testing.assert_allclose(in_program, 1 + noise, rtol=1e-6)


def test_noise_is_between_start_and_stop_and_each_seed_and_each_step_has_its_own():
    lr = js.cosine_decay(0.1, 100)
    noise = js.Noisy(lr, start=10, stop=20).host(range(99)) / lr.host(range(99)) - 1
    assert np.flatnonzero(noise).tolist() == list(range(10, 20))
    seeds = jax.jit(jax.vmap(lambda seed: js.Noisy(lr, seed=seed)(5)))(jnp.arange(3))
    assert seeds.tolist() == [float(js.Noisy(lr, seed=seed)(5)) for seed in range(3)]
    far = np.float64([1, 2**24, 2**24 + 1, 2**31 + 1, 2**40])
    assert len({int(random_bits(seed, at)) for at in far for seed in (0, 1)}) == 10


def test_noise_beyond_the_value_is_refused_and_that_of_timm_goes_on_after_the_end():
    with pytest.raises(ValueError, match=r"Noisy\(limit=\.\.\.\) must be at most 1, got 67"):
        js.Noisy(js.Constant(1.0), 67)
    with pytest.raises(ValueError, match=r"timm\.Cos.*\(noise_pct=\.\.\.\) must be at most 1"):
        js.compat.timm.CosineLRScheduler(0.1, 9, noise_range_t=2, noise_pct=67)
    drops = js.compat.timm.MultiStepLRScheduler(0.1, [5, 9], noise_range_t=[2, 20])
    assert drops.host(15) != drops.host(16)
    lr = js.compat.timm.CosineLRScheduler(0.1, 9, 0.01, noise_range_t=[2, 20])
    rates = lr.host(np.arange(30))
    assert len(set(rates[9:20].tolist())) == 11 and set(rates[20:].tolist()) == {0.01}


@pytest.mark.parametrize(
    ("steps", "words"),
    [
        ((200, 100), r"must be greater than start=200, got 100: no step"),
        ((5, 5), r"must be greater than start=5, got 5"),
        ((0.4, 0.9), r"must be a number of steps, got 0.4.*js.share\(0.4\).of\(steps\)"),
        ((0, 0.9), r"must be a number of steps, got 0.9.*js.share\(0.9\).of\(steps\)"),
    ],
)
def test_a_range_without_a_step_is_refused_and_so_is_a_share(steps, words):
    with pytest.raises(ValueError, match=rf"Noisy\(st.*=...\) {words}"):
        js.Noisy(js.Constant(0.1), start=steps[0], stop=steps[1])
    with pytest.raises(ValueError, match=rf"timm.CosineLRScheduler\(noise_range_t=...\) {words}"):
        js.compat.timm.CosineLRScheduler(0.1, 300, noise_range_t=steps)
    jax.jit(lambda start, stop: js.Noisy(js.Constant(0.1), start=start, stop=stop)(3))(*steps)


@pytest.mark.parametrize(
    "seed", [2**31, 2**32 + 5, 2.0**40, np.uint32(2**31), np.array([1, 2**32])]
)
def test_a_seed_that_a_program_cannot_hold_is_refused(seed):
    with pytest.raises(ValueError, match=r"Noisy\(seed=...\) must be at most 2.14748e"):
        js.Noisy(js.Constant(1.0), seed=seed)
    with pytest.raises(
        ValueError, match=r"timm.CosineLRScheduler\(noise_seed=...\) must be at most"
    ):
        js.compat.timm.CosineLRScheduler(0.1, 10, noise_range_t=2, noise_seed=seed)
    noisy = js.Noisy(js.Constant(1.0), seed=2**31 - 1)
    held = jax.jit(lambda noisy: jax.vmap(noisy)(jnp.arange(9)))(noisy)
    np.testing.assert_allclose(held, noisy.host(np.arange(9)), rtol=1e-6)


def test_it_has_a_gradient_and_goes_around_a_controller():
    slopes = jax.jit(jax.grad(lambda std: js.Noisy(js.Constant(0.1), std=std)(3)))(0.2)
    near = [js.Noisy(js.Constant(0.1), std=std).host(3) for std in (0.199, 0.201)]
    assert float(slopes) == pytest.approx((near[1] - near[0]) / 0.002, rel=1e-4)
    noisy = js.Noisy(js.Plateau(0.1, 0.5, patience=0), seed=1)
    state, update = noisy.init(), jax.jit(noisy.update)
    for loss in (1.0, 1.0, 1.0):
        state = update(state, value=loss)
    assert float(jax.jit(noisy)(state)) == pytest.approx(
        js.Noisy(js.Constant(0.025), seed=1).host(3)
    )
    assert js.from_json(js.to_json(noisy)) == noisy
