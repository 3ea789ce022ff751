"""The random bits of an initial state are drawn on the host, if they are few, and zeros are filled.

On a CPU XLA makes ten kernels for each draw and one for zeros of each shape: most of the time that
an initial state takes to compile. The bits are whole numbers, and so the same from NumPy; the
operations after them are compiled.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from math import prod
from typing import Any, TypeAlias, TypeVar

import jax
import numpy as np
from jax import jit
from jax.extend.core import ClosedJaxpr, JaxprEqn, Literal, Var
from jax.extend.random import threefry_prng_impl

from jaxsched.schedules._noise import threefry
from jaxsched.search._fingerprint import aval_of

_TAG = threefry_prng_impl.tag
_MOST = 1 << 18  # numbers in a state or a draw: ten milliseconds of NumPy


T = TypeVar("T")
Draws: TypeAlias = list[Any]  # as ``draw_ahead`` says; of such lists again, or ``None``
_Known: TypeAlias = np.ndarray | None


def draw_ahead(init: ClosedJaxpr, seed: int) -> Draws:
    """The draws of a closed jaxpr for ``jax.random.key(seed)``, its first argument.

    Returns:
        Nothing if all is left to the program. Else a list, for each draw two arrays of words,
        uint32, or None if it is left to the program, and for each call of a jitted function such a
        list; and a list, each result or None.
    """
    # The result for ``a, b = split(key); return normal(a, (2,)), uniform(b, (3,)), zeros(2)`` is
    #
    #     [[[[(2 words, 2 words)]]], [(3 words, 3 words)]]     and     [None, None, zeros]
    #
    # since ``normal`` is three nested jitted functions, and the innermost draws. The draws have no
    # names: ``with_draws`` walks the same equations in the same order.
    key, *others = init.jaxpr.invars
    small = sum(prod(aval_of(x).shape) for x in init.jaxpr.outvars) <= _MOST
    if not small or str(aval_of(key).dtype) != f"key<{_TAG}>":
        return []
    with np.errstate(over="ignore"):
        results, words = _evaluated_on_host(
            init, [np.array([0, seed], np.uint32), *[None] * len(others)]
        )
    leaves = zip(results, init.jaxpr.outvars, strict=True)  # a key is here in words
    return [
        words,
        [x if getattr(x, "dtype", None) == aval_of(y).dtype else None for x, y in leaves],
    ]


def with_draws(init: ClosedJaxpr, ahead: Draws) -> Callable[..., list[jax.Array]]:
    """``init`` as a function that computes the parts absent from ``ahead``, of ``draw_ahead``."""
    words, known = ahead or ([], [None] * len(init.jaxpr.outvars))

    @functools.cache  # a function called for each of many layers is compiled once
    def called(jaxpr: ClosedJaxpr) -> Callable[..., list[jax.Array]]:
        return jit(functools.partial(traced, jaxpr))

    def traced(closed: ClosedJaxpr, values: list[jax.Array], words: Draws) -> list[jax.Array]:
        entries = iter(words)

        def apply(eqn: JaxprEqn, values: list[jax.Array]) -> list[jax.Array]:
            name = eqn.primitive.name
            drawn: Any = next(entries, None) if name in ("jit", "random_bits") else None
            if not jax.tree.leaves(drawn):  # no draw, a call without any, or one left to us
                return _bind_equation(eqn, values)
            if name == "random_bits":  # both words together, as JAX makes 32 bits or fewer
                return [(drawn[0] ^ drawn[1]).astype(aval_of(eqn.outvars[0]).dtype)]
            # Not inlined: the operations would be in another order, and may then round otherwise.
            return list(called(eqn.params["jaxpr"])(values, drawn))

        return _evaluate_with(closed, values, apply)

    def with_known(*arguments: jax.Array) -> list[jax.Array]:
        leaves = zip(traced(init, list(arguments), words), known, strict=True)
        return [x if filled is None else filled for x, filled in leaves]

    return with_known


# ---------------------------------------------------------------------------------------- details


def _evaluated_on_host(closed: ClosedJaxpr, values: list[_Known]) -> tuple[list[_Known], Draws]:
    """Results and draws. Keys are words, [..., 2]; an unknown value is None."""
    draws: Draws = []

    def apply(eqn: JaxprEqn, values: list[_Known]) -> list[_Known]:
        name, count = eqn.primitive.name, len(eqn.outvars)
        if name == "jit":
            results, inside = _evaluated_on_host(eqn.params["jaxpr"], values)
            draws.append(inside)
            return results
        # Otherwise JAX counts its draws in another way, which is left to the program.
        usual = getattr(eqn.ctx, "threefry_partitionable", False)
        few = all(prod(aval_of(x).shape) <= _MOST for x in eqn.outvars)
        sure = usual and few and not any(x is None or isinstance(x, jax.Array) for x in values)
        result = _RULES[name](eqn, *values) if sure and name in _RULES else None
        if name == "random_bits":
            # The next equations do not get the bits: they make fractions of them, which XLA may
            # round otherwise than NumPy.
            draws.append(result)
            result = None
        if count == 1:
            return [result]
        return result or [None] * count

    return _evaluate_with(closed, values, apply), draws


def _bind_equation(eqn: JaxprEqn, values: list[jax.Array]) -> list[jax.Array]:
    bound = eqn.primitive.get_bind_params(eqn.params)
    functions, params = bound if isinstance(bound, tuple) else ((), bound)
    with eqn.ctx.manager:
        results = eqn.primitive.bind(*functions, *values, **params)
    return list(results) if eqn.primitive.multiple_results else [results]


def _evaluate_with(
    closed: ClosedJaxpr, values: list[T], apply: Callable[[JaxprEqn, list[T]], list[T]]
) -> list[T]:
    """Evaluates a closed jaxpr with ``apply``."""
    jaxpr = closed.jaxpr
    known = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*closed.consts, *values], strict=True))
    read: Callable[[Var | Literal], T] = lambda x: x.val if isinstance(x, Literal) else known[x]
    for eqn in jaxpr.eqns:
        known.update(zip(eqn.outvars, apply(eqn, [*map(read, eqn.invars)]), strict=True))
    return [*map(read, jaxpr.outvars)]


def _random_words(key: np.ndarray, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Both words of each number that JAX draws from keys: it counts from zero."""
    # A count has 64 bits: its upper word is 0 while fewer than 2**32 numbers are drawn at once.
    count = np.arange(prod(shape), dtype=np.uint32).reshape(shape)
    each = key.reshape(*key.shape[:-1], *[1] * len(shape), 2)
    return threefry((each[..., 0], each[..., 1]), (np.zeros_like(count), count))


