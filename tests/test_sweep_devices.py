"""Several devices, and several processes that know nothing of each other: the same bits."""

import re
import warnings
from pathlib import Path

import jax
import numpy as np
import pytest
from children import Child
from sweep_tasks import Plain, shared, supervised

import jaxsched as js
from jaxsched.search import SuccessiveHalving, merge, sweep
from jaxsched.search.engine import _engine, _program

HERE = Path(__file__).parent

TASK = shared(supervised)
TRIALS = [
    *(js.wsd(0.1, 60, warmup=5, decay=d) for d in (10, 20, 30)),
    js.Constant(1e30),
    js.cosine_decay(0.2, 60),
]
# Where the end is not asked for, a part of the schedules will do.
pytestmark = pytest.mark.filterwarnings("ignore:sweep.steps")


def equal(a, b):
    for group in ("train", "validation"):
        for name, values in getattr(a, group).items():
            assert values.tobytes() == getattr(b, group)[name].tobytes()
    assert np.array_equal(a.diverged, b.diverged)
    assert np.array_equal(a.evaluated, b.evaluated)
    return a.ranking() == b.ranking()


@pytest.mark.optimized
@pytest.mark.parametrize("arguments", [{}, {"stopping": SuccessiveHalving(10, 2)}])
def test_two_devices_give_the_bits_of_one(arguments):
    one, two = jax.local_devices()[:1], jax.local_devices()[:2]
    assert len(two) == 2
    a = sweep(TASK, TRIALS, steps=60, seeds=3, evaluate_every=25, devices=one, **arguments)
    b = sweep(TASK, TRIALS, steps=60, seeds=3, evaluate_every=25, devices=two, **arguments)
    assert equal(a, b)
    assert b.info["devices"] == 2
    assert a.steps_trained == b.steps_trained


def test_folds_on_two_devices():
    a = sweep(TASK, TRIALS[:2], steps=20, folds=3, devices=jax.local_devices()[:1])
    two = jax.local_devices()[:2]
    assert equal(a, sweep(TASK, TRIALS[:2], steps=20, folds=3, devices=two))


@pytest.mark.parametrize("count", [1, 2, 5])
def test_shards_merge_to_the_whole(count, tmp_path):
    whole = sweep(TASK, TRIALS, steps=60, seeds=2, evaluate_every=25)
    files = []
    for i in range(count):
        part = sweep(TASK, TRIALS, steps=60, seeds=2, evaluate_every=25, shard=(i, count))
        part.save(tmp_path / f"{i}.npz")
        files.append(tmp_path / f"{i}.npz")
    merged = merge(files[::-1])
    assert equal(whole, merged)
    assert merged.trials == whole.trials
    assert merged.steps_asked == whole.steps_asked
    assert merged.to_json() == whole.to_json()


def job(monkeypatch, environment):
    for name in ("SLURM_ARRAY_TASK_ID", "JOB_COMPLETION_INDEX", "JOB_COMPLETIONS"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, str(value))


def array(**told):
    return {f"SLURM_ARRAY_TASK_{name}": value for name, value in told.items()}


@pytest.mark.parametrize(
    ("environment", "shard"),
    [
        (array(ID=3, MIN=0, MAX=3, COUNT=4), (3, 4)),
        (array(ID=5, MIN=1, MAX=9, COUNT=3, STEP=4), (1, 3)),
        (array(ID=7, MIN=7, MAX=7, COUNT=1, STEP=1), (0, 1)),
        ({"JOB_COMPLETION_INDEX": 2, "JOB_COMPLETIONS": 5}, (2, 5)),
    ],
)
def test_a_job_array_says_which_shard_it_is(environment, shard, monkeypatch):
    job(monkeypatch, environment)
    auto = sweep(TASK, TRIALS, steps=2, shard="auto")
    assert (auto.info.shard.index, auto.info.shard.of) == shard


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({}, "SLURM_ARRAY_TASK_ID, or in a Kubernetes .* JOB_COMPLETION_INDEX; neither is set"),
        ({"JOB_COMPLETION_INDEX": 2}, r"JOB_COMPLETIONS, .* got 'none'. Set it to the job's `comp"),
        ({"JOB_COMPLETION_INDEX": 5, "JOB_COMPLETIONS": 5}, "one of 5 jobs, got the number 5"),
        (array(ID=7, MIN=1, MAX=7, COUNT=3, STEP=1), "equal steps, .* got 3 tasks from 1 to 7"),
        (array(ID=4, MIN=1, MAX=9, COUNT=3, STEP=4), "3 tasks from 1 to 9, of which this is 4"),
        (array(ID="x", MIN=1, MAX=7, COUNT=3), "SLURM_ARRAY_TASK_ID, a whole number, .* got 'x'"),
        (array(ID=1, MIN=0, MAX=3), "SLURM_ARRAY_TASK_COUNT, a whole number, .* got 'none'"),
    ],
)
def test_a_shard_that_no_job_tells(environment, words, monkeypatch):
    job(monkeypatch, environment)
    with pytest.raises(ValueError, match=rf'sweep\(shard="auto"\) .*{words}'):
        sweep(TASK, TRIALS, steps=2, shard="auto")


