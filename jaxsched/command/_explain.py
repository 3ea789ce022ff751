"""A schedule in words, as a line of blocks, as Python and as JSON: for a terminal."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from jaxsched import _serialize
from jaxsched._arrays import to_host
from jaxsched._checks import checked_whole
from jaxsched._populations import require_schedule
from jaxsched._struct import Record
from jaxsched._text import to_source
from jaxsched.controllers._base import AbstractController
from jaxsched.schedules._base import AbstractSchedule
from jaxsched.schedules._phase import known_duration, phases_of
from jaxsched.schedules._picture import extent

_BLOCKS = "▁▂▃▄▅▆▇█"
_MOST = 6  # phases that are told one by one


def explain(schedule: Any) -> str:
    """A schedule or controller in words, a line of blocks, values, JSON and the Python line.

    >>> import jaxsched as js
    >>> from jaxsched.command import explain
    >>> print(explain(js.warmup_cosine(0.1, 100, 10)).splitlines()[0])
    Linear from 0 to 0.1 in 10 steps, then Cosine from 0.1 to 0 in 90 steps, which holds.
    """
    base = schedule
    around = []
    while isinstance(base, AbstractController):
        around.append(type(base).__name__)
        base = base.base
    _required("explain", base)
    lines = [_sentence(base), "", f"  {sparkline(base)}", ""]
    if around:
        lines[0] = f"{' of '.join(around)}, which acts on: {lines[0]}"
    lines += [f"  step {step:<10g} {base.host(step):.6g}" for step in _marks(base)]
    try:
        data = _serialize.to_json(schedule)
    except TypeError:
        data = "none: a function is code, not data"
    return "\n".join([*lines, "", f"JSON    {data}", f"Python  {python_line(schedule)}"])


def sparkline(schedule: AbstractSchedule, width: int = 64) -> str:
    """The curve in one line of blocks; the lowest block is 0, or the least value below it.

    >>> import jaxsched as js
    >>> from jaxsched.command import sparkline
    >>> sparkline(js.Linear(0.0, 1.0, 100), 8)
    '▁▂▃▄▅▆▇█'
    """
    _required("sparkline", schedule)
    width = checked_whole("sparkline(width=...)", width, 2, 1000)
    values = np.asarray(schedule.host(np.rint(np.linspace(0, extent([schedule]), width))))
    known = values[np.isfinite(values)]
    low, high = min([0.0, *known]), max([0.0, *known])
    scaled = (np.nan_to_num(values, posinf=high, neginf=low) - low) / ((high - low) or 1.0)
    return "".join(_BLOCKS[round(float(x) * 7)] for x in scaled)


def python_line(x: Any) -> str:
    """The Python expression that makes a schedule or controller, with ``js`` and ``np``.

    >>> import jaxsched as js
    >>> from jaxsched.command import python_line
    >>> python_line(js.warmup_linear(0.1, 100, 10) * 2)
    '(js.Linear(0.0, 0.1, 10) >> js.Linear(0.1, 0.0, 90)) * js.Constant(2.0)'
    """
    if isinstance(x, tuple):
        return f"[{', '.join(map(python_line, x))}]"
    if not isinstance(x, Record):
        return to_source(x)
    symbol = getattr(x, "_symbol", "")
    parts = getattr(x, "parts", ())
    if symbol and len(parts) > 1:
        return symbol.join(_operand(part) for part in parts)
    given: list[str] = []
    named = False
    for field in dataclasses.fields(x):
        value = getattr(x, field.name)
        if _is_default(field.default, value):
            named = True
            continue
        rank = x.ranks.get(field.name)
        text = python_line(value) if rank is None else to_source(value, rank)
        given.append(f"{field.name}={text}" if named or len(given) > 2 else text)
    return f"js.{type(x).__name__}({', '.join(given)})"


def _operand(part: Any) -> str:
    text = python_line(part)
    return f"({text})" if getattr(part, "_symbol", "") else text


def _is_default(default: Any, value: Any) -> bool:
    if default is dataclasses.MISSING or value is None or default is None:
        return value is None
    return np.ndim(value) == 0 and bool(np.all(to_host(value) == default))


def _required(caller: str, schedule: Any) -> None:
    require_schedule(f"{caller}(schedule=...)", schedule)


def _sentence(schedule: Any) -> str:
    phases = phases_of(schedule)
    shown = [_phase(schedule, *phase) for phase in phases[:_MOST]]
    if len(phases) > _MOST:
        shown[_MOST - 1] = f"{len(phases) - _MOST + 1} more phases"
    end = phases[-1].end
    held = "which goes on" if end is None and known_duration(schedule) is None else "which holds"
    return f"{', then '.join(shown)}, {held}."


def _phase(schedule: Any, name: str, start: float, end: float | None) -> str:
    first = schedule.host(start)
    if end is None:
        return f"{name} from {first:.4g}"
    last = schedule.host(end - (end - start) * 1e-7)
    length = f"{end - start:g} step{'s' * (end - start != 1)}"
    if last == first:
        return f"{name} {first:.4g} for {length}"
    last = last if abs(last) > 1e-6 * abs(first) else 0.0
    return f"{name} from {first:.4g} to {last:.4g} in {length}"


def _marks(schedule: Any) -> list[float]:
    """Steps at which something begins or ends, and the ones before."""
    starts = [phase.start for phase in phases_of(schedule)[1 : _MOST + 1]]
    found = {0.0, float(extent([schedule])), *starts, *(max(0.0, step - 1) for step in starts)}
    return sorted(found)
