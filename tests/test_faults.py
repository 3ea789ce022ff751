"""What goes wrong around a sweep, and what it then promises. More of it is tested elsewhere:

kills, signals, bit flips, a full disk, other sweeps' directories and dead owners in
``test_sweep_checkpoint.py``; neighbours of a diverged run in ``test_sweep.py``; bad tasks and
arguments in ``test_task_errors.py`` and ``test_trials.py``; more folds than samples in
``test_sweep_folds.py``; shards that die in ``test_sweep_devices.py``.
"""

import dataclasses
import errno
import functools
import inspect
import io
import itertools
import json
import math
import os
import pickle
import re
import signal
import sys
import time
import warnings
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from matplotlib.figure import Figure
from sweep_tasks import Plain, shared, supervised

import jaxsched as js
from jaxsched import search
from jaxsched.controllers import Plateau
from jaxsched.search import Trial, _progress, _signals
from jaxsched.search.engine import _engine, _width

TRIALS = [js.Constant(0.1), js.wsd(0.1, 12, 0, decay=4)]


def sweep(task=None, trials=TRIALS, **arguments):
    arguments = {"steps": 12, "devices": jax.local_devices()[:1], **arguments}
    return search.sweep(task or shared(Plain), trials, **arguments)


def curves(result):
    return [values.tobytes() for values in (*result.train.values(), *result.validation.values())]


# ------------------------------------------------------------------------------------- divergence


@pytest.mark.parametrize("width", [1, 2])
def test_absurd_rates_rank_last_and_harm_no_other(width):
    nothing = js.from_fn(lambda step: jnp.nan * step)
    infinite = 1e30 * js.Constant(1e30)
    trials = [js.Constant(1e-3), js.Constant(0.1), js.Constant(1e30), nothing, infinite]
    result = sweep(trials=trials, width=width)
    assert (result.diverged[:, 0, 0] >= 0).tolist() == [False, False, True, True, True]
    assert result.ranking()[:2] == [1, 0]
    assert curves(sweep(trials=trials[:2], width=width)) == [
        values[:2].tobytes() for values in (*result.train.values(), *result.validation.values())
    ]


class Hollow(Plain):
    """Trains well, and is never seen to."""

    def evaluate(self, state):
        return {"loss": jnp.nan * jnp.sum(state)}


def test_nothing_finite_is_no_best_trial():
    result = sweep(Hollow(), limit=10**400)  # beyond float64, and so without a limit
    with pytest.raises(ValueError, match="got none of 2; no run diverged"):
        result.best()
    result = sweep(trials=[js.Constant(1e30), js.Constant(1e29)], limit=1e3)
    first = result.diverged.min()
    with pytest.raises(ValueError, match=rf"none of 2; the first run diverged at step {first}\. "):
        result.best()


# --------------------------------------------------------------------------------------- clock


def test_nothing_but_monotonic_time_is_measured():
    root = Path(js.__file__).parent
    for path in root.rglob("*.py"):
        assert "time.time(" not in path.read_text(), path
        assert "datetime" not in path.read_text(), path


def test_a_clock_that_goes_back(tmp_path, monkeypatch):
    whole = curves(sweep())
    before = itertools.count(0, -3600)  # from 1970 backwards
    monkeypatch.setattr(time, "time", lambda: float(next(before)))
    result = sweep(checkpoint=tmp_path, checkpoint_every=0.0, progress=True)
    assert result.info["seconds"] > 0
    assert curves(result) == curves(sweep(checkpoint=tmp_path)) == whole


# ----------------------------------------------------------------------------------- trials, names


def test_duplicates_are_trained_once():
    once = sweep(trials=[js.Constant(0.1)])
    trials = [js.Constant(0.1), js.constant(0.1), Trial("same", {}, {"learning_rate": TRIALS[0]})]
    result = sweep(trials=trials)
    assert result.steps_trained == once.steps_trained == 12
    assert result.steps_asked == 36
    assert result.ranking() == [0, 1, 2]
    for i in range(3):
        assert result.train["loss"][i].tobytes() == once.train["loss"].tobytes()


HOSTILE = [
    "=1+1",
    "@SUM(A1)",
    "[bold red]x[/]",
    r"$\frac{$",
    "../../etc/passwd",
    "a/b\0c",
    "two\nlines",
    "\x1b]0;title\x07",
    "",
    "ß∂ 学",
    "\ud800",
]


