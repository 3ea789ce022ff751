"""Finds a task and traces it without running it: its programs, and whether it can be trained."""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Callable, Iterator
from functools import cached_property, partial
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr
from jax.tree_util import PyTreeDef, keystr, tree_leaves_with_path
from jax.typing import ArrayLike

from jaxsched._checks import checked_whole
from jaxsched._types import PyTree
from jaxsched._words import did_you_mean
from jaxsched.search._fingerprint import Walk, digest, equations, public
from jaxsched.search.tasks._process import check_place, uncollected
from jaxsched.search.tasks._protocol import Metrics, State, Task, opaque_leaves
from jaxsched.search.tasks._reading import Batches, first_batch
from jaxsched.search.tasks._returned import (
    TaskShape,
    as_array,
    called,
    check_metrics,
    check_same,
    check_structure,
    promoted,
)
from jaxsched.search.tasks._updates import check_all_read, check_every_step, check_used

METHODS = ("init", "step", "evaluate")


# Only the trace takes a task apart. The programs, the feed, the store and the identity of a sweep
# need shapes, jaxprs, digests, arrays and batches, and ask the fold for them. So only this file
# knows the special cases of tasks: arrays read from a disk, data behind closures, no
# batches at all. Folds with equal program digests share a compiled program; they differ in their
# arrays, which are its arguments.
@dataclasses.dataclass(frozen=True)
class Fold:
    """A traced task, or a traced fold of one: from here on it answers for the task."""

    task: Task
    owner: Task  # the given task; its programs live as long
    shape: TaskShape
    digests: dict[str, str]  # method -> digest of the program, all constants included
    data: str  # digest of the arrays
    walk: Walk = dataclasses.field(default_factory=Walk, repr=False)  # which has made them all

    @property
    def arrays(self) -> list[ArrayLike]:
        """The last arguments of its programs, which a task may read from a disk."""
        return taken_apart(self.task)[0]

    @property
    def batches(self) -> Batches:
        """The batches that its updates read."""
        return Batches(self.task, self.shape.batch)

    @cached_property
    def fields(self) -> dict[str, str]:
        """Its name, and the digests of its programs and arrays: field -> text."""
        kind = type(self.task)
        # A spawned process has the user's script under another name.
        module = kind.__module__.replace("__mp_main__", "__main__")
        computed = {f"task's {method}": digest(self.digests[method]) for method in METHODS}
        named = public(f"{module}.{kind.__qualname__}")
        return {"task": named, "task's arrays": self.data, **computed}

    @cached_property
    def array_fields(self) -> dict[str, str]:
        """The arrays by their names, to say which one differs: kind, shape and digest.

        A task that is not a pytree has its attributes, and the objects its methods use, in order.
        """
        named = {keystr(path): x for path, x in tree_leaves_with_path(self.task)}
        if not self.arrays:
            own = {f".{name}": x for name, x in getattr(self.task, "__dict__", {}).items()}
            named = {name: x for name, x in own.items() if isinstance(x, (np.ndarray, jax.Array))}
            for method in METHODS:
                used = enumerate(getattr(self.shape, method).consts)
                named |= {f"{number} of {method}": x for number, x in used}
        return {
            f"array {name}": f"{getattr(x, 'dtype', type(x).__name__)}{list(np.shape(x))} "
            f"{self.walk.of(x)}"
            for name, x in named.items()
        }

    @property
    def code(self) -> str:
        """Equal for folds with the same program."""
        return " ".join(self.digests.values())

    def with_test(self, caller: str) -> Fold:
        """The same with ``test`` among its methods."""
        tested, test = trace_metrics(self.task, self.shape.state, caller, "test")
        shape = dataclasses.replace(self.shape, tested=tested, test=test)
        digests = {**self.digests, "test": self.walk.of(test)}
        return dataclasses.replace(self, shape=shape, digests=digests)

    @property
    def asks_host(self) -> str:
        """The first method with a callback that returns values to it, or ""."""
        callbacks = {"pure_callback", "io_callback"}
        return next((m for m in METHODS if callbacks & self.primitives(m)), "")

    @property
    def mixes_lanes(self) -> str:
        """The first method with random bits that ``jax.vmap`` draws from one lane's key, or ""."""
        methods = ("step", "evaluate")  # a state is begun alone
        return next((m for m in methods if any(map(_is_rbg, self._equations(m)))), "")

    def primitives(self, method: str) -> set[str]:
        """The names of all primitives in a method."""
        return {e.primitive.name for e in self._equations(method)}

    def _equations(self, method: str) -> Iterator[Any]:
        closed = getattr(self.shape, method)
        return equations(closed.jaxpr) if closed else iter(())


