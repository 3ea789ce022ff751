"""The result of a range test: the object with the answer, and its reading off the curves.

Each seed is read by itself, in float64 and with NumPy: the reading is the same on every device. A
reading is a rate, or a sentence with the reason why there is none. The answer is the median of the
rates: one odd seed moves it little, while a mean of logarithms would follow it. If half of the
seeds have no rate, the test has none: its reason is the seeds' most frequent one.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from jaxsched._checks import checked_flag
from jaxsched.schedules._picture import axes_of
from jaxsched.search import suggest
from jaxsched.search.range_tests._target import TargetShape
from jaxsched.search.trials._trials import Followed, Trial, Trials

if TYPE_CHECKING:
    from matplotlib.axes import Axes

STEPS_PER_DECADE = 100 / 3  # at which the divisors were measured
# Where batches are noisy, a ramp k times slower is lowest at a rate about k**0.8 times smaller:
# bias 3.65 2.92 2.21 1.49 1.14 0.76 at 15 25 33 50 75 120 steps a decade (8 MLPs, 6 seeds).
_SPEED_POWER, _SPEED_LIMIT, _NOISY = 0.8, 2.0, 0.01
# Share of the fall: all points below are one bottom. Its middle, by ratio, varies less than its
# lowest point.
_BOTTOM = 0.1
_MODEL_FACTOR = 2.0  # 91 % of the measured best peaks lie within it
_SEED_FACTOR = 1.5  # one seed varies by 1.4-1.5 (one standard deviation)
_AGREE_FACTOR = 4.0  # seeds that vary by more do not agree


def first_tenth(steps: int) -> int:
    """The number of updates at the start that show where the loss begins."""
    return max(steps // 10, 5)


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class RangeTest:
    """The result of a range test; ``print`` it, ``plot`` it, and ``confirm`` it by a small sweep.

    Every number is a Python float and none is ever NaN.

    Attributes:
        peak: the suggested largest rate of the real run, inside the range of the test; or ``None``.
        reason: why there is no peak, or ``None``. It begins with "diverged at once:", "flat:",
            "noise:" or "no descent:" and suggests a change.
        interval: (low, high): a factor 2, since the rule does not know the model, and the spread
            of the seeds. On data kept apart the best peak was within the factor in 7 of 12 cases
            for a cosine and in 4 of 12 for a constant rate; a miss costs little.
        start: the rate of the real run's first update, if it follows the given schedule.
        end: the rate at its end: the schedule's own ratio of end to peak, 0.0 for a decay.
        stable: the largest rate before the smoothed loss came back to its level at the start
            (median of the seeds): a ceiling, not a rate to train at.
        stable_is_bound: whether it had not come back by the end of the test either.
        still_falling: whether most curves were lowest at their very end, so that the best peak may
            be larger than ``peak``: repeat with a larger ``end``.
        peaks: (peak / 2, peak, 2 peak), cut to the range, to be confirmed by a sweep; or ().
        spread: geometric standard deviation of the picks over the seeds, a factor from 1.
        ratio: end over peak of the schedule that the peak is for.
        seeds: the seeds [S].
        picks: each seed's own peak, float64 [S]; 0.0 for a seed without one.
        rates: the ramp, float32 [n].
        losses, smooth: raw and smoothed loss, float32 [S, n]; where not ``kept``, the raw loss at
            which the seed diverged, and its lowest smoothed one.
        kept: bool [S, n], false from where a seed diverged.
    """

    rates: np.ndarray
    losses: np.ndarray
    smooth: np.ndarray
    kept: np.ndarray
    picks: np.ndarray
    seeds: tuple[int, ...]
    ratio: float
    spread: float
    _target: TargetShape
    peak: float | None = None
    reason: str | None = None
    interval: tuple[float, float] | None = None
    start: float | None = None
    end: float | None = None
    stable: float | None = None
    stable_is_bound: bool = False
    still_falling: bool = False
    peaks: tuple[float, ...] = ()

    @property
    def diverged_at(self) -> tuple[int | None, ...]:
        """For each seed the update (from 0) at which it diverged, or ``None``."""
        counts = self.kept.sum(axis=1).tolist()
        return tuple(None if count == len(self.rates) else count for count in counts)

    @property
    def schedule(self) -> Followed | None:
        """The given schedule, controller or recipe with the suggested peak, or ``None``."""
        if self.peak is None or self._target.make is None:
            return None
        return self._target.make(self.peak)

    def confirm(self) -> Trials:
        """The given schedule at half, once and twice the suggested peak: trials for ``js.sweep``.

        They are named by their peaks, which are their settings. They schedule all hyperparameters
        of the test: the one that rose, and the constant ones. ``trial.schedule`` is a trial's
        schedule.

        Raises:
            ValueError: if there is no peak, or ``range_test`` was given no schedule or recipe. Then
                use ``peaks``, as in ``js.grid(js.cosine_decay, steps=[2000], peak=found.peaks)``.
        """
        target, make = self._target, self._target.make
        if self.peak is None:
            raise ValueError(f"RangeTest.confirm() must have a peak, got none: {self.reason}")
        if make is None:
            raise ValueError(
                "RangeTest.confirm() must have been told the schedule: "
                "range_test(schedule=...) may be one, or a recipe that only lacks its peak. "
                "Or sweep over `peaks`: js.grid(js.cosine_decay, steps=[2000], peak=found.peaks)."
            )
        schedules = [{target.name: make(peak), **target.others} for peak in self.peaks]
        return tuple(
            Trial(f"peak={peak:.3g}", {"peak": peak}, one, target.kind)
            for peak, one in zip(self.peaks, schedules, strict=True)
        )

    def suggestions(self) -> dict[str, float | None]:
        """The pick of each rule of ``js.search.suggest``: median over the seeds, or ``None``.

        The rules see the curve as fastai's do: without its first tenth and its last 5 points, and
        cut where it diverged. A pick outside of the range of the test is moved to its edge.
        """
        low, high = float(self.rates[0]), float(self.rates[-1])
        by_rule: dict[str, float | None] = {}
        curves = jax.device_put((self.rates, self.smooth, self.kept))
        for name, rows in jax.device_get(_suggestions(*curves)).items():
            picks = np.asarray(rows, np.float64)
            picks = picks[picks > 0].clip(low, high)
            by_rule[name] = _median(picks) if len(picks) else None
        return by_rule

    def __repr__(self) -> str:
        if self.peak is None or self.interval is None:
            return f"RangeTest: no suggestion, {self.reason}"
        used = int(np.sum(self.picks > 0))
        bound = " or more" if self.stable_is_bound else ""
        vary = f", which vary by a factor {self.spread:.2f}" if used > 1 else ""
        lines = [
            f"RangeTest: peak {self.peak:.3g} ({self.interval[0]:.3g} to {self.interval[1]:.3g}), "
            f"end {self.end:.3g}, for a schedule that ends at {self.ratio:.3g} of its peak",
            f"  stable up to {self.stable:.3g}{bound}; {used} of {len(self.seeds)} seeds{vary}; "
            "confirm with " + ", ".join(f"{peak:.3g}" for peak in self.peaks),
        ]
        if self.still_falling:
            lines.append(
                "  the loss was still falling at the end of the test: repeat to a larger end"
            )
        return "\n".join(lines)

    def plot(self, ax: Axes | None = None, *, rules: bool = False) -> Axes:
        """Draws the smoothed loss against the rate; shows no window.

        The line is the median over the seeds that have not diverged, the band reaches from the
        lowest to the highest of them. Marked are the peak with its interval and the largest stable
        rate.

        Args:
            ax: the axes to draw on; by default the axes of a new figure of ``matplotlib.pyplot``.
            rules: whether to mark the picks of fastai's rules, too.

        Returns:
            The axes.

        Raises:
            ImportError: if matplotlib is not installed.
        """
        checked_flag("plot(rules=...)", rules)
        ax = axes_of(ax, "RangeTest.plot")
        curves: Any = np.ma.masked_array(self.smooth, ~self.kept)
        shown = self.kept.sum(axis=0) * 2 >= len(self.seeds)  # the rest speaks for a minority
        rates, curves = self.rates[shown], curves[:, shown]
        middle = np.ma.median(curves, axis=0)
        ax.fill_between(rates, curves.min(axis=0), curves.max(axis=0), alpha=0.25, linewidth=0)
        ax.plot(rates, middle, label=f"loss, median of {len(self.seeds)} seeds")
        if self.peak is not None and self.interval is not None and self.stable is not None:
            ax.axvspan(*self.interval, color="C2", alpha=0.12, linewidth=0)
            ax.axvline(self.peak, color="C2", label=f"peak {self.peak:.2g}")
            bound = ", or more" if self.stable_is_bound else ""
            label = f"stable up to {self.stable:.2g}{bound}"
            ax.axvline(self.stable, color="C3", linestyle="--", label=label)
        if rules:
            suggested = self.suggestions()
            for mark, rule in zip("osv^", ("minimum", "steepest", "valley", "slide"), strict=True):
                rate = suggested[rule]
                if rate is not None:
                    y = float(np.interp(np.log(rate), np.log(rates), middle))
                    ax.plot([rate], [y], mark, color="0.3", label=f"{rule} {rate:.2g}")
        if self.peak is not None:  # losses that blow up at the end get no room
            low, level = float(middle.min()), float(middle[: first_tenth(len(self.rates))].max())
            low = min(low, float(curves[:, rates <= self.stable].min()))
            ax.set_ylim(low - 0.1 * (level - low), level + 0.5 * (level - low))
        ax.set_xscale("log")
        ax.set_xlabel("learning rate")
        ax.set_ylabel("training loss, smoothed")
        if self.reason is not None:
            ax.set_title(f"no suggestion: {self.reason.split(':')[0]}", fontsize="medium")
        ax.legend(frameon=False, fontsize="small")
        return ax


@jax.jit
@functools.partial(jax.vmap, in_axes=(None, 0, 0))
def _suggestions(rates: jax.Array, smooth: jax.Array, kept: jax.Array) -> dict[str, jax.Array]:
    mask = kept & suggest.window(smooth, first=len(rates) // 10, last=5)
    return {name: rule(rates, smooth, mask) for name, rule in suggest.RULES.items()}


# ----------------------------------------------------------------------------- reading the curves


def read(
    rates: np.ndarray,
    losses: np.ndarray,
    smooth: np.ndarray,
    kept: np.ndarray,
    seeds: tuple[int, ...],
    target: TargetShape,
    smoothing: float,
) -> RangeTest:
    """Sums up the curves [S, n] of all seeds."""
    low, high = float(rates[0]), float(rates[-1])
    divisor = float(suggest.divisor(target.ratio))
    curves = zip(losses.astype(np.float64), smooth.astype(np.float64), kept, strict=True)
    reads = [_read_curve(rates.astype(np.float64), *curve, smoothing) for curve in curves]
    good = [one for one in reads if isinstance(one, _Reading)]
    failures = [one for one in reads if isinstance(one, str)]
    picks = np.array([0.0 if isinstance(one, str) else one.lowest / divisor for one in reads])
    facts: dict[str, Any] = {"spread": _geometric_deviation(picks[picks > 0])}
    if len(failures) >= len(good):
        kinds = [text.split(":")[0] for text in failures]
        facts["reason"] = failures[kinds.index(max(kinds, key=kinds.count))]
    elif facts["spread"] > _AGREE_FACTOR:
        facts["reason"] = (
            f"noise: the seeds' peaks differ by a factor {facts['spread']:.1f} (one standard "
            "deviation); use larger batches or more steps."
        )
    else:
        peak = min(max(_median(picks[picks > 0]), low), high)
        # Two or three seeds may agree by luck: they count as if they varied as seeds usually do.
        deviation = max(facts["spread"], _SEED_FACTOR if len(good) < 4 else 1.0)
        # The median of normal numbers varies sqrt(pi / 2) times as much as their mean.
        of_median = 1.2533 * math.log(deviation) / math.sqrt(len(good))
        # The rule's own error and the seeds' error are independent factors: their logarithms add up
        # as squares. 1.645 deviations: 90 % of a normal number.
        factor = math.exp(math.hypot(math.log(_MODEL_FACTOR), 1.645 * of_median))
        facts |= {
            "peak": peak,
            "interval": (max(peak / factor, low), min(peak * factor, high)),
            "start": peak * target.begin,
            "end": peak * target.ratio,
            "stable": _median(np.array([one.stable for one in good])),
            "stable_is_bound": 2 * sum(one.unbroken for one in good) > len(good),
            "still_falling": 2 * sum(one.falling for one in good) > len(good),
            "peaks": tuple(min(max(peak * times, low), high) for times in (0.5, 1.0, 2.0)),
        }
    arrays = (rates, losses, smooth, kept, picks)
    for array in arrays:
        array.flags.writeable = False
    return RangeTest(*arrays, seeds, target.ratio, _target=target, **facts)


@dataclasses.dataclass(frozen=True)
class _Reading:
    lowest: float  # the rate with the lowest smoothed loss, as in a ramp of the usual speed
    stable: float  # the last rate before the smoothed loss came back to its level
    unbroken: bool  # it never came back
    falling: bool  # its bottom is at the end


def _read_curve(
    rates: np.ndarray, losses: np.ndarray, smooth: np.ndarray, kept: np.ndarray, smoothing: float
) -> _Reading | str:
    """The reading of one seed's curve, or why there is none."""
    count, first = int(kept.sum()), first_tenth(len(rates))
    at = f"at the rate {rates[min(count, len(rates) - 1)]:.3g} (update {count})"
    if count <= first:
        return f"diverged at once: the loss was not finite {at}; use a smaller start."
    # A loss that ends in a minimum exactly (it is the same for good) says nothing of larger rates:
    # the gradient is 0, and any rate leaves the state where it is. So the curve ends there, if it
    # is lowest there and stays for ten updates.
    settled = int(np.max(np.flatnonzero(losses[:count] != losses[count - 1]), initial=0)) + 1
    ended = count - settled >= 10 and losses[settled] <= np.min(losses[:count])
    used = max(settled + 1, first + 1) if ended else count
    losses, smooth = losses[:used], smooth[:used]
    lowest = first + int(np.argmin(smooth[first:]))
    # The noise of one batch, from the distance of neighbors: two normal numbers are 2/sqrt(pi)
    # deviations apart on average, and a slow fall changes little between two updates. `remains` is
    # its part in the difference of a mean of the first losses (variance 1 / first) and a moving
    # average.
    noise = math.sqrt(math.pi) / 2 * float(np.mean(np.abs(np.diff(losses[: lowest + 1]))))
    remains = noise * math.sqrt((1 - smoothing) / (1 + smoothing) + 1 / first)
    mean = float(np.mean(losses[:first]))
    # The first loss is older than any update: too large a start can't have raised it.
    rising = np.mean(np.diff(losses[:first]) > 0) > 0.8
    if mean > losses[0] + max(3 * abs(losses[0]), 0 if rising else 10 * noise):
        return (
            f"diverged at once: the loss rose from {losses[0]:.4g} to {mean:.4g} on average up to "
            f"the rate {rates[first - 1]:.3g}; use a smaller start."
        )
    # The loss begins at the mean of its first tenth, unless too large a start has raised this mean.
    level = min(mean, losses[0] + 3 * noise)
    needed = max(3 * remains, 1e-4 * abs(level))
    if level - smooth[lowest] <= needed:
        rose = count < len(rates) or smooth[-1] > level + needed
        return _why_not_fallen(level, needed, noise, rose, rates[-1])
    left, right = _bottom(smooth, first, lowest, level)
    middle = math.sqrt(rates[left] * rates[right])
    noisy = noise > _NOISY * (level - smooth[lowest])
    back = np.flatnonzero(smooth[lowest:] > level)
    broken = lowest + int(back[0]) if len(back) else used
    return _Reading(
        lowest=_at_usual_speed(middle, rates, noisy),
        stable=float(rates[broken - 1]),
        unbroken=not len(back) and (ended or count == len(rates)),
        falling=right == len(rates) - 1 and left >= len(rates) - first,
    )


