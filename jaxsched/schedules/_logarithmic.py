"""Pieces along a logarithm and along a hyperbola."""

from __future__ import annotations

from jaxsched import _number as num
from jaxsched._checks import check_beside
from jaxsched._number import Number, Value
from jaxsched._struct import length, struct
from jaxsched._types import Leaf
from jaxsched.schedules._progress import AbstractShape, Progress


@struct
class Logarithmic(AbstractShape):
    r"""Along the logarithm of the step: very steep first, then ever gentler.

    .. math:: s(t) = \text{start} + (\text{end}-\text{start})\,
              \frac{\ln(1+t)}{\ln(1+\text{steps})}

    Args:
        start, end, steps: value at step 0, value from ``steps`` on, length in updates, at least 0.

    References: DeepSpeed's ``WarmupLR`` (its ``warmup_num_steps`` is ``steps + 1`` here).

    >>> import jaxsched as js
    >>> round(float(js.Logarithmic(0.0, 1.0, 99)(9)), 6)
    0.5
    """

    def weights(self, at: Progress) -> tuple[Value, Value]:
        log, done = _log_from_1(at.length), _log_from_1(at.passed)
        # ln(1 + steps) - ln(1 + t), near the end from the remaining steps.
        remains = at.rest / (at.length + 1.0)
        late = remains < 0.5
        left = num.where(late, -num.log1p(-num.where(late, remains, 0.0)), log - done)
        return num.quotient(left, log), num.quotient(done, log)


def _log_from_1(x: Number) -> Number:
    """``log(1 + x)`` for ``x >= 0``, precise near zero.

    ``log1p`` is one for -1 to 0, so a small x is turned over: log(1 + x) = -log(1 - x / (1 + x)).
    """
    small = x < _SMALL
    near = num.where(small, x, 0.0)
    log = num.log1p_or_log(small, -near / (near + 1.0), x + 1.0)
    return num.where(small, -log, log)


_SMALL = 2.0**-4


@struct
class Hyperbolic(AbstractShape):
    r"""Along a hyperbola: almost the same at first, however long the run is.

    .. math:: s(t) = \text{start} + (\text{start}-\text{end})\,(f(t) - f(0)), \quad
              f(t) = \sqrt{\tfrac{\text{steps}-t}{\text{bound}}
              \left(2 - \tfrac{\text{steps}+t}{\text{bound}}\right)}

    It meets ``end`` only if ``bound`` is ``steps``, where it is a straight line; else it stops
    above, at start - (start - end) f(0).

    Args:
        start: value at step 0.
        end: last value of a run of ``bound`` steps.
        steps: length in optimizer updates, at least 0.
        bound: an upper bound on the length of all runs to be compared, at least ``steps``, above 0.

    References: Kim, HyperbolicLR: Epoch insensitive learning rate scheduler, arXiv:2407.15200.

    >>> import jaxsched as js
    >>> round(float(js.Hyperbolic(1.0, 0.0, 50, bound=100)(50)), 6)
    0.133975
    """

    bound: Leaf = length(above=0)

    def __check_init__(self) -> None:
        check_beside("Hyperbolic(bound=...)", self.bound, "at least", "steps", self.steps)

    def weights(self, at: Progress) -> tuple[Value, Value]:
        value = lambda number: num.as_value(at.rest, num.to_value(number))
        bound = num.maximum(num.as_number(at.rest, self.bound), at.length)
        over = bound - at.length
        root = lambda rest: num.sqrt(value(rest * (rest + over * 2.0))) / value(bound)
        first, now = root(at.length), root(at.rest)
        # f(0) - f(t) and 1 - f(0) as quotients, without differences of nearly equal roots:
        # a - b is (a^2 - b^2) / (a + b), and the squares differ by a product.
        fallen = value(at.passed / bound * ((at.rest + at.length + over * 2.0) / bound))
        never = value(over / bound) ** 2
        return never / (1.0 + first) + now, fallen / (first + now)
