"""A saved optimizer state goes on: under other schedules, in another kind of state, from Orbax."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from adopt_tasks import BASE, COOLDOWN, GRADS, ORIGINS, PARAMS, RATE, adamw, as_dicts, at, sgd

import jaxsched as js
from jaxsched.controllers import AutoDecay, Bounce, Greedy, NewBob, Plateau, Trigger
from jaxsched.optim import adopt, current, decay_weights, group_lr, inject, remembered, resume


def applied(tx, state, leaf="w", grads=GRADS):
    """The rate of the next update of an sgd under a gradient of one."""
    return -float(tx.update(grads, state, PARAMS)[0][leaf][0])


# ----------------------------------------------------------------- a new schedule at the saved step

CONTROLLERS = {
    "plateau": Plateau(BASE, 0.5),
    "greedy": Greedy(BASE),
    "newbob": NewBob(BASE),
    "bounce": Bounce(BASE),
    "autodecay": AutoDecay(BASE),
    "trigger": Trigger(BASE, COOLDOWN),
    "trigger over plateau": Trigger(Plateau(BASE), (COOLDOWN, COOLDOWN)),
    "plateau over plateau": Plateau(Plateau(BASE), 0.5),
}


@pytest.mark.parametrize("name", CONTROLLERS)
@pytest.mark.parametrize("old", [js.Constant(0.3), AutoDecay(0.3), Trigger(0.3, COOLDOWN)])
def test_a_new_controller_starts_at_the_saved_step(name, old):
    tx = sgd(CONTROLLERS[name])
    state = resume(at(50, sgd(old)), tx.init(PARAMS), policy="new")
    assert float(current(state)["learning_rate"]) == pytest.approx(RATE, rel=1e-6)
    assert applied(tx, state) == pytest.approx(RATE, rel=1e-6)
    assert {int(v) for k, v in remembered(state).items() if k.endswith("step")} == {50}
    with pytest.raises(ValueError, match=r"policy.* learning_rate differs: .*0\.3[,)]"):
        resume(at(50, sgd(old)), tx.init(PARAMS))


def test_a_schedule_follows_a_controller_and_the_checkpoint_may_keep_either():
    watching, plain = sgd(Plateau(BASE, 0.5, patience=0)), sgd(js.Constant(0.3))
    cut = at(50, watching)
    for _ in range(2):
        cut = js.observe(cut, value=1.0)
    assert applied(plain, resume(cut, plain.init(PARAMS), policy="new")) == pytest.approx(0.3)
    kept = resume(cut, plain.init(PARAMS), policy="checkpoint")
    assert applied(plain, kept) == pytest.approx(RATE / 2)
    kept = resume(at(50, plain), watching.init(PARAMS), policy="checkpoint")
    assert applied(watching, kept) == pytest.approx(0.3)


def test_what_a_controller_remembers_goes_on_in_one_of_its_class():
    state = at(50, sgd(Plateau(BASE, 0.5, patience=1)))
    for loss in (1.0, 1.0, 1.0, 1.0):
        state = js.observe(state, value=loss)
    scale, best, bad = (remembered(state)[f"learning_rate/{n}"] for n in ("scale", "best", "bad"))
    assert (float(scale), float(best), int(bad)) == (0.5, 1.0, 1)

    def resumed(controller, under=""):
        seen = remembered(resume(state, sgd(controller).init(PARAMS), policy="new"))
        return [float(seen[f"learning_rate/{under}{n}"]) for n in ("scale", "best", "bad")]

    assert resumed(Plateau(0.3, 0.1, patience=7)) == [0.5, 1.0, 1.0]
    # "max" knows no best yet, and the next report is one; the rate doesn't jump.
    assert resumed(Plateau(BASE, 0.5, patience=1, mode="max")) == [0.5, -np.inf, 0.0]
    assert resumed(Plateau(BASE, 0.5, min_scale=0.75)) == [0.75, 1.0, 1.0]
    assert resumed(Trigger(Plateau(BASE), COOLDOWN), "base/") == [0.5, 1.0, 1.0]
    assert resumed(Plateau(Plateau(BASE)), "base/") == [1.0, np.inf, 0.0]
    greedy = remembered(resume(state, sgd(Greedy(BASE)).init(PARAMS), policy="new"))
    assert float(greedy["learning_rate/scale"]) == 1.0


def test_a_stage_that_was_triggered_goes_on_where_it_was():
    tx = sgd(Trigger(BASE, (COOLDOWN, js.Constant(1.0))))
    state = js.observe(at(50, tx), trigger=True)
    for _ in range(5):
        state = tx.update(GRADS, state, PARAMS)[1]
    fewer = sgd(Trigger(js.Constant(9.0), js.Linear(1.0, 0.0, 10)))
    assert applied(fewer, resume(state, fewer.init(PARAMS), policy="new")) == pytest.approx(
        RATE / 2
    )
    moved = adopt(state, fewer.init(PARAMS), step=1000)  # five updates ago, whatever the step is
    assert applied(fewer, moved) == pytest.approx(RATE / 2)


def test_a_memory_is_found_where_it_was_if_the_injection_moved():
    def around(lr):
        return optax.chain(optax.clip_by_global_norm(1e9), optax.sgd(lr))

    old = optax.chain(optax.clip_by_global_norm(1e9), inject(optax.sgd)(Plateau(BASE, 0.5, 0)))
    state = at(50, old)
    for _ in range(2):
        state = js.observe(state, value=1.0)
    new = inject(around)(lr=Plateau(BASE, 0.5, 0))
    assert applied(new, adopt(state, new.init(PARAMS))) == pytest.approx(RATE)  # of another name
    new = inject(lambda learning_rate: around(learning_rate))(learning_rate=Plateau(BASE, 0.5, 0))
    assert applied(new, adopt(state, new.init(PARAMS))) == pytest.approx(RATE / 2)


WRAPPERS = {
    "multisteps": lambda tx: optax.MultiSteps(tx, 1),
    "masked": lambda tx: optax.masked(tx, {"w": True, "b": False}),
    "partition": lambda tx: optax.partition({"x": tx}, {"w": "x", "b": "x"}),
    "if finite": lambda tx: optax.apply_if_finite(tx, 3),
    "chain": lambda tx: optax.chain(optax.clip_by_global_norm(1e9), tx, optax.scale(1.0)),
}


@pytest.mark.parametrize("wrapper", WRAPPERS)
@pytest.mark.parametrize("move", [adopt, lambda old, new: resume(old, new, policy="new")])
def test_it_does_so_inside_of_any_wrapper(wrapper, move):
    tx = WRAPPERS[wrapper](sgd(Plateau(BASE)))
    state = move(at(50, WRAPPERS[wrapper](sgd(js.Constant(0.3)))), tx.init(PARAMS))
    assert applied(tx, state) == pytest.approx(RATE, rel=1e-6)


def test_groups_and_chains_of_several_injected_states_each_get_their_own():
    def chained(lr, decay):
        return optax.chain(sgd(lr), inject(decay_weights)(weight_decay=decay))

    tx = chained(Plateau(BASE), js.Linear(1.0, 0.0, 100))
    old = at(50, chained(js.Constant(0.3), js.Constant(0.0)))
    values = current(resume(old, tx.init(PARAMS), policy="new"))
    np.testing.assert_allclose([values["learning_rate"], values["weight_decay"]], [RATE, 0.5], 1e-6)
    with pytest.raises(ValueError, match=r"because weight_decay differs"):
        resume(old, chained(js.Constant(0.3), js.Constant(0.1)).init(PARAMS))

    groups = {"w": js.Linear(1.0, 0.0, 100), "b": 2.0}
    tx = group_lr(optax.sgd, groups)(learning_rate=Plateau(BASE))
    old = at(50, group_lr(optax.sgd, {"w": 1.0, "b": 1.0})(learning_rate=0.3))
    state = resume(old, tx.init(PARAMS), policy="new")
    assert applied(tx, state) == pytest.approx(RATE / 2, rel=1e-6)
    assert applied(tx, state, "b") == pytest.approx(RATE * 2, rel=1e-6)


populated = jax.jit(jax.vmap(lambda rate: sgd(js.Constant(rate)).init(PARAMS)))


def test_members_of_a_population_each_start_at_their_own_step():
    @jax.jit
    @jax.vmap
    def start(peak):
        return sgd(Plateau(js.warmup_cosine(peak, 100, 10), 0.5, patience=0)).init(PARAMS)

    plain = populated(jnp.array([0.3, 0.4]))
    plain = plain._replace(count=jnp.array([50, 10]))
    fresh = start(jnp.array([0.1, 0.2]))
    state = resume(plain, fresh, policy="new")
    np.testing.assert_allclose(current(state)["learning_rate"], [RATE, 0.2], rtol=1e-6)
    for losses in (1.0, jnp.array([1.0, 0.5])):  # one number is for all
        state = js.observe(state, value=losses)
    again = resume(state, fresh, policy="new")
    np.testing.assert_allclose(current(again)["learning_rate"], [RATE / 2, 0.2], rtol=1e-6)


def test_populations_and_single_states_are_not_mixed():
    many = populated(jnp.array([0.3, 0.4]))
    with pytest.raises(ValueError, match=r"at count fresh has int32\[\] and saved int32\[2\]"):
        adopt(many, sgd(BASE).init(PARAMS))
    with pytest.raises(ValueError, match=r"at count fresh has int32\[2\] and saved int32\[3\]"):
        adopt(many, many, step=jnp.arange(3))
    np.testing.assert_array_equal(adopt(at(5, sgd(BASE)), many, step=jnp.arange(2)).count, [0, 1])
    alone = sgd(js.Constant(0.3)).init(PARAMS)  # without a moment that would tell them apart
    for saved, fresh, policy in ((many, alone, "checkpoint"), (alone, many, None)):
        with pytest.raises(ValueError, match="one run or populations of one size, got counts"):
            resume(saved, fresh, policy=policy)


def test_a_parameter_may_be_called_count():
    params = {"count": jnp.ones(2)}
    tx = inject(optax.adam)(learning_rate=BASE)
    state = adopt(at(50, optax.adam(0.3), params), tx.init(params))
    moved = adopt(at(50, optax.adam(0.3), params), tx.init(params), step=7)
    for adam in (state.inner_state[0], moved.inner_state[0]):
        assert (int(adam.count), adam.mu["count"].tolist()) == (50, [0.25, 0.25])
    assert (int(state.count), int(moved.count)) == (50, 7)


class Halved:
    """A stateful schedule in Optax's sense: half of the rate after 20 updates."""

    def init(self):
        return jnp.int32(0)

    def update(self, state, **extra):
        return state + 1

    def __call__(self, state, **extra):
        return jnp.where(state < 20, 1.0, 0.5)


