"""``trials_from_config``: trials from the words of a W&B sweep."""

from __future__ import annotations

import functools
import inspect
import itertools
import keyword
from collections.abc import Container, Mapping
from typing import Any

from jaxsched._arrays import is_list, is_number
from jaxsched._bounds import check_choice, check_number, checked_kind
from jaxsched._text import describe
from jaxsched._words import bind, known_arguments
from jaxsched.names import _texts
from jaxsched.names._config import NAME, WORDS, check_units, lasts, maker, read, value_of
from jaxsched.names._distributions import column
from jaxsched.names._lookup import source_of, unknown
from jaxsched.names._places import Place
from jaxsched.names._sources import Entry, undescribed
from jaxsched.search.trials._draws import Distribution
from jaxsched.search.trials._given import with_distinct_names
from jaxsched.search.trials._grids import grid, sampled, zipped
from jaxsched.search.trials._trials import Followed, Trials
from jaxsched.units import Units

_KEYS = ["name", "method", "count", "run_cap", "seed", "parameters", "hyperparameters"]
_DRAWS = ("random", "halton", "sobol", "latin")
# Of a W&B sweep, which stand elsewhere here.
_ELSEWHERE = {
    "metric": "it is an argument of js.sweep, in a file beside the table",
    "early_terminate": "it is js.sweep(stopping=...), in a file a table beside this one",
    "program": "the task is named where the sweep is called",
    "command": "the task is named where the sweep is called",
}


@known_arguments
def trials_from_config(config: Any, *, units: Units | None = None) -> Trials:
    """Trials from a table with the words of a W&B sweep.

    Args:
        config: a mapping with a ``name`` (of the table, see ``from_config``; or a list of them),
            and ``parameters``, a mapping argument -> a value, a list of values, or a mapping with
            ``value``; ``values``, of a draw also with ``probabilities``; or ``min``, ``max`` and
            ``distribution``: "uniform" (whole numbers between whole numbers), "int_uniform",
            "log_uniform_values" (or "loguniform"), "log_uniform" (its bounds are exponents of e);
            or ``mu``, ``sigma`` and "normal" or "log_normal"; with "q_" before it rounded to
            multiples of ``q``. ``method`` is "grid" (the default), "zip", or with ``count`` (or
            ``run_cap``) and ``seed`` "random", "halton", "sobol" or "latin". Values are as in
            ``from_config``. ``hyperparameters``, a mapping of the same form, has the other
            hyperparameters of the task's optimizer: numbers, or schedules. Or a list of such
            mappings: the trials are joined, and each kind has its own arguments.
        units: the sizes of the run, for lengths in epochs, samples and tokens.

    Returns:
        Trials, as from ``grid``, ``zipped`` or ``sampled``.

    Raises:
        ValueError: if a name, method or distribution is unknown, or bounds are missing.
        TypeError: if a key or an argument is unknown.

    >>> import jaxsched as js
    >>> trials = js.trials_from_config({
    ...     "name": "warmup_cosine",
    ...     "parameters": {"peak": {"values": ["1e-3", 3e-3]}, "steps": 100, "warmup": "10%"},
    ... })
    >>> [trial.name for trial in trials]
    ['peak=0.001', 'peak=0.003']
    """
    check_units(units, "trials_from_config")
    if is_list(config) and config:
        return with_distinct_names(
            tuple(t for one in config for t in trials_from_config(one, units=units))
        )
    # A table has columns, one for each argument: a value, a list of values, or a distribution.
    # `grid`, `zipped` and `sampled` make trials of columns, as they do in Python. This module only
    # turns a table's words into columns.
    method, count = _checked_method(config)
    name = config.get("name")
    sources = [_source(each) for each in (name if is_list(name) and name else [name])]
    given, others = _named_values(config, sources)
    place = Place.of(units)
    in_column = lambda name, place: _column(name, given[name], sources, place)
    columns = place.in_order(sources, given, in_column)
    for source in sources:  # a curve over the fraction of a run has the length of the run
        columns |= place.left_out(source, columns)
    makers = [_with_others(maker(source, units), others) for source in sources]
    try:
        trials = _trials_of(makers if is_list(name) else makers[0], columns, method, count, config)
    except TypeError as error:
        if len(makers) > 1:
            error.add_note("Kinds with arguments of their own are a list of tables ([[sweep]]).")
        raise
    # Only a finished schedule shows whether it lasts the run, as its relative lengths require.
    if any(length.why for length in place.told):
        for trial in trials:
            place.made(sources[0].name, lasts(trial.schedule), 0)
        place.settle()
    return trials


