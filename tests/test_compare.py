"""Kinds at their own best settings: a table by hand with known answers, and the test data."""

import dataclasses

import numpy as np
import pytest
from identity_tasks import Line
from results_by_hand import result_of
from sweep_tasks import Plain

import jaxsched as js
from jaxsched import search
from jaxsched.search import final_scores, grid, sweep

NAN = np.nan
KINDS = ["cosine"] * 3 + ["linear"] * 3
PEAKS = [{"peak": peak} for peak in (0.1, 0.2, 0.4)] * 2
SCORES = np.array(
    [
        [1.0, 1.2, 1.1],
        [0.5, 0.6, 0.7],  # the best cosine: 0.6
        [NAN, 9.0, 9.0],
        [0.9, 1.1, 0.7],
        [0.6, 0.6, 0.63],
        [0.4, 0.6, 0.65],  # the best linear: 0.55
    ]
)
ERROR = np.sqrt(np.mean([0.01, 0.0175, 0.04, 0.0003]) / 3)  # of the four best trials


def compared(start=0.0, **changes):
    result = result_of(SCORES, PEAKS, kinds=KINDS)
    result.train["loss"][..., 0] = start
    return dataclasses.replace(result, **changes).compare()


def test_each_kind_is_compared_at_its_own_best():
    comparison = compared()
    assert list(comparison) == ["linear", "cosine"]
    linear, cosine = comparison.contenders.values()
    assert (linear.best.index, cosine.best.index, linear.tried) == (5, 1, 3)
    assert linear.best.score == pytest.approx(0.55)
    assert linear.best.error == pytest.approx(ERROR, rel=1e-5)
    assert linear.difference is None
    difference = cosine.difference  # 0.1, 0, 0.05
    assert difference.mean == pytest.approx(0.05)
    assert difference.error == pytest.approx(0.05 / np.sqrt(3))
    assert difference.margin == pytest.approx(4.302653 * 0.05 / np.sqrt(3))  # t(0.975, 2)
    assert difference.differs is False
    # t(0.75, 2) is 0.8165
    assert result_of(SCORES, PEAKS, kinds=KINDS).compare(level=0.5)["cosine"].difference.differs


def test_the_sensitivity_is_the_mean_excess_over_the_rates():
    linear, cosine = (
        compared().contenders.values()
    )  # nothing is known of the start: a diverged run is as the worst
    np.testing.assert_allclose(cosine.curve, [1.1, 0.6, NAN], rtol=1e-6)
    assert cosine.sensitivity == pytest.approx((0.5 + 0 + 0.5) / 3)
    assert linear.sensitivity == pytest.approx((0.35 + 0.06 + 0) / 3)
    assert compared(start=2.0)["cosine"].sensitivity == pytest.approx((0.5 + 0 + 1.4) / 3)
    assert compared(start=0.8)["linear"].sensitivity == pytest.approx((0.25 + 0.06 + 0) / 3)


def test_the_range_within_a_standard_error_is_around_the_best():
    linear, cosine = compared().contenders.values()
    assert 0.55 + ERROR > 0.61
    assert linear.near == (0.2, 0.4)
    assert cosine.near == (0.2, 0.2)
    assert "0.2 to ≥0.4 (x2)" in str(compared())


def test_more_may_be_better():
    comparison = result_of(-SCORES, PEAKS, True, KINDS).compare()
    assert comparison["cosine"].difference.mean == pytest.approx(-0.05)
    assert comparison["cosine"].sensitivity == pytest.approx((0.5 + 0 + 0.5) / 3)
    np.testing.assert_allclose(comparison["cosine"].curve, [-1.1, -0.6, NAN], rtol=1e-6)
    assert comparison["linear"].near == (0.2, 0.4)


def test_what_is_not_known_is_not_said():
    single = result_of(SCORES[:, :1], PEAKS, kinds=KINDS).compare()
    assert single["linear"].near is None
    assert single["cosine"].difference.differs is None
    assert "One run each: no error is known" in str(single)
    apart = [{"peak": p} for p in (0.1, 0.2, 0.4, 0.4, 0.8, 1.6)]
    comparison = result_of(SCORES, apart, kinds=KINDS).compare()
    assert np.isnan(
        [kind.sensitivity for kind in comparison.contenders.values()]
    ).all()  # one rate in common
    halted = compared(stopped=np.array([-1, -1, 5, -1, -1, -1]))
    assert halted["cosine"].sensitivity == compared()["cosine"].sensitivity  # it had diverged
    alive = {"stopped": np.array([-1, -1, 5, -1, -1, -1]), "diverged": np.full((6, 1, 3), -1)}
    assert np.isnan(compared(**alive)["cosine"].sensitivity)  # its score at 0.4 is unknown
    lost = result_of([[1, 2], [NAN, NAN]], [{}, {}], kinds=["a", "b"]).compare()
    assert lost["b"].best is None
    assert "none has a score" in str(lost)
    assert str(result_of([[NAN], [NAN]]).compare()).count("none has a score") == 2