def test_shards_of_runs_of_different_lengths():
    trials = [js.cosine_decay(0.1, n) for n in (10, 30, 20)]
    whole = sweep(TASK, trials)
    assert equal(whole, merge([sweep(TASK, trials, shard=(i, 3)) for i in range(3)]))


def test_merge_refuses_what_does_not_belong_together():
    parts = [sweep(TASK, TRIALS, steps=10, shard=(i, 2)) for i in range(2)]
    with pytest.raises(ValueError, match=r"each of the 2 shards once, got the shards \[0\]"):
        merge(parts[:1])
    with pytest.raises(ValueError, match=r"got the shards \[1, 1\]"):
        merge([parts[1], parts[1]])
    other = sweep(TASK, TRIALS, steps=11, shard=(1, 2))
    with pytest.raises(ValueError, match="shards of one sweep, got another one in part 1"):
        merge([parts[0], other])
    with pytest.raises(ValueError, match=r"results of `sweep\(shard=...\)`.*places \[1\]"):
        merge([parts[0], sweep(TASK, TRIALS, steps=10)])
    with pytest.raises(ValueError, match=r"results of `sweep\(shard=...\)`, got none"):
        merge([])
    with pytest.raises(ValueError, match=r"sweep\(shard=...\) must be \(i, n\)"):
        sweep(TASK, TRIALS, steps=10, shard=(2, 2))
    with pytest.raises(ValueError, match=r"sweep\(shard=...\) must be None with early stopping"):
        sweep(TASK, TRIALS, steps=10, shard=(0, 2), stopping=SuccessiveHalving(5))


SHARD = """
import sys
import jaxsched as js
from jaxsched.search import sweep
from sweep_tasks import Plain, shared, supervised
trials = [*(js.wsd(0.1, 60, warmup=5, decay=d) for d in (10, 20, 30)),
          js.Constant(1e30), js.cosine_decay(0.2, 60)]
i = int(sys.argv[1])
result = sweep(supervised(), trials, steps=60, seeds=2, shard=(i, 2), checkpoint=sys.argv[2])
if i == 1 and len(sys.argv) > 4:
    sys.exit(3)
result.save(sys.argv[3])
"""


def test_two_real_processes_and_one_that_dies(tmp_path):
    """The death of one process stops no other; the dead one is run again."""

    def run(i, *more):
        return Child(SHARD, i, tmp_path / f"run{i}", tmp_path / f"{i}.npz", *more)

    both = [run(0), run(1, "die")]
    assert [process.ended()[0] for process in both] == [0, 3]
    assert run(1).ended()[0] == 0
    whole = sweep(TASK, TRIALS, steps=60, seeds=2)
    assert equal(whole, merge([tmp_path / "0.npz", tmp_path / "1.npz"]))


def test_a_lack_of_memory_halves_the_width():
    """A real one, in a process whose address space is limited."""
    # As users have it: half a gigabyte of numbers, one by one.
    code, out, errors = Child(HERE / "memory_worker.py", 270, XLA_FLAGS="").ended()
    assert code == 0, errors
    width, *losses = out.replace("[", "").replace("]", "").replace(",", "").split()
    assert int(width) < 4
    expected = [8 * (1 - rate) ** 2 for rate in (0.1, 0.2, 0.3, 0.4)]
    np.testing.assert_allclose(list(map(float, losses)), expected, rtol=1e-6)
    assert re.search("RESOURCE_EXHAUSTED: .* It goes on with width", errors)


@pytest.mark.parametrize("devices", [1, 2])
def test_a_lack_of_memory_loses_nothing(monkeypatch, devices):
    arguments = {"steps": 60, "seeds": 2, "evaluate_every": 20}
    exact = sweep(shared(Plain), TRIALS, width=1, **arguments)
    collect = _engine.Engine._collect
    calls = iter(range(1000))

    def lacking(self, number, works, piece, program):
        if next(calls) > 2 and program.width > 2:
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory")
        return collect(self, number, works, piece, program)

    monkeypatch.setattr(_engine.Engine, "_collect", lacking)
    places = jax.local_devices()[:1] * devices
    words = "sweep.width=[84].: RESOURCE_EXHAUSTED"
    with pytest.warns(RuntimeWarning, match=words), warnings.catch_warnings(action="error"):
        result = sweep(shared(Plain), TRIALS, width=8, devices=places, **arguments)
    assert result.info["width"] == 2
    assert result.steps_trained == exact.steps_trained
    np.testing.assert_allclose(result.train["loss"], exact.train["loss"], rtol=1e-4)


def test_one_run_that_does_not_fit_says_so(monkeypatch):
    def none(*arguments):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory")

    monkeypatch.setattr(_program, "_segment", lambda *how: none)
    with pytest.raises(jax.errors.JaxRuntimeError, match="RESOURCE_EXHAUSTED") as caught:
        sweep(Plain(), [js.Constant(0.1)], steps=5)
    assert "in sweep(...), with one run at a time" in caught.value.__notes__
