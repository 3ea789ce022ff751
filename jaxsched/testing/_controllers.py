"""The contract of controllers: each law is a function of one (with known numbers) and a run.

A run is a list of reports, the keywords of one ``update`` each.
"""

from __future__ import annotations

import functools
import inspect
import pickle
from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from jaxsched._arrays import to_host
from jaxsched._checks import MANY, checked_items, checked_whole
from jaxsched._text import describe
from jaxsched._types import PyTree
from jaxsched._words import uncalled
from jaxsched.controllers._base import AbstractController
from jaxsched.controllers._scaler import AbstractScaler
from jaxsched.schedules._base import AbstractSchedule
from jaxsched.testing import _laws

Controller: TypeAlias = Any  # any object with the methods of Optax's `StatefulSchedule`
Report = dict[str, Any]
Run = Sequence[Report]


def check_controller(
    controller: Controller,
    *,
    run: Run | None = None,
    bounds: tuple[float, float] | None = None,
    skip: Iterable[str] = (),
) -> None:
    """Runs every law on ``controller``, a stateful schedule in Optax's sense.

    Args:
        controller: an object with ``init()``, ``update(state, **report)`` and
            ``__call__(state, **extra)`` and known numbers.
        run: one report for each update, e.g. ``[{"value": 1.0}, {}, {"value": 0.9}]``. By default
            a metric that falls, stalls, is absent, NaN, infinite, zero and negative by turns.
        bounds: the least and the greatest rate. The default is the promise of an
            ``AbstractScaler``; for others, any finite rate is allowed.
        skip: names of laws that do not apply, e.g. ``"factorizes"`` where the rate is not
            ``base(step) * scale``.

    Raises:
        AssertionError: naming the law that does not hold.

    >>> import jaxsched as js
    >>> from jaxsched.testing import check_controller
    >>> check_controller(js.Plateau(js.Constant(0.1), factor=0.5, patience=2))
    """
    if isinstance(controller, type) or not callable(getattr(controller, "init", None)):
        plain = isinstance(controller, AbstractSchedule)
        more = "; `check_schedule` takes schedules" if plain else uncalled(controller)
        got = f"{describe(controller)}{more}"
        raise TypeError(f"check_controller(controller=...) must be a controller, got {got}.")
    where, expected = "check_controller(run=...)", "reports, such as {'value': 1.0}"
    run = default_run() if run is None else checked_items(where, run, expected)
    laws = CONTROLLER_LAWS | {"bounded": functools.partial(bounded, bounds=bounds)}
    _laws.check("check_controller", laws, controller, run, skip)


def default_run(seed: int = 0, steps: int = 32) -> list[Report]:
    """Reports of every kind of metric: falling, stalled, absent, broken, negative.

    Each has all the measurements that our controllers look at.
    """
    steps = checked_whole("default_run(steps=...)", steps, 25, MANY)
    seed = checked_whole("default_run(seed=...)", seed, 0, 2**32 - 1)
    # A metric that falls to -0.5 and so changes its sign, with noise in which it stalls. Five
    # values are odd. Ordinary ones between them show the damage of an odd one. -3e38 is close to
    # the lowest float32: the sum of two overflows.
    noise = np.random.RandomState(seed).standard_normal(steps)
    values = [2.0 * 0.8**t + 0.05 * noise[t] - 0.5 for t in range(steps)]

    def report(value: float, step: int) -> Report:
        norm = value + step % 5
        metrics = {"value": value, "averaged": 0.7 * value, "norm": norm}
        return {k: np.float32(v) for k, v in metrics.items()} | {"trigger": step % 9 == 8}

    run = [report(v, t) for t, v in enumerate(values)]
    for index, odd in enumerate((np.nan, np.inf, -np.inf, 0.0, -3e38)):
        run[3 * index + 6] = report(odd, 0)
    run[21] = {}
    run[24] = report(7.0, 0) | {"reported": False}
    return run


# ------------------------------------------------------------------------------------- the laws


