"""With JAX's compilation cache, another process with other numbers compiles nothing."""

import pytest
from children import Child

CODE = """
import collections, sys
import jax, jax.numpy as jnp, optax
from sweep_tasks import Plain, supervised
import jaxsched as js
from jaxsched import search
from jaxsched.controllers import Plateau

jax.config.update("jax_compilation_cache_dir", sys.argv[2])
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
counts = collections.Counter()
jax.monitoring.register_event_listener(lambda name, **_: counts.update([name.split("/")[-1]]))
which = int(sys.argv[1])  # 1 or 2: rates, lengths, kinds and numbers of trials, of seeds, of parts
peak, steps = 0.1 * which, 30 * which
tx = js.inject(optax.adamw)(learning_rate=js.warmup_cosine(peak, 10 * steps, 10))
params = {"w": jnp.ones(3)}
jax.jit(tx.update)(params, tx.init(params), params)

kind = (js.cosine_decay, js.constant)[which - 1]
one = {"devices": jax.local_devices()[:1]}
for task in (Plain(), supervised()):
    trials = js.grid(kind, peak=[peak / n for n in range(1, 2 + which)], steps=steps)
    result = js.sweep(task, trials, seeds=which, **one)
    js.range_test(task, 1e-4 * which, steps=steps, seeds=2 * which)
search.final_score(task, result)
watching = [Plateau(js.cosine_decay(peak / n, steps), patience=n) for n in range(1, 1 + which)]
one |= {"evaluate_every": 5 * which}
js.sweep(task, watching, **one)
halving = search.SuccessiveHalving(5 * which, 1 + which)
js.sweep(task, watching, stopping=halving, width=2, share_prefixes=False, **one)
print(counts["cache_misses"], counts["cache_hits"])
"""


@pytest.fixture
def counts(tmp_path):
    def run(which):
        code, found, errors = Child(CODE, which, tmp_path).ended()
        assert code == 0, errors
        return tuple(map(int, found.split()))

    return run


def test_other_numbers_compile_nothing_in_a_second_process(counts):
    """Not an injected update, a sweep, a range test or a final score; as often as you like."""
    compiled, _ = counts(1)
    assert compiled > 10
    again, hits = counts(2)
    assert again == 0 and hits >= compiled
