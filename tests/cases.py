"""Every schedule and every recipe, once or more: a new one that is not listed here fails a test."""

from __future__ import annotations

import inspect
from typing import Any

import jax

import jaxsched as js

RUN = js.Units(batch=10, samples=1000, tokens_per_sample=100, steps=500)  # of configs
CLASSES = {
    "Constant": js.Constant(3e-4),
    "Constant-steps": js.Constant(0.1, 50),
    "Linear": js.Linear(1e-7, 1e-1, 1000),
    "Linear-to-zero": js.Linear(0.3, 0.0, 1_000_000),
    "Linear-empty": js.Linear(0.0, 0.1, 0),
    "Linear-one": js.Linear(0.0, 0.1, 1),
    "Cosine": js.Cosine(0.1, 0.0, 1_000_000),
    "Cosine-end": js.Cosine(0.1, 0.001, 10_000),
    "Cosine-up": js.Cosine(0.0, 0.1, 2**31 - 1),
    "Cosine-exponent": js.Cosine(0.1, 0.0, 100_000, exponent=2.0),
    "Cosine-exponent-end": js.Cosine(0.1, 0.01, 3001, exponent=0.7),
    "Polynomial": js.Polynomial(0.1, 0.0, 10_000),
    "Polynomial-root": js.Polynomial(0.1, 0.02, 16_777_216, power=0.5),
    "Polynomial-high": js.Polynomial(0.0, 0.1, 5000, power=7.5),
    "Geometric": js.Geometric(1e-6, 10.0, 300),
    "Sqrt": js.Sqrt(0.1, 0.0, 1_000_000),
    "Sqrt-end": js.Sqrt(0.1, 0.03, 777),
    "Tanh": js.Tanh(0.1, 0.001, 100_000),
    "Rex": js.Rex(0.1, 0.0, 100_000_000),
    "HalfCosine": js.HalfCosine(0.1, 0.001, 12_345),
    "QuarterCosine": js.QuarterCosine(0.1, 0.0, 1_000_000),
    "MirrorCosine": js.MirrorCosine(0.1, 0.0, 12_345),
    "Harmonic": js.Harmonic(0.1, 1e-4, 10_000),
    "ShiftedExponential": js.ShiftedExponential(0.1, 0.0, 10_000),
    "Logarithmic": js.Logarithmic(0.0, 0.1, 1_000_000),
    "Logarithmic-down": js.Logarithmic(0.1, 0.01, 2**31 - 1),
    "Hyperbolic": js.Hyperbolic(0.1, 0.001, 10_000, bound=25_000),
    "Hyperbolic-line": js.Hyperbolic(0.1, 0.0, 1_000_000, bound=1_000_010),
    "Warp": js.Warp(js.Linear(0.1, 0.0, 1_000_000), power=2.0),
    "Warp-cosine": js.Warp(js.Cosine(0.1, 0.0, 10_000), power=1.5),
    "Exponential": js.Exponential(0.1, -1e-4),
    "Exponential-slow": js.Exponential(1.0, -1e-7),
    "InverseSqrt": js.InverseSqrt(0.1, 1000),
    "InverseTime": js.InverseTime(0.1, 123.5),
    "PowerLaw": js.PowerLaw(0.1, -0.51, 200.0),
    "RAdamWarmup": js.RAdamWarmup(0.999),
    "RAdamWarmup-fast": js.RAdamWarmup(0.75),
    "Silver": js.Silver(0.25),
    "Silver-strongly": js.Silver(0.25, condition=1000.0, steps=100),
    "Sequence": js.Linear(0.0, 1.0, 500) >> js.Constant(1.0, 7500) >> js.Linear(1.0, 0.0, 2000),
    "RightClosed": js.RightClosed([js.Linear(0.0, 1.0, 500), js.Cosine(0.8, 0.1, 2000)]),
    "Product": 3e-4 * (js.Linear(0.0, 1.0, 500) >> js.InverseSqrt(1.0, 500)),
    "Sum": js.Cosine(0.1, 0.0, 1000) + js.Constant(0.01),
    "Minimum": js.minimum(js.PowerLaw(2.0, -0.5, 1.0), 0.1),
    "Maximum": js.maximum(js.Linear(0.1, 0.0, 1000), 0.02),
    "Repeat": js.Repeat(js.Cosine(0.1, 0.0, 1000)),
    "Repeat-growth": js.Repeat(js.Cosine(0.1, 0.0, 10), growth=3.0, decay=0.9),
    "Repeat-shrinking": js.Repeat(js.Cosine(0.1, 0.0, 1000), growth=0.5, decay=0.9, cycles=6),
    "Repeat-cycles": js.Repeat(js.Linear(0.1, 0.01, 7), growth=1.5, decay=0.5, cycles=4, warmup=2),
    "Stretch": js.Stretch(js.Linear(0.1, 0.0, 1000), 1.5),
    "Shift": js.Shift(js.Cosine(0.1, 0.0, 1000), 300),
    "Window": js.Window(js.InverseSqrt(0.1, 100), 50, 2000),
    "Clip": js.Clip(js.Linear(0.1, 0.0, 1000), low=0.01, high=0.09),
    "Power": js.Linear(0.1, 0.01, 1000) ** 0.7,
    "Power-even": (js.Linear(0.1, 0.0, 1000) - 0.3) ** 2,
    "Power-quotient": js.Cosine(0.1, 0.0, 1000) / (1.0 + js.Linear(0.0, 1.0, 500)),
    "Epochwise": js.Epochwise(js.Cosine(0.1, 0.001, 90), 390.75),
    "Noisy": js.Noisy(js.Cosine(0.1, 0.001, 1000), 0.5, 0.3, start=20, stop=900, seed=7),
    "Noisy-uniform": js.Noisy(js.InverseSqrt(0.1, 100), 0.2, distribution="uniform"),
    "Quantize": js.Quantize(js.Cosine(0.1, 0.0, 1000), 30),
    "Paced": js.Paced(js.Cosine(0.1, 0.0, 100_000_000), [100, 1000], [4096, 32_768, 131_072]),
    "Reverse": js.Reverse(js.Polynomial(0.1, 0.0, 1000)),
    "PiecewiseConstant": js.PiecewiseConstant([10, 1000, 20_000_001], [0.1, 0.05, 0.01, 0.001]),
    "Table": js.Table([0.1, 0.2, 0.3, 0.05]),
    "PiecewiseLinear": js.PiecewiseLinear([0, 100, 1000], [0.0, 0.1, 0.01]),
    "PiecewiseCosine": js.PiecewiseCosine([10, 100, 1000], [0.0, 0.1, 0.01]),
    "MonotoneCubic": js.MonotoneCubic([0, 100, 400, 1000], [0.1, 0.08, 0.02, 0.0]),
    "Function": js.from_fn(lambda step, peak: peak / (1 + step), peak=0.1),
    "Function-of-schedules": js.from_fn(
        lambda step, a, b: jax.numpy.hypot(a, b), a=js.Linear(0.1, 0.0, 1000), b=js.Constant(0.01)
    ),
}

