"""How a sweep was run."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any


@dataclasses.dataclass(frozen=True)
class Shard:
    """The trials of one process of a sweep.

    Args:
        index, of: the number of the shard, and the number of all shards.
        trials: their positions among all trials.
        sweep: the fields that identify the whole sweep, name -> text, equal in all its shards.
    """

    index: int
    of: int
    trials: list[int]
    sweep: dict[str, str] = dataclasses.field(default_factory=dict, repr=False)  # it is long


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunInfo(Mapping[str, Any]):
    """How a sweep was run; also a mapping of these names to their values.

    Args:
        evaluate_every: steps between evaluations; ``None``: at the end of each run.
        monitor: the validation metric that controllers observed.
        updates_per_step: optimizer updates in a step, which schedules count.
        width: number of runs vectorized together.
        devices: number of devices.
        threads: number of training threads, at the end.
        platform: "cpu", "gpu" or "tpu".
        machines: the kinds of machines of the training, including runs in a checkpoint's
            directory. On different ones the same run differs by rounding.
        units: number of units trained by workers of an executor.
        repeated: updates trained again since several units needed them.
        seconds: duration of the whole call.
        traces: compiled function -> how often it was traced.
        saved: untrained steps: "shared" (prefixes of several trials), "stopped"
            (early) and "diverged"; if the result is partial, also "unfinished".
        stored: steps not trained by this call, since a checkpoint's directory held them.
        partial: whether Ctrl-C has ended it; see ``SweepResult.partial``.
        identity: the fields that identify the task, name -> text.
        everything: whether the training data were all data except the test data, as in
            ``final_score`` after a cross-validation.
        shard: the argument of ``sweep(shard=...)``.
        shards: number of shards joined by ``merge``.
    """

    # Every field has a default: a result may be made by hand, and a ledger, a backend and a merge
    # each know only some fields.
    evaluate_every: int | None = None
    monitor: str = "loss"
    updates_per_step: int = 1
    width: int = 1
    devices: int = 1
    threads: int = 1
    platform: str = ""
    machines: list[str] = dataclasses.field(default_factory=list)
    units: int = 0
    repeated: int = 0
    seconds: float = 0.0
    traces: dict[str, int] = dataclasses.field(default_factory=dict)
    saved: dict[str, int] = dataclasses.field(default_factory=dict)
    stored: int = 0
    partial: bool = False
    identity: dict[str, str] | None = dataclasses.field(default=None, repr=False)  # it is long
    everything: bool = False
    shard: Shard | None = None
    shards: int | None = None

    def __getitem__(self, name: str) -> Any:
        # Not every attribute is a field: `info["keys"]` would be a method of the mapping.
        if name not in self.__dataclass_fields__:
            raise KeyError(name)
        return getattr(self, name)

    def __iter__(self) -> Iterator[str]:
        return iter(self.__dataclass_fields__)

    def __len__(self) -> int:
        return len(self.__dataclass_fields__)
