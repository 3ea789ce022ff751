"""Schedules as classes, and the parts for one of your own.

``@struct``, its fields, the abstract classes, and arithmetic that is the same on the host and in a
program (there the step is two float32 words, exact for every int32). See docs/schedules.md.
"""

from jaxsched import _words as _words
from jaxsched._number import as_number as as_number
from jaxsched._number import as_value as as_value
from jaxsched._number import at_least_zero as at_least_zero
from jaxsched._number import exp as exp
from jaxsched._number import expm1 as expm1
from jaxsched._number import floor as floor
from jaxsched._number import log as log
from jaxsched._number import maximum as maximum
from jaxsched._number import minimum as minimum
from jaxsched._number import nudge as nudge
from jaxsched._number import power as power
from jaxsched._number import sqrt as sqrt
from jaxsched._number import to_value as to_value
from jaxsched._number import where as where
from jaxsched._struct import choice as choice
from jaxsched._struct import length as length
from jaxsched._struct import number as number
from jaxsched._struct import numbers as numbers
from jaxsched._struct import static as static
from jaxsched._struct import struct as struct
from jaxsched.schedules._base import AbstractSchedule as AbstractSchedule
from jaxsched.schedules._phase import Phase as Phase
from jaxsched.schedules._power import Power as Power
from jaxsched.schedules._progress import AbstractShape as AbstractShape
from jaxsched.schedules._progress import Progress as Progress
from jaxsched.schedules._wrappers import AbstractRetimed as AbstractRetimed
from jaxsched.schedules._wrappers import AbstractWrapper as AbstractWrapper

_words.tell_names(globals())
