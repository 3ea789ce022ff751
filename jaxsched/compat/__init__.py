"""The schedules of other libraries under their own names, with their own arguments and curves.

``js.compat.torch.OneCycleLR(max_lr=0.1, total_steps=1000)`` has the same values as PyTorch's, step
by step, and is a schedule as any other: data, with numbers that may be traced. ``base_lr`` (in the
libraries that set the rate of an optimizer) takes the place of the optimizer; steps are counted
from 0 in optimizer updates. An argument without an explanation has the same meaning as there.
"""

import importlib
import sys
import types
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


class _Alias(types.ModuleType):
    """A library by another of its words; its module is loaded with its first name."""

    def _library(self) -> Any:
        return __getattr__(self.__name__.rpartition(".")[2])

    def __getattr__(self, name: str) -> Any:
        if name == "__all__":
            return [n for n in vars(self._library()) if not n.startswith("_")]
        if name.startswith("__"):  # a look through all modules loads none
            raise AttributeError(name)
        return getattr(self._library(), name)

    def __dir__(self) -> list[str]:
        return dir(self._library())


# `from jaxsched.compat.hf import cosine` asks no `__getattr__` of this module: Python looks into
# `sys.modules` and then for a file `hf.py`. So each other word is a module there, which loads the
# library when it is asked for a name.
for _library, _words in _WORDS.items():
    for _word in {*_words.split()} - {_library}:
        sys.modules[f"{__name__}.{_word}"] = _Alias(f"{__name__}.{_word}")


def __getattr__(name: str) -> Any:
    library = next((key for key, words in _WORDS.items() if name in words.split()), None)
    if library:
        return importlib.import_module(f"{__name__}.{library}")
    raise AttributeError(
        f"module {__name__!r} has no attribute {name!r}; it has {', '.join(_WORDS)}"
    )


def __dir__() -> list[str]:
    return sorted({*globals(), *_WORDS} - {"Any", "importlib", "sys", "types"})
