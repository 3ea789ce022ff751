"""Controllers: ``init() -> state``, ``update(state, value=...)``, ``__call__(state)``.

Measurements for them: averages of the weights, the averaging gap, the sharpness. Parts for one of
your own: ``@struct``, its fields, and ``AbstractScaler`` (or ``AbstractController``).
"""

from jaxsched import _words as _words
from jaxsched._struct import choice as choice
from jaxsched._struct import count as count
from jaxsched._struct import number as number
from jaxsched._struct import struct as struct
from jaxsched.controllers._around import Around as Around
from jaxsched.controllers._around import Rate as Rate
from jaxsched.controllers._autodecay import AutoDecay as AutoDecay
from jaxsched.controllers._base import AbstractController as AbstractController
from jaxsched.controllers._bounce import Bounce as Bounce
from jaxsched.controllers._greedy import Greedy as Greedy
from jaxsched.controllers._newbob import NewBob as NewBob
from jaxsched.controllers._plateau import Plateau as Plateau
from jaxsched.controllers._scaler import AbstractScaler as AbstractScaler
from jaxsched.controllers._trigger import Trigger as Trigger
from jaxsched.controllers.measurements._average import Average as Average
from jaxsched.controllers.measurements._diagnose import Diagnosis as Diagnosis
from jaxsched.controllers.measurements._diagnose import diagnose as diagnose
from jaxsched.controllers.measurements._gap import Gap as Gap
from jaxsched.controllers.measurements._gap import Work as Work
from jaxsched.controllers.measurements._gap import averaging_gap as averaging_gap
from jaxsched.controllers.measurements._sharpness import Sharpness as Sharpness
from jaxsched.controllers.measurements._sharpness import sharpness as sharpness
from jaxsched.controllers.measurements._sharpness import stability_limit as stability_limit

_words.tell_names(globals())
