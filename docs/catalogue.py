"""Writes docs/catalogue.md and its pictures: ``python docs/catalogue.py``; `make docs` runs it."""

from __future__ import annotations

import math
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
from scipy.interpolate import PchipInterpolator
from scipy.stats import truncnorm

import jaxsched as js
from jaxsched._svg import svg
from jaxsched.schedules._noise import random_bits

HERE = Path(__file__).parent
PICTURES = HERE / "figures/catalogue"
ROWS: list[dict[str, Any]] = tomllib.loads((HERE / "catalogue.toml").read_text())["rows"]
FAMILIES = {
    "A": "Curves",
    "W": "Warmups",
    "C": "Cycles",
    "L": "Compositions",
    "S": "With a state",
}


def ours(row: dict[str, Any]) -> Any:
    """The schedule or controller that the row's line makes."""
    return eval(row["ours"], {"js": js, "np": np, "math": math})


def formula(row: dict[str, Any], t: np.ndarray) -> np.ndarray:
    """The row's curve without jaxsched: float64 values [N] at the whole steps t [N]."""
    known = {"np": np, "pchip": PchipInterpolator, "silver": silver, "normal": normal}
    known |= {"t": t, "p": np.clip(t / 100, 0, 1)}
    # An inner function has no other variables than these.
    return np.broadcast_to(eval(row["formula"], known), t.shape)


def silver(convexity: float, steps: int) -> np.ndarray:
    """The silver steps of a 1-smooth, strongly convex function, by their recursion over lists."""
    psi = lambda x: (1 + x / convexity) / (1 + x)
    found: list[float] = []
    for power in (k for k in range(steps.bit_length()) if steps >> k & 1):
        z = convexity
        block = [psi(z)]
        for _ in range(power):
            factor = 1 - z + math.hypot(1, 1 - z)
            y, z = z / factor, z * factor
            block = [*block[:-1], psi(y), *block[:-1], psi(z)]
        found += block
    return np.array(found)


def normal(seed: int, t: np.ndarray, limit: float) -> np.ndarray:
    """Normal noise within a limit, of the random bits of the seed and the step."""
    odd = 2 * (random_bits(seed, t) >> 9).astype(np.int64) + 1
    return truncnorm(-limit, limit).ppf(odd / 2.0**24)


def reached() -> tuple[int, int]:
    """How many stateless behaviours are said in one line, and how many there are."""
    stateless = [row for row in ROWS if not row.get("stateful")]
    return sum("ours" in row for row in stateless), len(stateless)


def page() -> str:
    """The text of docs/catalogue.md."""
    said, stateless = reached()
    lines = [
        "# Catalogue",
        "",
        f"{len(ROWS)} behaviours of learning rates that 44 groups of libraries ship, and how each "
        "is said here.",
        f"Of {stateless} that need no state, {said} are one line of pieces and recipes; the others "
        "are [at the end](#not-in-one-line).",
        "All lines are executed, and compared with the formulas in "
        "[catalogue.toml](catalogue.toml).",
        "Names, arguments and quirks of a library: "
        "[coming from another library](migrating/README.md).",
        "",
        "The examples have the peak 1 and, mostly, 100 steps. `t` is the step, W the warmup. "
        "`python docs/catalogue.py`",
        "writes this page.",
    ]
    for letter, title in FAMILIES.items():
        rows = [row for row in ROWS if row["id"][0] == letter and "ours" in row]
        lines += ["", f"## {title}", ""]
        lines += ["| behaviour | | shipped as | what differs here |", "|---|---|---|---|"]
        lines += [_row(row) for row in rows]
    lines += ["", "## Not in one line", "", "| behaviour | shipped as | why |", "|---|---|---|"]
    lines += [
        f"| {row['id']} {row['name']} | {_who(row)} | {row['differs']} |"
        for row in ROWS
        if "ours" not in row
    ]
    return "\n".join(lines) + "\n"


def _row(row: dict[str, Any]) -> str:
    picture = f"![{row['id']}](figures/catalogue/{row['id']}.svg)" if "formula" in row else ""
    what = f"**{row['id']}** {row['name']}<br>`{row['ours']}`"
    return f"| {what} | {picture} | {_who(row)} | {row.get('differs', '')} |"


def _who(row: dict[str, Any]) -> str:
    return row["who"].replace("*", r"\*")


def pictures() -> dict[str, str]:
    """The name of each file -> SVG text, of the schedules (a controller has no curve)."""
    return {f"{row['id']}.svg": _picture(row) for row in ROWS if "formula" in row}


def _picture(row: dict[str, Any]) -> str:
    last = row.get("steps", 120)
    at = np.unique(np.linspace(0, last, 140).astype(int))
    # In float64 on the host: the same text on every machine.
    curve = (at, ours(row).host(at))
    return svg([curve], [], last, title=row["ours"], caption="", width=160, height=80)


if __name__ == "__main__":
    (HERE / "catalogue.md").write_text(page())
    PICTURES.mkdir(parents=True, exist_ok=True)
    for name, text in pictures().items():
        (PICTURES / name).write_text(text + "\n")
    print("{} of {} stateless behaviours in one line".format(*reached()))
