"""A model on a mesh of two real processes on loopback, that differ, fail and die."""

import json
import os
import signal
import socket
import time
from pathlib import Path

import jax
import pytest
from children import Child
from sweep_tasks import same

from jaxsched import search
from jaxsched.search.multihost import _processes

HERE = Path(__file__).parent


def start(**changes):
    port = changes.pop("port")
    told = {"address": f"127.0.0.1:{port}", "processes": 2, **changes}
    return Child(HERE / "mesh_worker.py", json.dumps(told))


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def pair(first=None, second=None, **both):
    port = free_port()
    changes = [{**both, **(one or {})} for one in (first, second)]
    return [start(index=i, port=port, **told) for i, told in enumerate(changes)]


def ended(processes):
    """(exit status, output, errors) of each."""
    return [process.ended() for process in processes]


def under_way(directory, processes):
    """Waits for a save of states that was not there before."""
    there = {path.name for path in directory.glob("states-*.npz")}
    while not {path.name for path in directory.glob("states-*.npz")} - there:
        assert all(process.is_alive() for process in processes), ended(processes)
        time.sleep(0.02)


def listened_at(process):
    """The addresses at which somebody listens on the coordinator's port, where Linux tells."""
    port = json.loads(process.arguments[0])["address"].split(":")[1]
    found = set()
    for table, family in (("tcp", socket.AF_INET), ("tcp6", socket.AF_INET6)):
        path = Path("/proc/net") / table
        for line in path.read_text().splitlines()[1:] if path.exists() else []:
            (host, at), state = line.split()[1].split(":"), line.split()[3]
            if int(at, 16) == int(port) and state == "0A":
                words = [bytes.fromhex(host[i : i + 8])[::-1] for i in range(0, len(host), 8)]
                found.add(socket.inet_ntop(family, b"".join(words)))
    return found


def test_two_processes_that_differ_say_so_at_once():
    for status, _, errors in ended(pair(second={"decay": 30})):
        assert status == 1
        assert (
            "ValueError: sweep(devices=...): all processes of a mesh must call the same" in errors
        )
        assert "trial 1: " in errors
        assert "on process 0, " in errors


def test_two_processes_die_and_go_on_with_the_same_bits(tmp_path):
    directory = tmp_path / "run"
    asked = pair(directory=str(directory), pause=0.2)
    under_way(directory, asked)
    if Path("/proc/net/tcp").exists():
        assert listened_at(asked[0]) in ({"127.0.0.1"}, {"::ffff:127.0.0.1"})
    os.kill(asked[1].pid, signal.SIGTERM)
    assert [status for status, *_ in ended(asked)] == [143, 143]
    assert not list(directory.glob("*.lock"))

    killed = pair(directory=str(directory), pause=0.2, heartbeat=2)
    under_way(directory, killed)
    killed[1].kill()
    began = time.monotonic()
    assert killed[0].ended(60)[0] == -signal.SIGABRT
    assert time.monotonic() - began < 20

    out = tmp_path / "out"
    first, second = ended(pair(directory=str(directory), out=str(out)))
    assert first[0] == second[0] == 0
    scores = [text[text.index("FinalScore(") :] for _, text, _ in (first, second)]
    assert scores[0] == scores[1]
    assert int(scores[0].split()[-1]) > 0  # found in the directory
    for name in ("1", "again-0", "again-1"):
        assert same(f"{out}-0.npz", f"{out}-{name}.npz")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("localhost",), r'join\(address=...\) must be "host:port", got \'localhost\''),
        (("localhost:x",), "host:port"),
        (("a:1", 0), r"join\(processes=...\) must be a whole number of at least 1, got 0"),
        (("a:1", 2, -1), r"join\(index=...\) must be a whole number from 0 to 1, got -1"),
        (("a:1", 2, 0, 0), r"join\(heartbeat=...\) must be a whole number of at least 1, got 0"),
        (("a:1", 2, 0, 5, 1.5), r"join\(patience=...\) must be a whole number"),
        (("a:1", None), r"join\(...\) must be given address, .* got no processes"),
        ((None, 2, 0), "got no address"),
    ],
)
def test_arguments_of_join(arguments, words):
    names = ("processes", "index", "heartbeat", "patience")
    told = {"processes": 2, "index": 0, **dict(zip(names, arguments[1:], strict=False))}
    with pytest.raises(ValueError, match=words):
        search.join(arguments[0], **told)


def test_join_without_a_cluster_says_what_to_write():
    """In a process of its own: JAX, once used, refuses to join at all."""
    status, _, errors = Child("from jaxsched import search; search.join()").ended()
    assert status == 1
    assert "ValueError: join() must be called in a cluster" in errors
    assert "found none" in errors
    jax.devices()
    with pytest.raises(RuntimeError, match=r"join\(\) must be called before anything else of JAX"):
        search.join("127.0.0.1:9", processes=2, index=0)


def test_join_finds_the_cluster_that_jax_finds():
    """As two tasks of a SLURM step see it."""
    program = (
        "import jax; from jaxsched.search import join; join(heartbeat=5, patience=30); "
        "print(jax.process_index(), jax.process_count())"
    )
    step = {
        "SLURM_JOB_ID": "1",
        "SLURM_STEP_NODELIST": "127.0.0.1",
        "SLURM_NTASKS": "2",
        "JAX_COORDINATOR_PORT": str(free_port()),
    }
    tasks = [Child(program, **step, SLURM_PROCID=i, SLURM_LOCALID=i) for i in "01"]
    assert [end[:2] for end in ended(tasks)] == [(0, "0 2\n"), (0, "1 2\n")]


def test_an_error_of_the_first_rank_is_one_of_all(monkeypatch):
    def fail():
        raise OSError("no space left")

    with pytest.raises(OSError, match="no space left"):
        _processes.on_first_process(fail)
    message = json.dumps({"kind": 3, "text": "no space left"}).encode()
    monkeypatch.setattr(jax, "process_index", lambda: 1)
    monkeypatch.setattr(_processes, "broadcast_from_first", lambda data: message)
    with pytest.raises(OSError, match="no space left"):
        _processes.on_first_process(lambda: None)