@jax.tree_util.register_static
class HalvedTree(Halved):
    """The same as a pytree."""


def test_a_foreign_controller_is_told_nothing_for_as_long_or_refused():
    tx = sgd(HalvedTree())
    assert applied(tx, resume(at(50, sgd(BASE)), tx.init(PARAMS), policy="new")) == 0.5
    with pytest.raises(ValueError, match="isn't a pytree"):
        resume(at(50, sgd(BASE)), sgd(Halved()).init(PARAMS), policy="new")


# --------------------------------------------------------------------------------- what doesn't fit

TALL = {**PARAMS, "w": jnp.ones(4)}

HALF = {**PARAMS, "w": jnp.ones(3, jnp.bfloat16)}

FRESH = {
    "another optimizer": (sgd(BASE).init(PARAMS), r"ScaleByAdamState\(count, mu/b"),
    "momentum": (
        inject(optax.sgd)(learning_rate=BASE, momentum=0.9).init(PARAMS),
        "TraceState.*ScaleByAdamState",
    ),
    "the same names": (inject(optax.adabelief)(learning_rate=BASE).init(PARAMS), "ScaleByBelief"),
    "shape": (adamw(BASE).init(TALL), r"0/mu/w fresh has float32\[4\] and saved float32\[3\]"),
    "dtype": (adamw(BASE).init(HALF), r"0/mu/w fresh has bfloat16\[3\]"),
    "a parameter less": (adamw(BASE).init({"w": jnp.ones(3)}), "0/mu/b fresh has nothing"),
    "a parameter more": (
        adamw(BASE).init({**PARAMS, "c": jnp.ones(1)}),
        r"0/mu/c fresh has float32\[1\] and saved nothing",
    ),
}


