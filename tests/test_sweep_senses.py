"""A controller gets a metric of its own sense: less or more of it is better for both."""

import contextlib

import numpy as np
import pytest
from sweep_tasks import Watched

import jaxsched as js
from jaxsched import search
from jaxsched.controllers import Greedy, NewBob, Plateau, Trigger

pytestmark = pytest.mark.optimized  # the bits of two programs

UP = Plateau(0.1, patience=0, mode="max")
UPWARDS = {"metric": "score", "maximize": True}


class Scored(Watched):
    def evaluate(self, state):
        metrics = super().evaluate(state)
        score = -metrics["loss"]
        return {**metrics, "score": score, "averaged score": score}

    test = evaluate


def sweep(trials, **arguments):
    return search.sweep(Scored(), trials, steps=90, evaluate_every=10, **arguments)


@pytest.mark.parametrize(
    ("controller", "arguments", "words"),
    [
        (UP, UPWARDS, r"Plateau\(mode='max'\) is told 'loss'.*monitor='score'.*or mode='min'"),
        (UP, {}, r"Plateau\(mode='max'\) is told 'loss', which is minimized.*monitor=\.\.\."),
        (UP, {"monitor": "averaged loss"}, "is told 'averaged loss', which is minimized"),
        (
            UP,
            {"metric": "score", "maximize": False, "monitor": "score"},
            r"own metric with maximize=False\. Write maximize=True if more.*or mode='min'",
        ),
        (
            Plateau(0.1),
            {**UPWARDS, "monitor": "score"},
            r"maximize=True\. Write maximize=False if less of 'score' is better, or mode='max'",
        ),
        (
            Plateau(0.1),
            {**UPWARDS, "monitor": "averaged score"},
            "told 'averaged score', the sweep",
        ),
        (Greedy(NewBob(0.1, mode="max")), UPWARDS, r"NewBob\(mode='max'\) is told 'loss'"),
        (Trigger(UP, js.Constant(0.5)), UPWARDS, r"Plateau\(mode='max'\) is told"),
        (
            js.AutoDecay(0.1),
            {**UPWARDS, "monitor": "score"},
            r"AutoDecay\(\.\.\.\) is told 'score'.*Write monitor=\.\.\. for the metric",
        ),
    ],
)
def test_a_controller_of_the_other_sense_is_refused(controller, arguments, words):
    with pytest.raises(ValueError, match=words):
        sweep([js.Constant(0.1), controller], **arguments)


@pytest.mark.parametrize(
    ("controller", "monitor", "words"),
    [
        (Plateau(0.1), "score", r"Plateau\(mode='min'\) takes less of 'score'.*write mode='max'"),
        (Greedy(0.1), "averaged score", r"Greedy\(mode='min'\) takes less of 'averaged sc"),
        (Trigger(Plateau(0.1), js.Constant(0.5)), "score", r"Plateau\(mode='min'\) takes less"),
        (js.AutoDecay(0.1), "score", r"AutoDecay takes less of .*score'.*write monitor=\.\.\. for"),
        (Plateau(0.1), "loss", None),
        (UP, "score", None),
    ],
)
def test_a_score_that_is_minimized_is_doubted_unless_it_is_said(controller, monitor, words):
    said = pytest.warns(UserWarning, match=words) if words else contextlib.nullcontext()
    with said:
        sweep([controller, controller], monitor=monitor)
    if monitor == "score" and controller is not UP:
        sweep([controller], monitor=monitor, metric="score", maximize=False)


def test_a_controller_of_the_right_sense_cuts_where_a_score_stagnates():
    up = sweep([UP], **UPWARDS, monitor="score")
    down = sweep([Plateau(0.1, patience=0)])
    final = search.final_score(Scored(), up).result
    for result in (up, final):
        rates = result.train["learning_rate"]
        np.testing.assert_array_equal(rates, down.train["learning_rate"])
