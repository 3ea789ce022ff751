"""Makes every figure of the documentation: ``python docs/figures.py`` (about 5 s).

Each one is drawn by ``js.plot``; the files are ``docs/figures/*.png``.
"""

from __future__ import annotations

import functools
import io
import itertools
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import matplotlib as mpl
from matplotlib.figure import Figure
from PIL import Image

import jaxsched as js

FOLDER = Path(__file__).parent / "figures"
LOOK = {
    "axes.grid": True,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "font.size": 9,
    "grid.alpha": 0.25,
    "lines.linewidth": 1.6,
}


def watched(controller: Any) -> js.Table:
    """The rates of a controller while a loss stalls."""

    def step(state: Any, loss: Any) -> Any:
        reported = state.step % 40 == 39
        return controller.update(state, value=loss, reported=reported), controller(state)

    losses = jnp.maximum(1.0 - jnp.arange(1001) / 400, 0.0)
    return js.Table(jax.lax.scan(step, controller.init(), losses)[1])


# Recipes and pieces over a run of 1000 updates with the peak 1: name -> schedule.
RECIPES = {
    "constant": js.constant(1.0),
    "linear_decay": js.linear_decay(1.0, 1000),
    "cosine_decay": js.cosine_decay(1.0, 1000),
    "polynomial_decay": js.polynomial_decay(1.0, 1000),
    "exponential_decay": js.exponential_decay(1.0, 0.5, 200),
    "step_decay": js.step_decay(1.0, 0.5, 300),
    "multi_step": js.multi_step(1.0, 0.2, [500, 800]),
    "piecewise_constant": js.piecewise_constant([200, 400, 800], [0.3, 1.0, 0.5, 0.1]),
    "warmup_constant": js.warmup_constant(1.0, 100),
    "warmup_linear": js.warmup_linear(1.0, 1000, 100),
    "warmup_cosine": js.warmup_cosine(1.0, 1000, 100),
    "warmup_exponential": js.warmup_exponential(1.0, 100, 0.5, 200),
    "wsd": js.wsd(1.0, 1000, 100, 200),
    "wsd_s": js.wsd_s(1.0, 280, 100, 80),
    "infinite": js.infinite(1.0, 100, 400, 0.4),
    "cooldown_from": js.cooldown_from(js.inverse_sqrt(1.0, 100), 700, 200),
    "inverse_sqrt": js.inverse_sqrt(1.0, 100),
    "noam": js.noam(512, 100, factor=512**0.5 * 10),
    "power_scheduler": js.power_scheduler(1.0, 60, 400, warmup=50),
    "tri_stage": js.tri_stage(1.0, 100, 300, 400),
    "flat_cosine": js.flat_cosine(1.0, 1000),
    "slanted_triangular": js.slanted_triangular(1.0, 1000),
    "one_cycle": js.one_cycle(1.0, 1000),
    "one_cycle_momentum": js.one_cycle_momentum(1000),
    "warm_restarts": js.warm_restarts(1.0, 150, growth=2.0),
    "triangular": js.triangular(0.1, 1.0, 125, decay=0.5),
    "triangular_exp": js.triangular_exp(0.1, 1.0, 125, factor=0.998),
    "Reverse": js.Reverse(js.cosine_decay(1.0, 1000)),
    "warm_restarts, warmup": js.warm_restarts(1.0, 200, growth=1.5, decay=0.8, warmup=50),
    "Logarithmic": js.Logarithmic(0.0, 1.0, 1000),
    "Hyperbolic": js.Hyperbolic(1.0, 0.01, 1000, bound=1100),
    "Power: linear ** 0.5": js.linear_decay(1.0, 1000) ** 0.5,
    "RightClosed": js.RightClosed((js.Linear(0.0, 1.0, 250), js.Linear(0.7, 0.1, 750))),
    "Epochwise": js.Epochwise(js.cosine_decay(1.0, 10), 100),
    "Noisy": js.Noisy(js.cosine_decay(0.8, 1000), limit=0.3, std=0.1),
    "warmup >> Plateau": watched(
        js.Linear(0.0, 1.0, 100) >> js.Plateau(1.0, 0.5, patience=3, min_lr=0.1)
    ),
    "Clip(Plateau * schedule)": watched(
        js.Clip(js.Plateau(1.0, 0.5, patience=3) * js.cosine_decay(1.0, 1000), low=0.2)
    ),
    "warm_restarts, growth 0.7": js.warm_restarts(1.0, 320, growth=0.7, cycles=6),
    "a / b": js.cosine_decay(1.0, 1000) / js.linear_decay(4.0, 1000, end=1.0) * 4.0,
    "by_tokens, batch grows": js.Units(
        batch=[(0, 50), (10_000, 100), (30_000, 200)], tokens_per_sample=10
    ).by_tokens(js.linear_decay(1.0, 1_300_000)),
}


def gallery() -> Figure:
    figure = Figure(figsize=(9, 12.8), layout="constrained")
    panels: Any = figure.subplots(10, 4, sharex=True)
    for ax, (name, schedule) in zip(panels.flat, RECIPES.items(), strict=True):
        js.plot(schedule, ax=ax, steps=1000, labels=[name], color="#3b76af")
        ax.set(xlabel="", ylabel="", xticks=[0, 500, 1000])
        ax.set_ylim(*((0.8, 1.0) if "momentum" in name else (-0.05, 1.1)))
        ax.set_title(name, fontsize=9, family="monospace")
    figure.supxlabel("step (optimizer update)", fontsize=9)
    return figure


