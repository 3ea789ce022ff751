"""A small task for workers, which import this module: it has little to import and to compile."""

import dataclasses
import os
import signal
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

import jaxsched as js
from jaxsched import search


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class Bowl:
    """Descends a bowl with noise of seed, step and fold. In a worker it may be in trouble.

    Args:
        aim: of the descent.
        trouble: "die" and "behead" (the driver dies) happen once, "fail" always.
        file: that is written when it happens, with which it does not happen again.
        driver: the process in which it does not happen.
    """

    aim: jax.Array
    trouble: str = dataclasses.field(default="", metadata={"static": True})
    file: str = dataclasses.field(default="", metadata={"static": True})
    driver: int = dataclasses.field(default=0, metadata={"static": True})

    def init(self, key):
        return jnp.sin(jax.random.key_data(key)[-1].astype(jnp.float32) + jnp.arange(3.0))

    def batches(self, seed, start, length):
        if self.trouble and seed == 1 and length > 2 and os.getpid() != self.driver:
            self.meet()
        return np.sin(np.arange(start, start + length, dtype=np.float32) * (seed + 1))

    def meet(self):
        if self.trouble == "fail":
            raise OSError("poisoned data")
        if not Path(self.file).exists():
            Path(self.file).touch()
            if self.trouble == "behead":
                os.kill(os.getppid(), signal.SIGKILL)
                time.sleep(60)  # until it ends as well
            os.kill(os.getpid(), signal.SIGKILL)

    def step(self, state, hyperparams, batch):
        gradient = 2 * (state - self.aim) + batch
        return state - hyperparams["learning_rate"] * gradient, {"loss": jnp.sum(state**2)}

    def evaluate(self, state):
        return {"loss": jnp.sum((state - self.aim) ** 2)}

    def fold(self, index, folds):
        return dataclasses.replace(self, aim=self.aim + index)


def bowl(**changes):
    return Bowl(**{"aim": jnp.zeros(3), "driver": os.getpid(), **changes})


def averaged():
    return search.Averaged(bowl(), window=4)


TRIALS = {
    **{f"wsd-{d}": js.wsd(0.1, 60, warmup=5, decay=d) for d in (10, 20, 30)},
    "diverges": js.Constant(1e30),
    "cosine": js.cosine_decay(0.2, 60),
    **{
        f"plateau-{r}": js.Plateau(js.Constant(r), factor=0.5, patience=1, cooldown=0)
        for r in (0.1, 0.3)
    },
}
EVERYTHING = {
    "steps": 60,
    "seeds": 2,
    "folds": 2,
    "evaluate_every": 10,
    "stopping": search.SuccessiveHalving(20, 2),
}
