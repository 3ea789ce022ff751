"""The contract of schedules: one function for each law."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxsched as js
from jaxsched._arrays import INT32_MAX, to_host
from jaxsched._checks import checked_items, checked_whole
from jaxsched._populations import require_schedule
from jaxsched.schedules._phase import known_duration, phases_of, unfinished
from jaxsched.testing import _laws

Schedule = js.AbstractSchedule


def check_schedule(
    schedule: Schedule, *, steps: Iterable[int] | None = None, skip: Iterable[str] = ()
) -> None:
    """Runs every law on ``schedule``.

    Args:
        schedule: one with known numbers.
        steps: steps of interest; by default around every boundary and the end, and the extremes.
        skip: names of laws that do not apply, e.g. ``"serializable"`` for a function.

    Raises:
        AssertionError: naming the law that does not hold.

    >>> import jaxsched as js
    >>> check_schedule(js.Linear(0.0, 1.0, 10))
    """
    require_schedule("check_schedule(schedule=...)", schedule)
    marks = landmarks(schedule) if steps is None else _int32("check_schedule(steps=...)", steps)
    _laws.check("check_schedule", LAWS, schedule, marks, skip)


def landmarks(schedule: Schedule) -> np.ndarray:
    """Steps at and around every boundary and the end, in the tail, and the extremes; int32."""
    # Around an edge: the last step before it, the first after it, and the results of a rounding to
    # either side. 2**24 + 1 is the first whole number that is not exact in float32, 2**31 - 1 the
    # last step.
    edges: set[float] = {0, 10, 1000}
    edges |= set(js.boundaries(schedule))
    duration = schedule.duration
    if duration is not None:
        end = float(to_host(duration))
        edges |= {end, end / 3, end / 2, 2 * end, 10 * end}
    near = {int(e) + d for e in edges for d in (-2, -1, 0, 1)}
    marks = sorted(m for m in near | {-5, 2**24 + 1, 2**31 - 1} if -5 <= m <= 2**31 - 1)
    return np.asarray(marks, np.int32)


def _int32(where: str, steps: object) -> np.ndarray:
    items = checked_items(where, steps, "steps")
    if not items:
        raise ValueError(f"{where} must hold at least one step, got none.")
    return np.array([checked_whole(where, x, -INT32_MAX - 1, INT32_MAX) for x in items], np.int32)


def _has_code(schedule: Schedule) -> bool:
    """Whether a user's function or a formula in ``jnp`` is part of it."""
    nodes = jax.tree.leaves(schedule, is_leaf=lambda x: isinstance(x, js.Function))
    in_jax = isinstance(schedule.value_at(np.float64(1.0)), jax.Array)
    return in_jax or any(isinstance(node, js.Function) for node in nodes)


def pure(schedule: Schedule, steps: np.ndarray) -> None:
    """Calling it changes nothing, and its fields cannot be set."""
    before, first = repr(schedule), schedule(steps)
    for step in steps[:10]:
        schedule(int(step))
    assert repr(schedule) == before, "a call changed the schedule"
    _laws.assert_equal(first, schedule(steps), "the same steps gave other values")
    # Setting a field would change the hash, and a program compiled with the old value would be
    # wrong.
    for name in vars(schedule):
        try:
            setattr(schedule, name, 1)
        except AttributeError:
            continue
        raise AssertionError(f"the field {name} can be set")


