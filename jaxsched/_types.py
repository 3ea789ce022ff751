"""What the words in public annotations mean. Nothing here is checked by Python itself.

A number is what JAX takes for an array: a Python or NumPy number, a NumPy array, or a JAX array,
which includes tracers. A type checker finds ``js.warmup_cosine("0.1", 100, 10)``.

A number that is held, a ``Leaf``, is ``Any`` all the same: transformations of JAX put axes,
shardings or bare objects into fields, and a union would be wrong at every use.
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
OptState: TypeAlias = PyTree  # what ``init`` of an Optax transformation returned, or what holds it
