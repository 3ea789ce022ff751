"""What is compiled once: for one object, as long as it computes the same; and Python numbers."""

import gc
import time
import weakref
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import only_new_garbage
from jax.extend.core import jaxpr_as_fun
from sweep_tasks import Plain, supervised

import jaxsched as js
from jaxsched import search
from jaxsched.search import Averaged
from jaxsched.search.engine import _feed, _program
from jaxsched.search.engine._feed import Feed, padded
from jaxsched.search.engine._products import narrow_first
from jaxsched.search.engine._program import FunctionCache
from jaxsched.search.engine._random import draw_ahead, with_draws
from jaxsched.search.tasks._traced import Fold, trace_task

RATES = [js.Constant(rate) for rate in (0.1, 0.01)]


def sweep(task, trials=RATES, **arguments):
    return search.sweep(
        task, trials, **{"steps": 9, "devices": jax.local_devices()[:1]} | arguments
    )


def test_a_task_may_fill_one_buffer_with_all_of_its_batches(monkeypatch):
    buffer = np.zeros(64 + 16, np.float32)
    buffer = buffer[-buffer.ctypes.data // 4 % 16 :][:64]  # so aligned that JAX would not copy it

    class Filling(Plain):
        def batches(self, seed, start, length):
            buffer[:] = start
            return buffer[:length]

    plan = SimpleNamespace(
        folds=[Fold(Filling(), None, SimpleNamespace(batch=buffer[0]), {}, "")],
        seeds=[0],
        length=64,
        longest=128,
        caller="sweep",
    )
    slow = lambda *arguments: time.sleep(0.01) or padded(*arguments)
    monkeypatch.setattr(_feed, "padded", slow)
    with ThreadPoolExecutor(2) as units:  # which share the task
        read = lambda chunk: Feed(plan).get(0, 0, chunk, jax.devices()[0])
        first, second = units.map(read, (0, 1))
    assert (float(first[0]), float(second[0])) == (0, 64)


class Closing(Plain):
    """Closes over an array and a number in every method, also in a function jitted inside."""

    def __init__(self):
        self.target, self.power = np.ones(3), 2  # of 64 bits: JAX makes others of it

    def loss(self, state):
        inner = jax.jit(lambda state: jnp.sum((state - jnp.asarray(self.target)) ** self.power))
        return inner(state)

    def step(self, state, hyperparams, batch):
        loss, grad = jax.value_and_grad(self.loss)(state)
        return state - hyperparams["learning_rate"] * grad, {"loss": loss}

    def evaluate(self, state):
        return {"loss": self.loss(state)}

    def test(self, state):
        return {"loss": self.loss(state) + self.power}


def hold(monkeypatch, cls):
    """Keeps all objects of a class, as the traceback of an error may."""
    held, make = [], cls.__init__

    def __init__(self, *args, **kwargs):
        held.append((self, args, kwargs))
        make(self, *args, **kwargs)

    monkeypatch.setattr(cls, "__init__", __init__)


def test_the_same_object_is_compiled_once_until_it_computes_something_else(monkeypatch):
    hold(monkeypatch, _program.Program)
    hold(monkeypatch, Fold)
    task = Closing()
    first = sweep(task)
    again = sweep(task, [js.cosine_decay(0.1, 9)] * 2 + RATES, seeds=2)
    assert (first.info["traces"], again.info["traces"]) == (
        {"init": 1, "segment": 1, "evaluate": 1},
        {},
    )
    task.target[:] = 0.0  # in place, as nothing sees that compares objects
    changed = sweep(task)
    assert changed.info["traces"] == {"segment": 1, "evaluate": 1}  # `init` is as it was
    assert (changed.train["loss"][0] != first.train["loss"][0]).any()
    np.testing.assert_allclose(changed.train["loss"], sweep(Closing0()).train["loss"])
    task.power = 4
    assert sweep(task).info["traces"] == {"segment": 1, "evaluate": 1}
    task.target[:], task.power = 1.0, 2
    back = sweep(task)
    assert back.info["traces"] == {}
    assert back.train["loss"].tobytes() == first.train["loss"].tobytes()


class Closing0(Closing):
    def __init__(self):
        super().__init__()
        self.target = np.zeros(3, np.float32)


def test_the_final_score_measures_the_data_of_now():
    task = Closing()
    result = sweep(task)
    first = search.final_score(task, result).metrics["loss"]
    task.test = lambda state: {"loss": task.loss(state) + 10.0}
    np.testing.assert_allclose(search.final_score(task, result).metrics["loss"], first + 8.0)


def test_a_pytree_whose_functions_close_over_other_data_is_compiled_anew():
    shift = np.zeros(3, np.float32)
    task = supervised(
        model=(lambda key: jnp.zeros((6, 3)), lambda w, x: x @ w + jnp.asarray(shift)[None])
    )
    first = sweep(task)
    shift[0] = 5.0
    assert (sweep(task).train["loss"] != first.train["loss"]).all()


def test_what_was_compiled_ends_with_its_task_and_few_are_kept():
    with only_new_garbage():
        task = Closing()
        sweep(task)
        held = [weakref.ref(task), weakref.ref(_program._FUNCTIONS.get(task, None, Plain, task))]
        del task
        gc.collect()
        assert [ref() for ref in held] == [None, None]
    kept, tasks = FunctionCache(most=2), [Plain(), Plain(), Plain()]
    made = [kept.get(task, "code", Plain, tasks[0]) for task in tasks]
    assert kept.get(tasks[0], "code", Plain, made[0]) is made[0]  # they were used when others came
    del tasks[0]
    made = [kept.get(task, "code", Plain, Plain()) for task in [*tasks, Plain()]]
    assert kept.get(tasks[1], "code", Plain, made[1]) is made[1]
    assert kept.get(tasks[0], "code", Plain, made[0]) is not made[0]


def test_however_many_functions_one_sweep_needs_the_next_one_finds_them(monkeypatch):
    monkeypatch.setattr(_program, "_FUNCTIONS", FunctionCache(most=1))
    task = Plain()
    assert sum(sweep(task, RATES[:1]).info.traces.values()) == 3
    assert not sweep(task, RATES[:1]).info.traces


# ----------------------------------------------------------------------- Python numbers in a state


class Wrapped(Plain):
    """As a log around an environment: totals that begin as Python numbers."""

    def __init__(self, **begin):
        self.begin = {"total": 0, "count": 0, "best": None, **begin}

    def init(self, key):
        return {"w": Plain.init(self, key), **self.begin}

    def step(self, state, hyperparams, batch):
        w, metrics = Plain.step(self, state["w"], hyperparams, batch)
        more = {"total": state["total"] + metrics["loss"], "count": state["count"] + 1}
        return {"w": w, "best": None, **more}, metrics

    def evaluate(self, state):
        count = jnp.asarray(state["count"]).astype(jnp.float32)
        return {**Plain.evaluate(self, state["w"]), "total": state["total"] + 0.0, "count": count}


@pytest.mark.parametrize("width", [1, 2])
def test_python_numbers_in_a_state_take_the_dtype_of_the_step_as_in_a_scan(width):
    result = sweep(Wrapped(), width=width)
    np.testing.assert_allclose(
        result.final("total")[:, 0, 0], result.train["loss"][:, 0, 0].sum(axis=1), rtol=1e-6
    )
    assert result.final("count").tolist() == [[[9.0]], [[9.0]]]
    averaged = sweep(Averaged(Wrapped(), window=3), width=width)
    np.testing.assert_array_equal(averaged.final("total"), result.final("total"))


def test_a_range_test_takes_them_too_from_init_or_from_a_state():
    task = Wrapped()
    start = {"start": 1e-3, "end": 1.0, "steps": 30, "seeds": 1}
    found = js.range_test(task, **start)
    same = js.range_test(task, **start, state=task.init(jax.random.key(0)))
    assert found.losses.tobytes() == same.losses.tobytes()


@pytest.mark.parametrize(
    ("begin", "words"),
    [
        (
            {"total": np.int32(0)},
            r"got float32\[\] for the int32\[\] at state\['total'\]. Let init",
        ),
        ({"total": False}, r"got float32\[\] for the bool\[\] at state\['total'\]"),
        (
            {"total": "none"},
            r"init must return a pytree of arrays, got 'none' \(str\) at state\['t",
        ),
        ({"best": 1}, "got None in place of an array"),
    ],
)
def test_what_no_scan_takes_is_named_by_its_leaf(begin, words):
    with pytest.raises(TypeError, match=words):
        sweep(Wrapped(**begin))


def test_a_state_of_a_class_without_equality_is_traced_once():
    calls = []

    @jax.tree_util.register_pytree_node_class
    class Box:
        def __init__(self, w):
            self.w = w

        def tree_flatten(self):
            return (self.w,), None

        @classmethod
        def tree_unflatten(cls, aux, children):
            return cls(*children)

    class Boxed(Plain):
        def init(self, key):
            return Box(Plain.init(self, key))

        def step(self, state, hyperparams, batch):
            calls.append(1)
            w, metrics = Plain.step(self, state.w, hyperparams, batch)
            return Box(w), metrics

    trace_task(Boxed(), ("learning_rate",), evaluated=False)
    assert len(calls) == 1


def test_python_numbers_with_64_bits():
    with jax.enable_x64(True):
        result = sweep(Wrapped())
    assert result.final("count").tolist() == [[[9.0]], [[9.0]]]


def test_without_a_compiler_a_state_may_hold_a_key():
    state = {"key": jax.random.key(0), "w": jnp.ones(3)}  # no tracers, as under `disable_jit`
    assert _program._cast(state, state) == state


def test_what_the_host_draws_is_what_a_program_draws():
    def init(key):
        first, *keys = jax.random.split(key, 3)
        each = jax.random.split(keys[-1], (2, 3))
        return {
            "bits": [jax.random.bits(keys[0], (3, 5), f"uint{n}") for n in (8, 16, 32)],
            "folded": jax.random.uniform(jax.random.fold_in(jax.random.fold_in(first, 7), 2**31)),
            "mapped": jax.vmap(jax.vmap(jax.random.bits))(each),
            "keys": each,
            "zeros": [jnp.zeros((3, 2), "bfloat16"), jnp.full((4,), 2)],
            "large": jax.random.bits(first, (2**18 + 1,)).max(),  # left to the program
        }

    traced, key = jax.make_jaxpr(init)(jax.random.key(0)), jax.random.key(2**32 - 1)
    words = draw_ahead(traced, 2**32 - 1)
    assert len(jax.tree.leaves(words)) == 2 * 5 + 2  # no other is
    got = jax.jit(lambda key: with_draws(traced, words)(key))(key)
    chex.assert_trees_all_equal(jax.tree.leaves(jax.jit(init)(key)), got)
    with jax.threefry_partitionable(False):  # JAX then draws other numbers
        assert not jax.tree.leaves(draw_ahead(jax.make_jaxpr(init)(key), 0))


@pytest.mark.optimized
def test_a_gradient_of_weights_is_laid_out_as_a_product_with_its_narrow_factor_first():
    def gradients(weights, inputs, more):
        return jax.grad(lambda w: jnp.sum((inputs @ w[0]) ** 2) + jnp.sum(more @ w[1]))(weights)

    def compiled(traced):
        return jax.jit(jaxpr_as_fun(traced)).lower(*given).compile()

    shapes = (128, 10), (512, 40), (64, 128), (64, 512)  # the second is one for several threads
    given = [np.random.default_rng(0).normal(size=shape).astype(np.float32) for shape in shapes]
    traced = jax.make_jaxpr(lambda a, b, x, y: gradients((a, b), x, y))(*given)
    plain, eased = compiled(traced), compiled(narrow_first(traced))
    assert "= f32[128,10]{1,0} dot(" in plain.as_text()
    assert "= f32[128,10]{1,0} dot(" not in eased.as_text()
    assert "= f32[512,40]{1,0} dot(" in eased.as_text()
    chex.assert_trees_all_equal(plain(*given), eased(*given))


@pytest.mark.parametrize("reads", [jnp.sum, jax.lax.rsqrt, jax.jit(jnp.sum), jnp.ravel])
def test_a_gradient_that_is_summed_up_or_rounded_by_its_place_is_left_alone(reads):
    def count(f):
        return str(narrow_first(jax.make_jaxpr(f)(x, y))).count("optimization_barrier")

    x, y = jnp.ones((64, 128)), jnp.ones((64, 10))
    gradient = lambda x, y: jax.lax.dot_general(y, x, (((0,), (0,)), ((), ()))).T
    assert count(lambda x, y: jnp.where(x[0, 0] > 0, jnp.sqrt(gradient(x, y)), 0.0)) == 1
    assert count(lambda x, y: (gradient(x, y), reads(-gradient(x, y)))) == 1
