"""Rules that read a learning rate off the curve of a range test: functions of two arrays.

Every rule has one signature, ``rule(lrs, losses, mask=None) -> lr``, runs under ``jit`` and
``vmap``, and answers 0.0 (no rate of a ramp, and false in a condition) where the curve has too few
points for it; never a NaN. The first four are fastai's (``fastai/callback/schedule.py``), each with
its quirks; they were made for a constant rate and are timid for a run that decays. The last two are
ours, measured on 11 settings against the best peak on validation data.
"""

from __future__ import annotations

import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import ArrayLike

from jaxsched._types import Number

# Best cosine peak = minimum / 3 (bias 1.03, 91 % within a factor 2, 11 settings); best constant
# rate = minimum / 7 (8 settings). Both for a debiased EMA of 0.9 over about 33 steps a decade.
DECAY_DIVISOR = 3.0
CONSTANT_DIVISOR = 7.0
NEAR_ZERO = 0.1


@jax.jit
def minimum(
    lrs: ArrayLike, losses: ArrayLike, mask: ArrayLike | None = None, *, divide: float = 10.0
) -> jax.Array:
    """A tenth of the rate with the lowest loss (fastai's ``minimum``).

    Args:
        lrs: the learning rates of the ramp, real [n], positive and increasing.
        losses: the smoothed loss at each, real [n].
        mask: which points to use, bool [n]; by default all before the first loss that is not
            finite. ``window`` makes fastai's. A loss that is not finite is never used.
        divide: divisor of the rate, positive.

    Returns:
        The suggested rate, float32 []; 0.0 if no point is left.

    Raises:
        ValueError: if an argument has the wrong shape.

    >>> import jax.numpy as jnp
    >>> from jaxsched.search.suggest import minimum
    >>> round(float(minimum(jnp.float32([0.01, 0.1, 1.0]), jnp.float32([3.0, 1.0, 2.0]))), 6)
    0.01
    """
    curve = _checked_curve("minimum", lrs, losses, mask)
    lowest = jnp.argmin(jnp.where(curve.valid, curve.losses, jnp.inf))
    return jnp.where(curve.size > 0, curve.lrs[lowest] / divide, 0.0)


@jax.jit
def steepest(lrs: ArrayLike, losses: ArrayLike, mask: ArrayLike | None = None) -> jax.Array:
    r"""The rate at which the loss falls fastest in the log of the rate (fastai's ``steep``).

    .. math:: \eta_i, \quad i = \arg\min_i \frac{y_{i+1} - y_i}{\ln \eta_{i+1} - \ln \eta_i}

    Args and errors: see ``minimum``; 0.0 if fewer than 2 points are left.

    >>> import jax.numpy as jnp
    >>> from jaxsched.search.suggest import steepest
    >>> round(float(steepest(jnp.float32([0.01, 0.1, 1.0]), jnp.float32([3.0, 2.9, 1.0]))), 6)
    0.1
    """
    curve = _checked_curve("steepest", lrs, losses, mask)
    if curve.lrs.size < 2:
        return jnp.float32(0.0)
    inside = curve.valid[1:]
    run = jnp.where(inside, jnp.diff(jnp.log(curve.lrs)), 1.0)
    slope = jnp.where(inside, jnp.diff(curve.losses) / run, jnp.inf)
    return jnp.where(curve.size > 1, curve.lrs[jnp.argmin(slope)], 0.0)


