"""The arguments of recipes: the signature declares each one's kind, and ``@recipe`` checks it.

    @recipe
    def warmup_cosine(peak: Peak, steps: Steps, warmup: Length, end: End = 0.0): ...

So an error names the recipe and its argument, and every length may be a share. The body gets
numbers: known ones are checked, and shares converted to steps. A type checker sees the types for
the caller; ``| None`` allows ``None``. The kinds are defined at the end.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from functools import partial
from types import FunctionType
from typing import Annotated, Any, NamedTuple, TypeVar

import jax.numpy as jnp
import numpy as np

from jaxsched import _types
from jaxsched._arrays import is_concrete, is_list, to_host, to_source
from jaxsched._bounds import check_choice, checked_kind
from jaxsched._checks import (
    check_beside,
    checked_array,
    checked_flag,
    checked_number,
    cure,
    violates,
)
from jaxsched._struct import Record
from jaxsched._text import describe
from jaxsched._types import Leaf
from jaxsched._words import bind
from jaxsched.recipes._arguments import SHAPES, ShapeName
from jaxsched.recipes._share import share
from jaxsched.schedules._base import AbstractSchedule
from jaxsched.schedules._lengths import least, subtract_steps
from jaxsched.schedules._phase import unfinished

F = TypeVar("F", bound=Callable[..., Any])


def recipe(make: F) -> F:
    """Checks the arguments by their annotations, and converts shares to steps."""

    @functools.wraps(make)
    def checked(*args: Any, **kwargs: Any) -> Any:
        # Each argument by itself first, so that an error names the wrong argument and not a
        # relation to it; then the lengths, which need the whole. The body sees consistent numbers.
        function, kinds, order, optional, defaults = _signature(make)
        given = bind(function, list(kinds), defaults, args, kwargs)
        call = _Call(function, kinds, given)
        for name in order:
            if given[name] is not None or name not in optional:
                # An annotation is a text: the name of a kind defined below.
                check = globals()[kinds[name]].__metadata__[0]
                given[name] = check(call, name, given[name])
        _to_steps(call)
        return make(**given)

    return checked  # type: ignore[return-value]


@functools.cache  # at the first call, not at the import of jaxsched
def _signature(
    make: FunctionType,
) -> tuple[str, dict[str, str], list[str], set[str], dict[str, Any]]:
    """Name, kinds, order of checks, optional arguments and defaults of a recipe."""
    words = {name: word for name, word in make.__annotations__.items() if name != "return"}
    kinds = {name: word.removesuffix(" | None") for name, word in words.items()}
    optional = {name for name, word in words.items() if word != kinds[name]}
    # First the arguments that bound others: the whole, since an error converts a share to steps;
    # the peak before the end, since the end is at most the peak.
    order = sorted(kinds, key=lambda name: (kinds[name] == "End") - (kinds[name] in _WHOLES))
    values = make.__defaults__ or ()
    defaults = dict(zip(list(kinds)[len(kinds) - len(values) :], values, strict=True))
    return make.__name__, kinds, order, optional, defaults


class _Call(NamedTuple):
    """The called function, the kinds of its arguments, and their values."""

    function: str
    kinds: dict[str, str]
    given: dict[str, Any]

    def where(self, name: str) -> str:
        return f"{self.function}({name}=...)"

    def named(self, *kinds: str) -> list[str]:
        """The given arguments of these kinds."""
        return [n for n, k in self.kinds.items() if k in kinds and self.given[n] is not None]

    @property
    def order(self) -> str:
        """The arguments, for a caller who wrote them in another library's order."""
        return f"The arguments are ({', '.join(self.kinds)})"

    @property
    def whole(self) -> Leaf:
        """The whole length, for shares; ``None`` if there is none."""
        for name in self.named(*_WHOLES):
            given = self.given[name]
            if self.kinds[name] == "Base":
                return None if unfinished(given) else given.duration
            return given
        return None


