"""What makes two sweeps one and the same: their programs, their data, and all that changes numbers.

Stores, shards, meshes and final scores compare these texts, name by name, before any training.
Values that are too long to be shown are digests.
"""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import jax
import jaxlib.version
import numpy as np
from jax.tree_util import keystr, tree_leaves_with_path

import jaxsched
from jaxsched.search._fingerprint import (
    digest,
    fingerprint,
    fingerprint_of,
    label,
    plain,
    public,
)
from jaxsched.search.engine._devices import nbytes
from jaxsched.search.engine._plan import Plan
from jaxsched.search.engine._request import Request
from jaxsched.search.engine._settings import settings
from jaxsched.search.store._pieces import Fields
from jaxsched.search.tasks._traced import METHODS, Fold
from jaxsched.search.trials._trials import Trials, controllers

_BYTES = 32 << 20  # of batches; where there are more, some are looked at
_PIECES = 16
_ROWS = 1024


@dataclasses.dataclass(frozen=True)
class Identity:
    """What a sweep is, made once; each part name -> text."""

    task: Fields  # what is trained, on which data, and under which settings
    # What the runs of each fold depend on, but for the devices, the seed, the values and the
    # batches. Of the sweep there is nothing in it: its other runs, its length, what it compares and
    # how.
    runs: tuple[Fields, ...]
    sweep: Fields  # what is compared how, by all processes together; empty if no other one is asked
    writer: str  # its name in a store; short, and equal for two sweeps that train the same

    def of_runs(self, settings: dict[str, Any]) -> tuple[Fields, ...]:
        """``runs`` with the settings of a backend."""
        return tuple(run | _labelled(settings) for run in self.runs)

    def of_sweep(self, settings: dict[str, Any]) -> Fields:
        """``task`` and ``sweep`` with the settings of a backend."""
        return self.task | self.sweep | _labelled(settings)


def identify(plan: Plan, request: Request) -> Identity:
    """The identity of a sweep, or of a shard of it, that trains ``plan``.

    Raises:
        ValueError: if two folds are one and the same.
    """
    whole = plan.whole
    runs = run_fields(plan, {"width": request.width})
    task = task_fields(whole.folds, whole.seeds, whole.longest, all_batches=request.in_company)
    sweep = sweep_fields(whole, request.width) if request.in_company else {}
    writer = ""
    if request.checkpoint is not None or request.executor is not None:
        own = sweep if sweep and plan is whole else sweep_fields(plan, request.width)
        writer = digest(json.dumps([*runs, own]))[:12]
    return Identity(task, runs, sweep, writer)


def task_fields(
    folds: tuple[Fold, ...], seeds: tuple[int, ...], steps: int, all_batches: bool
) -> Fields:
    """What is trained, on which data, and under which settings.

    Args:
        folds: the tasks, traced.
        seeds: of the data order.
        steps: of the longest run.
        all_batches: whether to look at all (within ``_BYTES``) or at each run's first and last.

    Raises:
        ValueError: if two folds are one and the same.
    """
    ends = [_read(fold, seeds, steps, rows=2) for fold in folds]
    _refuse_twins(folds, ends)
    fields = {
        **_common(folds[0]),
        "task's arrays": digest(*(fold.data for fold in folds)),
        **{f"task's {m}": digest(*(fold.digests[m] for fold in folds)) for m in METHODS},
        "task's first and last batches": digest(*ends),
        "folds": str(len(folds)),
        "steps": str(steps),
    }
    for name in folds[0].array_fields:
        texts = [fold.array_fields.get(name, "") for fold in folds]
        fields[name] = texts[0] if len({*texts}) == 1 else digest(*texts)
    if all_batches:
        size = max(1, nbytes(folds[0].shape.batch))
        rows = _BYTES // (size * len(folds) * len(seeds))
        fields["task's batches"] = digest(*(_read(fold, seeds, steps, rows) for fold in folds))
    return fields


def run_fields(plan: Plan, settings: dict[str, Any]) -> tuple[Fields, ...]:
    """``runs`` of an ``Identity``, with the settings of a backend."""
    shape = plan.shape
    shared = {
        "hyperparameters": ", ".join(plan.table.names),
        "metrics": f"{sorted(shape.metrics)} of step, {sorted(shape.validation)} of evaluate",
        "limit": label(plan.limit),
        **_labelled(settings),
    }
    return tuple(
        {
            **_common(fold),
            "task's arrays": fold.data,
            **{f"task's {m}": digest(fold.digests[m]) for m in METHODS},
            # Else `Rows` has nothing to compare.
            "task's batches": _kinds(shape.batch) if fold.reads else "numbers of updates",
            **shared,
        }
        for fold in plan.folds
    )


