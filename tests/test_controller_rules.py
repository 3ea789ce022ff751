"""Each controller against its definition elsewhere: a shipped rule or a paper."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxsched as js
from jaxsched.controllers import Bounce, Greedy, NewBob, Plateau, Trigger


class HuggingFace:
    """transformers' GreedyLR.step in plain Python (optimization.py, 2026), without its reset."""

    def __init__(self, mode, factor, patience, atol, cooldown, warmup, low, high):
        self.__dict__.update(locals())
        self.best = np.inf if mode == "min" else -np.inf
        self.lr, self.good, self.bad, self.cooling, self.warming = 1.0, 0, 0, 0, 0

    def step(self, a):
        if self.cooling > 0:
            self.cooling -= 1
            self.good = self.bad = 0
        elif self.warming > 0:
            self.warming -= 1
            self.good = self.bad = 0
        else:
            d = self.atol
            if a < self.best - d if self.mode == "min" else a > self.best + d:
                self.best, self.bad = a, 0
                self.good += 1
            else:
                self.bad += 1
                self.good = 0
            if self.good > self.patience:
                self.lr, self.warming = min(self.lr / self.factor, self.high), self.warmup
                self.good = 0
            elif self.bad > self.patience:
                self.lr, self.cooling = max(self.lr * self.factor, self.low), self.cooldown
                self.bad = 0
        return self.lr


def scales(controller, reports):
    @jax.jit
    def run(controller, reports):
        def body(state, report):
            state = controller.update(state, **report)
            return state, state.scale

        return jax.lax.scan(body, controller.init(), reports)[1]

    return np.asarray(run(controller, reports))


@pytest.mark.parametrize("mode", ["min", "max"])
def test_greedy_against_the_shipped_rule(mode):
    rng = np.random.RandomState(0)
    falling = np.concatenate([np.linspace(3, 1, 25), np.ones(25), np.linspace(1, 0, 10)])
    values = np.float32(falling + 0.02 * rng.standard_normal(60)) * (1 if mode == "min" else -1)
    for patience, cooldown, warmup in [(0, 0, 0), (2, 0, 0), (1, 2, 3), (3, 1, 0)]:
        theirs = HuggingFace(mode, 0.5, patience, 1e-3, cooldown, warmup, 0.125, 8.0)
        ours = Greedy(
            1.0,
            0.5,
            patience,
            atol=1e-3,
            cooldown=cooldown,
            warmup=warmup,
            min_scale=0.125,
            max_scale=8.0,
            mode=mode,
        )
        expected = [theirs.step(float(v)) for v in values]
        assert scales(ours, {"value": values}).tolist() == expected
        assert max(expected) > 1.0 > min(expected) or patience > 1


@pytest.mark.parametrize(
    "least",
    [dict(min_scale=0.25), dict(min_lr=0.25), dict(min_lr=0.125, min_scale=0.25), dict(min_lr=0.3)],
)
def test_greedy_is_reset_at_whichever_bound_a_cut_ends_on(least):
    greedy = Greedy(1.0, factor=0.5, patience=0, reset=1, **least)
    got = scales(greedy, {"value": np.arange(1.0, 8.0, dtype=np.float32)})
    assert got.tolist() == [2.0, 1.0, 0.5, 1.0, 2.0, 1.0, 0.5]


def test_greedy_forgets_its_average_at_a_reset():
    greedy = Greedy(1.0, factor=0.5, patience=0, min_scale=0.5, reset=1, smooth=0.5)
    state = greedy.init()
    for value in (1.0, 9.0, 9.0):
        state = greedy.update(state, value=value)
    assert state == greedy.init()._replace(step=3, seen=3)


@pytest.mark.parametrize("low", [5, np.array([0.5, 3.0])])
def test_greedy_has_no_bounds_that_exclude_each_other(low):
    with pytest.raises(ValueError, match=r"Greedy\(min_scale=...\) must be at most max_scale=2"):
        Greedy(1.0, min_scale=low, max_scale=2)


def test_newbob_against_the_shipped_rule():
    def speechbrain(values, factor, patient, threshold):
        rate, left, previous = 1.0, patient, None
        for value in values:
            if previous is not None and (previous - value) / previous < threshold:
                rate, left = (rate * factor, patient) if left == 0 else (rate, left - 1)
            previous = value
            yield rate

    rng = np.random.RandomState(1)
    values = np.float32(np.linspace(3, 2, 40) + 0.05 * rng.standard_normal(40))
    for patience in (0, 1, 3):
        expected = list(speechbrain(values.astype(float), 0.5, patience, 0.0025))
        assert scales(NewBob(1.0, patience=patience), {"value": values}).tolist() == expected
    zeros = NewBob(1.0)  # the gain has no relative size there: a stall all the same
    assert scales(zeros, {"value": np.zeros(3, np.float32)}).tolist() == [1.0, 0.5, 0.25]
    negative = np.float32([-1.0, -2.0, -2.0, -3.0])
    assert scales(zeros, {"value": negative}).tolist() == [1.0, 1.0, 0.5, 0.5]


