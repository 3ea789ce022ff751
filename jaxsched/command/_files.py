"""Configs in files: TOML, JSON and YAML."""

from __future__ import annotations

import json
import os
import tomllib
from pathlib import Path
from typing import Any


def read_file(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The mapping that a file holds, by its ending: ``.toml``, ``.json``, ``.yaml`` or ``.yml``.

    Raises:
        ValueError: if there is no such file, it is of another kind, or it cannot be read.
        ImportError: for YAML without PyYAML (the extra ``jaxsched[yaml]``).

    >>> import pathlib, tempfile
    >>> from jaxsched.command import read_file
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "a.toml")
    ...     _ = path.write_text('name = "constant"')
    ...     read_file(path)
    {'name': 'constant'}
    """
    where = f"read_file(path={os.fspath(path)!r})"
    ending = Path(path).suffix.lower()
    if ending not in (".toml", ".json", ".yaml", ".yml"):
        raise ValueError(f"{where} must end in .toml, .json, .yaml or .yml.")
    try:
        text = Path(path).read_text("utf-8")
        if ending == ".toml":
            data: Any = tomllib.loads(text)
        else:
            data = json.loads(text) if ending == ".json" else _yaml(text)
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"{where} must be a file that can be read, got {error}.") from None
    if not isinstance(data, dict):
        raise ValueError(f"{where} must hold a mapping, got {type(data).__name__}.")
    return data


def _yaml(text: str) -> Any:
    try:
        import yaml
    except ImportError as error:
        raise ImportError(
            "YAML needs PyYAML, which is not installed: pip install jaxsched[yaml]"
        ) from error
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())) from None
