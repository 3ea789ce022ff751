"""The dependence of a traced function's outputs on its inputs, read off its jaxprs, inner ones too.

A jaxpr is evaluated on ``Value``s in place of arrays, equation by equation. For ``f(w, g, lr) =
(w - lr * g, lr)`` the first output reads all three inputs, the second reads ``lr`` and *is* ``lr``.
The inputs found for an output may be too many (an unknown primitive reads all of its inputs), never
too few. An output is called an input, or a constant, only if this holds for all values of the
inputs. So a rate without effect is found and none with an effect is refused.

Sets of inputs are whole numbers, bit ``i`` for input ``i``: at every equation there are unions of
sets with as many members as a state has leaves.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Literal, Var
from jax.typing import ArrayLike

from jaxsched.search._fingerprint import aval_of, opened


class Value(NamedTuple):
    """The known facts about a value inside a function."""

    reads: int = 0  # the inputs it may depend on: bit ``i`` stands for input ``i``
    input: int | None = None  # the number of the equal input, unchanged
    narrow: np.dtype | None = None  # the dtype of this input, if the value has a wider one
    constant: np.ndarray | None = None  # the number in all of its elements, an array of no axes

    @property
    def same(self) -> int | None:
        """The number of the equal input, in the input's own dtype."""
        return self.input if self.narrow is None else None


class Flow(NamedTuple):
    """How a function's outputs come from its inputs."""

    reads: list[int]  # for each output, the inputs it may depend on, as bits
    same: list[int | None]  # for each output, the input it hands on unchanged
    escapes: int  # the inputs that may reach the host through an ``io_callback``


def flow(jaxpr: Jaxpr | ClosedJaxpr) -> Flow:
    """The dependences of a jaxpr, open or closed; never fewer than there are.

    Loops and branches are followed, so a leaf that an update only hands on is seen as such. With an
    unknown primitive every output depends on every input.
    """
    walk = _Walk(constants=False)
    count = len(opened(jaxpr).invars)
    outputs = walk.outputs(jaxpr, [Value(1 << i, i) for i in range(count)])
    return Flow([x.reads for x in outputs], [x.same for x in outputs], walk.escapes)


def follow(jaxpr: Jaxpr | ClosedJaxpr, inputs: Sequence[Value]) -> list[Value]:
    """The outputs of a jaxpr for partly known inputs, with constants computed."""
    return _Walk(constants=True).outputs(jaxpr, inputs)


def sources(start: int, reads: Sequence[int], cut: Iterable[int] = ()) -> int:
    """The parts of a state on which the parts ``start`` depend, after any number of updates.

    ``reads`` has, for each part, the parts its update reads. Nothing passes through the parts
    ``cut``. Bits of ``start`` beyond the state mean nothing.
    """
    open_ = [i for i in range(len(reads)) if i not in set(cut)]
    reached, before = start, -1
    while reached != before:
        before = reached
        for i in open_:
            if reached >> i & 1:
                reached |= reads[i]
    return reached & ((1 << len(reads)) - 1)


def union(masks: Sequence[int], which: int = -1) -> int:
    """The union of the masks with numbers in ``which``."""
    bits = 0
    for i, mask in enumerate(masks):
        if which >> i & 1:
            bits |= mask
    return bits


# These have as many outputs as inputs; each output is its input, bit for bit.
_IDENTITIES = {"copy", "copy_p", "sharding_constraint", "name", "pvary", "pbroadcast"}
_IDENTITIES |= {"optimization_barrier", "device_put"}
# If neither shape nor dtype changes, these change nothing; and a constant stays constant.
_RESHAPE = {"convert_element_type", "reshape", "broadcast_in_dim", "squeeze", "expand_dims"}
_CALLS = ("jaxpr", "call_jaxpr", "fun_jaxpr")
_OPERATORS = ("add", "sub", "mul", "neg", "eq", "ne", "lt", "le", "gt", "ge", "xor")
_NUMPY: dict[str, Callable[..., Any]] = (
    {name: getattr(operator, name) for name in _OPERATORS}
    | {"and": operator.and_, "or": operator.or_, "not": operator.invert}
    | {"max": np.maximum, "min": np.minimum, "rem": np.fmod, "sign": np.sign}
)


def called_by(eqn: JaxprEqn) -> Jaxpr | ClosedJaxpr | None:
    """The jaxpr of an equation that calls one on all of its inputs, or ``None``."""
    for key in _CALLS:
        called: Any = eqn.params.get(key)
        inner: Any = opened(called)
        if hasattr(inner, "eqns") and len(inner.invars) == len(eqn.invars):
            return called
    return None


