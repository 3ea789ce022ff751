"""``range_test``: one short run with a rising rate, for a few seeds, that answers "which rate?".

The run is one compiled program and a pure function: nothing that was handed in changes. What its
curves say is read from them on the host, in ``_range_result.py``.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxsched._arrays import is_concrete, to_host
from jaxsched._checks import checked_number, checked_whole
from jaxsched._phases import boundaries
from jaxsched._populations import members
from jaxsched.controllers._base import AbstractController, scaled
from jaxsched.schedules._base import AbstractSchedule
from jaxsched.schedules._shapes import Geometric, Linear
from jaxsched.search._arguments import seeds as known_seeds
from jaxsched.search._fingerprint import fingerprints
from jaxsched.search.engine._program import Kept, rebuilder
from jaxsched.search.range_tests._result import (
    STEPS_PER_DECADE,
    Future,
    RangeTest,
    first_tenth,
    read,
)
from jaxsched.search.tasks._batches import read_batches
from jaxsched.search.tasks._convolution import warn_of_convolutions
from jaxsched.search.tasks._states import initial_state, strong, typed
from jaxsched.search.tasks._traced import taken_apart, trace_task
from jaxsched.search.trials._kinds import kinds_of, maker_of, structure
from jaxsched.search.trials._trials import Followed

if TYPE_CHECKING:
    from jaxsched.search.tasks._protocol import Task

# End over peak of the kinds that may be named in place of a schedule.
KINDS = {
    "decay": 0.0,
    "cosine": 0.0,
    "linear": 0.0,
    "one_cycle": 0.0,
    "wsd": 0.0,
    "exponential": 0.01,
    "constant": 1.0,
}


def range_test(
    task: Task,
    start: float = 1e-7,
    end: float = 10.0,
    steps: int | None = None,
    *,
    seeds: int | Sequence[int] = 4,
    schedule: Followed | Callable[..., Followed] | str | None = None,
    ramp: str = "exponential",
    name: str = "learning_rate",
    hyperparams: dict[str, float] | None = None,
    state: Any = None,
    smoothing: float = 0.9,
    width: int | None = None,
) -> RangeTest:
    r"""Trains briefly with a rising rate and reads off it which peak the real run should have.

    Update ``i`` of ``n`` runs at the rate

    .. math:: \eta_i = \text{start}\,(\text{end}/\text{start})^{i/(n-1)}

    The loss of its batch, before the update, is smoothed by a debiased moving average. From where
    the loss is not finite, or the average is above 4 times its lowest value *and* clearly above its
    first tenth, a seed has diverged: its points are masked, its state is frozen. Each seed's peak
    is the rate with the lowest average, over 3 for a schedule that ends near zero or over 7 for a
    constant rate; the answer is the median of the seeds. How that is read, and what gives no
    answer: docs/range-test.md.

    Smith, "Cyclical Learning Rates" (arXiv:1506.01186) has the test; the divisors were measured
    against the best peaks on validation data of 11 settings (SGD and Adam, batch 32).

    Args:
        task: what to train, see ``js.search.Task``.
        start: rate of the first update, positive and far too small.
        end: rate of the last update, greater than ``start`` and far too large.
        steps: optimizer updates for each seed, from 30 to 10**7; by default 100 for every 3 decades
            (267 from 1e-7 to 10), at which the divisors were measured, or 200 for a linear ramp.
        seeds: how many (0, 1, 2, ...), or which; whole numbers from 0. Fewer than 4 give a wider
            interval.
        schedule: what the real run will follow: a schedule or controller; a recipe that only lacks
            its peak, ``functools.partial(js.warmup_cosine, steps=2000, warmup=100)``; or a kind,
            one of "decay", "cosine", "linear", "one_cycle", "wsd", "exponential" and "constant".
            ``None`` is "decay", to zero. A controller is taken to cut the rate as far as it may.
        ramp: "exponential" or "linear".
        name: of the hyperparameter that rises.
        hyperparams: constant values of others that ``task.step`` asks for, name -> number.
        state: where every seed starts, as from ``task.init``; by default each seed's own
            ``task.init(jax.random.key(seed))``. It is read only.
        smoothing: weight of the past in the moving average, from 0 and below 1.
        width: how many seeds run side by side (``vmap``); by default one on a CPU, where more would
            gain nothing, and all elsewhere.

    Returns:
        A ``RangeTest``. Its ``peak`` is inside [start, end], or ``None`` with a ``reason``.

    Raises:
        ValueError, TypeError: before any training, for a bad argument or a task that can't be
            trained (see ``js.search.Task``).

    >>> import jax, jax.numpy as jnp
    >>> from jaxsched.search import range_test
    >>> class Bowl:
    ...     def init(self, key):
    ...         return jax.random.normal(key, (8,))
    ...     def step(self, state, hyperparams, batch):
    ...         loss, grad = jax.value_and_grad(lambda w: 2 * jnp.sum(w**2))(state)
    ...         return state - hyperparams["learning_rate"] * grad, {"loss": loss}
    ...     def evaluate(self, state):
    ...         return {"loss": jnp.sum(state**2)}
    >>> found = range_test(Bowl(), start=1e-4, end=10.0, schedule="cosine")
    >>> 0.05 < found.peak < 0.5  # the limit is 2/L = 0.5
    True
    """
    rates = _ramp(start, end, steps, ramp)
    chosen = known_seeds(seeds, "range_test(seeds=...)", bits=31)
    future = _future(schedule)
    smoothing = float(checked_number("range_test(smoothing=...)", smoothing, at_least=0, below=1))
    if width is None:
        width = 1 if jax.default_backend() == "cpu" else len(chosen)
    width = checked_whole("range_test(width=...)", width, 1, len(chosen))
    if not isinstance(name, str) or not name:
        raise TypeError(f"range_test(name=...) must be the name of a hyperparameter, got {name!r}.")
    constants = _constants(hyperparams, name)
    names = (name, *constants)
    shape = trace_task(task, names, "range_test", len(rates), evaluated=False)
    if jax.default_backend() == "cpu":
        warn_of_convolutions(shape.step, "range_test")
    if state is not None:
        state = _checked_state(state, shape.state)
    future = dataclasses.replace(future, name=name, others=constants)
    arrays = taken_apart(task)[0]
    given = (arrays, jax.device_put(constants), state)
    static: dict[str, Any] = {
        "dtypes": shape.dtypes,
        "early": first_tenth(len(rates)),
        "name": name,
        "smoothing": smoothing,
        "width": width,
    }
    program = _PROGRAMS.get(
        task,
        (*static.values(), *fingerprints([shape.init, shape.step])),
        lambda: jax.jit(functools.partial(_run, rebuilder(task), **static)),
    )
    climb, pieces = None, []
    for lo, hi in _pieces(len(rates), len(chosen), shape.batch):
        drawn = [read_batches(task, seed, lo, hi - lo, "range_test", len(rates)) for seed in chosen]
        batches = jax.tree.map(lambda *rows: np.stack([np.asarray(row) for row in rows]), *drawn)
        lanes = jax.device_put((np.asarray(chosen, np.uint32), batches))
        outputs, climb = program(*given, jax.device_put(rates[lo:hi]), lanes, climb)
        pieces.append(jax.device_get(outputs))
    losses, smooth, kept = (np.concatenate(found, axis=1) for found in zip(*pieces, strict=True))
    with jax.transfer_guard("allow"):  # a few numbers, which the rules take to a device and back
        return read(rates, losses, smooth, kept, chosen, future, smoothing)


def _pieces(count: int, seeds: int, batch: Any) -> list[tuple[int, int]]:
    """(from, to): all updates at once, or fewer where batches are the data themselves."""
    size = seeds * sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(batch))
    most = max(1, _BYTES // max(size, 1))
    length = -(-count // -(-count // most))  # as equal as can be
    return [(lo, min(lo + length, count)) for lo in range(0, count, length)]


# ------------------------------------------------------------------------------- the program


def _run(
    rebuild: Callable[[list[Any]], Task],
    arrays: list[Any],
    constants: dict[str, jax.Array],
    state: Any,
    rates: jax.Array,
    lanes: tuple[jax.Array, Any],
    climb: _Climb | None,
    *,
    dtypes: tuple[Any, ...],
    early: int,
    name: str,
    smoothing: float,
    width: int,
) -> tuple[tuple[jax.Array, jax.Array, jax.Array], _Climb]:
    """Losses, debiased moving averages and masks of all seeds, [S, n] each; none of them NaN.

    Of the updates after those of ``climb``, or from the beginning; and where it is then.
    """
    task = rebuild(arrays)

    def one(lane: tuple[jax.Array, Any, _Climb | None]) -> Any:
        seed, batches, climb = lane
        if climb is None:
            begin = state
            if state is None:
                begin = initial_state(task, jax.random.key(seed), dtypes)
            climb = _Climb.start(begin)

        def step(state: Any, rate: jax.Array, batch: Any) -> tuple[Any, jax.Array]:
            after, metrics = task.step(state, {**constants, name: rate}, batch)
            return jax.tree.map(strong, after), metrics["loss"].astype(jnp.float32)

        end, outputs = lax.scan(_climbing(step, early, smoothing), climb, (rates, batches))
        return outputs, end

    count, rows = lanes[0].shape[0], (*lanes, climb)
    if width == count and count > 1:
        return jax.vmap(one)(rows)
    return lax.map(one, rows, batch_size=None if width == 1 else width)


_PROGRAMS = Kept()
_BYTES = 64 << 20  # of batches on the device at once


class _Climb(NamedTuple):
    state: Any
    step: jax.Array  # updates done
    total: jax.Array  # of the moving average, before its bias is taken off
    weight: jax.Array
    level: jax.Array  # mean loss of the first tenth, so far
    change: jax.Array  # mean distance of neighboring losses there
    low: jax.Array  # lowest moving average after it
    last: jax.Array  # last finite loss
    alive: jax.Array

    @classmethod
    def start(cls, state: Any) -> _Climb:
        zero, infinity = jnp.float32(0.0), jnp.float32(jnp.inf)
        step, alive = jnp.int32(0), jnp.bool_(True)
        return cls(state, step, zero, zero, zero, zero, infinity, zero, alive)


def _climbing(
    step: Callable[[Any, jax.Array, Any], tuple[Any, jax.Array]], early: int, smoothing: float
) -> Callable[[_Climb, Any], tuple[_Climb, Any]]:
    """The update of a climb on (rate, batch): loss, moving average, and whether it counts."""
    # Batch noise from neighbors' distance (for normal noise 2/sqrt(pi) deviations), in an average.
    noise_factor = 4 * math.sqrt(math.pi) / 2 * math.sqrt((1 - smoothing) / (1 + smoothing))

    def update(c: _Climb, row: Any) -> tuple[_Climb, Any]:
        i, (rate, batch) = c.step, row
        after, loss = step(c.state, rate, batch)
        finite = c.alive & jnp.isfinite(loss)
        loss = jnp.where(finite, loss, c.last)
        total = smoothing * c.total + (1.0 - smoothing) * loss
        weight = smoothing * c.weight + (1.0 - smoothing)
        smooth = total / weight
        warming = i < early
        level = jnp.where(warming, c.level + loss / early, c.level)
        moved = jnp.abs(loss - c.last) / (early - 1)
        change = jnp.where(warming & (i > 0), c.change + moved, c.change)
        low = jnp.where(finite & ~warming, jnp.minimum(c.low, smooth), c.low)
        # For a positive loss 4 times the best, as usual; near zero or below, a loss has no "times".
        rise = jnp.maximum(3.0 * jnp.abs(low), level - low) + noise_factor * change
        # Above it in two updates running: a single odd batch is no divergence.
        above = jnp.minimum(smooth, jnp.minimum(loss, c.last)) > low + rise
        alive = finite & (warming | ~above)
        state = jax.tree.map(lambda new, old: jnp.where(alive, new, old), after, c.state)
        shown = jnp.where(alive, smooth, jnp.where(jnp.isfinite(low), low, loss))
        c = _Climb(state, i + 1, total, weight, level, change, low, loss, alive)
        return c, (loss, shown, alive)

    return update


# ---------------------------------------------------------------------------------- the arguments


def _future(schedule: Any) -> Future:
    where = "range_test(schedule=...)"
    if schedule is None:
        return Future(1.0, KINDS["decay"])
    if isinstance(schedule, str):
        if schedule not in KINDS:
            raise ValueError(f"{where} must be one of {sorted(KINDS)}, got {schedule!r}.")
        return Future(1.0, KINDS[schedule])
    if isinstance(schedule, AbstractSchedule | AbstractController):
        begin, peak, end = _shape(where, schedule)
        kind = (maker_of(schedule) or (structure(schedule),))[0]
        return Future(begin / peak, end / peak, lambda rate: scaled(schedule, rate / peak), kind)
    if not callable(schedule) or isinstance(schedule, type):
        raise TypeError(
            f"{where} must be a schedule, a recipe that only lacks its peak, or a kind, "
            f"got {schedule!r} ({type(schedule).__name__})."
        )
    try:
        example = schedule(peak=1.0)
    except TypeError as error:
        raise TypeError(
            f"{where} must be a recipe that only lacks its peak, such as "
            "`functools.partial(js.cosine_decay, steps=2000)`, got "
            f"{kinds_of(schedule, {}, 'range_test')[0].name}: {error}."
        ) from error
    if not isinstance(example, AbstractSchedule | AbstractController):
        raise TypeError(f"{where} must return a schedule, got {example!r} from {schedule!r}.")
    begin, peak, end = _shape(where, example)
    (recipe,) = kinds_of(schedule, {}, "range_test")
    return Future(begin / peak, end / peak, lambda rate: schedule(peak=rate), recipe.name)


def _shape(where: str, schedule: Followed) -> tuple[float, float, float]:
    """First value, largest value and end value of a schedule; a controller cuts all it may."""
    if isinstance(schedule, AbstractController):
        begin, peak, end = _shape(where, schedule.base)
        return begin, peak, end * schedule.lowest()
    if not all(map(is_concrete, jax.tree.leaves(schedule))):
        raise TypeError(f"{where} must have known numbers, got {schedule!r}.")
    if members(schedule) is not None:
        raise ValueError(f"{where} must be one schedule, got a population of {members(schedule)}.")
    edges = [int(edge) for edge in boundaries(schedule) if edge is not None]
    if schedule.duration is not None:
        last = math.ceil(float(to_host(schedule.duration)))
    else:
        last = 2 * max([1, *edges])
        settled = schedule._on_host(np.array([last, 2**30, 2**31 - 1]))
        if len(set(settled.tolist())) > 1:
            raise ValueError(
                f"{where} must end somewhere, got the open-ended {schedule!r}. Give the run's "
                "length: `js.Window(schedule, 0, steps)`."
            )
    steps = np.unique([*np.rint(np.linspace(0, last, 5000)), *edges, last]).clip(0, last)
    values = schedule._on_host(steps)
    peak = float(values.max())
    if not math.isfinite(peak) or peak <= 0 or values.min() < 0:
        raise ValueError(
            f"{where} must be a rate: positive, and nowhere negative, got {schedule!r}."
        )
    return float(values[0]), peak, float(values[-1])


def _ramp(start: Any, end: Any, steps: Any, ramp: Any) -> np.ndarray:
    start = float(checked_number("range_test(start=...)", start, at_least=1e-30))
    end = float(checked_number("range_test(end=...)", end, above=start, at_most=1e30))
    if ramp not in ("exponential", "linear"):
        raise ValueError(f"range_test(ramp=...) must be 'exponential' or 'linear', got {ramp!r}.")
    if steps is None:
        decades = math.log10(end / start)
        steps = 200 if ramp == "linear" else max(100, round(decades * STEPS_PER_DECADE))
    steps = checked_whole("range_test(steps=...)", steps, 30, 10**7)
    rising = (Geometric if ramp == "exponential" else Linear)(start, end, steps - 1)
    rates: np.ndarray = rising._on_host(np.arange(steps)).astype(np.float32)
    return rates.clip(np.float32(start), np.float32(end))


def _constants(hyperparams: Any, name: str) -> dict[str, np.float32]:
    if hyperparams is not None and not isinstance(hyperparams, dict):
        raise TypeError(
            f"range_test(hyperparams=...) must be a dict name -> number, got {hyperparams!r}."
        )
    if name in (hyperparams or {}):
        raise ValueError(
            f"range_test(hyperparams=...) must not hold {name!r}, which the test raises; "
            "name=... says which one that is."
        )
    where = "range_test(hyperparams={{{!r}: ...}})"
    return {
        key: np.float32(checked_number(where.format(key), value))
        for key, value in (hyperparams or {}).items()
    }


def _checked_state(state: Any, expected: Any) -> Any:
    """The state as arrays; a Python number in it takes the dtype that the task gives it."""

    def array(x: Any, like: Any) -> jax.Array:
        return typed(x, like.dtype)

    structure: Any = jax.tree.structure(state)
    if structure == jax.tree.structure(expected):
        state = jax.tree.map(array, state, expected)
    found = jax.tree.map(lambda x: (np.shape(x), str(jnp.result_type(x))), state)
    wanted = jax.tree.map(lambda x: (x.shape, str(x.dtype)), expected)
    if str(found) != str(wanted):
        raise TypeError(
            "range_test(state=...) must be a state of this task, with the structure, shapes and "
            f"dtypes of task.init(key), {wanted}, got {found}."
        )
    return state
