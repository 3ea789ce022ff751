"""Every controller under every law, and in every seam."""

import functools
import pickle

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxsched as js
from jaxsched import controllers
from jaxsched.controllers import AutoDecay, Bounce, Greedy, NewBob, Plateau, Trigger
from jaxsched.optim import current, inject, override, register_export, resume
from jaxsched.testing import CONTROLLER_LAWS, check_controller, default_run

BASE = js.Linear(0.5, 0.1, 40)

CONTROLLERS = {
    "Plateau": Plateau(BASE, factor=0.5, patience=1),
    "Around": js.Clip(0.5 * Plateau(BASE, factor=0.5, patience=1) + 1e-3, low=0.01),
    "Around-quiet": js.Linear(0.0, 0.1, 9) >> Plateau(BASE, factor=0.5, patience=0),
    "Plateau-max": Plateau(
        BASE, 0.3, patience=0, mode="max", rule="keras", nan="bad", cooldown=2, min_lr=0.125
    ),
    "Plateau-smooth": Plateau(BASE, 0.0, patience=0, smooth=0.7, min_lr=0.02, quiet=3),
    "Plateau-stop": Plateau(BASE, 0.5, patience=1, accumulate=2, nan="stop", rule="optax"),
    "Greedy": Greedy(BASE, 0.5, patience=1, max_scale=4.0, warmup=1, cooldown=2),
    "Greedy-max": Greedy(BASE, 0.8, patience=0, mode="max", nan="bad", accumulate=2, smooth=0.5),
    "NewBob": NewBob(BASE, patience=1, min_scale=0.1, min_lr=0.1, quiet=2),
    "Bounce": Bounce(BASE, 0.5),
    "AutoDecay": AutoDecay(BASE, 0.5, patience=0, rtol=0.0),
    "Trigger": Trigger(BASE, js.Linear(1.0, 0.0, 5)),
    "Trigger-stages": Trigger(Plateau(BASE, 0.5), (js.Cosine(1.0, 0.5, 7), js.Constant(1.0))),
}


@pytest.mark.parametrize("name", CONTROLLERS)
@pytest.mark.parametrize("law", CONTROLLER_LAWS)
def test_law(name, law, request):
    """XLA compiles a step and a scan of each; populations and other numbers run in NumPy."""
    if law in ("batched", "no_retrace"):
        request.getfixturevalue("in_numpy")
    CONTROLLER_LAWS[law](CONTROLLERS[name], default_run())


def test_a_broken_controller_is_found():
    class Forgetful:
        """A stateful schedule in Optax's sense whose state changes its dtype."""

        def init(self):
            return jnp.int32(0)

        def update(self, state, *, value=0.0, **extra):
            return state + (jnp.nan_to_num(value) > 0.5) * 1.0

        def __call__(self, state, **extra):
            return jnp.float32(0.1)

    with pytest.raises(AssertionError, match="law 'stable_state' does not hold"):
        check_controller(Forgetful())
    with pytest.raises(ValueError, match="must name laws"):
        check_controller(Forgetful(), skip=["fast"])

    @controllers.struct
    class Deaf(Plateau):
        def react(self, state, *, value=None, reported=True, **extra):
            return super().react(state, value=value)

    with pytest.raises(AssertionError, match=r"without a report, told .*'reported': False"):
        CONTROLLER_LAWS["holds"](Deaf(BASE, factor=0.5, patience=0), default_run())


def test_any_stateful_schedule_can_be_checked():
    class Halving:
        """Opaque: no pytree, no scale, no hash."""

        __hash__ = None

        def init(self):
            return jnp.float32(1.0)

        def update(self, state, *, value=None, **extra):
            return state if value is None else jnp.where(value > 0, state / 2, state)

        def __call__(self, state, **extra):
            return 0.1 * state

    check_controller(Halving())
    check_controller(Halving(), bounds=(0.0, 0.1))
    with pytest.raises(AssertionError, match=r"'bounded' .* falls to"):
        check_controller(Halving(), bounds=(0.05, 0.1))


# ---------------------------------------------------------------------------------------- the seams

PARAMS = {"w": jnp.ones(3)}

GRADS = jax.tree.map(jnp.ones_like, PARAMS)

LOSSES = np.float32([3.0, 2.0, 2.0, 2.0, 1.9, 1.9, 1.9, 1.0])

WATCHING = Plateau(BASE, factor=0.5, patience=1)

