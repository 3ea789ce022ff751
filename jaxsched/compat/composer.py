"""The schedulers of Composer (``composer.optim.scheduler``, mosaicml), as of 0.32.

They are *factors* of the optimizer's rate, as there: ``0.1 * composer.LinearScheduler(...)``.
A length is a time string (``"10ba"``, ``"2ep"``, ``"0.5dur"``, ``"100sp"``, ``"3e4tok"``), or a
number of batches, which may be traced. The trainer's part comes by keyword: ``max_duration``,
``dataloader_len`` (batches of an epoch), and the scale schedule ratio ``ssr``. All lengths of a
schedule have one unit (epochs are batches), and its steps are in that unit: with ``"sp"`` or
``"tok"`` it is called with samples or tokens. ``fix=True`` removes Composer's harmful rules.
"""

from __future__ import annotations

import operator
from typing import Any

from jaxsched._arrays import is_concrete
from jaxsched._text import describe
from jaxsched.compat._composer_times import Clock, Time, Times
from jaxsched.compat._knots import drops
from jaxsched.compat._pieces import decay, held, polynomial, stairs, surely
from jaxsched.compat._signature import Count, Flag, NotNegative, Number, Positive, drop_in
from jaxsched.schedules import _shapes as shapes
from jaxsched.schedules._base import AbstractSchedule, Constant, Sequence
from jaxsched.schedules._lengths import subtract_steps
from jaxsched.schedules._repeat import Repeat
from jaxsched.schedules._wrappers import Shift

_LONGEST = 2**31  # steps, to which cycles are listed
_MANY = 1000  # cycles

# A scheduler is a function of the trainer's state there, and every length of it is converted at
# every call, by `max_duration`, `dataloader_len` and `ssr`. So these are arguments of each drop-in,
# and a `Clock` converts times as `_convert_time` does. Only with `max_duration` is a schedule known
# to last the run: `clock.within` gives it this duration, for sweeps and pictures.


@drop_in
def StepScheduler(
    step_size: Time,
    gamma: NotNegative = 0.1,
    *,
    max_duration: Time | None = None,
    dataloader_len: Count | None = None,
    ssr: Positive = 1.0,
) -> AbstractSchedule:
    """Multiplied by ``gamma`` at every multiple of ``step_size``.

    >>> from jaxsched.compat import composer
    >>> drops = composer.StepScheduler("2ep", 0.5, dataloader_len=10)
    >>> [float(drops(t)) for t in (19, 20, 40)]
    [1.0, 0.5, 0.25]
    """
    clock = Clock("StepScheduler", max_duration, dataloader_len, ssr)
    return stairs(1.0, gamma, clock.length("step_size", step_size, above=True))


@drop_in
def MultiStepScheduler(
    milestones: Times,
    gamma: Number = 0.1,
    *,
    max_duration: Time | None = None,
    dataloader_len: Count | None = None,
    ssr: Positive = 1.0,
) -> AbstractSchedule:
    """Multiplied by ``gamma`` at each milestone, twice where one is listed twice.

    >>> from jaxsched.compat import composer
    >>> drops = composer.MultiStepScheduler(["0.5dur", "80ba"], 0.5, max_duration="100ba")
    >>> [float(drops(t)) for t in (49, 50, 80)]
    [1.0, 0.5, 0.25]
    """
    clock = Clock("MultiStepScheduler", max_duration, dataloader_len, ssr)
    return clock.within(drops(1.0, gamma, [clock.length("milestones", x) for x in milestones]))


@drop_in
def ConstantScheduler(
    alpha: Number = 1.0,
    t_max: Time = "1dur",
    *,
    max_duration: Time | None = None,
    dataloader_len: Count | None = None,
    ssr: Positive = 1.0,
) -> AbstractSchedule:
    """``alpha`` until ``t_max``, then 1.

    >>> from jaxsched.compat import composer
    >>> half = composer.ConstantScheduler(0.5, "10ba")
    >>> float(half(9)), float(half(10))
    (0.5, 1.0)
    """
    # After `t_max` the factor is 1 and not `alpha`, the one scheduler that does not hold its end.
    clock = Clock("ConstantScheduler", max_duration, dataloader_len, ssr)
    return Constant(alpha, clock.length("t_max", t_max)) >> Constant(1.0)


