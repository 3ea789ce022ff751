"""A step is an optimizer update, never a micro-batch: what gathers gradients is refused."""

import dataclasses
import re
import types

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from flax.training.train_state import TrainState
from results_by_hand import result_of
from sweep_tasks import noise, supervised

import jaxsched as js
from jaxsched.search import Averaged, RunInfo, Trial, final_score, load, range_test, sweep
from jaxsched.search.engine._values import ROWS, ScheduleValues
from jaxsched.search.tasks._traced import trace_task


def by_hand(k, start=0):
    """Sums of gradients in a state, applied when a counter says so."""

    def init(params):
        return {"n": jnp.full((), start, jnp.int32), "sum": jax.tree.map(jnp.zeros_like, params)}

    def update(updates, state, params=None):
        total = jax.tree.map(jnp.add, state["sum"], updates)
        emit = state["n"] % k == k - 1
        out = jax.tree.map(lambda x: jnp.where(emit, x / k, 0.0), total)
        total = jax.tree.map(lambda x: jnp.where(emit, 0.0, x), total)
        return out, {"n": state["n"] + 1, "sum": total}

    return optax.GradientTransformation(init, update)


def branching(k):
    """The same with branches, and a counter that begins anew."""

    def init(params):
        return jnp.zeros((), jnp.int32), jax.tree.map(jnp.zeros_like, params)

    def update(updates, state, params=None):
        total = jax.tree.map(jnp.add, state[1], updates)
        zero = jax.tree.map(jnp.zeros_like, total)
        return jax.lax.cond(
            state[0] == k - 1,
            lambda: (total, (jnp.zeros((), jnp.int32), zero)),
            lambda: (zero, (state[0] + 1, total)),
        )

    return optax.GradientTransformation(init, update)


def after(transformation):
    return lambda learning_rate: optax.chain(optax.sgd(learning_rate), transformation)


def multi(tx, *arguments, **more):
    return lambda learning_rate: optax.MultiSteps(tx(learning_rate), *arguments, **more)


GATHER = {
    "MultiSteps": (multi(optax.adam, 4), 4, "optax.MultiSteps at state.opt_state."),
    "masked": (
        lambda learning_rate: optax.masked(multi(optax.sgd, 2)(learning_rate), True),
        2,
        "optax.MultiSteps at state.opt_state.inner_state.",
    ),
    "that skips": (
        multi(optax.sgd, 2, should_skip_update_fn=optax.skip_not_finite),
        "k",
        "in one of k steps only, by optax.MultiSteps",
    ),
    "by a schedule": (multi(optax.sgd, lambda n: jnp.where(n < 3, 2, 5)), 2, "optax.MultiSteps"),
    "apply_every": (after(optax.apply_every(3)), 3, r"optax.apply_every at state.opt_state\[1\]."),
    "by hand": (after(by_hand(5)), 5, "in one of 5 steps only. Take"),
    "begun": (after(by_hand(3, start=2)), 3, "in one of 3 steps only. Take"),
    "branches": (after(branching(2)), 2, "in one of 2 steps only. Take"),
}


@pytest.mark.parametrize("kind", GATHER)
def test_an_optimizer_that_gathers_gradients_is_refused_with_the_repair(kind):
    optimizer, k, words = GATHER[kind]
    task = supervised(optimizer)
    for one in (task, Averaged(task, window=4)):
        where = words if one is task else ""
        with pytest.raises(ValueError, match=rf"{where}.*`Supervised\(accumulation={k}\)`"):
            trace_task(one, ("learning_rate",))


def test_a_range_test_and_a_sweep_say_so_before_training():
    task = supervised(after(by_hand(4)))
    words = "a step must be an update of the optimizer, .* changes the parameters in one of 4 steps"
    with pytest.raises(ValueError, match=r"sweep\(task=...\): " + words):
        sweep(task, [js.Constant(0.1)], steps=5)
    with pytest.raises(ValueError, match=r"range_test\(task=...\): " + words):
        js.range_test(task)


def sam(tx, ascent=0.05):
    return optax.contrib.sam(tx, optax.sgd(ascent), sync_period=2)


def every_second(learning_rate):
    scale = optax.conditionally_transform(optax.scale(learning_rate), lambda step: step % 2 == 0)
    return optax.chain(optax.scale(-0.1), scale)


