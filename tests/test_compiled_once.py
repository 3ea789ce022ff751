"""A task object is compiled once in a process: for all sweeps, range tests and final scores."""

import collections
import contextlib
import dataclasses
import functools
import types
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen
from noisy import Noisy
from sweep_tasks import Plain, noise, supervised

import jaxsched as js
from jaxsched import search
from jaxsched.controllers import Plateau
from jaxsched.search import Averaged, SuccessiveHalving

COMPILED = "/jax/core/compile/backend_compile_duration"  # of every program, found in a cache or not
counts: collections.Counter = collections.Counter()
jax.monitoring.register_event_duration_secs_listener(lambda name, _, **__: counts.update([name]))
ONE = {"devices": jax.local_devices()[:1]}
pytestmark = pytest.mark.filterwarnings("ignore:sweep.steps")


@contextlib.contextmanager
def compiling(programs):
    before = counts[COMPILED]
    yield
    assert counts[COMPILED] - before == programs


class Closing(Plain):
    """Its functions close over its data."""

    def __init__(self, target=0.0):
        self.target = np.full(3, target, np.float32)

    def step(self, state, hyperparams, batch):
        loss, grad = jax.value_and_grad(self._loss)(state)
        return state - hyperparams["learning_rate"] * grad, {"loss": loss}

    def evaluate(self, state):
        return {"loss": self._loss(state)}

    test = evaluate

    def fold(self, index, folds):
        return type(self)(1.0 + index)

    def everything(self):
        return type(self)(0.5)

    def _loss(self, state):
        return jnp.sum((state - self.target) ** 2)


class Slots:
    __slots__ = ("target",)
    __init__, _loss, init = Closing.__init__, Closing._loss, Plain.init
    step, evaluate, test = Closing.step, Closing.evaluate, Closing.test
    fold, everything = Closing.fold, Closing.everything


class Unhashable(Closing):
    def __eq__(self, other):
        raise ValueError("ambiguous, as that of arrays")

    __hash__ = None  # type: ignore[assignment]


@dataclasses.dataclass
class Data(Closing):
    target: Any

    def __init__(self, target=0.0):
        Closing.__init__(self, target)


class Functions(NamedTuple):
    init: Any
    step: Any
    evaluate: Any
    test: Any


def closures(kind):
    task = Closing()
    names = ("step", "evaluate", "test")
    found = {name: lambda *a, name=name: getattr(task, name)(*a) for name in names}
    return kind(init=lambda key: noise(key, 3), **found)


@functools.partial(jax.tree_util.register_dataclass, data_fields=["by"], meta_fields=[])
@dataclasses.dataclass(frozen=True)
class Shifted(Plain):
    """A pytree with a Python number, which JAX types weakly."""

    by: Any = 0.5

    def evaluate(self, state):
        return {"loss": jnp.sum((state - self.by) ** 2)}

    test = evaluate


class Dense(linen.Module):
    @linen.compact
    def __call__(self, x):
        return linen.Dense(3)(linen.relu(linen.Dense(4)(x)))


TASKS = {
    "object": Closing,
    "slots": Slots,
    "unhashable": Unhashable,
    "dataclass": Data,
    "namespace": lambda: closures(types.SimpleNamespace),
    "named tuple": lambda: closures(Functions),
    "supervised": supervised,
    "pytree of numbers": Shifted,
    "nnx": lambda: supervised(model=Noisy),
    "linen": lambda: supervised(model=Dense()),
    "averaged object": lambda: Averaged(Slots(), window=3),
    "averaged pytree": lambda: Averaged(supervised(), decay=0.5),
}


@pytest.mark.parametrize("kind", TASKS)
def test_a_second_sweep_range_test_or_final_score_compiles_nothing(kind):
    task = TASKS[kind]()
    rates = [js.Constant(0.1), js.Constant(0.02)]
    js.sweep(Plain(), rates, steps=3)  # the program that all tasks share
    with compiling(3):  # init, segment, evaluate
        result = js.sweep(task, rates, steps=9, **ONE)
    with compiling(0):
        js.range_test(task, 1e-4, 2.0, 50, seeds=3, smoothing=0.8)
        js.range_test(task, ramp="linear", steps=1200, seeds=[7], schedule="constant")
        trials = js.grid({"a": js.cosine_decay, "b": js.constant}, peak=0.1, steps=[20, 1500])
        js.sweep(task, trials, seeds=[3, 2**32 - 1], limit=1e9, **ONE)
        js.sweep(task, rates, steps=40, evaluate_every=7, stopping=SuccessiveHalving(10, 2), **ONE)
    with compiling(1):  # test
        search.final_score(task, result)
    with compiling(0):
        search.final_score(task, js.sweep(task, rates[1], steps=12, seeds=2, **ONE))


