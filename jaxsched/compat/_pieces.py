"""Shapes of several libraries that no recipe allows: their numbers have no bounds."""

from __future__ import annotations

import dataclasses
import functools
import operator
from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxsched._arrays import is_concrete, is_whole, to_host
from jaxsched._checks import violates
from jaxsched._text import describe
from jaxsched._types import Leaf
from jaxsched.recipes._arguments import divide, exponential, multiply, value_at
from jaxsched.schedules import _shapes as shapes
from jaxsched.schedules._base import AbstractSchedule, Constant
from jaxsched.schedules._lengths import subtract_steps
from jaxsched.schedules._phase import unfinished
from jaxsched.schedules._repeat import Repeat
from jaxsched.schedules._wrappers import Shift, Window

# The drop-ins take Python numbers, arrays (populations) and tracers alike, so none of them branches
# in Python on a number. `where` chooses a number, in a program by a select. `surely` chooses a
# form, and only if the numbers are known: with traced ones the general form is made, which has the
# same values and costs a piece more. `violates` checks a rule, also of known numbers only.


def where(rule: Callable[..., Any], condition_of: tuple[Leaf, ...], x: Leaf, y: Leaf) -> Leaf:
    """``x`` where the rule holds for numbers that may be traced, else ``y``."""
    if all(map(is_concrete, (*condition_of, x, y))):
        chosen = np.where(rule(*map(to_host, condition_of)), to_host(x), to_host(y))
        return chosen.item() if chosen.ndim == 0 else chosen
    return jnp.where(rule(*condition_of), x, y)


def surely(rule: Callable[..., Any], *numbers: Leaf) -> bool:
    """Whether a rule holds for numbers that are all known."""
    return all(map(is_concrete, numbers)) and bool(np.all(rule(*map(to_host, numbers))))


def plain(x: Leaf) -> Leaf:
    """A known number as Python's, which may be a key."""
    return np.asarray(to_host(x)).item()


def called(where: str, function: Callable[..., Any], *args: object) -> float:
    """The number that a user's function of Python numbers returns; ``args[0]`` is the step."""
    x = function(*args)
    try:
        number = float(x)
    except (TypeError, ValueError):
        number = np.nan
    if not np.isfinite(number):
        raise ValueError(f"{where} must return one finite number, got {describe(x)} at {args[0]}.")
    return number


def larger(x: Leaf, y: Leaf) -> Leaf:
    """The larger of two numbers that may be traced."""
    return where(lambda x, y: x > y, (x, y), x, y)


def smaller(x: Leaf, y: Leaf) -> Leaf:
    """The smaller of two numbers that may be traced."""
    return where(lambda x, y: x < y, (x, y), x, y)


def add(x: Leaf, y: Leaf) -> Leaf:
    """``x + y`` in one dtype, as ``subtract_steps``."""
    return subtract_steps(x, multiply(y, -1))


def floor(x: Leaf) -> Leaf:
    """Cut to a whole number, as ``int(x)`` cuts one that is not negative."""
    if is_whole(x):
        return x
    return int(to_host(x)) if is_concrete(x) and np.ndim(x) == 0 else jnp.floor(x)


def wave(high: Leaf, low: Leaf, steps: Leaf, fix: bool = False) -> AbstractSchedule:
    """Half a cosine down and, unless ``fix``, up again, and so on for ever."""
    fall = shapes.Cosine(high, low, steps)
    return fall if fix else Repeat(fall >> shapes.Cosine(low, high, steps))


def waves(high: Leaf, low: Leaf, steps: Leaf, cycles: Leaf, fix: bool = False) -> AbstractSchedule:
    """So many waves of a cosine within ``steps``; a negative number is its magnitude."""
    halves = where(lambda x: x < 0, (cycles,), multiply(cycles, -2.0), multiply(cycles, 2.0))
    return wave(high, low, part(steps, halves), fix)


def part(steps: Leaf, many: Leaf) -> Leaf:
    """A length divided by a number, which may be 0: a wave of that length does not move."""
    still = lambda many: many == 0
    return where(still, (many,), 2.0**60, divide(steps, where(still, (many,), 1.0, many)))


