"""Sweeps in the workers of an executor: the bits of one process, also if workers die."""

import contextlib
import dataclasses
import functools
import importlib
import multiprocessing
import os
import re
import shutil
import signal
import sys
import threading
import time
import warnings
from concurrent import futures
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from typing import Any, ClassVar

import executor_tasks
import jax
import pytest
from children import Child
from executor_tasks import EVERYTHING, TRIALS, bowl
from sweep_tasks import same, supervised

from jaxsched import search
from jaxsched.search.multihost import _worker
from jaxsched.search.multihost._pool import Pool
from jaxsched.search.tasks import _process

# Where the end is not asked for, a part of the schedules will do.
pytestmark = pytest.mark.filterwarnings("ignore:sweep.steps")


def sweep(task=None, trials=TRIALS, **arguments):
    return search.sweep(task or bowl(), trials, **{"steps": 60, "evaluate_every": 20, **arguments})


def spawned(workers=2, method="spawn"):
    return ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context(method))


def alike(a, b):
    assert same(a, b)
    assert a.steps_trained == b.steps_trained


# ---------------------------------------------------------------------------------------- executors


@contextlib.contextmanager
def of_pool(path):
    # A function: the pool breaks when its worker dies, and is made again. The workers are forks,
    # since each from nothing takes 2 s; those of the driver that dies are spawned.
    yield functools.partial(spawned, method="forkserver")


