"""What a type checker takes, and what it refuses: for ``make lint``; it is never run.

The ignored errors at the end must be there: an ignore without one is an error.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxsched as js
from jaxsched.compat import torch

cosine: js.AbstractSchedule = js.warmup_cosine(peak=3e-4, steps=100, warmup=10)
schedule: optax.Schedule = cosine
rate: optax.ScalarOrSchedule = js.Linear(0.0, 1.0, 10)
both: optax.ScalarOrSchedule = 3e-4 * (js.Linear(0.0, 1.0, 10) >> js.Constant(1.0)) + 0.1
tx: optax.GradientTransformation = optax.adamw(cosine)
injected: optax.GradientTransformationExtraArgs = js.inject(optax.adamw)(learning_rate=cosine)


@jax.jit
def traced(peak: jax.Array, steps: jax.Array) -> jax.Array:
    return js.warmup_cosine(peak, steps, warmup=js.share(0.1), end=np.float32(0.0))(jnp.arange(3))


traced(jnp.float32(0.1), jnp.int32(100))
longer: js.AbstractSchedule = dataclasses.replace(cosine)
js.wsd(np.linspace(0.1, 0.4, 4), 100, 10, decay=js.share(0.2), shape="1-sqrt")
js.cosine_decay(np.float64(0.1), np.int32(100))(np.arange(3))
js.search.sampled(js.cosine_decay, 4, peak=js.search.uniform(0.1, 1.0), steps=100)
js.search.load(file="result.npz")
js.Sequence([js.Linear(0.0, 1.0, 10), js.Constant(1.0)])
warmed = js.Linear(0.0, 1.0, 10) >> js.Plateau(0.1)
state = warmed.update(js.Clip(js.maximum(warmed, 1e-5), high=0.1).init(), value=1.0)
rates: js.AbstractController = 0.5 * warmed
floored: js.AbstractSchedule = js.maximum(cosine, 1e-5)
js.inject(lambda lr: optax.MultiSteps(optax.sgd(lr), 4))(lr=0.1 * js.RAdamWarmup())


class Task:
    """The names of arguments are its own."""

    def init(self, seed: jax.Array) -> jax.Array:
        return jax.random.normal(seed, ())

    def step(
        self, weight: jax.Array, rates: dict[str, jax.Array], _: int
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        return weight * (1.0 - rates["learning_rate"]), {"loss": weight**2}

    def evaluate(self, weight: jax.Array) -> dict[str, jax.Array]:
        return {"loss": weight**2}


js.sweep(Task(), [cosine])


text: str = js.Linear(0.0, 1.0, 10)(3)  # type: ignore[assignment]
js.Linear(0.0, 1.0)  # type: ignore[call-arg]
js.Linear(0.0, 1.0, 10).steps = 5  # type: ignore[misc]
text_as_schedule: optax.Schedule = "cosine"  # type: ignore[assignment]
js.warmup_cosine("0.1", 100, 10)  # type: ignore[arg-type]
js.wsd(0.1, 100, 10, 10, shape="liner")  # type: ignore[arg-type]
js.cosine_decay(js.share(0.1), 100)  # type: ignore[arg-type]
js.Plateau(0.1, 0.5, patience=3, mode="least")  # type: ignore[arg-type]
js.constant(0.1)("0")  # type: ignore[arg-type]
"0.1" * cosine  # type: ignore[operator]
torch.SWALR(0.1, 0.05, anneal_strategy="cosine")  # type: ignore[arg-type]
js.warmup_cosin(0.1, 100, 10)  # type: ignore[attr-defined]
