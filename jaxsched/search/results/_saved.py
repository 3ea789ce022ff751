"""Saves results to files and loads them: any bytes give a valid result or one kind of error.

Three things stand between the bytes and a result. ``_files`` compares digests, which finds damage.
``typed`` compares the JSON with the annotations of ``_Meta``, so no code below asks for the type of
a value that it reads. ``_check_arrays`` compares related arrays, since another program may have
written the file. Tables and pictures use a checked result without further checks; with a wrong one
they would fail late and oddly.
"""

from __future__ import annotations

import dataclasses
from typing import Any, cast

import numpy as np

from jaxsched import _axes
from jaxsched._checks import checked_path
from jaxsched._populations import sample
from jaxsched._serialize import UnknownType, from_dict, to_dict
from jaxsched._text import shorten
from jaxsched._types import FilePath
from jaxsched.controllers._base import AbstractController
from jaxsched.recipes._share import share
from jaxsched.schedules._piecewise import Table
from jaxsched.search._files import (
    Damaged,
    Expected,
    TooLarge,
    check_arrays,
    members,
    opened,
    typed,
    unpacked,
    write,
)
from jaxsched.search.engine._request import checked_seeds
from jaxsched.search.results._export import plain_setting
from jaxsched.search.results._info import RunInfo
from jaxsched.search.results._scored import ScoredTrials
from jaxsched.search.trials._trials import Followed, Trial

FORMAT = 3


def save(result: ScoredTrials, file: FilePath) -> None:
    """One npz with digests: the arrays, and JSON for the rest. Schedules of code become tables."""
    path = checked_path("save(file=...)", file)
    lengths = (result.horizons * result.info.updates_per_step).tolist()
    trials = zip(result.trials, lengths, strict=True)
    meta = {
        "jaxsched sweep": FORMAT,
        "trials": [_trial_data(trial, updates) for trial, updates in trials],
        **{name: getattr(result, name) for name in _VALUES},
        "info": dataclasses.asdict(result.info),
    }
    arrays = {name: getattr(result, name) for name in _ARRAYS}
    for group in _CURVES:
        arrays |= {f"{group}/{name}": x for name, x in getattr(result, group).items()}
    write(path, meta, arrays)


def _trial_data(trial: Trial, updates: int) -> dict[str, Any]:
    """A trial as the JSON of ``_Trial``; ``updates``: the number of its updates."""
    return {
        "name": trial.name,
        "kind": trial.kind,
        "settings": {name: plain_setting(value) for name, value in trial.settings.items()},
        "schedules": {name: _schedule_data(s, updates) for name, s in trial.schedules.items()},
    }


def load(file: FilePath, where: str = "load(file=...)") -> dict[str, Any]:
    """The fields of the result in a file of ``save``; see ``SweepResult.load``."""
    path = checked_path(where, file)
    expected = f"{where} must be a saved result, got"
    try:
        with opened(path) as raw:
            stored = members(raw) if raw.read(2) == b"PK" else {}  # else no zip archive
        # Other people's npz have no index. They are whole, so they are not called damaged.
        meta, arrays = unpacked(stored) if "index" in stored else (None, {})
        version = meta.pop("jaxsched sweep", None) if isinstance(meta, dict) else None
        fields = _result_fields(meta, arrays) if version == FORMAT else None
    except FileNotFoundError as error:
        raise FileNotFoundError(error.errno, f"{expected} no file", f"{path}") from None
    except UnknownType as error:
        raise ValueError(f"{expected} {path}, which this process cannot read: {error}") from None
    except (OSError, TooLarge) as error:
        raise ValueError(f"{expected} {path}: {error}") from None
    except Exception as error:  # bytes can be wrong in many ways: of JSON, of NumPy, of schedules
        what = f"{error}" if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
        raise ValueError(f"{expected} a damaged one: {path}: {what}") from None
    if version is None:
        raise ValueError(f"{expected} {path}: no file that `SweepResult.save` has written.")
    if fields is None:
        raise ValueError(f"{expected} {path} of format {shorten(repr(version))}.")
    return fields


_VALUES = ("metric", "maximize", "seeds", "steps_asked", "steps_trained")
_ARRAYS = ("horizons", "evaluated", "diverged", "stopped")
_CURVES = ("train", "validation")


@dataclasses.dataclass(frozen=True)
class _Trial:
    """The JSON of a trial."""

    name: str
    settings: dict[str, Any]
    schedules: dict[str, dict[str, Any]]
    kind: str = ""


@dataclasses.dataclass(frozen=True)
class _Meta:
    """The JSON of a result."""

    trials: list[_Trial]
    metric: str
    maximize: bool
    seeds: list[int]
    steps_asked: int
    steps_trained: int
    info: dict[str, Any]


