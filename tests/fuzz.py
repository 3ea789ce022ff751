"""Mutations over every reader of files and texts.

    python tests/fuzz.py 20000 [seed] [reader]

A reader may give what was written, or something else that was written on purpose (with its digests)
and works, or one kind of error that says what and where. It is wrong if it raises another error, if
what it gives fails later, and above all if damage gives something else in silence.
"""

from __future__ import annotations

import collections
import dataclasses
import functools
import json
import math
import os
import random
import re
import shutil
import sys
import tempfile
import time
import traceback
import warnings
from pathlib import Path

import jax
from cases import ALL
from mutations import (
    forged,
    mutated_bytes,
    mutated_json,
    mutated_text,
    mutated_zip,
)
from sweep_tasks import Plain, interrupted

import jaxsched as js
from jaxsched import _axes, _serialize, search
from jaxsched.controllers import AbstractController

CONTROLLERS = [
    js.Plateau(js.cosine_decay(0.1, 100), factor=0.5, patience=3),
    js.NewBob(js.Constant(0.1)),
    js.Greedy(js.Constant(0.1)),
    js.Bounce(js.Constant(0.1)),
]


class Wrong(Exception):
    """What a reader must not do."""


# ------------------------------------------------------------------------------------------ results


@functools.cache
def results():
    """One of several kinds, folds and stops, and two shards of another."""
    code = {"learning_rate": js.from_fn(lambda step: 0.1 / (1 + step), steps=12)}
    trials = (
        *search.grid(
            {"linear": js.warmup_linear, "=cosine": js.warmup_cosine},
            peak=[0.1, 1e30],
            warmup=[0, 2],
            steps=12,
        ),
        search.Trial("code\r\n", {"share": js.share(0.1), "list": [1, js.share(0.2)]}, code),
        search.Trial("", {}, {"learning_rate": js.Plateau(js.Constant(0.1, 12), 0.5, 3)}),
    )
    run = functools.partial(search.sweep, Plain(), trials, steps=12, seeds=2, evaluate_every=4)
    return run(stopping=search.SuccessiveHalving(4, 2)), run(shard=(0, 2)), run(shard=(1, 2))


def written(result, path):
    """The bytes of a saved result."""
    result.save(path)
    return path.read_bytes()


def content(result):
    """All of it, bit by bit."""
    curves = {**result.train, **{f"v/{n}": c for n, c in result.validation.items()}}
    arrays = [result.horizons, result.evaluated, result.diverged, result.stopped, *curves.values()]
    info = dataclasses.replace(result.info, traces={})
    rest = (result.trials, result.metric, result.maximize, result.seeds, info, list(curves))
    return repr(rest), result.steps_asked, result.steps_trained, [x.tobytes() for x in arrays]


def use_result(result, rng):
    """What people do with a result. Only the ranking may say that it cannot."""
    str(result.table()), repr(result), result.rows(), result.to_csv(), result.to_json()
    result.table().markdown(), result.scores(), result.ranking(), result.info["width"]
    for trial in result.trials:
        for schedule in trial.schedules.values():
            use_schedule(schedule)
    for call in (result.best, result.edges, result.compare):
        try:
            repr(call())
        except ValueError as error:
            if not str(error).startswith(("SweepResult", "best(", "compare(")):
                raise
    if rng.random() < 0.1:
        with tempfile.TemporaryDirectory() as folder:
            result.save(f"{folder}/r.npz")
            assert content(search.load(f"{folder}/r.npz")) == content(result)


def result_reader(rng, folder):
    path = folder / "r.npz"
    data = written(results()[0], path)
    path.write_bytes(data)
    good = content(search.load(path))

    def attempt():
        mutate = rng.choice([mutated_bytes, mutated_zip, forged, forged])
        path.write_bytes(mutate(data, rng))
        found = search.load(path)
        if content(found) == good:
            return "same"
        if mutate is not forged:
            raise Wrong(f"in silence, by {mutate.__name__}")
        use_result(found, rng)
        return "other"

    return attempt


def merge_reader(rng, folder):
    shards = [written(result, folder / "r.npz") for result in results()[1:]]
    paths = [folder / "0.npz", folder / "1.npz"]
    for path, data in zip(paths, shards, strict=True):
        path.write_bytes(data)
    good = content(search.merge(paths))

    def attempt():
        mutate, which = rng.choice([mutated_zip, forged, forged, forged]), rng.randrange(2)
        paths[which].write_bytes(mutate(shards[which], rng))
        paths[1 - which].write_bytes(shards[1 - which])
        found = search.merge(paths)
        if content(found) == good:
            return "same"
        if mutate is not forged:
            raise Wrong("in silence")
        use_result(found, rng)
        return "other"

    return attempt


# -------------------------------------------------------------------------------------------- store


def _interrupted(folder, run):
    """A store with the states of open runs, and with those at the ends of stages."""
    interrupted(folder, 5, run)
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def _obstructed(path, data, folder, rng):
    """Something else in place of a file, or the file under another name."""
    path.unlink()
    match rng.randrange(6):
        case 0:
            path.mkdir()
        case 1:
            os.mkfifo(path)
        case 2:
            path.symlink_to(rng.choice(["/etc/passwd", "/dev/zero", "nothing", path.name, "."]))
        case 3:
            names = [p.name for p in folder.iterdir()] or ["x"]
            (folder / rng.choice([f"x{path.name}", "states-0-1.npz", *names])).write_bytes(data)
        case 4:
            (folder / f"{path.name}.0.tmp").symlink_to("/etc/passwd")
            (folder / f"{path.stem}.orbax").symlink_to("/etc")


