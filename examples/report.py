"""Tables and figures of the examples: paired differences, and one look for all plots."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import numpy as np

# Okabe and Ito's palette, for every kind of colour vision, in the order in which a sweep's own
# pictures take its colours. Grey is for constant rates that were tuned.
PALETTE = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000"]
GREY = "#808080"

Accuracies = dict[str, np.ndarray]  # name -> accuracies in percent, [seeds]


def mean_std(values: np.ndarray) -> str:
    """`95.11 ± 0.29`: mean and sample deviation over the seeds."""
    return f"{values.mean():.2f} ± {values.std(ddof=1):.2f}"


def gain(values: np.ndarray, reference: np.ndarray) -> str:
    """`+2.57 (0.26)`: mean paired difference and its standard error."""
    difference = values - reference
    if not difference.any():
        return "-"
    error = difference.std(ddof=1) / np.sqrt(len(difference))
    return f"{difference.mean():+.2f} ({error:.2f})"


def table(rows: list[list[str]]) -> str:
    """Columns as wide as they need to be; the first is left-aligned. The first row is the head."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = [
        "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in rows
    ]
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])


def comparison(title: str, entries: Accuracies, references: Collection[str]) -> str:
    """Test accuracies, and the paired gain of each over every reference."""
    head = [title, "test accuracy", *[f"against {name}" for name in references]]
    rows = [
        [name, mean_std(values), *[gain(values, entries[other]) for other in references]]
        for name, values in entries.items()
    ]
    return table([head, *rows])


@contextlib.contextmanager
def figure(path: str | Path, rows: int, columns: int, size: tuple[float, float]) -> Iterator[Any]:
    """Gives the figure and its axes, all in one look; saves it at the end."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    from cycler import cycler

    style = {
        "font.size": 10.5,
        "axes.titlesize": 11.5,
        "axes.titleweight": "bold",
        "axes.titlelocation": "left",
        "axes.titlepad": 10,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "grid.color": "#E5E5E5",
        "axes.axisbelow": True,
        "axes.prop_cycle": cycler(color=PALETTE),
        "legend.frameon": False,
    }
    with plt.rc_context(style):
        fig, axes = plt.subplots(rows, columns, figsize=size, layout="constrained")
        fig.get_layout_engine().set(w_pad=0.12, h_pad=0.12)
        yield fig, axes
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        fig.savefig(path, dpi=120)
        plt.close(fig)
    print(f"figure: {path}")


def band(axes: Any, x: np.ndarray, values: np.ndarray, **style: Any) -> None:
    """The mean over the seeds (the first axis) as a line, one deviation to each side as a band."""
    mean, deviation = values.mean(0), values.std(0, ddof=1)
    (line,) = axes.plot(x, mean, **style)
    axes.fill_between(
        x, mean - deviation, mean + deviation, color=line.get_color(), alpha=0.18, linewidth=0
    )


def curves(axes: Any, lines: dict[str, tuple[np.ndarray, str]], steps: np.ndarray) -> None:
    """Validation accuracy [seeds, points] and colour by name; grey ones are dashed."""
    for values, colour in lines.values():
        band(axes, steps, values, color=colour, lw=2, ls="--" if colour == GREY else "-")
    end = steps[-1]
    axes.set(xlabel="step", ylabel="validation accuracy, %", xlim=(0, 1.45 * end))
    axes.set_xticks(np.linspace(0, end, 5))
    label_ends(axes, end, [(n, colour, v[:, -1].mean()) for n, (v, colour) in lines.items()])


def label_ends(axes: Any, x: float, lines: list[tuple[str, str, float]]) -> None:
    """Writes each line's (name, colour, y) beside its end at x, moved so that no two overlap."""
    low, high = axes.get_ylim()
    apart = 0.055 * (high - low)
    lines = sorted(lines, key=lambda line: line[2])
    places = np.array([line[2] for line in lines])
    for _ in range(100):  # push neighbours apart, each by half of what is missing
        missing = np.maximum(0.0, apart - np.diff(places)) / 2
        places[1:] += missing
        places[:-1] -= missing
    for (name, colour, _), y in zip(lines, places, strict=True):
        axes.annotate(
            name,
            (x, y),
            (6, 0),
            textcoords="offset points",
            annotation_clip=False,
            color=colour,
            va="center",
            fontsize=9.5,
        )


def dots(axes: Any, entries: Accuracies, colors: dict[str, str], reference: float) -> None:
    """Accuracies, one below the other: mean, deviation, every seed."""
    names = list(reversed(entries))
    for row, name in enumerate(names):
        values, colour = entries[name], colors.get(name, GREY)
        axes.plot(values, np.full(len(values), row), "o", color=colour, alpha=0.35, ms=4, mew=0)
        axes.errorbar(
            values.mean(), row, xerr=values.std(ddof=1), fmt="D", color=colour, capsize=3, ms=5.5
        )
    axes.axvline(reference, color=GREY, ls="--", lw=1.2, zorder=0)
    axes.set_yticks(
        range(len(names)), [name.replace(", averaged", ",\naveraged") for name in names]
    )
    axes.grid(axis="y", visible=False)
    axes.set_xlabel(f"test accuracy, %: mean, deviation and all {len(values)} seeds")
