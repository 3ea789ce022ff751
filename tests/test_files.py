"""Files that are whole or refused, and locks."""

import errno
import io
import os
import random
import secrets
import time
import zipfile

import filelock
import jax
import numpy as np
import pytest
from children import Child

from jaxsched.search._files import Damaged, read, write
from jaxsched.search.store._locks import held

ARRAYS = {
    "a/../b\0\n": np.arange(500, dtype=np.float32),
    "": jax.random.key(3),
    "../index": np.zeros((2, 0, 3), jax.numpy.bfloat16),
    "\ud800": np.array(True),
}


@pytest.fixture
def file(tmp_path):
    write(tmp_path / "x.npz", {"n": 1}, ARRAYS)
    return tmp_path / "x.npz"


def same(found):
    assert list(found) == list(ARRAYS)
    assert found[""] == ARRAYS[""]
    for name in ARRAYS.keys() - {""}:
        assert (found[name].dtype, found[name].shape) == (ARRAYS[name].dtype, ARRAYS[name].shape)
        assert found[name].tobytes() == ARRAYS[name].tobytes()
    return True


def test_arrays_of_any_dtype_and_name_are_read_as_they_were(file):
    meta, found = read(file)
    assert meta == {"n": 1}
    assert same(found)


def test_bit_flips_never_pass_unseen(file):
    good = file.read_bytes()
    rng = random.Random(0)
    harmless = 0
    for _ in range(200):
        data = bytearray(good)
        bit = rng.randrange(8 * len(data))
        data[bit // 8] ^= 1 << bit % 8
        file.write_bytes(data)
        try:
            meta, found = read(file)
        except Damaged:
            continue
        assert meta == {"n": 1} and same(found)  # e.g. in a time stamp
        harmless += 1
    assert harmless < 60


def zipped(members, compression=zipfile.ZIP_STORED):
    with io.BytesIO() as raw:
        with zipfile.ZipFile(raw, "w", compression) as archive:
            for name, data in members:
                archive.writestr(name, data)
        return raw.getvalue()


def npy(shape, descr="|u1", data=b""):
    text = f"{{'descr': {descr!r}, 'fortran_order': False, 'shape': {shape}, }}\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode() + data


def claiming(data, size):
    """The sizes of every member in the central directory and before the member are ``size``."""
    data = bytearray(data)
    for mark, at in ((b"PK\1\2", 20), (b"PK\3\4", 18)):
        where = data.find(mark)
        while where >= 0:
            data[where + at : where + at + 8] = size.to_bytes(4, "little") * 2
            where = data.find(mark, where + 1)
    return bytes(data)


BOMB = zipped([("index.npy", npy((10**6,), data=bytes(10**6)))], zipfile.ZIP_DEFLATED)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "is not a zip file"),
        (zipped([]), "the index: KeyError: 'index'"),
        (BOMB, "10000[0-9]{2} bytes in a file of 1[0-9]{3}$"),
        (
            zipped([("index.npy", b"")], zipfile.ZIP_DEFLATED),
            "member 'index': it is compressed",
        ),
        (zipped([("index", npy((0,))), ("index.npy", b"")]), "there are two of this name"),
        (claiming(zipped([("index.npy", b"")]), 2**32 - 2), "4294967294 bytes in a file of"),
        (zipped([("index.npy", npy((2**60,)))]), r"uint8\[1152921504606846976\] in 0 bytes"),
        (zipped([("index.npy", npy((-1, -4), data=bytes(4)))]), r"uint8\[-1, -4\] in 4 bytes"),
        (zipped([("index.npy", npy((1,), "|O", bytes(8)))]), "ValueError: cannot create an OBJECT"),
        (zipped([("index.npy", b"\x80\x04N.junk")]), "ValueError: the magic string is not correct"),
        (zipped([("index.npy", npy((4,), data=b"junk"))]), "does not have its digest"),
    ],
)
def test_no_size_is_believed_and_nothing_is_unpacked(tmp_path, data, words):
    (tmp_path / "x.npz").write_bytes(data)
    with pytest.raises(Damaged, match=rf"^{tmp_path}/x\.npz: .*{words}"):
        read(tmp_path / "x.npz")


@pytest.mark.parametrize("plant", ["mkdir", "mkfifo", "missing", "/dev/zero"])
def test_what_is_no_file_is_not_read(tmp_path, plant):
    path = tmp_path / "x"
    match plant:
        case "mkdir":
            path.mkdir()
        case "mkfifo":
            os.mkfifo(path)
        case "/dev/zero":
            path.symlink_to(plant)
    with pytest.raises(Damaged, match=f"^{path}: "):
        read(path)


def test_a_planted_link_is_not_written_through(file, tmp_path, monkeypatch):
    monkeypatch.setattr(secrets, "token_hex", lambda count: "known")
    (tmp_path / "victim").write_text("precious")
    (tmp_path / "x.npz.known.tmp").symlink_to(tmp_path / "victim")
    with pytest.raises(FileExistsError):
        write(file, None, {})
    assert (tmp_path / "victim").read_text() == "precious"
    file.unlink()
    file.symlink_to(tmp_path / "victim")  # the name itself is replaced, not what it leads to
    monkeypatch.undo()
    write(file, 1, {})
    assert read(file) == (1, {})
    assert (tmp_path / "victim").read_text() == "precious"


HOLD = """
import sys, time
from pathlib import Path
from jaxsched.search.store._locks import held
with held(Path(sys.argv[1]), "taken"):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def lock(tmp_path):
    return tmp_path / "lock"


def test_a_lock_is_of_one_process_and_dies_with_it(lock):
    owner = Child(HOLD, lock)
    owner.wait_for("held")
    with pytest.raises(RuntimeError, match=f"^must be free, in use by process {owner.pid} on "):
        held(lock, "must be free").__enter__()
    for text in ('{"pid": 1, "host": "other"}', '{"pid": Infinity, "host": 3}', "[" * 900, ""):
        lock.write_text(text)  # the name says nothing: the kernel knows that it is held
        with pytest.raises(RuntimeError, match="must be free, in use by "):
            held(lock, "must be free").__enter__()
    owner.kill()
    owner.join()
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
import os, sys
from pathlib import Path
from jaxsched.search.store._locks import held
folder, taken = Path(sys.argv[1]), 0
while taken < 200:
    try:
        with held(folder / "lock", "must be free"):
            os.close(os.open(folder / "alone", os.O_CREAT | os.O_EXCL))
            os.unlink(folder / "alone")
            taken += 1
    except RuntimeError:
        pass
"""
    told = [process.ended() for process in [Child(program, tmp_path) for _ in range(3)]]
    assert told == [(0, "", "")] * 3
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
        raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(filelock, "lock_descriptor", unable)
    with pytest.warns(RuntimeWarning, match=r"locked \(Invalid argument"), held(lock, "free"):
        pass
    assert not lock.exists()
