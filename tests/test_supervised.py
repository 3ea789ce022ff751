"""What ``Supervised`` takes beyond arrays and one batch: micro-batches, trees, sources, hooks."""

import dataclasses
import pickle
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from noisy import Noisy
from sweep_tasks import apply, data, init, jitted, momentum, supervised

import jaxsched as js
from jaxsched import search
from jaxsched.search import Averaged, Supervised, final_score
from jaxsched.search.range_tests import _run
from jaxsched.search.tasks import _pool

RATES = [js.Constant(0.1), js.cosine_decay(0.2, 12)]
LOSS = optax.softmax_cross_entropy_with_integer_labels


def sweep(task, trials=RATES, **arguments):
    arguments = {"steps": 12, "devices": jax.local_devices()[:1], **arguments}
    return search.sweep(task, trials, **arguments)


def close(a, b, rtol=2e-5):
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_allclose(x, y, rtol=rtol, atol=1e-6)


def slope(**changes):
    """A model whose gradient is always 1: minus its parameter is the sum of the rates."""
    x = np.ones((64, 1), np.float32)
    model = (lambda key: jnp.zeros(()), lambda w, x: w * x)
    arguments = {"train": (x, x), "validation": (x, x), "batch_size": 4, **changes}
    optimizer = arguments.pop("optimizer", optax.sgd)
    return Supervised(model, optimizer, lambda outputs, targets: outputs, **arguments)


# ------------------------------------------------------------------------------------ accumulation


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
        grads.append(jax.tree.map(lambda g: g.astype(jnp.float32) / 3, grad))
    close(metrics["loss"], np.mean(losses))
    keys = [jax.tree.map(_plain, tree) for tree in (after.rest, rest)]
    close(*keys, rtol=1e-3)
    tx = momentum(0.1)
    mean = jax.tree.map(lambda p, *g: sum(g).astype(p.dtype), start.params, *grads)
    updates, _ = tx.update(mean, tx.init(start.params), start.params)
    moved = jax.tree.map(
        lambda p: p.astype(jnp.float32), optax.apply_updates(start.params, updates)
    )
    close(jax.tree.map(lambda p: p.astype(jnp.float32), after.params), moved, rtol=1e-2)


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
    rate = {"learning_rate": jnp.float32(0.0)}
    after, _ = task.step(task.init(jax.random.key(0)), rate, rows)
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
    close(both(outputs, (y[:8], x[:8].sum(axis=1))).mean(), final.metrics["loss"][0], rtol=1e-4)


def test_trees_train_as_the_arrays_that_they_hold():
    x, y = data(144)
    arguments = {"train": ({"x": x[:96]}, y[:96].tolist()), "validation": ({"x": x[96:]}, y[96:])}
    arguments["test"] = None
    task = supervised(model=(init, lambda w, x: apply(w, x["x"])), **arguments)
    assert sweep(task).train["loss"].tobytes() == sweep(supervised()).train["loss"].tobytes()


# ------------------------------------------------------------------------------------ augmentation


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
    state = task.init(jax.random.key(0))
    _, metrics = task.step(state, {"learning_rate": jnp.float32(0)}, row)
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


# ------------------------------------------------------------------------------------------ sources


class Counted:
    """A source that notes what was read."""

    def __init__(self, x, y):
        self.x, self.y, self.read = x, y, []

    def __len__(self):
        return len(self.x)

    def __getitem__(self, i):
        self.read.append(i)
        return self.x[i], self.y[i]


X, Y = data(192)
SOURCES = {
    "items": lambda x, y: Counted(x, y),
    "a list": lambda x, y: list(zip(x, y, strict=True)),
    "a pair of items": lambda x, y: (Row(x), y),
}


class Row:
    def __init__(self, x):
        self.x = x

    def __len__(self):
        return len(self.x)

    def __getitem__(self, i):
        return self.x[i]


@pytest.mark.parametrize("kind", SOURCES)
def test_a_source_gives_the_rows_of_the_arrays_that_it_holds(kind):
    source, arrays = SOURCES[kind], supervised()
    task = supervised(train=source(X[:96], Y[:96]), validation=source(X[96:144], Y[96:144]))
    for one, other in ((task, arrays), (task.fold(1, 3), arrays.fold(1, 3))):
        rows = other.batches(2, 1, 3)
        for found, whole in zip(one.batches(2, 1, 3), other._data, strict=True):
            assert np.array_equal(found, whole[rows])
        for found, whole in zip(one._evaluated(), other._evaluated(), strict=True):
            assert np.array_equal(found, whole)


