"""The common parts of a sweep's pictures: colours, scales, names beside the curves.

Names stand beside the curves and not in a legend: with eight lines a legend is a puzzle, and in
grey print it cannot be solved. A legend finds a place for itself; names need room on the right, and
heights at which no two of them overlap. So sizes of texts are computed here, in points, since texts
do not grow with the axes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from jaxsched._svg import clipped
from jaxsched._text import printable
from jaxsched.recipes._share import share
from jaxsched.search._fingerprint import label
from jaxsched.search.results._reports import is_number
from jaxsched.search.results._scored import ScoredTrials

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import XAxis, YAxis

# Okabe and Ito's palette, distinct for every kind of colour vision, without its pale yellow.
# Marks and dashes differ too, for a page in grey.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKS = ("o", "s", "^", "D", "v", "P", "X")
DASHES = ("-", "--", "-.", (0, (5, 1, 1, 1, 1, 1)), ":", (0, (8, 2)), (0, (3, 1, 1, 1)))
GREY = "#9A9A9A"
MOST_NAMES = 8  # if there are more curves, not all are named
_CHARACTERS = 36
_FONT = 9.0
_SMALL: dict[str, Any] = {"fontsize": "small", "fontweight": "normal", "color": "0.3"}
_SHOWN = {
    "x": "\N{MULTIPLICATION SIGN}",
    "^": "\N{BLACK UP-POINTING TRIANGLE}",
    "v": "\N{BLACK DOWN-POINTING TRIANGLE}",
}


class Look(NamedTuple):
    colour: str
    mark: str
    dash: str | tuple[int, tuple[int, ...]]  # as matplotlib takes them


def looks(count: int, ordered: bool) -> list[Look]:
    """A look for each of several groups; for ordered values, shades from dark to light."""
    # Where colours repeat, the marks differ.
    marks = [MARKS[(i + i // len(COLOURS)) % len(MARKS)] for i in range(count)]
    if ordered and count > 1:
        import matplotlib
        from matplotlib.colors import to_hex

        # Not to the map's end, which is too light on white paper.
        shades = map(to_hex, matplotlib.colormaps["viridis"](np.linspace(0.0, 0.85, count)))
        return [Look(shade, mark, "-") for shade, mark in zip(shades, marks, strict=True)]
    dashes = [DASHES[i % len(DASHES)] for i in range(count)]
    colours = [COLOURS[i % len(COLOURS)] for i in range(count)]
    return [Look(*look) for look in zip(colours, marks, dashes, strict=True)]


def is_geometric(values: Iterable[float]) -> bool:
    """Whether numbers are spaced by their ratios rather than by their differences."""
    # Evenly spaced numbers have equal differences, a geometric grid equal ratios. Drawn numbers
    # have neither, and get the scale on which they are spread more evenly.
    at = np.unique(np.array(list(values), np.float64))
    if len(at) < 2 or at[0] <= 0 or at[-1] < 3 * at[0]:
        return False
    if len(at) == 2:
        return True
    even, ratios = np.diff(at), np.diff(np.log(at))
    return bool(ratios.std() / ratios.mean() < even.std() / even.mean())


def wide(values: np.ndarray) -> bool:
    """Whether scores need a logarithmic axis."""
    values = values[np.isfinite(values)]
    return bool(len(values) and values.min() > 0 and values.max() > 20 * values.min())


def span(values: np.ndarray) -> float:
    """The range from the lowest to the highest of some scores; not 0 even if all are equal."""
    return float(max(np.ptp(values), 1e-3 * np.abs(values).max(), 1e-12))


def text(name: str, most: int = _CHARACTERS) -> str:
    """Shortened, with dollars escaped: matplotlib would set the text between two as mathematics."""
    return clipped(printable(name), most).replace("$", r"\$")


class Scale:
    """Positions on an axis: numbers by their size or ratio, other values side by side.

    Shares are numbers too, but cannot be on one axis with steps: 10 % is not a number of steps.

    ``ordered`` and ``numeric`` are two things. 0, 10, 100, 1000 and 1e30 have an order, but at
    their places on a line of numbers four of them would be one mark. So they stand side by side, in
    order.
    """

    def __init__(self, values: Iterable[Any]):
        distinct = list(dict.fromkeys(values))
        shares = all(isinstance(v, share) for v in distinct)
        self.ordered = self.numeric = shares or all(map(is_number, distinct))
        self.values = sorted(distinct) if self.numeric else distinct
        self._places = {value: place for place, value in enumerate(self.values)}
        numbers = [float(v) for v in self.values] if self.numeric else []
        self.log = is_geometric(numbers)
        if 3 < len(numbers) < 13:
            # With one value far from all others, these would overlap: 1e30, or 0, 10, 100, 1000.
            gaps = np.diff(np.log(numbers) if self.log else numbers)
            self.numeric = bool(gaps.max() < 0.7 * gaps.sum())
            self.log = self.log and self.numeric

    def at(self, value: Any) -> float:
        return float(value if self.numeric else self._places[value])

    def place(self, value: Hashable) -> int:
        """Which one of the values it is, in their order."""
        return self._places[value]

    def draw(self, axis: XAxis | YAxis, set_scale: Callable[[str], object]) -> None:
        """Sets up an axis: its scale, and ticks at the values where there is room."""
        if self.log:
            set_scale("log")
        places = np.array([self.at(v) for v in self.values])
        shown = [f"{v:.3g}" if is_number(v) else text(label(v), 16) for v in self.values]
        scaled = np.log(places) if self.log else places
        room = np.ptp(scaled) / 14
        if not self.numeric:
            set_marks(axis, shown, self.ordered)
        elif len(places) < 10 and (np.diff(scaled) > room).all():
            axis.set_ticks(places, shown)
            axis.set_ticks([], minor=True)


def set_marks(axis: Any, shown: list[str], ordered: bool) -> None:
    """Marks at 0, 1, ... without overlap: words are turned; without room, some are omitted."""
    box, points = axis.axes.get_window_extent(), 72 / axis.axes.figure.dpi
    across = axis.axis_name == "x"
    room = (box.width if across else box.height) * points / len(shown)
    # A letter is about 0.65 of the font's size wide, a line 1.3 of it high.
    needed = 0.65 * _FONT * (max(map(len, shown)) + 1) if across else 1.3 * _FONT
    turned = across and needed > room and not ordered
    every = math.ceil((1.3 * _FONT if turned else needed) / room)
    axis.set_ticks(range(0, len(shown), every), shown[::every])
    if turned:
        for mark in axis.get_ticklabels():
            mark.set(rotation=30, ha="right", rotation_mode="anchor")


def name_ends(ax: Axes, ends: list[tuple[float, float, str, str]]) -> None:
    """Writes each curve's (x, y, name, colour) to the right of all, so that no two names overlap.

    It needs the final limits of y, and makes room in x.
    """
    if not ends:
        return
    figure: Any = ax.figure
    if figure.get_layout_engine() is not None:
        figure.draw_without_rendering()  # now the axes have their size
    size = ax.get_window_extent()
    points = 72 / figure.dpi
    width, height = size.width * points, size.height * points
    # The room in x comes first: it moves no height. From there on all is in shares of the axes,
    # where a logarithmic axis is as good as another.
    names = [text(name) for *_, name, _ in ends]
    left = _with_room_beside(ax, names, width)
    bottom, top = ax.yaxis.get_transform().transform(np.array(ax.get_ylim()))
    within = np.sort(ax.get_ylim())
    ends = [(x, float(np.clip(y, *within)), name, colour) for x, y, name, colour in ends]
    heights = ax.yaxis.get_transform().transform(np.array([y for _, y, *_ in ends], float))
    places = _spread_out((heights - bottom) / (top - bottom), 1.35 * _FONT / height)
    line = {"arrowstyle": "-", "linewidth": 0.6, "alpha": 0.6}
    line |= {"shrinkA": 1, "shrinkB": 1, "relpos": (0.0, 0.5)}
    for (x, y, _, colour), name, place in zip(ends, names, places, strict=True):
        ax.annotate(
            name,
            (x, y),
            (left, place),
            textcoords="axes fraction",
            color=colour,
            va="center",
            fontsize=_FONT,
            arrowprops=line | {"color": colour},
        )


def _with_room_beside(ax: Axes, names: list[str], width: float) -> float:
    """Makes room for names at the right, ``width``: of the axes, in points; returns its start."""
    from matplotlib.textpath import TextPath
    from matplotlib.ticker import FixedLocator

    # With a dot, for matplotlib fails to measure a blank text. Names take at most 0.55 of the
    # width, so there is room left for the curves.
    longest = max(TextPath((0, 0), f".{name}", size=_FONT).get_extents().width for name in names)
    left = 1 - min(0.55, (1.06 * longest + 6) / width)
    scale = ax.xaxis.get_transform()
    first, last = ax.get_xlim()
    low, high = scale.transform(np.array([first, last]))
    for minor, locator in ((False, ax.xaxis.get_major_locator()), (True, None)):
        if not isinstance(locator, FixedLocator):  # no marks below the names
            ticks = [t for t in ax.get_xticks(minor=minor) if first <= t <= last]
            ax.set_xticks(ticks, minor=minor)
    ax.set_xlim(first, scale.inverted().transform(np.array([low + (high - low) / left]))[0])
    return left


def _spread_out(places: np.ndarray, gap: float) -> np.ndarray:
    """Heights in [0, 1], near the given ones and, if possible, at least so far from each other."""
    order = np.argsort(places, kind="stable")
    sorted_places = np.clip(places[order], gap / 2, 1 - gap / 2)
    # Neighbours are pushed apart, each by half of their overlap, again and again, since that may
    # push one into the next. Without room for all it ends in an even overlap. To solve for the
    # least moves would be a quadratic program for a handful of names.
    for _ in range(200):
        missing = np.maximum(0.0, gap - np.diff(sorted_places)) / 2
        sorted_places[1:] += missing
        sorted_places[:-1] -= missing
        sorted_places = np.clip(sorted_places, gap / 2, 1 - gap / 2)
    result = np.empty_like(places)
    result[order] = sorted_places
    return result


def score_axis(scores: np.ndarray, maximize: bool) -> tuple[bool, float]:
    """(whether logarithmic, the worst score with room), so that exploded scores take no room.

    A score counts as exploded if it is many times as far from the best one as the median is.
    """
    sign = -1.0 if maximize else 1.0
    costs = np.sort(sign * scores[np.isfinite(scores)])
    # Again without the exploded scores: beside a score of 1e30 one of 1e6 is not far away.
    while True:
        log = not maximize and wide(costs)
        at = np.log(costs) if log else costs
        middle = at[len(at) // 2]
        near = costs[at <= at[0] + (5 if log else 20) * (middle - at[0])]
        if middle == at[0] or len(near) == len(costs):
            return log, float(sign * costs[-1])
        costs = near


def colour_range(scores: np.ndarray, maximize: bool) -> tuple[float, float, bool]:
    """(lowest, highest, whether there is worse): three times from the best to the median.

    Otherwise one bad trial would make all others the same colour.
    """
    sign = -1.0 if maximize else 1.0
    costs = np.sort(sign * scores[np.isfinite(scores)])
    best, worst = costs[0], costs[-1]
    middle = costs[len(costs) // 2]
    most = min(worst, best + 3 * (middle - best)) if middle > best else worst
    # Equal scores need a range, too: matplotlib divides by it.
    most = most if most > best else best + max(1e-6, abs(best) * 1e-3)
    low, high = sorted((sign * best, sign * most))
    return float(low), float(high), bool(worst > most and not math.isclose(worst, most))


class Picture:
    """Some trials of a result with their scores, and the axes to draw on."""

    def __init__(self, result: ScoredTrials, trials: list[int], ax: Axes):
        self.result, self.trials, self.ax = result, trials, ax
        self.mean, self.error = result.scores()
        ranking = result.ranking()
        # The places of all trials, drawn or not: the star is for the best of all.
        self.place = {trial: place for place, trial in enumerate(ranking)}
        self.best = ranking[0] if np.isfinite(self.mean[ranking[0]]) else None
        self.lost = [i for i in trials if not math.isfinite(self.mean[i])]
        self.beyond: list[int] = []  # with scores too bad for the axes
        if len(self.lost) < len(trials):
            sign = -1.0 if result.maximize else 1.0
            _, worst = score_axis(self.mean[trials], result.maximize)
            self.beyond = [i for i in trials if sign * self.mean[i] > sign * worst]
        self.kinds: dict[str, list[int]] = {}
        for i in trials:
            self.kinds.setdefault(result.trials[i].kind or "of no kind", []).append(i)

    def setting(self, trial: int, name: str) -> Hashable:
        """A number or text as it is, any other value as a text: it may not be hashable."""
        value = self.result.trials[trial].settings.get(name)
        return value if isinstance(value, (int, float, str, share, type(None))) else label(value)

    def mark_best(self, where: Callable[[int], Iterable[float]]) -> None:
        """A star at ``where(trial)``."""
        if self.best in self.trials:
            star: dict[str, Any] = {"color": "white", "markeredgecolor": "black", "markersize": 15}
            self.ax.plot(*where(self.best), "*", **star, zorder=5)
            self.ax.set_title("\N{WHITE STAR} best", loc="right", **_SMALL)

    def explain(self, mark: str, said: str) -> None:
        """Explains a mark in the title."""
        before = self.ax.get_title(loc="right")
        title = f"{before}   " * bool(before) + f"{_SHOWN[mark]} {said}"
        self.ax.set_title(title, loc="right", **_SMALL)

    def explain_lost(self, lost: list[int]) -> None:
        """Explains the crosses of these trials, if there are any."""
        gone = [(self.result.diverged[i] >= 0).any() for i in lost]
        if gone:
            some = "diverged or stopped" if any(gone) else "stopped"
            self.explain("x", "diverged" if all(gone) else some)