def pure(controller: Controller, run: Run) -> None:
    """The same state and report give the same state and value, and change neither."""
    # Ten reports: a NaN and an infinity of the default run are among them.
    text, state = repr(controller), controller.init()
    for report in run[:10]:
        before = jax.tree.map(np.array, state)
        first, value = controller.update(state, **report), controller(state, **report)
        _laws.assert_equal(state, before, "update or a call changed the state it was given")
        again = controller.update(state, **report)
        _laws.assert_equal(first, again, "the same report gave another state")
        _laws.assert_equal(value, controller(state, **report), "the same state gave another value")
        state = first
    assert repr(controller) == text, "it changed"
    _laws.assert_equal(controller.init(), controller.init(), "init() gave another state")


def stable_state(controller: Controller, run: Run) -> None:
    """The state keeps its structure, shapes and strong dtypes whatever is reported."""
    state = controller.init()
    wanted = _kinds(state)
    for leaf in jax.tree.leaves(state):
        strongly = isinstance(leaf, jax.Array) and not leaf.weak_type
        assert strongly, f"init() holds {leaf!r}"
    # As loops report: arrays, `loss.item()`, a loss in the dtype of the model. A scan refuses a
    # state that takes over a dtype from one of them. Only shapes are asked for, so nothing is
    # compiled.
    kinds = list({tuple(report): report for report in run}.values())  # one a set of keywords
    as_python = lambda x: x.item() if isinstance(x, np.generic) else x
    as_bfloat16 = lambda x: jnp.asarray(x, jnp.bfloat16) if isinstance(x, np.floating) else x
    changes = (lambda x: x), as_python, as_bfloat16
    for report in [{k: f(v) for k, v in report.items()} for f in changes for report in kinds]:
        new = jax.eval_shape(lambda r=report: controller.update(state, **r))
        assert _kinds(new) == wanted, f"after {report} the state is {_kinds(new)}, not {wanted}"
    value = jax.eval_shape(controller, state)
    kind = (value.shape, value.dtype, value.weak_type)
    assert kind == ((), jnp.float32, False), f"the value is {value}"


def total(controller: Controller, run: Run) -> None:
    """The rate is finite, and the state without a NaN, at every step."""
    for index, (state, value) in enumerate(_follow(controller, run)):
        assert np.isfinite(value), f"the rate is {value} after {run[:index]}"
        for path, leaf in jax.tree_util.tree_flatten_with_path(state)[0]:
            name = jax.tree_util.keystr(path)
            assert not np.isnan(np.asarray(leaf)).any(), f"{name} is NaN after {run[index - 1]}"


def bounded(controller: Controller, run: Run, bounds: tuple[float, float] | None = None) -> None:
    """The rate, or the scale of one of our own controllers, stays within its bounds."""
    what = "rate"
    if bounds is None and isinstance(controller, AbstractScaler):
        what, bounds = "scale", controller.bounds
    if bounds is not None:
        low, high = (np.float32(to_host(x)) for x in bounds)
        pairs = _follow(controller, run)
        seen = [float(state.scale) if what == "scale" else rate for state, rate in pairs]
        assert low <= min(seen), f"the {what} falls to {min(seen)}, below {low}"
        assert max(seen) <= high, f"the {what} rises to {max(seen)}, above {high}"


def monotone(controller: Controller, run: Run) -> None:
    """Where it is promised, the scale never rises."""
    if getattr(controller, "monotone", False):
        scales = [float(state.scale) for state, _ in _follow(controller, run)]
        rises = [i for i in range(1, len(scales)) if scales[i] > scales[i - 1]]
        assert not rises, f"the scale rises to {scales[rises[0]]} after {run[rises[0] - 1]}"


def holds(controller: Controller, run: Run) -> None:
    """Without a report the scale holds, and so does it with one that is not reported."""
    reads = inspect.signature(getattr(controller, "react", controller.update)).parameters
    step = _program(controller)
    for (state, _), report in zip(_follow(controller, run), [*run, {}], strict=True):
        unread = [report | {"reported": False}] if report and "reported" in reads else []
        for told in [{}, *unread] if hasattr(state, "scale") else []:
            after, _ = step(state, told)
            same = float(after.scale) == float(state.scale)
            assert same, f"the scale changes without a report, told {told}"