def test_a_source_trains_as_the_arrays_that_it_holds():
    task = supervised(train=Counted(X[:96], Y[:96]), validation=(X[96:144], Y[96:144]))
    found, expected = (sweep(t, folds=3, seeds=2) for t in (task, supervised()))
    close(found.train["loss"], expected.train["loss"], rtol=1e-5)
    close(found.validation["accuracy"], expected.validation["accuracy"], rtol=1e-5)
    close(final_score(task, found).metrics, final_score(supervised(), expected).metrics)


def test_a_source_is_read_batch_by_batch():
    train, held = Counted(X[:96], Y[:96]), Counted(X[96:], Y[96:])
    task = supervised(train=train, validation=held, batch_size=4, accumulation=2)
    assert train.read == [0]
    task.batches(0, 3, 2)
    assert len(train.read) == 1 + 2 * 8
    state = task.init(jax.random.key(0))
    task.evaluate(state)
    task.evaluate(state)
    assert len(held.read) == 1 + 96  # once
    assert len(train.read) == 1 + 2 * 8


def test_arrays_that_do_not_fit_are_read_on_the_host(monkeypatch, tmp_path):
    np.save(tmp_path / "x.npy", X[:96])
    monkeypatch.setattr(_pool, "_room", lambda: 4000)
    task = supervised(train=(np.load(tmp_path / "x.npy", mmap_mode="r"), Y[:96]))
    assert task.batches(0, 0, 1)[0].shape == (1, 16, 6)
    found = sweep(task)
    monkeypatch.undo()
    close(found.train["loss"], sweep(supervised()).train["loss"], rtol=1e-5)
    assert supervised().batches(0, 0, 1).dtype == np.int32


def test_a_range_test_reads_a_source_piece_by_piece(monkeypatch):
    task = supervised(train=Counted(X[:96], Y[:96]))
    whole = js.range_test(task, 1e-3, 3.0, steps=40, seeds=2)
    monkeypatch.setattr(_run, "chunk_length", lambda *_: 20)
    pieces, batches = [], Supervised.batches

    def noted(self, seed, start, length):
        pieces.append((seed, start, length))
        return batches(self, seed, start, length)

    monkeypatch.setattr(Supervised, "batches", noted)
    found = js.range_test(task, 1e-3, 3.0, steps=40, seeds=2)
    assert max(length for *_, length in pieces) <= 20
    assert sorted(start for _, start, _ in pieces[-4:]) == [0, 0, 20, 20]
    assert np.array_equal(found.losses, whole.losses, equal_nan=True)
    assert found.peak == whole.peak


