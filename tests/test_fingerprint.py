"""Two programs have one fingerprint if they compute the same, in whatever process."""

import collections
import functools
import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsched.search._fingerprint import Walk, fingerprint_of, plain

X = jax.ShapeDtypeStruct((4,), jnp.float32)
DATA = np.arange(2000.0, dtype=np.float32)  # longer than what a text would show
CHANGED = DATA.copy()
CHANGED[1234] = np.nextafter(CHANGED[1234], np.float32(0))


def jitted(data):
    inner = jax.jit(lambda x: x * jnp.asarray(data).sum())
    return jax.jit(lambda x: inner(x) + 1)


def custom_vjp(data):
    @jax.custom_vjp
    def f(x):
        return jax.jit(lambda x: x * jnp.asarray(data)[1234])(x)

    f.defvjp(lambda x: (f(x), x), lambda x, g: (g * jnp.asarray(data)[1234],))
    return f


def custom_vjp_of_a_gradient(data):
    f = jax.custom_vjp(lambda x: 2 * x)
    f.defvjp(lambda x: (f(x), ()), lambda _, g: (jax.jit(lambda g: g * data[1234])(g),))
    return jax.grad(lambda x: f(x).sum())


def custom_jvp(data):
    f = jax.custom_jvp(lambda x: jax.jit(lambda x: x * data[1234])(x))
    f.defjvp(lambda x, t: (f(*x), t[0]))
    return f


def scan(data):
    body = jax.jit(lambda x: x + jnp.asarray(data)[:4].sum() + data[1234])
    return lambda x: jax.lax.scan(lambda x, _: (body(x), None), x, length=3)[0]


def while_loop(data):
    body = jax.jit(lambda x: x + 1 + data[1234])
    return lambda x: jax.lax.while_loop(lambda x: x.sum() < 9, body, x)


def cond(data):
    return lambda x: jax.lax.cond(x[0] > 0, jax.jit(lambda x: x * data[1234]), jnp.sin, x)


def switch(data):
    pieces = [jnp.sin, jnp.cos, lambda x: x + jnp.asarray(data).sum()]
    return lambda x: jax.lax.switch(2, pieces, x)


def checkpoint(data):
    return jax.grad(jax.checkpoint(lambda x: jnp.sin(jitted(data)(x)).sum()))


def vmap(data):
    return jax.vmap(jax.jit(lambda x: (x * jnp.asarray(data)).sum()))


def bfloat16(data):
    numbers = jnp.asarray(data - DATA).astype(jnp.bfloat16)
    return jax.jit(lambda x: x + numbers.sum())


def keys(data):
    many = jax.random.split(jax.random.key(int(np.any(data != DATA))), 4)
    return jax.jit(lambda x: x + jax.vmap(jax.random.uniform)(many))


def number(data):
    return jax.jit(lambda x: x * float(data[1234]))


def callback(data):
    shape = jax.ShapeDtypeStruct((4,), jnp.float32)
    return lambda x: jax.pure_callback(lambda x: x + data[1234], shape, x)


def object_called(data):
    class Adding:
        __module__ = "jaxlike"  # not a part of JAX

        def __init__(self):
            self.data = data

        def __call__(self, x):
            return x + self.data[1234]

    return lambda x: jax.pure_callback(Adding(), jax.ShapeDtypeStruct((4,), jnp.float32), x)


def method_called(data):
    class Adding:
        def __call__(self, x):
            return x + data[1234]

    return lambda x: jax.pure_callback(Adding(), jax.ShapeDtypeStruct((4,), jnp.float32), x)


def private_attribute(data):
    class Adding:
        def __init__(self):
            self._data, self._lock = {"rows": [data]}, threading.Lock()

        def add(self, x):
            return x + self._data["rows"][0][1234]

    return lambda x: jax.pure_callback(Adding().add, jax.ShapeDtypeStruct((4,), jnp.float32), x)


def wrapped_object(data):
    class Adding:
        def __call__(self, x):
            return x + self.data[1234]

    adding = functools.update_wrapper(Adding(), private_attribute)
    adding.data = data
    return lambda x: jax.pure_callback(adding, jax.ShapeDtypeStruct((4,), jnp.float32), x)


def method_of_an_array(data):
    shape = jax.ShapeDtypeStruct((), jnp.float32)
    return lambda x: x * jax.pure_callback(data.astype(np.float32).take, shape, 1234)


