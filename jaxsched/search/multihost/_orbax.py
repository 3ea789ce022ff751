"""Sharded arrays in Orbax's format, with checks that Orbax lacks.

Orbax restores flipped bits silently, and casts dtypes. So every array has a checksum, computed on
the devices before writing and after reading, and independent of the sharding.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import Mesh, NamedSharding, PartitionSpec, Sharding
from jax.typing import ArrayLike

from jaxsched.search._fingerprint import with_key_type, without_key_type

_SEEDS = (np.uint32(0), np.uint32(0x9E3779B9))


@dataclasses.dataclass(frozen=True)
class Kind:
    """The description by which a read array is compared with the saved one."""

    dtype: str  # of the array, or of a random key's data
    shape: list[int]  # likewise
    key: str | None  # the kind of random key, or ``None``
    checksum: str  # of its bits


def save(directory: Path, arrays: Mapping[str, jax.Array]) -> dict[str, Kind]:
    """Writes arrays to a new directory: whole, or under a temporary name.

    Every process that holds a part of them must call it.

    Returns:
        For ``load``.
    """
    import orbax.checkpoint as ocp

    unkeyed = {name: without_key_type(value) for name, value in arrays.items()}
    plain = {name: jnp.asarray(value) for name, (value, _) in unkeyed.items()}
    sums = checksums(plain)
    filled = {name: value for name, value in plain.items() if value.size}  # Orbax takes no others
    handler = ocp.PyTreeCheckpointHandler(use_compression=False)  # weights hardly shrink
    with ocp.Checkpointer(handler) as checkpointer:
        checkpointer.save(directory.resolve(), args=ocp.args.PyTreeSave(filled))
    return {
        name: Kind(value.dtype.name, list(value.shape), unkeyed[name][1], sums[name])
        for name, value in plain.items()
    }


def load(
    directory: Path, kinds: dict[str, Kind], shardings: Mapping[str, Sharding]
) -> dict[str, Any]:
    """Reads this process's parts of the arrays, without waiting for others.

    Args:
        directory: of ``save``.
        kinds: the result of ``save``.
        shardings: name -> sharding of the array, perhaps on other devices than at ``save``.

    Raises:
        Exception: of many kinds, if files are missing or unreadable.
    """
    import orbax.checkpoint as ocp

    def how(name: str) -> Any:
        shape, dtype = tuple(kinds[name].shape), jnp.dtype(kinds[name].dtype)
        return ocp.ArrayRestoreArgs(sharding=shardings[name], global_shape=shape, dtype=dtype)

    filled = [name for name, kind in kinds.items() if 0 not in kind.shape]
    handler = ocp.PyTreeCheckpointHandler()  # a Checkpointer would wait for the other processes
    loaded = handler.restore(
        directory.resolve(),
        args=ocp.args.PyTreeRestore(
            dict.fromkeys(filled, 0), restore_args={name: how(name) for name in filled}
        ),
    )
    handler.close()
    empty = {n: np.zeros(k.shape, jnp.dtype(k.dtype)) for n, k in kinds.items() if n not in loaded}
    return loaded | empty


def verified(arrays: dict[str, Any], kinds: dict[str, Kind]) -> tuple[dict[str, Any], list[str]]:
    """The arrays of ``load`` in their saved form, and the names of the changed ones.

    Every process that holds a part of them must call it, and gets the same names.
    """
    sums = checksums(arrays)
    changed = [name for name, kind in kinds.items() if sums[name] != kind.checksum]
    return {n: with_key_type(value, kinds[n].key) for n, value in arrays.items()}, changed


def checksums(arrays: Mapping[str, ArrayLike]) -> dict[str, str]:
    """Name -> 64 bits in hexadecimal, of the bits of an array and their places.

    Sums, modulo 2^32, of a function that is one-to-one in each word: a change within one word is
    always detected, any other with probability 1 - 2^-64. A sum of integers does not depend on its
    order, so the checksum does not depend on the sharding.
    """
    # One after another: on a CPU, sums in flight may each hold the thread that another one needs.
    sums = {name: jax.device_get(_checksum(value)) for name, value in arrays.items()}
    return {name: f"{int(a):08x}{int(b):08x}" for name, (a, b) in sums.items()}


def _checksum(x: ArrayLike) -> jax.Array:
    """uint32 [2], on every process of the array's mesh."""
    lies = getattr(x, "sharding", None)
    return _compiled_checksum(lies.mesh if isinstance(lies, NamedSharding) else None)(x)


@functools.lru_cache(maxsize=8)
def _compiled_checksum(mesh: Mesh | None) -> Callable[[ArrayLike], jax.Array]:
    """The compiled sum; every process of a mesh can read its result."""
    everywhere = None if mesh is None else NamedSharding(mesh, PartitionSpec())
    return jax.jit(_checksum_of, out_shardings=everywhere)


def _checksum_of(x: jax.Array) -> jax.Array:
    """uint32 [2] of an array of any dtype, except a random key's."""
    words = _as_uint32(x)
    # The number of each word in the whole array, modulo 2^32: of more words some have one place.
    place = jnp.zeros(words.shape, jnp.uint32)
    stride = 1
    for axis in reversed(range(words.ndim)):
        count = lax.broadcasted_iota(jnp.uint32, words.shape, axis)
        place += count * np.uint32(stride % 2**32)
        stride *= words.shape[axis]
    # With its place mixed in, a word that moves elsewhere changes the sum.
    words ^= _mixed_bits(place)
    return jnp.stack([_mixed_bits(words ^ seed).sum(dtype=jnp.uint32) for seed in _SEEDS])


def _as_uint32(x: jax.Array) -> jax.Array:
    """The bits of an array as uint32, with a further axis where a number has more than one word."""
    if jnp.issubdtype(x.dtype, jnp.complexfloating):
        x = jnp.stack([x.real, x.imag], -1)
    if x.dtype == bool:
        return x.astype(jnp.uint32)
    about: Any = jnp.finfo if jnp.issubdtype(x.dtype, jnp.floating) else jnp.iinfo
    bits = about(x.dtype).bits
    return lax.bitcast_convert_type(x, f"uint{min(bits, 32)}").astype(jnp.uint32)


def _mixed_bits(x: jax.Array) -> jax.Array:
    """The finalizer of MurmurHash3: one-to-one, and every bit depends on every other."""
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        x = (x ^ (x >> np.uint32(shift))) * np.uint32(factor)
    return x ^ (x >> np.uint32(16))
