"""A sweep that is killed goes on, and ends as if it had not been; and other accidents."""

import errno
import functools
import os
import random
import signal
import tempfile
import time
from pathlib import Path

import jax
import optax
import pytest
from children import Child
from noisy import Noisy
from sweep_tasks import Plain, data, flip, interrupted, momentum, same, shared, supervised

import jaxsched as js
from jaxsched import search
from jaxsched.search import _files
from jaxsched.search.engine._request import Request
from jaxsched.search.store._directory import StoreDirectory

HERE = Path(__file__).parent
TRIALS = [js.wsd(0.1, 60, warmup=5, decay=d) for d in (10, 20)] + [js.Constant(1e30)]
TASK = shared(supervised)


def sweep(directory, trials=TRIALS, task=TASK, **arguments):
    arguments = {"steps": 60, "devices": jax.local_devices()[:1], **arguments}
    return search.sweep(task, trials, checkpoint=directory, checkpoint_every=0.0, **arguments)


def start(*arguments):
    return Child(HERE / "sweep_worker.py", *arguments)


def finish(*arguments):
    code, out, err = start(*arguments).ended()
    assert code == 0, err
    return out


@pytest.mark.parametrize("kind", ["halving", "wide"])
def test_killed_at_random_moments_it_ends_with_the_same_bits(tmp_path, kind):
    finish("none", tmp_path / "whole.npz", kind)
    directory, out = tmp_path / "run", tmp_path / "out.npz"
    rng = random.Random(kind)
    kills = 0
    for attempt in range(3):
        devices = 1 + attempt % 2 if kind != "wide" else 1
        process = start(directory, out, kind, devices, 0.05)
        process.wait_for("ready")
        count = len(list(directory.glob("states-*")))
        while process.is_alive():
            if len(list(directory.glob("states-*"))) > count or count >= 2:
                break  # it trains and has saved something
            time.sleep(0.02)
        time.sleep(rng.random() / 2)
        if process.is_alive():
            os.kill(process.pid, signal.SIGKILL)
            kills += 1
        process.join()
    assert kills >= 2
    finish(directory, out, kind, 1)
    assert same(tmp_path / "whole.npz", out)


def test_a_killed_sweep_goes_on_from_where_it_was(tmp_path):
    """One SIGKILL in the middle; the rest takes fewer steps than the whole."""
    directory, out = tmp_path / "run", tmp_path / "out.npz"
    process = start(directory, out, "plain", 1, 0.1)
    while len(list(directory.glob("records-*.npz"))) < 3:
        assert process.is_alive()
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    before = {path.name for path in directory.glob("records-*.npz")}
    finish(directory, out, "plain", 2)
    assert before <= {path.name for path in directory.glob("records-*.npz")}
    assert not list(directory.glob("*.tmp"))
    finish("none", tmp_path / "whole.npz")
    assert same(tmp_path / "whole.npz", out)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_ctrl_c_finishes_the_segment_saves_and_leaves(tmp_path, number, code):
    directory, out = tmp_path / "run", tmp_path / "out.npz"
    process = start(directory, out, "plain", 1, 0.1)
    while not list(directory.glob("states-*")):
        assert process.is_alive()
        time.sleep(0.01)
    os.kill(process.pid, number)
    ended, _, err = process.ended()
    assert ended in (code, -number)
    assert not list(directory.glob("*.lock"))
    assert not out.exists()
    if number == signal.SIGINT:
        assert f"saved in {directory}; the same call goes on from there" in err


@pytest.mark.parametrize("width", [1, 2])
def test_a_state_of_any_dtype_comes_back_as_it_was(tmp_path, width):
    task = supervised(model=lambda rngs: Noisy(rngs))
    arguments = {"task": task, "evaluate_every": 20, "width": width}
    whole = sweep(None, **arguments)
    for after in (3, 6):
        interrupted(tmp_path, after, sweep, **arguments)
    assert same(sweep(tmp_path, **arguments), whole)


