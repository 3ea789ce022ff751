"""Pictures of a sweep; matplotlib is loaded when one is drawn.

There are three: learning curves, the score against one setting, and over two. In each the best
trial must be found at once, and no single bad score may take the room of the others: limits are
made for the trials that matter, and points beyond them stand at the edge with a mark for it.
The order of the calls matters. Names are written last, when the limits are final, since where they
stand depends on the size of the axes.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxsched._text import describe
from jaxsched.schedules._picture import axes_of
from jaxsched.search._fingerprint import plain
from jaxsched.search.results import _drawing as draw
from jaxsched.search.results import _reports as reports
from jaxsched.search.results._heat_map import draw_over_two
from jaxsched.search.results._scored import ScoredTrials

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Curve = tuple[np.ndarray, np.ndarray]  # steps, values


def plot(result: ScoredTrials, names: tuple[str, ...], ax: Axes | None) -> Axes:
    """Learning curves, or the score against one setting, or over two; on ``ax`` or a new figure."""
    if len(names) > 2:
        raise ValueError(
            f"plot(*names) must be given at most two settings, got {describe(list(names))}."
        )
    # Trials without one of the settings have no place on its axis. They are left out, so the best
    # trial in the picture need not be the best of all.
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
        draw_over_two(picture, names)
    if result.info.partial:
        ax.set_title(f"{ax.get_title()}{reports.partial(result)}".strip(), fontsize="medium")
    return ax


# -------------------------------------------------------------------------------- learning curves


def _draw_curves(picture: draw.Picture) -> None:
    """Means over folds and seeds for each trial: validation, or training if it has one point only.

    Up to eight trials are named beside their ends; if there are more, the best of each kind.
    """
    result, ax = picture.result, picture.ax
    curves, label = _validation_curves(result), f"validation {result.metric}"
    raw: list[Curve] = []
    if max(len(x) for x, _ in curves) < 2:
        window = max(1, round(result.train["loss"].shape[-1] / 20))
        curves, label = _training_curves(result, window), "training loss"
        label += f" (mean of {window} updates)" if window > 1 else ""
        raw = _training_curves(result, 1)
    named, looks = _curve_looks(picture)
    ends = []
    for i, (x, y) in enumerate(curves):
        if not len(x):
            continue
        colour, _, dash = looks[i]
        style: dict[str, Any] = {"linewidth": 0.8, "alpha": 0.35, "zorder": 2}
        if i in named:
            best = i == picture.best
            style = {"linewidth": 2.4 if best else 1.4, "alpha": 1.0, "zorder": 3}
            name = "best: " * (best and len(curves) > 1) + _shown_name(result, i)
            ends.append((float(x[-1]), float(y[-1]), name, colour))
            if raw and len(named) < 3:  # the noise of more would hide their means
                ax.plot(*raw[i], color=colour, linewidth=0.6, alpha=0.25, zorder=1)
        ax.plot(x, y, color=colour, linestyle=dash, marker="." if len(x) == 1 else "", **style)
        if (result.diverged[i] >= 0).any():
            ax.plot(x[-1:], y[-1:], "x", color=colour, zorder=4)
    _limit_to_curves(picture, curves, named, result.maximize and not raw)
    ax.spines[["top", "right"]].set_visible(False)
    ax.set_xlabel("step (optimizer updates)")
    ax.set_ylabel(draw.text(label, 60))
    draw.name_ends(ax, ends)


def _curve_looks(picture: draw.Picture) -> tuple[list[int], dict[int, draw.Look]]:
    """The trials with names beside their curves, and the look of every trial.

    A colour is a kind, or a trial where there are few of one kind. If one kind has many trials,
    only the best has a colour: the others show the alternatives to it.
    """
    everyone, place = picture.trials, picture.place
    groups = list(picture.kinds.values())
    winners = sorted((min(g, key=place.__getitem__) for g in groups), key=place.__getitem__)
    named = everyone if len(everyone) <= draw.MOST_NAMES else winners[: draw.MOST_NAMES]
    if len(groups) == 1 and named is everyone:
        groups = [[i] for i in everyone]
    in_grey = len(groups) == 1 and len(everyone) > 1
    ordered = len(groups) == len(everyone) and _differ_in_order(picture)
    looks: dict[int, draw.Look] = {}
    for group, look in zip(groups, draw.looks(len(groups), ordered), strict=True):
        faint = look._replace(dash="-", colour=draw.GREY if in_grey else look.colour)
        looks |= {i: look if i in named else faint for i in group}
    return named, looks


def _validation_curves(result: ScoredTrials) -> list[Curve]:
    # After a run has diverged or stopped, the mean would be over fewer runs, and the curve would
    # jump. So it ends with the first run.
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
        end = len(finite) if finite.all() else int(finite.argmin())  # the first not finite
        mean = values[..., :end].mean(axis=(0, 1), dtype=np.float64)
        width = min(window, end)
        if width > 1:
            mean = np.convolve(mean, np.full(width, 1 / width), "valid")
        # A running mean stands at the last of its updates: it contains no later one.
        curves.append((np.arange(end - len(mean) + 1, end + 1), mean))
    return curves


def _limit_to_curves(
    picture: draw.Picture, curves: list[Curve], named: list[int], maximize: bool
) -> None:
    """A logarithmic axis if needed, with room for the named curves and little for the others.

    The axis is made for the trials that are neither lost nor far off, if there are any: one
    exploded run would make all others one line at the bottom.
    """
    ax = picture.ax
    given = {i: y for i, (_, y) in enumerate(curves) if len(y)}
    drawn = [i for i in named if i in given]
    shown = [i for i in drawn if i not in picture.lost and i not in picture.beyond] or drawn
    if not shown:
        return
    every = np.concatenate(list(given.values()))
    ours = np.concatenate([given[i] for i in shown])
    if draw.wide(ours) and not maximize:
        ax.set_yscale("log")
        low = max(every[every > 0].min(), ours.min() / 2)
        ax.set_ylim(low / 1.15, min(every.max(), ours.max() * 2) * 1.15)
        return
    span = draw.span(ours)
    low, high = (max(every.min(), ours.min() - span / 2), min(every.max(), ours.max() + span / 2))
    ax.set_ylim(low - 0.05 * span, high + 0.05 * span)


def _differ_in_order(picture: draw.Picture) -> bool:
    """Whether the trials differ in one number, in its order: then shades tell more than colours."""
    names = reports.varying(picture.result)
    if len(names) != 1:
        return False
    values = [picture.setting(i, names[0]) for i in picture.trials]
    scale = draw.Scale(values)
    return scale.ordered and values == scale.values


def _shown_name(result: ScoredTrials, trial: int) -> str:
    """A trial's kind, which is shorter, if it identifies the trial; else its name."""
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
    ax.set_ylim(*ax.get_ylim())  # from here on nothing moves them
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
    """Trials without a score, or with one too bad, at the worse side, where they would be.

    In x they stand at their setting, in y at a fraction of the axis for any limits: 0.98 is near
    the top. Where more is better, the worse side is at the bottom.
    """
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
    """Room for the scores and their errors, but not for an error larger than both."""
    # With two runs the error may be a hundred times the distance of the scores. Its bar is then cut
    # at the edge, since the scores are compared.
    trials = [i for i in picture.trials if i not in picture.lost and i not in picture.beyond]
    if not trials:
        return
    scores, error = picture.mean[trials], np.nan_to_num(picture.error[trials])
    log, _ = draw.score_axis(scores, picture.result.maximize)
    span = draw.span(scores)
    bar = np.fmin(error, 2 * span)
    if log:
        picture.ax.set_yscale("log")
        picture.ax.set_ylim(scores.min() / 1.3, (scores + bar).max() * 1.3)
    else:
        low, high = (scores - bar).min() - 0.08 * span, (scores + bar).max() + 0.08 * span
        picture.ax.set_ylim(low, high)


def _coloured_groups(picture: draw.Picture, others: list[str]) -> tuple[dict[str, list[int]], bool]:
    """The groups with a colour each: kinds, or values of the second setting; and if ordered."""
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
        # Trials without this setting have a group of their own, beside the groups of its values.
        f"no {second}" if value is None else f"{second}={text}": [
            i for i in picture.trials if values[i] == value
        ]
        for value, text in zip(scale.values, shown, strict=True)
    }
    return groups, scale.ordered
