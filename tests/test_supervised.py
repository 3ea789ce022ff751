"""What ``Supervised`` takes beyond arrays and one batch: micro-batches, trees, sources, hooks."""

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from noisy import Noisy
from supervised_tasks import close, slope, sweep
from sweep_tasks import apply, data, init, jitted, momentum, supervised

import jaxsched as js
from jaxsched import search
from jaxsched.search import Averaged, Supervised, final_score

LOSS = optax.softmax_cross_entropy_with_integer_labels


# ------------------------------------------------------------------------------------- accumulation


def test_an_update_of_micro_batches_is_one_of_a_large_batch():
    model = (lambda key: jnp.zeros((6, 3)), lambda w, x: x @ w)
    large = supervised(model=model, batch_size=32)
    small = supervised(model=model, batch_size=8, accumulation=4)
    rows = small.batches(3, 5, 7)
    assert rows.shape == (7, 4, 8)
    assert np.array_equal(rows.reshape(7, 32), large.batches(3, 5, 7))
    one, other = (sweep(task, folds=2) for task in (large, small))
    close(one.train["loss"], other.train["loss"])
    close(one.validation["loss"], other.validation["loss"])
    close(final_score(large, one).metrics, final_score(small, other).metrics)
    found = [js.range_test(t, 1e-3, 1.0, steps=40, seeds=2).losses for t in (large, small)]
    close(*found, rtol=1e-3)


def test_a_step_is_an_update_and_not_a_micro_batch():
    rate = js.Linear(1.0, 0.0, 40)
    tx = optax.MultiSteps(js.inject(optax.sgd)(learning_rate=rate), 4)

    def micro_step(carry, _):
        w, state = carry
        updates, state = tx.update(jnp.ones(()), state, w)
        return (optax.apply_updates(w, updates), state), None

    start = jnp.zeros(())
    (w, _), _ = jax.jit(lambda c: jax.lax.scan(micro_step, c, length=40))((start, tx.init(start)))
    assert float(w) == pytest.approx(-8.875, rel=1e-6)
    with pytest.warns(UserWarning, match="steps"):  # the schedule is cut on purpose
        result = sweep(slope(accumulation=4), [rate], steps=10)  # 40 micro-batches
    assert float(result.validation["loss"][0, 0, 0, -1]) == pytest.approx(-8.875, rel=1e-6)
    units = js.Units(batch=4, accumulation=4, samples=64)
    assert units.epochs(3) == js.Units(batch=16, samples=64).epochs(3) == 12


def test_statistics_and_keys_go_through_the_micro_batches_in_order():
    task = supervised(model=lambda rngs: Noisy(rngs), batch_size=8, accumulation=3)
    first, step, _ = jitted(task)
    start = first(jax.random.key(0))
    rows = task.batches(0, 0, 1)[0]
    after, metrics = step(start, {"learning_rate": jnp.float32(0.1)}, rows)
    x, y = (jnp.asarray(a) for a in data(192))

    def loss(params, rest, rows):
        outputs, rest = task._static.model.apply(params, rest, x[rows], True)
        return LOSS(outputs, y[rows]).mean(), rest

    rest, losses, grads = start.rest, [], []
    value_and_grad = jax.jit(jax.value_and_grad(loss, has_aux=True))
    for micro in rows:
        (value, rest), grad = value_and_grad(start.params, rest, micro)
        losses.append(value)
        grads.append(jax.tree.map(lambda g: np.float32(g) / 3, grad))
    close(metrics["loss"], np.mean(losses))
    keys = [jax.tree.map(_plain, tree) for tree in (after.rest, rest)]
    close(*keys, rtol=1e-3)
    tx = momentum(0.1)
    mean = jax.tree.map(lambda p, *g: sum(g).astype(p.dtype), start.params, *grads)
    update = jax.jit(lambda p, g: optax.apply_updates(p, tx.update(g, tx.init(p), p)[0]))
    moved = jax.tree.map(np.float32, (after.params, update(start.params, mean)))
    close(*moved, rtol=1e-2)


@pytest.mark.parametrize("k", [1, 2])
def test_running_statistics_move_once_for_each_micro_batch(k):
    class Normed(nn.Module):
        @nn.compact
        def __call__(self, x, train):
            return nn.BatchNorm(use_running_average=not train, momentum=0.9)(x)

    x = np.array([[0.0], [1.0], [3.0], [7.0]], np.float32)
    task = Supervised(
        Normed(), optax.sgd, optax.squared_error, train=(x, x), batch_size=4 // k, accumulation=k
    )
    rows = task.batches(0, 0, 1)[0]
    init, step, _ = jitted(task)
    after, _ = step(init(jax.random.key(0)), {"learning_rate": jnp.float32(0.0)}, rows)
    expected = 0.0
    for mean in x[rows].reshape(k, -1).mean(1):
        expected = 0.9 * expected + 0.1 * mean
    found = after.rest[0]["batch_stats"]["BatchNorm_0"]["mean"]
    assert float(found[0]) == pytest.approx(expected, rel=1e-6)


def _plain(x):
    return jax.random.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x


