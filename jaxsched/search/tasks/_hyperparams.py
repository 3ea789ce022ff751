"""An optimizer built anew in every update; its state follows its hyperparameters.

A factory may put values into the optimizer's *state* (``optax.inject_hyperparams``, ``js.inject``,
rates of groups). They are computed once, before any hyperparameter has a value, and would not
change later. So a leaf is computed again before every update if it depends on hyperparameters and
updates only hand it on. A leaf that updates change cannot be computed so: it is refused by its
path.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax.tree_util import PyTreeDef

from jaxsched._arrays import NEEDS_A_NUMBER, same_form
from jaxsched._types import OptState, PyTree
from jaxsched.optim._inject import Factory, Transformation, like_python_number
from jaxsched.search.tasks._dependence import flow, sources, union


def built(factory: Factory, hyperparams: Mapping[str, jax.Array]) -> Transformation:
    """``factory(**hyperparams)``, with values that promote as Python numbers do."""
    # Times a bfloat16 update, a rate leaves it bfloat16.
    values = {name: like_python_number(value) for name, value in hyperparams.items()}
    signature = inspect.signature(factory)
    try:
        signature.bind(**values)
    except TypeError as error:
        raise TypeError(
            f"Supervised(optimizer=...) must take the scheduled hyperparameters "
            f"{sorted(values)}: {error}. It takes {list(signature.parameters)}, each with a "
            "default or a value in every trial, a dict such as {'learning_rate': 0.1, 'b1': 0.9}."
        ) from None
    try:
        tx: Any = factory(**values)
    except NEEDS_A_NUMBER as error:
        raise _needs_known_values(values, error) from error
    except Exception as error:
        error.add_note(f"in Supervised(optimizer=...), called with {', '.join(sorted(values))}")
        raise
    if not callable(getattr(tx, "init", None)) or not callable(getattr(tx, "update", None)):
        raise TypeError(
            "Supervised(optimizer=...) must return an Optax optimizer, with the methods init and "
            f"update, got {type(tx).__name__}."
        )
    return tx


def unset(factory: Factory) -> dict[str, jax.Array]:
    """Zeros for the arguments without a default: values for ``init``, before there are others."""
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    parameters = inspect.signature(factory).parameters
    named = {name: p for name, p in parameters.items() if p.kind in kinds}
    if not named:
        raise TypeError(
            "Supervised(optimizer=...) must name the scheduled hyperparameters as its arguments, "
            "such as `lambda learning_rate: optax.adam(learning_rate)`, got a function of "
            f"({', '.join(map(str, parameters.values()))})."
        )
    return {name: jnp.zeros((), jnp.float32) for name, p in named.items() if p.default is p.empty}


def updated(
    factory: Factory,
    hyperparams: Mapping[str, jax.Array],
    opt_state: OptState,
    params: PyTree,
    update: Callable[[Transformation, OptState], tuple[PyTree, OptState]],
) -> tuple[PyTree, OptState]:
    """Updates and the new state of ``factory(**hyperparams)``; the state follows them.

    ``update`` is the update itself, ``optimizer, opt_state -> (updates, opt_state)``. Where a state
    has to follow it is traced twice; a state that can't follow is refused.
    """
    tx = built(factory, hyperparams)

    # Two jaxprs decide about each leaf of the state. The jaxpr of `init` shows the hyperparameters
    # in the leaf. The jaxpr of the update shows whether it hands the leaf on, and whether the
    # updates ever depend on it. `inject_hyperparams(sgd)` keeps the rate, and updates hand it on:
    # it is computed anew. Prodigy's first estimate is a hyperparameter that updates change: a later
    # value could not act, so it is refused. A list of the names of such wrappers would never be
    # complete.
    def init(hyperparams: Mapping[str, jax.Array], params: PyTree) -> OptState:
        return jax.tree.map(jnp.asarray, built(factory, hyperparams).init(params))

    try:
        traced, initial = jax.make_jaxpr(init, return_shape=True)(hyperparams, params)
    except NEEDS_A_NUMBER as error:
        raise _needs_known_values(hyperparams, error) from error
    _check_structure(initial, opt_state, hyperparams)
    count = len(hyperparams)
    made_of = flow(traced).reads  # bits: the hyperparameters in order of names, then `params`
    of_hyperparams = (1 << count) - 1
    own = [i for i, mask in enumerate(made_of) if mask & of_hyperparams]
    if not own:
        return update(tx, opt_state)
    traced, (updates, _) = jax.make_jaxpr(lambda s: update(tx, s), return_shape=True)(opt_state)
    after, outputs = flow(traced), len(jax.tree.leaves(updates))
    # A leaf that updates hand on, without a parameter in it, is the same whenever it is computed.
    handed_on = [i for i in own if after.same[outputs + i] == i and not made_of[i] >> count]
    structure: PyTreeDef
    paths, structure = jax.tree_util.tree_flatten_with_path(opt_state)
    # A leaf computed anew carries no earlier value, so nothing is followed through it.
    lasting = sources(union(after.reads[:outputs]), after.reads[outputs:], cut=handed_on)
    for i in own:
        if i not in handed_on and lasting >> i & 1:
            names = [name for k, name in enumerate(sorted(hyperparams)) if made_of[i] >> k & 1]
            raise ValueError(
                "Supervised(optimizer=...) must not keep a scheduled hyperparameter in its state "
                f"where updates change it: {', '.join(names)} is in the initial value of "
                f"opt_state{jax.tree_util.keystr(paths[i][0])}, and later values would have no "
                "effect. Fix it inside the function, or take an optimizer that reads it anew in "
                "each update."
            )
    leaves = [leaf for _, leaf in paths]
    fresh = jax.tree.leaves(tx.init(params))  # XLA drops the unused leaves
    for i in handed_on:
        leaves[i] = jnp.asarray(fresh[i]).astype(leaves[i].dtype)
    return update(tx, structure.unflatten(leaves))


def _check_structure(
    initial: OptState, opt_state: OptState, hyperparams: Mapping[str, jax.Array]
) -> None:
    """Raises if the state has another structure than with the optimizer's defaults."""
    if not same_form(initial, opt_state):
        raise TypeError(
            "Supervised(optimizer=...) must have a state of one structure, whichever "
            f"hyperparameters are scheduled, but that with {sorted(hyperparams)} is another than "
            "that of the function's defaults. Make what changes it an argument without a default."
        )


def _needs_known_values(hyperparams: Iterable[str], error: Exception) -> TypeError:
    return TypeError(
        "Supervised(optimizer=...) must compute with its hyperparameters as with arrays, since "
        f"one program serves all their values; got a function that needs to know "
        f"{' or '.join(sorted(hyperparams))} as a number, such as `float(...)` or `if` do "
        f"({type(error).__name__})."
    )
