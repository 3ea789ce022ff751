"""Continuing a saved run with its own schedules, with new ones, or from another optimizer state."""

from __future__ import annotations

import sys
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np

from jaxsched._arrays import INT32_MAX, same_structure
from jaxsched._bounds import check_choice
from jaxsched._checks import checked_number
from jaxsched._types import OptState, PyTree, Step
from jaxsched.optim._state import InjectState, Site, find_sites, plain_arrays, shortest, write_back
from jaxsched.optim._transfer import Transfer, copied


def resume(
    saved: OptState, fresh: OptState, *, policy: Literal["checkpoint", "new"] | None = None
) -> OptState:
    """The saved optimizer state, to continue by its own schedules or by the ones of ``fresh``.

    Counts, moments and everything else always come from ``saved``: a new schedule goes on at the
    saved step, and Adam's bias correction isn't disturbed. The structures of the old and the new
    schedule may differ. A new controller starts at the saved step of its base. It takes the memory
    of a saved controller of its class (only the scale if ``mode`` changes). A controller of
    another class starts without a memory.

    Args:
        saved: the optimizer state of the checkpoint.
        fresh: ``tx.init(params)`` of the optimizer as the program builds it now. An
            ``nnx.Optimizer`` is changed in place and returned; from another one it takes its
            ``step`` too.
        policy: ``"checkpoint"``: schedules and overrides of the checkpoint; ``"new"``: schedules of
            ``fresh``, and its overrides. ``None`` is an error if schedules or overrides differ.

    Returns:
        A state for the ``update`` of the new (or the old) optimizer, in arrays of its own.

    Raises:
        ValueError: if schedules or overrides differ and no policy is given, the injected
            hyperparameters have other names (see ``adopt``), or the rest isn't the state of the
            same optimizer for the same parameters: the leaf is named.

    >>> import jax.numpy as jnp, optax, jaxsched as js
    >>> from jaxsched.optim import current, inject, resume
    >>> old = inject(optax.adam)(learning_rate=js.Constant(0.5)).init(jnp.ones(2))
    >>> new = inject(optax.adam)(learning_rate=js.Linear(0.1, 0.0, 10)).init(jnp.ones(2))
    >>> type(resume(old, new, policy="new").schedules["learning_rate"]).__name__
    'Linear'
    """
    if policy is not None:
        check_choice("resume(policy=...)", policy, ("checkpoint", "new"))
    given, saved, arrays = saved, plain_arrays(saved), plain_arrays(fresh)
    ours, theirs = _injected_sites(saved), _injected_sites(arrays)
    if not ours or _injected_names(ours) != _injected_names(theirs):
        raise ValueError(
            "resume(saved, fresh) must hold the same injected hyperparameters, got "
            f"{_injected_names(ours)} and {_injected_names(theirs)}; `adopt(saved, fresh)` takes "
            "the moments of any state of the same optimizer, with fresh's schedules."
        )
    if policy == "new":
        return write_back(fresh, Transfer("resume", saved).into(arrays), given)
    # With the checkpoint's own schedules nothing is transferred, only compared: the saved state
    # goes on as it is. So its schedules may differ from the ones of `fresh`, but not its moments.
    Transfer("resume", saved, 0, only_check=True).into(arrays)
    for state, other in zip([x.state for x in ours], [x.state for x in theirs], strict=True):
        if state.count.shape != other.count.shape:
            raise ValueError(
                "resume(saved, fresh) must both be one run or populations of one size, got counts "
                f"of shape {state.count.shape} and {other.count.shape}."
            )
        if policy is None:
            _check_same(state, other)
    return write_back(fresh, copied(saved), given)