class Named(Plain):
    """With a metric of a hostile name."""

    def __init__(self, name):
        self.name = name

    def evaluate(self, state):
        return {"loss": jnp.sum(state**2), self.name: jnp.sum(state**2)}


@pytest.mark.filterwarnings("ignore:Glyph")  # not every font has all of them
def test_names_may_hold_anything(tmp_path):
    trials = [
        Trial(name, {name: 0.1, "shape": name}, {"learning_rate": js.Constant(0.1 / (i + 1))})
        for i, name in enumerate(HOSTILE)
    ]
    result = sweep(trials=trials, checkpoint=tmp_path / "run")
    assert curves(sweep(trials=trials, checkpoint=tmp_path / "run")) == curves(result)
    result.save(tmp_path / "r.npz")
    result.to_csv(tmp_path / "r.csv")
    result.to_json(tmp_path / "r.json")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["r.csv", "r.json", "r.npz", "run"]
    assert [t.name for t in search.load(tmp_path / "r.npz").trials] == HOSTILE
    assert [row["name"] for row in json.loads((tmp_path / "r.json").read_text())] == HOSTILE
    draw(result)
    draw(result, "shape")
    shared = [dataclasses.replace(t, settings={HOSTILE[3]: t.name, "$": 1}) for t in result.trials]
    draw(dataclasses.replace(result, trials=tuple(shared)), HOSTILE[3], "$")


@pytest.mark.parametrize("name", ["=1+1", r"$\frac{$", "../x", "a/b/c\0d", "two\nlines\ud800"])
def test_metrics_may_have_any_name(tmp_path, name):
    result = sweep(
        Named(name), metric=name, maximize=False, checkpoint=tmp_path / "run", checkpoint_every=0.0
    )
    again = sweep(Named(name), metric=name, maximize=False, checkpoint=tmp_path / "run")
    result.save(tmp_path / "r.npz")
    for other in (again, search.load(tmp_path / "r.npz")):
        assert other.validation[name].tobytes() == result.validation[name].tobytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["r.npz", "run"]
    assert ",=" not in result.to_csv()
    draw(result)


def test_progress_shows_a_name_as_text(monkeypatch, capsys):
    monkeypatch.setattr(_progress, "_SECONDS", 0.0)
    trial = Trial("[b]\x1b]0;title\x07\n", {}, {"learning_rate": js.Constant(0.1)})
    sweep(trials=[trial], progress=True)
    shown = "".join(capsys.readouterr().err.split())  # rich breaks lines
    assert r"([b]\x1b]0;title\x07\n)" in shown


def draw(result, *names):
    figure = Figure()
    result.plot(*names, ax=figure.subplots())
    figure.savefig(io.BytesIO())


# ------------------------------------------------------------------------------ disk and directory


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs /proc")
def test_a_directory_that_nobody_can_write():
    with pytest.raises(ValueError, match=r"sweep\(checkpoint=...\) must be a directory that can"):
        sweep(checkpoint="/proc/jaxsched")


def test_a_full_disk_leaves_a_saved_result(tmp_path, monkeypatch):
    def full(number, descriptor):
        raise OSError(number, os.strerror(number))

    result = sweep()
    result.save(tmp_path / "r.npz")
    limits = r"no space left on the disk \(or within its limits\)"
    texts = {errno.ENOSPC: limits, errno.EFBIG: limits, errno.EIO: "Input/output error"}
    for number, text in texts.items():
        monkeypatch.setattr(os, "fsync", functools.partial(full, number))
        with pytest.raises(OSError, match=rf"{text} in writing .*r.npz; what was saved before is"):
            result.save(tmp_path / "r.npz")
    assert [p.name for p in tmp_path.iterdir()] == ["r.npz"]
    assert curves(search.load(tmp_path / "r.npz")) == curves(result)


# ----------------------------------------------------------------------------- signals and memory


@pytest.fixture
def handled():
    """Sets what SIGINT does: a shell that starts the tests in the background has it ignored."""
    before = signal.getsignal(signal.SIGINT)
    yield functools.partial(signal.signal, signal.SIGINT)
    signal.signal(signal.SIGINT, before)


