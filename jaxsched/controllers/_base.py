"""What a controller is: a schedule that is told what was measured.

A controller is immutable data, as a schedule is; what it has seen is a value that it is given and
gives back. It has the three methods of Optax's ``StatefulSchedule``, so it goes wherever one does.
"""

from __future__ import annotations

import abc
import dataclasses
import functools
import inspect
from typing import Any, ClassVar, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from jaxsched._arrays import INT32_MAX
from jaxsched._checks import breaks
from jaxsched._struct import Record
from jaxsched._words import WRAP, uncalled
from jaxsched.schedules._base import AbstractSchedule, Constant

S = TypeVar("S")


class AbstractController(Record, abc.ABC):
    """A rate that follows what is measured: ``base(step) * scale``, unless its text says otherwise.

    A subclass is a ``@struct`` whose first field is ``base`` (a schedule, a number, or another
    controller), with a ``State`` (a ``NamedTuple`` that has ``step``, ``base`` and ``scale``),
    ``_start``, ``_observe`` and, if it isn't ``value`` that it reads, ``reads``. Every number of it
    is a leaf and may be traced.
    """

    State: ClassVar[Any]
    monotone: ClassVar[bool] = True  # the scale never rises
    reads: ClassVar[tuple[str, ...]] = ("value",)  # the measurements without which it does nothing
    or_reads: ClassVar[tuple[str, ...]] = ()  # others that will do in their place

    base: Any

    def __post_init__(self) -> None:
        Record.__post_init__(self)
        object.__setattr__(self, "base", _as_base(type(self).__name__, self.base))
        for field in _fields(self):
            check = field.metadata.get("check", {})
            if check.get("real") is False:  # a length: here a count of evaluations or updates
                count = getattr(self, field.name)
                if breaks(lambda count: count != np.floor(count), count):
                    raise ValueError(
                        f"{type(self).__name__}({field.name}=...) must be a whole number, got "
                        f"{count!r}."
                    )
            options = field.metadata.get("options")
            value = getattr(self, field.name)
            if options is not None and value not in options:
                raise ValueError(
                    f"{type(self).__name__}({field.name}=...) must be one of "
                    f"{', '.join(map(repr, options))}, got {value!r}."
                )

    @property
    @abc.abstractmethod
    def bounds(self) -> tuple[Any, Any] | None:
        """The least and the greatest value that ``scale`` can take; None: it has no scale."""

    @abc.abstractmethod
    def _start(self) -> dict[str, Any]:
        """The fields of the first state beside ``step`` and ``base``."""

    @abc.abstractmethod
    def _observe(self, state: Any, **report: Any) -> Any:
        """The state with what was measured taken in; ``step`` and ``base`` stay as they are."""

    def init(self) -> Any:
        """The state before the first update."""
        return self.State(
            step=jnp.zeros((), jnp.int32),
            base=self.base.init() if isinstance(self.base, AbstractController) else (),
            **self._start(),
        )

    def update(self, state: S, **report: Any) -> S:
        """The state after one more optimizer update, told what was measured in it, if anything.

        Args:
            state: from ``init``, ``update`` or ``observe``.
            **report: the measurements that the class names (``value=`` for most); any other
                keyword is left alone, so that everything an Optax chain is given may come along.

        Returns:
            A state of the same structure, shapes and dtypes. What was measured acts from the next
            update on.
        """
        before: Any = state
        self._check(before)
        new, base = self._observe(before, **report), before.base
        if isinstance(self.base, AbstractController):
            base = self.base.update(before.base, **report)
        after: S = new._replace(step=next_count(new.step), base=base)
        return after

    def observe(self, state: S, **report: Any) -> S:
        """The state told what was measured between two updates (a validation): no step is counted.

        Raises:
            ValueError: if it acts on none of the measurements. (``update`` can't know: all that an
                Optax chain is given comes along there, also when nothing was measured.)

        >>> import jaxsched as js
        >>> from jaxsched.controllers import Plateau
        >>> plateau = Plateau(0.1, factor=0.5, patience=0)
        >>> state = plateau.update(plateau.init())
        >>> for loss in (1.0, 1.0):
        ...     state = plateau.observe(state, value=loss)
        >>> int(state.step), float(state.scale)
        (1, 0.5)
        """
        check_report(f"{type(self).__name__}.observe", [self], report, more=True)
        return self._tell(state, report)

    def _tell(self, state: S, report: dict[str, Any]) -> S:
        """``observe``, with measurements that others may read."""
        self._check(state)
        new: Any = self._observe(state, **report)
        if isinstance(self.base, AbstractController):
            new = new._replace(base=self.base._tell(new.base, report))
        after: S = new
        return after

    def __call__(self, state: Any, **extra: Any) -> jax.Array:
        """The value for the next update: float32, of shape ()."""
        del extra
        self._check(state)
        base = self._base_value(state)
        value: jax.Array = base * state.scale.astype(base.dtype)
        return value

    # ------------------------------------------- for a run that goes on under another controller

    def _resumed(self, step: jax.Array, seen: list[tuple[Any, Any]]) -> Any:
        """The state at ``step``, with what a controller of the same kind remembers.

        ``seen`` are the controllers of the run so far with their states, the outermost first. One
        of another kind has nothing that would mean the same here.
        """
        start = self._at(self.init(), step)
        place = next((i for i, (old, _) in enumerate(seen) if type(old) is type(self)), None)
        below = seen if place is None else seen[place + 1 :]
        state = start if place is None else self._carried(*seen[place], start)
        base = self.base._resumed(step, below) if isinstance(self.base, AbstractController) else ()
        return state._replace(step=start.step, base=base)

    def _carried(self, old: Any, state: Any, start: Any) -> Any:
        """What ``state`` of ``old`` says to this one, which is of the same class."""
        if getattr(old, "mode", None) != getattr(self, "mode", None):
            state = start._replace(
                scale=state.scale
            )  # the best of one sense is no best of the other
        if self.bounds is None:
            return state
        low, high = map(number32, self.bounds)
        return state._replace(scale=jnp.clip(state.scale, low, high))

    # ------------------------------------------- for a sweep, which tabulates on the host

    @property
    def _schedule(self) -> AbstractSchedule:
        """The schedule at the bottom, under whatever controllers."""
        found: AbstractSchedule = self.base
        return found._schedule if isinstance(found, AbstractController) else found

    @property
    def _reads(self) -> set[str]:
        """What this one and the controllers below it read."""
        below = self.base._reads if isinstance(self.base, AbstractController) else set()
        return {*self.reads, *below}

    def _lowest(self) -> float:
        """The least scale of all, a fraction of the base's value."""
        return 1.0 if self.bounds is None else float(np.asarray(self.bounds[0]))

    def _at(self, state: Any, step: jax.Array) -> Any:
        """The state after updates up to ``step`` in which nothing was reported."""
        below = self.base._at(state.base, step) if isinstance(self.base, AbstractController) else ()
        return state._replace(step=step, base=below)

    def _on_host(self, state: Any, steps: np.ndarray, values: np.ndarray) -> np.ndarray:
        """float64 values at ``steps``, if nothing more is reported.

        ``values`` are those of the schedule at the bottom, float64.
        """
        scale = np.float64(jax.device_get(state.scale))
        return np.asarray(self._base_on_host(state, steps, values) * scale)

    def _base_on_host(self, state: Any, steps: np.ndarray, values: np.ndarray) -> np.ndarray:
        if isinstance(self.base, AbstractController):
            return self.base._on_host(state.base, steps, values)
        return values

    def _base_value(self, state: Any) -> jax.Array:
        if isinstance(self.base, AbstractController):
            value: jax.Array = self.base(state.base)
        else:
            value = self.base(state.step)
        return value

    def _check(self, state: Any) -> None:
        name = type(self).__name__
        if not isinstance(state, self.State):
            raise TypeError(
                f"{name} must be called with a state of its own, from `init` or `update`, got "
                f"{type(state).__name__}. A controller isn't a plain schedule: write "
                f"`js.inject(optax.adam)(learning_rate=controller)` (or optax.inject_hyperparams), "
                "not `optax.adam(controller)`."
            )
        for field in _fields(self):
            value = getattr(self, field.name)
            if field.metadata.get("check", {}).get("kind") == "number" and np.ndim(value):
                raise ValueError(
                    f"{name} is a population: {field.name} has shape {np.shape(value)}. Map over "
                    "its members by `jax.vmap(lambda c, s: c.update(s, value=loss))`."
                )


