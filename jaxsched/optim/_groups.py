"""Learning rates by parameter path that keep their ratios at every step."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.tree_util import KeyPath
from jax.typing import DTypeLike

from jaxsched._arrays import as_array, is_list, is_number
from jaxsched._bounds import check_text, checked_kind
from jaxsched._checks import checked_number, checked_whole, has_items
from jaxsched._text import describe
from jaxsched._types import Leaf, Number, PyTree
from jaxsched.optim._extra import update as update_with
from jaxsched.optim._inject import FACTORY, Factory, Transformation, inject, is_source
from jaxsched.optim._state import path_text, plain_arrays
from jaxsched.schedules._base import Constant


def group_lr(
    factory: Factory,
    groups: Mapping[str, Any],
    *,
    rate: str = "learning_rate",
    layer_axis: int = 0,
    hyperparam_dtype: DTypeLike = jnp.float32,
) -> Callable[..., optax.GradientTransformationExtraArgs]:
    """``inject(factory)``, with the rate of every parameter multiplied by its group's multiplier.

    All groups share one rate and one count, so their ratios hold at every step, also after an
    ``override`` of the rate. Coupled weight decay is multiplied too, as in PyTorch's groups. A
    multiplier of 0 freezes a group: its updates are 0 whatever its gradients are, NaN included.

    Args:
        factory: as for ``inject``; its update must be proportional to the rate, as it is for
            sgd, adam, adamw, lion and their like. The state is the one of ``factory``.
        groups: regular expression -> multiplier, a number, a schedule or a controller; or name ->
            (regular expression, multiplier). An expression must match (``re.fullmatch``) the whole
            path, such as ``layers/0/kernel``, and every parameter exactly one expression. Without a
            name a group is called after its expression, in letters, digits and ``_-./`` only:
            ``layers/(0|1)/.*`` is ``layers/0_1``, and ``.*`` alone is ``all``. For layers that are
            stacked into one array (``nn.scan``, ``jax.vmap``) a list of multipliers or an array
            [layers]: each layer is a group, ``layers/0``, ``layers/1`` and so on, as it would be
            without the stack.
        rate: the name of the multiplied argument; it must be given by name.
        layer_axis: the axis of the layers in every parameter of a stack.
        hyperparam_dtype: as for ``inject``.

    Returns:
        As ``inject(factory)``; ``rate`` may also be a plain number. ``current`` shows
        ``"<name>/learning_rate"`` for every group; ``override(state, group="<name>",
        multiplier=0.5)`` changes one, and ``group="*"`` all.

    Raises:
        TypeError: if ``factory`` is not a function, or ``groups`` not a mapping from regular
            expressions.
        ValueError: for a regular expression that can't be read; at ``init``, if a parameter is
            matched by no expression or by several, an expression matches no parameter, or a stack
            has another number of layers than multipliers.

    >>> import jax.numpy as jnp, optax, jaxsched as js
    >>> from jaxsched.optim import current, group_lr
    >>> groups = {"body/.*": 0.25, "top": ("head|scale", 1.0)}
    >>> tx = group_lr(optax.sgd, groups)(learning_rate=js.Constant(1.0))
    >>> params = {"body": {"w": jnp.ones(2)}, "head": jnp.ones(2), "scale": jnp.ones(())}
    >>> for name, value in current(tx.init(params)).items():
    ...     print(name, value)
    body/learning_rate 0.25
    learning_rate 1.0
    top/learning_rate 1.0

    >>> stacked = {"layers/.*": [0.25, 0.5], "head": 1.0}  # as of nn.scan over two layers
    >>> tx = group_lr(optax.sgd, stacked)(learning_rate=1.0)
    >>> params = {"layers": {"w": jnp.ones((2, 3))}, "head": jnp.ones(3)}
    >>> updates, _ = tx.update(params, tx.init(params), params)
    >>> updates["layers"]["w"][:, 0].tolist()
    [-0.25, -0.5]
    """
    write = "group_lr(optax.adam, groups)(learning_rate=schedule)"
    told = f". Write {write}, not group_lr(optax.adam(schedule), groups)"
    checked_kind("group_lr(factory=...)", factory, Callable, FACTORY, told)
    layer_axis = checked_whole("group_lr(layer_axis=...)", layer_axis, -32, 31)
    given = _named(groups)
    patterns = {name: _compiled(pattern) for name, (pattern, _) in given.items()}
    keys, multipliers = _hyperparameters(given, rate)

    def grouped(*args: Any, **kwargs: Any) -> optax.GradientTransformation:
        values = jax.tree.map(kwargs.pop, keys)
        return _scaled_by_group(factory(*args, **kwargs), patterns, values, layer_axis)

    grouped.__name__ = getattr(factory, "__name__", type(factory).__name__)
    # `inject` looks at the signature. This one is the factory's own, and one keyword for each
    # group: the multipliers are hyperparameters of `inject`, named "body/learning_rate". So they
    # are in the state, are scheduled and overridden as any other, and need no state of their own.
    signature = inspect.signature(factory)
    named = [p for p in signature.parameters.values() if p.kind is not p.VAR_KEYWORD]
    extra = inspect.Parameter("multipliers", inspect.Parameter.VAR_KEYWORD)
    grouped.__signature__ = signature.replace(parameters=[*named, extra])  # type: ignore[attr-defined]

    def build(*args: Any, **kwargs: Any) -> optax.GradientTransformationExtraArgs:
        if args or rate not in kwargs:
            raise TypeError(f"group_lr(...)(...) takes arguments by name, {rate}=... among them.")
        unknown = set(kwargs) - set(signature.parameters)
        if unknown:
            raise TypeError(
                f"group_lr({grouped.__name__}, ...)(...) got unknown arguments {sorted(unknown)}; "
                f"it has {list(signature.parameters)}."
            )
        given = kwargs[rate]
        kwargs[rate] = given if is_source(given) else Constant(given)
        return inject(grouped, hyperparam_dtype=hyperparam_dtype)(**kwargs, **multipliers)

    return build


def layerwise_decay(patterns: Sequence[Any], decay: Number) -> dict[str, Any]:
    """Multipliers that fall by ``decay`` per layer from the last pattern (1) to the first.

    Args:
        patterns: regular expressions on paths, from the input to the output; one for layers that
            are stacked into one array as (expression, number of layers).
        decay: factor between neighbouring layers, 0 to 1, such as 0.8; a number or a tracer.

    Returns:
        ``{pattern: decay ** distance from the last}`` for ``group_lr``; of a stack a list.

    >>> from jaxsched.optim import layerwise_decay
    >>> layerwise_decay(["embed/.*", "layers/0/.*", "head/.*"], 0.5)
    {'embed/.*': 0.25, 'layers/0/.*': 0.5, 'head/.*': 1.0}
    >>> layerwise_decay(["embed/.*", ("layers/.*", 2), "head/.*"], 0.5)
    {'embed/.*': 0.125, 'layers/.*': [0.25, 0.5], 'head/.*': 1.0}
    """
    where = "layerwise_decay(patterns=...)"
    decay = checked_number("layerwise_decay(decay=...)", decay, at_least=0, at_most=1)
    if not has_items(patterns):
        raise TypeError(
            f"{where} must be a list of regular expressions, got {describe(patterns)}. Layers that "
            'are stacked into one array are [("layers/.*", 12)].'
        )
    multipliers: dict[str, Any] = {}
    distance = 0  # from the output: a stack of n layers counts n times
    for given in reversed(list(patterns)):
        pattern, layers = given if is_list(given) and len(given) == 2 else (given, None)
        if not isinstance(pattern, str):
            raise TypeError(
                f"{where} must hold regular expressions or (expression, layers), got "
                f"{describe(given)}."
            )
        if pattern in multipliers:
            raise ValueError(f"{where} must differ, got {list(patterns)}.")
        count = 1 if layers is None else checked_whole(f"{where}: layers of {pattern!r}", layers, 1)
        powers = [decay ** (distance + i) for i in reversed(range(count))]
        multipliers[pattern] = powers[0] if layers is None else powers
        distance += count
    return dict(reversed(multipliers.items()))


def _scaled_by_group(
    inner: Transformation,
    patterns: dict[str, re.Pattern[str]],
    multipliers: dict[str, PyTree],
    layer_axis: int,
) -> optax.GradientTransformationExtraArgs:
    """``inner`` with multiplied updates and an unchanged state."""

    def multiplier(path: KeyPath[Any], leaf: Leaf) -> Leaf:
        """A number, or for a stack an array with one for each layer, to broadcast with ``leaf``."""
        name = _group_of_parameter(path, patterns)
        own = multipliers[name]
        if not isinstance(own, list):
            return own
        shape = np.shape(leaf)
        inside = -len(shape) <= layer_axis < len(shape)
        if not inside or shape[layer_axis] != len(own):
            raise ValueError(
                f"group_lr(groups=...) has {len(own)} multipliers, one for each layer, for "
                f"{patterns[name].pattern!r}, so {path_text(path)!r} must have {len(own)} layers "
                f"on axis {layer_axis} (layer_axis=...), got the shape {list(shape)}."
            )
        return jnp.stack(own).reshape(
            [len(own) if i == layer_axis % len(shape) else 1 for i in range(len(shape))]
        )

    def init(params: PyTree) -> PyTree:
        # The update would find a parameter without a group as well, but only while it is traced. An
        # expression without a match is found here alone.
        leaves = jax.tree_util.tree_leaves_with_path(plain_arrays(params))
        for path, leaf in leaves:
            multiplier(path, leaf)
        _check_used(patterns, [path for path, _ in leaves])
        return inner.init(params)

    def scaled(path: KeyPath[Any], update: jax.Array) -> jax.Array:
        factor = multiplier(path, update)
        # Chosen and not multiplied, since 0 times NaN is NaN.
        return jnp.where(factor == 0, jnp.zeros_like(update), factor * update)

    def update(
        updates: PyTree, state: PyTree, params: PyTree = None, **extra: Any
    ) -> tuple[PyTree, PyTree]:
        updates, state = update_with(inner, updates, state, params, **extra)
        return jax.tree_util.tree_map_with_path(scaled, updates), state

    return optax.GradientTransformationExtraArgs(init, update)


def _named(groups: object) -> dict[str, tuple[Any, Any]]:
    """Name -> (expression, multiplier)."""
    expected = "a mapping from regular expressions to multipliers"
    given: Mapping[Any, Any] = checked_kind("group_lr(groups=...)", groups, Mapping, expected)
    if not given:
        raise ValueError("group_lr(groups=...) must name at least one group, got none.")
    named: dict[str, tuple[Any, Any]] = {}
    for key, value in given.items():
        is_named = isinstance(value, tuple)
        if is_named and not isinstance(key, str):
            raise TypeError(f"group_lr(groups=...) must have texts as names, got {describe(key)}.")
        if is_named and (len(value) != 2 or is_number(value[0])):
            raise ValueError(
                f"group_lr(groups=...) must have (regular expression, multiplier) for {key!r}, "
                f"got {describe(value)}. The multipliers of stacked layers are a list."
            )
        name, pair = (key, value) if is_named else (readable(key), (key, value))
        if name in named or name in ("", "*"):
            raise ValueError(_other_name(name, pair[0]))
        named[name] = pair
    return named


def _hyperparameters(
    given: Mapping[str, tuple[Any, Any]], rate: str
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Group -> the name of its hyperparameter, or of its layers'; and the multiplier of each."""
    # {"head": 1.0, "layers": [0.5, 0.8]} -> {"head": "head/lr", "layers": ["layers/0/lr",
    # "layers/1/lr"]} and {"head/lr": 1.0, "layers/0/lr": 0.5, "layers/1/lr": 0.8} for rate="lr".
    keys: dict[str, Any] = {}
    multipliers: dict[str, Any] = {}
    for name, (pattern, multiplier) in given.items():
        layers = _layers(pattern, multiplier)
        places = [name] if layers is None else [f"{name}/{i}" for i in range(len(layers))]
        own = [f"{place}/{rate}" for place in places]
        if clash := multipliers.keys() & own:
            raise ValueError(_other_name(min(clash).removesuffix(f"/{rate}"), pattern))
        keys[name] = own[0] if layers is None else own
        sources = [_source(pattern, m) for m in ([multiplier] if layers is None else layers)]
        multipliers.update(zip(own, sources, strict=True))
    return keys, multipliers


