"""What people bring from elsewhere: other libraries' words, lists, mappings and schedules."""

from __future__ import annotations

import array
import collections
import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxsched as js
from jaxsched.optim import decay_weights, layerwise_decay

# ------------------------------------------------------------------------------------- words


@pytest.mark.parametrize(
    ("call", "theirs", "ours"),
    [
        (js.warmup_cosine, "peak_value", "peak"),
        (js.warmup_cosine, "decay_steps", "steps"),
        (js.warmup_cosine, "num_training_steps", "steps"),
        (js.warmup_cosine, "eta_min", "end"),
        (js.cosine_decay, "init_value", "peak"),
        (js.cosine_decay, "alpha", "end"),
        (js.cosine_decay, "T_max", "steps"),
        (js.cosine_decay, "lr", "peak"),
        (js.one_cycle, "max_lr", "peak"),
        (js.one_cycle, "pct_start", "warmup"),
        (js.one_cycle, "total_steps", "steps"),
        (js.one_cycle, "anneal_strategy", "shape"),
        (js.step_decay, "gamma", "factor"),
        (js.step_decay, "step_size", "every"),
        (js.exponential_decay, "transition_steps", "every"),
        (js.exponential_decay, "decay_rate", "factor"),
        (js.multi_step, "boundaries_and_scales", "milestones"),
        (js.warm_restarts, "T_mult", "growth"),
        (js.wsd, "num_decay_steps", "decay"),
        (js.triangular, "base_lr", "low"),
        (js.triangular, "step_size_up", "up"),
        (js.cooldown_from, "start", "at"),
        (js.cooldown_from, "length", "steps"),
        (js.Linear, "init_value", "start"),
        (js.Linear, "end_value", "end"),
        (js.Linear, "transition_steps", "steps"),
        (js.PiecewiseLinear, "boundaries", "steps"),
        (js.Exponential, "decay_rate", "rate"),
        (js.Plateau, "threshold", "rtol"),
        (js.Plateau, "min_delta", "atol"),
        (js.NewBob, "patience_t", "patience"),
        (js.Units, "batch_size", "batch"),
        (js.cosine_decay, "initial_learning_rate", "peak"),
        (js.warm_restarts, "decay_steps", "steps"),
        (js.warm_restarts, "cycle_mult", "growth"),
        (js.wsd, "decay_steps", "decay"),
        (js.wsd, "cooldown_steps", "decay"),
        (js.tri_stage, "decay_steps", "decay"),
        (js.infinite, "decay_steps", "cooldown"),
        (js.cooldown_from, "decay_steps", "steps"),
        (js.warmup_cosine, "t_warmup", "warmup"),
        (js.warmup_cosine, "lr_decay_steps", "steps"),
        (js.PiecewiseConstant, "milestones", "boundaries"),
        (js.Clip, "max", "high"),
        (js.noam, "d_model", "dimension"),
    ],
)
def test_the_words_of_other_libraries_are_answered_with_ours(call, theirs, ours):
    with pytest.raises(
        TypeError,
        match=rf"^{call.__name__} has no argument {theirs}; it is called "
        rf"{ours} here.* Its arguments are \(.*\b{ours}\b.*\)\.$",
    ):
        call(**{theirs: 1})


def test_several_foreign_words_are_answered_at_once():
    """Also those that no argument here has a meaning for."""
    with pytest.raises(TypeError) as caught:
        js.warmup_cosine(init_value=0.0, peak_value=0.1, warmup_steps=10, decay_steps=100)
    for words in ("init_value; a warmup starts at 0", "called peak here", "called warmup here"):
        assert words in str(caught.value)
    with pytest.raises(TypeError, match=r"initial_learning_rate; a warmup starts at 0"):
        js.warmup_cosine(initial_learning_rate=0.0, warmup_target=0.1)
    with pytest.raises(TypeError, match=r"init_value; the start is peak / div here"):
        js.one_cycle(init_value=0.1)
    with pytest.raises(TypeError, match=r"init_value; it is the first of values here"):
        js.piecewise_constant(init_value=0.1)
    with pytest.raises(
        TypeError, match=r"end_value; it is called end here \(a ratio of the peak\)"
    ):
        js.tri_stage(end_value=0.1)
    with pytest.raises(TypeError, match=r"cooldown_steps; js\.cooldown_from"):
        js.inverse_sqrt(cooldown_steps=100)
    with pytest.raises(TypeError, match=r"staircase; the staircase is js\.step_decay"):
        js.exponential_decay(0.1, 0.5, 10, staircase=True)
    with pytest.raises(TypeError, match=r"wramup; did you mean warmup\. Its arguments are"):
        js.wsd(0.1, 100, wramup=10)
    with pytest.raises(TypeError, match=r"Cosine has no argument zzz\. Its arguments are \(start,"):
        js.Cosine(zzz=1)


