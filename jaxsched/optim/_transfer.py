"""The moments and the step of one optimizer state in another, leaf by leaf, by their paths.

Injection is not a level of its own: the part below an ``InjectState`` (or the state of Optax's
``inject_hyperparams``) is compared with the other state's part in that place, injected or not.
A state that was restored as nested dicts and lists has the same paths as the one with classes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxsched._arrays import donatable_copy, is_concrete, same_form, to_host
from jaxsched._text import shorten
from jaxsched._types import Leaf, PyTree
from jaxsched.controllers._base import AbstractController, levels, resumed
from jaxsched.optim._state import (
    OPTAX_STATES,
    InjectState,
    one_level,
    path_text,
    per_member,
    upcoming_value,
)

Path = tuple[str, ...]


class Transfer:
    """Takes ``saved`` over into a fresh state; ``where`` is the called function, for messages."""

    def __init__(self, where: str, saved: PyTree, step: Leaf = None, *, only_check: bool = False):
        self.where = where
        self.saved = _without_variables(saved)
        self.step = step
        self.only_check = only_check

    def into(self, fresh: PyTree) -> PyTree:
        """``fresh`` with the leaves of ``saved``, and its schedules at the step of ``saved``."""
        # First all leaves are compared, with a step of 0. Else the error about another optimizer's
        # state would ask for its `step=`, and a second error would follow the user's answer.
        if not self.only_check:
            Transfer(self.where, self.saved, 0, only_check=True).into(fresh)
        else:
            self._check_wholes(fresh)
        return self._transferred(fresh, self.saved, (), None)

    def _check_wholes(self, fresh: PyTree) -> None:
        """Raises unless both are optimizer states, or both hold one."""
        holds = ["opt_state" in (_children(tree) or {}) for tree in (self.saved, fresh)]
        if holds[0] == holds[1]:
            return
        name, whole = ("saved", self.saved) if holds[0] else ("fresh", fresh)
        part = f"{name}['opt_state']" if isinstance(whole, Mapping) else f"{name}.opt_state"
        raise ValueError(
            f"{self.where}(saved, fresh) must be two states of one optimizer or two that hold one, "
            f"got an opt_state in {name} alone. Give {part}, or the other as a whole as well."
        )

    def _transferred(self, fresh: PyTree, saved: PyTree, path: Path, count: Leaf) -> PyTree:
        """``count`` is the count of an injection around it, if there is one."""
        # An injection on one side only is looked through: so a plain state meets an injected one.
        # The order matters: an injected `fresh` comes first, since it sets the count for all below
        # it. An injection in `saved` alone comes next; it is no level of the comparison.
        injected = _injected(saved)
        below = saved if injected is None else injected.get("inner_state")
        if isinstance(fresh, InjectState):
            count = self._updates_done(saved, path, count)
            inner = self._transferred(fresh.inner_state, below, path, count)
            count = self._count_like(count, fresh.count, path)
            if self.only_check:
                return fresh
            return self._with_schedules(fresh, injected or {}, count, inner)
        if injected is not None and not isinstance(fresh, OPTAX_STATES):
            return self._transferred(fresh, below, path, self._updates_done(saved, path, count))

        if _children(fresh) is None:
            return self._transferred_leaf(fresh, saved, path)
        return self._transferred_node(fresh, saved, path, count)

    def _transferred_node(self, fresh: PyTree, saved: PyTree, path: Path, count: Leaf) -> PyTree:
        """A counter, an empty state, or a node with children to compare."""
        pairs, treedef = one_level(fresh)
        children = _children(saved)
        if children is None:
            raise self._differs(path, _kind_text(fresh), _kind_text(saved))
        # optax.adamw(schedule) has a counter, ScaleByScheduleState, where optax.adamw(0.1) has an
        # empty state. Both ways have to fit: the counter takes the step, and the empty state stays
        # empty.
        if _is_counter(fresh) and (self.step is not None or not children):
            count = self._updates_done(saved, path, count)
            return treedef.unflatten([self._count_like(count, pairs[0][1], path)])
        if not jax.tree.leaves(fresh) and (
            _is_counter(saved) or not any(_named_leaves(saved, path))
        ):
            return fresh  # or the count of a schedule, which is injected now, or a number
        if _is_named(fresh) and _is_named(saved) and type(fresh) is not type(saved):
            # Two optimizers may keep arrays of the same names and shapes that mean other things.
            raise self._differs(path, _kind_text(fresh), _kind_text(saved))
        # A leaf that only `saved` has is refused here. A leaf that only `fresh` has meets None
        # below, and is refused there.
        for name in sorted(children.keys() - {name for name, _ in pairs}):
            for rest, leaf in _named_leaves(children[name], (*path, name)):
                raise self._differs(rest, "nothing", _kind_text(leaf))
        return treedef.unflatten(
            [
                self._transferred(child, children.get(name), (*path, name), count)
                for name, child in pairs
            ]
        )

    def _transferred_leaf(self, fresh: PyTree, saved: PyTree, path: Path) -> PyTree:
        alike = _kind_text(fresh) == _kind_text(saved) or (_is_whole(fresh) and _is_whole(saved))
        if not _is_array(saved) or jnp.shape(fresh) != jnp.shape(saved) or not alike:
            raise self._differs(path, _kind_text(fresh), _kind_text(saved))
        return saved if self.only_check else _array_like(saved, fresh)

    def _differs(self, path: Path, expected: str, got: str) -> ValueError:
        return ValueError(
            f"{self.where}(saved, fresh) must be states of one optimizer: at "
            f"{'/'.join(path) or 'the root'} fresh has {expected} and saved {got}. Build the "
            "optimizer of the checkpoint; only what is scheduled may differ."
        )

    # ---------------------------------------------------------------------------------- the step

    def _updates_done(self, saved: PyTree, path: Path, around: Leaf) -> Leaf:
        """How many updates the schedules below ``saved`` have had.

        The count of the injection there; without one, of the injection around it; else every count
        below (of Adam, or of a schedule), or anywhere in the state.
        """
        if self.step is not None:
            return self.step
        injected = _injected(saved)
        if injected is not None:
            counts = {"count": injected["count"]}
            for name, counter in (injected.get("hyperparams_states") or {}).items():
                if _is_counter(counter):
                    counts[f"hyperparams_states/{name}/count"] = (_children(counter) or {})["count"]
        elif around is not None:
            return around
        else:
            counts = _count_leaves(saved, path) or _count_leaves(self.saved, ())
        # All counts must agree, Adam's and the schedule's beside it. Where they don't (the count of
        # optax.apply_every begins again at 0), only the user knows which one the schedules mean.
        known = [np.asarray(to_host(x)) for x in counts.values() if is_concrete(x)]
        if not counts or any(not np.array_equal(known[0], x) for x in known[1:]):
            reason = (
                f"saved has {', '.join(f'{k}={to_host(v)}' for k, v in counts.items())}"
                if counts
                else "saved has no count (as plain optax.sgd hasn't)"
            )
            raise ValueError(
                f"{self.where}(step=...) must be given, the number of updates done: {reason}."
            )
        return next(iter(counts.values()))

    def _count_like(self, count: Leaf, fresh: jax.Array, path: Path) -> Leaf:
        if jnp.shape(count) not in ((), fresh.shape):  # members of a population
            raise self._differs((*path, "count"), _kind_text(fresh), _kind_text(count))
        return _array_like(count, fresh)

    # ----------------------------------------------------------------------- schedules at the step

    def _with_schedules(
        self, fresh: InjectState, injected: Mapping[str, PyTree], count: Leaf, inner: PyTree
    ) -> InjectState:
        """The fresh state at the saved step, with the memory of the saved controllers."""
        # Without the moments of `fresh`: `inner` takes their place, and they may be most of the
        # memory.
        state = donatable_copy(fresh._replace(count=count, inner_state=()))
        states = {
            name: donatable_copy(self._controller_state(state, injected, name))
            for name in state.controller_states
        }
        state = state._replace(controller_states=states)
        # Nothing has been applied yet: as after `init`, the values of the next update.
        values = {
            name: upcoming_value(state, name) if name in state.schedules else value
            for name, value in state.values.items()
        }
        return state._replace(values=values, inner_state=inner)

    def _controller_state(
        self, state: InjectState, injected: Mapping[str, Any], name: str
    ) -> PyTree:
        """The state of a controller: the memory of one of its class, or a first one moved on."""
        controller, start = state.schedules.get(name), state.controller_states[name]
        old, memory = self._saved_memory(injected, name)
        if isinstance(controller, AbstractController):
            seen = _seen_controllers(controller, old, memory)
            return per_member(resumed, state)(controller, state.count, seen)
        if type(old) is type(controller) and same_form(memory, start):
            return memory
        if controller is None:
            raise ValueError(
                f"{self.where}(saved, fresh) can't start the controller of {name} at a later step, "
                "since it isn't a pytree and only the optimizer holds it; make it a "
                "js.AbstractController."
            )

        # The fields of its state are unknown, perhaps a count, so its own `update` moves it on.
        def told_nothing(controller: Any, step: Leaf) -> Any:
            return jax.lax.fori_loop(
                0, step, lambda _, s: controller.update(s), donatable_copy(controller.init())
            )

        return per_member(told_nothing, state)(controller, state.count)

    def _saved_memory(self, injected: Mapping[str, Any], name: str) -> tuple[PyTree, PyTree]:
        """The controller of ``name`` and its state: of this place, or the only one there is."""
        places = [injected] if _held_state(injected, name) else list(_injections(self.saved))
        holders = [place for place in places if _held_state(place, name)]
        if len(holders) != 1:
            return None, None
        return (holders[0].get("schedules") or {}).get(name), _held_state(holders[0], name)


def _held_state(injected: Mapping[str, Any], name: str) -> PyTree:
    states = injected.get("controller_states") or injected.get("hyperparams_states") or {}
    return states.get(name)


def _seen_controllers(
    controller: AbstractController, old: PyTree, memory: PyTree
) -> list[tuple[AbstractController, PyTree]]:
    """The controllers of a saved state with their memories, the outermost first.

    Where only the numbers were saved, a state is known by the names of its fields.
    """
    seen = []
    while fields := _children(memory):
        kind = (
            old
            if isinstance(old, AbstractController)
            else next((c for c in levels(controller) if _fits(c.State, set(fields))), None)
        )
        if kind is not None:
            # By name: a restored dict need not be in the order of the fields.
            blank = kind.init()._replace(base=())
            names = [path_text(path) for path, _ in jax.tree_util.tree_leaves_with_path(blank)]
            leaves = {"/".join(path): leaf for path, leaf in _named_leaves(memory, ())}
            tree: Any = jax.tree.structure(blank)
            # A field that was added since begins. The dtypes are the state's: in x64 mode JSON's
            # numbers would be 64-bit ones, a part of another form, which begins anew.
            held_leaves = [
                jnp.asarray(leaves.get(n, x), x.dtype)
                for n, x in zip(names, jax.tree.leaves(blank), strict=True)
            ]
            seen.append((kind, tree.unflatten(held_leaves)))
        old, memory = getattr(old, "base", None), fields.get("base")
    return seen


def _fits(state: Any, fields: set[str]) -> bool:
    """Whether they are its fields, but for some that were added since."""
    every = set(state._fields)
    return every - set(state._field_defaults) <= fields <= every


def _children(node: PyTree) -> dict[str, PyTree] | None:
    """Its children by name; None for a leaf."""
    if isinstance(node, Mapping):
        return {str(key): child for key, child in node.items()}
    pairs, _ = one_level(node)
    return None if pairs and pairs[0][1] is node else dict(pairs)


def _named_leaves(node: PyTree, path: Path) -> Iterator[tuple[Path, Leaf]]:
    children = _children(node)
    if children is None:
        yield path, node
        return
    for name, child in children.items():
        yield from _named_leaves(child, (*path, name))


def _count_leaves(node: PyTree, path: Path) -> dict[str, Leaf]:
    names = ("count", "gradient_step")  # the latter in optax.MultiSteps
    return {
        "/".join(path): leaf
        for path, leaf in _named_leaves(node, path)
        if path[-1:] and path[-1] in names and _is_whole(leaf)
    }


def _is_counter(node: PyTree) -> bool:
    """Whether it is the state of a schedule, which holds a count and nothing else."""
    children = _children(node) or {}
    return list(children) == ["count"] and _is_whole(children["count"])


def _is_whole(leaf: PyTree) -> bool:  # a parameter may be called "count"
    return _is_array(leaf) and jnp.issubdtype(jax.dtypes.result_type(leaf), jnp.integer)


def _injections(node: PyTree) -> Iterator[dict[str, PyTree]]:
    injected = _injected(node)
    if injected is not None:
        yield injected
        node = injected.get("inner_state")
    for child in (_children(node) or {}).values():
        yield from _injections(child)


def _injected(node: PyTree) -> dict[str, PyTree] | None:
    """The fields of an injected state, ours or Optax's, also if it was restored as a dict."""
    if isinstance(node, (InjectState, *OPTAX_STATES)):
        return node._asdict()
    if isinstance(node, Mapping) and (
        {"count", "hyperparams"} <= node.keys() or {"count", "values", "knobs"} <= node.keys()
    ):
        return dict(node)
    return None


