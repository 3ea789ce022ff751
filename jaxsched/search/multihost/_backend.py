"""The only access to devices: this process's own, or a mesh of all processes."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import jax
from jax.sharding import Mesh

from jaxsched._machine import usable_cores
from jaxsched.search._fingerprint import labelled
from jaxsched.search.engine._compiling import compile_ahead
from jaxsched.search.engine._devices import MeshDevices, machine_of
from jaxsched.search.engine._engine import Backend, Engine
from jaxsched.search.engine._ledger import Ledger, Store
from jaxsched.search.engine._pacer import Coordinator
from jaxsched.search.engine._plan import Plan
from jaxsched.search.engine._program import Function, Program
from jaxsched.search.engine._request import Request
from jaxsched.search.engine._threads import Threads
from jaxsched.search.engine._width import chosen_width
from jaxsched.search.multihost._directory import MeshDirectory
from jaxsched.search.multihost._mesh import MeshCoordinator, MeshProgram, meshes
from jaxsched.search.multihost._processes import (
    allgather_bytes,
    check_all_agree,
    on_first_process,
)
from jaxsched.search.store._directory import StoreDirectory
from jaxsched.search.store._fields import Fields
from jaxsched.search.store._identity import Identity
from jaxsched.search.store._store import StageStore
from jaxsched.search.tasks._traced import METHODS, Fold


def backend_for(
    plan: Plan,
    devices: Mesh | tuple[Any, ...] | None,
    width: int | str | None = None,
    stored: Callable[[str], int | None] = lambda platform: None,
) -> LocalBackend | MeshBackend:
    """The backend of a plan. No other function tells a mesh from devices.

    Args:
        plan: of the sweep.
        devices: a mesh, or devices of this process; ``None``: all of them, or of several that are
            one CPU the first one, with a thread for each core.
        width, stored: as for ``chosen_width``.
    """
    _check_meshes(plan, devices.size if isinstance(devices, Mesh) else 1)
    if isinstance(devices, Mesh):
        return MeshBackend(plan, devices)
    return LocalBackend(plan, devices, width, stored)


class AbstractBackend:
    """The interface of a sweep to the place of its training."""

    # There are three: devices of this process, a mesh with other processes, and workers of an
    # executor (``_workers.py``). No code above this file asks which one it has: for example, it
    # calls ``agree`` on all of them, and with one process that does nothing.

    width: Any  # int, of the programs
    platform: str
    machine: Any  # str, its kind
    measured = False  # whether the width was measured
    shows = True  # whether this process shows the progress line
    path: Path | None = None  # of a store that only this sweep has
    store: type[StageStore] = StageStore

    @property
    def settings(self) -> dict[str, Any]:
        """The properties of the devices that change bits."""
        return {"width": self.width, "platform": self.platform}

    @property
    def shared_settings(self) -> dict[str, Any]:
        """The settings that other processes share; each of them may measure another width."""
        return self.settings | ({"width": "auto"} if self.measured else {})

    def identified(self, runs: Iterable[Fields]) -> tuple[Fields, ...]:
        """The identities of runs, from ``run_fields``, for training here."""
        return tuple(run | labelled(self.settings) for run in runs)

    def directory(self, path: Path) -> StoreDirectory:
        """Where a store is."""
        return StoreDirectory(path)

    @contextlib.contextmanager
    def opened_store(self, plan: Plan, request: Request, identity: Identity) -> Iterator[Store]:
        """The store of a sweep, under its lock; without a directory it holds nothing."""
        if (path := request.checkpoint or self.path) is None:
            yield Store()
            return
        directory, writer = self.directory(path), identity.writer
        with directory.locked(writer):
            runs, every = self.identified(identity.runs), request.checkpoint_every
            yield self.store(directory, plan, runs, self.machine, writer, every)

    def agree(self, fields: Fields) -> None:
        """Raises unless the ``fields`` of all processes of a mesh agree."""

    def traces(self) -> dict[str, int]:
        """Function -> how often this backend has traced it."""
        raise NotImplementedError

    def described(self, ledger: Ledger) -> dict[str, Any]:
        """The fields of ``RunInfo`` that only a backend knows."""
        trained = [self.machine] * (ledger.steps_trained > 0)  # on a mesh all processes must ask
        return {
            "width": self.width,
            "platform": self.platform,
            "machines": sorted(ledger.store.machines.union(trained)),
            "traces": self.traces(),
        }

    def any_signal(self, received: list[int]) -> list[int]:
        """The signals that any process of a mesh has received."""
        return received


class _OnDevices(AbstractBackend, Backend):
    """A backend with programs of its own."""

    count: int  # of devices
    _plan: Plan
    _functions: dict[Function, int]  # with their traces when they were made or found

    @cached_property
    def programs(self) -> tuple[Program, ...]:
        """The program of each fold; folds with the same computation share one."""
        # Made late, since compiling for a mesh waits for all processes: first they must agree.
        return self._made()

    def _made(self) -> tuple[Program, ...]:
        """The programs at the present width."""
        made: dict[str, Program] = {}
        for fold in self._plan.folds:
            if fold.code not in made:
                made[fold.code] = program = self._program(fold, [*made.values()])
                for function in program.functions:
                    self._functions.setdefault(function, function.traces)
        return tuple(made[fold.code] for fold in self._plan.folds)

    def _program(self, fold: Fold, others: list[Program]) -> Program:
        """The program of a fold, beside the programs that others have already."""
        raise NotImplementedError

    def engine(self, ledger: Ledger) -> Engine:
        """The engine that trains the open runs of a ledger."""
        return Engine(ledger, self, self._coordinator(ledger))

    def _coordinator(self, ledger: Ledger) -> Coordinator:
        return Coordinator(ledger, len(self.devices))

    def traces(self) -> dict[str, int]:
        traces: Counter[str] = Counter()
        for function, before in self._functions.items():
            traces[function.name] += function.traces - before
        return dict(+traces)

    def described(self, ledger: Ledger) -> dict[str, Any]:
        own = {"devices": self.count, "threads": len(self.threads.numbers)}
        return super().described(ledger) | own


class LocalBackend(_OnDevices):
    """Devices of this process, each with runs of its own; one listed twice has two threads."""

    def __init__(
        self,
        plan: Plan,
        devices: tuple[Any, ...] | None,
        width: int | str | None,
        stored: Callable[[str], int | None],
    ):
        self._plan, self._functions = plan, {}
        # A device that is listed twice has two threads. They launch the same compiled program, and
        # on a CPU XLA runs their launches side by side: so a core is a thread here, not a device.
        self.devices, cores = list(devices or jax.local_devices()), None
        first = self.devices[0]
        self.platform, self.machine = str(first.platform), machine_of(first)
        self.width, self.measured = chosen_width(plan, width, first, stored)
        if devices is None and self.platform == "cpu":
            # Several devices of a CPU are its cores again, and each would compile the program anew.
            cores = usable_cores()
            self.devices = [first] * min(cores, -(-plan.widest // self.width))
        self.count = len({*self.devices})
        small = cores is not None and self.programs[0].for_one_thread
        self.threads = Threads(len(self.devices), cores, small)

    def _program(self, fold: Fold, others: list[Program]) -> Program:
        return Program(fold, self._plan.table.names, self._plan.length, self.width)

    def compile_ahead(self, ledger: Ledger) -> None:
        programs = dict.fromkeys(self.programs)  # made before the threads that call them
        if self.count == 1:  # several devices compile side by side anyway
            compile_ahead(ledger, programs, self.devices[0])

    def halve_width(self) -> None:
        self.width //= 2
        self.programs = self._made()


class MeshBackend(_OnDevices):
    """All devices of a mesh, of every process, which train one run at a time."""

    width = 1

    def __init__(self, plan: Plan, mesh: Mesh):
        self._plan, self._mesh, self._functions = plan, mesh, {}
        self.devices = [MeshDevices(mesh)]
        self.threads = Threads(1)
        self.count = mesh.size
        self.platform = self.devices[0].platform
        self.shows = jax.process_index() == 0

    @property
    def settings(self) -> dict[str, Any]:
        return super().settings | {"mesh": self._mesh.axis_names}

    @cached_property
    def machine(self) -> str:  # the first process's: all must store under one name
        kind = on_first_process(lambda: machine_of(self._mesh.devices.flat[0]))
        return f"{kind}, mesh {dict(self._mesh.shape)} of {jax.process_count()} processes"

    def _program(self, fold: Fold, others: list[Program]) -> Program:
        names, length = self._plan.table.names, self._plan.length
        layout = others[0].layout if others else None
        return MeshProgram(fold, names, length, self.devices[0], layout)

    def _coordinator(self, ledger: Ledger) -> Coordinator:
        return MeshCoordinator(ledger, self.devices[0])

    def directory(self, path: Path) -> StoreDirectory:
        return MeshDirectory(path, self.programs[0].layout)

    def agree(self, fields: Fields) -> None:
        check_all_agree({**fields, "mesh": str(self._mesh)})

    def any_signal(self, received: list[int]) -> list[int]:
        numbers = [int(n) for n in allgather_bytes(str(max(received, default=0)).encode())]
        return [max(numbers)] if any(numbers) else []


def _check_meshes(plan: Plan, count: int) -> None:
    """Raises if a task is laid out on other devices than a run's, ``count`` of them."""
    named = {"`jax.set_mesh`": {f"a mesh of {jax.sharding.get_abstract_mesh().size}"}}
    for name in (*METHODS, "test"):
        named[f"`{name}`"] = set().union(
            *(meshes(getattr(fold.shape, name)) for fold in plan.folds)
        )
    for name, kinds in named.items():
        if others := sorted(kinds - {f"a mesh of {size}" for size in (0, 1, count)}):
            raise ValueError(
                f"{plan.caller}(task=...) must lay its arrays out on the devices of a run, here "
                f"{count}, got {name} with {others[-1]}. Give that to `sweep` or `final_score`, "
                "`devices=mesh` with Auto axes, or leave it out."
            )
