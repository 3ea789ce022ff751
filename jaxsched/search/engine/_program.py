"""The compiled functions of a sweep. One of each serves all trials, seeds, folds and stages.

No shape depends on the number of trials or on a length: a segment runs the updates ``lo`` to
``hi - 1`` of tables with a fixed number of rows, and both bounds are values. So a run that is cut
at other steps executes the same program, and gets the same bits.
"""

from __future__ import annotations

import dataclasses
import threading
import weakref
from collections.abc import Callable, Hashable
from functools import partial
from operator import itemgetter
from typing import Any, Generic, TypeAlias, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend.core import ClosedJaxpr, jaxpr_as_fun
from jax.stages import Compiled, Wrapped
from jax.tree_util import PyTreeDef
from jax.typing import ArrayLike

from jaxsched._types import PyTree
from jaxsched.search.engine._devices import Place, put
from jaxsched.search.engine._products import for_one_thread, narrow_first
from jaxsched.search.engine._random import Draws, draw_ahead, with_draws
from jaxsched.search.engine._settings import settings
from jaxsched.search.tasks._protocol import Metrics, State, Task, opaque_leaves
from jaxsched.search.tasks._returned import TaskShape
from jaxsched.search.tasks._traced import Fold

T = TypeVar("T")
Traced: TypeAlias = Callable[..., PyTree]  # a function that ``jit`` compiles
# The number of the update, the state, which lanes are alive, the curves.
Carry: TypeAlias = tuple[jax.Array, State, jax.Array, Metrics]


class Function:
    """A function of a program, which counts its traces; ``compiled`` is the jitted function.

    Attributes:
        f: the function to compile where it is not compiled yet, such as for another device.
    """

    def __init__(self, name: str, f: Traced, jit: Callable[[Traced], Any]):
        def counted(*arguments: PyTree) -> PyTree:
            self.traces += 1
            return self.f(*arguments)

        counted.__name__ = counted.__qualname__ = name
        self.name, self.f, self.traces = name, f, 0
        self.compiled = jit(counted)


class Program:
    """``init``, ``segment``, ``evaluate`` and ``test`` of a traced task.

    They are made of its jaxprs: the digests describe the code that runs, and no task is kept alive.

    Args:
        fold: the task.
        names: of the tables' rows: the scheduled hyperparameters, each once for every update of a
            step.
        length: updates that one table holds, at least 1.
        width: lanes that run together. At 1 nothing is vectorized and the update is the one that a
            Python loop would run; above, every state and table has a leading axis [width].
    """

    layout: PyTree = None  # the shardings of a state, on a mesh

    def __init__(self, fold: Fold, names: tuple[str, ...], length: int, width: int = 1):
        self.fold, self.names, self.length, self.width = fold, names, length, width
        self.functions: list[Function] = []
        shape, how = fold.shape, (names, width)
        # The digests are of the task's own step. The compiled one may have more barriers. They
        # change no bits, so a store need not know of them.
        self._shape = shape
        if width == 1 and jax.default_backend() == "cpu":
            self._shape = dataclasses.replace(self._shape, step=narrow_first(self._shape.step))
        self._under = tuple(settings().items())  # JAX's own cache key does not have them all
        # Each with the trees that it reads: their structures are in no jaxpr.
        self.init = self._function("init", _init, (), shape.state)
        self.segment = self._function("step", _segment, how, (shape.state, shape.metrics))
        self.evaluate = self._function(
            "evaluate", _evaluate, (width,), (shape.state, shape.validation)
        )
        self.test = self._function("test", _test, (), (shape.state, shape.tested))

    def arguments(self, fold: Fold, device: Place) -> list[jax.Array]:
        """The arrays of a fold, on the device: a Python number too is a strong-typed one there."""

        def strong(x: ArrayLike) -> ArrayLike:
            is_weak = getattr(x, "weak_type", not hasattr(x, "dtype"))
            return np.asarray(jax.device_get(x), jnp.result_type(x)) if is_weak else x

        return put([strong(x) for x in fold.arrays], device)

    def start(self, seed: int, device: Place) -> tuple[jax.Array, Draws]:
        """The arguments of ``init`` for a seed: the seed, and the numbers that the host draws."""
        on_host = self.layout is None and device.platform == "cpu"
        ahead = draw_ahead(self.fold.shape.init, seed) if on_host else []
        return put((np.uint32(seed), ahead), device)

    def stack(self, lanes: list[PyTree]) -> PyTree:
        """Trees, one for each lane, as the functions take them."""
        return lanes[0] if self.width == 1 else _stack(lanes)

    def unstack(self, state: PyTree) -> tuple[PyTree, ...]:
        """The state of each of several lanes."""
        return _unstack(state, self.width)

    @property
    def for_one_thread(self) -> bool:
        """Whether XLA gives no product of an update to several threads."""
        return for_one_thread(self.fold.shape.step, self.width)

    def _function(
        self, method: str, make: Callable[..., Traced], how: tuple[Hashable, ...], trees: PyTree
    ) -> Any:
        """The compiled ``make(shape, *how)``; an earlier one if it computes the same."""
        fold, tree = self.fold, jax.tree.structure(trees)
        # All that the compiled code depends on. A field too few would run another task's program.
        key = (method, fold.digests.get(method), fold.shape.dtypes, tree, how, self._where(method))

        f = make(self._shape, *how)

        def made() -> Function:
            name = "segment" if method == "step" else method
            return Function(name, f, partial(self._jit, method))

        function = _FUNCTIONS.get(fold.owner, (key, self._under), made, self)
        # A jaxpr holds NumPy arrays, not copies: an earlier jaxpr's may have changed since.
        function.f = f
        self.functions.append(function)
        return function.compiled

    def _where(self, method: str) -> Hashable:
        """Where it is compiled for."""

    def _jit(self, method: str, f: Traced) -> Wrapped | Compiled:
        return jax.jit(f)


