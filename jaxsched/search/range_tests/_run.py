"""``range_test``: one short run with a rising rate, for a few seeds, that answers "which rate?".

The run is one compiled program and a pure function: nothing that was handed in changes. What its
curves say is read from them on the host, in ``_result.py``.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxsched._arrays import same_structure
from jaxsched._checks import checked_choice, checked_number, checked_whole
from jaxsched._words import known_arguments
from jaxsched.schedules._shapes import Geometric, Linear
from jaxsched.search._fingerprint import fingerprints
from jaxsched.search.engine._devices import nbytes
from jaxsched.search.engine._program import Kept, rebuilder
from jaxsched.search.engine._request import checked_seeds
from jaxsched.search.range_tests._result import STEPS_PER_DECADE, RangeTest, first_tenth, read
from jaxsched.search.range_tests._target import target_of
from jaxsched.search.tasks._batches import read_batches
from jaxsched.search.tasks._convolution import warn_of_convolutions
from jaxsched.search.tasks._named import found_task
from jaxsched.search.tasks._protocol import Task
from jaxsched.search.tasks._returned import initial_state, strong, typed
from jaxsched.search.tasks._traced import taken_apart, trace_task
from jaxsched.search.trials._trials import Followed

_PROGRAMS = Kept()
_BYTES = 64 << 20  # of batches on the device at once


@known_arguments
def range_test(
    task: Task | str,
    start: float = 1e-7,
    end: float = 10.0,
    steps: int | None = None,
    *,
    seeds: int | Sequence[int] = 4,
    schedule: Followed | Callable[..., Followed] | str | None = None,
    ramp: Literal["exponential", "linear"] = "exponential",
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

    The divisors are a fit to the best peaks on validation data of 11 settings (SGD and Adam, batch
    32). References: Smith, Cyclical learning rates, arXiv:1506.01186 (the test).

    Args:
        task: what to train, see ``js.search.Task``; or its name, as in ``sweep``.
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
    chosen = checked_seeds("range_test(seeds=...)", seeds, bits=31)
    target = target_of(schedule)
    smoothing = float(checked_number("range_test(smoothing=...)", smoothing, at_least=0, below=1))
    if width is None:
        width = 1 if jax.default_backend() == "cpu" else len(chosen)
    width = checked_whole("range_test(width=...)", width, 1, len(chosen))
    if not isinstance(name, str) or not name:
        raise TypeError(f"range_test(name=...) must be the name of a hyperparameter, got {name!r}.")
    constants = _constants(hyperparams, name)
    names = (name, *constants)
    task = found_task(task, "range_test")
    shape = trace_task(task, names, "range_test", len(rates), evaluated=False)
    if jax.default_backend() == "cpu":
        warn_of_convolutions(shape.step, "range_test")
    if state is not None:
        state = _checked_state(state, shape.state)
    target = dataclasses.replace(target, name=name, others=constants)
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
        lambda: jax.jit(functools.partial(_climb_seeds, rebuilder(task), **static)),
    )
    climb, pieces = None, []
    for lo, hi in _pieces(len(rates), len(chosen), shape.batch):
        drawn = [read_batches(task, seed, lo, hi - lo, "range_test", len(rates)) for seed in chosen]
        batches = jax.tree.map(lambda *rows: np.stack([np.asarray(row) for row in rows]), *drawn)
        lanes = jax.device_put((np.asarray(chosen, np.uint32), batches))
        outputs, climb = program(*given, jax.device_put(rates[lo:hi]), lanes, climb)
        pieces.append(jax.device_get(outputs))
    losses, smooth, kept = (np.concatenate(parts, axis=1) for parts in zip(*pieces, strict=True))
    with jax.transfer_guard("allow"):  # a few numbers, which the rules take to a device and back
        return read(rates, losses, smooth, kept, chosen, target, smoothing)


def _ramp(start: Any, end: Any, steps: Any, ramp: Any) -> np.ndarray:
    start = float(checked_number("range_test(start=...)", start, at_least=1e-30))
    end = float(checked_number("range_test(end=...)", end, above=start, at_most=1e30))
    checked_choice("range_test(ramp=...)", ramp, ("exponential", "linear"))
    if steps is None:
        decades = math.log10(end / start)
        steps = 200 if ramp == "linear" else max(100, round(decades * STEPS_PER_DECADE))
    steps = checked_whole("range_test(steps=...)", steps, 30, 10**7)
    rising = (Geometric if ramp == "exponential" else Linear)(start, end, steps - 1)
    rates: np.ndarray = rising._on_host(np.arange(steps)).astype(np.float32)
    return rates.clip(np.float32(start), np.float32(end))


def _constants(hyperparams: Any, name: str) -> dict[str, np.float32]:
    if hyperparams is None:
        return {}
    where = "range_test(hyperparams=...)"
    if not isinstance(hyperparams, dict):
        raise TypeError(f"{where} must be a dict name -> number, got {hyperparams!r}.")
    if name in hyperparams:
        raise ValueError(
            f"{where} must not hold {name!r}, which the test raises; name=... says which one that "
            "is."
        )
    one = "range_test(hyperparams={{{!r}: ...}})"
    return {key: np.float32(checked_number(one.format(key), x)) for key, x in hyperparams.items()}


def _checked_state(state: Any, expected: Any) -> Any:
    """The state as arrays; a Python number in it takes the dtype that the task gives it."""

    def kinds(tree: Any) -> Any:
        return jax.tree.map(lambda x: (np.shape(x), str(jnp.result_type(x))), tree)

    if same_structure(state, expected):
        state = jax.tree.map(lambda x, like: typed(x, like.dtype), state, expected)
    if str(kinds(state)) != str(kinds(expected)):
        raise TypeError(
            "range_test(state=...) must be a state of this task, with the structure, shapes and "
            f"dtypes of task.init(key), {kinds(expected)}, got {kinds(state)}."
        )
    return state


# ----------------------------------------------------------------------------------- the program


def _pieces(count: int, seeds: int, batch: Any) -> list[tuple[int, int]]:
    """(from, to): all updates at once, or fewer where batches are the data themselves."""
    most = max(1, _BYTES // max(seeds * nbytes(batch), 1))
    length = -(-count // -(-count // most))  # as equal as can be
    return [(lo, min(lo + length, count)) for lo in range(0, count, length)]


def _climb_seeds(
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

    Of the updates after those of ``climb``, or from the beginning; and the climbs after them.
    """
    task = rebuild(arrays)

    def one(lane: tuple[jax.Array, Any, _Climb | None]) -> Any:
        seed, batches, climb = lane
        if climb is None:
            begin = state
            if state is None:
                begin = initial_state(task, jax.random.key(seed), dtypes)
            climb = _Climb.start(begin)

        def update(climb: _Climb, row: Any) -> Any:
            rate, batch = row
            after, metrics = task.step(climb.state, {**constants, name: rate}, batch)
            loss = metrics["loss"].astype(jnp.float32)
            return climb.next(jax.tree.map(strong, after), loss, early, smoothing)

        end, outputs = lax.scan(update, climb, (rates, batches))
        return outputs, end

    count, rows = lanes[0].shape[0], (*lanes, climb)
    if width == count and count > 1:
        return jax.vmap(one)(rows)
    return lax.map(one, rows, batch_size=None if width == 1 else width)