def _result_fields(data: Any, arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    """The fields of a result from its JSON and arrays, each of its declared type and shape."""
    meta: _Meta = typed(_Meta, data, "the result")
    if missing := {*_ARRAYS} - arrays.keys():
        raise Damaged(f"no array {min(missing)!r}")
    fields = {
        **{name: getattr(meta, name) for name in _VALUES},
        "trials": tuple(_decoded_trial(trial, f"trial {i}") for i, trial in enumerate(meta.trials)),
        "seeds": checked_seeds("seeds", meta.seeds),
        "info": typed(RunInfo, meta.info, "info"),
        **{name: arrays[name] for name in _ARRAYS},
        **{group: {} for group in _CURVES},
    }
    for name, array in arrays.items():
        group, _, metric = name.partition("/")  # a metric's own name may hold another slash
        if group in _CURVES:
            fields[group][metric] = array
    _check_arrays(fields, arrays)
    return fields


def _check_arrays(fields: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
    """Raises Damaged unless all parts of a result fit together."""
    shape = arrays["diverged"].shape
    runs = (len(fields["trials"]), *shape[1:2], len(fields["seeds"]))
    horizons, evaluated = arrays["horizons"], arrays["evaluated"]
    # Of another dtype it is refused below, by its name.
    longest = int(horizons.max(initial=0)) if horizons.dtype == np.int64 else 0
    wanted: dict[str, Expected] = dict.fromkeys(("horizons", "stopped"), (np.int64, runs[:1]))
    wanted |= {"diverged": (np.int64, runs), "evaluated": (np.int64, (evaluated.size,))}
    for group, length in zip(_CURVES, (longest, evaluated.size), strict=True):
        wanted |= {f"{group}/{name}": (np.float32, (*runs, length)) for name in fields[group]}
    check_arrays(arrays, wanted)

    def in_steps(name: str) -> bool:
        return bool(np.all((arrays[name] >= -1) & (arrays[name] <= longest)))

    # Values read by position must have one: the final score is at the horizon, say.
    conditions = {
        "there must be at least one run": 0 not in runs,
        "evaluated must increase from 1 up": np.all(np.diff(evaluated, prepend=0) >= 1),
        "all horizons must be evaluated": np.isin(horizons, evaluated).all(),
        "the updates must have a loss": "loss" in fields["train"],
        f"{fields['metric']!r} must be a validation metric": fields["metric"]
        in fields["validation"],
        "diverged must be -1 or a step": in_steps("diverged"),
        "stopped must be -1 or a step": in_steps("stopped"),
    }
    if broken := [text for text, holds in conditions.items() if not holds]:
        raise Damaged(broken[0])


def _decoded_trial(data: _Trial, where: str) -> Trial:
    """The trial of ``_trial_data``, without its recipe."""
    schedules = {
        name: _decoded_schedule(schedule, f"{where}, schedule of {shorten(repr(name))}")
        for name, schedule in data.schedules.items()
    }
    settings = {
        name: _decoded_setting(value, f"{where}, setting {shorten(repr(name))}")
        for name, value in data.settings.items()
    }
    return Trial(data.name, settings, schedules, data.kind)


def _decoded_schedule(data: dict[str, Any], where: str) -> Followed:
    """One schedule or controller: ``from_dict`` also knows other classes, and populations."""
    decoded = from_dict(data)
    if not isinstance(decoded, Followed) or _axes.size(decoded) is not None:
        raise Damaged(f"{where} must be one schedule or controller, got {shorten(repr(decoded))}")
    return decoded


def _decoded_setting(value: object, where: str) -> object:
    """A share is the only setting in computations of tables that JSON has no type for."""
    if isinstance(value, list):
        return [_decoded_setting(one, where) for one in value]
    if not isinstance(value, dict):
        return value
    if not isinstance(decoded := from_dict(value), share):
        raise Damaged(f"{where} must be a number, a text or a share, got {shorten(repr(decoded))}")
    return decoded


def _schedule_data(followed: Followed, steps: int) -> dict[str, Any]:
    """A schedule or controller as data; code by its values, since a sweep saw only these."""
    try:
        return to_dict(followed)
    except TypeError:
        # Files hold data, never code. The table ends with the run, and holds its last value.
        return to_dict(_tabulated(followed, steps))


def _tabulated(followed: Followed, steps: int) -> Followed:
    """The values of a schedule; for a controller the values of its base: it decides by itself."""
    if isinstance(followed, AbstractController):
        changed: Any = followed
        return cast(Followed, dataclasses.replace(changed, base=_tabulated(changed.base, steps)))
    return Table(sample(followed, steps))
