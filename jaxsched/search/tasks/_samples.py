"""The data of a ``Supervised`` task: trees of arrays, or a source, read item by item."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import PyTreeDef
from numpy.typing import ArrayLike

from jaxsched._text import shorten
from jaxsched._types import PyTree

Data: TypeAlias = Any  # (inputs, targets), trees of [samples, ...]; or a source of such pairs


_Named: TypeAlias = list[tuple[str, Any]]  # the leaves of a pair, each with its path


class Leaf(NamedTuple):
    """One array of the tree of a single sample."""

    path: str  # inputs['image']
    shape: tuple[int, ...]
    dtype: np.dtype


class Sample(NamedTuple):
    """The parts of one sample."""

    argument: str  # the argument that it belongs to
    leaves: list[Leaf]
    treedef: PyTreeDef  # of (inputs, targets)


# A source may be terabytes on a disk, so no item is read before it is needed. The first item of the
# training and validation data is read for the shapes, and every later one is compared with it. No
# test item is read before the final score. Arrays show their shapes without being read.
class Samples:
    """One data argument of ``Supervised``, read when asked for."""

    length: int  # number of samples

    def __init__(self, argument: str, given: Data):
        self.argument, self._given = argument, given

    @cached_property
    def sample(self) -> Sample:
        """The parts of each sample."""
        raise NotImplementedError

    @property
    def nbytes(self) -> float:
        """The bytes of all samples; infinite where only items can be read."""
        return math.inf

    @property
    def has_form(self) -> bool:
        """Whether shapes and dtypes are known without reading a sample."""
        return False

    def read(self, rows: np.ndarray) -> list[np.ndarray]:
        """The leaves of some samples, [len(rows), ...] each."""
        raise NotImplementedError

    def all(self) -> list[np.ndarray]:
        """The leaves of all samples."""
        return self.read(np.arange(self.length))

    def tree(self, rows: np.ndarray | None = None) -> PyTree:
        """(inputs, targets) of some samples, or of all."""
        leaves = self.all() if rows is None else self.read(rows)
        return self.sample.treedef.unflatten(leaves)

    def _read_item(self, source: Sequence[Any], row: int) -> Any:
        """An item of the user's source; too early an end is an error of the data."""
        try:
            return source[int(row)]
        except (IndexError, StopIteration) as error:  # which mean the end of the data elsewhere
            raise ValueError(
                f"{self.argument} must have the {len(source)} items of its length, got "
                f"{type(error).__name__} at [{row}]{f': {error}' if str(error) else ''}."
            ) from error
        except Exception as error:
            error.add_note(f"in {self.argument}, reading [{row}]")
            raise

    def _leaf_of(self, path: str, value: ArrayLike) -> Leaf:
        value = np.asarray(value)
        if not (jnp.issubdtype(value.dtype, jnp.number) or value.dtype == np.bool_):
            raise TypeError(f"{self.argument} {path} must be numbers, got dtype {value.dtype}.")
        # As it will be on the device: without x64 a float64 takes half of its bytes there.
        return Leaf(path, value.shape, np.dtype(jax.dtypes.canonicalize_dtype(value.dtype)))

    def _stacked_items(
        self, leaf: Leaf, rows: np.ndarray, values: Iterable[ArrayLike]
    ) -> np.ndarray:
        """One leaf of many items; all must be like the leaf of the first item."""
        # Items may be of narrower or wider numbers than the first; a fraction is not cut off. So
        # not `np.stack`: its dtype would depend on the items in a batch.
        stacked = np.empty((len(rows), *leaf.shape), leaf.dtype)
        for k, (row, value) in enumerate(zip(rows, map(np.asarray, values), strict=True)):
            if value.shape != leaf.shape or not np.can_cast(value.dtype, leaf.dtype, "same_kind"):
                raise ValueError(
                    f"{self.argument} must have items of one shape and dtype, got "
                    f"{value.dtype}{list(value.shape)} for the {leaf.dtype}{list(leaf.shape)} "
                    f"{leaf.path} at [{row}]."
                )
            stacked[k] = value
        return stacked


class Columns(Samples):
    """A pair of trees with an axis of samples in every leaf."""

    # A column is an array, with rows taken at once, or a sequence of items, read one by one, such
    # as images in files. The size of a sequence in bytes is not known, so `nbytes` is infinite, and
    # all of the data are read on the host, batch by batch.

    def __init__(self, argument: str, given: Data):
        super().__init__(argument, given)
        self._named, self._treedef = _named_leaves(argument, given)
        counts = [_count_samples(f"{argument} {path}", leaf) for path, leaf in self._named]
        self.length = counts[0]
        if len(set(counts)) > 1 or not counts[0]:
            shown = [f"{n} {path}" for (path, _), n in zip(self._named, counts, strict=True)]
            raise ValueError(
                f"{argument} must have as many targets as inputs, and some, got "
                f"{', '.join(shown[:-1])} and {shown[-1]}."
            )

    @cached_property
    def _columns(self) -> list[Any]:
        return [_as_column(f"{self.argument} {path}", leaf) for path, leaf in self._named]

    @cached_property
    def sample(self) -> Sample:
        firsts = [
            c[0] if isinstance(c, np.ndarray) else self._read_item(c, 0) for c in self._columns
        ]
        leaves = [self._leaf_of(path, x) for (path, _), x in zip(self._named, firsts, strict=True)]
        return Sample(self.argument, leaves, self._treedef)

    @property
    def has_form(self) -> bool:
        return all(isinstance(leaf, (np.ndarray, jax.Array)) for _, leaf in self._named)

    @property
    def nbytes(self) -> float:
        return sum(c.nbytes if isinstance(c, np.ndarray) else math.inf for c in self._columns)

    def read(self, rows: np.ndarray) -> list[np.ndarray]:
        return [
            np.asarray(column[rows])
            if isinstance(column, np.ndarray)
            else self._stacked_items(leaf, rows, (self._read_item(column, i) for i in rows))
            for column, leaf in zip(self._columns, self.sample.leaves, strict=True)
        ]

    def all(self) -> list[np.ndarray]:
        return self._columns if self.nbytes < math.inf else super().all()


