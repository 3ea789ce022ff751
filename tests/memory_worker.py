"""A sweep in a process with little memory: ``memory_worker.py MEBIBYTES``; prints its width."""

import resource
import sys
import warnings

import jax.numpy as jnp

import jaxsched as js
from jaxsched.search import sweep

SAMPLES = 15_000_000  # 60 MB for each run, twice


class Big:
    def init(self, key):
        return jnp.ones(8)

    def step(self, state, hyperparams, batch):
        sums = jnp.cumsum(jnp.sin(jnp.arange(SAMPLES, dtype=jnp.float32) * state[0]))
        loss = jnp.sum(state**2) + 1e-20 * jnp.sum(sums[::1000] ** 2)
        return (1 - hyperparams["learning_rate"]) * state, {"loss": loss}

    def evaluate(self, state):
        return {"loss": jnp.sum(state**2)}


warnings.simplefilter("default")  # its width is halved with a warning
trials = [js.Constant(rate) for rate in (0.1, 0.2, 0.3, 0.4)]
sweep(Big(), trials[:1], steps=1)  # what compiling takes is not to be counted
with open("/proc/self/statm") as file:
    used = int(file.read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + int(sys.argv[1]) * 2**20,) * 2)
result = sweep(Big(), trials, steps=1, width=4)
print(result.info["width"], result.validation["loss"].ravel().tolist())
