"""Small matrix products of a step, in the order that is faster on a CPU.

The gradient of a layer's weights is a product over the samples of a batch, ``outputs.T @ inputs``,
which JAX then transposes. XLA contracts both to ``inputs.T @ outputs``, and copies the left factor
number by number. In a last layer this is the wide factor, and the product takes two to ten times as
long. A barrier before the transposition keeps the product as JAX has it.

Either way a thread adds up the same terms in the same order, so no bit changes. Several threads may
divide the sum, each order in its own way: products that XLA gives to several are left alone. The
reader of the gradient then reads it transposed. A sum over it (its norm) would have another order,
and ``rsqrt`` is rounded otherwise where XLA does not vectorize: only sure operations may read it.
"""

from __future__ import annotations

import re
from math import prod

import jax
import jax.numpy as jnp
from jax import jit, lax
from jax.extend.core import ClosedJaxpr, JaxprEqn, Literal, Var

from jaxsched.search._fingerprint import aval_of, equations

# Samples of a batch, and multiplications: beyond these XLA gave some products to several threads in
# one order only. It rounds the last column of an odd number otherwise.
_SAMPLES, _MOST = range(8, 129), 1 << 19
_OVER_SAMPLES = (((0,), (0,)), ((), ()))

# Each number of their results is rounded once, whatever stands beside it.
_SURE = re.compile(
    "jit|transpose|copy|convert_element_type|broadcast_in_dim|add|add_any|sub|mul|div|neg|abs|sign|"
    "max|min|sqrt|square|integer_pow|select_n|eq|ne|lt|le|gt|ge|is_finite"
)

_THREADED = re.compile(
    "dot_general|conv_general_dilated|cholesky|eigh?|geqrf|householder_product|lu|qr|schur|svd|"
    "triangular_solve"
)


def narrow_first(closed: ClosedJaxpr) -> ClosedJaxpr:
    """A closed jaxpr, with a barrier after each product with a narrow left factor."""
    eqns: list[JaxprEqn] = []
    unsure = set[Var]()  # inputs of an equation that may round otherwise, or of one after it
    # Backwards, from results to operands: so all readers of a product are known before it.
    for eqn in reversed(closed.jaxpr.eqns):
        inner = equations(eqn.params["jaxpr"].jaxpr) if eqn.primitive.name == "jit" else (eqn,)
        sure = all(_SURE.fullmatch(e.primitive.name) for e in inner)
        eqns.append(eqn if not unsure.isdisjoint(eqn.outvars) else _with_barrier(eqn))
        if not sure or not unsure.isdisjoint(eqn.outvars):
            unsure.update(x for x in eqn.invars if not isinstance(x, Literal))
    return closed.replace(jaxpr=closed.jaxpr.replace(eqns=eqns[::-1]))


def for_one_thread(closed: ClosedJaxpr, lanes: int) -> bool:
    """Whether each product or factorization of a step, for so many lanes, has one thread.

    XLA gives large products several threads. SciPy's BLAS, which factorizes, has its own threads.
    """

    def small(eqn: JaxprEqn) -> bool:
        if eqn.primitive.name == "conv_general_dilated":
            return False
        shape = aval_of(eqn.invars[0]).shape
        size, summed = prod(shape), shape[-1]  # a factorization has about n^3 multiplications
        if eqn.primitive.name == "dot_general":
            size = aval_of(eqn.outvars[0]).size
            summed = prod(shape[axis] for axis in eqn.params["dimension_numbers"][0][0])
        return bool(lanes * size * summed <= _MOST)

    return all(small(x) for x in equations(closed.jaxpr) if _THREADED.fullmatch(x.primitive.name))


# ---------------------------------------------------------------------------------------- details


def _with_barrier(eqn: JaxprEqn) -> JaxprEqn:
    """The equation; if it is a narrow product over samples, with a barrier behind it."""
    if eqn.primitive.name != "dot_general" or eqn.params["dimension_numbers"] != _OVER_SAMPLES:
        return eqn
    left, right = map(aval_of, eqn.invars)
    if not left.dtype == right.dtype == aval_of(eqn.outvars[0]).dtype == jnp.float32:
        return eqn
    if left.ndim != 2 or right.ndim != 2 or left.shape[0] not in _SAMPLES:
        return eqn
    # 1200 shapes within these bounds were tried, on JAX 0.10 and 0.12, with 2 threads and 64: none
    # had other bits. Six of 1100 with an odd width had other bits.
    narrow, wide = left.shape[1], right.shape[1]
    if not 8 <= narrow < wide or narrow % 2 or wide % 2 or left.size * wide > _MOST:
        return eqn

    @jit  # a call is one equation, which takes the place of one
    def kept(left: jax.Array, right: jax.Array) -> jax.Array:
        return lax.optimization_barrier(eqn.primitive.bind(left, right, **eqn.params))

    (call,) = jax.make_jaxpr(kept)(left, right).jaxpr.eqns
    return call.replace(invars=eqn.invars, outvars=eqn.outvars)
