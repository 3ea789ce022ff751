"""Pictures of a sweep; matplotlib is loaded when one is drawn."""

from __future__ import annotations

import math
from collections.abc import Hashable
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxsched.schedules._picture import axes_of
from jaxsched.search._fingerprint import label, plain
from jaxsched.search.results import _drawing as draw
from jaxsched.search.results import _reports as reports
from jaxsched.search.results._scored import ScoredTrials

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.cm import ScalarMappable

Curve = tuple[np.ndarray, np.ndarray]  # steps, values
Pairs = dict[int, list[Hashable]]  # trial -> its values of two settings


def plot(result: ScoredTrials, names: tuple[str, ...], ax: Axes | None) -> Axes:
    """Learning curves, or the score against one setting, or over two; on ``ax`` or a new figure."""
    if len(names) > 2:
        raise ValueError(f"plot(*names) must be given at most two settings, got {list(names)}.")
    having = [set(result.having(name, "plot(*names)")) for name in names]
    trials = sorted(set.intersection(*having)) if names else list(range(len(result.trials)))
    if not trials:
        raise ValueError(f"plot(*names) must be settings of one trial, got {list(names)}.")
    ax = axes_of(ax, "SweepResult.plot")
    picture = draw.Picture(result, trials, ax)
    if not names:
        _draw_curves(picture)
    elif len(names) == 1:
        _draw_against(picture, names[0])
    else:
        _draw_over_two(picture, names)
    if result.info.partial:
        ax.set_title(f"{ax.get_title()}{reports.partial(result)}".strip(), fontsize="medium")
    return ax


# -------------------------------------------------------------------------------- learning curves


def _draw_curves(picture: draw.Picture) -> None:
    """Of each trial the mean over folds and seeds: validation, or training if that has one point.

    Up to eight trials are named beside their ends; of more, the best of each kind.
    """
    result, ax, place = picture.result, picture.ax, picture.place
    curves, label = _validation_curves(result), f"validation {result.metric}"
    raw: list[Curve] = []
    if max(len(x) for x, _ in curves) < 2:
        window = max(1, round(result.train["loss"].shape[-1] / 20))
        curves, label = _training_curves(result, window), "training loss"
        label += f" (mean of {window} updates)" if window > 1 else ""
        raw = _training_curves(result, 1)
    everyone = picture.trials
    groups = list(picture.kinds.values())
    winners = sorted((min(g, key=place.__getitem__) for g in groups), key=place.__getitem__)
    named = everyone if len(everyone) <= draw.MOST_NAMES else winners[: draw.MOST_NAMES]
    if len(groups) == 1 and named is everyone:
        groups = [[i] for i in everyone]
    colours = draw.looks(len(groups), len(groups) == len(everyone) and _differ_in_order(picture))
    looks = {i: look for group, look in zip(groups, colours, strict=True) for i in group}
    alone = len(groups) == 1 and len(everyone) > 1
    ends = []
    for i, (x, y) in enumerate(curves):
        if not len(x):
            continue
        stands_out, best = i in named, i == picture.best
        colour = draw.GREY if alone and not stands_out else looks[i].colour
        if raw and stands_out and len(named) < 3:
            ax.plot(*raw[i], color=colour, linewidth=0.6, alpha=0.25, zorder=1)
        ax.plot(
            x,
            y,
            color=colour,
            linestyle=looks[i].dash if stands_out else "-",
            linewidth=(2.4 if best else 1.4) if stands_out else 0.8,
            alpha=1.0 if stands_out else 0.35,
            zorder=3 if stands_out else 2,
            marker="." if len(x) == 1 else "",
        )
        if (result.diverged[i] >= 0).any():
            ax.plot(x[-1:], y[-1:], "x", color=colour, zorder=4)
        if stands_out:
            name = "best: " * (best and len(curves) > 1) + _shown_name(result, i)
            ends.append((float(x[-1]), float(y[-1]), name, colour))
    # The axis is made for the named curves that are neither lost nor far off, if there are any.
    given = {i: y for i, (_, y) in enumerate(curves) if len(y)}
    none = {*picture.lost, *picture.beyond}
    shown = [given[i] for i in named if i in given and i not in none]
    shown = shown or [given[i] for i in named if i in given]
    _limit_axis(ax, list(given.values()), shown, result.maximize and not raw)
    ax.spines[["top", "right"]].set_visible(False)
    ax.set_xlabel("step (optimizer updates)")
    ax.set_ylabel(draw.text(label, 60))
    draw.name_ends(ax, ends)


def _validation_curves(result: ScoredTrials) -> list[Curve]:
    curves = []
    for values in result.validation[result.metric]:
        finite = np.isfinite(values).all(axis=(0, 1))
        mean = values[..., finite].mean(axis=(0, 1), dtype=np.float64)
        curves.append((result.evaluated[finite], mean))
    return curves