@drop_in
def LinearScheduler(
    alpha_i: Number = 1.0,
    alpha_f: Number = 0.0,
    t_max: Time = "1dur",
    *,
    max_duration: Time | None = None,
    dataloader_len: Count | None = None,
    ssr: Positive = 1.0,
) -> AbstractSchedule:
    """A line from ``alpha_i`` to ``alpha_f``, which holds.

    >>> from jaxsched.compat import composer
    >>> [float(composer.LinearScheduler(t_max="10ba")(t)) for t in (0, 5, 10)]
    [1.0, 0.5, 0.0]
    """
    clock = Clock("LinearScheduler", max_duration, dataloader_len, ssr)
    line = shapes.Linear(alpha_i, alpha_f, clock.length("t_max", t_max))
    return clock.within(held(surely(operator.lt, alpha_i, alpha_f), line, alpha_f))


@drop_in
def ExponentialScheduler(
    gamma: NotNegative,
    decay_period: Time = "1ep",
    *,
    max_duration: Time | None = None,
    dataloader_len: Count | None = None,
    ssr: Positive = 1.0,
) -> AbstractSchedule:
    """Multiplied by ``gamma`` every ``decay_period``, smoothly.

    >>> from jaxsched.compat import composer
    >>> [float(composer.ExponentialScheduler(0.25, "10ba")(t)) for t in (0, 5, 10)]
    [1.0, 0.5, 0.25]
    """
    clock = Clock("ExponentialScheduler", max_duration, dataloader_len, ssr)
    return decay(1.0, gamma, clock.length("decay_period", decay_period, above=True))


@drop_in
def CosineAnnealingScheduler(
    t_max: Time = "1dur",
    alpha_f: Number = 0.0,
    *,
    max_duration: Time | None = None,
    dataloader_len: Count | None = None,
    ssr: Positive = 1.0,
) -> AbstractSchedule:
    """Half a cosine from 1 to ``alpha_f``, which holds.

    >>> from jaxsched.compat import composer
    >>> [float(composer.CosineAnnealingScheduler("10ba")(t)) for t in (0, 5, 10)]
    [1.0, 0.5, 0.0]
    """
    clock = Clock("CosineAnnealingScheduler", max_duration, dataloader_len, ssr)
    return clock.within(shapes.Cosine(1.0, alpha_f, clock.length("t_max", t_max)))


@drop_in
def PolynomialScheduler(
    power: NotNegative,
    t_max: Time = "1dur",
    alpha_f: Number = 0.0,
    *,
    max_duration: Time | None = None,
    dataloader_len: Count | None = None,
    ssr: Positive = 1.0,
) -> AbstractSchedule:
    """A power of the remaining fraction, from 1 to ``alpha_f``, which holds.

    >>> from jaxsched.compat import composer
    >>> [float(composer.PolynomialScheduler(2.0, "10ba")(t)) for t in (0, 5, 10)]
    [1.0, 0.25, 0.0]
    """
    clock = Clock("PolynomialScheduler", max_duration, dataloader_len, ssr)
    return clock.within(polynomial(1.0, alpha_f, clock.length("t_max", t_max), power))


