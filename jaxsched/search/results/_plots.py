"""Pictures of a sweep; matplotlib is loaded when one is drawn."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import numpy as np

from jaxsched.search._fingerprint import label, plain
from jaxsched.search.results import _drawing as draw
from jaxsched.search.results import _reports as reports
from jaxsched.search.results._curves import curves_of
from jaxsched.search.results._scored import ScoredTrials

_SMALL: dict[str, Any] = {"fontsize": "small", "fontweight": "normal", "color": "0.3"}


def plot(result: ScoredTrials, names: tuple[str, ...], ax: Any) -> Any:
    """Learning curves, or the score against one setting, or over two; on ``ax`` or a new figure."""
    if len(names) > 2:
        raise ValueError(f"plot(*names) must be given at most two settings, got {list(names)}.")
    having = [set(result.having(name, "plot(*names)")) for name in names]
    trials = sorted(set.intersection(*having)) if names else list(range(len(result.trials)))
    if not trials:
        raise ValueError(f"plot(*names) must be settings of one trial, got {list(names)}.")
    if ax is None:
        try:
            import matplotlib.pyplot as plt
        except ImportError:
            raise ImportError("plot() needs matplotlib: pip install jaxsched[plot].") from None
        ax = plt.subplots(layout="constrained")[1]
    if not names:
        curves_of(result, ax)
    elif len(names) == 1:
        _against(result, names[0], trials, ax)
    else:
        _over_two(result, names, trials, ax)
    return ax


# ---------------------------------------------------------------------------- against one setting


def _against(result: ScoredTrials, name: str, trials: list[int], ax: Any) -> None:
    """The score against one setting: a line for each kind, or for each value of a second setting.

    The line is the best at each value, with its standard error; what else was tried there is faint.
    Up to eight lines are named; of more, the best eight, and the others are grey.
    """
    mean, error = result.scores()
    scale = draw.Scale(draw.of(result, i, name) for i in trials)

    def place(trial: int) -> float:
        return scale.at(draw.of(result, trial, name))

    groups, ordered = _groups(result, name, trials)
    others = [n for n in reports.varying(result) if n != name]
    worse = draw.worse(result, trials)
    lost = [i for i in trials if not math.isfinite(mean[i])]
    ranked = {trial: place for place, trial in enumerate(result.ranking())}
    ends = []
    looks = draw.looks(len(groups), ordered)
    winners = sorted(groups, key=lambda title: min(ranked[i] for i in groups[title]))
    named = winners[: draw.MOST_NAMES]
    look_of: dict[int, draw.Look] = {}
    for (title, group), look in zip(groups.items(), looks, strict=True):
        if title not in named:
            look = look._replace(colour=draw.GREY)
        look_of |= dict.fromkeys(group, look)
        best: dict[float, int] = {}
        scored = [i for i in group if math.isfinite(mean[i])]
        for i in sorted(scored, key=ranked.__getitem__):
            best.setdefault(place(i), i)
        faint = sorted(set(scored) - set(best.values()))
        ax.plot(
            [place(i) for i in faint],
            mean[faint],
            look.mark,
            color=look.colour,
            alpha=0.3,
            markersize=4,
            zorder=2,
        )
        at = sorted(best)
        rows = [best[x] for x in at]
        # Draws of several settings at once are no curve over one of them.
        settled = len({tuple(map(str, _rest(result, i, others))) for i in group}) == 1
        joined = len(at) > 1 and scale.ordered and (settled or len(group) >= 2 * len(at))
        ax.errorbar(
            at,
            mean[rows],
            np.where(np.isfinite(error[rows]), error[rows], 0.0),
            fmt=look.mark,
            linestyle=look.dash if joined else "none",
            color=look.colour,
            capsize=3,
            markersize=5,
            zorder=3 if title in named else 2,
        )
        if rows and len(groups) > 1 and title in named:
            ends.append((at[-1], float(mean[rows[-1]]), title, look.colour))
    _scores_axis(result, ax, [i for i in trials if i not in lost and i not in worse])
    scale.draw(ax.xaxis, ax.set_xscale)
    _mark_best(result, ax, trials, lambda i: (place(i), mean[i]))
    at_edge = partial(_mark_edge, result, ax, place, look_of)
    at_edge(lost, "x", _lost_words(result, lost), 0.98)
    at_edge(worse, "v" if result.maximize else "^", "beyond", 0.94)
    if not scale.numeric:
        ax.set_xlim(-0.5, len(scale.values) - 0.5)
    ax.set_xlabel(draw.text(name))
    ax.set_ylabel(draw.text(f"validation {result.metric}"))
    ax.spines[["top", "right"]].set_visible(False)
    ax.set_ylim(*ax.get_ylim())
    draw.name_ends(ax, ends)


def _scores_axis(result: ScoredTrials, ax: Any, trials: list[int]) -> None:
    """Room for these scores and their errors, but not for an error that is larger than both."""
    if not trials:
        return
    scores, error = (found[trials] for found in result.scores())
    log, _ = draw.score_axis(scores, result.maximize)
    span = max(np.ptp(scores), 1e-3 * np.abs(scores).max(), 1e-12)
    bar = np.fmin(np.where(np.isfinite(error), error, 0.0), 2 * span)
    if log:
        ax.set_yscale("log")
        ax.set_ylim(scores.min() / 1.3, (scores + bar).max() * 1.3)
    else:
        ax.set_ylim((scores - bar).min() - 0.08 * span, (scores + bar).max() + 0.08 * span)


def _groups(
    result: ScoredTrials, name: str, trials: list[int]
) -> tuple[dict[str, list[int]], bool]:
    """What is a colour: the kinds, or else the second setting; and whether it has an order."""
    groups = draw.by_kind(result, trials)
    others = [n for n in reports.varying(result) if n != name]
    if len(groups) > 1 or len(others) != 1:
        return groups, False
    (second,) = others
    scale = draw.Scale(draw.of(result, i, second) for i in trials)
    if len(scale.values) > draw.MOST_NAMES:
        return groups, False
    shown = [reports.show(value) for value in scale.values]
    if len(set(shown)) < len(shown):  # 0.10001 and 0.10002
        shown = list(map(plain, scale.values))
    found = {
        f"{second}={text}" if value is not None else f"no {second}": [
            i for i in trials if draw.of(result, i, second) == value
        ]
        for value, text in zip(scale.values, shown, strict=True)
    }
    return found, scale.ordered


def _mark_best(result: ScoredTrials, ax: Any, trials: list[int], where: Any) -> None:
    best = draw.best_of(result)
    if best in trials:
        ax.plot(*where(best), "*", color="white", markeredgecolor="black", markersize=15, zorder=5)
        ax.set_title("\N{WHITE STAR} best", loc="right", **_SMALL)


def _mark_edge(
    result: ScoredTrials,
    ax: Any,
    where: Any,
    looks: dict[int, draw.Look],
    trials: list[int],
    mark: str,
    said: str,
    height: float,
) -> None:
    """Marks at the worse side of the axes, where these trials would be; and what a mark is."""
    place = 1 - height if result.maximize else height
    by_colour: dict[str, list[float]] = {}
    for i in trials:
        by_colour.setdefault(looks[i].colour, []).append(where(i))
    for colour, x in by_colour.items():
        at_edge = {"transform": ax.get_xaxis_transform(), "zorder": 4}
        ax.plot(x, [place] * len(x), mark, color=colour, **at_edge)
    _say(ax, trials, mark, said)


def _say(ax: Any, trials: list[int], mark: str, said: str) -> None:
    """What a mark is."""
    if trials:
        shown = {
            "x": "\N{MULTIPLICATION SIGN}",
            "^": "\N{BLACK UP-POINTING TRIANGLE}",
            "v": "\N{BLACK DOWN-POINTING TRIANGLE}",
        }
        before = ax.get_title(loc="right")
        title = f"{before}   " * bool(before) + f"{shown[mark]} {said}"
        ax.set_title(title, loc="right", **_SMALL)


def _lost_words(result: ScoredTrials, lost: list[int]) -> str:
    gone = [(result.diverged[i] >= 0).any() for i in lost]
    return "diverged" if all(gone) else "stopped" if not any(gone) else "diverged or stopped"


# ------------------------------------------------------------------------------- over two settings


def _over_two(result: ScoredTrials, names: tuple[str, ...], trials: list[int], ax: Any) -> None:
    """The best score of each pair of settings, as numbers on colours; of draws, as points."""
    scales = [draw.Scale(draw.of(result, i, name) for i in trials) for name in names]
    mean, _ = result.scores()
    scores = mean[trials]
    colours = None
    if np.isfinite(scores).any():
        low, high, worse = draw.colour_range(scores, result.maximize)
        colours = _colours(low, high, result.maximize)
    cells = len(scales[0].values) * len(scales[1].values)
    if cells > max(4 * len(trials), 12):
        _points(result, names, trials, scales, colours, ax)
    else:
        _cells(result, names, trials, scales, colours, ax)
    ax.set_xlabel(draw.text(names[0]))
    ax.set_ylabel(draw.text(names[1]))
    if colours is not None:
        end = ("min" if result.maximize else "max") if worse else "neither"
        label = draw.text(f"validation {result.metric}")
        ax.figure.colorbar(colours, ax=ax, label=label, extend=end)


def _colours(low: float, high: float, maximize: bool) -> Any:
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import LogNorm, Normalize

    norm = LogNorm(low, high) if low > 0 and high > 10 * low else Normalize(low, high)
    return ScalarMappable(norm, "viridis" if maximize else "viridis_r")  # the best is the brightest


def _cells(
    result: ScoredTrials,
    names: tuple[str, ...],
    trials: list[int],
    scales: list[draw.Scale],
    colours: Any,
    ax: Any,
) -> None:
    from matplotlib.patches import Rectangle

    mean, _ = result.scores()
    ranked = {trial: place for place, trial in enumerate(result.ranking())}
    found: dict[tuple[int, int], int] = {}
    for i in sorted(trials, key=ranked.__getitem__):
        x, y = (s.values.index(draw.of(result, i, n)) for s, n in zip(scales, names, strict=True))
        found.setdefault((x, y), i)
    several = len(draw.by_kind(result, trials)) > 1
    across, up = (len(scale.values) for scale in scales)
    points = ax.get_window_extent().width * 72 / ax.figure.dpi
    size = max(4.0, min(10.0, 0.2 * points / across))  # five digits to a cell
    for (x, y), i in found.items():
        corner, number = (x - 0.5, y - 0.5), ""
        if math.isfinite(mean[i]):
            colour = colours.to_rgba(mean[i])
            ax.add_patch(Rectangle(corner, 1, 1, facecolor=colour, edgecolor="white", linewidth=1))
            number = f"{mean[i]:.3g}"
            number += f"\n{draw.text(result.trials[i].kind, 12)}" if several else ""
            ink = "black" if np.dot(colour[:3], (0.299, 0.587, 0.114)) > 0.5 else "white"
        else:
            look: dict[str, Any] = {"facecolor": "0.93", "edgecolor": "0.65", "hatch": "///"}
            ax.add_patch(Rectangle(corner, 1, 1, linewidth=0, **look))
            number, ink = "\N{MULTIPLICATION SIGN}", "0.25"
        if across * up <= 150:
            ax.text(x, y, number, ha="center", va="center", color=ink, fontsize=size)
    lost = [i for i in found.values() if not math.isfinite(mean[i])]
    _say(ax, lost, "x", _lost_words(result, lost))
    best = draw.best_of(result)
    for (x, y), i in found.items():
        if i == best:
            frame: dict[str, Any] = {"fill": False, "edgecolor": draw.COLOURS[1], "zorder": 3}
            ax.add_patch(Rectangle((x - 0.47, y - 0.47), 0.94, 0.94, linewidth=3, **frame))
    ax.set_xlim(-0.5, across - 0.5)
    ax.set_ylim(-0.5, up - 0.5)
    for axis, scale in zip((ax.xaxis, ax.yaxis), scales, strict=True):
        shown = [f"{v:.3g}" if reports.is_number(v) else label(v) for v in scale.values]
        draw.set_marks(axis, [draw.text(text, 16) for text in shown], scale.ordered)
        axis.set_tick_params(length=0)


def _points(
    result: ScoredTrials,
    names: tuple[str, ...],
    trials: list[int],
    scales: list[draw.Scale],
    colours: Any,
    ax: Any,
) -> None:
    mean, _ = result.scores()
    at = {
        i: tuple(s.at(draw.of(result, i, n)) for s, n in zip(scales, names, strict=True))
        for i in trials
    }
    for scale, axis, change in zip(
        scales, (ax.xaxis, ax.yaxis), (ax.set_xscale, ax.set_yscale), strict=True
    ):
        scale.draw(axis, change)
    scored = [i for i in trials if math.isfinite(mean[i])]
    lost = [i for i in trials if not math.isfinite(mean[i])]
    if scored:
        places, shades = zip(*(at[i] for i in scored), strict=True), colours.to_rgba(mean[scored])
        ax.scatter(*places, s=70, c=shades, edgecolors="0.3", linewidths=0.6, zorder=3)
    ax.plot([at[i][0] for i in lost], [at[i][1] for i in lost], "x", color="black", zorder=2)
    _mark_best(result, ax, trials, lambda i: at[i])
    _say(ax, lost, "x", _lost_words(result, lost))


# ---------------------------------------------------------------------------------------- details


def _rest(result: ScoredTrials, trial: int, names: list[str]) -> list[Any]:
    return [result.trials[trial].settings.get(name) for name in names]