def adopt(saved: OptState, fresh: OptState, *, step: Step | None = None) -> OptState:
    """``fresh`` with the moments and the step of any other state of the same optimizer.

    The door into this package for a training under way, and between optimizers that schedule other
    hyperparameters. ``saved`` may come from plain Optax (``optax.adamw(0.1)`` or
    ``optax.adamw(schedule)``), from ``optax.inject_hyperparams``, from ``inject`` with other
    schedules or controllers for other hyperparameters, or be a tree of dicts and lists, as Orbax
    restores it without a target and ``flax.serialization`` writes it. Schedules and overrides come
    from ``fresh``; controllers remember the same as after ``resume``. (Dicts hold no ``mode``: the
    mode of ``fresh`` is assumed there.)

    Args:
        saved: the other state, with classes or as nested dicts.
        fresh: ``tx.init(params)`` of the optimizer that goes on. An ``nnx.Optimizer`` is changed in
            place and returned; from another one it takes its ``step`` too.
        step: how many updates were done, where ``saved`` doesn't say. The default is the ``count``
            of the injected state, which its schedules must share. Without one, all fields ``count``
            in that place (``ScaleByAdamState``, ``ScaleByScheduleState``, ...) must agree, or, if
            there is none, all fields ``count`` of the whole state.

    Returns:
        A state of the structure, shapes and dtypes of ``fresh``, in arrays of its own.

    Raises:
        ValueError: if anything but the schedules differs (another optimizer, another parameter,
            shape or dtype): the leaf is named; or if ``step`` must be given, because there is no
            count or several that disagree.

    >>> import jax.numpy as jnp, optax, jaxsched as js
    >>> from jaxsched.optim import adopt, current, inject
    >>> params = {"w": jnp.ones(2)}
    >>> running = optax.adamw(0.1)
    >>> state = running.init(params)
    >>> for _ in range(3):
    ...     updates, state = running.update(params, state, params)
    >>> tx = inject(optax.adamw)(learning_rate=js.Linear(0.1, 0.0, 4))
    >>> state = adopt(state, tx.init(params))
    >>> int(state.count), round(float(current(state)["learning_rate"]), 6)
    (3, 0.025)
    """
    arrays = plain_arrays(fresh)
    if not _injected_sites(arrays):
        nnx = sys.modules.get("flax.nnx")
        is_nnx_state = nnx is not None and isinstance(fresh, nnx.State)
        raise ValueError(
            "adopt(fresh=...) must be a state with schedules in it, "
            "js.inject(optax.adam)(learning_rate=schedule).init(params), found none"
            + "; nnx.state has the numbers only: give the nnx.Optimizer" * is_nnx_state
            + "."
        )
    if step is not None:
        step = checked_number("adopt(step=...)", step, at_least=0, at_most=INT32_MAX)
        if not jnp.issubdtype(jnp.result_type(step), jnp.integer):
            raise TypeError(f"adopt(step=...) must be a whole number, got {step!r}.")
    return write_back(fresh, Transfer("adopt", plain_arrays(saved), step).into(arrays), saved)


def _injected_sites(state: PyTree) -> list[Site]:
    return [site for site in find_sites(state) if isinstance(site.state, InjectState)]


def _injected_names(sites: list[Site]) -> list[str]:
    return [site.qualified(name) for site in sites for name in sorted(site.state.values)]


def _check_same(state: InjectState, other: InjectState) -> None:
    """Raises for a schedule or override that differs: the user says which one goes on."""
    # `update` reads the state: without a policy, a schedule that was edited in the program would be
    # ignored in silence, or an override dropped.
    for name, schedule in state.schedules.items():
        if not _same_leaves(state.knobs[name], other.knobs[name]):
            raise ValueError(
                f"resume(policy=...) must be given, because {name} is overridden in one of "
                "the two: 'checkpoint' keeps what the checkpoint has, 'new' drops it."
            )
        if not _same_leaves(schedule, other.schedules.get(name)):
            raise ValueError(
                f"resume(policy=...) must be given, because {name} differs: the checkpoint has "
                f"{shortest(schedule)!r} ('checkpoint'), the program "
                f"{shortest(other.schedules.get(name))!r} ('new')."
            )


def _same_leaves(a: PyTree, b: PyTree) -> bool:
    leaves = map(np.array_equal, jax.tree.leaves(a), jax.tree.leaves(b))
    return same_structure(a, b) and all(leaves)
