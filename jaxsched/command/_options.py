"""What the options of a command line are where they are not given."""

from __future__ import annotations

import ast
import collections
from collections.abc import Callable, Mapping
from typing import Any

from jaxsched.names._expression import dotted


def defaults_in(calls: Mapping[str, list[Any]]) -> dict[str, list[Any]]:
    """The defaults of each option, by the calls of a program: nodes and values."""
    found: dict[str, list[Any]] = collections.defaultdict(
        list, {"num_processes": [1]}
    )  # Accelerate
    for call in calls["add_argument"]:
        given = {x.arg: x.value for x in call.keywords}
        texts = [str(getattr(x, "value", "")) for x in call.args]
        texts = [x for x in texts if x.startswith("--")] + texts
        said = str(getattr(given.get("dest"), "value", [*texts, ""][0]))
        flag = str(getattr(given.get("action"), "value", ""))
        made = flag == "store_false" if flag.startswith("store_") else given.get("default")
        text = isinstance(getattr(made, "value", 0), str) and "type" in given
        if text and dotted(given["type"]) != "str":
            made = given["type"]  # what it makes of a text is unknown
        found[said.lstrip("-").replace("-", "_")].append(made)
    return found


def are_given(calls: Mapping[str, list[Any]], value: Callable[[Any], Any]) -> bool:
    """Whether a program gives options other values than their defaults."""
    for call in calls["parse_args"]:
        inner = [x for y in call.args for x in ast.walk(y)]
        texts = [x for x in inner if isinstance(getattr(x, "value", 0), str)]
        lists = [x for x in call.args if isinstance(value(x), list) and value(x)]
        if texts or lists or call.keywords:
            return True
    return bool(calls["set_defaults"] or calls[".argv"] or calls[".default"])
