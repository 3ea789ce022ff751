"""From epochs, samples, tokens and fractions of the run to steps (optimizer updates), and back.

A schedule counts optimizer updates and nothing else. People think in epochs; this module has the
conversion, with the batch size, the gradient accumulation and the rounding. It guesses nothing from
the type of a number, int or float. All counts are Python integers, so none is lost at 10^13 tokens.
"""

from __future__ import annotations

import bisect
import dataclasses
import functools
import itertools
import math
import operator
from fractions import Fraction
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxsched import _number as num
from jaxsched._arrays import INT32_MAX, as_array, is_concrete, is_list, is_x64, to_host
from jaxsched._bounds import checked_kind
from jaxsched._checks import checked_flag, checked_number, checked_whole
from jaxsched._struct import Record, count, static, struct
from jaxsched._text import describe
from jaxsched._types import Leaf, Step
from jaxsched.schedules._base import AbstractSchedule, Constant
from jaxsched.schedules._evaluate import traced_step
from jaxsched.schedules._paced import Paced
from jaxsched.schedules._piecewise import PiecewiseConstant
from jaxsched.schedules._wrappers import Epochwise

_LONGEST = 2**24  # steps of a schedule of sizes: each one is evaluated


class _Span(NamedTuple):
    """Updates of one size: their first step, the samples and tokens seen there, and their size."""

    step: int
    samples: int
    tokens: int
    per_update: int  # samples
    tokens_per_update: int  # 0 where ``tokens_per_sample`` is not given


def _sizes(default: Any = dataclasses.MISSING) -> Any:
    check = lambda where, x: _checked_sizes(where, x, optional=default is None)
    return dataclasses.field(default=default, metadata={"check": check})