_WHOLES = ("Steps", "Cycle", "Base")


# -------------------------------------------------------------------------- one argument by itself


def _checked(call: _Call, name: str, x: Leaf, told: str = "", **bounds: Any) -> Leaf:
    if told:
        told = told.format(function=call.function, order=call.order)
    return checked_number(call.where(name), x, told=told, **bounds)


def _end(call: _Call, name: str, x: Leaf, **bounds: Any) -> Leaf:
    """An end value, which must not be above the peak."""
    x = checked_number(call.where(name), x, **bounds)
    top = "peak" if "peak" in call.kinds else "high"
    told = (
        f": it is a value, not a ratio; a ratio of x is {name}=x * {top}. What rises is a piece, "
        f"such as js.Linear. {call.order}"
    )
    check_beside(call.where(name), x, "at most", top, call.given[top], told)
    return x


def _factors(call: _Call, name: str, xs: Leaf, **bounds: Any) -> Leaf:
    if is_list(xs) or getattr(xs, "ndim", 0) > 0:
        xs = checked_array(call.where(name), xs, False, None)
    return _checked(call, name, xs, **bounds)


def _growth(call: _Call, name: str, x: Leaf, **bounds: Any) -> Leaf:
    x = checked_number(call.where(name), x, **bounds)
    if call.given.get("cycles") is not None:
        return x
    return checked_number(call.where(name), x, at_least=1, told="; below 1 it needs cycles")


def _base(call: _Call, name: str, x: object) -> Any:
    return checked_kind(call.where(name), x, AbstractSchedule, "a schedule", cure)


def _shape(call: _Call, name: str, shape: Any) -> Callable[[Any, Any, Any], AbstractSchedule]:
    """The function of a shape's name, or a user's; each call checks its result."""
    function = "a function (start, end, steps) -> schedule"
    wanted = f"{call.where(name)} must be {function}"
    known = isinstance(shape, str) and shape in SHAPES
    if not known and (not callable(shape) or isinstance(shape, Record)):
        check_choice(call.where(name), shape, SHAPES, f"{function} or ")
    make: Any = SHAPES[shape] if known else shape
    if not known and not _takes_three(shape):
        raise TypeError(f"{wanted}, got one that does not take three arguments: {shape!r}.")

    def piece(start: Leaf, end: Leaf, steps: Leaf) -> AbstractSchedule:
        # These need positive ends. The error names the recipe's argument, not the shape's.
        if known and shape in ("geometric", "harmonic"):
            last = next(n for n in ("end", "constant", "low", "peak") if n in call.kinds)
            for argument, value in (("peak", start), (last, end)):
                if violates(lambda x: x <= 0, value):
                    raise ValueError(
                        f"{call.where(argument)} must be greater than 0 with shape={shape!r}, got "
                        f"{describe(value)}."
                    )
        made = make(start, end, steps)
        if not isinstance(made, AbstractSchedule):
            raise TypeError(f"{wanted}, got one that returned {describe(made)}{cure(made)}.")
        return made

    return piece


def _takes_three(function: Callable[..., Any]) -> bool:
    """Whether it can be called as a shape is; an error of the call would not name the recipe."""
    try:
        inspect.signature(function).bind(0.0, 0.0, 1)
    except ValueError:  # a function in C, which may have no signature
        return True
    except TypeError:
        return False
    return True


# ------------------------------------------------------------------------- lengths, and the whole


def _whole(call: _Call, name: str, x: Leaf, **bounds: Any) -> Leaf:
    if isinstance(x, share):
        raise ValueError(
            f"{call.where(name)} must be a number of steps, got {x!r}: it is the whole that shares "
            "are of."
        )
    return _length(call, name, x, **bounds)


def _length(call: _Call, name: str, x: Leaf, **bounds: Any) -> Leaf:
    if isinstance(x, share):
        return x
    x = checked_number(call.where(name), x, **bounds)
    _check_fraction(call, name, x)
    return x


