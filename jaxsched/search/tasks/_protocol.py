"""What a sweep trains: the protocol of a task, and helpers to write one in ten lines."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from functools import partial
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np

from jaxsched._checks import checked_number
from jaxsched._text import cut
from jaxsched.search.tasks._every_step import check_every_step

State = Any  # a pytree of arrays
Metrics = dict[str, Any]  # name -> scalar array


@runtime_checkable
class Task(Protocol):
    """A model, an optimizer and data, as three pure functions; any object that has them is a task.

    A step is one optimizer update. All functions are traced, so they are written with ``jnp``; they
    serve Flax NNX and Linen, Equinox, or plain pytrees alike, as long as the state is a pytree of
    arrays whose shapes and dtypes a step does not change. (A Python number in the initial state
    takes the dtype that a step gives it, as in ``jax.lax.scan``.) Every scheduled hyperparameter
    must act on that state: one that is dead in ``step`` is refused.

    A task may have more:

    - ``batches(seed, start, length)``: what the updates ``start, ..., start + length - 1`` read, as
      a pytree of NumPy arrays with the leading axis ``length``. It is called on the host, must be a
      function of its arguments alone, and row ``t`` must not depend on ``start`` or ``length``:
      then a run reads the same data however it is cut up. Nothing past the longest run is asked
      for. Usually int32 [length, batch] from ``js.search.shuffled``, and the step gathers the rows
      of data that rest on the device.
      Without it a step is given its own number, an int32 scalar.
    - ``fold(index, folds)``: the same task for cross-validation, which trains on all but the part
      ``index`` of the data and evaluates on that part. It may be another object; the states,
      batches and metrics of all folds must have the same shapes.
    - ``everything()``: the same task, trained on all but the test data, for the final score.
    - ``test(state)``: metrics on the test data; nothing but the final score calls it.
    - ``weights(state)``, a part of the state as a pytree, and ``with_weights(state, weights)``, the
      state with another one in its place: what ``Averaged`` averages; without them, all of it.

    A task may be a pytree (``jax.tree_util.register_dataclass``): then its arrays are arguments of
    the compiled programs. Otherwise they see what the methods close over.

    >>> import jax, jax.numpy as jnp, numpy as np, jaxsched as js
    >>> from jaxsched.search import Task, shuffled
    >>> x = np.linspace(-1, 1, 64, dtype=np.float32)
    >>> class Line:
    ...     def init(self, key):
    ...         return jax.random.normal(key, (2,))
    ...     def loss(self, w, rows):
    ...         return jnp.mean((w[0] * jnp.asarray(x)[rows] + w[1] - 2.0) ** 2)
    ...     def batches(self, seed, start, length):
    ...         return shuffled(64, 8, seed, start, length)
    ...     def step(self, state, hyperparams, batch):
    ...         loss, grad = jax.value_and_grad(self.loss)(state, batch)
    ...         return state - hyperparams["learning_rate"] * grad, {"loss": loss}
    ...     def evaluate(self, state):
    ...         return {"loss": self.loss(state, jnp.arange(64))}
    >>> isinstance(Line(), Task)
    True
    """

    def init(self, key: jax.Array) -> State:
        """The state before the first update: parameters, optimizer state and whatever belongs."""
        ...

    def step(
        self, state: State, hyperparams: dict[str, jax.Array], batch: Any
    ) -> tuple[State, Metrics]:
        """One optimizer update.

        Args:
            state: as from ``init`` or the step before.
            hyperparams: the scheduled values of this update, name -> float32 scalar.
            batch: this update's row of ``batches``, or the number of the update (int32, from 0).

        Returns:
            The state after the update, and scalars: at least ``"loss"``, of the batch before the
            update. A loss that is not finite ends the run: it has diverged.
        """
        ...

    def evaluate(self, state: State) -> Metrics:
        """Scalars on the validation data; at least ``"loss"``."""
        ...


def shuffled(samples: int, batch: int, seed: int, start: int, length: int) -> np.ndarray:
    """The rows that the updates from ``start`` read, if every epoch shuffles the data anew.

    An epoch has ``samples // batch`` updates; what is left over in one is for another to read. Row
    ``t`` depends on ``samples``, ``batch``, ``seed`` and ``t`` only, on every machine.

    Args:
        samples: size of the training set, at least ``batch``.
        batch: rows of one update, at least 1.
        seed: a whole number, at least 0.
        start: first update, from 0.
        length: number of updates.

    Returns:
        int32 [length, batch], each in [0, samples).

    Raises:
        ValueError: if the batch is larger than the data.

    >>> from jaxsched.search import shuffled
    >>> shuffled(6, 2, seed=0, start=0, length=3).shape
    (3, 2)
    >>> bool((shuffled(6, 2, 0, 0, 9)[4:6] == shuffled(6, 2, 0, 4, 2)).all())
    True
    """
    batch = checked_number("shuffled(batch=...)", batch, at_least=1, at_most=samples)
    per_epoch = samples // batch
    updates = np.arange(start, start + length)
    rows = np.empty((length, batch), np.int32)
    for epoch in np.unique(updates // per_epoch):
        order = _permutation(samples, seed, int(epoch))[: per_epoch * batch]
        here = updates // per_epoch == epoch
        rows[here] = order.reshape(per_epoch, batch)[updates[here] % per_epoch]
    return rows


@functools.lru_cache(maxsize=32)
def _permutation(samples: int, seed: int, epoch: int) -> np.ndarray:
    # Philox's bits are fixed for ever; `Generator.permutation` may change with NumPy's version.
    bits = np.random.Philox(key=[seed, epoch]).random_raw(samples)
    return np.argsort(bits, kind="stable").astype(np.int32)


# ------------------------------------------------------------------ what the engine asks of a task


def initial_state(task: Task, key: jax.Array, dtypes: Sequence[Any]) -> State:
    """``task.init``, with its Python numbers in the dtypes that ``check_task`` has found."""
    treedef: Any
    leaves, treedef = jax.tree.flatten(task.init(key))
    return treedef.unflatten([_typed(x, dtype) for x, dtype in zip(leaves, dtypes, strict=True)])


@dataclasses.dataclass(frozen=True)
class TaskShape:
    """What is known of a task that was traced and not run; all trees are abstract.

    Args:
        state: of the training.
        metrics: of a step.
        batch: of one update.
        init, step: closed jaxprs, whose last arguments are the task's arrays.
        validation, evaluate: the metrics of an evaluation and its closed jaxpr, if it was traced.
    """

    state: State
    metrics: Metrics
    batch: Any
    init: Any
    step: Any
    validation: Metrics = dataclasses.field(default_factory=dict)
    evaluate: Any = None

    @property
    def dtypes(self) -> tuple[Any, ...]:
        """Of the leaves of a state."""
        return tuple(leaf.dtype for leaf in jax.tree.leaves(self.state))


def batches(
    task: Task, seed: int, start: int, length: int, where: str = "sweep", steps: int | None = None
) -> Any:
    """The batches of ``length`` updates on the host, or their numbers, int32 [length].

    Raises:
        ValueError: if there are none for some of them; ``steps`` says how many are needed in all.
        TypeError: if there are more or fewer of them.
    """
    if not hasattr(task, "batches"):
        return np.arange(start, start + length, dtype=np.int32)
    called = f"{where}(task=...): batches({seed}, {start}, {length})"
    try:
        drawn = task.batches(seed, start, length)
    except (StopIteration, IndexError) as error:
        needed = "" if steps is None else f" of the {steps}"
        raise ValueError(
            f"{called} must return what the updates {start} to {start + length - 1}{needed} read, "
            f"got {type(error).__name__}{f' ({error})' if str(error) else ''}: the data have ended "
            "too early. Begin them again, as `js.search.shuffled` does, or train fewer steps."
        ) from error
    except Exception as error:
        error.add_note(f"in {called}")
        raise
    lengths = {np.shape(leaf)[:1] for leaf in jax.tree.leaves(drawn)}
    if lengths != {(length,)}:
        raise TypeError(
            f"{called} must return arrays with the leading axis {length}, "
            f"got the leading axes {sorted(lengths)}."
        )
    return drawn


def taken_apart(task: Task) -> tuple[list[Any], Any]:
    """The arrays of a task, and what makes such a task of others; an opaque object has none."""
    treedef: Any
    arrays, treedef = jax.tree.flatten(task)
    if jax.tree_util.treedef_is_leaf(treedef):
        return [], lambda arrays: task
    return arrays, treedef.unflatten


def check_task(
    task: Any, hyperparams: tuple[str, ...], where: str = "sweep", steps: int = 2
) -> TaskShape:
    """Traces a task without running it; raises if it can't be trained.

    Args:
        task: the task.
        hyperparams: the names that ``step`` will be given.
        where: the caller's name, for the errors.
        steps: the updates of the longest run, at least 1.

    Returns:
        All but the evaluation, which ``check_evaluation`` traces.

    Raises:
        TypeError: if a method is missing, the step changes the state's structure, shapes or dtypes,
            or a metric is no real scalar.
        ValueError: if there is no "loss" among the metrics, or a step is no optimizer update.
    """
    missing = [m for m in ("init", "step", "evaluate") if not callable(getattr(task, m, None))]
    if missing or isinstance(task, type):
        raise TypeError(
            f"{where}(task=...) must have the methods init, step and evaluate, "
            f"got {task!r}" + (f" without {', '.join(missing)}." if missing else ", a class.")
        )
    arrays, rebuild = taken_apart(task)
    drawn = batches(task, 0, 0, min(2, steps), where, steps)
    batch = jax.tree.map(lambda x: jax.ShapeDtypeStruct(np.shape(x)[1:], jnp.result_type(x)), drawn)
    values = {name: jax.ShapeDtypeStruct((), jnp.float32) for name in hyperparams}

    def init(key: Any, arrays: Any) -> Any:
        made = _called(where, "init", rebuild(arrays), key)
        return jax.tree_util.tree_map_with_path(partial(_as_array, where), made)

    def step(state: Any, hyperparams: Any, batch: Any, arrays: Any) -> Any:
        made = _called(where, "step", rebuild(arrays), state, hyperparams, batch)
        if not isinstance(made, (tuple, list)) or len(made) != 2:
            raise TypeError(f"{where}(task=...): step must return (state, metrics), got {made!r}.")
        check_metrics(made[1], where, "step")
        return tuple(made)

    key = jax.eval_shape(lambda: jax.random.key(0))
    begun, first = jax.make_jaxpr(init, return_shape=True)(key, arrays)
    wanted, known = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), first), None
    # Twice at most, unless dtypes depend on dtypes. Leaves, since a state may hold schedules, and
    # those are equal by their numbers, which abstract ones don't have.
    while known != jax.tree.leaves(wanted):
        state, known = wanted, jax.tree.leaves(wanted)
        traced, (after, metrics) = jax.make_jaxpr(step, return_shape=True)(
            state, values, batch, arrays
        )
        _check_structure(state, after, where)
        wanted = jax.tree.map(_promoted, first, state, after)
    _check_same(state, after, where)
    outputs: Any = jax.tree.structure((after, metrics))
    _, numbers = outputs.unflatten(range(outputs.num_leaves))
    check_every_step(where, state, begun, traced, numbers["loss"], len(hyperparams))
    return TaskShape(state, metrics, batch, begun, traced)


def check_evaluation(
    task: Any, state: Any, where: str = "sweep", method: str = "evaluate"
) -> tuple[Metrics, Any]:
    """The abstract metrics of ``evaluate`` (or ``test``) and its closed jaxpr.

    Raises:
        TypeError, ValueError: as ``check_task``.
    """
    arrays, rebuild = taken_apart(task)

    def measure(state: Any, arrays: Any) -> Any:
        metrics = _called(where, method, rebuild(arrays), state)
        check_metrics(metrics, where, method)
        return metrics

    traced, found = jax.make_jaxpr(measure, return_shape=True)(state, arrays)
    return found, traced


# ---------------------------------------------------------------------------------------- details


def _strong(x: Any) -> jax.Array:
    # What was made of Python numbers is weak-typed; as a loop's state it would change its type.
    x = jnp.asarray(x)
    return _typed(x, x.dtype)


def _typed(x: Any, dtype: Any) -> jax.Array:
    """An array, of this dtype if it was made of Python numbers."""
    x = jnp.asarray(x)
    if getattr(x, "weak_type", False):
        return jax.lax.convert_element_type(x, dtype)
    return x


def _promoted(first: Any, before: Any, after: Any) -> jax.ShapeDtypeStruct:
    """As in ``lax.scan``: a leaf that ``init`` made of a Python number takes the step's dtype."""
    dtype = before.dtype
    if first.weak_type and before.shape == after.shape and dtype != after.dtype:
        number = {"i": 0, "f": 0.0, "c": 0j}[np.dtype(dtype).kind]
        dtype = jnp.result_type(number, after.dtype)
    return jax.ShapeDtypeStruct(before.shape, dtype)


