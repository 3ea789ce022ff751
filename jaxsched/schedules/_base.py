"""The abstract schedule, and the nodes that its operators build.

``a >> b`` is a Sequence, ``a * b`` a Product, ``a + b`` a Sum; a plain number counts as a Constant.
"""

from __future__ import annotations

import abc
import functools
import itertools
import operator
from collections.abc import Sequence as Many
from typing import Any, ClassVar, TypeAlias

import jax
import numpy as np
from jax.typing import ArrayLike

from jaxsched import _number as num
from jaxsched._arrays import is_list
from jaxsched._axes import align
from jaxsched._bounds import checked_kind
from jaxsched._checks import cure
from jaxsched._number import Number, Value
from jaxsched._struct import Record, length, number, struct
from jaxsched._text import describe
from jaxsched._types import Leaf, Step
from jaxsched._words import wrap
from jaxsched.schedules._evaluate import evaluate, host
from jaxsched.schedules._lengths import as_real, exact_duration
from jaxsched.schedules._own import check_duration
from jaxsched.schedules._phase import (
    Phase,
    cut,
    fitted,
    known_duration,
    later,
    phases_of,
    shown_length,
    side_by_side,
    unfinished,
)
from jaxsched.schedules._selection import can_select, selected

Operand: TypeAlias = "AbstractSchedule | ArrayLike"  # a controller has operators of its own
# The classes of later modules enter themselves here, `class Power(..., operator="**")`: their base
# is in this module, which cannot import them.
_CLASS_OF: dict[str, Any] = {}


class AbstractSchedule(Record, abc.ABC):
    """A pure function from the step to a value, as an immutable pytree of numbers.

    A subclass is a ``@struct`` with its numbers as fields. It implements ``value_at`` and
    ``duration``, and optionally ``exact_length``, ``phases`` and ``natural_length``. Relations
    between known fields are checked in ``__check_init__``, without ``super()``. It must not have
    methods ``init`` and ``update``: Optax takes an object with both for a stateful schedule.
    """

    __array_ufunc__ = None  # so that `numpy_number * schedule` reaches our operators
    _symbol: ClassVar[str] = ""  # the operator that makes it of its ``parts``

    def __init_subclass__(cls, operator: str = "", **named: Any) -> None:
        super().__init_subclass__(**named)
        if operator:
            _CLASS_OF[operator] = cls
        if "value_at" in vars(cls) and not cls.__module__.startswith("jaxsched."):
            own: Any = cls  # a user's `value_at` may change where the base class's does not
            own._is_constant = AbstractSchedule._is_constant

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        check_duration(self)
        align(self)

    @property
    @abc.abstractmethod
    def duration(self) -> Leaf:
        """Length in steps (optimizer updates), after which the value holds; None: open-ended."""

    def exact_length(self, t: Number) -> Number | None:
        """The duration as an exact number of the kind of ``t``."""
        duration = self.duration
        return None if duration is None else num.as_number(t, duration)

    @abc.abstractmethod
    def value_at(self, t: Number) -> Value:
        """The value at any ``t``; before 0 and after the end the first and last values hold.

        Args:
            t: of any shape; NumPy's float64 on the host, else an exact number of a program, for
                ``+ - * /``, comparisons and the functions of ``jaxsched.schedules``.

        Returns:
            A value (``to_value`` of a number) for each element of ``t``; integers make an integer
            schedule. A formula in ``jnp`` of ``to_value(t)`` has the accuracy of float32.
        """

    def phases(self) -> list[Phase]:
        """The phases in order, the first from step 0; by default one, named after the class.

        A wrapper or a combination returns the phases of its parts, at their new times.
        """
        return [Phase(type(self).__name__, 0, known_duration(self))]

    def natural_length(self) -> float:
        """How many steps show the shape of an open-ended schedule; 0 (default): unknown."""
        return 0.0

    def _is_constant(self) -> bool:
        """Whether it is one number at every step, for ever: no part of a combination's length."""
        return False

    def __call__(self, step: Step) -> jax.Array:
        """The value for the update number ``step`` (from 0).

        Args:
            step: an integer (or real) number or array of any shape, traced or not. Before 0 the
                value at 0 holds, after ``duration`` the value at the end, also at an infinite step.

        Returns:
            A strong float32 array in the shape of ``step`` (float64 where the schedule's own
            numbers are float64 arrays, in x64 mode; int32 where its values are integers, as in
            ``js.PiecewiseConstant([2], [1, 3])``).

        Raises:
            TypeError: if ``step`` is not a number.
            ValueError: if the schedule is a stacked population; map over it with ``jax.vmap``.
        """
        return evaluate(self, step)

    host = host

    # The operators. A sequence or sum of sequences or sums is one flat node, so >> is associative.

    def __rshift__(self, other: Operand) -> AbstractSchedule:
        parts = not hasattr(other, "_wrap") and parts_of(Sequence, self, other)
        return Sequence(parts) if parts else NotImplemented

    def __rrshift__(self, other: Operand) -> AbstractSchedule:
        return Sequence(parts_of(Sequence, other, self))

    def __mul__(self, other: Operand) -> AbstractSchedule:
        return Product(parts_of(Product, self, other)) if _is_term(other) else NotImplemented

    def __rmul__(self, other: Operand) -> AbstractSchedule:
        return Product(parts_of(Product, other, self)) if _is_term(other) else NotImplemented

    def __truediv__(self, other: Operand) -> AbstractSchedule:
        if not _is_term(other):
            return NotImplemented
        if isinstance(other, AbstractSchedule):
            return self * other**-1.0
        _term(other)  # raises for an array
        if isinstance(other, (int, float)) and other == 0:
            raise ValueError(f"schedule / number must not divide by zero, got {other!r}.")
        return self * (1.0 / as_real(other))

    def __rtruediv__(self, other: Operand) -> AbstractSchedule:
        return other * self**-1.0 if _is_term(other) else NotImplemented

    def __pow__(self, exponent: Operand) -> AbstractSchedule:
        if not _is_term(exponent) or isinstance(exponent, AbstractSchedule):
            return NotImplemented
        return _CLASS_OF["**"](self, _term(exponent).value)

    def __add__(self, other: Operand) -> AbstractSchedule:
        return Sum(parts_of(Sum, self, other)) if _is_term(other) else NotImplemented

    def __radd__(self, other: Operand) -> AbstractSchedule:
        return Sum(parts_of(Sum, other, self)) if _is_term(other) else NotImplemented

    def __neg__(self) -> AbstractSchedule:
        return -1.0 * self

    def __sub__(self, other: Operand) -> AbstractSchedule:
        return self + -_term(other) if _is_term(other) else NotImplemented

    def __rsub__(self, other: Operand) -> AbstractSchedule:
        return _term(other) + -self if _is_term(other) else NotImplemented

    def _repr_html_(self) -> str:
        from jaxsched.schedules._picture import picture

        return picture(self)


