"""What ``sweep`` is given, checked before any long work; each raises what names the argument."""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

MOST = 2**20  # seeds or folds: more are a slip, and would never end


def whole(name: str, value: Any, least: int, most: int | None = None, where: str = "sweep") -> int:
    """A whole number, Python's or NumPy's, as Python's."""
    if not _is_whole(value) or value < least or (most is not None and value > most):
        # A bound that is there for slips is said where it is broken.
        low = most is None or (most >= MOST and not (_is_whole(value) and value > most))
        bounds = f"of at least {least}" if low else f"from {least} to {most}"
        raise _error(name, f"a whole number {bounds}", value, where)
    return int(value)


def curves(steps: int, runs: int, evaluations: int, train: int, validation: int) -> None:
    """Raises unless the curves of all runs fit into the memory of this machine.

    Args:
        steps, evaluations: of the longest run.
        runs: trials times folds times seeds.
        train, validation: how many metrics.
    """
    needed = 4 * runs * (steps * train + evaluations * validation) + 100 * evaluations
    if needed > memory():
        raise ValueError(
            f"sweep(steps=...) must leave room for the curves, got {steps} steps and "
            f"{evaluations} evaluations of {runs} runs: {needed / 2**30:.3g} GiB, of "
            f"{memory() / 2**30:.3g} in this machine. Train fewer steps or runs, or return fewer "
            "metrics."
        )


def memory() -> float:
    """Bytes of this machine; infinite where nobody says."""
    try:
        return float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    except (ValueError, OSError, AttributeError):
        return math.inf


def flag(name: str, value: Any, where: str = "sweep") -> None:
    """True or False."""
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(_message(name, "True or False", value, where))


def number(name: str, value: Any, least: float = -math.inf) -> None:
    """A real number, infinity included."""
    real = isinstance(value, (int, float, np.number)) and not isinstance(value, bool)
    if not real or not value >= least:
        expected = "a number" if least == -math.inf else f"a number of at least {least:g}"
        raise _error(name, expected, value)


def text(name: str, value: Any) -> None:
    """The name of a metric."""
    if not isinstance(value, str):
        raise TypeError(_message(name, "the name of a validation metric", value))


def instance(name: str, value: Any, kind: type) -> None:
    """``None`` or something with the methods of ``kind``."""
    if value is not None and (isinstance(value, type) or not isinstance(value, kind)):
        raise TypeError(_message(name, f"None or a {kind.__name__}", value))


def seeds(given: Any) -> tuple[int, ...]:
    """Different seeds, each of which gives another key: JAX takes 32 bits of one."""
    if _is_whole(given):
        return tuple(range(whole("seeds", given, 1, MOST)))
    if not isinstance(given, Iterable):
        raise _error("seeds", "a whole number or different ones", given)
    found = tuple(given)
    for seed in found:
        whole("seeds", seed, 0)
        if seed >= 2**32:
            raise _error("seeds", "below 2**32", seed)
    if not found or len(set(found)) < len(found):
        raise _error("seeds", "different whole numbers, at least one", list(found))
    return tuple(map(int, found))


def pair(shard: Any) -> tuple[int, int]:
    """(which process, of how many)."""
    if not isinstance(shard, (tuple, list)) or len(shard) != 2 or not all(map(_is_whole, shard)):
        raise _error("shard", "a pair (i, n) of whole numbers", shard)
    return shard[0], shard[1]


def directory(checkpoint: str | os.PathLike[str]) -> Path:
    """A directory that can be written, made if it is not there."""
    if not isinstance(checkpoint, (str, os.PathLike)):
        raise TypeError(_message("checkpoint", "a path", repr(checkpoint)))
    found = Path(checkpoint)
    try:
        found.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=found):
            pass
    except OSError as error:
        raise _error(
            "checkpoint", "a directory that can be written", f"{found}: {error.strerror}"
        ) from None
    return found


def _is_whole(value: Any) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def _error(name: str, expected: str, got: Any, where: str = "sweep") -> ValueError:
    return ValueError(_message(name, expected, got, where))


def _message(name: str, expected: str, got: Any, where: str = "sweep") -> str:
    shown = got if name == "checkpoint" else repr(got)
    return f"{where}({name}=...) must be {expected}, got {shown}."
