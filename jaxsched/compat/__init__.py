"""The schedules of other libraries under their own names, with their own arguments and curves.

``js.compat.torch.OneCycleLR(max_lr=0.1, total_steps=1000)`` has the values that PyTorch's has, step
by step, and is a schedule as any other: data, whose numbers may be traced. ``base_lr`` (in the
libraries that set the rate of an optimizer) takes the place of the optimizer; steps are counted
from 0 in optimizer updates.
"""

import pkgutil
from typing import Any

_LIBRARIES = sorted(m.name for m in pkgutil.iter_modules(__path__) if not m.name.startswith("_"))


def __getattr__(name: str) -> Any:
    if name in _LIBRARIES:
        import importlib

        return importlib.import_module(f"jaxsched.compat.{name}")
    raise AttributeError(
        f"module 'jaxsched.compat' has no attribute {name!r}; it has {', '.join(_LIBRARIES)}"
    )


def __dir__() -> list[str]:
    return sorted({*globals(), *_LIBRARIES} - {"Any", "pkgutil"})
