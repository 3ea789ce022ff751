"""What several test modules use."""

from __future__ import annotations

import jax

# XLA's flags, and the options that undo them for one program.
LITTLE = "--xla_backend_optimization_level=0"
OPTIMIZED = {"xla_backend_optimization_level": 3}
if jax.version.__version_info__ < (0, 11):  # the option went with XLA's older code
    LITTLE += " --xla_cpu_use_fusion_emitters=false"
    OPTIMIZED["xla_cpu_use_fusion_emitters"] = True
