"""The state that ``inject`` keeps inside an optimizer's state, and how it is found there.

An injected state, ours or Optax's, is called a *site*. Optimizer states nest freely (chain,
partition, MultiSteps, TrainState, nnx.Optimizer), so every function of this package that reads or
changes hyperparameters goes through ``find_sites`` or ``map_sites``.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterable
from types import ModuleType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import KeyPath, PyTreeDef
from jax.typing import DTypeLike
from optax import schedules as optax_schedules

from jaxsched._arrays import is_concrete, same_structure, to_host
from jaxsched._types import Leaf, PyTree


class Override(NamedTuple):
    """The values that ``override`` has set: ``scale * (fixed if is_fixed else schedule(step))``.

    Always in the state, so that only numbers change and nothing is traced again.
    """

    scale: jax.Array  # hyperparameter dtype, 1 at first
    fixed: jax.Array  # hyperparameter dtype, means nothing until is_fixed
    is_fixed: jax.Array  # bool

    @classmethod
    def untouched(cls, dtype: DTypeLike) -> Override:
        return cls(jnp.ones((), dtype), jnp.zeros((), dtype), jnp.zeros((), jnp.bool_))

    def apply(self, scheduled: jax.Array) -> jax.Array:
        # Both are computed and one is chosen: `is_fixed` is an array too, and each member of a
        # population has its own.
        value = scheduled.astype(self.scale.dtype)
        return self.scale * jnp.where(self.is_fixed, self.fixed, value)


class InjectState(NamedTuple):
    """The state of ``jaxsched.optim.inject``; every leaf is a strong-typed array.

    Under ``vmap`` all leaves have the members' axes in front.
    """

    # Named as in every Optax state. It hides the unused method tuple.count.
    count: jax.Array  # type: ignore[assignment]  # int32: updates done, shared by all
    values: dict[str, jax.Array]  # as applied in the last update
    schedules: dict[str, PyTree]  # the schedules (and controllers that are pytrees) themselves
    controller_states: dict[str, PyTree]  # only for hyperparameters that a controller drives
    knobs: dict[str, Override]  # the field's name in every saved state
    inner_state: PyTree

    def value(self, name: str, source: Any, **extra: Any) -> jax.Array:
        """The value at the present count; ``source`` is the schedule or controller."""
        if name in self.controller_states:
            scheduled = source(self.controller_states[name], **extra)
        else:
            scheduled = source(self.count)
        return self.knobs[name].apply(jnp.asarray(scheduled))


def upcoming_value(state: InjectState, name: str) -> jax.Array:
    """The value for the next update, for each member of a vmapped population.

    Raises:
        ValueError: for an opaque controller, which only the optimizer itself holds.
    """
    if name not in state.schedules:
        raise ValueError(
            f"current(upcoming=True) must find the controller of {name} in the state, but it "
            "isn't a pytree, so only the optimizer holds it; make it a js.AbstractController."
        )

    def value(state: InjectState) -> jax.Array:
        return state.value(name, state.schedules[name])

    # The optimizer's moments, of any size, have no part in it.
    return per_member(value, state)(state._replace(inner_state=()))


def per_member(f: Callable[..., Any], state: InjectState) -> Callable[..., Any]:
    """``f`` mapped over the members of a population, if ``state`` is one."""
    for _ in range(jnp.ndim(state.count)):
        f = jax.vmap(f)
    return f


OPTAX_STATES = (
    optax_schedules.InjectStatefulHyperparamsState,
    optax_schedules.InjectHyperparamsState,
)


class Site(NamedTuple):
    """An injected state and where it was found."""

    prefix: str  # "" or the group that qualifies its names, e.g. "decay"
    place: str  # where there are several, its place in dictionaries and chains, e.g. "1"
    state: Any  # an InjectState or one of OPTAX_STATES

    def qualified(self, name: str) -> str:
        return f"{self.prefix}/{name}" if self.prefix else name

    def group_of(self, name: str) -> str:
        """The group of a hyperparameter: its own in ``group_lr``, or the optimizer's."""
        part = name.rpartition("/")[0]
        return self.qualified(part) if part else self.prefix or self.place

    def is_in(self, group: str | None) -> bool:
        return group in (None, "*", self.prefix, self.place)


def find_sites(tree: PyTree) -> list[Site]:
    """All injected states in ``tree``, outermost first, with prefixes that keep names apart."""
    sites: list[tuple[Any, Any]] = []

    # Names need all places at once: whether "learning_rate" is enough depends on the others.
    def note(path: KeyPath[Any], state: Any) -> Any:
        sites.append((path, state))
        return state

    _visit_sites(tree, (), note)
    places = [_named(path, _KEYS[1]) if len(sites) > 1 else "" for path, _ in sites]
    states = [state for _, state in sites]
    return list(map(Site, _prefixes(sites), places, states))


def map_sites(change: Callable[[Site], Any], tree: PyTree) -> PyTree:
    """``tree`` with every injected state replaced by ``change(site)``."""
    sites = iter(find_sites(tree))
    # Both walks meet the sites in one order, so the names of the first fit the second. The state
    # comes from the second walk: inner sites come after the outer one, which may have changed them.
    return _visit_sites(tree, (), lambda _, state: change(next(sites)._replace(state=state)))


