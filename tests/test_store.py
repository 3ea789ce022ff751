"""A directory serves many sweeps: each takes from it what was trained."""

import errno
import math
import random
import shutil
import tempfile
import zipfile
from pathlib import Path

import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from children import Child
from hypothesis import given, settings
from sweep_tasks import Plain, flip, same, shared

import jaxsched as js
from jaxsched import _checks, search
from jaxsched.schedules import struct
from jaxsched.search import _files
from jaxsched.search.engine import _engine
from jaxsched.search.engine._ledger import Ledger
from jaxsched.search.multihost import _backend
from jaxsched.search.store._directory import StoreDirectory
from jaxsched.search.store._marks import Marks

HERE = Path(__file__).parent
# Of shorter runs a part of the schedules will do, and some trials are one run.
pytestmark = [
    pytest.mark.filterwarnings("ignore:sweep.steps"),
    pytest.mark.filterwarnings("ignore:sweep.trials"),
]
WSD = [js.wsd(0.1, 60, warmup=5, decay=d) for d in (10, 20, 30)]
RATES = [js.Constant(rate) for rate in (0.03, 0.1, 0.3)]
BASE = {"trials": [*WSD[:2], RATES[0]], "steps": 60, "seeds": 2, "evaluate_every": 20}


class Folded(Plain):
    """Of whose folds each is what it is, however many there are."""

    def __init__(self, shift=0.0):
        self.shift = np.float32(shift)

    def fold(self, index, count):
        return Folded(index)

    def evaluate(self, state):
        return {"loss": ((state - self.shift) ** 2).sum()}


def sweep(directory, **arguments):
    told = {**BASE, "devices": jax.local_devices()[:1], **arguments}
    task = told.pop("task", None) or shared(Plain)
    return search.sweep(task, told.pop("trials"), checkpoint=directory, **told)


@pytest.fixture
def counted(monkeypatch):
    """The updates that were trained since the last call, of runs that did not diverge."""
    update, trained = Ledger.update, []

    def counting(self, device, runs, steps):
        trained.append(steps * len(runs))
        update(self, device, runs, steps)

    monkeypatch.setattr(Ledger, "update", counting)

    def call():
        total = sum(trained)
        trained.clear()
        return total

    return call


@pytest.fixture
def marked(monkeypatch):
    """Keeps states where another sweep is likely to fork, though these runs are short."""
    monkeypatch.setattr(Marks, "_apart", lambda *_: 1.0)


# ------------------------------------------------------------------------------------------ growth


@pytest.mark.parametrize(
    ("changes", "missing"),
    [
        ({}, 0),
        ({"seeds": 3}, 139),  # of one seed: 41 + 19 + 19 + 60
        ({"seeds": [1, 7]}, 139),
        ({"trials": [*WSD[:2], RATES[0], RATES[1]]}, 120),
        ({"trials": RATES[:1]}, 0),
        ({"trials": [*RATES, js.cosine_decay(0.1, 60)]}, 358),
        ({"trials": [RATES[0]], "steps": 90}, 60),  # from its end
        ({"trials": [RATES[0]], "steps": 40}, 0),
        ({"trials": RATES[:1], "evaluate_every": 40}, 0),
        ({"trials": RATES[:1], "evaluate_every": None}, 0),
        ({"trials": RATES[:1], "metric": "loss", "monitor": "loss", "share_prefixes": False}, 0),
        ({"stopping": search.MedianRule(20)}, 0),
        ({"trials": [*WSD[:2], RATES[0], js.Plateau(0.1, patience=9)]}, None),
    ],
)
def test_a_sweep_trains_what_is_missing_and_is_the_same(tmp_path, counted, changes, missing):
    sweep(tmp_path)
    counted()
    grown = sweep(tmp_path, **changes)
    trained, whole = counted(), sweep(None, **changes)
    assert same(grown, whole)
    assert trained == grown.steps_trained - grown.info.stored
    if missing is not None:
        assert trained == missing
    assert counted() == whole.steps_trained
    assert sweep(tmp_path, **changes).info.stored == whole.steps_trained
    assert counted() == 0


@struct
class Odd(js.AbstractSchedule):
    """Whose phases are not what they should be."""

    told: float

    duration = None

    def value_at(self, t):
        return 0.1 + 0.0 * t

    def phases(self):
        return [js.Phase("a", 0, self.told), js.Phase("b", self.told, 1 / self.told)]


def wsd(steps, decay, warmup=5):
    return js.wsd(0.1, steps, warmup=warmup, decay=decay)


