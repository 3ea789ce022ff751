"""The arguments of a sweep, checked before any tracing."""

from __future__ import annotations

import dataclasses
import inspect
import math
import os
import tempfile
from concurrent import futures
from pathlib import Path
from typing import Any, Literal, TypeAlias

import jax
import numpy as np
from jax.sharding import AxisType, Mesh

from jaxsched._arrays import INT32_MAX, is_number
from jaxsched._bounds import FLOAT32_MAX, check_text
from jaxsched._checks import (
    MANY,
    checked_flag,
    checked_items,
    checked_path,
    checked_whole,
    has_items,
)
from jaxsched._text import describe
from jaxsched.search.engine._shards import shard_of_job
from jaxsched.search.engine._stopping import Objective, StoppingRule

Devices: TypeAlias = tuple[jax.Device, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Request:
    """The arguments of ``sweep``, where their meanings are documented. Each error names its cause.

    After the checks ``seeds`` are numbers, ``devices`` a mesh, a tuple or ``None``, ``shard`` a
    pair. ``checkpoint`` is the path of a writable directory, made if it was missing.
    """

    steps: int | None = None
    seeds: Any = 1  # as it was given, until it is checked
    folds: int | None = None
    evaluate_every: int | None = None
    monitor: str = "loss"
    metric: str = "loss"
    maximize: bool | None = None
    stopping: StoppingRule | None = None
    limit: float = math.inf
    width: int | Literal["auto"] | None = None
    share_prefixes: bool = True
    devices: Any = None
    shard: Any = None
    executor: Any = None
    units: int | None = None
    checkpoint: Any = None
    checkpoint_every: float = 10.0
    progress: bool | None = None

    def __post_init__(self) -> None:
        for name, least, most in (
            ("steps", 1, INT32_MAX),
            ("evaluate_every", 1, INT32_MAX),
            ("folds", 2, MANY),
            ("units", 1, MANY),
        ):
            if (value := getattr(self, name)) is not None:
                self._set(name, checked_whole(f"sweep({name}=...)", value, least, most))
        self._set("seeds", checked_seeds("sweep(seeds=...)", self.seeds))
        _check_number("limit", self.limit)
        if abs(self.limit) > FLOAT32_MAX:  # a cast of it would warn, or fail
            self._set("limit", math.inf if self.limit > 0 else -math.inf)
        _check_number("checkpoint_every", self.checkpoint_every, 0.0)
        checked_flag("sweep(share_prefixes=...)", self.share_prefixes)
        for name in ("maximize", "progress"):
            if (value := getattr(self, name)) is not None:
                checked_flag(f"sweep({name}=...)", value)
        for name in ("metric", "monitor"):
            expected = "the name of a validation metric"
            check_text(f"sweep({name}=...)", getattr(self, name), expected)
        rule = self.stopping
        if rule is not None and (isinstance(rule, type) or not isinstance(rule, StoppingRule)):
            raise TypeError(
                f"sweep(stopping=...) must be None or a StoppingRule, got {describe(rule)}."
            )
        _check_executor(self)
        self._set("devices", _checked_devices(self.devices))
        self._set("width", _checked_width(self.width, self.devices))
        self._set("shard", _checked_shard(self.shard, self.stopping))
        if self.checkpoint is not None:  # last, since it makes the directory
            self._set("checkpoint", _made_directory(self.checkpoint))

    def _set(self, name: str, value: object) -> None:
        object.__setattr__(self, name, value)

    @property
    def is_distributed(self) -> bool:
        """Whether other processes make the same call, or one for another shard."""
        return self.shard is not None or isinstance(self.devices, Mesh)

    @property
    def objective(self) -> Objective:
        return Objective(self.metric, bool(self.maximize), self.stopping)


def check_executor(executor: Any) -> Any:
    """The executor; raises if it cannot be one, or if its workers are forks of this process."""
    if isinstance(executor, type) or not callable(getattr(executor, "submit", None)):
        raise TypeError(
            "sweep(executor=...) must have `submit(fn, *args)`, as executors of "
            "`concurrent.futures` have, or be a function without arguments that returns such a "
            f"one, got {describe(executor)}. Write "
            '`ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn"))`.'
        )
    if isinstance(executor, getattr(futures, "InterpreterPoolExecutor", ())):  # of Python 3.14
        raise ValueError(
            "sweep(executor=...) must not be one of interpreters, in which JAX cannot be imported, "
            f"got {type(executor).__name__}. Write ThreadPoolExecutor or ProcessPoolExecutor."
        )
    context = getattr(executor, "_mp_context", None)  # of the standard library, and of similar ones
    if context is not None and context.get_start_method() == "fork":
        raise ValueError(
            "sweep(executor=...) must not fork, since JAX has threads, which deadlock in a fork, "
            f"got {type(executor).__name__} with the start method 'fork'. Write "
            f'{type(executor).__name__}(..., mp_context=multiprocessing.get_context("spawn")).'
        )
    if getattr(executor, "_max_tasks_per_child", None) is not None:
        raise ValueError(
            "sweep(executor=...) must not be an executor with max_tasks_per_child, which may wait "
            f"for ever for a worker that it never starts, got {executor._max_tasks_per_child}."
        )
    return executor


def checked_seeds(where: str, given: object, bits: int = 32) -> tuple[int, ...]:
    """Different seeds, each with a different key: JAX takes 32 bits of one."""
    if not has_items(given):
        instead = ", or several different ones"
        return tuple(range(checked_whole(where, given, 1, MANY, instead)))
    items = checked_items(where, given, "different whole numbers")
    seeds = tuple(checked_whole(where, seed, 0, 2**bits - 1) for seed in items)
    if not seeds or len(set(seeds)) < len(seeds):
        raise ValueError(
            f"{where} must be different whole numbers, at least one, got {list(seeds)}."
        )
    return seeds


def _check_number(name: str, value: Any, least: float = -math.inf) -> None:
    """A real number, infinity included."""
    real = isinstance(value, (int, float, np.number)) and not isinstance(value, bool)
    real = real and is_number(value)  # neither complex nor a duration of NumPy's
    if not real or not value >= least:
        expected = "a number" if least == -math.inf else f"a number of at least {least:g}"
        raise ValueError(f"sweep({name}=...) must be {expected}, got {describe(value)}.")


def _checked_width(given: Any, devices: Mesh | Devices | None) -> int | str | None:
    """Lanes, "auto" or ``None``; whether they fit into memory is known once it is traced."""
    if isinstance(devices, Mesh) and given not in (None, 1):
        raise ValueError(f"sweep(width=...) must be 1 on a mesh, got {given!r}.")
    if isinstance(given, str) and given != "auto":
        raise ValueError(
            f'sweep(width=...) must be a whole number or "auto", got {describe(given)}.'
        )
    known = given is None or isinstance(given, str)
    return given if known else checked_whole("sweep(width=...)", given, 1, 2**62)


def _checked_shard(given: object, stopping: StoppingRule | None) -> tuple[int, int] | None:
    """(which process, of how many); only the plan knows of how many there may be."""
    where = "sweep(shard=...)"
    if given is None:
        return None
    if isinstance(given, str) and given == "auto":
        given = shard_of_job()
    if not isinstance(given, (tuple, list)) or len(given) != 2:
        raise TypeError(
            f'{where} must be a pair (i, n) of whole numbers or "auto", got {describe(given)}.'
        )
    if stopping is not None:
        raise ValueError(
            f"{where} must be None with early stopping, which compares all trials, got {given}."
        )
    return checked_whole(where, given[0], 0), checked_whole(where, given[1], 1)


def _check_executor(request: Request) -> None:
    """Raises unless the arguments fit the executor, or the lack of one."""
    if request.executor is None:
        if request.units is not None:
            raise ValueError(
                "sweep(units=...) must be None without an executor, which trains them, got "
                f"{request.units}."
            )
        return
    if not _makes_executor(request.executor):
        check_executor(request.executor)
    for name in ("devices", "shard"):
        if (value := getattr(request, name)) is not None:
            raise ValueError(
                f"sweep({name}=...) must be None with an executor, whose workers use their own "
                f"devices and share all runs, got {describe(value)}."
            )


def _makes_executor(given: object) -> bool:
    """Whether it is a function without arguments, which makes an executor later."""
    if isinstance(given, type) or not callable(given):
        return False
    try:
        inspect.signature(given).bind()
    except (TypeError, ValueError):  # a ValueError: nothing tells its arguments
        return False
    return True


def _checked_devices(given: object) -> Mesh | Devices | None:
    """A mesh of all processes with Auto axes, or a tuple of devices."""
    if given is None:
        return None
    if not isinstance(given, Mesh):
        where, expected = "sweep(devices=...)", "None, a mesh, or devices"
        devices = tuple(checked_items(where, given, expected)) if has_items(given) else ()
        if not devices or not all(isinstance(device, jax.Device) for device in devices):
            raise ValueError(
                f"sweep(devices=...) must be None, a mesh, or at least one device, got "
                f"{describe(given)}."
            )
        return devices
    processes = {device.process_index for device in given.devices.flat}
    if processes != set(range(jax.process_count())):
        raise ValueError(
            "sweep(devices=...) must be a mesh with devices of every process, got one of the "
            f"processes {sorted(processes)} of {jax.process_count()}."
        )
    if any(kind != AxisType.Auto for kind in given.axis_types):
        raise ValueError(
            "sweep(devices=...) must be a mesh with Auto axes, "
            f"`jax.make_mesh(..., axis_types=(jax.sharding.AxisType.Auto,) * n)`, got {given}."
        )
    return given


def _made_directory(given: object) -> Path:
    """The path of a directory, made if missing; a file in it shows that it can be written."""
    path = checked_path("sweep(checkpoint=...)", given)
    if os.path.islink(path) and not os.path.exists(path):
        raise ValueError(
            f"sweep(checkpoint=...) must be a directory, got {path}, a link to what does not exist."
        )
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(suffix=".tmp", dir=path):
            pass
    except OSError as problem:
        raise ValueError(
            "sweep(checkpoint=...) must be a directory that can be written, got "
            f"{path}: {problem.strerror}."
        ) from None
    return path
