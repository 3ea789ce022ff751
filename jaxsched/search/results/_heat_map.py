"""The picture of a sweep over two settings: a grid as cells, random draws as points.

A grid has a trial in most cells, and numbers on colours are read at a glance. For random draws
nearly all cells would be empty, so each draw is a point at its two numbers.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxsched.search._fingerprint import label
from jaxsched.search.results import _drawing as draw
from jaxsched.search.results import _reports as reports

if TYPE_CHECKING:
    from matplotlib.cm import ScalarMappable

Pairs = dict[int, list[Hashable]]  # trial -> its values of two settings


def draw_over_two(picture: draw.Picture, names: tuple[str, ...]) -> None:
    """The best score of each pair of settings, as numbers on colours; for draws, as points."""
    result, ax = picture.result, picture.ax
    pairs = {i: [picture.setting(i, name) for name in names] for i in picture.trials}
    scales = [draw.Scale(column) for column in zip(*pairs.values(), strict=True)]
    # Without any score there are no colours, and each cell is a cross.
    scores = picture.mean[picture.trials]
    colours = None
    if np.isfinite(scores).any():
        low, high, worse = draw.colour_range(scores, result.maximize)
        colours = _colour_map(low, high, result.maximize)
    across, up = (len(scale.values) for scale in scales)
    paint = _draw_points if across * up > max(4 * len(picture.trials), 12) else _draw_cells
    paint(picture, pairs, scales, colours)
    ax.set_xlabel(draw.text(names[0]))
    ax.set_ylabel(draw.text(names[1]))
    if colours is not None:
        end = ("min" if result.maximize else "max") if worse else "neither"
        label = draw.text(f"validation {result.metric}")
        ax.figure.colorbar(colours, ax=ax, label=label, extend=end)


def _colour_map(low: float, high: float, maximize: bool) -> ScalarMappable:
    """The map from scores to colours, logarithmic where they span a factor of ten."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import LogNorm, Normalize

    norm = LogNorm(low, high) if low > 0 and high > 10 * low else Normalize(low, high)
    return ScalarMappable(norm, "viridis" if maximize else "viridis_r")  # the best is the brightest


def _draw_cells(
    picture: draw.Picture, pairs: Pairs, scales: list[draw.Scale], colours: Any
) -> None:
    """The best trial of each pair of settings as a coloured cell, with its score."""
    from matplotlib.patches import Rectangle

    ax, mean = picture.ax, picture.mean
    best_in: dict[tuple[int, ...], int] = {}
    # A third setting may vary: each cell shows the first of its trials in the ranking.
    for i in sorted(pairs, key=picture.place.__getitem__):
        cell = tuple(s.place(v) for s, v in zip(scales, pairs[i], strict=True))
        best_in.setdefault(cell, i)
    across, up = (len(scale.values) for scale in scales)
    points = ax.get_window_extent().width * 72 / ax.figure.dpi
    size = max(4.0, min(10.0, 0.2 * points / across))  # five digits to a cell

    # Rectangles, not an image: they stay sharp in a PDF, and may be hatched where there is no
    # score.
    def frame(x: float, y: float, side: float, **look: Any) -> None:
        ax.add_patch(Rectangle((x - side / 2, y - side / 2), side, side, **look))

    for (x, y), i in best_in.items():
        if i in picture.lost:
            frame(x, y, 1, facecolor="0.93", edgecolor="0.65", hatch="///", linewidth=0)
            number, ink = "\N{MULTIPLICATION SIGN}", "0.25"
        else:
            colour = colours.to_rgba(mean[i])
            frame(x, y, 1, facecolor=colour, edgecolor="white", linewidth=1)
            kind = draw.text(picture.result.trials[i].kind, 12)
            number = f"{mean[i]:.3g}" + f"\n{kind}" * (len(picture.kinds) > 1)
            # By its luma (Rec. 601), so the text is readable on every colour of the map.
            ink = "black" if np.dot(colour[:3], (0.299, 0.587, 0.114)) > 0.5 else "white"
        if across * up <= 150:
            ax.text(x, y, number, ha="center", va="center", color=ink, fontsize=size)
        if i == picture.best:
            frame(x, y, 0.94, fill=False, edgecolor=draw.COLOURS[1], zorder=3, linewidth=3)
    picture.explain_lost([i for i in best_in.values() if i in picture.lost])
    ax.set_xlim(-0.5, across - 0.5)
    ax.set_ylim(-0.5, up - 0.5)
    for axis, scale in zip((ax.xaxis, ax.yaxis), scales, strict=True):
        shown = [f"{v:.3g}" if reports.is_number(v) else label(v) for v in scale.values]
        draw.set_marks(axis, [draw.text(text, 16) for text in shown], scale.ordered)
        axis.set_tick_params(length=0)


def _draw_points(
    picture: draw.Picture, pairs: Pairs, scales: list[draw.Scale], colours: Any
) -> None:
    """Draws of two settings as points, coloured by their scores; crosses for trials without one."""
    ax, lost = picture.ax, picture.lost
    at = {i: [s.at(v) for s, v in zip(scales, pair, strict=True)] for i, pair in pairs.items()}
    scales[0].draw(ax.xaxis, ax.set_xscale)
    scales[1].draw(ax.yaxis, ax.set_yscale)
    scored = [i for i in pairs if i not in lost]
    if scored:
        x, y = zip(*(at[i] for i in scored), strict=True)
        shades = colours.to_rgba(picture.mean[scored])
        ax.scatter(x, y, s=70, c=shades, edgecolors="0.3", linewidths=0.6, zorder=3)
    ax.plot([at[i][0] for i in lost], [at[i][1] for i in lost], "x", color="black", zorder=2)
    picture.mark_best(at.__getitem__)
    picture.explain_lost(lost)