def found_task(task: Task | str, caller: str = "sweep") -> Task:
    """The task itself, or the task of a name: a factory's result, or an object as it is.

    Raises:
        ValueError: if the text is not of this form, or nothing can be imported by it.
    """
    check_place(caller)
    if not isinstance(task, str):
        return task
    where = f"{caller}(task={task!r})"
    module, colon, path = task.partition(":")
    if not colon or not all(part.isidentifier() for part in [*module.split("."), *path.split(".")]):
        raise ValueError(
            f"{caller}(task=...) must be a task, or a text of the form 'package.module:factory', "
            f"got {task!r}."
        )
    try:
        value: Any = importlib.import_module(module)
    except (ImportError, AttributeError) as error:
        raise ValueError(
            f"{where} must name what can be imported here, got {type(error).__name__}: {error}. "
            "Is its directory in PYTHONPATH?"
        ) from error
    for name in path.split("."):
        if not hasattr(value, name):
            hint = did_you_mean(name, [each for each in dir(value) if each[0] != "_"])
            raise ValueError(f"{where} must name what {module} has, got {name!r}{hint}.")
        value = getattr(value, name)
    try:
        made: Task = value() if callable(value) else value
    except Exception as error:
        error.add_note(f"in {path}() of {where}")
        raise
    return made


def updates_per_step(caller: str, task: Task) -> int:
    """How many optimizer updates a step of the task makes."""
    given = getattr(task, "updates_per_step", 1)
    return checked_whole(f"{caller}(task=...): updates_per_step", given, 1, 2**16)


@uncollected()
def trace_folds(
    task: Any, folds: int | None, names: tuple[str, ...], steps: int, owner: Task | None = None
) -> tuple[Fold, ...]:
    """The task, or its folds, which must be alike; folds that differ in arrays are traced once.

    ``owner`` is the original task, if this is another one.
    """
    if folds is not None and getattr(task, "fold", None) is None:
        raise TypeError(f"sweep(folds=...) must be None for a task without `fold`, got {folds}.")
    # Folds of a pytree task differ in their arrays alone, which are arguments of its
    # programs: the first is traced, the others are copies of it with arrays of their own. Only the
    # trace shows the arrays that an opaque task closes over, so each of its folds is traced, and
    # folds with the same program have one digest.
    traced: list[Fold] = []
    kinds: list[tuple[object, Fold]] = []
    walk = Walk()  # digests shared parts of folds, such as their data, once
    for index in range(folds or 1):
        one = task if folds is None else task.fold(index, folds)
        kind, arrays = _kind(one)  # once: a task may read its arrays from a disk
        like = next((fold for other, fold in kinds if bool(other == kind)), None)
        if like is None:
            try:
                shape = trace_task(one, names, steps)
            except Exception as error:
                if folds is not None:
                    error.add_note(f"in fold({index}, {folds}) of the task")
                raise
            digests = {method: walk.of(getattr(shape, method)) for method in METHODS}
            like = Fold(one, task if owner is None else owner, shape, digests, "", walk)
            kinds.append((kind, like))
        data = digest(*map(walk.of, arrays))
        traced.append(dataclasses.replace(like, task=one, data=data))
        _check_fits(traced[0].shape, like.shape, index, folds)
    return tuple(traced)


