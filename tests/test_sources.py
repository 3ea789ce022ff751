"""Data of ``Supervised`` that are read on the host: sources of items, and large arrays."""

import pickle

import flax.linen as nn
import jax
import numpy as np
import pytest
from noisy import Noisy
from supervised_tasks import close, sweep
from sweep_tasks import apply, data, init, jitted, supervised

import jaxsched as js
from jaxsched.search import Averaged, Supervised, final_score
from jaxsched.search.engine import _plan
from jaxsched.search.tasks import _pool

# ------------------------------------------------------------------------------------------ sources


class Counted:
    """A source that notes what was read, and hands out the same arrays each time."""

    def __init__(self, x, y):
        self.x, self.y, self.read = x, y, []
        self.item = np.array(x[0]), np.array(y[0])

    def __len__(self):
        return len(self.x)

    def __getitem__(self, i):
        self.read.append(i)
        self.item[0][...], self.item[1][...] = self.x[i], self.y[i]
        return self.item


X, Y = data(192)

SOURCES = {
    "items": lambda x, y: Counted(x, y),
    "a list": lambda x, y: list(zip(x, y, strict=True)),
    "a pair of items": lambda x, y: (Row(x), y),
}


class Row:
    def __init__(self, x):
        self.x = x

    def __len__(self):
        return len(self.x)

    def __getitem__(self, i):
        return self.x[i]


@pytest.mark.parametrize("kind", SOURCES)
def test_a_source_gives_the_rows_of_the_arrays_that_it_holds(kind):
    source, arrays = SOURCES[kind], supervised()
    task = supervised(train=source(X[:96], Y[:96]), validation=source(X[96:144], Y[96:144]))
    for one, other in ((task, arrays), (task.fold(1, 3), arrays.fold(1, 3))):
        rows = other.batches(2, 1, 3)
        for found, whole in zip(one.batches(2, 1, 3), other._data, strict=True):
            assert np.array_equal(found, whole[rows])
        for found, whole in zip(one._evaluated(), other._evaluated(), strict=True):
            assert np.array_equal(found, whole)


def test_a_source_trains_as_the_arrays_that_it_holds():
    task = supervised(train=Counted(X[:96], Y[:96]), validation=(X[96:144], Y[96:144]))
    found, expected = (sweep(t, folds=3, seeds=2) for t in (task, supervised()))
    close(found.train["loss"], expected.train["loss"], rtol=1e-5)
    close(found.validation["accuracy"], expected.validation["accuracy"], rtol=1e-5)
    close(final_score(task, found).metrics, final_score(supervised(), expected).metrics)


def test_a_source_is_read_batch_by_batch():
    train, held = Counted(X[:96], Y[:96]), Counted(X[96:], Y[96:])
    task = supervised(train=train, validation=held, batch_size=4, accumulation=2)
    assert train.read == [0]
    task.batches(0, 3, 2)
    assert len(train.read) == 1 + 2 * 8
    state = jax.eval_shape(task.init, jax.random.key(0))
    for _ in range(2):
        jax.eval_shape(lambda state: task.evaluate(state), state)
    assert len(held.read) == 1 + 96  # once
    assert len(train.read) == 1 + 2 * 8


def test_arrays_that_do_not_fit_are_read_on_the_host(monkeypatch, tmp_path):
    np.save(tmp_path / "x.npy", X[:96])
    monkeypatch.setattr(_pool, "device_memory", lambda device: 8000)
    task = supervised(train=(np.load(tmp_path / "x.npy", mmap_mode="r"), Y[:96]))
    assert task.batches(0, 0, 1)[0].shape == (1, 16, 6)
    found = sweep(task)
    monkeypatch.undo()
    close(found.train["loss"], sweep(supervised()).train["loss"], rtol=1e-5)
    assert supervised().batches(0, 0, 1).dtype == np.int32