def check_report(
    where: str, controllers: list[AbstractController], report: Any, *, more: bool = False
) -> None:
    """Raises where a measurement acts on none of ``controllers`` or those below them.

    One that is None was not taken, which is no mistake. ``more``: others may come along with one
    that acts.
    """
    all_levels = [level for controller in controllers for level in levels(controller)]
    told = {name for name, value in report.items() if value is not None}
    known: set[str] = set()
    acting: set[str] = set()
    for kind in map(type, all_levels):
        reports = _reports(kind)
        known.update(_arguments(kind), *reports)
        if any(told >= set(names) for names in reports):
            acting.update(_arguments(kind), *reports)
    idle = [name for name in report if name not in known or (name in told and name not in acting)]
    if idle and not (more and (acting or not told)):
        words = [
            f"{kind.__name__} reads {' or '.join(map(' with '.join, _reports(kind)))}"
            for kind in map(type, all_levels)
        ]
        raise ValueError(
            f"{where}({idle[0]}=...) must be what a controller acts on: "
            f"{'; '.join(dict.fromkeys(words))}; got only {', '.join(report)}."
        )


def levels(controller: Any) -> list[AbstractController]:
    """It and the controllers below it."""
    if not isinstance(controller, AbstractController):
        return []
    return [controller, *levels(controller.base)]


