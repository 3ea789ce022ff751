"""Work in proportion to the size: lines of ours that run as the sizes of a benchmark double."""

import sys
import threading
import warnings

import pytest

from benchmarks.large import ROWS
from jaxsched.search import _progress
from jaxsched.search.engine import _pacer

# Big enough for the part that grows; what is quadratic in it would be seen in the differences.
SIZES = {"updates": 4096, "evaluations": 320, "range test": 4096, "grid": 100, "reports": 48}
SIZES |= {"merged": 2, "folds": 4, "metrics": 8, "hyperparameters": 8}  # slow to trace or compile
HEAVY = {"curves", "settings", "pairs"}  # most of it is matplotlib's


def lines(call):
    """How many lines of ours are run, loops and comprehensions included."""
    count = 0

    def trace(frame, event, arg):
        nonlocal count
        if "jaxsched" not in frame.f_code.co_filename:
            return None
        frame.f_trace_lines = True
        if event == "line":
            count += 1
        return trace

    sys.settrace(trace)
    threading.settrace(trace)
    try:
        call()
    finally:
        sys.settrace(None)
        threading.settrace(None)
    return count


@pytest.mark.parametrize("name", sorted(ROWS.keys() - HEAVY))
def test_twice_the_size_is_twice_the_work(monkeypatch, name):
    monkeypatch.setattr(_pacer, "_SECONDS", 1e9)  # segments as long as they may be, on any machine
    monkeypatch.setattr(_progress, "_SECONDS", 1e9)
    size = SIZES.get(name, 16)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        calls = [ROWS[name].make(n) for n in (size, 2 * size, 4 * size)]
        calls[0]()  # compiles: what is made once is not counted
        small, middle, large = map(lines, calls)
    assert large - middle < 2.3 * (middle - small) + 0.02 * small, (small, middle, large)
