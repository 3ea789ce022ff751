"""Schedules given by points: thousands of them cost one binary search, not a chain of branches."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxsched import _number as num
from jaxsched._arrays import is_concrete, to_host
from jaxsched._number import Number, Value
from jaxsched._struct import numbers, struct
from jaxsched._types import Leaf
from jaxsched.schedules._base import AbstractSchedule
from jaxsched.schedules._phase import Phase, cut, known
from jaxsched.schedules._progress import Progress, mirrored, progress


@struct
class PiecewiseConstant(AbstractSchedule):
    """A value per interval; the value at a boundary is already the new one.

    Integers for values, all of them, make an integer schedule: it gives int32, for a number of
    micro-batches, a batch size or a length (``optax.MultiSteps(tx, js.PiecewiseConstant(...))``).

    Args:
        boundaries: strictly increasing steps, int32 or float32 [K]; a list is made an array.
        values: the *absolute* values of the K + 1 intervals, float32 or int32 [K + 1].

    >>> import jaxsched as js
    >>> drops = js.PiecewiseConstant([10, 20], [1.0, 0.5, 0.25])
    >>> [float(drops(t)) for t in (9, 10, 20)]
    [1.0, 0.5, 0.25]
    """

    boundaries: Leaf = numbers(increasing=True, at_least=0)
    values: Leaf = numbers()

    def __check_init__(self) -> None:
        require_lengths(self, "boundaries", "values", 1)

    @property
    def duration(self) -> Leaf:
        return _last(self.boundaries)

    def value_at(self, t: Number) -> Value:
        return _entry(t, self.values, count_reached(self.boundaries, num.nudge(t)))

    def phases(self) -> list[Phase]:
        return _between(type(self).__name__, edges(self.boundaries), None)


@struct
class Table(AbstractSchedule):
    """One value per step, the last one held: any curve, from anywhere.

    Args:
        values: the value of each update, float32 [N], N >= 1; a list is made an array. All
            integers make an integer schedule, as in ``js.PiecewiseConstant``.

    >>> import jaxsched as js
    >>> float(js.Table([1.0, 0.5, 0.25])(1))
    0.5
    """

    values: Leaf = numbers()

    def __check_init__(self) -> None:
        if hasattr(self.values, "shape") and self.values.shape[-1] < 1:
            raise ValueError("Table(values=...) must hold at least one value, got none.")

    @property
    def duration(self) -> int:
        return int(self.values.shape[-1])

    def value_at(self, t: Number) -> Value:
        index = num.to_int32(num.nudge(num.at_least_zero(t)))
        last = np.int32(self.values.shape[-1] - 1)
        return _entry(t, self.values, num.minimum(index, last))


def _entry(t: Number, values: Leaf, index: Value) -> Value:
    # Integers stay integers, for `optax.MultiSteps`; an array of them was made int32 when it came.
    value = num.take(values, index)
    return value if values.dtype == np.int32 else num.as_value(t, value)


@struct
class AbstractKnots(AbstractSchedule):
    steps: Leaf = numbers(increasing=True, at_least=0)
    values: Leaf = numbers()

    def __check_init__(self) -> None:
        require_lengths(self, "steps", "values", 0)

    @property
    def duration(self) -> Leaf:
        return _last(self.steps)

    def _segment(self, t: Number) -> tuple[Value, Value, Progress]:
        """Indices of the knots around ``t``, and the progress between them."""
        # Before the first knot and after the last one, the nearest segment counts, and its progress
        # is held at 0 and at 1: so the end values hold. A single knot is both ends of its segment.
        last = self.steps.shape[-1] - 1
        reached = count_reached(self.steps, t)  # no nudge: both segments meet in a knot
        index = num.maximum(num.minimum(reached, np.int32(max(last, 1))) - 1, np.int32(0))
        following = num.minimum(index + 1, np.int32(last))
        begin = num.take_number(t, self.steps, index)
        end = num.take_number(t, self.steps, following)
        return index, following, progress(t - begin, end - begin)

    def _at(self, knot: Value, t: Number) -> Value:
        return num.as_value(t, num.take(self.values, knot))

    def phases(self) -> list[Phase]:
        knots = edges(self.steps)
        return _between(type(self).__name__, knots, knots[-1])


@struct
class PiecewiseLinear(AbstractKnots):
    """Straight lines through knots; the first and the last value hold outside.

    Args:
        steps: strictly increasing steps of the knots, int32 or float32 [K], K >= 1.
        values: absolute values there, float32 [K].

    >>> import jaxsched as js
    >>> float(js.PiecewiseLinear([0, 10, 20], [0.0, 1.0, 0.0])(15))
    0.5
    """

    def value_at(self, t: Number) -> Value:
        i, j, at = self._segment(t)
        return self._at(i, t) * at.left + self._at(j, t) * at.done


@struct
class PiecewiseCosine(AbstractKnots):
    """Half cosines through knots: flat at each; the first and the last value hold outside.

    Args:
        steps: strictly increasing steps of the knots, int32 or float32 [K], K >= 1.
        values: absolute values there, float32 [K].

    >>> import jaxsched as js
    >>> float(js.PiecewiseCosine([0, 10, 20], [0.0, 1.0, 0.0])(15))
    0.5
    """

    def value_at(self, t: Number) -> Value:
        i, j, at = self._segment(t)
        w_here, w_there = mirrored(at, num.sin_squared)
        return self._at(i, t) * w_here + self._at(j, t) * w_there


@struct
class MonotoneCubic(AbstractKnots):
    """A smooth curve through knots that never overshoots them (PCHIP).

    The end slopes are SciPy's. Slopes are computed in float32, so values are exact to about 1e-6 of
    the knots' range.

    Args:
        steps: strictly increasing steps of the knots, int32 or float32 [K], K >= 2.
        values: absolute values there, float32 [K].

    References: Fritsch & Butland, SIAM J. Sci. Stat. Comput. 5, 1984.

    >>> import jaxsched as js
    >>> curve = js.MonotoneCubic([0, 10, 100], [1.0, 0.5, 0.0])
    >>> float(curve(10)), float(curve(1000))
    (0.5, 0.0)
    """

    def __check_init__(self) -> None:
        if hasattr(self.steps, "shape") and self.steps.shape[-1] < 2:
            raise ValueError(
                f"MonotoneCubic(steps=...) must hold at least 2 knots, got {self.steps.shape[-1]}."
            )

    def value_at(self, t: Number) -> Value:
        i, j, at = self._segment(t)
        traced = isinstance(t, (num.Double, jax.Array))
        slopes = _slopes(self.steps, self.values, jnp if traced else np)
        pick = lambda xs, knot: num.as_number(t, num.take(xs, knot))
        done, left = at.exact()
        slope, next_slope = pick(slopes, i) * at.length, pick(slopes, j) * at.length
        # Hermite's basis in the passed and the remaining part, without differences of near equals.
        rise = done * done * (left * 2.0 + 1.0)
        fall = left * left * (done * 2.0 + 1.0)
        bend = done * left * (left * slope - done * next_slope)
        return num.to_value(fall * pick(self.values, i) + rise * pick(self.values, j) + bend)


def require_lengths(points: AbstractSchedule, name: str, other: str, extra: int) -> None:
    """As many values as there are steps or boundaries, and so many more."""
    steps, values = getattr(points, name), getattr(points, other)
    if not hasattr(steps, "shape") or not hasattr(values, "shape"):
        return
    count = steps.shape[-1]
    if values.shape[-1] != count + extra or count + extra < 1:
        many = f"{count} + {extra}" if extra else f"{max(count, 1)}"
        raise ValueError(
            f"{type(points).__name__}({other}=...) must have {many} values for {count} {name}, got "
            f"{values.shape[-1]}."
        )


def _slopes(steps: Leaf, values: Leaf, xp: ModuleType) -> num.Word:
    """PCHIP's slopes: harmonic means of two secants, or 0 where these differ in sign."""
    # The harmonic mean is near the gentler of the two secants: that bounds the slope, so the cubic
    # does not overshoot. Steps of uneven lengths weigh in by w1 and w2.
    wide = xp is np or values.dtype == np.float64
    kind = np.float64 if wide else np.float32
    x, y = xp.asarray(steps).astype(kind), xp.asarray(values).astype(kind)
    h = xp.diff(x)
    d = xp.diff(y) / h
    if h.shape[-1] == 1:
        return xp.concatenate([d, d])
    # If the secants differ in sign, the knot is a peak, with slope 0. The divisions are by 1 there:
    # a NaN would reach the gradient even if it is not selected.
    same = d[:-1] * d[1:] > 0
    w1, w2 = 2 * h[1:] + h[:-1], h[1:] + 2 * h[:-1]
    one = xp.ones_like(d[1:])
    mean = (w1 + w2) / (w1 / xp.where(same, d[:-1], one) + w2 / xp.where(same, d[1:], one))
    inner = xp.where(same, mean, xp.zeros_like(mean))
    first, last = (_end_slope(h[i], h[j], d[i], d[j], xp)[None] for i, j in ((0, 1), (-1, -2)))
    return xp.concatenate([first, inner, last])


