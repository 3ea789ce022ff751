"""What a task may be, and what is said about one that can't be trained, before any training."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from sweep_tasks import Plain, data, momentum, supervised

import jaxsched as js
from jaxsched import search
from jaxsched.search import Supervised, Task, shuffled
from jaxsched.search.engine._request import checked_seeds
from jaxsched.search.tasks._traced import trace_task


def sweep(task, trials=None, **arguments):
    trials = [js.Constant(0.1), js.Constant(0.01)] if trials is None else trials
    arguments = {"steps": 12, "devices": jax.local_devices()[:1], **arguments}
    return search.sweep(task, trials, **arguments)


# -------------------------------------------------------------------------------------- batches


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


def test_shuffled_is_the_same_for_ever():
    assert shuffled(10, 5, 0, 0, 2).tolist() == [[0, 2, 9, 1, 8], [5, 4, 3, 6, 7]]


def test_shuffled_refuses_data_without_samples():
    with pytest.raises(ValueError, match=r"shuffled\(samples=...\) must be .* at least 1, got 0"):
        shuffled(0, 2, 0, 0, 1)


def test_shuffled_refuses_a_batch_larger_than_the_data():
    with pytest.raises(ValueError, match=r"shuffled\(batch=...\) must be .* from 1 to 5, got 6"):
        shuffled(5, 6, 0, 0, 1)


# --------------------------------------------------------------------------------- kinds of models


class Module(nnx.Module):
    def __init__(self, rngs):
        self.a = nnx.Linear(6, 8, rngs=rngs)
        self.norm = nnx.BatchNorm(8, rngs=rngs)
        self.dropout = nnx.Dropout(0.2, rngs=rngs)
        self.b = nnx.Linear(8, 3, rngs=rngs)

    def __call__(self, x):
        return self.b(self.dropout(self.norm(jax.nn.relu(self.a(x)))))


class Linen(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(3)(nn.relu(nn.Dense(8)(x)))


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
    task = supervised(model=MODELS["nnx"])
    state = task.init(jax.random.key(0))
    after, _ = jax.jit(task.step)(state, {"learning_rate": jnp.float32(0.0)}, np.arange(16))
    changed = jax.tree.map(lambda a, b: bool(jnp.any(a != b)), state.rest, after.rest)
    assert any(jax.tree.leaves(changed))
    assert task.evaluate(after)["loss"] == task.evaluate(after)["loss"]


def test_a_linen_model_in_training_and_in_evaluation():
    module, task, rows = Trained(), supervised(model=Trained()), np.arange(16)
    x, y = (a[:16] for a in data(192))
    state = task.init(jax.random.key(0))
    collections, key = state.rest
    assert list(collections) == ["batch_stats"]
    variables = {"params": state.params, **collections}
    next_key, now = jax.random.split(key)
    outputs, changed = module.apply(variables, x, train=True, rngs=now, mutable=["batch_stats"])
    after, metrics = jax.jit(task.step)(state, {"learning_rate": jnp.float32(0.0)}, rows)
    loss = optax.softmax_cross_entropy_with_integer_labels(outputs, y).mean()
    np.testing.assert_allclose(metrics["loss"], loss, rtol=1e-6)
    assert after.rest[1] == next_key
    for a, b in zip(jax.tree.leaves(after.rest[0]), jax.tree.leaves(changed), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)
    held = task._data[0][task._split.validation]
    outputs = module.apply({"params": after.params, **after.rest[0]}, held, train=False)
    found = search.accuracy(outputs, task._data[1][task._split.validation]).mean()
    np.testing.assert_allclose(task.evaluate(after)["accuracy"], found, rtol=1e-6)


def test_how_a_linen_model_is_told_its_mode():
    def rest(module):
        return supervised(model=module).init(jax.random.key(0)).rest

    assert rest(Linen()) == ({}, None)  # nothing random: no key, which would cost
    assert rest(Deterministic())[1] is not None
    frozen, key = rest(Deterministic(deterministic=True))  # a choice of the user's stays
    assert key is None
    assert list(frozen) == ["batch_stats"]


def test_the_rate_is_applied_as_a_value_and_bfloat16_stays():
    def init(key):
        return jnp.ones((6, 3), jnp.bfloat16)

    task = supervised(optax.adam, (init, lambda w, x: x.astype(jnp.bfloat16) @ w))
    state = task.init(jax.random.key(0))
    after, _ = task.step(state, {"learning_rate": jnp.float32(0.1)}, np.arange(16))
    assert [x.dtype for x in jax.tree.leaves(after)] == [x.dtype for x in jax.tree.leaves(state)]


@pytest.mark.optimized
def test_a_supervised_step_is_the_plain_optax_step():
    x, y = data(96)
    task = supervised()
    params = task.init(jax.random.key(0)).params
    tx = momentum(0.05)
    rows = task.batches(0, 0, 1)[0]

    def loss(p):
        logits = task._static.model.apply(p, (), jnp.asarray(x[rows]), True)[0]
        return optax.softmax_cross_entropy_with_integer_labels(logits, jnp.asarray(y[rows])).mean()

    updates, _ = tx.update(jax.grad(loss)(params), tx.init(params), params)
    expected = optax.apply_updates(params, updates)
    state, _ = task.step(task.init(jax.random.key(0)), {"learning_rate": jnp.float32(0.05)}, rows)
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

    first = sweep(Tree(jnp.ones(3)), steps=200)
    second = sweep(Tree(jnp.zeros(3)), steps=200)
    assert first.best().score < 1e-3
    assert second.best().score < 1e-3
    assert "segment" not in second.info["traces"]


def test_a_task_is_made_and_checked_without_an_implicit_transfer():
    with jax.transfer_guard("disallow"):
        for task in (supervised(), supervised(model=MODELS["linen"]), Plain()):
            trace_task(task, ("learning_rate",))
            found = js.range_test(task, 1e-3, 1.0, steps=40, seeds=2)
    assert found.rates.shape == (40,)


# -------------------------------------------------------------------------------- tasks by name


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
        (f"{__name__}:of_lin", "AttributeError: module .* has no attribute 'of_lin'"),
    ],
)
def test_a_name_without_a_task(name, words):
    with pytest.raises(ValueError, match=words):
        sweep(name)


def test_a_factory_that_fails_and_one_that_makes_something_else():
    with pytest.raises(OSError, match="no such file") as raised:
        sweep(f"{__name__}:broken")
    assert raised.value.__notes__ == [f"in broken() of sweep(task='{__name__}:broken')"]
    with pytest.raises(TypeError, match="must have the methods init, step and evaluate"):
        js.range_test(f"{__name__}:data.__defaults__")


# ----------------------------------------------------------------------------------------- mistakes


def with_step(step):
    return type("Changed", (Plain,), {"step": step})()


BAD_TASKS = [
    (object(), TypeError, "must have the methods init, step and evaluate, got <object"),
    (Plain, TypeError, "a class"),
    (
        with_step(lambda self, s, h, b: (s[:2], {"loss": jnp.sum(s)})),
        TypeError,
        r"step must not change shapes or dtypes, got float32\[2\] for the float32\[3\] at state",
    ),
    (
        with_step(lambda self, s, h, b: (s.astype(jnp.float16), {"loss": jnp.sum(s)})),
        TypeError,
        r"got float16\[3\] for the float32\[3\]",
    ),
    (
        with_step(lambda self, s, h, b: ((s, s), {"loss": jnp.sum(s)})),
        TypeError,
        "step must return a state of the structure that init returned",
    ),
    (with_step(lambda self, s, h, b: (s, {})), ValueError, 'step must have a "loss", got'),
    (with_step(lambda self, s, h, b: (s, jnp.sum(s))), TypeError, "metrics as a dict"),
    (
        with_step(lambda self, s, h, b: (s, {"loss": s})),
        TypeError,
        "the metric 'loss' of step must be a real scalar",
    ),
    (
        with_step(lambda self, s, h, b: (s, {"loss": jnp.sum(s) > 0})),
        TypeError,
        "must be a real scalar",
    ),
    (
        with_step(lambda self, s, h, b: s),
        TypeError,
        r"step must return \(state, metrics\), got Jit",
    ),
    (
        with_step(lambda self, s, h, b: (s, {"loss": None})),
        TypeError,
        "the metric 'loss' of step must be a real scalar, got None",
    ),
    (
        with_step(lambda self, s, h, b: (s, {"loss": jnp.sum(s), 3: jnp.sum(s)})),
        TypeError,
        "metrics as a dict name -> scalar",
    ),
    (
        type("S", (Plain,), {"evaluate": lambda self, s: {"loss": "low"}})(),
        TypeError,
        "the metric 'loss' of evaluate must be a real scalar, got 'low'",
    ),
    (
        type("R", (Plain,), {"batches": lambda self, seed, start, n: np.arange(min(n, 5))})(),
        TypeError,
        r"batches\(0, 0, 12\) must return .* axis 12, got the leading axes \[\(5,\)\]",
    ),
    (
        type("E", (Plain,), {"evaluate": lambda self, s: {"accuracy": jnp.sum(s)}})(),
        ValueError,
        'evaluate must have a "loss"',
    ),
    (
        type("B", (Plain,), {"batches": lambda self, seed, start, n: np.zeros((3, n))})(),
        TypeError,
        r"batches\(0, 0, 2\) must return arrays with the leading axis 2",
    ),
]


@pytest.mark.parametrize(("task", "error", "words"), BAD_TASKS)
def test_bad_tasks_are_refused_before_any_training(task, error, words):
    with pytest.raises(error, match=words):
        sweep(task)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"steps": 0}, r"sweep\(steps=...\) must be a whole number of at least 1, got 0"),
        ({"steps": 2.5}, r"got 2.5"),
        ({"seeds": 0}, r"sweep\(seeds=...\) must be a whole number of at least 1, .* got 0"),
        ({"seeds": [1, 1]}, r"must be different whole numbers, at least one, got \[1, 1\]"),
        ({"seeds": []}, "must be different whole numbers, at least one"),
        ({"evaluate_every": 0}, r"sweep\(evaluate_every=...\)"),
        (
            {"metric": "accuracy"},
            r"sweep\(metric=...\) must be one of 'loss', got 'accuracy'",
        ),
        ({"width": 0}, r"sweep\(width=...\) must be a whole number of at least 1, got 0"),
        ({"width": "huge"}, "got 'huge'"),
        ({"limit": float("nan")}, "must be a number, got nan"),
        ({"trials": []}, "must hold at least one trial"),
    ],
)
def test_bad_arguments(arguments, words):
    with pytest.raises(ValueError, match=words):
        sweep(Plain(), **arguments)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"metric": "score"}, r"maximize=...\) must be given for 'score': True if .*, got None"),
        ({"metric": "my loss"}, "must be given for 'my loss'"),  # a name says nothing
        (
            {"maximize": True},
            "must be False for 'loss', which is minimized, got True. Write metric=",
        ),
        ({"metric": "averaged loss", "maximize": True}, "must be False for 'averaged loss'"),
    ],
)
def test_whether_more_is_better_is_said_and_not_guessed(arguments, words):
    class Many(Plain):
        def evaluate(self, state):
            loss = super().evaluate(state)["loss"]
            return dict.fromkeys(["loss", "averaged loss", "score", "my loss"], loss)

    with pytest.raises(ValueError, match=words):
        sweep(Many(), **arguments)
    assert sweep(Many(), metric="averaged loss").maximize is False
    for maximize in (False, True):
        assert sweep(Many(), metric="score", maximize=maximize).maximize is maximize


@pytest.mark.parametrize("name", ["maximize", "share_prefixes", "progress"])
@pytest.mark.parametrize("value", [None, 1, 0.0, "yes"])
def test_a_flag_of_a_sweep_is_true_or_false(name, value):
    if value is not None or name == "share_prefixes":
        with pytest.raises(TypeError, match=rf"sweep\({name}=...\) must be True or False, got "):
            sweep(Plain(), **{name: value})


@pytest.mark.parametrize(
    "kind",
    [
        *(list, tuple, set, dict.fromkeys, iter, np.array, jnp.array),
        lambda xs: range(3, 8, 2),
        lambda xs: map(np.int64, xs),
        lambda xs: np.array(xs, float),
    ],
)
def test_seeds_may_be_in_anything_that_holds_numbers(kind):
    for bits in (31, 32):
        assert checked_seeds("sweep(seeds=...)", kind([3, 5, 7]), bits) == (3, 5, 7)


@pytest.mark.parametrize("kind", [int, float, np.int64, np.array, jnp.array])
def test_one_number_says_how_many_seeds(kind):
    assert checked_seeds("sweep(seeds=...)", kind(3)) == (0, 1, 2)


@pytest.mark.parametrize("given", [None, 2.5, "3", b"3", True, len, np.array(2.5)])
def test_what_is_no_seeds_is_told_of_both_forms(given):
    words = "must be a whole number of at least 1, or several different ones, got "
    with pytest.raises((TypeError, ValueError), match=words):
        checked_seeds("sweep(seeds=...)", given)


def test_names_that_the_optimizer_does_not_take():
    with pytest.raises(TypeError, match=r"must take the scheduled hyperparameters \['lr'\]"):
        sweep(supervised(), [{"lr": js.Constant(0.1)}])


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"batch_size": 0}, ValueError, "of at least 1, got 0"),
        ({"batch_size": 97}, ValueError, "at most the 96 training samples, got 97"),
        ({"train": data(5)[0]}, TypeError, r"Supervised\(train=...\) must be a pair"),
        ({"train": (np.ones(3), np.ones(4))}, ValueError, "3 inputs and 4 targets"),
        ({"train": (np.ones(0), np.ones(0))}, ValueError, "and some, got 0 inputs"),
        ({"model": 3}, TypeError, r"Supervised\(model=...\) must be a function"),
        ({"model": lambda rngs: 3}, TypeError, "got one that returns "),
        ({"optimizer": optax.sgd(0.1)}, TypeError, "must be a function of the scheduled"),
    ],
)
def test_bad_supervised(changes, error, words):
    with pytest.raises(error, match=words):
        supervised(**changes)


def test_a_loss_of_the_wrong_order_or_shapes_is_named():
    entropy = optax.softmax_cross_entropy_with_integer_labels
    words = r"Supervised\(metrics=\{'m': ...\}\) must take outputs and targets, here "
    words += r"float32\[48, 3\] and int32\[48\], got a function that takes them the other way round"
    with pytest.raises(TypeError, match=words):
        sweep(supervised(metrics={"m": lambda t, o: entropy(o, t)}))
    with pytest.raises(ValueError, match="Shape mismatch") as caught:
        sweep(supervised(metrics={"m": optax.squared_error}))
    assert caught.value.__notes__[0].startswith("in Supervised(metrics={'m': ...}), called with ")


def test_a_loss_that_is_a_mean_already():
    x, y = data(96)
    task = Supervised(
        Linen(),
        momentum,
        lambda outputs, targets: jnp.mean(outputs),
        train=(x, y),
        validation=(x, y),
    )
    with pytest.raises(TypeError, match=r"Supervised\(loss=...\) must return a value per sample"):
        sweep(task)
    task = supervised(metrics={"mean": lambda outputs, targets: jnp.mean(outputs)})
    with pytest.raises(TypeError, match=r"Supervised\(metrics=\{'mean': ...\}\) must return a"):
        sweep(task)


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda self, x: nn.Dropout(0.2, deterministic=False)(x), "InvalidRngError"),
        (lambda self, x: nn.BatchNorm(use_running_average=False)(x), "ModifyScopeVariableError"),
    ],
)
def test_a_linen_model_that_cannot_be_told_to_evaluate(call, error):
    module = type("Deaf", (nn.Module,), {"__call__": nn.compact(call)})()
    with pytest.raises(
        TypeError, match=r"such as `train`; got Deaf, which takes \(self, x\): "
    ) as e:
        supervised(model=module)
    assert type(e.value.__cause__).__name__ == error
