"""Reports to controllers between updates, and what stays of them in the state."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxsched as js
from jaxsched import controllers
from jaxsched.controllers import AutoDecay, Bounce, Greedy, NewBob, Plateau, Trigger
from jaxsched.optim import current, decay_weights, inject, observe, remembered

BASE = js.Linear(0.5, 0.1, 40)
PARAMS = {"w": jnp.ones(3)}
GRADS = jax.tree.map(jnp.ones_like, PARAMS)


def test_observe_tells_the_controllers_of_an_optimizer_and_counts_no_step():
    """A validation between updates: through a chain, jitted, vmapped, and in an nnx.Optimizer."""
    tx = optax.chain(
        optax.clip_by_global_norm(1.0), inject(optax.sgd)(learning_rate=Plateau(0.5, 0.5, 0))
    )
    params = jnp.ones(2)
    state = tx.init(params)
    for loss in (1.0, 1.0):
        state = jax.jit(lambda s, loss: observe(s, value=loss))(state, loss)
    updates, state = tx.update(jnp.full(2, 0.1), state, params)
    np.testing.assert_allclose(updates, -0.025)
    assert float(current(state)["learning_rate"]) == 0.25

    def start(factor):
        return inject(optax.sgd)(learning_rate=Plateau(1.0, factor, patience=0)).init(params)

    states = jax.jit(jax.vmap(start))(jnp.array([0.5, 0.25]))
    told = jax.jit(lambda states: observe(states, value=jnp.ones(2)))
    for _ in range(2):
        states = told(states)
    update = jax.vmap(inject(optax.sgd)(learning_rate=Plateau(1.0, 0.5, 0)).update, (None, 0, None))
    _, states = jax.jit(update)(jnp.ones(2), states, params)
    np.testing.assert_allclose(current(states)["learning_rate"], [0.5, 0.25])
    with pytest.raises(ValueError, match=r"js\.Plateau"):
        observe(inject(optax.sgd)(learning_rate=BASE).init(params), value=1.0)

    from flax import nnx

    model = nnx.Linear(1, 1, rngs=nnx.Rngs(0))
    optimizer = nnx.Optimizer(
        model, inject(optax.sgd)(learning_rate=Plateau(0.5, 0.5, 0)), wrt=nnx.Param
    )
    for _ in range(2):
        assert observe(optimizer, value=1.0) is optimizer
    optimizer.update(model, nnx.grad(lambda m: m.bias[...].sum())(model))
    assert float(current(optimizer)["learning_rate"]) == 0.25


@pytest.mark.parametrize(
    ("controller", "report", "words"),
    [
        (Plateau(BASE), {"val_loss": 1.0}, r"observe\(val_loss=.*Plateau reads value"),
        (
            Plateau(BASE),
            {"value": 1.0, "val_loss": 1.0},
            r"observe\(val_loss=.*Plateau reads value",
        ),
        (Plateau(BASE), {"reported": True}, r"observe\(reported=.*Plateau reads value"),
        (Greedy(BASE), {"vaule": 1.0}, "Greedy reads value"),
        (NewBob(BASE), {"loss": 1.0}, "NewBob reads value"),
        (AutoDecay(BASE), {"value": 1.0}, "AutoDecay reads value with averaged"),
        (AutoDecay(BASE), {"averaged": 1.0, "value": None}, "AutoDecay reads value with averaged"),
        (Bounce(BASE), {"value": 1.0}, "Bounce reads norm or weights"),
        (Trigger(BASE, js.Linear(1.0, 0.0, 4)), {"value": 1.0}, "Trigger reads trigger"),
        (
            Trigger(AutoDecay(BASE), js.Linear(1.0, 0.0, 4)),
            {"value": 1.0, "trigger": False},
            "Trigger reads trigger; AutoDecay reads value with averaged",
        ),
    ],
)
def test_what_acts_on_nothing_is_refused_between_updates(controller, report, words):
    tx = inject(optax.sgd)(learning_rate=controller)
    with pytest.raises(ValueError, match=words):
        observe(tx.init(PARAMS), **report)
    # A controller alone may be told more than it acts on; an update, whatever a chain hands on.
    if ("val_loss" in report and "value" in report) or "trigger" in report:
        controller.observe(controller.init(), **report)
    else:
        with pytest.raises(ValueError, match=words):
            controller.observe(controller.init(), **report)
    tx.update(GRADS, tx.init(PARAMS), PARAMS, **report)


def test_what_somebody_reads_is_taken_and_none_is_not_measured():
    named = (
        (
            "a",
            inject(optax.sgd)(
                learning_rate=Trigger(Plateau(0.5, 0.5, patience=0), js.Linear(1.0, 0.0, 4))
            ),
        ),
        ("b", inject(decay_weights)(weight_decay=AutoDecay(0.5, patience=0))),
    )
    state = optax.named_chain(*named).init(PARAMS)
    state = observe(state, value=2.0, averaged=None)
    state = observe(state, value=1.0, averaged=0.5, reported=True)
    seen = remembered(state)
    assert (int(seen["a/learning_rate/base/seen"]), int(seen["b/weight_decay/seen"])) == (2, 1)
    assert float(seen["a/learning_rate/base/best"]) == 1.0
    state = observe(state, group="a", trigger=True)
    assert int(remembered(state)["a/learning_rate/stage"]) == 1
    for report, words in [
        ({}, "given a measurement, such as value=loss, got nothing"),
        ({"value": None}, "got value=None"),
        ({"value": None, "averaged": None}, "got value=None, averaged=None"),
        ({"group": "b", "trigger": True}, "AutoDecay reads value with averaged"),
        ({"group": "c", "value": 1.0}, r"group 'c' has none, \['a', 'b'\] have"),
    ]:
        with pytest.raises(ValueError, match=words):
            observe(state, **report)
    chained = optax.chain(*(transformation for _, transformation in named)).init(PARAMS)
    told = remembered(observe(chained, group="1", value=1.0, averaged=0.5))  # a place is a name
    assert [int(told[f"{n}/seen"]) for n in ("learning_rate/base", "weight_decay")] == [0, 1]
    with pytest.raises(ValueError, match=r"group '7' has none, \['0', '1'\] have"):
        observe(chained, group="7", value=1.0)
    with pytest.raises(ValueError, match=r"Plateau.observe\(...\) must .* got value=None"):
        Plateau(0.5).observe(Plateau(0.5).init(), value=None)
    for report in ({"value": "0.3"}, {"value": object()}, {"value": 1.0, "reported": "no"}):
        with pytest.raises(TypeError, match=r"Plateau.update\(.*=...\) must be one (number|boo)"):
            Plateau(0.5).observe(Plateau(0.5).init(), **report)
    weighed = Bounce(BASE).observe(Bounce(BASE).init(), weights=PARAMS)
    assert float(weighed.last) == 3.0

    @controllers.struct
    class Entropic(Bounce):  # a class of somebody else that doesn't say what it reads
        reads = controllers.AbstractController.reads
        or_reads = ()

        def react(self, state, *, entropy=None, **extra):
            return super().react(state, norm=entropy)

    assert float(Entropic(BASE).observe(Entropic(BASE).init(), entropy=2.0).last) == 2.0
    with pytest.raises(ValueError, match="Entropic reads entropy"):
        Entropic(BASE).observe(Entropic(BASE).init(), norm=2.0)


def test_what_a_controller_remembers_is_seen_at_once():
    """Read once an epoch, after the validation: the cut and the rate that follows are there."""
    for factory in (inject, optax.inject_hyperparams):
        tx = factory(optax.sgd)(learning_rate=Plateau(0.5, 0.5, patience=0))
        state = tx.init(PARAMS)
        for _ in range(2):
            _, state = tx.update(GRADS, state, PARAMS, value=2.0)
        seen = remembered(state)
        shown = {name: float(seen[f"learning_rate/{name}"]) for name in ("scale", "best", "seen")}
        assert shown == {"scale": 0.5, "best": 2.0, "seen": 2}

    state = inject(optax.sgd)(learning_rate=Plateau(Plateau(0.5, 0.5, 0), 0.1, 0)).init(PARAMS)
    for loss in (1.0, 3.0):
        state = observe(state, value=loss)
    seen = remembered((state,))
    assert float(seen["learning_rate/scale"]) == pytest.approx(0.1)
    assert float(seen["learning_rate/base/scale"]) == 0.5
    assert float(current(state)["learning_rate"]) == 0.5
    assert float(current(state, upcoming=True)["learning_rate"]) == pytest.approx(0.025)
    with pytest.raises(ValueError, match="must hold a controller, found none"):
        remembered(inject(optax.sgd)(learning_rate=BASE).init(PARAMS))


def test_the_numbers_of_a_running_controller_are_changed_without_a_trace():
    tx = inject(optax.sgd)(learning_rate=Plateau(0.5, 0.5, patience=1))
    state = tx.init(PARAMS)

    @jax.jit
    @chex.assert_max_traces(n=1)
    def step(state):
        updates, state = tx.update(GRADS, state, PARAMS, value=1.0)
        return -updates["w"][0], state

    rates = []
    for change in (None, Plateau(0.5, 0.25, patience=2.0), None, None, Plateau(1.0, 0.25, 9)):
        if change is not None:
            state = js.override(state, learning_rate=change)
        rate, state = step(state)
        rates.append(float(rate))
    assert rates == [0.5, 0.5, 0.5, 0.5, 0.25]
    for other in (Plateau(0.5, mode="max"), Greedy(0.5), js.Constant(0.5)):
        with pytest.raises(ValueError, match="structure"):
            js.override(state, learning_rate=other)
