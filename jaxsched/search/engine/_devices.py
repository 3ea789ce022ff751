"""Where a sweep's arrays are put: on single devices, or on all devices of a mesh at once."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec


@dataclasses.dataclass(frozen=True)
class MeshDevices:
    """All devices of a mesh as one place of an engine: what is put there is on each of them."""

    mesh: Mesh

    @property
    def platform(self) -> str:
        return str(self.mesh.devices.flat[0].platform)

    @property
    def sharding(self) -> NamedSharding:
        return NamedSharding(self.mesh, PartitionSpec())

    def put(self, value: Any) -> jax.Array:
        """A host's array on all devices; every process puts the same, and nobody is asked."""
        if isinstance(value, jax.Array):
            if value.sharding.device_set == set(self.mesh.devices.flat):
                return value
            if jnp.issubdtype(value.dtype, jax.dtypes.prng_key):
                data = self.put(jax.random.key_data(value))
                return jax.random.wrap_key_data(data, impl=jax.random.key_impl(value))
        array = np.asarray(value, jax.dtypes.canonicalize_dtype(jnp.result_type(value)))
        return jax.make_array_from_callback(array.shape, self.sharding, array.__getitem__)


def put(tree: Any, place: Any) -> Any:
    """A pytree of arrays on a device or ``MeshDevices``."""
    return (
        jax.tree.map(place.put, tree)
        if isinstance(place, MeshDevices)
        else jax.device_put(tree, place)
    )


def resolve_devices(devices: Any) -> list[Any]:
    """The places of ``sweep(devices=...)``.

    Raises:
        ValueError: if there is none, a mesh leaves a process out, or it has explicit axes.
    """
    if not isinstance(devices, Mesh):
        listed = isinstance(devices, Iterable) and not isinstance(devices, str)
        found: list[Any] = jax.local_devices() if devices is None else [*devices] if listed else []
        if not found or not all(isinstance(device, jax.Device) for device in found):
            raise ValueError(
                f"sweep(devices=...) must be None, a mesh, or at least one device, got {devices!r}."
            )
        return found
    processes = {device.process_index for device in devices.devices.flat}
    if processes != set(range(jax.process_count())):
        raise ValueError(
            "sweep(devices=...) must be a mesh with devices of every process, got one of the "
            f"processes {sorted(processes)} of {jax.process_count()}."
        )
    if any(kind != AxisType.Auto for kind in devices.axis_types):
        raise ValueError(
            "sweep(devices=...) must be a mesh with Auto axes, "
            f"`jax.make_mesh(..., axis_types=(jax.sharding.AxisType.Auto,) * n)`, got {devices}."
        )
    return [MeshDevices(devices)]
