"""Stateless schedules: pure functions from the step to a value, as immutable pytrees."""

from jaxsched.schedules._base import AbstractSchedule as AbstractSchedule
