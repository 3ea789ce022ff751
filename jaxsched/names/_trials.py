"""``trials_from_config``: trials from the words of a W&B sweep."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from jaxsched._arrays import is_list
from jaxsched._text import describe
from jaxsched._words import instead, known_arguments
from jaxsched.names import _texts
from jaxsched.names._config import check_units, maker, read, value_of
from jaxsched.names._lookup import source_of, unknown
from jaxsched.names._sources import Source
from jaxsched.recipes._share import share
from jaxsched.search.trials._draws import Distribution, loguniform, uniform
from jaxsched.search.trials._grids import grid, sampled, zipped
from jaxsched.search.trials._trials import Trials
from jaxsched.units import Units

_KEYS = ["name", "method", "count", "run_cap", "seed", "parameters"]
_DRAWS = ("random", "halton", "sobol", "latin")
_WORDS = ["value", "values", "min", "max", "distribution"]
# wandb's distributions: (in the logarithm, whole numbers, bounds are exponents).
_DISTRIBUTIONS = {
    "uniform": (False, False, False),
    "int_uniform": (False, True, False),
    "log_uniform_values": (True, False, False),
    "loguniform": (True, False, False),
    "log_uniform": (True, False, True),
}
_LISTED = ("constant", "categorical")


@dataclasses.dataclass(frozen=True)
class _Shares(Distribution):
    """Shares between two percentages."""

    def at(self, u: float) -> Any:
        return share(super().at(u))


@known_arguments
def trials_from_config(config: Mapping[str, Any], *, units: Units | None = None) -> Trials:
    """Trials from a table with the words of a W&B sweep.

    Args:
        config: a mapping with a ``name`` (of the table, see ``from_config``; or a list of them),
            and ``parameters``, a mapping argument -> a value, a list of values, or a mapping with
            ``value``, ``values``, or ``min``, ``max`` and ``distribution``: "uniform" (whole
            numbers between whole numbers), "int_uniform", "log_uniform_values" (or "loguniform"),
            "log_uniform" (whose bounds are exponents of e). ``method`` is "grid" (the default),
            "zip", or with ``count`` (or ``run_cap``) and ``seed`` "random", "halton", "sobol" or
            "latin". Values are as in ``from_config``.
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
    if not isinstance(config, Mapping):
        raise TypeError(
            f"trials_from_config(config=...) must be a mapping, got {describe(config)}."
        )
    for key in config:
        if key not in _KEYS:
            raise TypeError(
                f"trials_from_config has no key {instead(str(key), _KEYS)}. Its keys are "
                f"({', '.join(_KEYS)}); arguments of the schedule stand in parameters."
            )
    sources = _sources(config.get("name"))
    parameters = config.get("parameters")
    if not isinstance(parameters, Mapping):
        raise TypeError(
            "trials_from_config(parameters=...) must be a mapping argument -> values, got "
            f"{describe(parameters)}."
        )
    method = config.get("method", "grid")
    drawn = method in _DRAWS
    columns = {str(k): _column(str(k), v, sources, units) for k, v in parameters.items()}
    recipe = [maker(source) for source in sources]
    recipes: Any = recipe if is_list(config.get("name")) else recipe[0]
    count = config.get("count", config.get("run_cap"))
    if drawn:
        if count is None:
            raise ValueError(f"trials_from_config(count=...) must be given with method={method!r}.")
        seed = config.get("seed", 0)
        return sampled(
            recipes, _texts.value(count), seed=_texts.value(seed), method=method, **columns
        )
    if method not in ("grid", "zip"):
        raise ValueError(
            f"trials_from_config(method=...) must be grid, zip, {', '.join(_DRAWS)}, got "
            f"{describe(method)}."
        )
    for name, column in columns.items():
        if isinstance(column, Distribution):
            raise ValueError(
                f"trials_from_config(method={method!r}) must be given values, got bounds for "
                f"{name}: write values, or method='halton' and a count."
            )
    if count is not None:
        raise ValueError(
            f"trials_from_config(count=...) must be given with a draw, got {method!r}."
        )
    return (grid if method == "grid" else zipped)(recipes, **columns)


def _sources(name: Any) -> list[Source]:
    names = list(name) if is_list(name) else [name]
    found = []
    for each in names:
        source = source_of(each) if isinstance(each, str) else None
        if source is None:
            told = unknown(each) if isinstance(each, str) else describe(each)
            raise ValueError(
                "trials_from_config(name=...) must be a name that `jaxsched names` lists, or a "
                f"list of them, got {told}."
            )
        found.append(source)
    if not found:
        raise ValueError("trials_from_config(name=...) must have at least one name, got none.")
    return found


def _column(name: str, given: Any, sources: list[Source], units: Units | None) -> Any:
    """The values of an argument, or what they are drawn from."""
    source = next((s for s in sources if name in s.kinds), sources[0])
    where = f"trials_from_config(parameters={{{name!r}: ...}})"
    value = lambda x: value_of(read(x, 1), source, name, units)
    if not isinstance(given, Mapping) or not set(given) & {*_WORDS}:
        return [value(x) for x in given] if is_list(given) else value(given)
    extra = [str(key) for key in given if key not in _WORDS]
    if extra:
        raise ValueError(f"{where} must have only {', '.join(_WORDS)}, got {', '.join(extra)}.")
    word = given.get("distribution")
    if "value" in given or "values" in given:
        if len(set(given) - {"distribution"}) > 1 or (word is not None and word not in _LISTED):
            raise ValueError(f"{where} must have value, values, or min and max, got {dict(given)}.")
        if "value" in given:
            return [value(given["value"])]
        if not is_list(given["values"]):
            raise ValueError(
                f"{where} must have a list of values, got {describe(given['values'])}."
            )
        return [value(x) for x in given["values"]]
    if "min" not in given or "max" not in given:
        raise ValueError(f"{where} must have values, or min and max, got {', '.join(given)}.")
    low, high = value(given["min"]), value(given["max"])
    whole = type(low) is int and type(high) is int
    word = word or ("int_uniform" if whole else "uniform")
    if word not in _DISTRIBUTIONS:
        raise ValueError(
            f"{where} must have a distribution of {', '.join(_DISTRIBUTIONS)}, got "
            f"{describe(word)}."
        )
    log, whole, exponents = _DISTRIBUTIONS[word]
    if exponents:
        low, high = _exponential(where, low), _exponential(where, high)
    shares = isinstance(low, share) and isinstance(high, share)
    if shares:
        low, high = float(low), float(high)
    made = (loguniform if log else uniform)(low, high, whole=whole)
    return _Shares(made.low, made.high, made.log, made.whole) if shares else made


def _exponential(where: str, x: Any) -> float:
    if not isinstance(x, (int, float)) or not -700 < x < 700:
        raise ValueError(f"{where} must have exponents for log_uniform, got {describe(x)}.")
    return math.exp(x)
