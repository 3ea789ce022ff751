"""What the tests of a sweep's identity train; a module, so that other processes can import it."""

import sys

import jax
import jax.numpy as jnp
import numpy as np

import jaxsched as js
from jaxsched import search

DATA = np.arange(3000, dtype=np.float32) / 3000


class Line:
    """Closes over its data, behind jitted functions, in one of its methods or in its batches."""

    def __init__(self, data=DATA, where="evaluate"):
        self.data, self.where = data, where
        self._mean = jax.jit(lambda w: w * jnp.mean(jnp.asarray(data)))

    def mean(self, w, where):
        return self._mean(w) if where == self.where else w

    def init(self, key):
        return self.mean(jnp.ones(2), "init")

    def step(self, state, hyperparams, batch):
        loss, grad = jax.value_and_grad(lambda w: jnp.sum(self.mean(w, "step") ** 2 + batch))(state)
        return state - hyperparams["learning_rate"] * grad, {"loss": loss}

    def batches(self, seed, start, length):
        moved = self.data[seed] if self.where == "seeds" else 0.0
        return self.data[start : start + length] * (self.where == "batches") + moved

    def evaluate(self, state):
        loss = jnp.sum(self.mean(state, "evaluate") ** 2)
        return {"loss": loss, "score": loss}

    def fold(self, index, folds):
        data = self.data.copy()
        data[0] = index
        return Line(data, self.where)

    def test(self, state):
        return self.evaluate(state)

    everything = lambda self: self


class Rule:
    """A stopping rule without a ``__repr__``, that holds a function."""

    def __init__(self, step, worst=max):
        self.step, self.worst = step, worst

    def rungs(self, steps):
        return (self.step,)

    def keep(self, costs):
        return costs < self.worst(costs)


class Slope:
    """A setting without a ``__repr__``."""

    def __init__(self, end):
        self.end = end


def halved(peak):
    return peak / 2


def recipe(shape, slope):
    return js.linear_decay(shape(0.2), 12, end=slope.end)


def trials():
    shapes = [halved, lambda peak: peak, *(lambda peak, k=k: peak / k for k in (3, 4))]
    return search.grid(recipe, shape=shapes, slope=[Slope(0.0), Slope(0.01)])


if __name__ == "__main__":
    kind, *paths = sys.argv[1:]
    import identity_tasks as here  # under the name that other processes know

    told = {"stopping": here.Rule(4)} if kind == "rule" else {"shard": (int(kind), 2)}
    result = search.sweep(here.Line(), here.trials(), checkpoint=paths[0], **told)
    result.save(paths[1])
    print(result.steps_trained, [trial.name for trial in result.trials])