def test_the_second_ctrl_c_is_at_once(handled):
    handled(signal.default_int_handler)
    stopped = []
    with _signals.graceful(lambda: stopped.append(1)) as came:
        signal.raise_signal(signal.SIGINT)
        assert (came, stopped) == ([signal.SIGINT], [1])
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_the_second_sigterm_leaves_the_time_to_save(handled):
    handled(signal.default_int_handler)
    before = signal.getsignal(signal.SIGTERM)
    with _signals.graceful(lambda: None) as came:
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert came == [signal.SIGTERM] and signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize("share", [0.0, 0.8])
def test_ctrl_c_without_a_checkpoint_returns_what_has_ended(handled, monkeypatch, tmp_path, share):
    handled(signal.default_int_handler)
    trials = {f"rate {rate}": js.Constant(rate) for rate in (0.01, 0.1, 1e30, 0.2, 0.3)}
    arguments = {"trials": trials, "seeds": 2, "devices": jax.local_devices()[:1]}
    collect, calls = _engine.Engine._collect, itertools.count()

    def interrupted(self, *told):
        if next(calls) == at:
            signal.raise_signal(signal.SIGINT)
        return collect(self, *told)

    monkeypatch.setattr(_engine.Engine, "_collect", interrupted)
    at = -1
    whole = sweep(**arguments)
    at, calls = int(share * next(calls)), itertools.count()
    words = "Ctrl-C after [0-9]+ updates: the result is partial"
    with pytest.warns(UserWarning, match=words), warnings.catch_warnings(action="error"):
        found = sweep(**arguments)
    monkeypatch.undo()
    assert found.partial and not whole.partial
    ended = np.isfinite(found.final()).all(axis=(1, 2))
    assert 0 < ended.sum() < 4 or share == 0
    assert found.train["loss"][ended].tobytes() == whole.train["loss"][ended].tobytes()
    order = found.ranking()
    assert ended[order[: ended.sum()]].all(), "the others come last"
    saved = found.info.saved
    assert (saved["stopped"], "unfinished" in whole.info.saved) == (0, False)
    assert found.steps_trained + sum(saved.values()) == found.steps_asked
    assert saved["shared"] == 0 < saved["unfinished"]
    found.save(tmp_path / "partial.npz")
    again = search.load(tmp_path / "partial.npz")
    assert again.partial
    texts = repr(again), str(again.table()), again.summary(), again.plot().get_title()
    for text in (*texts, *([str(again.compare())] if ended.any() else [])):
        assert re.search(r"\(partial: [2-5] unfinished\)", text)
    lacking = np.isnan(found.final()) & (found.diverged < 0)
    columns = [row["unfinished runs"] for row in again.rows()]
    assert columns == lacking.sum(axis=(1, 2)).tolist()
    assert "unfinished runs" in again.to_csv() and "unfinished runs" in again.to_json()
    assert "unfinished runs" not in whole.rows()[0]
    assert "unfinished" in str(again.table()).split("\n", 1)[1]


def test_a_signal_that_is_ignored_stays_ignored(handled):
    """So does a sweep in the background of a shell, at the Ctrl-C for another program."""
    handled(signal.SIG_IGN)
    with _signals.graceful(pytest.fail) as came:
        signal.raise_signal(signal.SIGINT)
    assert came == [] and signal.getsignal(signal.SIGINT) is signal.SIG_IGN


def test_what_does_not_fit_into_memory_is_not_made_wider(monkeypatch):
    monkeypatch.setattr(_width, "device_memory", lambda device, pages: 0.0)
    monkeypatch.setattr(_width, "_SHARE", math.inf)  # however short it is
    many = [js.Constant(0.01 * (i + 1)) for i in range(8)]
    result = sweep(trials=many, width="auto")
    assert result.info["width"] == 1


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"seeds": [2**32]}, ValueError),  # the key of seed 0: JAX takes the low 32 bits
        ({"seeds": 1.5}, (TypeError, ValueError)),
        ({"limit": "3"}, (TypeError, ValueError)),
        ({"devices": []}, ValueError),
        ({"devices": "cpu"}, ValueError),
        ({"devices": 2}, ValueError),
        ({"checkpoint": 3}, TypeError),
        ({"width": np.array([1, 2])}, TypeError),
        ({"maximize": "no"}, TypeError),
        ({"share_prefixes": "no"}, TypeError),
        ({"progress": "no"}, TypeError),
        ({"shard": 3}, (TypeError, ValueError)),
        ({"stopping": "halving"}, TypeError),
        ({"metric": ["loss"]}, (TypeError, ValueError)),
        ({"checkpoint": "run", "checkpoint_every": -1.0}, ValueError),
        ({"checkpoint": "run", "checkpoint_every": math.nan}, ValueError),
    ],
    ids=str,
)
def test_bad_arguments_are_named(tmp_path, monkeypatch, arguments, error):
    monkeypatch.chdir(tmp_path)
    name = list(arguments)[-1]
    with pytest.raises(error, match=rf"sweep\({name}=...\) must be"):
        sweep(**arguments)


