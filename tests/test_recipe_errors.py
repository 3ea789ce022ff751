"""Every recipe refuses wrong arguments by its own name and theirs.

The cases are generated of every argument; relations between arguments are a table below.
"""

from __future__ import annotations

import inspect
import math
import re

import jax.numpy as jnp
import numpy as np
import optax
import pytest
from cases import ARGUMENTS, RECIPE, VALID, kind_of
from refusals import refused

import jaxsched as js
from jaxsched.optim import decay_weights, group_lr

BAD_ARGUMENTS = ["a", True, 1.0, None, [1.0], {}, math.nan, math.inf, -math.inf, 10**400, -1.0]

LISTS = {"Factors", "Milestones", "Numbers"}

LENGTHS = {"Length", "Apart", "Period", "Steps", "Cycle"}


def test_every_recipe_has_valid_arguments():
    assert VALID.keys() == RECIPE.keys() and len(RECIPE) > 30
    for name, given in VALID.items():
        assert isinstance(RECIPE[name](**given), js.AbstractSchedule)


@pytest.mark.parametrize(("name", "argument"), ARGUMENTS)
def test_every_argument_of_every_recipe_is_checked_in_the_recipes_name(name, argument):
    kind, optional = kind_of(name, argument)
    fine = [] if kind in {"Base", "Flag", "Shape", "Milestones", "Numbers"} else [1.0]
    fine += [None] if optional else []
    fine += [True] if kind == "Flag" else []
    fine += [[1.0]] if kind in LISTS else []
    fine += [-1.0] if kind == "Number" else []
    for value in BAD_ARGUMENTS:
        if any(value is x or (type(value) is type(x) and value == x) for x in fine):
            continue
        refused(
            lambda v=value: RECIPE[name](**{**VALID[name], argument: v}),
            rf"^{name}\(.*\b{argument}=\.\.\.\) must ",
            value,
        )


@pytest.mark.parametrize(
    ("name", "argument"), [case for case in ARGUMENTS if kind_of(*case)[0] in LENGTHS]
)
def test_a_length_between_0_and_1_is_refused_with_the_repair(name, argument):
    kind, _ = kind_of(name, argument)
    for value in (0.1, np.float32(0.999), np.asarray([0.5, 2.0]), jnp.float32(1e-3)):
        message = refused(
            lambda v=value: RECIPE[name](**{**VALID[name], argument: v}),
            rf"^{name}\({argument}=\.\.\.\) must be a number of steps",
            value,
            ValueError,
        )
        assert ("the whole length" if kind in ("Steps", "Cycle") else "js.share(") in message


@pytest.mark.parametrize("name", RECIPE)
def test_an_unknown_argument_of_a_recipe_lists_its_own(name):
    ours = ", ".join(inspect.signature(RECIPE[name]).parameters)
    with pytest.raises(
        TypeError, match=rf"^{name} has no argument zz\. .*{re.escape(f'({ours})')}"
    ):
        RECIPE[name](zz=1)
    with pytest.raises(TypeError, match=rf"^{name} must be given "):
        RECIPE[name]()
    with pytest.raises(TypeError, match=rf"^{name} takes \("):
        RECIPE[name](*range(30))


