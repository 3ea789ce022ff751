"""A harsher place than the user's: what passes here passes there.

For every test: no implicit rank promotion, 32-bit numbers, two CPU devices, and the same random
examples each time. Strict dtype promotion is for the schedules only: Optax's own Adam fails under
it (``b1 ** count``), so it is a fixture, and automatic in the modules of ``STRICT``.

Programs are compiled with little optimization, in a third of the time, by the tests and by what
they start. A test that asks for last digits, or for the bits of two different programs, is marked
``optimized``: its programs are compiled as a user's are. ``XLA_FLAGS= make test`` does so for all,
also for those that run in NumPy, operation by operation (``in_numpy``).

One compilation cache serves the workers and all programs that tests start; it begins empty, unless
JAX_COMPILATION_CACHE_DIR names one to keep. What tests count are traces, which it does not change.
What compiles in less than 0.03 s is not written: that would take longer. So would it
where each program is another, in the modules of ``UNCACHED``: there the cache is off.
"""

from __future__ import annotations

import functools
import gc
import math
import os
import re
import signal
import sys
import tempfile
import threading
from pathlib import Path

if "JAX_COMPILATION_CACHE_DIR" not in os.environ:  # before JAX is imported; inherited by workers
    _CACHE = tempfile.TemporaryDirectory(prefix="jaxsched-tests-")
    os.environ["JAX_COMPILATION_CACHE_DIR"] = _CACHE.name
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.03")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")
os.environ.setdefault("JAX_TRACEBACK_IN_LOCATIONS_LIMIT", "0")  # 3 % of the time until a program
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # of children.py, which may fork one thread only

import chex
import jax
import operations
import pytest
from helpers import LITTLE, OPTIMIZED, unflushed
from hypothesis import settings
from jax._src.interpreters import mlir
from jax.experimental.compilation_cache import compilation_cache

os.environ.setdefault("XLA_FLAGS", LITTLE)  # read with the first program
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # in the background of a shell
    signal.signal(signal.SIGINT, signal.default_int_handler)
os.fsync = unflushed
gc.set_threshold(50_000, 20, 100)  # a trace makes many objects, and few circles
jax.config.update("jax_num_cpu_devices", 2)
jax.config.update("jax_enable_x64", False)
jax.config.update("jax_numpy_rank_promotion", "raise")

settings.register_profile("jaxsched", derandomize=True, deadline=None, print_blob=True)
settings.load_profile("jaxsched")

STRICT = {"test_exact_steps", "test_laws", "test_recipes", "test_values"}
UNCACHED = STRICT | {"test_compat", "test_controller_rules", "test_controllers", "test_modes"}
UNCACHED |= {"test_silent_values"}
# They wait for processes that die, so they come first: the linters and another worker compute then.
WAITING = {"test_executor", "test_mesh_processes", "test_sweep_checkpoint"}
# Written without dtypes, as users write: the user's arithmetic, not ours, promotes.
USERS_CODE = ("Function", "tunes_a_schedule_by_its_gradient")

LONG = (Path(__file__).parent / "DURATIONS.md").read_text()
SLOW = set(re.findall(r"`(test_\w+::test_\w+)`", LONG))


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: item.module.__name__ not in WAITING)
    for item in items:
        if f"{item.module.__name__}::{item.function.__name__}" in SLOW:
            item.add_marker("slow")


@pytest.fixture(autouse=True, scope="module")
def _few_mlir_contexts():
    """One for a module and a thread: a new one takes longer than lowering a small program."""
    make = mlir.make_ir_context
    kept = functools.lru_cache(maxsize=8)(lambda thread: make())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mlir, "make_ir_context", lambda: kept(threading.get_ident()))
        yield


@pytest.fixture(autouse=True, scope="session")
def _keep_no_states_by_time():
    """What a store keeps beside ends of stages depends on how fast a run is."""
    from jaxsched.search.store._marks import Marks

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Marks, "_apart", lambda *_: math.inf)
        yield


@pytest.fixture(autouse=True)
def _count_traces_of_this_test_only():
    chex.clear_trace_counter()


@pytest.fixture(autouse=True)
def _forget_modules_of_this_test(request):
    """Those that it wrote and imported: a task by its name is refused while one has changed."""
    yield
    if folder := request.node.funcargs.get("tmp_path"):
        for name, module in list(sys.modules.items()):
            if str(getattr(module, "__file__", None)).startswith(str(folder)):
                del sys.modules[name]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item):
    """Around the fixtures too: those of a module are made with its first test."""
    _use_cache(item.module.__name__ not in UNCACHED)
    if not item.get_closest_marker("optimized"):
        return (yield)
    import jaxsched.search.engine._random  # noqa: F401 (its calls have no options of their own)
    from jaxsched.search.engine import _program

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jax, "jit", functools.partial(jax.jit, compiler_options=OPTIMIZED))
        patch.setattr(_program, "_FUNCTIONS", _optimized(_program.FunctionCache))
        return (yield)


@functools.cache
def _optimized(make):
    """What sweeps and range tests keep for a task has the optimization of its first test."""
    return make()


def _use_cache(wanted):
    if jax.config.jax_enable_compilation_cache != wanted:
        jax.config.update("jax_enable_compilation_cache", wanted)
        compilation_cache.reset_cache()  # or JAX goes by what it was at its first program


@pytest.fixture
def in_numpy(monkeypatch):
    """What is traced by ``jax.jit`` runs in NumPy, a tenth of the time that XLA compiles it."""
    monkeypatch.setattr(jax, "jit", operations.jit)


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
