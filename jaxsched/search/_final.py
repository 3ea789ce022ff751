"""The last step: winners are trained once more, and only now scored on the test data."""

from __future__ import annotations

import dataclasses
import time
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from jaxsched._bounds import checked_kind
from jaxsched._checks import checked_number
from jaxsched._text import describe, printable, shorten
from jaxsched._types import PyTree
from jaxsched._words import known_arguments
from jaxsched.search._fingerprint import labelled
from jaxsched.search.engine._devices import put
from jaxsched.search.engine._engine import Backend
from jaxsched.search.engine._ledger import Ledger
from jaxsched.search.engine._plan import make_plan
from jaxsched.search.engine._records import Key
from jaxsched.search.engine._request import Request
from jaxsched.search.engine._rungs import run_plan
from jaxsched.search.multihost._backend import backend_for
from jaxsched.search.results import _reports as reports
from jaxsched.search.results._assemble import assemble
from jaxsched.search.results._compare import ByName, compare, named
from jaxsched.search.results._ranking import Difference, paired, scored
from jaxsched.search.results._result import SweepResult
from jaxsched.search.results._scored import Best
from jaxsched.search.results._text_table import TextTable
from jaxsched.search.store._fields import difference
from jaxsched.search.store._identity import Identity, task_fields
from jaxsched.search.tasks._protocol import Task
from jaxsched.search.tasks._traced import METHODS, Fold, found_task, trace_folds
from jaxsched.search.trials._given import check_single
from jaxsched.search.trials._trials import controllers


@dataclasses.dataclass(frozen=True, eq=False)
class FinalScore:
    """The winner of a sweep on the test data.

    Args:
        best: the trial.
        metrics: metric -> float32 [seeds] on the test data.
        states: the trained state of each seed.
        result: the curves of these runs.
    """

    best: Best
    metrics: dict[str, np.ndarray]
    states: tuple[PyTree, ...]
    result: SweepResult

    def __repr__(self) -> str:
        shown = [f"{printable(n)} {_shown_score(values)}" for n, values in self.metrics.items()]
        return f"FinalScore({printable(self.best.name)}: {', '.join(shown)})"


@known_arguments
def final_score(
    task: Task | str, result: SweepResult, best: Best | None = None, *, devices: Mesh | None = None
) -> FinalScore:
    """Trains the best trial once more with every seed, and scores it on the test data.

    A sweep does not keep the states of all trials, for their memory. Training again costs one
    trial, and at width 1 (used here) gives the bits of the sweep's run at that width.
    After a cross-validation the winner is trained on all data but the test data
    (``task.everything()``).

    Args:
        task: the task of the sweep, or its name, as there; it must have ``test``.
        result: of the sweep.
        best: the trial; by default ``result.best()``, else e.g. ``result.best(prefer="peak")``.
        devices: the mesh of the sweep, if it had one; by default as in ``sweep``.

    Raises:
        TypeError: if the task has no ``test``, or after a cross-validation no ``everything``.
        ValueError: if all trials diverged, or a controller won a cross-validation: it needs
            validation data, and then all of them are used for training.

    >>> import jax.numpy as jnp, numpy as np, optax, jaxsched as js
    >>> from jaxsched.search import Supervised, final_score, sweep
    >>> x = np.linspace(-1, 1, 64, dtype=np.float32)[:, None]
    >>> task = Supervised(
    ...     (lambda key: jnp.zeros((1, 1)), lambda w, x: x @ w), optax.sgd, optax.squared_error,
    ...     train=(x, 3 * x), validation=(x, 3 * x), test=(x[:8], 3 * x[:8]), batch_size=16)
    >>> result = sweep(task, [js.Constant(0.5), js.Constant(0.01)], steps=50)
    >>> bool(final_score(task, result).metrics["loss"][0] < 1e-3)
    True
    """
    started = time.monotonic()
    _check_result(result, "final_score")
    best = result.best() if best is None else best
    given: Any = found_task(task, "final_score")
    _check_final(given, result, best)
    pooled = _is_pooled(result)
    trained = given.everything() if pooled else given
    # A sweep of one trial: the same plan, ledger and loop as in `sweep`, without a store.
    request = _request(result, best, devices)
    plan = make_plan(trained, (best.trial,), request, owner=given)
    # Pooled it is trained on other data than in the sweep, so the sweep's folds are traced again.
    _check_task(given, result, None if pooled else plan.folds, best)
    # Only now is `test` traced: no sweep has a program that knows the test data.
    plan = dataclasses.replace(plan, folds=(plan.folds[0].with_test("final_score"),))
    backend = backend_for(plan, request.devices, width=1)
    if request.is_distributed:  # else its processes could wait for each other for ever
        test = {"test": plan.folds[0].digests["test"]}
        backend.agree(Identity(plan, request).shared | labelled(backend.settings | test))
    ledger = Ledger(plan, keep_final_states=True)
    run_plan(ledger, backend.engine(ledger).run)
    metrics, states = _tested(ledger, backend)
    described = _described(result, pooled, started) | backend.described(ledger)
    return FinalScore(best, metrics, states, assemble(ledger, **described))


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class FinalScores(ByName[FinalScore]):
    """Each kind's winner on the test data: kind -> ``FinalScore``, in the order of validation.

    Indexed by the kind's name, or the setting's value; prints as a table.

    Args:
        by: "kind", or the name of a setting: its values are the kinds.
        finals: kind -> ``FinalScore``.
        level: of confidence.
        partial: the title's note on a partial result of the sweep, or an empty text.
    """

    by: str
    finals: dict[str, FinalScore]
    level: float
    partial: str = ""

    @property
    def _by_name(self) -> dict[str, FinalScore]:
        return self.finals

    def difference(self, name: object, metric: str) -> Difference:
        """A kind's test metric minus that of the kind with the best *validation* score.

        The runs are paired by seed. Both kinds were chosen without the test scores.

        Raises:
            KeyError: for an unknown kind or metric, with the known ones.
        """
        first = next(iter(self.finals.values()))
        ours, theirs = (named(final.metrics, metric) for final in (self[name], first))
        return paired(ours, theirs, self.level)

    def table(self) -> TextTable:
        """A row for each kind."""
        first = next(iter(self.finals.values()))
        finals, apart = self.finals.items(), list[Difference | None]()
        columns = [
            (self.by, [name for name, _ in finals]),
            ("its best", [reports.own_name(final.best, name) for name, final in finals]),
        ]
        for metric in first.metrics:
            scores = [_shown_score(final.metrics[metric]) for _, final in finals]
            to_first = [None if f is first else self.difference(n, metric) for n, f in finals]
            columns += [(f"test {metric}", scores), *reports.differences(to_first)]
            apart += to_first
        notes = [
            reports.paired_note(len(first.result.seeds), self.level, apart),
            f"Differences are to {next(iter(self))}, which had the best validation score.",
        ]
        return TextTable.of(f"{self.by} on the test data{self.partial}", columns, notes)