def _split_key(eqn: JaxprEqn, key: np.ndarray) -> np.ndarray:
    return np.stack(_random_words(key, eqn.params["shape"]), -1)


def _fold_in(eqn: JaxprEqn, key: np.ndarray, data: np.ndarray) -> np.ndarray:
    counter = (np.uint32(0), np.asarray(data).astype(np.uint32))
    return np.stack(threefry((key[..., 0], key[..., 1]), counter), -1)


def _random_bits(eqn: JaxprEqn, key: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    return _random_words(key, eqn.params["shape"]) if eqn.params["bit_width"] <= 32 else None


def _slice_array(eqn: JaxprEqn, x: np.ndarray) -> np.ndarray:
    start, limit = eqn.params["start_indices"], eqn.params["limit_indices"]
    return x[tuple(map(slice, start, limit, eqn.params["strides"] or [1] * len(start)))]


def _add_counts(eqn: JaxprEqn, x: np.ndarray, y: np.ndarray) -> _Known:
    """The sum of two counts of keys."""
    return None if np.ndim(x) or np.ndim(y) else np.add(x, y, dtype=aval_of(eqn.outvars[0]).dtype)


def _filled_array(eqn: JaxprEqn, x: np.ndarray) -> _Known:
    """An array of one number, such as an optimizer's zeros."""
    return None if np.ndim(x) else np.full(eqn.params["shape"], x, aval_of(eqn.outvars[0]).dtype)


_RULES: dict[str, Callable[..., Any]] = {
    "broadcast_in_dim": _filled_array,
    "random_split": _split_key,
    "random_fold_in": _fold_in,
    "random_bits": _random_bits,
    "slice": _slice_array,
    "unstack": lambda eqn, x: [*np.moveaxis(x, eqn.params["axis"], 0)],
    "squeeze": lambda eqn, x: np.squeeze(x, eqn.params["dimensions"]),
    "add": _add_counts,
}
