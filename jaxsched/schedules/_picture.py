"""The contents of a picture of a schedule: the curve, the starts of phases, the caption."""

from __future__ import annotations

import dataclasses
import importlib
from typing import Any

import jax
import numpy as np

from jaxsched._arrays import is_concrete, to_host
from jaxsched._axes import split
from jaxsched._struct import Record
from jaxsched._svg import svg
from jaxsched._types import Leaf
from jaxsched.schedules._phase import boundaries_of, shown_length

_POINTS = 2000  # of a long curve; one of up to 2.5 times as many steps is drawn in full
_MOST_MARKS = 30  # boundaries; more would hide the curve, so none is marked
_MOST_CURVES = 50
_WIDTH = 300  # pixels


def picture(schedule: Any) -> str:
    """A schedule or a population as SVG text; where a number is traced, the caption alone."""
    known = all(map(is_concrete, jax.tree.leaves(schedule)))
    family = split(schedule) if known else []
    if len(family) > _MOST_CURVES:
        family = [family[i] for i in np.linspace(0, len(family) - 1, _MOST_CURVES).astype(int)]
    last = extent(family) if known else 1
    return svg(
        [curve(member, last, _WIDTH) for member in family],
        shared_boundaries(family, last),
        last,
        title=repr(schedule),
        caption=brief(schedule),
        width=_WIDTH,
        height=90,
    )


def curve(schedule: Any, last: int, points: int = _POINTS) -> tuple[np.ndarray, np.ndarray]:
    """Steps from 0 to ``last`` and the values there; a jump keeps its two neighboring steps."""
    # A curve of 10^6 steps is drawn at 2000 of them. A step between two would be drawn as a slope,
    # so the steps around each boundary are added: the last of the old value and the first of the
    # new one.
    if last < 2.5 * points:
        at = np.arange(last + 1, dtype=np.int32)
    else:
        edges = np.floor(boundaries_of(schedule))
        edges = edges if len(edges) < points / 3 else edges[:0]  # too close for the eye
        near = (edges[:, None] + [-1, 0, 1]).ravel()
        at = np.unique(np.rint([*np.linspace(0, last, points), *near]).clip(0, last))
        at = at.astype(np.int32)
    return at, np.asarray(to_host(schedule(at)))


def extent(schedules: list[Any]) -> int:
    """The last step in the picture of these schedules."""
    length = max(map(shown_length, schedules)) or 100
    return max(1, min(int(np.ceil(length)), 2**31 - 2))


def shared_boundaries(family: list[Any], last: int) -> list[float]:
    """Where a phase of every member begins; none where they would hide the curve."""
    boundaries = [set(boundaries_of(member)) for member in family] or [set()]
    marks = sorted(mark for mark in set.intersection(*boundaries) if 0 < mark < last)
    return marks if len(marks) <= _MOST_MARKS else []


def brief(schedule: Any) -> str:
    """The repr without the names: ``Linear(0, 0.1, 500) >> Cosine(0.1, 0, 9500)``."""
    if schedule._symbol:
        return str(schedule._symbol).join(_operand(p, schedule._symbol) for p in schedule.parts)
    kind: Any = type(schedule)
    if kind.__repr__ is not Record.__repr__:  # it has its own form
        return repr(schedule)
    shown = [
        _field(getattr(schedule, field.name))
        for field in dataclasses.fields(schedule)
        if not _is_default(field.default, getattr(schedule, field.name))
    ]
    return f"{type(schedule).__name__}({', '.join(shown)})"


def _operand(part: Any, symbol: str) -> str:
    if part._symbol:
        return f"({brief(part)})"
    plain = symbol != " >> " and part._is_constant() and hasattr(part, "value")
    return _number(part.value) if plain else brief(part)


def _is_default(default: object, value: Leaf) -> bool:
    if value is None or not isinstance(default, (int, float)):
        return value is None
    return is_concrete(value) and bool(np.all(np.asarray(to_host(value)) == default))


def _field(value: Leaf) -> str:
    if isinstance(value, tuple):
        return ", ".join(map(_field, value))
    return brief(value) if isinstance(value, Record) else _number(value)


def _number(value: Leaf) -> str:
    """A number in four digits; of several the least and the largest."""
    if isinstance(value, jax.core.Tracer) or not is_concrete(value):
        return "?"
    array = np.asarray(to_host(value))
    if array.ndim == 0:
        return f"{array:.4g}" if array.dtype.kind == "f" else f"{array}"
    if not array.size:
        return "none"
    low, high = array.min(), array.max()
    return f"{low:.4g}" if low == high else f"{low:.4g}..{high:.4g}"


def matplotlib(part: str = "", where: str = "js.plot") -> Any:
    """A module of matplotlib, loaded at the first drawing."""
    try:
        return importlib.import_module(f"matplotlib.{part}" if part else "matplotlib")
    except ImportError as error:
        raise ImportError(
            f"{where} needs matplotlib, which is not installed: pip install jaxsched[plot]"
        ) from error


def axes_of(ax: Any, where: str = "js.plot") -> Any:
    """The axes to draw on; for ``None`` the axes of a new figure of pyplot."""
    if ax is None:
        return matplotlib("pyplot", where).subplots(layout="constrained")[1]
    if not hasattr(ax, "axvline"):
        raise TypeError(
            f"{where.removeprefix('js.')}(ax=...) must be axes of matplotlib, got "
            f"{type(ax).__name__}: those of a figure are `figure.add_subplot()`, of an array one "
            "element."
        )
    return ax