class Net(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(3)(x)


@pytest.mark.parametrize("model", [(init, apply), Noisy, Net()], ids=["pair", "NNX", "Linen"])
def test_a_pickled_task_trains_as_the_task_does(model):
    task = supervised(model=model)
    there = pickle.loads(pickle.dumps(Averaged(task, window=2).fold(1, 2)))
    rates = [js.Constant(0.1)]
    here = sweep(Averaged(task, window=2).fold(1, 2), rates, steps=4)
    assert sweep(there, rates, steps=4).train["loss"].tobytes() == here.train["loss"].tobytes()


def test_all_of_a_large_source_is_not_evaluated_on(monkeypatch):
    monkeypatch.setattr("jaxsched.search.tasks._pool._DRAWN", 10)
    task = supervised(train=list(zip(X[:96], Y[:96], strict=True)), validation=None).everything()
    assert tuple(map(len, task._split)) == (96, 10, 10)
    assert np.isfinite(task.evaluate(task.init(jax.random.key(0)))["loss"])


# ------------------------------------------------------------------------------- the trained model


class Dropped(nn.Module):
    @nn.compact
    def __call__(self, x, train):
        x = nn.BatchNorm(use_running_average=not train)(nn.Dense(8)(x))
        return nn.Dense(3)(nn.Dropout(0.5, deterministic=not train)(x))


@pytest.mark.parametrize(
    ("model", "call"),
    [
        ((init, apply), lambda m: m(X[144:])),
        (lambda rngs: Noisy(rngs), lambda m: m(X[144:])),
        (Dropped(), lambda m: m(X[144:], train=False)),
        (Dropped(), lambda m: m.unbind()[0].apply(m.unbind()[1], X[144:], train=False)),
    ],
)
def test_the_trained_model_scores_what_the_task_does(model, call):
    task = Averaged(supervised(model=model), window=4)
    state, rows = jax.jit(task.init)(jax.random.key(0)), task.batches(0, 0, 2)
    step = jax.jit(task.step)
    for batch in rows:
        state, _ = step(state, {"learning_rate": jnp.float32(0.1)}, batch)
    found = jax.jit(task.test)(state)
    assert found["loss"] != found["averaged loss"]
    averaged, plain = task.model(state), task.task.model(state.state)
    for one, name in ((averaged, "averaged loss"), (plain, "loss")):
        close(LOSS(call(one), Y[144:]).mean(), found[name], rtol=1e-4)


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


# ----------------------------------------------------------------------------------------- mistakes


def pairs(n, shape=(6,), dtype=np.float32):
    return [(np.zeros(shape, dtype), np.int32(0)) for _ in range(n)]


def of_length(length):
    items = {"__len__": lambda self: length, "__getitem__": lambda self, i: (X[0], Y[0])}
    return type("Long", (), items)()


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"accumulation": 0}, ValueError, r"Supervised\(accumulation=...\) must .* at least 1"),
        ({"accumulation": 1.5}, ValueError, r"Supervised\(accumulation=...\) must be a whole nu"),
        ({"batch_size": 1.5}, ValueError, r"Supervised\(batch_size=...\) must be a whole number"),
        ({"accumulation": 7}, ValueError, r"at most the 96 training samples in .*16 \* 7 = 112"),
        ({"metrics": {"loss": apply}}, ValueError, "'loss', which is what loss=... reports"),
        (
            {"metrics": {"averaged loss": apply}},
            ValueError,
            "which is what search.Averaged reports",
        ),
        ({"metrics": {3: apply}}, TypeError, "must be named by text, got the name 3"),
        ({"metrics": {"a": 3}}, TypeError, "functions of outputs and targets, got 3 for 'a'"),
        (
            {"model": lambda key: {"w": key}},
            TypeError,
            r"got one that returns \{'w'.*\(dict\); fun",
        ),
        ({"model": 3}, TypeError, r"or a pair `\(init, apply\)`, got 3 \(int\)\.$"),
        (
            {"metrics": {"m": lambda targets, outputs: outputs.argmax(-1) == targets}},
            TypeError,
            r"metrics=\{'m': ...\}\) .* of \(targets, outputs\), the other way round: give `lambda",
        ),
        ({"metrics": {"m": lambda outputs: outputs}}, TypeError, r"a function of \(outputs\)\.$"),
        (
            {"model": JoinedLinen},
            TypeError,
            r"got the class JoinedLinen: give `JoinedLinen\(...\)`",
        ),
        ({"metrics": search.accuracy}, TypeError, "dict name -> function, got function"),
        (
            {"train": ({"a": X, "b": X[:5]}, Y)},
            ValueError,
            r"got 192 inputs\['a'\], 5 inputs\['b'\] and 192 targets",
        ),
        (
            {"train": ({"a": 3.0}, Y)},
            TypeError,
            r"inputs\['a'\] must be an array .samples, ...., got",
        ),
        ({"train": ({}, Y)}, TypeError, "inputs must hold at least one array, got none"),
        ({"train": (X, None)}, TypeError, "targets must hold at least one array, got none"),
        (
            {"train": ([[1], [1, 2]], [0, 1])},
            ValueError,
            "inputs must be an array: .*inhomogeneous",
        ),
        ({"train": (["a", "b"] * 48, Y[:96])}, TypeError, "inputs must be numbers, got dtype <U1"),
        (
            {"train": {"x": X, "y": Y}},
            TypeError,
            r"must be a pair \(inputs, targets\), or a source",
        ),
        ({"validation": (X[:, :5], Y)}, ValueError, r"samples of shape \[6\], .* got \[5\]"),
        ({"validation": ({"x": X}, Y)}, ValueError, r"have the structure of Supervised\(train"),
        ({"train": [(X[0], Y[0])] * 2}, TypeError, "a list of two pairs can be either"),
        ({"train": [X[0], X[1], X[2]]}, TypeError, r"train=...\)\[0\] must be a pair"),
        ({"train": [{"x": 1}] * 3}, TypeError, "pair .inputs, targets., got dict"),
        ({"train": of_length(-1)}, TypeError, "a whole number of items: .*>= 0"),
        ({"train": of_length(2.5)}, TypeError, "a whole number of items: 'float'"),
    ],
)
def test_bad_arguments_name_the_argument_and_the_leaf(changes, error, words):
    with pytest.raises(error, match=words):
        supervised(**changes)