def write_back(opt_state: PyTree, arrays: PyTree, saved: PyTree = None) -> PyTree:
    """``arrays``, in NNX variables where ``opt_state`` has them.

    An ``nnx.Optimizer`` is changed in place and returned; it takes the step of ``saved``, if that
    is one as well.
    """
    nnx = sys.modules.get("flax.nnx")
    if nnx is None:
        return arrays
    if not isinstance(opt_state, nnx.Optimizer):
        return _in_variables(nnx, opt_state, arrays)
    # A holder of this optimizer holds its variables: the new values go into the old variables.
    if same_structure(nnx.as_pure(opt_state.opt_state), arrays):
        nnx.update(opt_state.opt_state, nnx.state(arrays))
    else:  # a schedule of another kind came with a checkpoint
        opt_state.opt_state = _in_variables(nnx, opt_state.opt_state, arrays)
    if isinstance(saved, nnx.Optimizer):
        opt_state.step[...] = jnp.array(saved.step[...], copy=True)
    return opt_state


def _in_variables(nnx: ModuleType, opt_state: PyTree, arrays: PyTree) -> PyTree:
    """Arrays put back into the NNX variables in which they were."""
    pairs = jax.tree_util.tree_leaves_with_path(
        opt_state, is_leaf=lambda x: isinstance(x, nnx.Variable)
    )
    variables = {path: x for path, x in pairs if isinstance(x, nnx.Variable)}
    if not variables:
        return arrays
    other = nnx.training.optimizer.OptArray  # of the numbers of a schedule of another kind
    return jax.tree_util.tree_map_with_path(
        lambda path, x: variables[path].replace(x) if path in variables else other(x), arrays
    )


def plain_arrays(tree: PyTree) -> PyTree:
    """``tree`` with Flax NNX variables replaced by their arrays; any other tree unchanged."""
    nnx = sys.modules.get("flax.nnx")  # a state with nnx variables: it was imported
    if nnx is None:
        return tree
    tree = tree.opt_state if isinstance(tree, nnx.Optimizer) else tree
    return nnx.as_pure(tree)


def shortest(tree: PyTree) -> PyTree:
    """``tree`` for a message: a number in float32 in the fewest digits that tell it apart."""

    def short(x: Leaf) -> Leaf:
        if getattr(x, "dtype", None) != np.float32 or np.ndim(x) or not is_concrete(x):
            return x
        return float(str(np.asarray(to_host(x))))

    return jax.tree.map(short, tree)


def is_site(node: object) -> bool:
    return isinstance(node, (InjectState, *OPTAX_STATES))


def _visit_sites(tree: PyTree, path: KeyPath[Any], visit: Callable[[Any, Any], Any]) -> PyTree:
    """The tree with ``visit(path, site)`` in place of each injected state, outer ones first."""
    treedef: Any
    leaves, treedef = jax.tree_util.tree_flatten_with_path(tree, is_leaf=is_site)
    rebuilt = []
    for sub, leaf in leaves:
        if is_site(leaf):  # JAX stopped here, so another walk goes on inside
            place = (*path, *sub)
            leaf = visit(place, leaf)
            inner = _visit_sites(leaf.inner_state, (*place, _INNER), visit)
            leaf = leaf._replace(inner_state=inner)
        rebuilt.append(leaf)
    return treedef.unflatten(rebuilt)


_INNER = jax.tree_util.GetAttrKey("inner_state")


# How names are kept apart. In chain(inject(sgd), inject(decay_weights)) every name is unique, so
# they are "learning_rate" and "weight_decay"; in chain(inject(sgd), inject(sgd)) they are
# "0/learning_rate" and "1/learning_rate"; with partition({"a": ..., "b": ...}) "a/learning_rate".
# The keys of dictionaries are names that a person gave (the labels of optax.partition, the names of
# optax.named_chain). If two hyperparameters still have one name, as in a chain of two injected
# transformations, their places in the chains tell them apart; the whole path, with the fields of
# every wrapper, does so always.
_KEYS: list[tuple[type, ...]] = [
    (jax.tree_util.DictKey,),
    (jax.tree_util.DictKey, jax.tree_util.SequenceKey),
    (object,),
]


def _named(path: KeyPath[Any], keys: tuple[type, ...]) -> str:
    return path_text(key for key in path if isinstance(key, keys))


def _prefixes(sites: list[tuple[Any, Any]]) -> list[str]:
    """The shortest prefix of each site, of three, that keeps all names apart."""
    # Only clashing sites get the next, longer text. So a name in a user's log does not change
    # because two other sites need their places.
    prefixes, clashing = [""] * len(sites), {""}
    for keys in _KEYS:
        texts = [_named(path, keys) for path, _ in sites]
        prefixes = [
            new if old in clashing else old for old, new in zip(prefixes, texts, strict=True)
        ]
        uses = Counter(
            (prefix, name)
            for prefix, (_, state) in zip(prefixes, sites, strict=True)
            for name in hyperparameters(state)
        )
        clashing = {prefix for (prefix, _), count in uses.items() if count > 1}
    return prefixes


def one_level(node: PyTree) -> tuple[list[tuple[str, PyTree]], PyTreeDef]:
    """The children of a node with their names, and the ``treedef`` that puts them together."""
    pairs, treedef = jax.tree_util.tree_flatten_with_path(node, is_leaf=lambda x: x is not node)
    return [(path_text(path), child) for path, child in pairs], treedef


def path_text(path: Iterable[Any]) -> str:
    return jax.tree_util.keystr(tuple(path), simple=True, separator="/")


def hyperparameters(state: Any) -> dict[str, jax.Array]:
    """The scheduled values of one injected state (or all, if none is scheduled), by name."""
    if isinstance(state, InjectState):
        return dict(state.values)
    scheduled = getattr(state, "hyperparams_states", {})
    # Optax injects every number. The unscheduled ones matter only if none is scheduled.
    return {k: v for k, v in state.hyperparams.items() if not scheduled or k in scheduled}
