"""The schedules of transformers that watch a metric, or an optimizer's own rate."""

from __future__ import annotations

from jaxsched._checks import check_beside, checked_whole
from jaxsched.compat._pieces import larger, smaller
from jaxsched.compat._signature import (
    Count,
    Flag,
    Fraction,
    Mode,
    NotNegative,
    Number,
    Positive,
    Share,
    ThresholdMode,
    Whole,
    drop_in,
)
from jaxsched.compat._torch_plateau import margins, plateau
from jaxsched.controllers import Greedy, Plateau
from jaxsched.recipes._arguments import divide
from jaxsched.schedules import _open_ended as laws
from jaxsched.schedules._base import AbstractSchedule, Constant
from jaxsched.schedules._extremes import minimum


@drop_in
def reduce_lr_on_plateau(
    lr: Positive,
    *,
    mode: Mode = "min",
    factor: Fraction = 0.1,
    patience: Whole = 10,
    threshold: NotNegative = 1e-4,
    threshold_mode: ThresholdMode = "rel",
    cooldown: Whole = 0,
    min_lr: NotNegative = 0.0,
    eps: NotNegative = 1e-8,
) -> Plateau:
    """PyTorch's ``ReduceLROnPlateau``, as ``js.compat.torch`` has it.

    >>> from jaxsched.compat import transformers
    >>> transformers.reduce_lr_on_plateau(1.0, factor=0.5, patience=1).rule
    'torch'
    """
    return plateau(
        "transformers.reduce_lr_on_plateau",
        *(lr, mode, factor, patience, threshold, threshold_mode, cooldown, min_lr, eps),
    )


@drop_in
def greedy(
    lr: Positive,
    *,
    mode: Mode = "min",
    factor: Share = 0.95,
    patience: Whole = 10,
    threshold: NotNegative = 1e-6,
    threshold_mode: ThresholdMode = "abs",
    cooldown: Whole = 0,
    warmup: Whole = 0,
    min_lr: NotNegative = 1e-3,
    max_lr: Positive = 1.0,
    eps: NotNegative = 1e-8,
    verbose: Flag = False,
    smooth: Flag = False,
    window_size: Count = 50,
    reset_start: Whole = 500,
    fix: Flag = False,
) -> Greedy:
    """GreedyLR: the rate falls while a metric stalls and rises while it improves.

    Args:
        min_lr: the least rate. With the default, 1e-3, a smaller one can only rise.
        max_lr: the largest rate; a larger one can only fall.
        eps: a change of the rate by this much or less is not made.
        verbose: no effect.
        smooth: judge the mean of the last ``window_size`` metrics; their number is not traced.
            (There NaN or infinity stays in it for good.)
        window_size: of ``smooth``.
        reset_start: cuts at ``min_lr`` after which all begins anew.
        fix: bounds on the wrong side of ``lr`` become ``lr``.

    >>> from jaxsched.compat import transformers
    >>> greedy = transformers.greedy(0.5, factor=0.5, patience=1)
    >>> state = greedy.init()
    >>> for loss in (3.0, 2.0, 2.0, 2.0):
    ...     state = greedy.update(state, value=loss)
    >>> float(greedy(state))
    0.5
    """
    name = "transformers.greedy"
    rtol, atol = margins(name, threshold, threshold_mode)
    least, most = divide(min_lr, lr), divide(max_lr, lr)
    if fix:
        least, most = smaller(least, 1.0), larger(most, 1.0)
    else:
        check_beside(f"{name}(min_lr=...)", min_lr, "at most", "max_lr", max_lr)
    return Greedy(
        *(lr, factor, patience, rtol, atol, cooldown, warmup, least, most),
        mode=mode,
        nan="bad",
        eps=divide(eps, lr),
        reset=reset_start,
        window=checked_whole(f"{name}(window_size=...)", window_size, 1) if smooth else None,
    )


@drop_in
def get_adafactor_schedule(
    initial_lr: Number = 0.0, *, warmup_init: Flag = False
) -> AbstractSchedule:
    """The relative step of Adafactor: the lesser of 0.01 and one over the square root of the step.

    Args:
        initial_lr: the rate shown there before the first update; no update has it.
        warmup_init: with Adafactor's ``warmup_init``: 1e-6 times the step in place of 0.01.

    There it is multiplied by the RMS of each parameter, unless ``scale_parameter=False``.

    References: Shazeer & Stern, Adafactor, arXiv:1804.04235.

    >>> from jaxsched.compat import transformers
    >>> [round(float(transformers.get_adafactor_schedule()(t)), 6) for t in (0, 39_999)]
    [0.01, 0.005]
    """
    least = laws.PowerLaw(1e-6, 1.0, 1.0) if warmup_init else Constant(1e-2)
    return minimum(least, laws.InverseSqrt(1.0, 1.0))
