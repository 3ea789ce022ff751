"""``Supervised``: the ready-made task for a model, data and an Optax optimizer."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.tree_util import GetAttrKey

from jaxsched._bounds import checked_kind
from jaxsched._checks import checked_whole
from jaxsched._types import OptState, PyTree
from jaxsched._words import known_arguments
from jaxsched.optim._extra import update
from jaxsched.optim._inject import Factory, Transformation
from jaxsched.search.tasks._batches import mean_of, shuffled
from jaxsched.search.tasks._functions import (
    Augment,
    PerSample,
    augment_of,
    check_order,
    metrics_of,
    per_sample,
)
from jaxsched.search.tasks._hyperparams import built, unset, updated
from jaxsched.search.tasks._models import Model, model_of
from jaxsched.search.tasks._pool import Pool, Split
from jaxsched.search.tasks._protocol import Metrics
from jaxsched.search.tasks._samples import Data, Sample, Samples, check_alike, samples_of

_AUGMENT = 0x617567  # "aug", in a key


class SupervisedState(NamedTuple):
    """The state of a ``Supervised`` task."""

    params: PyTree
    rest: PyTree  # the other variables of a Flax model: batch statistics, random keys
    opt_state: OptState


@known_arguments
class Supervised:
    """A model that learns targets from inputs, in mini-batches.

    Every epoch shuffles the training data anew; the order depends on the seed only. Inputs
    and targets are arrays, or trees of arrays (dicts, tuples, named tuples): a model is called with
    the whole tree, and so are the loss and the metrics.

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
            in every trace with traced scalars. Updates get ``value``, ``grad``, ``value_fn`` (the
            batch's loss, its gradient and the loss as a function of the parameters), ``obj_fn``
            (the same, for sophia) and ``grad_fn`` (for sam with ``opaque_mode``). The
            hyperparameters in the optimizer's state follow their schedules (``js.inject``,
            ``optax.inject_hyperparams``, ``group_lr``), or are refused. If a
            hyperparameter's presence changes the structure of the optimizer's state, make it an
            argument without a default.
        loss: ``loss(outputs, targets) -> [samples, ...]``, a value per sample, as Optax's losses.
        train: a pair (inputs, targets) with an axis of samples first in every leaf, or a source:
            anything with a length and items ``source[i]``, such pairs of one sample (a list,
            Grain's ``RandomAccessDataSource``); also a leaf may be one. Its length is believed: a
            missing item is a ``ValueError`` when a batch asks for it. Arrays of at most
            half the device's memory rest there; all else is read on the host, batch by batch.
        validation: the same; may be omitted for cross-validation, which pools it with ``train``.
            The evaluated data of a run (in a fold, its part) are on the device as a whole.
        test: the same; stays on the host until the final score.
        batch_size: rows seen by the model at once, at least 1.
        accumulation: micro-batches of one update, at least 1: their gradients and losses are
            averaged, in the memory of one. The rows are the same as in one batch ``accumulation``
            times as large, and so is the update if the model treats every sample by itself. Batch
            normalization takes each micro-batch's own statistics and moves the running ones once
            for each, in order; dropout draws a mask for each. A step stays an optimizer update.
        metrics: more values per sample, name -> ``metric(outputs, targets)``, averaged over the
            validation (and test) data, such as ``{"accuracy": js.search.accuracy}``.
        augment: ``augment(key, inputs) -> inputs`` or ``augment(key, inputs, targets) -> (inputs,
            targets)``, of a (micro-)batch in training, traced. The key depends on the seed and the
            step alone (and on the micro-batch), however a run is cut up, resumed or vectorized.

    Raises:
        ValueError: if leaves disagree in their number of samples, the batch is too large, or a
            metric has a reserved name.
        TypeError: if the model, the data, a metric or the augmentation is not one of the above.

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
        optimizer: Factory,
        loss: PerSample,
        *,
        train: Data,
        validation: Data | None = None,
        test: Data | None = None,
        batch_size: int = 32,
        accumulation: int = 1,
        metrics: dict[str, PerSample] | None = None,
        augment: Augment | None = None,
    ):
        data = [samples_of("train", train)]
        if validation is not None:
            data.append(samples_of("validation", validation))
        tested = None if test is None else samples_of("test", test)
        pool = Pool(data)
        if tested is not None and tested.has_form:  # nothing is read before the final score
            check_alike(tested.sample, pool.sample)
        batch_size = checked_whole("Supervised(batch_size=...)", batch_size, 1)
        accumulation = checked_whole("Supervised(accumulation=...)", accumulation, 1)
        _check_fits(batch_size, accumulation, data[0].length, "training samples")
        wanted = "a function of the scheduled hyperparameters"
        such = ", such as `lambda learning_rate: optax.adam(learning_rate)`"
        checked_kind("Supervised(optimizer=...)", optimizer, Callable, wanted + such)
        check_order(loss, optimizer)
        on_device = pool.fits
        self._static = _Static(
            model_of(model, lambda: data[0].tree(np.zeros(1, int))[0]),
            optimizer,
            loss,
            batch_size,
            accumulation,
            metrics_of(metrics),
            None if augment is None else augment_of(augment),
            tested,
            pool.sample,
            pool.length,
            None if on_device else pool,
        )
        # One pool of data for training and validation. If data are read on the host, only the
        # evaluated rows go to the device, once they are needed.
        self._data = pool.on_device() if on_device else None
        self._split = Split.of(data[0].length, pool.length - data[0].length)

    def __repr__(self) -> str:
        split = self._split
        return f"Supervised({len(split.train)} train, {len(split.validation)} validation)"

    def init(self, key: jax.Array) -> SupervisedState:
        """Parameters and optimizer state; see ``Task.init``."""
        params, rest = self._static.model.init(key)
        factory = self._static.optimizer
        opt_state = built(factory, unset(factory)).init(params)
        if isinstance(opt_state, optax.LookaheadState):
            raise ValueError(
                "Supervised(optimizer=...) must update the parameters themselves, got "
                "optax.lookahead, which keeps fast and slow ones (optax.LookaheadParams). Train it "
                "in a task of your own."
            )
        return SupervisedState(params, rest, opt_state)

    def batches(self, seed: int, start: int, length: int) -> PyTree:
        """The rows or data of each update; see ``Task.batches``.

        Rows of the data on the device, int32 [length, batch_size], or [length, accumulation,
        batch_size]; or the data themselves, (inputs, targets), if they are read on the host. With
        ``augment`` also the numbers of its key, under "seed" and "step", uint32 [length].
        """
        static, rows = self._static, np.asarray(self._split.train)
        size = static.batch_size * static.accumulation
        drawn = rows[shuffled(len(rows), size, seed, start, length)]
        if static.accumulation > 1:
            drawn = drawn.reshape(length, static.accumulation, static.batch_size)
        data = drawn if static.source is None else static.source.read(drawn)
        if static.augment is None:
            return data
        steps = np.arange(start, start + length, dtype=np.uint32)
        return {"data": data, "seed": np.full(length, seed, np.uint32), "step": steps}

    def step(
        self, state: SupervisedState, hyperparams: dict[str, jax.Array], batch: PyTree
    ) -> tuple[SupervisedState, Metrics]:
        """One update on its row of ``batches``; see ``Task.step``."""
        static = self._static
        micro = self._micro_batches(batch)

        def loss_of(params: PyTree, rest: PyTree, micro: PyTree) -> tuple[jax.Array, PyTree]:
            inputs, targets = self._read(*micro)
            outputs, rest = static.model.apply(params, rest, inputs, True)
            return jnp.mean(per_sample("loss=...", static.loss, outputs, targets)), rest

        # The rest comes first, as the carry of a scan: each micro-batch begins with the batch
        # statistics and the random key of the one before.
        def with_gradient(rest: PyTree, micro: PyTree) -> tuple[PyTree, PyTree]:
            gradient_of = jax.value_and_grad(loss_of, has_aux=True)
            (loss, rest), gradient = gradient_of(state.params, rest, micro)
            return rest, (loss, gradient)

        mean = partial(mean_of, rest=state.rest, micro=micro, count=static.accumulation)

        # Optax's line searches refuse extras that neither they nor their value_fn take. Without the
        # checkpoint the gradient of `value_fn` would keep the activations of all micro-batches.
        def value_fn(params: PyTree, obj_fn: object = None, grad_fn: object = None) -> jax.Array:
            return mean(jax.checkpoint(lambda *given: loss_of(params, *given)[::-1]))[1]

        rest, (loss, gradient) = mean(with_gradient)
        extra = {"value": loss, "grad": gradient, "value_fn": value_fn, "obj_fn": value_fn}
        extra["grad_fn"] = lambda params, _: jax.grad(value_fn)(params)

        def apply(tx: Transformation, opt_state: OptState) -> tuple[PyTree, OptState]:
            return update(tx, gradient, opt_state, state.params, **extra)

        made_by, params = static.optimizer, state.params
        updates, opt_state = updated(made_by, hyperparams, state.opt_state, params, apply)
        after = SupervisedState(optax.apply_updates(params, updates), rest, opt_state)
        return after, {"loss": loss}

    def evaluate(self, state: SupervisedState) -> Metrics:
        """Means over the validation data; see ``Task.evaluate``."""
        if not len(self._split.validation):
            raise ValueError(
                "Supervised(validation=...) must be given to evaluate, got None; "
                "or cross-validate, `sweep(..., folds=5)`."
            )
        return self._means(state, self._evaluated(), jnp.asarray(self._split.weight))

    def test(self, state: SupervisedState) -> Metrics:
        """Means over the test data; only the final score asks for them."""
        tested = self._static.test
        if tested is None:
            raise ValueError("Supervised(test=...) must be given to score on it, got None.")
        check_alike(tested.sample, self._static.sample)
        data = jax.tree.map(jnp.asarray, tested.tree())
        return self._means(state, data, jnp.ones(tested.length, jnp.float32))

    def model(self, state: SupervisedState) -> Any:
        """The trained model in evaluation mode, as its library has it.

        For Flax NNX the ``nnx.Module``, after ``.eval()``; for Linen the bound module (``unbind()``
        returns the module and its variables); for ``(init, apply)`` the function of the inputs. It
        shares nothing with the task: train it on with ``nnx.Optimizer`` as any other.

        Args:
            state: from a step, or from ``final_score(...).states``.

        Raises:
            TypeError: for a state of another task.

        >>> import jax, jax.numpy as jnp, numpy as np, optax
        >>> from jaxsched.search import Supervised
        >>> x = np.ones((4, 1), np.float32)
        >>> task = Supervised(
        ...     (lambda key: jnp.ones((1, 1)), lambda w, x: x @ w), optax.sgd, optax.squared_error,
        ...     train=(x, x), batch_size=2)
        >>> task.model(task.init(jax.random.key(0)))(x[:1]).tolist()
        [[1.0]]
        """
        checked_kind("Supervised.model(state=...)", state, SupervisedState, "a state of this task")
        return self._static.model.trained(state.params, state.rest)

    def weights(self, state: SupervisedState) -> PyTree:
        """Parameters and the rest (batch statistics), which ``Averaged`` averages."""
        return state.params, state.rest

    def with_weights(self, state: SupervisedState, weights: PyTree) -> SupervisedState:
        """The state with other ``weights``."""
        params, rest = weights
        return state._replace(params=params, rest=rest)

    def fold(self, index: int, folds: int) -> Supervised:
        """Evaluates on every ``folds``-th row of a fixed shuffle, trains on all other rows."""
        static, samples = self._static, self._static.samples
        if not 2 <= folds <= samples:
            raise ValueError(
                f"fold(folds=...) must be from 2 to the {samples} samples, got {folds}."
            )
        split = Split.fold(samples, index, folds)
        what = f"samples that {folds} folds leave to train on"
        _check_fits(static.batch_size, static.accumulation, len(split.train), what)
        return self._with_split(split)

    def everything(self) -> Supervised:
        """Trains on training and validation data together, and evaluates on the same.

        If data are read on the host, it evaluates on a fixed draw of at most 4096.
        """
        static = self._static
        return self._with_split(Split.everything(static.samples, static.source is not None))

    def _with_split(self, split: Split) -> Supervised:
        other = copy.copy(self)
        other._split = split
        return other

    def _evaluated(self) -> PyTree:
        """The evaluated data of a run; of a source, an argument of a program, or read now."""
        source, rows = self._static.source, self._split.validation
        if source is None:
            return jax.tree.map(lambda x: x[rows], self._data)
        return source.held(rows) if self._data is None else self._data

    def _micro_batches(self, batch: PyTree) -> tuple[PyTree, jax.Array | None]:
        """(data or rows, key): one, or with an axis of micro-batches."""
        static = self._static
        if static.augment is None:
            return batch, None
        # A stream of its own: models fold small numbers into the seed's key.
        key = jax.random.fold_in(jax.random.key(batch["seed"]), _AUGMENT)
        key = jax.random.fold_in(key, batch["step"])
        if static.accumulation > 1:
            key = jax.vmap(partial(jax.random.fold_in, key))(jnp.arange(static.accumulation))
        return batch["data"], key

    def _read(self, batch: PyTree, key: jax.Array | None) -> tuple[PyTree, PyTree]:
        """Inputs and targets of a micro-batch as the model is trained on them."""
        static = self._static
        data = batch if static.source is not None else jax.tree.map(lambda x: x[batch], self._data)
        return data if static.augment is None else static.augment(key, *data)

    def _means(self, state: SupervisedState, data: PyTree, weight: jax.Array) -> Metrics:
        """The means of loss and metrics over samples, each with its weight."""
        static, (inputs, targets) = self._static, data
        outputs, _ = static.model.apply(state.params, state.rest, inputs, False)
        values = {"loss": per_sample("loss=...", static.loss, outputs, targets)}
        for name, metric in static.metrics.items():
            where = f"metrics={{{name!r}: ...}}"
            values[name] = per_sample(where, metric, outputs, targets)
        total = jnp.sum(weight)
        return {name: jnp.sum(weight * value) / total for name, value in values.items()}


