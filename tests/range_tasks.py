"""Tasks with known answers, for the tests of ``range_test``."""

from __future__ import annotations

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np

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
