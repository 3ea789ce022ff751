"""The abstract controller: a schedule that depends on measurements.

A controller is immutable data, as a schedule is; its state is an argument and a result. It has the
three methods of Optax's ``StatefulSchedule``, so it goes wherever one does.
"""

from __future__ import annotations

import abc
import contextlib
import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from jaxsched._arrays import same_form
from jaxsched._struct import Record
from jaxsched._text import describe
from jaxsched._types import Leaf, PyTree
from jaxsched._words import wrap
from jaxsched.controllers._numbers import next_count, number32, zero
from jaxsched.controllers._own import check_class, traceable
from jaxsched.controllers._reports import check_report
from jaxsched.schedules._base import AbstractSchedule, Constant, Operand

S = TypeVar("S")
_CLASS_OF: dict[str, Any] = {}  # the operators' class: `Around`, from a later module


def _operator(
    of: Callable[[Any, Any], Any],
) -> Callable[[AbstractController, Operand], AbstractController]:
    """A method that makes an ``Around`` of the rate and another operand."""
    return lambda self, other: self._wrap(lambda rate: of(rate, other), other)


class AbstractController(Record, abc.ABC):
    """A rate that depends on measurements. (The usual kind is an ``AbstractScaler``.)

    A subclass is a ``@struct`` with ``base`` (a schedule, a number, or another controller) as its
    first field, a ``State``, ``init``, ``react`` and ``value_at``; and with ``reads``, if it needs
    other measurements than ``value``. Each of its numbers is a leaf and may be traced. Relations
    between fields are checked in ``__check_init__``, without ``super()``.
    """

    __array_ufunc__ = None  # so that `numpy_number * controller` reaches our operators
    State: ClassVar[Any]  # a NamedTuple of arrays that has `step` and `base`
    reads: ClassVar[tuple[str, ...]] = ("value",)  # the measurements that it needs
    or_reads: ClassVar[tuple[str, ...]] = ()  # alternatives to these
    _in_state: ClassVar[tuple[str, ...]] = ("step", "base")
    quiet: Leaf = 0  # a field of some: updates at the start without reports to the rule

    base: Any

    def __init_subclass__(cls, of_operators: bool = False, **named: Any) -> None:
        super().__init_subclass__(**named)
        if of_operators:
            _CLASS_OF["operators"] = cls

    def __post_init__(self) -> None:
        check_class(type(self))  # first: a wrong declaration would fail later, by another name
        super().__post_init__()
        self.__dict__["base"] = _as_base(type(self).__name__, self.base)

    # -------------------------------------------------------------------- for subclasses to define

    @abc.abstractmethod
    def init(self) -> PyTree:
        """The state before the first update: ``step`` 0 (int32), ``base`` as ``base_init`` says."""

    @abc.abstractmethod
    def react(self, state: PyTree, **report: Any) -> PyTree:
        """The state after a report; ``step`` and ``base`` stay unchanged.

        Its keywords are the measurements, None for a missing one; others are ignored. Without any
        measurement it isn't called. Every number of ``self`` is a float32 array of shape () here.
        """

    @abc.abstractmethod
    def value_at(self, state: PyTree) -> jax.Array:
        """The value for the next update: float32, of shape ()."""

    def host_values(self, state: PyTree, steps: np.ndarray, values: np.ndarray) -> np.ndarray:
        """float64 values at ``steps`` without further reports, which a sweep tabulates.

        ``values`` are the values of the schedule at the bottom, float64.
        """
        rates = jax.vmap(lambda step: self(at_step(self, state, step)))(jnp.int32(steps))
        return np.asarray(rates, np.float64)

    def lowest(self) -> float:
        """The lower bound of the value, as a fraction of the base's last one."""
        return 1.0

    def times(self, factor: float) -> Any:
        """The same with a rate ``factor`` times as high."""
        changed: Any = self
        return dataclasses.replace(changed, base=scaled(self.base, factor))

    def untold(self, base: AbstractSchedule) -> AbstractSchedule:
        """The schedule of the rates without any report, from the schedule of the ``base``."""
        return base

    def carried(self, old: AbstractController, state: PyTree, first: PyTree) -> PyTree:
        """The state of a run that continues under this controller.

        Args:
            old: its controller so far, of the same class.
            state: the state of ``old``.
            first: a first state of this controller at the same step.
        """
        same = getattr(old, "mode", None) == getattr(self, "mode", None)
        # A best minimum means nothing to a maximizing one.
        return _kept_parts(state, first) if same else first

    # --------------------------------------------------------------------- for users to call

    def __getattr__(self, name: str) -> Any:
        if name in ("host", "duration"):  # attributes of schedules
            raise AttributeError(
                f"{type(self).__name__} has no {name}, since its rate depends on what is reported; "
                f"what it follows has one, as in `controller.base.{name}`."
            )
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def update(self, state: S, **report: Any) -> S:
        """The state after one more optimizer update, with its measurements, if any.

        Args:
            state: from ``init``, ``update`` or ``observe``.
            **report: the measurements that the class names (``value=`` for most); other keywords
                are ignored, so that all extra arguments of an Optax chain may be passed.

        Returns:
            A state of the same structure, shapes and dtypes. It acts from the next update on.
        """
        after: Any = self.tell(state, report)
        return at_step(self, after, next_count(after.step))

    def observe(self, state: S, **report: Any) -> S:
        """The state after a measurement between two updates (a validation), at the same step.

        Raises:
            ValueError: if it acts on none of the measurements, or all are None. (``update`` can't
                check that: it also gets other arguments of an Optax chain.)

        >>> import jaxsched as js
        >>> from jaxsched.controllers import Plateau
        >>> plateau = Plateau(0.1, factor=0.5, patience=0)
        >>> state = plateau.update(plateau.init())
        >>> for loss in (1.0, 1.0):
        ...     state = plateau.observe(state, value=loss)
        >>> int(state.step), float(state.scale)
        (1, 0.5)
        """
        kinds = [type(level) for level in levels(self)]
        check_report(f"{type(self).__name__}.observe", kinds, report, more=True)
        return self.tell(state, report)

    def tell(self, state: S, report: dict[str, Any]) -> S:
        """``observe``, with measurements that may be for other controllers."""
        # Each level reacts to the report from the state before it, the outer one as well: where a
        # cut ends on `min_lr`, the base's rate is the one before its own cut.
        new, base = self._reacted(state, report), self.base
        below = base.tell(new.base, report) if isinstance(base, AbstractController) else ()
        after = new._replace(base=below)
        if type(self.quiet) is int and self.quiet == 0:  # the usual case: nothing in the program
            return after
        before: Any = state
        quiet = number32(before.step) < number32(self.quiet)
        return jax.tree.map(lambda x, y: jnp.where(quiet, x, y), before, after)

    def __call__(self, state: PyTree, **extra: Any) -> jax.Array:
        """The value for the next update: float32, of shape ()."""
        self._check(state)
        with traceable(self, "value_at(state)"):
            return self.value_at(state)

    # ----------------------------------------------------------------------------- the base's part

    def first_state(self, **others: PyTree) -> PyTree:
        """A first ``State``, for ``init``: int32 counts of 0, but for the base's and ``others``."""
        counts = {name: zero(jnp.int32) for name in self.State._fields}
        return self.State(**counts | {"base": self.base_init()} | others)

    def base_init(self) -> PyTree:
        """The ``base`` of a first state: () or, if the base is a controller, its state."""
        return self.base.init() if isinstance(self.base, AbstractController) else ()

    def base_value(self, state: PyTree) -> jax.Array:
        """The base's value for the next update."""
        return self.base(state.base if isinstance(self.base, AbstractController) else state.step)

    def base_host_values(self, state: PyTree, steps: np.ndarray, values: np.ndarray) -> np.ndarray:
        """The base's part of ``host_values``."""
        if isinstance(self.base, AbstractController):
            return self.base.host_values(state.base, steps, values)
        return values

    # ------------------------------------------- the operators of schedules; each makes an `Around`

    def _wrap(self, rule: Callable[[Any], Any], *others: object) -> AbstractController:
        """An ``Around`` with ``rule`` of the rate; ``others`` are the other operands."""
        for other in others:
            if isinstance(other, AbstractController):
                raise TypeError(
                    f"{type(self).__name__} can be combined with schedules and numbers, not with "
                    f"another controller, got {other!r}: let one follow the other, as in "
                    "`js.Plateau(js.Greedy(0.1))`."
                )
        made: AbstractController = _CLASS_OF["operators"].of(self, rule)
        return made

    __mul__ = _operator(lambda rate, other: rate * other)
    __rmul__ = _operator(lambda rate, other: other * rate)
    __truediv__ = _operator(lambda rate, other: rate / other)
    __rtruediv__ = _operator(lambda rate, other: other / rate)
    __pow__ = _operator(lambda rate, other: rate**other)
    __add__ = _operator(lambda rate, other: rate + other)
    __radd__ = _operator(lambda rate, other: other + rate)
    __sub__ = _operator(lambda rate, other: rate - other)
    __rsub__ = _operator(lambda rate, other: other - rate)
    __rshift__ = _operator(lambda rate, other: rate >> other)

    def __neg__(self) -> AbstractController:
        return self._wrap(lambda rate: -rate)

    def __rrshift__(self, other: Operand) -> AbstractController:
        made: AbstractController = _CLASS_OF["operators"].after(other, self)
        return made

    # ------------------------------------------------------------------------------------- details

    def require_single(self) -> None:
        """Raises for a population."""
        for name in self.ranks:
            if shape := np.shape(getattr(self, name)):
                raise ValueError(
                    f"{type(self).__name__} is a population: {name} has shape {shape}. Map over "
                    "its members by `jax.vmap(lambda c, s: c.update(s, value=loss))`."
                )

    def check_state(self, state: object) -> None:
        """Raises for anything but a state of its own."""
        if not isinstance(state, self.State):
            raise TypeError(
                f"{type(self).__name__} must be called with a state of its own, from `init` or "
                f"`update`, got {type(state).__name__}. A controller isn't a plain schedule: write "
                f"`js.inject(optax.adam)(learning_rate=controller)` (or optax.inject_hyperparams), "
                "not `optax.adam(controller)`."
            )

    def _check(self, state: object) -> None:
        self.check_state(state)
        self.require_single()

    def _reacted(self, state: PyTree, report: dict[str, Any]) -> PyTree:
        """The checked state after ``react``; the levels below do not get the report here."""
        self._check(state)
        if all(x is None for x in report.values()):
            return state
        # A rule sees one kind of number, whether the user gave a Python one, an array or a tracer:
        # `jnp.floor(self.patience)` and `self.cooldown.astype` need no cases, and the bits are the
        # same as in a population. Only the numbers are converted: a float32 schedule at the bottom
        # would have other digits. The constructor has already checked them.
        exact = object.__new__(type(self))
        numbers = {n: getattr(self, n) for n in self.ranks if getattr(self, n) is not None}
        exact.__dict__.update(self.__dict__, **{n: number32(x) for n, x in numbers.items()})
        with traceable(self, "react(state, ...)"):
            new = exact.react(state, **report)
        if not isinstance(new, self.State):
            raise TypeError(
                f"{type(self).__name__}.react(state, ...) must return a {self.State.__name__}, as "
                f"`state._replace(...)` does, got {describe(new)}."
            )
        return new