@dataclasses.dataclass(frozen=True, eq=False)
class _Static:
    """The parts of a task except its arrays.

    All folds hold one object, which equals itself only: so they share compiled programs, and two
    tasks made of equal functions do not.
    """

    model: Model
    optimizer: Factory
    loss: PerSample
    batch_size: int
    accumulation: int
    metrics: dict[str, PerSample]
    augment: Augment | None
    test: Samples | None
    sample: Sample
    samples: int  # of training and validation
    source: Pool | None  # of data read on the host


def _check_fits(batch_size: int, accumulation: int, samples: int, what: str) -> None:
    """Raises if an update reads more samples than there are."""
    if batch_size * accumulation <= samples:
        return
    if accumulation == 1:
        raise ValueError(
            f"Supervised(batch_size=...) must be at most the {samples} {what}, got {batch_size}."
        )
    raise ValueError(
        f"Supervised(batch_size=..., accumulation=...) must read at most the {samples} {what} in "
        f"an update, got {batch_size} * {accumulation} = {batch_size * accumulation}."
    )


def _flatten(task: Supervised) -> tuple[tuple[tuple[GetAttrKey, PyTree], ...], _Static]:
    # Data and rows are arguments of the programs, not constants: so all folds are one program, and
    # differ in the numbers of their rows. If data are read on the host, only the evaluated rows are
    # arguments, kept for the next flattening (`Pool.held`); the rest is in the batches.
    data = task._data if task._static.source is None else task._evaluated()
    return ((GetAttrKey("data"), data), (GetAttrKey("split"), task._split)), task._static


def _unflatten(static: _Static, children: Iterable[PyTree]) -> Supervised:
    task = object.__new__(Supervised)
    task._static = static
    task._data, task._split = children
    return task


jax.tree_util.register_pytree_with_keys(Supervised, _flatten, _unflatten)
