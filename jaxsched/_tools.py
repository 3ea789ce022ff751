"""Looking at schedules and handling many of them: sample, stack, boundaries, coverage."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxsched._struct import checked_number, fetch, is_known, strong
from jaxsched.schedules._base import AbstractSchedule, Sequence
from jaxsched.schedules._piecewise import PiecewiseConstant, _Knots


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
    n = checked_number("sample(n=...)", n, at_least=1)
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
    trees = {str(jax.tree.structure(s)) for s in schedules}
    if len(trees) > 1:
        raise ValueError(
            f"stack(schedules=...) must have one structure, got {len(trees)}: {schedules[0]!r} and "
            "others. Sample schedules of different kinds into js.Table."
        )
    return jax.tree.map(lambda *xs: jnp.stack(xs), *map(_strong_float, schedules))


def unstack(population: AbstractSchedule) -> list[AbstractSchedule]:
    """The members of a stacked population, as single schedules.

    >>> import jaxsched as js
    >>> len(js.unstack(js.stack([js.Constant(1.0), js.Constant(2.0)])))
    2
    """
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
    return tuple(end for _, _, end in _phases(schedule)[:-1])


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
    steps = checked_number("coverage(steps=...)", steps, at_least=0)
    phases = [Phase(*phase) for phase in _phases(schedule)]
    duration = schedule.duration
    fraction = None
    if duration is not None:
        fraction = min(1.0, steps / float(fetch(duration))) if float(fetch(duration)) else 1.0
    unreached = tuple(p for p in phases if p.start >= steps and (p.end is None or p.end > p.start))
    cut = tuple(p for p in phases if p.start < steps and p.end is not None and steps < p.end)
    return Coverage(fraction, unreached, cut)


def _phases(schedule: AbstractSchedule) -> list[tuple[str, float, float | None]]:
    name = type(schedule).__name__
    if isinstance(schedule, Sequence):
        found: list[tuple[str, float, float | None]] = []
        begin: float = 0
        for part in schedule.parts:
            for inner, start, end in _phases(part):
                found.append((inner, begin + start, None if end is None else begin + end))
            begin += _known(part.duration) or 0
        return found
    if isinstance(schedule, PiecewiseConstant | _Knots):
        points = schedule.boundaries if isinstance(schedule, PiecewiseConstant) else schedule.steps
        edges = [0, *(p for p in np.asarray(fetch(points)).tolist() if p > 0)]
        ends = [*edges[1:], None if isinstance(schedule, PiecewiseConstant) else edges[-1]]
        return [(name, a, b) for a, b in zip(edges, ends, strict=True) if a != b]
    children = [
        value
        for field in dataclasses.fields(schedule)  # type: ignore[arg-type]
        for value in _as_tuple(getattr(schedule, field.name))
        if isinstance(value, AbstractSchedule)
    ]
    composed = [c for c in children if len(_phases(c)) > 1]
    if composed and hasattr(schedule, "parts"):
        return max(map(_phases, composed), key=len)
    return [(name, 0, _known(schedule.duration))]


def _as_tuple(x: Any) -> tuple[Any, ...]:
    return x if isinstance(x, tuple) else (x,)


def _known(x: Any) -> float | None:
    if x is None:
        return None
    if not is_known(x):
        raise TypeError(f"the phases of a schedule need known lengths, got {x!r}.")
    return np.asarray(fetch(x)).item()


def _strong_float(schedule: AbstractSchedule) -> AbstractSchedule:
    return strong(schedule)


def _extra_axes(schedule: AbstractSchedule) -> list[Any]:
    from jaxsched.schedules._base import _own_rank

    return [
        leaf
        for path, leaf in jax.tree_util.tree_flatten_with_path(schedule)[0]
        if np.ndim(leaf) > _own_rank(schedule, path)
    ]
