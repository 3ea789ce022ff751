"""A sweep on disk: its measurements, and the states of its open runs.

``records-*.npz`` hold finished stages and are written once; ``states-*.npz`` hold all runs that
were open at one moment, and the last two are kept. Both name a stage by its position in the plan,
which ``sweep.json`` identifies. If a file is lost or damaged, its stages are trained again from the
nearest state before them, with the same bits.
"""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxsched._text import warn
from jaxsched.search._files import Damaged, write_json
from jaxsched.search._fingerprint import difference
from jaxsched.search.engine._ledger import Ledger
from jaxsched.search.engine._plan import Plan
from jaxsched.search.engine._records import Key, OpenRun, RunCurves, plain_state
from jaxsched.search.engine._request import renamed
from jaxsched.search.store._directory import CheckpointDirectory

FORMAT = 2


class Checkpoint:
    """Saves a ledger into a directory from time to time, and reads it back.

    Args:
        directory: locked by this process.
        fields: those that identify the sweep, name -> text.
        every: the least seconds between saves; more if a save takes over a twentieth of that.
            0 saves after every segment.

    Raises:
        ValueError: if the directory holds another sweep, or something else.
    """

    def __init__(self, directory: CheckpointDirectory, fields: dict[str, str], every: float):
        self._directory = directory
        self._every = every
        self._saved: dict[Key, RunCurves] = {}
        self._number = 1 + max(map(_number, directory.glob("*-*.npz")), default=0)
        self._last = time.monotonic()
        self._took = 0.0
        directory.on_first_process(lambda: _identify(directory.path, fields))

    def due(self) -> bool:
        """Whether it is time to save."""
        pause = max(self._every, 20 * self._took) if self._every else 0.0
        return time.monotonic() - self._last >= pause

    def save(self, ledger: Ledger) -> None:
        """Writes new curves, then open runs, then deletes older ones: a kill never loses a save.

        Called under the ledger's lock.
        """
        began = time.monotonic()
        # By identity: curves that were lost and measured again are written again.
        fresh = {k: c for k, c in ledger.finished.items() if self._saved.get(k) is not c}
        directory, number = self._directory, f"{self._number:08d}"
        if fresh:
            directory.write(directory.path / f"records-{number}.npz", *_from_finished(fresh))
        open_runs = _from_open_runs(ledger.unfinished())
        directory.write(directory.path / f"states-{number}.npz", *open_runs)
        self._saved |= fresh
        self._number += 1
        directory.prune(kept=2)
        self._last = time.monotonic()
        self._took = self._last - began

    def load(self, plan: Plan) -> Ledger:
        """The ledger on disk; skips damaged files with a warning."""
        directory = self._directory
        directory.prune()
        finished: dict[Key, RunCurves] = {}
        for path in directory.glob("records-*.npz"):
            try:
                finished |= _to_finished(*directory.read(path))
            except Damaged as damage:
                self._warn_of(damage, "What it held is trained again.")
        self._saved = dict(finished)
        structure = plan.folds[0].shape.state
        for path in directory.glob("states-*.npz")[::-1]:
            try:
                open_runs = _to_open_runs(*directory.read(path), structure)
                return Ledger.restored(plan, finished, open_runs)
            except Damaged as damage:
                self._warn_of(damage, "The checkpoint before it is used.")
        return Ledger.restored(plan, finished, [])

    def _warn_of(self, damage: Damaged, repair: str) -> None:
        warn(f"sweep(checkpoint=...): {damage}. {repair}", RuntimeWarning)


def held_width(directory: Path | None) -> int | None:
    """The width of the sweep in a directory, if there is one, so as not to measure it again."""
    if directory is None:
        return None
    try:
        return int(json.loads((directory / "sweep.json").read_text())["fields"]["width"])
    except (OSError, ValueError, KeyError, TypeError):
        return None  # no sweep, or a damaged one, which is refused later


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
        there = there and renamed(there)
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


def _from_finished(finished: dict[Key, RunCurves]) -> tuple[Any, dict[str, Any]]:
    meta: list[Any] = []
    arrays: dict[str, Any] = {}
    for i, (key, curves) in enumerate(finished.items()):
        meta.append({"key": list(key), "diverged": curves.diverged})
        arrays |= _curve_arrays(f"{i}", curves)
    return meta, arrays


def _to_finished(meta: Any, arrays: dict[str, Any]) -> dict[Key, RunCurves]:
    groups = _curve_groups(arrays)
    return {
        _key(entry): RunCurves(**groups[f"{i}"], diverged=entry["diverged"])
        for i, entry in enumerate(meta)
    }


def _from_open_runs(runs: list[OpenRun]) -> tuple[Any, dict[str, Any], dict[str, Any]]:
    entries: list[Any] = []
    arrays: dict[str, Any] = {}
    leaves: dict[str, Any] = {}
    states: list[Any] = []  # forks share a state: it is written once
    for i, run in enumerate(runs):
        state = None
        if run.state is not None:
            plain = plain_state(run.state)
            state = next((k for k, s in enumerate(states) if s is plain), len(states))
            if state == len(states):
                states.append(plain)
                leaves |= {f"s{state}/{j}": x for j, x in enumerate(jax.tree.leaves(plain))}
        diverged = run.curves.diverged
        entries.append({"key": list(run.key), "at": run.at, "state": state, "diverged": diverged})
        arrays |= _curve_arrays(f"r{i}", run.curves)
    return entries, arrays, leaves


def _to_open_runs(meta: Any, arrays: dict[str, Any], structure: Any) -> list[OpenRun]:
    treedef: Any
    wanted, treedef = jax.tree.flatten(structure)
    states: dict[int | None, Any] = {None: None}
    groups = _curve_groups(arrays)
    runs = []
    for i, entry in enumerate(meta):
        state = entry["state"]
        if state not in states:
            leaves = [arrays[f"s{state}/{j}"] for j in range(len(wanted))]
            for leaf, like in zip(leaves, wanted, strict=True):
                if (leaf.shape, leaf.dtype) != (like.shape, like.dtype):
                    raise Damaged(f"a state has a {leaf.dtype}{list(leaf.shape)} for {like}")
            states[state] = treedef.unflatten(leaves)
        curves = RunCurves(**groups[f"r{i}"], diverged=entry["diverged"])
        runs.append(OpenRun(_key(entry), entry["at"], states[state], curves, ()))
    return runs


def _key(entry: Any) -> Key:
    stage, fold, seed, trials = entry["key"]
    return Key(stage, fold, seed, tuple(trials))


def _curve_arrays(name: str, curves: RunCurves) -> dict[str, np.ndarray]:
    return {
        f"{name}/{group}/{metric}": values
        for group in ("train", "validation")
        for metric, values in getattr(curves, group).items()
    }


def _curve_groups(arrays: dict[str, Any]) -> dict[str, Any]:
    """name -> group -> metric -> values, from arrays with names name/group/metric."""
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
