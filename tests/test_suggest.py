"""The suggestion rules: curves with known answers, and an independent reference in plain Python."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import checking_leaks

from jaxsched.search import suggest

N = 60
LRS = np.float32(np.geomspace(1e-5, 10.0, N))
FASTAI = ("minimum", "steepest", "valley", "slide")


# ------------------------------------------- the reference: lists, loops, as the origin defines it


def reference_minimum(lrs, losses):
    return float(lrs[losses.index(min(losses))]) / 10


def reference_slope(lrs, losses, i):
    return (losses[i + 1] - losses[i]) / (math.log(lrs[i + 1]) - math.log(lrs[i]))


def reference_valley(lrs, losses):
    best = []  # length of the longest strictly decreasing subsequence that ends here
    for i, loss in enumerate(losses):
        best.append(1 + max([best[j] for j in range(i) if losses[j] > loss], default=0))
    length = max(best)
    if length == 1:
        return float(lrs[0])
    begin = best.index(length) - length
    return float(lrs[begin + int(length / 3) + int(length / 3 / 2)])  # -1 is Python's: the last


def reference_slide(lrs, losses, difference=15, threshold=0.005):
    slopes = np.gradient(np.float32(losses))
    right, left = len(losses) - 1, len(losses) - 1 - difference
    answer = lrs[left]
    while left >= 0 and abs(slopes[right] - slopes[left]) > threshold:
        answer, right, left = lrs[left], right - 1, left - 1
    return float(answer)


REFERENCE = {
    "minimum": reference_minimum,
    "valley": reference_valley,
    "slide": reference_slide,
}


def check(name, lrs, losses, answer):
    lrs, losses = list(lrs), list(losses)
    if name == "steepest":  # where segments are as good as equally steep, any of them will do
        answer = reference_slope(lrs, losses, lrs.index(answer))
        expected = min(reference_slope(lrs, losses, i) for i in range(len(lrs) - 1))
        assert answer == pytest.approx(expected, rel=1e-4, abs=1e-6)
    else:
        assert float(answer) == pytest.approx(REFERENCE[name](lrs, losses), rel=1e-6)


def curve(seed):
    """A curve of the usual form, or noise, a rise, a fall, steps."""
    rng = np.random.default_rng(seed)
    x = np.log10(LRS)
    fall, rise = rng.uniform(-4, -1), rng.uniform(-1, 1)
    losses = 3 - 2 / (1 + np.exp(-3 * (x - fall))) + np.exp(4 * (x - rise))
    losses += rng.choice([0.0, 0.01, 0.3]) * rng.normal(size=N)
    kinds = [losses, rng.normal(size=N), x, -x, np.round(losses * 2)]
    return np.float32(kinds[rng.choice(5, p=[0.6, 0.1, 0.1, 0.1, 0.1])])


@pytest.mark.parametrize("name", FASTAI)
def test_rule_equals_the_plain_reference(name):
    losses = np.stack([curve(seed) for seed in range(40)])
    rule = jax.jit(jax.vmap(suggest.RULES[name], (None, 0)))
    for row, answer in zip(losses, np.asarray(rule(LRS, losses)), strict=True):
        check(name, LRS, row, answer)


@pytest.mark.parametrize("name", FASTAI)
def test_rule_on_masked_points_equals_the_reference_on_the_rest(name):
    """Any mask, with NaN where it hides: the same as without those points."""
    rng = np.random.default_rng(0)
    rule = jax.jit(suggest.RULES[name])
    for seed in range(10):
        losses, mask = curve(seed), rng.random(N) < rng.choice([0.5, 0.9])
        hidden = np.where(mask, losses, np.float32(np.nan))
        check(name, LRS[mask], losses[mask], np.asarray(rule(LRS, hidden, mask)))


@pytest.mark.parametrize("name", FASTAI)
def test_default_mask_ends_at_the_first_loss_that_is_not_finite(name):
    losses = curve(3)
    losses[45] = np.inf
    losses[50] = np.nan
    check(name, LRS[:45], losses[:45], np.asarray(suggest.RULES[name](LRS, losses)))
    mask = suggest.window(losses, first=N // 10, last=5)
    assert np.flatnonzero(mask).tolist() == list(range(6, 45))
    check(name, LRS[6:45], losses[6:45], np.asarray(suggest.RULES[name](LRS, losses, mask)))


# ------------------------------------------------------------------------------- known answers


def points(n):
    return np.arange(1.0, n + 1, dtype=np.float32)


LINE = np.float32(np.arange(30, 0, -1))
KNOWN = [
    ("minimum", [5, 4, 2, 3, 9], 0.3),
    ("minimum", [1, 1, 1], 0.1),  # ties: the first
    ("decaying", [5, 4, 2, 3, 9], 1.0),
    ("constant", [5, 4, 4, 4, 4, 4, 3], 1.0),
    # slope in the log of the rate: -1 over ln 2, -1 over ln 3/2 (steeper), +
    ("steepest", [5, 4, 3, 4], 2.0),
    ("steepest", [5, 3, 2.5, 4], 1.0),
    # the whole line: L = 30, e = 29, index -1 + 10 + 5
    ("valley", LINE, 15.0),
    # 8 7 6 5 4 3 in spite of the 9s between: L = 6, e = 8, index 2 + 2 + 1
    ("valley", [8, 9, 7, 6, 9, 5, 4, 9, 3, 10], 6.0),
    ("valley", [1, 2, 3, 4], 1.0),  # never falls: the first
    ("valley", [2, 2, 2, 2], 1.0),
    ("valley", [2, 1, 3, 4], 4.0),  # the quirk: index -1
    # slopes 0 up to index 28, 1/2 at 29, then 1: the last interval whose ends differ is 14 to 29
    ("slide", np.float32([1] * 29 + list(range(1, 12))), 15.0),
    ("slide", LINE, 15.0),  # the same slope everywhere: the first position, 16 from the end
]


@pytest.mark.parametrize(("name", "losses", "expected"), KNOWN)
def test_known_answer(name, losses, expected):
    """Behind the curve stands NaN, as after a divergence."""
    padded = np.full(N, np.nan, np.float32)
    padded[: len(losses)] = losses
    answer = suggest.RULES[name](points(N), padded)
    assert expected == pytest.approx(float(answer), rel=1e-6)
    assert answer.dtype == jnp.float32
    assert answer.shape == ()


@jax.jit
def every_rule(lrs, losses):
    return {name: rule(lrs, losses) for name, rule in suggest.RULES.items()}


def test_too_few_points_give_zero_and_never_nan():
    for kept in (0, 1, 2, 15, 16):
        losses = np.where(np.arange(N) < kept, curve(0), np.float32(np.nan))
        answers = every_rule(LRS, losses)
        assert all(np.isfinite(answer) for answer in answers.values())
        zero = {name for name, answer in answers.items() if answer == 0}
        assert (
            zero
            == {
                0: set(suggest.RULES),
                1: {"steepest", "slide"},
                2: {"slide"},
                15: {"slide"},
                16: set(),
            }[kept]
        )
    single = every_rule(LRS[:1], np.float32([1.0]))
    assert {name for name, answer in single.items() if answer == 0} == {"steepest", "slide"}


def test_rules_survive_the_strict_modes():
    losses = curve(1)
    losses[50:] = np.nan
    plain = every_rule(LRS, losses)
    with (
        jax.numpy_dtype_promotion("strict"),
        jax.numpy_rank_promotion("raise"),
        checking_leaks(),
    ):
        assert every_rule(LRS, losses) == plain
    with jax.enable_x64(True):
        wide = every_rule(np.float64(LRS), np.float64(losses))
    assert {answer.dtype for answer in wide.values()} == {jnp.dtype("float32")}
    assert {k: float(v) for k, v in wide.items()} == {k: float(v) for k, v in plain.items()}


def test_divisor():
    expected = {0.0: 3.0, 0.1: 3.0, 10**-0.5: 21**0.5, 1.0: 7.0, 2.0: 7.0}
    for ratio, value in expected.items():
        for given in (ratio, jnp.float32(ratio)):
            assert float(suggest.divisor(given)) == pytest.approx(value, rel=1e-5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((np.ones((2, 3)), np.ones(3)), r"minimum\(lrs=\.\.\.\) must have shape \[n\]"),
        ((np.ones(0), np.ones(0)), r"minimum\(lrs=\.\.\.\).*n at least 1"),
        ((np.ones(3), np.ones(4)), r"minimum\(losses=\.\.\.\).*\(3,\), got \(4,\)"),
        ((np.ones(3), np.ones(3), np.ones(2)), r"minimum\(mask=\.\.\.\).*\(3,\), got \(2,\)"),
    ],
)
def test_wrong_shapes(arguments, message):
    with pytest.raises(ValueError, match=message):
        suggest.minimum(*arguments)


def test_slide_needs_an_interval():
    with pytest.raises(ValueError, match=r"slide\(difference=\.\.\.\) must be at least 1, got 0"):
        suggest.slide(LRS, curve(0), difference=0)