@pytest.mark.parametrize("kind", [Closing, Slots, supervised])
def test_so_do_folds_though_they_are_made_anew(kind):
    task = kind()
    arguments = {"folds": 3, **ONE}
    js.sweep(Plain(), js.Constant(0.1), steps=3)  # the program that all tasks share
    with compiling(3 if kind is supervised else 7):  # folds of an object share their `init` alone
        result = js.sweep(task, js.Constant(0.1), steps=5, **arguments)
    search.final_score(task, result)
    with compiling(0):
        result = js.sweep(task, [js.Constant(0.2), js.cosine_decay(0.1, 7)], steps=7, **arguments)
        search.final_score(task, result)


@pytest.mark.parametrize("arguments", [{"width": 2, **ONE}, {"width": 3, **ONE}, "mesh"])
def test_so_do_lanes_and_a_mesh(arguments):
    if arguments == "mesh":
        auto = (jax.sharding.AxisType.Auto,)
        arguments = {"devices": jax.make_mesh((2,), ("model",), axis_types=auto)}
    task, rates = Closing(), [js.Constant(0.1 / n) for n in (1, 2, 3, 4)]
    cooldowns = [js.wsd(0.3, 5, 0, n) for n in (2, 3)]  # they fork: lanes are taken apart
    js.sweep(task, [*rates, *cooldowns], steps=5, **arguments)
    with compiling(0):
        js.sweep(task, [*rates, js.cosine_decay(0.1, 9)], steps=9, seeds=2, **arguments)


def test_controllers_with_other_numbers_share_their_program():
    def watching(*peaks):
        return [Plateau(js.cosine_decay(p, 90), factor=f, patience=1) for p in peaks for f in peaks]

    task = Closing()
    js.sweep(task, watching(0.1), steps=30, evaluate_every=5, **ONE)
    with compiling(0):
        js.sweep(task, watching(0.3, 0.2), steps=45, evaluate_every=9, seeds=2, **ONE)


@pytest.mark.parametrize("kind", [Closing, Slots, Unhashable])
def test_other_data_are_compiled_anew_and_of_the_functions_only_those_that_read_them(kind):
    task = kind()
    first = js.sweep(task, js.Constant(0.1), steps=9, **ONE)
    start = js.range_test(task, steps=30, seeds=1)
    task.target[:] = 3.0
    with compiling(2):  # not init
        again = js.sweep(task, js.Constant(0.1), steps=9, **ONE)
    assert (again.train["loss"] != first.train["loss"]).any()
    with compiling(0):
        other = js.range_test(task, steps=30, seeds=1)
    assert (other.losses != start.losses).any()
    solo = js.sweep(kind(3.0), js.Constant(0.1), steps=9, **ONE)
    assert solo.train["loss"].tobytes() == again.train["loss"].tobytes()


def test_what_is_compiled_later_is_of_the_data_of_the_last_trace():
    task = Closing()
    first = js.sweep(task, js.Constant(0.1), steps=9, **ONE)
    task.target[:] = 3.0
    js.sweep(task, js.Constant(0.1), steps=9, **ONE)
    task.target = np.zeros_like(task.target)
    jax.clear_caches()
    again = js.sweep(task, js.Constant(0.1), steps=9, **ONE)
    assert again.train["loss"].tobytes() == first.train["loss"].tobytes()
    assert again.validation["loss"].tobytes() == first.validation["loss"].tobytes()


class Named(Closing):
    """Two metrics whose names the user exchanges: no jaxpr has names."""

    names = ("a", "b")

    def evaluate(self, state):
        a, b = self.names
        return {"loss": self._loss(state), a: state[0], b: state[1]}


def test_so_are_other_names_of_the_metrics():
    task = Named()
    first = js.sweep(task, js.Constant(0.1), steps=5, **ONE)
    task.names = ("c", "d")
    other = js.sweep(task, js.Constant(0.1), steps=5, **ONE)
    assert sorted(other.validation) == ["c", "d", "loss"]
    assert other.final("c") == first.final("a")