def _end_slope(h0: num.Word, h1: num.Word, d0: num.Word, d1: num.Word, xp: ModuleType) -> num.Word:
    # The slope of the parabola through three knots; 0 or three times the secant if the curve would
    # overshoot with it, as in SciPy.
    slope = ((2 * h0 + h1) * d0 - h0 * d1) / (h0 + h1)
    slope = xp.where(slope * d0 <= 0, xp.zeros_like(slope), slope)
    return xp.where((d0 * d1 <= 0) & (xp.abs(slope) > xp.abs(3 * d0)), 3 * d0, slope)


_WIDE = (np.uint32, np.int64, np.uint64, np.float64)


def count_reached(boundaries: Leaf, t: Number) -> Value:
    """How many boundaries are at or before ``t``; exact beyond 2^24, where float32 skips steps."""
    # An array of float32 cannot be searched for a Double. So the Double becomes one number with the
    # same order to all boundaries: an int32 for integers; else a float32, its upper word or the
    # float32 below. Only boundaries beyond both types are compared word by word.
    t = num.at_least_zero(t)
    if not isinstance(t, (num.Double, jax.Array)):
        return np.searchsorted(np.asarray(boundaries, np.float64), t, side="right").astype(np.int32)
    if boundaries.dtype in _WIDE and isinstance(t, num.Double):
        # Beyond int32 and float32. Counted, as few schedules have enough to make a search quicker.
        return jnp.sum(t[..., None] >= num.as_double(boundaries), -1, dtype=jnp.int32)
    boundaries = jnp.asarray(boundaries)
    key: Any
    if boundaries.dtype == jnp.int32:
        key = num.to_int32(t)
    elif isinstance(t, num.Double):
        # b <= hi + lo: where lo is negative, only the b below hi.
        hi, boundaries = jax.lax.stop_gradient(t.hi), boundaries.astype(jnp.float32)
        below = jnp.nextafter(hi, jnp.full_like(hi, np.finfo(np.float32).min))
        key = jnp.where(t.lo < 0, below, hi)
    else:
        key, boundaries = t, boundaries.astype(jnp.float64)
    # The default method, a binary search in a loop, is the fast one for many boundaries; a few are
    # counted faster one by one (benchmarks/first.py). Only so can an explicit mesh count.
    few = boundaries.shape[-1] <= 16 or num.explicit_sharding(key) is not None
    method = "compare_all" if few else "scan"
    return jnp.searchsorted(boundaries, key, side="right", method=method).astype(jnp.int32)


def edges(points: Leaf) -> list[float]:
    """Where phases begin: at 0 and at every later point."""
    if np.ndim(points) > 1 or not is_concrete(points):
        known(points)  # raises
    return [0, *(p for p in np.asarray(to_host(points)).tolist() if p > 0)]


def _between(name: str, begins: list[float], end: float | None) -> list[Phase]:
    """The phases that begin at ``begins``, without empty ones."""
    return cut([Phase(name, a, b) for a, b in zip(begins, [*begins[1:], end], strict=True)], end)


def _last(steps: Leaf) -> Leaf:
    if steps.shape[-1] == 0:
        return 0
    last = steps[..., -1]
    return last.item() if is_concrete(last) and np.ndim(last) == 0 else last
