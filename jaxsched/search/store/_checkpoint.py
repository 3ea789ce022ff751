"""A sweep's memory on disk: what has been measured, and the states that are still needed.

``records-*.npz`` hold finished stages and are written once; ``states-*.npz`` hold all work that was
open at a moment, and the last two are kept. Both name every stage by its place in the plan, which
``sweep.json`` identifies. Whatever file is lost or damaged, the stages that it held are trained
again from the nearest state before them, which gives the same bits.
"""

from __future__ import annotations

import dataclasses
import json
import re
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxsched.search._files import Damaged, write_json
from jaxsched.search._fingerprint import difference
from jaxsched.search.engine._controlled import child_runs
from jaxsched.search.engine._engine import Engine, plain_state
from jaxsched.search.engine._records import Key, OpenRun, RunCurves
from jaxsched.search.store._directory import CheckpointDirectory

FORMAT = 2


class Checkpoint:
    """Saves an engine's records and open work into a directory, now and then, and restores them.

    Args:
        folder: of a directory that is owned by this process.
        fields: what identifies the sweep, name -> text.
        every: seconds between saves, at least; more where a save takes over a twentieth of that.
            0 saves after every segment.

    Raises:
        ValueError: if the directory holds another sweep, or something else.
    """

    def __init__(self, folder: CheckpointDirectory, fields: dict[str, str], every: float):
        self._folder = folder
        self._every = every
        self._saved: set[Key] = set()
        self._number = 1 + max(map(_number, folder.glob("*-*.npz")), default=0)
        self._last = time.monotonic()
        self._took = 0.0
        folder.on_first_process(lambda: _identify(folder.directory, fields))

    def on_segment(self, engine: Engine) -> None:
        """Saves if it is time to; called under the engine's lock."""
        if self.due():
            self.save(engine)

    def due(self) -> bool:
        """Whether it is time to save."""
        pause = max(self._every, 20 * self._took) if self._every else 0.0
        return time.monotonic() - self._last >= pause

    def save(self, engine: Engine) -> None:
        """Writes the records that are new, then the open work; only then deletes older work."""
        began = time.monotonic()
        fresh = {k: r for k, r in engine.records.items() if k not in self._saved}
        number = f"{self._number:08d}"
        folder = self._folder
        if fresh:
            folder.write(folder.directory / f"records-{number}.npz", *_from_records(fresh))
        works = _from_works(engine.unfinished())
        folder.write(folder.directory / f"states-{number}.npz", *works)
        self._saved |= set(fresh)
        self._number += 1
        folder.prune(kept=2)
        self._last = time.monotonic()
        self._took = self._last - began

    def restore(self, engine: Engine, structure: Any, replay: Callable[[], None]) -> None:
        """Puts what is on the disk into the engine; files that are damaged are named and skipped.

        Args:
            engine: with its work at the beginning; its records and pool are replaced.
            structure: the abstract state.
            replay: makes the early-stopping decisions that the engine's records allow.
        """
        self._folder.prune()
        records: dict[Key, RunCurves] = {}
        for path in self._folder.glob("records-*.npz"):
            try:
                records |= _to_records(*self._folder.read(path))
            except Damaged as damage:
                _warn(f"{damage}. What it held is trained again.")
        self._saved = set(records)
        works: list[OpenRun] = []
        for path in self._folder.glob("states-*.npz")[::-1]:
            try:
                works = _to_works(*self._folder.read(path), structure)
                break
            except Damaged as damage:
                _warn(f"{damage}. The checkpoint before it is used.")
        engine.records = records
        root_runs, engine.pool = engine.pool, []
        replay()
        engine.pool = to_do(engine, works, root_runs)
        self._saved &= set(records)


def to_do(engine: Engine, works: list[OpenRun], root_runs: list[OpenRun]) -> list[OpenRun]:
    """The work that completes the engine's records, from the states that are at hand.

    A run that is missing and has no state to begin with needs its parent to be trained again; the
    parent's record is taken out then. So is every record below one that is missing, if controllers
    watch: what they decided there isn't known.
    """
    records, plan = engine.records, engine.plan
    at_hand = {work.key: work for work in [*root_runs, *works]}
    states = {work.key: work.controller_states for work in root_runs}
    parents: dict[Key, Key] = {}
    order: list[Key] = []  # parents before children
    todo = [work.key for work in root_runs]
    while todo:
        key = todo.pop()
        order.append(key)
        if key in records or not plan.table.watched:
            below = child_runs(plan, key, states[key], records.get(key))
            states |= dict(below)
            parents |= {child: key for child, _ in below}
            todo += [child for child, _ in reversed(below)]
    for key in records.keys() - set(order):
        del records[key]
    for key in reversed(order):
        missing = key not in records and key not in at_hand and engine.needs(key)
        if missing and key in parents:
            records.pop(parents[key], None)
    return [
        dataclasses.replace(at_hand[key], controller_states=states[key])
        for key in reversed(order)
        if key in at_hand and key not in records and engine.needs(key)
    ]