def store_reader(rng, folder):
    trials = [js.Constant(0.1, 8), js.wsd(0.1, 12, decay=4, warmup=0), js.Constant(1e30, 12)]
    run = functools.partial(search.sweep, Plain(), trials, seeds=2, evaluate_every=4)
    kept = functools.partial(run, checkpoint_every=0.0)
    store = lambda path, **more: kept(checkpoint=path, **more)
    good = content(run())[3]
    files = [_interrupted(folder, store)]
    store(folder)
    files.append({path.name: path.read_bytes() for path in folder.iterdir()})

    def attempt():
        mutate = rng.choice([mutated_bytes, mutated_zip, forged, forged, None])
        shutil.rmtree(folder)
        folder.mkdir()
        there = rng.choice(files)
        for name, data in there.items():
            (folder / name).write_bytes(data)
        name = rng.choice(sorted(there))
        if mutate:
            (folder / name).write_bytes(mutate(there[name], rng))
        else:
            _obstructed(folder / name, there[name], folder, rng)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "sweep")  # which name what is damaged
            found = store(folder)
        if content(found)[3] == good:
            return "same"
        if mutate is not forged:
            raise Wrong("in silence")
        use_result(found, rng)
        return "other"

    return attempt


# ---------------------------------------------------------------------------------------- schedules


def use_schedule(schedule):
    repr(schedule), hash(schedule), schedule == schedule
    js.from_json(js.to_json(schedule))
    if isinstance(schedule, AbstractController):
        schedule.init()
    elif isinstance(schedule, js.share):
        schedule.of(100)
    elif (members := _axes.size(schedule)) is not None:
        use_schedule(js.unstack(schedule)[members // 2])
    else:
        schedule.duration, schedule(0), schedule(3), schedule(10**6)


def is_told(given, found):
    """Whether a file's JSON is in that of what was read: numbers may be rounded, None omitted."""
    if isinstance(given, dict) and given.keys() == {"float64"}:
        given = given["float64"]
    if isinstance(found, dict) and found.keys() == {"float64"}:
        found = found["float64"]
    if isinstance(found, dict) and not isinstance(given, dict):  # a number in place of a schedule
        return found.get("type") == "Constant" and is_told(given, found["value"])
    if isinstance(given, dict) and isinstance(found, dict):
        return all(
            x is None if name not in found else is_told(x, found[name]) for name, x in given.items()
        )
    if isinstance(given, list) and isinstance(found, list):
        alike = len(given) == len(found) and all(map(is_told, given, found))
        return alike or all(isinstance(x, list) and is_told(given, x) for x in found)
    if isinstance(found, list):  # what all members of a population have
        return isinstance(given, (int, float)) and all(is_told(given, x) for x in found)
    if isinstance(given, bool) or not isinstance(given, (int, float)):
        return type(given) is type(found) and given == found
    return isinstance(found, (int, float)) and math.isclose(
        given, found, rel_tol=1e-6, abs_tol=1e-37
    )


def schedule_reader(kind, rng, folder):
    population = js.stack([js.cosine_decay(peak, 9) for peak in (0.1, 0.2)])
    plain = [*filter(None, map(_plain, ALL.values())), *map(js.to_dict, [*CONTROLLERS, population])]

    def attempt():
        data = rng.choice(plain)
        if kind == "json":
            text = mutated_text(data, rng)
            if rng.random() < 0.1:
                text = mutated_bytes(text.encode(), rng)
            found = js.from_json(text)
            given = json.loads(text)
        else:
            given = mutated_json(data, rng)
            found = js.from_dict(given)
        told = js.to_dict(found)
        if told == data:
            return "same"
        if kind == "json" and not is_told(given, told):
            raise Wrong(f"in silence: {given} is {told}")
        use_schedule(found)
        return "other"

    return attempt


def _plain(schedule):
    try:
        return js.to_dict(schedule)
    except TypeError:  # of code
        return None


READERS = {
    "load": result_reader,
    "merge": merge_reader,
    "sweep(checkpoint=...)": store_reader,
    "from_json": functools.partial(schedule_reader, "json"),
    "from_dict": functools.partial(schedule_reader, "dict"),
}


def fuzz(reader, count, seed=0):
    """Outcome -> how often, and the wrong ones with what they were."""
    rng, counts, wrong = random.Random(f"{reader} {seed}"), collections.Counter(), []
    with tempfile.TemporaryDirectory() as folder:
        attempt = READERS[reader](rng, Path(folder))
        for number in range(count):
            try:
                outcome = attempt()
            except ValueError as error:
                # An error of the reader, not of what was done with the result.
                frames = [f.name for f in traceback.extract_tb(error.__traceback__)]
                outcome = "fails later" if {"use_result", "use_schedule"} & {*frames} else "refused"
                if outcome != "refused" or "checkpoint" in reader:
                    wrong.append((number, outcome, traceback.format_exc(limit=-4)))
                elif type(error) not in (ValueError, _serialize.UnknownType):
                    wrong.append((number, f"{type(error)}", str(error)))
            except Exception as error:
                outcome = type(error).__name__
                wrong.append((number, outcome, traceback.format_exc(limit=-6)))
            counts[outcome] += 1
    return counts, wrong


if __name__ == "__main__":
    count, seed = int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0
    chosen = sys.argv[3:] or list(READERS)
    jax.config.update("jax_platforms", "cpu")
    total = 0
    for reader in chosen:
        began = time.monotonic()
        counts, wrong = fuzz(reader, count // len(chosen), seed)
        total += len(wrong)
        print(f"{reader}: {dict(counts)}, {len(wrong)} wrong, {time.monotonic() - began:.0f} s")
        unlike = {re.sub(r"'.*?'|\d+", "", text)[-150:]: (n, what, text) for n, what, text in wrong}
        for number, what, text in list(unlike.values())[:15]:
            print(f"--- {number} {what}\n{text[-1500:]}")
    print(f"{total} wrong")
