"""A schedule in words, as a line of blocks, as Python and as JSON: for a terminal."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from jaxsched import _serialize, controllers
from jaxsched._api import core, tools
from jaxsched._arrays import to_host, to_source
from jaxsched._checks import checked_whole
from jaxsched._populations import require_schedule
from jaxsched._struct import Record
from jaxsched.controllers._base import AbstractController, untold
from jaxsched.schedules._base import AbstractSchedule
from jaxsched.schedules._function import Function
from jaxsched.schedules._noise import Noisy
from jaxsched.schedules._phase import known_duration, phases_of
from jaxsched.schedules._picture import extent
from jaxsched.schedules._repeat import Repeat
from jaxsched.schedules._wrappers import AbstractWrapper, Shift, Stretch, Window

_BLOCKS = "▁▂▃▄▅▆▇█"
_MOST = 6  # phases that are shown one by one


def explain(schedule: Any) -> str:
    """A schedule or controller in words, a line of blocks, values, JSON and the Python line.

    >>> import jaxsched as js
    >>> from jaxsched.command import explain
    >>> print(explain(js.warmup_cosine(0.1, 100, 10)).splitlines()[0])
    Linear from 0 to 0.1 in 10 steps, then Cosine from 0.1 to 0 in 90 steps, which holds.
    """
    # A controller's curve depends on metrics, which are unknown here. So the picture shows a run in
    # which it never acts; a warmup before it, or another wrapper, belongs to the picture.
    base = schedule
    around = []
    while isinstance(base, AbstractController):
        around.append(type(base).__name__)
        base = base.base
    require_schedule("explain(schedule=...)", base)
    base = untold(schedule)
    acting = f"{' of '.join(around)}, which acts on: " if around else ""
    lines = [f"{acting}{_sentence(base)}", "", f"  {sparkline(base)}", ""]
    lines += [
        f"  step {_step_text(step):<10} {base.host(step):.6g}" for step in _landmark_steps(base)
    ]
    data = unless_code(_serialize.to_json, schedule)
    return "\n".join(
        [*lines, "", f"JSON    {data}", f"Python  {unless_code(python_line, schedule)}"]
    )


def unless_code(write: Callable[[Any], str], x: Any) -> str:
    try:
        return write(x)
    except TypeError:
        return "none: a function is code, not data"


def sparkline(schedule: AbstractSchedule, width: int = 64) -> str:
    """The curve in one line of blocks; the lowest block is 0, or the least value below it.

    >>> import jaxsched as js
    >>> from jaxsched.command import sparkline
    >>> sparkline(js.Linear(0.0, 1.0, 100), 8)
    '▁▂▃▄▅▆▇█'
    """
    require_schedule("sparkline(schedule=...)", schedule)
    width = checked_whole("sparkline(width=...)", width, 2, 1000)
    values = np.asarray(schedule.host(np.rint(np.linspace(0, extent([schedule]), width))))
    known = values[np.isfinite(values)]
    low, high = min([0.0, *known]), max([0.0, *known])
    scaled = (np.nan_to_num(values, posinf=high, neginf=low) - low) / ((high - low) or 1.0)
    return "".join(_BLOCKS[round(float(x) * 7)] for x in scaled)


def python_line(x: Any) -> str:
    """The Python expression that makes a schedule or controller, with ``js`` and ``np``.

    Raises:
        TypeError: if it is neither, or a part is a function (``js.from_fn``).

    >>> import jaxsched as js
    >>> from jaxsched.command import python_line
    >>> python_line(js.warmup_linear(0.1, 100, 10) * 2)
    '(js.Linear(0.0, 0.1, 10) >> js.Linear(0.1, 0.0, 90)) * js.Constant(2.0)'
    """
    if not isinstance(x, AbstractController):
        require_schedule("python_line(x=...)", x)
    return _line(x)


def _line(x: Any) -> str:
    """The Python expression of a schedule or controller, or of a part of one."""
    if isinstance(x, tuple):
        return f"[{', '.join(map(_line, x))}]"
    if isinstance(x, Function):
        raise TypeError(f"python_line(x=...) must be data, got a function: {x!r}.")
    if not isinstance(x, Record):
        return to_source(x)
    # `a >> b >> c` is one `Sequence` of three. No operator makes one within another, only the name
    # does: so it is written by its name as well.
    symbol = getattr(x, "_symbol", "")
    parts = getattr(x, "parts", ())
    flat = not any(type(part) is type(x) for part in parts)
    if symbol and len(parts) > 1 and flat:
        return symbol.join(_operand_line(part) for part in parts)
    # The first three arguments by place (start, end, steps), all arguments after a default by name.
    given: list[str] = []
    named = False
    for field in dataclasses.fields(x):
        value = getattr(x, field.name)
        if _is_default(field.default, value):
            named = True
            continue
        rank = x.ranks.get(field.name)
        text = _line(value) if rank is None else to_source(value, rank)
        given.append(f"{field.name}={text}" if named or len(given) > 2 else text)
    name = type(x).__name__
    rooms = [("js.", core), ("js.", tools), ("js.controllers.", controllers)]
    place = next((place for place, room in rooms if hasattr(room, name)), "")
    return f"{place}{name}({', '.join(given)})"


def _operand_line(part: Any) -> str:
    text = _line(part)
    return f"({text})" if getattr(part, "_symbol", "") else text


def _is_default(default: Any, value: Any) -> bool:
    if default is dataclasses.MISSING or value is None or default is None:
        return value is None
    return np.ndim(value) == 0 and bool(np.all(to_host(value) == default))


def _sentence(schedule: Any) -> str:
    """A schedule in words, with its values."""
    if isinstance(schedule, Repeat):
        return f"Repeat of: {_phases_in_words(schedule.schedule)}{_cycles_in_words(schedule)}."
    constant = _is_held(schedule, extent([schedule]))
    if known_duration(schedule) is None and len(phases_of(schedule)) == 1 and not constant:
        parts = [_sentence(part).removesuffix(".") for part in getattr(schedule, "parts", ())]
        if parts:
            return f"{type(schedule).__name__} of ({') and ('.join(parts)})."
    return f"{_phases_in_words(schedule)}, which {'holds' if constant else 'goes on'}."


def _phases_in_words(schedule: Any) -> str:
    """The phases one after another, with the wrappers around all of them."""
    around = []
    inner = schedule
    while isinstance(inner, AbstractWrapper) and not isinstance(inner, Repeat):
        if not isinstance(inner, (Shift, Stretch, Window)):  # their phases are the inner ones
            around.append(f"{type(inner).__name__} of")
        inner = inner.schedule
    # The text has the values of the whole, with the wrappers around it. But noise would make a
    # constant one "from 0.0987 to 0.1012", which is one draw of it.
    phases = phases_of(schedule)
    if "Noisy of" in around:
        is_noisy = lambda x: isinstance(x, Noisy)
        quiet = lambda x: dataclasses.replace(x, limit=0.0, std=0.0) if is_noisy(x) else x
        schedule = jax.tree.map(quiet, schedule, is_leaf=is_noisy)
    shown = [_phase_in_words(schedule, *phase) for phase in phases[:_MOST]]
    if len(phases) > _MOST:
        shown[_MOST - 1] = f"{len(phases) - _MOST + 1} more phases"
    return f"{' '.join(around)}{': ' if around else ''}{', then '.join(shown)}"


def _cycles_in_words(schedule: Repeat) -> str:
    """The change from one cycle to the next."""
    facts = [
        ("each {:g} times as long", schedule.growth),
        ("each times {:g}", schedule.decay),
        ("its first {:g} steps as they are", schedule.warmup),
        ("{:g} cycles", schedule.cycles),
    ]
    known = [text.format(np.asarray(to_host(x)).item()) for text, x in facts if x is not None]
    return ", ".join(["", *(known or ["for ever"])])


def _is_held(schedule: Any, start: float, end: float | None = None) -> bool:
    """Whether the value stays the same between two steps, or from one on."""
    # By samples, since any tree may be constant (a product with 0). From a step on they are spaced
    # by a ratio: evenly spaced ones could be multiples of a period, which all have one value.
    if end is None:
        at = math.ceil(start) + np.floor(np.geomspace(1, 1e9, 61))
    else:
        at = np.linspace(start, end, 61, endpoint=False)
    values = schedule.host(at)
    return bool(np.all(values == schedule.host(start)))


def _phase_in_words(schedule: Any, name: str, start: float, end: float | None) -> str:
    """A phase and its length in words: ``Linear from 0 to 0.1 in 100 steps``."""
    first = schedule.host(start)
    constant = _is_held(schedule, start, end)
    if end is None:
        return f"{name}{' ' if constant else ' from '}{first:.4g}"
    length = f"{_step_text(end - start)} step{'s' * (end - start != 1)}"
    if constant:
        return f"{name} {first:.4g} for {length}"
    # At its end a phase has its last value, unless the next one begins with another: then the value
    # jumps there by more than the phase changed in its last tenth, and the one just before counts.
    # A 0 that the rounding of a length has made 1e-18 is shown as 0.
    early, near, last = schedule.host(end - (end - start) * np.array([0.1, 1e-5, 0.0]))
    last = near if abs(near - last) > 0.5 * abs(early - last) else last
    last = last if abs(last) > 1e-12 * abs(early) else 0.0
    return f"{name} from {first:.4g} to {last:.4g} in {length}"


def _step_text(step: float) -> str:
    return f"{step:.0f}" if float(step).is_integer() else f"{step:.10g}"


def _landmark_steps(schedule: Any) -> list[float]:
    """Steps at which something begins or ends, and the ones before; whole where it lasts any."""
    last = float(extent([schedule]))
    whole = math.ceil if last > 2 else float
    starts = [float(whole(phase.start)) for phase in phases_of(schedule)[1 : _MOST + 1]]
    steps = {0.0, last, *starts, *(max(0.0, step - 1) for step in starts)}
    return sorted(steps)