@pytest.mark.parametrize(
    ("first", "second", "repeated"),
    [
        (wsd(100, 20), wsd(200, 20), 1),  # the first update of a decay has the rate of the plateau
        (wsd(100, 20), wsd(100, 40), 1),
        (wsd(100, 20), wsd(100, 37), 4),  # that begins at no share
        (wsd(100, 20), wsd(100, 10), 1),
        (js.Constant(0.1), wsd(100, 20, warmup=0), 1),
        (js.warmup_constant(0.1, 5, 100), wsd(100, 20), 1),
        (js.warmup_cosine(0.1, 100, warmup=7), js.warmup_linear(0.1, 200, warmup=7), 1),
        (js.warmup_cosine(0.1, 100, warmup=7), js.warmup_cosine(0.1, 100, warmup=9), 1),
        (js.multi_step(0.1, 0.5, [60]), js.multi_step(0.1, 0.5, [60, 80]), 0),
        (js.multi_step(0.1, 0.5, [60]), js.multi_step(0.1, 0.3, [60]), 0),
        (Odd(math.nan), js.multi_step(0.1, 0.5, [85]), 0),
    ],
)
def test_a_later_fork_repeats_little(tmp_path, counted, marked, first, second, repeated):
    steps = None if first.duration == 100 and second.duration >= 100 else 100
    arguments = {"steps": steps, "seeds": 1, "evaluate_every": None}
    before = sweep(tmp_path, trials=[first], **arguments).steps_trained
    counted()
    grown, trained = sweep(tmp_path, trials=[first, second], **arguments), counted()
    alone = sweep(None, trials=[first, second], **arguments)
    assert same(grown, alone)
    assert trained - (alone.steps_trained - before) == repeated


@pytest.mark.parametrize("kind", ["full", "nearly full", "too large", "damaged"])
def test_a_mark_that_cannot_be_kept_or_read_costs_training_only(
    tmp_path, counted, marked, monkeypatch, kind
):
    arguments = {"seeds": 1, "evaluate_every": None, "steps": 100}
    write = StoreDirectory.write

    def full(self, path, *arrays):
        if path.name.startswith("marks"):
            raise OSError(errno.ENOSPC, "No space left on device")
        write(self, path, *arrays)

    if kind == "full":
        monkeypatch.setattr(StoreDirectory, "write", full)
    if kind == "nearly full":  # marks leave three quarters to what a sweep needs
        monkeypatch.setattr(StoreDirectory, "free", lambda self: 4)
    sweep(tmp_path, trials=[wsd(100, 20)], **arguments)
    monkeypatch.setattr(StoreDirectory, "write", write)
    marks = list(tmp_path.glob("marks-*.npz"))
    assert len(marks) == ("full" not in kind)
    before = {path: path.read_bytes() for path in tmp_path.glob("*.npz")}
    both = {"trials": [wsd(100, 20), wsd(100, 40)], **arguments}
    counted()
    if "full" in kind:
        grown = sweep(tmp_path, **both)
    else:
        if kind == "damaged":
            flip(marks[0])
            before[marks[0]] = marks[0].read_bytes()
        else:
            with zipfile.ZipFile(marks[0]) as archive:
                most = sum(info.file_size for info in archive.infolist()) - 1
            monkeypatch.setattr(_checks, "_SMALL", most)
            monkeypatch.setattr(_checks, "memory", lambda: most)
        words = {"damaged": "again; delete the", "too large": "again here; the file stays as it is"}
        with pytest.warns(RuntimeWarning, match=f"{marks[0].name}: .*trained {words[kind]}"):
            grown = sweep(tmp_path, **both)
        monkeypatch.undo()
    assert counted() == 100
    assert same(grown, sweep(None, **both))
    assert all(path.read_bytes() == data for path, data in before.items())


def test_more_folds(tmp_path, counted):
    arguments = {"task": Folded(), "trials": RATES, "seeds": 1}
    sweep(tmp_path, folds=2, **arguments)
    counted()
    grown = sweep(tmp_path, folds=4, **arguments)
    assert counted() == grown.steps_trained // 2 == 2 * 3 * 60
    assert same(grown, sweep(None, folds=4, **arguments))


def test_another_halving_goes_on_from_the_rungs_of_the_first(tmp_path, counted):
    rates = [js.Constant(rate) for rate in (0.001, 0.003, 0.01, 0.03, 0.1, 0.3)]
    arguments = {"trials": rates, "evaluate_every": None}
    halving = search.SuccessiveHalving(first=15, eta=3)
    first = sweep(tmp_path, stopping=halving, **arguments)
    counted()
    whole = sweep(tmp_path, **arguments)
    assert counted() == whole.steps_trained - first.steps_trained
    assert same(whole, sweep(None, **arguments))
    counted()
    again = sweep(tmp_path, stopping=halving, **arguments)
    assert counted() == 0 and same(again, first)
    milder = {"stopping": search.SuccessiveHalving(first=15, eta=1.5), **arguments}
    assert same(sweep(tmp_path, **milder), sweep(None, **milder))