@pytest.mark.parametrize(
    ("optimizer", "loss", "words"),
    [
        (
            LOSS,
            optax.sgd,
            r"optimizer=...\) .* got one of \(logits, .*the order is Supervised\(model,",
        ),
        (lambda a, b: LOSS(a, b), momentum, r"loss=...\) .* of \(learning_rate\): the order is"),
        (momentum, lambda labels, preds: preds, r"loss=...\) .* the other way round"),
        (momentum, lambda y, prediction: prediction, r"loss=...\) .* the other way round"),
        (momentum, lambda y_true, y_pred: y_pred, r"loss=...\) .* the other way round"),
    ],
)
def test_swapped_arguments_are_named_when_the_task_is_made(optimizer, loss, words):
    with pytest.raises(TypeError, match=r"^Supervised\(" + words):
        Supervised((init, apply), optimizer, loss, train=(X, Y))


@pytest.mark.parametrize(
    ("odd", "error", "words"),
    [
        (
            (np.zeros(5, np.float32), 0),
            ValueError,
            r"got float32\[5\] for the float32\[6\] inputs at",
        ),
        ((np.zeros(6, complex), 0), ValueError, "got complex128"),
        (({"x": np.zeros(6)}, 0), ValueError, "items of one structure"),
        (np.zeros(6), TypeError, r"must be a pair \(inputs, targets\), got ndarray"),
    ],
)
def test_items_that_are_not_alike(odd, error, words):
    task = supervised(train=[*pairs(20), odd], validation=pairs(3), batch_size=21)
    with pytest.raises(error, match=words):
        sweep(task)


def test_a_lone_function_of_a_key_is_told_of_the_pair():
    with pytest.raises(TypeError) as caught:
        supervised(model=lambda key: jax.random.normal(key, (6, 3)))
    assert "as a pair, model=(init, apply)" in "".join(caught.value.__notes__)


class Short(Row):
    """It says that it is longer than it is."""

    def __len__(self):
        return 9

    def __getitem__(self, i):
        return self.x[:5][i]


def test_a_test_set_that_is_not_alike_and_a_source_that_fails():
    words = r"Supervised\(test=...\) must have the structure of"
    with pytest.raises(ValueError, match=words):
        supervised(test=({"x": X}, Y))
    task = supervised(test=[({"x": x}, y) for x, y in zip(X[:3], Y, strict=False)])
    with pytest.raises(ValueError, match=words):
        final_score(task, sweep(task))
    with pytest.raises(ValueError, match=r"the 9 items of its length, got IndexError at \[\d\]: "):
        supervised(train=(Short(X), Y[:9]), batch_size=9).batches(0, 0, 1)

    class Broken(Row):
        def __getitem__(self, i):
            if i == 7:
                raise OSError("unreadable")
            return super().__getitem__(i)

    with pytest.raises(OSError, match="unreadable") as error:
        supervised(train=(Broken(X), Y), batch_size=192).batches(0, 0, 1)
    assert "reading [7]" in error.value.__notes__[0]


# --------------------------------------------------------------------------- what updates are told


def watched():
    return js.inject(optax.sgd)(learning_rate=js.Plateau(1.0, factor=0.5, patience=0))


def multi_steps():
    return optax.MultiSteps(watched(), 1)


class Duck:
    """A transformation by its methods alone."""

    init = staticmethod(lambda params: watched().init(params))

    @staticmethod
    def update(updates, state, params=None, value=None):
        return watched().update(updates, state, params, value=value)


def compiled():
    tx = watched()
    return optax.GradientTransformationExtraArgs(tx.init, jax.jit(tx.update))


PLACES = {
    "itself": watched,
    "jax.jit": compiled,
    "MultiSteps": multi_steps,
    "its transformation": lambda: multi_steps().gradient_transformation(),
    "an object": Duck,
    "apply_if_finite": lambda: optax.apply_if_finite(multi_steps(), 3),
    "chain": lambda: optax.chain(
        optax.clip(1.0), optax.apply_if_finite(multi_steps(), 3), optax.masked(Duck(), True)
    ),
    "groups": lambda: optax.partition({"a": optax.masked(multi_steps(), True)}, "a"),
    "MultiSteps twice": lambda: optax.MultiSteps(multi_steps(), 1),
}


