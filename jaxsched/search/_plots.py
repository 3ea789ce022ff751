"""Pictures of a sweep; matplotlib is loaded when one is drawn."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxsched.search import _drawing as draw
from jaxsched.search import _reports as reports
from jaxsched.search._fingerprint import label as plain_label

if TYPE_CHECKING:
    from jaxsched.search._result import SweepResult


_SMALL: dict[str, Any] = {"fontsize": "small", "fontweight": "normal", "color": "0.3"}


def plot(result: SweepResult, names: tuple[str, ...], ax: Any) -> Any:
    """Learning curves, or the score against one setting, or over two; on ``ax`` or a new figure."""
    if len(names) > 2:
        raise ValueError(f"`plot(*names)` must be given at most two settings, got {list(names)}.")
    having = [set(result.having(name, "plot(*names)")) for name in names]
    trials = sorted(set.intersection(*having)) if names else list(range(len(result.trials)))
    if not trials:
        raise ValueError(f"`plot(*names)` must be settings of one trial, got {list(names)}.")
    if ax is None:
        try:
            import matplotlib.pyplot as plt
        except ImportError:
            raise ImportError("`plot()` needs matplotlib: pip install jaxsched[plot].") from None
        ax = plt.subplots(layout="constrained")[1]
    if not names:
        _curves(result, ax)
    elif len(names) == 1:
        _against(result, names[0], trials, ax)
    else:
        _over_two(result, names, trials, ax)
    return ax


# ----------------------------------------------------------------------------------------- curves


def _curves(result: SweepResult, ax: Any) -> None:
    """Of each trial the mean over folds and seeds: validation, or training if that has one point.

    Up to eight trials are named beside their ends; of more, the best of each kind.
    """
    curves, label = _validation(result), f"validation {result.metric}"
    raw: list[tuple[np.ndarray, np.ndarray]] = []
    if max(len(x) for x, _ in curves) < 2:
        window = max(1, round(result.train["loss"].shape[-1] / 20))
        curves, label = _training(result, window), "training loss"
        label += f" (mean of {window} updates)" if window > 1 else ""
        raw = _training(result, 1)
    everyone = list(range(len(result.trials)))
    groups = list(_by_kind(result, everyone).values())
    ranked = {trial: place for place, trial in enumerate(result.ranking())}
    first = _best(result)
    winners = sorted((min(g, key=lambda i: ranked[i]) for g in groups), key=lambda i: ranked[i])
    named = everyone if len(everyone) <= draw.MOST_NAMES else winners[: draw.MOST_NAMES]
    if len(groups) == 1 and named is everyone:
        groups = [[i] for i in everyone]
    colours = draw.looks(len(groups), len(groups) == len(everyone) and _ordered(result, everyone))
    looks = {i: look for group, look in zip(groups, colours, strict=True) for i in group}
    alone = len(groups) == 1 and len(everyone) > 1
    ends = []
    for i, (x, y) in enumerate(curves):
        if not len(x):
            continue
        stands_out = i in named
        colour = draw.GREY if alone and not stands_out else looks[i].colour
        if raw and stands_out and len(named) < 3:
            ax.plot(*raw[i], color=colour, linewidth=0.6, alpha=0.25, zorder=1)
        ax.plot(
            x,
            y,
            color=colour,
            linestyle=looks[i].dash if stands_out else "-",
            linewidth=(2.4 if i == first else 1.4) if stands_out else 0.8,
            alpha=1.0 if stands_out else 0.35,
            zorder=3 if stands_out else 2,
            marker="." if len(x) == 1 else "",
        )
        if (result.diverged[i] >= 0).any():
            ax.plot(x[-1:], y[-1:], "x", color=colour, zorder=4)
        if stands_out:
            best = "best: " if i == first and len(curves) > 1 else ""
            ends.append((float(x[-1]), float(y[-1]), best + _name(result, i), colour))
    shown = [y for i, (_, y) in enumerate(curves) if i in named and len(y)]
    _limit(ax, [y for _, y in curves if len(y)], shown)
    ax.spines[["top", "right"]].set_visible(False)
    ax.set_xlabel("step (optimizer updates)")
    ax.set_ylabel(draw.text(label, 60))
    draw.name_ends(ax, ends)


def _validation(result: SweepResult) -> list[tuple[np.ndarray, np.ndarray]]:
    found = []
    for values in result.validation[result.metric]:
        here = np.isfinite(values).all(axis=(0, 1))
        found.append(
            (result.evaluated[here], values[..., here].mean(axis=(0, 1), dtype=np.float64))
        )
    return found


def _training(result: SweepResult, window: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Running means over so many updates, up to where the first run ends."""
    found = []
    for values in result.train["loss"]:
        finite = np.isfinite(values).all(axis=(0, 1))
        end = len(finite) if finite.all() else int(finite.argmin())
        mean = values[..., :end].mean(axis=(0, 1), dtype=np.float64)
        width = min(window, end)
        if width > 1:
            mean = np.convolve(mean, np.full(width, 1 / width), "valid")
        found.append((np.arange(end - len(mean) + 1, end + 1), mean))
    return found


