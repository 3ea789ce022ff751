"""Files are whole or absent, and right or refused.

A file is an npz with nothing compressed. Its member ``index`` is a digest and JSON: a value, and
the name, dtype, shape and digest of each of the other members, which are bytes. Storage flips bits
silently, and so do Orbax and friends on the way back. Here a damaged file is an error
(``Damaged``), and the caller falls back to an older one. A size in a file is compared with the
file's own size before it is used.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import functools
import hashlib
import io
import json
import math
import os
import secrets
import stat
import types
import typing
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike, DTypeLike

from jaxsched._checks import check_room
from jaxsched._text import describe, shorten
from jaxsched.search._fingerprint import pack, with_key_type

Arrays: TypeAlias = Mapping[str, ArrayLike]
Expected: TypeAlias = tuple[DTypeLike, tuple[int, ...]]  # dtype and shape
_DIGEST = 16  # bytes


class Damaged(ValueError):
    """A file with other content than was written; the message names the file and the part."""


class TooLarge(Damaged):
    """A file that may be whole, and is larger than the memory allowed to this process."""


def write(path: Path, meta: object, arrays: Arrays) -> None:
    """Writes arrays of any dtype (bfloat16 and random keys too) and a JSON value, or nothing.

    Raises:
        OSError: if the disk is full, or does not take the file for another reason.
    """
    packed = {name: pack(value) for name, value in arrays.items()}
    kinds = {name: kind for name, (kind, _) in packed.items()}
    # By number: a zip archive changes some names, such as one with a NUL.
    stored: dict[str, Any] = {f"{number}": data for number, (_, data) in enumerate(packed.values())}
    index = json.dumps({"meta": meta, "arrays": kinds}).encode()
    stored["index"] = np.frombuffer(_digest(index) + index, np.uint8)
    _write_whole(path, stored)


def read(path: Path, data: bytes | None = None) -> tuple[Any, dict[str, Any]]:
    """The input of ``write``: the JSON value and the arrays, read-only, on the host.

    If the file's bytes have been read already, they are ``data``.

    Raises:
        Damaged: if anything of it has changed, or it cannot be read.
    """
    try:
        with opened(path) if data is None else io.BytesIO(data) as raw:
            return unpacked(members(raw))
    except (Damaged, OSError) as error:
        raise _damage_in(path, error) from None


def read_meta(path: Path) -> Any:
    """The JSON value alone; errors as for ``read``, but of the arrays none."""
    try:
        with opened(path) as raw:
            return _read_index(members(raw, only="index"))[0]
    except (Damaged, OSError) as error:
        raise _damage_in(path, error) from None


def _damage_in(path: Path, error: Exception) -> Damaged:
    """The error of a file, with its path; too large stays too large."""
    return (TooLarge if isinstance(error, TooLarge) else Damaged)(f"{path}: {error}")


def opened(path: Path) -> BinaryIO:
    """A regular file, to be read: a pipe would wait for its writer, and a device may have no end.

    Raises:
        OSError: if there is none.
    """
    if not stat.S_ISREG(path.stat().st_mode):
        raise OSError("it is not a regular file")
    return path.open("rb")


def members(raw: BinaryIO, only: str | None = None) -> dict[str, np.ndarray]:
    """The arrays of an npz by their names, or one of them.

    Raises:
        Damaged: if it is not one, or a member is compressed or larger than the file.
        TooLarge: if it is larger than the memory.
    """
    arrays: dict[str, np.ndarray] = {}
    where = ""
    try:
        with zipfile.ZipFile(raw) as archive:
            infos = archive.infolist()
            size, claimed = raw.seek(0, os.SEEK_END), sum(info.file_size for info in infos)
            # Before any is read: a file of a few hundred bytes may claim a terabyte.
            if claimed > size:
                raise Damaged(f"{claimed} bytes in a file of {size}")
            named = [(info.filename.removesuffix(".npy"), info) for info in infos]
            wanted = [(name, info) for name, info in named if only in (None, name)]
            _check_fits(sum(info.file_size for _, info in wanted))
            for name, info in wanted:
                where = f"member {name!r}: "
                if info.compress_type:
                    raise Damaged("it is compressed")
                if name in arrays:
                    raise Damaged("there are two of this name")
                arrays[name] = _array_of_npy(archive.read(info))
    except TooLarge:
        raise
    except Exception as error:  # of zipfile and NumPy: many ways to say that bytes are wrong
        raise Damaged(f"{where}{_reason(error)}") from None
    return arrays


def _reason(error: Exception) -> str:
    """The message of an error, with its kind if it is not ours: a KeyError says only "3"."""
    return f"{error}" if isinstance(error, Damaged) else f"{type(error).__name__}: {error}"


def _check_fits(size: int) -> None:
    try:
        check_room("a file", size, "what it holds", "Read it where there is more.")
    except ValueError as error:
        raise TooLarge(f"{error}") from None


def unpacked(stored: dict[str, np.ndarray]) -> tuple[Any, dict[str, Any]]:
    """The JSON value and the arrays of ``members``, which are compared with their digests.

    Raises:
        Damaged: if they differ.
    """
    meta, kinds = _read_index(stored)
    where = "the index"
    try:
        if len(stored) != len(kinds) + 1:
            raise Damaged(f"it tells of {len(kinds)} members, not {len(stored) - 1}")
        arrays = {}
        for number, (name, kind) in enumerate(kinds.items()):
            where = f"array {name!r}"
            arrays[name] = _unpacked_array(kind, stored[f"{number}"])
        return meta, arrays
    except Exception as error:  # of JSON, NumPy and JAX
        raise Damaged(f"{where}: {_reason(error)}") from None


def _read_index(stored: dict[str, np.ndarray]) -> tuple[Any, dict[str, Any]]:
    """The JSON value of a file, and its arrays' names with their kinds."""
    try:
        index = stored["index"].tobytes()
        if _digest(index[_DIGEST:]) != index[:_DIGEST]:
            raise Damaged("it does not have its digest")
        contents = json.loads(index[_DIGEST:])
        return contents["meta"], contents["arrays"]
    except Exception as error:  # of JSON and NumPy
        raise Damaged(f"the index: {_reason(error)}") from None


