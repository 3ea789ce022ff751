"""``sweep``: trains every trial with every seed on every fold, and says which one is best."""

from __future__ import annotations

import contextlib
import math
import os
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any, Literal

import jax
from jax.sharding import Mesh

from jaxsched._checks import checked_flag, checked_whole
from jaxsched._words import known_arguments
from jaxsched.search import _arguments as arguments
from jaxsched.search._progress import shown
from jaxsched.search._signals import graceful, leave
from jaxsched.search.engine._devices import MeshDevices, resolve_devices
from jaxsched.search.engine._engine import Engine
from jaxsched.search.engine._plan import Plan
from jaxsched.search.engine._planning import make_plan, root_runs
from jaxsched.search.engine._program import program_for
from jaxsched.search.engine._rungs import apply_rungs, train_rung_by_rung
from jaxsched.search.engine._stage_tree import share_of
from jaxsched.search.engine._stopping import StoppingRule
from jaxsched.search.engine._width import measured_width
from jaxsched.search.multihost._mesh import MeshCoordinator, any_signal, programs_for, traced
from jaxsched.search.multihost._processes import check_all_agree
from jaxsched.search.results import _doubts as doubts
from jaxsched.search.results._assemble import assemble
from jaxsched.search.results._info import RunInfo, Shard
from jaxsched.search.results._result import SweepResult
from jaxsched.search.store._checkpoint import Checkpoint, held_width
from jaxsched.search.store._directory import CheckpointDirectory
from jaxsched.search.store._identity import Fields, sweep_fields, task_fields
from jaxsched.search.tasks._convolution import warn_of_convolutions
from jaxsched.search.tasks._protocol import Task
from jaxsched.search.trials._given import as_trials
from jaxsched.search.trials._trials import Trials