def _as_array(where: str, path: Any, leaf: Any) -> jax.Array:
    try:
        return jnp.asarray(leaf)
    except (TypeError, ValueError, OverflowError):
        raise TypeError(
            f"{where}(task=...): init must return a pytree of arrays, got {cut(repr(leaf))} "
            f"({type(leaf).__name__}) at state{jax.tree_util.keystr(path)}."
        ) from None


def _called(where: str, method: str, task: Any, *arguments: Any) -> Any:
    """Errors of the user's own code say in which method they came."""
    try:
        return getattr(task, method)(*arguments)
    except StopIteration as error:
        raise ValueError(
            f"{where}(task=...): {method} must not raise StopIteration; what it reads from an "
            "iterator belongs into `batches`."
        ) from error
    except Exception as error:
        error.add_note(f"in `{method}` of {where}(task=...)")
        raise


def _check_structure(before: Any, after: Any, where: str) -> None:
    old: Any = jax.tree.structure(before)
    new: Any = jax.tree.structure(after)
    if old != new:
        raise TypeError(
            f"{where}(task=...): step must return a state of the structure that init returned, "
            f"got {_difference(old, new)}."
        )


def _difference(old: Any, new: Any) -> str:
    """The first place at which two structures differ."""
    kept, made = old.node_data(), new.node_data()
    if kept is None or made is None or kept[0] is not made[0]:
        return f"{_kind(made)} in place of {_kind(kept)}"
    if kept[1] != made[1]:
        name = kept[0].__name__
        if kept[0] is dict:
            return f"a dict with {cut(str(made[1]))} in place of {cut(str(kept[1]))}"
        return (
            f"a {name} with other static parts (fields that are no arrays, such as the `tx` of a "
            f"TrainState): {cut(str(made[1]))} in place of {cut(str(kept[1]))}. Keep them as init "
            "made them"
        )
    pairs = list(zip(old.children(), new.children(), strict=False))
    if len(old.children()) != len(new.children()):
        return f"a {kept[0].__name__} of {len(new.children())} in place of {len(old.children())}"
    return next(_difference(a, b) for a, b in pairs if a != b)


