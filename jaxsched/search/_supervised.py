"""``Supervised``: the ready-made task for a model, arrays and an Optax optimizer."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxsched._struct import checked_number
from jaxsched.search._data import Arrays, samples_of
from jaxsched.search._hyperparams import built, unset, updated
from jaxsched.search._models import adapter
from jaxsched.search._task import Metrics, shuffled

PerSample = Callable[[Any, Any], Any]  # outputs, targets -> [samples, ...]


class SupervisedState(NamedTuple):
    """What a ``Supervised`` task trains."""

    params: Any
    rest: Any  # what a Flax model has but parameters: batch statistics, random keys
    opt_state: Any


class Supervised:
    """A model that learns targets from inputs, with mini-batches gathered on the device.

    Every epoch shuffles the training data anew, in an order that depends on the seed only.

    Args:
        model: one of

            - a function ``rngs -> nnx.Module`` (Flax NNX), such as
              ``lambda rngs: MLP(64, 10, rngs=rngs)``; training calls it in train mode (dropout,
              batch statistics), evaluation in eval mode;
            - a Flax Linen module, called with the inputs, and in training with ``train=True`` and
              ``deterministic=False``, in evaluation with the opposite, where its call takes such an
              argument (also ``training``, ``use_running_average``). Training updates all
              collections but "params", such as "batch_stats"; dropout gets a new key each time;
            - a pair of functions ``(init, apply)``: ``init(key) -> params`` and
              ``apply(params, inputs) -> outputs``.

        optimizer: a function of the scheduled hyperparameters that returns an Optax optimizer,
            such as ``lambda learning_rate: optax.sgd(learning_rate, momentum=0.9)``. It is called
            in every trace with traced scalars. What it puts into the optimizer's state follows
            them (``js.inject``, ``optax.inject_hyperparams``, ``group_lr``), or is refused. If a
            hyperparameter's presence changes the structure of the optimizer's state, make it an
            argument without a default.
        loss: ``loss(outputs, targets) -> [samples, ...]``, a value per sample, as Optax's losses.
        train: inputs and targets, arrays with one leading axis of samples.
        validation: the same. May be left out for cross-validation, which pools it with ``train``.
        test: the same; stays on the host until the final score.
        batch_size: rows of one update, at least 1, at most the training samples.
        metrics: more values per sample, name -> ``metric(outputs, targets)``, averaged over the
            validation (and test) data, such as ``{"accuracy": js.search.accuracy}``.

    Raises:
        ValueError: if arrays disagree in their number of samples, or the batch is too large.
        TypeError: if the model is none of the above.

    >>> import jax, jax.numpy as jnp, numpy as np, optax
    >>> from jaxsched.search import Supervised
    >>> x = np.linspace(-1, 1, 64, dtype=np.float32)[:, None]
    >>> task = Supervised(
    ...     (lambda key: jnp.zeros((1, 1)), lambda w, x: x @ w),
    ...     lambda learning_rate: optax.sgd(learning_rate), optax.squared_error,
    ...     train=(x, 3 * x), validation=(x, 3 * x), batch_size=16)
    >>> round(float(task.evaluate(task.init(jax.random.key(0)))["loss"]), 2)
    3.1
    """

    def __init__(
        self,
        model: Any,
        optimizer: Callable[..., optax.GradientTransformation],
        loss: PerSample,
        *,
        train: Arrays,
        validation: Arrays | None = None,
        test: Arrays | None = None,
        batch_size: int = 32,
        metrics: dict[str, PerSample] | None = None,
    ):
        samples = samples_of("train", train)
        checked_number("Supervised(batch_size=...)", batch_size, at_least=1)
        if batch_size > samples:
            raise ValueError(
                f"`Supervised(batch_size=...)` must be at most the {samples} training samples, "
                f"got {batch_size}."
            )
        if not callable(optimizer):
            raise TypeError(
                "`Supervised(optimizer=...)` must be a function of the scheduled hyperparameters, "
                "such as `lambda learning_rate: optax.adam(learning_rate)`, "
                f"got {type(optimizer).__name__}."
            )
        pool = [train] if validation is None else [train, validation]
        held = 0 if validation is None else samples_of("validation", validation)
        if test is not None:
            samples_of("test", test)
        self._parts = _Parts(
            *adapter(model, train[0]), optimizer, loss, batch_size, dict(metrics or {}), test
        )
        # One pool of data for training and validation, and which rows are which: so a fold of a
        # cross-validation is other numbers in the same program.
        self._pool = tuple(
            jax.device_put(np.concatenate([np.asarray(a) for a in arrays]))
            for arrays in zip(*pool, strict=True)
        )
        self._rows = np.arange(samples, dtype=np.int32)
        self._held = np.arange(samples, samples + held, dtype=np.int32)
        self._weight = np.ones(held, np.float32)

    def __repr__(self) -> str:
        return f"Supervised({len(self._rows)} train, {len(self._held)} validation)"

    def init(self, key: jax.Array) -> SupervisedState:
        """Parameters and optimizer state; see ``Task.init``."""
        params, rest = self._parts.init(key)
        optimizer = built(self._parts.optimizer, unset(self._parts.optimizer))
        return SupervisedState(params, rest, optimizer.init(params))

    def batches(self, seed: int, start: int, length: int) -> np.ndarray:
        """int32 [length, batch_size] rows of the training data; see ``Task.batches``."""
        rows = np.asarray(self._rows)
        return rows[shuffled(len(rows), self._parts.batch_size, seed, start, length)]

    def step(
        self, state: SupervisedState, hyperparams: dict[str, jax.Array], batch: jax.Array
    ) -> tuple[SupervisedState, Metrics]:
        """One update on the rows ``batch``; see ``Task.step``."""
        parts = self._parts
        inputs, targets = (a[batch] for a in self._pool)

        def mean_loss(params: Any) -> Any:
            outputs, rest = parts.apply(params, state.rest, inputs, True)
            return jnp.mean(_per_sample("loss", parts.loss, outputs, targets)), rest

        (loss, rest), grads = jax.value_and_grad(mean_loss, has_aux=True)(state.params)

        def update(tx: Any, opt_state: Any) -> Any:
            tx = optax.with_extra_args_support(tx)
            return tx.update(grads, opt_state, state.params, value=loss)

        updates, opt_state = updated(
            parts.optimizer, hyperparams, state.opt_state, state.params, update
        )
        params = optax.apply_updates(state.params, updates)
        return SupervisedState(params, rest, opt_state), {"loss": loss}

    def evaluate(self, state: SupervisedState) -> Metrics:
        """Means over the validation data; see ``Task.evaluate``."""
        if not len(self._held):
            raise ValueError(
                "`Supervised(validation=...)` must be given to evaluate, got None; "
                "or cross-validate, `sweep(..., folds=5)`."
            )
        inputs, targets = (a[self._held] for a in self._pool)
        return self._means(state, inputs, targets, jnp.asarray(self._weight))

    def test(self, state: SupervisedState) -> Metrics:
        """Means over the test data; only the final score asks for them."""
        if self._parts.test is None:
            raise ValueError("`Supervised(test=...)` must be given to score on it, got None.")
        inputs, targets = map(jnp.asarray, self._parts.test)
        return self._means(state, inputs, targets, jnp.ones(len(inputs), jnp.float32))

    def weights(self, state: SupervisedState) -> tuple[Any, Any]:
        """Parameters and the rest (batch statistics), which ``Averaged`` averages."""
        return state.params, state.rest

    def with_weights(self, state: SupervisedState, weights: tuple[Any, Any]) -> SupervisedState:
        """The state with other ``weights``."""
        params, rest = weights
        return state._replace(params=params, rest=rest)

    def fold(self, index: int, folds: int) -> Supervised:
        """Trains on all data but every ``folds``-th row of a fixed shuffle, evaluates on those."""
        samples = len(self._pool[0])
        if not 2 <= folds <= samples:
            raise ValueError(
                f"`fold(folds=...)` must be from 2 to the {samples} samples, got {folds}."
            )
        order = shuffled(samples, samples, 0, 0, 1)[0]
        held = order[index::folds]
        most = -(-samples // folds)
        rest = np.setdiff1d(order, held)[: samples - most]  # all folds train on equally many
        if self._parts.batch_size > len(rest):
            raise ValueError(
                f"`Supervised(batch_size=...)` must be at most the {len(rest)} samples that "
                f"{folds} folds leave to train on, got {self._parts.batch_size}."
            )
        weight = np.zeros(most, np.float32)
        weight[: len(held)] = 1.0
        return self._with(rest.astype(np.int32), np.resize(held, most).astype(np.int32), weight)

    def everything(self) -> Supervised:
        """Trains on training and validation data together, and evaluates on the same."""
        rows = np.arange(len(self._pool[0]), dtype=np.int32)
        return self._with(rows, rows, np.ones(len(rows), np.float32))

    def _with(self, rows: Any, held: Any, weight: Any) -> Supervised:
        other = copy.copy(self)
        other._rows, other._held, other._weight = rows, held, weight
        return other

    def _means(self, state: SupervisedState, inputs: Any, targets: Any, weight: Any) -> Metrics:
        outputs, _ = self._parts.apply(state.params, state.rest, inputs, False)
        wanted = {"loss": self._parts.loss, **self._parts.metrics}
        values = {name: _per_sample(name, f, outputs, targets) for name, f in wanted.items()}
        total = jnp.sum(weight)
        return {name: jnp.sum(weight * value) / total for name, value in values.items()}


def accuracy(outputs: Any, targets: Any) -> jax.Array:
    """1 where the largest of ``outputs`` [..., classes] is at the label ``targets`` [...], else 0.

    >>> import jax.numpy as jnp
    >>> from jaxsched.search import accuracy
    >>> accuracy(jnp.array([[0.1, 0.9], [0.8, 0.2]]), jnp.array([1, 1])).tolist()
    [1.0, 0.0]
    """
    return (jnp.argmax(outputs, axis=-1) == targets).astype(jnp.float32)


# ---------------------------------------------------------------------------------------- details


class _Parts(NamedTuple):
    """What of a task is no array; one object for all its folds, so they share compiled programs."""

    init: Callable[[Any], Any]  # key -> params, rest
    apply: Callable[[Any, Any, Any, bool], Any]  # params, rest, inputs, train -> outputs, rest
    optimizer: Callable[..., optax.GradientTransformation]
    loss: PerSample
    batch_size: int
    metrics: dict[str, PerSample]
    test: Arrays | None

    def __hash__(self) -> int:
        return id(self)

    def __eq__(self, other: object) -> bool:
        return self is other

    def __ne__(self, other: object) -> bool:
        return self is not other


def _flatten(task: Supervised) -> tuple[Any, Any]:
    return (task._pool, task._rows, task._held, task._weight), task._parts


def _unflatten(parts: Any, children: Any) -> Supervised:
    task = object.__new__(Supervised)
    task._parts = parts
    task._pool, task._rows, task._held, task._weight = children
    return task


jax.tree_util.register_pytree_node(Supervised, _flatten, _unflatten)


def _per_sample(name: str, f: PerSample, outputs: Any, targets: Any) -> jax.Array:
    values = jnp.asarray(f(outputs, targets), jnp.float32)
    if values.ndim < 1 or values.shape[0] != targets.shape[0]:
        raise TypeError(
            f"`Supervised({name}=...)` must return a value per sample, [{targets.shape[0]}, ...], "
            f"got shape {list(values.shape)}: leave the mean to the task."
        )
    return jnp.mean(values, axis=tuple(range(1, values.ndim)))
