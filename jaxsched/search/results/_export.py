"""Rows as CSV, JSON or a pandas table, and results as files that can be loaded again."""

from __future__ import annotations

import dataclasses
import json
import math
import numbers
import unicodedata
from typing import Any, cast

import numpy as np

from jaxsched._checks import checked_path
from jaxsched._populations import sample
from jaxsched._serialize import UnknownType, from_dict, to_dict
from jaxsched.controllers._base import AbstractController
from jaxsched.recipes._share import share
from jaxsched.schedules._piecewise import Table as ScheduleTable
from jaxsched.search._files import Damaged, members, opened, unpack, unpacked, write
from jaxsched.search._fingerprint import plain
from jaxsched.search.results._info import RunInfo
from jaxsched.search.results._scored import ScoredTrials
from jaxsched.search.trials._trials import Followed, Trial

FORMAT = 3


def to_csv(rows: list[dict[str, Any]], file: Any) -> str:
    lines = [",".join(map(_cell, line)) for line in (rows[0], *map(dict.values, rows))]
    return _written("\n".join([*lines, ""]), file, "to_csv")


def to_json(rows: list[dict[str, Any]], file: Any) -> str:
    text = json.dumps([_finite(row) for row in rows], allow_nan=False, indent=1)
    return _written(text, file, "to_json")


def to_pandas(rows: list[dict[str, Any]]) -> Any:
    try:
        import pandas as pd  # type: ignore[import-not-found,import-untyped,unused-ignore]
    except ImportError:
        raise ImportError("to_pandas() needs pandas: pip install pandas.") from None
    return pd.DataFrame(rows)


def save(result: ScoredTrials, file: Any) -> None:
    """One npz with digests: the arrays, and JSON for the rest. Schedules of code become tables."""
    curves = {"train": result.train, "validation": result.validation}
    meta = {
        "jaxsched sweep": FORMAT,
        "trials": [
            {
                "name": trial.name,
                "kind": trial.kind,
                "settings": {k: _plain(v) for k, v in trial.settings.items()},
                "schedules": {
                    name: _schedule_data(schedule, int(result.horizons[i]))
                    for name, schedule in trial.schedules.items()
                },
            }
            for i, trial in enumerate(result.trials)
        ],
        **{name: getattr(result, name) for name in _NUMBERS},
        "info": dataclasses.asdict(result.info),
    }
    arrays = {name: getattr(result, name) for name in _ARRAYS}
    arrays |= {f"{group}/{name}": x for group in curves for name, x in curves[group].items()}
    write(checked_path("save(file=...)", file), meta, arrays)


def load(file: Any) -> dict[str, Any]:
    """The fields of the result in a file of ``save``; see ``SweepResult.load``."""
    path = checked_path("load(file=...)", file)
    expected = "load(file=...) must be a saved result, got"
    other = f"{expected} {path}: no file that `SweepResult.save` has written."
    try:
        with opened(path) as raw:
            is_zip, found = raw.read(2) == b"PK", {}
            if is_zip:
                found = members(raw)
    except FileNotFoundError:
        raise
    except Damaged as damage:
        raise ValueError(f"{expected} a damaged one: {path}: {damage}.") from None
    except (OSError, ValueError) as error:
        raise ValueError(f"{expected} {path}: {error}") from None
    if not is_zip:
        raise ValueError(other)
    try:
        written, meta, arrays = _read(found)
        version = meta.get("jaxsched sweep") if isinstance(meta, dict) else None
        fields = _fields(meta, arrays) if version == written else {}
    except UnknownType as error:
        raise ValueError(f"{expected} {path}, which this process cannot read: {error}") from None
    except Damaged as damage:
        raise ValueError(f"{expected} a damaged one: {path}: {damage}.") from None
    except Exception as error:  # JSON can be wrong in many ways
        raise ValueError(
            f"{expected} a damaged one: {path}: {type(error).__name__}: {error}"
        ) from None
    if not fields:
        raise ValueError(other if version is None else f"{expected} {path} of format {version}.")
    return fields


# ---------------------------------------------------------------------------------------- details

_NUMBERS = ("metric", "maximize", "seeds", "steps_asked", "steps_trained")
_ARRAYS = ("horizons", "evaluated", "diverged", "stopped")


def _read(found: dict[str, np.ndarray]) -> tuple[int, Any, dict[str, np.ndarray]]:
    """The format in which a file is written, the JSON, the arrays."""
    if "index" in found:
        return FORMAT, *unpacked(found)
    if "header" in found:  # each array had a digest, the header had none
        header = json.loads(found["header"].tobytes())
        kinds = header["arrays"].items()
        return 2, header["meta"], {name: unpack(kind, found[name]) for name, kind in kinds}
    return 1, json.loads(str(found.pop("meta", "null"))), found  # without digests


def _fields(meta: dict[str, Any], arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    groups: dict[str, dict[str, Any]] = {"train": {}, "validation": {}}
    for name in [n for n in arrays if "/" in n]:
        group, metric = name.split("/", 1)
        groups[group][metric] = arrays[name]
    trials = tuple(
        Trial(
            t["name"],
            {k: from_dict(v) if isinstance(v, dict) else v for k, v in t["settings"].items()},
            {name: from_dict(data) for name, data in t["schedules"].items()},
            t.get("kind", ""),
        )
        for t in meta["trials"]
    )
    return {
        **{name: meta[name] for name in _NUMBERS},
        **{name: arrays[name] for name in _ARRAYS},
        **groups,
        "trials": trials,
        "seeds": tuple(meta["seeds"]),
        "info": RunInfo.of(meta["info"]),
    }


def _schedule_data(followed: Followed, steps: int) -> dict[str, Any]:
    """A schedule or controller as data; code by its values: all that a sweep saw of it."""
    try:
        return to_dict(followed)
    except TypeError:
        return to_dict(_tabulated(followed, steps))


def _tabulated(followed: Followed, steps: int) -> Followed:
    if isinstance(followed, AbstractController):
        changed: Any = followed
        return cast(Followed, dataclasses.replace(changed, base=_tabulated(changed.base, steps)))
    return ScheduleTable(sample(followed, steps))


def _cell(value: Any) -> str:
    if value is None or isinstance(value, (bool, numbers.Number)):
        return "" if value is None else str(value)
    text = str(value)
    # Spreadsheets execute a text that begins like a formula, some of them also after blanks.
    begin = next((c for c in text if c.isprintable() and not c.isspace()), "")
    wide = unicodedata.normalize("NFKC", begin)  # in East Asian text a sign may be a wide one
    if (wide and wide in "=+-@") or text[:1] in ("\t", "\r", "\n"):
        text = "'" + text
    # By hand: before Python 3.13 `csv` leaves a lone carriage return bare, which ends a row.
    bare = text.isprintable() and text == text.strip() and not any(c in text for c in "\",;'")
    return text if bare else '"' + text.replace('"', '""') + '"'


def _finite(row: dict[str, Any]) -> dict[str, Any]:
    return {
        k: None if isinstance(v, float) and not math.isfinite(v) else _plain(v)
        for k, v in row.items()
    }


def _plain(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if isinstance(value, share):
        return to_dict(value)
    return value if value is None or isinstance(value, (bool, int, float, str)) else plain(value)


def _written(text: str, file: Any, where: str) -> str:
    if file is not None:
        checked_path(f"{where}(file=...)", file).write_text(text)
    return text
