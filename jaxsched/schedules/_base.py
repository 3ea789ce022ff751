"""What a schedule is, and the nodes that its operators build.

``a >> b`` is a Sequence, ``a * b`` a Product, ``a + b`` a Sum; a plain number counts as a Constant.
"""

from __future__ import annotations

import abc
import functools
import itertools
import operator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxsched import _number as num
from jaxsched._arrays import has_float64, is_concrete, is_list, is_x64
from jaxsched._axes import align, own_rank
from jaxsched._checks import cure
from jaxsched._number import Number, Value
from jaxsched._struct import Record, length, number, struct
from jaxsched._words import WRAP, uncalled
from jaxsched.schedules._selection import can_select, selected
from jaxsched.schedules._step import as_step, host_step, traced_step


class AbstractSchedule(Record, abc.ABC):
    """A pure function from the step to a value, as an immutable pytree of numbers.

    A subclass is a ``@struct`` whose fields are its numbers and implements ``value_at`` and
    ``duration``. It never has methods called ``init`` and ``update``: Optax takes an object that
    has both for a stateful schedule.
    """

    __array_ufunc__ = None  # so that `numpy_number * schedule` reaches our operators

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        align(self)

    @property
    @abc.abstractmethod
    def duration(self) -> Any:
        """Length in steps (optimizer updates), after which the value holds; None: open-ended."""

    def exact_length(self, t: Number) -> Number | None:
        """The duration as an exact number of the kind of ``t``."""
        duration = self.duration
        return None if duration is None else num.as_number(t, duration)

    @abc.abstractmethod
    def value_at(self, t: Number) -> Value:
        """The value at any ``t``, also before 0 and after the end, where it holds."""

    def _count(self, t: Number) -> Any:
        """The same as an int32 array, where the schedule's values are integers; else None."""
        return None

    def __call__(self, step: Any) -> jax.Array:
        """The value for the update number ``step`` (from 0).

        Args:
            step: an integer (or real) number or array of any shape, traced or not. Before 0 the
                value at 0 holds, after ``duration`` the value at the end. An infinite step is a
                large one.

        Returns:
            A strong float32 array in the shape of ``step`` (float64 where the schedule's own
            numbers are float64 arrays, in x64 mode; int32 where its values are integers, as in
            ``js.PiecewiseConstant([2], [1, 3])``).

        Raises:
            TypeError: if ``step`` is not a number.
            ValueError: if the schedule is a stacked population; map over it with ``jax.vmap``.
        """
        if type(step) is int and _is_plain(self):  # the same as below, for a call in a hurry
            try:
                with np.errstate(all="ignore"):
                    return jnp.asarray(np.float32(self.value_at(np.float64(step))))
            except OverflowError:  # of more digits than float64 has
                pass
        step, leaves = as_step(step), jax.tree.leaves(self)
        if any(map(np.ndim, leaves)):
            self._require_single()
        dtype = np.float64 if has_float64(leaves) else np.float32
        if is_concrete(step) and all(map(is_concrete, leaves)):
            at = host_step(step)
            count = self._count(np.asarray(at, np.float64)[()])
            if count is not None:
                return jnp.asarray(np.broadcast_to(count, np.shape(at)))
            values = self._on_host(at)
            with np.errstate(over="ignore"):  # beyond float32 is infinite, as in a program
                return jnp.asarray(values.astype(dtype))
        t = traced_step(step, dtype)
        count = self._count(t)
        value = num.to_value(self.value_at(t)) if count is None else count
        value = jnp.asarray(value).astype(dtype if count is None else np.int32)
        return jnp.broadcast_to(value, t.hi.shape if isinstance(t, num.Double) else t.shape)

    def _on_host(self, step: Any) -> Any:
        """The values in float64, for a known schedule and known steps."""
        with np.errstate(all="ignore"):
            value = self.value_at(np.asarray(step, np.float64)[()])
        return np.broadcast_to(np.asarray(value, np.float64), np.shape(step))

    def _require_single(self) -> None:
        for path, leaf in jax.tree_util.tree_flatten_with_path(self)[0]:
            if np.ndim(leaf) > own_rank(self, path):
                raise ValueError(
                    f"{type(self).__name__} is a population: {jax.tree_util.keystr(path)} has "
                    f"shape {np.shape(leaf)}. Call its members by `jax.vmap(lambda s: s(step))"
                    "(schedule)`."
                )

    # The operators. A sequence or sum of sequences or sums is one flat node, so >> is associative.

    def __rshift__(self, other: Any) -> AbstractSchedule:
        return Sequence(_parts(Sequence, self, other))

    def __rrshift__(self, other: Any) -> AbstractSchedule:
        return Sequence(_parts(Sequence, other, self))

    def __mul__(self, other: Any) -> AbstractSchedule:
        return Product(_parts(Product, self, other)) if _is_term(other) else NotImplemented

    def __rmul__(self, other: Any) -> AbstractSchedule:
        return Product(_parts(Product, other, self)) if _is_term(other) else NotImplemented

    def __truediv__(self, other: Any) -> AbstractSchedule:
        if isinstance(other, AbstractSchedule) or not _is_term(other):
            return NotImplemented
        if np.ndim(other):
            raise _array_error(other)
        if isinstance(other, (int, float)) and other == 0:
            raise ValueError(f"schedule / number must not divide by zero, got {other!r}.")
        return self * (1.0 / as_real(other))

    def __rtruediv__(self, other: Any) -> AbstractSchedule:
        if np.ndim(other) and _is_term(other):
            raise _array_error(other)
        return NotImplemented

    def __add__(self, other: Any) -> AbstractSchedule:
        return Sum(_parts(Sum, self, other)) if _is_term(other) else NotImplemented

    def __radd__(self, other: Any) -> AbstractSchedule:
        return Sum(_parts(Sum, other, self)) if _is_term(other) else NotImplemented

    def __neg__(self) -> AbstractSchedule:
        return -1.0 * self

    def __sub__(self, other: Any) -> AbstractSchedule:
        return self + -_term(other) if _is_term(other) else NotImplemented

    def __rsub__(self, other: Any) -> AbstractSchedule:
        return _term(other) + -self if _is_term(other) else NotImplemented

    def _repr_html_(self) -> str:
        from jaxsched._plot import svg

        return svg(self)


