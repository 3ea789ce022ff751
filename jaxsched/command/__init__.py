"""What the command ``jaxsched`` does, as functions."""

import importlib
from typing import TYPE_CHECKING, Any

from jaxsched.command._files import read_file as read_file

if TYPE_CHECKING:
    from jaxsched.command._convert import convert as convert
    from jaxsched.command._explain import explain as explain
    from jaxsched.command._explain import python_line as python_line
    from jaxsched.command._explain import sparkline as sparkline
    from jaxsched.command._sweep import sweep_from_config as sweep_from_config

_LAZY = {
    "convert": "jaxsched.command._convert",
    "explain": "jaxsched.command._explain",
    "python_line": "jaxsched.command._explain",
    "sparkline": "jaxsched.command._explain",
    "sweep_from_config": "jaxsched.command._sweep",
}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'jaxsched.command' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY} - {"Any", "TYPE_CHECKING", "importlib"})