def test_an_accumulated_update_needs_the_memory_of_one_micro_batch():
    def bytes_of(**sizes):
        x = np.zeros((512, 64), np.float32)
        model = (lambda key: jnp.zeros((64, 64)), lambda w, x: jnp.sin(jnp.sin(x @ w) @ w))
        task = Supervised(
            model, optax.sgd, lambda o, t: (o - t) ** 2, train=(x, x), validation=(x, x), **sizes
        )
        state = jax.eval_shape(task.init, jax.random.key(0))
        step = jax.jit(lambda task, *more: task.step(*more))
        lowered = step.lower(
            task, state, {"learning_rate": jnp.float32(0)}, task.batches(0, 0, 1)[0]
        )
        return lowered.compile().memory_analysis().temp_size_in_bytes

    one, many = bytes_of(batch_size=32), bytes_of(batch_size=32, accumulation=16)
    assert many < one + 4 * 64 * 64 * 4  # sums of the gradient
    assert bytes_of(batch_size=512) > 3 * many


# -------------------------------------------------------------------------------------------- trees


class Pair(NamedTuple):
    left: jax.Array
    right: jax.Array


class Joined(nnx.Module):
    def __init__(self, rngs):
        self.a = nnx.Linear(3, 8, rngs=rngs)
        self.b = nnx.Linear(3, 8, rngs=rngs)
        self.out = nnx.Linear(8, 3, rngs=rngs)

    def __call__(self, x):
        hidden = jax.nn.relu(self.a(x["left"]) + self.b(x["more"].right))
        return {"class": self.out(hidden), "sum": jnp.sum(hidden, axis=1)}


class JoinedLinen(nn.Module):
    @nn.compact
    def __call__(self, x):
        hidden = nn.relu(nn.Dense(8)(x["left"]) + nn.Dense(8)(x["more"].right))
        return {"class": nn.Dense(3)(hidden), "sum": jnp.sum(hidden, axis=1)}


def joined(w, x):
    hidden = jax.nn.relu(x["left"] @ w["a"][:3] + x["more"].right @ w["a"][3:])
    return {"class": hidden @ w["b"], "sum": jnp.sum(hidden, axis=1)}


def trees(x, y):
    return {"left": x[:, :3], "more": Pair(x[:, 0], x[:, 3:])}, (y, x.sum(axis=1))


def both(outputs, targets):
    label, total = targets
    return LOSS(outputs["class"], label) + 0.1 * (outputs["sum"] - total) ** 2


@pytest.mark.parametrize("model", [lambda rngs: Joined(rngs), JoinedLinen(), (init, joined)])
def test_inputs_and_targets_are_trees(model):
    x, y = data(192)
    task = Supervised(
        model,
        momentum,
        both,
        train=trees(x[:96], y[:96]),
        validation=trees(x[96:], y[96:]),
        test=trees(x[:8], y[:8]),
        metrics={"right": lambda o, t: search.accuracy(o["class"], t[0])},
    )
    result = sweep(task, [js.Constant(0.0), js.Constant(0.01)], steps=60)
    before, after = result.final("loss").ravel()
    assert after < 0.5 * before
    assert "right" in result.validation
    final = final_score(task, result)
    outputs = task.model(final.states[0])(trees(x[:8], y[:8])[0])
    loss = np.mean(jax.jit(both)(outputs, (y[:8], x[:8].sum(axis=1))))
    close(loss, final.metrics["loss"][0], rtol=1e-4)


def test_trees_train_as_the_arrays_that_they_hold():
    x, y = data(144)
    arguments = {"train": ({"x": x[:96]}, y[:96].tolist()), "validation": ({"x": x[96:]}, y[96:])}
    arguments["test"] = None
    task = supervised(model=(init, lambda w, x: apply(w, x["x"])), **arguments)
    assert sweep(task).train["loss"].tobytes() == sweep(supervised()).train["loss"].tobytes()


# ------------------------------------------------------------------------------------- augmentation


def jitter(key, inputs):
    return inputs + 0.1 * jax.random.normal(key, inputs.shape)


def keys_of(task, seed, start, length):
    """What the model is trained on in some updates: the key's own bits."""
    batches = task.batches(seed, start, length)
    row = jax.jit(lambda t, row: t._read(*t._micro_batches(row))[0])
    return [row(task, jax.tree.map(lambda x, i=i: x[i], batches)) for i in range(length)]


def test_the_key_of_an_augmentation_is_a_function_of_seed_and_step():
    task = supervised(augment=lambda key, x: x * 0 + jax.random.uniform(key))
    whole = np.array([x[0, 0] for x in keys_of(task, 1, 0, 9)])
    cut = [x[0, 0] for x in keys_of(task, 1, 4, 5)]
    assert np.array_equal(whole[4:], cut)
    others = np.array([x[0, 0] for x in keys_of(task, 2, 0, 9)])
    assert len({*whole.tolist(), *others.tolist()}) == 18