def held(rises: bool, schedule: AbstractSchedule, end: Leaf) -> AbstractSchedule:
    """One that rises is a warmup, which ends no run: its end is a phase of its own."""
    # A piece holds its last value in any case; only the duration differs, that of a run. After
    # the `Constant` there is none. Without it a range test or a sweep would take the length of a
    # warmup for that of the training.
    return schedule >> Constant(end) if rises else schedule


def onward(schedule: AbstractSchedule) -> AbstractSchedule:
    """The same values, for ever: no run ends with it."""
    length = schedule.duration
    if length is None:
        return schedule
    part = Window(schedule, 0, length) if unfinished(schedule) else schedule
    return part >> Constant(value_at(schedule, length))


def lasting(schedule: AbstractSchedule, steps: Leaf) -> AbstractSchedule:
    """The same values, in a run of ``steps``, which is longer or shorter than the schedule."""
    # A shorter run must not cut the schedule off: peers go on with the curve after the length of
    # the run, and so does a run that is made longer.
    length = schedule.duration
    if length is None or not surely(operator.ne, length, steps):
        return schedule
    if surely(operator.gt, length, steps):  # it goes on, and no run of it is known
        return onward(schedule)
    return Window(schedule, 0, steps)


def polynomial(start: Leaf, end: Leaf, steps: Leaf, power: Leaf) -> AbstractSchedule:
    """``Polynomial``; with a power of 0, which is 1 also at the end (0 ** 0), a constant."""
    end, power = powered(power, start, end)
    return shapes.Polynomial(start, end, steps, power)


def powered(power: Leaf, start: Leaf, end: Leaf) -> tuple[Leaf, Leaf]:
    """The end and the power of a curve that is ``start`` throughout where its power is 0."""
    # All peers compute `remaining ** power`, and 0.0 ** 0 is 1 in Python, NumPy and XLA. The shapes
    # refuse a power of 0: so they get 1 here, between two equal values.
    flat = lambda power: power == 0
    return where(flat, (power,), start, end), where(flat, (power,), 1.0, power)


def moved(schedule: AbstractSchedule, begin: Leaf) -> AbstractSchedule:
    """``Shift``, where there is one."""
    return schedule if surely(lambda begin: begin == 0, begin) else Shift(schedule, begin)


def decay(start: Leaf, factor: Leaf, every: Leaf) -> AbstractSchedule:
    """``start * factor ** (t / every)``; with a factor of 0 it is 0 after step 0."""
    # `Exponential` holds the logarithm of the factor, and 0 has none. A rate of -1e20 stands for
    # it, which is 0 after any step; an infinity would be NaN at step 0 and in every gradient.
    gone = lambda factor: factor == 0
    law: Any = exponential(start, where(gone, (factor,), 1.0, factor), every)
    if surely(lambda factor: factor != 0, factor):
        return law
    return dataclasses.replace(law, rate=where(gone, (factor,), -1e20, law.rate))


def stairs(start: Leaf, factor: Leaf, every: Leaf) -> AbstractSchedule:
    """Multiplied by ``factor``, which may be 0, every so many steps."""
    return Repeat(Constant(start, every), None, factor)


def joined(
    where: str, schedules: Sequence[AbstractSchedule], at: Sequence[Leaf]
) -> AbstractSchedule:
    """One after another, each from its own step 0; ``at`` are the first steps of all but one."""
    # The windows cut a part that is longer than its place, and stretch nothing: a shorter part
    # holds its last value, and one without an end goes on until its milestone.
    parts: list[AbstractSchedule] = []
    begin: Any = 0
    for schedule, step in zip(schedules, at, strict=False):
        if violates(lambda step, begin: step < begin, step, begin):
            raise ValueError(f"{where} must not decrease and be at least 0, got {list(at)!r}.")
        parts.append(Window(schedule, 0, subtract_steps(step, begin)))
        begin = step
    parts.append(schedules[len(at)])
    return functools.reduce(operator.rshift, parts)


@dataclasses.dataclass(frozen=True)
class OfStep:
    """A user's function of the step; equal for equal functions, so they share programs."""

    function: Callable[[Any], Any]

    def __call__(self, step: Leaf, length: Leaf) -> Any:
        return self.function(step)


class OfCycle(OfStep):
    """A user's function of the number of the cycle, which begins with 1."""

    def __call__(self, step: Leaf, length: Leaf) -> Any:
        return self.function(1 + step // length)
