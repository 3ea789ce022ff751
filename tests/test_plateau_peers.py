"""``Plateau`` against PyTorch's and Keras's published rules, and Optax as it runs.

PyTorch and Keras are not installed here: ``Torch`` and ``Keras`` below are their callbacks' steps
written out in plain Python (torch/optim/lr_scheduler.py, keras/src/callbacks/
reduce_lr_on_plateau.py), independent of this package. Optax is run.
"""

import itertools
import math

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plateaus import FACTOR, optax_scales, scales

import jaxsched as js
from jaxsched.controllers import Plateau


class Torch:
    def __init__(self, mode, factor, patience, threshold, relative, cooldown, min_lr):
        self.__dict__.update(locals())
        self.best = math.inf if mode == "min" else -math.inf
        self.lr, self.bad, self.cooling = 1.0, 0, 0

    def is_better(self, a):
        t, best = self.threshold, self.best
        if self.mode == "min":
            return a < (best * (1.0 - t) if self.relative else best - t)
        return a > (best * (1.0 + t) if self.relative else best + t)

    def step(self, a):
        if self.is_better(a):
            self.best, self.bad = a, 0
        else:
            self.bad += 1
        if self.cooling > 0:
            self.cooling -= 1
            self.bad = 0
        if self.bad > self.patience:
            self.lr = max(self.lr * self.factor, self.min_lr)
            self.cooling, self.bad = self.cooldown, 0
        return self.lr


class Keras:
    def __init__(self, mode, factor, patience, threshold, relative, cooldown, min_lr):
        assert not relative
        self.__dict__.update(locals())
        self.best = math.inf if mode == "min" else -math.inf
        self.lr, self.wait, self.cooling = 1.0, 0, 0

    def step(self, a):
        if self.cooling > 0:
            self.cooling -= 1
            self.wait = 0
        d = self.threshold
        if a < self.best - d if self.mode == "min" else a > self.best + d:
            self.best, self.wait = a, 0
        elif not self.cooling > 0:
            self.wait += 1
            if self.wait >= self.patience and self.lr > self.min_lr:
                self.lr = max(self.lr * self.factor, self.min_lr)
                self.cooling, self.wait = self.cooldown, 0
        return self.lr


def trace(seed):
    """A noisy metric that falls, stalls and falls again; never within a margin's rounding."""
    rng = np.random.RandomState(seed)
    falling = np.concatenate([np.linspace(2, 1, 15), np.ones(20), np.linspace(1, 0.5, 15)])
    return np.float32(falling + 0.1 * rng.standard_normal(50))


SETTINGS = list(itertools.product((0, 1, 2, 4), (0, 1, 3), (0.0, 0.3)))  # patience, cooldown, min


@pytest.mark.parametrize("mode", ["min", "max"])
@pytest.mark.parametrize("relative", [True, False])
@pytest.mark.parametrize("rule", ["torch", "keras", "optax"])
def test_traces_of_torch_keras_and_optax(rule, relative, mode):
    if (rule, mode) == ("optax", "max") or (rule, relative) == ("keras", True):
        pytest.skip("Optax has no max mode, Keras no relative margin")
    patience, cooldown, low = map(np.array, zip(*SETTINGS, strict=True))
    margin = {"rtol": 0.01, "atol": 0.0} if relative else {"rtol": 0.0, "atol": 0.01}

    def one(patience, cooldown, low):  # built inside the mapped function: all of them traced
        return Plateau(
            1.0,
            factor=FACTOR,
            patience=patience,
            cooldown=cooldown,
            min_scale=low,
            mode=mode,
            rule=rule,
            **margin,
        )

    def theirs(metrics, p, c, m):
        if rule == "optax":
            return optax_scales(metrics, p, **margin, cooldown=c, low=m)
        callback = {"torch": Torch, "keras": Keras}[rule](mode, FACTOR, p, 0.01, relative, c, m)
        return [callback.step(float(v)) for v in metrics]

    population = jax.vmap(one)(patience, cooldown, np.float32(low))
    for seed in range(3):
        metrics = trace(seed)
        # Relative margins of the others are right for positive metrics only.
        metrics = -metrics if mode == "max" and not relative else metrics
        ours = jax.vmap(scales, (0, None))(population, metrics)
        for row, (p, c, m) in zip(np.asarray(ours), SETTINGS, strict=True):
            if (rule, p) != ("optax", 0):  # a bug of theirs: see the next test
                np.testing.assert_allclose(row, theirs(metrics, p, c, m), rtol=1e-6)


