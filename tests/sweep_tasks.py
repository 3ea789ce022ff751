"""Small tasks that the sweep's tests share; a module, so that subprocesses can import them too."""

import contextlib
import errno
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxsched import search
from jaxsched.search import Supervised, accuracy
from jaxsched.search.engine import _engine
from jaxsched.search.tasks._reading import Batches


def data(samples, classes=3, features=6):
    x = np.random.RandomState(7).randn(samples, features).astype(np.float32)
    w = np.random.RandomState(8).randn(features, classes)
    return x, (x @ w).argmax(axis=1).astype(np.int32)


def noise(key, *shape):
    """Quick to compile, which ``jax.random.normal`` is not."""
    number = jax.random.key_data(key)[-1].astype(jnp.float32)
    return jnp.sin((1.7 + number) * jnp.arange(1.0, 1 + np.prod(shape)) ** 1.3).reshape(shape)


def init(key):
    return {"a": 0.7 * noise(key, 6, 16), "b": 0.7 * noise(key, 16, 3), "bias": jnp.zeros(16)}


def apply(params, x):
    return jax.nn.relu(x @ params["a"] + params["bias"][None]) @ params["b"]


def momentum(learning_rate):
    return optax.sgd(learning_rate, momentum=0.9)


def supervised(optimizer=momentum, model=(init, apply), **changes):
    x, y = data(192)
    arguments = {
        "train": (x[:96], y[:96]),
        "validation": (x[96:144], y[96:144]),
        "test": (x[144:], y[144:]),
        "batch_size": 16,
        "metrics": {"accuracy": accuracy},
    }
    loss = optax.softmax_cross_entropy_with_integer_labels
    return Supervised(model, optimizer, loss, **{**arguments, **changes})


class Plain:
    """A task without data, by hand: descends |w|^2 with noise that depends on the step."""

    def init(self, key):
        return noise(key, 3)

    def step(self, state, hyperparams, batch):
        noise = jnp.sin(batch.astype(jnp.float32) + jnp.arange(3.0))
        grad = 2 * state + noise + hyperparams.get("weight_decay", 0.0) * state
        return state - hyperparams["learning_rate"] * grad, {"loss": jnp.sum(state**2)}

    def evaluate(self, state):
        return {"loss": jnp.sum(state**2)}


@functools.cache
def shared(make):
    """The task of ``make()``, one for the tests of a process: what was compiled for it is kept."""
    return make()


class Watched(Plain):
    """With every measurement that some controller reads; none of them monotone."""

    def evaluate(self, state):
        loss = jnp.sum((state - 0.1) ** 2)
        return {
            "loss": loss,
            "averaged loss": 0.9 * loss,
            "norm": jnp.sin(40 * loss),
            "trigger": (loss < 1.0).astype(jnp.int32),
        }


def python_loop(task, values, seed):
    """What a user writes: one jitted step, called in a loop. ``values``: name -> [steps]."""
    init, step, _ = jitted(task)
    state = init(jax.random.key(seed))
    losses = []
    steps = len(next(iter(values.values())))
    table = Batches(task).read(seed, 0, steps)
    for t in range(steps):
        now = {name: np.float32(v[t]) for name, v in values.items()}
        state, metrics = step(state, now, jax.tree.map(lambda x, t=t: x[t], table))
        losses.append(metrics["loss"])
    return state, np.array(jax.device_get(losses), np.float32)


@functools.cache
def jitted(task):
    """init, step and evaluate; a pytree's arrays are arguments, so that XLA does not fold them."""
    if isinstance(task, Supervised):
        call = jax.jit(lambda task, state: task.evaluate(state))
        return jax.jit(task.init), jax.jit(task.step), functools.partial(call, task)
    return jax.jit(task.init), jax.jit(task.step), jax.jit(task.evaluate)


def same(a, b):
    a, b = (r if isinstance(r, search.SweepResult) else search.load(r) for r in (a, b))
    for group in ("train", "validation"):
        for name, values in getattr(a, group).items():
            assert values.tobytes() == getattr(b, group)[name].tobytes(), name
    assert np.array_equal(a.diverged, b.diverged)
    assert np.array_equal(a.stopped, b.stopped)
    assert (a.steps_asked, a.steps_trained) == (b.steps_asked, b.steps_trained)
    return True


def interrupted(directory, after, run, **arguments):
    """Stops a sweep by an error after so many pieces, if it has so many."""
    calls = iter(range(10_000))
    real = _engine.Engine._collect

    def failing(self, *args):
        if next(calls) == after:
            raise OSError(errno.EIO, "pulled the plug")
        return real(self, *args)

    _engine.Engine._collect = failing
    try:
        with contextlib.suppress(OSError):
            run(directory, **arguments)
    finally:
        _engine.Engine._collect = real


def flip(path):
    data = bytearray(path.read_bytes())
    for part in range(1, 8):  # one alone may hit what a zip file doesn't use, such as a date
        data[len(data) * part // 8] ^= 4
    path.write_bytes(data)
