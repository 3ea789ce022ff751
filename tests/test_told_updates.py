"""Arguments of an update (the loss, its gradient) reach all parts of an optimizer."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from supervised_tasks import close, slope, sweep

import jaxsched as js


def watched():
    return js.inject(optax.sgd)(learning_rate=js.Plateau(1.0, factor=0.5, patience=0))


def multi_steps():
    return optax.MultiSteps(watched(), 1)


class Duck:
    """A transformation by its methods alone."""

    init = staticmethod(lambda params: watched().init(params))

    @staticmethod
    def update(updates, state, params=None, value=None):
        return watched().update(updates, state, params, value=value)


def compiled():
    tx = watched()
    return optax.GradientTransformationExtraArgs(tx.init, jax.jit(tx.update))


PLACES = {
    "itself": watched,
    "jax.jit": compiled,
    "MultiSteps": multi_steps,
    "its transformation": lambda: multi_steps().gradient_transformation(),
    "an object": Duck,
    "apply_if_finite": lambda: optax.apply_if_finite(multi_steps(), 3),
    "chain": lambda: optax.chain(
        optax.clip(1.0), optax.apply_if_finite(multi_steps(), 3), optax.masked(Duck(), True)
    ),
    "groups": lambda: optax.partition({"a": optax.masked(multi_steps(), True)}, "a"),
    "MultiSteps twice": lambda: optax.MultiSteps(multi_steps(), 1),
}


def scales(state):
    """What the controllers in a state have cut the rate to."""
    found = jax.tree_util.tree_leaves_with_path(state)
    return [x for path, x in found if "controller_states" in str(path) and "scale" in str(path)]


@pytest.mark.parametrize("place", PLACES)
def test_what_an_update_is_told_reaches_a_controller_at_every_place(place):
    factory = PLACES[place]
    tx = js.inject(lambda learning_rate: factory())(learning_rate=js.Constant(1.0))

    def update(state, value):
        return tx.update(jnp.ones(()), state, jnp.ones(()), value=value, value_fn=lambda w: value)[
            1
        ], None

    state, _ = jax.jit(lambda s: jax.lax.scan(update, s, jnp.ones(3)))(tx.init(jnp.ones(())))
    assert [float(x) for x in scales(state)] == [0.25] * len(scales(state)) != []


def test_a_state_may_hold_schedules_and_controllers():
    task = slope(optimizer=lambda learning_rate: optax.chain(watched(), optax.scale(learning_rate)))
    assert sweep(task, [js.Constant(0.5)]).final("loss").item() == -6.0


@pytest.mark.parametrize("form", ["jax.jit", "cond"])
def test_a_function_that_is_compiled_below_an_update_is_told_anew(form):
    tx = watched()

    def branch(*arguments):
        return jax.lax.cond(True, tx.update, lambda u, s, p: (u, s), *arguments)

    dropping = optax.GradientTransformation(
        tx.init, jax.jit(tx.update) if form == "jax.jit" else branch
    )
    outer = js.inject(lambda rate: optax.chain(optax.scale(rate), dropping))(rate=js.Constant(1.0))
    one = jnp.ones(())
    state = outer.init(one)
    for value in (4.0, 3.0, 2.0):
        _, state = outer.update(one, state, one, value=value)
    for value in (1.0, 0.5):  # two programs
        _, state = jax.jit(lambda s, v=value: outer.update(one, s, one, value=v))(state)
    seen = js.remembered(state)
    assert (float(seen["learning_rate/best"]), float(seen["learning_rate/scale"])) == (0.5, 1.0)


def test_supervised_tells_the_loss_of_all_micro_batches_at_every_place():
    task = slope(optimizer=lambda learning_rate: PLACES["chain"](), accumulation=2)
    task._static = dataclasses.replace(task._static, loss=lambda outputs, targets: 0 * outputs + 1)
    rows = task.batches(0, 0, 3)

    def update(state, row):
        return task.step(state, {"learning_rate": jnp.float32(1.0)}, row)[0], None

    state, _ = jax.jit(lambda s: jax.lax.scan(update, s, rows))(task.init(jax.random.key(0)))
    assert [float(x) for x in scales(state)] == [0.25, 0.25]


def test_a_line_search_is_told_the_loss_as_a_function_of_the_parameters():
    def searching(learning_rate):
        search = optax.scale_by_backtracking_linesearch(20, max_learning_rate=4.0)
        return optax.chain(optax.sgd(learning_rate), search)

    x = np.linspace(1, 2, 64, dtype=np.float32)[:, None]
    losses = []
    for sizes in ({"batch_size": 8}, {"batch_size": 4, "accumulation": 2}):
        task = slope(optimizer=searching, train=(x, 3 * x), validation=(x, 3 * x), **sizes)
        task._static = dataclasses.replace(task._static, loss=optax.squared_error)
        losses.append(sweep(task, [js.Constant(1.0)]).train["loss"].ravel())
    close(*losses)
    assert losses[0][-1] < 0.1 * losses[0][0]


def test_an_update_is_told_only_what_it_takes():
    seen = {}

    class Odd(Duck):
        @staticmethod
        def update(updates, state, params=None, *, grad=None):
            seen["grad"] = grad
            return updates, state

    for inner in (
        Odd(),
        optax.sgd(1.0),
        optax.GradientTransformationExtraArgs(Odd.init, Odd.update),
    ):
        tx = js.inject(lambda learning_rate, inner=inner: inner)(learning_rate=js.Constant(1.0))
        tx.update(jnp.ones(()), tx.init(jnp.ones(())), None, value=1.0, grad=2.0, averaged=3.0)
    assert seen == {"grad": 2.0}