def _bottom(smooth: np.ndarray, first: int, lowest: int, level: float) -> tuple[int, int]:
    """The first and last update of the bottom around the lowest one, after ``first``."""
    outside = np.flatnonzero(smooth > smooth[lowest] + _BOTTOM * (level - smooth[lowest]))
    left = max([first, *(outside[outside < lowest] + 1)])
    right = min([len(smooth), *outside[outside > lowest]]) - 1
    return left, right


def _at_usual_speed(rate: float, rates: np.ndarray, noisy: bool) -> float:
    """The rate of the lowest loss, converted to a ramp of the usual speed.

    A slower ramp trains longer before it reaches a rate, so its lowest loss is at a smaller rate:
    measured on noisy curves. Without noise only a faster ramp is corrected.
    """
    pace = np.gradient(np.log10(rates))[int(np.searchsorted(rates, rate))]  # decades per step
    slowness = (1 / (pace * STEPS_PER_DECADE)) ** _SPEED_POWER
    slowness = slowness if noisy else min(slowness, 1.0)
    return float(rate * min(max(slowness, 1 / _SPEED_LIMIT), _SPEED_LIMIT))


def _why_not_fallen(level: float, needed: float, noise: float, rose: bool, end: float) -> str:
    """Why a curve gives no answer if it has not fallen from its level by the needed amount."""
    moved = f"the loss of about {level:.4g} did not fall by more than {needed:.2g}"
    if noise > 0 and needed > 0.05 * abs(level):
        return (
            f"noise: {moved}, which is chance; use larger batches or more steps, or a larger "
            "end if all rates are too small, or a smaller start if all are too large."
        )
    if rose:
        return f"no descent: {moved} before it rose; use a smaller start, an untrained state."
    return f"flat: {moved} up to the rate {end:.3g}; use a larger end."


def _median(rates: np.ndarray) -> float:
    """The median; of an even number the geometric mean of the middle two, since ratios count."""
    return float(np.exp(np.median(np.log(rates))))


def _geometric_deviation(rates: np.ndarray) -> float:
    """The geometric standard deviation, a factor."""
    return float(np.exp(np.std(np.log(rates), ddof=1))) if len(rates) > 1 else 1.0