def _check_fraction(call: _Call, name: str, x: Leaf) -> None:
    """Refuses a number between 0 and 1, a share by mistake, with the arithmetic."""
    if not violates(lambda x: (x > 0) & (x < 1), x):
        return
    single = np.ndim(x) == 0
    said = f"js.share({float(to_host(x)):.6g})" if single else "js.share(...)"
    whole = call.whole
    if call.kinds[name] in _WHOLES:
        repair = f"it is the whole length. {call.order}."
    elif single and is_concrete(whole) and np.ndim(whole) == 0 and whole >= 1:
        steps = f"{share(x).of(whole)} steps, '{share(x)}' in a config"
        repair = f"a share of the {whole} steps is {said} = {steps}."
    else:
        need = "" if whole is not None else f"; it needs {_what_whole(call)}"
        repair = f"a share is {said}{need}."
    raise ValueError(f"{call.where(name)} must be a number of steps, got {describe(x)}: {repair}")


def _what_whole(call: _Call) -> str:
    of_schedule = "Base" in call.kinds.values()
    return "a schedule with a duration" if of_schedule else "the whole length, steps=..."


def _milestones(call: _Call, name: str, xs: Leaf) -> Leaf:
    if is_list(xs):
        return [_length(call, name, x, at_least=0) for x in xs]
    xs = checked_array(call.where(name), xs, True, 0)
    _check_fraction(call, name, xs)
    return xs


def _to_steps(call: _Call) -> None:
    """Converts every share to steps, and checks that the stages fit into the whole.

    The check takes the shares before rounding, since two halves of 11 steps would round to 6 and 6.
    Then the shares are rounded, and the last one is cut to fit.
    """
    given, whole = call.given, call.whole
    stages = {name: given[name] for name in call.named("Length")}
    _check_fit(call, stages)
    for name in call.named("Length", "Apart", "Period"):
        given[name] = _resolved(call, name, given[name])
    _round_into(call, stages)
    for name in call.named("Milestones"):
        points = given[name]
        if isinstance(points, list):
            points = [_resolved(call, name, x) for x in points]
            if any(map(np.ndim, points)):  # of a population: the members' axes are in front
                xp: Any = np if all(map(is_concrete, points)) else jnp
                points = points if xp is jnp else map(to_host, points)
                points = xp.stack(xp.broadcast_arrays(*points), -1)
            points = checked_array(call.where(name), points, True, 0)
        if whole is not None and violates(lambda xs, n: xs >= n[..., None], points, whole):
            raise ValueError(
                f"{call.where(name)} must be at most steps={describe(whole)} - 1, for an update "
                f"with the last value, got {describe(points)}."
            )
        given[name] = points


def _resolved(call: _Call, name: str, x: Leaf) -> Leaf:
    """A share as steps of the whole; numbers of steps unchanged."""
    if not isinstance(x, share):
        return x
    whole = call.whole
    if whole is None:
        raise ValueError(
            f"{call.where(name)} must be a number of steps, got {x!r}: what is open-ended has no "
            f"shares; they need {_what_whole(call)}."
        )
    steps = x.of(whole)
    if call.kinds[name] == "Period" and violates(lambda steps: steps <= 0, steps):
        raise ValueError(
            f"{call.where(name)} must be greater than 0, got {x!r}: {describe(steps)} of "
            f"{describe(whole)} steps."
        )
    return steps


