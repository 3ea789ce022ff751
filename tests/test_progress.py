"""The line on a terminal: it ends where the sweep does, at a hundred percent."""

import jax
import pytest
from sweep_tasks import Plain

import jaxsched as js
from jaxsched import search
from jaxsched.controllers import Plateau
from jaxsched.search import SuccessiveHalving

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
def test_progress_ends_at_a_hundred_percent(trials, arguments, capsys):
    arguments = {"steps": 60, "devices": jax.local_devices()[:1], **arguments}
    search.sweep(Plain(), trials, progress=True, **arguments)
    assert_ended(capsys, len(trials))


def test_so_does_that_of_a_sweep_that_goes_on_from_a_checkpoint(tmp_path, capsys):
    arguments = {"steps": 60, "checkpoint": tmp_path, "stopping": SuccessiveHalving(10, 2)}
    for _ in range(2):  # the second time all is there already
        search.sweep(Plain(), RATES, progress=True, **arguments)
        assert_ended(capsys, len(RATES))


def assert_ended(capsys, trials):
    line = "".join(capsys.readouterr().err.split())  # rich breaks lines
    assert "100%" in line and f"{trials}/{trials}trials" in line, line