def _kind(node: Any) -> str:
    if node is None:
        return "an array"
    return "None" if node[0] is type(None) else f"a {node[0].__name__}"


def _check_same(before: Any, after: Any, where: str) -> None:
    paths, _ = jax.tree_util.tree_flatten_with_path(before)
    for (path, old), new in zip(paths, jax.tree.leaves(after), strict=True):
        if (old.shape, old.dtype) != (new.shape, new.dtype):
            raise TypeError(
                f"{where}(task=...): step must not change shapes or dtypes, got "
                f"{new.dtype}{list(new.shape)} for the {old.dtype}{list(old.shape)} at "
                f"state{jax.tree_util.keystr(path)}. Let init make it a {new.dtype}"
                f"{list(new.shape)}, or cast it in step."
            )


def check_metrics(metrics: Any, where: str, method: str) -> None:
    if not isinstance(metrics, dict) or not all(isinstance(name, str) for name in metrics):
        raise TypeError(
            f"{where}(task=...): {method} must return its metrics as a dict name -> scalar, "
            f"got {metrics!r}."
        )
    if "loss" not in metrics:
        raise ValueError(
            f'{where}(task=...): the metrics of {method} must have a "loss", got {sorted(metrics)}.'
        )
    for name, value in metrics.items():
        dtype = getattr(value, "dtype", type(value))
        real = jnp.issubdtype(dtype, jnp.floating) or jnp.issubdtype(dtype, jnp.integer)
        if np.shape(value) != () or not real:
            raise TypeError(
                f"{where}(task=...): the metric {name!r} of {method} must be a real scalar, "
                f"got {value!r}."
            )