@drop_in
def CosineAnnealingWarmRestartsScheduler(
    t_0: Time,
    t_mult: Positive = 1.0,
    alpha_f: Number = 0.0,
    *,
    max_duration: Time | None = None,
    dataloader_len: Count | None = None,
    ssr: Positive = 1.0,
) -> AbstractSchedule:
    """Half cosines from 1 to ``alpha_f`` with restarts; each length is *cut* to whole steps.

    So a ``t_0`` of 1 never grows by a ``t_mult`` of 1.5. With one below 1 the length comes to 0, an
    error there; here the last value holds. The cycles are listed, to step 2^31 or at most 1000 that
    reach ``max_duration``, so neither argument may be traced, unless ``t_mult`` is 1.

    >>> from jaxsched.compat import composer
    >>> lr = composer.CosineAnnealingWarmRestartsScheduler("10ba", 2.0, max_duration="70ba")
    >>> [float(lr(t)) for t in (0, 5, 10, 20, 30)]
    [1.0, 0.5, 1.0, 0.5, 1.0]
    """
    name = "CosineAnnealingWarmRestartsScheduler"
    clock = Clock(name, max_duration, dataloader_len, ssr)
    length = clock.length("t_0", t_0, above=True)
    known = is_concrete(length) and is_concrete(t_mult)
    constant = is_concrete(t_mult) and t_mult == 1
    if constant or (known and int(t_mult * length) == int(length)):
        return Repeat(shapes.Cosine(1.0, alpha_f, length))
    if not known:
        raise TypeError(
            f"composer.{name}(t_0=..., t_mult=...) must be known numbers, which count the cycles, "
            f"got {describe(length)} and {describe(t_mult)}."
        )
    longest: Any = _LONGEST
    if max_duration is not None:
        longest = clock.length("max_duration", max_duration, scaled=False)
    # Cut to whole steps each time, they are not a geometric series, as ``Repeat`` needs: 3, 4, 6, 9
    # with a `t_mult` of 1.5, where 3, 4.5, 6.75, 10.125 would be one. Composer walks through them
    # at every call, for ever; a list of ours must end. It goes as far as an int32 step counts, and
    # stops at 1000 cycles if they reach the end of the run.
    lengths: list[Any] = []
    total = 0
    while length > 0 and total <= _LONGEST:
        if len(lengths) == _MANY:
            if total > longest:
                break
            raise ValueError(
                f"composer.{name}(t_mult=...) must make at most {_MANY} cycles until max_duration, "
                f"got {describe(t_mult)}."
            )
        lengths.append(length)
        total += length
        length = int(t_mult * length)
    return clock.within(Sequence(tuple(shapes.Cosine(1.0, alpha_f, x) for x in lengths)))


@drop_in
def MultiStepWithWarmupScheduler(
    t_warmup: Time,
    milestones: Times,
    gamma: Number = 0.1,
    scale_warmup: Flag = False,
    *,
    max_duration: Time | None = None,
    dataloader_len: Count | None = None,
    ssr: Positive = 1.0,
    fix: Flag = False,
) -> AbstractSchedule:
    """A line to 1, then ``MultiStepScheduler``; its milestones count from step 0.

    Args:
        t_warmup: length of the line.
        scale_warmup: the line rises within ``ssr * t_warmup``, and is left at ``t_warmup`` even so.
        fix: it is left where it ends; there the factor jumps at ``t_warmup``, or waits for it.

    >>> from jaxsched.compat import composer
    >>> lr = composer.MultiStepWithWarmupScheduler("10ba", ["20ba"], 0.5)
    >>> [float(lr(t)) for t in (5, 10, 20)]
    [0.5, 1.0, 0.5]
    """
    # The milestones count from step 0 and are asked only after the warmup: one within it has acted
    # when it ends.
    clock = Clock("MultiStepWithWarmupScheduler", max_duration, dataloader_len, ssr)
    rise = clock.warmed(1.0, t_warmup, scale_warmup, fix)
    body = drops(1.0, gamma, [clock.length("milestones", time) for time in milestones])
    return clock.within(rise >> Shift(body, subtract_steps(0, rise.duration)))