def wsd_shapes() -> Figure:
    figure = Figure(figsize=(7, 3.4), layout="constrained")
    ax = figure.subplots()
    # In the order of their curves, from the highest down.
    names: list[Any] = [
        "sqrt",
        "square",
        "rex",
        "cosine",
        "linear",
        "1-sqrt",
        "exponential",
        "geometric",
    ]
    shapes = [js.wsd(1.0, 1000, 100, 600, shape, end=0.01) for shape in names]
    js.plot(*shapes, ax=ax, labels=names)
    ax.legend(title="shape", frameon=False, loc=(0.15, 0.03), fontsize=8)
    ax.set_title("js.wsd(1.0, 1000, 100, 600, shape=..., end=0.01)", fontsize=9)
    return figure


def family() -> Figure:
    figure = Figure(figsize=(7, 3), layout="constrained")
    peaks = jnp.array([0.025, 0.05, 0.1, 0.2, 0.4])
    recipe = functools.partial(js.warmup_cosine, steps=1000, warmup=100)
    population = jax.vmap(recipe)(peak=peaks)
    linear, log = figure.subplots(1, 2)
    js.plot(population, ax=linear)
    js.plot(population, ax=log, log=True)
    linear.set_title("a swept peak: one population", fontsize=9)
    log.set_title("log=True", fontsize=9)
    log.get_legend().remove()
    return figure


def sweep_engine() -> Figure:
    """Three trials with decays of other lengths: their rates, their stages, one stage's runs."""
    figure = Figure(figsize=(7, 5.4), layout="constrained")
    rates, stages, lanes = figure.subplots(3, 1, height_ratios=[2.2, 2.4, 1.2], sharex=True)
    colors = dict(zip("ABC", mpl.colormaps["viridis"]([0.0, 0.45, 0.8]), strict=True))
    trials = {
        name: js.wsd(1.0, 1000, 0, decay)
        for name, decay in zip("ABC", (600, 400, 200), strict=True)
    }
    for name, schedule in reversed(trials.items()):
        js.plot(schedule, ax=rates, labels=[name], color=colors[name])
    rates.set(xlabel="", ylabel="rate")
    rates.legend(*map(reversed, rates.get_legend_handles_labels()), frameon=False)

    def bar(ax: Any, start: int, stop: int, row: float, text: str, color: Any) -> None:
        ax.barh(row, stop - start, left=start, height=0.62, color=color, alpha=0.3, edgecolor="0.3")
        ax.text((start + stop) / 2, row, text, ha="center", va="center", fontsize=8)

    for start, stop, row, text, color in [
        (0, 400, 1, "stage of A, B and C", "0.6"),
        (400, 700, 2, "stage of A", colors["A"]),
        (400, 600, 0.5, "stage of B and C", "0.6"),
        (600, 700, 1, "B", colors["B"]),
        (700, 1000, 1, "stage of B", colors["B"]),
        (600, 700, 0, "C", colors["C"]),
        (700, 1000, 0, "stage of C", colors["C"]),
    ]:
        bar(stages, start, stop, row, text, color)
    for at, low, high in [(400, 0.5, 2), (600, 0, 1)]:
        stages.plot([at, at], [low, high], color="0.3", lw=1.6)
    stages.axvline(700, color="#b3361e", ls="--", lw=1.2)
    stages.text(706, 2, "rung: A is given up", color="#b3361e", va="center", fontsize=8)
    stages.set(yticks=[])

    for row, seed in ((1, 0), (0, 1)):
        cuts = [0, 8, 40, 168, 400]
        for start, stop in itertools.pairwise(cuts):
            bar(lanes, start, stop, row, "", "0.6")
        lanes.text(410, row, f"lane {1 - row}: the run of seed {seed}", va="center", fontsize=8)
    lanes.text(284, 1, "segment", ha="center", va="center", fontsize=8)
    lanes.text(284, 0, "segment", ha="center", va="center", fontsize=8)
    lanes.set(yticks=[], xlabel="step")
    for ax in (stages, lanes):
        ax.grid(False)
        ax.spines["left"].set_visible(False)
    titles = {
        rates: "three trials with one horizon, 1000 steps",
        stages: "their stages: what is trained once, and where it forks",
        lanes: "two runs of the first stage, side by side (width 2)",
    }
    for ax, title in titles.items():
        ax.set_title(title, fontsize=9, loc="left")
    return figure


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    with mpl.rc_context(LOOK):
        for make in (gallery, wsd_shapes, family, sweep_engine):
            path = FOLDER / f"{make.__name__}.png"
            picture = io.BytesIO()
            make().savefig(picture, dpi=90)
            # 64 colors are enough, and halve the file.
            Image.open(picture).convert("RGB").quantize(64).save(path, optimize=True)
            print(f"{path.name}: {path.stat().st_size / 1024:.0f} KB")


if __name__ == "__main__":
    main()
