"""The compiled functions of a sweep. One of each serves all trials, seeds, folds and stages.

No shape depends on the number of trials or on a length: a segment runs the updates ``lo`` to
``hi - 1`` of tables with a fixed number of rows, and both bounds are values. So a run that is cut
at other steps executes the same program, and gets the same bits.
"""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Callable
from operator import itemgetter
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxsched.search.engine._devices import put
from jaxsched.search.tasks._protocol import Task
from jaxsched.search.tasks._returned import initial_state, strong
from jaxsched.search.tasks._traced import Fold, taken_apart


class Program:
    """``init``, ``segment`` and ``evaluate`` of a task, compiled when first called.

    Args:
        rebuild: the task of its arrays, which are the first argument of every function.
        names: the scheduled hyperparameters, in the order of the tables' rows.
        length: updates that one table holds, at least 1.
        dtypes: of the leaves of a state.
        width: lanes that run together. At 1 nothing is vectorized and the update is the one that a
            Python loop would run; above, every state and table has a leading axis [width].
    """

    def __init__(
        self,
        rebuild: Callable[[list[Any]], Task],
        names: tuple[str, ...],
        length: int,
        dtypes: tuple[Any, ...],
        width: int,
    ):
        self.names, self.length, self.width = names, length, width
        self.traces: Counter[str] = Counter()
        self.layout: Any = None  # the shardings of a state, on a mesh
        self._dtypes = dtypes
        self._rebuild = rebuild
        # `init` runs once per seed, but its random numbers take XLA three times as long to compile
        # as a small model's update (1.2 s of CPU time, and 0.4 s at this level, for an MLP).
        quick = {"xla_backend_optimization_level": 1} if jax.default_backend() == "cpu" else None
        self.init: Any = jax.jit(self._init, compiler_options=quick)
        self.segment = jax.jit(self._segment)
        self.evaluate = jax.jit(self._evaluate)
        self.test = jax.jit(self._test)
        self.stack = jax.jit(lambda states: jax.tree.map(lambda *xs: jnp.stack(xs), *states))
        self.unstack = jax.jit(
            lambda state: tuple(jax.tree.map(itemgetter(i), state) for i in range(width))
        )

    def arguments(self, task: Task, device: Any) -> list[Any]:
        """The arrays of a task, on the device."""
        return put(taken_apart(task)[0], device)

    def stack_lanes(self, lanes: list[Any]) -> Any:
        """Trees, one for each lane, as the functions take them."""
        return lanes[0] if self.width == 1 else self.stack(lanes)

    def halved(self) -> Program:
        """The same with half as many lanes."""
        other = Program(self._rebuild, self.names, self.length, self._dtypes, self.width // 2)
        other.traces = self.traces
        return other

    def _init(self, arrays: list[Any], key: Any) -> Any:
        self.traces["init"] += 1
        return initial_state(self._rebuild(arrays), key, self._dtypes)

    def _evaluate(self, arrays: list[Any], state: Any) -> Any:
        self.traces["evaluate"] += 1
        evaluate = self._rebuild(arrays).evaluate
        return (evaluate if self.width == 1 else jax.vmap(evaluate))(state)

    def _test(self, arrays: list[Any], state: Any) -> Any:
        task: Any = self._rebuild(arrays)
        return task.test(state)

    def _segment(
        self,
        arrays: list[Any],
        state: Any,
        alive: jax.Array,  # bool [] or [width]
        values: jax.Array,  # float32 [([width],) hyperparameters, length]
        batches: Any,  # [([width],) length, ...]
        lo: jax.Array,  # int32
        hi: jax.Array,  # int32
        limit: jax.Array,  # float32: a loss above it counts as diverged
    ) -> tuple[Any, jax.Array, dict[str, jax.Array]]:
        """Updates lo..hi-1; a lane stops after the update whose loss is not finite."""
        self.traces["segment"] += 1
        task = self._rebuild(arrays)
        vectorized = self.width > 1

        def update(state: Any, values: Any, batches: Any, i: Any) -> Any:
            row = lax.dynamic_index_in_dim(values, i, 1, keepdims=False)
            batch = jax.tree.map(lambda x: lax.dynamic_index_in_dim(x, i, 0, False), batches)
            state, metrics = task.step(
                state, {name: row[k] for k, name in enumerate(self.names)}, batch
            )
            return jax.tree.map(strong, state), {
                name: jnp.asarray(value).astype(jnp.float32) for name, value in metrics.items()
            }

        if vectorized:
            update = jax.vmap(update, in_axes=(0, 0, 0, None))

        def proceed(carry: Any) -> Any:
            i, _, alive, _ = carry
            return (i < hi) & jnp.any(alive)

        def advance(carry: Any) -> Any:
            i, state, alive, seen = carry
            after, metrics = update(state, values, batches, i)
            if vectorized:  # alone, a run that has diverged leaves the loop instead
                after = jax.vmap(_select)(alive, after, state)
                metrics = {k: jnp.where(alive, v, jnp.nan) for k, v in metrics.items()}
            seen = {k: seen[k].at[..., i].set(v) for k, v in metrics.items()}
            # `<=` is False for a NaN.
            alive = alive & jnp.isfinite(metrics["loss"]) & (metrics["loss"] <= limit)
            return i + 1, after, alive, seen

        shapes = jax.eval_shape(update, state, values, batches, jnp.int32(0))[1]
        shape = (*alive.shape, self.length)
        seen = {name: jnp.full(shape, jnp.nan, jnp.float32) for name in shapes}
        _, state, alive, seen = lax.while_loop(proceed, advance, (lo, state, alive, seen))
        return state, alive, seen


@jax.jit
def _key(seed: jax.Array) -> jax.Array:
    return jax.random.key(seed)


def random_key(seed: int) -> jax.Array:
    """``jax.random.key`` of a seed below 2**32, without an implicit transfer to a device."""
    return _key(jax.device_put(np.uint32(seed)))


class Kept:
    """A cache of the last few programs, each as long as its task lives.

    A task by itself is not a sufficient key: its methods may close over values that have changed.
    So the caller's key describes the whole computation, all constants included.
    """

    def __init__(self, most: int = 8):
        self._most = most
        self._made: dict[Any, tuple[Any, Any]] = {}  # in the order of their last use

    def get(self, task: Task, key: Any, make: Callable[[], Any]) -> Any:
        """The earlier result of ``make`` for this task and key, or a new one."""
        owner: Any = jax.tree.structure(task)
        alive = None
        if jax.tree_util.treedef_is_leaf(owner) or not _hashable(owner):
            owner = id(task)
            try:
                alive = weakref.ref(task, lambda _: self._forget(owner))
            except TypeError:  # without a weak reference, its id may be reused unnoticed
                return make()
        where = (owner, key)
        found = self._made.pop(where) if where in self._made else (alive, make())
        self._made[where] = found
        while len(self._made) > self._most:
            del self._made[next(iter(self._made))]
        return found[1]

    def _forget(self, owner: int) -> None:
        for where in [where for where in self._made if where[0] == owner]:
            del self._made[where]


def rebuilder(task: Task) -> Callable[[list[Any]], Task]:
    """A function from a task's arrays to the task; keeps neither alive."""
    arrays, rebuild = taken_apart(task)
    if arrays or not jax.tree_util.all_leaves([task]):
        return rebuild
    try:
        there: Any = weakref.ref(task)
    except TypeError:
        return rebuild
    return lambda arrays: there()


def program_for(fold: Fold, names: tuple[str, ...], length: int, width: int) -> Program:
    """The program of a traced task; an earlier sweep's if the computation is the same."""
    task, how = fold.task, (names, length, fold.shape.dtypes, width)
    return _PROGRAMS.get(task, (*how, fold.code), lambda: Program(rebuilder(task), *how))


_PROGRAMS = Kept()


def _hashable(x: Any) -> bool:
    try:
        hash(x)
    except TypeError:
        return False
    return True


def _select(condition: Any, x: Any, y: Any) -> Any:
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), x, y)