@struct
class Constant(AbstractSchedule):
    """The same value at every step; with ``steps``, a piece of that length.

    Args:
        value: the value.
        steps: length in optimizer updates, at least 0; ``None`` (default) for ever.

    >>> import jaxsched as js
    >>> float(js.Constant(0.5)(10))
    0.5
    """

    value: Any = number()
    steps: Any = length(default=None, at_least=0, optional=True)

    @property
    def duration(self) -> Any:
        return self.steps

    def value_at(self, t: Number) -> Value:
        return num.as_value(t, self.value)


@struct
class Sequence(AbstractSchedule):
    r"""One schedule after another; each part starts at its own step 0.

    .. math:: s(t) = s_i(t - b_i), \quad b_i \le t < b_{i+1}, \quad b_i = \sum_{j<i} d_j

    A step on a boundary belongs to the later part. Usually written ``a >> b``.

    Args:
        parts: the schedules, at least one; all but the last must have a duration.

    Raises:
        ValueError: if a part before the last is open-ended.

    >>> import jaxsched as js
    >>> warm = js.Linear(0.0, 1.0, 10) >> js.Constant(1.0)
    >>> [round(float(warm(t)), 6) for t in (0, 5, 10, 99)]
    [0.0, 0.5, 1.0, 1.0]
    """

    parts: tuple[AbstractSchedule, ...]

    def __post_init__(self) -> None:
        _check_parts(self)
        for index, part in enumerate(self.parts[:-1]):
            if part.duration is None:
                raise ValueError(
                    f"Sequence(parts=...) must have a duration in every part but the last, got the "
                    f"open-ended {part!r} as part {index} of {len(self.parts)}. Give it a length, "
                    "e.g. `Window(part, 0, steps)`."
                )

    @property
    def duration(self) -> Any:
        return exact_duration(self)

    def exact_length(self, t: Number) -> Number | None:
        lengths = [part.exact_length(t) for part in self.parts]
        if lengths[-1] is None:
            return None
        return functools.reduce(operator.add, [num.at_least_zero(length) for length in lengths])

    def value_at(self, t: Number) -> Value:
        t = num.at_least_zero(t)
        if len(self.parts) > _FEW and can_select(t):
            return selected(t, self.parts)
        # A part that is not selected is evaluated all the same, before its start or after its end,
        # where it holds its value: nothing overflows there and no NaN reaches a gradient.
        value = self.parts[0].value_at(t)
        start: Number = 0.0
        reached = num.nudge(t)
        for before, part in itertools.pairwise(self.parts):
            start = start + num.at_least_zero(before.exact_length(t))
            local = t - start
            value = num.where(reached >= start, part.value_at(local), value)
        return value


