"""What the seam to Optax refuses, and what it names."""

import jax
import jax.numpy as jnp
import optax
import pytest
from updates import LR, PARAMS

import jaxsched as js
from jaxsched.optim import (
    current,
    inject,
)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: inject(optax.adam(1.0)), TypeError, "inject"),
        (lambda: inject(optax.adam)(learning_rate=0.1), ValueError, "js.Constant"),
        (lambda: inject(optax.adam)(LR, beta=LR), TypeError, "beta"),
        (lambda: inject(optax.adam)(LR, nesterov=LR), TypeError, "nesterov"),
        (lambda: inject(optax.adam)(LR, mu_dtype=LR), TypeError, "mu_dtype"),
        (lambda: inject(optax.adam, static_args="no"), ValueError, "static_args"),
        (lambda: inject(optax.sgd, hyperparam_dtype=jnp.int32), TypeError, "hyperparam_dtype"),
        (lambda: inject(optax.sgd, hyperparam_dtype="bf16"), TypeError, "must be a floating"),
        (lambda: inject(optax.sgd, static_args=None), TypeError, "must be names of arguments"),
    ],
)
def test_errors_name_the_argument(call, error, words):
    with pytest.raises(error, match=words):
        call()


@pytest.mark.parametrize(
    "every",
    [
        js.piecewise_constant([2], [1, 3]),
        js.piecewise_constant([js.share(0.02)], [1, 3], steps=100),
        js.Shift(js.Quantize(js.Reverse(js.Stretch(js.Table([3, 3, 1, 1]), 0.5)), 1), 0),
    ],
)
def test_an_integer_schedule_says_how_many_micro_batches_make_an_update(every):
    assert every(0).dtype == jax.jit(every)(0).dtype == jnp.int32
    tx = optax.MultiSteps(optax.sgd(1.0), every_k_schedule=every)
    params = {"w": jnp.zeros(2)}
    state, update, updated = tx.init(params), jax.jit(tx.update), []
    for micro_step in range(1, 9):
        updates, state = update({"w": jnp.ones(2)}, state, params)
        updated += [micro_step] if updates["w"].any() else []
    assert updated == [1, 2, 5, 8]


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: inject(optax.adam)(js.cosine_decay), r"js\.cosine_decay is a recipe, not called"),
        (lambda: inject(optax.adam)(learning_rate=js.Plateau), r"a class, not called: give js\.Pl"),
        (lambda: inject(optax.adamw)(LR, weight_decay=js.wsd), r"\(weight_decay=\.\.\.\) must be"),
        (lambda: js.Shift(js.wsd, 3), r"js\.wsd is a recipe, not called: give js\.wsd\("),
        (lambda: js.Plateau(js.wsd), r"js\.wsd is a recipe, not called"),
        (lambda: js.Sequence([js.wsd]), r"js\.wsd is a recipe, not called"),  # type: ignore[list-item]
        (lambda: js.with_warmup(js.wsd, 3), r"js\.wsd is a recipe, not called"),
        (lambda: js.plot(js.wsd), r"js\.wsd is a recipe, not called"),
        (lambda: inject(optax.adam, learning_rate=LR), r"second call: js\.inject\(adam\)\(learn"),
        (lambda: inject(optax.adam, 0.1), r"second call: js\.inject\(adam\)\(\.\.\.\)"),
    ],
)
def test_what_was_not_called_or_is_given_too_early_is_told(build, words):
    with pytest.raises(TypeError, match=words):
        build()


def test_a_recipe_may_be_an_argument_that_is_left_alone():
    def factory(lr, make):
        return optax.sgd(make(lr, 10)(0))

    tx = inject(factory, static_args="make")(LR, make=js.cosine_decay)
    assert float(current(tx.init(PARAMS))["lr"]) == pytest.approx(float(LR(0)))
