"""The CPU convolution is lax's, to rounding; and a warning says when it would help."""

import warnings

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from jax import lax
from sweep_tasks import supervised

import jaxsched as js
from jaxsched import search
from jaxsched.search import cpu_conv

CASES = [
    # lhs, rhs (channel-last), strides, padding, lhs_dilation, rhs_dilation, groups
    ((2, 9, 3), (3, 3, 4), (1,), "SAME", None, None, 1),
    ((2, 9, 3), (2, 3, 4), (3,), "VALID", None, (2,), 1),
    ((2, 9, 4), (3, 2, 6), (2,), "SAME", None, None, 2),
    ((2, 8, 7, 3), (3, 3, 3, 5), (1, 1), "SAME", None, None, 1),
    ((2, 8, 7, 3), (3, 2, 3, 5), (2, 1), "VALID", None, (1, 2), 1),
    ((2, 8, 7, 3), (1, 1, 3, 5), (2, 2), "SAME", None, None, 1),
    ((2, 8, 7, 4), (3, 3, 1, 8), (1, 2), "SAME", None, None, 4),
    ((2, 8, 7, 8), (3, 4, 8, 5), (1, 1), [(2, 1), (0, 3)], None, None, 1),
    ((2, 8, 7, 3), (3, 3, 3, 5), (1, 1), [(-1, 1), (2, -1)], None, None, 1),
    ((2, 4, 5, 3), (3, 3, 3, 5), (1, 1), [(2, 2), (2, 2)], (2, 3), None, 1),
    ((1, 5, 6, 4, 2), (2, 3, 2, 2, 3), (1, 2, 1), "SAME", None, None, 1),
]


@pytest.mark.parametrize(
    ("lhs", "rhs", "strides", "padding", "dilate", "spread", "groups", "first"),
    [
        (*case, first)
        for i, case in enumerate(CASES)
        for first in ([False, True][: 1 + (i % 3 == 1)])
    ],
)
def test_values_and_gradients_are_those_of_lax(
    lhs, rhs, strides, padding, dilate, spread, groups, first
):
    rng = np.random.RandomState(0)
    x, w = (rng.randn(*shape).astype(np.float32) for shape in (lhs, rhs))
    space = "DHW"[-len(strides) :]
    numbers = (f"N{space}C", f"{space}IO", f"N{space}C")
    if first:
        x, w = np.moveaxis(x, -1, 1), np.moveaxis(w, (-1, -2), (0, 1))
        numbers = None

    def run(conv, x, w):
        def value(x, w):
            y = conv(
                x,
                w,
                strides,
                padding,
                lhs_dilation=dilate,
                rhs_dilation=spread,
                dimension_numbers=numbers,
                feature_group_count=groups,
            )
            return jnp.sum(y**2), y

        return jax.value_and_grad(value, (0, 1), has_aux=True)(x, w)

    both = jax.jit(lambda *given: (run(cpu_conv, *given), run(lax.conv_general_dilated, *given)))
    ((_, y), grads), ((_, expected), expected_grads) = both(x, w)
    assert (y.shape, y.dtype) == (expected.shape, expected.dtype)
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-5)
    for a, b in zip(grads, expected_grads, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)


def test_flax_layers_take_it():
    x = jnp.asarray(np.random.RandomState(1).randn(2, 8, 8, 3), jnp.float32)
    for make in (
        lambda **k: nnx.Conv(3, 4, (3, 3), strides=2, rngs=nnx.Rngs(0), **k)(x),
        lambda **k: nn.Conv(4, (3, 3), strides=2, **k).init_with_output(jax.random.key(0), x)[0],
    ):
        ours, theirs = jax.jit(lambda m=make: (m(conv_general_dilated=cpu_conv), m()))()
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("image", "kernel", "more", "said"),
    [
        ((2, 2, 5), (2, 2, 3), {"batch_group_count": 2}, r"^cpu_conv\(batch_group_count=..., out_"),
        ((2, 1, 2), (4, 1, 3), {}, r"^cpu_conv\(lhs=..., rhs=...\) .*\[2, 4, 0\]. Pad the image"),
        ((2, 1, 5), (4, 1, 3), {"padding": [(-2, -2)]}, "Pad the image"),
        ((2, 1, 0), (4, 1, 3), {"padding": "SAME"}, "Pad the image"),
        ((2, 0, 5), (4, 0, 3), {}, "images with channels"),
        ((2, 1, 5), (0, 1, 3), {}, "images with channels"),
        ((2, 1, 5), (4, 1, 0), {}, "a kernel that fits"),
        ((2, 1, 5), (4, 1, 3), {"window_strides": (0,)}, r"^cpu_conv\(window_strides=...\)"),
        ((2, 2, 5), (4, 1, 3), {}, "must equal the rhs input feature dimension"),
        ((2, 3, 5), (4, 1, 3), {"feature_group_count": 3}, "not a multiple of 3"),
    ],
)
def test_what_it_cannot_do_is_said(image, kernel, more, said):
    given = {"window_strides": (1,), "padding": "VALID"} | more
    with pytest.raises((ValueError, NotImplementedError), match=said):
        cpu_conv(jnp.ones(image), jnp.ones(kernel), **given)


def test_an_empty_batch_has_an_empty_result():
    given = jnp.ones((0, 1, 5)), jnp.ones((4, 1, 3))
    assert jax.eval_shape(lambda *x: cpu_conv(*x, (1,), "VALID"), *given).shape == (0, 4, 3)


class Net(nnx.Module):
    def __init__(self, rngs, **options):
        self.conv = nnx.Conv(1, 4, (3,), rngs=rngs, **options)
        self.out = nnx.Linear(24, 3, rngs=rngs)

    def __call__(self, x):
        return self.out(jax.nn.relu(self.conv(x[..., None])).reshape(x.shape[0], -1))


def test_a_sweep_warns_of_an_ordinary_convolution_and_not_of_ours():
    trials = [js.Constant(0.1)]
    ordinary = supervised(optax.sgd, lambda rngs: Net(rngs))
    with pytest.warns(UserWarning, match="`conv_general_dilated=js.search.cpu_conv`"):
        slow = search.sweep(ordinary, trials, steps=20)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ours = supervised(optax.sgd, lambda rngs: Net(rngs, conv_general_dilated=cpu_conv))
        fast = search.sweep(ours, trials, steps=20)
    np.testing.assert_allclose(slow.train["loss"], fast.train["loss"], rtol=1e-3)


def test_so_does_a_range_test_where_it_was_called():
    arguments = {"start": 1e-3, "end": 1.0, "steps": 30, "seeds": 1}
    with pytest.warns(UserWarning, match=r"range_test\(task=...\): the step has a conv") as seen:
        js.range_test(supervised(optax.sgd, lambda rngs: Net(rngs)), **arguments)
    assert seen[0].filename == __file__
    ours = supervised(optax.sgd, lambda rngs: Net(rngs, conv_general_dilated=cpu_conv))
    js.range_test(ours, **arguments)