# ---------------------------------------------------------------------------- lists and mappings


class Config(collections.abc.Mapping):
    """A mapping and lists of classes of their own, as OmegaConf's are."""

    def __init__(self, data):
        self._data = data

    def __getitem__(self, key):
        value = self._data[key]
        if isinstance(value, dict):
            return Config(value)
        if isinstance(value, list):
            return collections.UserList([Config(x) if isinstance(x, dict) else x for x in value])
        return value

    def __iter__(self):
        return iter(self._data)

    def __len__(self):
        return len(self._data)


LISTS = [
    list,
    tuple,
    collections.deque,
    collections.UserList,
    lambda xs: array.array("d", xs),
    np.asarray,
    jnp.asarray,
]


@pytest.mark.parametrize("kind", LISTS)
def test_a_list_may_be_any_sequence(kind):
    assert js.multi_step(1.0, kind([0.5, 0.25]), kind([10, 20])) == js.multi_step(
        1.0, [0.5, 0.25], [10, 20]
    )
    assert js.piecewise_constant(kind([10]), kind([1.0, 0.5]))(10) == 0.5
    for piece in (js.PiecewiseLinear, js.PiecewiseCosine, js.MonotoneCubic):
        assert piece(kind([0, 10]), kind([1.0, 0.5])) == piece([0, 10], [1.0, 0.5])
    assert js.Table(kind([1.0, 0.5])) == js.Table([1.0, 0.5])
    assert [t.settings["peak"] for t in js.grid(js.constant, peak=kind([0.5, 0.25]))] == [0.5, 0.25]


class Foreign:
    """An array of another library, whose dtype NumPy does not know."""

    dtype = "float32 of theirs"

    def __init__(self, numbers):
        self.numbers = np.asarray(numbers)

    def __array__(self, dtype=None, copy=None):
        return self.numbers

    def __len__(self):
        return len(self.numbers)


@pytest.mark.parametrize("kind", [list, collections.deque, collections.UserList])
def test_the_schedules_of_a_list_may_be_in_any_sequence(kind):
    parts = [js.Linear(0.0, 1.0, 10), js.Constant(1.0)]
    assert js.Sequence(kind(parts)) == js.Sequence(tuple(parts)) == parts[0] >> parts[1]
    assert js.Trigger(0.1, kind(parts[:1])) == js.Trigger(0.1, parts[0])


def test_arrays_of_other_libraries_are_arrays():
    assert js.Linear(0.0, Foreign(0.5), Foreign(10)) == js.Linear(0.0, 0.5, 10)
    assert js.cosine_decay(Foreign(0.5), 10) == js.cosine_decay(0.5, 10)
    assert js.multi_step(1.0, 0.5, Foreign([10, 20])) == js.multi_step(1.0, 0.5, [10, 20])
    with pytest.raises(TypeError, match=r"Linear\(end=...\) must be a number"):
        js.Linear(0.0, Foreign(["a"]), 10)


def test_a_message_shows_an_array_in_one_line_and_says_what_was_not_called():
    with pytest.raises(ValueError, match=r"end=...\) must be finite .*got array") as caught:
        js.Linear(0.0, np.diag([np.inf] * 3), 10)
    assert "\n" not in str(caught.value) and "\\n" not in str(caught.value)
    with pytest.raises(TypeError, match=r"to_dict\(schedule=...\) .* \[2\., 2\.\]\]\) \(ndarray\)"):
        js.to_dict(np.full((2, 2), 2.0))
    with pytest.raises(TypeError, match=r"sample\(n=...\) must be .*warmup_cosine.* not called"):
        js.sample(js.Constant(1.0), js.warmup_cosine)


