"""A traced program, operation by operation in NumPy: nothing is compiled, every result is seen.

These are a program's own operations on float32 and int32, in a fraction of the time that XLA takes
to compile them. Each that has no equal in NumPy is JAX's own.

A loop that carries nothing runs once: each array in it has one more axis, the last, for the rounds,
or of size 1 where all rounds are alike. So it is broadcast as it is, and its other axes keep their
numbers.
"""

from __future__ import annotations

import functools
import operator
import os
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from helpers import LITTLE
from jax.extend.core import Literal

SAME: dict[str, Any] = {
    "add": operator.add,
    "add_any": operator.add,
    "sub": operator.sub,
    "mul": operator.mul,
    "neg": operator.neg,
    "and": operator.and_,
    "or": operator.or_,
    "xor": operator.xor,
    "not": operator.invert,
    "eq": operator.eq,
    "ne": operator.ne,
    "lt": operator.lt,
    "le": operator.le,
    "gt": operator.gt,
    "ge": operator.ge,
    "abs": np.abs,
    "max": np.maximum,
    "min": np.minimum,
    "floor": np.floor,
    "ceil": np.ceil,
    "sqrt": np.sqrt,
    "is_finite": np.isfinite,
    "stop_gradient": lambda x: x,
    "copy": lambda x: x,
}
# JAX's own, of numbers of any shape.
EACH = {"exp", "exp2", "expm1", "log", "log1p", "cos", "sin", "tan", "tanh", "pow", "integer_pow"}
EACH |= {"round", "rsqrt", "sign", "cbrt", "erf_inv", "square", "div", "rem", "nextafter"}
EACH |= {"shift_left", "shift_right_arithmetic", "shift_right_logical"}

_TRACING = jax.jit  # while `jit` stands in its place


def jit(f: Callable[..., Any], **options: Any) -> Callable[..., Any]:
    """In place of ``jax.jit``: traced by it, and as often. With other flags of XLA it is that."""
    traced = _TRACING(f, **options)
    if os.environ.get("XLA_FLAGS", LITTLE) != LITTLE:
        return traced
    return lambda *arguments: run(traced.trace(*arguments), *arguments)


def run(program: Any, *arguments: Any, look: Any = None) -> Any:
    """What ``jax.jit(f).trace(...)`` computes of its arguments; ``look`` sees each operation."""
    flat = [np.asarray(x)[()] for x in jax.tree.leaves(arguments)]
    with np.errstate(all="ignore"):
        results = _run(program.jaxpr, flat, look, 0)
    return jax.tree.unflatten(jax.tree.structure(program.out_info), results)


def _run(closed: Any, arguments: Any, look: Any, rounds: int) -> list[Any]:
    jaxpr = getattr(closed, "jaxpr", closed)
    constants = getattr(closed, "consts", ())
    if rounds:
        constants = [np.asarray(x)[..., None] for x in constants]
    known = _literals(jaxpr).copy()
    known.update(zip(map(id, jaxpr.constvars), constants, strict=True))
    known.update(zip(map(id, jaxpr.invars), arguments, strict=True))
    for equation in jaxpr.eqns:
        given = [known[id(x)] for x in equation.invars]
        results = _results(equation, given, look, rounds)
        if look is not None:
            look(equation, given, results)
        known.update(zip(map(id, equation.outvars), results, strict=True))
    return [known[id(x)] for x in jaxpr.outvars]


@functools.lru_cache(maxsize=64)  # of loops, whose rounds have the same
def _literals(jaxpr: Any) -> dict[int, Any]:
    every = [*jaxpr.outvars, *(x for equation in jaxpr.eqns for x in equation.invars)]
    literals = [x for x in every if isinstance(x, Literal)]
    return {id(x): np.asarray(x.val, jax.typeof(x.val).dtype)[()] for x in literals}


