"""The schedules of Optax (``optax.schedules``), as of 0.2.8.

They go wherever Optax's own go. Optax computes them in float32; these have the values of its
formulas in float64, rounded once.
"""

from __future__ import annotations

import types
from collections.abc import Iterable, Mapping
from typing import Annotated, Any

from jaxsched._arrays import is_list
from jaxsched._checks import check_beside
from jaxsched._text import describe
from jaxsched.compat._optax_plain import bent, line
from jaxsched.compat._optax_plain import constant_schedule as constant_schedule
from jaxsched.compat._optax_plain import cosine_decay_schedule as cosine_decay_schedule
from jaxsched.compat._optax_plain import cosine_onecycle_schedule as cosine_onecycle_schedule
from jaxsched.compat._optax_plain import exponential_decay as exponential_decay
from jaxsched.compat._optax_plain import linear_onecycle_schedule as linear_onecycle_schedule
from jaxsched.compat._optax_plain import linear_schedule as linear_schedule
from jaxsched.compat._optax_plain import piecewise_constant_schedule as piecewise_constant_schedule
from jaxsched.compat._optax_plain import (
    piecewise_interpolate_schedule as piecewise_interpolate_schedule,
)
from jaxsched.compat._optax_plain import polynomial_schedule as polynomial_schedule
from jaxsched.compat._pieces import larger, moved, smaller, where
from jaxsched.compat._signature import (
    AnySpan,
    Count,
    Flag,
    Fraction,
    NotNegative,
    Number,
    Ratio,
    Share,
    Spans,
    Whole,
    drop_in,
)
from jaxsched.controllers import Plateau
from jaxsched.schedules import _shapes as shapes
from jaxsched.schedules._base import AbstractSchedule, Constant, Sequence
from jaxsched.schedules._function import traced
from jaxsched.schedules._lengths import subtract_steps
from jaxsched.schedules._wrappers import Window


def _curves(where: str, xs: Any) -> Any:
    """Schedules, and functions of the step."""
    if not is_list(xs) or not xs or not all(map(callable, xs)):
        raise TypeError(f"{where} must be a list of at least one schedule, got {describe(xs)}.")
    return [x if isinstance(x, AbstractSchedule) else traced(where, x, {}) for x in xs]


def _calls(where: str, xs: Any) -> Any:
    """Arguments of several calls."""
    xs = list(xs) if isinstance(xs, Iterable) and not isinstance(xs, (str, Mapping)) else [xs]
    if not xs or not all(isinstance(x, Mapping) and all(isinstance(k, str) for k in x) for x in xs):
        raise TypeError(
            f"{where} must be a list of at least one dict of arguments, got {describe(xs)}."
        )
    return xs


_Curves = Annotated[Any, _curves]
_Calls = Annotated[Any, _calls]


@drop_in
def warmup_constant_schedule(
    init_value: Number, peak_value: Number, warmup_steps: AnySpan
) -> AbstractSchedule:
    """A line from ``init_value`` to ``peak_value``, which holds.

    With ``warmup_steps`` of 0 or less it is ``init_value`` at every step, not ``peak_value``.

    >>> from jaxsched.compat import optax
    >>> [float(optax.warmup_constant_schedule(0.0, 1.0, 10)(t)) for t in (0, 5, 10)]
    [0.0, 0.5, 1.0]
    """
    return line(init_value, peak_value, warmup_steps)


@drop_in
def warmup_cosine_decay_schedule(
    init_value: Number,
    peak_value: Number,
    warmup_steps: AnySpan,
    decay_steps: AnySpan,
    end_value: Number = 0.0,
    exponent: NotNegative = 1.0,
) -> AbstractSchedule:
    """A line to ``peak_value``, then half a cosine to ``end_value``, which holds.

    ``decay_steps`` is the whole length: it includes the warmup, and must be longer. A
    ``peak_value`` of 0 stays 0, whatever ``end_value`` is.

    >>> from jaxsched.compat import optax
    >>> lr = optax.warmup_cosine_decay_schedule(0.0, 1.0, warmup_steps=10, decay_steps=110)
    >>> [float(lr(t)) for t in (0, 5, 10, 60, 110)]
    [0.0, 0.5, 1.0, 0.5, 0.0]
    """
    # Optax hands the end on as a share of the peak, `alpha = end_value / peak_value`, and as 0
    # where the peak is 0: the end that was given is then forgotten.
    given = "optax.warmup_cosine_decay_schedule(decay_steps=...)"
    beside = ("greater than", "warmup_steps", warmup_steps, ": it includes them")
    check_beside(given, decay_steps, *beside)
    end = where(lambda peak: peak == 0, (peak_value,), 0.0, end_value)
    fall = bent(peak_value, end, subtract_steps(decay_steps, warmup_steps), exponent)
    return _warmed(init_value, peak_value, warmup_steps, fall)


