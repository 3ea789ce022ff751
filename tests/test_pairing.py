"""A loss that compares every sample with every other is refused, unless that is meant."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxsched import search
from jaxsched.search import Supervised, accuracy
from jaxsched.search.tasks._functions import per_sample

CROSS_ENTROPY = optax.softmax_cross_entropy_with_integer_labels
pytestmark = pytest.mark.usefixtures("as_users_have_it")


@pytest.fixture
def as_users_have_it():
    with jax.numpy_rank_promotion("allow"):
        yield


def lines(x, y, loss, width=1, batch_size=16, **arguments):
    """Straight lines from x [n, 1] to ``width`` outputs."""
    model = (lambda key: jnp.zeros((1, width)), lambda w, x: x @ w)
    arguments = {"train": (x, y), "validation": (x, y), "batch_size": batch_size, **arguments}
    return Supervised(model, optax.sgd, loss, **arguments)


def square(outputs, targets):
    return (outputs - targets) ** 2


def mean_square(outputs, targets):
    return square(outputs, targets).mean(-1)


@pytest.mark.parametrize(
    ("where", "loss", "form", "changes"),
    [
        ("loss=...", square, np.ravel, {}),
        ("loss=...", square, np.ravel, {"batch_size": 1}),
        ("loss=...", mean_square, np.ravel, {"batch_size": 1}),
        ("loss=...", mean_square, np.ravel, {"accumulation": 3}),
        ("loss=...", lambda o, t: square(o[:, 0], t), np.asarray, {}),
        ("loss=...", lambda o, t: mean_square(o, t["y"]), lambda y: {"y": y[:, 0]}, {}),
        (
            "metrics={'m': ...}",
            optax.squared_error,
            np.asarray,
            {"metrics": {"m": lambda o, t: (o == t[:, 0]).mean(-1)}},
        ),
    ],
)
def test_a_task_refuses_it_in_training_and_evaluation(where, loss, form, changes):
    x = np.linspace(-1, 1, 96, dtype=np.float32)[:, None]
    task = lines(x, form(3 * x), loss, **changes)
    words = rf"Supervised\({re.escape(where)}\) must take each sample .* every other, of"
    with pytest.raises(TypeError, match=words + r".*float32\[\d+, 1\].*`y\[:, None\]`"):
        search.sweep(task, [0.1], steps=2)
    with pytest.raises(TypeError, match=words):
        task.evaluate(task.init(jax.random.key(0)))


def given(outputs, targets, kind=jnp.float32):
    return jnp.ones(outputs), jnp.ones(targets, kind)


PAIRED = [
    (mean_square, given((8,), (8, 1))),
    (lambda o, t: square(o, t).mean(0), given((8, 1), (8,))),
    (lambda o, t: jnp.linalg.norm(o - t, axis=-1), given((8, 1), (8,))),
    (lambda o, t: optax.sigmoid_binary_cross_entropy(o, t).mean(-1), given((8, 1), (8,))),
    (lambda o, t: jnp.where(o > 0, t, 1 - t).mean(-1), given((8, 1), (8,), jnp.int32)),
    (lambda o, t: (o.argmax(-1) == t).mean(-1), given((8, 3), (8, 1), jnp.int32)),
    (lambda o, t: square(o, t).mean((1, 2)), given((8, 5, 1), (8,))),
    (
        jax.jit(lambda o, t: jax.nn.sigmoid(o)[..., :1].max(-1) * mean_square(o, t)),
        given((8, 1), (8,)),
    ),
]


@pytest.mark.parametrize(("loss", "arguments"), PAIRED)
def test_no_mean_hides_it(loss, arguments):
    assert loss(*arguments).shape == (8,)
    with pytest.raises(TypeError, match="every sample with every other"):
        per_sample("loss=...", loss, *arguments)


MEANT = [
    (mean_square, given((8, 1), (8, 1))),
    (lambda o, t: square(o[:, 0], t), given((8, 1), (8,))),
    (lambda o, t: square(o, t.mean()).mean(-1), given((8, 1), (8,))),
    (lambda o, t: CROSS_ENTROPY(o, t[:, 0]), given((8, 3), (8, 1), jnp.int32)),
    (lambda o, t: o[jnp.arange(len(t)), t.squeeze(-1)], given((8, 3), (8, 1), jnp.int32)),
    (jax.vmap(mean_square), given((8, 1), (8, 1))),
    # Contrastive, and by ranks.
    (lambda o, t: CROSS_ENTROPY(o @ t.T, jnp.arange(len(o))), given((8, 1), (8, 1))),
    (lambda o, t: square(o[:, None], t).mean((1, 2)), given((8, 4), (8, 4))),
    (lambda o, t: square(o[:, None], t[None]).mean((1, 2)), given((8, 1), (8,))),
    (lambda o, t: ((o - o.T) * (t[:, None] - t[None])).mean(-1), given((8, 1), (8,))),
]


@pytest.mark.parametrize(("loss", "arguments"), MEANT)
def test_what_is_meant_is_taken(loss, arguments):
    values = loss(*arguments)
    assert np.array_equal(per_sample("loss=...", loss, *arguments), values)


@pytest.mark.parametrize("size", [1, 3, 96])
def test_an_axis_as_long_as_a_batch_may_be_one_of_values(size):
    x, y = np.ones((96, 1), np.float32), np.ones((96, size), np.float32)
    metrics = {"m": square, "wide": lambda o, t: o - jnp.sum(t, -1, keepdims=True)}
    task = lines(x, y, square, size, batch_size=size, metrics=metrics)
    assert np.isfinite(search.sweep(task, [0.1], steps=2).validation["m"]).all()


def test_an_axis_as_long_as_the_batch_by_chance_is_not_taken_for_it():
    with pytest.raises(TypeError, match=r"any number of samples, .* takes 8, .*\[8, 8\].* not 16"):
        per_sample("loss=...", mean_square, *given((8, 8), (8,)))


@pytest.mark.parametrize(
    ("shapes", "words"),
    [
        (((8, 1), (8,)), r"^accuracy\(outputs=...\) must have .* 2 classes .* \[8, 1\]; .*> 0"),
        (
            ((8, 3), (8, 1)),
            r"^accuracy\(targets=...\) must be .* \[8\], .* got \[8, 1\].*`targets\[",
        ),
        (((3, 3), (3, 3)), r"^accuracy\(targets=...\) must be .* \[3\], .*`targets\.argmax\(-1\)`"),
    ],
)
def test_an_accuracy_of_labels_of_another_shape_is_refused(shapes, words):
    with pytest.raises(ValueError, match=words):
        accuracy(*given(*shapes))