def _other_name(name: str, pattern: object) -> str:
    return (
        f"group_lr(groups=...) must have another name than {name!r} for {pattern!r}; give it one "
        f"by {{'name': ({pattern!r}, multiplier)}}."
    )


def _source(pattern: object, multiplier: PyTree) -> PyTree:
    where = f"group_lr(groups={{{pattern!r}: ...}})"
    return multiplier if is_source(multiplier) else Constant(checked_number(where, multiplier))


def _layers(pattern: object, multiplier: PyTree) -> list[PyTree] | None:
    """The multipliers of the layers of a stack, or ``None``."""
    multiplier = as_array(multiplier)
    if is_source(multiplier) or not (is_list(multiplier) or getattr(multiplier, "ndim", 0) > 0):
        return None
    layers = list(multiplier)
    if not layers or any(np.ndim(m) for m in layers if not is_source(m)):
        raise ValueError(
            "group_lr(groups=...) must have one multiplier for each layer of the stack, in a list "
            f"or a one-dimensional array, for {pattern!r}, got {describe(multiplier)}."
        )
    return layers


def readable(pattern: object) -> str:
    """An expression as a name, in characters that every logger takes; "all" for ``.*``."""
    text = re.sub(r"\(\?<?!", "not_", str(pattern))
    text = re.sub(r"\\(?=\W)|\.[*+]\??", "", text)  # a backslash; a match of anything
    text = re.sub(r"[^\w./-]+", "_", text, flags=re.ASCII)
    return re.sub(r"[_/]*/[_/]*", "/", text).strip("_/.") or "all"