@known_arguments
def final_scores(
    task: Task | str,
    result: SweepResult,
    by: str = "kind",
    *,
    level: float = 0.95,
    devices: Mesh | None = None,
) -> FinalScores:
    """``final_score`` of each kind's winner: a comparison without selection bias.

    Do it once: after more tuning, data that you have looked at are no longer test data.

    Args:
        task: the task of the sweep, or its name, as there; it must have ``test``.
        result: of the sweep.
        by: "kind", or the name of a setting, as for ``SweepResult.compare``.
        level: of confidence, in (0, 1).
        devices: as for ``final_score``.

    Raises:
        TypeError, ValueError: as ``final_score`` and ``SweepResult.compare``.

    >>> import jax.numpy as jnp, numpy as np, optax, jaxsched as js
    >>> from jaxsched.search import Supervised, final_scores, grid, sweep
    >>> x = np.linspace(-1, 1, 64, dtype=np.float32)[:, None]
    >>> task = Supervised(
    ...     (lambda key: jnp.zeros((1, 1)), lambda w, x: x @ w), optax.sgd, optax.squared_error,
    ...     train=(x, 3 * x), validation=(x, 3 * x), test=(x[:8], 3 * x[:8]), batch_size=16)
    >>> kinds = {"cosine": js.cosine_decay, "constant": js.constant}
    >>> result = sweep(task, grid(kinds, peak=[0.03, 0.1], steps=40), seeds=3)
    >>> scores = final_scores(task, result)
    >>> list(scores), scores.difference("cosine", "loss").differs
    (['constant', 'cosine'], True)
    """
    _check_result(result, "final_scores")
    task = found_task(task, "final_scores")
    level = checked_number("final_scores(level=...)", level, above=0, below=1)
    result.best()  # raises if there is none
    kinds = compare(result, by, None, result.metric, result.maximize, level, "final_scores")
    chosen = {kind.name: kind.best for kind in kinds.contenders.values() if kind.best}
    for best in chosen.values():
        _check_final(task, result, best)  # all of them before any is trained
    finals = {
        name: final_score(task, result, best, devices=devices) for name, best in chosen.items()
    }
    return FinalScores(by, finals, level, kinds.partial)


def _check_result(result: object, where: str) -> None:
    """Raises if it is not the result of a sweep."""
    if not isinstance(result, SweepResult):
        repair = " Give `.result` of it." if isinstance(result, FinalScore) else ""
        raise TypeError(
            f"{where}(result=...) must be the result of a sweep, got {describe(result)}.{repair}"
        )


def _is_pooled(result: SweepResult) -> bool:
    """Whether winners are trained on the validation data, too.

    A cross-validation has scored models that were each trained without one part. Now that the
    choice is made, no part has to be kept back, and more data make a better model.
    """
    return result.folds > 1 or result.info.everything


