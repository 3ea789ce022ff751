"""Learning-rate schedules as data, for JAX.

A schedule is an immutable pytree of numbers with a pure ``__call__(step)``: it goes wherever Optax
takes one, and its numbers can be traced, stacked, vmapped, differentiated, swapped without
recompiling, printed, compared and saved. This file is the whole public API.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jaxsched._arrays import strong as strong
    from jaxsched._phases import Coverage as Coverage
    from jaxsched._phases import boundaries as boundaries
    from jaxsched._phases import coverage as coverage
    from jaxsched._plot import plot as plot
    from jaxsched._populations import members as members
    from jaxsched._populations import sample as sample
    from jaxsched._populations import stack as stack
    from jaxsched._populations import unstack as unstack
    from jaxsched._serialize import from_dict as from_dict
    from jaxsched._serialize import from_json as from_json
    from jaxsched._serialize import register as register
    from jaxsched._serialize import to_dict as to_dict
    from jaxsched._serialize import to_json as to_json
    from jaxsched.controllers import AbstractController as AbstractController
    from jaxsched.controllers import AutoDecay as AutoDecay
    from jaxsched.controllers import Average as Average
    from jaxsched.controllers import Bounce as Bounce
    from jaxsched.controllers import Greedy as Greedy
    from jaxsched.controllers import NewBob as NewBob
    from jaxsched.controllers import Plateau as Plateau
    from jaxsched.controllers import Trigger as Trigger
    from jaxsched.controllers import diagnose as diagnose
    from jaxsched.names import from_config as from_config
    from jaxsched.names import trials_from_config as trials_from_config
    from jaxsched.optim import current as current
    from jaxsched.optim import inject as inject
    from jaxsched.optim import observe as observe
    from jaxsched.optim import override as override
    from jaxsched.optim import remembered as remembered
    from jaxsched.recipes._arguments import SHAPES as SHAPES
    from jaxsched.recipes._cycles import one_cycle as one_cycle
    from jaxsched.recipes._cycles import one_cycle_momentum as one_cycle_momentum
    from jaxsched.recipes._cycles import slanted_triangular as slanted_triangular
    from jaxsched.recipes._cycles import triangular as triangular
    from jaxsched.recipes._cycles import triangular_exp as triangular_exp
    from jaxsched.recipes._cycles import warm_restarts as warm_restarts
    from jaxsched.recipes._decays import constant as constant
    from jaxsched.recipes._decays import cosine_decay as cosine_decay
    from jaxsched.recipes._decays import exponential_decay as exponential_decay
    from jaxsched.recipes._decays import exponential_growth as exponential_growth
    from jaxsched.recipes._decays import inverse_sqrt as inverse_sqrt
    from jaxsched.recipes._decays import linear_decay as linear_decay
    from jaxsched.recipes._decays import multi_step as multi_step
    from jaxsched.recipes._decays import noam as noam
    from jaxsched.recipes._decays import piecewise_constant as piecewise_constant
    from jaxsched.recipes._decays import polynomial_decay as polynomial_decay
    from jaxsched.recipes._decays import power_scheduler as power_scheduler
    from jaxsched.recipes._decays import silver as silver
    from jaxsched.recipes._decays import step_decay as step_decay
    from jaxsched.recipes._share import share as share
    from jaxsched.recipes._stages import cooldown_from as cooldown_from
    from jaxsched.recipes._stages import flat_cosine as flat_cosine
    from jaxsched.recipes._stages import infinite as infinite
    from jaxsched.recipes._stages import tri_stage as tri_stage
    from jaxsched.recipes._stages import warmup_constant as warmup_constant
    from jaxsched.recipes._stages import warmup_cosine as warmup_cosine
    from jaxsched.recipes._stages import warmup_exponential as warmup_exponential
    from jaxsched.recipes._stages import warmup_linear as warmup_linear
    from jaxsched.recipes._stages import warmup_polynomial as warmup_polynomial
    from jaxsched.recipes._stages import with_warmup as with_warmup
    from jaxsched.recipes._stages import wsd as wsd
    from jaxsched.recipes._stages import wsd_s as wsd_s
    from jaxsched.schedules._base import AbstractSchedule as AbstractSchedule
    from jaxsched.schedules._base import Constant as Constant
    from jaxsched.schedules._base import Product as Product
    from jaxsched.schedules._base import Sequence as Sequence
    from jaxsched.schedules._base import Sum as Sum
    from jaxsched.schedules._extremes import Maximum as Maximum
    from jaxsched.schedules._extremes import Minimum as Minimum
    from jaxsched.schedules._extremes import maximum as maximum
    from jaxsched.schedules._extremes import minimum as minimum
    from jaxsched.schedules._function import Function as Function
    from jaxsched.schedules._function import from_fn as from_fn
    from jaxsched.schedules._joined import RightClosed as RightClosed
    from jaxsched.schedules._logarithmic import Hyperbolic as Hyperbolic
    from jaxsched.schedules._logarithmic import Logarithmic as Logarithmic
    from jaxsched.schedules._noise import Noisy as Noisy
    from jaxsched.schedules._open_ended import Exponential as Exponential
    from jaxsched.schedules._open_ended import InverseSqrt as InverseSqrt
    from jaxsched.schedules._open_ended import InverseTime as InverseTime
    from jaxsched.schedules._open_ended import PowerLaw as PowerLaw
    from jaxsched.schedules._open_ended import RAdamWarmup as RAdamWarmup
    from jaxsched.schedules._open_ended import Silver as Silver
    from jaxsched.schedules._paced import Paced as Paced
    from jaxsched.schedules._phase import Phase as Phase
    from jaxsched.schedules._piecewise import MonotoneCubic as MonotoneCubic
    from jaxsched.schedules._piecewise import PiecewiseConstant as PiecewiseConstant
    from jaxsched.schedules._piecewise import PiecewiseCosine as PiecewiseCosine
    from jaxsched.schedules._piecewise import PiecewiseLinear as PiecewiseLinear
    from jaxsched.schedules._piecewise import Table as Table
    from jaxsched.schedules._power import Power as Power
    from jaxsched.schedules._progress import AbstractShape as AbstractShape
    from jaxsched.schedules._repeat import Repeat as Repeat
    from jaxsched.schedules._shapes import Cosine as Cosine
    from jaxsched.schedules._shapes import Geometric as Geometric
    from jaxsched.schedules._shapes import HalfCosine as HalfCosine
    from jaxsched.schedules._shapes import Harmonic as Harmonic
    from jaxsched.schedules._shapes import Linear as Linear
    from jaxsched.schedules._shapes import MirrorCosine as MirrorCosine
    from jaxsched.schedules._shapes import Polynomial as Polynomial
    from jaxsched.schedules._shapes import QuarterCosine as QuarterCosine
    from jaxsched.schedules._shapes import Rex as Rex
    from jaxsched.schedules._shapes import ShiftedExponential as ShiftedExponential
    from jaxsched.schedules._shapes import Sqrt as Sqrt
    from jaxsched.schedules._shapes import Tanh as Tanh
    from jaxsched.schedules._shapes import Warp as Warp
    from jaxsched.schedules._wrappers import Clip as Clip
    from jaxsched.schedules._wrappers import Epochwise as Epochwise
    from jaxsched.schedules._wrappers import Quantize as Quantize
    from jaxsched.schedules._wrappers import Reverse as Reverse
    from jaxsched.schedules._wrappers import Shift as Shift
    from jaxsched.schedules._wrappers import Stretch as Stretch
    from jaxsched.schedules._wrappers import Window as Window
    from jaxsched.search import Supervised as Supervised
    from jaxsched.search import final_score as final_score
    from jaxsched.search import grid as grid
    from jaxsched.search import loguniform as loguniform
    from jaxsched.search import range_test as range_test
    from jaxsched.search import sampled as sampled
    from jaxsched.search import sweep as sweep
    from jaxsched.search import uniform as uniform
    from jaxsched.search import zipped as zipped
    from jaxsched.units import Units as Units

__version__ = "0.1.0"

# The import loads no JAX, so that the command `jaxsched` answers at once. The first of these names
# that is asked for brings all of them, and `np`, for `eval(repr(s), vars(jaxsched))`.
_CORE = {
    "jaxsched._arrays": "strong",
    "jaxsched._populations": "members sample stack unstack",
    "jaxsched.recipes._arguments": "SHAPES",
    "jaxsched.recipes._cycles": "one_cycle one_cycle_momentum slanted_triangular triangular "
    "triangular_exp warm_restarts",
    "jaxsched.recipes._decays": "constant cosine_decay exponential_decay exponential_growth "
    "inverse_sqrt linear_decay multi_step noam piecewise_constant polynomial_decay "
    "power_scheduler silver step_decay",
    "jaxsched.recipes._share": "share",
    "jaxsched.recipes._stages": "cooldown_from flat_cosine infinite tri_stage warmup_constant "
    "warmup_cosine warmup_exponential warmup_linear warmup_polynomial with_warmup wsd wsd_s",
    "jaxsched.schedules._base": "AbstractSchedule Constant Product Sequence Sum",
    "jaxsched.schedules._extremes": "Maximum Minimum maximum minimum",
    "jaxsched.schedules._joined": "RightClosed",
    "jaxsched.schedules._logarithmic": "Hyperbolic Logarithmic",
    "jaxsched.schedules._open_ended": "Exponential InverseSqrt InverseTime PowerLaw RAdamWarmup "
    "Silver",
    "jaxsched.schedules._paced": "Paced",
    "jaxsched.schedules._noise": "Noisy",
    "jaxsched.schedules._phase": "Phase",
    "jaxsched.schedules._piecewise": "MonotoneCubic PiecewiseConstant PiecewiseCosine "
    "PiecewiseLinear Table",
    "jaxsched.schedules._power": "Power",
    "jaxsched.schedules._progress": "AbstractShape",
    "jaxsched.schedules._shapes": "Cosine Geometric HalfCosine Harmonic Linear MirrorCosine "
    "Polynomial QuarterCosine Rex ShiftedExponential Sqrt Tanh Warp",
    "jaxsched.schedules._repeat": "Repeat",
    "jaxsched.schedules._wrappers": "Clip Epochwise Quantize Reverse Shift Stretch Window",
}
# These come one by one: they need Optax or matplotlib, or not everyone needs them.
_LAZY = {
    "jaxsched.controllers": "AbstractController AutoDecay Average Bounce Greedy NewBob Plateau "
    "Trigger diagnose",
    "jaxsched.names": "from_config trials_from_config",
    "jaxsched.optim": "current inject observe override remembered",
    "jaxsched._phases": "Coverage boundaries coverage",
    "jaxsched._plot": "plot",
    "jaxsched._serialize": "from_dict from_json register to_dict to_json",
    "jaxsched.schedules._function": "Function from_fn",
    "jaxsched.search": "Supervised final_score grid loguniform range_test sampled sweep uniform "
    "zipped",
    "jaxsched.units": "Units",
}
_SUBMODULES = (
    "command",
    "compat",
    "controllers",
    "names",
    "optim",
    "schedules",
    "search",
    "testing",
)
_MODULE_OF = {name: module for module, names in (_CORE | _LAZY).items() for name in names.split()}


def __getattr__(name: str) -> Any:
    import importlib

    if name in _SUBMODULES:
        return importlib.import_module(f"jaxsched.{name}")
    module = _MODULE_OF.get(name)
    if module in _CORE or name == "__all__":  # which `from jaxsched import *` asks for
        globals()["np"] = importlib.import_module("numpy")
        for core, names in _CORE.items():
            found = importlib.import_module(core)
            globals().update({each: getattr(found, each) for each in names.split()})
    elif module:
        globals()[name] = getattr(importlib.import_module(module), name)
    if module:
        return globals()[name]
    message = f"module 'jaxsched' has no attribute {name!r}"
    if not name.startswith("_"):
        from jaxsched.names._lookup import named_here

        message += named_here(name, [n for n in __dir__() if not n.startswith("_")])
    raise AttributeError(message)


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULE_OF, *_SUBMODULES} - {"Any", "TYPE_CHECKING", "np"})
