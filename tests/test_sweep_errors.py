"""How far a score is from what it estimates, and which trials are not told apart by it."""

import numpy as np
import pytest
from results_by_hand import result_of

from jaxsched import search

NAN = np.nan


def test_one_standard_error_rule():
    scores = [[1.0, 1.4], [1.1, 1.5], [0.9, 1.3], [2.0, 2.4]]  # means 1.2 1.3 1.1 2.2, error 0.2
    result = result_of(scores)
    assert result.best().index == 2
    assert result.best().error == pytest.approx(0.2)
    assert result.best(prefer="peak").index == 0
    assert result.best(prefer=lambda trial: -trial.settings["peak"]).index == 2
    with pytest.raises(ValueError, match="must have several seeds or folds"):
        result_of([[1], [2]]).best(prefer="peak")
    with pytest.raises(ValueError, match=r"best\(prefer=...\) must name a setting of a trial"):
        result.best(prefer="warmup")
    for name in ([], {}, None, np.ones(2)):
        with pytest.raises(ValueError, match=r"plot\(\*names\) must name a setting of a trial"):
            result.plot(name)


def test_the_rule_is_among_trials_that_have_the_setting():
    settings = [{"peak": 0.2}, {"peak": 0.1, "warmup": 5}, {"peak": 0.2, "warmup": 1}]
    result = result_of([[1.0, 1.4], [1.1, 1.5], [2.0, 2.4]], settings)
    assert [result.best(prefer=name).index for name in ("warmup", "peak")] == [1, 1]
    assert result_of([[1.0, 1.1], [3, 3.1], [4, 4.1]], settings).best(prefer="warmup").index == 0
    settings = [{"warmup": None}, {"warmup": 5}]
    with pytest.raises(ValueError, match=r"a setting of numbers, .* 'warmup', which is None "):
        result_of([[1.0, 1.4], [1.1, 1.5]], settings).best(prefer="warmup")


def test_two_runs_do_not_know_their_error():
    """The variance is pooled over the better half of the trials, at least four of them."""
    lucky = result_of([[1.0, 1.00002], [1.1, 1.3], [1.0, 1.2], [2.0, 2.2]])
    pooled = np.sqrt((3 * 0.02 + 2e-10) / 4 / 2)
    assert lucky.pooled() == (0, 1, 2, 3)
    np.testing.assert_allclose(lucky.scores()[1], pooled, rtol=1e-5)
    assert "± 0.087 (pooled over 4 trials), not told apart from t2 (95%)" in lucky.summary()
    wild = result_of([[1 + i, 1 + i + 0.2 * 100 ** (i > 3)] for i in range(6)])
    assert wild.pooled() == (0, 1, 2, 3)  # not those whose noise is 20
    np.testing.assert_allclose(wild.scores()[1], [0.1] * 4 + [10, 10], rtol=1e-5)
    many = result_of([[1, 1, 1, 1, 1, 1.6], [2, 3, 2, 3, 2, 3]])
    assert many.pooled() == ()
    np.testing.assert_allclose(many.scores()[1], [0.1, np.sqrt(0.3 / 6)], rtol=1e-5)
    assert "1.1 ± 0.1, ahead of t1 by 1.4 (95%)" in many.summary()
    kinds = result_of([[1, 1.1], [1, 1.2], [2, 2.11]], kinds=["a", "a", "b"])
    assert "ahead of b t2 by 1 (95%)" in kinds.summary()  # not of its own kind's second
    alike = result_of([[1, 1.1], [2, 2.1], [1, 1.1]])
    assert [alike.difference(i, 0).differs for i in (1, 2)] == [None, False]
    assert "loss 1 (one run: no error), inside" in result_of([[3], [1], [2]]).summary()
    assert "± 0.1 (of 2 runs only)" in result_of([[1, 1.2], [NAN, 1]]).summary()
    assert result_of([[1]]).summary().startswith("best of 1 trial: t0")


@pytest.mark.parametrize(
    ("runs", "pooled"),
    [
        ([[0.84, 0.86], [0.34, 0.36], [0.15, 0.17], [57.0, 170.0]], (0, 1, 2)),
        ([[0.34, 0.36], [0.15, 0.17], [57.0, 170.0], [9e8, 1e9]], (0, 1)),  # half of them
        ([[0.15, 0.17], [57.0, 170.0]], ()),
        ([[0.15, 0.15], [0.2, 0.2], [0.34, 0.36], [57, 170]], (0, 1, 2)),  # two know of no spread
        ([[0.15, 0.15], [0.2, 0.3]], (0, 1)),
        ([[0.15, 0.15 + 1e-8], [0.2, 0.3], [0.3, 0.3]], (0, 1, 2)),  # of rounding
        ([[0.1, 0.11, 0.1], [0.11, 0.11, 0.1], [0.11, 0.11, 0.12], [0.1, 0.1, 0.99]], (0, 1, 2)),
    ],
)
def test_a_trial_that_exploded_says_nothing_of_the_errors_of_others(runs, pooled):
    settings = [{"peak": 0.1 * i} for i in range(len(runs))]
    result = result_of(runs, settings)
    assert result.pooled() == pooled
    assert result.best(prefer="peak").index == result.best().index
    assert result.best().error < 0.06
    wild = result_of([[1, 2]] * len(runs), settings, x=runs)  # each metric has its own
    assert (wild.pooled("x"), wild.pooled()) == (pooled, tuple(range(len(runs))))


def test_runs_that_agree_show_no_error():
    result = result_of([[0.5, 0.5]])
    final = search.FinalScore(
        result.best(), {"a": np.full(2, 0.5), "b": np.array([1, 3])}, (), result
    )
    assert "±" not in result.summary() and repr(final) == "FinalScore(t0: a 0.5, b 2 ± 1)"