DEAD = {
    "sam": lambda learning_rate: sam(optax.sgd(learning_rate)),
    "with momentum": lambda learning_rate: sam(optax.adam(learning_rate)),
    "its ascent": lambda learning_rate: sam(optax.sgd(0.1), learning_rate),
    "conditionally_transform": every_second,
}


@pytest.mark.parametrize("kind", DEAD)
def test_steps_in_which_no_hyperparameter_acts_are_refused(kind):
    words = "but the hyperparameters act in one of 2 steps only, and their values in the others"
    with pytest.raises(ValueError, match=words):
        trace_task(supervised(DEAD[kind]), ("learning_rate",))


KEEP = {
    "adam": optax.adam,
    "a warmup of its own": after(
        optax.scale_by_schedule(optax.warmup_cosine_decay_schedule(0.0, 1.0, 3, 9))
    ),
    "frozen at first": after(optax.scale_by_schedule(lambda n: 1.0 * (jnp.asarray(n) >= 5))),
    "apply_if_finite": lambda learning_rate: optax.apply_if_finite(optax.adam(learning_rate), 3),
    "an ascent that follows the rate": lambda learning_rate: sam(
        optax.sgd(learning_rate), learning_rate
    ),
    "sam that is told of gradients": lambda learning_rate: optax.contrib.sam(
        optax.sgd(learning_rate), optax.sgd(0.05), opaque_mode=True
    ),
    "sophia": optax.contrib.sophia,
    "some parameters in some steps": lambda learning_rate: optax.partition(
        {"now": optax.sgd(learning_rate), "later": after(by_hand(2))(learning_rate)},
        {"a": "now", "b": "later", "bias": "now"},
    ),
}


@pytest.mark.parametrize("kind", KEEP)
def test_what_updates_in_every_step_is_not(kind):
    trace_task(supervised(KEEP[kind]), ("learning_rate",))


def test_lookahead_which_has_parameters_of_its_own_kind_is_refused_by_name():
    with pytest.raises(ValueError, match=r"optimizer=.*optax\.lookahead.*a task of your own"):
        trace_task(
            supervised(lambda learning_rate: optax.lookahead(optax.sgd(learning_rate), 5, 0.5)),
            ("learning_rate",),
        )


class Flax:
    """A task whose state is a ``TrainState`` with an accumulator of its own."""

    tx = optax.MultiSteps(optax.sgd(0.1), 4)

    def init(self, key):
        return TrainState.create(apply_fn=None, params={"w": noise(key, 3)}, tx=self.tx)

    def loss(self, w):
        return jnp.sum(w**2)

    def step(self, state, hyperparams, batch):
        loss, grad = jax.value_and_grad(lambda p: self.loss(p["w"]))(state.params)
        grad = {"w": hyperparams["learning_rate"] * grad["w"]}
        return state.apply_gradients(grads=grad), {"loss": loss}

    def evaluate(self, state):
        return {"loss": self.loss(state.params["w"])}


class Linear(nnx.Module):
    def __init__(self):
        self.w = nnx.Param(jnp.ones(3))


class Nnx(Flax):
    """The state of an ``nnx.Optimizer``, which keeps the names of the fields only."""

    def init(self, key):
        model = Linear()
        made = nnx.split((model, nnx.Optimizer(model, self.tx, wrt=nnx.Param)))
        self.graph = made[0]
        return nnx.as_pure(made[1])

    def step(self, state, hyperparams, batch):
        model, optimizer = nnx.merge(self.graph, state)
        loss, grad = nnx.value_and_grad(lambda m: self.loss(m.w[...]))(model)
        grad = jax.tree.map(lambda g: hyperparams["learning_rate"] * g, grad)
        optimizer.update(model, grad)
        return nnx.as_pure(nnx.split((model, optimizer))[1]), {"loss": loss}


class Counts(Flax):
    """Written by hand from end to end."""

    def init(self, key):
        return {"w": noise(key, 3), "sum": jnp.zeros(3), "n": jnp.zeros((), jnp.int32)}

    def step(self, state, hyperparams, batch):
        loss, grad = jax.value_and_grad(self.loss)(state["w"])
        total, n = state["sum"] + grad, state["n"] + 1
        now = n == 4
        w = jnp.where(now, state["w"] - hyperparams["learning_rate"] * total, state["w"])
        after = {"w": w, "sum": jnp.where(now, 0.0, total), "n": jnp.where(now, 0, n)}
        return after, {"loss": loss}


