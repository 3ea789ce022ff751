"""The contracts of schedules and controllers as checks for your own ones.

    from jaxsched.testing import check_controller, check_schedule
    check_schedule(MySchedule(...))

Each law is a function that raises ``AssertionError`` with the law's words: ``LAWS`` are for a
schedule and steps, ``CONTROLLER_LAWS`` for a controller and a run. The accuracy of a schedule needs
its own reference and is not among them.
"""

from jaxsched import _words as _words
from jaxsched.testing._controllers import CONTROLLER_LAWS as CONTROLLER_LAWS
from jaxsched.testing._controllers import check_controller as check_controller
from jaxsched.testing._controllers import default_run as default_run
from jaxsched.testing._laws import ulp_distance as ulp_distance
from jaxsched.testing._schedules import LAWS as LAWS
from jaxsched.testing._schedules import check_schedule as check_schedule
from jaxsched.testing._schedules import landmarks as landmarks

_words.tell_names(globals())