@pytest.mark.parametrize("name", FRESH)
@pytest.mark.parametrize("policy", ["new", "checkpoint", None, "adopt"])
def test_a_state_of_another_optimizer_is_refused_by_leaf(name, policy):
    fresh, words = FRESH[name]
    saved = at(5, adamw(BASE))
    with pytest.raises(ValueError, match=words):
        adopt(saved, fresh) if policy == "adopt" else resume(saved, fresh, policy=policy)


# ----------------------------------------------------------------------------------- from elsewhere


@pytest.mark.parametrize("form", [lambda x: x, as_dicts], ids=["classes", "dicts"])
@pytest.mark.parametrize("origin", ORIGINS)
@pytest.mark.parametrize(
    "tx",
    [
        adamw(BASE, weight_decay=js.Linear(0.1, 0.0, 100)),
        adamw(Plateau(BASE)),
        group_lr(optax.adamw, {".*": 1.0})(learning_rate=BASE),
    ],
    ids=["schedules", "controller", "groups"],
)
def test_moments_and_step_come_from_any_state_of_the_optimizer(origin, form, tx):
    state = adopt(form(at(50, ORIGINS[origin])), tx.init(PARAMS))
    assert jax.tree.structure(state) == jax.tree.structure(tx.init(PARAMS))
    assert float(current(state)["learning_rate"]) == pytest.approx(RATE, rel=1e-6)
    adam = state.inner_state[0]
    assert (int(state.count), int(adam.count), float(adam.mu["w"][0])) == (50, 50, 0.25)
    # Bit for bit the update of plain Optax with that rate from there on.
    if origin == "a number" and len(current(state)) == 1:
        plain = optax.adamw(np.float32(current(state)["learning_rate"]))
        expected = plain.update(GRADS, at(50, plain), PARAMS)[0]
        got = tx.update(GRADS, state, PARAMS)[0]
        jax.tree.map(np.testing.assert_array_equal, got, expected)