def _results(equation: Any, given: list[Any], look: Any, rounds: int) -> list[Any]:
    name, options = equation.primitive.name, equation.params
    if name in SAME:
        return [SAME[name](*given)]
    if name == "scan":
        return _scan(given, look, rounds, **options)
    if inner := options.get("jaxpr", options.get("call_jaxpr")):
        return _run(inner, given, look, rounds)
    first = np.asarray(given[0] if given else 0)
    if name == "div" and first.dtype.kind == "f":
        return [given[0] / given[1]]
    if name == "select_n" and first.dtype == bool:
        return [np.where(given[0], given[2], given[1])[()]]
    if name == "bitcast_convert_type":
        return [first.view(options["new_dtype"])[()]]
    if name == "convert_element_type":
        if first.dtype.kind == "f" and (kind := options["new_dtype"]).kind in "iu":
            first = np.clip(np.nan_to_num(first.astype(float)), *_ends(kind))
        return [first.astype(options["new_dtype"])[()]]
    if name == "broadcast_in_dim":
        places, shape = options["broadcast_dimensions"], options["shape"]
        last = first.shape[len(places) :] or (1,) * bool(rounds)
        sizes = [first.shape[places.index(i)] if i in places else 1 for i in range(len(shape))]
        return [np.broadcast_to(first.reshape(*sizes, *last), (*shape, *last))]
    if name == "reshape" and options["dimensions"] is None:
        last = first.shape[equation.invars[0].aval.ndim :] or (1,) * bool(rounds)
        return [first.reshape(*options["new_sizes"], *last)]
    if name == "pad" and min(map(min, options["padding_config"]), default=0) >= 0:
        shape, last = equation.outvars[0].aval.shape, np.shape(given[1]) or (1,) * bool(rounds)
        found = np.broadcast_to(given[1], (*shape, *max(last, first.shape[len(shape) :]))).copy()
        sides = zip(options["padding_config"], shape, strict=True)
        found[tuple(slice(low, size - high, 1 + gap) for (low, high, gap), size in sides)] = first
        return [found]
    if name in ("concatenate", "stack"):
        if rounds:
            last = max(x.shape[-1] for x in given)
            given = [np.broadcast_to(x, (*x.shape[:-1], last)) for x in given]
        return [getattr(np, name)(given, options.get("axis", options.get("dimension")))]
    if name == "slice":
        starts, strides = options["start_indices"], options["strides"]
        every = strides or (1,) * len(starts)
        return [first[tuple(map(slice, starts, options["limit_indices"], every))]]
    if name == "transpose":
        order = options["permutation"]
        return [first.transpose(*order, *range(len(order), first.ndim))]
    if name == "squeeze":
        return [first.squeeze(options["dimensions"])]
    if name == "reduce_sum":
        return [first.sum(options["axes"], first.dtype)]
    if name in EACH:
        return [_each(equation, given)]
    if not rounds:
        return [np.asarray(x)[()] for x in _bound(equation, given)]
    return _mapped(equation, given, rounds)


def _bound(equation: Any, given: list[Any]) -> list[Any]:
    found = equation.primitive.bind(*given, **equation.params)
    return list(found) if equation.primitive.multiple_results else [found]


def _each(equation: Any, given: list[Any]) -> Any:
    arrays = np.broadcast_arrays(*given)
    shape, size = arrays[0].shape, arrays[0].size
    (found,) = _bound(equation, [np.resize(x, _padded(size)) for x in arrays])
    return np.asarray(found)[:size].reshape(shape)[()]


def _mapped(equation: Any, given: list[Any], rounds: int) -> list[Any]:
    if not given:
        return [x[..., None] for x in _bound(equation, given)]
    shapes = [x.aval.shape for x in equation.invars]
    every = [np.broadcast_to(x, (*shape, rounds)) for x, shape in zip(given, shapes, strict=True)]
    padded = np.arange(_padded(rounds)) % rounds
    each = jax.vmap(functools.partial(_bound, equation), -1, -1)
    return [np.asarray(x)[..., :rounds] for x in each([x[..., padded] for x in every])]


def _ends(kind: Any) -> tuple[int, int]:
    return np.iinfo(kind).min, np.iinfo(kind).max


def _padded(size: int) -> int:
    """Of a few: JAX compiles an operation for each."""
    return 1 if size == 1 else max(64, 1 << (size - 1).bit_length())


def _scan(given: list[Any], look: Any, rounds: int, **options: Any) -> list[Any]:
    if "ft_in" in options:  # since JAX 0.12
        constants, carries, _ = map(len, options["ft_in"].unpack())
    else:
        constants, carries = options["num_consts"], options["num_carry"]
    fixed, carry = given[:constants], given[constants : constants + carries]
    rows = given[constants + carries :]
    if not carries and not rounds:
        return _all_at_once(fixed, rows, look, **options)
    order = range(options["length"])
    found: list[list[Any]] = [[] for _ in order]
    for i in reversed(order) if options["reverse"] else order:
        out = _run(options["jaxpr"], [*fixed, *carry, *(row[i] for row in rows)], look, rounds)
        carry, found[i] = out[:carries], out[carries:]
    columns = zip(*found, strict=True)
    return [*carry, *(np.stack(np.broadcast_arrays(*column)) for column in columns)]


def _all_at_once(fixed: Any, rows: Any, look: Any, **options: Any) -> list[Any]:
    rounds = options["length"]
    inside = [*(np.asarray(x)[..., None] for x in fixed), *(np.moveaxis(x, 0, -1) for x in rows)]
    found = _run(options["jaxpr"], inside, look, rounds)
    shapes = [(*x.aval.shape, rounds) for x in options["jaxpr"].jaxpr.outvars]
    return [
        np.moveaxis(np.broadcast_to(x, shape), -1, 0)
        for x, shape in zip(found, shapes, strict=True)
    ]
