"""The only access to devices: those of this process, or a mesh of all processes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import jax
from jax.sharding import Mesh

from jaxsched._checks import check_room
from jaxsched._machine import usable_cores
from jaxsched.search._fingerprint import labelled
from jaxsched.search.engine._compiling import compile_ahead
from jaxsched.search.engine._devices import MeshDevices, machine_of
from jaxsched.search.engine._engine import Backend, Engine
from jaxsched.search.engine._ledger import Ledger, Store
from jaxsched.search.engine._pacer import Coordinator
from jaxsched.search.engine._plan import Plan
from jaxsched.search.engine._products import for_one_thread
from jaxsched.search.engine._program import Function, Program
from jaxsched.search.engine._threads import Threads
from jaxsched.search.engine._width import measured_width, only_alone
from jaxsched.search.multihost._directory import MeshDirectory
from jaxsched.search.multihost._mesh import MeshCoordinator, MeshProgram, meshes
from jaxsched.search.multihost._processes import (
    allgather_bytes,
    check_all_agree,
    on_first_process,
)
from jaxsched.search.store._directory import StoreDirectory
from jaxsched.search.store._identity import Identity
from jaxsched.search.store._index import width_in_store
from jaxsched.search.store._pieces import Fields
from jaxsched.search.store._store import StageStore
from jaxsched.search.tasks._traced import METHODS, Fold


def backend_for(
    plan: Plan,
    devices: Mesh | tuple[Any, ...] | None,
    width: int | str | None = None,
    path: Path | None = None,
    identity: Identity | None = None,
) -> LocalBackend | MeshBackend:
    """The backend of a plan. No other function tells a mesh from devices.

    Args:
        plan: of the sweep.
        devices: a mesh, or devices of this process; ``None``: all of them, or of several that are
            one CPU the first one, with a thread for each core.
        width: lanes; "auto" measures; ``None``: 1 on a CPU, else "auto".
        path, identity: of a sweep with a store; if that holds runs of it, their width is taken.
    """
    _check_meshes(plan, devices.size if isinstance(devices, Mesh) else 1)
    if isinstance(devices, Mesh):
        return MeshBackend(plan, devices)
    first = (devices or jax.local_devices())[0]
    if width is None:
        width = 1 if first.platform == "cpu" else "auto"
    width = 1 if only_alone(plan, width) else width
    if measured := isinstance(width, str):
        program_of = partial(Program, plan.folds[0], plan.table.names, plan.length)
        stored = path and identity and width_in_store(path, identity, first.platform)
        width = stored or measured_width(plan, program_of, first)
    if (lanes := int(width)) > 1:
        size, what = 4 * lanes * len(plan.table.names) * plan.length, f"the values of {lanes} lanes"
        check_room(f"{plan.caller}(width=...)", size, what, "Train fewer side by side.")
    return LocalBackend(plan, devices, lanes, measured)


class AbstractBackend:
    """What a sweep asks of wherever it is trained."""

    width: Any  # int, of the programs
    platform: str
    machine: Any  # str, its kind
    measured = False  # whether the width was measured
    shows = True  # whether this process shows the progress line
    path: Path | None = None  # of a store that only this sweep has
    store: type[StageStore] = StageStore

    @property
    def settings(self) -> dict[str, Any]:
        """What of the devices changes bits."""
        return {"width": self.width, "platform": self.platform}

    @property
    def shared_settings(self) -> dict[str, Any]:
        """Those that other processes have too; each of them measures its width."""
        return self.settings | ({"width": "auto"} if self.measured else {})

    def identified(self, runs: Iterable[Fields]) -> tuple[Fields, ...]:
        """What identifies runs, of ``run_fields``, where they are trained here."""
        return tuple(run | labelled(self.settings) for run in runs)

    def directory(self, path: Path) -> StoreDirectory:
        """Where a store is."""
        return StoreDirectory(path)

    def agree(self, fields: dict[str, str]) -> None:
        """Raises unless the ``fields`` of all processes of a mesh agree."""

    def traces(self) -> dict[str, int]:
        """Function -> how often this backend has traced it."""
        raise NotImplementedError

    def described(self, ledger: Ledger) -> dict[str, Any]:
        """Of a ``RunInfo`` what only a backend knows."""
        trained = [self.machine] * (ledger.steps_trained > 0)  # on a mesh all processes must ask
        return {
            "width": self.width,
            "platform": self.platform,
            "machines": sorted(ledger.machines.union(trained)),
            "traces": self.traces(),
        }

    def any_signal(self, received: list[int]) -> list[int]:
        """The signals that any process of a mesh has received."""
        return received


class _OnDevices(AbstractBackend, Backend):
    """A backend with programs of its own."""

    count: int  # of devices
    _functions: dict[Function, int]  # with their traces when they were made or found

    @property
    def width(self) -> int:
        return self.programs[0].width

    def engine(self, ledger: Ledger, store: Store | None = None) -> Engine:
        """What trains the open runs of a ledger; without a store it never saves."""
        return Engine(ledger, self, self._coordinator(ledger, store))

    def _coordinator(self, ledger: Ledger, store: Store | None) -> Coordinator:
        return Coordinator(ledger, store, len(self.devices))

    def traces(self) -> dict[str, int]:
        traces: Counter[str] = Counter()
        for function, before in self._functions.items():
            traces[function.name] += function.traces - before
        return dict(+traces)

    def described(self, ledger: Ledger) -> dict[str, Any]:
        own = {"devices": self.count, "threads": len(self.threads.numbers)}
        return super().described(ledger) | own

    def _made(self, programs: Iterable[Program]) -> None:
        for function in (f for program in programs for f in program.functions):
            self._functions.setdefault(function, function.traces)


class LocalBackend(_OnDevices):
    """Devices of this process, each with runs of its own; one listed twice has two threads."""

    def __init__(
        self, plan: Plan, devices: tuple[Any, ...] | None, width: int, measured: bool = False
    ):
        self.devices, cores = _places(plan, devices, width)
        self.count = len({*self.devices})
        self.platform, self.machine = str(self.devices[0].platform), machine_of(self.devices[0])
        self.measured = measured
        make = partial(Program, names=plan.table.names, length=plan.length, width=width)
        self.programs = _programs(plan, make)
        self._functions = {}
        self._made(self.programs)
        small = cores is not None and for_one_thread(plan.shape.step, width)
        self.threads = Threads(len(self.devices), cores, small)

    def compile_ahead(self, ledger: Ledger) -> None:
        if self.count == 1:  # the threads of several devices compile side by side anyway
            for program in dict.fromkeys(self.programs):
                compile_ahead(ledger, program, self.devices[0])

    def halve_width(self) -> None:
        halved = {program: program.halved() for program in dict.fromkeys(self.programs)}
        self.programs = tuple(halved[program] for program in self.programs)
        self._made(self.programs)


class MeshBackend(_OnDevices):
    """All devices of a mesh, of every process, which train one run at a time."""

    def __init__(self, plan: Plan, mesh: Mesh):
        self.devices = [MeshDevices(mesh)]
        self.threads = Threads(1)
        self.count = mesh.size
        self.platform = self.devices[0].platform
        self.shows = jax.process_index() == 0
        self._plan, self._mesh = plan, mesh

    @property
    def width(self) -> int:
        return 1  # known before the programs are made

    @property
    def settings(self) -> dict[str, Any]:
        return super().settings | {"mesh": self._mesh.axis_names}

    @cached_property
    def machine(self) -> str:  # that of the first process: all must store under one name
        kind = on_first_process(lambda: machine_of(self._mesh.devices.flat[0]))
        return f"{kind}, mesh {dict(self._mesh.shape)} of {jax.process_count()} processes"

    @cached_property
    def programs(self) -> tuple[Program, ...]:
        # Made late, since compiling for a mesh waits for all processes: first they must agree.
        made: list[Program] = []

        def make(fold: Fold) -> Program:
            layout = made[0].layout if made else None
            names, length = self._plan.table.names, self._plan.length
            made.append(MeshProgram(fold, names, length, self.devices[0], layout))
            return made[-1]

        programs = _programs(self._plan, make)
        self._functions = {}
        self._made(programs)
        return programs

    def _coordinator(self, ledger: Ledger, store: Store | None) -> Coordinator:
        return MeshCoordinator(ledger, self.devices[0], store)

    def directory(self, path: Path) -> StoreDirectory:
        return MeshDirectory(path, self.programs[0].layout)

    def agree(self, fields: dict[str, str]) -> None:
        check_all_agree({**fields, "mesh": str(self._mesh)})

    def any_signal(self, received: list[int]) -> list[int]:
        numbers = [int(n) for n in allgather_bytes(str(max(received, default=0)).encode())]
        return [max(numbers)] if any(numbers) else []


def _places(
    plan: Plan, devices: tuple[Any, ...] | None, width: int
) -> tuple[list[Any], int | None]:
    """A device for each thread; and the cores, if threads are to wait until some are idle."""
    if devices is not None:
        return list(devices), None
    local = jax.local_devices()
    if local[0].platform != "cpu":
        return local, None
    # Several devices of a CPU are its cores again, and each would compile the program anew.
    cores = usable_cores()
    threads = min(cores, -(-plan.widest // width))
    return local[:1] * threads, cores if threads > 1 else None


def _check_meshes(plan: Plan, count: int) -> None:
    """Raises if a task is laid out on other devices than those of a run, ``count`` of them."""
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


def _programs(plan: Plan, make: Callable[[Fold], Program]) -> tuple[Program, ...]:
    """The program of each fold; folds with the same computation share one."""
    first = {fold.code: fold for fold in reversed(plan.folds)}
    made = {fold.code: make(fold) for fold in first.values()}
    return tuple(made[fold.code] for fold in plan.folds)