def _named_values(
    config: Mapping[str, Any], sources: list[Entry]
) -> tuple[dict[str, Any], list[str]]:
    """The table's values of each argument and hyperparameter; the names of the latter."""
    given = {str(name): _expanded(values) for name, values in config["parameters"].items()}
    known = dict.fromkeys(name for source in sources for name in source.kinds)
    try:
        bind(sources[0].name, list(known), known, (), given)
    except TypeError as error:
        error.add_note("What else the task's optimizer takes stands in `hyperparameters`.")
        raise
    others = _others(config.get("hyperparameters"), known)
    return given | others, list(others)


def _trials_of(
    makers: Any, columns: dict[str, Any], method: str, count: Any, config: Mapping[str, Any]
) -> Trials:
    """The trials of the columns, listed or drawn."""
    if count is None:
        _check_listed(method, columns)
        return (grid if method == "grid" else zipped)(makers, **columns)
    count, seed = _texts.value(count), _texts.value(config.get("seed", 0))
    return sampled(makers, count, seed=seed, method=method, **columns)


def _checked_method(config: Any) -> tuple[str, Any]:
    """The method of a table and, where it draws, the count; raises for a wrong word or form."""
    checked_kind("trials_from_config(config=...)", config, Mapping, "a mapping")
    if problems := [f"no argument {key}: {_ELSEWHERE[key]}" for key in config if key in _ELSEWHERE]:
        raise TypeError(f"trials_from_config has {'; and '.join(problems)}.")
    bind("trials_from_config", _KEYS, dict.fromkeys(_KEYS), (), {str(key): 0 for key in config})
    where, expected = "trials_from_config(parameters=...)", "a mapping argument -> values"
    checked_kind(where, config.get("parameters"), Mapping, expected)
    method = config.get("method", "grid")
    if str(method).lower() == "bayes":
        raise ValueError(
            f"trials_from_config(method=...) must not be {method!r}: runs of a sweep do not wait "
            "for each other. Draw them ('halton'), and give them up early (sweep(stopping=...))."
        )
    check_choice("trials_from_config(method=...)", method, ("grid", "zip", *_DRAWS))
    # A grid that was meant to be drawn would be complete, and many times as large: so a count goes
    # with a method that draws, and with no other.
    counts = [config[key] for key in ("count", "run_cap") if config.get(key) is not None]
    if len(counts) != (method in _DRAWS):
        wanted = ("", "no ", "one ")[len(counts)]
        raise ValueError(f"trials_from_config(method={method!r}) must be given {wanted}count.")
    return method, counts[0] if counts else None


def _others(given: Any, known: Container[str]) -> dict[str, Any]:
    """The values of other hyperparameters than the learning rate, by their names."""
    where = "trials_from_config(hyperparameters=...)"
    checked_kind(where, given, (Mapping, type(None)), "a mapping name -> values")
    others = {str(name): _expanded(values) for name, values in (given or {}).items()}
    for name in others:
        if not name.isidentifier() or keyword.iskeyword(name):
            raise ValueError(f"{where} must have names as of arguments in Python, got {name!r}.")
        if name == "learning_rate" or name in known:
            whose = "the learning rate's" if name in known else "what `parameters` describe"
            raise ValueError(
                f"{where} must be others than the learning rate, with other names than its "
                f"arguments, got {name}, which is {whose}."
            )
    return others


