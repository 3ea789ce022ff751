"""A harsher place than the user's: what passes here passes there.

For every test: no implicit rank promotion, 32-bit numbers, two CPU devices, and the same random
examples each time. Strict dtype promotion is for the schedules only: Optax's own Adam fails under
it (``b1 ** count``), so it is a fixture, and automatic in the modules of ``STRICT``.

Programs of the modules in ``QUICK`` are compiled with little optimization, in half the time: they
ask whether a schedule may be traced, mapped and differentiated, and ``test_values`` asks for its
last digits, in programs as a user's are.

One compilation cache serves the workers and all programs that tests start; it begins empty, unless
JAX_COMPILATION_CACHE_DIR names one to keep. What tests count are traces, which it does not change.
"""

from __future__ import annotations

import functools
import os
import tempfile

if "JAX_COMPILATION_CACHE_DIR" not in os.environ:  # before JAX is imported; inherited by workers
    _CACHE = tempfile.TemporaryDirectory(prefix="jaxsched-tests-")
    os.environ["JAX_COMPILATION_CACHE_DIR"] = _CACHE.name
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")

import jax
import pytest
from hypothesis import settings

jax.config.update("jax_num_cpu_devices", 2)
jax.config.update("jax_enable_x64", False)
jax.config.update("jax_numpy_rank_promotion", "raise")

settings.register_profile("jaxsched", derandomize=True, deadline=None, print_blob=True)
settings.load_profile("jaxsched")

QUICK = {
    *("test_laws", "test_recipes", "test_populations", "test_controllers", "test_plateau"),
    *("test_diagnose", "test_pain", "test_optim", "test_adopt", "test_groups", "test_observe"),
    *("test_every_optimizer", "test_every_step", "test_examples"),
}
LITTLE = {"xla_backend_optimization_level": 0}
if jax.version.__version_info__ < (0, 11):  # the option went with XLA's older code
    LITTLE["xla_cpu_use_fusion_emitters"] = False

STRICT = {"test_laws", "test_recipes", "test_values"}
# Written without dtypes, as users write: the user's arithmetic, not ours, promotes.
USERS_CODE = ("Function", "tunes_a_schedule_by_its_gradient")


@pytest.fixture(autouse=True)
def _compile_quickly(request, monkeypatch):
    law = getattr(request.node, "callspec", None)
    as_usual = law is not None and law.params.get("law") == "elementwise"
    if request.module.__name__ in QUICK and not as_usual:
        monkeypatch.setattr(jax, "jit", functools.partial(jax.jit, compiler_options=LITTLE))


@pytest.fixture
def strict():
    """No implicit dtype promotion."""
    with jax.numpy_dtype_promotion("strict"):
        yield


@pytest.fixture(autouse=True)
def _strict_for_schedules(request):
    ours = request.module.__name__ in STRICT
    if ours and not any(name in request.node.name for name in USERS_CODE):
        request.getfixturevalue("strict")
