"""Whether a loss compares each sample with its own target, and not with the targets of all samples.

Outputs [n, 1] minus targets [n] are [n, n], without an error, and a mean over the last axis hides
the wrong shape. A trace with more targets than outputs shows the mistake: a loss that works sample
by sample refuses it.

With a batch of 32, ``(outputs - targets) ** 2`` of outputs [32, 1] and targets [32] is [32, 32];
the mean over its last axis is [32], one value per sample, each over all targets. With outputs
[64, 1] and targets [96] the trace gives [64, 96], but a loss by pairs fails: the lengths differ.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal
from jax.typing import ArrayLike

from jaxsched._text import shorten
from jaxsched._types import PyTree
from jaxsched.search._fingerprint import aval_of, opened
from jaxsched.search.tasks._dependence import called_by


def check_not_paired(
    argument: str,
    f: Callable[..., ArrayLike],
    outputs: PyTree,
    targets: PyTree,
    shape: tuple[int, ...],
) -> None:
    """Fails where broadcasting compares every sample with every other; ``f`` returned ``shape``.

    An intended one (a contrastive loss) has matrix products, or axes of its own.
    """
    samples = shape[0]
    given = [jnp.shape(leaf)[1:] for leaf in jax.tree.leaves((outputs, targets))]
    sizes = {samples, *itertools.chain(*given)}
    # Multiples, for a function that splits a batch into parts; and no length of another axis.
    some, others = itertools.islice(
        (n for n in itertools.count(samples, samples) if n not in sizes), 2
    )

    def traced(of_outputs: int, of_targets: int) -> ClosedJaxpr:
        sized = _resized(outputs, samples, of_outputs), _resized(targets, samples, of_targets)
        return jax.make_jaxpr(lambda *given: jnp.asarray(f(*given)))(*sized)

    paired = False
    # An axis of classes may be as long as the batch; another batch length shows which is which.
    coincides = any(samples in axes for axes in given)
    if coincides or len(shape) > 1:
        try:
            paired = traced(some, some).out_avals[0].shape[1:] != shape[1:]
        except Exception as error:
            if coincides:
                raise TypeError(
                    f"Supervised({argument}) must take any number of samples, got a function that "
                    f"takes {samples}, of outputs {shapes(outputs)} and targets {shapes(targets)}, "
                    f"and not {some}: another axis is as long by chance, and is taken for that of "
                    "the samples."
                ) from error
    if not paired and any(1 in axes for axes in given):
        try:
            both = traced(some, others)
        except Exception:  # as it should be
            return
        paired = _stretched(both, [1 in x.shape[1:] for x in both.in_avals], {some, others})[0]
    if paired:
        raise TypeError(
            f"Supervised({argument}) must take each sample with its own target, got every sample "
            f"with every other, of outputs {shapes(outputs)} and targets {shapes(targets)}: give "
            "both one shape, such as targets `y[:, None]` or outputs `[..., 0]`. Where all pairs "
            "are meant, write both axes and their mean, such as `outputs[:, None] - targets[None]`."
        )


def _resized(tree: PyTree, samples: int, other: int) -> PyTree:
    def resized(leaf: ArrayLike) -> jax.ShapeDtypeStruct:
        axes = jnp.shape(leaf)
        axes = (other, *axes[1:]) if axes[:1] == (samples,) else axes
        return jax.ShapeDtypeStruct(axes, jax.typeof(leaf).dtype)

    return jax.tree.map(resized, tree)


def _stretched(
    closed: ClosedJaxpr | Jaxpr, given: Sequence[bool], both: set[int]
) -> tuple[bool, list[bool]]:
    """Whether a given axis of length 1 is broadcast to samples, and another one to other samples.

    Also returns, for each output, whether it still has such an axis: elementwise operations hand it
    on. An axis made by the function (``x[:, None]``) is intended.
    """
    jaxpr = opened(closed)
    has = dict(zip(jaxpr.invars, given, strict=True))
    stretched = False
    for eqn in jaxpr.eqns:
        mine = [x for x in eqn.invars if not isinstance(x, Literal) and has.get(x)]
        if (called := called_by(eqn)) is not None:
            inside, after = _stretched(called, [x in mine for x in eqn.invars], both)
            stretched |= inside
        else:
            seen, made = ([aval_of(x).shape for x in some] for some in (mine, eqn.outvars))
            after = [any(x == y for x in seen) for y in made]
            # A matrix product of samples with samples is intended, as in contrastive losses.
            stretched |= eqn.primitive.name != "dot_general" and any(
                both <= set(y) and _broadcasts(x, y) for x in seen for y in made
            )
        has.update(zip(eqn.outvars, after, strict=True))
    return stretched, [not isinstance(x, Literal) and has.get(x, False) for x in jaxpr.outvars]


def _broadcasts(axes: Sequence[int], wider: Sequence[int]) -> bool:
    return (
        len(axes) == len(wider)
        and axes != wider
        and all(map(lambda n, m: n in (1, m), axes, wider))
    )


def shapes(tree: PyTree) -> str:
    """Dtypes and shapes of a tree, for a message."""
    shown = jax.tree.map(lambda x: f"{x.dtype}{list(x.shape)}", tree)
    return shown if isinstance(shown, str) else shorten(str(shown))