def test_ranges_are_lists_and_texts_and_iterators_are_none():
    assert js.multi_step(1.0, 0.5, range(10, 30, 10)) == js.multi_step(1.0, 0.5, [10, 20])
    for wrong in ("12", b"12", iter([1, 2]), {1, 2}, {1: 2}, 3):
        with pytest.raises(TypeError, match=r"multi_step\(milestones=...\) must be a"):
            js.multi_step(1.0, 0.5, wrong)
        with pytest.raises(TypeError, match=r"PiecewiseLinear\(steps=...\) must be a"):
            js.PiecewiseLinear(wrong, [1.0, 0.5])


@pytest.mark.parametrize("kind", [Config, collections.UserDict, collections.OrderedDict])
def test_from_dict_reads_any_mapping(kind):
    for schedule in (js.wsd(0.1, 100, 10, 20), js.Table([1.0, 0.5]), 2.0 * js.Cosine(1, 0, 10)):
        assert js.from_dict(kind(js.to_dict(schedule))) == schedule


def test_numbers_in_text_are_numbers_where_a_config_is_read_and_nowhere_else():
    """YAML reads 1e-5 as a text."""
    read = {"jaxsched": 1, "type": "Linear", "start": "1e-5", "end": " 0 ", "steps": "100"}
    assert js.from_dict(read) == js.Linear(1e-5, 0.0, 100)
    assert isinstance(js.from_dict(read).steps, int)
    table = {"jaxsched": 1, "type": "Table", "values": ["1e-5", 2, "+.5"]}
    assert js.from_dict(table) == js.Table([1e-5, 2.0, 0.5])
    inner = {"jaxsched": 1, "type": "Sequence", "parts": [{"type": "Constant", "value": ".1"}]}
    assert js.from_dict(inner)(0) == np.float32(0.1)
    for word in ("nan", "inf", "1_0", "0x1", "1e", "", "ten", "10%", "1e999"):
        with pytest.raises(ValueError, match=r"Linear\(start=...\) must be"):
            js.from_dict({**read, "start": word})
    with pytest.raises(TypeError, match=r"Linear\(start=...\) must be a number, got '1e-5'"):
        js.Linear("1e-5", 0.0, 100)
    with pytest.raises(TypeError, match=r"cosine_decay\(peak=...\) must be a number, got '1e-5'"):
        js.cosine_decay("1e-5", 100)


# ------------------------------------------------------------------------------------ functions

THEIRS: Any = optax.cosine_decay_schedule(0.1, 100)
LINE = js.Linear(0.0, 0.1, 10)


def overridden():
    return js.inject(optax.sgd)(learning_rate=LINE).init(jnp.ones(2))


@pytest.mark.parametrize(
    "call",
    [
        lambda: LINE >> THEIRS,
        lambda: THEIRS >> LINE,
        lambda: LINE * THEIRS,
        lambda: THEIRS * LINE,
        lambda: LINE + THEIRS,
        lambda: THEIRS + LINE,
        lambda: LINE - THEIRS,
        lambda: THEIRS - LINE,
        lambda: LINE / THEIRS,
        lambda: js.minimum(LINE, THEIRS),
        lambda: js.maximum(THEIRS, LINE),
        lambda: js.Sequence((LINE, THEIRS)),
        lambda: js.Repeat(THEIRS),
        lambda: js.Linear(0.0, THEIRS, 10),
        lambda: js.cosine_decay(THEIRS, 10),
        lambda: js.with_warmup(THEIRS, 10),
        lambda: js.cooldown_from(THEIRS, 10, 10),
        lambda: js.wsd(0.1, 100, 10, 10, shape=lambda start, end, steps: THEIRS),
        lambda: js.Plateau(THEIRS),
        lambda: js.Trigger(0.1, THEIRS),
        lambda: js.inject(optax.sgd)(learning_rate=THEIRS),
        lambda: js.override(overridden(), learning_rate=THEIRS),
        lambda: decay_weights(THEIRS),
        lambda: js.grid(js.cosine_decay, peak=[THEIRS], steps=10),
        lambda: js.grid(lambda peak: THEIRS, peak=[0.1]),
        lambda: js.stack([LINE, THEIRS]),
        lambda: js.sample(THEIRS, 10),
        lambda: js.coverage(THEIRS, 10),
        lambda: js.boundaries(THEIRS),
        lambda: js.members(THEIRS),
        lambda: js.unstack(THEIRS),
        lambda: js.to_dict(THEIRS),
        lambda: js.plot(THEIRS),
    ],
)
def test_where_a_schedule_is_wanted_a_function_is_answered_with_from_fn(call):
    with pytest.raises((TypeError, ValueError), match=r"js\.from_fn"):
        call()