def elementwise(schedule: Schedule, steps: np.ndarray) -> None:
    """Eager, jit, vmap and scan agree within 4 ulp, for steps of any shape."""
    whole = np.asarray(schedule(steps))
    one_by_one = np.asarray([np.asarray(schedule(int(step))) for step in steps])
    _laws.assert_equal(whole, one_by_one, "an array and single steps")
    # One program for all of them, a loop over two rows: most of this law's time is compilation. 4
    # ulp, as XLA may contract products and sums in one program and not in another.
    even = np.resize(steps, (2, (len(steps) + 1) // 2))

    @jax.jit
    def programs(rows: jax.Array) -> dict[str, jax.Array]:
        both = lambda row: {"an array": schedule(row), "vmap": jax.vmap(schedule)(row)}
        return jax.lax.map(both, rows)

    for name, values in programs(jnp.asarray(even)).items():
        values = np.ravel(values)[: len(steps)]
        _laws.assert_close(values, whole, f"{name} in jit and scan, and eager", 4, steps)
    assert schedule(even).shape == even.shape == jax.eval_shape(schedule, even).shape
    assert schedule(np.zeros((0,), np.int32)).shape == (0,)


def strong_float32(schedule: Schedule, steps: np.ndarray) -> None:
    """A strong float32 array in the shape of the step, whatever kind of step; int32 of integers."""
    # With another dtype, or a weak one, JAX would compile every function of the value again.
    first = np.asarray(schedule.value_at(np.float64(0.0)))
    dtype = jnp.int32 if first.dtype.kind == "i" else jnp.float32
    kinds = (3, np.int64(3), np.uint8(3), np.int32(3), jnp.int32(3), 3.0, jnp.uint32(3))
    for step in (*kinds, np.asarray([3, 4], np.int32)):
        value = schedule(step)
        assert isinstance(value, jax.Array), f"{type(value).__name__} for the step {step!r}"
        assert value.dtype == dtype and not value.weak_type, f"{value.aval} for {step!r}"
        assert value.shape == np.shape(step), f"shape {value.shape} for {step!r}"
    out = jax.eval_shape(schedule, jax.ShapeDtypeStruct((2, 3), jnp.int32))
    assert (out.shape, out.dtype, out.weak_type) == ((2, 3), dtype, False), str(out)


def total(schedule: Schedule, steps: np.ndarray) -> None:
    """Finite everywhere; before 0 it holds s(0), after the duration the end."""
    values = np.asarray(schedule(steps))
    assert np.all(np.isfinite(values)), f"not finite at the steps {steps[~np.isfinite(values)]}"
    _holds("before 0 it is not s(0)", steps, values, steps < 0, np.asarray(schedule(0)))
    if schedule.duration is not None:
        end = float(to_host(schedule.duration))
        if end < 2**31 - 1:
            last = np.asarray(schedule(int(np.ceil(end))))
            _holds("the end does not hold", steps, values, steps >= end, last)


def _holds(
    what: str, steps: np.ndarray, values: np.ndarray, where: np.ndarray, value: np.ndarray
) -> None:
    if (wrong := np.flatnonzero(where & (values != value))).size:
        at = wrong[0]
        raise AssertionError(f"{what}: {values[at]} at step {steps[at]}, not {value}")


def no_retrace(schedule: Schedule, steps: np.ndarray) -> None:
    """A changed number does not compile a new program, as argument or inside a population."""
    _laws.assert_numbers(schedule)
    traces = 0

    def members(population: Schedule, step: jax.Array) -> jax.Array:
        nonlocal traces
        traces += 1  # Python runs while JAX traces, and not when the program does
        return jax.vmap(lambda s: s(step))(population)

    rows = jax.jit(_in_turn(members))
    base = js.strong(schedule)
    for factor in (1.0, 0.5, 0.25):
        both = js.stack([base, _laws.rescaled(schedule, factor)])
        first = np.asarray(rows(both, jnp.asarray(steps)))[:, 0]
        _laws.assert_close(first, base(steps), "a member of a population and the schedule", 4)
    assert traces == 1, f"{traces} traces for 3 settings"


def _in_turn(f: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """At one step after the other: XLA compiles a loop in half the time of arrays of steps."""
    return lambda subject, steps: jax.lax.map(lambda step: f(subject, step), steps)


def differentiable(schedule: Schedule, steps: np.ndarray) -> None:
    """Gradients in the step and in every number are finite, and right where it is smooth."""
    # Lengths are made real as well: JAX has no gradient in an integer.
    real = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), schedule)
    at = jnp.asarray(steps, jnp.float32)
    grads, in_step = jax.jit(_in_turn(jax.grad(lambda s, t: s(t), (0, 1))))(real, at)
    for path, grad in jax.tree_util.tree_flatten_with_path(grads)[0]:
        bad = steps[~np.isfinite(np.asarray(grad)).reshape(len(steps), -1).all(1)]
        assert not len(bad), f"d/d{jax.tree_util.keystr(path)} is not finite at the steps {bad}"
    assert np.all(np.isfinite(np.asarray(in_step))), "d/dstep is not finite"
    if not _has_code(schedule):  # a user's function runs in float32: too coarse for differences
        _compare_with_differences(real, steps, grads)


def _compare_with_differences(real: Schedule, steps: np.ndarray, grads: Schedule) -> None:
    """Raises unless gradients agree with central differences where the curve is smooth."""
    # The differences are computed on the curve in float64 on the host. Each number is moved by a
    # millionth of itself to both sides. Where the two slopes differ by more than a thousandth there
    # is a kink, such as an end or the bound of a `js.Clip`; the gradient holds for one side only
    # there, and is not compared. The tolerance covers the float32 error of a gradient and the
    # rounding errors of the differences.
    host = jax.tree.map(lambda x: np.asarray(x, np.float64), real)
    leaves, tree = jax.tree.flatten(host)
    inside = (steps >= 0) & (steps <= 2**24)  # beyond, a step is not exact in float32

    def at(index: int, change: float) -> np.ndarray:
        moved = [x + change if i == index else x for i, x in enumerate(leaves)]
        return jax.tree.unflatten(tree, moved).host(steps)

    for index, (leaf, grad) in enumerate(zip(leaves, jax.tree.leaves(grads), strict=True)):
        if leaf.ndim:
            continue
        h = 1e-6 * max(abs(float(leaf)), 1e-3)
        low, middle, high = at(index, -h), at(index, 0.0), at(index, h)
        right, left = (high - middle) / h, (middle - low) / h
        scale = np.abs(right) + np.abs(left) + 1e-2 * np.max(np.abs(right[inside]), initial=0)
        smooth = inside & (np.abs(right - left) <= 1e-3 * scale) & (scale > 1e-12)
        error = np.abs(np.asarray(grad, np.float64) - (right + left) / 2)
        noise = 1e-9 + 1e-15 * np.abs(middle) / h  # of the differences themselves
        wrong = smooth & (error > 2e-3 * scale + noise)
        assert not wrong.any(), (
            f"the gradient in number {index} of {real!r} is {np.asarray(grad)[wrong][:3]}, central "
            f"differences {((right + left) / 2)[wrong][:3]} at the steps {steps[wrong][:3]}"
        )


def printable(schedule: Schedule, steps: np.ndarray) -> None:
    """``eval(repr(s)) == s``; equal by value, hashable."""
    _laws.assert_read_back(schedule)
    assert schedule != 1 and schedule is not None


def copyable(schedule: Schedule, steps: np.ndarray) -> None:
    """pickle, copy and deepcopy give an equal schedule."""
    for again in _laws.copies(schedule):
        _laws.assert_equal(again(steps), schedule(steps), "the values of a copy")


def serializable(schedule: Schedule, steps: np.ndarray) -> None:
    """``to_dict`` and JSON give an equal schedule."""
    for again in (js.from_dict(js.to_dict(schedule)), js.from_json(js.to_json(schedule))):
        assert again == schedule, f"read back as {again!r}"
        _laws.assert_equal(again(steps), schedule(steps), "the values of what was read back")


def plain(schedule: Schedule, steps: np.ndarray) -> None:
    """Optax takes it for a plain schedule: callable, without both ``init`` and ``update``."""
    assert callable(schedule)
    assert not (hasattr(schedule, "init") and hasattr(schedule, "update"))


def sequential(schedule: Schedule, steps: np.ndarray) -> None:
    """A sequence of one is the schedule; parts meet at exactly the given steps."""
    alone = js.Sequence((schedule,))
    _laws.assert_equal(alone(steps), schedule(steps), "a sequence of one")
    tail = js.Constant(0.5)
    later = js.Constant(0.25, 7) >> schedule
    moved = steps[(steps >= 0) & (steps < 2**31 - 8)]
    _laws.assert_equal(later(moved + 7), schedule(moved), "after a constant of 7 steps")
    assert float(later(6)) == 0.25
    if not unfinished(schedule) and float(to_host(schedule.duration)) < 2**31 - 1:
        end = int(np.ceil(float(to_host(schedule.duration))))
        ended = schedule >> tail
        assert float(ended(end)) == 0.5, "the next part does not begin at the duration"
        if end > 0:
            assert float(ended(end - 1)) == float(schedule(end - 1))


def phased(schedule: Schedule, steps: np.ndarray) -> None:
    """Its phases go from step 0 to the duration without gaps; only the last may be empty."""
    phases, duration = phases_of(schedule), known_duration(schedule)
    last = phases[-1]
    held = last.end is None and last.start == duration  # the last value begins at the end
    assert held or last.end == duration, f"they end at {last.end}, the duration is {duration}"
    empty = [phase for phase in phases[:-1] if phase.start == phase.end]
    assert not empty, f"empty are {empty}"


LAWS = _laws.by_name(
    pure,
    phased,
    total,
    elementwise,
    strong_float32,
    no_retrace,
    differentiable,
    printable,
    copyable,
    serializable,
    plain,
    sequential,
)
