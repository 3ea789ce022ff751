"""Many schedules at once: sample, stack, unstack, members."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar, cast

import jax
import jax.numpy as jnp
import numpy as np

from jaxsched._arrays import INT32_MAX, strong, to_host
from jaxsched._axes import size, split
from jaxsched._bounds import checked_kind
from jaxsched._checks import check_room, checked_items, checked_whole, cure
from jaxsched._struct import Record
from jaxsched._text import describe
from jaxsched.schedules._base import AbstractSchedule

R = TypeVar("R", bound=Record)  # a schedule or a controller


def sample(schedule: AbstractSchedule, n: int) -> np.ndarray:
    """The values of the first ``n`` updates, in one call, as training applies them.

    Computed in float64 and rounded once, so it equals the value in any compiled program to a unit
    or two in the last place. A stacked population gives one row for each member.

    Args:
        schedule: any schedule with known numbers.
        n: how many updates, from 1 to 2**31 - 1, as far as memory allows.

    Returns:
        float32 [n], or [members, n] for a population.

    >>> import jaxsched as js
    >>> js.sample(js.Linear(1.0, 0.0, 4), 5).tolist()
    [1.0, 0.75, 0.5, 0.25, 0.0]
    """
    require_schedule("sample(schedule=...)", schedule)
    n, rows = checked_whole("sample(n=...)", n, 1, INT32_MAX), members(schedule) or 1
    check_room("sample(n=...)", 4 * n * rows, f"{n} values of {rows} schedules", "Take fewer.")
    steps = np.arange(n, dtype=np.int32)
    # A population is sampled member by member, on the host: a mapped call of the whole would be a
    # program, in float32.
    if members(schedule) is None:
        return np.asarray(to_host(schedule(steps)))
    return np.stack([np.asarray(to_host(one(steps))) for one in unstack(schedule)])


def stack(schedules: Iterable[R]) -> R:
    """One population of schedules of the same structure: each number becomes an array [N].

    >>> import jax, jaxsched as js
    >>> family = js.stack([js.Linear(peak, 0.0, 10) for peak in (1.0, 2.0)])
    >>> jax.vmap(lambda s: s(5))(family).tolist()
    [0.5, 1.0]
    """
    given = checked_items("stack(schedules=...)", schedules, "schedules")
    if not given:
        raise ValueError("stack(schedules=...) must hold at least one schedule, got none.")
    for schedule in given:
        checked_kind("stack(schedules=...)", schedule, Record, "made of schedules", cure)
    trees = {str(jax.tree.structure(s)) for s in given}
    if len(trees) > 1:
        raise ValueError(
            f"stack(schedules=...) must have one structure, got {len(trees)}: {given[0]!r} and "
            "others. Sample schedules of different kinds into js.Table."
        )
    return cast(R, jax.tree.map(_stacked, *map(strong, given)))


def _stacked(*xs: jax.Array) -> jax.Array:
    """One number of all members. A length may be an integer in one and a float in another."""
    if len({x.shape for x in xs}) > 1:
        raise ValueError(
            "stack(schedules=...) must have arrays of one shape, got the shapes "
            f"{sorted({x.shape for x in xs})}."
        )
    same = len({x.dtype for x in xs}) == 1
    return jnp.stack([x if same else x.astype(jnp.float32) for x in xs])


def unstack(population: R) -> list[R]:
    """The members of a stacked population, as single schedules.

    >>> import jaxsched as js
    >>> len(js.unstack(js.stack([js.Constant(1.0), js.Constant(2.0)])))
    2
    """
    return split(checked_kind("unstack(population=...)", population, Record, "a schedule", cure))


def members(schedule: Record) -> int | None:
    """How many schedules a stacked population holds; ``None`` for a single schedule.

    >>> import jaxsched as js
    >>> js.members(js.Constant(1.0)), js.members(js.stack([js.Constant(1.0), js.Constant(2.0)]))
    (None, 2)
    """
    return size(checked_kind("members(schedule=...)", schedule, Record, "a schedule", cure))


def require_schedule(where: str, schedule: object) -> None:
    if isinstance(schedule, AbstractSchedule):
        return
    repair = cure(schedule)
    if isinstance(getattr(schedule, "base", None), Record):
        repair = "; the values of a controller depend on reports: give its base"
    elif isinstance(getattr(schedule, "schedules", None), dict):
        repair = "; that of a trial is `trial.schedule`"
    raise TypeError(f"{where} must be a schedule, got {describe(schedule)}{repair}.")