def _check_final(task: Any, result: SweepResult, given: object) -> None:
    """Raises if a trial cannot be scored."""
    expected = "a trial of the result with its score, such as `result.best()`"
    best: Best = checked_kind("final_score(best=...)", given, Best, expected)
    # A trial is known by its place. Its name must be the one there, or no trial's: another
    # result may have as many trials.
    names = [trial.name for trial in result.trials]
    # One with a name of its own may stand in its place, as of the rates that a controller applied.
    if not 0 <= best.index < len(names) or best.name in {*names} - {names[best.index]}:
        raise ValueError(
            f"final_score(best=...) must be of this result of {len(names)} trials, got "
            f"the trial {best.index} of another one, {shorten(best.name)}."
        )
    check_single("final_score(best=...)", best.trial)
    pooled = _is_pooled(result)
    for method in ("test", *(["everything"] if pooled else [])):
        if getattr(task, method, None) is None:
            raise TypeError(
                f"final_score(task=...) must have a method `{method}`, got {describe(task)}."
            )
    if pooled and controllers(best.trial):
        rates = "result.train[name][trial, fold, seed]"
        if (updates := result.info.updates_per_step) > 1:
            # A step has a rate for each of its updates, in curves of their own: `name`, `name[1]`,
            # ... Column by column they are in the order of the updates, which a table counts.
            rows = f"[name, *(f'{{name}}[{{i}}]' for i in range(1, {updates}))]"
            rates = f"np.ravel([result.train[n][trial, fold, seed] for n in {rows}], 'F')"
        raise ValueError(
            "final_score(best=...) must be of schedules after a cross-validation, got "
            f"{shorten(best.name)}: a controller watches validation data, and none would be left. "
            f"Take the rates that it applied, `js.Table({rates})`."
        )


def _shown_score(values: np.ndarray) -> str:
    """The mean over the seeds with its standard error."""
    score = scored(values[None], [0])
    return reports.number(float(score.mean[0]), float(score.error[0]))


def _request(result: SweepResult, best: Best, devices: Mesh | None) -> Request:
    """The request that trains the winner as in the sweep."""
    # A controller needs its reports. Without one nothing is evaluated on the way: that would take
    # time and decide nothing.
    watched = bool(controllers(best.trial))
    return Request(
        steps=int(result.horizons[best.index]),
        seeds=result.seeds,
        metric=result.metric,
        maximize=result.maximize,
        devices=devices,
        evaluate_every=result.info.evaluate_every if watched else None,
        monitor=result.info.monitor if watched else "loss",
    )


def _tested(ledger: Ledger, backend: Backend) -> tuple[dict[str, np.ndarray], tuple[PyTree, ...]]:
    """The test metrics, [seeds] each, and the trained states."""
    plan, last = ledger.plan, ledger.plan.stages[-1].index
    # The only trial's last stage ends the run; one program, since there is one fold.
    (program,), device = backend.programs, backend.devices[0]
    finals = [ledger.final_states[Key(last, 0, seed, (0,))] for seed in range(len(plan.seeds))]
    states = put(tuple(finals), device)
    arrays = program.arguments(plan.folds[0], device)
    scores = [jax.device_get(program.test(arrays, state)) for state in states]
    metrics = {name: np.array([s[name] for s in scores], np.float32) for name in scores[0]}
    return metrics, states


def _described(result: SweepResult, pooled: bool, started: float) -> dict[str, Any]:
    """The fields of these runs' ``RunInfo`` that the sweep or the call knows."""
    # With the identity of the sweep, this result may be given to `final_score` again, or to another
    # process; `everything` says there that the validation data were trained on, too.
    info = result.info
    return {
        "evaluate_every": info.evaluate_every,
        "monitor": info.monitor,
        "identity": info.identity,
        "everything": pooled,
        "seconds": time.monotonic() - started,
    }


def _check_task(
    task: Task, result: SweepResult, folds: tuple[Fold, ...] | None, best: Best
) -> None:
    """Raises if the result is of another task, where it can tell; ``folds`` if already traced."""
    expected = result.info.identity
    if expected is None:  # made by hand
        return
    count = int(expected["folds"])
    longest = int(expected["steps"])
    if folds is None:
        # With the names of this trial: all trials of a sweep schedule the same hyperparameters.
        names = tuple(sorted(best.trial.schedules))
        folds = trace_folds(task, count if count > 1 else None, names, longest)
    fields = task_fields(folds, result.seeds, longest, all_batches=False)
    # The settings of JAX and the platform may differ: a score on another machine is a score. Only
    # the task must be the same.
    of_task = {name for name in fields if name.startswith("task")} | {"folds"}
    if any(expected.get(name) != fields[name] for name in ("jaxsched", "jax")):
        # Another version traces the same code to other programs. Arrays and batches still tell.
        of_task -= {f"task's {method}" for method in METHODS}
    if any(expected.get(name) != fields[name] for name in of_task):
        differ = difference(expected, {**expected, **fields}, ("in the sweep", "here"))
        raise ValueError(
            "final_score(task=...) must be the task of the sweep, on the same data, got another "
            f"one. They differ in {differ}."
        )
