"""``Averaged``: the weights' mean is what it says, and training doesn't notice."""

import copy
import errno
import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from noisy import Noisy
from sweep_tasks import Plain, data, jitted, shared, supervised

import jaxsched as js
from jaxsched import search
from jaxsched.search import Averaged, Task, final_score

TRIALS = [js.warmup_cosine(0.3, 60, 10), js.Constant(0.05)]
HOW = [{"window": 20}, {"decay": 0.9}]
TASK = shared(supervised)


def sweep(task, trials=TRIALS, **arguments):
    arguments = {"steps": 60, "devices": jax.local_devices()[:1], **arguments}
    return search.sweep(task, trials, **arguments)


class Elementwise(Plain):
    """An update that XLA fuses into one loop, with much to contract."""

    def init(self, key):
        return {"w": jnp.linspace(-1.0, 1.0, 500), "m": jnp.zeros(500)}

    def step(self, state, hyperparams, batch):
        rate = hyperparams["learning_rate"]
        grad = state["w"] - jnp.sin(batch.astype(jnp.float32) + jnp.arange(500.0))
        m = 0.9 * state["m"] + 0.1 * grad
        w = state["w"] * (1 - 0.01 * rate) - rate * (0.9 * m + 0.1 * grad)
        return {"w": w, "m": m}, {"loss": jnp.sum(state["w"] ** 2)}

    def evaluate(self, state):
        return {"loss": jnp.sum(state["w"] ** 2)}


NNX = supervised(model=lambda rngs: Noisy(rngs))


@pytest.mark.optimized
@pytest.mark.parametrize(
    ("task", "how"),
    [(Elementwise(), HOW[0]), (Elementwise(), HOW[1]), (TASK, HOW[0]), (NNX, HOW[1])],
    ids=["elementwise window", "elementwise decay", "mlp window", "nnx decay"],
)
def test_training_has_the_same_bits(task, how):
    alone = sweep(task, evaluate_every=15)
    beside = sweep(Averaged(task, **how), evaluate_every=15)
    assert alone.train["loss"].tobytes() == beside.train["loss"].tobytes()
    for name, values in alone.validation.items():
        assert values.tobytes() == beside.validation[name].tobytes()
    assert set(beside.validation) == {
        *alone.validation,
        *(f"averaged {n}" for n in alone.validation),
    }
    assert np.isfinite(beside.final("averaged loss")).all()


def walk(task, steps, rate=0.1):
    """The states after each update."""
    init, step, _ = jitted(task)
    state, states = init(jax.random.key(0)), []
    for t in range(steps):
        state, _ = step(state, {"learning_rate": jnp.float32(rate)}, jnp.int32(t))
        states.append(state)
    return states


def test_a_window_is_the_mean_since_its_last_multiple():
    task = Averaged(Plain(), window=4)
    states = walk(task, 13)
    w = np.array([s.state for s in states])
    for n in range(1, 14):
        since = (n - 1) // 4 * 4
        found = task.averaged(states[n - 1])
        np.testing.assert_allclose(found, w[since:n].mean(axis=0), rtol=1e-5)


def test_a_decay_is_a_moving_average_without_the_bias_of_its_start():
    task = Averaged(Plain(), decay=0.8)
    states = walk(task, 9)
    weights = 0.8 ** np.arange(8, -1, -1)
    expected = np.average([s.state for s in states], axis=0, weights=weights)
    np.testing.assert_allclose(task.averaged(states[-1]), expected, rtol=1e-5)


class Numbers(Plain):
    """With Python numbers in its state."""

    def init(self, key):
        return (Plain.init(self, key), 1.0, 0)

    def evaluate(self, state):
        return Plain.evaluate(self, state[0])


@pytest.mark.parametrize("inner", [Plain(), Numbers()])
def test_before_the_first_update_the_average_is_the_weights(inner):
    task = Averaged(inner, window=3)
    init, _, evaluate = jitted(task)
    found = evaluate(init(jax.random.key(1)))
    assert found["loss"] == found["averaged loss"] > 0


def test_what_is_averaged_of_a_supervised_task():
    task = Averaged(NNX, window=5)
    init, step = jax.jit(task.init), jax.jit(task.step)
    state, seen = init(jax.random.key(0)), []
    for rows in task.batches(0, 0, 5):
        state, _ = step(state, {"learning_rate": jnp.float32(0.1)}, rows)
        seen.append(state.state)
    found = task.averaged(state)
    assert jax.tree.structure(found) == jax.tree.structure(state.state)
    mean = jax.tree.map(lambda *x: np.mean(np.array(x, np.float32), 0), *[s.params for s in seen])
    for a, b in zip(jax.tree.leaves(found.params), jax.tree.leaves(mean), strict=True):
        np.testing.assert_allclose(np.float32(a), b, rtol=1e-2 if a.dtype == jnp.bfloat16 else 1e-4)
    alike = jax.jit(lambda a, b: jax.tree.map(lambda a, b: jnp.all(a == b), a, b))
    same = jax.device_get(alike(found, state.state))
    assert all(jax.tree.leaves(same.opt_state))
    rest = zip(jax.tree.leaves(found.rest), jax.tree.leaves(same.rest), strict=True)
    for leaf, equal in rest:  # statistics are averaged, random keys and counts the latest
        assert equal != jnp.issubdtype(leaf.dtype, jnp.floating)


