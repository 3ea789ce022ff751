"""Sharpness: the largest curvature of the loss, and the rate that it allows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxsched._checks import MANY, checked_number, checked_whole
from jaxsched._types import PyTree


class Sharpness(NamedTuple):
    """The largest curvature, in magnitude; some eigenvalue lies within ``error`` of it."""

    value: jax.Array  # float32
    error: jax.Array  # float32


def sharpness(
    loss: Callable[[PyTree], ArrayLike],
    weights: PyTree,
    *,
    scale: PyTree | None = None,
    steps: int = 12,
    seed: int = 0,
) -> Sharpness:
    """The largest eigenvalue of the Hessian, by power iteration on Hessian-vector products.

    Args:
        loss: a function of the weights; an array of losses is averaged.
        weights: a tree of floating arrays.
        scale: None, or a tree of positive arrays like ``weights``: the optimizer's factors of the
            gradient, for Adam ``1 / (sqrt(nu_hat) + eps)``. The result is then the curvature of
            the preconditioned problem.
        steps: Hessian-vector products, at least 1, each about as costly as two gradients. It
            converges from below.
        seed: of the first direction.

    Returns:
        The estimate and the length of its residual: an eigenvalue is within it.

    >>> import jax.numpy as jnp
    >>> from jaxsched.controllers import sharpness
    >>> curvature = jnp.array([1.0, 2.0, 5.0])
    >>> top = sharpness(lambda w: 0.5 * jnp.sum(curvature * w**2), jnp.ones(3), steps=30)
    >>> round(float(top.value), 3)
    5.0
    """
    steps = checked_whole("sharpness(steps=...)", steps, 1, MANY)
    # An optimizer that scales the gradient by D descends as if the Hessian were D H, which is not
    # symmetric. sqrt(D) H sqrt(D) is symmetric and has the same eigenvalues, so the product v . Hv
    # estimates one, and some eigenvalue lies within the length of the residual.
    root = jax.tree.map(jnp.ones_like, weights) if scale is None else jax.tree.map(jnp.sqrt, scale)
    gradient = jax.grad(lambda w: jnp.mean(loss(w)))

    def product(v: PyTree) -> PyTree:
        inner = jax.tree.map(jnp.multiply, root, v)
        outer = jax.jvp(gradient, (weights,), (inner,))[1]
        return jax.tree.map(jnp.multiply, root, outer)

    tree: Any
    leaves, tree = jax.tree.flatten(weights)
    keys = jax.random.split(jax.random.key(seed), len(leaves))
    first = [jax.random.normal(k, x.shape, x.dtype) for k, x in zip(keys, leaves, strict=True)]

    def step(v: PyTree, _: None) -> tuple[PyTree, tuple[jax.Array, jax.Array]]:
        hv = product(v)
        top = _dot(v, hv)
        rest = jax.tree.map(lambda h, x: h - top.astype(x.dtype) * x, hv, v)
        return _unit(hv), (top, jnp.sqrt(_dot(rest, rest)))

    _, (tops, residuals) = jax.lax.scan(step, _unit(tree.unflatten(first)), None, steps)
    return Sharpness(tops[-1], residuals[-1])


def stability_limit(momentum: float = 0.0, *, ema: bool = False) -> float:
    r"""The limit of ``rate * sharpness`` below which gradient descent on a quadratic converges.

    :math:`2 (1 + \beta)` with a heavy ball (``optax.sgd(momentum=...)``), and
    :math:`2 (1 + \beta) / (1 - \beta)` where momentum is an average of gradients (``ema=True``:
    ``optax.adam``, with the sharpness that has Adam's ``scale``).

    >>> from jaxsched.controllers import stability_limit
    >>> stability_limit(), stability_limit(0.9), round(stability_limit(0.9, ema=True), 6)
    (2.0, 3.8, 38.0)
    """
    momentum = checked_number("stability_limit(momentum=...)", momentum, at_least=0, below=1)
    return 2.0 * (1.0 + momentum) / (1.0 - momentum if ema else 1.0)


def _dot(a: PyTree, b: PyTree) -> jax.Array:
    parts = [jnp.vdot(x, y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)]
    return jnp.sum(jnp.stack([jnp.asarray(p, jnp.float32) for p in parts]))


def _unit(v: PyTree) -> PyTree:
    length = jnp.sqrt(_dot(v, v))
    length = jnp.where(length > 0, length, 1.0)
    return jax.tree.map(lambda x: x / length.astype(x.dtype), v)
