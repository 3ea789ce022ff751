"""The cores and the memory that a process may use: what its container and its limits leave."""

import os
import subprocess
import sys

import pytest

from jaxsched import _machine

MIB = 2**20


@pytest.fixture
def groups(monkeypatch, tmp_path):
    """Makes the files of control groups; ``own`` is what the process reads of its own."""

    def make(own, files):
        monkeypatch.setattr(_machine, "_CGROUPS", tmp_path)
        monkeypatch.setattr(_machine, "_OWN", tmp_path / "own")
        if own:
            (tmp_path / "own").write_text(own + "\n")
        for name, text in files.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(f"{text}\n")

    return make


@pytest.mark.parametrize(
    ("mask", "own", "files", "cores"),
    [
        ({0, 3, 5}, None, {}, 3),
        ({0, 1, 2}, "0::/", {"cpu.max": "150000 100000"}, 2),
        ({0, 1, 2}, "0::/a/b", {"a/cpu.max": "100000 100000", "a/b/cpu.max": "max 100000"}, 1),
        ({4, 5}, "0::/", {"cpu.max": "max 100000"}, 2),
        (  # a container sees its own group as the outermost
            {0, 1, 2},
            "4:cpu,cpuacct:/docker/1f\n3:cpuset:/docker/1f\n0::/",
            {"cpu/cpu.cfs_quota_us": "150000", "cpu/cpu.cfs_period_us": "100000"},
            2,
        ),
        ({0, 1}, "1:cpu:/", {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, 2),
    ],
)
def test_usable_cores_are_those_of_the_affinity_mask_and_the_quota(
    monkeypatch, groups, mask, own, files, cores
):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: mask, raising=False)
    groups(own, files)
    assert _machine.usable_cores() == cores


STAT = "anon 1\ninactive_file 7340032\ntotal_inactive_file 8388608"


@pytest.mark.parametrize(
    ("own", "files", "most", "free"),
    [
        ("0::/", {"memory.max": "max", "memory.current": 9 * MIB, "memory.stat": STAT}, 64, 48),
        ("0::/", {"memory.max": 32 * MIB, "memory.current": 9 * MIB, "memory.stat": STAT}, 32, 30),
        (
            "0::/a/b",
            {"memory.max": 9 * MIB, "a/memory.max": 8 * MIB, "a/b/memory.max": "max"},
            8,
            8,
        ),
        (  # a container sees its own group as the outermost
            "5:memory:/docker/1f\n3:cpu:/docker/1f\n0::/",
            {
                "memory/memory.limit_in_bytes": 32 * MIB,
                "memory/memory.usage_in_bytes": 9 * MIB,
                "memory/memory.stat": STAT,
            },
            32,
            31,
        ),
        ("1:memory:/", {"memory/memory.limit_in_bytes": 2**63 - 4096}, 64, 48),
        ("2:cpu:/", {"memory/memory.limit_in_bytes": 1, "memory.max": 1}, 64, 48),
        (None, {}, 64, 48),
    ],
)
def test_the_memory_is_that_of_the_machine_within_the_bounds_of_the_container(
    monkeypatch, groups, own, files, most, free
):
    sizes = {"SC_PHYS_PAGES": 64, "SC_AVPHYS_PAGES": 48, "SC_PAGE_SIZE": MIB}
    monkeypatch.setattr(os, "sysconf", sizes.get)
    groups(own, files)
    assert (_machine.memory() / MIB, _machine.free_memory() / MIB) == (most, free)


@pytest.mark.skipif(sys.platform != "linux", reason="limits of memory are Linux's")
@pytest.mark.parametrize("limit", ["RLIMIT_AS", "RLIMIT_DATA"])
def test_the_limits_of_the_process_bound_its_memory(limit):
    code = f"""
import resource
resource.setrlimit(resource.{limit}, (2**40, 2**40))
from jaxsched import _machine
_machine._pages = lambda name: float("inf")
_machine._OWN = _machine.Path("/none")
assert _machine.memory() == 2**40
assert 2**39 < _machine.free_memory() < 2**40
"""
    subprocess.run([sys.executable, "-c", code], check=True)
