"""The picture of a sweep's learning curves."""

from __future__ import annotations

from typing import Any

import numpy as np

from jaxsched.search.results import _drawing as draw
from jaxsched.search.results import _reports as reports
from jaxsched.search.results._scored import ScoredTrials

Curve = tuple[np.ndarray, np.ndarray]  # steps, values


def draw_curves(picture: draw.Picture) -> None:
    """Of each trial the mean over folds and seeds: validation, or training if that has one point.

    Up to eight trials are named beside their ends; of more, the best of each kind.
    """
    result, ax, place = picture.result, picture.ax, picture.place
    curves, label = _validation(result), f"validation {result.metric}"
    raw: list[Curve] = []
    if max(len(x) for x, _ in curves) < 2:
        window = max(1, round(result.train["loss"].shape[-1] / 20))
        curves, label = _training(result, window), "training loss"
        label += f" (mean of {window} updates)" if window > 1 else ""
        raw = _training(result, 1)
    everyone = picture.trials
    groups = list(picture.kinds.values())
    winners = sorted((min(g, key=place.__getitem__) for g in groups), key=place.__getitem__)
    named = everyone if len(everyone) <= draw.MOST_NAMES else winners[: draw.MOST_NAMES]
    if len(groups) == 1 and named is everyone:
        groups = [[i] for i in everyone]
    colours = draw.looks(len(groups), len(groups) == len(everyone) and _ordered(picture))
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
            name = "best: " * (best and len(curves) > 1) + _name(result, i)
            ends.append((float(x[-1]), float(y[-1]), name, colour))
    given = {i: y for i, (_, y) in enumerate(curves) if len(y)}
    none = {*picture.lost, *picture.beyond}
    shown = [given[i] for i in named if i in given and i not in none]
    shown = shown or [given[i] for i in named if i in given]
    _limit(ax, list(given.values()), shown, result.maximize and not raw)
    ax.spines[["top", "right"]].set_visible(False)
    ax.set_xlabel("step (optimizer updates)")
    ax.set_ylabel(draw.text(label, 60))
    draw.name_ends(ax, ends)


def _validation(result: ScoredTrials) -> list[Curve]:
    found = []
    for values in result.validation[result.metric]:
        here = np.isfinite(values).all(axis=(0, 1))
        mean = values[..., here].mean(axis=(0, 1), dtype=np.float64)
        found.append((result.evaluated[here], mean))
    return found


def _training(result: ScoredTrials, window: int) -> list[Curve]:
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


def _limit(ax: Any, curves: list[np.ndarray], shown: list[np.ndarray], maximize: bool) -> None:
    """A logarithmic axis if that is needed, and room for what is shown, and little for the rest."""
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


def _ordered(picture: draw.Picture) -> bool:
    """Whether the trials differ in one number, in its order."""
    names = reports.varying(picture.result)
    if len(names) != 1:
        return False
    values = [picture.setting(i, names[0]) for i in picture.trials]
    scale = draw.Scale(values)
    return scale.ordered and values == scale.values


def _name(result: ScoredTrials, trial: int) -> str:
    """The kind is shorter, where it says which trial is meant."""
    found = result.trials[trial]
    alone = sum(other.kind == found.kind for other in result.trials) == 1
    return found.kind if alone and found.kind and not found.settings else found.name