@pytest.mark.parametrize("good", [-np.inf, 0.5])
def test_a_drop_in_takes_nan_and_infinity_as_its_library_does(good):
    metrics = [2.0, 1.0, math.nan, math.nan, 0.75, good, 0.5, math.inf, 0.5, 0.5, 0.25, math.nan]
    plateaus = [
        js.compat.torch.ReduceLROnPlateau(1.0, factor=FACTOR, patience=1, threshold=0.0, eps=0.0),
        js.compat.keras.ReduceLROnPlateau("loss", FACTOR, 2, min_delta=0.0, base_lr=1.0),
    ]
    rules = [rule("min", FACTOR, n, 0.0, False, 0, 0.0) for rule, n in ((Torch, 1), (Keras, 2))]
    for plateau, rule in zip(plateaus, rules, strict=True):
        assert scales(plateau, np.float32(metrics)).tolist() == list(map(rule.step, metrics))
    ours, metrics = js.compat.optax.reduce_on_plateau(FACTOR, 2), np.float32(metrics)
    assert scales(ours, metrics).tolist() == optax_scales(metrics, 2, rtol=1e-4).tolist()


SOME = st.sampled_from([-2.0, -1.5, -1.0, 0.0, 0.5, 1.0, 2.0, np.inf, -np.inf, np.nan, None])


@jax.jit
def with_flags(plateau, values, flags):
    def body(state, report):
        state = plateau.update(state, value=report[0], reported=report[1])
        return state, state

    return jax.lax.scan(body, plateau.init(), (values, flags))


@settings(max_examples=60)
@given(
    values=st.lists(SOME, min_size=24, max_size=24),
    patience=st.integers(0, 3),
    cooldown=st.integers(0, 3),
    factor=st.floats(0.1, 0.9),
    low=st.sampled_from([0.0, 0.2]),
)
def test_any_run_is_the_run_of_its_measurements(values, patience, cooldown, factor, low):
    """NaN and what isn't reported leave no trace; the scale falls, by ``factor``, to its bound."""
    numbers = dict(
        factor=np.float32(factor),
        patience=np.int32(patience),
        cooldown=np.int32(cooldown),
        min_scale=np.float32(low),
    )
    plateau = js.strong(Plateau(1.0, rtol=0.1, **numbers))
    array = np.float32([7.0 if v is None else v for v in values])
    flags = np.array([v is not None for v in values])
    last, states = with_flags(plateau, array, flags)
    scale = np.array([1.0, *states.scale])
    assert np.all(scale[1:] <= scale[:-1])
    cuts = scale[1:] < scale[:-1]
    expected = np.maximum(scale[:-1] * np.float32(factor), np.float32(low))
    np.testing.assert_allclose(scale[1:][cuts], expected[cuts], rtol=1e-6)

    measured = [v for v in values if v is not None and not np.isnan(v) and v != -np.inf]
    padding = 24 - len(measured)
    alone, _ = with_flags(
        plateau, np.float32([*measured, *[0.0] * padding]), np.arange(24) < len(measured)
    )
    for name in ("scale", "best", "bad", "wait", "seen"):
        assert getattr(alone, name) == getattr(last, name), name
    reference = Torch("min", factor, patience, 0.0, False, cooldown, low)
    reference.is_better = lambda a: (
        a
        < (
            reference.best - 0.1 * abs(reference.best)
            if np.isfinite(reference.best)
            else reference.best
        )
    )
    for value in measured:
        reference.step(value)
    assert float(last.scale) == pytest.approx(reference.lr, rel=1e-5)