SCALES = np.float32([1.0, 1.0, 1.0, 1.0, 0.5, 0.5, 0.5, 0.25])  # at each update

RATES = np.asarray(BASE(np.arange(len(LOSSES)))) * SCALES


def applied(tx, params=PARAMS, state=None, losses=LOSSES):
    """The rate of every update under a gradient of one, and the last state."""
    update = jax.jit(lambda g, s, value: tx.update(g, s, params, value=value))
    state, rates = tx.init(params) if state is None else state, []
    for loss in losses:
        updates, state = update(jax.tree.map(jnp.ones_like, params), state, loss)
        rates.append(-float(updates["w"][0]))
    return np.array(rates), state


@pytest.mark.parametrize(
    "tx",
    [
        inject(optax.sgd)(learning_rate=WATCHING),
        optax.inject_hyperparams(optax.sgd)(learning_rate=WATCHING),
        optax.chain(optax.clip_by_global_norm(1e9), inject(optax.sgd)(learning_rate=WATCHING)),
        optax.apply_if_finite(inject(optax.sgd)(learning_rate=WATCHING), 3),
        optax.partition({"a": inject(optax.sgd)(learning_rate=WATCHING)}, {"w": "a"}),
        optax.masked(inject(optax.sgd)(learning_rate=WATCHING), {"w": True}),
    ],
)
def test_the_applied_rate_is_base_times_scale(tx):
    rates, _ = applied(tx)
    np.testing.assert_allclose(rates, RATES, rtol=1e-6)


def test_it_is_a_stateful_schedule_to_optax_and_a_plain_schedule_is_not():
    from optax._src.base import StatefulSchedule

    assert isinstance(WATCHING, StatefulSchedule)
    assert not isinstance(BASE, StatefulSchedule)


def test_current_override_resume_and_export_with_a_controller():
    tx = inject(optax.adam)(learning_rate=WATCHING)
    _, state = applied(tx, losses=LOSSES[:5])
    assert float(current(state)["learning_rate"]) == pytest.approx(RATES[4])
    assert float(state.controller_states["learning_rate"].scale) == 0.5
    halved = override(state, scale={"learning_rate": 0.5})
    _, after = applied(tx, state=halved, losses=LOSSES[5:6])
    assert float(current(after)["learning_rate"]) == pytest.approx(0.5 * RATES[5])

    saved = pickle.dumps(jax.tree.map(np.asarray, state))
    again = jax.tree.map(jnp.asarray, pickle.loads(saved))
    whole, resumed = (applied(tx, state=s, losses=LOSSES[5:])[1] for s in (state, again))
    jax.tree.map(np.testing.assert_array_equal, whole, resumed)

    slower = inject(optax.adam)(learning_rate=Plateau(BASE, factor=0.1, patience=1))
    new = resume(again, slower.init(PARAMS), policy="new")
    assert float(new.controller_states["learning_rate"].scale) == 0.5
    assert float(new.schedules["learning_rate"].factor) == pytest.approx(0.1)

    register_export(state)
    step = jax.jit(lambda g, s, v: tx.update(g, s, PARAMS, value=v)[1])
    exported = jax.export.export(step)(GRADS, state, jnp.float32(1.9))
    assert exported.call(GRADS, state, jnp.float32(1.9)).count == 6


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_low_precision_parameters_leave_the_scale_alone(dtype):
    params = {"w": jnp.ones(3, dtype)}
    tx = inject(optax.adamw)(learning_rate=Plateau(1e-3, factor=0.9, patience=0))
    update = jax.jit(lambda g, s, v: tx.update(g, s, params, value=v))
    state = tx.init(params)
    for _ in range(4):
        updates, state = update(params, state, jnp.ones((), dtype))
    assert updates["w"].dtype == dtype
    held = state.controller_states["learning_rate"]
    assert held.scale.dtype == jnp.float32
    np.testing.assert_allclose(held.scale, np.float32(0.9) ** 3, rtol=1e-6)