@known_arguments
def sweep(
    task: Task,
    trials: Any,
    *,
    steps: int | None = None,
    seeds: int | Iterable[int] = 1,
    folds: int | None = None,
    evaluate_every: int | None = None,
    watch: str = "loss",
    metric: str = "loss",
    maximize: bool = False,
    stopping: StoppingRule | None = None,
    limit: float = math.inf,
    width: int | Literal["auto"] | None = None,
    share: bool = True,
    devices: Iterable[Any] | Mesh | None = None,
    shard: tuple[int, int] | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    checkpoint_every: float = 10.0,
    progress: bool | None = None,
) -> SweepResult:
    """Trains every trial with every seed on every fold, in one compiled program.

    The schedules are tabulated in float64 and rounded once to float32; the program reads their
    values. So schedules of any kind share one compilation, and their number is no shape of it.
    Trials whose values agree bit for bit up to some step are trained once up to there.

    On a CPU (width 1) every run has exactly the bits of a solo run, and of a Python loop over
    ``jax.jit(task.step)`` that is fed ``js.sample(schedule, steps)``, whatever the order, the
    neighbours, the number of devices or shared prefixes. At greater widths (``jax.vmap``) a run
    does not depend on its place or its neighbours, but differs from a solo run by rounding.

    A run whose training loss is not finite, or above ``limit``, has diverged: it stops there, is
    flagged with its step, and disturbs no other.

    Args:
        task: what to train; see ``Task`` and ``Supervised``.
        trials: from ``grid``, ``zipped`` or ``sampled``, or a list of schedules of any kinds (of
            the learning rate), or of dicts hyperparameter -> schedule; or a dict that names them.
            Controllers do as well: they are told what every evaluation has found, and act from the
            next update on.
        steps: length of every run in optimizer updates, from 1 to 2**31 - 1; by default each
            trial runs for the duration of its longest schedule.
        seeds: how many (0, 1, ...), or which ones; of the initial state and the data order.
        folds: cross-validation in so many parts, at least 2; the task must have ``fold``.
        evaluate_every: steps between evaluations; by default a run is evaluated at its end.
        watch: the validation metric that controllers are told at each of them, as ``value``; their
            ``mode`` must be its sense.
        metric: the validation metric that ranks trials; ``maximize``: the more the better.
        stopping: ``SuccessiveHalving`` or ``MedianRule`` to give trials up early.
        limit: a training loss above it counts as diverged.
        width: runs that are vectorized together. ``None``: 1 on a CPU, else "auto", which measures
            some widths, if the sweep is long enough for that to pay, and takes the fastest that
            fits into memory. Where memory runs out all the
            same, it is halved with a warning.
        share: ``False`` trains shared prefixes again for each trial (for measurements).
        devices: where; by default ``jax.local_devices()``, each with its own share of the runs. A
            ``jax.sharding.Mesh`` (with Auto axes) trains one run at a time on all of its devices,
            laid out as ``task.init`` constrains its state; with ``join``, those of several
            processes, which must all call the same.
        shard: ``(i, n)``: trains only the trials of the process ``i`` of ``n``, which need not know
            of each other; ``merge`` makes one result of theirs. Each needs its own checkpoint.
        checkpoint: a directory, made if it is not there, from which the same call goes on after it
            was killed, on any number of devices; the results are the same, bit for bit. Ctrl-C
            (or SIGTERM) then finishes the segments under way and saves before it leaves.
        checkpoint_every: seconds between saves, at least; 0: after every segment.
        progress: a line on standard error (needs rich); by default only on a terminal.

    Returns:
        Curves, table, best trial and summary; see ``SweepResult``.

    Raises:
        TypeError: if the task is not one, changes shapes or dtypes, or its metrics are not scalars.
        ValueError: for a bad argument, a hyperparameter that has no effect on the state that
            ``step`` returns, or a checkpoint of another sweep (naming what differs), always before
            any training; and where ``batches`` end too early.
        RuntimeError: if another process uses the checkpoint's directory.
        OSError: if the disk is full; what was saved before is whole.

    Warns:
        UserWarning: once, if ``steps`` is not the length of the schedules (a decay is cut off, or a
            rate has ended at zero), and if trials with different values have the same curves.

    >>> import jax.numpy as jnp, numpy as np, optax, jaxsched as js
    >>> from jaxsched.search import Supervised, grid, sweep
    >>> x = np.linspace(-1, 1, 64, dtype=np.float32)[:, None]
    >>> task = Supervised(
    ...     (lambda key: jnp.zeros((1, 1)), lambda w, x: x @ w),
    ...     lambda learning_rate: optax.sgd(learning_rate), optax.squared_error,
    ...     train=(x, 3 * x), validation=(x, 3 * x), batch_size=16)
    >>> result = sweep(task, grid(js.cosine_decay, peak=[0.01, 0.1, 1.0, 100.0], steps=50))
    >>> result.best().name
    'peak=1'
    >>> result.diverged[:, 0, 0].tolist()[:3], result.edges()
    ([-1, -1, -1], {})
    """
    started = time.monotonic()
    trials = as_trials(trials)
    directory = None if checkpoint is None else arguments.directory(checkpoint)
    arguments.number("checkpoint_every", checkpoint_every, 0.0)
    for name, value in {"maximize": maximize, "share": share, "progress": progress}.items():
        if not (name == "progress" and value is None):
            checked_flag(f"sweep({name}=...)", value)
    choices: dict[str, Any] = {
        "steps": steps,
        "seeds": seeds,
        "folds": folds,
        "evaluate_every": evaluate_every,
        "watch": watch,
        "metric": metric,
        "maximize": maximize,
        "stopping": stopping,
        "limit": limit,
        "share": share,
    }
    plan = make_plan(task, trials, **choices)
    if steps is not None:
        doubts.warn_of_lengths(trials, steps)
    places = resolve_devices(devices)
    mesh = places[0] if isinstance(places[0], MeshDevices) else None
    shape = plan.folds[0].shape
    if places[0].platform == "cpu":
        warn_of_convolutions(shape.step)
    part: dict[str, Any] = {}
    whole, everyone = plan, trials
    if shard is not None:
        part = _shard(shard, plan, trials, stopping)
        trials = tuple(trials[t] for t in part["trials"])
        plan = make_plan(task, trials, **choices, watched=plan.table.watched, traced=plan.folds)
    wide, measured = _width(width, plan, places[0], directory)
    saved = directory is not None or mesh is not None or shard is not None
    longest = int(whole.table.horizons.max())
    identity = task_fields(plan.folds, plan.seeds, longest, whole=saved)
    fields: Fields = {}
    if saved:
        asked = {
            "evaluate_every": evaluate_every,
            "watch": watch if plan.table.watched else None,
            "stopping": stopping,
            **({"metric": metric, "maximize": maximize} if stopping else {}),
            "limit": limit,
            "width": wide,
            "share": share,
            "platform": places[0].platform,
            **({"mesh": mesh.mesh.axis_names} if mesh is not None else {}),
        }
        fields = sweep_fields(whole, identity, everyone, asked)
    if shard is not None:
        # A width that each process measures by itself is no other sweep.
        told = {"width": "auto"} if measured else {}
        part["sweep"] = {**fields, **told, "metric": metric, "maximize": str(maximize)}
        fields = {**fields, "shard": str(tuple(shard))}
    if mesh is not None:
        check_all_agree({**fields, "mesh": str(mesh.mesh), "checkpoint": str(directory)})
    programs = programs_for(plan, wide, mesh)
    before = traced(programs)
    hooks: list[Callable[[Engine], None]] = []
    engine = Engine(plan, programs, places, lambda engine: [hook(engine) for hook in hooks])
    engine.pool = root_runs(plan)
    rule = (stopping, metric, maximize)
    with contextlib.ExitStack() as stack:
        store = None
        came: list[int] = []
        if directory is not None:
            folder = CheckpointDirectory(directory, mesh, programs[0].layout)
            stack.enter_context(folder.locked())
            store = Checkpoint(folder, fields, checkpoint_every)
            store.restore(engine, shape.state, lambda: apply_rungs(engine, *rule))
        conductor: Any = engine if mesh is None else MeshCoordinator(engine, mesh, store)
        if store is not None:
            hooks.append(store.on_segment if mesh is None else conductor.on_segment)
            came = stack.enter_context(graceful(conductor.stop))
        names = [trial.name for trial in trials]
        shows = progress if mesh is None or jax.process_index() == 0 else False
        bar = stack.enter_context(shown(shows, engine, names, metric, maximize))
        hooks.append(bar.on_segment)
        stopped = train_rung_by_rung(engine, *rule)
        if store is not None:
            store.save(engine)
            came = came if mesh is None else any_signal(came)
            if came:
                leave(came[0], f"saved in {directory}; the same call goes on from there")
    info = RunInfo(
        evaluate_every=evaluate_every,
        monitor=watch,
        width=engine.width,
        devices=len(places) if mesh is None else mesh.mesh.size,
        platform=places[0].platform,
        seconds=time.monotonic() - started,
        traces=dict(traced(programs) - before),
        identity=identity,
        shard=Shard(**part) if part else None,
    )
    result = assemble(plan, engine.records, trials, stopped, metric, maximize, info)
    doubts.warn_of_twins(result, plan.table)
    return result


