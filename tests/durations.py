"""What the suite's time goes into, as a page: ``make durations`` writes tests/DURATIONS.md."""

from __future__ import annotations

import collections
import datetime
import os
import platform
import sys
import xml.etree.ElementTree as ElementTree

import jax

QUICK = 0.1  # of the time: what `make quick` takes, all but the slowest functions


def page(paths):
    suites = [ElementTree.parse(path).getroot().find("testsuite") for path in paths]
    seconds, counts = collections.Counter(), collections.Counter()
    for case in (case for suite in suites for case in suite.iter("testcase")):
        module = case.get("classname").rpartition(".")[2]
        function = case.get("name").partition("[")[0]
        seconds[module, function] += float(case.get("time"))
        counts[module, function] += 1
    modules = collections.Counter()
    for (module, _), time in seconds.items():
        modules[module] += time
    slow, omitted = [], 0.0
    for case, time in seconds.most_common():
        if seconds.total() - omitted > QUICK * seconds.total():
            slow.append(case)
            omitted += time
    date = datetime.date.fromisoformat(suites[0].get("timestamp")[:10])
    yield "# What the tests' time goes into\n"
    yield f"{date:%d %B %Y}, {os.cpu_count()} cores ({platform.machine()}), an empty"
    yield f"compilation cache, Python {platform.python_version()}, JAX {jax.__version__}:"
    yield f"{counts.total()} tests take {seconds.total():.0f} s. `make durations` measures"
    yield "and writes this page. The seconds are wall time in one of the parallel workers.\n"
    yield "| module | seconds |\n|---|---|"
    yield from (f"| `{module}` | {time:.0f} |" for module, time in modules.most_common(12))
    yield f"\n`make quick` omits the {len(slow)} functions below, the slowest in all their cases:"
    yield f"{omitted:.0f} s of {seconds.total():.0f} s.\n"
    yield "| tests | number | seconds |\n|---|---|---|"
    for module, function in slow:
        case = module, function
        yield f"| `{module}::{function}` | {counts[case]} | {seconds[case]:.1f} |"


if __name__ == "__main__":
    print("\n".join(page(sys.argv[1:])))
