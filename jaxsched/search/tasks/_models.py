"""The models that ``Supervised`` takes: Flax NNX, Flax Linen, or a pair of functions."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import sys
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp

from jaxsched._text import shorten
from jaxsched._types import PyTree

_Two: TypeAlias = tuple[PyTree, PyTree]
_Made: TypeAlias = "tuple[Callable[..., Model], tuple[object, ...]]"  # function, arguments


class Model(NamedTuple):
    """A model as three functions."""

    init: Callable[[jax.Array], _Two]  # key -> params, rest
    apply: Callable[[PyTree, PyTree, PyTree, bool], _Two]  # and inputs, train -> outputs, rest
    trained: Callable[[PyTree, PyTree], Any]  # params, rest -> the user's own kind of model
    made: _Made

    def __reduce__(self) -> _Made:
        return self.made  # the functions above are closures, which pickle does not take


def model_of(model: Any, inputs: Callable[[], PyTree]) -> Model:
    """The functions of the model that a user gave; ``inputs`` returns a batch of one."""
    linen = sys.modules.get("flax.linen")  # a Linen module: it was imported
    if linen is not None and isinstance(model, linen.Module):
        return _linen_model(model, inputs())
    if linen is not None and isinstance(model, type) and issubclass(model, linen.Module):
        raise TypeError(
            "Supervised(model=...) must be a Flax Linen module, got the class "
            f"{model.__name__}: give `{model.__name__}(...)`."
        )
    if isinstance(model, tuple) and len(model) == 2 and all(map(callable, model)):
        return _pair_model(*model)
    nnx = sys.modules.get("flax.nnx")
    if nnx is not None and callable(model) and not isinstance(model, nnx.Module):
        return _nnx_model(model)
    name = "" if isinstance(model, type) else getattr(model, "__name__", "")
    raise TypeError(
        "Supervised(model=...) must be a function `rngs -> nnx.Module`, a Flax Linen module or "
        f"a pair `(init, apply)`, got {name or shorten(repr(model))} ({type(model).__name__})"
        + (f"; {_PAIR}" if name else ".")
    )


_PAIR = "functions of parameters go in as a pair, model=(init, apply)."
# The names of a Linen module's modes: the argument of a call, and its value in training.
_MODES = {"train": True, "training": True, "deterministic": False, "use_running_average": False}


def _pair_model(init: Callable[..., PyTree], apply: Callable[..., PyTree]) -> Model:
    return Model(
        lambda key: (init(key), ()),
        lambda params, rest, inputs, train: (apply(params, inputs), rest),
        lambda params, rest: functools.partial(apply, params),
        (_pair_model, (init, apply)),
    )


def _linen_model(module: Any, sample: PyTree) -> Model:
    """A Linen module; a trace finds out whether it asks for random keys in training."""
    from flax import errors

    known = inspect.signature(type(module).__call__).parameters
    # A mode in a field of the module stays as it is: Flax refuses a mode given twice.
    modes = {n: v for n, v in _MODES.items() if n in known and getattr(module, n, None) is None}
    model = _Linen(module, sample, modes, random=False)
    # No attribute of a module says whether it draws in training, since a Dropout may be anywhere
    # inside: so it is first called without keys. Evaluation has none, and changes no variables; a
    # module without a mode in its call would drop units in evaluation, too.
    try:
        model.trace(train=True)
    except errors.InvalidRngError:
        model = dataclasses.replace(model, random=True)
    try:
        model.trace(train=False)
    except (errors.InvalidRngError, errors.ModifyScopeVariableError) as error:
        raise TypeError(
            "Supervised(model=...) must be a Linen module that is evaluated without random "
            "numbers and without a change of its variables, as its call is told by an argument "
            f"such as `train`; got {type(module).__name__}, which takes ({', '.join(known)}): "
            f"{error}"
        ) from error
    return Model(model.init, model.apply, model.trained, (_linen_model, (module, sample)))


@dataclasses.dataclass(frozen=True)
class _Linen:
    """A Linen module as functions; the rest of its state is its collections and a random key."""

    module: Any
    sample: PyTree
    modes: dict[str, bool]  # arguments of its call, and their values in training
    random: bool  # whether training draws random numbers

    def init(self, key: jax.Array) -> _Two:
        sample = jax.tree.map(jnp.asarray, self.sample)
        collections = dict(self.module.init(key, sample, **self.modes))
        # One key serves all streams; drawing costs time, so only a model that needs a key has one.
        own = jax.random.fold_in(key, 1) if self.random else None
        return collections.pop("params", {}), (collections, own)

    def apply(self, params: PyTree, rest: PyTree, inputs: PyTree, train: bool) -> _Two:
        collections, key = rest
        rngs = None
        if train and key is not None:
            key, rngs = jax.random.split(key)
        outputs, changed = self.module.apply(
            {"params": params, **collections},
            inputs,
            rngs=rngs,
            mutable=list(collections) if train else [],
            **{name: value == train for name, value in self.modes.items()},
        )
        return outputs, ({**collections, **changed}, key)

    def trained(self, params: PyTree, rest: PyTree) -> Any:
        return self.module.bind({"params": params, **rest[0]})

    def trace(self, train: bool) -> None:
        """Raises Flax's own error if it can't be called so."""

        def run(key: jax.Array, inputs: PyTree) -> _Two:
            return self.apply(*self.init(key), inputs, train)

        jax.eval_shape(run, jax.eval_shape(lambda: jax.random.key(0)), self.sample)


def _nnx_model(make: Callable[..., Any]) -> Model:
    """A function ``rngs -> nnx.Module``; its graph is fixed here: only its arrays change."""
    from flax import nnx

    try:
        model = nnx.eval_shape(lambda: make(nnx.Rngs(0)))
    except Exception as error:
        error.add_note(f"in Supervised(model=...), which is called with nnx.Rngs; {_PAIR}")
        raise
    if not isinstance(model, nnx.Module):
        raise TypeError(
            "Supervised(model=...) must be a function `rngs -> nnx.Module`, got one that returns "
            f"{shorten(repr(model))} ({type(model).__name__}); {_PAIR}"
        )
    graph = nnx.split(model, nnx.Param, ...)[0]

    def init(key: jax.Array) -> _Two:
        return nnx.as_pure(nnx.split(make(nnx.Rngs(key)), nnx.Param, ...)[1:])

    def apply(params: PyTree, rest: PyTree, inputs: PyTree, train: bool) -> _Two:
        model = nnx.merge(graph, params, rest)
        (model.train if train else model.eval)()
        outputs = model(inputs)
        # The call has moved batch statistics on, and the counts of random streams.
        return outputs, nnx.as_pure(nnx.split(model, nnx.Param, ...)[2])

    def trained(params: PyTree, rest: PyTree) -> Any:
        model = nnx.merge(graph, params, rest, copy=True)
        model.eval()
        return model

    return Model(init, apply, trained, (_nnx_model, (make,)))
