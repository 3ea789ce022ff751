"""With JAX's compilation cache, another process with other numbers compiles nothing."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

CODE = """
import collections, sys
import jax, jax.numpy as jnp, optax
from sweep_tasks import Plain
import jaxsched as js

counts = collections.Counter()
jax.monitoring.register_event_listener(lambda name, **_: counts.update([name.split("/")[-1]]))
peak = float(sys.argv[1])
tx = js.inject(optax.adamw)(learning_rate=js.warmup_cosine(peak, int(900 * peak), 10))
params = {"w": jnp.ones(3)}
jax.jit(tx.update)(params, tx.init(params), params)
js.sweep(Plain(), js.grid(js.cosine_decay, peak=[peak, 2 * peak], steps=[int(200 * peak)]))
print(counts["cache_misses"], counts["cache_hits"])
"""


@pytest.fixture
def counts(tmp_path):
    def run(peak):
        tests = Path(__file__).parent
        found = subprocess.run(
            [sys.executable, "-c", CODE, str(peak)],
            env={
                **os.environ,
                "JAX_COMPILATION_CACHE_DIR": str(tmp_path),
                "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
                "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
                "PYTHONPATH": os.pathsep.join([str(tests), str(tests.parent)]),
            },
            capture_output=True,
            text=True,
            check=True,
        )
        return tuple(map(int, found.stdout.split()))

    return run


def test_a_new_rate_compiles_nothing_in_a_second_process(counts):
    """Nor do other lengths: neither an injected update nor a sweep."""
    compiled, _ = counts(0.1)
    assert compiled > 5
    again, hits = counts(0.3)
    assert again == 0 and hits >= compiled