_FEW = 4  # so many parts are quicker to compile one by one


class AbstractCombination(AbstractSchedule):
    """Schedules that run side by side and are combined at every step."""

    parts: tuple[AbstractSchedule, ...]

    def __post_init__(self) -> None:
        _check_parts(self)

    @property
    def duration(self) -> Any:
        return exact_duration(self)

    def exact_length(self, t: Number) -> Number | None:
        lengths = [p.exact_length(t) for p in self.parts if not _is_endless_constant(p)] or [None]
        if any(length is None for length in lengths):
            return None
        return functools.reduce(num.maximum, lengths)

    @staticmethod
    @abc.abstractmethod
    def _combine(x: Value, y: Value) -> Value: ...

    def value_at(self, t: Number) -> Value:
        return functools.reduce(self._combine, [part.value_at(t) for part in self.parts])


@struct
class Product(AbstractCombination):
    """The product of schedules, step by step. Usually written ``a * b`` or ``0.1 * a``.

    >>> import jaxsched as js
    >>> float((0.1 * js.Linear(1.0, 0.0, 10))(5)) == float(jnp.float32(0.05))
    True
    """

    parts: tuple[AbstractSchedule, ...]

    @staticmethod
    def _combine(x: Value, y: Value) -> Value:
        return x * y

    def value_at(self, t: Number) -> Value:
        return num.product([part.value_at(t) for part in self.parts])


@struct
class Sum(AbstractCombination):
    """The sum of schedules, step by step. Usually written ``a + b``.

    >>> import jaxsched as js
    >>> float((js.Linear(1.0, 0.0, 10) + 0.25)(5))
    0.75
    """

    parts: tuple[AbstractSchedule, ...]

    @staticmethod
    def _combine(x: Value, y: Value) -> Value:
        return x + y


@struct
class Minimum(AbstractCombination):
    """The smallest of schedules, step by step; ``js.minimum(a, b)``."""

    parts: tuple[AbstractSchedule, ...]

    @staticmethod
    def _combine(x: Value, y: Value) -> Value:
        return num.minimum(x, y)


@struct
class Maximum(AbstractCombination):
    """The largest of schedules, step by step; ``js.maximum(a, b)``."""

    parts: tuple[AbstractSchedule, ...]

    @staticmethod
    def _combine(x: Value, y: Value) -> Value:
        return num.maximum(x, y)


def minimum(*schedules: Any) -> AbstractSchedule:
    """The pointwise minimum of schedules and numbers.

    >>> import jaxsched as js
    >>> float(js.minimum(js.Linear(0.0, 1.0, 10), 0.25)(9))
    0.25
    """
    return Minimum(_parts(Minimum, *schedules))


def maximum(*schedules: Any) -> AbstractSchedule:
    """The pointwise maximum of schedules and numbers.

    >>> import jaxsched as js
    >>> float(js.maximum(js.Linear(1.0, 0.0, 10), 0.25)(9))
    0.25
    """
    return Maximum(_parts(Maximum, *schedules))


# ---------------------------------------------------------------- lengths, which may be traced


def exact_duration(schedule: AbstractSchedule) -> Any:
    """The ``duration`` where ``exact_length`` is defined: a Python number, if it is known.

    Otherwise a float32 array. It is for people; inside, ``exact_length`` keeps every digit.
    """
    known = all(map(is_concrete, jax.tree.leaves(schedule)))
    with np.errstate(all="ignore"):
        length = schedule.exact_length(np.float64(0.0) if known else num.Double(*_ZERO))
    if length is None or isinstance(length, num.Double):
        return None if length is None else length.hi
    if np.ndim(length):  # of a population
        return length
    return int(length) if float(length).is_integer() else float(length)


_ZERO = np.zeros((2,), np.float32)


