"""A sweep as a config says."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from jaxsched import search
from jaxsched._arrays import is_list
from jaxsched._bounds import check_choice, checked_kind
from jaxsched._numerals import size
from jaxsched._text import describe
from jaxsched._words import bind
from jaxsched.names._config import value_of
from jaxsched.names._places import Place
from jaxsched.names._sources import Entry
from jaxsched.names._trials import trials_from_config
from jaxsched.search._sweep import sweep
from jaxsched.search.results._result import SweepResult
from jaxsched.search.tasks._protocol import Task
from jaxsched.units import Units

_OPTIONS = [
    n for n in inspect.signature(sweep).parameters if n not in ("task", "trials", "executor")
]
_LENGTHS = dict.fromkeys(["steps", "evaluate_every", "first", "every", "grace"], "length")
_RULES = {"MedianRule": search.MedianRule, "SuccessiveHalving": search.SuccessiveHalving}
_OF_TABLE = ("name", "method", "count", "run_cap", "parameters", "hyperparameters")


def sweep_from_config(
    task: Task | str, config: Mapping[str, Any], *, executor: Any = None
) -> SweepResult:
    """The sweep of a task that a config describes.

    Args:
        task: as for ``js.sweep``: a task, or "package.module:factory".
        config: ``sweep``, the table of the trials (see ``js.trials_from_config``); ``run``, the
            arguments of ``js.Units``, for lengths in epochs, samples and tokens; all else is an
            argument of ``js.sweep``. ``metric`` may be ``{name, goal}`` as in W&B, and ``stopping``
            a table with a ``name``, "MedianRule" or "SuccessiveHalving".
        executor: as for ``js.sweep``; or a text, which the config may also have: "processes" or
            "processes:4", "dask:ADDRESS", "submitit:FOLDER".

    Returns:
        As ``js.sweep``.

    Raises:
        ValueError, TypeError: for unknown words in the config, and as ``js.sweep``.
    """
    # Two tables and the rest: `sweep` has the trials, and `run` the sizes for all lengths in trials
    # and options. Each option is an argument of `js.sweep`. Keys are checked before a trial is
    # made, and all trials are made before the task.
    options = dict(checked_kind("sweep_from_config(config=...)", config, Mapping, "a mapping"))
    table, run = options.pop("sweep", None), options.pop("run", None)
    said = options.pop("executor", None)
    keys = ["sweep", "run", "executor", *_OPTIONS]
    if not isinstance(table, Mapping) and not is_list(table):
        raise TypeError(
            "sweep_from_config(config=...) must have a table 'sweep' with a name and parameters "
            f"(what stands at the top of a W&B file), got {describe(table)} beside the keys "
            f"({', '.join(map(str, options))})."
        )
    # A file of W&B has the trials' words at its top; one of them beside the table is a slip.
    if within := [key for key in options if key in _OF_TABLE]:
        raise TypeError(
            f"sweep_from_config(config=...) must have {within[0]} in the table of the trials: "
            f"sweep.{within[0]}."
        )
    bind("sweep_from_config", keys, dict.fromkeys(keys), (), {str(key): 0 for key in options})
    units = None if run is None else _made("run", Units, run)
    trials = trials_from_config(table, units=units)
    metric = options.get("metric")
    if isinstance(metric, Mapping):
        if set(metric) != {"name", "goal"} or metric["goal"] not in ("minimize", "maximize"):
            raise ValueError(
                "sweep_from_config(metric=...) must have a name and the goal minimize or maximize, "
                f"got {dict(metric)}."
            )
        options["metric"], options["maximize"] = metric["name"], metric["goal"] == "maximize"
    if isinstance(options.get("stopping"), Mapping):
        given = dict(options["stopping"])
        name = given.pop("name", None)
        check_choice("sweep_from_config(stopping=...), name,", name, _RULES)
        given = _in_steps(name, given, units)
        options["stopping"] = _made(f"stopping: {name}", _RULES[name], given)
    options = _in_steps("sweep", options, units)
    return sweep(
        task, trials, **options, executor=executor_of(said if executor is None else executor)
    )


def _in_steps(name: str, given: Mapping[str, Any], units: Units | None) -> dict[str, Any]:
    """Options with their lengths in steps, which may be in epochs or of the run."""
    source = Entry(name, "", _LENGTHS, (), "")
    return {str(key): value_of(x, source, str(key), Place.of(units)) for key, x in given.items()}


def _made(where: str, make: Callable[..., Any], given: Any) -> Any:
    checked_kind(f"sweep_from_config({where})", given, Mapping, "a table")
    return make(**{str(name): size(f"{where}, {name},", x) for name, x in given.items()})


def executor_of(word: Any) -> Any:
    """The executor that a text names, or its constructor."""
    # A pool of processes is given as its constructor: a process that dies breaks the pool, and then
    # `sweep` makes another one. The cluster of Dask or submitit goes on without a worker.
    if not isinstance(word, str):
        return word
    kind, _, rest = word.partition(":")
    if kind == "processes" and (not rest or (rest.isdecimal() and int(rest) > 0)):
        import concurrent.futures
        import functools
        import multiprocessing

        spawn = multiprocessing.get_context("spawn")  # a fork has none of the threads of JAX
        workers = int(rest) if rest else None
        return functools.partial(concurrent.futures.ProcessPoolExecutor, workers, spawn)
    if kind == "dask" and rest:
        from distributed import Client

        return Client(rest).get_executor(pure=False)
    if kind == "submitit" and rest:
        import submitit

        return submitit.AutoExecutor(rest)
    raise ValueError(
        "sweep(executor=...) must be processes, processes:COUNT, dask:ADDRESS or submitit:FOLDER, "
        f"got {word!r}."
    )
