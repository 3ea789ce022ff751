"""Which shard of a sweep a process is, as the job array that it belongs to says."""

from __future__ import annotations

import os
import re

_SLURM = "SLURM_ARRAY_TASK_"
_INDEX, _COUNT = "JOB_COMPLETION_INDEX", "JOB_COMPLETIONS"


def shard_of_job() -> tuple[int, int]:
    """(i, n) of a task of a SLURM array, or of a pod of a Kubernetes indexed job.

    A job that is one of several in both ways is a task of the array.

    Raises:
        ValueError: outside of both, or if the variables do not say it.
    """
    if _SLURM + "ID" in os.environ:
        numbers = {n: _number_in_environment(_SLURM + n) for n in ("ID", "MIN", "MAX", "COUNT")}
        step = _number_in_environment(_SLURM + "STEP", "1")
        # A task knows only the ends and the length of a list of numbers, such as --array=1,2,7.
        own = range(numbers["MIN"], numbers["MAX"] + 1, max(step, 1))
        if step < 1 or len(own) != numbers["COUNT"] or numbers["ID"] not in own:
            raise ValueError(
                'sweep(shard="auto") must run in an array with equal steps, such as --array=0-7, '
                f"got {numbers['COUNT']} tasks from {numbers['MIN']} to {numbers['MAX']}, of which "
                f"this is {numbers['ID']}. Write shard=(i, n)."
            )
        index, count = own.index(numbers["ID"]), numbers["COUNT"]
    elif _INDEX in os.environ:
        index, count = _number_in_environment(_INDEX), _number_in_environment(_COUNT)
    else:
        raise ValueError(
            f'sweep(shard="auto") must run in a SLURM array, which sets {_SLURM}ID, or in a '
            f"Kubernetes job with completionMode: Indexed, which sets {_INDEX}; neither is set. "
            "Write shard=(i, n)."
        )
    if not 0 <= index < count:
        raise ValueError(
            f'sweep(shard="auto") must run as one of {count} jobs, got the number {index}.'
        )
    return index, count


def _number_in_environment(name: str, default: str = "") -> int:
    """A variable that the queue sets, as a whole number of at most nine digits."""
    text = os.environ.get(name, default)
    if not re.fullmatch(r"[0-9]{1,9}", text):
        repair = f" Set it to the job's `completions` in its `env`: Kubernetes does not set {name}."
        raise ValueError(
            f'sweep(shard="auto") needs {name}, a whole number, in the environment, got '
            f"{text or 'none'!r}.{repair * (name == _COUNT)}"
        )
    return int(text)
