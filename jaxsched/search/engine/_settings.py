"""Settings of JAX, and of the environment, under which the same program gives other numbers."""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax

_SETTINGS = (
    "jax_enable_x64",  # the dtypes
    "jax_explicit_x64_dtypes",
    "jax_numpy_dtype_promotion",
    "jax_default_prng_impl",  # the random numbers of a seed
    "jax_enable_custom_prng",
    "jax_threefry_partitionable",
    "jax_random_seed_offset",
    "jax_high_dynamic_range_gumbel",
    "jax_default_matmul_precision",  # the formulas
    "jax_allow_f16_reductions",
    "jax_softmax_custom_jvp",
    "jax_accurate_erf_inv",
    "jax_use_hlo_logistic_lowering",
    "jax_disable_jit",  # the compiler
    "jax_optimization_level",
    "jax_exec_time_optimization_effort",
    "jax_compiler_enable_remat_pass",
)
# Part of an identity only where they differ from JAX's defaults: earlier results lack them.
_RARE = {
    "jax_disable_most_optimizations": "False",
    "jax_use_magma": "auto",
    "jax_bcoo_cusparse_lowering": "False",
    "jax_ragged_dot_use_gpu_pallas_triton_lowering": "False",
    "jax_ragged_dot_use_ragged_dot_instruction": "True",
    "jax_pallas_use_mosaic_gpu": "True",
    "jax_cpu_collectives_implementation": "gloo",  # the order of sums on a mesh
    "jax_use_shardy_partitioner": "True",
    "jax_memory_fitting_effort": "0.0",
    "jax_memory_fitting_level": "O2",
    "jax_remat_barrier_no_cotangents": "False",
    "jax_embedded_constants_max_bytes": "32",  # a constant that is folded has other bits
}
_ENVIRONMENT = ("XLA_FLAGS", "LIBTPU_INIT_ARGS", "NVIDIA_TF32_OVERRIDE")
# Flags without an effect on results: the number of devices, and debug output.
_HARMLESS = ("--xla_force_host_platform_device_count", "--xla_dump_", "--xla_hlo_profile")


def settings() -> dict[str, str]:
    """The settings of JAX and of the environment that change numbers, name -> text."""
    texts = {name: str(getattr(value, "value", value)) for name, value in thread_settings().items()}
    current = jax.config.values  # made anew each time
    rare = {name: str(current.get(name, usual)) for name, usual in _RARE.items()}
    texts |= {name: value for name, value in rare.items() if value != _RARE[name]}
    for name in _ENVIRONMENT:
        text = os.environ.get(name, "")
        if text and not text.lstrip().startswith("-") and os.path.isfile(text):
            text = Path(text).read_text()  # as XLA does
        flags = [f for f in text.split() if not f.startswith(_HARMLESS)]
        texts[name] = " ".join(flags)
    return texts


def in_force() -> Callable[[], contextlib.ExitStack]:
    """A function that enters this thread's settings in another: JAX's contexts are per thread."""
    return functools.partial(entered, thread_settings())


def entered(wanted: Mapping[str, object]) -> contextlib.ExitStack:
    """Enters settings of ``thread_settings``, as far as JAX has a context for them."""
    stack = contextlib.ExitStack()
    for name, value in thread_settings().items():
        context = getattr(jax, name.removeprefix("jax_"), None)
        if value != wanted.get(name, value) and context is not None:
            stack.enter_context(context(wanted[name]))
    return stack


def thread_settings() -> dict[str, Any]:
    """The settings that this version of JAX has, as they are in this thread."""
    values = jax.config.values  # some are not attributes of it
    return {name: values[name] for name in _SETTINGS if name in values}
