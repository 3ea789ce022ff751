"""Whether values can be right, as far as is known without JAX, in the words of the real checks."""

from __future__ import annotations

from typing import Any

from jaxsched._bounds import check_bounds, check_choice
from jaxsched._text import describe
from jaxsched.names import _texts
from jaxsched.names._expression import Call
from jaxsched.names._lookup import source_of
from jaxsched.names._sources import Source


def check_values(tree: Any, units: Any) -> None:
    """Raises for a number out of bounds and for a text that is none; ``units`` as of `meant`."""
    if isinstance(tree, (list, dict)):
        for x in tree.values() if isinstance(tree, dict) else tree:
            check_values(x, units)
    if not isinstance(tree, Call):
        return
    source = source_of(tree.name)
    given = {**dict(zip(source.kinds, tree.args, strict=False)), **tree.kwargs} if source else {}
    told = lambda n, x: _texts.meant(x, source, n, units) if isinstance(x, str) else x
    sizes = _texts.of_run(units, source, {n: told(n, given[n]) for n in given if n in _texts.RUN})
    for name, x in given.items():
        if source and not isinstance(x, (Call, list, dict)):
            _check(source, name, x, units if name in _texts.RUN else sizes)
    for name, x in given.items() if source else [("", x) for x in tree.args]:
        check_values(x, _texts.Within.of(source, name, sizes))


def _check(source: Source, argument: str, x: Any, units: Any) -> None:
    where = f"{source.name}({argument}=...)"
    bounds = source.bounds.get(argument)
    if isinstance(x, str) and (bounds is None or "options" not in bounds):
        x = _texts.meant(x, source, argument, units)
    if bounds is None or x is None or isinstance(x, (_texts.Part, _texts.Length)):
        return
    if "options" in bounds:
        check_choice(where, x, bounds["options"])
    elif isinstance(x, bool) or not isinstance(x, (int, float)):
        raise TypeError(f"{where} must be a number, got {describe(x)}.")
    else:
        order = f"The arguments are ({', '.join(source.kinds)})."
        told = bounds.get("told", "").format(function=source.name, order=order)
        check_bounds(where, x, x, **{**bounds, "told": told})
