"""The schedules of Hugging Face's transformers, by the names that ``lr_scheduler_type`` takes.

``lr``, the rate of the optimizer, takes its place; ``num_training_steps`` is the whole length,
warmup included. The cosines rise again after the end, but for ``fix=True``, where they stay down.
The functions' other names (``get_cosine_schedule_with_warmup``) are there too. As of 5.24.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Any, Literal

from jaxsched._checks import check_beside
from jaxsched._types import Leaf
from jaxsched.compat import _pieces as pieces
from jaxsched.compat._pieces import add, larger, lasting, smaller, surely, where
from jaxsched.compat._signature import (
    Flag,
    NotNegative,
    Number,
    Options,
    PositiveSpan,
    Text,
    Whole,
    chosen,
    drop_in,
)
from jaxsched.compat._transformers_more import get_adafactor_schedule as get_adafactor_schedule
from jaxsched.compat._transformers_more import greedy as greedy
from jaxsched.compat._transformers_more import reduce_lr_on_plateau as reduce_lr_on_plateau
from jaxsched.recipes._arguments import multiply
from jaxsched.schedules import _open_ended as laws
from jaxsched.schedules import _shapes as shapes
from jaxsched.schedules._base import AbstractSchedule, Constant
from jaxsched.schedules._lengths import subtract_steps
from jaxsched.schedules._repeat import Repeat
from jaxsched.schedules._wrappers import Shift, Window

Style = Literal["linear", "cosine", "1-sqrt"]

# They are all `LambdaLR`s there: a factor of the step, from 0, times the optimizer's rate. A factor
# divides by `max(1, T - w)`, so a warmup as long as the run or longer is legal. The curve after it
# then has the length 1, or 0 in `linear` (its factor is cut at 0): `_rest` is this length.


@drop_in
def constant(lr: Number) -> AbstractSchedule:
    """The same rate for ever.

    >>> from jaxsched.compat import transformers
    >>> float(transformers.constant(0.5)(7))
    0.5
    """
    return Constant(lr)


@drop_in
def constant_with_warmup(lr: Number, num_warmup_steps: Whole) -> AbstractSchedule:
    """A line from 0, then constant.

    >>> from jaxsched.compat import transformers
    >>> [float(transformers.constant_with_warmup(1.0, 10)(t)) for t in (0, 5, 10)]
    [0.0, 0.5, 1.0]
    """
    return _warmup(lr, num_warmup_steps) >> Constant(lr)


@drop_in
def linear(lr: Number, num_warmup_steps: Whole, num_training_steps: Whole) -> AbstractSchedule:
    """A line from 0 to ``lr``, and one to 0; with a warmup beyond the end, 0 at once.

    >>> from jaxsched.compat import transformers
    >>> [float(transformers.linear(1.0, 10, 30)(t)) for t in (5, 10, 20, 30)]
    [0.5, 1.0, 0.5, 0.0]
    """
    return _warmup(lr, num_warmup_steps) >> shapes.Linear(
        lr, 0.0, _rest(num_training_steps, num_warmup_steps, 0)
    )


@drop_in
def cosine(
    lr: Number,
    num_warmup_steps: Whole,
    num_training_steps: Whole,
    num_cycles: Number = 0.5,
    *,
    fix: Flag = False,
) -> AbstractSchedule:
    """A line from 0 to ``lr``, then a cosine of ``num_cycles`` waves, which goes on after the end.

    Args:
        num_cycles: whole waves: 0.5 is half a cosine, to 0.
        fix: stay at 0 after the first fall.

    >>> from jaxsched.compat import transformers
    >>> [float(transformers.cosine(1.0, 10, 30)(t)) for t in (5, 10, 20, 30, 40)]
    [0.5, 1.0, 0.5, 0.0, 0.5]
    >>> float(transformers.cosine(1.0, 10, 30, fix=True)(40))
    0.0
    """
    # Nothing there stops the cosine at T: at 2 T - w the rate is at its top again.
    rest = _rest(num_training_steps, num_warmup_steps, 1)
    waves = _warmup(lr, num_warmup_steps) >> pieces.waves(lr, 0.0, rest, num_cycles, fix)
    return lasting(waves, num_training_steps)


@drop_in
def cosine_with_restarts(
    lr: Number, num_warmup_steps: Whole, num_training_steps: Whole, num_cycles: NotNegative = 1
) -> AbstractSchedule:
    """A line from 0 to ``lr``, then ``num_cycles`` half cosines to 0, and 0 from the end on.

    A fraction of a cycle is cut off.

    >>> from jaxsched.compat import transformers
    >>> sgdr = transformers.cosine_with_restarts(1.0, 10, 50, 2)
    >>> [float(sgdr(t)) for t in (5, 20, 30, 40, 50)]
    [0.5, 0.5, 1.0, 0.5, 0.0]
    """
    # A "cycle" is half a wave here, and a whole one in `cosine`: num_cycles=1 of either are a fall
    # to 0, and a fall and a rise. The "hard" of its longer name says that a restart is a jump.
    rest = _rest(num_training_steps, num_warmup_steps, 1)
    cycle = shapes.Cosine(lr, 0.0, pieces.part(rest, num_cycles))
    falls = Window(Repeat(cycle), 0, rest)
    return _warmup(lr, num_warmup_steps) >> falls >> Constant(0.0, 0)


@drop_in
def polynomial(
    lr: Number,
    num_warmup_steps: Whole,
    num_training_steps: Whole,
    lr_end: Number = 1e-7,
    power: NotNegative = 1.0,
) -> AbstractSchedule:
    """A line from 0 to ``lr``, then a power of the remaining fraction down to ``lr_end``.

    Args:
        lr_end: a rate, below ``lr``.
        power: with 0 the rate stays at ``lr`` and is ``lr_end`` after the end.

    >>> from jaxsched.compat import transformers
    >>> [float(transformers.polynomial(1.0, 10, 30, 0.0, 2.0)(t)) for t in (5, 10, 20, 30)]
    [0.5, 1.0, 0.25, 0.0]
    """
    # The one factor without `max(1, T - w)`: T = w divides by 0 there at step T, which is the end
    # here. `current_step > T` is the end, so step T has the formula, and there 0 ** 0 is 1: with a
    # power of 0 the rate stays up one step longer than the run.
    check_beside("transformers.polynomial(lr_end=...)", lr_end, "less than", "lr", lr)
    rest = _rest(num_training_steps, num_warmup_steps, 0)
    fall = pieces.polynomial(lr, lr_end, rest, power)
    if not surely(lambda power: power != 0, power):
        stop = where(lambda rest: rest > 0, (rest,), add(rest, 1), 0)
        fall = Window(fall, 0, stop) >> Constant(lr_end)
    return _warmup(lr, num_warmup_steps) >> fall


@drop_in
def inverse_sqrt(
    lr: Number, num_warmup_steps: Whole, timescale: PositiveSpan | None = None
) -> AbstractSchedule:
    """A line from 0 to ``lr``, then one over the square root of time, without end.

    ``timescale`` is ``num_warmup_steps`` by default, or 10 000 without a warmup.

    >>> from jaxsched.compat import transformers
    >>> [float(transformers.inverse_sqrt(1.0, 100)(t)) for t in (50, 100, 400)]
    [0.5, 1.0, 0.5]
    """
    # Their `shift = timescale - num_warmup_steps` makes time begin at the end of the warmup, with
    # the rate at its top whatever the timescale is: so does a stage.
    if timescale is None:
        timescale = where(lambda w: w == 0, (num_warmup_steps,), 10_000, num_warmup_steps)
    return _warmup(lr, num_warmup_steps) >> laws.InverseSqrt(lr, timescale)


@drop_in
def cosine_with_min_lr(
    lr: Number,
    num_warmup_steps: Whole,
    num_training_steps: Whole,
    num_cycles: Number = 0.5,
    *,
    min_lr: NotNegative | None = None,
    min_lr_rate: NotNegative | None = None,
    fix: Flag = False,
) -> AbstractSchedule:
    """``cosine`` down to ``min_lr``; the warmup starts at 0.

    Args:
        lr, num_warmup_steps, num_training_steps, num_cycles, fix: as in ``cosine``.
        min_lr: the lowest rate, or
        min_lr_rate: the same over ``lr``; one of the two.

    >>> from jaxsched.compat import transformers
    >>> lr = transformers.cosine_with_min_lr(1.0, 10, 30, min_lr=0.5)
    >>> [float(lr(t)) for t in (0, 10, 20, 30, 40)]
    [0.0, 1.0, 0.75, 0.5, 0.75]
    """
    low = _low("cosine_with_min_lr", lr, min_lr, min_lr_rate)
    rest = _rest(num_training_steps, num_warmup_steps, 1)
    waves = _warmup(lr, num_warmup_steps) >> pieces.waves(lr, low, rest, num_cycles, fix)
    return lasting(waves, num_training_steps)


@drop_in
def cosine_warmup_with_min_lr(
    lr: Number,
    num_warmup_steps: Whole,
    num_training_steps: Whole,
    num_cycles: Number = 0.5,
    *,
    min_lr: NotNegative | None = None,
    min_lr_rate: NotNegative | None = None,
    warmup_lr_rate: Number | None = None,
    fix: Flag = False,
) -> AbstractSchedule:
    """``cosine_with_min_lr`` one step earlier: the last of ``num_training_steps`` has ``min_lr``.

    Args:
        warmup_lr_rate: the first rate over ``lr``; ``None`` (default): the first step of a warmup
            from 0, so that no step after the warmup has ``lr``.

    >>> from jaxsched.compat import transformers
    >>> lr = transformers.cosine_warmup_with_min_lr(1.0, 10, 30, min_lr=0.5)
    >>> [float(lr(t)) for t in (4, 9, 19, 29)]
    [0.5, 1.0, 0.75, 0.5]
    """
    # The only one that counts steps from 1: its warmup is (t + 1) / w and its progress
    # (t - w + 1) / (T - w). With a rate given the warmup is t / (w - 1), also at its top a step
    # early; a warmup of one step then has the first rate alone.
    low = _low("cosine_warmup_with_min_lr", lr, min_lr, min_lr_rate)
    rest = _rest(num_training_steps, num_warmup_steps, 1)
    waves = pieces.waves(lr, low, rest, num_cycles, fix)
    if warmup_lr_rate is None:
        return lasting(Shift(_warmup(lr, num_warmup_steps) >> waves, -1), num_training_steps)
    start, steps = multiply(warmup_lr_rate, lr), larger(subtract_steps(num_warmup_steps, 1), 1)
    rise = Window(shapes.Linear(start, lr, steps), 0, num_warmup_steps)
    return lasting(rise >> Shift(waves, -1), num_training_steps)


@drop_in
def warmup_stable_decay(
    lr: Number,
    num_warmup_steps: Whole,
    num_decay_steps: Whole,
    num_training_steps: Whole | None = None,
    num_stable_steps: Whole | None = None,
    warmup_type: Style = "linear",
    decay_type: Style = "cosine",
    min_lr_ratio: NotNegative = 0.0,
    num_cycles: Number = 0.5,
    *,
    fix: Flag = False,
) -> AbstractSchedule:
    """Up from ``min_lr_ratio * lr``, constant, and down to it.

    Args:
        num_training_steps: the whole length, or
        num_stable_steps: the length of the constant part, which wins.
        warmup_type, decay_type: "linear", "cosine" or "1-sqrt".
        min_lr_ratio: the lowest rate over ``lr``.
        num_cycles: of the cosine; with another than 0.5 it jumps at the end.
        fix: a cosine falls once, so that nothing jumps.

    >>> from jaxsched.compat import transformers
    >>> lr = transformers.warmup_stable_decay(1.0, 10, 20, 100)
    >>> [float(lr(t)) for t in (5, 50, 90, 100)]
    [0.5, 1.0, 0.5, 0.0]
    """
    name = "transformers.warmup_stable_decay"
    if num_stable_steps is None:
        if num_training_steps is None:
            raise ValueError(
                f"{name}(num_training_steps=...) or {name}(num_stable_steps=...) must be given, "
                "got None and None."
            )
        rest = subtract_steps(num_training_steps, num_warmup_steps)
        num_stable_steps = subtract_steps(rest, num_decay_steps)
    # Where the whole is too short for the warmup and the fall, their stable part has a negative
    # length: the fall begins in its middle, where the warmup ends.
    begin = smaller(larger(multiply(num_stable_steps, -1), 0), num_decay_steps)
    num_stable_steps = larger(num_stable_steps, 0)
    low = multiply(min_lr_ratio, lr)
    # "1-sqrt" of the warmup is the fall's, reversed: 1 - sqrt(1 - p) at the fraction p.
    rises: dict[Style, Callable[[Leaf, Leaf, Leaf], AbstractSchedule]] = {
        "linear": shapes.Linear,
        "cosine": shapes.Cosine,
        "1-sqrt": lambda start, end, steps: shapes.Polynomial(start, end, steps, power=0.5),
    }
    once = fix or surely(lambda many: many == 0.5, num_cycles)
    waves = lambda start, end, steps: pieces.waves(start, end, larger(steps, 1), num_cycles)
    falls: dict[Style, Callable[[Leaf, Leaf, Leaf], AbstractSchedule]] = {
        "linear": shapes.Linear,
        "cosine": shapes.Cosine if once else waves,
        "1-sqrt": shapes.Sqrt,
    }
    rise = rises[warmup_type](low, lr, num_warmup_steps)
    fall = falls[decay_type](lr, low, num_decay_steps)
    stages = rise >> Constant(lr, num_stable_steps) >> Window(fall, begin, num_decay_steps)
    return stages >> Constant(low, 0)


def _warmup(lr: Any, steps: Any) -> AbstractSchedule:
    return shapes.Linear(0.0, lr, steps)


def _rest(steps: Any, warmup: Any, least: int) -> Any:
    return larger(subtract_steps(steps, warmup), least)


def _low(name: str, lr: Any, min_lr: Any, min_lr_rate: Any) -> Any:
    """The lowest rate, from whichever of its two forms was given."""
    if (min_lr is None) == (min_lr_rate is None):
        raise ValueError(
            f"transformers.{name}(min_lr=...) or min_lr_rate=... must be given, and not both, got "
            f"{min_lr!r} and {min_lr_rate!r}."
        )
    return multiply(min_lr_rate, lr) if min_lr is None else min_lr


class SchedulerType(enum.StrEnum):
    """The names that ``get_scheduler`` takes."""

    LINEAR = "linear"
    COSINE = "cosine"
    COSINE_WITH_RESTARTS = "cosine_with_restarts"
    POLYNOMIAL = "polynomial"
    CONSTANT = "constant"
    CONSTANT_WITH_WARMUP = "constant_with_warmup"
    INVERSE_SQRT = "inverse_sqrt"
    REDUCE_ON_PLATEAU = "reduce_lr_on_plateau"
    COSINE_WITH_MIN_LR = "cosine_with_min_lr"
    COSINE_WARMUP_WITH_MIN_LR = "cosine_warmup_with_min_lr"
    WARMUP_STABLE_DECAY = "warmup_stable_decay"
    GREEDY = "greedy"


@drop_in
def get_scheduler(
    name: Text,
    lr: Number,
    num_warmup_steps: Whole | None = None,
    num_training_steps: Whole | None = None,
    scheduler_specific_kwargs: Options | None = None,
) -> Any:
    """The schedule or controller of a ``SchedulerType``, which may be a text.

    Args:
        name: "constant", "constant_with_warmup", "linear", "cosine", "cosine_with_restarts",
            "polynomial", "inverse_sqrt", "cosine_with_min_lr", "cosine_warmup_with_min_lr",
            "warmup_stable_decay", "reduce_lr_on_plateau" or "greedy".
        lr: the rate of the optimizer, which it replaces.
        num_warmup_steps, num_training_steps: required by the schedules that have them.
        scheduler_specific_kwargs: their other arguments; "constant" and "constant_with_warmup"
            ignore them.

    Raises:
        ValueError: for another name, or where a number of steps is missing.

    >>> from jaxsched.compat import transformers
    >>> float(transformers.get_scheduler("linear", 1.0, 10, 30)(20))
    0.5
    """
    # As theirs: the two constants drop other arguments in silence, all else refuses them.
    functions = {word.value: globals()[word] for word in SchedulerType}
    make = chosen("transformers.get_scheduler(name=...)", name, functions)
    more = scheduler_specific_kwargs or {}
    if name == "constant":
        return make(lr)
    if name in ("reduce_lr_on_plateau", "greedy"):
        return make(lr, **more)
    given = {"num_warmup_steps": num_warmup_steps}
    if name == "constant_with_warmup":
        more = {}
    elif name != "inverse_sqrt":
        given |= {"num_training_steps": num_training_steps}
    optional = ("num_training_steps",) if name == "warmup_stable_decay" else ()
    for word, steps in given.items():
        if steps is None and word not in optional:
            raise ValueError(
                f"transformers.get_scheduler({word}=...) must be given for {name!r}, got None."
            )
    return make(lr, **given, **more)


get_constant_schedule = constant
get_constant_schedule_with_warmup = constant_with_warmup
get_linear_schedule_with_warmup = linear
get_cosine_schedule_with_warmup = cosine
get_cosine_with_hard_restarts_schedule_with_warmup = cosine_with_restarts
get_polynomial_decay_schedule_with_warmup = polynomial
get_inverse_sqrt_schedule = inverse_sqrt
get_cosine_with_min_lr_schedule_with_warmup = cosine_with_min_lr
get_cosine_with_min_lr_schedule_with_warmup_lr_rate = cosine_warmup_with_min_lr
get_wsd_schedule = warmup_stable_decay
get_reduce_on_plateau_schedule = reduce_lr_on_plateau
get_greedy_schedule = greedy
