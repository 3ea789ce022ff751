"""A convolution that is fast inside a compiled loop on a CPU.

XLA's own convolution is much slower inside a `jax.lax.scan` than outside (jax-ml/jax#12868). This
one is a matrix product: a strided slice of the padded input for each kernel offset, side by side on
the channel axis, times the kernel. Flax takes it as it is, so no model changes:

    nnx.Conv(1, 16, (5,), conv_general_dilated=cpu_conv.conv_general_dilated, rngs=rngs)

It agrees with `jax.lax.conv_general_dilated` (tests/test_examples.py) wherever Flax asks for a
channels-last convolution without groups. It costs memory: the input, once for each kernel offset.

    python -m examples.cpu_conv        # times both in a loop: 6 times faster in 1-D, 15 in 2-D
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax


def conv_general_dilated(
    lhs: jax.Array,  # [batch, *space, channels in]
    rhs: jax.Array,  # [*kernel, channels in, channels out]
    window_strides: Sequence[int],
    padding: str | Sequence[tuple[int, int]],
    lhs_dilation: Sequence[int] | None = None,
    rhs_dilation: Sequence[int] | None = None,
    dimension_numbers: Any = None,
    feature_group_count: int = 1,
    precision: Any = None,
    **_: Any,
) -> jax.Array:
    """`jax.lax.conv_general_dilated` for channels-last arrays, as slices and one product."""
    rank = lhs.ndim - 2
    channels_last = lax.ConvDimensionNumbers(
        (0, rank + 1, *range(1, rank + 1)),
        (rank + 1, rank, *range(rank)),
        (0, rank + 1, *range(1, rank + 1)),
    )
    given = lax.conv_dimension_numbers(lhs.shape, rhs.shape, dimension_numbers)
    if given != channels_last or feature_group_count != 1 or set(lhs_dilation or [1]) != {1}:
        raise NotImplementedError(
            "cpu_conv does channels-last convolutions without groups or input dilation, got "
            f"{given}, feature_group_count={feature_group_count}, lhs_dilation={lhs_dilation}."
        )
    *kernel, _c_in, c_out = rhs.shape
    dilation = rhs_dilation or (1,) * rank
    spans = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
    if isinstance(padding, str):
        padding = lax.padtype_to_pads(lhs.shape[1:-1], spans, window_strides, padding)
    x = jnp.pad(lhs, [(0, 0), *padding, (0, 0)])
    sizes = [(n - s) // w + 1 for n, s, w in zip(x.shape[1:], spans, window_strides, strict=False)]
    patches = []
    for offset in itertools.product(*map(range, kernel)):
        window = tuple(
            slice(o * d, o * d + (size - 1) * w + 1, w)
            for o, d, size, w in zip(offset, dilation, sizes, window_strides, strict=True)
        )
        patches.append(x[:, *window])
    return jnp.dot(jnp.concatenate(patches, axis=-1), rhs.reshape(-1, c_out), precision=precision)


def _seconds_per_step(
    conv: Any, x: jax.Array, kernels: list[jax.Array], strides: tuple[int, ...], steps: int = 30
) -> float:
    """One gradient step of a stack of convolutions, in a compiled loop; CPU time."""

    def loss(weights: list[jax.Array]) -> jax.Array:
        h = x
        for w, stride in zip(weights, strides, strict=True):
            spec = ("NHC", "HIO", "NHC") if h.ndim == 3 else ("NHWC", "HWIO", "NHWC")
            h = jax.nn.relu(conv(h, w, (stride,) * (h.ndim - 2), "SAME", dimension_numbers=spec))
        return (h**2).mean()

    def step(weights: Any, _: Any) -> Any:
        return jax.tree.map(lambda w, g: w - 0.1 * g, weights, jax.grad(loss)(weights)), None

    run = jax.jit(lambda weights: lax.scan(step, weights, length=steps)[0])
    jax.block_until_ready(run(kernels))
    start = time.process_time()
    jax.block_until_ready(run(kernels))
    return (time.process_time() - start) / steps


def main() -> None:
    key = jax.random.key(0)
    cases = {
        "1-D, batch 32, 40 points, 16/16/16 channels": (
            (32, 40, 1),
            [(5, 1, 16), (3, 16, 16), (3, 16, 16)],
            (2, 2, 2),
        ),
        "2-D, batch 64, 8x8 pixels, 16/32 channels": (
            (64, 8, 8, 1),
            [(3, 3, 1, 16), (3, 3, 16, 32)],
            (1, 2),
        ),
    }
    for name, (shape, kernels, strides) in cases.items():
        x = jax.random.normal(key, shape)
        weights = [0.3 * jax.random.normal(key, k) for k in kernels]
        theirs = _seconds_per_step(lax.conv_general_dilated, x, weights, strides)
        ours = _seconds_per_step(conv_general_dilated, x, weights, strides)
        print(
            f"{name}: lax {1e6 * theirs:.0f} us, cpu_conv {1e6 * ours:.0f} us per step "
            f"({theirs / ours:.0f} times faster)"
        )


if __name__ == "__main__":
    main()
