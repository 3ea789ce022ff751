"""Files that are whole or refused, and locks."""

import errno
import os
import subprocess
import sys
import time

import filelock
import pytest

from jaxsched.search._locks import held

HOLD = """
import sys, time
from pathlib import Path
from jaxsched.search._locks import held
with held(Path(sys.argv[1]), "taken"):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def lock(tmp_path):
    return tmp_path / "lock"


def test_a_lock_is_of_one_process_and_dies_with_it(lock):
    command = [sys.executable, "-c", HOLD, lock]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout.readline() == "held\n"
        with pytest.raises(RuntimeError, match=f"^must be free, in use by process {owner.pid} on "):
            held(lock, "must be free").__enter__()
        for text in ('{"pid": 1, "host": "other"}', '{"pid": 4194303, "host": 3}', "[" * 900, ""):
            lock.write_text(text)  # whoever it names: the kernel knows that it is held
            with pytest.raises(RuntimeError, match="must be free, in use by "):
                held(lock, "must be free").__enter__()
        owner.kill()
    assert lock.exists()
    with held(lock, "must be free"):
        pass
    assert not lock.exists()


def test_a_lock_is_of_one_thread_too(lock):
    with (
        held(lock, "must be free"),
        pytest.raises(RuntimeError, match=f"in use by process {os.getpid()} on"),
        held(lock, "must be free"),
    ):
        pass


def test_one_of_many_processes_at_a_time_holds_it(tmp_path):
    """They delete the file at their ends, while others have it open."""
    program = """
import os, sys, time
from pathlib import Path
from jaxsched.search._locks import held
folder, taken = Path(sys.argv[1]), 0
end = time.monotonic() + 1.5
while time.monotonic() < end:
    try:
        with held(folder / "lock", "must be free"):
            os.close(os.open(folder / "alone", os.O_CREAT | os.O_EXCL))
            os.unlink(folder / "alone")
            taken += 1
    except RuntimeError:
        pass
print(taken)
"""
    command = [sys.executable, "-c", program, tmp_path]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    several = [subprocess.Popen(command, **pipes) for _ in range(3)]
    told = [process.communicate(timeout=60) for process in several]
    assert [err for _, err in told] == [""] * 3
    assert all(int(out) > 0 for out, _ in told)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("plant", ["symlink_to", "hardlink_to", "mkdir", "mkfifo"])
def test_no_planted_link_is_followed(lock, tmp_path, plant):
    victim = tmp_path / "victim"
    victim.write_text("precious")
    match plant:
        case "mkdir":
            lock.mkdir()
        case "mkfifo":
            os.mkfifo(lock)
        case _:
            getattr(lock, plant)(victim)
    began = time.monotonic()
    with pytest.raises(RuntimeError, match=r"^must be free, where .*lock is not a lock"):
        held(lock, "must be free").__enter__()
    assert victim.read_text() == "precious"
    assert time.monotonic() - began < 5


def test_a_file_system_without_locks_is_warned_of(lock, monkeypatch):
    def unable(descriptor, blocking):
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(filelock, "lock_descriptor", unable)
    with pytest.warns(RuntimeWarning, match=r"no locks \(Function not"), held(lock, "free"):
        pass
    assert not lock.exists()