def _check_fit(call: _Call, stages: dict[str, Any]) -> None:
    """Refuses stages longer than the whole, if their lengths are known."""
    whole = call.whole
    if whole is None:
        return
    # If the whole is traced, only the shares can be checked: 0.7 and 0.4 are too much of any number
    # of steps.
    if not is_concrete(whole):
        whole, stages = 1.0, {n: x for n, x in stages.items() if isinstance(x, share)}
    parts = [
        np.asarray(to_host(x.fraction), np.float64) * np.asarray(to_host(whole), np.float64)
        if isinstance(x, share)
        else x
        for x in stages.values()
        if is_concrete(x.fraction if isinstance(x, share) else x)
    ]
    called = lambda: f"{call.function}({', '.join(f'{name}=...' for name in stages)})"
    try:
        if not violates(lambda whole, *parts: sum(parts) > whole * (1 + 1e-9), whole, *parts):
            return
    except ValueError:  # of NumPy: populations of two sizes
        raise ValueError(f"{called()} and steps must have as many members each.") from None
    got = " + ".join(map(to_source, stages.values()))
    scalar = all(np.ndim(part) == 0 for part in parts)
    if scalar and (len(parts) > 1 or any(isinstance(x, share) for x in stages.values())):
        got += f" = {float(sum(parts)):.6g}" + (" of the whole" if call.whole is not whole else "")
    verb = "be at most" if len(stages) == 1 else "fit into"
    raise ValueError(f"{called()} must {verb} steps={to_source(call.whole)}, got {got}.")


def _round_into(call: _Call, stages: dict[str, Any]) -> None:
    """Makes the last share shorter if the rounded stages do not fit: halves of 11 are 6 and 5."""
    shares = [name for name, x in stages.items() if isinstance(x, share)]
    if not shares or len(stages) < 2:
        return
    given, last = call.given, shares[-1]
    rest = call.whole
    for name in stages:
        if name != last:
            rest = subtract_steps(rest, given[name])
    given[last] = least(given[last], rest)


# ------------------------------------------------------------------- the words of the signatures

# Each is the type for the caller, and the check, which returns the value for the recipe's body. The
# bounds are keywords here, so `names` reads them without JAX.

_NEGATIVE = ". What is negative is -1.0 * {function}(...)"
_FALLS = ": a decay falls. To grow, js.exponential_growth or js.piecewise_constant. {order}"

Number = Annotated[_types.Number, partial(_checked)]
Positive = Annotated[_types.Number, partial(_checked, above=0)]
# The largest value; and a value from 0 to it.
Peak = Annotated[_types.Number, partial(_checked, at_least=0, told=_NEGATIVE)]
End = Annotated[_types.Number, partial(_end, at_least=0)]
Ratio = Annotated[_types.Number, partial(_checked, at_least=0, at_most=1)]
PositiveRatio = Annotated[_types.Number, partial(_checked, above=0, at_most=1)]
Divisor = Annotated[_types.Number, partial(_checked, at_least=1)]  # of the peak
# Of a decay; one, or one for each milestone.
Factor = Annotated[_types.Number, partial(_checked, above=0, at_most=1, told=_FALLS)]
Factors = Annotated[Any, partial(_factors, above=0, at_most=1, told=_FALLS)]
# At least 1; with cycles, below 1 too.
Growth = Annotated[_types.Number, partial(_growth, above=0)]
Count = Annotated[_types.Number, partial(_checked, at_least=1, whole=True)]
Numbers = Annotated[Any, lambda call, name, xs: checked_array(call.where(name), xs, False, None)]
Base = Annotated[AbstractSchedule, _base]
# The whole length; the same for one cycle.
Steps = Annotated[_types.Number, partial(_whole, at_least=0)]
Cycle = Annotated[_types.Number, partial(_whole, above=0)]
# Steps or a share: a stage (all stages fit into the whole); a length apart; the same, above 0.
Length = Annotated[_types.Number | share, partial(_length, at_least=0)]
Apart = Annotated[_types.Number | share, partial(_length, at_least=0)]
Period = Annotated[_types.Number | share, partial(_length, above=0)]
Milestones = Annotated[Any, _milestones]  # a list of steps or shares, increasing, within the whole
# A name, or a function (start, end, steps) -> schedule.
Shape = Annotated[ShapeName | Callable[[Any, Any, Any], AbstractSchedule], _shape]
Flag = Annotated[bool, lambda call, name, x: checked_flag(call.where(name), x)]