def _limit(ax: Any, curves: list[np.ndarray], shown: list[np.ndarray]) -> None:
    """A logarithmic axis if that is needed, and no room for what explodes."""
    if not shown:
        return
    every, ours = np.concatenate(curves), np.concatenate(shown)
    if draw.wide(ours):
        ax.set_yscale("log")
        if every.min() > 0:
            low = min(ours.min(), max(every.min(), ours.min() / 10))
            ax.set_ylim(low / 1.15, min(every.max(), ours.max() * 3) * 1.15)
        return
    span = max(np.ptp(ours), 1e-3 * np.abs(ours).max(), 1e-12)
    low, high = max(every.min(), ours.min() - span), min(every.max(), ours.max() + span)
    ax.set_ylim(low - 0.05 * span, high + 0.05 * span)


# ---------------------------------------------------------------------------- against one setting


def _against(result: SweepResult, name: str, trials: list[int], ax: Any) -> None:
    """The score against one setting: a line for each kind, or for each value of a second setting.

    The line is the best at each value, with its standard error; what else was tried there is faint.
    """
    mean, error = result.scores()
    scale = draw.Scale(_of(result, i, name) for i in trials)
    groups, ordered = _groups(result, name, trials)
    others = [n for n in reports.varying(result) if n != name]
    good = [i for i in trials if math.isfinite(mean[i])]
    lost = [i for i in trials if not math.isfinite(mean[i])]
    ranked = {trial: place for place, trial in enumerate(result.ranking())}
    ends = []
    looks = draw.looks(len(groups), ordered)
    look_of = {i: look for g, look in zip(groups.values(), looks, strict=True) for i in g}
    for (label, group), look in zip(groups.items(), looks, strict=True):
        best: dict[float, int] = {}
        scored = [i for i in group if math.isfinite(mean[i])]
        for i in sorted(scored, key=ranked.__getitem__):
            best.setdefault(scale.at(_of(result, i, name)), i)
        faint = sorted(set(scored) - set(best.values()))
        x = [scale.at(_of(result, i, name)) for i in faint]
        ax.plot(x, mean[faint], look.mark, color=look.colour, alpha=0.3, markersize=4, zorder=2)
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
            zorder=3,
        )
        if rows and len(groups) > 1:
            ends.append((at[-1], float(mean[rows[-1]]), label, look.colour))
    if draw.wide(mean[good]):
        ax.set_yscale("log")
    scale.draw(ax.xaxis, ax.set_xscale)
    _mark_best(result, ax, trials, lambda i: (scale.at(_of(result, i, name)), mean[i]))
    _mark_lost(result, ax, lost, lambda i: scale.at(_of(result, i, name)), look_of)
    if not scale.numeric:
        ax.set_xlim(-0.5, len(scale.values) - 0.5)
    ax.set_xlabel(draw.text(name))
    ax.set_ylabel(draw.text(f"validation {result.metric}"))
    ax.spines[["top", "right"]].set_visible(False)
    ax.set_ylim(*ax.get_ylim())
    if len(ends) <= draw.MOST_NAMES:
        draw.name_ends(ax, ends)


def _groups(result: SweepResult, name: str, trials: list[int]) -> tuple[dict[str, list[int]], bool]:
    """What is a colour: the kinds, or else the second setting; and whether it has an order."""
    groups = _by_kind(result, trials)
    others = [n for n in reports.varying(result) if n != name]
    if len(groups) > 1 or len(others) != 1:
        return groups, False
    (second,) = others
    scale = draw.Scale(_of(result, i, second) for i in trials)
    if len(scale.values) > draw.MOST_NAMES:
        return groups, False
    found: dict[str, list[int]] = {}
    for value in scale.values:
        label = f"{second}={reports.show(value)}" if value is not None else f"no {second}"
        found[label] = [i for i in trials if _of(result, i, second) == value]
    return found, scale.ordered


def _mark_best(result: SweepResult, ax: Any, trials: list[int], where: Any) -> None:
    best = _best(result)
    if best in trials:
        ax.plot(*where(best), "*", color="white", markeredgecolor="black", markersize=15, zorder=5)
        ax.set_title("\N{WHITE STAR} best", loc="right", **_SMALL)