def test_the_count_of_a_schedule_decides_and_a_conflict_is_an_error():
    plain = optax.adamw(BASE)
    adam, none, schedule = at(50, plain)
    fresh = adamw(BASE).init(PARAMS)
    apart = (adam._replace(count=jnp.int32(40)), none, schedule)
    with pytest.raises(ValueError, match=r"step=.*0/count=40, 2/count=50"):
        adopt(apart, fresh)
    state = adopt(apart, fresh, step=60)
    assert (int(state.count), int(state.inner_state[0].count)) == (60, 40)

    # Where something is injected, that counts, and not Adam.
    old = at(50, optax.inject_hyperparams(optax.adamw)(learning_rate=BASE))
    inner = (old.inner_state[0]._replace(count=jnp.int32(40)), *old.inner_state[1:])
    assert int(adopt(old._replace(inner_state=inner), fresh).count) == 50
    with pytest.raises(ValueError, match="hyperparams_states/learning_rate/count=50"):
        adopt(old._replace(count=jnp.int32(40)), fresh)


def test_what_is_no_state_of_the_optimizer_is_refused_before_its_step_is_asked_for():
    fresh = adamw(BASE).init(PARAMS)
    for saved, words in [
        (PARAMS, r"at b fresh has nothing and saved float32\[2\]"),
        ({}, r"at 0 fresh has ScaleByAdamState\(.*\) and saved nothing"),
        (None, r"at 0 fresh has ScaleByAdamState\(.*\) and saved nothing"),
        (3, r"at the root fresh has tuple\(.*\) and saved int32"),
        (optax.sgd(0.1, momentum=0.9).init(PARAMS), "ScaleByAdamState.*TraceState"),
    ]:
        with pytest.raises(ValueError, match=words):
            adopt(saved, fresh)


def test_a_state_without_a_count_needs_the_step():
    tx = sgd(BASE)
    for old in (optax.sgd(0.3), optax.sgd(0.3, momentum=0.9)):
        new = inject(optax.sgd)(
            learning_rate=BASE, momentum=None if old.init(PARAMS)[0] == () else 0.9
        )
        with pytest.raises(ValueError, match=r"step=.*no count"):
            adopt(old.init(PARAMS), new.init(PARAMS))
        assert int(adopt(old.init(PARAMS), new.init(PARAMS), step=50).count) == 50
    for step, error in [(-1, ValueError), (1.5, TypeError), ("5", TypeError), (2**40, ValueError)]:
        with pytest.raises(error, match="step="):
            adopt(optax.sgd(0.3).init(PARAMS), tx.init(PARAMS), step=step)
    # The gradient_step of MultiSteps is the number of its updates.
    several = optax.MultiSteps(optax.sgd(0.3), 4)
    state = adopt(at(50, several), optax.MultiSteps(tx, 4).init(PARAMS))
    assert float(current(state)["learning_rate"]) == pytest.approx(RATE, rel=1e-6)
    with pytest.raises(ValueError, match=r"fresh=.*found none"):
        adopt(at(50, several), several.init(PARAMS))