def test_the_parameters_of_a_function_are_a_field_in_their_order_that_nobody_can_write_into():
    given = {"z": 0.5, "a": 0.25}
    schedule = js.Function(lambda step, z, a: z / (1 + step) + a, given)
    assert schedule == js.from_fn(schedule.fn, **given) == js.Function(schedule.fn, given, None)
    given["z"] = 3.0
    with pytest.raises(TypeError, match="does not support item assignment"):
        schedule.parameters["z"] = 3.0
    assert list(schedule.parameters.items()) == [("z", 0.5), ("a", 0.25)]
    assert repr(schedule).endswith(", z=0.5, a=0.25)")
    other = dataclasses.replace(schedule, parameters={"z": 1.0, "a": 0.0})
    assert float(other(1)) == 0.5 and float(schedule(0)) == 0.75
    paths = [jax.tree_util.keystr(p) for p, _ in jax.tree_util.tree_leaves_with_path(schedule)]
    assert paths == [".parameters['a']", ".parameters['z']"]  # which saved states know


def test_functions_become_schedules_by_from_fn():
    both = LINE >> js.from_fn(THEIRS)
    np.testing.assert_allclose(both(jnp.asarray([5, 10, 60])), [0.05, 0.1, 0.05], rtol=1e-6)


# ------------------------------------------------------------------ what can't be meant, or rises