def _mark_lost(result: SweepResult, ax: Any, lost: list[int], where: Any, looks: Any) -> None:
    """Crosses at the worse side of the axes, where they would be."""
    place = 0.02 if result.maximize else 0.98
    for i in lost:
        x = [where(i)], [place]
        colour = looks[i].colour
        ax.plot(*x, "x", color=colour, transform=ax.get_xaxis_transform(), zorder=4)
    _say_lost(result, ax, lost)


def _say_lost(result: SweepResult, ax: Any, lost: list[int]) -> None:
    """What a cross is."""
    if lost:
        gone = [(result.diverged[i] >= 0).any() for i in lost]
        said = "diverged" if all(gone) else "stopped" if not any(gone) else "diverged or stopped"
        before = ax.get_title(loc="right")
        title = f"{before}   " * bool(before) + f"\N{MULTIPLICATION SIGN} {said}"
        ax.set_title(title, loc="right", **_SMALL)


# ------------------------------------------------------------------------------- over two settings


def _over_two(result: SweepResult, names: tuple[str, ...], trials: list[int], ax: Any) -> None:
    """The best score of each pair of settings, as numbers on colours; of draws, as points."""
    scales = [draw.Scale(_of(result, i, name) for i in trials) for name in names]
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
    result: SweepResult,
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
        place = tuple(s.values.index(_of(result, i, n)) for s, n in zip(scales, names, strict=True))
        found.setdefault((place[0], place[1]), i)
    several = len(_by_kind(result, trials)) > 1
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
    _say_lost(result, ax, [i for i in found.values() if not math.isfinite(mean[i])])
    best = _best(result)
    for (x, y), i in found.items():
        if i == best:
            frame: dict[str, Any] = {"fill": False, "edgecolor": draw.COLOURS[1], "zorder": 3}
            ax.add_patch(Rectangle((x - 0.47, y - 0.47), 0.94, 0.94, linewidth=3, **frame))
    ax.set_xlim(-0.5, across - 0.5)
    ax.set_ylim(-0.5, up - 0.5)
    for axis, scale in zip((ax.xaxis, ax.yaxis), scales, strict=True):
        shown = [reports.show(v) if draw.is_number(v) else plain_label(v) for v in scale.values]
        axis.set_ticks(range(len(shown)), [draw.text(label, 16) for label in shown])
        axis.set_tick_params(length=0)


def _points(
    result: SweepResult,
    names: tuple[str, ...],
    trials: list[int],
    scales: list[draw.Scale],
    colours: Any,
    ax: Any,
) -> None:
    mean, _ = result.scores()
    at = {
        i: tuple(s.at(_of(result, i, n)) for s, n in zip(scales, names, strict=True))
        for i in trials
    }
    for scale, axis, change in zip(
        scales, (ax.xaxis, ax.yaxis), (ax.set_xscale, ax.set_yscale), strict=True
    ):
        scale.draw(axis, change)
    for i in trials:
        if math.isfinite(mean[i]):
            colour = [colours.to_rgba(mean[i])]
            ax.scatter(*at[i], s=70, c=colour, edgecolors="0.3", linewidths=0.6, zorder=3)
        else:
            ax.plot(*at[i], "x", color="black", zorder=2)
    _mark_best(result, ax, trials, lambda i: at[i])
    _say_lost(result, ax, [i for i in trials if not math.isfinite(mean[i])])


# ---------------------------------------------------------------------------------------- details


def _by_kind(result: SweepResult, trials: Any) -> dict[str, list[int]]:
    groups: dict[str, list[int]] = {}
    for i in trials:
        groups.setdefault(result.trials[i].kind, []).append(i)
    return groups


def _ordered(result: SweepResult, trials: list[int]) -> bool:
    """Whether the trials differ in one number, in its order."""
    names = reports.varying(result)
    if len(names) != 1:
        return False
    values = [_of(result, i, names[0]) for i in trials]
    scale = draw.Scale(values)
    return scale.ordered and values == scale.values


def _of(result: SweepResult, trial: int, name: str) -> Any:
    value = result.trials[trial].settings.get(name)
    return str(value) if isinstance(value, (list, dict)) else value


def _rest(result: SweepResult, trial: int, names: list[str]) -> list[Any]:
    return [result.trials[trial].settings.get(name) for name in names]


def _name(result: SweepResult, trial: int) -> str:
    """The kind is shorter, where it says which trial is meant."""
    found = result.trials[trial]
    alone = sum(other.kind == found.kind for other in result.trials) == 1
    return found.kind if alone and found.kind and not found.settings else found.name


def _best(result: SweepResult) -> int | None:
    first = result.ranking()[0]
    return first if np.isfinite(result.scores()[0][first]) else None