@contextlib.contextmanager
def of_dask(path):
    import dask
    import distributed

    with (
        warnings.catch_warnings(action="ignore"),
        dask.config.set({"distributed.worker.multiprocessing-method": "forkserver"}),
        distributed.LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            dashboard_address="localhost:0",  # any free port: None asks for 8787
            local_directory=str(path),
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client.get_executor(pure=False)


@contextlib.contextmanager
def of_submitit(path):
    import submitit

    executor = submitit.LocalExecutor(path)
    executor.update_parameters(timeout_min=5)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(submitit.LocalJob, "_results_timeout_s", 1)  # for a slow file system: 15
        yield executor


@pytest.fixture
def importable(monkeypatch):
    """Programs that an executor starts see what the tests see."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(map(os.path.abspath, sys.path)))


# Of submitit each unit is a process: there are few.
FEW = {**EVERYTHING, "folds": None, "stopping": None}


@pytest.mark.parametrize(
    ("kind", "arguments", "units"),
    [(of_pool, EVERYTHING, 8), (of_dask, EVERYTHING, 8), (of_submitit, FEW, 2)],
)
def test_a_worker_dies_and_the_bits_are_those_of_one_process(
    kind, arguments, units, tmp_path, importable
):
    task = bowl(trouble="die", file=str(tmp_path / "died"))
    with kind(tmp_path / "executor") as executor:
        found = sweep(task, executor=executor, units=units, **arguments)
    alike(found, sweep(**arguments))
    assert (tmp_path / "died").exists()
    assert found.info.units >= units
    # Once in each process; the one that was asked first may have died without a report.
    assert max(found.info.traces.values()) <= found.info.devices + 1


def gone(group, seconds=50):
    """Whether all processes of a group end."""
    end = time.monotonic() + seconds
    with contextlib.suppress(ProcessLookupError):
        while time.monotonic() < end:
            os.killpg(group, 0)
            time.sleep(0.02)
    return time.monotonic() < end


def test_the_driver_dies_and_the_same_call_goes_on(tmp_path):
    program = """
import os, sys
os.setpgrp()
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from executor_tasks import TRIALS, bowl
from jaxsched import search
task, pool = bowl(trouble="behead", file=sys.argv[1]), ProcessPoolExecutor(1, get_context("spawn"))
told = {"steps": 60, "seeds": 2, "evaluate_every": 20, "units": 2, "checkpoint": sys.argv[2]}
search.sweep(task, TRIALS, executor=pool, **told)
"""
    driver = Child(program, tmp_path / "died", tmp_path / "run", daemon=False)
    assert driver.ended()[0] == -signal.SIGKILL
    assert gone(driver.pid)  # its workers too
    shutil.copytree(tmp_path / "run", tmp_path / "alone")
    with ThreadPoolExecutor(2) as threads:
        found = sweep(executor=threads, seeds=2, checkpoint=tmp_path / "run")
    alike(found, sweep(seeds=2))
    assert found.info.stored == found.steps_trained / 2  # a seed of two
    alike(sweep(seeds=2, checkpoint=tmp_path / "alone"), found)
    left = [p for run in ("run", "alone") for p in (tmp_path / run).iterdir() if p.suffix != ".npz"]
    assert left == []
    assert not [*(tmp_path / "run").glob("states-*"), *(tmp_path / "run").glob("*.tmp")]


def test_a_poisoned_unit_names_its_trials_and_the_others_end(tmp_path):
    task, arguments = bowl(trouble="fail"), {"seeds": 3, "units": 6}
    with spawned(2, "forkserver") as pool, pytest.raises(RuntimeError) as raised:
        sweep(task, executor=pool, **arguments)
    text = str(raised.value)
    assert "2 of 6 units failed, of the trials 'cosine'" in text, text  # in the units' own order
    assert "'wsd-10'" in text
    assert (
        text.count("(seed 1): OSError: poisoned data (in sweep(task=...): batches(1, 0, 60))") == 2
    )
    place, advice = raised.value.__notes__
    assert "executor_tasks.py" in place  # the traceback of the worker
    kept = re.fullmatch(r"The same call with checkpoint='(.*)' goes on from there.", advice)[1]
    found = sweep(checkpoint=kept, seeds=3)
    shutil.rmtree(kept)
    alike(found, sweep(seeds=3))
    assert found.info.stored == found.steps_trained * 2 / 3


# ----------------------------------------------------------------------- in threads of this process


@pytest.fixture(scope="module")
def threads():
    with ThreadPoolExecutor(2) as pool:
        yield pool


@pytest.mark.parametrize("name", ["bowl", "averaged"])
def test_a_task_by_its_name_in_threads(name, threads):
    task = getattr(executor_tasks, name)()
    arguments = {**EVERYTHING, "steps": 40}
    found = sweep(f"executor_tasks:{name}", executor=threads, **arguments)
    alike(found, sweep(task, **arguments))


NAMED = """
import numpy as np, executor_tasks
from pathlib import Path
class Reading(executor_tasks.Bowl):
    def __init__(self):
        vars(self).update(vars(executor_tasks.bowl()))
        self.shift = int((Path(__file__).parent / "shift.txt").read_text())
    def batches(self, seed, start, length):
        return super().batches(seed, start + self.shift, length)
"""


def test_a_named_task_whose_files_have_changed_is_made_again(tmp_path, monkeypatch, threads):
    monkeypatch.syspath_prepend(tmp_path)
    source, data = tmp_path / "changing_task.py", tmp_path / "shift.txt"
    source.write_text(NAMED)
    data.write_text("0")
    first = sweep("changing_task:Reading", executor=threads)
    data.write_text("3")  # the workers have the task that has read the other one
    again = sweep("changing_task:Reading", executor=threads)
    module = sys.modules["changing_task"]
    alike(again, sweep(module.Reading()))
    assert again.train["loss"].tobytes() != first.train["loss"].tobytes()
    source.write_text(NAMED.replace("+ self.shift", "+ 2 * self.shift"))
    importlib.reload(module)
    alike(sweep("changing_task:Reading", executor=threads), sweep(module.Reading()))


class Alike(executor_tasks.Bowl):
    """Another class, but the same programs and arrays."""


class Shifted(executor_tasks.Bowl):
    def batches(self, seed, start, length):
        return super().batches(seed, start + len(self.file), length)


def test_tasks_whose_programs_and_arrays_are_alike_are_not_taken_for_each_other(
    threads, monkeypatch
):
    kept = []
    state = lambda task: kept.append(task) or vars(task)
    monkeypatch.setattr(type(bowl()), "__getstate__", state, raising=False)
    tasks = [kind(**vars(bowl(file=text))) for kind in (Alike, Shifted) for text in ("a", "bb")]
    for task in (bowl(), *tasks):
        alike(sweep(task, executor=threads), sweep(task))
    assert len(kept) == 5  # it may hold much data


def test_a_sweep_that_grows_trains_what_is_new(threads, tmp_path):
    first = {name: TRIALS[name] for name in ("cosine", "wsd-10")}
    sweep(trials=first, executor=threads, checkpoint=tmp_path)
    found = sweep(executor=threads, checkpoint=tmp_path, seeds=2)
    alike(found, sweep(seeds=2))
    assert found.info.stored == 60 + 19  # there is no state where the others leave "wsd-10"
    assert sweep(executor=threads, checkpoint=tmp_path, seeds=2).info.units == 0


def test_progress_shows_units(threads, capsys):
    sweep(executor=threads, seeds=2, units=4, progress=True)
    assert "4/4 units, 7/7 trials" in " ".join(capsys.readouterr().err.split())


class Interrupting(ThreadPoolExecutor):
    """Ctrl-C while the second unit is trained."""

    count = 0

    def submit(self, function, *arguments):
        self.count += 1
        if self.count == 3:
            os.kill(os.getpid(), signal.SIGINT)
        return super().submit(function, *arguments)


def test_ctrl_c_ends_with_what_the_workers_have_saved(tmp_path):
    with Interrupting(1) as pool, pytest.raises(KeyboardInterrupt, match="saved in"):
        sweep(executor=pool, seeds=3, checkpoint=tmp_path)
    alike(sweep(seeds=3, checkpoint=tmp_path), sweep(seeds=3))
    with Interrupting(1) as pool, pytest.warns(UserWarning, match="the result is partial"):
        assert sweep(executor=pool, seeds=3).info.partial


# ---------------------------------------------------------------------------------- what is refused


class Elsewhere(ThreadPoolExecutor):
    """Its workers see other files, or are of another version of JAX."""

    changes: ClassVar[dict[str, Any]] = {}

    def submit(self, function, work, *arguments):
        return super().submit(function, dataclasses.replace(work, **self.changes), *arguments)


def test_a_worker_that_does_not_see_the_directory_or_cannot_write(tmp_path, threads, monkeypatch):
    words = r"sweep\(checkpoint=...\) must be a directory that all workers see and can write, got"
    monkeypatch.setattr(Elsewhere, "changes", {"directory": str(tmp_path)})
    with Elsewhere(1) as pool, pytest.raises(ValueError, match=words):
        sweep(executor=pool)
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(ValueError, match=words):
        sweep(executor=threads)


def test_a_worker_that_lacks_a_module(threads):
    packed = Pool(threads).packed
    assert packed(task := bowl(aim=lambda: 0)) is task  # left to the executor
    with Elsewhere(1) as pool:
        pool.changes = {
            "task": packed(bowl()).replace(b"executor_tasks", b"executor_ghost"),
            "key": "",
        }
        with pytest.raises(RuntimeError, match="ModuleNotFoundError: No module named 'executor_gh"):
            sweep(executor=pool)


def test_a_worker_that_would_give_other_bits(threads, monkeypatch):
    def fields(*arguments):
        return tuple({**x, "jax": "0.1, jaxlib 0.1"} for x in run_fields(*arguments))

    run_fields = _worker.run_fields
    monkeypatch.setattr(_worker, "run_fields", fields)
    with pytest.raises(ValueError, match=r"sweep\(executor=...\) must have workers .* jax: "):
        sweep(executor=threads)


SPAWN = multiprocessing.get_context("spawn")
BAD = [
    (dict(executor=type("", (), {"submit": lambda *_: 7})()), TypeError, r"executor=.* got 7"),
    (dict(executor=3), TypeError, r"executor=...\) must have `submit\(fn, \*args\)`, .* got 3"),
    (
        dict(executor=lambda: ProcessPoolExecutor(1, SPAWN, max_tasks_per_child=2)),
        ValueError,
        r".*per_child",
    ),
    (dict(executor=lambda: None), TypeError, r"executor=...\) must have `submit.*got None"),
    (dict(executor=ThreadPoolExecutor), TypeError, r"executor=...\) must have .*, got .*type"),
    (dict(executor=lambda n: spawned(n)), TypeError, r"executor=...\) must .*, got .*function"),
    (dict(executor="dask"), TypeError, r"executor=...\) must have .* got 'dask' .*Write `Proc"),
    (dict(units=2), ValueError, r"units=...\) must be None without an executor"),
    (dict(executor=spawned, units=0), ValueError, r"units=...\) must be a whole number .*, got 0"),
    (
        dict(executor=spawned, shard=(0, 2)),
        ValueError,
        r"shard=...\) must be None with an executor",
    ),
    (dict(executor=spawned, devices=jax.devices()), ValueError, r"devices=...\) must be None with"),
]


@pytest.mark.parametrize(("arguments", "error", "words"), BAD)
def test_bad_arguments(arguments, error, words):
    with pytest.raises(error, match=rf"sweep\({words}"):
        sweep(**arguments)


def test_a_pool_that_forks_is_refused():
    context = multiprocessing.get_context("fork")
    with (
        ProcessPoolExecutor(1, mp_context=context) as pool,
        pytest.raises(
            ValueError, match=r'must not fork, .* mp_context=multiprocessing.get_context\("'
        ),
    ):
        sweep(executor=pool)


def test_so_is_a_pool_of_interpreters(monkeypatch):
    kind = type("Interpreters", (ThreadPoolExecutor,), {})
    monkeypatch.setattr(futures, "InterpreterPoolExecutor", kind, raising=False)
    with pytest.raises(ValueError, match=r"must not be one of interpreters, .* got Interpreters"):
        sweep(executor=kind())


def test_a_fork_that_trains_and_a_sweep_in_a_trace_are_refused(threads, monkeypatch):
    with pytest.raises(ValueError, match=r"sweep\(...\) must not be called in a function that JAX"):
        jax.jit(lambda: sweep())()
    for arguments in ({}, {"executor": threads}):
        monkeypatch.setattr(_process, "_USED", [1])  # as in a fork of process 1
        with pytest.raises(ValueError, match=r"must not be called in a fork of a process that had"):
            sweep(**arguments)
    monkeypatch.setattr(_process, "_USED", [])
    monkeypatch.setattr(threading, "active_count", lambda: 10**6)  # JAX has made none here
    _process.check_place("sweep")
    monkeypatch.setattr(_process, "_PATIENCE", 0.0)
    ended = threading.Event()
    monkeypatch.setattr(jax, "jit", lambda f: lambda x: ended.wait(9.0))
    with pytest.raises(ValueError, match='with "forkserver", make no array where a module is im'):
        _process.check_place("sweep")
    ended.set()


def test_what_a_spawned_process_cannot_be_sent_is_refused_before_it_is_started():
    class Local(type(bowl())):
        pass

    task = supervised(metrics={"error": lambda outputs, targets: outputs[:, 0]})
    with spawned() as pool:
        for given in (Local(**vars(bowl())), task):
            with pytest.raises(
                TypeError, match=r"must be able to send the task .* \"package.module"
            ):
                sweep(given, executor=pool)
        assert not pool._processes


def test_a_function_of_a_notebook_is_not_sent(monkeypatch):
    monkeypatch.delattr(sys.modules["__main__"], "__file__", raising=False)
    monkeypatch.setattr(executor_tasks.Bowl, "__module__", "__main__")
    monkeypatch.setattr(sys.modules["__main__"], "Bowl", executor_tasks.Bowl, raising=False)
    with spawned() as pool, pytest.raises(TypeError, match="Bowl is defined in a notebook"):
        sweep(executor=pool)