@drop_in
def warmup_exponential_decay_schedule(
    init_value: Number,
    peak_value: Number,
    warmup_steps: AnySpan,
    transition_steps: AnySpan,
    decay_rate: NotNegative,
    transition_begin: AnySpan = 0,
    staircase: Flag = False,
    end_value: Number | None = None,
) -> AbstractSchedule:
    """A line to ``peak_value``, then ``exponential_decay``.

    ``transition_begin`` counts from the end of the warmup.

    >>> from jaxsched.compat import optax
    >>> lr = optax.warmup_exponential_decay_schedule(0.0, 1.0, 10, 20, 0.5)
    >>> [float(lr(t)) for t in (5, 10, 30)]
    [0.5, 1.0, 0.5]
    """
    decay = exponential_decay(
        peak_value, transition_steps, decay_rate, transition_begin, staircase, end_value
    )
    return _warmed(init_value, peak_value, warmup_steps, decay)


@drop_in
def sgdr_schedule(cosine_kwargs: _Calls) -> AbstractSchedule:
    """``warmup_cosine_decay_schedule`` again and again, with the arguments of each cycle.

    The last one holds its end.

    >>> from jaxsched.compat import optax
    >>> cycle = {"init_value": 0.0, "peak_value": 1.0, "warmup_steps": 2, "decay_steps": 10}
    >>> sgdr = optax.sgdr_schedule([cycle, cycle | {"peak_value": 0.5}])
    >>> [float(sgdr(t)) for t in (2, 6, 10, 12, 99)]
    [1.0, 0.5, 0.0, 0.5, 0.0]
    """
    return Sequence(tuple(warmup_cosine_decay_schedule(**call) for call in cosine_kwargs))


@drop_in
def join_schedules(schedules: _Curves, boundaries: Spans) -> AbstractSchedule:
    """One schedule after another, each from its own step 0 at its boundary.

    A schedule may be a function of whole steps, as in ``js.from_fn``. One without a boundary never
    begins. Of boundaries out of order the last one reached counts.

    >>> from jaxsched.compat import optax
    >>> join = optax.join_schedules
    >>> lr = join([optax.linear_schedule(0.0, 1.0, 8), optax.constant_schedule(2.0)], [8])
    >>> [float(lr(t)) for t in (2, 6, 8)]
    [0.25, 0.75, 2.0]
    """
    # Optax goes through the boundaries in their order, and each that has been reached puts its
    # schedule in place of the one before, at `step - boundary`. So of [20, 10] the first schedule
    # ends at step 10, and the second is never seen: its boundary becomes 10 as well. A boundary
    # before step 0 has been reached at step 0, and its schedule is entered in its middle.
    begins = list(boundaries)[: len(schedules) - 1]
    for i in reversed(range(len(begins) - 1)):
        begins[i] = smaller(begins[i], begins[i + 1])
    parts = []
    begin: Any = 0
    for schedule, after in zip(schedules, begins, strict=False):
        local, stop = larger(subtract_steps(0, begin), 0), subtract_steps(after, begin)
        parts.append(Window(schedule, local, larger(local, stop)))
        begin = after
    return Sequence((*parts, moved(schedules[len(begins)], smaller(begin, 0))))


@drop_in
def reduce_on_plateau(
    factor: Share = 0.1,
    patience: Whole = 10,
    rtol: Fraction = 1e-4,
    atol: NotNegative = 0.0,
    cooldown: Whole = 0,
    accumulation_size: Count = 1,
    min_scale: Ratio = 0.0,
) -> Plateau:
    """``optax.contrib.reduce_on_plateau`` as a controller of the base 1, a factor of the rate.

    It has its own state and ``update``, and takes the place of a schedule: ``js.inject(optax.scale)
    (step_size=reduce_on_plateau())`` in the chain. A patience of 0 cuts where nothing improves
    (Optax: at every evaluation), and a constant negative metric does not improve (in Optax it
    does).

    >>> from jaxsched.compat import optax
    >>> plateau = optax.reduce_on_plateau(factor=0.5, patience=2)
    >>> state = plateau.init()
    >>> for loss in (1.0, 1.0, 1.0):
    ...     state = plateau.update(state, value=loss)
    >>> float(plateau(state))
    0.5
    """
    return Plateau(
        Constant(1.0),
        factor,
        patience,
        rtol,
        atol,
        cooldown,
        min_scale,
        accumulation_size,
        rule="optax",
        nan="bad",
    )


contrib = types.SimpleNamespace(reduce_on_plateau=reduce_on_plateau)  # where Optax has it


def _warmed(start: Any, peak: Any, steps: Any, body: AbstractSchedule) -> AbstractSchedule:
    # Of a negative length no step is in the warmup, and the body has begun as long ago.
    return shapes.Linear(start, peak, larger(steps, 0)) >> moved(body, smaller(steps, 0))
