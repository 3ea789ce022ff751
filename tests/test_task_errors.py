"""Tasks and arguments of a sweep that are refused before any training."""

import gc
import itertools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx  # noqa: F401  # without it no function is taken for one that makes its modules
from supervised_tasks import Linen, sweep
from sweep_tasks import Plain, data, momentum, supervised

import jaxsched as js
from jaxsched.search import Supervised
from jaxsched.search.engine._request import checked_seeds
from jaxsched.search.tasks._reading import first_batch


def with_step(step):
    return type("Changed", (Plain,), {"step": step})()


def with_batches(batches):
    return type("Fed", (Plain,), {"batches": batches})()


ENDLESS, DRAWN, BUFFER = itertools.count(), np.random.default_rng(0), np.zeros(12, int)
DELETED = jnp.ones(3)
DELETED.delete()
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
        with_batches(lambda self, seed, start, n: start + np.arange(min(n, 5))),
        TypeError,
        r"batches\(0, 0, 12\) must return .* axis 12, got the leading axes \[\(5,\)\]",
    ),
    (
        type("E", (Plain,), {"evaluate": lambda self, s: {"accuracy": jnp.sum(s)}})(),
        ValueError,
        'evaluate must have a "loss"',
    ),
    (
        with_batches(lambda self, seed, start, n: np.zeros((3, n))),
        TypeError,
        r"batches\(0, 0, 2\) must return arrays with the leading axis 2",
    ),
    (
        with_batches(lambda self, seed, start, n: np.array(["a"] * n)),
        TypeError,
        r"batches\(0, 0, 2\) must return arrays of numbers, got dtype <U1",
    ),
    (
        with_batches(lambda *a: jax.random.split(jax.random.key(0), a[-1])),
        TypeError,
        "must return arrays of numbers, got dtype key<fry>",
    ),
    *(
        (with_batches(batches), ValueError, r"update 1 has other data in batches\(0, 1, 1\) than")
        for batches in (
            lambda self, seed, start, n: np.array([next(ENDLESS) for _ in range(n)]),
            lambda self, seed, start, n: np.arange(n),
            lambda self, seed, start, n: {"x": np.full(n, 3), "y": DRAWN.random(n)},
            lambda self, seed, start, n: np.add(BUFFER, 1, out=BUFFER)[:n],
            lambda self, seed, start, n: np.full((n, 2), [3, 0.01 * n], np.float32),
            lambda self, seed, start, n: np.full(n, np.nan if n == 1 else 3.0),
        )
    ),
    *(
        (with_batches(batches), TypeError, r"batches\(0, 0, 12\) must return rows of the shapes an")
        for batches in (
            lambda self, seed, start, n: np.zeros(n, int if n < 3 else float),
            lambda self, seed, start, n: np.zeros((n, 1 if n < 3 else 3)),
            lambda self, seed, start, n: np.zeros(n) if n < 3 else [np.zeros(n)] * 2,
        )
    ),
    *(
        (type("D", (Plain,), {name: f})(), ValueError, r"no array that was deleted.*float32\[3\]")
        for name, f in {
            "init": lambda self, key: DELETED,
            "step": lambda self, s, h, b: (s + h["learning_rate"] * DELETED, {"loss": jnp.sum(s)}),
            "evaluate": lambda self, s: {"loss": jnp.sum(s * DELETED)},
        }.items()
    ),
]


@pytest.mark.parametrize(("task", "error", "words"), BAD_TASKS)
def test_bad_tasks_are_refused_before_any_training(task, error, words):
    with pytest.raises(error, match=words):
        sweep(task)
    assert gc.isenabled()  # it rests during a trace


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "complex64"])
def test_batches_may_be_rounded_by_their_number(dtype):
    """As those of a matrix product are."""
    few = lambda self, seed, start, n: jnp.array([[3, n / 1e5, np.nan, np.inf]] * n, dtype)
    assert first_batch(with_batches(few), "sweep", 2).shape == (4,)


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
        ({"width": 10**400}, r"sweep\(width=...\) must be a whole number from 1 to 4"),
        ({"limit": float("nan")}, "must be a number, got nan"),
        ({"limit": np.timedelta64(3, "s")}, "must be a number, got np.timedelta64"),
        ({"limit": np.complex64(3)}, "must be a number, got np.complex64"),
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