def test_a_finished_sweep_is_read_and_not_trained_again(tmp_path):
    first = sweep(tmp_path)
    task = supervised()
    again = sweep(tmp_path, task=task)
    assert same(first, again)
    assert "segment" not in again.info["traces"]


def test_a_fork_without_a_state_is_trained_again_through_all_stages_before_it(tmp_path):
    plateau = js.Plateau(js.Constant(0.01), factor=0.5, patience=1)  # stages end at evaluations
    arguments = {"evaluate_every": 10}
    sweep(tmp_path, TRIALS[:1], **arguments)
    grown = sweep(tmp_path, [*TRIALS, plateau], **arguments)
    assert same(grown, sweep(None, [*TRIALS, plateau], **arguments))
    assert grown.info.stored == 60 - 41  # the two leave each other after 41 updates


def to_orbax(path):
    """As an earlier version wrote the states of a large model, without a mesh."""
    meta, _ = _files.read(path)
    _files.write(path, {"orbax": "x.orbax", "kinds": {}, "mesh": "no mesh", "meta": meta}, {})


@pytest.mark.parametrize(
    ("pattern", "damage"),
    [("states-*.npz", flip), ("records-*.npz", flip), ("states-*.npz", to_orbax)],
)
def test_a_damaged_file_is_named_and_what_it_held_is_made_again(tmp_path, pattern, damage):
    arguments = {"evaluate_every": 20, "seeds": 2}
    whole = sweep(None, **arguments)
    interrupted(tmp_path, 14, sweep, **arguments)
    damaged = sorted(tmp_path.glob(pattern))[-1]
    damage(damaged)
    with pytest.warns(RuntimeWarning, match=damaged.name) as warned:
        result = sweep(tmp_path, **arguments)
    assert warned[0].filename == __file__
    assert same(result, whole)


def test_every_state_lost(tmp_path):
    whole = sweep(None, evaluate_every=20)
    interrupted(tmp_path, 8, sweep, evaluate_every=20)
    for path in [*tmp_path.glob("states-*.npz"), *tmp_path.glob("ends-*.npz")]:
        path.unlink()
    assert same(sweep(tmp_path, evaluate_every=20), whole)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"limit": 5.0}, "limit: inf there, 5.0 here"),
        ({"width": 2}, "width: 1 there, 2 here"),
        ({"task": supervised(batch_size=8)}, "task's step"),
        ({"task": supervised(optimizer=optax.sgd)}, "task's init: .*task's step: "),
        ({"task": supervised(train=tuple(x[1:97] for x in data(192)))}, r"array .data\[0\]: "),
    ],
)
def test_runs_of_another_task_are_named_by_what_differs_and_not_used(tmp_path, changes, words):
    sweep(tmp_path)
    found = rf"0 of 3 runs found in {tmp_path}; the 3 that are there differ in .*{words}"
    with pytest.warns(UserWarning, match=found):
        again = sweep(tmp_path, **changes)
    assert again.info.stored == 0
    assert same(again, sweep(None, **changes))
    assert sweep(tmp_path).info.stored == again.steps_trained, "and those of before are still there"


def test_another_text_of_the_same_program_is_the_same_task(tmp_path):
    first = sweep(tmp_path)
    task = supervised(optimizer=lambda learning_rate: momentum(learning_rate))
    again = sweep(tmp_path, task=task)
    assert again.info.stored == first.steps_trained