@jax.jit
def _stack(states: list[PyTree]) -> PyTree:
    return jax.tree.map(lambda *xs: jnp.stack(xs), *states)


@partial(jax.jit, static_argnums=1)
def _unstack(state: PyTree, width: int) -> tuple[PyTree, ...]:
    return tuple(jax.tree.map(itemgetter(i), state) for i in range(width))


def _called(closed: ClosedJaxpr | None, returned: PyTree) -> Traced:
    """A closed jaxpr as a function of trees; ``returned`` has the structure of its result."""
    tree: PyTreeDef = jax.tree.structure(returned)
    call = jaxpr_as_fun(closed)
    return lambda *arguments: tree.unflatten(call(*jax.tree.leaves(arguments)))


def _cast(tree: PyTree, like: PyTree) -> PyTree:
    """The dtypes of ``like``, and no weak types: a loop's state must not change its type."""

    def cast(x: ArrayLike, like: jax.ShapeDtypeStruct) -> jax.Array:
        x = jnp.asarray(x)
        same = x.dtype == like.dtype and not getattr(x, "weak_type", False)  # a key has none
        return x if same else lax.convert_element_type(x, like.dtype)

    return jax.tree.map(cast, tree, like)


def _init(shape: TaskShape) -> Traced:
    """The initial state, as a function of arrays, of a seed and of the numbers drawn ahead."""
    tree: PyTreeDef = jax.tree.structure(shape.state)

    def init(arrays: list[jax.Array], seed: jax.Array, ahead: Draws) -> State:
        leaves = with_draws(shape.init, ahead)(jax.random.key(seed), *arrays)
        return _cast(tree.unflatten(leaves), shape.state)

    return init


def _evaluate(shape: TaskShape, width: int) -> Traced:
    def evaluate(arrays: list[jax.Array], state: State) -> Metrics:
        one = _called(shape.evaluate, shape.validation)
        return (one if width == 1 else jax.vmap(one, in_axes=(0, None)))(state, arrays)

    return evaluate


def _test(shape: TaskShape) -> Traced:
    return lambda arrays, state: _called(shape.test, shape.tested)(state, arrays)


# To allow for negative indices would cost each update a kernel.
_at = partial(lax.dynamic_index_in_dim, keepdims=False, allow_negative_indices=False)
_written = partial(lax.dynamic_update_index_in_dim, axis=-1, allow_negative_indices=False)


def _update(shape: TaskShape, names: tuple[str, ...]) -> Traced:
    """One update of one lane, as a function of arrays: the one with the number ``i``."""
    step, updates = _called(shape.step, (shape.state, shape.metrics)), shape.updates

    def update(
        arrays: list[jax.Array], state: State, values: jax.Array, batches: PyTree, i: jax.Array
    ) -> tuple[State, Metrics]:
        row = _at(values, i, 1)
        batch = jax.tree.map(lambda x: _at(x, i, 0), batches)
        # With 2 updates in a step the rows are lr, lr[1], momentum, momentum[1]: the task gets lr
        # and momentum, each an array of both. With 1 each is a scalar.
        hyperparams = {
            names[k]: row[k] if updates == 1 else row[k : k + updates]
            for k in range(0, len(names), updates)
        }
        after, metrics = step(state, hyperparams, batch, arrays)
        metrics = {k: jnp.asarray(v).astype(jnp.float32) for k, v in metrics.items()}
        return _cast(after, shape.state), metrics

    return update


