"""PyTorch's ``ReduceLROnPlateau``."""

from __future__ import annotations

from jaxsched.compat._plateau import plateau
from jaxsched.compat._signature import Fraction, NotNegative, Positive, Text, Whole, drop_in
from jaxsched.controllers import Plateau


@drop_in
def ReduceLROnPlateau(
    base_lr: Positive,
    mode: Text = "min",
    factor: Fraction = 0.1,
    patience: Whole = 10,
    threshold: NotNegative = 1e-4,
    threshold_mode: Text = "rel",
    cooldown: Whole = 0,
    min_lr: NotNegative = 0.0,
    eps: NotNegative = 1e-8,
) -> Plateau:
    """Multiplied by ``factor`` when a metric has not improved for more than ``patience`` reports.

    Args:
        base_lr, mode, factor, patience, threshold, threshold_mode, cooldown: as there.
        min_lr: the least rate; one for each group is a controller for each.
        eps: a cut by this much or less is not made, and so none after it: the least rate is
            greater than ``min_lr``, as ``min_scale`` shows.

    There the margin of a negative metric has the wrong sign with ``threshold_mode="rel"``, so that
    a constant one improves for ever; not here.

    >>> from jaxsched.compat import torch
    >>> plateau = torch.ReduceLROnPlateau(1.0, factor=0.5, patience=1)
    >>> state = plateau.init()
    >>> for loss in (3.0, 3.0, 3.0):
    ...     state = plateau.update(state, value=loss)
    >>> float(plateau(state))
    0.5
    """
    return plateau(
        "torch.ReduceLROnPlateau",
        *(base_lr, mode, factor, patience, threshold, threshold_mode, cooldown, min_lr, eps),
    )