def test_factor_and_patience_are_swept_in_one_program():
    factors, patiences = np.float32([0.1, 0.5, 0.9]), np.int32([0, 1, 2])

    @jax.jit
    @chex.assert_max_traces(n=1)
    def sweep(factors, patiences, losses):
        def member(factor, patience):
            tx = inject(optax.sgd)(learning_rate=Plateau(BASE, factor=factor, patience=patience))

            def body(state, loss):
                _, state = tx.update(GRADS, state, PARAMS, value=loss)
                return state, current(state)["learning_rate"]

            return jax.lax.scan(body, tx.init(PARAMS), losses)[1]

        return jax.vmap(member)(factors, patiences)

    rates = sweep(factors, patiences, LOSSES)
    sweep(factors * 0.5, patiences + 1, LOSSES + 1)
    for factor, patience, row in zip(factors, patiences, rates, strict=True):
        solo = inject(optax.sgd)(learning_rate=Plateau(BASE, factor=factor, patience=patience))
        np.testing.assert_allclose(row, applied(solo)[0], rtol=1e-6)


def test_stacked_controllers_are_a_population():
    population = js.stack([Plateau(BASE, f, patience=p) for f, p in [(0.1, 0), (0.5, 1)]])
    states = jax.vmap(lambda c: c.init())(population)
    update = jax.jit(jax.vmap(lambda c, s, v: c.update(s, value=v), (0, 0, None)))
    for loss in LOSSES:
        states = update(population, states, loss)
    np.testing.assert_allclose(states.scale, [1e-4, 0.25], rtol=1e-5)


def test_multisteps_hands_on_the_value_of_the_last_micro_batch_only():
    tx = optax.MultiSteps(inject(optax.sgd)(learning_rate=Plateau(0.5, 0.5, patience=0)), 2)
    state, update = tx.init(PARAMS), jax.jit(lambda s, v: tx.update(GRADS, s, PARAMS, value=v))
    means = []
    for micro in [(9.0, 1.0), (9.0, 1.0), (1.0, 0.5)]:
        for index in range(2):  # so the loop reports the mean so far
            value = jnp.float32(np.mean(micro[: index + 1]))
            _, state = update(state, value)
        means.append(float(state.inner_opt_state.controller_states["learning_rate"].best))
    assert means == [5.0, 5.0, 0.75]
    assert int(state.inner_opt_state.controller_states["learning_rate"].step) == 3


def test_a_skipped_update_is_no_step_and_no_report_but_beside_the_guard():
    controlled = inject(optax.sgd)(learning_rate=Plateau(BASE, 0.5, patience=0))
    guard = lambda learning_rate: optax.apply_if_finite(optax.sgd(learning_rate), 5)
    within = inject(guard)(learning_rate=Plateau(BASE, 0.5, patience=0))
    broken = {"w": jnp.full(3, jnp.nan)}

    def after(tx, find):
        state = tx.init(PARAMS)
        for grads in (GRADS, broken, GRADS):
            _, state = tx.update(grads, state, PARAMS, value=1.0)
        held = find(state).controller_states["learning_rate"]
        return int(held.step), int(held.seen), float(held.scale)

    guarded = optax.apply_if_finite(controlled, 5)
    assert after(guarded, lambda s: s.inner_state) == after(within, lambda s: s) == (2, 2, 0.5)
    beside = optax.chain(optax.apply_if_finite(optax.identity(), 5), controlled)
    assert after(beside, lambda s: s[1]) == (3, 3, 0.25)


def test_nnx_optimizer_forwards_the_metric():
    nnx = pytest.importorskip("flax.nnx")
    model = nnx.Linear(2, 1, rngs=nnx.Rngs(0))
    optimizer = nnx.Optimizer(model, inject(optax.sgd)(learning_rate=WATCHING), wrt=nnx.Param)

    @nnx.jit
    def step(model, optimizer, loss):
        grads = nnx.grad(lambda m: m(jnp.ones((1, 2))).sum())(model)
        optimizer.update(model, grads, value=loss)

    for index, loss in enumerate(LOSSES):
        step(model, optimizer, loss)
        rate = float(current(optimizer)["learning_rate"])
        assert rate == pytest.approx(RATES[index], rel=1e-6)


def test_linen_recipe():
    from flax.training import train_state

    class TrainState(train_state.TrainState):
        def apply_gradients(self, *, grads, value=None, **changes):
            updates, opt_state = self.tx.update(grads, self.opt_state, self.params, value=value)
            params = optax.apply_updates(self.params, updates)
            return self.replace(step=self.step + 1, params=params, opt_state=opt_state, **changes)

    tx = inject(optax.sgd)(learning_rate=WATCHING)
    train = TrainState.create(apply_fn=None, params=PARAMS, tx=tx)
    step = jax.jit(lambda train, loss: train.apply_gradients(grads=GRADS, value=loss))
    for index, loss in enumerate(LOSSES):
        train = step(train, loss)
        assert float(current(train)["learning_rate"]) == pytest.approx(RATES[index], rel=1e-6)