class AbstractTimed(AbstractSchedule):
    """A schedule with its duration in a field, ``steps``."""

    steps: Leaf

    @property
    def duration(self) -> Leaf:
        return self.steps


@struct
class Constant(AbstractTimed):
    """The same value at every step; with ``steps``, a piece of that length.

    Args:
        value: the value.
        steps: length in optimizer updates, at least 0; ``None`` (default) for ever.

    >>> import jaxsched as js
    >>> float(js.Constant(0.5)(10))
    0.5
    """

    value: Leaf = number()
    steps: Leaf = length(default=None, at_least=0, optional=True)

    def value_at(self, t: Number) -> Value:
        return num.as_value(t, self.value)

    def _is_constant(self) -> bool:
        return self.steps is None


@struct
class AbstractParts(AbstractSchedule):
    """A schedule made of others; a subclass gives ``exact_length`` and ``value_at``."""

    parts: Many[AbstractSchedule]

    def __check_init__(self) -> None:
        name = type(self).__name__
        if is_list(self.parts):
            self.__dict__["parts"] = tuple(self.parts)
        if not isinstance(self.parts, tuple) or not self.parts:
            raise ValueError(
                f"{name}(parts=...) must be a list or tuple of at least one schedule, got "
                f"{describe(self.parts)}."
            )
        for part in self.parts:
            checked_kind(f"{name}(parts=...)", part, AbstractSchedule, "made of schedules", wrap)

    @property
    def duration(self) -> Leaf:
        return exact_duration(self)

    def _is_constant(self) -> bool:
        return all(part._is_constant() for part in self.parts)


