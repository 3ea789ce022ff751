"""What ``Supervised`` refuses when it is made, by the argument at fault."""

import jax
import optax
import pytest
from flax import nnx  # noqa: F401  # without it no function is taken for one that makes its modules
from supervised_tasks import Linen
from sweep_tasks import apply, data, init, momentum, supervised

from jaxsched import search
from jaxsched.search import Supervised

LOSS = optax.softmax_cross_entropy_with_integer_labels


X, Y = data(192)


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
        ({"metrics": {"a": 3}}, TypeError, "'a', must be a function of outputs and targets, got 3"),
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
            {"model": Linen},
            TypeError,
            r"got the class Linen: give `Linen\(...\)`",
        ),
        ({"metrics": search.accuracy}, TypeError, "dict name -> function, got <function"),
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


def test_a_lone_function_of_a_key_is_told_of_the_pair():
    with pytest.raises(TypeError) as caught:
        supervised(model=lambda key: jax.random.normal(key, (6, 3)))
    assert "as a pair, model=(init, apply)" in "".join(caught.value.__notes__)
