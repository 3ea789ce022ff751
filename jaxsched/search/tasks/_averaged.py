"""``Averaged``: a task that also shows the metrics of the averaged weights."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, NamedTuple, TypeAlias, cast

import jax
import jax.numpy as jnp
from jax.tree_util import GetAttrKey

from jaxsched._checks import checked_number, checked_whole
from jaxsched._text import describe
from jaxsched._types import PyTree
from jaxsched._words import known_arguments
from jaxsched.controllers import Average
from jaxsched.search.tasks._protocol import Metrics, State, Task
from jaxsched.search.tasks._returned import AVERAGED, check_metrics

_How: TypeAlias = tuple[int | None, float | None]  # window, decay


class AveragedState(NamedTuple):
    """The state of an ``Averaged`` task."""

    state: State  # of the inner task
    average: Average  # of its weights


@known_arguments
class Averaged:
    """Any task, with a running average of its weights; every metric is shown for both.

    ``evaluate`` and ``test`` return the metrics of the inner task, and each of them again as
    ``"averaged <name>"``, measured with the averaged weights: ``sweep(Averaged(task, window=100),
    trials, metric="averaged loss")``. Training is the inner task's own (at width 1, bit for
    bit). It costs a sum for each update, a float32 copy of the weights and a second evaluation.

    ``task.weights(state)`` returns the weights, and ``task.with_weights(state, weights)`` a state
    with others; ``Supervised`` has both, for its parameters and batch statistics. Without them the
    whole state is averaged. Leaves of integers and keys are the latest ones.

    Args:
        task: the inner task. The result has ``batches``, ``fold``, ``everything`` and ``test`` if
            it has them.
        window: the mean over the updates since the last multiple of ``window``, a whole number of
            at least 1. After a multiple of it, this is the mean over the last ``window`` updates.
        decay: or an exponential moving average without the bias of its start, over about
            ``1 / (1 - decay)`` updates; at least 0 and below 1.

    Raises:
        TypeError: if ``task`` is not a task, or has only one of ``weights`` and ``with_weights``.
        ValueError: unless exactly one of ``window`` and ``decay`` is given, in its bounds.

    >>> import jax.numpy as jnp, numpy as np, optax, jaxsched as js
    >>> from jaxsched.search import Averaged, Supervised, sweep
    >>> x = np.linspace(-1, 1, 64, dtype=np.float32)[:, None]
    >>> y = 3 * x + np.sin(99 * x)  # a large rate follows the noise
    >>> task = Supervised(
    ...     (lambda key: jnp.zeros((1, 1)), lambda w, x: x @ w), optax.sgd, optax.squared_error,
    ...     train=(x, y), validation=(x, y), batch_size=4)
    >>> result = sweep(Averaged(task, window=160), [js.Constant(0.5)], steps=320)
    >>> bool(result.final("averaged loss") < result.final("loss"))
    True
    """

    def __init__(self, task: Task, *, window: int | None = None, decay: float | None = None):
        if not isinstance(task, Task) or isinstance(task, type):
            raise TypeError(
                "Averaged(task=...) must be a task with the methods init, step and evaluate, "
                f"got {describe(task)}."
            )
        if len(_weight_methods(task)) == 1:
            raise TypeError(
                "Averaged(task=...) must have both of the methods weights and with_weights, or "
                f"none, got {task!r}."
            )
        if (window is None) == (decay is None):
            raise ValueError(
                "Averaged(window=..., decay=...) must be given exactly one of the two, "
                f"got {window} and {decay}."
            )
        if decay is not None:
            decay = float(checked_number("Averaged(decay=...)", decay, at_least=0, below=1))
        if window is not None:
            window = checked_whole("Averaged(window=...)", window, 1)
        self.task: Any = task
        self.window: int | None = window
        self.decay: float | None = decay

    def __repr__(self) -> str:
        how = f"window={self.window}" if self.decay is None else f"decay={self.decay:g}"
        return f"Averaged({self.task!r}, {how})"

    def init(self, key: jax.Array) -> AveragedState:
        """The inner task's state, and the average, which is its weights until the first update."""
        state = jax.tree.map(jnp.asarray, self.task.init(key))  # dtypes are looked at
        weights = self._weights(state)
        # `add` makes the weights the mean, and `restart` sets the count back and leaves the mean:
        # an evaluation before any update sees the weights, and the first update replaces them.
        return AveragedState(state, Average.start(weights).add(weights).restart())

    def step(
        self, state: AveragedState, hyperparams: dict[str, jax.Array], batch: PyTree
    ) -> tuple[AveragedState, Metrics]:
        """One update of the inner task; the new weights are added to the average."""
        after, metrics = self.task.step(state.state, hyperparams, batch)
        average = state.average
        # A full window is emptied before the next update is added, not after the last one: with a
        # window of 100, an evaluation after update 200 sees the mean of 100 updates, not of none.
        if self.window is not None:
            average = average.restart(average.steps == self.window)
        return AveragedState(after, average.add(self._weights(after), decay=self.decay)), metrics

    def evaluate(self, state: AveragedState) -> Metrics:
        """The inner task's metrics for its weights, and for their average."""
        return self._of_both_weights("evaluate", self.task.evaluate, state)

    def averaged(self, state: AveragedState) -> State:
        """The inner task's state with the averaged weights, in their own dtypes."""
        mean = state.average.like(self._weights(state.state))
        return self.task.with_weights(state.state, mean) if _weight_methods(self.task) else mean

    # Optional methods. If the inner task lacks one, its property raises an AttributeError, so
    # `hasattr` is False, or is `None` like the inner one: a sweep checks for both.

    @property
    def batches(self) -> Callable[[int, int, int], PyTree]:
        """As the inner task's."""
        return self.task.batches

    @property
    def fold(self) -> Callable[[int, int], Averaged]:
        """As the inner task's, averaged."""
        return self.task.fold and partial(self._averaged_around, self.task.fold)

    @property
    def everything(self) -> Callable[[], Averaged]:
        """As the inner task's, averaged."""
        return self.task.everything and partial(self._averaged_around, self.task.everything)

    @property
    def test(self) -> Callable[[AveragedState], Metrics]:
        """The inner task's test metrics for its weights, and for their average."""
        return self.task.test and partial(self._of_both_weights, "test", self.task.test)

    @property
    def updates_per_step(self) -> int:
        """As the inner task's."""
        return cast(int, self.task.updates_per_step)

    @property
    def model(self) -> Callable[[AveragedState], Any]:
        """The inner task's model, with the averaged weights."""
        inner = self.task.model
        return lambda state: inner(self.averaged(state))

    def _weights(self, state: State) -> PyTree:
        return self.task.weights(state) if _weight_methods(self.task) else state

    def _of_both_weights(
        self, method: str, measure: Callable[[State], Metrics], state: AveragedState
    ) -> Metrics:
        """The metrics of the weights, and under other names the metrics of their average."""
        metrics = measure(state.state)
        check_metrics(metrics, "Averaged", method)
        averaged = {f"{AVERAGED}{k}": v for k, v in measure(self.averaged(state)).items()}
        if both := sorted(averaged.keys() & metrics.keys()):
            raise ValueError(f"Averaged(task=...) must not have the metrics {both} itself.")
        return {**metrics, **averaged}

    def _averaged_around(self, method: Callable[..., Task], *arguments: int) -> Averaged:
        return Averaged(method(*arguments), window=self.window, decay=self.decay)


def _weight_methods(task: Task) -> list[str]:
    """The methods with which a task names its weights: two or none."""
    return [m for m in ("weights", "with_weights") if callable(getattr(task, m, None))]


# The arrays of the inner task are arguments of the programs here, too, so all averaged folds share
# one. A task rebuilt from traced arrays is not checked again: hence no constructor.
def _flatten(task: Averaged) -> tuple[tuple[tuple[GetAttrKey, Task]], _How]:
    return ((GetAttrKey("task"), task.task),), (task.window, task.decay)


def _unflatten(how: _How, children: Iterable[Task]) -> Averaged:
    task = object.__new__(Averaged)
    (task.task,) = children
    task.window, task.decay = how
    return task


jax.tree_util.register_pytree_with_keys(Averaged, _flatten, _unflatten)