# name: (recipe, its numeric arguments by keyword)
RECIPES: dict[str, tuple[Any, dict[str, Any]]] = {
    "constant": (js.constant, dict(peak=0.1)),
    "step_decay": (js.step_decay, dict(peak=0.1, factor=0.5, every=300)),
    "multi_step": (
        lambda peak, factor: js.multi_step(peak, factor, [50, 80]),
        dict(peak=0.1, factor=0.1),
    ),
    "piecewise_constant": (
        lambda first: js.piecewise_constant([50], [first, 0.01]),
        dict(first=0.1),
    ),
    "exponential_growth": (
        lambda start, every: js.exponential_growth(start, 2.0, every, 1000),
        dict(start=0.001, every=300),
    ),
    "exponential_decay": (js.exponential_decay, dict(peak=0.1, factor=0.5, every=300)),
    "polynomial_decay": (js.polynomial_decay, dict(peak=0.1, steps=1000, power=2.0, end=0.01)),
    "warmup_polynomial": (
        js.warmup_polynomial,
        dict(peak=0.1, steps=1000, warmup=100, power=1.5, end=0.01),
    ),
    "with_warmup": (
        lambda peak, warmup: js.with_warmup(js.step_decay(peak, 0.5, 300), warmup),
        dict(peak=0.1, warmup=100),
    ),
    "linear_decay": (js.linear_decay, dict(peak=0.1, steps=1000, end=0.0)),
    "cosine_decay": (js.cosine_decay, dict(peak=0.1, steps=1000, end=0.0)),
    "warmup_constant": (js.warmup_constant, dict(peak=0.1, warmup=100)),
    "warmup_linear": (js.warmup_linear, dict(peak=0.1, steps=1000, warmup=100, end=0.0)),
    "warmup_cosine": (js.warmup_cosine, dict(peak=0.1, steps=1000, warmup=100, end=0.001)),
    "warmup_exponential": (
        js.warmup_exponential,
        dict(peak=0.1, warmup=100, factor=0.5, every=200),
    ),
    "warm_restarts": (
        js.warm_restarts,
        dict(peak=0.1, steps=100, growth=2.0, decay=0.8, end=0.001, warmup=10),
    ),
    "one_cycle": (
        js.one_cycle,
        dict(peak=0.1, steps=1000, warmup=300, div=25.0, final_div=1e4),
    ),
    "one_cycle_share": (
        lambda peak, steps, share: js.one_cycle(peak, steps, js.share(share)),
        dict(peak=0.1, steps=1000, share=0.3),
    ),
    "one_cycle_three": (
        lambda peak, steps: js.one_cycle(peak, steps, shape="linear", three_phase=True),
        dict(peak=0.1, steps=1000),
    ),
    "one_cycle_momentum": (
        js.one_cycle_momentum,
        dict(steps=1000, low=0.85, high=0.95, warmup=300),
    ),
    "triangular": (js.triangular, dict(low=0.01, peak=0.1, up=200, down=100, decay=0.5)),
    "triangular_exp": (
        js.triangular_exp,
        dict(low=0.01, peak=0.1, up=200, factor=0.999, down=100),
    ),
    "slanted_triangular": (
        js.slanted_triangular,
        dict(peak=0.1, steps=1000, cut=100, ratio=32.0),
    ),
    "wsd": (js.wsd, dict(peak=0.1, steps=1000, warmup=100, decay=200, end=0.001)),
    "cooldown_from": (
        lambda peak, at, steps: js.cooldown_from(js.inverse_sqrt(peak, 100), at, steps),
        dict(peak=0.1, at=400, steps=200),
    ),
    "wsd_shares": (
        lambda peak, steps, warmup, decay: js.wsd(peak, steps, js.share(warmup), js.share(decay)),
        dict(peak=0.1, steps=1000, warmup=0.1, decay=0.2),
    ),
    "tri_stage_within": (
        lambda warmup, hold, steps: js.tri_stage(0.1, warmup, hold, 100, steps=steps),
        dict(warmup=100, hold=200, steps=1000),
    ),
    "wsd_s": (js.wsd_s, dict(peak=0.1, steps=300, warmup=50, decay=100, end=0.01)),
    "infinite": (js.infinite, dict(peak=0.1, warmup=100, cooldown=200, constant=0.03)),
    "tri_stage": (
        js.tri_stage,
        dict(peak=0.1, warmup=100, hold=200, decay=300, start=0.01, end=0.05),
    ),
    "flat_cosine": (js.flat_cosine, dict(peak=0.1, steps=1000, flat=750, end=0.001)),
    "inverse_sqrt": (js.inverse_sqrt, dict(peak=0.1, warmup=100, timescale=250)),
    "noam": (js.noam, dict(dimension=512, warmup=400, factor=2.0)),
    "power_scheduler": (
        js.power_scheduler,
        dict(peak=0.02, batch=128, tokens_per_step=524_288, warmup=100),
    ),
    "silver": (js.silver, dict(smoothness=4.0)),
    "silver_strongly": (js.silver, dict(smoothness=4.0, convexity=0.1, steps=1000)),
    "reverse": (
        lambda peak, steps: js.Reverse(js.Cosine(peak, 0.0, steps)),
        dict(peak=0.1, steps=1000),
    ),
}
for _shape in js.SHAPES:
    RECIPES[f"wsd-{_shape}"] = (
        lambda peak, decay, end, shape=_shape: js.wsd(peak, 1000, 100, decay, shape, end),
        dict(peak=0.1, decay=200, end=0.001),
    )