def trace_task(
    task: Any,
    hyperparams: tuple[str, ...],
    steps: int = 2,
    caller: str = "sweep",
    evaluated: bool = True,
) -> TaskShape:
    """Traces a task without running it; raises if it can't be trained for so many steps."""
    missing = [m for m in METHODS if not callable(getattr(task, m, None))]
    if missing or isinstance(task, type):
        raise TypeError(
            f"{caller}(task=...) must have the methods init, step and evaluate, "
            f"got {task!r}" + (f" without {', '.join(missing)}." if missing else ", a class.")
        )
    arrays, rebuild = taken_apart(task)
    updates = updates_per_step(caller, task)
    batch = first_batch(task, caller, steps)
    size = () if updates == 1 else (updates,)
    values = {name: jax.ShapeDtypeStruct(size, jnp.float32) for name in hyperparams}

    def init(key: jax.Array, arrays: list[ArrayLike]) -> State:
        made = called(caller, "init", rebuild(arrays), key)
        return jax.tree_util.tree_map_with_path(partial(as_array, caller), made)

    def step(
        state: State, hyperparams: dict[str, jax.Array], batch: PyTree, arrays: list[ArrayLike]
    ) -> tuple[State, Metrics]:
        made = called(caller, "step", rebuild(arrays), state, hyperparams, batch)
        if not isinstance(made, (tuple, list)) or len(made) != 2:
            raise TypeError(f"{caller}(task=...): step must return (state, metrics), got {made!r}.")
        check_metrics(made[1], caller, "step")
        return tuple(made)

    key = jax.eval_shape(lambda: jax.random.key(0))
    begun, first = _traced(init, key, arrays)
    state, metrics, traced = _traced_step(caller, step, first, values, batch, arrays)
    shape = TaskShape(state, metrics, batch, begun, traced, updates, {}, None)
    check_every_step(caller, shape, len(hyperparams))
    if evaluated:
        validation, evaluate = trace_metrics(task, state, caller)
        shape = dataclasses.replace(shape, validation=validation, evaluate=evaluate)
    _check_arrays(caller, arrays, shape)
    check_used(caller, task, hyperparams, shape)
    if updates > 1:
        check_all_read(caller, shape, len(hyperparams))
    return shape


def _traced(f: Callable[..., Any], *arguments: PyTree) -> tuple[ClosedJaxpr, Any]:
    """The jaxpr of a function, and its result as an abstract tree."""
    traced, returned = jax.make_jaxpr(f, return_shape=True)(*arguments)
    return _with_users_arrays(traced), returned


def _with_users_arrays(traced: ClosedJaxpr) -> ClosedJaxpr:
    """The jaxpr with NumPy's arrays as constants, without the copies that JAX makes of them."""
    # JAX makes a float32 copy of a float64 array that a method closes over, as an object of a class
    # of its own, and finds it again by the user's array as long as anything holds it: our jaxpr,
    # or the traceback of an error in a notebook. The user may have changed the array in
    # place since, and the next sweep would train on the numbers of before. A plain view holds the
    # copy's memory and not that object. Constants stand in closed jaxprs at any depth: the jaxprs
    # of jitted functions and of branches are parameters of equations.
    made: dict[int, Any] = {}  # by id: a function called twice stays one, and cheap

    def of_users(x: Any) -> Any:
        if type(x) is tuple:  # such as the branches of a `cond`
            return tuple(map(of_users, x))
        if isinstance(x, np.ndarray):
            return x.view(np.ndarray)
        if not hasattr(x, "eqns"):
            return x
        if id(x) not in made:
            made[id(x)] = rebuilt(x)
        return made[id(x)]

    def rebuilt(x: Any) -> Any:
        params = [{name: of_users(p) for name, p in eqn.params.items()} for eqn in x.eqns]
        eqns = [eqn.replace(params=p) for eqn, p in zip(x.eqns, params, strict=True)]
        if not hasattr(x, "jaxpr"):  # an open one has no constants
            return x.replace(eqns=eqns)
        return x.replace(jaxpr=x.jaxpr.replace(eqns=eqns), consts=[*map(of_users, x.consts)])

    return cast(ClosedJaxpr, of_users(traced))