POOL = [*WSD, *RATES, js.cosine_decay(0.1, 60), js.Plateau(0.3, patience=0), js.Constant(1e30)]
SWEEPS = st.fixed_dictionaries(
    {
        "trials": st.lists(st.sampled_from(POOL), min_size=1, max_size=4),
        "steps": st.sampled_from([30, 35, 60, 70]),
        "seeds": st.lists(st.sampled_from([0, 1, 5]), min_size=1, max_size=2, unique=True),
        "evaluate_every": st.sampled_from([10, 20, 25]),
        "stopping": st.sampled_from([None, search.MedianRule(20), search.SuccessiveHalving(10, 2)]),
        "share_prefixes": st.booleans(),
        "checkpoint_every": st.sampled_from([0.0, 10.0]),
    }
)


@settings(max_examples=12, deadline=None)
@given(
    sweeps=st.lists(SWEEPS, min_size=2, max_size=4),
    lost=st.floats(0, 0.5),
    apart=st.sampled_from([1.0, 9.0, math.inf]),
    seed=st.integers(),
)
def test_any_sweeps_in_one_directory_are_as_if_each_was_alone(sweeps, lost, apart, seed):
    """Whatever files are lost between them, and however many states are kept."""
    rng = random.Random(seed)
    with tempfile.TemporaryDirectory() as directory, pytest.MonkeyPatch.context() as patch:
        patch.setattr(Marks, "_apart", lambda *_: apart)
        for arguments in sweeps:
            found = sweep(directory, **arguments)
            alone = sweep(None, **arguments)
            assert same(found, alone)
            assert 0 <= found.info.stored <= found.steps_trained
            assert sweep(directory, **arguments).info.stored == alone.steps_trained
            for path in sorted(Path(directory).iterdir()):
                if rng.random() < lost:
                    path.unlink()


# ------------------------------------------------------------------- several directories, processes


def test_the_files_of_two_directories_are_one_store(tmp_path, counted):
    a, b = tmp_path / "a", tmp_path / "b"
    sweep(a, trials=[*WSD[:2], RATES[0]])
    sweep(b, trials=[RATES[0], *WSD[1:]], seeds=3, checkpoint_every=0.0)
    for path in a.iterdir():
        assert not (b / path.name).exists()
        shutil.copy(path, b / path.name)
    counted()
    whole = sweep(b, trials=[*WSD[:2], RATES[0]])
    assert counted() == 0
    assert same(whole, sweep(None, trials=[*WSD[:2], RATES[0]]))


def test_shards_in_one_directory_need_no_merging(tmp_path, counted):
    for index in range(3):
        sweep(tmp_path, shard=(index, 3))
    counted()
    whole = sweep(tmp_path)
    assert counted() == 0
    assert same(whole, sweep(None))


WRITER = """
import sys
import time
from pathlib import Path
import jax
import jaxsched as js
from jaxsched import _checks, search
from sweep_tasks import Plain
index, directory = int(sys.argv[1]), Path(sys.argv[2])
trials = [js.Constant(rate) for rate in (0.01, 0.02, 0.03, 0.04)][index : index + 3]
arguments = {"steps": 3000, "seeds": 2, "evaluate_every": 100, "checkpoint_every": 0.0}
jax.local_devices()
print("ready", flush=True)
while not directory.exists():
    time.sleep(0.001)
search.sweep(Plain(), trials, checkpoint=directory, devices=jax.devices()[:1], **arguments)
"""


def test_two_processes_write_into_one_directory_at_once(tmp_path, counted):
    tmp_path /= "run"
    processes = [Child(WRITER, index, tmp_path) for index in range(2)]
    for process in processes:
        process.wait_for("ready")
    tmp_path.mkdir()  # now
    for process in processes:
        code, _, errors = process.ended()
        assert code == 0, errors
    trials = [js.Constant(rate) for rate in (0.01, 0.02, 0.03, 0.04)]
    arguments = {"trials": trials, "steps": 3000, "evaluate_every": 100}
    whole = sweep(tmp_path, **arguments)
    assert counted() == 0
    assert same(whole, sweep(None, **arguments))


# ------------------------------------------------------------------------------------------ damage


@pytest.mark.parametrize("kind", ["records", "ends", "states"])
def test_a_damaged_file_costs_no_more_than_it_held(tmp_path, counted, kind):
    arguments = {"trials": [*WSD[:2], RATES[0]], "seeds": 1, "checkpoint_every": 0.0}
    whole = sweep(tmp_path, **arguments)
    count = 0
    for path in sorted(tmp_path.glob(f"{kind}-*.npz")):
        good = path.read_bytes()
        flip(path)
        counted()
        if kind == "records":
            with pytest.warns(RuntimeWarning, match=f"{path.name}.*is trained again; delete"):
                again = sweep(tmp_path, **arguments)
        else:
            again = sweep(tmp_path, **arguments)
        assert same(again, whole)
        trained = counted()
        assert trained == whole.steps_trained - again.info.stored
        assert trained <= (60 if kind == "records" else 0)
        count += trained > 0
        path.write_bytes(good)
    assert count > 1 or kind != "records"


