"""What a sweep refuses or doubts: rates without effect, cut schedules, equal curves, short data."""

import itertools
import math
import re
import warnings

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from flax.training.train_state import TrainState
from sweep_tasks import Plain, python_loop, shared, supervised

import jaxsched as js
from jaxsched import search
from jaxsched.search import Averaged, MedianRule, SuccessiveHalving

RATES = [js.Constant(rate) for rate in (0.1, 0.01)]


def sweep(task, trials=RATES, **arguments):
    return search.sweep(
        task, trials, **{"steps": 12, "devices": jax.local_devices()[:1]} | arguments
    )


def with_step(step, **more):
    return type("Changed", (Plain,), {"step": step, **more})()


# ------------------------------------------------------------------------------- without effect


class Linen:
    """The natural port of a Flax program, whose optimizer is fixed in ``init``."""

    x = np.linspace(-1.0, 2.0, 12, dtype=np.float32)[:, None]

    def __init__(self, tx, set_rate=False):
        self.tx, self.set_rate = tx, set_rate

    def init(self, key):
        model = nn.Dense(1)
        params = model.init(key, self.x)["params"]
        return TrainState.create(apply_fn=model.apply, params=params, tx=self.tx)

    def loss(self, params, state):
        return jnp.mean((state.apply_fn({"params": params}, self.x) - 3 * self.x) ** 2)

    def step(self, state, hyperparams, batch):
        loss, grads = jax.value_and_grad(self.loss)(state.params, state)
        if self.set_rate:
            state.opt_state.hyperparams["learning_rate"] = hyperparams["learning_rate"]
        return state.apply_gradients(grads=grads), {"loss": loss}

    def evaluate(self, state):
        return {"loss": self.loss(state.params, state)}


def printing(self, state, hyperparams, batch):
    jax.debug.print("{}", hyperparams["learning_rate"])
    return state, {"loss": jnp.sum(state)}


DEAD = {
    "train state": Linen(optax.adam(0.1)),
    "fixed in the factory": supervised(lambda learning_rate: optax.sgd(0.1)),
    "a metric only": with_step(
        lambda self, s, h, b: (0.9 * s, {"loss": jnp.sum(s), "learning_rate": h["learning_rate"]})
    ),
    "recorded in the state only": with_step(
        lambda self, s, h, b: (
            {"w": 0.9 * s["w"], "rate": h["learning_rate"]},
            {"loss": jnp.sum(s["w"]), "rate": s["rate"]},
        ),
        init=lambda self, key: {"w": jnp.ones(3), "rate": jnp.float32(0)},
        evaluate=lambda self, s: {"loss": jnp.sum(s["w"])},
    ),
    "printed": with_step(printing),
    "averaged": Averaged(supervised(lambda learning_rate: optax.sgd(0.1)), window=4),
}


@pytest.mark.parametrize("kind", DEAD)
def test_a_rate_without_effect_is_refused_by_name_wherever_a_task_is_trained(kind):
    words = r"but 'learning_rate' has no effect on the state that it trains"
    if isinstance(getattr(DEAD[kind], "task", DEAD[kind]), search.Supervised):
        words += r": Supervised\(optimizer=...\) ignores learning_rate, so (?!.*TrainState)"
    with pytest.raises(ValueError, match=r"sweep\(task=...\): step must use .*" + words):
        sweep(DEAD[kind])
    with pytest.raises(ValueError, match=r"range_test\(task=...\).*" + words):
        js.range_test(DEAD[kind])


def test_only_those_without_effect_are_named_also_in_a_fold():
    trials = [{"learning_rate": rate, "momentum": js.Constant(0.9)} for rate in RATES]
    task = supervised(lambda learning_rate, momentum: optax.sgd(learning_rate))
    for arguments in ({}, {"folds": 3}):
        with pytest.raises(ValueError, match="but 'momentum' has no effect"):
            sweep(task, trials, **arguments)


