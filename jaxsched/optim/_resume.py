"""Continuing a saved run, with its own schedules or with new ones: an explicit choice."""

from __future__ import annotations

from typing import Any, Literal

import jax
import numpy as np

from jaxsched._struct import own
from jaxsched.optim._state import InjectState, Site, find_sites, map_sites


def resume(saved: Any, fresh: Any, *, policy: Literal["checkpoint", "new"] | None = None) -> Any:
    """The saved optimizer state, to continue by its own schedules or by those of ``fresh``.

    Counts, moments and everything else always come from ``saved``: a new schedule goes on at the
    saved step, and Adam's bias correction isn't disturbed. The structures of the old and the new
    schedule may differ.

    Args:
        saved: the optimizer state of the checkpoint.
        fresh: ``tx.init(params)`` of the optimizer as the program builds it now.
        policy: ``"checkpoint"``: schedules and overrides of the checkpoint; ``"new"``: schedules of
            ``fresh``, and its overrides. ``None`` is an error if schedules or overrides differ.

    Returns:
        A state for the ``update`` of the new (or the old) optimizer.

    Raises:
        ValueError: if schedules or overrides differ and no policy is given, or the injected
            hyperparameters have other names.

    >>> import jax.numpy as jnp, optax, jaxsched as js
    >>> from jaxsched.optim import current, inject, resume
    >>> old = inject(optax.adam)(learning_rate=js.Constant(0.5)).init(jnp.ones(2))
    >>> new = inject(optax.adam)(learning_rate=js.Linear(0.1, 0.0, 10)).init(jnp.ones(2))
    >>> type(resume(old, new, policy="new").schedules["learning_rate"]).__name__
    'Linear'
    """
    if policy not in (None, "checkpoint", "new"):
        raise ValueError(f"resume(policy=...) must be 'checkpoint' or 'new', got {policy!r}.")
    ours, theirs = _by_name(saved), _by_name(fresh)
    if not ours or {k: set(s.values) for k, s in ours.items()} != {
        k: set(s.values) for k, s in theirs.items()
    }:
        raise ValueError(
            "resume(saved, fresh) must hold the same injected hyperparameters, got "
            f"{_names(ours)} and {_names(theirs)}."
        )
    if policy is None:
        for prefix, state in ours.items():
            for name, schedule in state.schedules.items():
                other, turned = theirs[prefix].schedules.get(name), theirs[prefix].knobs[name]
                if not _equal(state.knobs[name], turned):
                    raise ValueError(
                        f"resume(policy=...) must be given, because {name} is overridden in one of "
                        "the two: 'checkpoint' keeps what the checkpoint has, 'new' drops it."
                    )
                if not _equal(schedule, other):
                    raise ValueError(
                        f"resume(policy=...) must be given, because {name} differs: the checkpoint "
                        f"has {schedule!r} ('checkpoint'), the program {other!r} ('new')."
                    )
    if policy != "new":
        return saved

    def renew(site: Site) -> Any:
        if not isinstance(site.state, InjectState):
            return site.state
        new = theirs[site.prefix]
        same = _structure(site.state.controller_states) == _structure(new.controller_states)
        return site.state._replace(
            schedules=own(new.schedules),
            knobs=new.knobs,
            controller_states=site.state.controller_states if same else new.controller_states,
        )

    return map_sites(renew, saved)


def _by_name(state: Any) -> dict[str, InjectState]:
    sites = find_sites(state)
    return {site.prefix: site.state for site in sites if isinstance(site.state, InjectState)}


def _names(states: dict[str, InjectState]) -> dict[str, list[str]]:
    return {prefix: sorted(state.values) for prefix, state in states.items()}


def _structure(tree: Any) -> Any:
    return jax.tree.structure(tree)


def _equal(a: Any, b: Any) -> bool:
    return bool(_structure(a) == _structure(b)) and all(
        np.array_equal(x, y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    )