def scales(state):
    """What the controllers in a state have cut the rate to."""
    found = jax.tree_util.tree_leaves_with_path(state)
    return [x for path, x in found if "controller_states" in str(path) and "scale" in str(path)]


@pytest.mark.parametrize("place", PLACES)
def test_what_an_update_is_told_reaches_a_controller_at_every_place(place):
    factory = PLACES[place]
    tx = js.inject(lambda learning_rate: factory())(learning_rate=js.Constant(1.0))

    def update(state, value):
        return tx.update(jnp.ones(()), state, jnp.ones(()), value=value, value_fn=lambda w: value)[
            1
        ], None

    state, _ = jax.jit(lambda s: jax.lax.scan(update, s, jnp.ones(3)))(tx.init(jnp.ones(())))
    assert [float(x) for x in scales(state)] == [0.25] * len(scales(state)) != []


def test_a_state_may_hold_schedules_and_controllers():
    task = slope(optimizer=lambda learning_rate: optax.chain(watched(), optax.scale(learning_rate)))
    assert sweep(task, [js.Constant(0.5)]).final("loss").item() == -6.0


@pytest.mark.parametrize("form", ["jax.jit", "cond"])
def test_a_function_that_is_compiled_below_an_update_is_told_anew(form):
    tx = watched()

    def branch(*arguments):
        return jax.lax.cond(True, tx.update, lambda u, s, p: (u, s), *arguments)

    dropping = optax.GradientTransformation(
        tx.init, jax.jit(tx.update) if form == "jax.jit" else branch
    )
    outer = js.inject(lambda rate: optax.chain(optax.scale(rate), dropping))(rate=js.Constant(1.0))
    one = jnp.ones(())
    state = outer.init(one)
    for value in (4.0, 3.0, 2.0):
        _, state = outer.update(one, state, one, value=value)
    for value in (1.0, 0.5):  # two programs
        _, state = jax.jit(lambda s, v=value: outer.update(one, s, one, value=v))(state)
    seen = js.remembered(state)
    assert (float(seen["learning_rate/best"]), float(seen["learning_rate/scale"])) == (0.5, 1.0)


def test_supervised_tells_the_loss_of_all_micro_batches_at_every_place():
    task = slope(optimizer=lambda learning_rate: PLACES["chain"](), accumulation=2)
    task._static = dataclasses.replace(task._static, loss=lambda outputs, targets: 0 * outputs + 1)
    rows = task.batches(0, 0, 3)

    def update(state, row):
        return task.step(state, {"learning_rate": jnp.float32(1.0)}, row)[0], None

    state, _ = jax.jit(lambda s: jax.lax.scan(update, s, rows))(task.init(jax.random.key(0)))
    assert [float(x) for x in scales(state)] == [0.25, 0.25]


def test_a_line_search_is_told_the_loss_as_a_function_of_the_parameters():
    def searching(learning_rate):
        search = optax.scale_by_backtracking_linesearch(20, max_learning_rate=4.0)
        return optax.chain(optax.sgd(learning_rate), search)

    x = np.linspace(1, 2, 64, dtype=np.float32)[:, None]
    losses = []
    for sizes in ({"batch_size": 8}, {"batch_size": 4, "accumulation": 2}):
        task = slope(optimizer=searching, train=(x, 3 * x), validation=(x, 3 * x), **sizes)
        task._static = dataclasses.replace(task._static, loss=optax.squared_error)
        losses.append(sweep(task, [js.Constant(1.0)]).train["loss"].ravel())
    close(*losses)
    assert losses[0][-1] < 0.1 * losses[0][0]


def test_an_update_is_told_only_what_it_takes():
    seen = {}

    class Odd(Duck):
        @staticmethod
        def update(updates, state, params=None, *, grad=None):
            seen["grad"] = grad
            return updates, state

    for inner in (
        Odd(),
        optax.sgd(1.0),
        optax.GradientTransformationExtraArgs(Odd.init, Odd.update),
    ):
        tx = js.inject(lambda learning_rate, inner=inner: inner)(learning_rate=js.Constant(1.0))
        tx.update(jnp.ones(()), tx.init(jnp.ones(())), None, value=1.0, grad=2.0, averaged=3.0)
    assert seen == {"grad": 2.0}