def test_an_effect_through_time_or_on_the_host_is_one():
    later = with_step(  # the rate acts on the update after this one
        lambda self, s, h, b: (
            {"w": (1 - s["rate"]) * s["w"], "rate": h["learning_rate"]},
            {"loss": jnp.sum(s["w"] ** 2)},
        ),
        init=lambda self, key: {"w": jnp.ones(3), "rate": jnp.float32(0)},
        evaluate=lambda self, s: {"loss": jnp.sum(s["w"] ** 2)},
    )
    losses = sweep(later, steps=3).train["loss"][0, 0, 0]
    np.testing.assert_allclose(losses, [3.0, 3.0, 3 * 0.9**2], rtol=1e-6)


class Built(Linen):
    """The other way: the optimizer is built in each step."""

    def step(self, state, hyperparams, batch):
        state = state.replace(tx=optax.adam(hyperparams["learning_rate"]))
        return super().step(state, hyperparams, batch)[0].replace(tx=self.tx), {
            "loss": self.loss(state.params, state)
        }


def test_a_train_state_whose_rate_is_set_or_whose_optimizer_is_built_in_step_follows_it():
    tasks = Linen(optax.inject_hyperparams(optax.adam)(learning_rate=0.0), set_rate=True)
    found = [sweep(task).train["loss"][:, 0, 0] for task in (tasks, Built(optax.adam(0.0)))]
    np.testing.assert_allclose(*found, rtol=1e-4)
    assert found[0][0, -1] < 0.8 * found[0][1, -1]


def test_an_nnx_optimizer_whose_rate_is_set_follows_it():
    class Task:
        x = Linen.x

        def init(self, key):
            model = nnx.Linear(1, 1, rngs=nnx.Rngs(key))
            tx = optax.inject_hyperparams(optax.sgd)(learning_rate=0.0)
            self.graph, state = nnx.split((model, nnx.Optimizer(model, tx, wrt=nnx.Param)))
            return nnx.as_pure(state)

        def loss(self, model):
            return jnp.mean((model(self.x) - 3 * self.x) ** 2)

        def step(self, state, hyperparams, batch):
            model, optimizer = nnx.merge(self.graph, state)
            loss, grads = nnx.value_and_grad(self.loss)(model)
            optimizer.opt_state.hyperparams["learning_rate"][...] = hyperparams["learning_rate"]
            optimizer.update(model, grads)
            return nnx.as_pure(nnx.state((model, optimizer))), {"loss": loss}

        def evaluate(self, state):
            return {"loss": self.loss(nnx.merge(self.graph, state)[0])}

    losses = sweep(Task()).train["loss"][:, 0, 0]
    assert losses[0, -1] < losses[1, -1] < losses[1, 0] == losses[0, 0]


def test_another_optimizer_in_a_train_state_is_named_in_a_line():
    def step(self, state, hyperparams, batch):
        tx = optax.adam(hyperparams["learning_rate"])
        return state.replace(tx=tx), {"loss": jnp.float32(0)}

    task = type("Replaced", (Linen,), {"step": step})(optax.adam(0.1))
    with pytest.raises(
        TypeError, match=r"a TrainState with other static parts .* such as the `tx`"
    ) as e:
        sweep(task)
    assert len(str(e.value)) < 500


# ----------------------------------------------------------------------------------- warnings


def warned(task, trials, action="always", **arguments):
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter(action)
        sweep(task, trials, **arguments)
    return [str(w.message) for w in found]


LENGTHS = {
    "the whole decay": ([js.cosine_decay(0.1, 12)], []),
    "open-ended": ([js.Constant(0.1), js.inverse_sqrt(0.1, 4)], []),
    "nearly the whole decay": ([js.wsd(0.1, 12, warmup=2, decay=8), js.cosine_decay(0.1, 13)], []),
    "held above zero": ([js.Linear(0.0, 0.1, 4), js.cosine_decay(0.1, 6, end=0.01)], []),
    "a tenth": (
        [js.Constant(0.1), js.cosine_decay(0.1, 120), js.cosine_decay(0.2, 120)],
        ["2 of 3 trials end before their schedules have: .* does only 10% of its learning_rate"],
    ),
    "before the decay": ([js.wsd(0.1, 24, warmup=2, decay=8)], ["does only 50%"]),
    "before the peak": ([js.Linear(0.0, 0.1, 100)], ["does only 12%"]),
    "dead updates": ([js.cosine_decay(0.1, 4)], ["has rate 0 in 8 of its updates"]),
    "a share that was traced": (
        js.unstack(jax.vmap(lambda w: js.warmup_linear(0.1, 12, w))(jnp.array([0.25, 0.5]))),
        [r"learning_rate of .* has a Linear of 0.25 updates: a share of the run is js.share\(0.25"],
    ),
    "of epochs": ([js.Epochwise(js.Linear(0.1, 0.0, 0.5) >> js.Linear(0.0, 0.1, 2.5), 4)], []),
    "below a controller": ([js.Plateau(js.cosine_decay(0.1, 24))], ["does only 50%"]),
}


