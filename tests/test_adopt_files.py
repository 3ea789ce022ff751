"""``adopt`` on what Orbax and Flax have written and read."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from adopt_tasks import BASE, COOLDOWN, GRADS, ORIGINS, PARAMS, RATE, adamw, as_dicts, at, sgd

import jaxsched as js
from jaxsched.controllers import Greedy, Plateau, Trigger
from jaxsched.optim import adopt, current, inject, resume


@pytest.fixture
def orbax(tmp_path):
    """Saves a state and gives it back, with or without a target."""
    ocp = pytest.importorskip("orbax.checkpoint")

    def through(state, *target):
        path = tmp_path / "state"
        with ocp.StandardCheckpointer() as checkpointer:
            checkpointer.save(path, state, force=True)
            checkpointer.wait_until_finished()
            return checkpointer.restore(path, *target)

    return through


def test_orbax_restores_a_state_under_other_numbers_and_kinds(orbax):
    tx = adamw(Plateau(BASE, 0.5, patience=0))
    state = at(50, tx)
    for loss in (1.0, 1.0):
        state = js.observe(state, value=loss)

    # Other numbers: the structure is that of the target, the numbers are those that were saved.
    slower = adamw(Plateau(2 * BASE, 0.9, patience=5))
    other = adamw(Plateau(js.warmup_cosine(0.2, 100, 10), 0.9, patience=5))
    restored = orbax(state, other.init(PARAMS))
    jax.tree.map(np.testing.assert_array_equal, restored, state)
    with pytest.raises(ValueError, match="policy"):
        resume(restored, other.init(PARAMS))
    new = resume(restored, other.init(PARAMS), policy="new")
    assert float(current(new)["learning_rate"]) == pytest.approx(2 * RATE / 2, rel=1e-6)

    # Another kind: without a target, by names. What a Plateau remembers is known by its fields.
    for fresh, rate in [
        (slower, 2 * RATE / 2),
        (adamw(Trigger(Plateau(BASE), COOLDOWN)), RATE / 2),
        (adamw(BASE), RATE),
        (adamw(Greedy(BASE)), RATE),
    ]:
        new = adopt(orbax(state), fresh.init(PARAMS))
        assert float(current(new)["learning_rate"]) == pytest.approx(rate, rel=1e-6)
        jax.tree.map(np.testing.assert_array_equal, new.inner_state, state.inner_state)


@pytest.mark.parametrize("plain", [optax.adamw(BASE), ORIGINS["inject_hyperparams"]])
def test_orbax_restores_plain_optax_into_ours(orbax, plain):
    tx = adamw(BASE)
    state = adopt(orbax(at(50, plain)), tx.init(PARAMS))
    assert float(current(state)["learning_rate"]) == pytest.approx(RATE, rel=1e-6)
    assert float(state.inner_state[0].nu["b"][0]) == 0.25


def test_flax_writes_dicts_that_are_adopted_and_its_optimizer_adopts_in_place():
    from flax import nnx, serialization

    dicts = serialization.msgpack_restore(serialization.to_bytes(at(50, optax.adamw(0.3))))
    state = adopt(dicts, adamw(BASE).init(PARAMS))
    assert float(current(state)["learning_rate"]) == pytest.approx(RATE, rel=1e-6)

    model = nnx.Linear(2, 1, rngs=nnx.Rngs(0))
    old = nnx.Optimizer(model, optax.adamw(0.3), wrt=nnx.Param)
    step = nnx.jit(lambda m, o: o.update(m, nnx.grad(lambda m: m(jnp.ones((1, 2))).sum())(m)))
    for _ in range(3):
        step(model, old)
    new = nnx.Optimizer(model, adamw(js.Linear(0.4, 0.0, 4)), wrt=nnx.Param)
    assert adopt(old, new) is new
    assert float(current(new)["learning_rate"]) == pytest.approx(0.1)
    assert int(new.opt_state.inner_state[0].count[...]) == 3
    assert int(new.step[...]) == 3

    whole = nnx.state(old)  # the numbers of an optimizer, without its classes
    again = adopt(whole["opt_state"], nnx.Optimizer(model, adamw(BASE), wrt=nnx.Param))
    assert int(again.opt_state.count[...]) == 3
    for saved, fresh, cure in (
        (whole, new, r"Give saved\['opt_state'\]"),
        (old, nnx.state(new), r"nnx.state has the numbers only: give the nnx\.Optimizer"),
    ):
        with pytest.raises(ValueError, match=cure):
            adopt(saved, fresh)


def test_nnx_variables_are_given_back_as_such_and_flax_goes_on_with_them():
    from flax import nnx

    model = nnx.Linear(2, 1, rngs=nnx.Rngs(0))
    grads = nnx.grad(lambda m: m(jnp.ones((1, 2))).sum())(model)

    def optimizer(tx, updates=0):
        made = nnx.Optimizer(model, tx, wrt=nnx.Param)
        for _ in range(updates):
            made.update(model, grads)
        return made

    plain, ours = optimizer(optax.adamw(0.3), 3), optimizer(adamw(js.Constant(0.2)), 3)
    new = optimizer(adamw(Plateau(js.Linear(0.4, 0.0, 4), 0.5, patience=0)))
    changes = (
        (lambda state: adopt(plain.opt_state, state), 0.1),
        (lambda state: resume(ours.opt_state, state, policy="new"), 0.1),
        (lambda state: js.observe(js.observe(state, value=1.0), value=1.0), 0.0),
        (lambda state: js.override(state, learning_rate=0.25), 0.25),
        (lambda state: resume(ours.opt_state, state, policy="checkpoint"), 0.2),
        (lambda state: resume(ours, new, policy="checkpoint").opt_state, 0.2),
    )
    for change, rate in changes:
        if rate == 0.2:  # another schedule in the state, and so another structure
            new = optimizer(adamw(js.Linear(0.4, 0.0, 4)))
        new.opt_state = change(new.opt_state)
        assert float(current(new, upcoming=True)["learning_rate"]) == pytest.approx(rate)
        done = int(new.opt_state.count[...])
        new.update(model, grads)
        assert int(new.opt_state.count[...]) == int(new.opt_state.inner_state[0].count[...])
        assert int(new.opt_state.count[...]) == done + 1


def test_a_linen_train_state_is_resumed_and_adopted_as_a_whole():
    from flax.training.train_state import TrainState

    def trained(tx, updates=3):
        state = TrainState.create(apply_fn=None, params=PARAMS, tx=tx)
        for _ in range(updates):
            state = state.apply_gradients(grads=GRADS)
        return state

    new = trained(inject(optax.adam)(learning_rate=Plateau(js.Linear(0.4, 0.0, 4))), 0)
    ours, plain = (
        trained(inject(optax.adam)(learning_rate=js.Constant(0.1))),
        trained(optax.adam(0.1)),
    )
    for state in (resume(ours, new, policy="new"), adopt(ours, new), adopt(plain, new)):
        assert float(current(state)["learning_rate"]) == pytest.approx(0.1)
        assert state.step == 3
        np.testing.assert_array_equal(state.params["w"], ours.params["w"])
        assert int(state.apply_gradients(grads=GRADS).opt_state.count) == 4
    whole = {"opt_state": as_dicts(plain.opt_state), "step": 3, "params": PARAMS}
    for saved, fresh, cure in (
        (whole, new.opt_state, r"Give saved\['opt_state'\], or"),
        (plain, new.opt_state, r"Give saved\.opt_state, or"),
        (plain.opt_state, new, r"Give fresh\.opt_state, or"),
    ):
        with pytest.raises(ValueError, match=cure):
            adopt(saved, fresh)


def test_orbax_restores_what_nnx_saved(orbax):
    from flax import nnx

    def optimizer(tx):
        model = nnx.Linear(2, 1, rngs=nnx.Rngs(0))
        return nnx.Optimizer(model, tx, wrt=nnx.Param)

    old = optimizer(optax.adamw(0.3))
    nnx.update(old.opt_state, nnx.state(at(50, nnx.as_pure(old.opt_state))))
    for saved in (nnx.state(old), nnx.to_pure_dict(nnx.state(old))):
        new = adopt(orbax(saved)["opt_state"], optimizer(adamw(BASE)))
        assert float(current(new)["learning_rate"]) == pytest.approx(RATE, rel=1e-6)


def test_random_keys_in_a_state_go_on():
    def tx(rate, seed):
        return optax.chain(optax.add_noise(0.1, 0.5, jax.random.key(seed)), sgd(rate))

    old = at(50, tx(BASE, 0))
    for state in (
        resume(old, tx(BASE, 1).init(PARAMS)),
        resume(old, tx(Plateau(BASE), 1).init(PARAMS), policy="new"),
        adopt(old, tx(Plateau(BASE), 1).init(PARAMS)),
    ):
        assert (state[0].rng_key == old[0].rng_key).all()
        assert float(current(state, upcoming=True)["learning_rate"]) == pytest.approx(RATE)
