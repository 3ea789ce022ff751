"""What of a traced function depends on what: read off its jaxpr, the inner ones included."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from jax.extend.core import Literal


class Flow(NamedTuple):
    """How a function's outputs come from its inputs.

    Args:
        reads: for each output, the inputs that it may depend on: bit ``i`` stands for input ``i``.
        same: for each output, the input that it hands on unchanged, or ``None``.
        escapes: the inputs that may reach the host through an ``io_callback``.
    """

    reads: list[int]
    same: list[int | None]
    escapes: int


def flow(jaxpr: Any, alike: Sequence[int] = ()) -> Flow:
    """The dependences of a jaxpr, open or closed; never fewer than there are.

    Loops and branches are followed, so a leaf that an update only hands on is seen as such. A
    primitive that is not known here makes every output depend on every input.

    Args:
        jaxpr: of the function.
        alike: for each input the first one that has the same value, if some are known to.
    """
    jaxpr = getattr(jaxpr, "jaxpr", jaxpr)
    first = alike or range(len(jaxpr.invars))
    reads: dict[Any, int] = {var: 1 << i for var, i in zip(jaxpr.invars, first, strict=True)}
    same: dict[Any, int | None] = dict(zip(jaxpr.invars, first, strict=True))
    escapes = 0

    def read(atom: Any) -> int:
        return 0 if isinstance(atom, Literal) else reads.get(atom, 0)

    def origin(atom: Any) -> int | None:
        return None if isinstance(atom, Literal) else same.get(atom)

    for eqn in jaxpr.eqns:
        inputs = [read(atom) for atom in eqn.invars]
        origins = [origin(atom) for atom in eqn.invars]
        inner = _of_equation(
            eqn, [i if o is None else origins.index(o) for i, o in enumerate(origins)]
        )
        for var, mask, index in zip(eqn.outvars, inner.reads, inner.same, strict=True):
            reads[var] = _union(inputs, mask)
            same[var] = None if index is None else origins[index]
        if (
            eqn.primitive.name == "select_n"
            and len(set(origins[1:])) == 1
            and origins[1] is not None
        ):
            # All cases are one and the same: it does not matter which is taken.
            reads[eqn.outvars[0]], same[eqn.outvars[0]] = inputs[1], origins[1]
        escapes |= _union(inputs, inner.escapes)
        for atom in eqn.invars:  # a mutable array may have been written
            if not isinstance(atom, Literal) and "Ref" in type(atom.aval).__name__:
                reads[atom] = _union(inputs, -1)
    return Flow(
        [read(atom) for atom in jaxpr.outvars], [origin(atom) for atom in jaxpr.outvars], escapes
    )


def reachable(start: int, reads: Sequence[int], cut: Iterable[int] = ()) -> int:
    """The parts of a state that depend on the parts ``start`` after any number of updates.

    Args:
        start: bits of the parts.
        reads: for each part, those that an update makes it of; further bits mean nothing.
        cut: parts through which nothing passes.
    """
    open_ = [i for i in range(len(reads)) if i not in set(cut)]
    found, before = start, -1
    while found != before:
        before = found
        for i in open_:
            if reads[i] & found:
                found |= 1 << i
    return found


# ---------------------------------------------------------------------------------------- details

# One output that is its first input, bit for bit.
_IDENTITIES = {"copy", "copy_p", "sharding_constraint", "name", "pvary", "pbroadcast"}
# As many outputs as inputs, each of which is that input.
_MANY = {"optimization_barrier", "device_put"}
# Where neither shape nor dtype changes, nothing does.
_SHAPES = {"convert_element_type", "reshape", "broadcast_in_dim", "squeeze", "expand_dims"}
_CALLS = ("jaxpr", "call_jaxpr", "fun_jaxpr")


def _of_equation(eqn: Any, alike: list[int]) -> Flow:
    name, params = eqn.primitive.name, eqn.params
    count, outputs = len(eqn.invars), len(eqn.outvars)
    everything = (1 << count) - 1
    if name == "cond":
        return _of_branches(params["branches"], alike)
    if name == "scan":
        return _of_scan(params)
    if name == "while":
        return _of_while(params)
    for key in _CALLS:
        called = getattr(params.get(key), "jaxpr", params.get(key))
        if len(getattr(called, "invars", ())) == count and hasattr(called, "eqns"):
            return flow(called, alike)
    if name in _MANY and count == outputs:
        return Flow([1 << i for i in range(count)], [*range(count)], 0)
    kept = name in _SHAPES and _kind(eqn.invars[0]) == _kind(eqn.outvars[0])
    if name in _IDENTITIES or kept:
        return Flow([everything], [0], 0)
    return Flow(
        [everything] * outputs, [None] * outputs, everything if name == "io_callback" else 0
    )


def _of_branches(branches: Sequence[Any], alike: list[int]) -> Flow:
    """Inputs: which branch, then those of every branch."""
    inside = [i - 1 if i else k for k, i in enumerate(alike[1:])]
    flows = [flow(branch, inside) for branch in branches]
    reads, same = [], []
    for masks, indices in zip(
        zip(*(f.reads for f in flows), strict=True),
        zip(*(f.same for f in flows), strict=True),
        strict=True,
    ):
        agreed = indices[0] if len(set(indices)) == 1 else None
        same.append(None if agreed is None else agreed + 1)
        mask = 0
        for one in masks:
            mask |= one << 1
        reads.append(mask if agreed is not None else mask | 1)
    escapes = 0
    for f in flows:
        escapes |= f.escapes << 1
    return Flow(reads, same, escapes)


def _of_scan(params: Any) -> Flow:
    """Inputs: constants, carry, rows; outputs: carry, rows."""
    inner = flow(params["jaxpr"])
    if "ft_in" in params:  # since JAX 0.12
        first, carried = map(len, params["ft_in"].unpack()[:2])
    else:
        first, carried = params["num_consts"], params["num_carry"]
    carry = _looped(inner.reads[:carried], first)
    rows = [_through(mask, first, carry) for mask in inner.reads[carried:]]
    same = [first + k if inner.same[k] == first + k else None for k in range(carried)]
    return Flow(
        [*carry, *rows], [*same, *[None] * len(rows)], _through(inner.escapes, first, carry)
    )


def _of_while(params: Any) -> Flow:
    """Inputs: the condition's constants, the body's, the carry."""
    body, condition = flow(params["body_jaxpr"]), flow(params["cond_jaxpr"])
    asked, own = params["cond_nconsts"], params["body_nconsts"]
    first = asked + own
    kept = [source == own + k for k, source in enumerate(body.same)]
    # How often the body runs depends on the condition, and so does whatever it changes.
    constants = condition.reads[0] & ((1 << asked) - 1)
    control = constants | condition.reads[0] >> asked << first
    masks = [m << asked | (0 if k else control) for m, k in zip(body.reads, kept, strict=True)]
    carry = _looped(masks, first)
    escapes = body.escapes << asked | (control if body.escapes else 0)
    same = [first + k if keep else None for k, keep in enumerate(kept)]
    return Flow(carry, same, _through(escapes, first, carry))


def _looped(masks: Sequence[int], first: int) -> list[int]:
    """What each part of a carry, the inputs from ``first`` on, depends on after any number."""
    reads: list[int] = []
    after = [1 << (first + k) for k in range(len(masks))]
    while reads != after:
        reads = after
        after = [r | _through(mask, first, reads) for r, mask in zip(reads, masks, strict=True)]
    return reads


def _through(mask: int, first: int, carry: Sequence[int]) -> int:
    """A mask in which each part of the carry stands for all that it depends on."""
    found = mask
    for k, part in enumerate(carry):
        if mask >> (first + k) & 1:
            found |= part
    return found


def _union(masks: Sequence[int], which: int) -> int:
    found = 0
    for i, mask in enumerate(masks):
        if which >> i & 1:
            found |= mask
    return found


def _kind(atom: Any) -> Any:
    aval = atom.aval
    return getattr(aval, "shape", None), getattr(aval, "dtype", None)
