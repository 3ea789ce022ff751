"""What ``sweep`` is given, checked before any long work; each raises what names the argument."""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from jaxsched._arrays import is_number
from jaxsched._checks import MANY, checked_whole
from jaxsched._text import describe


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


def number(name: str, value: Any, least: float = -math.inf) -> None:
    """A real number, infinity included."""
    real = isinstance(value, (int, float, np.number)) and not isinstance(value, bool)
    if not real or not value >= least:
        expected = "a number" if least == -math.inf else f"a number of at least {least:g}"
        raise ValueError(f"sweep({name}=...) must be {expected}, got {describe(value)}.")


def seeds(given: Any, where: str = "sweep(seeds=...)", bits: int = 32) -> tuple[int, ...]:
    """Different seeds, each of which gives another key: JAX takes 32 bits of one."""
    if is_number(given) or not isinstance(given, Iterable) or isinstance(given, str):
        return tuple(range(checked_whole(where, given, 1, MANY)))
    found = tuple(checked_whole(where, seed, 0, 2**bits - 1) for seed in given)
    if not found or len(set(found)) < len(found):
        raise ValueError(
            f"{where} must be different whole numbers, at least one, got {list(found)}."
        )
    return found


def pair(shard: Any) -> tuple[int, int]:
    """(which process, of how many)."""
    where = "sweep(shard=...)"
    if not isinstance(shard, (tuple, list)) or len(shard) != 2:
        raise TypeError(f"{where} must be a pair (i, n) of whole numbers, got {describe(shard)}.")
    return checked_whole(where, shard[0], 0), checked_whole(where, shard[1], 1)


def directory(checkpoint: str | os.PathLike[str]) -> Path:
    """A directory that can be written, made if it is not there."""
    if not isinstance(checkpoint, (str, os.PathLike)):
        raise TypeError(f"sweep(checkpoint=...) must be a path, got {describe(checkpoint)}.")
    found = Path(checkpoint)
    try:
        found.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=found):
            pass
    except OSError as error:
        raise ValueError(
            "sweep(checkpoint=...) must be a directory that can be written, got "
            f"{found}: {error.strerror}."
        ) from None
    return found
