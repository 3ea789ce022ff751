"""Settings of JAX, and of the environment, under which the same program gives other numbers."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from typing import Any

import jax

_SETTINGS = (
    "jax_enable_x64",  # what a dtype is
    "jax_explicit_x64_dtypes",
    "jax_numpy_dtype_promotion",  # what two dtypes give
    "jax_default_prng_impl",  # what `jax.random.key` of a seed draws
    "jax_enable_custom_prng",
    "jax_threefry_partitionable",
    "jax_random_seed_offset",
    "jax_high_dynamic_range_gumbel",
    "jax_default_matmul_precision",  # how a product or a function is computed
    "jax_allow_f16_reductions",
    "jax_softmax_custom_jvp",
    "jax_accurate_erf_inv",
    "jax_use_hlo_logistic_lowering",
    "jax_disable_jit",  # what XLA makes of it
    "jax_disable_most_optimizations",
    "jax_optimization_level",
    "jax_exec_time_optimization_effort",
    "jax_compiler_enable_remat_pass",
)
_ENVIRONMENT = ("XLA_FLAGS", "LIBTPU_INIT_ARGS", "NVIDIA_TF32_OVERRIDE")
# Flags that change nothing of a result: how many devices there are, and what is written down.
_HARMLESS = ("--xla_force_host_platform_device_count", "--xla_dump_", "--xla_hlo_profile")


def settings() -> dict[str, str]:
    """What of JAX's settings and of the environment changes numbers."""
    found = {name: str(getattr(value, "value", value)) for name, value in _here().items()}
    for name in _ENVIRONMENT:
        flags = [f for f in os.environ.get(name, "").split() if not f.startswith(_HARMLESS)]
        found[name] = " ".join(flags)
    return found


def in_force() -> Callable[[], contextlib.ExitStack]:
    """What puts the settings of this thread in force in another one.

    A context such as ``with jax.threefry_partitionable(False)`` is of the thread that entered it.
    """
    wanted = _here()

    def enter() -> contextlib.ExitStack:
        stack = contextlib.ExitStack()
        for name, value in _here().items():
            context = getattr(jax, name.removeprefix("jax_"), None)
            if value != wanted[name] and context is not None:
                stack.enter_context(context(wanted[name]))
        return stack

    return enter


def _here() -> dict[str, Any]:
    """The settings that this version of JAX has, as they are in this thread."""
    return {name: getattr(jax.config, name) for name in _SETTINGS if hasattr(jax.config, name)}
