"""The protocol of a task, the model and data that a sweep trains."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol, TypeAlias, runtime_checkable

import jax
import jax.numpy as jnp

from jaxsched._types import PyTree

State: TypeAlias = PyTree  # of arrays
Metrics: TypeAlias = dict[str, Any]  # name -> scalar array


@runtime_checkable
class Task(Protocol):
    """A model, an optimizer and data, as three pure functions; any object that has them is a task.

    A step is one optimizer update (or ``updates_per_step`` of them). All functions are traced, so
    they are written with ``jnp``; they serve Flax NNX and Linen, Equinox, or plain pytrees alike,
    as long as the state is a pytree of arrays with shapes and dtypes that a step keeps. (A
    Python number in the initial state takes the dtype that a step gives it, as in
    ``jax.lax.scan``.) Every scheduled hyperparameter must act on the state: one without effect in
    ``step`` is refused.

    A task may have more:

    - ``batches(seed, start, length)``: the data of the updates ``start, ..., start + length - 1``,
      a pytree of NumPy arrays with the leading axis ``length``. It is called on the host, must be a
      function of its arguments alone, and row ``t`` must not depend on ``start`` or ``length``:
      then a run reads the same data however it is cut up. No updates after the longest run are
      requested. Usually int32 [length, batch] from ``js.search.shuffled``, and the step gathers the
      rows of data on the device.
      Without it a step is given its own number, an int32 scalar.
    - ``updates_per_step``: how many optimizer updates a step makes, if more than one: the updates
      of an iteration of PPO, or of the critic in a GAN. Each hyperparameter is then an array
      float32 [updates_per_step], one value for each, for ``jax.lax.scan``. Schedules and
      controllers go on counting updates; ``steps``, ``evaluate_every`` and the rows of ``batches``
      count steps.
    - ``fold(index, folds)``: the same task for cross-validation: it evaluates on the part ``index``
      of the data and trains on all other parts. It may be another object; the states,
      batches and metrics of all folds must have the same shapes.
    - ``everything()``: the same task, trained on all but the test data, for the final score.
    - ``test(state)``: metrics on the test data; nothing but the final score calls it.
    - ``weights(state)``, a part of the state as a pytree, and ``with_weights(state, weights)``, the
      state with another one in its place: for ``Averaged`` to average only this part of the state.

    A task may be a pytree (``jax.tree_util.register_dataclass``): then its arrays are arguments of
    the compiled programs. Otherwise the arrays in the methods' closures are their constants.

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

    def init(self, key: jax.Array, /) -> State:
        """The state before the first update: parameters, optimizer state and whatever belongs."""
        ...

    def step(
        self, state: State, hyperparams: dict[str, jax.Array], batch: PyTree, /
    ) -> tuple[State, Metrics]:
        """One optimizer update.

        Args:
            state: as from ``init`` or the step before.
            hyperparams: the scheduled values of this update, name -> float32 scalar (or an array
                with a value for each update, if ``updates_per_step`` is more than one).
            batch: this update's row of ``batches``, or the number of the update (int32, from 0).

        Returns:
            The state after the update, and scalars: at least ``"loss"``, of the batch before the
            update. A loss that is not finite ends the run: it has diverged.
        """
        ...

    def evaluate(self, state: State, /) -> Metrics:
        """Scalars on the validation data; at least ``"loss"``."""
        ...


def opaque_leaves(leaves: Iterable[object]) -> list[object]:
    """The leaves of a task except arrays: the task itself, functions of a tuple, texts."""
    return [x for x in leaves if not (isinstance(x, (int, float, complex)) or is_array(x))]


def is_array(x: object) -> bool:
    """Whether JAX takes it as an array: of numbers or keys."""
    kinds = (jnp.number, jnp.bool_, jax.dtypes.extended)
    return any(jnp.issubdtype(getattr(x, "dtype", object), kind) for kind in kinds)
