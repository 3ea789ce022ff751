"""A schedule is data: nothing changes it, and what was written is read."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxsched as js


def test_whatever_is_written_can_be_read():
    schedule = js.Linear(1.0, 0.0, 10)
    for _ in range(70):
        schedule = js.Shift(schedule, 1)
    assert js.from_json(js.to_json(schedule)) == schedule


def test_a_population_can_be_written_and_read():
    population = js.stack([js.Linear(peak, 0.0, 10) for peak in (1.0, 2.0)])
    assert js.from_json(js.to_json(population)) == population


def _own_copy():
    values = np.asarray([1.0, 0.5], np.float32)
    schedule = js.Table(values)
    values[0] = 9.0
    return schedule


def _own_leaf():
    schedule = js.Table([1.0, 0.5])
    with contextlib.suppress(TypeError, ValueError):
        schedule.values[0] = 9.0
    return schedule


def _own_parameters():
    schedule = js.from_fn(lambda step, peak: peak * jnp.ones_like(step, jnp.float32), peak=1.0)
    with contextlib.suppress(TypeError):
        schedule.parameters["peak"] = 9.0
    return schedule


@pytest.mark.parametrize(
    "make",
    [
        _own_copy,
        _own_leaf,
        _own_parameters,
    ],
)
def test_nothing_outside_changes_an_immutable_schedule(make):
    assert float(make()(0)) == 1.0


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda s: pickle.loads(pickle.dumps(s))])
def test_a_copy_is_as_immutable_as_the_original(copied):
    again = copied(js.Table([1.0, 0.5]) >> js.Constant(0.1))
    with pytest.raises(ValueError, match="read-only"):
        again.parts[0].values[0] = 9.0
    again = copied(js.from_fn(_half, peak=1.0))
    assert dict(again.parameters) == {"peak": 1.0}
    assert dataclasses.replace(again, steps=5).parameters["peak"] == 1.0


def _half(step, peak):
    return peak * jnp.where(step > 0, 0.5, 1.0)


def test_a_schedule_whose_array_was_donated_has_a_repr():
    rate = jnp.asarray(1.0)
    schedule = js.Linear(rate, 0.0, 5) >> js.Constant(0.0)
    given = js.from_fn(_half, peak=rate)
    rate.delete()
    assert "start=<deleted>, end=0.0" in repr(schedule)
    assert "peak=<deleted>" in repr(given)


@pytest.mark.parametrize("x64", [False, True])
@pytest.mark.parametrize(
    "make",
    [
        lambda: js.Table(np.array([0.1, 0.2])),
        lambda: js.PiecewiseLinear(np.array([0.1, 20_000_001.5]), np.array([0.1, 0.2])),
        lambda: js.stack([js.Table(np.array([0.1, 0.2])), js.Table(np.array([0.3, 0.4]))]),
    ],
    ids=["Table", "PiecewiseLinear", "population"],
)
def test_float64_arrays_are_read_as_they_were_written(make, x64):
    """Float32 as for a list, save in x64 mode, where they stay float64."""
    with jax.enable_x64(x64):
        schedule = make()
        assert schedule.values.dtype == (np.float64 if x64 else np.float32)
        read = [js.from_json(js.to_json(schedule))]
        if schedule.values.ndim == 1:  # the repr of a population is for the eye
            read.append(eval(repr(schedule), {**vars(js), "np": np}))
        for again in read:
            assert again == schedule
            assert again.values.dtype == schedule.values.dtype
    assert x64 or js.Table(np.array([0.1, 0.2])) == js.Table([0.1, 0.2])