def ignores_nan(controller: Controller, run: Run) -> None:
    """An ignored NaN has no effect: the run equals the one without that report."""
    if _is_opaque(controller) or getattr(controller, "nan", "ignore") != "ignore":
        return
    step = _program(controller)
    clean = broken = controller.init()
    for index, report in enumerate(run):
        # Real numbers are metrics; the flags stay in both runs.
        metrics = {k for k, v in report.items() if isinstance(v, (float, np.floating))}
        without = {k: v for k, v in report.items() if k not in metrics}
        with_nan = without | {k: np.float32(np.nan) for k in metrics}
        hit = index % 3 == 1
        clean, _ = step(clean, without if hit else report)
        broken, _ = step(broken, with_nan if hit else report)
    _laws.assert_equal(clean, broken, "NaN left a trace in the state")


def no_retrace(controller: Controller, run: Run) -> None:
    """Another number, of the controller or of a report, does not compile a new program."""
    if _is_opaque(controller):
        return
    if isinstance(controller, AbstractController):
        _laws.assert_numbers(controller)
    traces = 0

    @jax.jit
    def step(subject: Controller, state: PyTree, report: Report) -> PyTree:
        nonlocal traces
        traces += 1  # Python runs while JAX traces, and not when the program does
        return subject.update(state, **report), subject(state)

    report = _full(run)
    for factor in (1.0, 0.5):
        state = controller.init()
        for number in (1.0, np.nan):
            changed = jax.tree.map(
                lambda x, n=number: x * x.dtype.type(n) if x.dtype.kind == "f" else x, report
            )
            state, _ = step(_laws.rescaled(controller, factor), state, changed)
    assert traces == 1, f"{traces} traces for 4 settings"


def scanned(controller: Controller, run: Run) -> None:
    """Compiled steps and a scan agree: whole numbers exactly, real ones within 2 ulp."""
    if _is_opaque(controller):
        return
    run = _uniform(run)
    # The controller as data, so both programs get the same numbers in the same dtypes.
    scan = _in_a_scan(_laws.rescaled(controller, 1.0), _stacked(run))
    states, values = jax.device_get(scan)
    for index, (state, value) in enumerate(list(_follow(controller, run))[1:]):
        scanned = jax.tree.map(lambda x, i=index: x[i], states)
        # Real numbers within 2 ulp: XLA may contract a product and a sum in one of the two programs
        # and not in the other.
        _laws.assert_close(scanned, state, "states of a scan and of steps")
        _laws.assert_close(values[index], value, "rates of a scan and of steps")


def resumable(controller: Controller, run: Run) -> None:
    """Saved and loaded at any step, a run goes on with the same bits."""
    step = _program(controller)
    whole = [state for state, _ in _follow(controller, run)]
    for stop in range(0, len(run), 5):
        # As a checkpoint does it: the numbers go through NumPy, and come back as other arrays.
        saved = pickle.dumps(jax.tree.map(np.asarray, whole[stop]))
        state = jax.tree.map(jnp.asarray, pickle.loads(saved))
        for report in run[stop:]:
            state, _ = step(state, report)
        _laws.assert_equal(state, whole[-1], f"the run resumed at step {stop} ends otherwise")


def batched(controller: Controller, run: Run) -> None:
    """A member of a population has the states and rates of a run of its own."""
    if _is_opaque(controller):
        return
    members = [_laws.rescaled(controller, factor) for factor in (1.0, 0.5)]
    population = jax.tree.map(lambda *xs: jnp.stack(xs), *members)
    stacked = _stacked(_uniform(run))
    together = jax.jit(jax.vmap(_in_a_scan, in_axes=(0, None)))(population, stacked)
    for index, member in enumerate(members):
        states, rates = jax.tree.map(lambda x, i=index: x[i], jax.device_get(together))
        alone, rates_alone = jax.device_get(_in_a_scan(member, stacked))
        _laws.assert_close(rates, rates_alone, "rates in a population and alone")
        _laws.assert_close(states, alone, "states in a population and alone")