def _training_curves(result: ScoredTrials, window: int) -> list[Curve]:
    """Running means over so many updates, up to where the first run ends."""
    curves = []
    for values in result.train["loss"]:
        finite = np.isfinite(values).all(axis=(0, 1))
        end = len(finite) if finite.all() else int(finite.argmin())
        mean = values[..., :end].mean(axis=(0, 1), dtype=np.float64)
        width = min(window, end)
        if width > 1:
            mean = np.convolve(mean, np.full(width, 1 / width), "valid")
        # A running mean stands at the last of its updates: it tells of nothing that comes later.
        curves.append((np.arange(end - len(mean) + 1, end + 1), mean))
    return curves


def _limit_axis(
    ax: Axes, curves: list[np.ndarray], shown: list[np.ndarray], maximize: bool
) -> None:
    """A logarithmic axis if needed, with room for the shown curves and little for the others."""
    if not shown:
        return
    every, ours = np.concatenate(curves), np.concatenate(shown)
    if draw.wide(ours) and not maximize:
        ax.set_yscale("log")
        low = max(every[every > 0].min(), ours.min() / 2)
        ax.set_ylim(low / 1.15, min(every.max(), ours.max() * 2) * 1.15)
        return
    span = max(np.ptp(ours), 1e-3 * np.abs(ours).max(), 1e-12)
    low, high = (max(every.min(), ours.min() - span / 2), min(every.max(), ours.max() + span / 2))
    ax.set_ylim(low - 0.05 * span, high + 0.05 * span)


def _differ_in_order(picture: draw.Picture) -> bool:
    """Whether the trials differ in one number, in its order."""
    names = reports.varying(picture.result)
    if len(names) != 1:
        return False
    values = [picture.setting(i, names[0]) for i in picture.trials]
    scale = draw.Scale(values)
    return scale.ordered and values == scale.values


def _shown_name(result: ScoredTrials, trial: int) -> str:
    """The kind is shorter, where it says which trial is meant."""
    chosen = result.trials[trial]
    alone = sum(other.kind == chosen.kind for other in result.trials) == 1
    return chosen.kind if alone and chosen.kind and not chosen.settings else chosen.name


# ---------------------------------------------------------------------------- against one setting


def _draw_against(picture: draw.Picture, name: str) -> None:
    """The score against one setting: a line for each kind, or for each value of a second setting.

    The line is the best at each value, with its standard error; other trials are faint.
    Up to eight lines are named; of more, the best eight, and the others are grey.
    """
    result, ax, mean, rank = picture.result, picture.ax, picture.mean, picture.place
    scale = draw.Scale(picture.setting(i, name) for i in picture.trials)
    at = {i: scale.at(picture.setting(i, name)) for i in picture.trials}
    others = [n for n in reports.varying(result) if n != name]
    groups, ordered = _coloured_groups(picture, others)
    winners = sorted(groups, key=lambda title: min(rank[i] for i in groups[title]))
    named = winners[: draw.MOST_NAMES]
    ends = []
    colour_of: dict[int, str] = {}
    for (title, group), look in zip(groups.items(), draw.looks(len(groups), ordered), strict=True):
        colour = look.colour if title in named else draw.GREY
        colour_of |= dict.fromkeys(group, colour)
        best = _best_at_each(picture, group, at)
        # Random draws of several settings at once do not make a curve over one of them.
        rest = {tuple(str(result.trials[i].settings.get(n)) for n in others) for i in group}
        settled = scale.ordered and (len(rest) == 1 or len(group) >= 2 * len(best))
        dash = look.dash if settled and len(best) > 1 else "none"
        look = look._replace(colour=colour, dash=dash)
        _draw_scores(picture, group, at, best, look, 3 if title in named else 2)
        if best and len(groups) > 1 and title in named:
            last = max(best)
            ends.append((last, float(mean[best[last]]), title, colour))
    _limit_to_scores(picture)
    scale.draw(ax.xaxis, ax.set_xscale)
    picture.mark_best(lambda i: (at[i], mean[i]))
    _mark_off_axes(picture, at, colour_of)
    if not scale.numeric:
        ax.set_xlim(-0.5, len(scale.values) - 0.5)
    ax.set_xlabel(draw.text(name))
    ax.set_ylabel(draw.text(f"validation {result.metric}"))
    ax.spines[["top", "right"]].set_visible(False)
    ax.set_ylim(*ax.get_ylim())
    draw.name_ends(ax, ends)


