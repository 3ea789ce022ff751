"""What every benchmark prints first: a figure without its versions says nothing."""

import os
import platform

import jax
import optax


def versions() -> str:
    return (
        f"Python {platform.python_version()}, jax {jax.__version__}, optax {optax.__version__}, "
        f"{jax.devices()[0].device_kind}, {os.cpu_count()} cores"
    )