class _Climb(NamedTuple):
    """A seed on its way up."""

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

    def next(self, after: Any, loss: jax.Array, early: int, smoothing: float) -> tuple[_Climb, Any]:
        """The climb after an update, with its loss, moving average, and whether it counts."""
        # Batch noise from neighbors' distance (for normal noise 2/sqrt(pi) deviations), on average.
        noise_factor = 4 * math.sqrt(math.pi) / 2 * math.sqrt((1 - smoothing) / (1 + smoothing))
        finite = self.alive & jnp.isfinite(loss)
        loss = jnp.where(finite, loss, self.last)
        total = smoothing * self.total + (1.0 - smoothing) * loss
        weight = smoothing * self.weight + (1.0 - smoothing)
        smooth = total / weight
        warming = self.step < early
        level = jnp.where(warming, self.level + loss / early, self.level)
        moved = jnp.abs(loss - self.last) / (early - 1)
        change = jnp.where(warming & (self.step > 0), self.change + moved, self.change)
        low = jnp.where(finite & ~warming, jnp.minimum(self.low, smooth), self.low)
        # For a positive loss 4 times the best, as usual; near zero or below, a loss has no "times".
        rise = jnp.maximum(3.0 * jnp.abs(low), level - low) + noise_factor * change
        # Above it in two updates running: a single odd batch is not a divergence.
        above = jnp.minimum(smooth, jnp.minimum(loss, self.last)) > low + rise
        alive = finite & (warming | ~above)
        state = jax.tree.map(lambda new, old: jnp.where(alive, new, old), after, self.state)
        shown = jnp.where(alive, smooth, jnp.where(jnp.isfinite(low), low, loss))
        end = _Climb(state, self.step + 1, total, weight, level, change, low, loss, alive)
        return end, (loss, shown, alive)