class Source(Samples):
    """Anything with a length and with pairs of trees as items: a list, Grain's sources."""

    def __init__(self, argument: str, given: Data):
        super().__init__(argument, given)
        try:
            self.length = len(given)
        except (TypeError, ValueError, OverflowError) as error:  # a float, less than 0, or too much
            raise TypeError(f"{argument} must have a whole number of items: {error}.") from None
        if not 0 < self.length < 2**31:
            raise ValueError(f"{argument} must have from 1 to 2**31 - 1 items, got {self.length}.")

    @cached_property
    def sample(self) -> Sample:
        named, treedef = self._item_leaves(0)
        return Sample(self.argument, [self._leaf_of(*leaf) for leaf in named], treedef)

    def read(self, rows: np.ndarray) -> list[np.ndarray]:
        items = []
        for row in rows:
            named, treedef = self._item_leaves(row)
            if treedef != self.sample.treedef:
                raise ValueError(
                    f"{self.argument} must have items of one structure, got "
                    f"{shorten(str(treedef))} at [{row}] and "
                    f"{shorten(str(self.sample.treedef))} at [0]."
                )
            items.append([np.array(leaf) for _, leaf in named])  # a source may reuse a buffer
        return [
            self._stacked_items(leaf, rows, (item[j] for item in items))
            for j, leaf in enumerate(self.sample.leaves)
        ]

    def _item_leaves(self, row: int) -> tuple[_Named, PyTreeDef]:
        return _named_leaves(f"{self.argument}[{row}]", self._read_item(self._given, row))


def samples_of(name: str, given: Data) -> Samples:
    """The samples of an argument of ``Supervised``: a pair of trees, or a source of pairs."""
    argument = f"Supervised({name}=...)"
    # [[1, 2], [3, 4]] may be inputs and targets of two samples, or the samples (1, 2) and (3, 4).
    if isinstance(given, list) and len(given) == 2 and all(map(_is_pair, given)):
        raise TypeError(
            f"{argument} must be a tuple (inputs, targets) of trees, or a list of more than two "
            "pairs, one for each sample; a list of two pairs can be either."
        )
    if _is_pair(given):
        return Columns(argument, given)
    text_or_tree = isinstance(given, (tuple, Mapping, str, bytes)) or hasattr(given, "__array__")
    if text_or_tree or not (hasattr(given, "__len__") and hasattr(given, "__getitem__")):
        raise TypeError(
            f"{argument} must be a pair (inputs, targets), or a source of such pairs, a list or an "
            f"object with a length and items, got {type(given).__name__}."
        )
    return Source(argument, given)


def check_alike(one: Sample, first: Sample) -> None:
    """Raises a ``ValueError`` unless both are the same tree of the same shapes."""
    if one.treedef != first.treedef:
        raise ValueError(
            f"{one.argument} must have the structure of {first.argument}, "
            f"{shorten(str(first.treedef))}, got {shorten(str(one.treedef))}."
        )
    for leaf, its in zip(one.leaves, first.leaves, strict=True):
        if leaf.shape != its.shape:
            raise ValueError(
                f"{one.argument} {leaf.path} must have samples of shape {list(its.shape)}, as "
                f"{first.argument} has, got {list(leaf.shape)}."
            )


def _is_pair(given: object) -> bool:
    return isinstance(given, (tuple, list)) and len(given) == 2


def _named_leaves(argument: str, pair: Data) -> tuple[_Named, PyTreeDef]:
    """Leaves with names such as ``inputs['image']``; a list is an array, as NumPy takes it."""
    if not _is_pair(pair):
        raise TypeError(f"{argument} must be a pair (inputs, targets), got {type(pair).__name__}.")
    treedef: PyTreeDef
    leaves, treedef = jax.tree_util.tree_flatten_with_path(
        tuple(pair), is_leaf=lambda x: isinstance(x, list)
    )
    named = [
        (("inputs", "targets")[path[0].idx] + jax.tree_util.keystr(path[1:]), leaf)
        for path, leaf in leaves
    ]
    for part in ("inputs", "targets"):
        if not any(path.startswith(part) for path, _ in named):
            raise TypeError(f"{argument} {part} must hold at least one array, got none.")
    return named, treedef


def _count_samples(argument: str, leaf: Any) -> int:
    """The length of a leaf's axis of samples."""
    try:
        if isinstance(leaf, (str, bytes)):
            raise TypeError
        return len(leaf)
    except TypeError:
        raise TypeError(
            f"{argument} must be an array [samples, ...], got {type(leaf).__name__}."
        ) from None


def _as_column(argument: str, leaf: Any) -> np.ndarray | Sequence[Any]:
    """An array, or a sequence of items."""
    if not isinstance(leaf, list) and not hasattr(leaf, "__array__"):
        return leaf
    try:
        return leaf if isinstance(leaf, np.ndarray) else np.asarray(leaf)
    except ValueError as error:
        raise ValueError(f"{argument} must be an array: {error}") from None
