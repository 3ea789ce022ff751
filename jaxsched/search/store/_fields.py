"""Fields, name -> text: they identify a task, a run or a sweep, and show how two differ."""

from __future__ import annotations

import re

from jaxsched._text import listed, shorten

Fields = dict[str, str]

_DIGEST = re.compile(r"\b([0-9a-f]{8})[0-9a-f]{24}\b")
_ARRAY = "array "  # the prefix of fields without an identity


def identifying(fields: Fields) -> Fields:
    """The fields without a task's single arrays; another field is a digest of all arrays."""
    return {name: text for name, text in fields.items() if not name.startswith(_ARRAY)}


def explaining(fields: Fields) -> Fields:
    """The others: they say which array of a task is another one."""
    return {name: text for name, text in fields.items() if name.startswith(_ARRAY)}


def difference(first: Fields, second: Fields, where: tuple[str, str]) -> str:
    """The differences with both values, or an empty text; digests are cut to eight letters.

    Arrays are named where the task differs, first and in place of all of them together.
    """

    def shown(name: str, values: Fields) -> str:
        return shorten(_DIGEST.sub(r"\1", values.get(name, "none")))

    unequal = [name for name in {**first, **second} if first.get(name) != second.get(name)]
    arrays = [name for name in unequal if name.startswith(_ARRAY)]
    differ = [name for name in unequal if name not in arrays]
    both = explaining(first) and explaining(second)  # else one side names none
    if both and arrays and any(name.startswith("task's ") for name in differ):
        differ = [*arrays, *(name for name in differ if name != "task's arrays")]
    return listed(
        f"{shorten(n)}: {shown(n, first)} {where[0]}, {shown(n, second)} {where[1]}" for n in differ
    )