def test_a_controller_over_a_controller_is_the_product_of_scales():
    inner, outer = Plateau(BASE, 0.5, patience=1), Plateau(BASE, 0.1, patience=3)
    both = Plateau(inner, 0.1, patience=3)
    a, b, c = inner.init(), outer.init(), both.init()
    for step, loss in enumerate([*LOSSES, *LOSSES]):
        a, b, c = (x.update(s, value=loss) for x, s in ((inner, a), (outer, b), (both, c)))
        np.testing.assert_allclose(both(c), BASE(step + 1) * a.scale * b.scale, rtol=1e-6)
    assert float(a.scale) < 1.0
    assert float(b.scale) < 1.0


@pytest.mark.parametrize(
    "mode",
    [
        "jax_numpy_dtype_promotion=strict",
        "jax_numpy_rank_promotion=raise",
        "jax_enable_x64=True",
        "jax_disable_jit=True",
        "jax_debug_nans=True",
    ],
)
def test_jax_modes(mode):
    """Of the values too, operation by operation, where a mode checks them; else of the trace."""
    name, value = mode.split("=")
    value = value == "True" if value in ("True", "False") else value
    before = getattr(jax.config, name)
    jax.config.update(name, value)

    def run(controller):
        state = controller.init()
        for report in default_run()[4:6]:
            state = controller.update(state, **report)
        return controller(state)

    try:
        for key in ("Plateau-max", "Greedy", "NewBob", "Bounce", "AutoDecay", "Trigger"):
            values = mode in ("jax_disable_jit=True", "jax_debug_nans=True")
            call = functools.partial(run, CONTROLLERS[key])
            assert (call() if values else jax.eval_shape(call)).dtype == jnp.float32
    finally:
        jax.config.update(name, before)


def test_every_controller_is_under_the_laws_and_documented():
    public = [
        value
        for name, value in vars(controllers).items()
        if isinstance(value, type)
        and issubclass(value, controllers.AbstractController)
        and not name.startswith("Abstract")
    ]
    assert {type(c) for c in CONTROLLERS.values()} == set(public)
    for value in public:
        assert ">>>" in value.__doc__, f"{value.__name__} has no example"


# --------------------------------------------------------------------------- each against its words


@pytest.mark.parametrize("name", CONTROLLERS)
def test_controllers_are_written_as_data(name):
    controller = CONTROLLERS[name]
    assert js.from_json(js.to_json(controller)) == controller


def test_controllers_are_members_of_a_sweep():
    """Factor and patience are hyperparameters; alone or vectorized, each run is that of a loop."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(64, 4)).astype(np.float32)
    y = (x.sum(axis=1, keepdims=True) + rng.normal(size=(64, 1)) * 2).astype(np.float32)

    def optimizer(learning_rate, factor, patience):
        plateau = Plateau(learning_rate, factor=factor, patience=patience)
        return optax.inject_hyperparams(optax.sgd)(learning_rate=plateau)

    model = (lambda key: jnp.zeros((4, 1)), lambda w, x: x @ w)
    data = {"train": (x, y), "validation": (x, y), "batch_size": 8}
    task = js.Supervised(model, optimizer, optax.squared_error, **data)

    def trial(factor, patience):
        constants = {"factor": js.Constant(factor), "patience": js.Constant(patience)}
        return {"learning_rate": js.warmup_constant(0.3, 5), **constants}

    trials = js.grid(trial, factor=[0.3, 0.9], patience=[1, 20])
    alone, wide = (js.sweep(task, trials, steps=60, width=w, progress=False) for w in (1, 4))
    np.testing.assert_allclose(alone.train["loss"], wide.train["loss"], rtol=1e-5)

    step = jax.jit(task.step)
    for row, t in zip(alone.train["loss"][:, 0, 0], trials, strict=True):
        state = jax.jit(task.init)(jax.random.key(0))
        values = {name: js.sample(schedule, 60) for name, schedule in t.schedules.items()}
        for i, batch in enumerate(task.batches(0, 0, 60)):
            state, metrics = step(state, {n: v[i] for n, v in values.items()}, batch)
            assert float(metrics["loss"]) == row[i]
