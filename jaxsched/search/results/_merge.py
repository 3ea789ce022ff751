"""The results of a sweep's shards as one result.

The processes of ``sweep(shard=...)`` do not communicate. If they share a checkpoint, the same call
without ``shard`` takes all runs from there, and there is nothing to merge. Without one, a process
leaves only the result that it has saved. A result holds curves, but no states, and not the digests
by which a store knows a run. So curves are joined here, trial by trial.
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
from jaxsched.search.results._saved import load
from jaxsched.search.store._fields import difference


@known_arguments
def merge(parts: Iterable[SweepResult | FilePath]) -> SweepResult:
    """The results of all shards as the result of a single process.

    Args:
        parts: ``SweepResult`` objects or their saved files, one of each shard.

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
    results = [
        part if isinstance(part, SweepResult) else SweepResult(**load(part, "merge(parts=...)"))
        for part in checked_items("merge(parts=...)", parts, expected)
    ]
    shards = _checked_shards(results)
    # The parts are put side by side, and then sorted by their places in the whole sweep: of two
    # shards with the trials 0, 2, 4 and 1, 3 the order is [0, 3, 1, 4, 2].
    order = np.argsort([place for shard in shards for place in shard.trials])
    trials = [trial for r in results for trial in r.trials]

    def joined(arrays: Iterable[np.ndarray]) -> np.ndarray:
        return _read_only(np.concatenate([*arrays])[order])

    def joined_curves(group: str, steps: np.ndarray) -> dict[str, np.ndarray]:
        """``train`` or ``validation``, over the steps at which any shard has numbers.

        Shards end at other steps, and are evaluated at others. As in one sweep, a trial has NaN
        where only others were measured.
        """
        wide: dict[str, list[np.ndarray]] = {name: [] for name in getattr(results[0], group)}
        for r in results:
            own = r.evaluated if group == "validation" else np.arange(r.horizons.max())
            for name, curves in getattr(r, group).items():
                wide[name].append(np.full((*curves.shape[:-1], len(steps)), np.nan, np.float32))
                wide[name][-1][..., np.searchsorted(steps, own)] = curves
        return {name: joined(curves) for name, curves in wide.items()}

    evaluated = _read_only(np.unique(np.concatenate([r.evaluated for r in results])))
    horizons = joined(r.horizons for r in results)
    return dataclasses.replace(
        results[0],
        trials=tuple(trials[i] for i in order),
        horizons=horizons,
        train=joined_curves("train", np.arange(horizons.max())),
        validation=joined_curves("validation", evaluated),
        evaluated=evaluated,
        diverged=joined(r.diverged for r in results),
        stopped=joined(r.stopped for r in results),
        steps_asked=sum(r.steps_asked for r in results),
        steps_trained=sum(r.steps_trained for r in results),
        info=_joined_info([r.info for r in results]),
    )


def _joined_info(infos: list[RunInfo]) -> RunInfo:
    """How the shards were run, side by side.

    They have trained at the same time, so their devices add up and the longest time counts. The
    other fields come from the first one; all agree, except for the measured width.
    """
    reasons = dict.fromkeys(reason for info in infos for reason in info.saved)
    return dataclasses.replace(
        infos[0],
        devices=sum(info.devices for info in infos),
        threads=sum(info.threads for info in infos),
        seconds=max(info.seconds for info in infos),
        machines=sorted({machine for info in infos for machine in info.machines}),
        stored=sum(info.stored for info in infos),
        partial=any(info.partial for info in infos),
        saved={why: sum(info.saved.get(why, 0) for info in infos) for why in reasons},
        traces={},  # each process has compiled for itself, so a sum would count programs twice
        shard=None,
        shards=len(infos),
    )


def _checked_shards(results: list[SweepResult]) -> list[Shard]:
    """The shards of the parts; raises unless they are all shards of one sweep, each once."""
    shards = [r.info.shard for r in results if r.info.shard is not None]
    if not results or len(shards) < len(results):
        others = [number for number, r in enumerate(results) if r.info.shard is None]
        got = f"others in the places {others}" if results else "none"
        raise ValueError(f"merge(parts=...) must be results of `sweep(shard=...)`, got {got}.")
    # This comes first: two first shards of different sweeps are not a duplicate.
    _check_one_sweep(results, shards)
    count, numbers = shards[0].of, sorted(s.index for s in shards)
    if numbers != list(range(count)):
        raise ValueError(
            f"merge(parts=...) must be each of the {count} shards once, got the shards {numbers}."
        )
    # No file of ours gets here: a forged one would be joined with rows at the wrong trials.
    places = [place for s in shards for place in s.trials]
    sizes = [len(r.trials) for r in results]
    if sorted(places) != list(range(len(places))) or sizes != [len(s.trials) for s in shards]:
        raise ValueError(
            f"merge(parts=...) must have each trial once, got {shorten(str(places))} in parts of "
            f"{shorten(str(sizes))}."
        )
    return shards


def _check_one_sweep(results: list[SweepResult], shards: list[Shard]) -> None:
    """Raises, with the differences, unless the same was trained and measured in all parts."""
    # A shard identifies the whole sweep. All else is read off the results themselves, which a user
    # may have changed since, by `dataclasses.replace` say.
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
        # Mostly they are equal, which is soon seen; each has a field for every trial of the sweep.
        if other != sweeps[0] and (
            differ := difference(sweeps[0], other, ("in part 0", f"in part {number}"))
        ):
            raise ValueError(
                f"merge(parts=...) must be shards of one sweep, got another one in part {number}. "
                f"They differ in {differ}."
            )


def _read_only(array: np.ndarray) -> np.ndarray:
    array.setflags(write=False)
    return array
