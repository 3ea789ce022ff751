"""The names of runs in a store: from the fields of their task, and all input before a step."""

from __future__ import annotations

import json
from hashlib import blake2b

from jaxsched.search._fingerprint import digest
from jaxsched.search.engine._plan import Plan
from jaxsched.search.engine._records import Key
from jaxsched.search.store._fields import Fields
from jaxsched.search.store._pieces import Root
from jaxsched.search.store._rows import Rows

_CALL = 12  # letters of a writer's name; its workers' names are longer


class Names:
    """The folds and seeds of a plan by their numbers, and the points of their runs.

    A run that was narrowed, for a lack of memory, is known to the same call only: no other call
    gives it these bits.

    Args:
        plan: of the sweep.
        fields: the identity of each fold's task, of ``run_fields`` and a backend.
        machine: the kind of machine that trains here.
        writer: the name of the sweep, or of one of its workers.
    """

    def __init__(self, plan: Plan, fields: tuple[Fields, ...], machine: str, writer: str):
        runs = plan.runs
        self.machine, self._call = machine, writer[:_CALL]
        self.fields = [{**fields[f], "seed": str(plan.seeds[s])} for f, s in runs]
        self.arrays = [plan.folds[f].array_fields for f, _ in runs]
        self.rows = [Rows(plan.folds[f], plan.seeds[s], plan.longest) for f, s in runs]
        self._names = [digest(json.dumps(x)) for x in self.fields]
        self._number = {run: i for i, run in enumerate(runs)}
        self._known = {name: i for i, name in enumerate(self._names)}

    def number(self, key: Key) -> int:
        return self._number[key.fold, key.seed]

    def number_of(self, root: Root) -> int | None:
        """The number of the runs in a file, if they are ours."""
        ours = root.notes.get("narrowed", self._call) == self._call
        return self._known.get(digest(json.dumps(root.fields))) if ours else None

    def order(self, file: str) -> tuple[bool, str, str]:
        """A sort key: the files of this call come last, in the order in which they were written."""
        _, writer, number = file.split("-")
        return writer.startswith(self._call), number, writer

    def point(self, number: int, values: blake2b, step: int, narrowed: bool = False) -> str:
        """The digest of all that a run has read before a step.

        Args:
            number: of its fold and seed.
            values: hashlib's, of the applied values.
            step: the number of the update.
            narrowed: as of an ``OpenRun``; for states.
        """
        # Nothing of the future is in it. Say one sweep goes on from another: the later updates, the
        # length of the run and the other runs of the sweep could each differ between the two.
        rows = self.rows[number].digest(step)
        call = self._call * narrowed
        return digest(self._names[number], str(step), values.digest(), rows, call)

    def root(self, number: int, narrowed: bool, start: int, stop: int) -> Root:
        """The identity of the runs, for a file with these updates."""
        notes = {"machine": self.machine, **self.arrays[number]}
        notes |= {"narrowed": self._call} if narrowed else {}
        return Root(self.fields[number], start, stop, notes, self.rows[number].sums(start, stop))