def test_a_directory_of_something_else_is_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(ValueError, match=r"must be an empty directory or .* holds thesis.tex"):
        sweep(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize(
    "name",
    [
        "0f1e.lock",
        "records-0f1e-00000001.npz.0123.tmp",
        "states-0f1e-00000001.orbax.orbax-checkpoint-tmp-1",
        ".nfs000000000000feab0000001f",  # what was deleted while another process had it open
    ],
)
def test_a_directory_in_which_another_process_begins_is_taken(tmp_path, name):
    (tmp_path / name).touch()
    StoreDirectory(tmp_path)._check()


def test_what_is_written_to_try_a_directory_is_no_thesis(tmp_path, monkeypatch):
    """The file has a name on NFS, where the tasks of an array begin at once."""
    seen = functools.partial(tempfile.NamedTemporaryFile, delete=False)
    monkeypatch.setattr(tempfile, "TemporaryFile", seen)
    Request(checkpoint=tmp_path)
    assert len(list(tmp_path.iterdir())) == 1
    StoreDirectory(tmp_path)._check()


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("", "a path with a name, got ''"),
        (b"", "a path with a name, got b''"),
        (Path(""), r'a path with a name, got .*Path\(\'.\'\). Write "." for the working directory'),
        ("~/run", "no home directory, got '~/run'. Write `Path"),
        ("s3://bucket/run", "a file system that is mounted"),
        ("a\0b", "a path with a name"),
        ("dangling", "dangling, a link to what does not exist"),
    ],
)
def test_a_path_that_was_meant_to_be_another_is_refused(tmp_path, monkeypatch, given, words):
    monkeypatch.chdir(tmp_path)
    os.symlink("nowhere", "dangling")
    with pytest.raises(ValueError, match=rf"sweep\(checkpoint=...\) must be .*{words}"):
        sweep(given)
    assert os.listdir() == ["dangling"]


def test_a_directory_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match=r"sweep\(checkpoint=...\) must be a directory that can"):
        sweep(tmp_path / "file" / "run")


def test_the_same_call_twice_at_once_is_refused_and_others_are_not(tmp_path):
    """Of one process too; what a file says of its owner is not believed."""
    sweep(tmp_path)
    (writer,) = {path.name.split("-")[1] for path in tmp_path.glob("records-*")}
    lock = tmp_path / f"{writer}.lock"
    with StoreDirectory(tmp_path).locked(writer):
        for text in ("", '{"pid": 1, "host": "elsewhere"}'):
            lock.write_text(text)
            with pytest.raises(RuntimeError, match=rf"no other process trains .* {tmp_path}, in"):
                sweep(tmp_path)
        sweep(tmp_path, seeds=2)
    lock.write_text("left by one that was killed")
    sweep(tmp_path)
    assert not lock.exists()


def test_a_full_disk_is_a_clear_error_that_loses_nothing(tmp_path, monkeypatch):
    whole = sweep(None, evaluate_every=20)
    interrupted(tmp_path, 6, sweep, evaluate_every=20)
    there = {p.name: p.read_bytes() for p in tmp_path.glob("*.npz")}
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=r"no space left on the disk .* is whole: make room"):
        sweep(tmp_path, evaluate_every=20)
    monkeypatch.undo()
    assert there == {p.name: p.read_bytes() for p in tmp_path.glob("*.npz")}
    assert not list(tmp_path.glob("*.tmp"))
    assert same(sweep(tmp_path, evaluate_every=20), whole)


def full(descriptor):
    raise OSError(errno.ENOSPC, "No space left on device")


def test_halving_goes_on_with_the_same_decisions(tmp_path):
    trials = [js.Constant(rate) for rate in (1e-4, 1e-3, 1e-2, 0.1, 1e30)]
    arguments = {"trials": trials, "stopping": search.SuccessiveHalving(10, 2), "seeds": 2}
    whole = sweep(None, **arguments)
    for after in (6, 9, 9, 6):
        interrupted(tmp_path, after, sweep, **arguments)
    assert same(sweep(tmp_path, **arguments), whole)


def test_a_sweep_without_a_checkpoint_leaves_signals_alone():
    before = signal.getsignal(signal.SIGINT)
    search.sweep(Plain(), [js.Constant(0.1)], steps=3)
    assert signal.getsignal(signal.SIGINT) is before
