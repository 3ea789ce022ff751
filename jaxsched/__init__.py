"""Learning-rate schedules as data, for JAX.

A schedule is an immutable pytree of numbers with a pure ``__call__(step)``: it goes wherever Optax
takes one, and its numbers can be traced, stacked, vmapped, differentiated, swapped without
recompiling, printed, compared and saved. The public names are listed in ``jaxsched/_api/``.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jaxsched import command as command
    from jaxsched import compat as compat
    from jaxsched import controllers as controllers
    from jaxsched import names as names
    from jaxsched import optim as optim
    from jaxsched import schedules as schedules
    from jaxsched import search as search
    from jaxsched import testing as testing
    from jaxsched._api.core import *  # noqa: F403
    from jaxsched._api.optax import *  # noqa: F403
    from jaxsched._api.search import *  # noqa: F403
    from jaxsched._api.tools import *  # noqa: F403

__version__ = "0.1.0"

_ROOMS = ("command", "compat", "controllers", "names", "optim", "schedules", "search", "testing")
_PARTS = ("core", "tools", "optax", "search")  # each loads more than the one before


# The import loads no JAX, so that the command `jaxsched` answers at once. The first name of a part
# brings all of it, because `vars(jaxsched)` asks for none.
def _load(part: str) -> None:
    """Puts the names of a part into the package."""
    import importlib

    for name, value in vars(importlib.import_module(f"jaxsched._api.{part}")).items():
        if not name.startswith("_"):
            globals().setdefault(name, value)  # one that a user has replaced stays


def _get(name: str) -> object:
    """A room, or a name of the first part that has it."""
    import importlib

    if name in _ROOMS:
        return importlib.import_module(f"jaxsched.{name}")
    message = f"module 'jaxsched' has no attribute {name!r}"
    if name == "__all__":  # which `from jaxsched import *` asks for: the names without Optax
        _load("core")
        _load("tools")
    elif not name.startswith("_"):
        for part in _PARTS:
            _load(part)
            if name in globals():
                return globals()[name]
        from jaxsched.names._lookup import named_here

        message += named_here(name, [n for n in _names() if not n.startswith("_")])
    raise AttributeError(message)


def _names() -> list[str]:
    """The names for ``dir``."""
    for part in _PARTS:
        _load(part)
    return sorted({*globals(), *_ROOMS} - {"TYPE_CHECKING", "np"})


# Not written as functions of these names: for a type checker such a module has every name.
globals().update(__getattr__=_get, __dir__=_names)
