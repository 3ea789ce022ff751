"""A convolution that is fast inside a compiled loop on a CPU.

XLA's own is 10 to 30 times slower there than outside of a loop (its gradients are; jax-ml/jax
#12868), and worse when its kernels are mapped over (#13800). This one takes strided slices of the
padded input, one for each offset of the kernel, concatenates them along the channels, and
does one matrix product. It costs a copy of the input for each offset of the kernel.

Example: images [n, 8, 8, 3] are padded to 10 x 10 for a 3 x 3 kernel with 16 outputs. Nine slices
of [n, 8, 8, 3] become [n, 8, 8, 27] and, with the kernel as [27, 16], images [n, 8, 8, 16]. The
speed in XLA depends on how the slices are taken and joined; the choices below were measured, with
their gradients.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from functools import partial
from math import prod
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.lax import conv_general_dilated as _of_lax  # as it is now: some put ours in its place
from jax.typing import DTypeLike

_FUSED = 8  # slices that XLA copies in one kernel; more have a kernel each, and are copied again
_MANY = 8  # channels: from here on slices along all axes at once are about as quick


def cpu_conv(
    lhs: jax.Array,
    rhs: jax.Array,
    window_strides: Sequence[int],
    padding: str | Sequence[tuple[int, int]],
    lhs_dilation: Sequence[int] | None = None,
    rhs_dilation: Sequence[int] | None = None,
    dimension_numbers: Any = None,
    feature_group_count: int = 1,
    batch_group_count: int = 1,
    precision: lax.PrecisionLike = None,
    preferred_element_type: DTypeLike | None = None,
    out_sharding: Any = None,
) -> jax.Array:
    """``jax.lax.conv_general_dilated``, made of slices and one matrix product.

    Flax takes it as it is: ``nnx.Conv(..., conv_general_dilated=js.search.cpu_conv)``, and
    ``linen.Conv`` alike. All arguments have the same meaning as in ``jax.lax``; values agree with
    it to rounding.

    Returns:
        An array with the shape and dtype of ``jax.lax.conv_general_dilated``.

    Raises:
        NotImplementedError: for ``batch_group_count`` other than 1, or an ``out_sharding``.
        ValueError: for images without channels, or a kernel larger than the padded image. Other
            invalid arguments raise the errors of ``jax.lax.conv_general_dilated``.

    >>> import jax.numpy as jnp
    >>> from jaxsched.search import cpu_conv
    >>> cpu_conv(jnp.ones((1, 1, 5)), jnp.ones((2, 1, 3)), (1,), "VALID")[0, 0].tolist()
    [3.0, 3.0, 3.0]
    """
    if batch_group_count != 1 or out_sharding is not None:
        raise NotImplementedError(
            "cpu_conv(batch_group_count=..., out_sharding=...) must be 1 and None, got "
            f"{batch_group_count} and {out_sharding}; use `jax.lax.conv_general_dilated`."
        )
    if min(window_strides, default=1) < 1:
        raise ValueError(
            f"cpu_conv(window_strides=...) must be at least 1 each, got {tuple(window_strides)}."
        )
    given: Any = (window_strides, padding, lhs_dilation, rhs_dilation, dimension_numbers)
    options: dict[str, Any] = dict(
        precision=precision, preferred_element_type=preferred_element_type
    )
    whole = partial(_of_lax, feature_group_count=feature_group_count, **options)
    spec = lax.conv_dimension_numbers(lhs.shape, rhs.shape, dimension_numbers)
    _check_shapes(lhs, rhs, lambda *images: whole(*images, *given), spec.out_spec[0])
    batch, feature, *space = spec.lhs_spec
    out_features, in_features, *window = spec.rhs_spec
    x = jnp.transpose(lhs, (batch, *space, feature))
    w = jnp.transpose(rhs, (*window, in_features, out_features))
    kernel, rank = w.shape[:-2], len(space)
    spread = tuple(rhs_dilation or (1,) * rank)
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, spread, strict=True)]
    x = _padded(x, reach, window_strides, padding, lhs_dilation or (1,) * rank)
    groups = feature_group_count
    # XLA adds four terms of a product at once, and a rest doubles the time: columns of zeros.
    lack = -prod(kernel) * w.shape[-2] % 4 if groups == 1 < prod(kernel) else 0
    met = _patches(x, kernel, spread, reach, window_strides, lack)
    y = _kernel_product(met, w, prod(kernel), groups, lack, options)
    out_batch, out_feature, *out_space = spec.out_spec
    order = {out_batch: 0, out_feature: rank + 1, **{a: i + 1 for i, a in enumerate(out_space)}}
    return jnp.transpose(y, [order[axis] for axis in range(rank + 2)])


def _padded(
    x: jax.Array,
    reach: Sequence[int],
    strides: Sequence[int],
    padding: str | Sequence[tuple[int, int]],
    dilation: Sequence[int],
) -> jax.Array:
    """Images [batch, *space, channels] with zeros around and, dilated, between their places."""
    if isinstance(padding, str):
        padding = lax.padtype_to_pads(x.shape[1:-1], reach, strides, padding)
    edges = [(low, high, each - 1) for (low, high), each in zip(padding, dilation, strict=True)]
    return lax.pad(x, jnp.zeros((), x.dtype), [(0, 0, 0), *edges, (0, 0, 0)])


def _patches(
    x: jax.Array,
    kernel: Sequence[int],
    spread: Sequence[int],
    reach: Sequence[int],
    strides: Sequence[int],
    lack: int,
) -> jax.Array:
    """The pixels of padded images at each kernel position, and ``lack`` zeros, as channels."""
    sizes = [(n - r) // s + 1 for n, r, s in zip(x.shape[1:-1], reach, strides, strict=True)]

    def seen_at(x: jax.Array, places: dict[int, int]) -> jax.Array:
        """The pixels at one kernel position along some axes of the image."""
        # Plain slices of blocks of a stride: a fifth quicker for 3, but as much slower for 2.
        begin, end, step = [0] * x.ndim, list(x.shape), [1] * x.ndim
        for i, place in places.items():
            begin[i + 1], step[i + 1] = place * spread[i], strides[i]
            end[i + 1] = begin[i + 1] + (sizes[i] - 1) * step[i + 1] + 1
        return lax.slice(x, begin, end, step)

    # With few channels, axis by axis: 6 slices instead of 9, and longer rows to copy. The slices
    # along the last axis are joined first, the slices along the first axis last, so the channels
    # have the order of the flattened kernel in both cases.
    every = range(len(kernel))
    stages = [[i] for i in reversed(every)] if x.shape[-1] < _MANY else [[*every]]
    for axes in stages:
        places = itertools.product(*(range(kernel[i]) for i in axes))
        patches = [seen_at(x, dict(zip(axes, place, strict=True))) for place in places]
        if lack and axes[0] == 0:
            patches.append(jnp.zeros((*patches[0].shape[:-1], lack), x.dtype))
        x = _side_by_side(patches, kernel[-1])
    return x


def _side_by_side(patches: list[jax.Array], row: int) -> jax.Array:
    """Side by side along the channels, each ``row`` of them by itself if they are many."""
    if len(patches) <= _FUSED or len(patches) % row or row == len(patches):
        return patches[0] if len(patches) == 1 else jnp.concatenate(patches, axis=-1)
    # The axis between keeps XLA from making one concatenation of them again.
    rows = (jnp.stack(patches[i : i + row], axis=-2) for i in range(0, len(patches), row))
    return jnp.concatenate([x.reshape(*x.shape[:-2], -1) for x in rows], axis=-1)


def _check_shapes(
    lhs: jax.Array, rhs: jax.Array, whole: Callable[..., jax.Array], out_batch: int
) -> None:
    """Raises unless ``whole``, JAX's convolution, makes something of images of these shapes."""
    kinds = (jax.ShapeDtypeStruct(x.shape, x.dtype) for x in (lhs, rhs))
    result = jax.eval_shape(whole, *kinds)
    but_batch = [n for i, n in enumerate(result.shape) if i != out_batch]
    if 0 in (*rhs.shape, *but_batch):
        raise ValueError(
            "cpu_conv(lhs=..., rhs=...) must be images with channels and a kernel that fits into "
            f"them as padded, got {list(lhs.shape)} and {list(rhs.shape)}, of which the result is "
            f'{list(result.shape)}. Pad the image, as "SAME" does, or take a smaller kernel.'
        )


def _kernel_product(
    met: jax.Array, w: jax.Array, offsets: int, groups: int, lack: int, options: dict[str, Any]
) -> jax.Array:
    """The patches ``met`` times the kernel; ``lack``: columns of zeros in ``met``."""
    depth, outputs = w.shape[-2:]
    if groups == 1:
        # Two flat matrices: with the axes of the image left in, XLA is a fifth slower.
        left, right = met.reshape(-1, met.shape[-1]), w.reshape(-1, outputs)
        right = jnp.pad(right, ((0, lack), (0, 0))) if lack else right
        if right.shape[0] > outputs:
            # So is its gradient unless the outputs come first (engine/_products.py).
            right = lax.optimization_barrier(right.T).T
        return lax.dot(left, right, **options).reshape(*met.shape[:-1], outputs)
    met = met.reshape(*met.shape[:-1], offsets, groups, depth)
    w = w.reshape(offsets, depth, groups, outputs // groups)
    y = jnp.einsum("...kgc,kcgo->...go", met, w, **options)
    return y.reshape(*y.shape[:-2], outputs)
