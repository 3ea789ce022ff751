"""The distributions of a W&B sweep, as quantiles."""

from __future__ import annotations

import bisect
import dataclasses
import itertools
import math
import statistics
from collections.abc import Callable, Collection, Mapping
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
_NORMAL = ("normal", "log_normal")
_STEPPED = ("uniform", "log_uniform_values", "log_uniform", *_NORMAL)
NAMES = (*_LISTED, *_BOUNDED, *_NORMAL, *(f"q_{name}" for name in _STEPPED))


@dataclasses.dataclass(frozen=True)
class _Quantiles(Distribution):
    """A distribution that is given by its quantile function."""

    quantile: Callable[[float], Any]

    def at(self, u: float) -> Any:
        return self.quantile(u)


def column(
    where: str, given: Mapping[str, Any], value: Callable[[Any], Any], steps: bool = False
) -> Any:
    """A list of values or a distribution. ``value`` reads one; ``steps``: they count steps."""
    for key in given:
        if key not in WORDS:
            raise ValueError(f"{where} must have only known words, got {instead(str(key), WORDS)}.")
    word = given.get("distribution") or ""
    if word != "":
        check_choice(f"{where}, distribution,", word, NAMES)
    name, stepped = word.removeprefix("q_"), word.startswith("q_")
    # A table has one of four forms, known by its words; a word of another form beside them is
    # refused, since it would have no effect. Only mu and sigma need the distribution's name.
    words: tuple[str, ...]
    names: Collection[str]
    if "values" in given:
        words, names = ("values", "probabilities"), _LISTED
    elif "value" in given:
        words, names = ("value",), _LISTED
    elif name in _NORMAL:
        words, names = ("mu", "sigma"), _NORMAL
    else:
        words, names = ("min", "max"), _BOUNDED
    missing = names is _BOUNDED and len({"min", "max"} & {*given}) < 2
    allowed = {*words, "distribution"} | ({"q"} if stepped else set())
    if missing or {*given} - allowed or name not in ("", *names):
        raise ValueError(
            f"{where} must have value, or values (with probabilities), or min and max, or mu and "
            f"sigma with the distribution normal, got {dict(given)}."
        )
    if names is _LISTED:
        return [value(given["value"])] if "value" in given else _listed(where, given, value)
    if names is _NORMAL:
        made = _normal(where, given, name == "log_normal", value)
    else:
        made = _bounded(where, given, name, value, steps)
    if not stepped:
        return made
    return _stepped_by(where, value(given.get("q", 1)), made)


def _stepped_by(where: str, q: Any, made: Distribution) -> Distribution:
    """The distribution in multiples of ``q`` within its bounds: never 0 if it is from 1 to 100."""
    # W&B's `round(x / q) * q` may be outside of the bounds: a rate of 0. The quantiles at 0 and 1
    # are the bounds. A normal distribution has its bounds 8 deviations from the mean.
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


def _listed(where: str, given: Mapping[str, Any], value: Callable[[Any], Any]) -> Any:
    """Values, or with probabilities a draw of them."""
    if not is_list(given["values"]):
        raise ValueError(f"{where} must have a list of values, got {describe(given['values'])}.")
    values = [value(x) for x in given["values"]]
    if "probabilities" not in given:
        return values
    shares = given["probabilities"]
    shares = [value(x) for x in shares] if is_list(shares) else []
    right = len(shares) == len(values) and all(isinstance(p, (int, float)) for p in shares)
    if not right or min(shares, default=-1) < 0 or not math.isclose(sum(shares), 1, abs_tol=1e-6):
        raise ValueError(
            f"{where} must have a probability for each value, which add up to 1, got "
            f"{describe(given['probabilities'])}."
        )
    # The values stand one after another on the line from 0 to 1, each as wide as its probability,
    # and a quantile falls on one. Without the last edge rounding cannot put it beyond the last.
    edges = list(itertools.accumulate(shares))[:-1]
    return _quantiles(lambda u: values[bisect.bisect_right(edges, u)])


def _normal(
    where: str, given: Mapping[str, Any], log: bool, value: Callable[[Any], Any]
) -> Distribution:
    """A normal distribution, or with ``log`` a lognormal one, cut 8 deviations from its middle."""
    mu = checked_number(f"{where}, mu,", value(given.get("mu", 0)))
    sigma = checked_number(f"{where}, sigma,", value(given.get("sigma", 1)), above=0)
    if log:
        _exponential(where, abs(mu) + 9 * sigma)
    # Draws are within [0, 1), and the quantile of 0 is minus infinity.
    normal = statistics.NormalDist(float(mu), float(sigma))
    at = lambda u: normal.inv_cdf(min(max(u, 2.0**-53), 1 - 2.0**-53))
    return _quantiles((lambda u: math.exp(at(u))) if log else at)


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
    # `log_uniform` of W&B has bounds that are exponents of e. Rates in their place, 1e-4 and 1e-1,
    # would be taken for exponents: rates between 1 and 1.1.
    if exponents:
        if all(isinstance(x, (int, float)) and 0 < x < 1 for x in (low, high)):
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