class Half(Counts):
    """The same with bfloat16 parameters, to which a float32 sum or zero is added."""

    def init(self, key):
        return super().init(key) | {"w": jnp.ones(3, jnp.bfloat16)}

    def step(self, state, hyperparams, batch):
        wide = state | {"w": jnp.zeros(3)}
        loss, grad = jax.value_and_grad(self.loss)(state["w"].astype(jnp.float32))
        wide["sum"] = state["sum"] + grad
        after, _ = super().step(wide, hyperparams, batch)
        return after | {"w": (state["w"] + after["w"]).astype(jnp.bfloat16)}, {"loss": loss}


@pytest.mark.parametrize("task", [Flax(), Nnx(), Counts(), Half()])
def test_a_task_by_hand_that_gathers_gradients_is_refused(task):
    with pytest.raises(ValueError, match="changes the parameters in one of 4 steps only"):
        trace_task(task, ("learning_rate",))


class Iterations:
    """Several updates in a step; it tells the last values that it was given."""

    def __init__(self, updates):
        self.updates_per_step = updates

    def init(self, key):
        return jnp.sin(jnp.arange(3.0)), jnp.zeros(self.updates_per_step)

    def step(self, state, hyperparams, batch):
        def update(weights, rate):
            return weights - rate * 2 * weights, jnp.sum(weights**2)

        rates = jnp.atleast_1d(hyperparams["learning_rate"])
        weights, losses = jax.lax.scan(update, state[0], rates)
        return (weights, rates), {"first": losses[0], "loss": losses[-1]}

    def evaluate(self, state):
        return {"loss": jnp.sum(state[0] ** 2), "rate": state[1][-1]}


@pytest.mark.filterwarnings("ignore:sweep.steps")
def test_a_step_may_hold_several_updates_each_with_its_own_values(tmp_path):
    trials = [
        js.cosine_decay(0.1, 40),
        js.from_fn(lambda t: 0.1 / (1 + t)),
        js.Plateau(js.cosine_decay(0.3, 40), factor=0.5, patience=0, rtol=0.9),
    ]
    one = sweep(Iterations(1), trials, steps=40, evaluate_every=8)
    kept = dict(evaluate_every=2, checkpoint=tmp_path)
    sweep(Iterations(4), trials, steps=4, **kept)
    four = sweep(Iterations(4), trials, steps=10, **kept)
    for name in one.validation:
        np.testing.assert_array_equal(four.validation[name], one.validation[name])
    applied = [four.train[f"learning_rate{j}"][2, 0, 0] for j in ("", "[1]", "[2]", "[3]")]
    np.testing.assert_array_equal(np.ravel(applied, "F"), one.train["learning_rate"][2, 0, 0])
    assert four.info.updates_per_step == 4 and four.info.stored == 12
    assert sweep(Iterations(4), trials[:1]).horizons.tolist() == [10]
    four.save(tmp_path / "result.npz")  # a function's values, of all its updates
    again = load(tmp_path / "result.npz")
    assert again.trials[1].schedule.duration == 40 and again.info == four.info
    for updates, words in (
        (0, "from 1 to 65536"),
        (2.5, "updates_per_step must be a whole number"),
    ):
        with pytest.raises(ValueError, match=words):
            range_test(Iterations(updates))
    with pytest.raises(ValueError, match=r"sweep.steps=.... must be at most 536870911 with 4"):
        sweep(Iterations(4), trials, steps=2**30)


@pytest.mark.parametrize(
    ("read", "lost"),
    [
        (lambda rates: rates[0], r"\[1, 2, 3\]"),
        (jax.jit(lambda rates: rates[1:3]), r"\[0, 3\]"),
        (lambda rates: rates[::2].mean(), r"\[1, 3\]"),
        (lambda rates: rates.mean(), None),
        (lambda rates: jnp.stack([rates[i] for i in range(4)]), None),
        (lambda rates: jnp.exp(rates)[:1], None),
    ],
)
def test_a_step_that_loses_the_values_of_some_updates_is_refused(read, lost):
    class Lost(Iterations):
        def step(self, state, hyperparams, batch):
            weights = state[0] - jnp.sum(read(hyperparams["learning_rate"])) * 2 * state[0]
            return (weights, state[1]), {"loss": jnp.sum(state[0] ** 2)}

    if lost is None:
        trace_task(Lost(4), ("learning_rate",))
        return
    with pytest.raises(ValueError, match=f"updates_per_step=4 updates, but reads none at {lost}"):
        trace_task(Lost(4), ("learning_rate",))