def _unpacked_array(kind: dict[str, Any], stored: np.ndarray) -> Any:
    """The array that ``pack`` made bytes of, or an error of any kind."""
    if _digest(stored.data).hex() != kind["blake2b"]:
        raise Damaged("it does not have its digest")
    array = stored.view(jnp.dtype(kind["dtype"])).reshape(kind["shape"])
    return with_key_type(array, kind["key"])


def typed(hint: Any, value: object, where: str) -> Any:
    """A JSON value as an annotation says: of lists, tuples, dicts, dataclasses, ``X | None``.

    Raises:
        Damaged: if it is anything else; the message begins with ``where``.
    """
    # JSON has fewer types than Python: its lists are our tuples too, and its objects dataclasses. A
    # value is never converted but for these and whole numbers where a float is meant: "3" for 3
    # would be a file that no version of ours has written.
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if isinstance(hint, types.UnionType):
        return None if value is None else typed(inner[0], value, where)
    if dataclasses.is_dataclass(hint) and isinstance(value, dict):
        made: Any = hint
        hints, needed = _annotations_of(made)
        if not needed <= value.keys() <= hints.keys():
            fewer, more = sorted(needed - value.keys()), sorted(value.keys() - hints.keys())
            raise Damaged(f"{where} must not lack {fewer}, nor have {shorten(repr(more))}")
        return made(**{n: typed(hints[n], x, f"{where}, {n}") for n, x in value.items()})
    if origin is tuple and isinstance(value, list) and len(value) == len(inner):
        pairs = enumerate(zip(inner, value, strict=True))
        return tuple(typed(own_hint, x, f"{where} [{i}]") for i, (own_hint, x) in pairs)
    if origin is list and isinstance(value, list):
        if {*map(type, value)} <= {*inner}:  # long lists of numbers at once
            return value
        return [typed(inner[0], x, f"{where} [{i}]") for i, x in enumerate(value)]
    if origin is dict and isinstance(value, dict):
        if {*map(type, value.values())} <= {inner[1]}:  # as above, without a place for each
            return value
        return {n: typed(inner[1], x, f"{where} [{shorten(repr(n))}]") for n, x in value.items()}
    if hint is Any or type(value) is hint:
        return value
    if hint is float and type(value) is int:
        return float(value)
    wanted = hint.__name__ if isinstance(hint, type) and not inner else hint
    raise Damaged(f"{where} must be of type {wanted}, got {describe(value)}")


def check_arrays(arrays: Mapping[str, np.ndarray], wanted: Mapping[str, Expected]) -> None:
    """Compares arrays with the name -> dtype and shape in a file's JSON.

    Raises:
        Damaged: if one differs, is missing or is too many.
    """
    for name in {**wanted, **arrays}:
        dtype, shape = wanted.get(name, (None, ()))
        actual = f"{arrays[name].dtype}{list(arrays[name].shape)}" if name in arrays else "none"
        expected = "none" if dtype is None else f"{np.dtype(dtype)}{list(shape)}"
        if actual != expected:
            raise Damaged(f"array {shorten(repr(name))} must be {expected}, got {actual}")


@functools.cache
def _annotations_of(kind: type) -> tuple[dict[str, Any], set[str]]:
    """The annotations of a dataclass, and the fields without a default."""
    fields, empty = dataclasses.fields(kind), dataclasses.MISSING
    needed = {f.name for f in fields if f.default is empty and f.default_factory is empty}
    return typing.get_type_hints(kind), needed


def _write_whole(path: Path, stored: dict[str, Any]) -> None:
    """Writes a whole npz or none: under another name, flushed to the disk, then renamed."""
    # The order makes it safe. Renamed before it is flushed, a file may have its name and no
    # bytes after a power cut. The name itself is in the directory, which is flushed last.
    # A random name and "x": a link planted there is never written through.
    temporary = path.with_name(f"{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        with open(temporary, "xb") as file:
            np.savez(file, **stored)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        _flush_directory(path.parent)  # which holds the new name
    except BaseException as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        if not isinstance(error, OSError):
            raise
        full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        what = "no space left on the disk (or within its limits)" if full else error.strerror
        raise OSError(
            error.errno,
            f"{what} in writing {path}; what was saved before is whole: "
            f"{'make room and ' * full}run the same call again",
        ) from None


def _array_of_npy(data: bytes) -> np.ndarray:
    """An array of a npy file. NumPy's own reader allocates the size that a header claims."""
    stream = io.BytesIO(data)
    if np.lib.format.read_magic(stream) != (1, 0):  # which NumPy gives all but odd structures
        raise Damaged("its header is not that of an array of numbers")
    shape, fortran, dtype = np.lib.format.read_array_header_1_0(stream)
    begin = stream.tell()
    if math.prod(shape) * dtype.itemsize != len(data) - begin or any(n < 0 for n in shape):
        raise Damaged(f"{dtype}{list(shape)} in {len(data) - begin} bytes")
    return np.frombuffer(data, dtype, offset=begin).reshape(shape, order="F" if fortran else "C")


def _digest(data: bytes | memoryview) -> bytes:
    return hashlib.blake2b(data, digest_size=_DIGEST).digest()


def _flush_directory(directory: Path) -> None:
    with contextlib.suppress(OSError):  # not every file system can
        descriptor = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
