"""Looking at schedules: ``js.plot`` on matplotlib axes, and small SVG pictures for notebooks.

``plot`` needs the extra ``jaxsched[plot]``; ``svg`` needs nothing, so a notebook that merely shows
a schedule does not pay for the import of matplotlib.
"""

from __future__ import annotations

import dataclasses
import html
from collections.abc import Sequence as Many
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from jaxsched._arrays import is_concrete, is_list, to_host
from jaxsched._checks import checked_number
from jaxsched._phases import boundaries
from jaxsched._populations import unstack
from jaxsched._words import WRAP, uncalled
from jaxsched.schedules._base import AbstractSchedule, Constant, Product, Sequence, Sum
from jaxsched.schedules._wrappers import Quantize, Repeat, Shift, Stretch

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_POINTS = 2000  # of a long curve; one of up to 2.5 times as many steps is drawn in full
_CAPTION = 72
_MOST_LINES = 30  # more boundaries than this hide the curve, so none is marked
_OPERATORS: dict[type, str] = {Sequence: " >> ", Product: " * ", Sum: " + "}


def plot(
    *schedules: AbstractSchedule,
    steps: int | None = None,
    ax: Axes | None = None,
    labels: Many[str] | None = None,
    log: bool = False,
    phases: bool = True,
    cmap: str = "viridis",
    **style: Any,
) -> Axes:
    """Draws schedules over their steps (optimizer updates), and nothing else: it shows no window.

    A stacked population (``js.stack``, or a mapped recipe) is drawn as a family of curves in one
    color map, the first member darkest. Dotted lines mark where a phase begins.

    Args:
        schedules: one or more, with known numbers; a list counts as its members.
        steps: draws the steps from 0 to this one; by default the longest duration, or for
            open-ended schedules a few of their own lengths.
        ax: the axes to draw on; by default those of a new figure of ``matplotlib.pyplot``. With
            axes given, pyplot is not touched.
        labels: a text for each schedule, or for each curve if a population counts as many.
        log: a logarithmic value axis, from which values at or below 0 are left out.
        phases: whether to mark the boundaries.
        cmap: matplotlib's name of the color map of a population.
        **style: handed to ``ax.plot``, such as ``linewidth=2``.

    Returns:
        The axes.

    Raises:
        ImportError: if matplotlib is not installed.
        TypeError: if something is not a schedule, or a number of it is traced.
        ValueError: if no schedule is given, or labels do not fit.

    >>> import matplotlib.figure, jaxsched as js
    >>> ax = matplotlib.figure.Figure().add_subplot()
    >>> ax = js.plot(js.wsd(0.1, 100, warmup=10, decay=20), ax=ax)
    >>> [round(float(ax.lines[0].get_ydata()[step]), 6) for step in (0, 10, 90)]
    [0.0, 0.1, 0.05]
    """
    schedules = _flat(schedules)
    _check(schedules)
    families = [unstack(schedule) for schedule in schedules]
    names = _names(schedules, families, labels)
    if steps is None:
        last = _extent([member for family in families for member in family])
    else:
        last = int(checked_number("plot(steps=...)", steps, at_least=1))
    if ax is None:
        ax = _matplotlib("pyplot").subplots(layout="constrained")[1]
    for family, texts in zip(families, names, strict=True):
        looks: list[dict[str, Any]] = [{}]
        if len(family) > 1:
            # Not to the map's end, which is too light on white paper.
            colors = _matplotlib().colormaps[cmap](np.linspace(0.0, 0.88, len(family)))
            looks = [{"color": color} for color in colors]
        for member, text, look in zip(family, texts, looks, strict=True):
            at, values = _curve(member, last)
            ax.plot(at, values, **{"label": text, **look, **style})
        marks = _shared_boundaries(family, last) if phases else []
        for mark in marks if len(marks) <= _MOST_LINES else []:
            ax.axvline(mark, color="0.5", linestyle=":", linewidth=0.8, zorder=0)
    _finish(ax, log)
    return ax


