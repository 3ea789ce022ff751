"""Looking at schedules and handling many of them: sample, stack, boundaries, coverage."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxsched._axes import own_rank
from jaxsched._struct import Record, _describe, checked_number, cure, fetch, is_known, strong
from jaxsched.schedules._base import AbstractSchedule, Sequence
from jaxsched.schedules._piecewise import PiecewiseConstant, _Knots
from jaxsched.schedules._wrappers import Clip, Quantize, Reverse, Shift, Stretch, Window


def sample(schedule: AbstractSchedule, n: int) -> np.ndarray:
    """The values of the first ``n`` updates, in one call: what training applies.

    Computed in float64 and rounded once, so it equals the value in any compiled program to a unit
    or two in the last place. A stacked population gives one row for each member.

    Args:
        schedule: any schedule with known numbers.
        n: how many updates, at least 1.

    Returns:
        float32 [n], or [members, n] for a population.

    >>> import jaxsched as js
    >>> js.sample(js.Linear(1.0, 0.0, 4), 5).tolist()
    [1.0, 0.75, 0.5, 0.25, 0.0]
    """
    _require_schedule("sample(schedule=...)", schedule)
    n = checked_number("sample(n=...)", n, at_least=1)
    if not isinstance(n, int):
        raise TypeError(f"sample(n=...) must be a whole number, got {n!r}.")
    steps = np.arange(n, dtype=np.int32)
    if members(schedule) is None:
        return np.asarray(fetch(schedule(steps)))
    return np.stack([np.asarray(fetch(one(steps))) for one in unstack(schedule)])


def stack(schedules: Any) -> AbstractSchedule:
    """One population of schedules of the same structure: each number becomes an array [N].

    >>> import jax, jaxsched as js
    >>> family = js.stack([js.Linear(peak, 0.0, 10) for peak in (1.0, 2.0)])
    >>> jax.vmap(lambda s: s(5))(family).tolist()
    [0.5, 1.0]
    """
    schedules = list(schedules)
    if not schedules:
        raise ValueError("stack(schedules=...) must hold at least one schedule, got none.")
    for schedule in schedules:
        if not isinstance(schedule, Record):  # a schedule or a controller
            raise TypeError(
                f"stack(schedules=...) must hold schedules, got {schedule!r}{cure(schedule)}."
            )
    trees = {str(jax.tree.structure(s)) for s in schedules}
    if len(trees) > 1:
        raise ValueError(
            f"stack(schedules=...) must have one structure, got {len(trees)}: {schedules[0]!r} and "
            "others. Sample schedules of different kinds into js.Table."
        )
    return jax.tree.map(_stacked, *map(strong, schedules))


def _stacked(*xs: jax.Array) -> jax.Array:
    if len({x.shape for x in xs}) > 1:
        raise ValueError(
            "stack(schedules=...) must have arrays of one shape, got the shapes "
            f"{sorted({x.shape for x in xs})}."
        )
    same = len({x.dtype for x in xs}) == 1
    return jnp.stack([x if same else x.astype(jnp.float32) for x in xs])


def unstack(population: AbstractSchedule) -> list[AbstractSchedule]:
    """The members of a stacked population, as single schedules.

    >>> import jaxsched as js
    >>> len(js.unstack(js.stack([js.Constant(1.0), js.Constant(2.0)])))
    2
    """
    _require_record("unstack(population=...)", population)
    count = members(population)
    if count is None:
        return [population]
    host = jax.tree.map(lambda x: np.asarray(fetch(x)), population)
    return [jax.tree.map(lambda x, i=i: x[i], host) for i in range(count)]


def members(schedule: AbstractSchedule) -> int | None:
    """How many schedules a stacked population holds; ``None`` for a single schedule.

    >>> import jaxsched as js
    >>> js.members(js.Constant(1.0)), js.members(js.stack([js.Constant(1.0), js.Constant(2.0)]))
    (None, 2)
    """
    _require_record("members(schedule=...)", schedule)
    sizes = {np.shape(leaf)[0] for leaf in _extra_axes(schedule)}
    if len(sizes) > 1:
        raise ValueError(f"a population must have one number of members, got {sorted(sizes)}.")
    return sizes.pop() if sizes else None


def boundaries(schedule: AbstractSchedule) -> tuple[float, ...]:
    """The steps at which a new phase begins, after 0 and up to the end of the last phase but one.

    >>> import jaxsched as js
    >>> js.boundaries(js.wsd(1.0, 100, warmup=10, decay=20))
    (10, 80)
    """
    _require_schedule("boundaries(schedule=...)", schedule)
    return tuple(phase.start for phase in _phases(schedule)[1:])


class Phase(NamedTuple):
    """A phase of a schedule: from ``start`` (inclusive) to ``end`` (exclusive; None: for ever)."""

    name: str
    start: float
    end: float | None


class Coverage(NamedTuple):
    """How much of a schedule a run reaches; see ``js.coverage``."""

    fraction: float | None
    unreached: tuple[Phase, ...]
    cut: tuple[Phase, ...]

    @property
    def complete(self) -> bool:
        return not (self.unreached or self.cut)


def coverage(schedule: AbstractSchedule, steps: int) -> Coverage:
    """What of a schedule a run of ``steps`` updates reaches.

    Returns:
        fraction: share of the schedule's duration, at most 1 (``None``: it is open-ended);
        unreached: phases that are never entered; cut: phases that are entered and not finished.

    >>> import jaxsched as js
    >>> report = js.coverage(js.wsd(1.0, 100, warmup=10, decay=20), 50)
    >>> report.fraction, [phase.name for phase in report.unreached]
    (0.5, ['Linear'])
    """
    _require_schedule("coverage(schedule=...)", schedule)
    steps = checked_number("coverage(steps=...)", steps, at_least=0)
    phases = _phases(schedule)
    duration = schedule.duration
    fraction = None
    if duration is not None:
        fraction = min(1.0, steps / float(fetch(duration))) if float(fetch(duration)) else 1.0
    unreached = tuple(p for p in phases if p.start >= steps and (p.end is None or p.end > p.start))
    cut = tuple(p for p in phases if p.start < steps and p.end is not None and steps < p.end)
    return Coverage(fraction, unreached, cut)


def _require_schedule(where: str, schedule: Any) -> None:
    if isinstance(schedule, AbstractSchedule):
        return
    base = getattr(schedule, "base", None)  # of a controller
    repair = "; ask its base" if isinstance(base, AbstractSchedule) else cure(schedule)
    raise TypeError(f"{where} must be a schedule, got {_describe(schedule)}{repair}.")


def _require_record(where: str, schedule: Any) -> None:
    if not isinstance(schedule, Record):  # a schedule or a controller
        raise TypeError(f"{where} must be a schedule, got {_describe(schedule)}{cure(schedule)}.")


def _phases(schedule: AbstractSchedule) -> list[Phase]:
    name, duration = type(schedule).__name__, _known(schedule.duration)
    if isinstance(schedule, Sequence):
        found: list[Phase] = []
        begin: float = 0
        for index, part in enumerate(schedule.parts):
            length = _known(part.duration)
            inner = _phases(part)
            if index + 1 < len(schedule.parts):
                inner = _moved(inner, 0, length)
            found += [Phase(n, begin + a, None if b is None else begin + b) for n, a, b in inner]
            begin += length or 0
        return found
    if isinstance(schedule, PiecewiseConstant | _Knots):
        points = schedule.boundaries if isinstance(schedule, PiecewiseConstant) else schedule.steps
        edges = [0, *(p for p in np.asarray(fetch(points)).tolist() if p > 0)]
        ends = [*edges[1:], None if isinstance(schedule, PiecewiseConstant) else edges[-1]]
        return [Phase(name, a, b) for a, b in zip(edges, ends, strict=True) if a != b]
    if isinstance(schedule, Clip | Quantize):
        return _phases(schedule.schedule)
    if isinstance(schedule, Shift):
        return _moved(_phases(schedule.schedule), _number(schedule.steps), None)
    if isinstance(schedule, Window):
        return _moved(_phases(schedule.schedule), -_number(schedule.start), duration)
    if isinstance(schedule, Stretch):
        factor = _number(schedule.factor)
        inner = _phases(schedule.schedule)
        return [Phase(n, a * factor, None if b is None else b * factor) for n, a, b in inner]
    if isinstance(schedule, Reverse) and duration is not None:
        inner = _moved(_phases(schedule.schedule), 0, duration)
        return [Phase(n, duration - (b or duration), duration - a) for n, a, b in reversed(inner)]
    parts = getattr(schedule, "parts", ())
    composed = [phases for phases in map(_phases, parts) if len(phases) > 1]
    return max(composed, key=len) if composed else [Phase(name, 0, duration)]


def _moved(phases: list[Phase], by: float, stop: float | None) -> list[Phase]:
    """Phases ``by`` steps later and cut to [0, stop]; the first one reaches back to 0."""
    moved: list[Phase] = []
    for name, start, end in phases:
        start = max(start + by, 0) if moved else 0
        end = end if end is None else end + by
        if stop is not None:
            end = stop if end is None else min(end, stop)
        if end is None or end > start:
            moved.append(Phase(name, start, end))
    return moved or phases[:1]


def _known(x: Any) -> float | None:
    if x is None:
        return None
    return _number(x)


def _number(x: Any) -> float:
    if not is_known(x):
        raise TypeError(f"the phases of a schedule need known lengths, got {x!r}.")
    if np.ndim(x):
        raise ValueError("the phases of a population differ: ask one of `js.unstack(population)`.")
    number: float = np.asarray(fetch(x)).item()
    return number


def _extra_axes(schedule: AbstractSchedule) -> list[Any]:
    return [
        leaf
        for path, leaf in jax.tree_util.tree_flatten_with_path(schedule)[0]
        if np.ndim(leaf) > own_rank(schedule, path)
    ]
