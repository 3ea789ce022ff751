"""Pictures of a sweep; matplotlib is loaded when one is drawn."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from jaxsched.search._result import SweepResult


def plot(result: SweepResult, names: tuple[str, ...], ax: Any) -> Any:
    """Learning curves, or the score against one setting, or over two; on ``ax`` or a new figure."""
    if len(names) > 2:
        raise ValueError(f"`plot(*names)` must be given at most two settings, got {list(names)}.")
    for name in names:
        result.having(name, "plot(*names)")
    columns = [[t.settings.get(name) for t in result.trials] for name in names]
    if ax is None:
        try:
            import matplotlib.pyplot as plt
        except ImportError:
            raise ImportError("`plot()` needs matplotlib: pip install jaxsched[plot].") from None
        ax = plt.subplots()[1]
    if not names:
        _curves(result, ax)
    elif len(names) == 1:
        _against(result, names[0], columns[0], ax)
    else:
        _heat(result, names, columns, ax)
    return ax


def _curves(result: SweepResult, ax: Any) -> None:
    """Validation curves, mean over folds and seeds; the best one stands out."""
    values = result.validation[result.metric]
    best = _best(result)
    for i in range(len(result.trials)):
        here = np.isfinite(values[i]).all(axis=(0, 1))
        chosen = i == best
        ax.plot(
            result.evaluated[here],
            values[i][..., here].mean(axis=(0, 1)),
            color="C1" if chosen else "0.7",
            linewidth=2 if chosen else 1,
            zorder=3 if chosen else 2,
            marker="." if here.sum() == 1 else "",
            label=_text(f"best: {result.trials[i].name}") if chosen else None,
        )
    ax.set_xlabel("step (optimizer updates)")
    ax.set_ylabel(_text(f"validation {result.metric}"))
    if best is not None:
        ax.legend()


def _against(result: SweepResult, name: str, column: list[Any], ax: Any) -> None:
    """The score against one setting, with its standard error; a cross below: diverged."""
    mean, error = result.scores()
    numeric = all(isinstance(v, (int, float)) for v in column)
    labels = sorted(set(column)) if numeric else list(dict.fromkeys(map(str, column)))
    x = np.array(column, float) if numeric else np.array([labels.index(str(v)) for v in column])
    good = np.isfinite(mean)
    bars = np.where(np.isfinite(error), error, 0.0)
    ax.errorbar(x[good], mean[good], bars[good], fmt="o", color="C0", capsize=3)
    if good.any() and not good.all():
        low = ax.get_ylim()[0]
        ax.plot(x[~good], np.full((~good).sum(), low), "x", color="C3", label="diverged or stopped")
    best = _best(result)
    if best is not None:
        ax.plot(x[best], mean[best], "o", color="C1", zorder=3, label="best")
        ax.legend()
    if not numeric:
        ax.set_xticks(range(len(labels)), list(map(_text, labels)))
    elif min(x) > 0 and max(x) > 20 * min(x):
        ax.set_xscale("log")
    ax.set_xlabel(_text(name))
    ax.set_ylabel(_text(f"validation {result.metric}"))


def _heat(result: SweepResult, names: tuple[str, ...], columns: list[list[Any]], ax: Any) -> None:
    """The best score of each pair of settings; what is blank diverged, stopped or wasn't tried."""
    mean, _ = result.scores()
    values = [list(dict.fromkeys(c)) for c in columns]
    values = [sorted(v) if all(isinstance(x, (int, float)) for x in v) else v for v in values]
    cells = np.full((len(values[1]), len(values[0])), np.nan)
    better = np.fmax if result.maximize else np.fmin
    for x, y, score in zip(*columns, mean, strict=True):
        at = (values[1].index(y), values[0].index(x))
        cells[at] = better(cells[at], score)
    image = ax.imshow(cells, origin="lower", aspect="auto", cmap="viridis")
    ax.figure.colorbar(image, ax=ax, label=_text(f"validation {result.metric}"))
    for axis, name, ticks in zip((ax.xaxis, ax.yaxis), names, values, strict=True):
        shown = [f"{t:.3g}" if _is_float(t) else _text(str(t)) for t in ticks]
        axis.set_ticks(range(len(ticks)), shown)
        axis.set_label_text(_text(name))


def _best(result: SweepResult) -> int | None:
    first = result.ranking()[0]
    return first if np.isfinite(result.scores()[0][first]) else None


def _text(name: str) -> str:
    """As it is: matplotlib would set what stands between two dollars as mathematics."""
    return name.replace("$", r"\$")


def _is_float(x: Any) -> bool:
    return isinstance(x, float)