@jax.jit
def valley(lrs: ArrayLike, losses: ArrayLike, mask: ArrayLike | None = None) -> jax.Array:
    """About half way down the longest valley (fastai's ``valley``, its default).

    The longest strictly decreasing *subsequence* of the losses, of length L and ending at index e
    (the first such e), is taken for the window (e - L, e]. The answer stands about half of it from
    its left end: index ``e - L + int(L/3) + int(L/6)``. Two quirks of the original are kept: a
    curve that never falls gives the first rate. A curve that falls only from the first point to the
    second gives Python's index -1, the last rate. O(n^2) comparisons.

    Args and errors: see ``minimum``; 0.0 if no point is left.

    >>> import jax.numpy as jnp
    >>> from jaxsched.search.suggest import valley
    >>> lrs = jnp.float32([1, 2, 3, 4, 5, 6, 7])
    >>> float(valley(lrs, jnp.float32([6, 5, 4, 3, 2, 1, 9])))
    3.0
    """
    curve = _checked_curve("valley", lrs, losses, mask)
    size, place = curve.lrs.size, jnp.arange(curve.lrs.size)

    # A subsequence with the end i is one with an earlier, higher end, and i.
    def longest_to(i: jax.Array, lengths: jax.Array) -> jax.Array:
        before = (place < i) & (curve.losses[i] < curve.losses)
        return lengths.at[i].set(1 + jnp.max(jnp.where(before, lengths, 0)))

    lengths = lax.fori_loop(0, size, longest_to, jnp.zeros(size, jnp.int32))
    lengths = jnp.where(curve.valid, lengths, 0)
    end, length = jnp.argmax(lengths), jnp.max(lengths)
    index = end - length + length // 3 + length // 6
    index = jnp.where(index < 0, jnp.where(length > 1, curve.size - 1, 0), index)
    return jnp.where(curve.size > 0, curve.lrs[index], 0.0)


@functools.partial(jax.jit, static_argnames="difference")
def slide(
    lrs: ArrayLike,
    losses: ArrayLike,
    mask: ArrayLike | None = None,
    *,
    difference: int = 15,
    threshold: float = 0.005,
    adjust: float = 1.0,
) -> jax.Array:
    """Slides an interval from the right until the slopes at its ends agree (fastai's ``slide``).

    Novak's rule. The slope is NumPy's gradient with respect to the *index*, so the threshold is in
    units of loss per step of the ramp.

    Args:
        lrs: the learning rates of the ramp, real [n], positive and increasing.
        losses: the smoothed loss at each, real [n].
        mask: see ``minimum``.
        difference: width of the interval in points, at least 1 (fastai: ``lr_diff``).
        threshold: slopes that differ by more do not agree (``thresh``).
        adjust: factor on the rate at the interval's left end (``adjust_value``).

    Returns:
        The suggested rate, float32 []; 0.0 if not more than ``difference`` points are left.

    Raises:
        ValueError: if an argument has the wrong shape, or ``difference`` is less than 1.

    >>> import jax.numpy as jnp
    >>> from jaxsched.search.suggest import slide
    >>> lrs = jnp.arange(1.0, 41.0)
    >>> float(slide(lrs, jnp.where(lrs < 30, 1.0, lrs - 29)))
    15.0
    """
    if difference < 1:
        raise ValueError(f"slide(difference=...) must be at least 1, got {difference}.")
    curve = _checked_curve("slide", lrs, losses, mask)
    size, count = curve.lrs.size, curve.size
    if size <= difference:
        return jnp.float32(0.0)
    place = jnp.arange(size)
    after = curve.losses[jnp.minimum(place + 1, jnp.maximum(count - 1, 0))]
    before = curve.losses[jnp.maximum(place - 1, 0)]
    at_edge = (place == 0) | (place == count - 1)
    slope = (after - before) / jnp.where(at_edge, 1.0, 2.0)
    left = count - 1 - difference - place  # of the interval in its k-th position
    right_slope = slope[jnp.maximum(left + difference, 0)]
    differs = (left >= 0) & (jnp.abs(right_slope - slope[jnp.maximum(left, 0)]) > threshold)
    moves = jnp.sum(jnp.cumprod(differs.astype(jnp.int32)))
    index = count - 1 - difference - jnp.maximum(moves - 1, 0)
    return jnp.where(count > difference, curve.lrs[index] * adjust, 0.0)


@jax.jit
def decaying(lrs: ArrayLike, losses: ArrayLike, mask: ArrayLike | None = None) -> jax.Array:
    """The peak for a schedule that ends near zero: a third of the rate with the lowest loss.

    Args, returns and errors: see ``minimum``.

    >>> import jax.numpy as jnp
    >>> from jaxsched.search.suggest import decaying
    >>> float(decaying(jnp.float32([0.1, 0.75, 1.0]), jnp.float32([3.0, 1.0, 2.0])))
    0.25
    """
    return minimum(lrs, losses, mask, divide=DECAY_DIVISOR)


