"""Files that are whole or not there, and arrays that are right or refused.

Every array has a digest beside it. Storage flips bits silently, and so do Orbax and friends on the
way back; here a damaged file is an error (``Damaged``), and the caller falls back to an older one.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import jax
import jax.numpy as jnp
import numpy as np

from jaxsched.search._fingerprint import pack


class Damaged(Exception):
    """A file that does not hold what was written to it."""


def write(path: Path, meta: Any, arrays: dict[str, Any]) -> None:
    """Writes arrays of any dtype (bfloat16 and random keys too) and a JSON value, or nothing.

    Raises:
        OSError: if the disk is full, or does not take the file for another reason.
    """
    kinds: dict[str, Any] = {}
    stored: dict[str, Any] = {}
    for name, value in arrays.items():
        kinds[name], stored[name] = pack(value)
    header = json.dumps({"meta": meta, "arrays": kinds})
    stored["header"] = np.frombuffer(header.encode(), np.uint8)
    _replace(path, lambda file: np.savez(file, **stored))


def read(path: Path, data: bytes | None = None) -> tuple[Any, dict[str, Any]]:
    """What ``write`` wrote: the JSON value and the arrays, on the host.

    Of ``data``, the bytes of the file, if they have been read already.

    Raises:
        Damaged: if anything of it has changed.
    """
    try:
        with (
            open(path, "rb") if data is None else io.BytesIO(data) as raw,
            np.load(raw, allow_pickle=False) as file,
        ):
            header = json.loads(file["header"].tobytes())
            return header["meta"], {
                name: _unpack(kind, file[name]) for name, kind in header["arrays"].items()
            }
    except Damaged as error:
        raise Damaged(f"{path}: {error}") from None
    except Exception as error:  # zip, zlib, NumPy and JSON: many ways to say that bytes are wrong
        raise Damaged(f"{path}: {type(error).__name__}: {error}") from error


def write_json(path: Path, value: Any) -> None:
    """Writes a small JSON file, whole or not at all."""
    _replace(path, lambda file: file.write(json.dumps(value, indent=1).encode()))


# ---------------------------------------------------------------------------------------- details


def _replace(path: Path, fill: Callable[[BinaryIO], Any]) -> None:
    """Writes a whole file or none: under another name, flushed to the disk, then renamed."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            fill(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        _flush_directory(path.parent)
    except BaseException as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise OSError(
                error.errno,
                f"no space left on the disk to write {path}; what was saved before is whole: "
                "make room and run the same call again",
            ) from None
        raise


def _unpack(kind: dict[str, Any], data: np.ndarray) -> Any:
    raw = data.tobytes()
    if hashlib.blake2b(raw, digest_size=16).hexdigest() != kind["blake2b"]:
        raise Damaged("an array does not have its digest")
    array = np.frombuffer(raw, jnp.dtype(kind["dtype"])).reshape(kind["shape"])
    return (
        array
        if kind["key"] is None
        else jax.random.wrap_key_data(jnp.asarray(array), impl=kind["key"])
    )


def _flush_directory(directory: Path) -> None:
    with contextlib.suppress(OSError):  # not every file system can
        descriptor = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
