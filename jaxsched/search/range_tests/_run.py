"""``range_test``: a short run with a rising rate, for a few seeds, that answers "which rate?".

It is a sweep of one trial, by the program of a sweep: so each compiles nothing after the other. The
ramp is a table of values like any schedule, so neither its length and ends nor the seeds are part
of the program. The price: a seed with a climbing loss trains on until the loss is not finite, or
the test ends. The point of divergence is found on the host afterwards (``_climbed``), and so are
the curves read (``_result.py``).
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np

from jaxsched._arrays import same_structure
from jaxsched._bounds import check_choice, checked_kind
from jaxsched._checks import check_room, checked_flag, checked_number, checked_whole
from jaxsched._text import describe
from jaxsched._types import Number, PyTree
from jaxsched._words import known_arguments
from jaxsched.schedules._base import Constant
from jaxsched.schedules._piecewise import Table
from jaxsched.schedules._shapes import Geometric, Linear
from jaxsched.search._fingerprint import Walk
from jaxsched.search._progress import progress_line
from jaxsched.search.engine._doubts import warn_of_convolutions
from jaxsched.search.engine._ledger import Ledger
from jaxsched.search.engine._plan import Plan
from jaxsched.search.engine._records import Key
from jaxsched.search.engine._request import checked_seeds
from jaxsched.search.engine._rungs import run_plan
from jaxsched.search.engine._stopping import Objective
from jaxsched.search.engine._values import ScheduleValues
from jaxsched.search.multihost._backend import backend_for
from jaxsched.search.range_tests._result import STEPS_PER_DECADE, RangeTest, first_tenth, read
from jaxsched.search.range_tests._target import target_of
from jaxsched.search.tasks._protocol import Task
from jaxsched.search.tasks._returned import typed
from jaxsched.search.tasks._traced import Fold, found_task, trace_task, updates_per_step
from jaxsched.search.trials._trials import Followed, Trial

_BYTES = 20  # for an update of a seed: its losses, moving average and mask, while they are made


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
    state: PyTree | None = None,
    smoothing: float = 0.9,
    width: int | None = None,
    progress: bool | None = None,
) -> RangeTest:
    r"""Trains briefly with a rising rate and suggests a peak for the real run.

    Update ``i`` of ``n`` runs at the rate

    .. math:: \eta_i = \text{start}\,(\text{end}/\text{start})^{i/(n-1)}

    The loss of its batch, before the update, is smoothed by a debiased moving average. From where
    the loss is not finite, or the average is above 4 times its lowest value *and* clearly above its
    first tenth, a seed has diverged: its points are masked, its state is frozen. Each seed's peak
    is the rate with the lowest average, over 3 for a schedule that ends near zero or over 7 for a
    constant rate; the answer is the median of the seeds. The details, and the cases without an
    answer: docs/range-test.md.

    The divisors are a fit to the best peaks on validation data of 11 settings (SGD and Adam, batch
    32). References: Smith, Cyclical learning rates, arXiv:1506.01186 (the test).

    Args:
        task: the task to train, see ``js.search.Task``; or its name, as in ``sweep``.
        start: rate of the first update, positive and far too small.
        end: rate of the last update, greater than ``start`` and far too large.
        steps: optimizer updates for each seed, from 30 to 10**7; by default 100 for every 3 decades
            (267 from 1e-7 to 10), at which the divisors were measured, or 200 for a linear ramp.
        seeds: how many (0, 1, 2, ...), or which; whole numbers from 0. Fewer than 4 give a wider
            interval.
        schedule: the schedule of the real run: a schedule or controller; a recipe that only lacks
            its peak, ``functools.partial(js.warmup_cosine, steps=2000, warmup=100)``; or a kind,
            one of "decay", "cosine", "linear", "one_cycle", "wsd", "exponential" and "constant".
            ``None`` is "decay", to zero. A controller is taken to cut the rate as far as it may.
        ramp: "exponential" or "linear".
        name: name of the hyperparameter that rises.
        hyperparams: constant values of other hyperparameters of ``task.step``, name -> number.
        state: where every seed starts, as from ``task.init``; by default each seed's own
            ``task.init(jax.random.key(seed))``. It is read only.
        smoothing: weight of the past in the moving average, from 0 and below 1.
        width: how many seeds run side by side (``vmap``); by default one on a CPU, where more would
            gain nothing, and all elsewhere.
        progress: a line on standard error (needs rich); by default only on a terminal or in a
            notebook.

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
    # All arguments are checked before the task is looked at: it may read its data.
    rates = _ramp(start, end, steps, ramp)
    chosen = checked_seeds("range_test(seeds=...)", seeds, bits=31)
    what = f"the curves, got {len(rates)} steps of {len(chosen)} seeds"
    size = _BYTES * len(rates) * len(chosen)
    check_room("range_test(steps=...)", size, what, "Train fewer steps or seeds.")
    target = target_of(schedule)
    smoothing = float(checked_number("range_test(smoothing=...)", smoothing, at_least=0, below=1))
    if width is not None:
        checked_whole("range_test(width=...)", width, 1, len(chosen))
    if progress is not None:
        checked_flag("range_test(progress=...)", progress)
    if not isinstance(name, str) or not name:
        raise TypeError(
            f"range_test(name=...) must be the name of a hyperparameter, got {describe(name)}."
        )
    constants = _constants(hyperparams, name)
    plan = _plan(task, name, rates, constants, chosen, width)
    if jax.default_backend() == "cpu":
        warn_of_convolutions(plan)
    if state is not None:
        state = _checked_state(state, plan.shape.state)
    ledger = Ledger(plan, state=state)
    backend = backend_for(plan, None, plan.width)
    engine = backend.engine(ledger)
    with progress_line(progress, ledger, engine.listeners):
        run_plan(ledger, engine.run)
    curves = []
    for seed in range(len(chosen)):
        losses = ledger.finished[Key(0, 0, seed, (0,))].train["loss"]
        curves.append(_climbed(losses, len(rates), first_tenth(len(rates)), smoothing))
    losses, smooth, kept = map(np.stack, zip(*curves, strict=True))
    target = dataclasses.replace(target, name=name, others=constants)
    # The user may have forbidden transfers, to find any in the training. Here the rules of
    # ``suggest`` take a few numbers to a device and back.
    with jax.transfer_guard("allow"):
        return read(rates, losses, smooth, kept, chosen, target, smoothing)