def subtract_steps(x: Any, y: Any) -> Any:
    """``x - y`` in one dtype: an integer meets a float as a float32 (strict promotion)."""
    if _is_whole(x) != _is_whole(y):
        x, y = as_real(x), as_real(y)
    dtypes = [z.dtype for z in (x, y) if _is_whole(z) and not isinstance(z, int)]
    if all(np.can_cast(dtype, np.int32) for dtype in dtypes):
        return _whole_as(x, np.int32) - _whole_as(y, np.int32)
    if is_x64():
        return _whole_as(x, np.int64) - _whole_as(y, np.int64)
    x, y = jnp.maximum(jnp.asarray(x), 0), jnp.maximum(jnp.asarray(y), 0)
    x, y = _whole_as(x, np.uint32), _whole_as(y, np.uint32)
    return jnp.where(x > y, x - y, 0)  # what is below 0 counts as 0


def least(x: Any, y: Any) -> Any:
    """The smaller one of two lengths, in one dtype."""
    if is_concrete(x) and is_concrete(y):
        return min(x, y) if np.ndim(x) == np.ndim(y) == 0 else np.minimum(x, y)
    if _is_whole(x) != _is_whole(y):
        x, y = as_real(x), as_real(y)
    return jnp.minimum(x, y)


def _whole_as(x: Any, dtype: Any) -> Any:
    """An integer array in a dtype that does not wrap below 0; all else as it is."""
    return x.astype(dtype) if _is_whole(x) and not isinstance(x, int) else x


def _is_whole(x: Any) -> bool:
    return isinstance(x, int) or (hasattr(x, "dtype") and jnp.issubdtype(x.dtype, jnp.integer))


def as_real(x: Any) -> Any:
    """A number as a float; integer arrays as float32."""
    if isinstance(x, (int, float)):
        return float(x)
    return jnp.asarray(x).astype(jnp.float32) if _is_whole(x) else x


# --------------------------------------------------------------------------------------- details


def _is_term(x: Any) -> bool:
    _refuse_function(x)
    return isinstance(x, (AbstractSchedule, int, float)) or hasattr(x, "dtype")


def _term(x: Any) -> AbstractSchedule:
    if isinstance(x, AbstractSchedule):
        return x
    _refuse_function(x)
    if np.ndim(x):
        raise _array_error(x)
    return Constant(x)


def _array_error(x: Any) -> TypeError:
    return TypeError(
        f"a schedule can be combined with schedules and single numbers, not with an array of the "
        f"shape {np.shape(x)}: call the schedule with a step and use its value, as in "
        "`schedule(step) * array`. A number for each member of a population is a `js.Constant`."
    )


def _refuse_function(x: Any) -> None:
    if not isinstance(x, AbstractSchedule) and cure(x):
        raise TypeError(
            f"what a schedule is combined with must be a schedule or a number, got {x!r} "
            f"({type(x).__name__}){cure(x)}."
        )


def _parts(node: Any, *terms: Any) -> tuple[AbstractSchedule, ...]:
    parts: list[AbstractSchedule] = []
    for term in terms:
        term = _term(term)
        parts.extend(term.parts if isinstance(term, node) else (term,))
    return tuple(parts)


def _check_parts(self: Any) -> None:
    name = type(self).__name__
    if is_list(self.parts):
        self.__dict__["parts"] = tuple(self.parts)
    if not isinstance(self.parts, tuple) or not self.parts:
        raise ValueError(
            f"{name}(parts=...) must be a list or tuple of at least one schedule, got "
            f"{self.parts!r}."
        )
    for part in self.parts:
        if not isinstance(part, AbstractSchedule):
            raise TypeError(
                f"{name}(parts=...) must hold schedules, got {part!r} ({type(part).__name__})"
                f"{uncalled(part) or WRAP}."
            )


def _is_endless_constant(part: AbstractSchedule) -> bool:
    return isinstance(part, Constant) and part.steps is None


def _is_plain(schedule: AbstractSchedule) -> bool:
    """Whether every number is a Python number, decided quickly."""
    for value in schedule.__dict__.values():
        kind = type(value)
        if kind is float or kind is int or value is None:
            continue
        parts = value if kind is tuple else (value,)
        if not all(isinstance(part, AbstractSchedule) and _is_plain(part) for part in parts):
            return False
    return True
