"""``sweep``: trains every trial with every seed on every fold, and ranks the trials."""

from __future__ import annotations

import contextlib
import math
import os
import signal
import time
from collections.abc import Iterable
from typing import Any, Literal

from jax.sharding import Mesh

from jaxsched._words import known_arguments
from jaxsched.search._fingerprint import labelled
from jaxsched.search._progress import progress_line
from jaxsched.search._signals import graceful, leave, of_jobs
from jaxsched.search.engine._doubts import warn_before
from jaxsched.search.engine._ledger import Ledger
from jaxsched.search.engine._plan import make_plan
from jaxsched.search.engine._request import Request
from jaxsched.search.engine._rungs import run_plan
from jaxsched.search.engine._stopping import StoppingRule
from jaxsched.search.multihost._workers import sweep_backend
from jaxsched.search.results._assemble import assemble, warn_after
from jaxsched.search.results._info import Shard
from jaxsched.search.results._result import SweepResult
from jaxsched.search.store._identity import Identity
from jaxsched.search.tasks._protocol import Task
from jaxsched.search.tasks._traced import found_task
from jaxsched.search.trials._given import as_trials


@known_arguments
def sweep(
    task: Task | str,
    trials: Any,
    *,
    steps: int | None = None,
    seeds: int | Iterable[int] = 1,
    folds: int | None = None,
    evaluate_every: int | None = None,
    monitor: str = "loss",
    metric: str = "loss",
    maximize: bool | None = None,
    stopping: StoppingRule | None = None,
    limit: float = math.inf,
    width: int | Literal["auto"] | None = None,
    share_prefixes: bool = True,
    devices: Iterable[Any] | Mesh | None = None,
    shard: tuple[int, int] | Literal["auto"] | None = None,
    executor: Any = None,
    units: int | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    checkpoint_every: float = 10.0,
    progress: bool | None = None,
) -> SweepResult:
    """Trains every trial with every seed on every fold, in one compiled program.

    The schedules are tabulated in float64 and rounded once to float32; the program reads their
    values. So one compilation serves schedules of any kind and any number of them. Trials whose
    values agree bit for bit up to some step are trained once up to there.

    On a CPU (width 1) every run has exactly the bits of a solo run, whatever the order, the other
    trials, the devices and threads, or shared prefixes. A Python loop over ``jax.jit(task.step)``
    with the values of ``js.sample(schedule, steps)`` has these bits too, unless XLA orders a sum
    differently in a compiled loop (convolutions, attention): then it differs by rounding. At
    greater widths (``jax.vmap``) a run differs from a solo run by rounding. It still does not
    depend on the order or on the other trials.

    A run whose training loss is not finite, or above ``limit``, has diverged: it stops there, is
    flagged with its step, and does not affect others.

    Args:
        task: the task to train; see ``Task`` and ``Supervised``. Or a text
            "package.module:factory", of a function without arguments that returns the task.
        trials: from ``grid``, ``zipped`` or ``sampled``; or a list of schedules of the learning
            rate, a dict name -> schedule, or one schedule. For several hyperparameters, a list of
            dicts hyperparameter -> schedule. Controllers are allowed: each evaluation is reported
            to them, and they act from the next update on.
        steps: length of every run in optimizer updates, from 1 to 2**31 - 1; by default each
            trial runs for the duration of its longest schedule. It must be given where none has
            an end, or where the last value only begins there (``js.multi_step`` without steps).
        seeds: a number of seeds (0, 1, ...), or the seeds; of the initial state and the data order.
        folds: the number of parts of a cross-validation, at least 2; the task must have ``fold``.
        evaluate_every: steps between evaluations; by default a run is evaluated at its end only.
        monitor: the validation metric that each evaluation reports to controllers as ``value``;
            their ``mode`` must be its sense.
        metric: the validation metric that ranks trials.
        maximize: whether more of it is better; must be given, but for the loss, which is minimized.
        stopping: ``SuccessiveHalving`` or ``MedianRule`` to give trials up early.
        limit: a training loss above it counts as diverged.
        width: runs vectorized together. ``None``: 1 on a CPU, else "auto": the fastest of
            some widths that fit into memory (measured only if the sweep is long enough to pay for
            it). If memory runs out all the same, it is halved with a warning. A checkpoint gives
            runs trained after that to the same call only: their bits are of no one width.
        share_prefixes: ``False`` trains shared prefixes again for each trial (for measurements).
        devices: each has a thread with its own share of the runs; one that is listed twice has two.
            By default all local accelerators; or the CPU, with a thread for each core that the
            process may use and that XLA leaves idle, as measured (``info.threads`` tells). A
            ``jax.sharding.Mesh`` (with Auto axes) trains one run at a time on all of its devices,
            laid out as ``task.init`` constrains its state; with ``join``, on the devices of
            several processes, which must all make the same call.
        shard: ``(i, n)``: trains only the trials of process ``i`` of ``n``. The processes do not
            communicate. They share a checkpoint, and the same call without ``shard`` then takes
            everything from it; or ``merge`` joins their results. "auto": the pair of this process
            in its SLURM array or Kubernetes indexed job.
        executor: trains in the workers of an executor (docs/clusters.md): a process pool that
            spawns, Dask's ``client.get_executor(pure=False)``, one of submitit, or anything else
            with ``submit(fn, *args)``, whose answers have ``done()``, ``exception()`` and
            ``result()``; or a function that makes one, called again if the executor breaks. The
            workers share ``checkpoint``, by default a temporary directory of this machine.
        units: into how many parts their work is cut; by default about four for each worker, of at
            most 30 s. There are more if there are more folds and seeds.
        checkpoint: a directory, created if missing, for any number of sweeps, one after another or
            at once. No sweep repeats the training of another: after a kill the same call goes on,
            and a sweep of more trials, seeds, folds or steps trains the missing part, on any number
            of devices, with the same results, bit for bit. Ctrl-C (or SIGTERM) then finishes the
            segments under way and saves before it exits.
        checkpoint_every: least seconds between saves; 0 saves after every segment.
        progress: a line on standard error (needs rich); by default only on a terminal or in a
            notebook.

    Returns:
        Curves, table, best trial and summary; see ``SweepResult``.

    Raises:
        TypeError: if the task is not one, changes shapes or dtypes, or its metrics are not scalars.
        ValueError: for a bad argument, a hyperparameter without effect on the state that
            ``step`` returns, or a checkpoint that is something else, always before any training;
            and if ``batches`` end too early.
        RuntimeError: if a unit of an ``executor`` cannot be trained, after all others have been;
            if another process makes the same call with the same checkpoint.
        OSError: if the disk is full; earlier saves stay intact.

    Warns:
        UserWarning: once, if runs do not have the length of their schedules (a decay is cut off, or
            a rate has ended at zero), if one has a curve of less than an update, if ``stopping`` or
            ``evaluate_every`` begins only after the longest run, if a controller minimizes a metric
            that may be one to maximize, and if trials with different values have the same curves.
            If a checkpoint's runs are of another task (naming the difference), and if Ctrl-C
            without a checkpoint makes the result partial: it has the runs that had ended. Warnings
            that come after training are shown, never raised, even where warnings are errors.
        RuntimeWarning: if a file of the checkpoint is damaged, or larger than the memory: its runs
            are trained again. If another kind of machine has trained some of it: sums may be
            rounded otherwise there.

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
    request = Request(
        steps=steps,
        seeds=seeds,
        folds=folds,
        evaluate_every=evaluate_every,
        monitor=monitor,
        metric=metric,
        maximize=maximize,
        stopping=stopping,
        limit=limit,
        width=width,
        share_prefixes=share_prefixes,
        devices=devices,
        shard=shard,
        executor=executor,
        units=units,
        checkpoint=checkpoint,
        checkpoint_every=checkpoint_every,
        progress=progress,
    )
    return _swept(task, trials, request, started)


def _swept(task: Task | str, trials: Any, request: Request, started: float) -> SweepResult:
    """The result of a sweep; its other arguments were checked.

    A signal that comes while it trains is obeyed after all is saved.
    """
    trials = as_trials(trials)
    plan = make_plan(found_task(task), trials, request)  # found last: it may read its data
    identity = Identity(plan, request)
    # Unwound from the last to the first: the line ends, signals have their usual handlers again,
    # another process may have the lock, and workers lose their units.
    with contextlib.ExitStack() as stack:
        # An executor's worker is asked for its devices: the driver's may be others.
        backend = stack.enter_context(sweep_backend(plan, task, request, identity))
        warn_before(plan.whole, request, backend.platform)
        # Processes that do different things would wait for each other for ever.
        compared = identity.shared | labelled(backend.shared_settings)
        arguments = {"checkpoint": str(request.checkpoint), "shard": str(request.shard)}
        backend.agree(compared | arguments)
        store = stack.enter_context(backend.opened_store(plan, request, identity))
        ledger = Ledger(plan, store)
        engine = backend.engine(ledger)
        # Without a checkpoint, SIGTERM ends a sweep at once: its result would be lost.
        resumable = request.checkpoint is not None
        signals = (signal.SIGINT, signal.SIGTERM, *of_jobs()) if resumable else (signal.SIGINT,)
        received = stack.enter_context(graceful(engine.stop, signals))
        shows = request.progress if backend.shows else False
        stack.enter_context(progress_line(shows, ledger, engine.listeners))
        run_plan(ledger, engine.run)
        store.save(ledger)
        if resumable and (received := backend.any_signal(received)):
            leave(received[0], f"saved in {request.checkpoint}; the same call goes on from there")
    # A shard's result names its whole sweep, so that `merge` can check, without the task, whether
    # other shards are of the same sweep.
    which: tuple[int, int] | None = request.shard
    part = which and Shard(*which, plan.whole.in_shard(*which), compared)
    what = {"identity": identity.task, "shard": part}
    seconds = time.monotonic() - started
    result = assemble(ledger, seconds=seconds, **what, **backend.described(ledger))
    warn_after(ledger, result)
    return result
