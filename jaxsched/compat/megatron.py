"""The schedules of Megatron-core (``OptimizerParamScheduler``), as of 0.16.

One class there has two curves. Here ``OptimizerParamScheduler`` is the curve of the rate, and
``get_wd`` the curve of the weight decay. It counts samples there; lengths are optimizer updates
here (samples divided by the batch size). ``fix=True`` avoids the jump at the end.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any, Literal

from jaxsched._checks import check_beside, checked_whole, violates
from jaxsched._text import describe
from jaxsched.compat._pieces import floor, larger, smaller, where
from jaxsched.compat._signature import (
    Flag,
    NotNegative,
    Number,
    PositiveSpan,
    Span,
    Text,
    chosen,
    drop_in,
)
from jaxsched.schedules import _shapes as shapes
from jaxsched.schedules._base import AbstractSchedule, Constant
from jaxsched.schedules._lengths import subtract_steps
from jaxsched.schedules._open_ended import InverseSqrt
from jaxsched.schedules._wrappers import Clip, Shift, Window

_STYLES: dict[str, Callable[[Any, Any, Any], AbstractSchedule]] = {
    "linear": shapes.Linear,
    "cosine": shapes.Cosine,
    "exponential": lambda start, end, steps: shapes.ShiftedExponential(start, end, steps, 0.5),
    "minus_sqrt": shapes.Sqrt,
}
DecayStyle = Literal["constant", "linear", "cosine", "inverse-square-root", "WSD"]
WeightDecayStyle = Literal["constant", "linear", "cosine"]

# `get_lr` is read in the order of its branches: a warmup up to and with its last step, `constant`,
# `min_lr` beyond `lr_decay_steps`, and then the style. Two surprises follow from the order. A
# constant rate never comes to `min_lr`, and the inverse square root, which is not near `min_lr` at
# the end of the run, jumps to it one step later.


@drop_in
def OptimizerParamScheduler(
    init_lr: Number,
    max_lr: Number,
    min_lr: NotNegative,
    lr_warmup_steps: Span,
    lr_decay_steps: PositiveSpan,
    lr_decay_style: DecayStyle,
    *,
    wsd_decay_steps: Span | None = None,
    lr_wsd_decay_style: Text | None = None,
    fix: Flag = False,
) -> AbstractSchedule:
    """The rate: a line to ``max_lr``, then the decay to ``min_lr``.

    Its steps are updates; theirs are samples, the batch size times as many.

    Args:
        init_lr: where the warmup begins, at most ``max_lr``.
        lr_warmup_steps: less than ``lr_decay_steps``.
        lr_decay_steps: the whole length: it includes the warmup.
        lr_decay_style: ``"constant"`` (which never goes to ``min_lr``), ``"linear"``, ``"cosine"``,
            ``"inverse-square-root"`` or ``"WSD"``.
        wsd_decay_steps: the last steps, in which WSD falls. More than follow the warmup begin in
            the middle of the fall; 0 is ``min_lr`` one step after the last.
        lr_wsd_decay_style: ``"linear"``, ``"cosine"``, ``"exponential"`` or ``"minus_sqrt"``.
        fix: no jumps. The inverse square root holds from ``lr_decay_steps`` on, where theirs goes
            to ``min_lr``; WSD falls within the steps that follow the warmup, from the top.

    >>> from jaxsched.compat import megatron
    >>> lr = megatron.OptimizerParamScheduler(0.0, 1.0, 0.5, 10, 110, "cosine")
    >>> [float(lr(t)) for t in (0, 5, 10, 60, 110)]
    [0.0, 0.5, 1.0, 0.75, 0.5]
    >>> jump = megatron.OptimizerParamScheduler(0.0, 1.0, 0.125, 25, 100, "inverse-square-root")
    >>> float(jump(100)), float(jump(101))
    (0.5, 0.125)
    """
    name = "megatron.OptimizerParamScheduler"
    check_beside(f"{name}(init_lr=...)", init_lr, "at most", "max_lr", max_lr)
    check_beside(f"{name}(min_lr=...)", min_lr, "at most", "max_lr", max_lr)
    whole = ("less than", "lr_decay_steps", lr_decay_steps)
    check_beside(f"{name}(lr_warmup_steps=...)", lr_warmup_steps, *whole)
    rise = shapes.Linear(init_lr, max_lr, lr_warmup_steps)
    rest = subtract_steps(lr_decay_steps, lr_warmup_steps)
    if lr_decay_style == "constant":
        return rise >> Constant(max_lr)
    if lr_decay_style in _STYLES:
        return rise >> _STYLES[lr_decay_style](max_lr, min_lr, rest)
    if lr_decay_style == "WSD":
        # Without a style of the fall the class is made, and fails in the fall; here at once.
        shape = chosen(f"{name}(lr_wsd_decay_style=...)", lr_wsd_decay_style, _STYLES)
        if wsd_decay_steps is None:
            raise ValueError(f"{name}(wsd_decay_steps=...) must be given for WSD, got None.")
        steps = smaller(wsd_decay_steps, rest) if fix else wsd_decay_steps
        fall = shape(max_lr, min_lr, steps)
        # With no steps of a fall the step `lr_decay_steps` is still at the top (`num_steps <=
        # wsd_anneal_start_`), and the one after it at `min_lr`.
        at_last = where(lambda steps: steps == 0, (steps,), -1, steps)
        return rise >> _stable(max_lr, subtract_steps(rest, at_last), lr_warmup_steps, fall)
    # There it is `max_lr * sqrt(max(warmup, 1)) / sqrt(max(step, 1))`: with a warmup below 1, all
    # steps to 1 are at the top.
    begin = larger(subtract_steps(1, lr_warmup_steps), 0)
    law = Shift(InverseSqrt(max_lr, larger(lr_warmup_steps, 1)), begin)
    fall = Clip(law, low=min_lr)
    if fix:
        return rise >> Window(fall, 0, rest)
    last = subtract_steps(floor(lr_decay_steps), lr_warmup_steps)
    return rise >> Window(fall, 0, subtract_steps(last, -1)) >> Constant(min_lr)


def _stable(top: Any, hold: Any, warmup: Any, fall: AbstractSchedule) -> AbstractSchedule:
    """So long at the top, then the fall; a negative length begins in its middle."""
    # The warmup's branch comes first there and has the step on its end (`<=`): so the last step of
    # a whole warmup is at the top even where the fall has begun before it. That step is a plateau
    # of one step, and the fall is entered later by as much as the plateau is longer than `hold`.
    middle = lambda hold, warmup: (hold < 0) & (warmup > 0) & (warmup % 1 == 0)
    plateau = where(middle, (hold, warmup), 1, larger(hold, 0))
    late = subtract_steps(plateau, hold)
    return Constant(top, plateau) >> Window(fall, late, larger(fall.duration, late))


@drop_in
def get_wd(
    start_wd: NotNegative, end_wd: NotNegative, wd_incr_steps: Span, wd_incr_style: WeightDecayStyle
) -> AbstractSchedule:
    """The weight decay: from ``start_wd`` to ``end_wd``, which holds.

    Its steps are updates; theirs are samples, the batch size times as many.

    Args:
        start_wd, end_wd: equal for ``"constant"``.
        wd_incr_steps: length of the rise; 0 is ``end_wd`` at once.
        wd_incr_style: ``"constant"``, ``"linear"`` or ``"cosine"``.

    >>> from jaxsched.compat import megatron
    >>> [float(megatron.get_wd(0.0, 1.0, 10, "cosine")(t)) for t in (0, 5, 10)]
    [0.0, 0.5, 1.0]
    """
    check_beside("megatron.get_wd(start_wd=...)", start_wd, "at most", "end_wd", end_wd)
    if wd_incr_style == "constant":
        if violates(operator.ne, start_wd, end_wd):
            raise ValueError(
                "megatron.get_wd(end_wd=...) must be start_wd for wd_incr_style='constant', got "
                f"{describe(start_wd)} and {describe(end_wd)}."
            )
        return Constant(end_wd)
    return _STYLES[wd_incr_style](start_wd, end_wd, wd_incr_steps)


def rampup_batch_size(
    start: int, increment: int, samples: int, batch: int
) -> list[tuple[int, int]]:
    """``--rampup-batch-size start increment samples`` with ``--global-batch-size batch``.

    Args:
        start, increment: the first size of the global batch, and by how much it grows each time.
        samples: in which it grows to ``batch``, in steps of equal samples.
        batch: the last size; the difference to ``start`` is a multiple of ``increment``.

    Returns:
        (samples, batch) pairs for ``js.Units(batch=...)``, from so many samples on this batch. With
        Megatron's rounding: where an increment lasts a fraction of a sample, the last one may come
        one update after ``samples``.

    >>> import jaxsched as js
    >>> ramp = js.compat.megatron.rampup_batch_size(16, 8, 300_000, 32)
    >>> ramp, js.Units(batch=ramp).samples_at(20_000)
    ([(0, 16), (150000, 24), (300000, 32)], 440000)
    """
    where = "megatron.rampup_batch_size({}=...)"
    start = checked_whole(where.format("start"), start, 1)
    increment = checked_whole(where.format("increment"), increment, 1)
    samples = checked_whole(where.format("samples"), samples, 0)
    batch = checked_whole(where.format("batch"), batch, start)
    count, rest = divmod(batch - start, increment)
    if rest:
        raise ValueError(
            f"{where.format('batch')} must be start={start} and a multiple of "
            f"increment={increment} more, got {batch}."
        )
    # Megatron looks at the samples seen so far, `steps = int(seen / (samples / count))`: the n-th
    # increment comes with the first whole number of samples with a quotient of n. This number is
    # n * samples / count, rounded up, or one more if the division rounds below n.
    ramp = {0: start}
    for n in range(1, count + 1):
        at = -(-n * samples // count)
        late = samples and at / (samples / count) < n
        ramp[at + bool(late)] = start + n * increment
    return list(ramp.items())
