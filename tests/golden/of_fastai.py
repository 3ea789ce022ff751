"""Draws of arguments for fastai's annealers and fits, and the values of the real ones.

Their file is run without its package, which would import a whole stack of plots and tables.
"""

from __future__ import annotations

import ast
import functools
import importlib.util
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from golden.draws import Random, number, whole

NAMES = (
    "SchedNo",
    "SchedLin",
    "SchedCos",
    "SchedExp",
    "SchedPoly",
    "combine_scheds",
    "combined_cos",
    "fit_one_cycle",
    "fit_flat_cos",
    "fit_sgdr",
    "fine_tune",
)


def draw(name: str, random: Random, steps: int) -> list[dict[str, Any]]:
    """Arguments of that schedule for a run of so many steps, a list for each of its kinds."""
    start, end = number(random, 1e-3, 1.0), number(random, 1e-5, 1e-3)
    run = {"steps": steps}
    ends: dict[str, Any] = {"start": start, "end": end}
    share = number(random, 0.1, 0.9)
    parts = [{"schedule": kind, "arguments": ends} for kind in ("SchedCos", "SchedLin", "SchedExp")]
    per = {"steps_per_epoch": whole(random, 3, 9)}
    kinds: dict[str, list[dict[str, Any]]] = {
        "SchedNo": [ends | run],
        "SchedLin": [ends | run],
        "SchedCos": [ends | run],
        "SchedExp": [ends | run],
        "SchedPoly": [ends | run | {"power": power} for power in (number(random, 0.5, 3), 0.0)],
        "combine_scheds": [
            run | {"pcts": pcts, "scheds": parts} for pcts in ([0.25, 0.5, 0.25], [0.75, 0.25, 0.0])
        ],
        "combined_cos": [run | ends | {"pct": pct, "middle": start * 2} for pct in (share, 0.0)],
        "fit_one_cycle": [
            per | {"n_epoch": 4, "lr_max": start},
            per | {"n_epoch": 3, "lr_max": start, "div": 10.0, "pct_start": share},
        ],
        "fit_flat_cos": [
            per | {"n_epoch": 4, "lr": start},
            per | {"n_epoch": 3, "lr": start, "div_final": 10.0, "pct_start": share},
        ],
        "fit_sgdr": [
            per | {"n_cycles": 3, "cycle_len": 1, "lr_max": start},
            per | {"n_cycles": 2, "cycle_len": 2, "lr_max": start, "cycle_mult": 3},
        ],
        "fine_tune": [
            per | {"epochs": 4, "base_lr": start},
            per | {"epochs": 2, "div": 10.0},
            per | {"epochs": 4, "base_lr": start, "freeze_epochs": 0},
        ],
    }
    return kinds[name]


def curve(name: str, arguments: dict[str, Any], steps: int) -> Iterator[float]:
    """What the real one gives from the start to the end of the run."""
    given, theirs = dict(arguments), _theirs()
    total = given.pop("steps", steps)
    if "steps_per_epoch" in given:
        yield from _fits(theirs[name], given.pop("steps_per_epoch"), given)
        return
    if "scheds" in given:
        given["scheds"] = [theirs[x["schedule"]](**x["arguments"]) for x in given["scheds"]]
    annealer = theirs[name](**given)
    yield from (float(annealer(step / total)) for step in range(total + 1))


@functools.cache
def _theirs() -> dict[str, Any]:
    import numpy as np
    import torch
    from fastcore.basics import store_attr
    from fastcore.foundation import L

    spec = importlib.util.find_spec("fastai")
    assert spec is not None and spec.submodule_search_locations is not None
    file = Path(spec.submodule_search_locations[0]) / "callback" / "schedule.py"
    tree = ast.parse(file.read_text())
    kept = [n for n in tree.body if isinstance(n, ast.FunctionDef) or "_Annealer" in ast.dump(n)]
    tree.body = [
        n
        for n in kept
        if getattr(n, "name", "") in (*NAMES, "_Annealer")
        or getattr(n, "name", "").startswith("sched_")
    ]
    for node in tree.body:
        node.decorator_list = []  # type: ignore[attr-defined]
        for argument in ast.walk(node):
            if isinstance(argument, ast.arg):
                argument.annotation = None
    space: dict[str, Any] = {"math": math, "np": np, "torch": torch, "tensor": _tensor}
    space |= {"store_attr": store_attr, "L": L, "ParamScheduler": _Fit}
    exec(compile(tree, file, "exec"), space)
    return space


def _tensor(shares: Any) -> Any:
    import torch

    return torch.tensor(list(shares), dtype=torch.float64)


class _Fit(dict[str, Any]):
    """The annealers of a fit, to which its callbacks are added."""

    def __add__(self, callbacks: Any) -> _Fit:
        return self


class _Learner:
    """All that a fit asks of a learner of one group: its annealers are run for so many updates."""

    def __init__(self, steps_per_epoch: int) -> None:
        self.opt, self.lr, self.values = self, 1.0, []  # type: ignore[var-annotated]
        self.moms = (0.95, 0.85, 0.95)
        self.steps_per_epoch = steps_per_epoch

    def set_hyper(self, name: str, value: Any) -> None:
        self.hypers = [{name: value.stop if isinstance(value, slice) else value}]

    def freeze(self) -> None: ...

    unfreeze = freeze

    def fit(self, n_epoch: int, cbs: _Fit, **others: Any) -> None:
        total = int(n_epoch * self.steps_per_epoch)
        self.values += [float(cbs["lr"](step / total)[0]) for step in range(total)]


def _fits(fit: Any, steps_per_epoch: int, arguments: dict[str, Any]) -> list[float]:
    learner = _Learner(steps_per_epoch)
    learner.fit_one_cycle = functools.partial(  # type: ignore[attr-defined]
        _theirs()["fit_one_cycle"], learner
    )
    fit(learner, **arguments)
    return learner.values
