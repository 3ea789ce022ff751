"""How a reported metric is read: which way is better, by how much, and the meaning of NaN."""

from __future__ import annotations

import abc
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxsched._double import as_double
from jaxsched._types import Leaf, PyTree
from jaxsched.controllers._numbers import flag, next_count, number32, scalar, zero
from jaxsched.controllers._scaler import AbstractScaler


def _read(
    where: str, value: Leaf, reported: Leaf, mode: str, nan: str
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """A report: its metric (smaller is better); whether it counts; whether it is broken.

    NaN is broken: see ``nan``. So is an infinitely *good* metric, except with ``"bad"``, the rule
    of the other libraries: there it stays the best for good. The value is never NaN.
    """
    value = sign(mode) * scalar(where, value, ": take its mean first")
    arrived = flag(where.replace("value=", "reported="), reported)
    broken = arrived & (jnp.isnan(value) if nan == "bad" else ~(value > -jnp.inf))
    # As the worst value, a broken metric passes through sums and comparisons without a NaN.
    value = jnp.where(broken, jnp.inf, value)
    return value, arrived & ~broken if nan == "ignore" else arrived, broken


def improves(value: jax.Array, best: jax.Array, rtol: Leaf, atol: Leaf) -> jax.Array:
    """Whether ``value`` is below ``best`` by more than ``rtol * |best| + atol``.

    With ``best * (1 - rtol)`` instead, which is above a negative best, a constant negative metric
    would improve for ever. Everything improves on infinity.
    """
    known = jnp.isfinite(best)  # infinity minus a margin of itself would be NaN
    anchor = jnp.where(known, best, 0.0)
    limit = anchor - (rtol * jnp.abs(anchor) + atol)
    return jnp.where(known, value < limit, value < best)


class Evaluation(NamedTuple):
    """The mean of several reports, such as micro-batches; with ``smooth``, an average of means."""

    total: jax.Array  # float32 ()
    reports: jax.Array  # int32 ()
    # () or, with `smooth`, float32 ()
    average: PyTree = ()  # in the metric's own sign
    weight: PyTree = ()  # how many evaluations the average is worth

    def add(
        self, value: jax.Array, arrived: jax.Array, size: Leaf
    ) -> tuple[jax.Array, jax.Array, Evaluation]:
        """The mean so far, whether it is complete (``size`` reports), and the new evaluation."""
        total, reports = self.total + value, next_count(self.reports)
        ready = arrived & (number32(reports) >= size)
        after = self._replace(
            total=jnp.where(ready, 0.0, total), reports=jnp.where(ready, 0, reports)
        )
        evaluation = jax.tree.map(lambda new, old: jnp.where(arrived, new, old), after, self)
        return total / number32(reports), ready, evaluation

    def smoothed(
        self, value: jax.Array, ready: jax.Array, keep: Leaf, way: float
    ) -> tuple[jax.Array, Evaluation]:
        """The average after ``value`` where it is ``ready``; smaller is better.

        An infinite value is judged as it is: it would stay in the average for good.
        """
        # With keep = 0.9 the weights are 1, 1.9, 2.71, ... up to 10, so the shares of a new
        # evaluation are 1, 0.53, 0.37, ... down to 0.1: the first one is the average, and no bias
        # towards 0 has to be divided out.
        # Exact products, rounded once: XLA may contract a float32 product with a sum or not, and
        # the bits would depend on the surrounding program.
        weight = (as_double(self.weight) * keep + 1.0).hi
        new = 1.0 / as_double(weight)
        average = (as_double(way * self.average) * (1.0 - new) + as_double(value) * new).hi
        known = ready & jnp.isfinite(value)
        evaluation = self._replace(
            average=jnp.where(known, way * average, self.average),
            weight=jnp.where(known, weight, self.weight),
        )
        return jnp.where(known, average, value), evaluation


class AbstractEvaluator(AbstractScaler):
    """A scaler that watches one metric, ``value``; the mean of ``accumulate`` reports is judged.

    A subclass has the fields ``accumulate``, ``smooth``, ``mode`` and ``nan``, a ``State`` with
    ``seen`` and ``evaluation``, ``init`` and ``judge``.
    """

    accumulate: Leaf
    mode: str
    nan: str
    smooth: Leaf

    def first_state(self, **others: PyTree) -> PyTree:
        smooth = () if self.smooth is None else (zero(), zero())
        evaluation = Evaluation(zero(), zero(jnp.int32), *smooth)
        return super().first_state(evaluation=evaluation, **others)

    def react(
        self, state: PyTree, *, value: Leaf = None, reported: Leaf = True, **extra: object
    ) -> PyTree:
        if value is None:
            return state
        where = f"{type(self).__name__}.update(value=...)"
        metric, arrived, broken = _read(where, value, reported, self.mode, self.nan)
        mean, ready, evaluation = state.evaluation.add(metric, arrived, self.accumulate)
        if self.smooth is not None:
            mean, evaluation = evaluation.smoothed(mean, ready, self.smooth, sign(self.mode))
        told = state._replace(seen=count_if(arrived, state.seen), evaluation=evaluation)
        return self.judge(told, mean, ready, broken)

    @abc.abstractmethod
    def judge(self, state: PyTree, mean: jax.Array, ready: jax.Array, broken: jax.Array) -> PyTree:
        """The state after a report; smaller is better, and the mean counts where it is ``ready``.

        ``broken``: NaN was reported.
        """


def worst(mode: str) -> jax.Array:
    """The metric on which anything improves."""
    return jnp.full((), jnp.inf if mode == "min" else -jnp.inf, jnp.float32)


def sign(mode: str) -> float:
    """The factor that makes smaller better, and back."""
    return 1.0 if mode == "min" else -1.0


def count_if(happened: jax.Array, count: jax.Array) -> jax.Array:
    return jnp.where(happened, next_count(count), count)