@pytest.mark.parametrize("kind", LENGTHS)
def test_steps_that_are_not_the_length_of_the_schedules_are_one_warning(kind):
    trials, words = LENGTHS[kind]
    found = warned(shared(Plain), trials, evaluate_every=6)
    assert len(found) == len(words)
    for text, expected in zip(found, words, strict=True):
        assert re.search(expected, text)


def test_schedules_that_set_the_length_themselves_are_not_doubted():
    trials = [js.cosine_decay(0.1, 12), js.cosine_decay(0.1, 24)]
    assert warned(shared(Plain), trials, steps=None) == []


def test_a_schedule_beside_the_rate_that_is_longer_is_a_warning():
    rate = js.cosine_decay(0.1, 12)
    trials = [{"learning_rate": rate, "weight_decay": js.Linear(1, 0, n)} for n in (6, 13, 24)]
    found = warned(with_step(weightless), trials, steps=None)
    assert re.search("1 of 3 trials go on .* rate 0 in 12 of its updates. Another of", found[0])


IDLE = {
    "halving": ({"stopping": SuccessiveHalving(first=12)}, "compares no trials .* 12 steps: none"),
    "median": ({"stopping": MedianRule(every=5, grace=11)}, "MedianRule.* compares no trials"),
    "evaluation": ({"evaluate_every": 13}, "has 12 steps: it is evaluated at its end only.$"),
    "reports": ({"trials": [js.Plateau(0.1)], "evaluate_every": 12}, "so that no controller"),
}


@pytest.mark.parametrize("kind", IDLE)
def test_what_would_come_after_the_longest_run_is_a_warning(kind):
    arguments, words = IDLE[kind]
    (text,) = warned(shared(Plain), **{"trials": RATES} | arguments)
    assert re.search(words, text)


def test_a_metric_to_monitor_is_checked_also_where_no_controller_is():
    with pytest.raises(ValueError, match=r"sweep\(monitor=...\) must be one of .*'loss'"):
        sweep(shared(Plain), monitor="lss")


def weightless(self, state, hyperparams, batch):
    tiny = 1e-30 * hyperparams["weight_decay"]  # acts, in principle
    return Plain.step(self, state, {"learning_rate": hyperparams["learning_rate"] + tiny}, batch)


def test_different_values_with_the_same_curves_are_one_warning_and_never_an_error():
    def recipe(rate, decay):
        return {"learning_rate": rate, "weight_decay": decay}

    trials = search.grid(recipe, rate=[0.1, 0.2], decay=[0.0, 0.5, 0.9])
    averaged = Averaged(with_step(weightless), window=2)
    for task, action in ((with_step(weightless), "always"), (averaged, "error")):
        (text,) = warned(task, trials, action)
        assert "3 trials have different values and the same curves" in text
        assert "rate=0.1 decay=0, rate=0.1 decay=0.5" in text


def test_what_only_looks_like_the_same_curves_is_not_doubted():
    twice = [js.Constant(0.1), js.Constant(0.1), js.Constant(0.2)]
    later = [js.Constant(0.1), js.piecewise_constant([12], [0.1, 0.2])]  # only after the end
    lost = [js.Constant(0.1), js.Constant(1e30), js.Constant(2e30)]  # at the same step
    alike = [js.Plateau(0.1, patience=p) for p in (50, 60)]  # neither has cut the rate
    for trials in (twice, later, lost, alike):
        assert warned(shared(Plain), trials, evaluate_every=6) == []
    stopping = SuccessiveHalving(first=3, eta=2)
    parting = [js.piecewise_constant([6], [0.1, 0.1 * k]) for k in (1, 2, 3)]
    assert warned(shared(Plain), parting, stopping=stopping) == []