def test_a_longer_run_whose_last_state_is_damaged_is_trained_from_the_one_before(tmp_path, counted):
    arguments = {"trials": RATES[:1], "seeds": 1, "stopping": search.MedianRule(20)}
    sweep(tmp_path, **arguments)
    (ends,) = tmp_path.glob("ends-*.npz")
    flip(ends)
    counted()
    with pytest.warns(RuntimeWarning, match=f"{ends.name}.*is trained again; delete the file"):
        longer = sweep(tmp_path, **{**arguments, "steps": 80})
    assert counted() in (20, 40, 60, 80)
    assert same(longer, sweep(None, **{**arguments, "steps": 80}))


# ------------------------------------------------------------- widths, machines, metrics, arrays


def test_what_a_halved_width_has_trained_is_of_the_same_call_only(tmp_path, monkeypatch):
    """Its bits are those of no width."""
    collect, calls = _engine.Engine._collect, iter(range(1000))

    def lacking(self, number, runs, segment, program):
        if program.width == 4 and next(calls) >= 2:
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory")
        return collect(self, number, runs, segment, program)

    arguments = {"trials": RATES, "width": 4, "checkpoint_every": 0.0}
    monkeypatch.setattr(_engine.Engine, "_collect", lacking)
    with pytest.warns(RuntimeWarning, match="goes on with width 2"):
        halved = sweep(tmp_path, **arguments)
    monkeypatch.setattr(_engine.Engine, "_collect", collect)
    again = sweep(tmp_path, **arguments)
    assert same(again, halved) and again.info.stored == halved.steps_trained
    other = sweep(tmp_path, **arguments, seeds=3)
    assert other.info.stored < halved.steps_trained // 2
    assert same(other, sweep(None, **arguments, seeds=3))


def test_what_another_kind_of_machine_has_trained_is_told(tmp_path, monkeypatch):
    first = sweep(tmp_path)
    monkeypatch.setattr(_backend, "machine_of", lambda device: "Other (1)")
    with pytest.warns(RuntimeWarning, match=r"another kind of machine, .*, and not on Other \(1\)"):
        again = sweep(tmp_path)
    assert again.info.machines == first.info.machines != ["Other (1)"]
    with pytest.warns(RuntimeWarning, match="another kind of machine"):
        grown = sweep(tmp_path, seeds=3)
    assert grown.info.machines == sorted([*first.info.machines, "Other (1)"])
    assert sweep(None).info.machines == ["Other (1)"]


class Measured(Plain):
    def __init__(self, metrics, target=0.0):
        self.metrics, self.target = metrics, np.full(3, target, np.float32)

    def evaluate(self, state):
        values = ((state - self.target) ** 2).sum(), jnp.abs(state).sum(), state.max()
        return dict(zip(self.metrics, values, strict=False))


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        (Measured(["loss", "b"]), r"metrics: .*'a', 'loss'\] of evaluate there, .*'b', 'loss'\]"),
        (Measured(["loss", "a", "b"]), "metrics: "),
        (Measured(["loss"]), "metrics: "),
        (Measured(["a", "loss"]), "task's evaluate: "),
        (Measured(["loss", "a"], 1.0), r"array .target: float32\[3\] \w+ there, float32\[3\] "),
    ],
)
def test_metrics_and_arrays_that_differ_are_named_and_no_file_is_damaged(tmp_path, changed, words):
    arguments = {"trials": RATES[:1], "seeds": 1}
    tasks = [Measured(["loss", "a"]), changed]
    alone = [sweep(None, task=task, **arguments) for task in tasks]
    sweep(tmp_path, task=tasks[0], **arguments)
    with pytest.warns(UserWarning, match=f"0 of 1 runs found .* differ in .*{words}"):
        assert same(sweep(tmp_path, task=changed, **arguments), alone[1])
    for task, expected in zip(tasks, alone, strict=True):  # both are there, without a warning
        again = sweep(tmp_path, task=task, **arguments)
        assert again.info.stored == 60 and same(again, expected)


def test_files_of_an_earlier_version_are_no_damage(tmp_path):
    sweep(tmp_path, trials=RATES[:1])
    (path,) = tmp_path.glob("records-*")
    (_, *meta), arrays = _files.read(path)
    _files.write(path, [3, *meta], arrays)
    with pytest.warns(UserWarning, match="1 files in .* are of an earlier version; .* Delete them"):
        assert sweep(tmp_path, trials=RATES[:1]).info.stored == 0
