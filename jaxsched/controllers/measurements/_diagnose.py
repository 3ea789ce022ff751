"""``diagnose``: whether the rate is too high at this point of training, and the gain of a decay.

These measurements were chosen by experiment: 1120 points in 7 settings of data, model and
optimizer, with a branch at the old rate and one at a tenth of it from every point. The averaging
gap and the own-batch work predict the gain of the decay (area under the curve 0.95 and 0.97; on
four held-out data sets 0.84 for the gap). Sign flips of the mini-batch loss, cosines of successive
gradients or updates, Pflug's test and the share of steps that raise the loss of their batch don't
(0.41 to 0.64). ``python -m benchmarks.controllers counterfactual`` repeats it on real data.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np
from jax.typing import ArrayLike

from jaxsched._checks import MANY, checked_number, checked_whole
from jaxsched._types import PyTree
from jaxsched.controllers.measurements._average import Average
from jaxsched.controllers.measurements._gap import Work, averaging_gap
from jaxsched.controllers.measurements._sharpness import sharpness

BOUNCING = 0.1  # nats; 0.08 to 0.14 were best, also with any of these settings held out
UNSTABLE = 0.8  # of the stability limit; bouncing runs were at 0.02 to 0.17
PROGRESS = 0.02  # nats a window, the least progress

# Gain of a decay to a tenth within one window, regressed on the gap: the means of seven settings
# (slopes 0.85 to 1.18, intercepts -0.14 to -0.01) and their mean absolute error (0.05 to 0.19).
_SLOPE, _INTERCEPT, _GAIN_ERROR = 1.07, -0.06, 0.11


class Diagnosis(NamedTuple):
    """The evidence as Python numbers, in nats by default; ``print`` shows it in words."""

    verdict: str  # "bouncing", "creeping", "stable", "unstable" or "diverged"
    sure: bool  # the gap is more than two standard errors away from the threshold
    loss: float  # at the iterate, in its own units
    averaged: float  # at the averaged weights
    gap: float
    gap_error: float
    gain: float  # of a decay now: the log of the loss falls by about this much
    gain_error: float
    progress: float | None  # fall of the averaged weights' log loss since `previous`
    work: float | None  # mean relative fall of the own batch's loss
    work_error: float | None
    stability: float | None  # rate * sharpness, as a fraction of its limit
    stability_error: float | None

    def __str__(self) -> str:
        maybe = "" if self.sure else "perhaps "
        lines = {
            "diverged": f"diverged: the loss is {self.loss:g}",
            "unstable": f"unstable: sharpness x rate at {self.stability or 0.0:.2g} of its limit",
            "bouncing": (
                f"{maybe}bouncing: decaying now is worth about {self.gain:.2g} nats "
                f"({self.gain - self.gain_error:.2g} to {self.gain + self.gain_error:.2g})"
            ),
            "creeping": (
                f"{maybe}creeping: nothing bounces and the loss still falls; a higher rate may be "
                "faster"
            ),
            "stable": f"{maybe}stable: nothing bounces, so a decay now is worth little",
        }
        text = [lines[self.verdict]]
        if self.verdict == "diverged":
            return text[0]
        error = f" +- {self.gap_error:.2g}" if math.isfinite(self.gap_error) else ""
        text.append(
            f"  averaging gap {self.gap:.3g}{error} nats (bouncing from {BOUNCING}): loss "
            f"{self.loss:.4g}, of the averaged weights {self.averaged:.4g}"
        )
        if self.progress is not None:
            also = self.verdict == "bouncing" and self.progress > PROGRESS
            text.append(
                f"  the averaged weights gain {self.progress:.3g} nats a window"
                + (": staying still pays, too" if also else "")
            )
        if self.work is not None:
            text.append(
                f"  own-batch work {self.work:.2g} +- {self.work_error:.1g} (bouncing from 0.08)"
            )
        if self.stability is not None:
            off = self.stability_error or 0.0
            about = f" +- {off:.1g}" if off >= 0.005 else ""
            text.append(f"  sharpness x rate {self.stability:.2g}{about} of its limit")
        return "\n".join(text)


def diagnose(
    loss: Callable[[PyTree], ArrayLike],
    weights: PyTree,
    average: Average,
    *,
    previous: Diagnosis | None = None,
    work: Work | None = None,
    rate: float | jax.Array | None = None,
    limit: float = 2.0,
    scale: PyTree | None = None,
    steps: int = 12,
) -> Diagnosis:
    """Whether the rate is too high for where training is now, with the evidence.

    *bouncing*: the mean of the last window's weights is better than the weights by 0.1 nats or
    more, as the weights would be after a decay. *creeping*: it isn't, and the loss still falls.
    *stable*: neither. *unstable*: the rate is close to where gradient descent diverges (looked at
    only if ``rate`` is given). Bouncing doesn't yet mean that it is time to decay: while the
    averaged weights still improve, staying pays, too. ``AutoDecay`` waits for both.

    Args:
        loss: a function of the weights: the losses of some hundred fixed examples, [n], for an
            estimate of the error, or a single loss. It is called twice.
        weights: of the last step.
        average: the ``Average`` of the steps since the last window ended, some 50 to 500 of them.
        previous: the diagnosis of the window before, for the progress since then. Without it, a
            mean that is worse than the weights (it lags behind) counts as progress.
        work: own-batch work of the window, if it was measured.
        rate: the learning rate, for the stability; it costs ``steps`` Hessian-vector products.
        limit: of ``rate * sharpness``, see ``stability_limit``.
        scale: of the gradient, for Adam, see ``sharpness``.
        steps: Hessian-vector products, at least 1.

    Returns:
        A ``Diagnosis`` of Python numbers. Call it outside ``jit``, once a window; inside, use
        ``averaging_gap``.

    Raises:
        ValueError: if nothing was added to the average.

    >>> import jax.numpy as jnp
    >>> from jaxsched.controllers import Average, diagnose
    >>> average = Average.start(jnp.zeros(1))
    >>> for w in (1.0, -1.0, 1.0, -1.0):  # it jumps from one side of the valley to the other
    ...     average = average.add(jnp.full(1, w))
    >>> target = jnp.linspace(-1.0, 1.0, 64)
    >>> report = diagnose(lambda w: (w - target) ** 2, jnp.full(1, -1.0), average)
    >>> report.verdict, report.sure
    ('bouncing', True)
    """
    steps = checked_whole("diagnose(steps=...)", steps, 1, MANY)
    if rate is not None:
        rate = checked_number("diagnose(rate=...)", rate, at_least=0)
        limit = checked_number("diagnose(limit=...)", limit, above=0)
    if int(average.steps) == 0:
        raise ValueError(
            "diagnose(average=...) must hold weights, got an empty one: call `average.add(weights)`"
            " after every update."
        )
    of_weights, of_average = loss(weights), loss(average.like(weights))
    gap, gap_error = (float(x) for x in averaging_gap(of_weights, of_average))
    value, averaged = float(np.mean(of_weights)), float(np.mean(of_average))
    progress = None
    if previous is not None and min(previous.averaged, averaged) > 0:
        progress = math.log(previous.averaged) - math.log(averaged)
    stability = stability_error = None
    if rate is not None:
        top, factor = sharpness(loss, weights, scale=scale, steps=steps), float(rate) / limit
        stability, stability_error = factor * float(top.value), factor * float(top.error)

    # The error needs the losses of single examples. Without progress known from a window before,
    # an average that is worse than the weights shows a fall: it lags behind them.
    known = math.isfinite(gap_error)
    verdict = _verdict(value, stability, gap, progress)
    return Diagnosis(
        verdict=verdict,
        sure=verdict == "diverged" or (known and abs(gap - BOUNCING) > 2.0 * gap_error),
        loss=value,
        averaged=averaged,
        gap=gap,
        gap_error=gap_error,
        gain=_SLOPE * gap + _INTERCEPT,
        gain_error=math.hypot(_SLOPE * gap_error if known else 0.0, _GAIN_ERROR),
        progress=progress,
        work=None if work is None else float(work.mean),
        work_error=None if work is None else float(work.error),
        stability=stability,
        stability_error=stability_error,
    )


def _verdict(loss: float, stability: float | None, gap: float, progress: float | None) -> str:
    """The first word that fits."""
    if not math.isfinite(loss):
        return "diverged"
    if stability is not None and stability >= UNSTABLE:
        return "unstable"
    if gap >= BOUNCING:
        return "bouncing"
    falls = gap < -PROGRESS if progress is None else progress > PROGRESS
    return "creeping" if falls else "stable"