def _ramp(start: Number, end: Number, steps: int | None, ramp: str) -> np.ndarray:
    """The rate of each update, float32 [steps]."""
    start = float(checked_number("range_test(start=...)", start, at_least=1e-30))
    end = float(checked_number("range_test(end=...)", end, above=start, at_most=1e30))
    check_choice("range_test(ramp=...)", ramp, ("exponential", "linear"))
    if steps is None:
        decades = math.log10(end / start)
        steps = 200 if ramp == "linear" else max(100, round(decades * STEPS_PER_DECADE))
    steps = checked_whole("range_test(steps=...)", steps, 30, 10**7)
    rising = (Geometric if ramp == "exponential" else Linear)(start, end, steps - 1)
    rates: np.ndarray = rising.host(np.arange(steps)).astype(np.float32)
    return rates.clip(np.float32(start), np.float32(end))  # the formula may round past them


def _constants(given: object, name: str) -> dict[str, np.float32]:
    """The other hyperparameters, each a float32 number."""
    if given is None:
        return {}
    where = "range_test(hyperparams=...)"
    hyperparams: dict[str, Number] = checked_kind(where, given, dict, "a dict name -> number")
    if name in hyperparams:
        raise ValueError(
            f"{where} must not hold {name!r}, which the test raises; name=... says which one that "
            "is."
        )
    one = "range_test(hyperparams={{{!r}: ...}})"
    return {key: np.float32(checked_number(one.format(key), x)) for key, x in hyperparams.items()}


def _checked_state(state: PyTree, expected: PyTree) -> PyTree:
    """The state as arrays; a Python number in it takes the dtype that the task gives it."""

    def kinds(tree: PyTree) -> PyTree:
        return jax.tree.map(lambda x: (np.shape(x), str(jnp.result_type(x))), tree)

    if same_structure(state, expected):
        state = jax.tree.map(lambda x, like: typed(x, like.dtype), state, expected)
    if str(kinds(state)) != str(kinds(expected)):
        raise TypeError(
            "range_test(state=...) must be a state of this task, with the structure, shapes and "
            f"dtypes of task.init(key), {kinds(expected)}, got {kinds(state)}."
        )
    return state


