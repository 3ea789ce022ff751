"""A small picture of curves as SVG text, for notebooks, without matplotlib.

To import matplotlib only to look at a schedule is too slow. Texts and marks are in the colour of
the page's own text, ``currentColor``, so that they can be read on a dark one.
"""

from __future__ import annotations

import html
from collections.abc import Sequence

import numpy as np
from jax.typing import ArrayLike

_LONGEST_TITLE = 1000


def svg(
    curves: Sequence[tuple[ArrayLike, ArrayLike]],
    marks: Sequence[float],
    last: float,
    *,
    title: str,
    caption: str,
    width: int,
    height: int,
) -> str:
    """Curves of steps [N] and values [N] up to the step ``last`` > 0; dotted lines at ``marks``.

    The title is a tooltip, the caption a line below; the width and the height are in pixels.

    >>> curve = [0, 10], [1.0, 0.0]
    >>> svg([curve], [5], 10, title="a", caption="b", width=300, height=90).count("<polyline")
    1
    """
    points = [(np.asarray(steps), np.asarray(values)) for steps, values in curves]
    # A value beyond float32 is infinite: it has no place in the picture, and is omitted.
    finite = [(at[np.isfinite(values)], values[np.isfinite(values)]) for at, values in points]
    low = min((float(np.min(values)) for _, values in finite if len(values)), default=0.0)
    high = max((float(np.max(values)) for _, values in finite if len(values)), default=0.0)
    top, bottom = 4, height - 30
    flat = high == low

    def x(step: ArrayLike) -> np.ndarray:
        return 2 + (width - 4) * np.asarray(step, np.float64) / last

    def y(value: ArrayLike) -> np.ndarray:
        # In float64: a difference of float32 values may be infinite. A flat curve runs in the
        # middle; the zeros give it as many corners as it has values.
        share = 0.5 if flat else (np.asarray(value, np.float64) - low) / (high - low)
        return bottom - (bottom - top) * share + 0.0 * np.asarray(value)

    lines = [
        f'<path d="M{x(mark):.1f} {top}V{bottom}" stroke="currentColor" stroke-opacity=".4" '
        'stroke-dasharray="1 3"/>'
        for mark in marks
    ]
    for index, (at, values) in enumerate(finite):
        corners = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x(at), y(values), strict=True))
        color = _color(index, len(finite))
        lines.append(f'<polyline points="{corners}" fill="none" stroke="{color}"/>')
    scale = f"{low:.3g} to {high:.3g}, {last:,} steps" if curves else "traced numbers"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" role="img" '
        f'viewBox="0 0 {width} {height}">'
        f"<title>{html.escape(clipped(title, _LONGEST_TITLE))}</title>"
        f"{''.join(lines)}"
        f'<g font-family="monospace" font-size="10" fill="currentColor">'
        f'<text x="2" y="{height - 17}">{html.escape(clipped(caption, width // 6))}</text>'
        f'<text x="2" y="{height - 4}" fill-opacity=".6">{scale}</text></g></svg>'
    )


def clipped(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"


def _color(index: int, count: int) -> str:
    if count == 1:
        return "#3b76af"
    # A straight line through three colors of viridis.
    stops = np.array([[68, 1, 84], [33, 145, 140], [160, 218, 57]], np.float64)
    share = 2 * index / (count - 1)
    color = [np.interp(share, [0, 1, 2], stops[:, channel]) for channel in range(3)]
    return "#" + "".join(f"{round(float(c)):02x}" for c in color)
