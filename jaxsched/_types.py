"""The words in public annotations. Python itself checks none of them.

A number is anything that JAX takes for an array: a Python or NumPy number, a NumPy array, or a JAX
array, which includes tracers. A type checker finds ``js.warmup_cosine("0.1", 100, 10)``.

But a number in a field, a ``Leaf``, is ``Any``: transformations of JAX put axes, shardings or bare
objects into fields, and a union would be wrong at every use.
"""

from __future__ import annotations

import os
from typing import Any, TypeAlias

from jax.typing import ArrayLike

Number: TypeAlias = ArrayLike  # of any shape: with an axis it stands for several
Step: TypeAlias = ArrayLike  # a count of optimizer updates, from 0; it need not be whole
Leaf: TypeAlias = Any  # a number of a schedule, of any kind that NumPy and JAX have
PyTree: TypeAlias = Any  # containers that JAX knows, with arrays as leaves
FilePath: TypeAlias = str | bytes | os.PathLike[str]
OptState: TypeAlias = PyTree  # the result of an Optax transformation's ``init``, or a tree with it