def svg(schedule: AbstractSchedule, width: int = 300, height: int = 90) -> str:
    """A small picture of a schedule or a population, as SVG text, without matplotlib.

    A notebook shows it in place of the ``repr``, which is the picture's tooltip.

    Args:
        schedule: any; where a number is traced, only the caption is drawn.
        width: in pixels.
        height: in pixels.

    >>> import jaxsched as js
    >>> from jaxsched._plot import svg
    >>> svg(js.Linear(1.0, 0.0, 10)).count("<polyline")
    1
    """
    known = all(map(is_concrete, jax.tree.leaves(schedule)))
    caption = _short(_brief(schedule), width // 6)
    family = _thinned(unstack(schedule), 50) if known else []
    last = _extent(family) if known else 1
    drawn = [[np.asarray(points) for points in _curve(member, last, width)] for member in family]
    # Beyond float32 a value is infinite, which has no place.
    curves = [[points[np.isfinite(values)] for points in (at, values)] for at, values in drawn]
    low = min((float(np.min(values)) for _, values in curves if len(values)), default=0.0)
    high = max((float(np.max(values)) for _, values in curves if len(values)), default=0.0)
    top, bottom = 4, height - 30
    flat = high == low

    def x(step: Any) -> Any:
        return 2 + (width - 4) * np.asarray(step, np.float64) / last

    def y(value: Any) -> Any:
        share = 0.5 if flat else (np.asarray(value, np.float64) - low) / (high - low)
        return bottom - (bottom - top) * share + 0.0 * np.asarray(value)

    marks = _shared_boundaries(family, last) if family else []
    lines = [
        f'<path d="M{x(mark):.1f} {top}V{bottom}" stroke="currentColor" stroke-opacity=".4" '
        'stroke-dasharray="1 3"/>'
        for mark in (marks if len(marks) <= _MOST_LINES else [])
    ]
    for index, (at, values) in enumerate(curves):
        points = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x(at), y(values), strict=True))
        color = _svg_color(index, len(curves))
        lines.append(f'<polyline points="{points}" fill="none" stroke="{color}"/>')
    scale = f"{low:.3g} to {high:.3g}, {last:,} steps" if known else "traced numbers"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" role="img" '
        f'viewBox="0 0 {width} {height}"><title>{html.escape(_short(repr(schedule), 1000))}</title>'
        f"{''.join(lines)}"
        f'<g font-family="monospace" font-size="10" fill="currentColor">'
        f'<text x="2" y="{height - 17}">{html.escape(caption)}</text>'
        f'<text x="2" y="{height - 4}" fill-opacity=".6">{scale}</text></g></svg>'
    )


# ------------------------------------------------------------------------------- what is drawn


def _flat(schedules: Many[Any]) -> tuple[Any, ...]:
    """Lists among the arguments are as good as their members."""
    nested = [list(s) if is_list(s) else [s] for s in schedules]
    return tuple(schedule for some in nested for schedule in some)


def _check(schedules: Many[Any]) -> None:
    if not schedules:
        raise ValueError("plot(schedules) must be given at least one schedule, got none.")
    for schedule in schedules:
        if not isinstance(schedule, AbstractSchedule):
            raise TypeError(
                f"plot(schedules) must be given schedules, got {schedule!r} "
                f"({type(schedule).__name__}){uncalled(schedule) or WRAP}."
            )
        if not all(map(is_concrete, jax.tree.leaves(schedule))):
            raise TypeError(
                f"plot(schedules) must have known numbers, got {schedule!r}. Draw it outside of "
                "the traced function."
            )


def _curve(schedule: AbstractSchedule, last: int, points: int = _POINTS) -> tuple[Any, Any]:
    """Steps from 0 to ``last`` and the values there; a jump keeps its two neighboring steps."""
    if last < 2.5 * points:
        at = np.arange(last + 1, dtype=np.int32)
    else:
        edges = np.floor(_boundaries(schedule))
        edges = edges if len(edges) < points / 3 else edges[:0]  # closer than the eye can tell
        near = (edges[:, None] + [-1, 0, 1]).ravel()
        at = np.unique(np.rint([*np.linspace(0, last, points), *near]).clip(0, last))
        at = at.astype(np.int32)
    return at, np.asarray(to_host(schedule(at)))


def _boundaries(schedule: AbstractSchedule) -> list[float]:
    return [mark for mark in boundaries(schedule) if mark is not None]


def _shared_boundaries(family: list[AbstractSchedule], last: int) -> list[float]:
    found = [set(_boundaries(member)) for member in family]
    return sorted(mark for mark in set.intersection(*found) if 0 < mark < last)


def _extent(schedules: list[AbstractSchedule]) -> int:
    length = max(map(_length, schedules)) or 100
    return max(1, min(int(np.ceil(length)), 2**31 - 2))


def _length(schedule: Any) -> float:
    """How many steps show what a schedule does: its duration, or a few of its own lengths."""
    duration = schedule.duration
    if duration is not None:
        return float(to_host(duration))
    if isinstance(schedule, Sequence):
        before = sum(float(to_host(part.duration)) for part in schedule.parts[:-1])
        return before + max(_length(schedule.parts[-1]), before)
    if isinstance(schedule, Repeat):
        one = float(to_host(schedule.schedule.duration))
        growth = 1.0 if schedule.growth is None else float(to_host(schedule.growth))
        cycles = range(3 if growth > 1 else 4)
        return one * sum(growth**cycle for cycle in cycles) - 1  # not the next restart
    if isinstance(schedule, Shift):
        return max(_length(schedule.schedule) + float(to_host(schedule.steps)), 1.0)
    if isinstance(schedule, Stretch):
        return _length(schedule.schedule) * float(to_host(schedule.factor))
    if isinstance(schedule, Quantize):
        return max(_length(schedule.schedule), 5 * float(to_host(schedule.every)))
    if isinstance(schedule, Constant):
        return 0.0
    inner = [*getattr(schedule, "parts", ()), getattr(schedule, "schedule", None)]
    lengths = [_length(part) for part in inner if isinstance(part, AbstractSchedule)]
    rate, scale = (getattr(schedule, name, 0.0) for name in ("rate", "timescale"))
    own = 4 / abs(float(to_host(rate))) if rate else 8 * float(to_host(scale))
    return max([own, *lengths])