def _segment(shape: TaskShape, names: tuple[str, ...], width: int) -> Traced:
    """The training loop, as a function of arrays: the updates ``lo`` to ``hi - 1``."""
    vectorized = width > 1

    def segment(
        arrays: list[jax.Array],
        state: State,
        alive: jax.Array,  # bool [] or [width]
        values: jax.Array,  # float32 [([width],) hyperparameters, length]
        batches: PyTree,  # [([width],) length, ...]
        lo: jax.Array,  # int32
        hi: jax.Array,  # int32
        limit: jax.Array,  # float32: a loss above it counts as diverged
    ) -> tuple[State, jax.Array, Metrics]:
        """Updates lo..hi-1; a lane stops after the first update with a loss that is not finite."""
        update = partial(_update(shape, names), arrays)
        if vectorized:
            update = jax.vmap(update, in_axes=(0, 0, 0, None))

        # A `while_loop`, since a `scan` has its length in its shape: a run that is cut at another
        # step would be another program. Its bounds are values, and it ends early when all lanes
        # have diverged. The price is that no derivative is taken through it.
        def proceed(carry: Carry) -> jax.Array:
            i, _, alive, _ = carry
            return (i < hi) & jnp.any(alive)

        def advance(carry: Carry) -> Carry:
            i, state, alive, curves = carry
            after, metrics = update(state, values, batches, i)
            if vectorized:  # alone, a run that has diverged leaves the loop instead
                select = lambda alive, *pair: jax.tree.map(partial(jnp.where, alive), *pair)
                after = jax.vmap(select)(alive, after, state)
            # A frozen lane's too: the host knows from the losses which metrics count.
            curves = {k: _written(curves[k], v, i) for k, v in metrics.items()}
            # `<=` is False for a NaN.
            alive = alive & jnp.isfinite(metrics["loss"]) & (metrics["loss"] <= limit)
            return i + 1, after, alive, curves

        # Some array of their shape: no other rows are read. Zeros would be a kernel to compile.
        curves = dict.fromkeys(shape.metrics, _at(values, 0, alive.ndim))
        _, state, alive, curves = lax.while_loop(proceed, advance, (lo, state, alive, curves))
        return state, alive, curves

    return segment


class FunctionCache(Generic[T]):
    """A cache of the last few functions, each for as long as its task lives.

    A task by itself is not a sufficient key: its methods may close over changed values.
    So the caller's key describes the whole computation, all constants included. A sweep of many
    folds may use more than a few functions. The next sweep asks in the same order, and each of the
    last few would be dropped just before its turn. So functions that a program still uses stay,
    until other programs come.
    """

    def __init__(self, most: int = 32):
        self._most = most
        # In the order of their last use, with the newest user.
        self._made: dict[tuple[Hashable, Hashable], tuple[list[object], T, weakref.ref[Any]]] = {}
        self._lock = threading.RLock()  # sweeps may have threads; an entry is dropped at any time

    def get(self, task: Task, key: Hashable, make: Callable[[], T], user: Any) -> T:
        """The earlier result of ``make`` for this task and key, or a new one."""
        leaves, tree = jax.tree.flatten(task)
        objects = opaque_leaves(leaves)
        try:
            hash(tree)
        except TypeError:  # for its static parts: then the task is known as an object
            objects, tree = [task], None
        owner = (tree, *map(id, objects))
        with self._lock:
            if known := self._made.pop((owner, key), None):
                held, made, _ = known
            else:
                held, made = [self._held(x, owner) for x in objects], make()
                self._drop()
            self._made[owner, key] = held, made, weakref.ref(user)
        return made

    def _drop(self) -> None:
        """Makes room for one, unless the oldest is in use."""
        while len(self._made) >= self._most:
            where = next(iter(self._made))
            entry = self._made.pop(where)
            if entry[-1]() is not None:
                self._made[where] = entry  # as the last: to look at all would be quadratic
                break

    def _held(self, x: object, owner: Hashable) -> object:
        try:
            return weakref.ref(x, lambda _: self._forget(owner))
        except TypeError:  # its id must not be given to another object
            return x

    def _forget(self, owner: Hashable) -> None:
        with self._lock:
            for where in [where for where in self._made if where[0] == owner]:
                del self._made[where]


_FUNCTIONS = FunctionCache[Function]()
