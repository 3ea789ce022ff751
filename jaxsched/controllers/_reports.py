"""Which measurements a controller acts on."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Mapping, Sequence
from typing import Any


def check_report(
    where: str, kinds: Sequence[type], report: Mapping[str, object], *, more: bool = False
) -> None:
    """Raises if a measurement acts on none of the controller classes ``kinds``.

    ``None`` (not measured) is allowed beside one that was; with ``more``, so are any others.
    """
    require_measured(where, report)
    measured = {name for name, value in report.items() if value is not None}
    known: set[str] = set()
    acting: set[str] = set()
    for kind in kinds:
        # A set of measurements acts as a whole: `value` without `averaged` tells AutoDecay nothing.
        known.update(_react_arguments(kind), *_needed_sets(kind))
        if any(measured >= set(names) for names in _needed_sets(kind)):
            acting.update(_react_arguments(kind), *_needed_sets(kind))
    idle = [n for n in report if n not in known or (n in measured and n not in acting)]
    if idle and not (more and (acting or not measured)):
        words = [
            f"{kind.__name__} reads {' or '.join(map(' with '.join, _needed_sets(kind)))}"
            for kind in kinds
        ]
        raise ValueError(
            f"{where}({idle[0]}=...) must be what a controller acts on: "
            f"{'; '.join(dict.fromkeys(words))}; got only {', '.join(report)}."
        )


def require_measured(where: str, report: Mapping[str, object]) -> None:
    """Raises for a report without a measurement: ``logs.get("los")`` is None."""
    if all(value is None for value in report.values()):
        got = ", ".join(f"{name}=None" for name in report) or "nothing"
        raise ValueError(
            f"{where}(...) must be given a measurement, such as value=loss, got {got}. Where none "
            "was made, make no call."
        )


@functools.cache
def _needed_sets(kind: Any) -> list[tuple[str, ...]]:
    """Sets of measurements; the controller acts on each complete set."""
    if kind.reads == ("value",) and "value" not in _react_arguments(kind):
        return [(name,) for name in _react_arguments(kind) if name != "reported"]  # without `reads`
    return [names for names in (kind.reads, kind.or_reads) if names]


def _react_arguments(kind: Any) -> tuple[str, ...]:
    """The measurements that its ``react`` has names for."""
    parameters = list(inspect.signature(kind.react).parameters.values())[2:]
    return tuple(p.name for p in parameters if p.kind is not p.VAR_KEYWORD)