# ----------------------------------------------------------------------------- labels and looks


def _names(
    schedules: Many[AbstractSchedule],
    families: list[list[AbstractSchedule]],
    labels: Many[str] | None,
) -> list[list[str]]:
    """A label for each curve, by schedule; one that begins with "_" stays out of the legend."""
    if labels is None:
        return [_own_names(s, f) for s, f in zip(schedules, families, strict=True)]
    if isinstance(labels, str):
        labels = [labels]
    curves = sum(map(len, families))
    if len(labels) == len(families):
        return [
            [str(text), *["_member"] * (len(family) - 1)]
            for text, family in zip(labels, families, strict=True)
        ]
    if len(labels) == curves:
        rest = iter(map(str, labels))
        return [[next(rest) for _ in family] for family in families]
    many = f"{len(families)}" if curves == len(families) else f"{len(families)} or {curves}"
    raise ValueError(f"plot(labels=...) must have {many} texts, got {len(labels)}.")


def _own_names(schedule: AbstractSchedule, family: list[AbstractSchedule]) -> list[str]:
    if len(family) > 1:
        rows = [[np.asarray(to_host(x)) for x in jax.tree.leaves(member)] for member in family]
        columns = [column for column in zip(*rows, strict=True) if len({*map(str, column)}) > 1]
        one = columns and all(np.array_equal(columns[0], column) for column in columns)
        if one and len(family) <= 8 and columns[0][0].ndim == 0:
            return [f"{value:.4g}" for value in columns[0]]
        return [_short(_brief(schedule), _CAPTION), *["_member"] * (len(family) - 1)]
    return [_short(_brief(schedule), _CAPTION)]


def _brief(x: Any) -> str:
    """The repr without the names: ``Linear(0, 0.1, 500) >> Cosine(0.1, 0, 9500)``."""
    operator = _OPERATORS.get(type(x))
    if operator:
        parts = [
            _number(part.value)
            if operator != " >> " and isinstance(part, Constant) and part.steps is None
            else f"({_brief(part)})"
            if type(part) in _OPERATORS
            else _brief(part)
            for part in x.parts
        ]
        return operator.join(parts)
    if not isinstance(x, AbstractSchedule) or hasattr(x, "fn"):
        return repr(x)
    shown = [
        _field(getattr(x, field.name))
        for field in dataclasses.fields(x)  # type: ignore[arg-type]
        if not _is_default(field.default, getattr(x, field.name))
    ]
    return f"{type(x).__name__}({', '.join(shown)})"


def _is_default(default: Any, value: Any) -> bool:
    if value is None or not isinstance(default, (int, float)):
        return value is None
    return is_concrete(value) and bool(np.all(np.asarray(to_host(value)) == default))


def _field(value: Any) -> str:
    if isinstance(value, AbstractSchedule):
        return _brief(value)
    if isinstance(value, tuple):
        return ", ".join(map(_field, value))
    return _number(value)


def _number(value: Any) -> str:
    if isinstance(value, jax.core.Tracer) or not is_concrete(value):
        return "?"
    array = np.asarray(to_host(value))
    if array.ndim == 0:
        return f"{array:.4g}" if array.dtype.kind == "f" else f"{array}"
    low, high = array.min(), array.max()
    return f"{low:.4g}" if low == high else f"{low:.4g}..{high:.4g}"


def _short(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"


def _thinned(family: list[AbstractSchedule], most: int) -> list[AbstractSchedule]:
    if len(family) <= most:
        return family
    return [family[i] for i in np.linspace(0, len(family) - 1, most).astype(int)]


def _svg_color(index: int, count: int) -> str:
    if count == 1:
        return "#3b76af"
    # A straight line through three colors of viridis.
    stops = np.array([[68, 1, 84], [33, 145, 140], [160, 218, 57]], np.float64)
    share = 2 * index / (count - 1)
    color = [np.interp(share, [0, 1, 2], stops[:, channel]) for channel in range(3)]
    return "#" + "".join(f"{round(c):02x}" for c in color)


def _finish(ax: Any, log: bool) -> None:
    if log:
        ax.set_yscale("log", nonpositive="mask")
    if not ax.get_xlabel():
        ax.set_xlabel("step (optimizer update)")
    if not ax.get_ylabel():
        ax.set_ylabel("value")
    ax.margins(x=0.01)
    handles, texts = ax.get_legend_handles_labels()
    if len(handles) > 1:
        if ax.get_title() in texts:  # set below by an earlier call
            ax.set_title("")
        ax.legend(handles, texts, frameon=False, fontsize="small")
    elif not ax.get_title():
        ax.set_title(texts[0] if texts else "", fontsize="medium")


def _matplotlib(part: str = "") -> Any:
    import importlib

    try:
        return importlib.import_module(f"matplotlib.{part}" if part else "matplotlib")
    except ImportError as error:
        raise ImportError(
            "js.plot needs matplotlib, which is not installed: pip install jaxsched[plot]"
        ) from error