class _Walk:
    """Evaluates a jaxpr on ``Value``s in place of arrays.

    With ``constants`` they are computed, for finite numbers only: zero times anything is zero.
    """

    # One walk finds the inputs handed on by an update, the inputs behind a value, and the value of
    # a counter at a step: three walkers would each describe every primitive. With
    # constants it sees into `optax.MultiSteps`: its `mini_step` begins with 0, so `emit` is known
    # to be false, the updates `emit * update` are zeros, and the parameters do not change.

    def __init__(self, constants: bool):
        self._constants = constants
        self.escapes = 0

    def outputs(self, closed: Jaxpr | ClosedJaxpr, inputs: Sequence[Value]) -> list[Value]:
        """The value of each output, for the values of the inputs."""
        jaxpr = opened(closed)
        values: dict[Var, Value] = {
            var: self._constant_value(const)
            for var, const in zip(jaxpr.constvars, getattr(closed, "consts", ()), strict=False)
        }
        values.update(zip(jaxpr.invars, inputs, strict=True))

        def read(atom: Var | Literal) -> Value:
            if isinstance(atom, Literal):
                return self._constant_value(atom.val)
            return values.get(atom, Value())

        for eqn in jaxpr.eqns:
            given = [read(atom) for atom in eqn.invars]
            values.update(zip(eqn.outvars, self._equation_outputs(eqn, given), strict=True))
            for atom in eqn.invars:  # a mutable array may have been written
                if not isinstance(atom, Literal) and "Ref" in type(atom.aval).__name__:
                    values[atom] = Value(union([x.reads for x in given]))
        return [read(atom) for atom in jaxpr.outvars]

    def _constant_value(self, value: ArrayLike) -> Value:
        dtype = getattr(value, "dtype", None)
        numeric = dtype is None or not jnp.issubdtype(dtype, jax.dtypes.extended)
        if self._constants and numeric and np.size(value) == 1:
            return Value(constant=np.asarray(jax.device_get(value)).reshape(()))
        return Value()

    def _equation_outputs(self, eqn: JaxprEqn, inputs: list[Value]) -> list[Value]:
        """The outputs of an equation, by its primitive; an unknown primitive reads all inputs."""
        name, params = eqn.primitive.name, eqn.params
        masks = [x.reads for x in inputs]
        if name == "cond":
            index, *rest = inputs
            branches = params["branches"]
            if index.constant is not None:  # a counter decides: only this branch is taken
                branches = [branches[int(np.clip(index.constant, 0, len(branches) - 1))]]
            ways = zip(*(self.outputs(branch, rest) for branch in branches), strict=True)
            return [_of_either_case(cases, index) for cases in ways]
        if name in ("scan", "while"):
            # A loop is summed up without its inputs: no constant is followed through its rounds.
            inner = _scan_flow(params) if name == "scan" else _while_flow(params)
            self.escapes |= union(masks, inner.escapes)
            return [
                Value(union(masks, mask)) if same is None else inputs[same]
                for mask, same in zip(inner.reads, inner.same, strict=True)
            ]
        if (called := called_by(eqn)) is not None:
            return self.outputs(called, inputs)
        if name in _IDENTITIES and len(inputs) == len(eqn.outvars):
            return inputs
        if name == "select_n":
            which, *cases = inputs
            if which.constant is not None:
                cases = [cases[int(which.constant)]]
            return [_of_either_case(cases, which)]
        if name == "io_callback":
            self.escapes |= union(masks)
        everything = Value(union(masks))
        if len(eqn.outvars) > 1:
            return [everything] * len(eqn.outvars)
        return [_operation_value(eqn, inputs) or everything for _ in eqn.outvars]


def _of_either_case(cases: Sequence[Value], chooser: Value) -> Value:
    """The facts that hold in all cases."""
    first, reads = cases[0], union([x.reads for x in cases])
    known = first.input is not None or first.constant is not None
    # `x[1:]` is everything known of a value except its `reads`.
    if len(cases) == 1 or (known and all(x[1:] == first[1:] for x in cases)):
        return first._replace(reads=reads)  # the choice does not matter
    return Value(reads | chooser.reads)