DROPS = js.multi_step(0.1, 0.1, [10, 20])
RELATIONS = {
    "warmup beyond the run": (lambda: js.warmup_cosine(1.0, 10, 11), "warmup_cosine(warmup=...)"),
    "warmup beyond, linear": (lambda: js.warmup_linear(1.0, 10, 11), "warmup_linear(warmup=...)"),
    "warmup beyond, array": (
        lambda: js.warmup_cosine(1.0, jnp.asarray(10), jnp.asarray(11)),
        "warmup_cosine(warmup=...)",
    ),
    "wsd that does not fit": (lambda: js.wsd(1.0, 10, 6, 5), "wsd(warmup=..., decay=...)"),
    "cycle shorter than its decay": (lambda: js.wsd_s(1.0, 10, 0, 11), "wsd_s(decay=...)"),
    "unknown shape": (lambda: js.wsd(1.0, 10, 1, 1, shape="sin"), "wsd(shape=...)"),
    "unknown shape in infinite": (
        lambda: js.infinite(1.0, 1, 1, 0.1, shape="sin"),
        "infinite(shape=...)",
    ),
    "shape that is no name": (lambda: js.wsd(1.0, 10, 1, 1, shape=3), "wsd(shape=...)"),
    "shape of two arguments": (
        lambda: js.wsd(1.0, 10, 1, 1, shape=lambda start, end: js.Constant(start)),  # type: ignore[misc]
        "wsd(shape=...)",
    ),
    "hold at zero": (lambda: js.tri_stage(0, 1, 1, 1), "tri_stage(peak=...)"),
    "samples of a share": (lambda: js.sample(js.share(0.1), 3), "sample(schedule=...)"),
    "coverage of a controller": (
        lambda: js.coverage(js.Plateau(js.cosine_decay(0.1, 10)), 3),
        "coverage(schedule=...)",
    ),
    "geometric to zero": (lambda: js.wsd(1.0, 10, 1, 5, shape="geometric"), "wsd(end=...)"),
    "no warmup, no timescale": (lambda: js.inverse_sqrt(1.0, 0), "inverse_sqrt(warmup=...)"),
    "more than half, three phases": (
        lambda: js.one_cycle(1.0, 10, warmup=6, three_phase=True),
        "one_cycle(warmup=...)",
    ),
    "flat beyond": (lambda: js.flat_cosine(1.0, 10, flat=11), "flat_cosine(flat=...)"),
    "factor 0": (lambda: js.step_decay(1.0, 0, 10), "step_decay(factor=...)"),
    "factor negative": (lambda: js.exponential_decay(1.0, -0.5), "exponential_decay(factor=...)"),
    "period 0": (lambda: js.step_decay(1.0, 0.5, 0), "step_decay(every=...)"),
    "power 0": (lambda: js.Polynomial(1.0, 0.0, 10, 0), "Polynomial(power=...)"),
    "exponent 0": (lambda: js.Cosine(1.0, 0.0, 10, 0.0), "Cosine(exponent=...)"),
    "negative length": (lambda: js.Linear(0.0, 1.0, -1), "Linear(steps=...)"),
    "window backwards": (lambda: js.Window(js.Constant(1.0), 10, 9), "Window(stop=...)"),
    "a window of two populations": (
        lambda: js.Window(js.Constant(1.0), np.ones(2), np.ones(3)),
        "Window(stop=...) must have as many members as start=",
    ),
    "a controller of two": (
        lambda: js.Plateau(np.ones(3), min_lr=np.ones(2)),
        "Plateau(min_lr=...) must have as many members as base=",
    ),
    "a recipe of two": (
        lambda: js.cosine_decay(np.ones(3), 10, end=np.ones(2)),
        "cosine_decay(end=...) must have as many members as peak=",
    ),
    "stages of two": (
        lambda: js.wsd(1.0, 100, warmup=np.ones(2), decay=np.ones(3)),
        "wsd(warmup=..., decay=...) and steps must have as many members each",
    ),
    "clip backwards": (lambda: js.Clip(js.Constant(1.0), 1.0, 0.5), "Clip(high=...)"),
    "clip without bounds": (lambda: js.Clip(js.Constant(1.0)), "Clip(low=..., high=...)"),
    "open-ended in the middle": (
        lambda: js.Constant(1.0) >> js.Constant(0.5),
        "Sequence(parts=...)",
    ),
    "a last value that no update would have": (
        lambda: 0.5 * DROPS >> js.Cosine(0.1, 0.0, 10),
        "whose last value begins where it ends. Give it a length",
    ),
    "the same in cycles": (
        lambda: js.Repeat(js.Epochwise(DROPS, 5)),
        "Repeat(schedule=...) must have a duration, got Epochwise",
    ),
    "the same backwards": (lambda: js.Reverse(js.Clip(DROPS, 0.0)), "Reverse(schedule=...)"),
    "the same as a whole": (lambda: js.with_warmup(DROPS, js.share(0.1)), "with a duration"),
    "the same beside steps": (
        lambda: js.piecewise_constant([10, js.share(1.0)], [3.0, 2.0, 1.0], steps=20),
        "piecewise_constant(boundaries=...) must be at most steps=20 - 1",
    ),
    "an endless range before a sequence": (
        lambda: range(2**40) >> js.Linear(1.0, 0.0, 5),  # type: ignore[operator]
        "single numbers, not with range(0, 1099511627776)",
    ),
    "repeat for ever": (lambda: js.Repeat(js.Constant(1.0)), "Repeat(schedule=...)"),
    "repeat of nothing": (lambda: js.Repeat(js.Constant(1.0, 0)), "Repeat(schedule=...)"),
    "repeat of a repeat": (
        lambda: js.Repeat(js.Repeat(js.Constant(1.0, 5))),
        "Repeat(schedule=...)",
    ),
    "a warmup longer than its cycle": (
        lambda: js.Repeat(js.Constant(1.0, 5), growth=1.001, warmup=6),
        "Repeat(warmup=...)",
    ),
    "shrinking cycles for ever": (
        lambda: js.Repeat(js.Constant(1.0, 5), growth=0.5),
        "Repeat(growth=...)",
    ),
    "half a cycle": (lambda: js.Repeat(js.Constant(1.0, 5), cycles=2.5), "Repeat(cycles=...)"),
    "reverse of a law": (lambda: js.Reverse(js.InverseSqrt(1.0, 10)), "Reverse(schedule=...)"),
    "unsorted boundaries": (
        lambda: js.PiecewiseConstant([5, 3], [1, 2, 3]),
        "PiecewiseConstant(boundaries=...)",
    ),
    "equal boundaries": (
        lambda: js.PiecewiseConstant([5, 5], [1, 2, 3]),
        "PiecewiseConstant(boundaries=...)",
    ),
    "negative boundary": (
        lambda: js.PiecewiseConstant([-5], [1, 2]),
        "PiecewiseConstant(boundaries=...)",
    ),
    "a value too few": (lambda: js.PiecewiseConstant([5], [1]), "PiecewiseConstant(values=...)"),
    "a value too many": (lambda: js.PiecewiseLinear([5], [1, 2]), "PiecewiseLinear(values=...)"),
    "one knot of a cubic": (lambda: js.MonotoneCubic([5], [1]), "MonotoneCubic(steps=...)"),
    "empty table": (lambda: js.Table([]), "Table(values=...)"),
    "unsorted milestones": (
        lambda: js.multi_step(1.0, 0.5, [9, 3]),
        "multi_step(milestones=...)",
    ),
    "number times a word": (lambda: js.Constant(1.0) >> "a", "Constant(value=...)"),  # type: ignore[operator]
    "a boolean factor": (lambda: True * js.Linear(0.0, 1.0, 5), "Constant(value=...)"),
    "a factor that is nan": (lambda: js.Linear(0.0, 1.0, 5) * math.nan, "Constant(value=...)"),
    "no schedules to stack": (lambda: js.stack([]), "stack(schedules=...)"),
    "kinds that do not stack": (
        lambda: js.stack([js.Constant(1.0), js.Linear(0.0, 1.0, 5)]),
        "stack(schedules=...)",
    ),
    "tables that do not stack": (
        lambda: js.stack([js.Table([1.0]), js.Table([1.0, 2.0])]),
        "stack(schedules=...)",
    ),
    "numbers that are no schedules": (lambda: js.stack([0.1, 0.2]), "stack(schedules=...)"),  # type: ignore[type-var]
    "samples: none": (lambda: js.sample(js.Constant(1.0), 0), "sample(n=...)"),
    "samples: a fraction": (lambda: js.sample(js.Constant(1.0), 2.5), "sample(n=...)"),
    "coverage of less than nothing": (
        lambda: js.coverage(js.Constant(1.0), -1),
        "coverage(steps=...)",
    ),
    "a function that is none": (lambda: js.from_fn(3), "from_fn(fn=...)"),
    "a function of a pair": (lambda: js.from_fn(lambda s: (s, s)), "from_fn(fn=...)"),  # type: ignore[return-value]
    "a function of a vector": (lambda: js.from_fn(lambda s: jnp.ones(3)), "from_fn(fn=...)"),
    "a function's parameter": (lambda: js.from_fn(lambda s, p: p, p="a"), "from_fn(p=...)"),
    "a function's length": (lambda: js.from_fn(lambda s: 1.0, steps=-1), "from_fn(steps=...)"),
    "a class of functions of none": (lambda: js.Function(3, {}), "Function(fn=...)"),
    "parameters without names": (lambda: js.Function(math.sin, 3), "Function(parameters=...)"),
    "parameters that are None": (lambda: js.Function(math.sin, None), "Function(parameters=...)"),
    "names that are numbers": (lambda: js.Function(math.sin, {1: 2}), "Function(parameters=...)"),
    "a parameter that is a text": (
        lambda: js.Function(math.sin, {"x": "a"}),
        "Function(parameters={'x': ...})",
    ),
    "a parameter that is an array": (
        lambda: js.Function(math.sin, {"x": [1.0, 2.0]}),
        "Function(parameters={'x': ...})",
    ),
    "epochs without a data set": (lambda: js.Units(batch=3).epochs(1), "Units(samples=...)"),
    "a batch above the data set": (
        lambda: js.Units(batch=3, samples=2).epochs(1),
        "Units(batch=...)",
    ),
    "a batch and a half": (lambda: js.Units(batch=2.5), "Units(batch=...)"),
    "a fraction above 1": (
        lambda: js.Units(batch=3, steps=10).fraction(1.5),
        "Units.fraction(share=...)",
    ),
    "epochs that are nan": (
        lambda: js.Units(batch=3, samples=10).epochs(math.nan),
        "Units.epochs(count=...)",
    ),
    "division by zero": (lambda: js.Constant(1.0) / 0, "zero"),
    "power of an array": (lambda: js.Constant(1.0) ** np.arange(2), "single numbers"),
    "a population as a rate": (
        lambda: js.stack([js.Constant(1.0), js.Constant(2.0)])(0),
        "jax.vmap",
    ),
    "phases of a population": (
        lambda: js.boundaries(js.stack([js.wsd(1.0, 9, 1, 2)] * 2)),
        "population",
    ),
    "three factors for two milestones": (
        lambda: js.multi_step(1.0, [0.5, 0.5, 0.5], [1, 2]),
        "multi_step(factor=...)",
    ),
    "an expression that is none": (
        lambda: group_lr(optax.sgd, {"(": 1.0}),
        "group_lr(groups=...)",
    ),
    "an expression that is no text": (
        lambda: group_lr(optax.sgd, {1: 1.0}),
        "group_lr(groups=...)",
    ),
    "groups that are no mapping": (
        lambda: group_lr(optax.sgd, [1]),
        "group_lr(groups=...)",
    ),
    "a decay that is nan": (
        lambda: decay_weights(math.nan),
        "decay_weights(weight_decay=...)",
    ),
    "a decay that is a word": (
        lambda: decay_weights("0.1"),
        "decay_weights(weight_decay=...)",
    ),
    "a number before a sequence": (lambda: 1.0 >> js.Linear(1.0, 0.0, 5), "open-ended Constant"),
    "a word before a sequence": (lambda: "a" >> js.Linear(1.0, 0.0, 5), "Constant(value=...)"),  # type: ignore[operator]
    "a word for a yes or no": (lambda: js.Units(4, drop_last="no"), "Units(drop_last=...)"),
    "an integer for a yes or no": (lambda: js.Units(4, drop_last=1), "Units(drop_last=...)"),
}


@pytest.mark.parametrize(
    "case",
    RELATIONS,
)
def test_what_cannot_be_meant_is_refused_by_name(case):
    call, where = RELATIONS[case]
    with pytest.raises((ValueError, TypeError), match=re.escape(where)):
        call()


@pytest.mark.parametrize("name", ["fn", "step"])
def test_a_functions_construction_is_checked_like_any_other(name):
    """`js.Function` is public: made directly it must check too."""
    with pytest.raises((TypeError, ValueError), match=r"Function|from_fn"):
        js.Function(fn=abs, parameters={"a": "x"} if name == "fn" else {}, steps=-3)
