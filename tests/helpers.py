"""What several test modules use."""

from __future__ import annotations

import contextlib
import gc

import jax

# What is constant in a loop stays there: a small loop is one piece of code, not many fusions.
IN_LOOPS = {"xla_disable_hlo_passes": "while-loop-invariant-code-motion"}
# XLA's flags, and the options that undo them for one program.
# One module of code each: LLVM works on several in parallel, and every one costs.
LITTLE = "--xla_backend_optimization_level=0 --xla_cpu_parallel_codegen_split_count=1"
LITTLE += "".join(f" --{name}={value}" for name, value in IN_LOOPS.items())
OPTIMIZED = {"xla_backend_optimization_level": 3, "xla_disable_hlo_passes": ""}
if jax.version.__version_info__ < (0, 11):  # the option went with XLA's older code
    LITTLE += " --xla_cpu_use_fusion_emitters=false"
    OPTIMIZED["xla_cpu_use_fusion_emitters"] = True


def unflushed(descriptor):
    """In place of ``os.fsync``: no power fails in a test, and a disk that others use is slow."""


@contextlib.contextmanager
def only_new_garbage():
    """Garbage is not sought in what was there before, which takes seconds late in a worker."""
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


@contextlib.contextmanager
def checking_leaks():
    """JAX collects garbage for each doubt."""
    with only_new_garbage(), jax.checking_leaks():
        yield
