"""A sweep in several processes without communication, and their results as one.

Trials are independent, so each process has its own checkpoint, and may fail by itself.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

import numpy as np

from jaxsched._checks import checked_items
from jaxsched._text import shorten
from jaxsched._types import FilePath
from jaxsched._words import known_arguments
from jaxsched.search.results._info import RunInfo, Shard
from jaxsched.search.results._result import SweepResult
from jaxsched.search.store._fields import difference, identifying


@known_arguments
def merge(parts: Iterable[SweepResult | FilePath]) -> SweepResult:
    """The results of all shards as the result that one process would have given.

    Args:
        parts: ``SweepResult`` objects or files that they were saved to, one of each shard.

    Raises:
        TypeError: if it is one result or file instead of a list.
        ValueError: if a shard is missing or duplicated, or they are not of one sweep.

    >>> import jax.numpy as jnp, numpy as np, optax, jaxsched as js
    >>> from jaxsched.search import Supervised, merge, sweep
    >>> x = np.linspace(-1, 1, 64, dtype=np.float32)[:, None]
    >>> task = Supervised(
    ...     (lambda key: jnp.zeros((1, 1)), lambda w, x: x @ w), optax.sgd, optax.squared_error,
    ...     train=(x, 3 * x), validation=(x, 3 * x), batch_size=16)
    >>> trials = [js.Constant(rate) for rate in (0.01, 0.1, 1.0)]
    >>> parts = [sweep(task, trials, steps=20, shard=(i, 2)) for i in range(2)]
    >>> merge(parts).best().index
    2
    """
    expected = "a list of results or of files, one of each shard"
    given = checked_items("merge(parts=...)", parts, expected)
    results = [p if isinstance(p, SweepResult) else SweepResult.load(p) for p in given]
    places = [trial for shard in _checked_shards(results) for trial in shard.trials]
    first, order = results[0], np.argsort(places)
    evaluated = np.unique(np.concatenate([r.evaluated for r in results]))

    def joined(parts: Iterable[np.ndarray]) -> np.ndarray:
        return _read_only(np.concatenate([*parts])[order])

    # Shards end at other steps and are evaluated at others. As in one sweep, a trial has NaN there.
    def curves(group: str, steps: np.ndarray) -> dict[str, np.ndarray]:
        gathered: dict[str, list[np.ndarray]] = {name: [] for name in getattr(first, group)}
        for name, parts in gathered.items():
            for r in results:
                values = getattr(r, group)[name]
                own = r.evaluated if group == "validation" else steps[: values.shape[-1]]
                wide = np.full((*values.shape[:-1], len(steps)), np.nan, np.float32)
                wide[..., np.searchsorted(steps, own)] = values
                parts.append(wide)
        return {name: joined(parts) for name, parts in gathered.items()}

    trials = [trial for r in results for trial in r.trials]
    return dataclasses.replace(
        first,
        trials=tuple(trials[i] for i in order),
        horizons=joined(r.horizons for r in results),
        train=curves("train", np.arange(max(int(r.horizons.max()) for r in results))),
        validation=curves("validation", evaluated),
        evaluated=_read_only(evaluated),
        diverged=joined(r.diverged for r in results),
        stopped=joined(r.stopped for r in results),
        steps_asked=sum(r.steps_asked for r in results),
        steps_trained=sum(r.steps_trained for r in results),
        info=_joined_info([r.info for r in results]),
    )


def _joined_info(infos: list[RunInfo]) -> RunInfo:
    """How the shards were run, side by side."""
    names = {name: None for info in infos for name in info.saved}
    return dataclasses.replace(
        infos[0],
        devices=sum(info.devices for info in infos),
        threads=sum(info.threads for info in infos),
        seconds=max(info.seconds for info in infos),
        machines=sorted({machine for info in infos for machine in info.machines}),
        stored=sum(info.stored for info in infos),
        partial=any(info.partial for info in infos),
        saved={n: sum(info.saved.get(n, 0) for info in infos) for n in names},
        traces={},
        shard=None,
        shards=len(infos),
    )


def _checked_shards(results: list[SweepResult]) -> list[Shard]:
    """Their shards; raises unless they are all of one sweep, each once."""
    shards = [r.info.shard for r in results if r.info.shard is not None]
    if not results or len(shards) < len(results):
        others = [number for number, r in enumerate(results) if r.info.shard is None]
        got = f"others in the places {others}" if results else "none"
        raise ValueError(f"merge(parts=...) must be results of `sweep(shard=...)`, got {got}.")
    _check_one_sweep(results, shards)
    count, numbers = shards[0].of, sorted(s.index for s in shards)
    if numbers != list(range(count)):
        raise ValueError(
            f"merge(parts=...) must be each of the {count} shards once, got the shards {numbers}."
        )
    places = [trial for s in shards for trial in s.trials]
    complete = sorted(places) == list(range(len(places)))
    if not complete or [len(s.trials) for s in shards] != [len(r.trials) for r in results]:
        raise ValueError(
            f"merge(parts=...) must have each trial once, got {shorten(str(places))} in parts of "
            f"{shorten(str([len(r.trials) for r in results]))}."
        )
    return shards


def _check_one_sweep(results: list[SweepResult], shards: list[Shard]) -> None:
    """Raises, with the differences, unless the same was trained and measured in all parts."""
    sweeps = [
        {
            **s.sweep,
            "number of shards": f"{s.of}",
            "score": f"{r.metric}, maximize={r.maximize}",
            "runs": f"{r.folds} folds, seeds {r.seeds}",
            "metrics": f"{sorted(r.train)}, {sorted(r.validation)}",
        }
        for s, r in zip(shards, results, strict=True)
    ]
    for number, other in enumerate(sweeps):
        if other == sweeps[0]:  # quickly: each names all trials of the whole sweep
            continue
        if differ := difference(sweeps[0], other, ("in part 0", f"in part {number}")):
            count = len({str(sorted(identifying(one).items())) for one in sweeps})
            raise ValueError(
                f"merge(parts=...) must be shards of one sweep, got {count} different ones. They "
                f"differ in {differ}."
            )


def _read_only(array: np.ndarray) -> np.ndarray:
    array.setflags(write=False)
    return array
