"""Optimizer states in Flax, in files and in exports."""

import itertools
import pickle

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from updates import GRADS, LR, PARAMS

import jaxsched as js
from jaxsched._struct import Record
from jaxsched.optim import (
    InjectState,
    Override,
    _register,
    adopt,
    current,
    group_lr,
    inject,
    override,
    register_export,
)


def test_linen_train_state_and_nnx_optimizer():
    from flax import nnx
    from flax.training.train_state import TrainState

    tx = inject(optax.sgd)(learning_rate=LR)
    train = TrainState.create(apply_fn=None, params=PARAMS, tx=tx)
    train = override(train.apply_gradients(grads=GRADS), learning_rate=0.25)
    train = train.apply_gradients(grads=GRADS)
    assert float(current(train)["learning_rate"]) == 0.25
    np.testing.assert_allclose(train.params["w"], 0.75)

    model = nnx.Linear(1, 1, rngs=nnx.Rngs(0))
    tx = group_lr(optax.sgd, {"kernel": 1.0, "bias": 0.5})(learning_rate=LR)
    optimizer = nnx.Optimizer(model, tx, wrt=nnx.Param)
    step = nnx.jit(lambda m, o: o.update(m, nnx.grad(lambda m: m.bias[...].sum())(m)))
    before = float(model.bias[0])
    step(model, optimizer)
    override(optimizer, learning_rate=0.25)
    step(model, optimizer)
    assert float(model.bias[0]) == pytest.approx(before - 0.5 * 0.25)
    assert float(current(optimizer)["bias/learning_rate"]) == 0.125


@pytest.mark.parametrize(
    "schedule",
    [LR, js.Clip(js.Table([0.5, 0.25]), high=0.4), js.from_fn(lambda t, a: a / (1 + t), a=1.0)],
    ids=["sequence", "optional field", "function"],
)
def test_flax_writes_and_reads_a_state_bit_for_bit(schedule):
    serialization = pytest.importorskip("flax.serialization")
    tx = inject(optax.adam)(learning_rate=schedule, b1=js.Constant(0.9))
    start = tx.init(PARAMS)
    _, state = tx.update(GRADS, start, PARAMS)
    again = serialization.from_bytes(start, serialization.to_bytes(state))
    assert jax.tree.structure(again) == jax.tree.structure(state)
    for a, b in zip(jax.tree.leaves(again), jax.tree.leaves(state), strict=True):
        assert a.dtype == b.dtype and np.array_equal(a, b)


def test_flax_refuses_a_state_of_other_kinds_of_schedules():
    serialization = pytest.importorskip("flax.serialization")
    make = lambda schedule: inject(optax.sgd)(learning_rate=schedule).init(PARAMS)
    cosine, linear = make(js.Cosine(0.1, 0.0, 9)), make(js.Linear(0.1, 0.0, 9))
    alike = (make(js.MirrorCosine(0.1, 0.0, 9)), cosine)  # of the same fields
    for fresh, saved in (
        *itertools.permutations((cosine, make(LR), make(js.Plateau(0.1))), 2),
        *itertools.permutations(alike),
        (make(js.maximum(0.1, 0.2)), make(js.minimum(0.1, 0.2))),
    ):
        with pytest.raises(ValueError, match=r"must have the kinds of schedules .* js\.resume"):
            serialization.from_bytes(fresh, serialization.to_bytes(saved))
    with pytest.raises(ValueError, match=r"got Linear\(end, start, steps\) for what has end, exp"):
        serialization.from_bytes(linear, serialization.to_bytes(cosine))


def test_the_rate_is_found_by_current_and_by_optax_with_a_filter():
    state = inject(optax.adam)(learning_rate=LR).init(PARAMS)
    is_value = lambda path, value: isinstance(value, jax.Array)
    found = optax.tree_utils.tree_get(state, "learning_rate", filtering=is_value)
    assert float(found) == float(current(state)["learning_rate"])