# ---------------------------------------------------------------------------------------- details


def _shard(
    shard: tuple[int, int], plan: Plan, trials: Trials, stopping: StoppingRule | None
) -> dict[str, Any]:
    """Which trials are this process's, and of which sweep."""
    index, count = arguments.pair(shard)
    if stopping is not None:
        raise ValueError(
            "sweep(shard=...) must be None with early stopping, which compares all trials, "
            f"got {shard}."
        )
    if not 0 <= index < count <= len(trials):
        raise ValueError(
            f"sweep(shard=...) must be (i, n) with 0 <= i < n <= {len(trials)} trials, got {shard}."
        )
    mine = share_of(plan.stages, plan.table.horizons, index, count)
    return {"index": index, "of": count, "trials": mine}


def _width(
    width: int | Literal["auto"] | None,
    plan: Plan,
    device: Any,
    directory: Path | None,
) -> tuple[int, bool]:
    """The width, and whether it was measured, here or when the sweep began."""
    if isinstance(device, MeshDevices):
        if width not in (None, 1):
            raise ValueError(f"sweep(width=...) must be 1 on a mesh, got {width!r}.")
        return 1, False
    if width is None:
        width = 1 if device.platform == "cpu" else "auto"
    if isinstance(width, str) and width == "auto":
        held = held_width(directory) if directory is not None else None
        program_of = partial(program_for, plan.folds[0], plan.table.names, plan.feed.length)
        return held or measured_width(plan, program_of, device), True
    if isinstance(width, str):
        raise ValueError(f'sweep(width=...) must be a whole number or "auto", got {width!r}.')
    return checked_whole("sweep(width=...)", width, 1), False