def factorizes(controller: Controller, run: Run) -> None:
    """Where there is a scale, the rate is ``base(step) * scale``, or ``min_lr``; a step is an
    update."""
    if not isinstance(controller, AbstractScaler):
        return
    if isinstance(controller.base, AbstractController):
        return
    for index, (state, value) in enumerate(_follow(controller, run)):
        assert int(state.step) == index, f"step is {int(state.step)} after {index} updates"
        expected = controller.base(index) * state.scale
        if controller.min_lr is not None:
            expected = np.maximum(expected, np.float32(to_host(controller.min_lr)))
        _laws.assert_close(value, expected, f"the rate and base * scale at step {index}")


def printable(controller: Controller, run: Run) -> None:
    """``eval(repr(c)) == c``; equal by value, hashable."""
    if isinstance(controller, AbstractController):
        _laws.assert_read_back(controller)


def copyable(controller: Controller, run: Run) -> None:
    """pickle, copy and deepcopy give an equal controller."""
    if isinstance(controller, AbstractController):
        _laws.copies(controller)


CONTROLLER_LAWS = _laws.by_name(
    pure,
    stable_state,
    total,
    bounded,
    monotone,
    holds,
    ignores_nan,
    no_retrace,
    scanned,
    resumable,
    batched,
    factorizes,
    printable,
    copyable,
)


def _follow(controller: Controller, run: Run) -> Iterable[tuple[PyTree, float]]:
    """The state and the rate before each update, and after the last."""
    step = _program(controller)
    state = controller.init()
    yield state, float(controller(state))
    for report in run:
        state, value = step(state, report)
        yield state, float(value)


@jax.jit
def _in_a_scan(controller: Controller, stacked: PyTree) -> PyTree:
    """The state and the rate after each update."""

    def body(state: PyTree, report: Report) -> PyTree:
        new = controller.update(state, **report)
        return new, (new, controller(new))

    return jax.lax.scan(body, controller.init(), stacked)[1]


def _stacked(run: Run) -> PyTree:
    return jax.tree.map(lambda *xs: np.stack([jnp.asarray(x) for x in xs]), *run)


def _program(controller: Controller) -> Any:
    try:
        return _cached_program(controller)
    except TypeError:  # it has no hash
        return _cached_program.__wrapped__(controller)


@functools.lru_cache(maxsize=32)  # all the laws follow the same controller
def _cached_program(controller: Controller) -> Any:
    """One update and the rate after it, compiled."""

    # Here the numbers of the controller are constants of the program, in `_in_a_scan` they are
    # arguments: a rule that works with known numbers alone fails where the two are compared.
    def step(state: PyTree, report: Report) -> PyTree:
        new = controller.update(state, **report)
        return new, controller(new)

    return jax.jit(step)


def _is_opaque(controller: Controller) -> bool:
    """Whether it is not a pytree, so that its numbers can't be mapped over."""
    return jax.tree_util.treedef_is_leaf(jax.tree.structure(controller))


def _full(run: Run) -> Report:
    """A report with every keyword of the run that is an array, as arrays."""
    # As arrays, since Python's 0.5 would make another program.
    pairs = [pair for report in reversed(run) for pair in report.items()]  # the first one counts
    full = {key: np.asarray(value) for key, value in pairs if value is not None}
    if "reported" in full:
        full["reported"] = np.asarray(True)
    return full


def _uniform(run: Run) -> list[Report]:
    """The reports of a run, each with every keyword, so that they share one program."""
    full = _full(run)
    return [full | {k: v for k, v in report.items() if v is not None} for report in run if report]


def _kinds(tree: PyTree) -> PyTree:
    leaves, structure = jax.tree.flatten(tree)
    return structure, [(jnp.shape(x), x.dtype, getattr(x, "weak_type", True)) for x in leaves]