def test_a_range_test_reads_a_source_piece_by_piece(monkeypatch):
    task = supervised(train=Counted(X[:96], Y[:96]))
    whole = js.range_test(task, 1e-3, 3.0, steps=40, seeds=2)
    monkeypatch.setattr(_plan, "LENGTH", 20)
    pieces, batches = [], Supervised.batches

    def noted(self, seed, start, length):
        pieces.append((seed, start, length))
        return batches(self, seed, start, length)

    monkeypatch.setattr(Supervised, "batches", noted)
    found = js.range_test(task, 1e-3, 3.0, steps=40, seeds=2)
    assert max(length for *_, length in pieces) <= 20
    assert sorted(start for _, start, _ in pieces[-4:]) == [0, 0, 20, 20]
    assert np.array_equal(found.losses, whole.losses, equal_nan=True)
    assert found.peak == whole.peak


class Net(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(3)(x)


@pytest.mark.parametrize("model", [(init, apply), Noisy, Net()], ids=["pair", "NNX", "Linen"])
def test_a_pickled_task_trains_as_the_task_does(model):
    task = supervised(model=model)
    there = pickle.loads(pickle.dumps(Averaged(task, window=2).fold(1, 2)))
    rates = [js.Constant(0.1)]
    here = sweep(Averaged(task, window=2).fold(1, 2), rates, steps=4)
    assert sweep(there, rates, steps=4).train["loss"].tobytes() == here.train["loss"].tobytes()


def test_all_of_a_large_source_is_not_evaluated_on(monkeypatch):
    monkeypatch.setattr("jaxsched.search.tasks._pool._DRAWN", 10)
    task = supervised(train=list(zip(X[:96], Y[:96], strict=True)), validation=None).everything()
    assert tuple(map(len, task._split)) == (96, 10, 10)
    first, _, evaluate = jitted(task)
    assert np.isfinite(evaluate(first(jax.random.key(0)))["loss"])


# ----------------------------------------------------------------------------------------- mistakes


def pairs(n, shape=(6,), dtype=np.float32):
    return [(np.zeros(shape, dtype), np.int32(0)) for _ in range(n)]


@pytest.mark.parametrize(
    ("odd", "error", "words"),
    [
        (
            (np.zeros(5, np.float32), 0),
            ValueError,
            r"got float32\[5\] for the float32\[6\] inputs at",
        ),
        ((np.zeros(6, complex), 0), ValueError, "got complex128"),
        (({"x": np.zeros(6)}, 0), ValueError, "items of one structure"),
        (np.zeros(6), TypeError, r"must be a pair \(inputs, targets\), got ndarray"),
    ],
)
def test_items_that_are_not_alike(odd, error, words):
    task = supervised(train=[*pairs(20), odd], validation=pairs(3), batch_size=21)
    with pytest.raises(error, match=words):
        sweep(task)


class Short(Row):
    """It says that it is longer than it is."""

    def __len__(self):
        return 9

    def __getitem__(self, i):
        return self.x[:5][i]


def test_a_test_set_that_is_not_alike_and_a_source_that_fails():
    words = r"Supervised\(test=...\) must have the structure of"
    with pytest.raises(ValueError, match=words):
        supervised(test=({"x": X}, Y))
    task = supervised(test=[({"x": x}, y) for x, y in zip(X[:3], Y, strict=False)])
    with pytest.raises(ValueError, match=words):
        final_score(task, sweep(task))
    with pytest.raises(ValueError, match=r"the 9 items of its length, got IndexError at \[\d\]: "):
        supervised(train=(Short(X), Y[:9]), batch_size=9).batches(0, 0, 1)

    class Broken(Row):
        def __getitem__(self, i):
            if i == 7:
                raise OSError("unreadable")
            return super().__getitem__(i)

    with pytest.raises(OSError, match="unreadable") as error:
        supervised(train=(Broken(X), Y), batch_size=192).batches(0, 0, 1)
    assert "reading [7]" in error.value.__notes__[0]