def test_a_metric_with_the_name_of_an_applied_value_is_refused():
    def step(self, state, hyperparams, batch):
        state, metrics = Plain.step(self, state, hyperparams, batch)
        return state, {**metrics, "learning_rate": -hyperparams["learning_rate"]}

    task = with_step(step)
    assert sweep(task).train["learning_rate"].max() == np.float32(-0.01)  # the task's own
    with pytest.raises(
        ValueError, match="must not return a metric 'learning_rate' in a sweep with"
    ):
        sweep(task, [js.Plateau(0.1)], evaluate_every=6)


# --------------------------------------------------------------------------------- finite data


class Finite(Plain):
    """Data for so many updates, of which every reader needs all."""

    def __init__(self, updates):
        self.rows, self.asked = np.arange(updates, dtype=np.float32), []

    def batches(self, seed, start, length):
        self.asked.append((start, length))
        rows = iter(self.rows[start:])
        return np.array([next(rows) for _ in range(length)])


@pytest.mark.parametrize("width", [1, 2])
def test_no_batches_are_asked_for_past_the_longest_run(width, monkeypatch):
    monkeypatch.setattr("jaxsched.search.engine._plan.LENGTH", 8)
    task = Finite(20)
    trials = [js.cosine_decay(0.1, 20), js.cosine_decay(0.1, 7)]
    result = sweep(task, trials, steps=None, width=width)
    assert max(start + length for start, length in task.asked) == 20
    _, losses = python_loop(task, {"learning_rate": js.sample(trials[0], 20)}, 0)
    np.testing.assert_allclose(result.train["loss"][0, 0, 0], losses, rtol=1e-6)
    if width == 1:
        assert losses.tobytes() == result.train["loss"][0, 0, 0].tobytes()
    assert sweep(Finite(1), [js.Constant(0.1)], steps=1).train["loss"].shape[-1] == 1
    js.range_test(Finite(30), 1e-3, 1.0, steps=30, seeds=1)


def test_data_that_end_too_early_are_named_with_the_updates():
    words = (
        r"batches\(0, 11, 1\) must return what the updates 11 to 11 of the 12 read, got StopIter"
    )
    with pytest.raises(ValueError, match=words):
        sweep(Finite(9))
    with pytest.raises(ValueError, match=r"range_test\(task=...\): batches\(0, 0, 30\) must"):
        js.range_test(Finite(9), 1e-3, 1.0, steps=30, seeds=1)
    broken = type("Broken", (Plain,), {"batches": lambda self, seed, start, length: [][start]})()
    with pytest.raises(ValueError, match=r"got IndexError \(list index out of range\): the data"):
        sweep(broken)


def test_an_error_in_a_method_says_in_which():
    stream = itertools.islice(itertools.count(), 1)
    reading = with_step(lambda self, s, h, b: next(itertools.islice(stream, 5, None)))
    with pytest.raises(ValueError, match="step must not raise StopIteration"):
        sweep(reading)
    for method in ("init", "evaluate"):
        task = type("Odd", (Plain,), {method: lambda self, x: {}["absent"]})()
        with pytest.raises(KeyError) as error:
            sweep(task)
        assert f"in `{method}` of sweep(task=...)" in error.value.__notes__
    for step, kind in ((lambda self, s, h, b: h["lr"], KeyError), (lambda s: s, TypeError)):
        with pytest.raises(kind) as error:
            sweep(with_step(step))
        assert any("the hyperparameters are learning_rate" in n for n in error.value.__notes__)
    for ask in (lambda lr: lr if lr > 0.1 else 2 * lr, float, np.sqrt, math.sqrt):
        with pytest.raises(Exception, match=r"traced array|tracer") as error:
            sweep(with_step(lambda self, s, h, b, ask=ask: (s, {"loss": ask(h["learning_rate"])})))
        assert any("selects by jnp.where, without `if`" in n for n in error.value.__notes__)
