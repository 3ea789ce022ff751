"""Optimizer states in Flax, in files, in exports; and those of before a field was added."""

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
    resume,
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


def test_states_have_the_names_that_files_of_before_know_them_by():
    """Flax and Orbax go by the fields, pickles and ``jax.export`` by the classes too."""
    serialization = pytest.importorskip("flax.serialization")
    tx = js.inject(optax.adam)(learning_rate=js.cosine_decay(0.1, 10))
    state = js.override(tx.init(PARAMS), learning_rate=0.03)
    held = serialization.to_state_dict(state)
    assert " ".join(held) == "count values schedules controller_states knobs inner_state"
    assert list(held["knobs"]["learning_rate"]) == ["scale", "fixed", "is_fixed"]
    assert int(adopt({**held, "count": jnp.int32(3)}, tx.init(PARAMS)).count) == 3
    assert pickle.loads(b"cjaxsched.optim._state\nKnob\n.") is Override
    assert pickle.loads(b"cjaxsched.optim._state\nInjectState\n.") is InjectState
    register_export(state)
    data = bytes(jax.export.export(jax.jit(tx.update))(GRADS, state, PARAMS).serialize())
    for name in ("optim.Knob", "optim.InjectState", "schedules._shapes.Cosine"):
        assert f"jaxsched.{name}".encode() in data


FIRST_MODULES = {
    "schedules._base": "Constant Sequence Product Sum Minimum Maximum",
    "schedules._laws": "Exponential InverseSqrt InverseTime PowerLaw RAdamWarmup Silver",
    "schedules._shapes": "Linear Cosine Polynomial Sqrt Tanh Rex HalfCosine QuarterCosine "
    "MirrorCosine Harmonic ShiftedExponential Geometric Warp",
    "schedules._piecewise": "PiecewiseConstant Table PiecewiseLinear PiecewiseCosine MonotoneCubic",
    "schedules._wrappers": "Stretch Shift Window Quantize Reverse Repeat Clip",
    "schedules._function": "Function",
    "controllers._autodecay": "AutoDecay",
    "controllers._bounce": "Bounce",
    "controllers._greedy": "Greedy",
    "controllers._newbob": "NewBob",
    "controllers._plateau": "Plateau",
    "controllers._trigger": "Trigger",
    "controllers._average": "Average",
    "controllers._gap": "Gap Work",
}


@pytest.mark.parametrize("module", FIRST_MODULES)
def test_a_class_is_exported_under_the_module_where_it_was_first(module):
    """A module may move: then it needs a line in ``_MOVED``."""
    for name in FIRST_MODULES[module].split():
        kind = getattr(js, name, None) or getattr(js.controllers, name, None)
        kind = kind or getattr(js.schedules, name)
        assert _register._name(kind) == f"jaxsched.{module}.{name}"
        if state := getattr(kind, "State", None):
            assert _register._name(state) == f"jaxsched.{module}.{name}State"


def _as_before(tree, added=("min_lr", "smooth", "quiet", "eps", "reset", "warmup", "condition")):
    """The dicts of a state, as of before these fields and the names of kinds."""
    added = {*added, "lowest", "recent", "average", "weight"}
    if not isinstance(tree, dict):
        return tree
    return {k: _as_before(v) for k, v in tree.items() if k not in added and k[-1] != ")"}


C = js.controllers


@pytest.mark.parametrize(
    "source", [js.Repeat(js.Linear(1.0, 0.0, 4)), js.Silver(1.0), C.Bounce(1.0)]
)
def test_flax_reads_schedules_of_before_a_field_was_added(source):
    serialization = pytest.importorskip("flax.serialization")
    tx = inject(optax.sgd)(learning_rate=source)
    state = tx.update(GRADS, tx.init(PARAMS), PARAMS)[1]
    dicts = _as_before(serialization.to_state_dict(state))
    chex.assert_trees_all_equal(serialization.from_state_dict(tx.init(PARAMS), dicts), state)
    with pytest.raises(ValueError, match=r"for what has \."):  # not one that was always there
        serialization.from_state_dict(state, {**dicts, "schedules": {"learning_rate": {}}})


@pytest.mark.parametrize("more", [{}, {"smooth": 0.5}, {"window": 3}, {"reset": 2}])
@pytest.mark.parametrize("kind", [C.Greedy, C.Plateau])
def test_adopt_takes_the_memory_of_a_controller_of_before_a_field_was_added(kind, more):
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
        saved = saved if saved is state else _as_before(saved)
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


def test_pickles_and_exports_of_before_a_field_was_added_are_read():
    start = C.Greedy(1.0).init()
    assert jax.tree.structure(C.Greedy.State(*start[:9])) == jax.tree.structure(start)
    greedy = C.Greedy(0.5, patience=3)
    held = {k: v for k, v in greedy.__dict__.items() if k not in ("window", "min_lr", "eps")}
    again = object.__new__(C.Greedy)
    again.__setstate__(held)
    assert again == greedy
    (children, aux), count = jax.tree_util.default_registry.flatten_one_level(greedy), 10
    again = _register._of_before(C.Greedy)(aux[:2], list(children)[:count])
    assert (again.patience, again.mode, again.window, again.eps) == (3, "min", None, None)
    tx = inject(optax.sgd)(learning_rate=greedy)
    state = tx.init(PARAMS)
    saved = state._replace(schedules={"learning_rate": again})
    chex.assert_trees_all_close(resume(saved, state, policy="checkpoint"), state)


def test_an_update_step_is_exported():
    tx = inject(optax.adam)(learning_rate=LR)
    state = tx.init(PARAMS)
    register_export(state)
    step = jax.jit(tx.update)
    data = jax.export.export(step)(GRADS, state, PARAMS).serialize()
    chex.assert_trees_all_equal(
        jax.export.deserialize(data).call(GRADS, state, PARAMS), step(GRADS, state, PARAMS)
    )