def test_states_have_the_names_that_files_know_them_by():
    """Flax and Orbax go by the fields, pickles and ``jax.export`` by the classes too."""
    serialization = pytest.importorskip("flax.serialization")
    tx = js.inject(optax.adam)(learning_rate=js.cosine_decay(0.1, 10))
    state = js.override(tx.init(PARAMS), learning_rate=0.03)
    held = serialization.to_state_dict(state)
    assert " ".join(held) == "count values schedules controller_states knobs inner_state"
    assert list(held["knobs"]["learning_rate"]) == ["scale", "fixed", "is_fixed"]
    assert int(adopt({**held, "count": jnp.int32(3)}, tx.init(PARAMS)).count) == 3
    assert pickle.loads(b"cjaxsched.optim._state\nOverride\n.") is Override
    assert pickle.loads(b"cjaxsched.optim._state\nInjectState\n.") is InjectState
    register_export(state)
    data = bytes(jax.export.export(jax.jit(tx.update))(GRADS, state, PARAMS).serialize())
    for name in ("Override", "InjectState", "Cosine"):
        assert f"jaxsched.{name}".encode() in data


def test_a_class_is_exported_under_its_own_name_wherever_it_is():
    found = [getattr(home, n) for home in (js, js.schedules, js.controllers) for n in dir(home)]
    kinds = {x for x in found if isinstance(x, type) and issubclass(x, Record)}
    kinds |= {kind.State for kind in kinds if hasattr(kind, "State")}
    names = {_register._name(kind) for kind in kinds}
    assert len(names) == len(kinds) > 60
    assert {"jaxsched.Cosine", "jaxsched.Greedy", "jaxsched.GreedyState"} <= names


C = js.controllers


@pytest.mark.parametrize("more", [{}, {"smooth": 0.5}, {"window": 3}, {"reset": 2}])
@pytest.mark.parametrize("kind", [C.Greedy, C.Plateau])
def test_adopt_takes_the_memory_of_a_controller_with_other_options(kind, more):
    serialization = pytest.importorskip("flax.serialization")
    more = {name: x for name, x in more.items() if name in kind._names}
    tx, longer = (
        inject(optax.sgd)(learning_rate=kind(1.0, factor=0.5, patience=0, **kw))
        for kw in ({}, more)
    )
    state = tx.init(PARAMS)
    for value in (1.0, 2.0, 3.0):
        state = tx.update(GRADS, state, PARAMS, value=value)[1]
    for saved in (state, serialization.to_state_dict(state)):
        adopted = adopt(saved, longer.init(PARAMS))
        assert float(current(adopted)["learning_rate"]) == float(
            state.schedules["learning_rate"](state.controller_states["learning_rate"])
        )
        assert jax.tree.structure(longer.update(GRADS, adopted, PARAMS, value=4.0)[1]) == (
            jax.tree.structure(adopted)
        )
        back = adopt(adopted, tx.init(PARAMS))
        chex.assert_trees_all_equal(
            back.controller_states, adopt(saved, tx.init(PARAMS)).controller_states
        )


@pytest.mark.parametrize("kind", [C.Greedy, C.Plateau])
def test_adopt_keeps_a_memory_that_was_saved_as_numbers(kind):
    """In x64 mode they are 64-bit ones, which a state has not."""
    serialization = pytest.importorskip("flax.serialization")
    with jax.enable_x64(True):
        tx = inject(optax.sgd)(learning_rate=kind(1.0, factor=0.5, patience=5))
        state = tx.init(PARAMS)
        for value in (2.0, 3.0, 4.0):
            state = js.observe(state, value=value)
        held = serialization.to_state_dict(state)
        del held["schedules"]
        adopted = adopt(jax.tree.map(lambda x: np.asarray(x).tolist(), held), tx.init(PARAMS))
        chex.assert_trees_all_equal(adopted.controller_states, state.controller_states)
        chex.assert_trees_all_equal_dtypes(adopted.controller_states, state.controller_states)


def test_an_update_step_is_exported():
    tx = inject(optax.adam)(learning_rate=LR)
    state = tx.init(PARAMS)
    register_export(state)
    step = jax.jit(tx.update)
    data = jax.export.export(step)(GRADS, state, PARAMS).serialize()
    chex.assert_trees_all_equal(
        jax.export.deserialize(data).call(GRADS, state, PARAMS), step(GRADS, state, PARAMS)
    )