def test_bounce_against_the_published_rule():
    def abel(norms, factor):
        rate, reached = 1.0, False
        for i in range(len(norms)):
            if i > 1 and (norms[i] - norms[i - 1]) * (norms[i - 1] - norms[i - 2]) < 0:
                rate, reached = (rate * factor, False) if reached else (rate, True)
            yield rate

    rng = np.random.RandomState(2)
    norms = np.float32(np.sin(np.arange(40) / 2.0) + 0.3 * rng.standard_normal(40))
    expected = list(abel(norms, 0.5))
    assert expected[-1] < 0.1
    assert scales(Bounce(1.0, 0.5), {"norm": norms}).tolist() == expected
    # Between two looks anything may happen; a NaN or a missing report is not a look.
    often = np.stack([norms, rng.rand(40), np.full(40, np.nan)], axis=1).astype(np.float32)
    flags = np.tile([True, False, True], 40)
    got = scales(Bounce(1.0, 0.5), {"norm": often.ravel(), "reported": flags})
    assert got[::3].tolist() == expected
    every = scales(Bounce(1.0, 0.5, every=3), {"norm": np.repeat(norms, 3)})
    assert every[-1] == expected[-1]
    weights = {"a": np.stack([norms + 9] * 2, 1), "b": np.zeros(40, np.float32)}
    assert scales(Bounce(1.0, 0.5), {"weights": weights}).tolist() == expected
    with pytest.raises(ValueError, match="got both"):
        Bounce(1.0).update(Bounce(1.0).init(), norm=1.0, weights=1.0)
    seen = Bounce(1.0).update(Bounce(1.0).init(), weights={"w": jnp.array([3 + 4j]), "n": 2})
    assert float(seen.last) == 5.0**2 + 2**2


def test_trigger_cools_down_from_the_present_rate_of_each_member():
    base = js.Linear(1.0, 0.0, 100)
    trigger = Trigger(base, js.Linear(1.0, 0.0, 10))
    when = np.int32([5, 20, 1000])

    @jax.jit
    @jax.vmap
    def rates(when):
        def body(state, step):
            new = trigger.update(state, trigger=step == when)
            return new, trigger(state)

        return jax.lax.scan(body, trigger.init(), np.arange(60, dtype=np.int32))[1]

    steps = np.arange(60)
    for row, t in zip(rates(when), when, strict=True):
        cooled = base(int(t)) * np.clip(1 - (steps - t) / 10, 0, 1)
        np.testing.assert_allclose(
            row, np.where(steps < t, base(steps), cooled), rtol=1e-5, atol=1e-7
        )


def test_a_stage_that_decays_from_elsewhere_than_1_is_doubted():
    for stage in (js.cosine_decay(0.1, 100), js.InverseSqrt(0.1, 100), js.step_decay(0.1, 0.5, 9)):
        with pytest.warns(UserWarning, match="begins at 0.1, and a stage is a factor .* / 0.1"):
            Trigger(0.1, (js.Constant(0.5), stage))
    Trigger(0.1, (js.Linear(0.0, 1.0, 9), js.Cosine(1.0, 0.1, 9), js.Linear(0.1, 1.0, 9)))
    family = jax.vmap(lambda peak: js.linear_decay(peak, 9))(np.float32([0.1, 0.2]))
    Trigger(0.1, family)  # whose members may differ


def test_trigger_between_updates_acts_on_the_next_one():
    trigger = Trigger(0.5, js.Linear(1.0, 0.0, 2))
    state = trigger.observe(trigger.update(trigger.init()), trigger=True)
    seen = []
    for _ in range(4):
        seen.append(float(trigger(state)))
        state = trigger.update(state, trigger=np.float32(0))  # as a metric of a sweep is
    assert seen == [0.5, 0.25, 0.0, 0.0]
    with pytest.raises(TypeError, match=r"trigger=...\) must be one boolean, got 0.5"):
        trigger.update(state, trigger=0.5)


def test_stages_are_rebased_on_the_rate_where_the_last_one_was_left():
    stages = (js.Linear(1.0, 0.5, 4), js.Linear(1.0, 2.0, 2))
    trigger = Trigger(Plateau(1.0, 0.5, patience=0), stages)
    state, seen = trigger.init(), []
    for step in range(12):
        seen.append(float(trigger(state)))
        state = trigger.update(state, value=1.0 if step < 2 else None, trigger=step in (3, 7, 10))
    # a plateau at 1 (cut to 0.5), the first stage from there, the second from 0.25
    assert seen == [1.0, 1.0, 0.5, 0.5, 0.4375, 0.375, 0.3125, 0.25, 0.375, 0.5, 0.5, 0.5]
    with pytest.raises(TypeError, match=r"Linear\(1.0, 0.0, n\)"):
        Trigger(0.1, 1000)
