"""What an optimizer keeps in its state follows its hyperparameters, or is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from sweep_tasks import noise, supervised

import jaxsched as js
from jaxsched import search
from jaxsched.optim import group_lr, inject
from jaxsched.search.tasks._dependence import flow
from jaxsched.search.tasks._hyperparams import built, unset, updated

PARAMS = {"a": jnp.ones(3), "b": jnp.ones(2)}
GRADS = {"a": jnp.array([1.0, -2.0, 3.0]), "b": jnp.ones(2)}
RATES = [0.5, 0.3, 0.1, 0.2]


def trained(factory):
    """Parameters after an update at each of the rates, which every argument is given."""

    def init():
        state = built(factory, unset(factory)).init(PARAMS)
        return jax.tree.map(lambda x: jnp.asarray(x).astype(jnp.asarray(x).dtype), state)

    @jax.jit
    def step(params, state, rate):
        def update(tx, state):
            tx = optax.with_extra_args_support(tx)
            return tx.update(GRADS, state, params, value=jnp.float32(1.0))

        given = dict.fromkeys(unset(factory), rate)
        updates, state = updated(factory, given, state, params, update)
        return optax.apply_updates(params, updates), state

    params, state = PARAMS, init()
    for rate in RATES:
        params, state = step(params, state, jnp.float32(rate))
    return params


def injected(rate):
    return optax.inject_hyperparams(optax.sgd)(learning_rate=rate)


def stored(keeps):
    """An optimizer that stores its rate, as a user may write it."""

    def make(rate):
        def update(updates, state, params=None):
            return jax.tree.map(lambda u: -state["rate"] * u, updates), keeps(state)

        return optax.GradientTransformation(lambda params: {"rate": jnp.asarray(rate)}, update)

    return make


# By wrapper; each is plain SGD, so that the right parameters are known.
FOLLOWS = {
    "inject_hyperparams": injected,
    "inject": lambda rate: inject(optax.sgd)(learning_rate=rate),
    "inject of a schedule": lambda rate: inject(optax.sgd)(learning_rate=js.Linear(rate, rate, 5)),
    "inject of a controller": lambda rate: inject(optax.sgd)(learning_rate=js.Plateau(rate)),
    "group_lr": lambda rate: group_lr(optax.sgd, {".*": 1.0})(learning_rate=rate),
    "a multiplier": lambda rate: group_lr(optax.sgd, {".*": rate})(learning_rate=1.0),
    "chain": lambda rate: optax.chain(optax.clip(9.0), injected(rate)),
    "named_chain": lambda rate: optax.named_chain(("sgd", injected(rate))),
    "masked": lambda rate: optax.chain(
        optax.masked(injected(rate), {"a": True, "b": False}),
        optax.masked(injected(rate), {"a": False, "b": True}),
    ),
    "partition": lambda rate: optax.partition(
        {"x": injected(rate), "y": optax.sgd(rate)}, {"a": "x", "b": "y"}
    ),
    "apply_if_finite": lambda rate: optax.apply_if_finite(injected(rate), 3),
    "apply_if_finite of inject": lambda rate: optax.apply_if_finite(
        inject(optax.sgd)(learning_rate=js.Constant(rate)), 3
    ),
    "conditionally_transform": lambda rate: optax.conditionally_transform(
        injected(rate), lambda step: step >= 0
    ),
    "flatten": lambda rate: optax.flatten(injected(rate)),
    "injected twice": lambda rate: inject(lambda lr: injected(lr))(lr=js.Constant(rate)),
    "stored": stored(lambda state: state),
    "stored, in a loop": stored(
        lambda state: jax.lax.fori_loop(0, 2, lambda i, s: jax.tree.map(jnp.copy, s), state)
    ),
    "stored, in branches": stored(
        lambda state: jax.lax.cond(state["rate"] > 0.2, lambda s: s, lambda s: {**s}, state)
    ),
    "stored, unless skipped": stored(
        lambda state: jax.tree.map(lambda a, b: jnp.where(a > 0.2, a, b), state, {**state})
    ),
    "only recorded": lambda rate: optax.chain(
        optax.sgd(rate),
        optax.GradientTransformation(lambda p: rate, lambda u, s, p=None: (u, s + 1)),
    ),
}


@pytest.mark.optimized
@pytest.mark.parametrize("kind", FOLLOWS)
def test_a_rate_in_the_state_is_the_rate_of_each_update(kind):
    found = trained(FOLLOWS[kind])
    for name, grad in GRADS.items():
        np.testing.assert_allclose(found[name], 1.0 - 1.1 * grad, rtol=2e-6)


REFUSED = {
    "opt_state.estim_lr": lambda first: optax.contrib.prodigy(1.0, estim_lr0=first),
    "opt_state.s": lambda first: optax.contrib.mechanize(optax.sgd(0.1), s_init=first),
    r"opt_state\[0\].sum_of_squares\['a'\]": lambda first: optax.adagrad(
        0.1, initial_accumulator_value=first
    ),
    r"opt_state\[0\].step_sizes\['a'\]": lambda first: optax.rprop(first),
    r"opt_state\['rate'\]": lambda first: stored(lambda s: {"rate": 0.9 * s["rate"]})(first),
}


@pytest.mark.parametrize("path", REFUSED)
def test_a_hyperparameter_that_the_state_only_begins_with_is_refused_by_its_path(path):
    with pytest.raises(ValueError, match=rf"first is in the initial value of {path}, and later"):
        trained(REFUSED[path])


@pytest.mark.parametrize(
    "make",
    [
        lambda rate: optax.sgd(float(rate)),
        lambda rate: optax.sgd(rate if rate > 0 else 0.0),
        lambda rate: optax.sgd(np.asarray(rate)),
    ],
)
def test_a_factory_that_needs_to_know_a_value_is_refused(make):
    task = supervised(lambda learning_rate: make(learning_rate))
    with pytest.raises(TypeError, match="must compute with its hyperparameters as with arrays"):
        search.sweep(task, [js.Constant(0.1)], steps=4)


def test_a_factory_that_returns_no_optimizer_or_states_of_two_kinds_is_refused():
    for factory in (lambda **rates: optax.sgd(**rates), lambda *rates: optax.sgd(*rates)):
        with pytest.raises(TypeError, match="must name the scheduled hyperparameters as its"):
            search.sweep(supervised(factory), [js.Constant(0.1)], steps=4)
    task = supervised(lambda learning_rate: learning_rate)
    with pytest.raises(TypeError, match="must return an Optax optimizer"):
        search.sweep(task, [js.Constant(0.1)], steps=4)
    task = supervised(lambda learning_rate, momentum=None: optax.sgd(learning_rate, momentum))
    with pytest.raises(TypeError, match="Make what changes it an argument without a default"):
        search.sweep(
            task, [{"learning_rate": js.Constant(0.1), "momentum": js.Constant(0.9)}], steps=4
        )


LINEAR = (lambda key: {"w": noise(key, 6, 3), "bias": jnp.zeros((1, 3))},
          lambda p, x: x @ p["w"] + p["bias"])  # fmt: skip
PEAKS = [js.cosine_decay(peak, 30) for peak in (0.001, 0.03, 0.3)]


@pytest.mark.optimized
@pytest.mark.parametrize(("width", "kind"), [(1, "inject"), (4, "inject_hyperparams")])
def test_a_sweep_of_an_injected_rate_is_the_sweep_of_the_plain_optimizer(width, kind):
    arguments = {"width": width, "devices": jax.local_devices()[:1]}
    plain = search.sweep(supervised(optax.sgd, LINEAR), PEAKS, **arguments)
    wrapped = search.sweep(
        supervised(FOLLOWS[kind], LINEAR), [{"rate": peak} for peak in PEAKS], **arguments
    )
    assert len({curve.tobytes() for curve in plain.train["loss"]}) == 3
    np.testing.assert_allclose(wrapped.train["loss"], plain.train["loss"], rtol=1e-6)
    np.testing.assert_allclose(wrapped.final("loss"), plain.final("loss"), rtol=1e-6)


def test_rates_of_groups_are_swept_and_tested_by_range():
    def grouped(body, head):
        return group_lr(optax.sgd, {"w": body, "bias": head})(learning_rate=1.0)

    def by_hand(body, head):
        parts = {"w": optax.sgd(body), "bias": optax.sgd(head)}
        return optax.partition(parts, {"w": "w", "bias": "bias"})

    trials = search.grid(lambda **rates: rates, body=[0.01, 0.3], head=[0.1])
    tasks = [supervised(make, LINEAR) for make in (grouped, by_hand)]
    found = [search.sweep(task, trials, steps=12) for task in tasks]
    np.testing.assert_allclose(*(result.train["loss"] for result in found), rtol=1e-5)
    rest = {"name": "body", "hyperparams": {"head": 0.1}, "seeds": 1, "steps": 60}
    tests = [js.range_test(task, 1e-3, 10.0, **rest) for task in tasks]
    np.testing.assert_allclose(tests[0].losses, tests[1].losses, rtol=1e-4)
    assert tests[0].losses.std() > 0


def test_a_controller_drives_an_injected_rate():
    trials = [{"rate": js.Plateau(0.3, patience=1, rtol=0.9)}]
    arguments = {"steps": 24, "evaluate_every": 4}
    found = search.sweep(supervised(injected, LINEAR), trials, **arguments)
    plain = search.sweep(supervised(optax.sgd, LINEAR), [t["rate"] for t in trials], **arguments)
    assert found.train["rate"].min() < found.train["rate"].max()
    np.testing.assert_allclose(found.train["loss"], plain.train["loss"], rtol=1e-6)


# ----------------------------------------------------------------------------- what depends on what


def of(f, *arguments):
    found = flow(jax.make_jaxpr(f)(*arguments))
    return [[i for i in range(len(arguments)) if mask >> i & 1] for mask in found.reads], found.same


X = jnp.float32(1.0)


@pytest.mark.parametrize(
    ("f", "reads", "same"),
    [
        (lambda a, b: (a + 1, b, 3.0), [[0], [1], []], [None, 1, None]),
        (lambda a, b: jax.jit(lambda x, y: (y, x * 2))(a, b), [[1], [0]], [1, None]),
        (lambda a, b: jnp.where(a > 0, b, b), [[1]], [1]),
        (lambda a, b: jnp.where(a > 0, b, 0.0), [[0, 1]], [None]),
        (lambda a, b: jax.lax.cond(a > 0, lambda x: x, lambda x: x * 2, b), [[0, 1]], [None]),
        (
            lambda a, b: jax.lax.fori_loop(0, 3, lambda i, c: (c[0] + c[1], c[1]), (a, b)),
            [[0, 1], [1]],
            [None, 1],
        ),
        (
            lambda a, b: jax.lax.while_loop(lambda c: c[1] < 9, lambda c: (c[0], c[1] * 2), (a, b)),
            [[0], [1]],
            [0, None],
        ),
        (
            lambda a, b: jax.lax.while_loop(lambda c: c[1] < a, lambda c: (c[0] + 1, c[1]), (X, b)),
            [[0, 1], [1]],
            [None, 1],
        ),
        (
            lambda a, b: jax.lax.scan(lambda c, x: (c, c * x), a, jnp.broadcast_to(b, (4,))),
            [[0], [0, 1]],
            [0, None],
        ),
        (lambda a, b: jax.nn.relu(jax.checkpoint(jnp.sin)(a)) + 0 * b, [[0, 1]], [None]),
        (lambda a, b: a.astype(jnp.bfloat16).astype(jnp.float32) + 0, [[0]], [None]),
        (lambda a, b: jax.lax.optimization_barrier((a, b)), [[0], [1]], [0, 1]),
    ],
)
def test_dependences_are_followed_through_loops_and_branches(f, reads, same):
    found = of(f, X, X)
    assert (found[0], found[1]) == (reads, same)


def test_a_mutable_array_hands_on_what_was_written():
    def f(a, b):
        ref = jax.new_ref(a)
        ref[...] += b
        return ref[...]

    assert of(f, X, X)[0] == [[0, 1]]
