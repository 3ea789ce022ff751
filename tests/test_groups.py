"""Groups of parameters: their ratios, names and multipliers, and groups of injected optimizers."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from updates import EXPECTED, GRADS, LR, PARAMS, applied

import jaxsched as js
from jaxsched.optim import current, decay_weights, group_lr, inject, layerwise_decay, override


def test_groups_keep_their_ratios():
    tx = group_lr(optax.sgd, {"w": 0.5, "b": 2.0})(learning_rate=LR)
    rates, state = applied(tx)
    np.testing.assert_allclose(rates, 0.5 * EXPECTED, rtol=1e-6)
    np.testing.assert_allclose(applied(tx, leaf="b")[0], 2 * EXPECTED, rtol=1e-6)
    assert float(current(state)["b/learning_rate"]) == pytest.approx(2 * EXPECTED[-1])
    state = override(state, group="w", multiplier=0.0)
    assert float(tx.update(GRADS, state, PARAMS)[0]["w"][0]) == 0.0
    for groups, words in [
        ({"w": 1.0}, "'b'"),
        ({".*": 1.0, "w": 1.0}, "'w'"),
        ({".*": 1.0, "x": 1.0}, "'x'"),
    ]:
        with pytest.raises(ValueError, match=words):
            group_lr(optax.sgd, groups)(learning_rate=LR).init(PARAMS)
    assert layerwise_decay(["a", "b"], 0.5) == {"a": 0.5, "b": 1.0}


@pytest.mark.parametrize(
    "zero", [0.0, js.piecewise_constant([9], [0.0, 1.0]), "override", "traced"]
)
def test_a_multiplier_of_zero_freezes_a_group_whatever_its_gradients_are(zero):
    grads = {"w": jnp.array([jnp.nan, jnp.inf, 1.0]), "b": jnp.ones(2)}

    def update(multiplier):
        tx = group_lr(optax.adam, {"w": multiplier, "b": 1.0})(learning_rate=0.5)
        state = tx.init(PARAMS)
        if zero == "override":
            state = override(state, group="w", multiplier=0.0)
        return tx.update(grads, state, PARAMS)[0]

    updates = (
        jax.jit(update)(0.0) if zero == "traced" else update(1.0 if zero == "override" else zero)
    )
    assert updates["w"].tolist() == [0.0, 0.0, 0.0]
    np.testing.assert_allclose(updates["b"], -0.5, rtol=1e-5)


def test_groups_have_names_that_loggers_take():
    params = {"layers": [{"w": jnp.ones(1)} for _ in range(3)], "head": jnp.ones(1)}
    tx = group_lr(
        optax.sgd, {r"layers/(0|1)/.*": 0.25, "top": ("layers/2/w", 0.5), r"(?!layers).*": 1.0}
    )(learning_rate=1.0)
    state = tx.init(params)
    names = {"layers/0_1/learning_rate", "top/learning_rate", "not_layers/learning_rate"}
    assert set(current(state)) == {"learning_rate", *names}
    assert all(re.fullmatch(r"[\w\-./]+", name, re.ASCII) for name in current(state))
    for group in ("layers/0_1", r"layers/(0|1)/.*"):  # by the name or by the expression
        new = override(state, group=group, multiplier=0.125)
        updates, _ = tx.update(params, new, params)
        assert [float(x["w"][0]) for x in updates["layers"]] == [-0.125, -0.125, -0.5]
    for groups, words in [
        ({"a/.*": 1.0, "a": ("b", 1.0)}, r"another name than 'a' for 'b'"),
        ({"*": ("b", 1.0)}, r"another name than '\*'"),
        ({"a": ("b",)}, r"\(regular expression, multiplier\) for 'a'"),
    ]:
        with pytest.raises(ValueError, match=words):
            group_lr(optax.sgd, groups)


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_stacked_layers_have_the_updates_and_names_of_layers_that_are_not_stacked(axis):
    apart = {"layers": {str(i): {"w": jnp.full((2,), i + 1.0)} for i in range(3)}}
    stack = {"layers": {"w": jnp.stack([x["w"] for x in apart["layers"].values()], axis)}}
    half = layerwise_decay([f"layers/{i}/.*" for i in range(3)], 0.5)
    tx = [
        group_lr(optax.adam, half)(learning_rate=LR),
        group_lr(optax.adam, layerwise_decay([("layers/.*", 3)], 0.5), layer_axis=axis)(
            learning_rate=LR
        ),
    ]
    states = [tx[0].init(apart), tx[1].init(stack)]
    assert set(current(states[0])) == set(current(states[1]))
    for change in ({"group": "layers/1", "multiplier": 3.0}, {"group": "layers", "multiplier": 0}):
        some = [tx[i].update(grads, states[i])[0] for i, grads in enumerate((apart, stack))]
        want = jnp.stack([x["w"] for x in some[0]["layers"].values()], axis)
        np.testing.assert_array_equal(some[1]["layers"]["w"], want)
        states = [override(state, **change) for state in states]
    assert {float(x) for name, x in current(states[1]).items() if "/" in name} == {0.0}


def test_a_group_is_not_the_groups_below_its_name():
    params = {name: jnp.ones(1) for name in ("a", "b", "c", "body", "head")}
    groups = {"body": ("a", 0.5), "body/attn": ("b", 0.5), "body/0": ("c", 0.5), "head": 0.5}
    groups["body/1_2"] = ("body", 0.5)  # the name of body/(1|2)/.*
    state = group_lr(optax.sgd, groups)(learning_rate=1.0).init(params)
    changed = current(override(state, group="body", multiplier=0.125))
    assert {n for n, x in changed.items() if x == 0.125} == {"body/learning_rate"}
    with pytest.raises(ValueError, match=r"must be '\*' or one of .*got 'bo'"):
        override(state, group="bo", multiplier=0.125)
    del groups["body"], params["a"]
    state = group_lr(optax.sgd, groups)(learning_rate=1.0).init(params)
    changed = current(override(state, group="body", multiplier=0.125))
    assert {n for n, x in changed.items() if x == 0.125} == {
        f"body/{layer}/learning_rate" for layer in ("0", "1_2")
    }


def test_each_stacked_layer_may_have_a_schedule_and_the_number_of_layers_is_checked():
    layers = [js.piecewise_constant([2 - i], [0.0, 1.0]) for i in range(3)]
    tx = group_lr(optax.sgd, {"w": layers, "b": 1.0})(learning_rate=1.0)
    state, params = tx.init(PARAMS), {"w": jnp.ones((3, 2)), "b": jnp.ones(1)}
    for want in ([0, 0, 1], [0, 1, 1], [1, 1, 1]):
        updates, state = tx.update(params, state)
        assert (-updates["w"][:, 0]).tolist() == want
    for groups, words in [
        ({"w": [1.0, 2.0], "b": 1.0}, r"'w' must have 2 layers on axis 0 .*\[3\]"),
        ({"w": np.ones((3, 1)), "b": 1.0}, "one multiplier for each layer of the stack"),
        ({"w": [], "b": 1.0}, "one multiplier for each layer of the stack"),
        ({"w": (1.0, 2.0), "b": 1.0}, "multipliers of stacked layers are a list"),
        ({"w": [1.0, 2.0, 3.0], "w/1": ("b", 1.0)}, "another name than 'w/1'"),
    ]:
        with pytest.raises(ValueError, match=words):
            group_lr(optax.sgd, groups)(learning_rate=1.0).init(PARAMS)
    with pytest.raises(TypeError, match=r"layerwise_decay\(patterns=...\) must hold"):
        layerwise_decay([3], 0.5)
    with pytest.raises(TypeError, match=r'must be a list.*\[\("layers/\.\*", 12\)\]'):
        layerwise_decay(12, 0.75)
    with pytest.raises(TypeError, match=r"Write group_lr\(optax.adam, groups\)\(learning_rate"):
        group_lr(optax.adamw(0.1), {".*": 1.0})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            {"group": "a", "learning_rate": 0.2},
            r"one learning_rate for all groups.*multiplier=\.\.",
        ),
        ({"group": "zz", "learning_rate": 0.2}, r"'\*' or one of \['a', 'b'\], got 'zz'"),
        ({"group": "zz", "multiplier": 0.2}, r"'\*' or one of \['a', 'b'\], got 'zz'"),
        ({"multiplier": 0.1}, r"must be given group=, '\*' for all or one of \['a', 'b'\]"),
        ({"group": "a", "momentum": 0.1}, "must name a hyperparameter that is injected"),
    ],
)
def test_a_change_of_a_group_that_cannot_be_meant_names_the_groups(change, words):
    tx = group_lr(optax.sgd, {"a": ("w", 0.5), "b": 2.0})(learning_rate=1.0)
    with pytest.raises(ValueError, match=words):
        override(tx.init(PARAMS), **change)
    state = inject(optax.sgd)(LR).init(PARAMS)
    with pytest.raises(ValueError, match="as there are no groups, got 'a'"):
        override(state, group="a", learning_rate=0.2)


def test_a_place_in_a_chain_is_a_group_where_names_differ():
    decay = inject(decay_weights)(weight_decay=js.Constant(0.5))
    state = optax.chain(inject(optax.sgd)(learning_rate=LR), decay).init(PARAMS)
    changed = override(state, group="1", weight_decay=0.25)
    assert float(current(changed)["weight_decay"]) == 0.25
    for change, words in [
        ({"group": "7", "weight_decay": 0.25}, r"one of \['0', '1'\], got '7'"),
        ({"group": "0", "weight_decay": 0.25}, "got 'weight_decay' in group '0'"),
    ]:
        with pytest.raises(ValueError, match=words):
            override(state, **change)


def test_all_groups_are_meant_by_a_star():
    masks = {"w": True, "b": False}, {"w": False, "b": True}
    x, y = (optax.masked(inject(optax.sgd)(LR), mask) for mask in masks)
    chained, named = optax.chain(x, y), optax.named_chain(("x", x), ("y", y))
    labels = optax.partition({k: inject(optax.sgd)(LR) for k in "xy"}, {"w": "x", "b": "y"})
    for tx, groups in ((chained, "01"), (named, "xy"), (labels, "xy")):
        state = tx.init(PARAMS)
        assert set(current(state)) == {f"{group}/learning_rate" for group in groups}
        with pytest.raises(ValueError, match=r"ambiguous; give group=, '\*' for all"):
            override(state, scale={"learning_rate": 0.5})
        _, state = tx.update(GRADS, state, PARAMS)
        state = override(state, group="*", scale={"learning_rate": 0.5})
        state = override(state, group=groups[1], scale={"learning_rate": 0.25})
        updates, state = tx.update(GRADS, state, PARAMS)
        rates = [-float(updates[name][0]) for name in "wb"]
        np.testing.assert_allclose(rates, EXPECTED[1] * np.array([0.5, 0.25]), rtol=1e-6)

    # The groups of one rate: it is halved once, and their multipliers are changed by their name.
    tx = group_lr(optax.sgd, {"w": 0.5, "b": 2.0})(learning_rate=1.0)
    state = override(tx.init(PARAMS), group="*", scale={"learning_rate": 0.5})
    updates, _ = tx.update(GRADS, state, PARAMS)
    assert [-float(updates[name][0]) for name in "wb"] == [0.25, 1.0]
    state = override(state, group="*", multiplier=4.0)
    updates, _ = tx.update(GRADS, state, PARAMS)
    assert [-float(updates[name][0]) for name in "wb"] == [2.0, 2.0]
    with pytest.raises(ValueError, match="momentum"):
        override(state, group="*", momentum=0.5)


def test_a_group_may_have_a_controller_of_its_own():
    plateau = js.Plateau(1.0, factor=0.5, patience=0)
    groups = {"slow": ("w", plateau), "fast": ("b", js.Linear(1.0, 0.0, 4))}
    tx = group_lr(optax.sgd, groups)(learning_rate=js.Constant(0.5))
    state = tx.init(PARAMS)
    for want in (0.5, 0.5, 0.25):
        updates, state = tx.update(GRADS, state, PARAMS, value=1.0)
        np.testing.assert_allclose(updates["w"], -want * GRADS["w"], rtol=1e-6)
    assert float(current(state)["fast/learning_rate"]) == 0.25
    told = js.observe(state, group="slow", value=2.0)
    assert float(js.remembered(told)["slow/learning_rate/scale"]) == 0.125
    with pytest.raises(ValueError, match=r"group 'fast' has none, \['slow'\] have"):
        js.observe(state, group="fast", value=2.0)
