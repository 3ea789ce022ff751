"""timm's scheduler of the plateau."""

from __future__ import annotations

from jaxsched._checks import violates
from jaxsched.compat._plateau import plateau
from jaxsched.compat._signature import NotNegative, Positive, Ratio, Text, drop_in
from jaxsched.controllers import Plateau


@drop_in
def PlateauLRScheduler(
    base_lr: Positive,
    decay_rate: Ratio = 0.1,
    patience_t: NotNegative = 10,
    threshold: NotNegative = 1e-4,
    cooldown_t: NotNegative = 0,
    warmup_t: NotNegative = 0,
    warmup_lr_init: NotNegative = 0.0,
    lr_min: NotNegative = 0.0,
    mode: Text = "max",
) -> Plateau:
    """PyTorch's ``ReduceLROnPlateau`` of a metric of which, by default, more is better.

    Args:
        base_lr, decay_rate, patience_t, threshold, cooldown_t, lr_min, mode: as there.
        warmup_t: 0 only. There metrics do not count during the warmup; here each one that is
            reported does, so give ``js.Plateau`` a base with a warmup and report after it.
        warmup_lr_init: no effect.

    timm means to remove it.

    >>> from jaxsched.compat import timm
    >>> plateau = timm.PlateauLRScheduler(1.0, 0.5, patience_t=1)
    >>> state = plateau.init()
    >>> for accuracy in (0.5, 0.5, 0.5):
    ...     state = plateau.update(state, value=accuracy)
    >>> float(plateau(state))
    0.5
    """
    name = "timm.PlateauLRScheduler"
    if violates(lambda warmup: warmup > 0, warmup_t):
        raise ValueError(
            f"{name}(warmup_t=...) must be 0, got {warmup_t!r}: write `js.Plateau(js.Linear("
            "warmup_lr_init, base_lr, warmup_t), rule='torch', mode='max')`, and report the metric "
            "after the warmup only."
        )
    return plateau(
        name, base_lr, mode, decay_rate, patience_t, threshold, "rel", cooldown_t, lr_min, 1e-8
    )