def held_width(directory: Path) -> int | None:
    """The width of the sweep in a directory, if there is one: it is measured only once."""
    try:
        return int(json.loads((directory / "sweep.json").read_text())["fields"]["width"])
    except (OSError, ValueError, KeyError, TypeError):
        return None  # none, or one that is refused later


# ---------------------------------------------------------------------------------------- details


def _identify(directory: Path, fields: dict[str, str]) -> None:
    path = directory / "sweep.json"
    if not path.exists():
        others = [p.name for p in directory.iterdir() if not p.name.startswith("lock")]
        if [name for name in others if not name.endswith(".tmp")]:
            raise ValueError(
                f"sweep(checkpoint=...) must be an empty directory or one of this sweep, got "
                f"{directory}, which holds {', '.join(sorted(others)[:3])}."
            )
        write_json(path, {"format": FORMAT, "fields": fields})
        return
    try:
        held = json.loads(path.read_text())
        there = held["fields"] if held["format"] == FORMAT else None
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"sweep(checkpoint=...) must be this sweep's directory, got {directory}, whose "
            f"sweep.json is damaged ({error})."
        ) from None
    if there is None:
        raise ValueError(f"sweep(checkpoint=...): {path} has another format than {FORMAT}.")
    if found := difference(there, fields, ("there", "here")):
        raise ValueError(
            f"sweep(checkpoint=...) must be this sweep's directory, got {directory} of another "
            f"one. They differ in {found}. Give it another directory."
        )


def _from_records(records: dict[Key, RunCurves]) -> tuple[Any, dict[str, Any]]:
    meta: list[Any] = []
    arrays: dict[str, Any] = {}
    for i, (key, record) in enumerate(records.items()):
        meta.append({"key": list(key), "diverged": record.diverged})
        arrays |= _record_arrays(f"{i}", record)
    return meta, arrays


def _to_records(meta: Any, arrays: dict[str, Any]) -> dict[Key, RunCurves]:
    found = _records(arrays)
    return {
        _key(entry): RunCurves(**found[f"{i}"], diverged=entry["diverged"])
        for i, entry in enumerate(meta)
    }


def _from_works(works: list[OpenRun]) -> tuple[Any, dict[str, Any]]:
    entries: list[Any] = []
    arrays: dict[str, Any] = {}
    states: list[Any] = []  # forks share a state: it is written once
    for i, work in enumerate(works):
        state = None
        if work.state is not None:
            plain = plain_state(work.state)
            state = next((k for k, s in enumerate(states) if s is plain), len(states))
            if state == len(states):
                states.append(plain)
                arrays |= {f"s{state}/{j}": x for j, x in enumerate(jax.tree.leaves(plain))}
        diverged = work.record.diverged
        entries.append({"key": list(work.key), "at": work.at, "state": state, "diverged": diverged})
        arrays |= _record_arrays(f"r{i}", work.record)
    return entries, arrays


def _to_works(meta: Any, arrays: dict[str, Any], structure: Any) -> list[OpenRun]:
    treedef: Any
    wanted, treedef = jax.tree.flatten(structure)
    states: dict[int, Any] = {}
    found = _records(arrays)
    works = []
    for i, entry in enumerate(meta):
        state = entry["state"]
        if state is not None and state not in states:
            leaves = [arrays[f"s{state}/{j}"] for j in range(len(wanted))]
            for leaf, like in zip(leaves, wanted, strict=True):
                if (leaf.shape, leaf.dtype) != (like.shape, like.dtype):
                    raise Damaged(f"a state has a {leaf.dtype}{list(leaf.shape)} for {like}")
            states[state] = treedef.unflatten(leaves)
        kept = None if state is None else states[state]
        works.append(
            OpenRun(
                _key(entry),
                entry["at"],
                kept,
                RunCurves(**found[f"r{i}"], diverged=entry["diverged"]),
                (),
            )
        )
    return works


def _key(entry: Any) -> Key:
    stage, fold, seed, trials = entry["key"]
    return Key(stage, fold, seed, tuple(trials))


def _record_arrays(name: str, record: RunCurves) -> dict[str, np.ndarray]:
    return {
        f"{name}/{group}/{metric}": values
        for group in ("train", "validation")
        for metric, values in getattr(record, group).items()
    }


def _records(arrays: dict[str, Any]) -> dict[str, Any]:
    """name -> group -> metric -> values, of arrays that are called name/group/metric."""
    found: dict[str, Any] = {}
    for path, values in arrays.items():
        name, group, *metric = path.split("/", 2)
        if metric:
            groups = found.setdefault(name, {"train": {}, "validation": {}})
            groups[group][metric[0]] = values
    return found


def _number(path: Path) -> int:
    found = re.search(r"-(\d+)\.npz$", path.name)
    return int(found.group(1)) if found else 0


def _warn(text: str) -> None:
    warnings.warn(f"sweep(checkpoint=...): {text}", RuntimeWarning, stacklevel=2)