@pytest.mark.parametrize(
    ("function", "name", "words"),
    [
        (search.sweep, "epochs", "sweep has no argument epochs; js.Units makes"),
        (search.sweep, "watch", "sweep has no argument watch; it is called monitor here"),
        (search.sweep, "share", "share; it is called share_prefixes here"),
        (search.sweep, "n_splits", "n_splits; it is called folds here"),
        (search.range_test, "start_lr", "start_lr; it is called start here"),
        (search.range_test, "num_training", "num_training; it is called steps here"),
        (search.Supervised, "optimiser", r"did you mean optimizer.* \(model, optimizer,"),
        (search.MedianRule, "evry", r"MedianRule .*did you mean every.* \(every, grace\)"),
        (search.SuccessiveHalving, "frist", r"did you mean first.* \(first, eta\)"),
    ],
)
def test_an_argument_that_there_is_not_is_named_with_ours(function, name, words):
    with pytest.raises(TypeError, match=words):
        function(**{name: 3})


@pytest.mark.parametrize(
    ("function", "given", "words"),
    [
        (search.grid, 2, r"grid takes (recipe) and, by name, (**arguments), got 2 positional"),
        (search.sampled, 3, "sampled takes (recipe, count) and, by name, (seed, method, **arg"),
        (search.sweep, 3, "sweep takes (task, trials) and, by name, (steps, seeds,"),
        (
            js.override,
            2,
            "override takes (opt_state) and, by name, (group, scale, **values), got 2",
        ),
        (search.MedianRule, 3, "MedianRule takes (every, grace), got 3 positional arguments."),
    ],
)
def test_too_many_positional_arguments_are_told_with_the_names(function, given, words):
    with pytest.raises(TypeError, match=re.escape(words)):
        function(*range(given))


def test_functions_that_name_arguments_keep_their_signatures():
    assert list(inspect.signature(search.sweep).parameters)[:3] == ["task", "trials", "steps"]
    assert list(inspect.signature(search.MedianRule).parameters) == ["every", "grace"]
    assert pickle.loads(pickle.dumps(search.range_test)) is search.range_test


@pytest.mark.parametrize("two", [2, 2.0, np.int64(2), np.array(2), jnp.int32(2)], ids=repr)
def test_a_whole_number_may_be_of_any_kind(two):
    assert sweep(seeds=two).seeds == (0, 1)


@pytest.mark.parametrize("arguments", [{}, {"width": 2}, {"width": "auto"}, {"checkpoint": "run"}])
def test_a_sweep_under_a_transfer_guard(tmp_path, monkeypatch, arguments):
    monkeypatch.chdir(tmp_path)
    task = supervised()
    trials = [js.Constant(0.1), js.Constant(0.2), Plateau(0.1, patience=0)]
    with jax.transfer_guard("disallow"):
        result = sweep(task, trials, evaluate_every=5, **arguments)
        search.final_score(task, result)


def test_a_width_that_was_measured_is_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(_width, "measured_width", lambda *arguments: 2)
    first = sweep(width="auto", checkpoint=tmp_path)
    monkeypatch.setattr(_width, "measured_width", lambda *arguments: 1)  # another moment
    again = sweep(width="auto", checkpoint=tmp_path)
    assert again.info["width"] == 2
    assert again.train["loss"].tobytes() == first.train["loss"].tobytes()


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: search.MedianRule(every=1.5), r"MedianRule\(every=...\) must be a whole"),
        (lambda: search.MedianRule(5, grace=1.5), r"MedianRule\(grace=...\) must be a whole"),
        (lambda: search.SuccessiveHalving(1.5), r"SuccessiveHalving\(first=...\) must be"),
    ],
)
def test_rungs_are_whole_steps(make, words):
    with pytest.raises(ValueError, match=words):
        make()
