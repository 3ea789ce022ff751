"""Several processes as one: how they join, and how they agree."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, TypeVar, cast

import jax
import numpy as np
from jax.experimental import multihost_utils

from jaxsched._checks import checked_whole
from jaxsched._words import known_arguments
from jaxsched.search._files import Damaged
from jaxsched.search._fingerprint import digest
from jaxsched.search.store._fields import Fields, difference, identifying

T = TypeVar("T")
# Errors that one process may meet in its files; all others must raise them too.
_ERRORS = (Damaged, ValueError, RuntimeError, OSError)
_MOST = 1 << 30  # bytes sent at once


@known_arguments
def join(
    address: str | None = None,
    *,
    processes: int | None = None,
    index: int | None = None,
    heartbeat: int = 30,
    patience: int = 120,
) -> None:
    """Makes this process one of several with a common mesh; call it before other JAX functions.

    This is ``jax.distributed.initialize`` with settings for fail-stop: if a process dies, the
    others are aborted (SIGABRT) within about ``heartbeat`` instead of waiting for ever; and SIGTERM
    keeps its meaning (JAX's preemption service, which swallows it, is off). ``jax.devices()`` then
    lists the devices of all processes, and ``sweep(devices=mesh)`` takes a mesh of them.

    ``join()`` finds the cluster that JAX finds: SLURM, Open MPI, Kubernetes, Cloud TPU. With an
    address, a cluster's environment is not read. The coordinator has no authentication. With an
    address it listens there only; in a cluster found by JAX, at every interface, unless
    JAX_COORDINATOR_BIND_ADDRESS says otherwise.

    Args:
        address: "host:port" where process 0 listens; the same in all processes.
        processes: their number.
        index: the number of this one, from 0.
        heartbeat: seconds of silence after which a process counts as dead, at least 1; also the
            time for which a process that ends waits for the others.
        patience: seconds to wait for all processes to join, at least 1.

    Raises:
        ValueError: for a bad argument, some but not all of ``address``, ``processes`` and
            ``index``, or none of them where JAX finds no cluster.
        RuntimeError: if JAX has been used already, or not all joined in time.

    >>> from jaxsched.search import join
    >>> join("10.0.0.1:9876", processes=2, index=2)
    Traceback (most recent call last):
        ...
    ValueError: join(index=...) must be a whole number from 0 to 1, got 2.
    """
    heartbeat = checked_whole("join(heartbeat=...)", heartbeat, 1)
    patience = checked_whole("join(patience=...)", patience, 1)
    place = _named_place(address, processes, index)
    jax.config.update("jax_enable_preemption_service", False)
    try:
        jax.distributed.initialize(
            **place,
            initialization_timeout=patience,
            heartbeat_timeout_seconds=heartbeat,
            shutdown_timeout_seconds=heartbeat,
        )
    except RuntimeError as error:
        if "must be called before" not in str(error):
            raise
        raise RuntimeError(
            "join() must be called before anything else of JAX, and once, got a "
            "process that has used JAX. Call it at the top of the script."
        ) from error
    except ValueError as error:
        if place or "be defined" not in str(error):
            raise
        raise ValueError(
            "join() must be called in a cluster that JAX finds (a step of SLURM, Open MPI, "
            "Kubernetes with JAX's extra `k8s`, Cloud TPU), found none in the environment. Write "
            'join("host:port", processes=n, index=i).'
        ) from error


def _named_place(address: str | None, processes: int | None, index: int | None) -> dict[str, Any]:
    """The arguments that place this process; nothing if JAX is to find its place."""
    given = {"address": address, "processes": processes, "index": index}
    absent = [name for name, value in given.items() if value is None]
    if len(absent) == len(given):
        return {}
    if absent:
        raise ValueError(
            "join(...) must be given address, processes and index, or, in a cluster that JAX "
            f"finds, none of them, got no {' and no '.join(absent)}."
        )
    host, _, port = str(address).rpartition(":")
    if not host or not port.isdecimal():
        raise ValueError(f'join(address=...) must be "host:port", got {address!r}.')
    processes = checked_whole("join(processes=...)", processes, 1)
    return {
        "coordinator_address": address,
        "coordinator_bind_address": address,  # else JAX listens at every interface
        "num_processes": processes,
        "process_id": checked_whole("join(index=...)", index, 0, processes - 1),
        "cluster_detection_method": "deactivate",
    }


def allgather_bytes(data: bytes) -> list[bytes]:
    """The bytes of every process, on every process; all must call it."""
    # Arrays of one shape are all that a collective can send. So lengths go first, and tell all
    # processes the length of the padded bytes.
    lengths = multihost_utils.process_allgather(_size_in_two_numbers(data))
    sizes = [int(parts) * _MOST + int(rest) for parts, rest in lengths]
    gathered = [b""] * len(sizes)
    for start in range(0, max(sizes), _MOST):
        part = _padded_to_power(data[start : start + _MOST], min(_MOST, max(sizes) - start))
        rows = multihost_utils.process_allgather(part)
        gathered = [before + row.tobytes() for before, row in zip(gathered, rows, strict=True)]
    return [long[:size] for long, size in zip(gathered, sizes, strict=True)]


def broadcast_from_first(data: bytes) -> bytes:
    """The bytes of process 0, on every process; all must call it."""
    parts, rest = multihost_utils.broadcast_one_to_all(_size_in_two_numbers(data))
    size, received = int(parts) * _MOST + int(rest), bytearray()
    for start in range(0, size, _MOST):
        mine = data[start : start + _MOST] if jax.process_index() == 0 else b""
        part = _padded_to_power(mine, min(_MOST, size - start))
        received += np.asarray(multihost_utils.broadcast_one_to_all(part)).tobytes()
    return bytes(received[:size])


def on_first_process(call: Callable[[], T]) -> T:
    """Calls on process 0; every process returns its result, a JSON value, or raises its error."""
    # Files are read and written by one process only: each might see others, on a network file
    # system or since one was deleted in between, and go another way. An error must travel too. If
    # the first process raised it at once, the others would wait for its answer for ever.
    error: BaseException | None = None
    answer: dict[str, Any] = {}
    if jax.process_index() == 0:
        try:
            answer = {"value": call()}
        except _ERRORS as raised:
            error = raised
            kind = next(k for k, known in enumerate(_ERRORS) if isinstance(raised, known))
            answer = {"kind": kind, "text": str(raised)}
    answer = json.loads(broadcast_from_first(json.dumps(answer).encode()))
    if error is not None:  # only now: the other processes wait for the answer
        raise error
    if "kind" in answer:
        raise _ERRORS[answer["kind"]](answer["text"])
    return cast(T, answer["value"])


def check_all_agree(fields: Fields) -> None:
    """Compares the fields that identify a sweep.

    Raises:
        ValueError: on every process, naming the differences, unless all agree.
    """
    # Digests first: they agree as a rule, and the fields tell of thousands of trials.
    text = json.dumps(identifying(fields))
    if len(set(allgather_bytes(digest(text).encode()))) == 1:
        return
    first, *others = map(json.loads, allgather_bytes(json.dumps(fields).encode()))
    differences = (
        difference(first, other, ("on process 0", f"on process {number}"))
        for number, other in enumerate(others, 1)
    )
    raise ValueError(
        "sweep(devices=...): all processes of a mesh must call the same sweep, got different "
        f"ones: {next(filter(None, differences))}."
    )


def _size_in_two_numbers(data: bytes) -> np.ndarray:
    """The length of ``data``, which int32 may not hold: the files of a large model are longer."""
    return np.array(divmod(len(data), _MOST), np.int32)


def _padded_to_power(data: bytes, size: int) -> np.ndarray:
    """Padded to a power of two, since each new length compiles a program."""
    padded = np.zeros(max(1024, 1 << (size - 1).bit_length()), np.uint8)
    padded[: len(data)] = np.frombuffer(data, np.uint8)
    return padded