def _traced_step(
    caller: str, step: Callable[..., Any], first: State, *arguments: PyTree
) -> tuple[State, Metrics, ClosedJaxpr]:
    """The abstract state that a step keeps, beginning with ``first``; its metrics, and its jaxpr.

    A Python number in the first state takes the dtype that a step gives it.
    """
    state = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), first)
    # A `0` for a sum of losses becomes a float32 as the first trace returns it, and the second
    # trace confirms this: two traces at most, unless dtypes depend on dtypes.
    while True:
        traced, (after, metrics) = _traced(step, state, *arguments)
        check_structure(state, after, caller)
        kept = jax.tree.map(promoted, first, state, after)
        # Leaves, since a state may hold schedules: schedules are equal if their numbers are, and
        # abstract ones have no numbers.
        if jax.tree.leaves(kept) == jax.tree.leaves(state):
            break
        state = kept
    check_same(state, after, caller)
    return state, metrics, traced


def _check_arrays(caller: str, arrays: list[ArrayLike], shape: TaskShape) -> None:
    """Raises if an array of the task, or in a closure of its methods, is deleted."""
    held = (x for name in METHODS for x in getattr(getattr(shape, name), "consts", ()))
    for x in [*arrays, *held]:
        if isinstance(x, jax.Array) and x.is_deleted():
            raise ValueError(
                f"{caller}(task=...) must hold no array that was deleted, or donated to a jitted "
                f"function, got one: {x.dtype}{list(x.shape)}. Make it anew."
            )


def trace_metrics(
    task: Task, state: State, caller: str = "sweep", method: str = "evaluate"
) -> tuple[Metrics, ClosedJaxpr]:
    """The abstract metrics of ``evaluate`` (or ``test``) and its closed jaxpr."""
    arrays, rebuild = taken_apart(task)

    def measure(state: State, arrays: list[ArrayLike]) -> Metrics:
        metrics = called(caller, method, rebuild(arrays), state)
        check_metrics(metrics, caller, method)
        return metrics

    traced, metrics = _traced(measure, state, arrays)
    return metrics, traced


def taken_apart(task: Task) -> tuple[list[ArrayLike], Callable[[list[ArrayLike]], Task]]:
    """The arrays of a task, and a function from arrays to a task; none for an opaque object."""
    treedef: PyTreeDef
    arrays, treedef = jax.tree.flatten(task)
    return ([], lambda arrays: task) if opaque_leaves(arrays) else (arrays, treedef.unflatten)


def _is_rbg(eqn: Any) -> bool:
    """Whether it draws by XLA's own generator, as keys of "rbg" and "unsafe_rbg" do."""
    drawn = eqn.primitive.name == "random_bits" and "rbg" in str(eqn.invars[0].aval.dtype)
    return drawn or eqn.primitive.name in ("rng_bit_generator", "rng_uniform")


def _kind(task: Task) -> tuple[object, list[ArrayLike]]:
    """The structure of a task, with shapes and dtypes, and its arrays.

    Only the trace shows the arrays in closures of an opaque object, even if objects are equal.
    """
    structure: PyTreeDef
    arrays, structure = jax.tree.flatten(task)
    if opaque_leaves(arrays):
        return id(task), []
    return (structure, [(np.shape(x), jnp.result_type(x)) for x in arrays]), arrays


def _check_fits(first: TaskShape, shape: TaskShape, index: int, folds: int | None) -> None:
    """All folds are rows of the same curves, and their states lie in the same files."""
    wanted, got = _described(first), _described(shape)
    for name in {**wanted, **got}:
        if wanted.get(name) != got.get(name):
            raise ValueError(
                f"sweep(folds={folds}): all folds must have the same shapes, dtypes and metrics, "
                f"got {got.get(name, 'nothing')} for the {name} in fold({index}, {folds}) and "
                f"{wanted.get(name, 'nothing')} in fold(0, {folds})."
            )


def _described(shape: TaskShape) -> dict[str, str]:
    """The parts that must be alike, by their names in an error."""
    shown = {f"metric {name!r} of step": "a number" for name in shape.metrics}
    shown |= {f"metric {name!r} of evaluate": "a number" for name in shape.validation}
    for kind, tree in {"state": shape.state, "batches": shape.batch}.items():
        for path, leaf in tree_leaves_with_path(tree):
            shown[f"{kind}{keystr(path)}"] = f"{leaf.dtype}{list(leaf.shape)}"
    return shown
