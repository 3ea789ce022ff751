"""What a task may be: batches, models of every library, a pytree of the user's, a name."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from supervised_tasks import Linen, sweep
from sweep_tasks import Plain, data, jitted, momentum, supervised

import jaxsched as js
from jaxsched import search
from jaxsched.search import Task, shuffled
from jaxsched.search.tasks._traced import trace_task

# ------------------------------------------------------------------------------------------ batches


def test_shuffled_does_not_depend_on_the_cut_and_takes_each_row_once_in_an_epoch():
    whole = shuffled(50, 8, 3, 0, 40)
    assert whole.dtype == np.int32
    for start, length in ((0, 1), (5, 7), (6, 34), (39, 1)):
        assert np.array_equal(whole[start : start + length], shuffled(50, 8, 3, start, length))
    for epoch in range(6):
        rows = whole[6 * epoch : 6 * epoch + 6].ravel()
        assert len(set(rows.tolist())) == 48
    assert not np.array_equal(whole[:6], whole[6:12])
    assert not np.array_equal(whole, shuffled(50, 8, 4, 0, 40))


def test_an_epoch_is_shuffled_once_though_many_seeds_take_turns(monkeypatch):
    drawn, real = [], np.random.Philox
    monkeypatch.setattr(np.random, "Philox", lambda key: drawn.append(key) or real(key=key))
    for seed in [*range(64)] * 2:
        shuffled(51, 8, seed, 0, 2)
    assert len(drawn) == 64


def test_shuffled_is_the_same_for_ever():
    assert shuffled(10, 5, 0, 0, 2).tolist() == [[0, 2, 9, 1, 8], [5, 4, 3, 6, 7]]


def test_shuffled_refuses_data_without_samples():
    with pytest.raises(ValueError, match=r"shuffled\(samples=...\) must be .* at least 1, got 0"):
        shuffled(0, 2, 0, 0, 1)


def test_shuffled_refuses_a_batch_larger_than_the_data():
    with pytest.raises(ValueError, match=r"shuffled\(batch=...\) must be .* from 1 to 5, got 6"):
        shuffled(5, 6, 0, 0, 1)


# ---------------------------------------------------------------------------------- kinds of models


class Module(nnx.Module):
    def __init__(self, rngs):
        self.a = nnx.Linear(6, 8, rngs=rngs)
        self.norm = nnx.BatchNorm(8, rngs=rngs)
        self.dropout = nnx.Dropout(0.2, rngs=rngs)
        self.b = nnx.Linear(8, 3, rngs=rngs)

    def __call__(self, x):
        return self.b(self.dropout(self.norm(jax.nn.relu(self.a(x)))))


def normed(x, train):
    x = nn.BatchNorm(use_running_average=not train)(nn.relu(nn.Dense(8)(x)))
    return nn.Dense(3)(nn.Dropout(0.2, deterministic=not train)(x))


class Trained(nn.Module):
    @nn.compact
    def __call__(self, x, train: bool):
        return normed(x, train)


class Deterministic(nn.Module):
    deterministic: bool | None = None

    @nn.compact
    def __call__(self, x, deterministic=None):
        return normed(x, not nn.merge_param("deterministic", self.deterministic, deterministic))


MODELS = {"nnx": lambda rngs: Module(rngs), "linen": Linen(), "linen with more": Trained()}


@pytest.mark.parametrize("kind", MODELS)
def test_flax_models_learn(kind):
    task = supervised(model=MODELS[kind])
    assert isinstance(task, Task)
    result = sweep(task, [js.Constant(0.0), js.Constant(0.1)], steps=60, seeds=2)
    accuracy = result.final("accuracy").mean(axis=(1, 2))
    assert accuracy[1] > accuracy[0] + 0.2


def test_nnx_training_updates_statistics_and_evaluation_does_not():
    init, step, evaluate = jitted(supervised(model=MODELS["nnx"]))
    state = init(jax.random.key(0))
    after, _ = step(state, {"learning_rate": jnp.float32(0.0)}, np.arange(16))
    changes = jax.jit(lambda a, b: jax.tree.map(lambda a, b: jnp.any(a != b), a, b))
    assert any(jax.tree.leaves(changes(state.rest, after.rest)))
    assert evaluate(after)["loss"] == evaluate(after)["loss"]


def test_a_linen_model_in_training_and_in_evaluation():
    module, task, rows = Trained(), supervised(model=Trained()), np.arange(16)
    x, y = (a[:16] for a in data(192))
    init, step, evaluate = jitted(task)
    state = init(jax.random.key(0))
    collections, key = state.rest
    assert list(collections) == ["batch_stats"]
    variables = {"params": state.params, **collections}
    told = {"train": True, "mutable": ["batch_stats"]}

    @jax.jit
    def training(variables, key):
        next_key, now = jax.random.split(key)
        outputs, changed = module.apply(variables, x, rngs=now, **told)
        losses = optax.softmax_cross_entropy_with_integer_labels(outputs, y)
        return losses.mean(), changed, next_key

    loss, changed, next_key = training(variables, key)
    after, metrics = step(state, {"learning_rate": jnp.float32(0.0)}, rows)
    np.testing.assert_allclose(metrics["loss"], loss, rtol=1e-6)
    assert after.rest[1] == next_key
    for a, b in zip(jax.tree.leaves(after.rest[0]), jax.tree.leaves(changed), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)
    held, labels = (np.asarray(a)[task._split.validation] for a in task._data)
    applied = jax.jit(lambda variables: module.apply(variables, held, train=False))
    outputs = applied({"params": after.params, **after.rest[0]})
    found = (np.argmax(outputs, -1) == labels).mean()
    np.testing.assert_allclose(evaluate(after)["accuracy"], found, rtol=1e-6)


def test_how_a_linen_model_is_told_its_mode():
    def rest(module):
        return jax.eval_shape(supervised(model=module).init, jax.random.key(0)).rest

    assert rest(Linen()) == ({}, None)  # nothing random: no key, which would cost
    assert rest(Deterministic())[1] is not None
    frozen, key = rest(Deterministic(deterministic=True))  # a choice of the user's stays
    assert key is None
    assert list(frozen) == ["batch_stats"]


def test_the_rate_is_applied_as_a_value_and_bfloat16_stays():
    def init(key):
        return jnp.ones((6, 3), jnp.bfloat16)

    task = supervised(optax.adam, (init, lambda w, x: x.astype(jnp.bfloat16) @ w))
    state = jax.eval_shape(task.init, jax.random.key(0))
    rate = {"learning_rate": jnp.float32(0.1)}
    after, _ = jax.eval_shape(task.step, state, rate, np.arange(16))
    assert [x.dtype for x in jax.tree.leaves(after)] == [x.dtype for x in jax.tree.leaves(state)]


@pytest.mark.optimized
def test_a_supervised_step_is_the_plain_optax_step():
    x, y = data(96)
    task = supervised()
    init, step, _ = jitted(task)
    start = init(jax.random.key(0))
    tx = momentum(0.05)
    rows = task.batches(0, 0, 1)[0]

    def loss(p):
        logits = task._static.model.apply(p, (), jnp.asarray(x[rows]), True)[0]
        return optax.softmax_cross_entropy_with_integer_labels(logits, jnp.asarray(y[rows])).mean()

    @jax.jit
    def plain(params):
        updates, _ = tx.update(jax.grad(loss)(params), tx.init(params), params)
        return optax.apply_updates(params, updates)

    expected = plain(start.params)
    state, _ = step(start, {"learning_rate": jnp.float32(0.05)}, rows)
    for a, b in zip(jax.tree.leaves(expected), jax.tree.leaves(state.params), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7)


def test_a_user_pytree_task_keeps_its_arrays_out_of_the_program():
    @jax.tree_util.register_dataclass
    @dataclasses.dataclass
    class Tree(Plain):
        target: jax.Array

        def step(self, state, hyperparams, batch):
            grad = state - self.target
            return state - hyperparams["learning_rate"] * grad, {"loss": jnp.sum(grad**2)}

        def evaluate(self, state):
            return {"loss": jnp.sum((state - self.target) ** 2)}

    first = sweep(Tree(jnp.ones(3)), [js.Constant(0.1)], steps=200)
    second = sweep(Tree(jnp.zeros(3)), [js.Constant(0.1)], steps=200)
    assert first.best().score < 1e-3
    assert second.best().score < 1e-3
    assert "segment" not in second.info["traces"]


def test_a_task_is_made_and_checked_without_an_implicit_transfer():
    with jax.transfer_guard("disallow"):
        for task in (supervised(), supervised(model=MODELS["linen"]), Plain()):
            trace_task(task, ("learning_rate",))
            found = js.range_test(task, 1e-3, 1.0, steps=40, seeds=2)
    assert found.rates.shape == (40,)


# ------------------------------------------------------------------------------------ tasks by name


def of_line():
    return supervised()


LINE = of_line()


def broken():
    raise OSError("no such file")


@pytest.mark.parametrize("name", ["of_line", "LINE"])
def test_a_task_by_its_name_is_the_task(name):
    named = sweep(f"{__name__}:{name}")
    assert named.train["loss"].tobytes() == sweep(LINE).train["loss"].tobytes()
    best = search.final_score(f"{__name__}:{name}", named)
    assert best.metrics == search.final_score(LINE, named).metrics


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("digits", r"sweep\(task=...\) must be a task, or a text of the form .*, got 'digits'"),
        ("a b:c", "of the form"),
        ("nowhere_at_all:make", r"must name what can be imported here, got ModuleNotFoundError"),
        (f"{__name__}:of_lin", "'of_lin'; did you mean of_line"),
    ],
)
def test_a_name_without_a_task(name, words):
    with pytest.raises(ValueError, match=words):
        sweep(name)


def test_a_factory_that_fails_and_one_that_makes_something_else():
    with pytest.raises(OSError, match="no such file") as raised:
        sweep(f"{__name__}:broken")
    assert raised.value.__notes__ == [f"in broken() of sweep(task='{__name__}:broken')"]
    with pytest.raises(ValueError, match=r"sweep\(width=...\) must be"):  # before it is called
        search.sweep(f"{__name__}:broken", js.Constant(0.1), steps=1, width=0)
    with pytest.raises(TypeError, match="must have the methods init, step and evaluate"):
        js.range_test(f"{__name__}:data.__defaults__")
