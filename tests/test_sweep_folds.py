"""Cross-validation, and the final score on the test data."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sweep_tasks import Plain, data, python_loop, supervised

import jaxsched as js
from jaxsched import search
from jaxsched.search import final_score

TRIALS = [js.Constant(rate) for rate in (1e-3, 0.03, 0.3)]


def sweep(task, trials=TRIALS, **arguments):
    return search.sweep(task, trials, devices=jax.local_devices()[:1], **arguments)


def test_each_fold_is_the_sweep_of_its_task_and_all_share_one_program():
    x, y = data(100)
    task = supervised(train=(x, y), validation=None)
    result = sweep(task, folds=3, seeds=2, steps=30)
    assert result.info["traces"] == {"init": 1, "segment": 1, "evaluate": 1}
    assert result.train["loss"].shape == (3, 3, 2, 30)
    for fold in range(3):
        alone = sweep(task.fold(fold, 3), seeds=2, steps=30)
        assert alone.train["loss"][:, 0].tobytes() == result.train["loss"][:, fold].tobytes()
        assert alone.final()[:, 0].tobytes() == result.final()[:, fold].tobytes()
    mean, error = result.scores()
    values = result.final().reshape(3, 6).astype(np.float64)
    np.testing.assert_allclose(mean, values.mean(axis=1))
    np.testing.assert_allclose(error, values.std(axis=1, ddof=1) / np.sqrt(6))


ROWS = np.random.RandomState(3).randn(12).astype(np.float32)


class Mean:
    """By hand: learns the mean of the rows that it closes over, behind a jitted function."""

    def __init__(self, train=ROWS, held=ROWS):
        self.train, self.held = train, held

    def init(self, key):
        return jnp.zeros(())

    def step(self, state, hyperparams, batch):
        loss = jax.jit(lambda w: jnp.mean((w - jnp.asarray(self.train)) ** 2))
        value, grad = jax.value_and_grad(loss)(state)
        return state - hyperparams["learning_rate"] * grad, {"loss": value}

    def evaluate(self, state):
        return {"loss": jax.jit(lambda w: jnp.mean((w - jnp.asarray(self.held)) ** 2))(state)}

    def fold(self, index, folds):
        held = np.arange(len(ROWS)) % folds == index
        return type(self)(ROWS[~held], ROWS[held])


class Equal(Mean):
    """Equal to every other, as a dataclass that compares no data is."""

    def __eq__(self, other):
        return True

    def __hash__(self):
        return 0


class Around:
    """A wrapper that hands everything on."""

    def __init__(self, task):
        self.task = task

    def __getattr__(self, name):
        return getattr(self.__dict__["task"], name)

    def fold(self, index, folds):
        return Around(self.task.fold(index, folds))


@functools.partial(jax.tree_util.register_dataclass, data_fields=["rows"], meta_fields=["place"])
@dataclasses.dataclass
class Static(Mean):
    """A pytree that keeps in a static field which fold it is."""

    rows: Any
    place: Any = (0, 1)

    @property
    def held(self):
        return self.rows[self.place[0] :: self.place[1]]

    @property
    def train(self):
        return self.rows[1 - min(self.place[0], 1) :: 2]

    def fold(self, index, folds):
        return dataclasses.replace(self, place=(index, folds))


@pytest.mark.parametrize(
    ("task", "devices"),
    [
        (Mean(), 1),
        (Equal(), 1),
        (Around(Mean()), 2),
        (Static(ROWS), 2),
        (search.Averaged(Mean(), window=5), 1),
    ],
    ids=lambda x: type(x).__name__,
)
def test_folds_of_any_task_are_the_sweeps_of_their_tasks(task, devices):
    result = search.sweep(task, TRIALS[1:], folds=3, steps=8, devices=jax.local_devices()[:devices])
    assert len(set(result.final()[0, :, 0].tolist())) == 3
    for fold in (1, 2):
        alone = sweep(task.fold(fold, 3), TRIALS[1:], steps=8)
        assert alone.train["loss"][:, 0].tobytes() == result.train["loss"][:, fold].tobytes()
        assert alone.final()[:, 0].tobytes() == result.final()[:, fold].tobytes()


def test_folds_that_compute_the_same_on_other_data_share_a_program():
    class Batched(Mean):
        """Its folds differ in their batches only."""

        def step(self, state, hyperparams, batch):
            value, grad = jax.value_and_grad(lambda w: jnp.mean((w - batch) ** 2))(state)
            return state - hyperparams["learning_rate"] * grad, {"loss": value}

        def batches(self, seed, start, length):
            return np.tile(self.train, (length, 1))

        def fold(self, index, folds):
            return Batched(ROWS[index::folds], ROWS)

    result = sweep(Batched(), TRIALS[1:], folds=3, steps=8)
    assert result.info["traces"] == {"init": 1, "segment": 1, "evaluate": 1}
    assert len(set(result.final()[0, :, 0].tolist())) == 3


def refused_folds(make):
    class Odd(Mean):
        def fold(self, index, folds):
            return make(self, index)

    with pytest.raises((ValueError, TypeError)) as error:
        sweep(Odd(), folds=2, steps=4)
    return "; ".join([str(error.value), *getattr(error.value, "__notes__", ())])


def test_folds_that_do_not_fit_are_refused_before_training():
    class Other(Mean):
        def init(self, key):
            return jnp.zeros(2)

        def step(self, state, hyperparams, batch):
            return state, {"loss": jnp.sum(state) * hyperparams["learning_rate"]}

        def evaluate(self, state):
            return {"loss": jnp.sum(state), "more": jnp.sum(state)}

    assert "float32[2] for the state in fold(1, 2) and float32[] in" in refused_folds(
        lambda task, index: [Mean(), Other()][index]
    )
    assert "in fold(1, 2) of the task" in refused_folds(lambda task, index: [task, None][index])
    text = refused_folds(lambda task, index: task)
    assert "the folds must differ in their data, but fold(1, 2) of the task trains" in text
    assert text == refused_folds(lambda task, index: Mean(ROWS[:6], ROWS[6:]))


def test_folds_may_have_unequal_numbers_of_rows():
    result = sweep(Mean(), TRIALS[1:], folds=5, steps=3)  # 9 or 10 rows to train on
    assert np.isfinite(result.final()).all()


def test_folds_part_the_data():
    x, y = data(100)
    task = supervised(train=(x[:70], y[:70]), validation=(x[70:], y[70:]))
    folds = [task.fold(i, 3) for i in range(3)]
    held = [set(f._split.validation[f._split.weight > 0].tolist()) for f in folds]
    assert set.union(*held) == set(range(100))
    assert sum(map(len, held)) == 100
    for fold, out in zip(folds, held, strict=True):
        rows = set(fold._split.train.tolist())
        assert not rows & out
        assert len(rows) == 66
    assert set(task.everything()._split.train.tolist()) == set(range(100))


def test_a_padded_fold_evaluates_to_the_mean_of_its_rows():
    x, y = data(100)
    fold = supervised(train=(x, y), validation=None).fold(2, 3)  # 33 rows and a padding
    state = jax.jit(fold.init)(jax.random.key(0))
    rows = fold._split.validation[fold._split.weight > 0]
    assert len(rows) == 33
    plain = supervised(train=(x, y), validation=(x[rows], y[rows]))
    evaluate = jax.jit(lambda task, state: task.evaluate(state))
    found = evaluate(fold, state)
    for name, value in evaluate(plain, state).items():
        np.testing.assert_allclose(found[name], value, rtol=1e-6)


def test_final_score_trains_the_very_run_of_the_sweep():
    task = supervised()
    result = sweep(task, seeds=2, steps=40)
    final = final_score(task, result)
    best = result.best()
    assert final.best == best
    assert final.result.train["loss"][0].tobytes() == result.train["loss"][best.index].tobytes()
    for j in range(2):
        values = {"learning_rate": js.sample(best.schedule, 40)}
        state, _ = python_loop(task, values, j)
        assert all(map(np.array_equal, jax.tree.leaves(state), jax.tree.leaves(final.states[j])))
        np.testing.assert_allclose(final.metrics["loss"][j], task.test(state)["loss"], rtol=1e-6)
    assert "accuracy" in repr(final)


def test_after_a_cross_validation_the_winner_is_trained_on_everything():
    x, y = data(100)
    task = supervised(train=(x[:80], y[:80]), validation=None, test=(x[80:], y[80:]))
    result = sweep(task, folds=2, steps=30)
    final = final_score(task, result)
    values = {"learning_rate": js.sample(result.best().schedule, 30)}
    _, losses = python_loop(task.everything(), values, 0)
    assert final.result.train["loss"][0, 0, 0].tobytes() == losses.tobytes()


def test_the_test_data_are_not_read_before():
    class Trap:
        def __len__(self):
            return 5

        def __getitem__(self, index):
            raise AssertionError("read the test data")

        __array__ = __getitem__

    task = supervised(test=(Trap(), Trap()))
    result = sweep(task, steps=10)
    with pytest.raises(Exception, match=r"Trap|read the test data"):
        final_score(task, result)


def test_errors():
    with pytest.raises(ValueError, match=r"fold\(folds=...\) must be from 2 to the 144 samples"):
        sweep(supervised(), folds=145, steps=5)
    with pytest.raises(ValueError, match=r"Supervised\(batch_size=...\) must be at most the 72"):
        sweep(supervised(batch_size=96), folds=2, steps=5)
    with pytest.raises(ValueError, match=r"sweep\(folds=...\) must be a whole number of at"):
        sweep(supervised(), folds=1, steps=5)
    less = type("Less", (Plain,), {"batches": None, "fold": None, "test": None})()
    for task in (Plain(), less, search.Averaged(less, window=1)):
        with pytest.raises(TypeError, match="without `fold`"):
            sweep(task, folds=2, steps=5)
        with pytest.raises(TypeError, match="must have a method `test`"):
            final_score(task, sweep(task, steps=5))
    with pytest.raises(ValueError, match=r"Supervised\(validation=...\) must be given"):
        sweep(supervised(validation=None), steps=5)
    task = supervised(test=None)
    result = sweep(task, steps=5)
    with pytest.raises(ValueError, match=r"Supervised\(test=...\) must be given"):
        final_score(task, result)
