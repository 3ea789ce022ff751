"""The identity of a sweep: its programs, its data, and all else that changes numbers.

Stores, shards, meshes and final scores compare these texts, name by name, before any training.
Values too long to show are digests.
"""

from __future__ import annotations

import json
from functools import cached_property
from typing import Any

import jax
import jaxlib.version

import jaxsched
from jaxsched.search._fingerprint import Walk, digest, labelled, plain
from jaxsched.search.engine._plan import Plan
from jaxsched.search.engine._request import Request
from jaxsched.search.engine._settings import settings
from jaxsched.search.store._fields import Fields
from jaxsched.search.tasks._reading import shown
from jaxsched.search.tasks._traced import METHODS, Fold
from jaxsched.search.trials._trials import Trials, controllers

_BYTES = 32 << 20  # of batches; where there are more, some are looked at
_NUMBERS = "numbers of updates"  # for a task without batches


class Identity:
    """The identity of a sweep, or of a shard of it; each part name -> text.

    Attributes:
        task: the task, its data and the settings.

    Raises:
        ValueError: if two folds are one and the same.
    """

    # Each part answers one question. It has everything that could change the answer and nothing
    # else. ``runs``: may a sweep take the updates that another one has stored? (One more trial does
    # not matter here, nor does a longer run.) ``task``: is a result of this task? ``shared``: do
    # processes make the same call? ``writer``: is this the call that was killed? A missing field is
    # a silent wrong result; a needless one trains known runs again.

    def __init__(self, plan: Plan, request: Request):
        self._plan, self._is_distributed = plan, request.is_distributed
        self.task = task_fields(plan.folds, plan.seeds, plan.whole.longest, self._is_distributed)

    @cached_property
    def runs(self) -> tuple[Fields, ...]:
        """The dependencies of each fold's runs, the devices excepted."""
        return run_fields(self._plan)

    @cached_property
    def writer(self) -> str:
        """Its name in a store; short, and equal for two sweeps that train the same."""
        runs = [run | labelled({"width": self._plan.width}) for run in self.runs]
        return digest(json.dumps([*runs, self._compared]))[:12]

    @cached_property
    def shared(self) -> Fields:
        """The fields that all processes of the sweep share, the devices excepted."""
        if not self._is_distributed:
            return self.task
        whole = self._plan.whole
        compared = self._compared if self._plan is whole else sweep_fields(whole)
        ranked = {"metric": whole.objective.metric, "maximize": str(whole.objective.maximize)}
        return self.task | compared | ranked

    @cached_property
    def _compared(self) -> Fields:
        return sweep_fields(self._plan)


def task_fields(
    folds: tuple[Fold, ...], seeds: tuple[int, ...], steps: int, all_batches: bool
) -> Fields:
    """The task, its data and the settings.

    Args:
        folds: the tasks, traced.
        seeds: of the data order.
        steps: of the longest run.
        all_batches: whether to look at all (within ``_BYTES``) or at each run's first and last.

    Raises:
        ValueError: if two folds are one and the same.
    """
    looked = {"task's first and last batches": 2}
    if all_batches:
        rows = _BYTES // (folds[0].shape.batch_bytes * len(folds) * len(seeds))
        looked["task's batches"] = rows
    digests = []
    for fold in folds:
        parts = {"task's arrays": fold.data}
        parts |= {f"task's {method}": fold.digests[method] for method in METHODS}
        for name, rows in looked.items():
            parts[name] = fold.batches.digest_of_runs(seeds, steps, rows)
        digests.append(parts)
    for i, first in enumerate(map(digests.index, digests)):
        if first < i and not folds[i].asks_host:  # the data that a host callback reads are unknown
            raise ValueError(
                f"sweep(folds={len(folds)}): the folds must differ in their data, but "
                f"fold({i}, {len(folds)}) of the task trains and evaluates on the same as "
                f"fold({first}, {len(folds)}). It must return a task without the part `index`."
            )
    fields = _versions() | folds[0].fields
    fields |= {name: digest(*(parts[name] for parts in digests)) for name in digests[0]}
    fields |= {"folds": str(len(folds)), "steps": str(steps)}
    for name in folds[0].array_fields:
        texts = [fold.array_fields.get(name, "") for fold in folds]
        fields[name] = texts[0] if len({*texts}) == 1 else digest(*texts)
    return fields


def run_fields(plan: Plan) -> tuple[Fields, ...]:
    """The dependencies of each fold's runs, without the seed, the values, batches and devices.

    Other runs of the sweep, its length, its metric and its comparisons are not in it.
    """
    shape = plan.shape
    shared = {
        "hyperparameters": ", ".join(plan.table.names),
        "metrics": f"{sorted(shape.metrics)} of step, {sorted(shape.validation)} of evaluate",
        **labelled({"limit": plan.limit}),
    }
    return tuple(
        # The kinds of batches, since without any `Rows` has nothing to compare.
        {
            **_versions(),
            **fold.fields,
            "task's batches": shown(shape.batch) if fold.batches.drawn else _NUMBERS,
            **shared,
        }
        for fold in plan.folds
    )


def sweep_fields(plan: Plan) -> Fields:
    """The comparison of the trials, and the requested width.

    Fields without an effect are left out: the objective without early stopping, and the monitored
    metric without controllers.
    """
    objective = plan.objective
    ranked = {"metric": objective.metric, "maximize": objective.maximize}
    arguments: dict[str, Any] = {
        "evaluate_every": plan.every,
        "monitor": plan.monitor if plan.table.controlled else None,
        "stopping": objective.stopping,
        **(ranked if objective.stopping else {}),
        "limit": plan.limit,
        "share_prefixes": plan.share_prefixes,
        "width": plan.width,
    }
    fields = {
        **labelled(arguments),
        "seeds": str(list(plan.seeds)),
        "number of trials": str(len(plan.trials)),
    }
    watchers = controller_fields(plan.trials)
    for i in range(len(plan.trials)):  # by the applied values: a name may change
        steps = int(plan.table.horizons[i])
        values = plan.table.values(i, 0, steps)
        fields[f"trial {i}"] = f"{steps} steps of values {digest(values)}"
        fields |= {f"{name} of trial {i}": text for name, text in watchers[i].items()}
    return fields


def controller_fields(trials: Trials) -> list[Fields]:
    """The parts of each trial outside its table: its controllers, and the code in them."""
    # Numbers are arguments of the code, so the code of a structure is traced once for all.
    codes: dict[Any, str] = {}

    def code(controller: Any) -> str:
        leaves, tree = jax.tree.flatten(controller)
        kind = (tree, *map(jax.typeof, leaves))
        if kind not in codes:
            state = jax.eval_shape(lambda c: c.init(), controller)
            codes[kind] = Walk().of(jax.make_jaxpr(lambda c, s: c(s))(controller, state))
        return codes[kind]

    of_trials = []
    for by_name in map(controllers, trials):
        fields = {name: plain(controller) for name, controller in by_name.items()}
        fields |= {f"code of {name}": code(controller) for name, controller in by_name.items()}
        of_trials.append(fields)
    return of_trials


def _versions() -> Fields:
    """The versions and settings under which programs compute."""
    versions = f"{jax.__version__}, jaxlib {jaxlib.version.__version__}"
    return {"jaxsched": jaxsched.__version__, "jax": versions, **settings()}
