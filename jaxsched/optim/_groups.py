"""Learning rates by parameter path that keep their ratios at every step."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxsched._checks import checked_number
from jaxsched.optim._extra import update as update_with
from jaxsched.optim._inject import inject, is_source
from jaxsched.optim._state import path_text, plain_arrays
from jaxsched.schedules._base import Constant


def group_lr(
    factory: Callable[..., optax.GradientTransformation],
    groups: Mapping[str, Any],
    *,
    rate: str = "learning_rate",
    hyperparam_dtype: Any = jnp.float32,
) -> Callable[..., optax.GradientTransformationExtraArgs]:
    """``inject(factory)``, with the rate of every parameter multiplied by its group's multiplier.

    All groups share one rate and one count, so their ratios hold at every step, also after an
    ``override`` of the rate. Coupled weight decay is multiplied too, as in PyTorch's groups. A
    multiplier of 0 freezes a group: its updates are 0 whatever its gradients are, NaN included.

    Args:
        factory: as for ``inject``; its update must be proportional to the rate, as it is for
            sgd, adam, adamw, lion and their like. The state is that of ``factory``.
        groups: regular expression -> multiplier, a number, a schedule or a controller; or name ->
            (regular expression, multiplier). An expression must match (``re.fullmatch``) the whole
            path, such as ``layers/0/kernel``, and every parameter exactly one expression. Without a
            name a group is called after its expression, in letters, digits and ``_-./`` only:
            ``layers/(0|1)/.*`` is ``layers/0_1``, and ``.*`` alone is ``all``.
        rate: the name of the argument that the multipliers multiply; it must be given by name.
        hyperparam_dtype: as for ``inject``.

    Returns:
        As ``inject(factory)``; ``rate`` may also be a plain number. ``current`` shows
        ``"<name>/learning_rate"`` for every group; ``override(state, group="<name>",
        multiplier=0.5)`` changes one, and ``group="*"`` all.

    Raises:
        TypeError: if ``groups`` is not a mapping from regular expressions.
        ValueError: for a regular expression that can't be read; at ``init``, if a parameter is
            matched by no expression or by several, or an expression matches no parameter.

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
    """
    given = _named(groups)
    patterns = {f"{name}/{rate}": _compiled(pattern) for name, (pattern, _) in given.items()}
    multipliers = {
        f"{name}/{rate}": m if is_source(m) else Constant(m) for name, (_, m) in given.items()
    }

    def grouped(*args: Any, **kwargs: Any) -> optax.GradientTransformation:
        values = {key: kwargs.pop(key) for key in patterns}
        return _scaled_by_group(factory(*args, **kwargs), patterns, values)

    grouped.__name__ = getattr(factory, "__name__", type(factory).__name__)
    # The factory's own signature, and one keyword per group: each multiplier is a hyperparameter.
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


def layerwise_decay(patterns: Sequence[str], decay: Any) -> dict[str, Any]:
    """Multipliers that fall by ``decay`` per layer from the last pattern (1) to the first.

    Args:
        patterns: regular expressions on paths, from the input to the output.
        decay: factor between neighbouring layers, 0 to 1, such as 0.8; a number or a tracer.

    Returns:
        ``{pattern: decay ** distance from the last}`` for ``group_lr``.

    >>> from jaxsched.optim import layerwise_decay
    >>> layerwise_decay(["embed/.*", "layers/0/.*", "head/.*"], 0.5)
    {'embed/.*': 0.25, 'layers/0/.*': 0.5, 'head/.*': 1.0}
    """
    if len(set(patterns)) != len(patterns):
        raise ValueError(f"layerwise_decay(patterns=...) must differ, got {list(patterns)}.")
    decay = checked_number("layerwise_decay(decay=...)", decay, at_least=0, at_most=1)
    last = len(patterns) - 1
    return {pattern: decay ** (last - i) for i, pattern in enumerate(patterns)}


def _scaled_by_group(
    inner: optax.GradientTransformation,
    patterns: dict[str, re.Pattern[str]],
    multipliers: dict[str, jax.Array],
) -> optax.GradientTransformationExtraArgs:
    """``inner`` with multiplied updates; its state is that of ``inner``."""

    def init(params: Any) -> Any:
        leaves = jax.tree_util.tree_leaves_with_path(plain_arrays(params))
        used = {_group(path, patterns) for path, _ in leaves}
        for key, pattern in patterns.items():
            if leaves and key not in used:
                paths = [path_text(path) for path, _ in leaves]
                raise ValueError(
                    f"group_lr(groups=...): {pattern.pattern!r} matches no parameter of {paths}."
                )
        return inner.init(params)

    def scaled(path: Any, update: jax.Array) -> jax.Array:
        multiplier = multipliers[_group(path, patterns)]
        # Chosen and not multiplied, since 0 times NaN is NaN.
        return jnp.where(multiplier == 0, jnp.zeros_like(update), multiplier * update)

    def update(updates: Any, state: Any, params: Any = None, **extra: Any) -> tuple[Any, Any]:
        updates, state = update_with(inner, updates, state, params, **extra)
        return jax.tree_util.tree_map_with_path(scaled, updates), state

    return optax.GradientTransformationExtraArgs(init, update)


def _named(groups: Any) -> dict[str, tuple[Any, Any]]:
    """Name -> (expression, multiplier)."""
    if not isinstance(groups, Mapping):
        raise TypeError(
            "group_lr(groups=...) must be a mapping from regular expressions to multipliers, got "
            f"{groups!r}."
        )
    if not groups:
        raise ValueError("group_lr(groups=...) must name at least one group, got none.")
    named: dict[str, tuple[Any, Any]] = {}
    for key, value in groups.items():
        is_named = isinstance(value, tuple)
        if is_named and not isinstance(key, str):
            raise TypeError(f"group_lr(groups=...) must have texts as names, got {key!r}.")
        if is_named and len(value) != 2:
            raise ValueError(
                f"group_lr(groups=...) must have (regular expression, multiplier) for {key!r}, "
                f"got {value!r}."
            )
        name, pair = (key, value) if is_named else (readable(key), (key, value))
        if name in named or name in ("", "*"):
            raise ValueError(
                f"group_lr(groups=...) must have another name than {name!r} for {pair[0]!r}; give "
                f"it one by {{'name': ({pair[0]!r}, multiplier)}}."
            )
        named[name] = pair
    return named


def readable(pattern: Any) -> str:
    """A name made of an expression, of characters that every logger takes; "all" for ``.*``."""
    text = re.sub(r"\(\?<?!", "not_", str(pattern))
    text = re.sub(r"\\(?=\W)|\.[*+]\??", "", text)  # a backslash; what matches anything
    text = re.sub(r"[^\w./-]+", "_", text, flags=re.ASCII)
    return re.sub(r"[_/]*/[_/]*", "/", text).strip("_/.") or "all"


def _compiled(pattern: Any) -> re.Pattern[str]:
    where = "group_lr(groups=...) must be named by regular expressions"
    if not isinstance(pattern, str):
        raise TypeError(f"{where}, got {pattern!r} ({type(pattern).__name__}).")
    try:
        return re.compile(pattern)
    except re.error as error:
        raise ValueError(f"{where}, got {pattern!r}: {error}.") from None


def _group(path: Any, patterns: dict[str, re.Pattern[str]]) -> str:
    text = path_text(path)
    found = [key for key, pattern in patterns.items() if pattern.fullmatch(text)]
    if len(found) != 1:
        every = [pattern.pattern for pattern in patterns.values()]
        matched = [patterns[key].pattern for key in found]
        raise ValueError(
            f"group_lr(groups=...) must match parameter {text!r} exactly once, got "
            f"{len(found)} matches {matched} among {every} (whole path, re.fullmatch)."
        )
    return found[0]