def _compiled(pattern: object) -> re.Pattern[str]:
    where, expected = "group_lr(groups=...)", "named by regular expressions"
    try:
        return re.compile(check_text(where, pattern, expected))
    except re.error as error:
        raise ValueError(f"{where} must be {expected}, got {pattern!r}: {error}.") from None


def _check_used(patterns: dict[str, re.Pattern[str]], paths: list[KeyPath[Any]]) -> None:
    """Raises for an expression that matches no parameter."""
    used = {_group_of_parameter(path, patterns) for path in paths}
    for name, pattern in patterns.items():
        if paths and name not in used:
            raise ValueError(
                f"group_lr(groups=...): {pattern.pattern!r} matches no parameter of "
                f"{list(map(path_text, paths))}."
            )


def _group_of_parameter(path: KeyPath[Any], patterns: dict[str, re.Pattern[str]]) -> str:
    """The group of a parameter, which exactly one pattern must match."""
    text = path_text(path)
    matches = [key for key, pattern in patterns.items() if pattern.fullmatch(text)]
    if len(matches) != 1:
        every = [pattern.pattern for pattern in patterns.values()]
        matched = [patterns[key].pattern for key in matches]
        raise ValueError(
            f"group_lr(groups=...) must match parameter {text!r} exactly once, got "
            f"{len(matches)} matches {matched} among {every} (whole path, re.fullmatch)."
        )
    return matches[0]
