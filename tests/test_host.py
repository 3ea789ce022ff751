"""``schedule.host(step)``: float64 on the host, for loggers and for other libraries."""

from __future__ import annotations

import math
import pickle
import re
import types
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import CLASSES

import jaxsched as js

LR = js.warmup_cosine(0.1, 1000, 100)
PAGE = (Path(__file__).parents[1] / "docs/migrating/README.md").read_text()


def test_one_step_gives_a_float_with_all_digits():
    value = LR.host(550)
    assert type(value) is float
    assert value == pytest.approx(0.1 * math.cos(math.pi / 4) ** 2, rel=1e-15)
    assert np.float32(value) == LR(550)


@pytest.mark.parametrize("steps", [[0, 3], (1, 2), np.arange(6).reshape(2, 3), jnp.arange(2)])
def test_several_steps_give_an_array_in_their_shape(steps):
    values = LR.host(steps)
    assert (values.dtype, values.shape) == (np.float64, np.shape(steps))


@pytest.mark.parametrize("name", CLASSES)
def test_rounded_it_is_what_a_call_gives(name):
    schedule = CLASSES[name]
    steps = np.array([-1, 0, 1, 9, 1000, 2**31 - 1])
    np.testing.assert_array_equal(schedule.host(steps).astype(np.float32), schedule(steps))
    assert schedule.host(9) == schedule.host(steps)[3]


def test_a_trace_around_it_sees_nothing_of_it():
    seen, arrays = [], js.strong(LR)
    jaxpr = jax.make_jaxpr(lambda x: (seen.append(arrays.host(550)), x)[1])(1.0)
    assert seen == pytest.approx([0.05]) and not jaxpr.eqns


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: jax.jit(LR.host)(3), TypeError, "given known numbers"),
        (lambda: jax.jit(lambda s: s.host(3))(js.strong(LR)), TypeError, "given known numbers"),
        (lambda: js.stack([LR, LR]).host(3), ValueError, "is a population"),
        (lambda: LR.host("3"), TypeError, "integer or real step, got '3'"),
        (lambda: LR.host(True), TypeError, "integer or real step"),
        (lambda: LR.host(math.nan), ValueError, "got nan"),
    ],
)
def test_what_is_not_known_or_no_step_is_refused(call, error, words):
    with pytest.raises(error, match=words):
        call()


def test_it_is_a_plain_function_that_can_be_pickled():
    """As PyTorch's ``LambdaLR(optimizer, schedule.host)`` calls and saves it."""
    again = pickle.loads(pickle.dumps(LR.host))
    assert [1.0 * again(epoch) for epoch in range(3)] == [LR.host(t) for t in range(3)]


def test_the_class_for_keras_in_the_docs_is_one():
    """Without Keras: its base class asks for ``__call__`` and ``get_config``, and no more."""
    code = re.search(r"^    @keras.*?\n\n    optimizer", PAGE, re.M | re.S)[0]
    code = re.sub(r"^    ", "", code.rpartition("\n")[0], flags=re.M)
    base = types.SimpleNamespace(LearningRateSchedule=object)
    optimizers = types.SimpleNamespace(schedules=base)
    saving = types.SimpleNamespace(register_keras_serializable=lambda: lambda cls: cls)
    names = {"js": js, "keras": types.SimpleNamespace(optimizers=optimizers, saving=saving)}
    exec(code, names)
    schedule = names["Schedule"](LR)
    assert jax.jit(schedule)(jnp.int32(550)) == LR(550)
    assert names["Schedule"].from_config(schedule.get_config()).schedule == LR