def test_a_difference_that_is_not_known_differs_neither_way():
    result = result_of([[1, 2], [NAN, 2], [np.inf, 2]])
    assert [result.difference(i, 0).differs for i in (1, 2)] == [None, None]
    with pytest.raises(ValueError, match=r"difference\(level=...\) must be less than 1, got 95"):
        result.difference(0, 1, 95)


def test_any_setting_can_be_what_is_compared():
    settings = [{"peak": p, "warmup": w} for w in (0, 5) for p in (0.1, 0.2, 0.4)]
    comparison = result_of(SCORES, settings).compare(by="warmup")
    assert list(comparison) == ["5", "0"]
    assert comparison[0].sensitivity == pytest.approx((0.5 + 0 + 0.5) / 3)
    by_peak = result_of(SCORES, settings).compare(by="peak")
    assert list(by_peak) == ["0.4", "0.2", "0.1"]
    other = result_of(SCORES, settings).compare(by="peak", rate="warmup")
    assert other.rates.tolist() == [0, 5]
    own = [{"kind": kind} for kind in KINDS]  # of the one recipe, its own argument
    assert list(result_of(SCORES, own).compare()) == ["linear", "cosine"]
    near = [{"peak": p} for p in (0.100001, 0.100002)]
    assert len(result_of([[1], [2]], near).compare(by="peak")) == 2
    mixed = [{"x": x} for x in (1, 1.0, 1 + 1e-15, "1", None, "None", True, 10**400)]
    found = result_of([[i] for i in range(8)], mixed).compare(by="x")
    assert list(found) == ["1", "'1'", "None", "'None'", "True", str(10**400)]
    assert [found[x].best.index for x in (1.0, "1", None, "None", True)] == [0, 3, 4, 5, 6]
    for words in ({"by": "shape"}, {"rate": "shape"}):
        name = next(iter(words))
        with pytest.raises(ValueError, match=rf"compare\({name}=...\) must .*name a setting of a"):
            result_of(SCORES, settings).compare(**words)
    with pytest.raises(ValueError, match=r"compare\(level=...\) must be less than 1"):
        result_of(SCORES, settings).compare(level=95)


def test_a_comparison_is_shown_everywhere():
    comparison = compared()
    with pytest.raises(KeyError, match="must be one of linear, cosine, got 'wsd'"):
        comparison["wsd"]
    assert "<td" in comparison._repr_html_()
    assert comparison.markdown().count("\n| ") == 4
    assert "search.final_scores compares on the test data" in repr(comparison)


class WithTest(Plain):
    def test(self, state):
        return {"loss": self.evaluate(state)["loss"] + 1}


def test_final_scores_are_of_each_kinds_winner():
    task = WithTest()
    kinds = {"cosine": js.cosine_decay, "constant": js.constant}
    result = sweep(task, grid(kinds, peak=[0.03, 0.1], steps=20), seeds=2)
    scores = final_scores(task, result)
    first, second = scores
    assert [first, second] == list(result.compare())
    assert [scores[name].best.trial.kind for name in scores] == [first, second]
    alone = search.final_score(task, result, result.compare()[second].best)
    assert np.array_equal(scores[second].metrics["loss"], alone.metrics["loss"])
    a, b = (scores[name].metrics["loss"].astype(float) for name in (second, first))
    assert scores.difference(second, "loss").mean == pytest.approx((a - b).mean())
    assert scores.difference(first, "loss").mean == 0
    with pytest.raises(KeyError, match="must be one of loss, got 'accuracy'"):
        scores.difference(first, "accuracy")
    with pytest.raises(TypeError, match=r"final_scores\(result=...\) .* Give `.result` of it"):
        final_scores(task, scores[first])
    assert str(scores).startswith("kind on the test data")
    assert scores.markdown().count("test loss") == 1
    with pytest.raises(ValueError, match=r"final_scores\(by=...\) must be \"kind\" or name"):
        final_scores(task, result, by="shape")


def test_what_is_no_result_or_best_is_named():
    result = sweep(Line(), [js.linear_decay(0.1, 12), js.Constant(0.01)], steps=12)
    final = search.final_score(Line(), result)
    for arguments, words in [
        ((result, 3), r"final_score\(best=...\) .* `result.best\(\)`, got 3"),
        ((result, result.trials[0]), r"final_score\(best=...\) must be .*\(Trial\)"),
        ((final,), r"final_score\(result=...\) .* Give `.result` of it"),
        ((3,), r"final_score\(result=...\) must be the result of a sweep, got 3"),
    ]:
        with pytest.raises(TypeError, match=words):
            search.final_score(Line(), *arguments)
    for index in (2, 1 - final.best.index):
        words = f"of this result of 2 trials, got the trial {index} of another one, "
        with pytest.raises(ValueError, match=words):
            search.final_score(Line(), result, dataclasses.replace(final.best, index=index))
    both = dataclasses.replace(
        final.best.trial, schedules={"learning_rate": js.stack([js.Constant(0.1)] * 2)}
    )
    with pytest.raises(ValueError, match=r"^final_score\(best=...\): .* is a population of 2"):
        search.final_score(Line(), result, dataclasses.replace(final.best, trial=both))