def _best_at_each(
    picture: draw.Picture, group: list[int], at: dict[int, float]
) -> dict[float, int]:
    """The best of some trials at each place of the axis, in the order of the places."""
    best: dict[float, int] = {}
    scored = [i for i in group if math.isfinite(picture.mean[i])]
    for i in sorted(scored, key=picture.place.__getitem__):
        best.setdefault(at[i], i)
    return dict(sorted(best.items()))


def _draw_scores(
    picture: draw.Picture,
    group: list[int],
    at: dict[int, float],
    best: dict[float, int],
    look: draw.Look,
    zorder: int,
) -> None:
    """The best trials with their errors, and the others faintly."""
    ax, mean, rows = picture.ax, picture.mean, list(best.values())
    faint = [i for i in sorted(group) if math.isfinite(mean[i]) and i not in rows]
    dots: dict[str, Any] = {"color": look.colour, "alpha": 0.3, "markersize": 4, "zorder": 2}
    ax.plot([at[i] for i in faint], mean[faint], look.mark, **dots)
    ax.errorbar(
        list(best),
        mean[rows],
        np.nan_to_num(picture.error[rows]),
        fmt=look.mark,
        linestyle=look.dash,
        color=look.colour,
        capsize=3,
        markersize=5,
        zorder=zorder,
    )


def _mark_off_axes(picture: draw.Picture, at: dict[int, float], colour_of: dict[int, str]) -> None:
    """Trials without a score, or with one too bad, at the worse side, where they would be."""
    ax, maximize = picture.ax, picture.result.maximize
    arrow = "v" if maximize else "^"
    for trials, mark, height in ((picture.lost, "x", 0.98), (picture.beyond, arrow, 0.94)):
        by_colour: dict[str, list[float]] = {}
        for i in trials:
            by_colour.setdefault(colour_of[i], []).append(at[i])
        for colour, x in by_colour.items():
            y = [1 - height if maximize else height] * len(x)
            ax.plot(x, y, mark, color=colour, transform=ax.get_xaxis_transform(), zorder=4)
    picture.explain_lost(picture.lost)
    if picture.beyond:
        picture.explain(arrow, "beyond")


def _limit_to_scores(picture: draw.Picture) -> None:
    """Room for the scores and their errors, but not for an error that is larger than both."""
    trials = [i for i in picture.trials if i not in picture.lost and i not in picture.beyond]
    if not trials:
        return
    scores, error = picture.mean[trials], np.nan_to_num(picture.error[trials])
    log, _ = draw.score_axis(scores, picture.result.maximize)
    span = max(np.ptp(scores), 1e-3 * np.abs(scores).max(), 1e-12)
    bar = np.fmin(error, 2 * span)
    if log:
        picture.ax.set_yscale("log")
        picture.ax.set_ylim(scores.min() / 1.3, (scores + bar).max() * 1.3)
    else:
        low, high = (scores - bar).min() - 0.08 * span, (scores + bar).max() + 0.08 * span
        picture.ax.set_ylim(low, high)


def _coloured_groups(picture: draw.Picture, others: list[str]) -> tuple[dict[str, list[int]], bool]:
    """What is a colour: the kinds, or else the second setting; and whether it has an order."""
    if len(picture.kinds) > 1 or len(others) != 1:
        return picture.kinds, False
    (second,) = others
    values = {i: picture.setting(i, second) for i in picture.trials}
    scale = draw.Scale(values.values())
    if len(scale.values) > draw.MOST_NAMES:
        return picture.kinds, False
    shown = [reports.show(value) for value in scale.values]
    if len(set(shown)) < len(shown):  # 0.10001 and 0.10002
        shown = list(map(plain, scale.values))
    groups = {
        f"no {second}" if value is None else f"{second}={text}": [
            i for i in picture.trials if values[i] == value
        ]
        for value, text in zip(scale.values, shown, strict=True)
    }
    return groups, scale.ordered


# ------------------------------------------------------------------------------- over two settings


def _draw_over_two(picture: draw.Picture, names: tuple[str, ...]) -> None:
    """The best score of each pair of settings, as numbers on colours; of draws, as points."""
    result, ax = picture.result, picture.ax
    pairs = {i: [picture.setting(i, name) for name in names] for i in picture.trials}
    scales = [draw.Scale(column) for column in zip(*pairs.values(), strict=True)]
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
    for i in sorted(pairs, key=picture.place.__getitem__):
        cell = tuple(s.place(v) for s, v in zip(scales, pairs[i], strict=True))
        best_in.setdefault(cell, i)
    across, up = (len(scale.values) for scale in scales)
    points = ax.get_window_extent().width * 72 / ax.figure.dpi
    size = max(4.0, min(10.0, 0.2 * points / across))  # five digits to a cell

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
            # By its luma (Rec. 601), so that the text can be read on every colour of the map.
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
    """Draws of two settings as points, coloured by their scores; crosses for those without one."""
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