def _plan(
    task: Task | str,
    name: str,
    rates: np.ndarray,
    constants: dict[str, np.float32],
    seeds: tuple[int, ...],
    width: int | None,
) -> Plan:
    """The plan of a trial without evaluations.

    ``make_plan`` is not used: it traces ``evaluate``, compares the metrics of the task with the
    requested ones, and makes room for evaluations, but there are none. A fold without ``evaluate``
    otherwise has the programs of a sweep's fold, found by the digests of ``init`` and ``step``;
    the digest of the arrays is left empty, since nothing is stored.
    """
    task = found_task(task, "range_test")  # after all checks of arguments: it may read its data
    updates = updates_per_step("range_test", task)  # all updates of a step have one rate
    schedules: dict[str, Followed] = {name: Table(np.repeat(rates, updates))}
    schedules |= {name: Constant(x) for name, x in constants.items()}
    trial = Trial("ramp", {}, schedules)
    table = ScheduleValues((trial,), len(rates), updates=updates)
    shape = trace_task(task, table.hyperparams, len(rates), "range_test", evaluated=False)
    walk = Walk()
    fold = Fold(task, task, shape, {"init": walk.of(shape.init), "step": walk.of(shape.step)}, "")
    alone = jax.default_backend() == "cpu" or fold.mixes_lanes
    return Plan(
        trials=(trial,),
        folds=(fold,),
        table=table,
        objective=Objective(),
        seeds=seeds,
        width=width or (1 if alone else len(seeds)),
        train=("loss",),
        caller="range_test",
    )


def _climbed(
    losses: np.ndarray, steps: int, early: int, smoothing: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Losses, debiased moving averages and mask of a seed, [steps] each; none of them NaN.

    The usual sign of a divergence, a loss above 4 times its lowest, fails where a loss is near zero
    or negative, and where single batches are noisy. So the bound is a rise above the lowest
    average: by 3 times this average, or up to the loss at the start, whichever is more, and beyond
    the noise of an average. With a first tenth at 2.3 and no noise, the bound is 2.3 for a lowest
    average of 0.5, and 2.4 for one of 0.6.

    Args:
        losses: float32, not finite from where the training has ended.
        steps: length of the test.
        early: number of first updates that show where the loss begins.
        smoothing: weight of the past.
    """
    end = int(np.argmin(np.append(np.isfinite(losses), False)))
    finite, low, count = losses[:end].astype(np.float64), math.inf, end
    # An average of k losses that begins at 0 is too low by the weight of the 0, smoothing**k.
    weights = 1 - smoothing ** np.arange(1, end + 1)
    total = itertools.accumulate((1 - smoothing) * finite, lambda past, x: smoothing * past + x)
    average = np.fromiter(total, np.float64, end) / weights
    if end > early:
        lows = np.minimum.accumulate(average[early:])
        # Batch noise from neighbors' distance (for normal noise 2/sqrt(pi) deviations), on average.
        noise_factor = 4 * math.sqrt(math.pi) / 2 * math.sqrt((1 - smoothing) / (1 + smoothing))
        level, change = finite[:early].mean(), np.abs(np.diff(finite[:early])).mean()
        # For a positive loss 4 times the best, as usual; near zero or below, a loss has no "times".
        rise = np.maximum(3 * np.abs(lows), level - lows) + noise_factor * change
        # Above it in two updates running: a single odd batch is not a divergence.
        both = np.minimum(finite[early:], finite[early - 1 : -1])
        above = np.flatnonzero(np.minimum(average[early:], both) > lows + rise)
        count = early + int(above[0]) if len(above) else end
        low = lows[min(count, end - 1) - early]
    # A ``RangeTest`` has no NaN: masked values are held.
    last_loss = losses[min(count, end - 1)] if end else np.float32(0)
    raw = np.full(steps, last_loss, np.float32)
    smooth = np.full(steps, low if math.isfinite(low) else last_loss, np.float32)
    raw[:count], smooth[:count] = losses[:count], average[:count]
    return raw, smooth, np.arange(steps) < count
