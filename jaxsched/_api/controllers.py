"""The public names of controllers."""

from jaxsched.controllers import AbstractController as AbstractController
from jaxsched.controllers import AutoDecay as AutoDecay
from jaxsched.controllers import Average as Average
from jaxsched.controllers import Bounce as Bounce
from jaxsched.controllers import Greedy as Greedy
from jaxsched.controllers import NewBob as NewBob
from jaxsched.controllers import Plateau as Plateau
from jaxsched.controllers import Trigger as Trigger
from jaxsched.controllers import diagnose as diagnose
