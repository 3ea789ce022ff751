"""Small matrix products of a step, in the order that is faster on a CPU.

The gradient of a layer's weights is a product over the samples of a batch, ``outputs.T @ inputs``,
which JAX then transposes. XLA contracts both to ``inputs.T @ outputs``, and copies the left factor
number by number: of a last layer, the wide one, which takes two to ten times as long. A barrier
before the transposition keeps the product as JAX has it.

Either way a thread adds up the same terms in the same order, so no bit changes. Several threads
may divide the sum, each order in its own way: products that XLA gives to several are left alone.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import jit, lax

# Samples of a batch, and multiplications: beyond these XLA gave some products to several threads in
# one order only. It rounds the last column of an odd number otherwise.
_SAMPLES, _MOST = range(8, 129), 1 << 19
_OVER_SAMPLES = (((0,), (0,)), ((), ()))


def narrow_first(eqn: Any) -> Any:
    """An equation of a jaxpr; with a barrier if it is a product whose left factor is narrow."""
    if eqn.primitive.name != "dot_general" or eqn.params["dimension_numbers"] != _OVER_SAMPLES:
        return eqn
    left, right = (x.aval for x in eqn.invars)
    if not left.dtype == right.dtype == eqn.outvars[0].aval.dtype == jnp.float32:
        return eqn
    if left.ndim != 2 or right.ndim != 2 or left.shape[0] not in _SAMPLES:
        return eqn
    narrow, wide = left.shape[1], right.shape[1]
    if not 8 <= narrow < wide or narrow % 2 or wide % 2 or left.size * wide > _MOST:
        return eqn

    @jit
    def kept(left: Any, right: Any) -> Any:
        return lax.optimization_barrier(eqn.primitive.bind(left, right, **eqn.params))

    (call,) = jax.make_jaxpr(kept)(left, right).jaxpr.eqns
    return call.replace(invars=eqn.invars, outvars=eqn.outvars)