def _build(recipe, arguments):
    return recipe(**arguments)


ALL = CLASSES | {name: _build(*case) for name, case in RECIPES.items()}


def _structure(schedule):
    """What a trace depends on: the same for a recipe that returns a class as it is."""
    return jax.tree.structure(schedule), tuple(map(type, jax.tree.leaves(schedule)))


ONE_OF_EACH_STRUCTURE = list({_structure(ALL[n]): n for n in [*RECIPES, *CLASSES]}.values())
# Those of ours: a user's code keeps no promise of ours.
OURS = [name for name in ONE_OF_EACH_STRUCTURE if not name.startswith("Function")]
ONE_OF_EACH_CLASS = list({type(ALL[name]): name for name in CLASSES if name in OURS}.values())

# The recipes by name, their arguments, and valid ones.
RECIPE = {
    name: f
    for name, f in vars(js).items()
    if hasattr(f, "__wrapped__") and f.__module__.startswith("jaxsched.recipes.")
}
VALID = {name: given for name, (recipe, given) in RECIPES.items() if RECIPE.get(name) is recipe} | {
    "multi_step": dict(peak=0.1, factor=0.1, milestones=[50, 80]),
    "piecewise_constant": dict(boundaries=[50], values=[0.1, 0.01]),
    "exponential_growth": dict(start=0.001, factor=2.0, every=300),
    "with_warmup": dict(schedule=js.cosine_decay(0.1, 1000), warmup=100),
    "cooldown_from": dict(schedule=js.cosine_decay(0.1, 1000), at=400, steps=200),
}
ARGUMENTS = [
    (name, argument) for name in RECIPE for argument in inspect.signature(RECIPE[name]).parameters
]


def kind_of(name, argument):
    """The word in the signature, and whether ``None`` is allowed."""
    kind, _, optional = RECIPE[name].__annotations__[argument].partition(" | ")
    return kind, optional == "None"
