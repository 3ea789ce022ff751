"""A schedule and a wrapper of one's own are as good as ours: laws, phases, pictures, files."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from results_by_hand import result_of

import jaxsched as js
from jaxsched import _serialize, search
from jaxsched import schedules as own
from jaxsched.controllers import Average
from jaxsched.testing import check_schedule


@js.register
@own.struct
class Saturating(js.AbstractSchedule):
    peak: float = own.number()
    timescale: float = own.number(above=0)

    @property
    def duration(self):
        return None

    def value_at(self, t):
        passed = own.at_least_zero(t) / own.as_number(t, self.timescale)
        return own.as_value(t, self.peak) * -own.to_value(own.expm1(-passed))

    def natural_length(self):
        return 5 * self.timescale


@js.register
@own.struct
class LookAhead(own.AbstractWrapper):
    ahead: int = own.length(at_least=0)

    def value_at(self, t):
        now = own.at_least_zero(t)
        later = now + own.as_number(t, self.ahead)
        return 0.5 * (self.schedule.value_at(now) + self.schedule.value_at(later))


@js.register
@own.struct
class Wave(js.AbstractSchedule):
    """In ``jnp``, as good as float32."""

    steps: int = own.length(at_least=1)

    @property
    def duration(self):
        return self.steps

    def value_at(self, t):
        done = own.minimum(own.at_least_zero(t) / own.as_number(t, self.steps), 1.0)
        return 1.0 + jnp.sin(own.to_value(done))


WSD = js.wsd(0.1, 1000, 100, 200)
OWN = [
    Saturating(0.1, 50),
    LookAhead(WSD, 30),
    Wave(100),
    js.Shift(Wave(10), 3) >> LookAhead(Saturating(0.1, 50), 5),
]


@pytest.mark.parametrize("schedule", OWN, ids=repr)
def test_every_law_holds(schedule, in_numpy):
    check_schedule(schedule)


def test_phases_pictures_and_lengths_are_known():
    assert js.boundaries(LookAhead(WSD, 30)) == js.boundaries(WSD) == (100, 800)
    assert js.boundaries(js.Shift(LookAhead(WSD, 30), 50)) == (150, 850)
    assert [phase.name for phase in js.coverage(LookAhead(WSD, 3), 500).unreached] == ["Linear"]
    assert js.boundaries(Saturating(0.1, 50) * WSD) == (100, 800, 1000)
    assert "0 to 0.0993, 250 steps" in Saturating(0.1, 50)._repr_html_()
    assert "LookAhead(Linear(0, 0.1, 100) &gt;&gt; C" in LookAhead(WSD, 30)._repr_html_()


@own.struct
class Cut(own.AbstractWrapper):
    @property
    def duration(self):
        return 20

    def value_at(self, t):
        return self.schedule.value_at(own.minimum(t, own.as_number(t, 20)))


@pytest.mark.parametrize("inner", [js.Exponential(1.0, 0.5), js.Linear(1.0, 0.0, 50)])
def test_a_wrapper_may_say_its_length_by_its_duration_alone(inner):
    joined = Cut(inner) >> js.Linear(1.0, 0.0, 10)
    assert joined.duration == 30 and float(joined(25)) == 0.5
    assert [(p.start, p.end) for p in joined.phases()] == [(0, 20), (20, 30)]
    assert js.Repeat(Cut(inner), cycles=2).duration == 40 and js.Reverse(Cut(inner)).duration == 20
    assert float(js.Stretch(Cut(inner), 2.0).duration) == 40 and (2 * Cut(inner)).duration == 20


def test_a_known_formula_in_jnp_is_a_constant_of_a_program():
    assert jax.jit(lambda: Wave(10)(3))() == Wave(10)(3)


@pytest.mark.parametrize("of", [(js.Constant, 1.0), (js.Sum, [js.Constant(1.0)] * 2)])
def test_a_value_of_ones_own_is_not_taken_for_the_constant_of_its_base(of):
    base, fields = of

    @own.struct
    class Rising(base):
        def value_at(self, t):
            return own.to_value(t)

    lr = js.Linear(1.0, 0.0, 10)
    assert (lr * base(fields)).duration == 10
    assert (lr * Rising(fields)).duration is (lr / Rising(fields)).duration is None


def test_one_without_numbers_has_no_axes_and_goes_into_recipes():
    @own.struct
    class Half(js.AbstractSchedule):
        duration = None

        def value_at(self, t):
            return own.as_value(t, 0.5) + own.to_value(t * 0.0)

    assert js.members(Half()) is None
    assert float(js.with_warmup(Half(), 4)(2)) == float(js.cooldown_from(Half(), 4, 8)(8)) == 0.25


def test_members_of_a_population_of_ones_own():
    family = js.stack([LookAhead(Saturating(peak, 50), 5) for peak in (1.0, 2.0)])
    one, two = jax.vmap(lambda s: s(7))(family)
    assert two == 2 * one


@pytest.mark.parametrize("made", [list, lambda xs: {"of": xs}, lambda xs: Average(xs, None)])
def test_numbers_in_a_tree_of_any_kind_are_those_of_a_population(made):
    @own.struct
    class Tree(js.AbstractSchedule):
        numbers: Any
        fixed: Any = own.static(default=(4, 5))
        duration = None

        def value_at(self, t):
            return own.as_value(t, sum(jax.tree.leaves(self.numbers)))

    one, two = Tree(made([1.0, 2.0])), Tree(made([3.0, 4.0]))
    family = js.stack([one, two])
    assert js.members(family) == 2
    assert js.unstack(family) == [one, two]
    with pytest.raises(ValueError, match="is a population"):
        family(3)
    product = one * js.Constant(np.ones(3))
    assert {np.shape(x) for x in jax.tree.leaves(product)} == {(3,)}
    assert product.parts[0].fixed == (4, 5)


@own.struct
class Unregistered(own.AbstractWrapper):
    def value_at(self, t):
        return self.schedule.value_at(t)


@pytest.mark.parametrize(
    "kind",
    [
        *("Unregistered", "test_own_schedules.Unregistered", "Function", "Record", "wave", ""),
        *("AbstractWrapper", "os.system", "__main__.Wave", "jaxsched.schedules.LookAhead"),
    ],
)
def test_a_file_names_only_what_is_registered(kind):
    data = {"jaxsched": 1, "type": kind, "schedule": {"type": "Constant", "value": 1.0}}
    with pytest.raises(ValueError, match=r"^from_dict\(type=...\) must be one of "):
        js.from_json(json.dumps(data))
    with pytest.raises(TypeError, match=r"registered by js\.register"):
        js.to_dict(Unregistered(js.Constant(1.0)))


@pytest.mark.parametrize(
    "fields",
    [
        {"schedule": "os.system", "ahead": 3},
        {"schedule": {"type": "Wave", "steps": 3}, "ahead": -1},
        {"schedule": {"type": "Wave", "steps": 3}, "ahead": "__import__('os')"},
        {"schedule": {"type": "Wave", "steps": 3}, "ahead": 1, "value_at": 3},
        {"schedule": [1.0], "ahead": 3},
        {"ahead": 3},
    ],
)
def test_what_a_file_says_of_a_registered_class_is_checked(fields):
    with pytest.raises(ValueError, match="LookAhead"):
        js.from_dict({"jaxsched": 1, "type": "LookAhead", **fields})


def test_a_class_that_is_not_registered_here_is_no_damage(tmp_path, monkeypatch):
    trial = search.Trial("own", {}, {"learning_rate": LookAhead(js.Constant(0.1), 3)}, "")
    dataclasses.replace(result_of([[1.0]]), trials=(trial,)).save(tmp_path / "r.npz")
    monkeypatch.delitem(_serialize._REGISTERED, "LookAhead")
    own_class = r"got 'LookAhead'; a class of your own is known when .* \(js.register\) is imported"
    with pytest.raises(ValueError, match=rf"r\.npz, which this process cannot read.*{own_class}"):
        search.load(tmp_path / "r.npz")
    for name, words in {"LookAhead": own_class, "Linaer": "'Linaer'; did you mean Linear"}.items():
        with pytest.raises(ValueError, match=words):
            js.from_dict({"jaxsched": 1, "type": name})


def test_what_is_registered_is_a_class_of_data_with_a_name_of_its_own():
    assert js.register(Wave) is Wave
    for wrong in (len, type("Derived", (Wave,), {})):
        with pytest.raises(TypeError, match="a class made by @struct"):
            js.register(wrong)
    with pytest.raises(TypeError, match="static fn"):
        js.register(js.Function)
    for name in ("Linear", "share", "Wave"):
        other = own.struct(type(name, (Wave,), {"__module__": "elsewhere"}))
        with pytest.raises(ValueError, match=f"a name of its own, got {name}, which is"):
            js.register(other)


def test_a_class_without_struct_is_told_so():
    class Bare(js.AbstractSchedule):
        duration = None
        value_at = Saturating.value_at

    class Own(Bare):
        def __init__(self, peak):
            self.peak = peak

    for cls in (Bare, Own):
        with pytest.raises(TypeError, match=rf"^{cls.__name__} must be decorated with @struct"):
            cls(0.1)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (
            lambda t: jnp.where(t < 0, 3.0, 1.0),
            r"before 0 it is not s\(0\): 3\.0 at step -\d+, not 1",
        ),
        (lambda t: jnp.where(t > 5, 3.0, 1.0), r"the end does not hold: 3\.0 at step \d+, not 1"),
    ],
)
def test_a_value_that_is_not_held_is_shown_with_its_step(value, words):
    @own.struct
    class Loose(js.AbstractSchedule):
        duration = 5

        def value_at(self, t):
            return own.to_value(value(own.to_value(t)))

    with pytest.raises(AssertionError, match=words):
        check_schedule(Loose())


def test_relations_between_fields_are_checked_without_super():
    @own.struct
    class Bounded(LookAhead):
        def __check_init__(self):
            if self.ahead > 10:
                raise ValueError("Bounded(ahead=...) must be at most 10.")

    with pytest.raises(ValueError, match="at most 10"):
        Bounded(WSD, 11)
    with pytest.raises(TypeError, match=r"Bounded\(schedule=...\) must be a schedule"):
        Bounded(3.0, 5)
    assert Bounded(WSD, 5)(np.int32(7)) == LookAhead(WSD, 5)(7)


def test_a_field_is_converted_where_a_class_continues_post_init():
    @own.struct
    class Short(js.Plateau):
        def __post_init__(self):
            super().__post_init__()
            if self.base.duration is not None:
                raise ValueError("Short(base=...) must be open-ended.")

    assert Short(0.1) == Short(js.Constant(0.1))
    with pytest.raises(ValueError, match="must be open-ended"):
        Short(js.Linear(0.0, 0.1, 5))
    with pytest.raises(TypeError, match=r"Short\(base=...\) must be a schedule, a controller or"):
        Short("0.1")
