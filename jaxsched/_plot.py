"""Looking at schedules: ``js.plot`` on matplotlib axes. It needs the extra ``jaxsched[plot]``."""

from __future__ import annotations

import itertools
from collections.abc import Sequence as Many
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from jaxsched._arrays import is_concrete, is_list, to_host
from jaxsched._checks import checked_number
from jaxsched._populations import unstack
from jaxsched._svg import shorten
from jaxsched._words import WRAP, uncalled
from jaxsched.schedules._base import AbstractSchedule
from jaxsched.schedules._picture import brief, curve, extent, shared_boundaries

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_CAPTION = 72


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
    nested: Any = [s if is_list(s) else [s] for s in schedules]
    schedules = tuple(itertools.chain(*nested))
    _check(schedules)
    families = [unstack(schedule) for schedule in schedules]
    names = _names(schedules, families, labels)
    if steps is None:
        last = extent([member for family in families for member in family])
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
            at, values = curve(member, last)
            ax.plot(at, values, **{"label": text, **look, **style})
        for mark in shared_boundaries(family, last) if phases else []:
            ax.axvline(mark, color="0.5", linestyle=":", linewidth=0.8, zorder=0)
    _finish(ax, log)
    return ax


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
    return [shorten(brief(schedule), _CAPTION), *["_member"] * (len(family) - 1)]


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
