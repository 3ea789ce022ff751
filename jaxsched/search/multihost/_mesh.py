"""A sweep on a mesh of many processes: each runs the same host loop, with the same launches.

The loop's decisions depend on clocks, signals and files, which differ between processes. So each
process only *votes*. The votes go through the mesh beside every segment, and one answer comes back
with the measurements, at the same point of the loop in every process.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Hashable

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr
from jax.sharding import AbstractMesh, AxisType, Mesh, NamedSharding, PartitionSpec, Sharding
from jax.stages import Compiled, Wrapped

from jaxsched._types import PyTree
from jaxsched.search._fingerprint import equations
from jaxsched.search.engine._devices import MeshDevices, Place, laid_out
from jaxsched.search.engine._ledger import Ledger
from jaxsched.search.engine._pacer import Coordinator, Pacer
from jaxsched.search.engine._program import Program, Traced
from jaxsched.search.tasks._traced import Fold


def meshes(closed: ClosedJaxpr | None) -> set[str]:
    """The meshes that a closed jaxpr names, or "Explicit axes"; on Auto ones an array may lie."""
    names = set[str]()
    if closed is None:  # of a method that the sweep does not use
        return names
    made = [*closed.jaxpr.outvars]
    for eqn in equations(closed.jaxpr):
        made += eqn.outvars
        for param in eqn.params.values():
            for x in param if isinstance(param, (list, tuple)) else (param,):
                if isinstance(x, Sharding):
                    names.add(f"a mesh of {x.num_devices}")
                if isinstance(x, (Mesh, AbstractMesh)):
                    names.add(f"a mesh of {x.size}")
    typed = (getattr(x.aval, "sharding", None) for x in made)
    explicit = any(x and AxisType.Explicit in x.mesh.axis_types for x in typed)
    return names | {"Explicit axes"} if explicit else names


class MeshProgram(Program):
    """The program of a task with states on a mesh, laid out as ``task.init`` does.

    Args:
        fold, names, length: as for ``Program``; the width is 1.
        place: the mesh.
        layout: the shardings of a state, if another fold's program has chosen them.
    """

    def __init__(
        self,
        fold: Fold,
        names: tuple[str, ...],
        length: int,
        place: MeshDevices,
        layout: PyTree = None,
    ):
        self._place, self._given = place, layout
        super().__init__(fold, names, length)

    @property
    def layout(self) -> PyTree:
        """One for all states, whether from ``init``, a segment or a file.

        So there is one program, and an interrupted run has the bits of an uninterrupted one.
        """
        return self.init.output_shardings

    def arguments(self, fold: Fold, device: Place) -> list[jax.Array]:
        """On each device as a whole, though the task may have laid some out on the mesh."""
        return [jax.device_put(x, device.sharding) for x in super().arguments(fold, device)]

    def _where(self, method: str) -> Hashable:
        layout = self._given if method == "init" else self.layout
        return self._place, tuple(jax.tree.leaves(layout))

    def _jit(self, method: str, f: Traced) -> Wrapped | Compiled:
        """A method with the layouts of its results; ``init`` already compiled."""
        whole = self._place.sharding
        if method == "init":
            kinds = ((np.shape(x), jnp.result_type(x)) for x in self.fold.arrays)
            abstract = [jax.ShapeDtypeStruct(*kind) for kind in kinds]
            # Compiled now: only then JAX reports the layout of the state, for all other programs.
            # A state of constants reads no input, and JAX knows the mesh from inputs only.
            init = jax.jit(f, in_shardings=whole, out_shardings=self._given, keep_unused=True)
            return init.lower(abstract, jax.ShapeDtypeStruct((), np.uint32), []).compile()
        return jax.jit(f, out_shardings=(self.layout, whole, whole) if method == "step" else whole)


class MeshCoordinator(Coordinator, Pacer):
    """The coordinator of a sweep on a mesh, by votes of its processes.

    Process 0 decides the length of a segment and when to save, and tells the speed; any process
    may stop.
    """

    # A collective is one program that all processes launch: if one of them launches another
    # program, or none, all wait for ever. Whether it is time to save is such a question, since the
    # answer launches other programs and each process has another clock. So a process acts on no
    # clock and no signal of its own, but on the answer only. That comes after each segment, in the
    # same order everywhere: where process 1 got SIGTERM and where not, the loop stops after the
    # same segment.

    def __init__(self, ledger: Ledger, place: MeshDevices):
        Coordinator.__init__(self, ledger, devices=0)
        Pacer.__init__(self, ledger.plan.length)
        self.pacers = [self]
        self._stop = False
        self._first = jax.process_index() == 0
        self._measured = Pacer(ledger.plan.length)
        self._saves = 0  # agreed so far
        self._due = False
        # A row for each device; the rows of a process are alike. In each column the highest counts:
        # a stop of any process; saves, steps and speed of the first. The others vote 0 there.
        self._rows = NamedSharding(place.mesh, PartitionSpec(place.mesh.axis_names))
        self._shape = (place.mesh.size, 4)
        self._answer = place.sharding

    def stop(self) -> None:
        """Votes to stop."""
        self._stop = True

    def begin(self) -> None:
        self._measured.begin()

    def ask(self) -> jax.Array:
        """Sends the votes of this process; returns the answer, int32 [4], without waiting."""
        vote = np.array([[self._stop, 0, 0, 0]], np.int32)
        if self._first:
            due = self._ledger.store.due()
            vote[0, 1:] = self._saves + due, self._measured.steps, self._measured.speed
        votes = laid_out(self._shape, self._rows, lambda index: vote)
        return _column_maxima(self._answer)(votes)

    def collected(self, steps: int, answer: jax.Array | None) -> None:
        """Follows the answer that came with another ``steps`` updates."""
        self._measured.collected(steps, None)
        stop, saves, self.steps, self.speed = map(int, jax.device_get(answer))
        if stop:
            self._ledger.stop()
        if saves > self._saves:  # a count: votes in flight ask for the same save again
            self._saves, self._due = saves, True

    def on_segment(self) -> None:
        """Saves if the processes agreed to; called under the ledger's lock."""
        if self._due:
            self._due = False
            self._ledger.store.save(self._ledger)


@functools.cache
def _column_maxima(answer: NamedSharding) -> Callable[[jax.Array], jax.Array]:
    return jax.jit(lambda votes: votes.max(axis=0), out_shardings=answer)