def test_an_augmentation_is_of_training_alone_and_does_not_depend_on_how_a_run_is_cut():
    plain, task = supervised(), supervised(augment=jitter)
    batch = jax.tree.map(lambda x: x[0], task.batches(0, 0, 1))
    (first, step, evaluate), other = jitted(plain), jitted(task)
    state, rate = first(jax.random.key(0)), {"learning_rate": jnp.float32(0.1)}
    assert step(state, rate, batch["data"])[1] != other[1](state, rate, batch)[1]
    assert evaluate(state) == other[2](state)
    whole = sweep(task, seeds=2)
    cut = sweep(task, seeds=2, evaluate_every=5, share_prefixes=False)
    assert cut.train["loss"].tobytes() == whole.train["loss"].tobytes()
    close(sweep(task, seeds=2, width=4).train["loss"], whole.train["loss"])
    final = final_score(task, whole)
    kept = whole.train["loss"][final.best.index]
    assert final.result.train["loss"][0].tobytes() == kept.tobytes()


def test_targets_are_augmented_with_inputs_and_each_micro_batch_has_its_own_key():
    def mixed(key, x, y):
        share = jax.random.uniform(key)
        return {"x": share * x["x"]}, y + share

    def loss(outputs, targets):
        return outputs - targets

    x = np.ones((16, 2), np.float32)
    model = (lambda key: jnp.zeros(()), lambda w, x: x["x"][:, 0] + w)
    task = Supervised(
        model,
        optax.sgd,
        loss,
        train=({"x": x}, x[:, 0]),
        batch_size=2,
        accumulation=4,
        augment=mixed,
    )
    row = jax.tree.map(lambda x: x[0], task.batches(0, 0, 1))
    init, step, _ = jitted(task)
    _, metrics = step(init(jax.random.key(0)), {"learning_rate": jnp.float32(0)}, row)
    assert float(metrics["loss"]) == -1.0
    data, keys = task._micro_batches(row)
    shares = {float(task._read(d, k)[0]["x"][0, 0]) for d, k in zip(data, keys, strict=True)}
    assert len(shares) == 4


@pytest.mark.parametrize(
    ("augment", "words"),
    [
        (3, "be a function of a key, inputs and perhaps targets, got 3"),
        (lambda key: key, r"take .* or \(key, inputs, targets\), got one that takes \['key'\]"),
        (lambda key, x, y: x, r"return \(inputs, targets\), as it takes both, got "),
        (
            lambda key, x: x[:3],
            r"return as many samples as it was given, 16, got the shapes \[\[3, 6\]",
        ),
        (lambda key, x: {"x": x}, "return the structure that it was given, "),
    ],
)
def test_bad_augmentations(augment, words):
    with pytest.raises(TypeError, match=r"Supervised\(augment=...\) must " + words):
        sweep(supervised(augment=augment))


X, Y = data(192)


# -------------------------------------------------------------------------------- the trained model


class Dropped(nn.Module):
    @nn.compact
    def __call__(self, x, train):
        x = nn.BatchNorm(use_running_average=not train)(nn.Dense(8)(x))
        return nn.Dense(3)(nn.Dropout(0.5, deterministic=not train)(x))


@pytest.mark.parametrize(
    ("model", "calls"),
    [
        ((init, apply), [lambda m: m(X[144:])]),
        (lambda rngs: Noisy(rngs), [lambda m: m(X[144:])]),
        (
            Dropped(),
            [
                lambda m: m(X[144:], train=False),
                lambda m: m.unbind()[0].apply(m.unbind()[1], X[144:], train=False),
            ],
        ),
    ],
)
def test_the_trained_model_scores_what_the_task_does(model, calls):
    task = Averaged(supervised(model=model), window=4)
    state, rows = jax.jit(task.init)(jax.random.key(0)), task.batches(0, 0, 2)
    step = jax.jit(task.step)
    for batch in rows:
        state, _ = step(state, {"learning_rate": jnp.float32(0.1)}, batch)
    found = jax.jit(task.test)(state)
    assert found["loss"] != found["averaged loss"]
    averaged, plain = task.model(state), task.task.model(state.state)
    for one, name in ((averaged, "averaged loss"), (plain, "loss")):
        for call in calls:
            close(np.mean(jax.jit(LOSS)(call(one), Y[144:])), found[name], rtol=1e-4)


def test_a_trained_flax_model_is_trained_on():
    task = supervised(model=lambda rngs: Noisy(rngs))
    state = jax.jit(task.init)(jax.random.key(0))
    loss = jax.jit(task.evaluate)(state)
    model = task.model(state)
    optimizer = nnx.Optimizer(model, optax.sgd(0.1), wrt=nnx.Param)
    model.train()

    @nnx.jit
    def step(model, optimizer):
        grads = nnx.grad(lambda m: LOSS(m(X[:16]), Y[:16]).mean())(model)
        optimizer.update(model, grads)

    step(model, optimizer)
    assert jax.jit(task.evaluate)(state) == loss
    assert not np.array_equal(model.b.kernel[...], task.model(state).b.kernel[...])
    with pytest.raises(TypeError, match=r"Supervised.model\(state=...\) must be a state of this"):
        task.model(state.params)