@functools.cache
def _reports(kind: type[AbstractController]) -> list[tuple[str, ...]]:
    """The sets of measurements each of which it acts on."""
    if kind.reads is AbstractController.reads and "value" not in _arguments(kind):
        return [(name,) for name in _arguments(kind) if name != "reported"]  # it doesn't say
    return [names for names in (kind.reads, kind.or_reads) if names]


def _arguments(kind: type[AbstractController]) -> tuple[str, ...]:
    """The measurements that its ``_observe`` has names for."""
    parameters = list(inspect.signature(kind._observe).parameters.values())[2:]
    return tuple(p.name for p in parameters if p.kind is not p.VAR_KEYWORD)


def scaled(followed: Any, factor: float) -> Any:
    """A schedule times ``factor``, or a controller of one."""
    if isinstance(followed, AbstractController):
        changed: Any = followed
        return dataclasses.replace(changed, base=scaled(changed.base, factor))
    return factor * followed


def choice(default: str, *options: str) -> Any:
    """A field that holds one of a few words: structure, not a number."""
    return dataclasses.field(default=default, metadata={"static": True, "options": options})


def next_count(count: jax.Array) -> jax.Array:
    """``count + 1``, which stays at the last int32."""
    last = jnp.asarray(INT32_MAX, count.dtype)
    return jnp.minimum(count, last - 1) + 1


def number32(x: Any) -> jax.Array:
    """A strong float32 scalar of a number of any kind."""
    return jax.lax.convert_element_type(x, jnp.float32)


def flag(where: str, x: Any) -> jax.Array:
    """A boolean of shape () from a Python or NumPy bool, an array or a tracer."""
    if np.shape(x) != ():
        raise ValueError(f"{where} must be one boolean, got shape {np.shape(x)}.")
    return jnp.asarray(x).astype(jnp.bool_)


def one() -> jax.Array:
    return jnp.ones((), jnp.float32)


def zero(dtype: Any = jnp.float32) -> jax.Array:
    return jnp.zeros((), dtype)


def _fields(record: Any) -> tuple[Any, ...]:
    return dataclasses.fields(record)


def _as_base(name: str, base: Any) -> Any:
    if isinstance(base, (AbstractSchedule, AbstractController)):
        return base
    if callable(base):
        raise TypeError(
            f"{name}(base=...) must be a schedule, a controller or a number, got {base!r} "
            f"({type(base).__name__}){uncalled(base) or WRAP}."
        )
    try:
        return Constant(base, None)
    except TypeError:
        raise TypeError(
            f"{name}(base=...) must be a schedule, a controller or a number, got {base!r} "
            f"({type(base).__name__})."
        ) from None
