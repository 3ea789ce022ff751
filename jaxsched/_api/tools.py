"""The public names of what else needs JAX and NumPy only."""

from jaxsched._phases import Coverage as Coverage
from jaxsched._phases import boundaries as boundaries
from jaxsched._phases import coverage as coverage
from jaxsched._plot import plot as plot
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
from jaxsched.schedules._function import Function as Function
from jaxsched.schedules._function import from_fn as from_fn
from jaxsched.units import Units as Units