@pytest.mark.parametrize(
    ("call", "where"),
    [
        (lambda: js.step_decay(0.1, 30, 0.1), "step_decay(factor=...)"),
        (lambda: js.exponential_decay(0.1, 100, 0.5), "exponential_decay(factor=...)"),
        (lambda: js.exponential_decay(0.1, np.float32(1.001)), "exponential_decay(factor=...)"),
        (lambda: js.warmup_exponential(0.1, 10, 2.0), "warmup_exponential(factor=...)"),
        (lambda: js.multi_step(0.1, [0.5, 2.0], [10, 20]), "multi_step(factor=...)"),
        (lambda: js.triangular_exp(0.0, 0.1, 10, 1.1), "triangular_exp(factor=...)"),
        (lambda: js.triangular(0.0, 0.1, 10, decay=2.0), "triangular(decay=...)"),
        (lambda: js.warm_restarts(0.1, 10, decay=2.0), "warm_restarts(decay=...)"),
        (lambda: js.cosine_decay(1000, 0.1), "cosine_decay(steps=...)"),
        (lambda: js.cosine_decay(3e-4, 1000, 0.1), "cosine_decay(end=...)"),
        (lambda: js.linear_decay(3e-4, 1000, 0.1), "linear_decay(end=...)"),
        (lambda: js.polynomial_decay(3e-4, 10, 2.0, 0.1), "polynomial_decay(end=...)"),
        (lambda: js.warmup_cosine(3e-4, 1000, 100, end=0.1), "warmup_cosine(end=...)"),
        (lambda: js.wsd(3e-4, 1000, 100, 100, end=0.1), "wsd(end=...)"),
        (lambda: js.wsd_s(3e-4, 1000, 100, 100, end=0.1), "wsd_s(end=...)"),
        (lambda: js.warm_restarts(3e-4, 10, end=0.1), "warm_restarts(end=...)"),
        (lambda: js.flat_cosine(3e-4, 100, end=0.1), "flat_cosine(end=...)"),
        (lambda: js.infinite(3e-4, 10, 10, 0.1), "infinite(constant=...)"),
        (lambda: js.tri_stage(0.1, 1, 1, 1, end=2.0), "tri_stage(end=...)"),
        (lambda: js.triangular(0.1, 3e-4, 10), "triangular(low=...)"),
        (lambda: js.one_cycle_momentum(100, 0.95, 0.85), "one_cycle_momentum(low=...)"),
        (lambda: js.one_cycle(0.1, 100, div=0.04), "one_cycle(div=...)"),
        (lambda: js.one_cycle(0.1, 100, final_div=1e-4), "one_cycle(final_div=...)"),
        (lambda: js.slanted_triangular(0.1, 100, ratio=0.03), "slanted_triangular(ratio=...)"),
        (lambda: js.power_scheduler(0.1, 8, 8, b=0.51), "power_scheduler(b=...)"),
        (lambda: js.exponential_growth(0.1, 0.5), "exponential_growth(factor=...)"),
        (lambda: js.cooldown_from(js.linear_decay(0.1, 100), 90, 10, 0.02), "cooldown_from(end=."),
        (lambda: js.warmup_cosine(-0.1, 100, 10), "warmup_cosine(peak=...)"),
        (lambda: js.constant(-0.1), "constant(peak=...)"),
        (lambda: js.linear_decay(0.1, 100, -0.1), "linear_decay(end=...)"),
        (lambda: js.linear_decay(jnp.asarray([0.1, -0.1]), 100), "linear_decay(peak=...)"),
        (lambda: js.with_warmup(js.inverse_sqrt(0.1, 10), 10), "with_warmup(schedule=...)"),
        (lambda: js.with_warmup(js.warmup_cosine(0.1, 99, 9), 10), "with_warmup(schedule=...)"),
        (lambda: js.with_warmup(js.triangular(0.0, 0.1, 9), 10), "with_warmup(schedule=...)"),
        (lambda: js.Plateau(0.1, factor=2.0), "Plateau(factor=...)"),
        (lambda: js.Plateau(0.1, patience=2.5), "Plateau(patience=...)"),
        (lambda: js.Plateau(0.1, cooldown=0.1), "Plateau(cooldown=...)"),
        (lambda: js.Plateau(0.1, accumulate=1.5), "Plateau(accumulate=...)"),
        (lambda: js.NewBob(0.1, patience=0.5), "NewBob(patience=...)"),
        (lambda: js.Greedy(0.1, warmup=0.1), "Greedy(warmup=...)"),
        (lambda: js.Bounce(0.1, every=1.5), "Bounce(every=...)"),
        (lambda: js.AutoDecay(0.1, patience=np.float32(0.5)), "AutoDecay(patience=...)"),
        (lambda: js.override(overridden(), learning_rate=-0.1), "override(learning_rate=...)"),
        (
            lambda: js.override(overridden(), scale={"learning_rate": -1}),
            "override(scale={'learning_rate': ...})",
        ),
        (lambda: decay_weights(-0.1), "decay_weights(weight_decay=...)"),
        (lambda: layerwise_decay(["a", "b"], 1.25), "layerwise_decay(decay=...)"),
    ],
)
def test_what_cannot_be_meant_is_refused(call, where):
    with pytest.raises(ValueError, match=where.replace("(", r"\(").replace(")", r"\)")):
        call()