@struct
class Sequence(AbstractParts):
    r"""One schedule after another; each part starts at its own step 0.

    .. math:: s(t) = s_i(t - b_i), \quad b_i \le t < b_{i+1}, \quad b_i = \sum_{j<i} d_j

    A step on a boundary belongs to the later part. Usually written ``a >> b``.

    Args:
        parts: the schedules, at least one; all but the last must have a duration.

    Raises:
        ValueError: if a part before the last is open-ended or a ``js.multi_step`` without steps.

    >>> import jaxsched as js
    >>> warm = js.Linear(0.0, 1.0, 10) >> js.Constant(1.0)
    >>> [round(float(warm(t)), 6) for t in (0, 5, 10, 99)]
    [0.0, 0.5, 1.0, 1.0]
    """

    _symbol = " >> "
    _few: ClassVar[float] = 4  # so many parts are quicker to compile one by one

    def __check_init__(self) -> None:
        for index, part in enumerate(self.parts[:-1]):
            if got := unfinished(part):
                raise ValueError(
                    "Sequence(parts=...) must have a duration in every part but the last, got for "
                    f"part {index} of {len(self.parts)} {got}"
                )

    def exact_length(self, t: Number) -> Number | None:
        lengths: list[Any] = [part.exact_length(t) for part in self.parts]
        if lengths[-1] is None:
            return None
        return functools.reduce(operator.add, [num.at_least_zero(length) for length in lengths])

    def value_at(self, t: Number) -> Value:
        t = num.at_least_zero(t)
        if len(self.parts) > self._few and can_select(t):
            return selected(t, self.parts)
        # All parts are evaluated, the others too, before their start or after their end. They hold
        # their value there: nothing overflows, and no NaN reaches a gradient.
        value = self.parts[0].value_at(t)
        lengths: Any = (part.exact_length(t) for part in self.parts[:-1])  # each has one
        reached = num.nudge(t)
        starts = itertools.accumulate(map(num.at_least_zero, lengths))
        for start, part in zip(starts, self.parts[1:], strict=True):
            own, value = num.alike(part.value_at(t - start), value)
            value = num.where(self._begun(t, reached, start), own, value)
        return value

    def _begun(self, t: Number, reached: Number, start: Number) -> num.Mask:
        return reached >= start

    def phases(self) -> list[Phase]:
        joined: list[Phase] = []
        begin: float = 0
        for part in self.parts[:-1]:
            length = known_duration(part) or 0
            joined += later(cut(phases_of(part), length), begin)
            begin += length
        return fitted(joined + later(phases_of(self.parts[-1]), begin), known_duration(self))

    def natural_length(self) -> float:
        before = sum(map(shown_length, self.parts[:-1]))
        return before + max(shown_length(self.parts[-1]), before)


class AbstractCombination(AbstractParts):
    """Schedules side by side, combined at every step."""

    _combine: ClassVar[Any]  # of two values

    def exact_length(self, t: Number) -> Number | None:
        lengths: list[Any] = [p.exact_length(t) for p in self.parts if not p._is_constant()]
        if not lengths or any(length is None for length in lengths):
            return None
        return functools.reduce(num.maximum, lengths)

    def value_at(self, t: Number) -> Value:
        return functools.reduce(self._combine, self._values(t))

    def _values(self, t: Number) -> list[Value]:
        return [num.floating(t, part.value_at(t)) for part in self.parts]

    def phases(self) -> list[Phase]:
        """The phases of the part with most phases, or of a part with a change at the common end."""
        end = known_duration(self)
        phases = side_by_side(self.parts, end)
        return fitted(phases, end) if phases else super().phases()

    def natural_length(self) -> float:
        return max(map(shown_length, self.parts))


@struct
class Product(AbstractCombination):
    """The product of schedules, step by step. Usually written ``a * b`` or ``0.1 * a``.

    >>> import jaxsched as js
    >>> round(float((0.1 * js.Linear(1.0, 0.0, 10))(5)), 6)
    0.05
    """

    _symbol = " * "

    def value_at(self, t: Number) -> Value:
        return num.product(self._values(t))


@struct
class Sum(AbstractCombination):
    """The sum of schedules, step by step. Usually written ``a + b``.

    >>> import jaxsched as js
    >>> float((js.Linear(1.0, 0.0, 10) + 0.25)(5))
    0.75
    """

    _symbol = " + "
    _combine = staticmethod(operator.add)


def _is_term(x: object) -> bool:
    _refuse_function(x)
    return isinstance(x, (AbstractSchedule, int, float)) or hasattr(x, "dtype")


def _term(x: Operand) -> Any:
    """An operand as a schedule: a number is a ``Constant``; raises for a list or an array."""
    if isinstance(x, AbstractSchedule):
        return x
    _refuse_function(x)
    if isinstance(x, range) or is_list(x) or np.ndim(x):  # a range may be too long, a list ragged
        raise TypeError(
            "a schedule can be combined with schedules and single numbers, not with "
            f"{describe(x)}: call the schedule with a step and use its value, as in "
            "`schedule(step) * array`. A number for each member of a population is a `js.Constant`."
        )
    return Constant(x)


def _refuse_function(x: object) -> None:
    if not isinstance(x, AbstractSchedule) and cure(x):
        got = f"{describe(x)}{cure(x)}"
        raise TypeError(
            f"the other operand of a schedule must be a schedule or a number, got {got}."
        )


def parts_of(node: type[AbstractParts], *terms: Operand) -> tuple[AbstractSchedule, ...]:
    made = map(_term, terms)
    return tuple(itertools.chain(*(x.parts if type(x) is node else (x,) for x in made)))