@jax.jit
def constant(lrs: ArrayLike, losses: ArrayLike, mask: ArrayLike | None = None) -> jax.Array:
    """The rate for a run at a constant rate: a seventh of the rate with the lowest loss.

    Args, returns and errors: see ``minimum``.

    >>> import jax.numpy as jnp
    >>> from jaxsched.search.suggest import constant
    >>> float(constant(jnp.float32([0.1, 1.75, 2.0]), jnp.float32([3.0, 1.0, 2.0])))
    0.25
    """
    return minimum(lrs, losses, mask, divide=CONSTANT_DIVISOR)


_ALL: Any = (minimum, steepest, valley, slide, decaying, constant)
RULES = {rule.__name__: rule for rule in _ALL}


def divisor(ratio: Number) -> Any:
    """The divisor of the rate with the lowest loss, for a schedule that ends at ``ratio * peak``.

    3 up to a ratio of 0.1 and 7 from 1 on, as measured; in between, where nothing was measured, a
    straight line in the logarithms.

    >>> from jaxsched.search.suggest import divisor
    >>> round(float(divisor(0.0)), 4), round(float(divisor(1.0)), 4)
    (3.0, 7.0)
    """
    xp: Any = jnp if isinstance(ratio, jax.Array) else np  # a known number compiles nothing
    share = xp.log(xp.clip(ratio, NEAR_ZERO, 1.0) / NEAR_ZERO) / math.log(1.0 / NEAR_ZERO)
    return DECAY_DIVISOR * (CONSTANT_DIVISOR / DECAY_DIVISOR) ** share


def window(losses: ArrayLike, first: int = 0, last: int = 0) -> jax.Array:
    """The points of a curve that fastai uses: without its ends, up to the first NaN.

    Args:
        losses: real [n].
        first: points omitted at the start (fastai: ``n // 10``).
        last: points omitted at the end (fastai: 5).

    Returns:
        bool [n]. The cut is at the first NaN or infinity (fastai: NaN only).

    >>> import jax.numpy as jnp
    >>> from jaxsched.search.suggest import window
    >>> window(jnp.float32([5, 4, 3, 2, jnp.nan, 1]), first=1, last=1).tolist()
    [False, True, True, True, False, False]
    """
    losses = jnp.asarray(losses)
    place = jnp.arange(losses.size)
    finite = jnp.cumprod(jnp.isfinite(losses).astype(jnp.int32)) > 0
    return finite & (place >= first) & (place < losses.size - last)


class _Curve(NamedTuple):
    """The kept points moved to the front; behind them the rates are 1.0 and the losses 0.0."""

    # Under `jit` and `vmap` an array has one length, whatever the mask says. So points are not
    # removed but moved, in their order, and a rule asks `size` or `valid` in place of a length. A
    # rate of 1 and a loss of 0 behind them have finite logarithms and differences: values that a
    # `where` drops must not be a NaN either, which `jax_debug_nans` would report.
    lrs: jax.Array
    losses: jax.Array
    valid: jax.Array
    size: jax.Array  # how many


def _checked_curve(rule: str, lrs: ArrayLike, losses: ArrayLike, mask: ArrayLike | None) -> _Curve:
    """Checks a rule's arguments, and moves the points that count to the front, in their order."""
    lrs, losses = jnp.asarray(lrs, jnp.float32), jnp.asarray(losses, jnp.float32)
    if lrs.ndim != 1 or lrs.size == 0:
        raise ValueError(f"{rule}(lrs=...) must have shape [n], n at least 1, got {lrs.shape}.")
    mask = window(losses) if mask is None else jnp.asarray(mask, bool)
    for name, array in (("losses", losses), ("mask", mask)):
        if array.shape != lrs.shape:
            raise ValueError(
                f"{rule}({name}=...) must have the shape of lrs, {lrs.shape}, got {array.shape}; "
                "for many curves use jax.vmap."
            )
    mask = mask & jnp.isfinite(losses)
    order = jnp.argsort(~mask, stable=True)
    valid = mask[order]
    return _Curve(
        jnp.where(valid, lrs[order], 1.0),
        jnp.where(valid, losses[order], 0.0),
        valid,
        jnp.sum(mask, dtype=jnp.int32),
    )
