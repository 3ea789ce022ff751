"""The line on a terminal: it ends where the sweep does, at a hundred percent."""

import io
import sys

import jax
import pytest
from rich.progress import Progress
from sweep_tasks import Plain, shared

import jaxsched as js
from jaxsched import search
from jaxsched.controllers import Plateau
from jaxsched.search import SuccessiveHalving, _progress

RATES = [js.Constant(rate) for rate in (0.01, 0.02, 0.1)]
SHARED = [js.wsd(0.1, 60, 0, decay) for decay in (10, 20, 30)]
WATCHING = [Plateau(js.Constant(0.1), factor=0.5, patience=p) for p in (0, 1, 2)]
DIVERGING = [js.Constant(0.1), js.Constant(1e30)]


@pytest.mark.parametrize(
    ("trials", "arguments"),
    [
        (RATES, {}),
        (SHARED, {"seeds": 2}),
        (RATES, {"stopping": SuccessiveHalving(10, 2)}),
        (WATCHING, {"evaluate_every": 10}),
        (WATCHING, {"evaluate_every": 10, "stopping": SuccessiveHalving(15, 3)}),
        (DIVERGING, {"seeds": 2}),
        (DIVERGING, {"stopping": SuccessiveHalving(10, 2)}),
        (RATES, {"width": 2}),
        (SHARED, {"devices": None}),
        ([js.Linear(0.1, 0.0, n) for n in (10, 30)], {"steps": None}),
    ],
    ids=[
        "plain",
        "shared",
        "halving",
        "controllers",
        "halved controllers",
        "diverged",
        "halved and diverged",
        "wide",
        "two devices",
        "own lengths",
    ],
)
def test_progress_ends_at_a_hundred_percent(trials, arguments, capsys, updates):
    arguments = {"steps": 60, "devices": jax.local_devices()[:1], **arguments}
    search.sweep(shared(Plain), trials, progress=True, **arguments)
    assert_ended(capsys, len(trials))
    assert_rises(updates)


def test_that_of_a_range_test_counts_seeds(capsys, updates):
    for start in (1e-4, 1e15):  # the second diverges at once
        js.range_test(shared(Plain), start, 1e20, steps=40, seeds=3, progress=True)
        assert_ended(capsys, 3, "seeds")
        assert_rises(updates)
    js.range_test(shared(Plain), steps=40)
    assert not capsys.readouterr().err


def test_while_a_function_is_compiled_it_says_so(updates):
    task = Plain()
    search.sweep(task, RATES, steps=20, progress=True)
    notes = [update["note"] for update in updates if "note" in update]
    for name in ("init", "segment", "evaluate"):
        at = [i for i, note in enumerate(notes) if note.endswith(f"compiling {name}")]
        assert at and all("compiling" not in note for note in notes[at[-1] + 1 :][-1:])
    updates.clear()
    search.sweep(task, RATES, steps=20, progress=True)
    assert not any("compiling" in update.get("note", "") for update in updates)


def test_a_notebook_shows_it_without_being_asked(monkeypatch):
    stream = type("OutStream", (io.StringIO,), {"__module__": "ipykernel.iostream"})()
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setitem(sys.modules, "ipywidgets", None)
    search.sweep(shared(Plain), RATES, steps=20)
    shown = stream.getvalue().split("\r")  # each draws over the one before
    assert len(shown) > 1 and shown[-1].count("\n") == 1 and "100%" in shown[-1]
    monkeypatch.setattr(sys, "stderr", io.StringIO())  # a file is left alone
    search.sweep(shared(Plain), RATES, steps=20)
    assert not sys.stderr.getvalue()


class Gone(io.StringIO):
    """A terminal that goes away after some writes, with an error of a device, a pipe or a file."""

    def __init__(self, writes, error):
        super().__init__()
        self.left, self.error = writes, error

    def isatty(self):
        return True

    def write(self, text):
        self.left -= 1
        if self.left < 0:
            raise self.error
        return len(text)


@pytest.mark.parametrize("progress", [None, True])
@pytest.mark.parametrize(
    "stream",
    [
        None,  # of pythonw, and of services
        object(),
        *(Gone(n, error) for n in (0, 3) for error in (OSError(5, "gone"), ValueError("closed"))),
    ],
)
def test_a_terminal_that_is_missing_or_goes_away_ends_no_sweep(stream, progress, monkeypatch):
    monkeypatch.setattr(sys, "stderr", stream)
    assert search.sweep(shared(Plain), RATES, steps=20, progress=progress).best().index == 2


def test_so_does_that_of_a_sweep_that_goes_on_from_a_checkpoint(tmp_path, capsys):
    arguments = {"steps": 60, "checkpoint": tmp_path, "stopping": SuccessiveHalving(10, 2)}
    for _ in range(2):  # the second time all is there already
        search.sweep(shared(Plain), RATES, progress=True, **arguments)
        assert_ended(capsys, len(RATES))


@pytest.fixture
def updates(monkeypatch):
    """What every update of the line was given, after every segment."""
    seen, update = [], Progress.update
    monkeypatch.setattr(_progress, "_SECONDS", 0.0)
    monkeypatch.setattr(_progress, "_SHARE", float("inf"))
    monkeypatch.setattr(
        Progress, "update", lambda self, *a, **how: (seen.append(how), update(self, *a, **how))[1]
    )
    return seen


def assert_rises(updates):
    done = [update["completed"] for update in updates if "completed" in update]
    assert done == sorted(done) and len(done) > 1
    updates.clear()


def assert_ended(capsys, count, of="trials"):
    line = "".join(capsys.readouterr().err.split())  # rich breaks lines
    assert "100%" in line and f"{count}/{count}{of}" in line, line


def test_progress_is_silent_unless_asked(capsys):
    trials = [js.Constant(0.1), js.Constant(0.2)]
    search.sweep(shared(Plain), trials, steps=5)
    assert capsys.readouterr() == ("", "")
    search.sweep(shared(Plain), trials, steps=5, progress=True)
    out, err = capsys.readouterr()
    assert out == ""
    assert "trials" in err


def test_progress_without_rich(monkeypatch):
    monkeypatch.setitem(sys.modules, "rich.console", None)
    with pytest.raises(ImportError, match="needs rich"):
        search.sweep(shared(Plain), [js.Constant(0.1)], steps=5, progress=True)