@struct
class Units(Record):
    """The sizes of a run: from them follow lengths in steps, and the samples seen at a step.

    Args:
        batch: samples in one micro-batch, over all devices, at least 1. While it grows: a list of
            (samples, batch), from so many samples seen on this batch, the first from 0; or an
            integer schedule of the step, such as ``js.PiecewiseConstant([1000], [256, 512])``.
        accumulation: micro-batches in one optimizer update (``optax.MultiSteps``,
            ``search.Supervised(accumulation=...)``), at least 1; given as ``batch`` is.
        samples: size of the training set, for ``epochs``.
        tokens_per_sample: for ``tokens``; given as ``batch`` is.
        steps: length of the whole run in updates, for ``fraction``.
        drop_last: whether a last batch that is not full is dropped (the default).

    Lengths are rounded to the nearest whole step, and a positive length is at least one.

    >>> import jaxsched as js
    >>> run = js.Units(batch=32, accumulation=4, samples=50_000)
    >>> run.epochs(1), run.epochs(0.5), run.from_samples(1280)
    (390, 195, 10)

    >>> run = js.Units(batch=[(0, 256), (10_000, 512)], tokens_per_sample=2048)
    >>> run.tokens(100e6), run.samples_at(40), run.tokens_at(40), run.per_update()(40)
    (115, 10240, 20971520, Array(512, dtype=int32))
    """

    batch: Any = _sizes()
    accumulation: Any = _sizes(1)
    samples: int | None = count(default=None, at_least=1, optional=True)
    tokens_per_sample: Any = _sizes(None)
    steps: int | None = count(default=None, at_least=1, optional=True)
    # The sizes of a run are tables of whole numbers (`_ramps`), cut into spans with one size of
    # update (`_spans`): both a count of samples and a step can be looked up in the spans. Python
    # integers and fractions throughout: a float64 has no odd numbers beyond 9 * 10^15, and an epoch
    # of 100 micro-batches, three to an update, is a third more than 33 updates.
    drop_last: bool = static(default=True)

    def __check_init__(self) -> None:
        checked_flag("Units(drop_last=...)", self.drop_last)
        for name in ("samples", "steps"):
            if (value := getattr(self, name)) is not None:
                # An integer beyond int32 may be one here: it never enters a program.
                self.__dict__[name] = checked_whole(f"Units({name}=...)", value, 1)
        self._spans  # noqa: B018  # raises here for a schedule of other values than sizes

    # ------------------------------------------------------------------------- lengths in steps

    def epochs(self, count: float) -> int:
        """Steps in ``count`` passes over the training set.

        An epoch has floor(samples / batch) micro-batches (ceil without ``drop_last``). If some
        do not fill an update, they are carried into the next epoch. (``Supervised`` shuffles for
        whole updates: for its epochs use ``Units(batch=batch * accumulation)``.) If the batch or
        the accumulation changes, an epoch is ``samples`` samples of a stream: none is dropped.
        """
        exact = _exact("epochs(count=...)", count)
        samples = self._need("samples", "epochs")
        if self._grows:
            return self._steps(exact * samples, "samples")
        steps = exact * self._per_epoch(samples)
        # Whole epochs are rounded down: after an epoch of 390.5 updates the 391st has not run. Half
        # an epoch is an approximate length: it is rounded to the nearest.
        if exact.denominator == 1:
            return max(math.floor(steps), int(exact > 0))
        return _whole(steps)

    def from_samples(self, count: float) -> int:
        """Steps for ``count`` samples."""
        return self._steps(_exact("from_samples(count=...)", count), "samples")

    def tokens(self, count: float) -> int:
        """Steps for ``count`` tokens."""
        exact = _exact("tokens(count=...)", count)
        self._need("tokens_per_sample", "tokens")
        return self._steps(exact, "tokens")

    def fraction(self, share: float) -> int:
        """Steps in a ``share`` of the run, from 0 to 1."""
        exact = _exact("fraction(share=...)", share, at_most=1)
        return _whole(exact * self._need("steps", "fraction"))

    # ---------------------------------------------------------------------------- seen at a step

    def samples_at(self, step: Step) -> Leaf:
        """Samples seen before the update number ``step``, after ``step`` updates.

        All batches count as full ones. For logs: the same step as the optimizer's count.

        Args:
            step: whole numbers of at least 0, one or an array; the count must fit into an int64.

        Returns:
            An ``int`` for one step, NumPy's int64 for several. In a program (``step`` is traced)
            the nearest float32; float64 in x64 mode.
        """
        return self._seen("samples", step)

    def tokens_at(self, step: Step) -> Leaf:
        """Tokens seen before the update number ``step``; as ``samples_at``."""
        self._need("tokens_per_sample", "tokens_at")
        return self._seen("tokens", step)

    def per_update(self) -> PiecewiseConstant:
        """The samples of each update, as an integer schedule of the step."""
        return PiecewiseConstant(*self._paces("samples"))

    def by_samples(self, schedule: AbstractSchedule) -> Paced:
        """A schedule in samples, as a schedule in updates.

        While the batch grows, the curve follows the samples seen, as Megatron's rate does. A
        schedule with only its lengths converted to updates has another curve there.

        >>> import jaxsched as js
        >>> run = js.Units(batch=[(0, 10), (100, 50)])
        >>> run.by_samples(js.Linear(0.0, 1.0, 1000)).host(20)
        0.6
        """
        return self._by("samples", schedule)

    def by_tokens(self, schedule: AbstractSchedule) -> Paced:
        """A schedule in tokens, as a schedule in updates; see ``by_samples``."""
        self._need("tokens_per_sample", "by_tokens")
        return self._by("tokens", schedule)

    def by_epochs(self, schedule: AbstractSchedule) -> Epochwise | Paced:
        """A schedule in epochs, as a schedule in updates that moves once an epoch.

        Schedulers with a ``step()`` after each epoch do the same. Epochs begin at ``epochs(1)``,
        ``epochs(2)``, ... (if several begin with one update, the last counts). While the batch
        grows, an epoch begins with the first update after all samples of the earlier epochs, and
        ``epochs`` is the nearest update.

        >>> import jaxsched as js
        >>> run = js.Units(batch=32, accumulation=4, samples=50_000)
        >>> lr = run.by_epochs(js.Linear(1.0, 0.0, 90))
        >>> lr.duration == run.epochs(90), lr(run.epochs(45)), lr(run.epochs(45) - 1) > 0.5
        (True, Array(0.5, dtype=float32), Array(True, dtype=bool))
        """
        samples = self._need("samples", "by_epochs")
        if self._grows:
            return self._by("samples", Epochwise(schedule, samples))
        steps = self._per_epoch(samples)
        return Epochwise(schedule, int(steps) if steps.denominator == 1 else float(steps))

    # --------------------------------------------------------------------------------- in common

    @property
    def _grows(self) -> bool:
        """Whether the batch or the accumulation does, though their product may not."""
        return any(len(stairs) > 1 for _, stairs in self._ramps[:2])

    def _per_epoch(self, samples: int) -> Fraction:
        """Updates of an epoch, where all have one size."""
        batch, accumulation = (stairs[0][1] for _, stairs in self._ramps[:2])
        batches = samples // batch if self.drop_last else -(-samples // batch)
        if batches == 0:
            raise ValueError(
                f"Units(batch=...) must be at most samples={samples} with drop_last, "
                f"got {batch}: there is no full batch."
            )
        return Fraction(batches, accumulation)

    def _need(self, name: str, caller: str) -> int:
        value: Any = getattr(self, name)
        if value is None:
            raise ValueError(f"Units.{caller} must be given Units({name}=...), got None.")
        return value

    def _steps(self, count: Fraction, unit: str) -> int:
        # The last span that begins with at most `count`, and the rest of the count at its pace.
        seen = operator.attrgetter(unit)
        span = self._spans[bisect.bisect_right(self._spans, count, key=seen) - 1]
        steps = span.step + (count - seen(span)) / _pace(span, unit)
        return _whole(steps)

    def _seen(self, unit: str, step: Step) -> Leaf:
        """Samples or tokens before a step: before its span, and in its span so far."""
        where = f"Units.{unit}_at(step=...)"
        step = as_array(step)
        if isinstance(step, jax.core.Tracer):
            t = traced_step(step, np.float64 if is_x64() else np.float32)
            return num.to_value(Paced(Constant(0.0), *self._paces(unit)).inner_step(t))
        try:
            known = np.asarray(to_host(list(step) if is_list(step) else step))
        except ValueError:  # a ragged list
            known = np.asarray(-1)
        most = np.iinfo(np.int64).max // max(_pace(s, unit) for s in self._spans)
        whole = known.dtype.kind in "iuf" and not np.any(known != np.floor(known))
        if not whole or not np.all((known >= 0) & (known <= most)):
            raise ValueError(
                f"{where} must be whole numbers from 0 to {most}, beyond which no int64 counts "
                f"{unit}, got {describe(step)}."
            )
        known = known.astype(np.int64)
        spans = [(s.step, getattr(s, unit), _pace(s, unit)) for s in self._spans]
        begins, passed, paces = np.array(spans, np.int64).T
        span = np.searchsorted(begins, known, side="right") - 1
        seen = passed[span] + (known - begins[span]) * paces[span]
        return seen if seen.ndim else int(seen)

    def _by(self, unit: str, schedule: object) -> Paced:
        where = f"Units.by_{unit}(schedule=...)"
        counted = checked_kind(where, schedule, AbstractSchedule, "a schedule")
        return Paced(counted, *self._paces(unit))

    def _paces(self, unit: str) -> tuple[list[int], list[int]]:
        """The boundaries of the spans, and the samples or tokens of an update in each."""
        return [s.step for s in self._spans[1:]], [_pace(s, unit) for s in self._spans]

    @functools.cached_property
    def _ramps(self) -> list[tuple[bool, list[tuple[int, int]]]]:
        """Of batch, accumulation and tokens: whether it counts samples, and (from, size)."""
        names = ("batch", "accumulation", "tokens_per_sample")
        return [_stairs(f"Units({name}=...)", getattr(self, name), self.steps) for name in names]

    @functools.cached_property
    def _spans(self) -> list[_Span]:
        """The run in parts of one size, in order; the last one never ends."""
        # The loop climbs three staircases together: batch, accumulation and tokens per sample, each
        # by samples or by steps. `at` has the current stair of each. A round adds a span up to the
        # first update with a next stair in any of them. If the product of the sizes does not change
        # (the batch doubles, the accumulation halves), the span goes on.
        ramps = self._ramps
        at, step, samples, tokens = [0, 0, 0], 0, 0, 0
        spans: list[_Span] = []
        while True:
            sizes = [stairs[i][1] for (_, stairs), i in zip(ramps, at, strict=True)]
            per_update = sizes[0] * sizes[1]
            if not spans or spans[-1][3:] != (per_update, per_update * sizes[2]):
                spans.append(_Span(step, samples, tokens, per_update, per_update * sizes[2]))
            # The first updates of the next sizes. If samples decide, the first update with as many
            # samples before it, rounded up by two minus signs.
            ahead = [
                step - (samples - stairs[i + 1][0]) // per_update
                if by_samples
                else stairs[i + 1][0]
                for (by_samples, stairs), i in zip(ramps, at, strict=True)
                if i + 1 < len(stairs)
            ]
            if not ahead:
                return spans
            passed, step = min(ahead) - step, min(ahead)
            samples, tokens = samples + passed * per_update, tokens + passed * per_update * sizes[2]
            for k, (by_samples, stairs) in enumerate(ramps):
                reached = samples if by_samples else step
                while at[k] + 1 < len(stairs) and stairs[at[k] + 1][0] <= reached:
                    at[k] += 1