@drop_in
def ConstantWithWarmupScheduler(
    t_warmup: Time,
    alpha: Number = 1.0,
    t_max: Time = "1dur",
    scale_warmup: Flag = False,
    *,
    max_duration: Time | None = None,
    dataloader_len: Count | None = None,
    ssr: Positive = 1.0,
    fix: Flag = False,
) -> AbstractSchedule:
    """A line to ``alpha``, which holds, after ``t_max`` too.

    >>> from jaxsched.compat import composer
    >>> lr = composer.ConstantWithWarmupScheduler("10ba", t_max="20ba")
    >>> [float(lr(t)) for t in (5, 10, 30)]
    [0.5, 1.0, 1.0]
    """
    # Its documentation says that the factor is 1 after `t_max`, as of `ConstantScheduler`. The code
    # is a `LinearWithWarmupScheduler` from alpha to alpha, which holds. `t_max` has one effect:
    # shorter than the run it is refused.
    clock = Clock("ConstantWithWarmupScheduler", max_duration, dataloader_len, ssr)
    rise = clock.warmed(alpha, t_warmup, scale_warmup, fix)
    clock.rest(rise, t_max)
    return rise >> Constant(alpha)


@drop_in
def LinearWithWarmupScheduler(
    t_warmup: Time,
    alpha_i: Number = 1.0,
    alpha_f: Number = 0.0,
    t_max: Time = "1dur",
    scale_warmup: Flag = False,
    *,
    max_duration: Time | None = None,
    dataloader_len: Count | None = None,
    ssr: Positive = 1.0,
    fix: Flag = False,
) -> AbstractSchedule:
    """A line to ``alpha_i``, and one to ``alpha_f`` at ``t_max``; a longer warmup never falls.

    >>> from jaxsched.compat import composer
    >>> lr = composer.LinearWithWarmupScheduler("10ba", t_max="30ba")
    >>> [float(lr(t)) for t in (5, 10, 20, 30)]
    [0.5, 1.0, 0.5, 0.0]
    """
    clock = Clock("LinearWithWarmupScheduler", max_duration, dataloader_len, ssr)
    rise = clock.warmed(alpha_i, t_warmup, scale_warmup, fix)
    return clock.fall(rise, t_max, shapes.Linear, alpha_i, alpha_f)


@drop_in
def CosineAnnealingWithWarmupScheduler(
    t_warmup: Time,
    t_max: Time = "1dur",
    alpha_f: Number = 0.0,
    scale_warmup: Flag = False,
    *,
    max_duration: Time | None = None,
    dataloader_len: Count | None = None,
    ssr: Positive = 1.0,
    fix: Flag = False,
) -> AbstractSchedule:
    """A line to 1, and half a cosine to ``alpha_f`` at ``t_max``; a longer warmup never falls.

    >>> from jaxsched.compat import composer
    >>> lr = composer.CosineAnnealingWithWarmupScheduler("10ba", max_duration="30ba")
    >>> [float(lr(t)) for t in (5, 10, 20, 30)]
    [0.5, 1.0, 0.5, 0.0]
    """
    clock = Clock("CosineAnnealingWithWarmupScheduler", max_duration, dataloader_len, ssr)
    rise = clock.warmed(1.0, t_warmup, scale_warmup, fix)
    return clock.fall(rise, t_max, shapes.Cosine, 1.0, alpha_f)


@drop_in
def PolynomialWithWarmupScheduler(
    t_warmup: Time,
    power: NotNegative = 2.0,
    t_max: Time = "1dur",
    alpha_f: Number = 0.0,
    scale_warmup: Flag = False,
    *,
    max_duration: Time | None = None,
    dataloader_len: Count | None = None,
    ssr: Positive = 1.0,
    fix: Flag = False,
) -> AbstractSchedule:
    """A line to 1, and a power to ``alpha_f`` at ``t_max``; a longer warmup never falls.

    >>> from jaxsched.compat import composer
    >>> lr = composer.PolynomialWithWarmupScheduler("10ba", max_duration="30ba")
    >>> [float(lr(t)) for t in (5, 10, 20, 30)]
    [0.5, 1.0, 0.25, 0.0]
    """
    clock = Clock("PolynomialWithWarmupScheduler", max_duration, dataloader_len, ssr)
    rise = clock.warmed(1.0, t_warmup, scale_warmup, fix)
    shape = lambda start, end, steps: polynomial(start, end, steps, power)
    return clock.fall(rise, t_max, shape, 1.0, alpha_f)
