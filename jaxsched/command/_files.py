"""Configs in files: TOML, JSON and YAML."""

from __future__ import annotations

import json
import os
import tomllib
from pathlib import Path
from typing import Any

from jaxsched._bounds import checked_kind


def read_file(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The mapping that a file holds, by its ending: ``.toml``, ``.json``, ``.yaml`` or ``.yml``.

    Raises:
        ValueError: if there is no such file, it is of another kind, it cannot be read, or a key
            stands in it twice.
        ImportError: for YAML without PyYAML (the extra ``jaxsched[yaml]``).

    >>> import pathlib, tempfile
    >>> from jaxsched.command import read_file
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "a.toml")
    ...     _ = path.write_text('name = "constant"')
    ...     read_file(path)
    {'name': 'constant'}
    """
    checked_kind("read_file(path=...)", path, (str, os.PathLike), "a path")
    where = f"read_file(path={os.fspath(path)!r})"
    ending = Path(path).suffix.lower()
    if ending not in (".toml", ".json", ".yaml", ".yml"):
        raise ValueError(f"{where} must end in .toml, .json, .yaml or .yml.")
    try:
        text = Path(path).read_text("utf-8-sig")
        if ending == ".toml":
            data: Any = tomllib.loads(text)
        elif ending == ".json":
            data = json.loads(text, object_pairs_hook=_without_twins)
        else:
            data = _read_yaml(text)
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"{where} must be a file that can be read, got {error}.") from None
    if not isinstance(data, dict):
        raise ValueError(f"{where} must hold a mapping, got {type(data).__name__}.")
    return data


def _without_twins(pairs: list[tuple[Any, Any]]) -> dict[Any, Any]:
    """A mapping; raises for a key that stands twice: JSON and YAML would take the last one."""
    mapping = dict(pairs)
    if len(mapping) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"the key {twice!r} twice")
    return mapping


def _read_yaml(text: str) -> Any:
    """The value of a YAML text; raises also for a key that stands twice in one mapping."""
    try:
        import yaml
    except ImportError as error:
        raise ImportError(
            "YAML needs PyYAML, which is not installed: pip install jaxsched[yaml]"
        ) from error

    # PyYAML takes the last of two equal keys in silence. When a mapping is constructed its pairs
    # are still there. Pairs of a merge (`<<: *base`) may be overridden: they do not count.
    class Loader(yaml.SafeLoader):  # type: ignore[misc]  # it has no types
        def construct_mapping(self, node: Any, deep: bool = False) -> Any:
            own = [pair for pair in node.value if not pair[0].tag.endswith(":merge")]
            _without_twins([(self.construct_object(key, deep=True), None) for key, _ in own])
            return super().construct_mapping(node, deep)

    try:
        return yaml.load(text, Loader)
    except (yaml.YAMLError, TypeError, OverflowError) as error:  # a list as a key, such as
        raise ValueError(" ".join(str(error).split())) from None