def _pace(span: _Span, unit: str) -> int:
    return span.per_update if unit == "samples" else span.tokens_per_update


def _exact(where: str, count: Leaf, at_most: float | None = None) -> Fraction:
    """The decimal number that a user wrote: 0.7 is seven tenths, so halves are rounded up."""
    count = checked_number(f"Units.{where}", count, at_least=0, at_most=at_most)
    if not is_concrete(count) or np.ndim(count):
        raise TypeError(f"Units.{where} must be one known number, got {describe(count)}.")
    # Through its shortest text: the float 0.7 itself is 0.6999999999999999556, and 0.7 of 15 steps,
    # 10.5, would be rounded down.
    return Fraction(str(np.asarray(to_host(count))[()]))


def _whole(steps: Fraction) -> int:
    """To the nearest whole number, halves up; at least 1 for a positive number."""
    return max(math.floor(steps + Fraction(1, 2)), int(steps > 0))


def _checked_sizes(where: str, x: Any, optional: bool) -> Any:
    """A size, (samples, size) pairs as a tuple, or an integer schedule.

    Tuples and not the user's list: the field must neither change with it nor have no hash.
    """
    x = as_array(x)
    if isinstance(x, AbstractSchedule) or (x is None and optional):
        return x
    if not (is_list(x) or getattr(x, "ndim", 0) > 0):
        return checked_whole(
            where, x, 1, INT32_MAX, instead=", (samples, size) pairs or a schedule"
        )
    pairs = [tuple(pair) if is_list(pair) or np.ndim(pair) else (pair,) for pair in x]
    if not pairs or any(len(pair) != 2 for pair in pairs):
        raise ValueError(
            f"{where} must be a whole number, a list of (samples, size) or an integer schedule, "
            f"got {describe(x)}."
        )
    sizes = tuple(
        (
            checked_whole(f"{where}: samples of {pair!r}", pair[0], 0),
            checked_whole(f"{where}: size of {pair!r}", pair[1], 1, INT32_MAX),
        )
        for pair in pairs
    )
    begins = [begin for begin, _ in sizes]
    if begins[0] != 0 or any(a >= b for a, b in itertools.pairwise(begins)):
        raise ValueError(
            f"{where} must be (samples, size) from 0 samples on, with more in each, got {x!r}."
        )
    return sizes


def _stairs(where: str, size: Any, steps: int | None) -> tuple[bool, list[tuple[int, int]]]:
    """Whether sizes change with the samples seen and not with the step; (from, size).

    A schedule of sizes becomes a table: all of its steps are evaluated once, on the host, and the
    table keeps the steps with a new value. Without ``tokens_per_sample`` the size is 0.
    """
    if not isinstance(size, AbstractSchedule):
        return (True, list(size)) if isinstance(size, tuple) else (False, [(0, size or 0)])
    length = steps if size.duration is None else math.ceil(float(to_host(size.duration)))
    if length is None or length > _LONGEST:
        raise ValueError(
            f"{where} must be a schedule that has come to its last size after at most {_LONGEST} "
            f"steps, got {size!r}."
        )
    values = size.host(np.arange(length + 1))
    wrong = np.flatnonzero(~((values >= 1) & (values == np.floor(values))))
    if wrong.size:
        raise ValueError(
            f"{where} must be a schedule of whole numbers of at least 1, got {values[wrong[0]]:g} "
            f"at step {wrong[0]} of {size!r}."
        )
    changes = [0, *(np.flatnonzero(np.diff(values)) + 1).tolist()]
    return False, [(at, int(values[at])) for at in changes]
