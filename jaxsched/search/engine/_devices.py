"""Where a sweep's arrays are put: on single devices, or on all devices of a mesh at once."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import platform
import re
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec, Sharding
from jax.typing import ArrayLike

from jaxsched._types import PyTree


@dataclasses.dataclass(frozen=True)
class MeshDevices:
    """All devices of a mesh as one place: an array put there is on each of them."""

    mesh: Mesh

    @property
    def platform(self) -> str:
        return str(self.mesh.devices.flat[0].platform)

    @property
    def sharding(self) -> NamedSharding:
        return NamedSharding(self.mesh, PartitionSpec())

    def put(self, value: ArrayLike) -> jax.Array:
        """A host array on all devices. Every process puts the same one; none communicates."""
        if isinstance(value, jax.Array):
            if value.sharding.device_set == set(self.mesh.devices.flat):
                return value
            if jnp.issubdtype(value.dtype, jax.dtypes.prng_key):  # NumPy has no array of keys
                data = self.put(jax.random.key_data(value))
                return jax.random.wrap_key_data(data, impl=jax.random.key_impl(value))
        array = np.asarray(value, jax.dtypes.canonicalize_dtype(jnp.result_type(value)))
        return laid_out(array.shape, self.sharding, array.__getitem__)


Place: TypeAlias = jax.Device | MeshDevices  # where the arrays of one thread lie


def laid_out(
    shape: tuple[int, ...], sharding: Sharding, part: Callable[..., np.ndarray]
) -> jax.Array:
    """An array of parts on the host, on several devices; explicitly, unlike JAX's own."""
    with jax.transfer_guard_host_to_device("allow"):
        return jax.make_array_from_callback(shape, sharding, part)


def machine_of(device: jax.Device) -> str:
    """The kind of a device, and the software that makes its numbers: another one may round sums
    differently. JAX says nothing about a CPU: the system gives its name and instruction sets."""
    if device.platform != "cpu":
        return " ".join(f"{device.device_kind}, {device.client.platform_version}".split())
    return _cpu_model()


def put(tree: PyTree, place: Place) -> PyTree:
    """A pytree of arrays on a device or ``MeshDevices``."""
    if isinstance(place, MeshDevices):
        return jax.tree.map(place.put, tree)
    return jax.device_put(tree, place)


# The compiler and the libraries of JAX choose by these.
_INSTRUCTION_SETS = re.compile(r"(sse|ssse|avx|fma|f16c|amx|neon|asimd|sve|sme|bf16|i8mm|fphp)\w*")


@functools.cache
def _cpu_model() -> str:
    """The name of the CPU, and a digest of its number and instruction sets."""
    cpu = {"model name": platform.processor(), "flags": "", "cpu family": "", "model": ""}
    try:
        lines = Path("/proc/cpuinfo").read_text().split("\n\n")[0].splitlines()
        cpu |= {name.strip(): text.strip() for name, _, text in (x.partition(":") for x in lines)}
    except OSError:  # another system
        pass
    flags = (cpu["flags"] or cpu.get("Features", "")).split()
    sets = sorted(flag for flag in flags if _INSTRUCTION_SETS.fullmatch(flag))
    number = f"{cpu['cpu family']}/{cpu['model']}"
    digest = hashlib.blake2b(" ".join([number, *sets]).encode(), digest_size=4).hexdigest()
    return f"{cpu['model name'] or platform.machine()} ({digest})"
