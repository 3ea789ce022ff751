"""The schedules of other libraries under their own names, with their own arguments and curves.

``js.compat.torch.OneCycleLR(max_lr=0.1, total_steps=1000)`` has the values that PyTorch's has, step
by step, and is a schedule as any other: data, whose numbers may be traced. ``base_lr`` (in the
libraries that set the rate of an optimizer) takes the place of the optimizer; steps are counted
from 0 in optimizer updates.
"""

import pkgutil
from typing import Any

# Libraries by the words that people say for them.
_WORDS = {
    "composer": "composer mosaicml",
    "fastai": "fastai",
    "fvcore": "fvcore detectron2",
    "keras": "keras tf tensorflow",
    "megatron": "megatron",
    "optax": "optax",
    "timm": "timm",
    "torch": "torch pytorch",
    "transformers": "transformers hf huggingface",
}
_LIBRARIES = sorted(m.name for m in pkgutil.iter_modules(__path__) if not m.name.startswith("_"))


def __getattr__(name: str) -> Any:
    library = next((key for key, words in _WORDS.items() if name in words.split()), None)
    if library:
        import importlib

        return importlib.import_module(f"jaxsched.compat.{library}")
    raise AttributeError(
        f"module 'jaxsched.compat' has no attribute {name!r}; it has {', '.join(_LIBRARIES)}"
    )


def __dir__() -> list[str]:
    return sorted({*globals(), *_LIBRARIES} - {"Any", "pkgutil"})