def _with_others(make: Any, others: list[str]) -> Any:
    """The recipe of a dict hyperparameter -> schedule or number; the others are its arguments."""
    # `grid` and the others make trials of one function, and check the columns by its signature. So
    # the optimizer's other hyperparameters become arguments of this function. The recipe makes the
    # rate, and the result is a dict, as `js.sweep` expects for several hyperparameters.
    if not others:
        return make

    def recipe(**given: Any) -> dict[str, Any]:
        apart = {name: given.pop(name) for name in others}
        return {"learning_rate": make(**given), **apart}

    by_name = inspect.Parameter.KEYWORD_ONLY
    own = [p.replace(kind=by_name) for p in inspect.signature(make).parameters.values()]
    more = [inspect.Parameter(name, by_name) for name in others]
    named: Any = functools.wraps(make, updated=())(recipe)
    named.__signature__ = inspect.Signature([*own, *more])
    return named


def _check_listed(method: str, columns: Mapping[str, Any]) -> None:
    """Raises for a distribution where nothing is drawn."""
    if drawn_from := [name for name, x in columns.items() if isinstance(x, Distribution)]:
        raise ValueError(
            f"trials_from_config(method={method!r}) must be given values alone, got what "
            f"{drawn_from[0]} is drawn from: omit bounds and probabilities, or write "
            "method='halton' and a count."
        )


def _source(name: Any) -> Entry:
    """The entry of the table that a name means."""
    source = source_of(name) if isinstance(name, str) else None
    if source is None:
        given = unknown(name) if isinstance(name, str) else describe(name)
        raise ValueError(
            "trials_from_config(name=...) must be a name that `jaxsched names` lists, or a list of "
            f"them, got {given}."
        )
    return source


def _column(name: str, given: Any, sources: list[Entry], place: Place) -> Any:
    """The values of an argument, or their distribution."""
    # A column may belong to several recipes. The first with this argument decides the meaning of
    # its texts: a length in one is a length in all.
    source = next((s for s in sources if name in s.kinds), undescribed("hyperparameters"))
    where = f"trials_from_config({'' if source.module else 'hyper'}parameters={{{name!r}: ...}})"
    if isinstance(given, Mapping) and "parameters" in given:
        raise ValueError(
            f"{where} must have values or bounds, got parameters within: an argument that is a "
            "schedule is a config with a name."
        )
    value = lambda x: value_of(read(x, 1), source, name, place)
    is_config = isinstance(given, Mapping) and bool({*NAME} & set(given))
    if not isinstance(given, Mapping) or is_config or not {*WORDS} & set(given):
        made = [value(x) for x in given] if is_list(given) else value(given)
    else:
        made = column(where, given, value, _texts.is_length(source, name))
    if not source.module:
        return _checked_hyperparameter(where, made)
    # `milestones = [10, 20]` would be two trials with a milestone each. Where the argument itself
    # is a list, the outer one is the list of values, and has to be written.
    listed = bool({name, source.kinds[name]} & _texts.LISTS)
    if listed and isinstance(made, list) and not any(map(is_list, made)):
        raise ValueError(
            f"{source.name}({name}=...) must be a list in each trial, got {describe(given)}: one "
            "list for all is [[...]], or {value: [...]}."
        )
    return made


def _checked_hyperparameter(where: str, made: Any) -> Any:
    """A number, a schedule or a distribution, or a list of them, as it came; raises for others."""
    for one in made if is_list(made) else [made]:
        if isinstance(one, bool) or not (
            isinstance(one, (Followed, Distribution)) or is_number(one)
        ):
            hint = ": a flag is 0 or 1" if isinstance(one, bool) else ""
            raise TypeError(
                f"{where} must be numbers or configs of schedules, got {describe(one)}{hint}."
            )
        if is_number(one):
            check_number(where, one)
    return made


def _expanded(x: Any) -> Any:
    """A schedule with ``values`` of its own arguments, as a list of all combinations."""
    # An argument that is a schedule may vary itself, `{name = "Cosine", start = {values = [1, 2]},
    # ...}`. Its combinations are then values of the argument, since a column holds whole values.
    if not isinstance(x, Mapping) or not {*NAME} & {*x}:
        return x
    swept = {}
    for name, given in x.items():
        within = isinstance(given, Mapping)
        choices = given["values"] if within and "values" in given else _expanded(given)
        if choices is not given and is_list(choices):
            swept[name] = choices
    chosen = itertools.product(*swept.values())
    return [{**x, **dict(zip(swept, one, strict=True))} for one in chosen] if swept else x