def test_what_is_unusual_but_meant_is_taken():
    assert js.cosine_decay(0.1, 10, end=0.1)(5) == np.float32(0.1)  # equal ends
    assert js.step_decay(0.1, 1, 10)(100) == np.float32(0.1)
    assert js.exponential_growth(1e-3, 10.0, every=100)(200) == pytest.approx(0.1, rel=1e-6)
    assert (-1.0 * js.cosine_decay(0.1, 10))(0) == js.Linear(-0.1, 0.0, 10)(0) == np.float32(-0.1)
    cosine = js.cosine_decay(0.1, 100)  # joins at its exact value, not at that of a float32
    traced = []
    jax.eval_shape(lambda: traced.append(js.with_warmup(cosine, 10)))
    for made in (js.with_warmup(cosine, 10), *traced):
        assert made == js.Linear(0.0, 0.1, 10) >> cosine
    assert js.cooldown_from(cosine, 30, 10).parts[1].start == cosine.host(30)
    down = js.with_warmup(cosine, 10, start=0.5)  # a bias from above
    assert down(0) == 0.5 and down(10) == np.float32(0.1)
    frozen = js.with_warmup(js.cosine_decay(0.0, 100), 10)
    assert frozen(5) == 0.0
    assert js.Plateau(0.1, patience=3.0).patience == 3.0
    traced = jax.jit(lambda factor: js.exponential_decay(0.1, factor)(3))(2.0)
    assert traced == pytest.approx(0.8, rel=1e-6)


def test_the_decay_of_wsd_is_optional_where_it_is_open_ended():
    assert js.wsd(0.1, None, 10) == js.warmup_constant(0.1, 10)
    with pytest.raises(TypeError, match=r"^wsd\(decay=...\) must be given"):
        js.wsd(0.1, 100, 10)


@pytest.mark.parametrize("given", [{"decay": 20}, {"decay": 0}, {"shape": "cosine"}, {"end": 0.01}])
def test_what_an_open_ended_wsd_does_not_use_is_refused(given):
    (name,) = given
    words = rf"^wsd\({name}=...\) must be omitted with steps=None.*cooldown_from"
    with pytest.raises(TypeError, match=words):
        js.wsd(0.1, None, 10, **given)
    with pytest.raises(TypeError, match=words):
        js.grid(js.wsd, peak=0.1, steps=[None], warmup=5, **{name: [given[name]]})
    with pytest.raises(TypeError, match=r"wsd\(end=...\) must be omitted"):
        jax.jit(lambda end: js.wsd(0.1, None, 10, end=end)(3))(0.0)


class Unprintable:
    def __repr__(self):
        raise RuntimeError("no repr")

    __array__ = __repr__


STATE = js.inject(optax.sgd)(learning_rate=js.Plateau(0.1)).init(jnp.ones(2))


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (
            lambda: js.override(STATE, learning_rate=1, group=np.ones(2)),
            r"override\(group=...\) must",
        ),
        (lambda: js.observe(STATE, value=1.0, group=np.ones(2)), r"observe\(group=...\) must"),
        (lambda: js.Linear(Unprintable(), 0, 9), r"start=...\) must be .* that cannot be printed"),
        (lambda: js.Shift(Unprintable(), 9), r"schedule=...\) must be .* that cannot be printed"),
        (lambda: js.cosine_decay(10**5000, 9), r"peak=...\) must be .* that cannot be printed"),
        *(
            (lambda call=call: call(Unprintable()), "must .* that cannot be printed")
            for call in (
                js.from_fn,
                js.Sequence,
                js.register,
                lambda x: js.controllers.Trigger(0.1, x),
                lambda x: js.optim.group_lr(optax.sgd, {x: (".*", 1.0)}),
                lambda x: js.optim.group_lr(optax.sgd, {".*": (x, 1.0, 2.0)}),
                lambda x: js.optim.layerwise_decay([x], 0.5),
                lambda x: js.search.Averaged(x, window=2),
                *(
                    lambda x, name=name: js.sweep(None, [js.Constant(0.1)], **{name: x})
                    for name in ("stopping", "devices", "width")
                ),
            )
        ),
        (lambda: js.from_config({}), r"must have a 'name', got \{\}"),
    ],
)
def test_what_has_no_truth_and_no_text_is_refused_by_its_argument(call, said):
    with pytest.raises((TypeError, ValueError), match=said):
        call()


@pytest.mark.parametrize("value", [10**400, -(10**4000)])
def test_a_metric_beyond_any_float_is_infinite(value):
    state = js.Plateau(0.1).init()
    infinite = np.inf if value > 0 else -np.inf
    told, wanted = (js.Plateau(0.1).update(state, value=x) for x in (value, infinite))
    assert told == wanted