def test_methods_are_there_if_the_inner_task_has_them():
    optional = ("batches", "fold", "everything", "test")
    assert not any(hasattr(Averaged(Plain(), window=2), name) for name in optional)
    task = Averaged(TASK, window=2)
    assert all(hasattr(task, name) for name in optional)
    assert isinstance(task, Task)
    assert isinstance(task.fold(0, 3), Averaged)
    assert isinstance(copy.copy(task).everything(), Averaged)
    assert repr(task) == "Averaged(Supervised(96 train, 48 validation), window=2)"


def test_cross_validation_and_final_score():
    x, y = data(100)
    task = Averaged(supervised(train=(x[:80], y[:80]), validation=None, test=(x[80:], y[80:])),
                    window=10)  # fmt: skip
    result = sweep(task, folds=2, metric="averaged loss")
    assert result.info["traces"] == {"init": 1, "segment": 1, "evaluate": 1}
    final = final_score(task, result)
    assert set(final.metrics) == {"loss", "accuracy", "averaged loss", "averaged accuracy"}
    trained, test = final.states[0], jax.jit(task.task.test)
    for name, state in {"loss": trained.state, "averaged loss": task.averaged(trained)}.items():
        expected = test(state)["loss"]
        np.testing.assert_allclose(final.metrics[name][0], expected, rtol=1e-6)


def test_the_averaged_metric_ranks():
    """The sharp rate bounces about the minimum, which its mean finds."""
    trials = [js.Constant(0.85), js.Constant(0.002)]
    result = sweep(Averaged(Plain(), window=40), trials, steps=200, metric="averaged loss")
    assert result.best().index == 0
    assert result.final("averaged loss")[0] < 0.1 * result.final("loss")[0]


def test_programs_are_shared_as_with_the_inner_task():
    sweep(Averaged(TASK, window=30))
    again = sweep(Averaged(TASK, window=30), [js.Constant(0.2)])
    other = sweep(Averaged(TASK, window=31), [js.Constant(0.2)])
    assert "segment" not in again.info["traces"]
    assert other.info["traces"]["segment"] == 1
    leaves = jax.tree.leaves(Averaged(TASK, decay=0.5))
    assert [a.shape for a in leaves] == [a.shape for a in jax.tree.leaves(TASK)]
    inner = Plain()  # an opaque one too
    sweep(Averaged(inner, window=30))
    assert sweep(Averaged(inner, window=30), [js.Constant(0.2)]).info["traces"] == {}


def test_wide_runs_are_close_to_solo_ones():
    narrow = sweep(Averaged(TASK, window=20), evaluate_every=25)
    wide = sweep(Averaged(TASK, window=20), evaluate_every=25, width=2)
    for name, values in narrow.validation.items():
        np.testing.assert_allclose(wide.validation[name], values, rtol=1e-4, atol=1e-6)


def test_a_checkpoint_holds_the_average(tmp_path, monkeypatch):
    task = Averaged(TASK, window=25)
    arguments = {"evaluate_every": 20, "checkpoint": tmp_path, "checkpoint_every": 0.0}
    whole = sweep(task, evaluate_every=20)
    flush, calls = os.fsync, iter(range(100))

    def full(descriptor):
        if next(calls) >= 6:
            raise OSError(errno.ENOSPC, "No space left on device")
        flush(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="no space left"):
        sweep(task, **arguments)
    assert list(tmp_path.glob("states-*"))
    monkeypatch.undo()
    result = sweep(task, **arguments)
    for name, values in whole.validation.items():
        assert values.tobytes() == result.validation[name].tobytes()
    with pytest.warns(UserWarning, match="differ in task's step"):
        sweep(Averaged(TASK, window=26), **arguments)


def test_range_test_takes_it():
    found = js.range_test(Averaged(TASK, window=9), 1e-3, 10.0, seeds=2)
    plain = js.range_test(TASK, 1e-3, 10.0, seeds=2)
    assert found.peak == pytest.approx(plain.peak, rel=1e-3)


class Half(Plain):
    def weights(self, state):
        return state


class Taken(Plain):
    def evaluate(self, state):
        return {"loss": jnp.sum(state), "averaged loss": jnp.sum(state)}


@pytest.mark.parametrize(
    ("task", "how", "error", "words"),
    [
        (Plain(), {}, ValueError, "exactly one of the two, got None and None"),
        (Plain(), {"window": 3, "decay": 0.5}, ValueError, "got 3 and 0.5"),
        (Plain(), {"window": 0}, ValueError, "a whole number of at least 1, got 0"),
        (Plain(), {"window": 2.5}, ValueError, "a whole number of at least 1, got 2.5"),
        (Plain(), {"decay": 1.0}, ValueError, r"Averaged\(decay=...\) must be less than 1, got 1"),
        (Plain(), {"decay": "0.9"}, TypeError, "must be a number, got '0.9'"),
        (3, {"window": 3}, TypeError, r"Averaged\(task=...\) must be a task .* got 3"),
        (Plain, {"window": 3}, TypeError, "got <class"),
        (Half(), {"window": 3}, TypeError, "both of the methods weights and with_weights"),
    ],
)
def test_errors(task, how, error, words):
    with pytest.raises(error, match=words):
        Averaged(task, **how)


def test_a_metric_that_is_called_as_ours_is():
    with pytest.raises(ValueError, match=r"must not have the metrics \['averaged loss'\] itself"):
        sweep(Averaged(Taken(), window=3))
    with pytest.raises(ValueError, match="itself"):
        sweep(Averaged(Averaged(Plain(), window=3), window=5))