def _is_named(node: PyTree) -> bool:
    """Whether its class has a meaning, as a NamedTuple's does and a dict's does not."""
    return not isinstance(node, (Mapping, list, tuple)) or hasattr(node, "_fields")


def _without_variables(saved: PyTree) -> PyTree:
    """Dicts without the level ``{"value": array}`` that a saved ``nnx.State`` has at each leaf."""
    leaves = list(_named_leaves(saved, ())) if isinstance(saved, Mapping) else []
    if not leaves or any(path[-1:] != ("value",) for path, _ in leaves):
        return saved

    def stripped(node: PyTree) -> PyTree:
        if not isinstance(node, Mapping):
            return node
        return (
            node["value"] if set(node) == {"value"} else {k: stripped(v) for k, v in node.items()}
        )

    return stripped(saved)


def _is_array(x: object) -> bool:
    return hasattr(x, "dtype") or isinstance(x, (int, float))


def _kind_text(node: PyTree) -> str:
    if _is_array(node):
        return f"{jax.dtypes.result_type(node)}[{','.join(map(str, jnp.shape(node)))}]"
    if node is None:
        return "nothing"
    names = ["/".join(path) for path, _ in _named_leaves(node, ()) if path]
    return f"{type(node).__name__}({shorten(', '.join(names))})"


def copied(tree: PyTree) -> PyTree:
    """``tree`` in strong-typed arrays of its own."""
    return jax.tree.map(lambda x: _array_like(x, x), tree)


def _array_like(x: Leaf, fresh: Leaf) -> Leaf:
    """``x`` in an array of its own, of the shape, dtype and place of ``fresh``."""
    if not hasattr(fresh, "dtype"):
        return x  # a Python number, such as the step of a Linen TrainState
    if jnp.issubdtype(fresh.dtype, jax.dtypes.prng_key):
        return jnp.array(x, copy=True)
    x = jnp.broadcast_to(jnp.array(x, fresh.dtype, copy=True), fresh.shape)
    known = isinstance(fresh, jax.Array) and is_concrete(fresh)
    many = known and len(fresh.sharding.device_set) > 1
    return jax.device_put(x, fresh.sharding) if many else x
