"""The cores and the memory that this process may use, in its container and by its limits."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

# In a container the system reports the cores and bytes of the host; a process that takes so much is
# killed. The bounds stand in the control groups around the process, one within the other. Each may
# have a bound of its own: the least counts.
_CGROUPS, _OWN, _USED = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup"), Path("/proc/self/statm")
# Versions 1 and 2: the bound, the memory in use, and the cached files in it, which can be dropped.
_MEMORY = (
    ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    ("memory.max", "memory.current", "inactive_file"),
)


def usable_cores() -> int:
    """Cores that this process may use: its affinity mask, within its container's quota."""
    count: Any = getattr(os, "process_cpu_count", None)  # Python 3.13; obeys PYTHON_CPU_COUNT too
    if count is None and hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:
        cores = (count or os.cpu_count)() or 1
    return min([cores, *_quotas()])


def memory() -> float:
    """Bytes that this process may use, or infinity if the system does not tell."""
    return min([_pages("SC_PHYS_PAGES"), *_bounds(free=False)])


def free_memory() -> float:
    """Bytes that are free, of ``memory``."""
    return min([_pages("SC_AVPHYS_PAGES"), *_bounds(free=True)])


def _pages(name: str) -> float:
    try:
        return float(os.sysconf(name) * os.sysconf("SC_PAGE_SIZE"))
    except (ValueError, OSError, AttributeError):
        return math.inf


def _bounds(free: bool) -> Iterator[float]:
    """Bytes that each control group around this process, and its own limits, leave to it."""
    for group, version in _groups("memory"):
        bound, used, cached = _MEMORY[version - 1]
        with contextlib.suppress(OSError, ValueError):  # no such file, or "max"
            yield (size := int((group / bound).read_text()))
            if free:
                stat = (group / "memory.stat").read_text().split()
                yield size - int((group / used).read_text()) + int(stat[stat.index(cached) + 1])
    with contextlib.suppress(ImportError, OSError):  # not Linux
        import resource

        # Two limits of `ulimit`, and the fields of statm with the used pages of each.
        pages = _USED.read_text().split() if free else ["0"] * 6
        for limit, column in ((resource.RLIMIT_AS, 0), (resource.RLIMIT_DATA, 5)):
            size, _ = resource.getrlimit(limit)
            if size != resource.RLIM_INFINITY:
                yield size - int(pages[column]) * resource.getpagesize()


def _quotas() -> Iterator[int]:
    """The cores that each control group around this process leaves to it, if it has a quota."""
    for group, version in _groups("cpu"):
        files = ["cpu.cfs_quota_us", "cpu.cfs_period_us"] if version == 1 else ["cpu.max"]
        with contextlib.suppress(OSError, ValueError):  # no such file, or "max"
            # Microseconds of CPU time, and in how many of wall time.
            quota, period = (int(n) for file in files for n in (group / file).read_text().split())
            if quota > 0:  # else there is no bound
                yield math.ceil(quota / period)


def _groups(kind: str) -> Iterator[tuple[Path, int]]:
    """The control groups of a kind around this process, each with its version."""
    try:
        lines = _OWN.read_text().splitlines()
    except OSError:  # not Linux
        return
    # A line is "4:cpu,cpuacct:/docker/1f2e" in version 1, and "0::/docker/1f2e" in version 2.
    for _, kinds, name in (line.split(":", 2) for line in lines):
        if not kinds or kind in kinds.split(","):
            own = PurePosixPath(kind if kinds else "") / name.strip("/")
            # A container sees its own group as the outermost, and may not see the path to it.
            for path in (own, *own.parents):
                yield _CGROUPS / path, 1 if kinds else 2