def _operation_value(eqn: JaxprEqn, inputs: list[Value]) -> Value | None:
    """The value of the one output of other operations, or ``None`` if nothing is known."""
    name, out = eqn.primitive.name, aval_of(eqn.outvars[0])
    numbers = [x.constant for x in inputs]
    if name in _RESHAPE:
        before = aval_of(eqn.invars[0])
        if (before.shape, before.dtype) == (out.shape, out.dtype):
            return inputs[0]
        if name == "convert_element_type" and inputs[0].input is not None:
            return _converted_input(inputs[0], before.dtype, out.dtype)
    if name in (*_RESHAPE, "transpose") and numbers[0] is not None:
        return Value(constant=numbers[0].astype(out.dtype))
    if name in _NUMPY and all(x is not None for x in numbers):
        return Value(constant=np.asarray(_NUMPY[name](*numbers)).astype(out.dtype))
    if name in ("add", "add_any", "sub", "mul", "div"):
        return _arithmetic_value(name, inputs, out.dtype)
    return None


def _converted_input(x: Value, before: np.dtype, after: np.dtype) -> Value | None:
    """An input in a wider dtype, and back: bfloat16 parameters and float32 updates."""
    if x.narrow is not None and x.narrow == after:
        return x._replace(narrow=None)
    if not all(jnp.issubdtype(dtype, jnp.floating) for dtype in (before, after)):
        return None
    old, new = jnp.finfo(before), jnp.finfo(after)
    widens = old.nmant <= new.nmant and old.nexp <= new.nexp
    return x._replace(narrow=before if x.narrow is None else x.narrow) if widens else None


def _arithmetic_value(name: str, inputs: list[Value], dtype: np.dtype) -> Value | None:
    """Sums with zero, and products with zero or one."""
    x, y = inputs

    def of(value: Value, number: int) -> bool:
        return value.constant is not None and bool(value.constant == number)

    if name in ("add", "add_any") and of(x, 0):
        return y
    if name in ("add", "add_any", "sub") and of(y, 0):
        return x
    if (name in ("mul", "div") and of(x, 0)) or (name == "mul" and of(y, 0)):
        return Value(constant=np.zeros((), dtype))
    if name in ("mul", "div") and of(y, 1):
        return x
    return y if name == "mul" and of(x, 1) else None


def _scan_flow(params: Mapping[str, Any]) -> Flow:
    """Inputs: constants, carry, rows; outputs: carry, rows."""
    # The body has the same inputs in the same order, with one row each. So its masks are the masks
    # of the whole loop, except for the carry: a carried value that the body computes from another
    # one depends on everything that the other one depended on in some earlier round.
    inner = flow(params["jaxpr"])
    if "ft_in" in params:  # since JAX 0.12
        first, carried = map(len, params["ft_in"].unpack()[:2])
    else:
        first, carried = params["num_consts"], params["num_carry"]
    # A mask shifted down by ``first`` is the carry's part of it, a bit for each number carried.
    carry = _after_any_rounds(inner.reads[:carried], first)
    rows = [mask | union(carry, mask >> first) for mask in inner.reads[carried:]]
    same = [first + k if inner.same[k] == first + k else None for k in range(carried)]
    escapes = inner.escapes | union(carry, inner.escapes >> first)
    return Flow([*carry, *rows], [*same, *[None] * len(rows)], escapes)


def _while_flow(params: Mapping[str, Any]) -> Flow:
    """Inputs: the condition's constants, the body's, the carry."""
    # The body knows nothing of the condition's constants, and the condition nothing of the body's:
    # so the bits of their masks are shifted to the places of these inputs in the whole loop.
    body, condition = flow(params["body_jaxpr"]), flow(params["cond_jaxpr"])
    cond, own = params["cond_nconsts"], params["body_nconsts"]
    first = cond + own
    unchanged = [source == own + k for k, source in enumerate(body.same)]
    # How often the body runs depends on the condition, and so do all values that it changes.
    constants = condition.reads[0] & ((1 << cond) - 1)
    control = constants | condition.reads[0] >> cond << first
    masks = [m << cond | (0 if k else control) for m, k in zip(body.reads, unchanged, strict=True)]
    carry = _after_any_rounds(masks, first)
    escapes = body.escapes << cond | (control if body.escapes else 0)
    same = [first + k if keep else None for k, keep in enumerate(unchanged)]
    return Flow(carry, same, escapes | union(carry, escapes >> first))


def _after_any_rounds(masks: Sequence[int], first: int) -> list[int]:
    """The dependences of each part of a carry (inputs from ``first`` on) after any rounds."""
    # For three parts with a = b, b = c, c = c the first depends on b after a round and on c after
    # two. Sets only grow, and each round but the last adds a bit, so this ends.
    reads: list[int] = []
    after = [1 << (first + k) for k in range(len(masks))]
    while reads != after:
        reads = after
        after = [
            r | mask | union(reads, mask >> first) for r, mask in zip(reads, masks, strict=True)
        ]
    return reads