def sweep_fields(plan: Plan, width: int | str | None) -> Fields:
    """What is compared how, and the width that was asked for.

    What decides nothing is left out: the objective without early stopping, and what controllers
    watch where there are none.
    """
    objective = plan.objective
    ranked = {"metric": objective.metric, "maximize": objective.maximize}
    arguments: dict[str, Any] = {
        "evaluate_every": plan.every,
        "monitor": plan.monitor if plan.table.watched else None,
        "stopping": objective.stopping,
        **(ranked if objective.stopping else {}),
        "limit": plan.limit,
        "share_prefixes": plan.share_prefixes,
        "width": width,
    }
    fields = {
        **_labelled(arguments),
        "seeds": str(list(plan.seeds)),
        "number of trials": str(len(plan.trials)),
    }
    watching = controller_fields(plan.trials)
    for i in range(len(plan.trials)):  # by what they apply: a name may change
        steps = int(plan.table.horizons[i])
        values = plan.table.values(i, 0, steps)
        fields[f"trial {i}"] = f"{steps} steps of values {digest(values)}"
        fields |= {f"{name} of trial {i}": text for name, text in watching[i].items()}
    return fields


def controller_fields(trials: Trials) -> list[Fields]:
    """What of each trial is not in its table: its controllers, and the code that they may hold."""
    # Numbers are arguments of the code, so that of a structure is traced once for all of them.
    codes: dict[Any, str] = {}

    def code(controller: Any) -> str:
        leaves, tree = jax.tree.flatten(controller)
        kind = (tree, *map(jax.typeof, leaves))
        if kind not in codes:
            state = jax.eval_shape(lambda c: c.init(), controller)
            traced = jax.make_jaxpr(lambda c, s: c(s))(controller, state)
            codes[kind] = fingerprint(traced)
        return codes[kind]

    found = []
    for held in map(controllers, trials):
        fields = {name: plain(controller) for name, controller in held.items()}
        fields |= {f"code of {name}": code(controller) for name, controller in held.items()}
        found.append(fields)
    return found


def _labelled(values: dict[str, Any]) -> Fields:
    return {name: label(value) for name, value in values.items()}


def _common(fold: Fold) -> Fields:
    """The versions, the settings and the class of the task."""
    kind = type(fold.task)
    # What a spawned process has of the script that spawned it.
    module = kind.__module__.replace("__mp_main__", "__main__")
    return {
        "jaxsched": jaxsched.__version__,
        "jax": f"{jax.__version__}, jaxlib {jaxlib.version.__version__}",
        **settings(),
        "task": public(f"{module}.{kind.__qualname__}"),
    }


def _kinds(batch: Any) -> str:
    """The dtypes and shapes of a batch, by the names of its arrays."""
    leaves = tree_leaves_with_path(batch)
    return ", ".join(f"{keystr(path)} {x.dtype}{list(x.shape)}".strip() for path, x in leaves)


def _read(fold: Fold, seeds: tuple[int, ...], steps: int, rows: int) -> str:
    """What the runs of a fold read: all of it, or ``rows`` of each run, evenly in some pieces from
    its first update to its last."""
    if not fold.reads:
        return ""
    if steps <= rows:
        pieces = [(start, min(_ROWS, steps - start)) for start in range(0, steps, _ROWS)]
    else:
        count = min(max(2, rows), _PIECES)
        length = min(max(1, rows // count), _ROWS)
        pieces = [(int(start), length) for start in np.linspace(0, steps - length, count)]
    return digest(
        *(fingerprint_of(fold.batches(seed, *piece, steps)) for seed in seeds for piece in pieces)
    )


def _refuse_twins(folds: tuple[Fold, ...], ends: list[str]) -> None:
    kinds = [(fold.code, fold.data, end) for fold, end in zip(folds, ends, strict=True)]
    for i, kind in enumerate(kinds):
        first = kinds.index(kind)
        if first < i and not folds[i].asks_host:  # what that reads is not known
            raise ValueError(
                f"sweep(folds={len(folds)}): the folds must differ in their data, but "
                f"fold({i}, {len(folds)}) of the task trains and evaluates on the same as "
                f"fold({first}, {len(folds)}). It must return a task without the part `index`."
            )
