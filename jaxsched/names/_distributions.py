"""The distributions of a W&B sweep, as quantiles."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any

from jaxsched._arrays import is_list
from jaxsched._bounds import check_choice
from jaxsched._checks import checked_number
from jaxsched._text import describe
from jaxsched._words import instead
from jaxsched.names._config import WORDS
from jaxsched.recipes._share import share
from jaxsched.search.trials._draws import Distribution, loguniform, uniform

_LISTED = ("constant", "categorical")
# Between bounds: (in the logarithm, whole numbers, bounds are exponents).
_BOUNDED = {
    "uniform": (False, False, False),
    "int_uniform": (False, True, False),
    "log_uniform_values": (True, False, False),
    "loguniform": (True, False, False),
    "inv_log_uniform_values": (True, False, False),
    "log_uniform": (True, False, True),
}
_STEPPED = ("uniform", "log_uniform_values", "log_uniform")
NAMES = (*_LISTED, *_BOUNDED, *(f"q_{name}" for name in _STEPPED))


@dataclasses.dataclass(frozen=True)
class _Quantiles(Distribution):
    """What a function of the quantile gives."""

    quantile: Callable[[float], Any]

    def at(self, u: float) -> Any:
        return self.quantile(u)


def column(
    where: str, given: Mapping[str, Any], value: Callable[[Any], Any], steps: bool = False
) -> Any:
    """Values, or what they are drawn from; ``value`` reads one, of a number of steps or not."""
    for key in given:
        if key not in WORDS:
            raise ValueError(f"{where} must have only known words, got {instead(str(key), WORDS)}.")
    word = given.get("distribution") or ""
    if word != "":
        check_choice(f"{where}, distribution,", word, NAMES)
    name, stepped = word.removeprefix("q_"), word.startswith("q_")
    # The words say which form it is; a distribution or a word of another form is refused.
    form = next((word for word in ("values", "value") if word in given), "bounds")
    words, names = ({"min", "max"}, _BOUNDED) if form == "bounds" else ({form}, _LISTED)
    if name not in ("", *names) or {*given} - {"distribution", *["q"] * stepped} != words:
        raise ValueError(f"{where} must have value, or values, or min and max, got {dict(given)}.")
    if form == "value":
        return [value(given["value"])]
    if form == "values":
        if not is_list(given[form]):
            raise ValueError(f"{where} must have a list of values, got {describe(given[form])}.")
        return [value(x) for x in given[form]]
    made = _bounded(where, given, name, value, steps)
    if not stepped:
        return made
    return _stepped_by(where, value(given.get("q", 1)), made)


def _stepped_by(where: str, q: Any, made: Distribution) -> Distribution:
    """In multiples of ``q``, of which none is beyond what is drawn: 0 is not from 1 to 100."""
    where, shares = f"{where}, q,", isinstance(made.at(0.5), share)
    if not shares:
        q = checked_number(where, q, above=0)
    elif not isinstance(q, share) or float(q) == 0:
        raise ValueError(f"{where} must be given, a percentage as min and max, got {describe(q)}.")
    size, low, high = float(q), float(made.at(0.0)), float(made.at(1.0))
    least, most = math.ceil(low / size - 1e-9), math.floor(high / size + 1e-9)
    if least > most:
        raise ValueError(
            f"{where} must have a multiple from {low:.4g} to {high:.4g}, got {describe(q)}."
        )
    multiple = lambda u: min(max(round(float(made.at(u)) / size), least), most)
    if shares:  # 3 / 10 is 0.3, which 3 * 0.1 is not
        return _quantiles(lambda u: share(min(multiple(u) / (1 / size), 1.0)))
    return _quantiles(lambda u: multiple(u) * q)


def _quantiles(quantile: Callable[[float], Any]) -> Distribution:
    return _Quantiles(math.nan, math.nan, False, False, quantile)


def _bounded(
    where: str, given: Mapping[str, Any], name: str, value: Callable[[Any], Any], steps: bool
) -> Distribution:
    """Numbers between ``min`` and ``max``, whole where the name or both bounds say so."""
    low, high = value(given["min"]), value(given["max"])
    ints = type(low) is int and type(high) is int
    log, whole, exponents = _BOUNDED[name or ("int_uniform" if ints else "uniform")]
    shares = isinstance(low, share) and isinstance(high, share)
    other = any(isinstance(x, (share, str)) for x in (low, high)) and not shares
    if (whole and shares) or other:
        raise ValueError(
            f"{where} must have two numbers, or two percentages (which are not whole numbers), got "
            f"{describe(given['min'])} and {describe(given['max'])}."
        )
    if exponents:
        if all(isinstance(x, (int, float)) and 0 < x < 1 for x in (low, high)):  # rates by mistake
            raise ValueError(
                f"{where} must have exponents of e for log_uniform, got {low} and {high}; between "
                "values it is log_uniform_values."
            )
        low, high = _exponential(where, low), _exponential(where, high)
    low, high = (float(low), float(high)) if shares else (low, high)
    numbers = all(isinstance(x, (int, float)) for x in (low, high))
    whole = whole or (steps and numbers and not shares and {low % 1, high % 1} == {0})
    made = (loguniform if log else uniform)(low, high, whole=whole)
    return _quantiles(lambda u: share(made.at(u))) if shares else made


def _exponential(where: str, x: Any) -> float:
    if not isinstance(x, (int, float)) or not -700 < x < 700:
        raise ValueError(f"{where} must have exponents of numbers, got {describe(x)}.")
    return math.exp(x)
