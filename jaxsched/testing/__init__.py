"""The contracts of schedules and controllers as checks that anyone can run on their own.

    from jaxsched.testing import check_controller, check_schedule
    check_schedule(MySchedule(...))

Each law is a function of a schedule (with known numbers) that raises ``AssertionError`` with the
law's words; ``LAWS`` lists them. The accuracy of a schedule needs its own reference and is not
among them.
"""

from jaxsched.testing._controllers import CONTROLLER_LAWS as CONTROLLER_LAWS
from jaxsched.testing._controllers import check_controller as check_controller
from jaxsched.testing._schedules import LAWS as LAWS
from jaxsched.testing._schedules import check_schedule as check_schedule
from jaxsched.testing._schedules import copyable as copyable
from jaxsched.testing._schedules import differentiable as differentiable
from jaxsched.testing._schedules import elementwise as elementwise
from jaxsched.testing._schedules import landmarks as landmarks
from jaxsched.testing._schedules import no_retrace as no_retrace
from jaxsched.testing._schedules import plain as plain
from jaxsched.testing._schedules import printable as printable
from jaxsched.testing._schedules import pure as pure
from jaxsched.testing._schedules import sequential as sequential
from jaxsched.testing._schedules import serializable as serializable
from jaxsched.testing._schedules import strong_float32 as strong_float32
from jaxsched.testing._schedules import total as total
from jaxsched.testing._schedules import ulp_distance as ulp_distance