def sharded(data):
    mesh = jax.make_mesh((2,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    there = jax.sharding.NamedSharding(mesh, jax.P("data"))
    laid_out = jax.device_put(data, there)
    return jax.jit(lambda x: x + laid_out.sum())


KINDS = [
    jitted, custom_vjp, custom_vjp_of_a_gradient, custom_jvp, scan, while_loop, cond, switch,
    checkpoint, vmap, bfloat16, keys, number, callback,
    object_called, method_called, private_attribute, wrapped_object, method_of_an_array,
    sharded,
]  # fmt: skip


def of(make, data):
    return Walk().of(jax.make_jaxpr(make(data))(X))


@pytest.mark.parametrize("make", KINDS)
def test_one_number_that_a_function_closes_over_makes_another_program(make):
    assert of(make, DATA) == of(make, DATA.copy())
    assert of(make, DATA) != of(make, CHANGED)


def test_constants_that_are_literals_count_as_well():
    jax.config.update("jax_use_simplified_jaxpr_constants", True)
    try:
        assert of(jitted, DATA) == of(jitted, DATA.copy()) != of(jitted, CHANGED)
    finally:
        jax.config.update("jax_use_simplified_jaxpr_constants", False)


def test_a_number_counts_in_a_function_that_is_nested_a_hundred_times():
    def nested(number):
        found = jax.make_jaxpr(jax.jit(lambda x: x * np.float32(number)))(X)
        for _ in range(120):
            (eqn,) = found.eqns
            inner = eqn.replace(params={**eqn.params, "jaxpr": found})
            found = found.replace(jaxpr=found.jaxpr.replace(eqns=[inner]))
        return Walk().of(found)

    assert nested(2) != nested(3)


def test_operations_parameters_shapes_and_wiring_count():
    programs = [
        lambda x: x + 1,
        lambda x: x + 2,
        lambda x: x - 1,
        lambda x: jnp.cumsum(x),
        lambda x: jax.lax.cumsum(x, reverse=True),
        lambda x: (x[0] - x[1], x),
        lambda x: (x[1] - x[0], x),
        lambda x: (x, x[0] - x[1]),
    ]
    shapes = [X, jax.ShapeDtypeStruct((5,), jnp.float32), jax.ShapeDtypeStruct((4,), jnp.int32)]
    found = [Walk().of(jax.make_jaxpr(f)(x)) for f in programs for x in shapes]
    assert len(set(found)) == len(found)


def test_a_class_of_arrays_is_known_by_its_name():
    assert fingerprint_of(np.ndarray) != fingerprint_of(np.ma.MaskedArray)


class Rule:
    """Without a ``__repr__``, and with something that is another in each process."""

    def __init__(self, share, shape=None):
        self.share, self.shape, self._cache = share, shape, object()


def rule(share):
    return Rule(share, [jnp.sin, lambda x: share * x])


TEXTS = {
    "test_fingerprint.rule": rule,
    "test_fingerprint.Rule": Rule,
    "jax.numpy.sin": jnp.sin,
    "test_fingerprint.Rule(share=0.5, shape=None)": Rule(0.5),
    "[1, 'a', test_fingerprint.rule]": [1, "a", rule],
    "{'f': test_fingerprint.rule}": {"f": rule},
    "SuccessiveHalving(first=5, eta=2.0)": __import__("jaxsched").search.SuccessiveHalving(5),
}


@pytest.mark.parametrize(("text", "value"), TEXTS.items())
def test_a_text_has_names_and_fields_and_no_address(text, value):
    assert plain(value) == text


def test_functions_that_share_a_name_are_told_apart():
    two = [lambda x: x + 1, lambda x: x + 2]
    held = [[lambda x, k=k: x + k for k in (1, 2)], [functools.partial(rule, k) for k in (1, 2)]]
    methods = [Rule(1).__init__, Rule(2).__init__]
    made = [rule(k).shape[1] for k in (1, 2)]
    arrays = [np.arange(2000), np.arange(2000) * (np.arange(2000) != 1000)]
    named = [collections.namedtuple("Weights", "w")(array) for array in arrays]
    for a, b in (two, *held, methods, made, arrays, named):
        assert plain(a) != plain(b)
        assert plain(a) == plain(a)
        assert "0x" not in plain(a) + plain(b)


def test_another_thread_finds_the_same():
    class Slow:
        def __repr__(self):
            time.sleep(0.01)
            return "slow"

    slow = Slow()
    with ThreadPoolExecutor(2) as pool:
        assert {*pool.map(Walk().of, [slow] * 2)} == {Walk().of(slow)}


def test_another_process_finds_the_same():
    code = (
        "import test_fingerprint as t; from jaxsched.search._fingerprint import plain\n"
        "print([t.of(m, t.DATA) for m in t.KINDS if m is not t.sharded], plain(t.rule(0.5)))"
    )
    here = [of(make, DATA) for make in KINDS if make is not sharded]
    environment = {**os.environ, "PYTHONHASHSEED": "7", "JAX_NUMPY_RANK_PROMOTION": "raise"}
    out = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(__file__).parent,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert out == f"{here} {plain(rule(0.5))}\n"