# ------------------------------------------------------------------ a controller over a controller


def levels(controller: object) -> list[AbstractController]:
    """It and the controllers below it; none for a schedule."""
    if not isinstance(controller, AbstractController):
        return []
    return [controller, *levels(controller.base)]


def bottom(followed: Any) -> AbstractSchedule:
    """The schedule under whatever controllers."""
    return levels(followed)[-1].base if levels(followed) else followed


def reads(controller: AbstractController) -> set[str]:
    """The metrics that it and the controllers below it read."""
    return {name for level in levels(controller) for name in level.reads}


def at_step(controller: object, state: PyTree, step: jax.Array) -> PyTree:
    """The state after updates up to ``step`` in which nothing was reported."""
    if not isinstance(controller, AbstractController):
        return ()
    controller.check_state(state)
    return state._replace(step=step, base=at_step(controller.base, state.base, step))


def resumed(
    controller: object, step: jax.Array, seen: list[tuple[AbstractController, PyTree]]
) -> PyTree:
    """The state at ``step`` of a run that continues, from a saved state of the same class.

    ``seen`` are the controllers of the run so far with their states, the outermost first. The state
    of another class would not have the same meaning here.
    """
    if not isinstance(controller, AbstractController):
        return ()
    start = at_step(controller, controller.init(), step)
    kinds = [type(old) for old, _ in seen]
    if type(controller) not in kinds:
        return start._replace(base=resumed(controller.base, step, seen))
    # Saved controllers outside of the found one are skipped, for the levels below as well: with
    # Plateau(Greedy(...)) saved, Greedy(Plateau(...)) goes on as the Greedy, and its Plateau is
    # new. A memory of another rate does not fit the schedule below it.
    place = kinds.index(type(controller))
    state = controller.carried(*seen[place], start)
    return state._replace(step=step, base=resumed(controller.base, step, seen[place + 1 :]))


def _kept_parts(state: PyTree, first: PyTree) -> PyTree:
    """``state``, with the parts of ``first`` where these are of another form.

    Fields decide it: with another ``window`` than before the last evaluations are forgotten, and
    with ``smooth`` an average begins, while the best stays.
    """
    if same_form(state, first):
        return state
    if not hasattr(state, "_fields"):
        return first
    return type(state)(*map(_kept_parts, state, first))


def scaled(followed: Any, factor: float) -> Any:
    """A schedule times ``factor``, or a controller of one."""
    return followed.times(factor) if levels(followed) else factor * followed


def untold(followed: Any) -> Any:
    """The schedule of the rates as long as nothing is reported."""
    return followed.untold(untold(followed.base)) if levels(followed) else followed


def _as_base(name: str, base: object) -> Any:
    """``base`` as a schedule or a controller; a number is made a ``Constant``."""
    if isinstance(base, (AbstractSchedule, AbstractController)):
        return base
    if not callable(base):
        with contextlib.suppress(TypeError):
            return Constant(base)
    repair = wrap(base) if callable(base) else ""
    expected = "a schedule, a controller or a number"
    raise TypeError(f"{name}(base=...) must be {expected}, got {describe(base)}{repair}.")
