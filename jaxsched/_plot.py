"""Looking at schedules: ``js.plot`` on matplotlib axes. It needs the extra ``jaxsched[plot]``."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from collections.abc import Sequence as Many
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from jaxsched._arrays import INT32_MAX, is_concrete, is_list, to_host
from jaxsched._checks import checked_whole
from jaxsched._populations import require_schedule, unstack
from jaxsched._svg import clipped
from jaxsched._text import describe
from jaxsched.schedules._base import AbstractSchedule
from jaxsched.schedules._picture import axes_of, brief, curve, extent, matplotlib, shared_boundaries

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_CAPTION = 72


def plot(
    *schedules: AbstractSchedule,
    steps: int | None = None,
    ax: Axes | None = None,
    labels: str | Many[str] | None = None,
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
        ax: the axes to draw on; by default a new figure's, of ``matplotlib.pyplot``. With
            axes given, pyplot is not touched.
        labels: a text for each schedule, or for each curve if a population counts as many; of one
            schedule also as ``label``.
        log: a logarithmic value axis, from which values at or below 0 are left out.
        phases: whether to mark the boundaries.
        cmap: matplotlib's name of the color map of a population.
        **style: handed to ``ax.plot``, such as ``linewidth=2``.

    Returns:
        The axes.

    Raises:
        ImportError: if matplotlib is not installed.
        TypeError: if something is not a schedule, a list of labels or axes, or a number is traced.
        ValueError: if no schedule is given, labels do not fit, or there is no such color map.

    >>> import matplotlib.figure, jaxsched as js
    >>> ax = matplotlib.figure.Figure().add_subplot()
    >>> ax = js.plot(js.wsd(0.1, 100, warmup=10, decay=20), ax=ax)
    >>> [round(float(ax.lines[0].get_ydata()[step]), 6) for step in (0, 10, 90)]
    [0.0, 0.1, 0.05]
    """
    # From here on a family is the curves of one argument: the members of a population, or one
    # schedule. A family shares labels, colours and boundaries, since its members are one recipe
    # with different numbers.
    nested: Any = [s if is_list(s) else [s] for s in schedules]
    schedules = tuple(itertools.chain(*nested))
    _check(schedules)
    if "label" in style:
        labels = _one_label(style.pop("label"), len(schedules), labels)
    families = [unstack(schedule) for schedule in schedules]
    names = _names(schedules, families, labels)
    if steps is None:
        last = extent([member for family in families for member in family])
    else:
        last = checked_whole("plot(steps=...)", steps, 1, INT32_MAX)
    ax = axes_of(ax)
    for family, texts in zip(families, names, strict=True):
        looks: list[dict[str, Any]] = [{}]
        if len(family) > 1:
            # Not to the map's end, which is too light on white paper.
            colors = _color_map(cmap)(np.linspace(0.0, 0.88, len(family)))
            looks = [{"color": color} for color in colors]
        for member, text, look in zip(family, texts, looks, strict=True):
            at, values = curve(member, last)
            ax.plot(at, values, **{"label": text, **look, **style})
        for mark in shared_boundaries(family, last) if phases else []:
            ax.axvline(mark, color="0.5", linestyle=":", linewidth=0.8, zorder=0)
    _finish(ax, log)
    return ax


def save_picture(file: str, draw: Callable[[Axes], object]) -> None:
    """Writes the drawing of ``draw``, on the axes of a new figure, to a file, without pyplot."""
    figure = matplotlib("figure").Figure(figsize=(7, 3.5), layout="constrained")
    draw(figure.add_subplot())
    figure.savefig(file)


def _check(schedules: Many[object]) -> None:
    """Raises unless they are schedules with known numbers, at least one."""
    if not schedules:
        raise ValueError("plot(schedules) must be given at least one schedule, got none.")
    for schedule in schedules:
        if isinstance(schedule, dict):  # of names, as for a sweep
            raise TypeError(
                "plot(schedules) must be schedules, got a dict. Write js.plot(*them.values(), "
                "labels=[*them])."
            )
        require_schedule("plot(schedules): each", schedule)
        if not all(map(is_concrete, jax.tree.leaves(schedule))):
            raise TypeError(
                f"plot(schedules) must have known numbers, got {schedule!r}. Draw it outside of "
                "the traced function."
            )


def _one_label(label: object, count: int, labels: object) -> str:
    """matplotlib's own argument ``label``, for a single line."""
    if labels is not None or count != 1 or not isinstance(label, str):
        raise TypeError(
            "plot(label=...) must be a text for one schedule, got "
            f"{describe(label)} for {count}: give `labels=[...]`, a text for each."
        )
    return label


def _names(
    schedules: Many[AbstractSchedule],
    families: list[list[AbstractSchedule]],
    labels: str | Many[str] | None,
) -> list[list[str]]:
    """A label for each curve, by schedule; one that begins with "_" stays out of the legend."""
    if labels is None:
        return [_own_names(s, f) for s, f in zip(schedules, families, strict=True)]
    if isinstance(labels, str):
        labels = [labels]
    if not is_list(labels) and not isinstance(labels, np.ndarray):
        raise TypeError(f"plot(labels=...) must be a list of texts, got {describe(labels)}.")
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
    # If a few members differ in one number, the number is their name: 0.1, 0.2, 0.4. A number may
    # stand in several fields of a composition, such as a peak, and is still one.
    if len(family) > 1:
        rows = [[np.asarray(to_host(x)) for x in jax.tree.leaves(member)] for member in family]
        columns = [column for column in zip(*rows, strict=True) if len({*map(str, column)}) > 1]
        one = columns and all(np.array_equal(columns[0], column) for column in columns)
        if one and len(family) <= 8 and columns[0][0].ndim == 0:
            return [f"{value:.4g}" for value in columns[0]]
    return [clipped(brief(schedule), _CAPTION), *["_member"] * (len(family) - 1)]


def _finish(ax: Axes, log: bool) -> None:
    """The scale, the labels and the legend, after the curves are drawn."""
    if log:
        ax.set_yscale("log", nonpositive="mask")
    # A second call on the same axes adds to the picture of the first. So existing labels stay, and
    # a single curve's name moves from the title into the legend.
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


def _color_map(name: str) -> Any:
    try:
        return matplotlib().colormaps[name]
    except (KeyError, TypeError):
        raise ValueError(
            f"plot(cmap=...) must be the name of a color map of matplotlib, got {describe(name)}."
        ) from None