@pytest.mark.parametrize(("updates", "steps"), [(4096, 2), (3, 1000)])
def test_short_runs_of_many_updates_in_a_step_compute_what_they_need(updates, steps):
    rates = {"rate": js.cosine_decay(0.1, 4000), "other": js.from_fn(lambda t: 1 / (1 + t))}
    trial, many = (Trial("t", {}, rates),), updates * steps
    table = ScheduleValues(trial, steps, updates=updates)
    assert table._float64_block(0, 0).size <= 2 * (many + ROWS)
    apart = table.values(0, 0, steps).reshape(2, updates, steps)
    one = ScheduleValues(trial, many).values(0, 0, many)
    np.testing.assert_array_equal(apart.transpose(0, 2, 1).reshape(2, many), one)


def test_no_hyperparameter_has_the_name_of_another_ones_later_value():
    trial = {"rate": js.Constant(0.1), "rate[1]": js.Constant(0.2)}
    assert ScheduleValues((Trial("t", {}, trial),), 5).names == ("rate", "rate[1]")
    with pytest.raises(ValueError, match=r"sweep\(trials=...\) must name no .* got rate\[1\]\."):
        sweep(Iterations(2), [trial], steps=5)
    with pytest.raises(ValueError, match=r"must name no .* got r\[1\], r\[1\]\[1\]\."):
        sweep(Iterations(2), [dict.fromkeys(["r", "r[1]", "r[1][1]"], js.Constant(0.1))], steps=5)


def test_the_applied_rates_are_advised_in_the_order_of_the_updates():
    result = result_of([[1.0]])
    best = dataclasses.replace(result.best(), trial=Trial("t", {}, {"r": js.Plateau(0.1)}))
    task = types.SimpleNamespace(test=len, everything=len)
    for updates in (1, 3):
        info = RunInfo(everything=True, updates_per_step=updates)
        rows = np.arange(10.0 * updates).reshape(10, updates)
        names = ["r", "r[1]", "r[2]"][:updates]
        train = {name: rows[None, None, None, :, i] for i, name in enumerate(names)}
        with pytest.raises(ValueError, match="the rates that it applied") as raised:
            final_score(task, dataclasses.replace(result, train=train, info=info), best)
        advised = re.search("`(.*)`", str(raised.value))[1]
        given = dict(js=js, np=np, result=types.SimpleNamespace(train=train), name="r")
        table = eval(advised, given | dict(trial=0, fold=0, seed=0))
        np.testing.assert_array_equal(table.host(range(10 * updates)), np.arange(10.0 * updates))


@pytest.mark.parametrize(("updates", "words"), [(4, "an array \\[4\\]"), (1, "updates_per_step")])
def test_an_error_in_a_step_tells_the_shape_of_the_hyperparameters(updates, words):
    class Wrong(Iterations):
        def step(self, state, hyperparams, batch):
            rates = hyperparams["learning_rate"]
            return jax.lax.scan(jnp.add, state, rates) if updates == 1 else state[0] * rates

    with pytest.raises((IndexError, TypeError, ValueError)) as raised:
        trace_task(Wrong(updates), ("learning_rate",))
    assert re.search(words, "".join(raised.value.__notes__))


def test_a_range_test_holds_its_rate_for_all_updates_of_a_step():
    found = range_test(Averaged(Iterations(3), window=2), start=1e-3, end=10.0, steps=60, seeds=2)
    rates = np.asarray(found.rates, np.float64)
    decay = np.concatenate([[1.0], np.cumprod((1 - 2 * rates[:20]) ** 6)])
    last = decay[:20] * (1 - 2 * rates[:20]) ** 4 * np.sum(np.sin(np.arange(3.0)) ** 2)
    np.testing.assert_allclose(found.losses[0, :20], last, rtol=1e-4)
